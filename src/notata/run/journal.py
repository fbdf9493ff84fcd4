"""Write log.txt: a `logging.Handler` that formats lines and gives them to a `GrowingFile`, which stores them.

`notata.run.growing` describes where a line waits, and when it is stored.
"""

from __future__ import annotations

import copy
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from notata._base import keys
from notata.errors import ConfigurationError
from notata.growing import THREAD, Appender, AppendThread, GrowingFile, State

__all__ = ["LEVEL", "Journal", "RunLogger", "level_of"]

LEVEL: Final = "NOTATA_LOG_LEVEL"
"""The environment variable with the default log level."""

LINE: Final = "[%(asctime)s] %(levelname)s %(message)s"
TIME: Final = "%Y-%m-%dT%H:%M:%S"

_INDENT: Final = "  "
_STORAGE_THREAD: Final = "fsspecIO"


def level_of(level: int | str | None) -> int:
    """Return the number of a log level given by number or name. None means the value of `LEVEL`, else INFO.

    Raises:
        ConfigurationError: There is no such level.

    >>> level_of("warning"), level_of(15)
    (30, 15)
    """
    if type(level) is int and level >= 0:
        return level
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
        is_owner: Called after another process changed log.txt; returns whether this writer still owns the run.
        is_displaced: Called before each line; returns whether another writer is known to own the run. If so, the line
            is ignored.
        show: Also called with each line, for the terminal.
        clock: Returns a monotonic time in seconds.
        thread: The thread that appends the lines; by default one of its own.

    Attributes:
        file: The file that the lines are appended to.
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
        thread: AppendThread | None = None,
    ) -> None:
        super().__init__(level)
        _unregister(self)
        self._plain_formatter = _LineFormatter()
        self.setFormatter(self._plain_formatter)
        self.file = GrowingFile(
            end, keys.LOG, at_once=at_once, is_owner=is_owner, missing=_missing_line, clock=clock, thread=thread
        )
        self._redact = redact
        self._is_displaced = is_displaced
        self._show = show
        self._last_record = threading.local()

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
        return self.formatter is self._plain_formatter and not self.filters

    def emit(self, record: logging.LogRecord) -> None:
        if self._ignores(record.threadName, record.levelno):
            return
        try:
            line = self._line(self.format(record))
        except Exception:
            self.handleError(record)
            return
        self._write(line, record.levelno)

    def write_line(self, level: int, msg: object, args: tuple[object, ...]) -> bool:
        """Write the line of a message in its documented form, without a record, in two thirds of the time.

        Returns:
            False if the message cannot be formatted; `logging` reports that for a record.
        """
        if self._ignores(threading.current_thread().name, level):
            return True
        try:
            text = str(msg)
            if args:  # as in `logging.LogRecord`
                text %= args[0] if len(args) == 1 and isinstance(args[0], Mapping) and args[0] else args
            name = logging.getLevelName(level).replace(" ", "-")
            line = self._line(f"[{self._plain_formatter.time_text(time.time())}] {name} {text}")
        except Exception:
            return False
        self._write(line, level)
        return True

    def _ignores(self, thread: str | None, level: int) -> bool:
        """Check whether a line is ignored: of a displaced writer, or about the journal's own appends.

        Logging one of the latter would cause the next append.
        """
        if self.file.state is State.DISPLACED or self._is_displaced() or thread == THREAD:
            return True
        return self.file.is_in_flight and thread == _STORAGE_THREAD and level < logging.WARNING

    def _line(self, text: str) -> str:
        """Return a formatted message as it is stored, without its line end."""
        text = self._redact(text).replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")
        return text.replace("\0", "\\x00").replace("\n", f"\n{_INDENT}")  # grep treats a file with a NUL as binary

    def _write(self, line: str, level: int) -> None:
        self._show(line)
        self.file.write(f"{line}\n".encode("utf-8", "backslashreplace"), urgent=level >= logging.WARNING)

    def flush(self) -> None:
        """Store the pending lines.

        Raises:
            StorageError: They could not be stored. They stay pending and are retried.
        """
        self.file.flush()

    def close(self) -> None:
        """Close the file. Later lines are still stored."""
        self.file.close()
        super().close()


def _missing_line(count: int) -> bytes:
    """Return the line that states how many lines were dropped."""
    missing = "1 line is missing" if count == 1 else f"{count} lines are missing"
    moment = time.time()  # with the UTC offset, as the line that included it may be missing
    local = f"{time.strftime(TIME, time.localtime(moment))}{_offset(moment)}"
    return f"[{local}] WARNING notata: {missing} here; they could not be stored\n".encode()


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

    def write_line(self, level: int, msg: object, args: tuple[object, ...]) -> bool:
        """Log a message without a record. Return False if others may use its record, or it cannot be formatted."""
        if len(self.handlers) != 1 or self.disabled or self._shows_callers():
            return False
        handler = self.handlers[0]
        assert isinstance(handler, Journal)
        return level < max(self.level, handler.level) or handler.write_line(level, msg, args)

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
        return self.time_text(record.created)

    def time_text(self, moment: float) -> str:
        """Return a time as `formatTime` does."""
        second, text = self._second
        if second == int(moment):
            return text
        second, text = int(moment), time.strftime(TIME, time.localtime(moment))
        self._second = second, text
        offset, before = _offset(moment), self._offset_shown
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
