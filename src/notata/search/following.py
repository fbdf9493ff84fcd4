"""Following of growing logs: read the end of each log, and then only new bytes.

Each poll of a log is one range read: the last known bytes, and all bytes after them. If the known bytes have changed,
the file was replaced.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final

from notata._base import keys, limits
from notata._base.terminal import one_line
from notata.errors import (
    ContainerMissingError,
    DeadlineError,
    MissingError,
    NotataError,
    StorageError,
    UnreachableError,
)
from notata.run.state import ENDED, is_gone, may_write, parsed, state_of
from notata.search.choosing import Query, Status, Wheres
from notata.search.places import File
from notata.search.prefetch import prefetched
from notata.search.tailing import LINES, News, ends_of, is_like, logs_at
from notata.search.target import URLs
from notata.store import Blob, Store
from notata.store.gaps import ignore

__all__ = ["LONGEST", "SLOWER", "Following", "Outages", "end_of", "follow"]

_MARK: Final = 64  # known bytes compared at each poll to detect a replaced file: the time of a line is among them
PIECE: Final = 2**20  # maximum bytes of each log in one poll
_NEAR: Final = 0.2  # seconds between two polls of a local log
_FAR: Final = 1.0
SLOWER: Final = 1.5  # factor of the interval after each poll without new lines
LONGEST: Final = 10.0  # maximum factor
_STATE: Final = 5.0  # intervals between two polls of the state of a silent run
_TURN: Final = re.compile(
    rb"^\[[^\]\n]{1,99}\] [A-Z]+ (?:Logbook (?:initialized|resumed)|(Marked (?:complete|failed)))\b", re.MULTILINE
)

_EVER: Final = float("inf")
_GONE: Final = "gone"
_UNREADABLE: Final = "unreadable"


def follow(
    urls: URLs | Query | None = None,
    lines: int = LINES,
    *,
    series: str | None = None,
    output: bool = False,
    workers: bool = False,
    status: Status = None,
    where: Wheres | None = None,
    forever: bool = False,
    interval: float | None = None,
    storage_options: Mapping[str, Any] | None = None,
    tell: Callable[[str], object] = bool,
) -> Iterator[str]:
    """Yield the last lines of a run's log, and each new line as it arrives, until the run has ended.

    A poll costs one request, which reads only new bytes. While nothing arrives, the interval grows up to tenfold. After
    several silent polls, one more request reads the state of the run. A run can store its status before its last lines:
    they are waited for, but no longer than 10 seconds. A resumed run is followed further. If another log replaces the
    file, following starts at its beginning. While the storage is unreachable, the iterator waits.

    Args:
        urls: One place or several, see `URLs`, or a `Query`; a file is allowed too, and is followed until the caller
            leaves the loop. By default the base folder.
        lines: Maximum number of existing lines of each log.
        series: The name of a series, for its rows as JSON lines instead of the log.
        output: Follow what the program prints instead of the log.
        workers: Follow the logs, series or output of workers too, including workers that start later.
        status: Only logs of runs with this status or one of several at the beginning: ``running``, ``complete``,
            ``failed``, ``died``, ``replacing`` or ``unreadable``.
        where: Only logs of runs that match this expression, such as ``"omega > 1 and age < days(2)"`` (see `Where`), or
            for which this function of a `Run` is true, at the beginning. It costs one read a run, 32 at once, and up to
            two more for parameters and metrics.
        forever: Continue after the run has ended, because it may be resumed.
        interval: Seconds between two polls; by default 1, and 0.2 on a local disk.
        storage_options: Options for fsspec.
        tell: Called with messages that are not log lines: the end of a run, an outage, a replaced log.

    Yields:
        A line without its line end, as soon as it is complete.

    Raises:
        MissingError: There is neither a run nor a file.
        StorageError: A log cannot be read, or not any more, for another reason than an outage.

    >>> from notata import Logbook
    >>> with Logbook("a", "memory://following") as log:
    ...     log.info("converged")
    >>> for line in follow("memory://following/log_a", tell=print):
    ...     print(line.partition("] ")[2])
    INFO Logbook initialized
    INFO converged
    INFO Marked complete
    memory://following/log_a: complete
    """
    query = Query.of(urls, status=status, where=where, storage_options=storage_options)
    watched = Following(
        [*logs_at(query, workers=workers, series=series, output=output)],
        lines,
        workers=workers,
        forever=forever,
        interval=interval,
        tell=tell,
    )
    with closing(watched.__iter__()) as all_news:
        for news in all_news:
            yield from news.lines


@dataclass(slots=True)
class _End:
    """The read position in one log.

    Attributes:
        log: The log.
        at: The position: bytes that were read.
        mark: The last bytes before it.
        begun: The beginning of a line that is not complete yet.
        is_closed: Whether the line was read that a run writes at its end.
    """

    log: File
    at: int = 0
    mark: bytes = b""
    begun: bytes = b""
    is_closed: bool = False

    def forget(self) -> None:
        """Reset the position to the start of another file."""
        self.at, self.mark, self.begun, self.is_closed = 0, b"", b"", False

    def skip(self, data: bytes, at: int) -> None:
        """Begin after lines that are not shown, which end at a position."""
        self.at, self.mark = at, data[-_MARK:]
        self._look_for_end(data)

    def _look_for_end(self, lines: bytes) -> None:
        for found in _TURN.finditer(lines):
            self.is_closed = found[1] is not None

    def take(self, data: bytes) -> str:
        """Return the lines that are complete now."""
        self.at += len(data)
        self.mark = (self.mark + data)[-_MARK:]
        whole, end, begun = data.rpartition(b"\n")
        if not end and len(self.begun) + len(begun) <= limits.LINE_SHOWN:
            self.begun += begun
            return ""
        if not end:  # a very long line is returned in pieces
            whole, begun = begun, b""
        text, self.begun = self.begun + whole + end, begun
        self._look_for_end(text)
        return text.decode("utf-8", "surrogateescape")

    def rest(self) -> str:
        """Return a line without an end that no writer will complete."""
        rest, self.begun = self.begun, b""
        return rest.decode("utf-8", "surrogateescape")


@dataclass(slots=True)
class _Run:
    """A run, or a file outside a run, and the read positions in its logs.

    Attributes:
        name: The name for users.
        store: The store of its folder; None for a file outside a run.
        ends: Read positions of its logs, by key.
        waited: Seconds since its state was read; infinite if lines arrived since then.
        silent: Whether the last poll brought nothing.
        end: The final status, once it is known.
        why: The reason of that status.
        is_final: Whether no more lines came after that status was read.
    """

    name: str
    store: Store | None
    ends: dict[str, _End] = field(default_factory=dict)
    waited: float = _EVER
    silent: bool = False
    end: str = ""
    why: str = ""
    is_final: bool = False

    @property
    def is_over(self) -> bool:
        """True if the run has ended, and all its lines are stored."""
        log = self.ends.get(keys.LOG)
        is_stored = self.end == "complete" if log is None else log.is_closed  # all but the log precedes `complete`
        return bool(self.end) and (self.is_final or is_stored)


class Outages:
    """Reports when a storage becomes unreachable, and when it is available again.

    Attributes:
        has_one: Whether the storage is unreachable now.

    Args:
        tell: Called with the messages.
    """

    def __init__(self, tell: Callable[[str], object]) -> None:
        self.has_one = False
        self._tell = tell

    def begin(self, error: StorageError) -> None:
        """Report an outage, during which polling continues; raise other errors."""
        if not isinstance(error, UnreachableError | DeadlineError) and type(error) is not StorageError:
            raise error
        if not self.has_one:
            self._tell(f"{error}; waiting for the storage")
        self.has_one = True

    def end(self) -> None:
        """Report that the storage is available, if it was not."""
        if self.has_one:
            self._tell("the storage is available again")
        self.has_one = False


class Following:
    """Polls logs; iteration yields their last lines, and then new lines.

    Attributes:
        ends: The final status of each run, by its name: ``complete``, ``failed``, ``died``; ``gone`` without
            metadata.json, ``unreadable`` with a broken one.

    Args:
        logs: The logs, see `logs_at`.
        lines: Number of existing lines of each log.
        workers: Look for new workers too.
        forever: Continue after all runs have ended.
        interval: Seconds between two polls; None chooses by storage.
        tell: Called with messages that are not log lines.
        wait: Called to wait for some seconds.
    """

    def __init__(
        self,
        logs: Sequence[File],
        lines: int = LINES,
        *,
        workers: bool = False,
        forever: bool = False,
        interval: float | None = None,
        tell: Callable[[str], object] = bool,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self.ends: dict[str, str] = {}
        self._logs = logs
        self._lines = lines
        self._workers = workers
        self._forever = forever
        near = all(log.store.is_local for log in logs)
        self._interval = interval if interval is not None else _NEAR if near else _FAR
        self._tell = tell
        self._wait = wait
        self._outages = Outages(tell)
        self._runs: dict[str, _Run] = {}

    def __iter__(self) -> Generator[News, None, None]:
        yield from self._begin()
        pause = self._interval
        while self._runs:
            came, more = yield from self._look()
            if more:
                continue
            pause = self._interval if came else min(pause * SLOWER, self._interval * LONGEST)
            if not self._outages.has_one:
                yield from self._check_states()
            if self._runs and (self._forever or not any(run.is_over for run in self._runs.values())):
                self._wait(pause)
                for run in self._runs.values():
                    run.waited += pause

    def _begin(self) -> Iterator[News]:
        """Yield the last lines of the logs."""
        for log in self._logs:
            run = self._runs.setdefault(log.run_name, _Run(log.run_name, log.run_store))
            run.ends[log.entry.key] = _End(log)
        with closing(ends_of(self._logs, self._lines, _ignore_missing)) as ends:
            for log, data, start, shown in ends:
                end = self._runs[log.run_name].ends[log.entry.key]
                end.skip(data[:shown], start + shown)
                if text := end.take(data[shown:]):
                    yield News(log, text)

    # -- looks at logs -------------------------------------------------------------------------------------

    def _look(self) -> Generator[News, None, tuple[bool, bool]]:
        """Yield new lines of each log; return whether there were any, and whether more are available already."""
        ends = [(run, end) for run in self._runs.values() for end in run.ends.values()]
        wanted = ((at, at[1].log, at[1].at - len(at[1].mark), at[1].at + PIECE) for at in ends)
        came = more = False
        for run in self._runs.values():
            run.silent = True
        with closing(prefetched(wanted)) as coming:
            for (run, end), future in coming:
                assert future is not None
                text, further = self._new(run, end, future)
                if text:
                    yield News(end.log, text)
                if text or further:
                    run.silent, run.waited = False, _EVER
                came, more = came or bool(text), more or further
        return came, more

    def _new(self, run: _Run, end: _End, future: Future[Blob]) -> tuple[str, bool]:
        """Return new lines, and whether more are available already."""
        try:
            blob = future.result()
        except MissingError as error:
            self._missing(run, end, error)
            return "", False
        except StorageError as error:
            self._outages.begin(error)
            return "", False
        self._outages.end()
        if blob.size < end.at or not blob.data.startswith(end.mark):
            self._tell(f"{end.log.name} was replaced by another file, which begins here")
            end.forget()
            return "", True
        text = end.take(blob.data[len(end.mark) :])
        return text, blob.size > end.at

    def _missing(self, run: _Run, end: _End, error: MissingError) -> None:
        if isinstance(error, ContainerMissingError):
            raise error
        self._outages.end()
        if end.at:
            self._tell(f"{end.log.name} was removed")
            end.forget()
            run.waited = _EVER

    # -- looks at runs -------------------------------------------------------------------------------------

    def _check_states(self) -> Iterator[News]:
        """Stop following runs that ended before the last silent poll; read the state of other silent runs."""
        silent = [run for run in self._runs.values() if run.silent]
        for run in silent:
            if run.is_over and not self._forever:
                yield from self._stop_following(run)
        longest = _STATE * self._interval
        due = [
            (run, File.of(run.name, run.store, keys.METADATA))
            for run in silent
            if run.store is not None
            and run.name in self._runs
            and (run.waited >= longest or (run.end and not run.is_over))
        ]
        with closing(prefetched((run, file, 0, PIECE) for run, file in due)) as coming:
            for run, future in coming:
                assert future is not None
                try:
                    self._store_state(run, future)
                except StorageError as error:
                    self._outages.begin(error)

    def _stop_following(self, run: _Run) -> Iterator[News]:
        for end in run.ends.values():
            if rest := end.rest():
                yield News(end.log, rest)
        self._tell(f"{run.name}: {run.end}{run.why}")
        del self._runs[run.name]

    def _store_state(self, run: _Run, future: Future[Blob]) -> None:
        """Store the state of a run."""
        assert run.store is not None
        end, why, run.is_final = end_of(future, run.store)
        if not end:
            for one in run.ends.values():
                one.is_closed = False  # by an earlier attempt
        if self._workers and end != _GONE:
            self._follow_new_workers(run)
        run.waited = 0.0
        if end == run.end:
            return
        if self._forever:
            self._tell(f"{run.name}: {end}{why}" if end else f"{run.name} was resumed")
        run.end, run.why = end, why
        self.ends.pop(run.name, None)
        if end:
            self.ends[run.name] = end

    def _follow_new_workers(self, run: _Run) -> None:
        """Follow workers that started since the last check."""
        assert run.store is not None
        followed = [end.log.key for end in run.ends.values()]
        for entry in run.store.list(keys.WORKERS, skipped=ignore):
            if entry.key not in run.ends and any(is_like(own, entry.key) for own in followed):
                run.ends[entry.key] = _End(File(f"{run.name}/{entry.key}", run.store, entry, ""))


def _ignore_missing(error: NotataError) -> None:
    """Ignore a log that was removed after the listing, because it may reappear; raise other errors."""
    if not isinstance(error, MissingError) or isinstance(error, ContainerMissingError):
        raise error


def end_of(future: Future[Blob], store: Store) -> tuple[str, str, bool]:
    """Return the final status of a run, its reason, and whether its process stores no more lines and rows.

    Status and reason are empty if the run has not ended or if that is unknown.

    Args:
        future: The metadata.json of the run.
        store: The store of the run, to read it again if the process of the run is gone.

    Raises:
        StorageError: The metadata cannot be read.
    """
    try:
        found = future.result()
        if is_gone(parsed(found.data) or {}):
            found = store.fetch(keys.METADATA)
    except MissingError:
        return _GONE, f": it has no {keys.METADATA}", True
    fields = parsed(found.data)
    if fields is None:
        return _UNREADABLE, f": its {keys.METADATA} is not a JSON object", True
    state = state_of(fields, found)
    if state.status == "died":
        return state.status, f": {state.why}", True
    if state.status not in ENDED:
        return "", "", False
    reason = one_line(fields.get("failure_reason") or "", 500) if state.status == "failed" else ""
    return state.status, f": {reason}" if reason else "", not may_write(fields, state)
