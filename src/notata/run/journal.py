"""Write log.txt as a `logging.Handler` that appends lines to a file or object.

On storage without round trips, each line is appended at once. On other storage, lines are collected and a thread
appends them. The thread runs only while lines are pending.

Here `again` is the number of old bytes that an append sends again: a bucket replaces a small object as a whole. `RATE`
is 100 kB/s. Pending lines are appended

* when there are as many pending bytes as `again`, so that the traffic grows linearly with the log, not quadratically;
* when the oldest line is 5 s old and the last append is `again` / RATE ago (at most a minute if nothing is sent
  again), so that slow logs cost at most RATE;
* one second after a warning or an error, unless another one caused an append within the same period;
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

__all__ = ["LEVEL", "Appender", "Journal", "RunLogger", "level_of"]

LEVEL: Final = "NOTATA_LOG_LEVEL"
"""The environment variable with the default log level."""

LINE: Final = "[%(asctime)s] %(levelname)s %(message)s"
TIME: Final = "%Y-%m-%dT%H:%M:%S"

RATE: Final = 100e3  # average bytes per second that a log may send
SECONDS: Final = 5.0  # minimum time that a line is pending, to collect more lines
SOON: Final = 1.0  # seconds that a warning is pending
LONGEST: Final = 60.0  # maximum seconds between appends that send no old bytes again
FEW: Final = 64 * 2**10  # pending bytes below which the size alone never causes an append
MANY: Final = 8 * 2**20  # pending bytes that always cause an append
HELD: Final = 32 * 2**20  # maximum pending bytes; further lines are dropped
RESERVE: Final = 4 * 2**20  # additional pending bytes for warnings and errors

_INDENT: Final = "  "
_THREAD: Final = "notata-journal"
_STORAGE_THREAD: Final = "fsspecIO"
_CONTESTED: Final = 100  # attempts of an append that conflicts with other writers, such as forked children
_CONTESTED_PAUSE: Final = 2.0  # maximum seconds between two attempts, so two minutes or more in total
_MEANWHILE: Final = 3  # appends in a row, for lines that arrived during the previous one
_own = logging.getLogger("notata")


def level_of(level: int | str | None) -> int:
    """Return the number of a log level given by number or name. None means the value of `LEVEL`, else INFO.

    Raises:
        ConfigurationError: There is no such level.

    >>> level_of("warning"), level_of(15)
    (30, 15)
    """
    given = level
    if level is None:
        level = os.environ.get(LEVEL, "").strip() or logging.INFO
    known = logging.getLevelNamesMapping()
    number = int(level) if str(level).isdigit() else known.get(str(level).upper())
    if number is None:
        names = ", ".join(known)
        where = f" ({LEVEL})" if given is None else ""
        raise ConfigurationError(f"invalid log level {level!r}{where}: pass a number, or one of {names}")
    return number


class Appender(Protocol):
    """The interface that a journal appends to; `notata.store.appending.Appender` implements it."""

    @property
    def size(self) -> int: ...
    @property
    def again(self) -> int: ...
    def append(self, data: bytes) -> None: ...
    def close(self) -> None: ...


class Journal(logging.Handler):
    """The log of one run, a handler for any logger.

    Lines have the form ``[YYYY-MM-DDTHH:MM:SS] LEVEL message``, in local time and UTF-8. The first line, and each line
    at which the UTC offset changes, includes the offset: ``[2026-10-25T02:00:00+01:00]``. Messages of other loggers
    begin with the name of the logger: ``solver: stiff``. Continuation lines of a message are indented by two spaces, so
    each line that begins with ``[`` begins a message.

    `emit` never raises. If lines are collected, it never waits for the storage. Lines that cannot be stored stay
    pending and are retried. Beyond 32 MiB lines are dropped, and the log states the number of missing lines.

    Args:
        end: The appender of the file.
        at_once: Whether each line is appended separately, in the thread that logs it.
        level: The level of the handler.
        redact: Redacts secrets in a line, as storage libraries log theirs.
        is_owner: Called after another process changed the file; returns whether this writer still owns the run.
        is_displaced: Called before each line; returns whether another writer is known to own the run. If so, the line
            is ignored.
        show: Also called with each line, for the terminal.
        clock: Returns a monotonic time in seconds.
    """

    def __init__(
        self,
        end: Appender,
        *,
        at_once: bool,
        level: int = logging.INFO,
        redact: Callable[[str], str] = str,
        is_owner: Callable[[], bool] = lambda: True,
        is_displaced: Callable[[], bool] = lambda: False,
        show: Callable[[str], object] = bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(level)
        _unregister(self)
        self.setFormatter(_LineFormatter())
        self._redact = redact
        self._end = end
        self._at_once = at_once
        self._is_owner = is_owner
        self._is_displaced = is_displaced
        self._show = show
        self._clock = clock
        self._last_record = threading.local()
        self._begin()

    def _begin(self) -> None:
        """Start with no pending lines: in a new journal, and in a forked child, as the parent keeps its own lines."""
        self._pid = os.getpid()
        self._lock = threading.RLock()  # acquired directly: an interrupt in `with Condition` can leave it locked
        self._changed = threading.Condition(self._lock)
        self._storing = threading.RLock()
        self._appending: FrameType | None = None  # the call that appends; see `nesting.is_running`
        self._pending: list[bytes] = []
        self._bytes = 0
        self._chunk, self._chunk_urgent, self._goal = b"", False, -1
        self._thread: threading.Thread | None = None
        self._oldest = self._urgent_since = 0.0
        self._last = self._last_urgent = self._not_before = float("-inf")
        self._has_urgent = self._contested = self._silent = self._closing = self._timed_out = False
        self._dropped = self._failures = 0
        self._threshold = FEW

    # -- in ------------------------------------------------------------------------------------------------

    def handle(self, record: logging.LogRecord) -> bool:
        """Handle a record without a lock, as `emit` has its own, and only once if several loggers pass it on."""
        passed = self.filter(record) if self.filters else True
        if isinstance(passed, logging.LogRecord):
            record = passed
        if passed and getattr(self._last_record, "last", lambda: None)() is not record:
            self._last_record.last = weakref.ref(record)
            self.emit(record)
        return bool(passed)

    def is_plain(self) -> bool:
        """Check whether lines have the documented form, and no filter sees the records."""
        return type(self.formatter) is _LineFormatter and not self.filters

    def emit(self, record: logging.LogRecord) -> None:
        if self._silent or self._is_displaced() or self._is_own_append(record):
            return
        try:
            text = self._redact(self.format(record)).replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")
            text = text.replace("\0", "\\x00")  # grep treats a file with a NUL as binary
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
            self._enqueue(data, record.levelno >= logging.WARNING)
            if self._at_once and not self._is_stalled():
                self._try()

    def _is_stalled(self) -> bool:
        """Check whether the last append timed out recently, so that each line would wait as long."""
        return self._timed_out and self._clock() < self._not_before

    def _append_last(self, data: bytes) -> None:
        """Append a line while the interpreter ends, if that needs no other thread; else drop it.

        By then Python has stopped the threads that append lines, and those that hold a lock.
        """
        if self._at_once and self._storing.acquire(blocking=False):
            try:
                with suppress(Exception):
                    self._end.append(data)
            finally:
                self._storing.release()

    def _is_own_append(self, record: logging.LogRecord) -> bool:
        """Check whether a record comes from the journal's own appends; logging it would cause the next append."""
        if record.threadName == _THREAD:
            return True
        return bool(self._chunk) and record.threadName == _STORAGE_THREAD and record.levelno < logging.WARNING

    def _enqueue(self, data: bytes, urgent: bool) -> None:
        exits.mark_used()
        with self._lock:
            if self._silent:
                return
            held = self._bytes + len(self._chunk)
            if held and held + len(data) > HELD + (RESERVE if urgent else 0):
                self._dropped += 1
                return
            now = self._clock()
            if self._dropped:
                self._add_pending(self._missing_lines(), now)
            self._add_pending(data, now)
            must_wake = self._bytes - len(data) < self._threshold <= self._bytes
            if urgent and not self._has_urgent:
                self._has_urgent, self._urgent_since, must_wake = True, now, True
            if not self._at_once and (must_wake or self._thread is None):
                self._wake()

    def _add_pending(self, data: bytes, now: float) -> None:
        if not self._pending:
            self._oldest = now
            exits.at_exit(self._finish)
        self._pending.append(data)
        self._bytes += len(data)

    def _missing_lines(self) -> bytes:
        count, self._dropped = self._dropped, 0
        missing = "1 line is missing" if count == 1 else f"{count} lines are missing"
        moment = time.time()  # with the UTC offset, as the line that included it may be missing
        local = f"{time.strftime(TIME, time.localtime(moment))}{_offset(moment)}"
        line = f"[{local}] WARNING notata: {missing} here; they could not be stored\n"
        return line.encode()

    def _wake(self) -> None:
        """Start the thread that appends, or let it check the time of the next append again."""
        if self._thread is not None:
            self._changed.notify_all()
            return
        with suppress(RuntimeError):  # the interpreter is ending, and `_finish` will store the lines
            self._thread = start_thread(self._work, _THREAD)

    # -- when ----------------------------------------------------------------------------------------------

    def _next_append(self) -> float:
        """Return the time of the next append, in the past if it is due. The caller holds the lock."""
        again, size = self._end.again, self._end.size
        if self._bytes >= self._threshold:
            return self._not_before
        period = max(SECONDS, again / RATE if again else min(size / RATE, LONGEST))
        due = max(self._oldest + SECONDS, self._last + period)
        if self._has_urgent:
            due = min(due, max(self._urgent_since + SOON, self._last_urgent + period))
        return max(due, self._not_before)

    def _work(self) -> None:
        """Append lines when they are due, until none are pending."""
        while True:
            with self._lock:
                while True:
                    if not (self._pending or self._chunk):
                        self._thread = None
                        return
                    seconds = self._next_append() - self._clock()
                    if seconds <= 0:
                        break
                    self._changed.wait(seconds)
            self._try()

    # -- out -----------------------------------------------------------------------------------------------

    def _append_line(self, data: bytes) -> bool:
        """Append a single line if no others are pending. If that fails, the line becomes pending.

        This is the common case on storage without round trips. It does the same as `_enqueue` and `_drain` in half the
        time.

        Returns:
            Whether the line was handled.
        """
        with self._storing:
            if self._pending or self._chunk or self._dropped or self._contested or self._silent or self._is_nested():
                return False
            exits.mark_used()
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
                self._end_append()
        if self._contested or (self._pending and not self._chunk):  # for example, a signal handler added a line
            self._try()
        return True

    def _is_nested(self) -> bool:
        """Check whether a signal handler runs within an append of this thread."""
        return self._appending is not None and is_running(self._appending)

    def _end_append(self) -> None:
        """Finish an append in this thread."""
        self._appending = None
        if self._closing:
            self._end.close()

    def flush(self) -> None:
        """Store the pending lines.

        Raises:
            StorageError: They could not be stored. They stay pending and are retried.
        """
        if os.getpid() != self._pid:
            self._begin()
        if sys.is_finalizing():
            if self._pending or self._chunk:
                raise StorageError("cannot store pending log lines: the interpreter is ending. Call flush() earlier")
            return
        self._drain()

    def _try(self) -> None:
        """Store the pending lines, or keep them if that fails."""
        was_silent = self._silent
        try:
            self._drain()
        except Exception as error:
            self._failed(error)
        if self._silent and not was_silent:
            self._warn("another writer took over a run, or it was moved or deleted; further log lines are discarded")

    def _failed(self, error: Exception) -> None:
        """Increase the pause after each failure, and log a warning after the first one."""
        with self._lock:
            self._failures += 1
            self._timed_out = isinstance(error, DeadlineError)
            self._not_before = self._clock() + min(SECONDS * 2 ** min(self._failures - 1, 9), LONGEST)
        if self._failures == 1:
            self._warn(f"cannot store log.txt now, it will be retried: {error}")

    def _warn(self, what: str) -> None:
        with suppress(Exception):  # a foreign logging handler must not end this thread
            _own.warning("notata: %s", what)

    def _drain(self) -> None:
        """Append the remaining chunk of an earlier attempt, then the pending lines."""
        with self._storing:
            if self._is_nested():  # the interrupted append continues afterwards, and includes these lines
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
                self._end_append()

    def _store(self) -> None:
        """Append the chunk. Each attempt sends the same bytes, so that an append whose reply was lost is detected."""
        for last in attempts(_CONTESTED, longest=_CONTESTED_PAUSE):
            if not self._chunk or self._check_owner():
                return
            if self._end.size == self._goal:  # it was appended, and an interrupt came before `_stored`
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

    def _check_owner(self) -> bool:
        """Check whether the journal is silent. After a conflict, first silence it if another writer owns the run."""
        if self._contested and not self._is_owner():
            self.silence()
        self._contested = False
        return self._silent

    def _stored(self) -> None:
        with self._lock:
            self._chunk = b""
            self._failures, self._not_before, self._timed_out = 0, float("-inf"), False
            if not self._at_once:
                self._last = self._clock()
                if self._chunk_urgent:
                    self._last_urgent = self._last
                self._threshold = min(MANY, max(FEW, self._end.again or self._end.size // 2))
            if not self._pending:
                exits.forget(self._finish)
                self._changed.notify_all()  # the thread can end

    def _fill(self) -> None:
        """Make the pending lines the next chunk, unless there is one."""
        with self._lock:
            if self._dropped and not self._silent:
                self._add_pending(self._missing_lines(), self._clock())
            if self._chunk:
                return
            self._chunk_urgent, self._has_urgent, self._goal = self._has_urgent, False, -1
            count = len(self._pending)
            chunk = b"".join(self._pending[:count])
            left = self._bytes - len(chunk)
            # In one statement, as a signal handler may add a line before, and raise.
            self._chunk, self._pending, self._bytes = chunk, self._pending[count:], left

    def _finish(self) -> None:
        """Store the pending lines at exit."""
        if os.getpid() == self._pid:
            self.flush()

    def close(self) -> None:
        """Close the file. Later lines are still stored."""
        with self._storing:
            self._closing = True
            if not self._is_nested():
                self._end.close()
        super().close()

    def silence(self) -> None:
        """Ignore further lines and discard pending ones, because another writer owns the run."""
        with self._lock:
            self._silent = True
            self._pending, self._bytes, self._chunk = [], 0, b""
            exits.forget(self._finish)
            self._changed.notify_all()


class RunLogger(logging.Logger):
    """A logger that is in no registry of `logging`, so it disappears with its run.

    Registered loggers cache their enabled levels, and `logging` clears these caches. This logger has no cache.
    `logging.disable`, which scripts use to silence libraries on the terminal, does not affect it.
    """

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802
        return level >= self.level

    def findCaller(  # noqa: N802
        self, stack_info: bool = False, stacklevel: int = 1
    ) -> tuple[str, int, str, str | None]:
        """Find the caller only if a handler or filter may use it. Walking the stack takes a fifth of a line's time."""
        if stack_info or self._shows_callers():
            return super().findCaller(stack_info, stacklevel + 1)
        return "(unknown file)", 0, "(unknown function)", None

    def _shows_callers(self) -> bool:
        """Check whether anything besides log.txt in its documented form uses the records."""
        if self.parent is not None or self.filters or logging.getLogRecordFactory() is not logging.LogRecord:
            return True
        return not all(type(handler) is Journal and handler.is_plain() for handler in self.handlers)

    def getChild(self, suffix: str) -> RunLogger:  # noqa: N802
        """Return a child logger that is in no registry either."""
        child = RunLogger(f"{self.name}.{suffix}", self.level)
        child.parent = self
        return child


def _unregister(handler: logging.Handler) -> None:
    """Prevent `logging` from flushing a handler at shutdown or reconfiguration.

    It holds a lock during the flush that the logging of the storage library needs, which is a deadlock. `exits` flushes
    the handler at exit instead.
    """
    known = getattr(logging, "_handlerList", [])
    known[:] = [reference for reference in known if reference() is not handler]


def _offset(moment: float) -> str:
    """Return the UTC offset of local time at a moment in ISO 8601 form: ``+01:00``."""
    return datetime.fromtimestamp(moment).astimezone().isoformat("T", "seconds")[19:]


class _LineFormatter(logging.Formatter):
    """Formatter of log lines. The first line, and each line at which the UTC offset changes, includes the offset."""

    def __init__(self) -> None:
        super().__init__(LINE, TIME)
        self._second = (-1, "")
        self._offset_shown = ""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        """Return the time of a record in whole seconds; cached, as most records share the previous second."""
        second, text = self._second
        if second == int(record.created):
            return text
        second, text = int(record.created), super().formatTime(record, datefmt)
        self._second = second, text
        offset, before = _offset(record.created), self._offset_shown
        self._offset_shown = offset
        return text if offset == before else text + offset

    def format(self, record: logging.LogRecord) -> str:
        if " " in record.levelname:  # "Level 25"
            record = copy.copy(record)
            record.levelname = record.levelname.replace(" ", "-")
        if record.exc_info or record.exc_text or record.stack_info:
            return super().format(record)
        # The same result as logging.Formatter.format, but faster.
        return f"[{self.formatTime(record, TIME)}] {record.levelname} {_logger(record)}{record.getMessage()}"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Return the line of a record whose message and time are set."""
        return f"[{record.asctime}] {record.levelname} {_logger(record)}{record.message}"


def _logger(record: logging.LogRecord) -> str:
    """Return the prefix with the name of another logger, such as ``solver.linear: ``; empty for the run's own."""
    name = record.name
    return "" if name in ("notata", "root") or name.startswith("notata.") else f"{name}: "
