"""What comes to logs while their runs go on: only the end is read, and then only what is new.

Each look at a log is one read of a range: of the last bytes that are known, and of all behind them. Where those are
others now, another file has been put there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
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
from notata.run.state import ENDED, judge, parsed
from notata.search.ahead import read_ahead
from notata.search.choosing import Wheres
from notata.search.finding import File, URLs
from notata.search.tailing import LINES, Log, News, ends_of, log_of, logs_at
from notata.store import TIMEOUT, Blob, Entry, Store
from notata.store.gaps import ignore

__all__ = ["Following", "follow"]

_MARK: Final = 64  # bytes before what is new that tell whether the file is still the same: a line has its time there
_PIECE: Final = 2**20  # bytes of each log that a look brings at most
_NEAR: Final = 0.2  # seconds between two looks at a log to which there is no network
_FAR: Final = 1.0
_SLOWER: Final = 1.5  # times as long, after each look that brought nothing
_LONGEST: Final = 10.0  # times as long, at most
_STATE: Final = 5.0  # intervals between two looks at how a silent run stands

_EVER: Final = float("inf")
_GONE: Final = "gone"
_UNREADABLE: Final = "unreadable"


def follow(
    urls: URLs | None = None,
    lines: int = LINES,
    *,
    workers: bool = False,
    status: str | Iterable[str] | None = None,
    where: Wheres | None = None,
    forever: bool = False,
    interval: float | None = None,
    storage_options: Mapping[str, Any] | None = None,
    tell: Callable[[str], object] = bool,
    timeout: float = TIMEOUT,
) -> Iterator[str]:
    """The last lines of a run's log, and each further one when it comes, until the run has ended.

    A look costs one request, of what is new alone. The longer nothing comes, the longer it waits: up to ten times the
    interval. Every few looks that bring nothing, one more request asks how the run stands. A run that is resumed goes
    on; where another log has been put in its place, that one begins. While the storage cannot be reached it waits.

    Args:
        urls: See `URLs`; a file may be given too, which is followed until the loop is left.
        lines: As for `tail`: those that are there already.
        workers: Follow the logs of workers too, also of those that come later.
        status: Of runs of this status only, or of several, as it is at the beginning; as for `runs`.
        where: Of runs for which this holds then; as for `runs`.
        forever: Go on when the run has ended: it may be resumed.
        interval: Seconds between two looks; 1 when not given, and 0.2 on a local disk.
        storage_options: For fsspec.
        tell: Is told of what is no line: an end, an outage, another log.
        timeout: As for `notata.Logbook`.

    Yields:
        A line, without its end, once that has come.

    Raises:
        MissingError: There is neither a run nor a file.
        StorageError: It cannot be read, or not any more, and that is no outage.

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
    logs = list(
        logs_at(urls, workers=workers, status=status, where=where, storage_options=storage_options, timeout=timeout)
    )
    watched = Following(logs, lines, workers=workers, forever=forever, interval=interval, tell=tell)
    with closing(watched.__iter__()) as all_news:
        for news in all_news:
            yield from news.lines


@dataclass(slots=True)
class _End:
    """How far a log has been read."""

    log: Log
    at: int = 0
    mark: bytes = b""
    begun: bytes = b""

    def forget(self) -> None:
        """Begin at the start of another file."""
        self.at, self.mark, self.begun = 0, b"", b""

    def take(self, data: bytes) -> str:
        """The lines that are whole now."""
        self.at += len(data)
        self.mark = (self.mark + data)[-_MARK:]
        whole, end, begun = data.rpartition(b"\n")
        if not end and len(self.begun) + len(begun) <= limits.LINE_SHOWN:
            self.begun += begun
            return ""
        if not end:  # a line that never ends is given in pieces
            whole, begun = begun, b""
        text, self.begun = self.begun + whole + end, begun
        return text.decode("utf-8", "surrogateescape")

    def rest(self) -> str:
        """A line that was begun, and that nobody ends any more."""
        rest, self.begun = self.begun, b""
        return rest.decode("utf-8", "surrogateescape")


@dataclass(slots=True)
class _Run:
    """A run, or a file of none, and how far its logs have been read.

    Attributes:
        name: What it is called.
        store: Of its folder; None for a file of no run.
        ends: Of its logs, by key.
        waited: Seconds since it was asked for how it stands; as good as ever, if something came meanwhile.
        silent: Whether the last look brought nothing.
        end: How it ended, once that is known.
        why: And why.
    """

    name: str
    store: Store | None
    ends: dict[str, _End] = field(default_factory=dict)
    waited: float = _EVER
    silent: bool = False
    end: str = ""
    why: str = ""


class Following:
    """Logs that are looked at again and again; to iterate over it gives their ends, and then what is new.

    Attributes:
        ends: How each run ended, by its name: ``complete``, ``failed``, ``died``, or ``gone`` without metadata.json,
            ``unreadable`` with a broken one.

    Args:
        logs: Which ones, see `logs_at`.
        lines: Of each, at first.
        workers: Look for further workers too.
        forever: Go on when all runs have ended.
        interval: Seconds between two looks; None for what suits the storage.
        tell: Is told of what is no line.
        wait: Waits for some seconds.
    """

    def __init__(
        self,
        logs: list[Log],
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
        near = all(log.file.store.is_local for log in logs)
        self._interval = interval if interval is not None else _NEAR if near else _FAR
        self._tell = tell
        self._wait = wait
        self._out = False
        self._runs: dict[str, _Run] = {}

    def __iter__(self) -> Generator[News, None, None]:
        yield from self._begin()
        pause = self._interval
        while self._runs:
            came, more = yield from self._look()
            if more:
                continue
            pause = self._interval if came else min(pause * _SLOWER, self._interval * _LONGEST)
            if not self._out:
                yield from self._settle()
            if self._runs and (self._forever or not any(run.end for run in self._runs.values())):
                self._wait(pause)
                for run in self._runs.values():
                    run.waited += pause

    def _begin(self) -> Iterator[News]:
        """The ends of the logs as they are now."""
        for log in self._logs:
            run = self._runs.setdefault(log.run_name, _Run(log.run_name, log.run))
            run.ends[log.file.entry.key] = _End(log)
        with closing(ends_of(self._logs, self._lines, _unless_missing)) as ends:
            for log, data, start, shown in ends:
                end = self._runs[log.run_name].ends[log.file.entry.key]
                end.at, end.mark = start + shown, data[:shown][-_MARK:]
                if text := end.take(data[shown:]):
                    yield News(log, text)

    # -- looks at logs -------------------------------------------------------------------------------------

    def _look(self) -> Generator[News, None, tuple[bool, bool]]:
        """What is new in each log; whether there was anything, and whether there is more of it already."""
        ends = [(run, end) for run in self._runs.values() for end in run.ends.values()]
        wanted = ((at, at[1].log.file, at[1].at - len(at[1].mark), at[1].at + _PIECE) for at in ends)
        came = more = False
        for run in self._runs.values():
            run.silent = True
        with closing(read_ahead(wanted)) as coming:
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
        """The lines that have come, and whether there is more already."""
        try:
            blob = future.result()
        except MissingError as error:
            self._missing(run, end, error)
            return "", False
        except StorageError as error:
            self._broken(error)
            return "", False
        self._back()
        if blob.size < end.at or not blob.data.startswith(end.mark):
            self._tell(f"{end.log.file.name} is another one now; it begins here")
            end.forget()
            return "", True
        text = end.take(blob.data[len(end.mark) :])
        return text, blob.size > end.at

    def _missing(self, run: _Run, end: _End, error: MissingError) -> None:
        if isinstance(error, ContainerMissingError):
            raise error
        self._back()
        if end.at:
            self._tell(f"{end.log.file.name} was removed")
            end.forget()
            run.waited = _EVER

    def _broken(self, error: StorageError) -> None:
        """An outage is waited for; all else ends this."""
        if not isinstance(error, UnreachableError | DeadlineError) and type(error) is not StorageError:
            raise error
        if not self._out:
            self._tell(f"{error}; waiting until it can be read again")
        self._out = True

    def _back(self) -> None:
        if self._out:
            self._tell("the storage answers again")
        self._out = False

    # -- looks at runs -------------------------------------------------------------------------------------

    def _settle(self) -> Iterator[News]:
        """Let go of runs that had ended before the last look, which brought nothing; ask silent ones how they stand."""
        silent = [run for run in self._runs.values() if run.silent]
        for run in silent:
            if run.end and not self._forever:
                yield from self._let_go(run)
        longest = _STATE * self._interval
        due = [run for run in silent if run.store is not None and run.name in self._runs and run.waited >= longest]
        with closing(read_ahead((run, _metadata(run), 0, _PIECE) for run in due)) as coming:
            for run, future in coming:
                assert future is not None
                try:
                    self._asked(run, future)
                except StorageError as error:
                    self._broken(error)

    def _let_go(self, run: _Run) -> Iterator[News]:
        for end in run.ends.values():
            if rest := end.rest():
                yield News(end.log, rest)
        self._tell(f"{run.name}: {run.end}{run.why}")
        del self._runs[run.name]

    def _asked(self, run: _Run, future: Future[Blob]) -> None:
        """Take note of how a run stands."""
        end, why = _end(future)
        if self._workers and end != _GONE:
            self._welcome(run)
        run.waited = 0.0
        if end == run.end:
            return
        if self._forever:
            self._tell(f"{run.name}: {end}{why}" if end else f"{run.name} goes on")
        run.end, run.why = end, why
        self.ends.pop(run.name, None)
        if end:
            self.ends[run.name] = end

    def _welcome(self, run: _Run) -> None:
        """Follow the workers too that have come."""
        assert run.store is not None
        for entry in run.store.list(keys.WORKERS, skipped=ignore):
            if keys.is_log(entry.key) and entry.key not in run.ends:
                run.ends[entry.key] = _End(log_of(run.name, run.store, entry.key, entry))


def _unless_missing(error: NotataError) -> None:
    """What was listed and is gone by now may come again."""
    if not isinstance(error, MissingError) or isinstance(error, ContainerMissingError):
        raise error


def _metadata(run: _Run) -> File:
    assert run.store is not None
    return File(run.name, run.store, Entry(keys.METADATA, 0, datetime.now(UTC), ""))


def _end(future: Future[Blob]) -> tuple[str, str]:
    """How a run has ended, and why; empty if it has not, or nothing tells.

    Raises:
        StorageError: It cannot be asked.
    """
    try:
        found = future.result()
    except MissingError:
        return _GONE, f": it has no {keys.METADATA}"
    fields = parsed(found.data)
    if fields is None:
        return _UNREADABLE, f": its {keys.METADATA} holds no JSON object"
    state = judge(fields, found)
    if state.status == "failed":
        reason = one_line(fields.get("failure_reason") or "", 500)
        return state.status, f": {reason}" if reason else ""
    if state.status == "died":
        return state.status, f": {state.why}"
    return (state.status, "") if state.status in ENDED else ("", "")
