"""Reading of files of runs, in the requested order; `describing` interprets their content.

Small files are prefetched, many at once, and yielded in order; large ones are streamed, so that memory is bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any, Final

from notata import formats
from notata._base import display, keys
from notata.errors import FolderError, MissingError, NotataError
from notata.search.choosing import Query, Status, Wheres
from notata.search.describing import Content
from notata.search.finding import file_at, look_up
from notata.search.places import File, Place
from notata.search.prefetch import prefetched
from notata.search.target import Failed, Target, URLs, raise_error
from notata.store import Store
from notata.store.gaps import ignore

__all__ = ["contents"]

_NAMED: Final = 8  # files that an error message names


def contents(
    urls: URLs | Query,
    *,
    raw: bool = False,
    stats: bool = True,
    head: int = 6,
    status: Status = None,
    where: Wheres | None = None,
    storage_options: Mapping[str, Any] | None = None,
    failed: Failed = raise_error,
) -> Iterator[Content]:
    """Yield files in the requested order; small ones are prefetched, 32 at once.

    Read each file before you request the next one.

    Cost: one request to look up a file, one listing for a pattern, the reads of a filter, and the reads of the files.

    Args:
        urls: Files, or patterns that match files, or a `Query` of those. With a filter, only patterns are allowed,
            because the run of a single file is unknown.
        raw: Return the bytes of a file, even if its kind has a description.
        stats: Read whole arrays, in pieces, to compute statistics of their values.
        head: Number of first values of an array to include in its description.
        status: Only files of runs with this status or one of several: ``running``, ``complete``, ``failed``, ``died``,
            ``replacing`` or ``unreadable``.
        where: Only files of runs that match this expression, such as ``"omega > 1 and age < days(2)"`` (see `Where`),
            or for which this function of a `Run` is true. It costs one read a run, 32 at once, and up to two more
            for one that has not ended, or whose parameters or metrics have changed since.
        storage_options: Options for fsspec.
        failed: Called with the error of each place that is not a file or cannot be reached; the others are yielded. By
            default, the first such error is raised.

    Raises:
        MissingError: There is no such file, or a place is a folder.
        ConfigurationError: The filter is invalid, or the status is unknown.
        StorageError: A place cannot be reached.

    >>> from notata import Logbook
    >>> for name in ("a", "b"):
    ...     path = Logbook(name, "memory://contents").json("metrics", {"error": 0.5})
    >>> [one.record()["content"] for one in contents("memory://contents/log_*/artifacts/metrics.json")]
    [{'error': 0.5}, {'error': 0.5}]
    """
    options: dict[str, Any] = {"storage_options": storage_options, "failed": failed}
    query = Query.of(urls, status=status, where=where, **options)
    describers = formats.Describers()
    files = query.each(lambda target: _files(target, query))
    each_one = (Content(file, raw, stats, head, describers) for file in files)
    return _prefetched(each_one)


def _prefetched(wanted: Iterable[Content]) -> Iterator[Content]:
    with closing(prefetched((content, content.file, 0, content.prefetch_size()) for content in wanted)) as coming:
        for content, future in coming:
            yield replace(content, _coming=future)


def _files(target: Target, query: Query) -> Iterator[File]:
    try:
        if not (query.filters or target.pattern):
            yield file_at(target)
            return
        found = query.look_up_or_file(target)  # raises the error for a missing file
    except NotataError as error:
        raise _no_file(target, error) from error.__cause__
    if isinstance(found, File):
        yield found
    else:
        yield from _matching(found, query.failed)


def _matching(place: Place, failed: Failed) -> Iterator[File]:
    """Yield the files that match a pattern, but not files in matching folders."""
    parts = place.parts(place.entries) if place.entries else {}  # a filter may leave no files
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
        message = (
            f"{place.given} matches {len(folders)} folders, such as {place.named(folders[0])}; name files in "
            "these folders"
        )
        failed(MissingError(f"{message}, as in '{place.given}/{keys.LOG}'", url=place.store.url))


def _no_file(target: Target, error: NotataError) -> NotataError:
    """Return the error for a target that is not a file; for a folder it lists the content."""
    folder = isinstance(target.url, Store) or target.is_bucket or isinstance(error.__cause__, FolderError)
    if not isinstance(error, MissingError) or not folder:
        return error
    try:
        place = look_up(target, failed=ignore)
    except NotataError as second:
        return second
    if target.is_bucket and not place.entries:
        return error
    if "" in place.runs or not place.runs:
        return _folder(place.given, place.store.url, "a run" if place.runs else "a folder", place.entries)
    return _folder(place.given, place.store.url, f"a folder of {display.counted(len(place.runs), 'run')}", place.runs)


def _folder(name: str, url: str, what: str, inside: Iterable[str]) -> MissingError:
    there = display.listed(sorted(inside), _NAMED) or "nothing"
    return MissingError(f"{name} is {what}, not a file; it contains: {there}", url=url)
