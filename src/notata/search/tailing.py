"""Last lines of logs, read from the end of each file."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from notata._base import keys, limits
from notata.errors import MissingError, NotataError
from notata.run.state import find_metadata
from notata.search.choosing import Choice, Wheres, look_up_filtered
from notata.search.finding import File, URLs, each, file_at, look_up, no_run, raise_error
from notata.search.patterns import lines_of
from notata.search.prefetch import prefetched
from notata.store import TIMEOUT, Entry, Store
from notata.store.files import PART

__all__ = ["LINES", "Log", "News", "ends_of", "log_of", "logs_at", "tail", "tails"]

LINES: Final = 10
"""Default number of lines of a log."""

_END: Final = 64 * 2**10  # bytes that usually contain the last lines


@dataclass(frozen=True, slots=True)
class Log:
    """A file that is read from its end.

    Attributes:
        file: The file.
        run: The store of its run, whose state tells whether the log has ended; None for a file outside a run.
        run_name: The name of the run, for users.
    """

    file: File
    run: Store | None
    run_name: str

    @property
    def run_id(self) -> str | None:
        """The id of its run."""
        return None if self.run is None else keys.run_id(self.run.url)


@dataclass(frozen=True, slots=True)
class News:
    """Lines of a log: its last lines at first, and then new ones.

    Attributes:
        log: The log.
        text: Whole lines, each with its line end, if it has one; bytes that are not UTF-8 are decoded with
            ``surrogateescape``.
    """

    log: Log
    text: str

    @property
    def lines(self) -> list[str]:
        """The lines without their ends."""
        return lines_of(self.text)


def logs_at(
    urls: URLs | None = None,
    *,
    workers: bool = False,
    status: str | Iterable[str] | None = None,
    where: Wheres | None = None,
    storage_options: Mapping[str, Any] | None = None,
    failed: Callable[[NotataError], None] = raise_error,
    timeout: float = TIMEOUT,
) -> Iterator[Log]:
    """Yield the logs at places: log.txt of runs, and files that the user named. Cost: one listing a place.

    Args:
        urls: See `URLs`; files are allowed too.
        workers: Include the logs of workers.
        status: Only logs of runs with this status or one of several; as for `runs`.
        where: Only logs of runs that match this filter; as for `runs`.
        storage_options: Options for fsspec.
        failed: Called with the error of each place without a log.
        timeout: As for `notata.Logbook`.
    """
    choice = Choice(status, where)
    for url in each(urls):
        try:
            place = look_up_filtered(url, choice, storage_options, failed=failed, timeout=timeout)
            if choice.filters and not place.runs:
                continue
            if not place.entries:
                try:
                    log = _log_of_file(file_at(url, storage_options, timeout=timeout))
                except MissingError:  # there is no file either: the URL may end with the id of a run
                    place = look_up(url, storage_options, timeout=timeout, by_id=True)
                    if not place.runs:
                        raise
                else:
                    yield log
                    continue
            found = [_log_of_match(file) for file in place.files if place.means(file.entry.key)]
            for run in () if found else place.runs.values():
                own = [key for key in run.files if keys.is_log(key) and (workers or key == keys.LOG)]
                found += [log_of(run.name, run.store, key, run.files.get(key)) for key in sorted({keys.LOG, *own})]
            if not found:
                raise no_run(place)
        except NotataError as error:
            failed(error)
            continue
        yield from found


def log_of(name: str, store: Store, key: str, entry: Entry | None = None) -> Log:
    """Return a log of a run, which need not exist yet."""
    entry = entry or Entry(key, 0, datetime.now(UTC), "")
    return Log(File(f"{name}/{key}", store, entry, ""), store, name)


def _log_of_match(file: File) -> Log:
    """Return the log for a file that matches a pattern, and may be in a run."""
    if file.run is None:
        return Log(file, None, file.name)
    run = file.store.below(file.run) if file.run else file.store
    return Log(file, run, file.name[: -len(file.key) - 1])


def _log_of_file(file: File) -> Log:
    """Return the log for a file that the user named; log.txt may be that of a run."""
    if file.key == keys.LOG and find_metadata(file.store) is not None:
        return Log(file, file.store, file.name[: -len(keys.LOG) - 1])
    return Log(file, None, file.name)


def tails(
    logs: list[Log], lines: int = LINES, *, failed: Callable[[NotataError], None] = raise_error
) -> Iterator[News]:
    """Yield the last lines of logs, 32 at once. One request each, for the last 64 KiB; more if lines are long.

    Args:
        logs: The logs, see `logs_at`.
        lines: Maximum number of lines of each.
        failed: Called with the error of each log that cannot be read.
    """
    with closing(ends_of(logs, lines, failed)) as ends:
        for log, data, _, shown in ends:
            yield News(log, data[shown:].decode("utf-8", "surrogateescape"))


def ends_of(
    logs: list[Log], lines: int, failed: Callable[[NotataError], None]
) -> Generator[tuple[Log, bytes, int, int], None, None]:
    """Yield for each log its last bytes, their position in the file, and the index at which the last lines begin.

    If the lines take more than 16 MiB together, only the end is returned.
    """
    sizes = [log.file.entry.size if log.file.entry.size >= 0 else PART for log in logs]
    wanted = ((log, log.file, max(0, size - _END), size) for log, size in zip(logs, sizes, strict=True))
    with closing(prefetched(wanted)) as coming:
        for (log, future), size in zip(coming, sizes, strict=True):
            assert future is not None
            try:
                data, start = future.result().data, max(0, size - _END)
                while (at := _last(data, lines)) < 0 and start > 0 and len(data) < limits.LINE_SHOWN:
                    step = min(start, max(_END, len(data)))
                    data, start = log.file.store.read(log.file.entry.key, start - step, start) + data, start - step
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
    urls: URLs | None = None,
    lines: int = LINES,
    *,
    workers: bool = False,
    status: str | Iterable[str] | None = None,
    where: Wheres | None = None,
    storage_options: Mapping[str, Any] | None = None,
    timeout: float = TIMEOUT,
) -> list[str]:
    """Return the last lines of the log of a run, or of another file; of several logs one after the other.

    Cost: one listing, and one request for each log, for its last 64 KiB; more if lines are long.

    Args:
        urls: See `URLs`; a file is allowed too. By default the base folder.
        lines: Maximum number of lines of each log.
        workers: Include the logs of workers.
        status: Only runs with this status or one of several; as for `runs`.
        where: Only runs that match this filter; as for `runs`.
        storage_options: Options for fsspec.
        timeout: As for `notata.Logbook`.

    Raises:
        MissingError: There is neither a run nor a file.
        StorageError: A log cannot be read.

    >>> from notata import Logbook
    >>> with Logbook("a", "memory://tails") as log:
    ...     log.info("converged")
    >>> [line.partition("] ")[2] for line in tail("memory://tails/log_a", 2)]
    ['INFO converged', 'INFO Marked complete']
    """
    logs = list(
        logs_at(urls, workers=workers, status=status, where=where, storage_options=storage_options, timeout=timeout)
    )
    return [line for news in tails(logs, lines) for line in news.lines]
