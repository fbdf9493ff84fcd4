"""Last lines of logs, read from the end of each file."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Final

from notata._base import keys, limits
from notata._base.display import listed
from notata._base.terminal import quoted
from notata.errors import ConfigurationError, MissingError, NotataError, UnknownNameError
from notata.run.state import find_metadata
from notata.search.choosing import Query, Status, Wheres
from notata.search.finding import file_at, look_up
from notata.search.patterns import lines_of
from notata.search.places import File, Place
from notata.search.prefetch import prefetched
from notata.search.target import Failed, Target, URLs, raise_error
from notata.store.files import PART

__all__ = ["LINES", "News", "ends_of", "is_like", "logs_at", "outputs_at", "series_at", "tail", "tails"]

LINES: Final = 10
"""Default number of lines of a log."""

_IN_RUN: Final = re.compile(r"(.+)/((?:workers/[^/]+/)?series/.+\.jsonl|workers/[^/]+/(?:log|output)\.txt)")

END_BYTES: Final = 64 * 2**10  # bytes that usually contain the last lines


@dataclass(frozen=True, slots=True)
class News:
    """Lines of a log: its last lines at first, and then new ones.

    Attributes:
        log: The log.
        text: Whole lines, each with its line end, if it has one; bytes that are not UTF-8 are decoded with
            ``surrogateescape``.
    """

    log: File
    text: str

    @property
    def lines(self) -> list[str]:
        """The lines without their ends."""
        return lines_of(self.text)


def logs_at(query: Query, *, workers: bool = False, series: str | None = None, output: bool = False) -> Iterator[File]:
    """Yield the logs of a query: log.txt of runs, and files that the user named. Cost: one listing a target.

    Args:
        query: The runs, or files.
        workers: Include the logs of workers.
        series: The name of a series, for its files instead of logs.
        output: Yield the output of programs instead of logs.

    Raises:
        ConfigurationError: Both a series and output are wanted.
        KeyNameError: The name is no legal name of a series.
    """
    if output and series is not None:
        raise ConfigurationError("pass either a series or output, not both")
    own = keys.OUTPUT if output else keys.LOG if series is None else keys.series_file(series)
    return query.each(lambda target: _logs_at(target, query, own, workers))


def series_at(query: Query, name: str, *, workers: bool = False) -> list[File]:
    """Return the files of a series that have rows, see `logs_at`.

    Raises:
        UnknownNameError: There are runs, and none of them has such rows.
    """
    files = [*logs_at(query, workers=workers, series=name)]
    found = [file for file in files if file.entry.size]
    if files and not found:
        place = listed([target.name for target in query.targets], 3)
        raise UnknownNameError(f"no run at {place} has rows in a series {quoted(name)}", url=place, key=name)
    return found


def outputs_at(query: Query, *, workers: bool = False) -> list[File]:
    """Return the files with the output of programs, see `logs_at`.

    Raises:
        MissingError: There are runs, and none of them has recorded output.
    """
    files = [*logs_at(query, workers=workers, output=True)]
    found = [file for file in files if file.entry.size]
    if files and not found:
        place = listed([target.name for target in query.targets], 3)
        raise MissingError(
            f"no run at {place} has recorded output: 'notata run' and Logbook(capture=True) write {keys.OUTPUT}",
            url=place,
            key=keys.OUTPUT,
        )
    return found


def is_like(own: str, key: str) -> bool:
    """Check whether a file is that of a worker, or of the owner, for this file of the owner.

    >>> is_like("log.txt", "workers/3/log.txt"), is_like("series/a.jsonl", "workers/3/series/b.jsonl")
    (True, False)
    """
    return key == own or (key.startswith(f"{keys.WORKERS}/") and key.split("/", 2)[2:] == [own])


def _logs_at(target: Target, query: Query, own: str, workers: bool) -> list[File]:
    place = query.look_up(target)
    if not (place.entries or query.filters):
        try:
            return [_named(target)]
        except MissingError:  # the URL may end with the id of a run
            place = look_up(target, by_id=True)
            if not place.runs:
                raise
    return _logs_in(place, own, workers) if place.runs or not query.filters else []


def _named(target: Target) -> File:
    """Return the file that the user named; a log or series as a file of its run, so that the end of the run is seen."""
    found = file_at(target)
    inside = _IN_RUN.fullmatch(target.url) if isinstance(target.url, str) else None
    if inside is not None:
        run = Target(inside[1], target.storage_options, target.timeout).folder
        return found if find_metadata(run) is None else File(found.name, run, replace(found.entry, key=inside[2]), "")
    return (
        replace(found, run="")
        if found.key in (keys.LOG, keys.OUTPUT) and find_metadata(found.store) is not None
        else found
    )


def _logs_in(place: Place, own: str, workers: bool) -> list[File]:
    named = [file for file in place.files if place.means(file.entry.key)]
    logs = []
    for run in () if named else place.runs.values():
        others = {key for key in run.entries if workers and is_like(own, key)}
        logs += [run.file(key) for key in sorted({own, *others})]
    if not (named or logs):
        raise place.no_run()
    return named or logs


def tails(logs: Sequence[File], lines: int = LINES, *, failed: Failed = raise_error) -> Iterator[News]:
    """Yield the last lines of logs, 32 at once. One request each, for the last 64 KiB; more if lines are long.

    Args:
        logs: The logs, see `logs_at`.
        lines: Maximum number of lines of each.
        failed: Called with the error of each log that cannot be read.
    """
    with closing(ends_of(logs, lines, failed)) as ends:
        for log, data, _, shown in ends:
            yield News(log, data[shown:].decode("utf-8", "surrogateescape"))


def ends_of(logs: Sequence[File], lines: int, failed: Failed) -> Generator[tuple[File, bytes, int, int], None, None]:
    """Yield for each log its last bytes, their position in the file, and the index at which the last lines begin.

    If the lines take more than 16 MiB together, only the end is returned.
    """
    sizes = [log.entry.size if log.entry.size >= 0 else PART for log in logs]
    wanted = ((log, log, max(0, size - END_BYTES), size) for log, size in zip(logs, sizes, strict=True))
    with closing(prefetched(wanted)) as coming:
        for (log, future), size in zip(coming, sizes, strict=True):
            assert future is not None
            try:
                data, start = future.result().data, max(0, size - END_BYTES)
                while (at := _last(data, lines)) < 0 and start > 0 and len(data) < limits.LINE_SHOWN:
                    step = min(start, max(END_BYTES, len(data)))
                    data, start = log.store.read(log.entry.key, start - step, start) + data, start - step
            except NotataError as error:
                failed(error)
                continue
            yield log, data, start, at + 1


def _last(data: bytes, lines: int) -> int:
    """Return the index of the byte before the last lines; -1 if they begin at the first byte or before it."""
    at = len(data) - data.endswith(b"\n")
    if not lines:
        return len(data) - 1
    for _ in range(lines):
        at = data.rfind(b"\n", 0, at)
        if at < 0:
            break
    return at


def tail(
    urls: URLs | Query | None = None,
    lines: int = LINES,
    *,
    series: str | None = None,
    output: bool = False,
    workers: bool = False,
    status: Status = None,
    where: Wheres | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> list[str]:
    """Return the last lines of the log of a run, or of another file; of several logs one after the other.

    Cost: one listing, and one request for each log, for its last 64 KiB; more if lines are long.

    Args:
        urls: One place or several, see `URLs`, or a `Query`; a file is allowed too. By default the base folder.
        lines: Maximum number of lines of each log.
        series: The name of a series, for its rows as JSON lines instead of the log.
        output: Return what the program printed instead of the log.
        workers: Include the logs, series or output of workers.
        status: Only logs of runs with this status or one of several: ``running``, ``complete``, ``failed``, ``died``,
            ``replacing`` or ``unreadable``.
        where: Only logs of runs that match this expression, such as ``"omega > 1 and age < days(2)"`` (see `Where`), or
            for which this function of a `Run` is true. It costs one read a run, 32 at once, and up to two more
            for one that has not ended, or whose parameters or metrics have changed since.
        storage_options: Options for fsspec.

    Returns:
        The lines without their ends.

    Raises:
        ConfigurationError: The filter is invalid, or the status is unknown.
        MissingError: There is neither a run nor a file.
        StorageError: A log cannot be read.

    >>> from notata import Logbook
    >>> with Logbook("a", "memory://tails") as log:
    ...     log.info("converged")
    >>> [line.partition("] ")[2] for line in tail("memory://tails/log_a", 2)]
    ['INFO converged', 'INFO Marked complete']
    """
    query = Query.of(urls, status=status, where=where, storage_options=storage_options)
    if output and series is None:
        logs = outputs_at(query, workers=workers)
    elif series is not None and not output:
        logs = series_at(query, series, workers=workers)
    else:
        logs = [*logs_at(query, workers=workers, series=series, output=output)]
    return [line for news in tails(logs, lines) for line in news.lines]
