"""The ends of logs: which logs are meant, and their last lines; only these are read."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from notata._base import keys, limits
from notata.errors import MissingError, NotataError
from notata.run.state import stored
from notata.search.ahead import read_ahead
from notata.search.choosing import Choice, Wheres, narrowed
from notata.search.finding import File, URLs, each, file_at, look_up, no_run, tell_nobody
from notata.search.patterns import lines_of
from notata.store import TIMEOUT, Entry, Store
from notata.store.files import PART

__all__ = ["LINES", "Log", "News", "ends_of", "log_of", "logs_at", "tail", "tails"]

LINES: Final = 10
"""Lines of a log that are given, if nobody says how many."""

_END: Final = 64 * 2**10  # bytes that mostly hold the last lines


@dataclass(frozen=True, slots=True)
class Log:
    """A file that is read from its end.

    Attributes:
        file: Where it is.
        run: The store of its run, whose state tells when nothing more comes; None for a file of no run.
        run_name: What the run is called.
    """

    file: File
    run: Store | None
    run_name: str

    @property
    def run_id(self) -> str | None:
        """Of its run."""
        return None if self.run is None else keys.run_id(self.run.url)


@dataclass(frozen=True, slots=True)
class News:
    """What a log says: the end of it at first, and then what is new.

    Attributes:
        log: Which one.
        text: Whole lines, each with its end, as far as they have one; bytes that are no UTF-8 are in it as
            ``surrogateescape`` has them.
    """

    log: Log
    text: str

    @property
    def lines(self) -> list[str]:
        """Its lines without their ends."""
        return lines_of(self.text)


def logs_at(
    urls: URLs | None = None,
    *,
    workers: bool = False,
    status: str | Iterable[str] | None = None,
    where: Wheres | None = None,
    storage_options: Mapping[str, Any] | None = None,
    failed: Callable[[NotataError], None] = tell_nobody,
    timeout: float = TIMEOUT,
) -> Iterator[Log]:
    """The logs that places mean: of runs log.txt, of files these. One listing a place.

    Args:
        urls: See `URLs`; files too.
        workers: Those of each run's workers too.
        status: Of runs of this status only, or of several; as for `runs`.
        where: Of runs for which this holds; as for `runs`.
        storage_options: For fsspec.
        failed: Is told of each place where nothing is.
        timeout: As for `notata.Logbook`.
    """
    choice = Choice(status, where)
    for url in each(urls):
        try:
            place = narrowed(url, choice, storage_options, failed=failed, timeout=timeout)
            if choice.filters and not place.runs:
                continue
            if not place.entries:
                try:
                    log = _alone(file_at(url, storage_options, timeout=timeout))
                except MissingError:  # nor is there a file: it may be the id of a run
                    place = look_up(url, storage_options, timeout=timeout, by_id=True)
                    if not place.runs:
                        raise
                else:
                    yield log
                    continue
            found = [_inside(file) for file in place.files if place.means(file.entry.key)]
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
    """A log of a run, which may be to come."""
    entry = entry or Entry(key, 0, datetime.now(UTC), "")
    return Log(File(f"{name}/{key}", store, entry, ""), store, name)


def _inside(file: File) -> Log:
    """A file that was named by a pattern, and may lie in a run."""
    if file.run is None:
        return Log(file, None, file.name)
    run = file.store.below(file.run) if file.run else file.store
    return Log(file, run, file.name[: -len(file.key) - 1])


def _alone(file: File) -> Log:
    """A file that was named itself; of log.txt it is asked whether it lies in a run."""
    if file.key == keys.LOG and stored(file.store) is not None:
        return Log(file, file.store, file.name[: -len(keys.LOG) - 1])
    return Log(file, None, file.name)


def tails(
    logs: list[Log], lines: int = LINES, *, failed: Callable[[NotataError], None] = tell_nobody
) -> Iterator[News]:
    """The last lines of logs, 32 at once. A request each, of the last 64 KiB; more where lines are long.

    Args:
        logs: Which ones, see `logs_at`.
        lines: Of each, at most.
        failed: Is told of each log that cannot be read.
    """
    with closing(ends_of(logs, lines, failed)) as ends:
        for log, data, _, shown in ends:
            yield News(log, data[shown:].decode("utf-8", "surrogateescape"))


def ends_of(
    logs: list[Log], lines: int, failed: Callable[[NotataError], None]
) -> Generator[tuple[Log, bytes, int, int], None, None]:
    """The last bytes of each log, where in it they begin, and from which of them on they are its last lines.

    Of lines that take more than 16 MiB together only the end is given.
    """
    sizes = [log.file.entry.size if log.file.entry.size >= 0 else PART for log in logs]
    wanted = ((log, log.file, max(0, size - _END), size) for log, size in zip(logs, sizes, strict=True))
    with closing(read_ahead(wanted)) as coming:
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
    """Before which byte the last lines begin; -1 if that is the first one, or is not among these."""
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
    """The last lines of the log of a run, or of another file; of several one after the other.

    One listing, and one request for each log, of its last 64 KiB; more where lines are long.

    Args:
        urls: See `URLs`; a file may be given too. Without it the base folder.
        lines: Of each log, at most.
        workers: The logs of workers too.
        status: Of runs of this status only, or of several; as for `runs`.
        where: Of runs for which this holds; as for `runs`.
        storage_options: For fsspec.
        timeout: As for `notata.Logbook`.

    Raises:
        MissingError: There is neither a run nor a file.
        StorageError: It cannot be read.

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
