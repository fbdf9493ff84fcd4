"""Whether runs are whole, for the command: which runs a URL means, and a verdict on each; it reads only."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from notata import keys
from notata.errors import NotataError, RunMissingError
from notata.manifest import VerifyReport
from notata.reader import LogReader
from notata.store import Store, open_store

__all__ = ["Verdict", "verdicts"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What there is to say of a run.

    Attributes:
        url: Where it lies.
        report: What was found; None where nothing can be told.
        why: Why not.
    """

    url: str
    report: VerifyReport | None
    why: str = ""

    @property
    def code(self) -> int:
        """0 if all is as it was, 1 if something is missing or changed, 2 if that cannot be told."""
        if self.report is None:
            return 2
        if self.report.missing or self.report.changed:
            return 1
        return 0 if self.report.ok else 2

    def __str__(self) -> str:
        return f"{self.url}: {self.why or self.report}"

    def as_json(self) -> str:
        """One line."""
        told = {"url": self.url, "code": self.code}
        return json.dumps(told | ({"why": self.why} if self.report is None else asdict(self.report)))


def verdicts(urls: Iterable[str], options: Mapping[str, Any] | None = None, *, progress: bool) -> Iterator[Verdict]:
    """A verdict on each run at or below these URLs.

    >>> from notata import Logbook
    >>> for name in ("a", "b"):
    ...     Logbook(name, "memory://verdicts").mark_complete()
    >>> [(verdict.url, verdict.code) for verdict in verdicts(["memory://verdicts"], progress=False)]
    [('memory://verdicts/log_a', 0), ('memory://verdicts/log_b', 0)]
    """
    for url in urls:
        try:
            store = open_store(url, options)
            folders = _runs(store)
        except NotataError as error:
            yield Verdict(url, None, f"cannot tell: {error}")
            continue
        for folder in folders:
            yield _verdict(store.below(folder) if folder else store, progress)


def _runs(store: Store) -> list[str]:
    """The folders of runs at or below a store's root, those too that have lost their metadata.json."""
    if store.exists(keys.METADATA):
        return [""]
    listed = [f"/{entry.key}" for entry in store.list()]
    if f"/{keys.MANIFEST}" in listed:
        return [""]
    runs = {folder for key in listed if (folder := _run_of(key, keys.METADATA))}
    lost = sorted({folder for key in listed if (folder := _run_of(key, keys.MANIFEST))} - runs)
    for folder in lost:
        if not any(folder.startswith(f"{run}/") for run in runs):  # or else it is a worker's
            runs.add(folder)
    if not runs:
        raise RunMissingError(f"there is no run at {store.url} or below it", url=store.url)
    return sorted(runs)


def _run_of(key: str, name: str) -> str:
    """The run's folder in which this file of that name lies; empty if it is no such file."""
    folder, _, last = key.rpartition("/")
    return folder[1:] if last == name and folder.rpartition("/")[2].startswith("log_") else ""


def _verdict(store: Store, progress: bool) -> Verdict:
    try:
        return Verdict(store.url, LogReader(store).verify(progress=progress))
    except NotataError as error:
        return Verdict(store.url, None, f"cannot tell: {error}")
