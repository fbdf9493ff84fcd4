"""log.txt as a `logging.Handler`: lines in, appends out; it knows nothing of storage but `append`.

Where a write costs no round trip, each line is appended at once. Elsewhere lines are collected and a thread appends
them: it lives while lines wait, so nothing runs for a journal that is silent.

The rules of when, with `again` the bytes that an append sends besides its own (all of a small object, which a bucket
replaces whole), and `RATE` 100 kB/s:

* when as much waits as is sent again: what is sent grows with the log, not with its square;
* when the oldest line has waited 5 s and the last append is `again` / RATE ago (a minute at most where nothing is sent
  again): slow lines cost RATE at most;
* one second after a warning or an error, unless one had this haste within the same time;
* on `flush`.
"""

from __future__ import annotations

import copy
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from types import FrameType
from typing import Final, Protocol

from notata._base import exits
from notata._base.nesting import is_running
from notata._base.retries import attempts
from notata._base.threads import start_thread
from notata.errors import ConfigurationError, ConflictError, DeadlineError, StorageError

__all__ = ["LEVEL", "Growing", "Journal", "RunLogger", "level_of"]

LEVEL: Final = "NOTATA_LOG_LEVEL"
"""The environment variable that says what goes to the log of runs that do not say."""

LINE: Final = "[%(asctime)s] %(levelname)s %(message)s"
TIME: Final = "%Y-%m-%dT%H:%M:%S"

RATE: Final = 100e3  # bytes a second that a log may cost on average
SECONDS: Final = 5.0  # that a line waits at least, for others to come along
SOON: Final = 1.0  # that a warning waits
LONGEST: Final = 60.0  # that a line waits where an append sends nothing again
FEW: Final = 64 * 2**10  # bytes for which alone no append is made before its time
MANY: Final = 8 * 2**20  # bytes for which one is made in any case
HELD: Final = 32 * 2**20  # bytes that wait at most; beyond, lines are dropped
RESERVE: Final = 4 * 2**20  # that warnings and errors may fill besides

_INDENT: Final = "  "
_THREAD: Final = "notata-journal"
_STORAGE_THREAD: Final = "fsspecIO"
_CONTESTED: Final = 100  # appends in a row that others may come before: forked children, each with lines of its own
_CONTESTED_PAUSE: Final = 2.0  # seconds between two of them at most; so two minutes or more in all
_MEANWHILE: Final = 3  # times that is asked for lines which came during an append
_own = logging.getLogger("notata")


def level_of(level: int | str | None) -> int:
    """A level of `logging`, by number or name; None is what `LEVEL` says, else INFO.

    Raises:
        ConfigurationError: There is no such level.

    >>> level_of("warning"), level_of(15)
    (30, 15)
    """
    said = level
    if level is None:
        level = os.environ.get(LEVEL, "").strip() or logging.INFO
    known = logging.getLevelNamesMapping()
    number = int(level) if str(level).isdigit() else known.get(str(level).upper())
    if number is None:
        names = ", ".join(known)
        where = f" ({LEVEL})" if said is None else ""
        raise ConfigurationError(f"{level!r}{where} is no level of the log; it is a number, or one of {names}")
    return number


class Growing(Protocol):
    """What a journal is written to: `notata.store.appending.Appender`."""

    @property
    def size(self) -> int: ...
    @property
    def again(self) -> int: ...
    def append(self, data: bytes) -> None: ...
    def close(self) -> None: ...


class Journal(logging.Handler):
    """The log of one run, which any logger may be given as a handler.

    Lines have the form ``[YYYY-MM-DDTHH:MM:SS] LEVEL message``, in local time and UTF-8. The time of the first line,
    and of each at which it changes, has the offset from UTC: ``[2026-10-25T02:00:00+01:00]``. The message of another
    logger than the run's begins with its name: ``solver: stiff``. A message of several lines goes on in lines that are
    indented by two spaces, so each line that begins with ``[`` begins a message.

    `emit` never waits for the storage where lines are collected, and never raises. What cannot be stored is kept and
    tried again; beyond 32 MiB lines are dropped, and the log says how many, where they are missing.

    Args:
        end: Where bytes are appended.
        at_once: Whether each line is appended by itself, in the thread that logs it.
        level: As for any handler.
        redact: Takes secrets out of a line: libraries of the storage log theirs.
        mine: Asked when somebody else changed the file: whether this run still is this writer's.
        lost: Asked before each line: whether the run is known to be another's, so that nothing more is to be written.
        show: Is given each line as well, for the terminal.
        clock: Seconds that pass.
    """

    def __init__(
        self,
        end: Growing,
        *,
        at_once: bool,
        level: int = logging.INFO,
        redact: Callable[[str], str] = str,
        mine: Callable[[], bool] = lambda: True,
        lost: Callable[[], bool] = lambda: False,
        show: Callable[[str], object] = bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(level)
        _leave_alone(self)
        self.setFormatter(_Lines())
        self._redact = redact
        self._end = end
        self._at_once = at_once
        self._mine = mine
        self._lost = lost
        self._show = show
        self._clock = clock
        self._heard = threading.local()
        self._begin()

    def _begin(self) -> None:
        """Start with nothing to store: at first, and in a forked child, whose parent keeps what waits."""
        self._pid = os.getpid()
        self._lock = threading.RLock()  # taken by itself: `with` of a Condition can be interrupted once it holds it
        self._changed = threading.Condition(self._lock)
        self._storing = threading.RLock()
        self._appending: FrameType | None = None  # the call that appends; see `nesting.is_running`
        self._waiting: list[bytes] = []
        self._bytes = 0
        self._chunk, self._chunk_hasty, self._goal = b"", False, -1
        self._thread: threading.Thread | None = None
        self._oldest = self._hasty = 0.0
        self._last = self._last_hasty = self._not_before = float("-inf")
        self._has_hasty = self._contested = self._silent = self._closing = self._timed_out = False
        self._dropped = self._failures = 0
        self._enough = FEW

    # -- in ------------------------------------------------------------------------------------------------

    def handle(self, record: logging.LogRecord) -> bool:
        """As any handler, but under no lock, as `emit` has its own; and once, though it hangs on several loggers."""
        passed = self.filter(record) if self.filters else True
        if isinstance(passed, logging.LogRecord):
            record = passed
        if passed and getattr(self._heard, "last", lambda: None)() is not record:
            self._heard.last = weakref.ref(record)
            self.emit(record)
        return bool(passed)

    def is_plain(self) -> bool:
        """Whether lines have the documented form, and nobody else sees their records."""
        return type(self.formatter) is _Lines and not self.filters

    def emit(self, record: logging.LogRecord) -> None:
        if self._silent or self._lost() or self._echo(record):
            return
        try:
            text = self._redact(self.format(record)).replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")
            text = text.replace("\0", "\\x00")  # for one NUL, grep takes the whole file for binary
            line = text.replace("\n", f"\n{_INDENT}")
            data = f"{line}\n".encode("utf-8", "backslashreplace")
        except Exception:
            self.handleError(record)
            return
        self._show(line)
        if os.getpid() != self._pid:
            self._begin()
        if sys.is_finalizing():
            self._append_last(data)
            return
        if not (self._at_once and self._append_line(data)):
            self._take(data, record.levelno >= logging.WARNING)
            if self._at_once and not self._is_stalled():
                self._try()

    def _is_stalled(self) -> bool:
        """Whether the last append took all of its time for nothing, just now: each line would wait as long."""
        return self._timed_out and self._clock() < self._not_before

    def _append_last(self, data: bytes) -> None:
        """Append a line while the interpreter ends, if that needs no other thread; else drop it.

        The threads that other lines need, and those that hold a lock, have been stopped by then.
        """
        if self._at_once and self._storing.acquire(blocking=False):
            try:
                with suppress(Exception):
                    self._end.append(data)
            finally:
                self._storing.release()

    def _echo(self, record: logging.LogRecord) -> bool:
        """Whether it tells of a journal's own appends: a log of those would feed on itself."""
        if record.threadName == _THREAD:
            return True
        return bool(self._chunk) and record.threadName == _STORAGE_THREAD and record.levelno < logging.WARNING

    def _take(self, data: bytes, hasty: bool) -> None:
        exits.used()
        with self._lock:
            if self._silent:
                return
            held = self._bytes + len(self._chunk)
            if held and held + len(data) > HELD + (RESERVE if hasty else 0):
                self._dropped += 1
                return
            now = self._clock()
            if self._dropped:
                self._put(self._gap(), now)
            self._put(data, now)
            news = self._bytes - len(data) < self._enough <= self._bytes
            if hasty and not self._has_hasty:
                self._has_hasty, self._hasty, news = True, now, True
            if not self._at_once and (news or self._thread is None):
                self._wake()

    def _put(self, data: bytes, now: float) -> None:
        if not self._waiting:
            self._oldest = now
            exits.at_exit(self._finish)
        self._waiting.append(data)
        self._bytes += len(data)

    def _gap(self) -> bytes:
        count, self._dropped = self._dropped, 0
        missing = "1 line is missing" if count == 1 else f"{count} lines are missing"
        moment = time.time()  # with its offset: the line that told it may be missing
        local = f"{time.strftime(TIME, time.localtime(moment))}{_offset(moment)}"
        line = f"[{local}] WARNING notata: {missing} here; the storage did not take them\n"
        return line.encode()

    def _wake(self) -> None:
        """Have a thread that appends, and look at the clock again where that may have come nearer."""
        if self._thread is not None:
            self._changed.notify_all()
            return
        with suppress(RuntimeError):  # the interpreter is ending: `_finish` comes
            self._thread = start_thread(self._work, _THREAD)

    # -- when ----------------------------------------------------------------------------------------------

    def _due(self) -> float:
        """The time of the next append; in the past if it is due. Holds the lock; something waits."""
        again, size = self._end.again, self._end.size
        if self._bytes >= self._enough:
            return self._not_before
        period = max(SECONDS, again / RATE if again else min(size / RATE, LONGEST))
        due = max(self._oldest + SECONDS, self._last + period)
        if self._has_hasty:
            due = min(due, max(self._hasty + SOON, self._last_hasty + period))
        return max(due, self._not_before)

    def _work(self) -> None:
        """Append what is due, until nothing waits."""
        while True:
            with self._lock:
                while True:
                    if not (self._waiting or self._chunk):
                        self._thread = None
                        return
                    seconds = self._due() - self._clock()
                    if seconds <= 0:
                        break
                    self._changed.wait(seconds)
            self._try()

    # -- out -----------------------------------------------------------------------------------------------

    def _append_line(self, data: bytes) -> bool:
        """Append a line by itself, where nothing waits; if it could not be appended, it waits now.

        The usual way where a write costs no round trip: `_take` and `_drain` for a single line, at half the price.

        Returns:
            Whether it was taken.
        """
        with self._storing:
            if self._waiting or self._chunk or self._dropped or self._contested or self._silent or self._is_nested():
                return False
            exits.used()
            self._appending = sys._getframe()
            try:
                exits.at_exit(self._finish)
                self._goal = self._end.size + len(data)
                self._chunk = data
                self._end.append(data)
                self._stored()
            except ConflictError:
                self._contested, self._goal = True, -1
            except Exception as error:
                self._failed(error)
            finally:
                self._rest()
        if self._contested or (self._waiting and not self._chunk):  # a signal handler logged meanwhile, say
            self._try()
        return True

    def _is_nested(self) -> bool:
        """Check whether a signal handler runs within an append of this very thread."""
        return self._appending is not None and is_running(self._appending)

    def _rest(self) -> None:
        """No append goes on in this thread any more."""
        self._appending = None
        if self._closing:
            self._end.close()

    def flush(self) -> None:
        """Store what waits by now.

        Raises:
            StorageError: It could not be stored; it is kept, and tried again.
        """
        if os.getpid() != self._pid:
            self._begin()
        if sys.is_finalizing():
            if self._waiting or self._chunk:
                raise StorageError("the interpreter is ending, so lines of the log that wait cannot be stored any more")
            return
        self._drain()

    def _try(self) -> None:
        """Store what waits, or keep it."""
        was_silent = self._silent
        try:
            self._drain()
        except Exception as error:
            self._failed(error)
        if self._silent and not was_silent:
            self._say("a run was taken by another writer, moved or deleted: its log takes no more lines from here")

    def _failed(self, error: Exception) -> None:
        """Wait longer each time, and say so the first time."""
        with self._lock:
            self._failures += 1
            self._timed_out = isinstance(error, DeadlineError)
            self._not_before = self._clock() + min(SECONDS * 2 ** min(self._failures - 1, 9), LONGEST)
        if self._failures == 1:
            self._say(f"log.txt waits to be stored, which will be tried again: {error}")

    def _say(self, what: str) -> None:
        with suppress(Exception):  # a handler of somebody else's must not end this thread
            _own.warning("notata: %s", what)

    def _drain(self) -> None:
        """Append what an earlier try left, then what waits; what comes meanwhile waits for the next time."""
        with self._storing:
            if self._is_nested():  # the append that was interrupted goes on afterwards, and takes this with it
                return
            self._appending = sys._getframe()
            try:
                self._store()
                for _ in range(_MEANWHILE if self._at_once else 1):
                    self._fill()
                    if not self._chunk:
                        break
                    self._store()
            finally:
                self._rest()

    def _store(self) -> None:
        """Append the chunk. The same bytes are tried until they are there, so that a lost reply is known for one."""
        for last in attempts(_CONTESTED, longest=_CONTESTED_PAUSE):
            if not self._chunk or self._other():
                return
            if self._end.size == self._goal:  # it was appended, and an interrupt came before that was noted
                self._stored()
                return
            self._goal = self._end.size + len(self._chunk)
            try:
                self._end.append(self._chunk)
            except ConflictError:
                self._contested, self._goal = True, -1
                if last:
                    raise
            else:
                self._stored()
                return

    def _other(self) -> bool:
        """Whether the run is another's by now, if somebody else wrote to its log; then this journal is silent."""
        if self._contested and not self._mine():
            self.silence()
        self._contested = False
        return self._silent

    def _stored(self) -> None:
        with self._lock:
            self._chunk = b""
            self._failures, self._not_before, self._timed_out = 0, float("-inf"), False
            if not self._at_once:
                self._last = self._clock()
                if self._chunk_hasty:
                    self._last_hasty = self._last
                self._enough = min(MANY, max(FEW, self._end.again or self._end.size // 2))
            if not self._waiting:
                exits.forget(self._finish)
                self._changed.notify_all()  # the thread has nothing to wait for

    def _fill(self) -> None:
        """Take what waits as the next chunk, unless there is one."""
        with self._lock:
            if self._dropped and not self._silent:
                self._put(self._gap(), self._clock())
            if self._chunk:
                return
            self._chunk_hasty, self._has_hasty, self._goal = self._has_hasty, False, -1
            count = len(self._waiting)
            chunk = b"".join(self._waiting[:count])
            left = self._bytes - len(chunk)
            # In one step: a signal handler may add a line before, and raise.
            self._chunk, self._waiting, self._bytes = chunk, self._waiting[count:], left

    def _finish(self) -> None:
        """At exit."""
        if os.getpid() == self._pid:
            self.flush()

    def close(self) -> None:
        """Keep no file open any more. A line that still comes is stored all the same."""
        with self._storing:
            self._closing = True
            if not self._is_nested():
                self._end.close()
        super().close()

    def silence(self) -> None:
        """Take no more lines, and forget what waits: the run is another's."""
        with self._lock:
            self._silent = True
            self._waiting, self._bytes, self._chunk = [], 0, b""
            exits.forget(self._finish)
            self._changed.notify_all()


class RunLogger(logging.Logger):
    """A logger that no registry holds, so that nothing of it is left when the run is gone.

    `logging` has loggers remember which levels they take, and makes those forget that it knows of; this one asks.
    `logging.disable`, by which scripts silence libraries on the terminal, does not silence the record of a run.
    """

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802
        return level >= self.level

    def findCaller(  # noqa: N802
        self, stack_info: bool = False, stacklevel: int = 1
    ) -> tuple[str, int, str, str | None]:
        """As any logger, but only where somebody may look: to walk the stack is a fifth of what a line costs."""
        if stack_info or self._shows_callers():
            return super().findCaller(stack_info, stacklevel + 1)
        return "(unknown file)", 0, "(unknown function)", None

    def _shows_callers(self) -> bool:
        """Whether anybody but log.txt in its documented form gets the records."""
        if self.parent is not None or self.filters or logging.getLogRecordFactory() is not logging.LogRecord:
            return True
        return not all(type(handler) is Journal and handler.is_plain() for handler in self.handlers)

    def getChild(self, suffix: str) -> RunLogger:  # noqa: N802
        """A logger below this one, which no registry holds either."""
        child = RunLogger(f"{self.name}.{suffix}", self.level)
        child.parent = self
        return child


def _leave_alone(handler: logging.Handler) -> None:
    """Have `logging` not flush this at its end, or whenever it is configured anew.

    It would do so under a lock that the storage's own logging needs, and wait for ever; `exits` sees to the end.
    """
    known = getattr(logging, "_handlerList", [])
    known[:] = [reference for reference in known if reference() is not handler]


def _offset(moment: float) -> str:
    """The offset of local time from UTC at a moment, as ISO 8601 has it: ``+01:00``."""
    return datetime.fromtimestamp(moment).astimezone().isoformat("T", "seconds")[19:]


class _Lines(logging.Formatter):
    """The documented form of a line. The first one, and each at which it changes, tells the offset from UTC."""

    def __init__(self) -> None:
        super().__init__(LINE, TIME)
        self._second = (-1, "")
        self._told = ""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """The time of a record, which has no fraction: most have the second of the one before."""
        second, text = self._second
        if second == int(record.created):
            return text
        second, text = int(record.created), super().formatTime(record, datefmt)
        self._second = second, text
        offset, before = _offset(record.created), self._told
        self._told = offset
        return text if offset == before else text + offset

    def format(self, record: logging.LogRecord) -> str:
        if " " in record.levelname:  # "Level 25"
            record = copy.copy(record)
            record.levelname = record.levelname.replace(" ", "-")
        if record.exc_info or record.exc_text or record.stack_info:
            return super().format(record)
        # As the class above does it, in less time.
        return f"[{self.formatTime(record, TIME)}] {record.levelname} {_logger(record)}{record.getMessage()}"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """The line of a record whose message and time are known."""
        return f"[{record.asctime}] {record.levelname} {_logger(record)}{record.message}"


def _logger(record: logging.LogRecord) -> str:
    """Who says it, where that is not the run itself, as ``solver.linear: ``."""
    name = record.name
    return "" if name in ("notata", "root") or name.startswith("notata.") else f"{name}: "
