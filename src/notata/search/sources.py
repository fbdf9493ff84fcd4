"""The runs and files that runs were made from, as their metadata.json and inputs.json name them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

from notata._base import keys, limits
from notata.errors import MissingError, NotataError
from notata.run.inputs import Input, parsed
from notata.run.state import PARENT, WORKERS
from notata.search.places import Run
from notata.search.record import listed_now
from notata.search.target import Failed
from notata.store import Blob
from notata.store.in_flight import InFlight

__all__ = ["Sources", "inputs_of", "parent_of", "parents_of", "plain_url", "sources_of"]

Sources: TypeAlias = Callable[[Sequence[Run]], Iterator[tuple[Run, str, str]]]
"""Yields each run with the URL of a run that it was made from, and with ``parent`` or ``input``."""

_TOGETHER: Final = 500  # runs whose inputs.json are in memory
_FILES: Final = 20  # files of inputs of one run: its own, and those of workers


def plain_url(url: str) -> str:
    """Return a URL in the form in which two names of one place are equal.

    >>> plain_url("file:///data/log_a/"), plain_url("/")
    ('/data/log_a', '/')
    """
    return url.removeprefix("file://").rstrip("/") or "/"


def parent_of(run: Run) -> str:
    """Return the URL of the parent that a run names; empty if it names none."""
    parent = run.metadata.get(PARENT)
    return parent if isinstance(parent, str) else ""


def parents_of(runs: Sequence[Run]) -> Iterator[tuple[Run, str, str]]:
    """Yield each run that names a parent, with the URL of that. No request."""
    yield from ((run, parent, "parent") for run in runs if (parent := parent_of(run)))


def sources_of(runs: Sequence[Run], failed: Failed) -> Iterator[tuple[Run, str, str]]:
    """Yield each run with its parent, and with each run of which it has read a file. One read a run that has inputs."""
    yield from parents_of(runs)
    for run, inputs in inputs_of(runs, failed):
        yield from ((run, url, "input") for url in dict.fromkeys(one.run_url for one in inputs) if url)


def inputs_of(
    runs: Sequence[Run], failed: Failed, too_large: Callable[[str], object] = str
) -> Iterator[tuple[Run, list[Input]]]:
    """Yield each run with its inputs and those of its workers.

    Args:
        runs: The runs, with their metadata. If no file of one is listed, its inputs.json is read, and its workers are
            listed.
        failed: Called with the error of each file that cannot be read.
        too_large: Called with the name of each file that is too large, and was not read.

    Cost: one read for each file with inputs, 32 at once.
    """
    for start in range(0, len(runs), _TOGETHER):
        some = runs[start : start + _TOGETHER]
        flying = InFlight[tuple[int, str], Blob]()
        with flying.until_landed():
            for number, run in enumerate(some):
                for key in _files_of(run, failed):
                    flying.begin((number, key), 4096, run.store.start_fetch, key, 0, limits.INPUTS + 1)
        for error in flying.errors.values():
            if isinstance(error, NotataError) and not isinstance(error, MissingError):
                failed(error)
        found: list[list[Input]] = [[] for _ in some]
        for (number, key), blob in sorted(flying.results.items()):
            if len(blob.data) > limits.INPUTS:
                too_large(f"{some[number].url}/{key}")
            else:
                found[number] += parsed(blob.data, key.split("/")[1] if "/" in key else "")
        yield from zip(some, found, strict=True)


def _files_of(run: Run, failed: Failed) -> list[str]:
    """Return the keys of the files with inputs."""
    if run.status == "unreadable":
        return []
    entries = run.entries
    if not entries and run.metadata.get(WORKERS) is True:
        try:
            entries = listed_now(run).entries
        except NotataError as error:
            failed(error)
    if not entries:
        return [keys.INPUTS]
    return [key for key in sorted(entries) if key.endswith(keys.INPUTS) and _is_inputs(key)][:_FILES]


def _is_inputs(key: str) -> bool:
    parts = key.split("/")
    return key == keys.INPUTS or (len(parts) == 3 and parts[0] == keys.WORKERS and parts[2] == keys.INPUTS)
