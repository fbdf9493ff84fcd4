"""Reading of files of runs, in the requested order; `describing` interprets their content.

Small files are prefetched, many at once, and yielded in order; large ones are streamed, so that memory is bounded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from notata import formats
from notata._base import display, keys
from notata.errors import FolderError, MissingError, NotataError
from notata.search.choosing import Choice, Wheres, look_up_filtered
from notata.search.describing import Content
from notata.search.finding import File, Place, URLs, each, file_at, is_bucket, is_pattern, look_up, raise_error
from notata.search.prefetch import prefetched
from notata.store import TIMEOUT, Store
from notata.store.gaps import ignore

if TYPE_CHECKING:
    from upath import UPath

__all__ = ["contents"]

_NAMED: Final = 8  # files that an error message names


def contents(
    urls: URLs,
    *,
    raw: bool = False,
    stats: bool = True,
    head: int = 6,
    status: str | Iterable[str] | None = None,
    where: Wheres | None = None,
    storage_options: Mapping[str, Any] | None = None,
    failed: Callable[[NotataError], None] = raise_error,
    timeout: float = TIMEOUT,
) -> Iterator[Content]:
    """Yield files in the requested order; small ones are prefetched, 32 at once.

    Read each file before you request the next one.

    Cost: one request to look up a file, one listing for a pattern, the reads of a filter (see `runs`), and the reads of
    the files.

    Args:
        urls: Files, or patterns that match files. With a filter, only patterns are allowed, because the run of a single
            file is unknown.
        raw: As for `Content`.
        stats: As for `describe`.
        head: As for `describe`.
        status: Only files of runs with this status or one of several; as for `runs`.
        where: Only files of runs that match this filter; as for `runs`.
        storage_options: Options for fsspec.
        failed: Called with the error of each place that is not a file or cannot be reached; the others are yielded.
        timeout: As for `notata.Logbook`.

    >>> from notata import Logbook
    >>> for name in ("a", "b"):
    ...     path = Logbook(name, "memory://contents").json("metrics", {"error": 0.5})
    >>> [one.record()["content"] for one in contents("memory://contents/log_*/artifacts/metrics.json")]
    [{'error': 0.5}, {'error': 0.5}]
    """
    describers = formats.Describers()
    files = _files(urls, Choice(status, where), storage_options, failed, timeout)
    each_one = (Content(file, raw, stats, head, describers) for file in files)
    with closing(prefetched((content, content.file, 0, content.prefetch_size()) for content in each_one)) as coming:
        for content, future in coming:
            yield replace(content, _coming=future)


def _files(
    urls: URLs,
    choice: Choice,
    options: Mapping[str, Any] | None,
    failed: Callable[[NotataError], None],
    timeout: float,
) -> Iterator[File]:
    for url in each(urls):
        try:
            if not (choice.filters or is_pattern(url)):
                yield file_at(url, options, timeout=timeout)
                continue
            place = look_up_filtered(url, choice, options, failed=failed, timeout=timeout)
            if not (choice.filters or place.entries):
                yield file_at(url, options, timeout=timeout)  # raises the error for a missing file
                continue
        except NotataError as error:
            failed(_no_file(url, error, options, timeout))
            continue
        yield from _matching(place, failed)


def _matching(place: Place, failed: Callable[[NotataError], None]) -> Iterator[File]:
    """Yield the files that match a pattern, but not files in matching folders."""
    parts = place.parts() if place.entries else {}  # a filter may leave no files
    for file in place.files:
        if file.entry.key in parts:
            yield file
    folders = [part for part in parts if part not in place.entries]
    if len(folders) == 1:
        folder = folders[0]
        key = f"{folder}/" if folder else ""
        below = {entry[len(key) :]: entry for entry in place.entries if entry.startswith(key)}
        failed(_folder(place.named(folder), place.store.url, "a run" if folder in place.runs else "a folder", below))
    elif folders:
        message = f"{place.given} matches {len(folders)} folders, such as {place.named(folders[0])}; name files in them"
        failed(MissingError(f"{message}, as in '{place.given}/{keys.LOG}'", url=place.store.url))


def _no_file(
    url: str | os.PathLike[str] | UPath | Store, error: NotataError, options: Mapping[str, Any] | None, timeout: float
) -> NotataError:
    """Return the error for a place that is not a file; for a folder it lists the content."""
    folder = isinstance(url, Store) or is_bucket(url) or isinstance(error.__cause__, FolderError)
    if not isinstance(error, MissingError) or not folder:
        return error
    try:
        place = look_up(url, options, timeout=timeout, failed=ignore)
    except NotataError as second:
        return second
    if is_bucket(url) and not place.entries:
        return error
    if "" in place.runs or not place.runs:
        return _folder(place.given, place.store.url, "a run" if place.runs else "a folder", place.entries)
    return _folder(place.given, place.store.url, f"a folder of {display.counted(len(place.runs), 'run')}", place.runs)


def _folder(name: str, url: str, what: str, inside: Iterable[str]) -> MissingError:
    there = display.listed(sorted(inside), _NAMED) or "nothing"
    return MissingError(f"{name} is {what}, not a file; it contains: {there}", url=url)
