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
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from notata import exits
from notata.errors import ConflictError

__all__ = ["Growing", "Journal", "RunLogger"]

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
_own = logging.getLogger("notata")


class Growing(Protocol):
    """What a journal is written to: `notata.store.appending.Appender`."""

    @property
    def size(self) -> int: ...
    @property
    def again(self) -> int: ...
    @property
    def last(self) -> bytes: ...
    def append(self, data: bytes) -> None: ...


class Journal(logging.Handler):
    """The log of one run, which any logger may be given as a handler.

    Lines have the form ``[YYYY-MM-DDTHH:MM:SS] LEVEL message``, in local time and UTF-8. A message of several lines
    goes on in lines that are indented by two spaces, so each line that begins with ``[`` begins a message.

    `emit` never waits for the storage where lines are collected, and never raises. What cannot be stored is kept and
    tried again; beyond 32 MiB lines are dropped, and the log says how many, where they are missing.

    Args:
        end: Where bytes are appended.
        at_once: Whether each line is appended by itself, in the thread that logs it.
        level: As for any handler.
        redact: Takes secrets out of tracebacks.
        mine: Asked when somebody else changed the file: whether this run still is this writer's.
        lost: Asked before each line: whether the run is known to be another's, so that nothing more is to be written.
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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(level)
        self.setFormatter(_Lines(redact))
        self._end = end
        self._at_once = at_once
        self._mine = mine
        self._lost = lost
        self._clock = clock
        self._begin()
        if end.last not in (b"", b"\n"):  # whoever wrote it died within a line
            self._waiting.append(b"\n")
            self._bytes += 1

    def _begin(self) -> None:
        """Start with nothing to store: at first, and in a forked child, whose parent keeps what waits."""
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._storing = threading.RLock()
        self._waiting: list[bytes] = []
        self._bytes = 0
        self._chunk = b""
        self._thread: threading.Thread | None = None
        self._oldest = self._hasty = 0.0
        self._last = self._last_hasty = self._not_before = float("-inf")
        self._has_hasty = self._contested = self._closed = False
        self._dropped = self._failures = 0
        self._enough = FEW

    # -- in ------------------------------------------------------------------------------------------------

    def emit(self, record: logging.LogRecord) -> None:
        if self._closed or self._lost() or self._echo(record):
            return
        try:
            text = self.format(record).replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")
            data = (text.replace("\n", f"\n{_INDENT}") + "\n").encode("utf-8", "backslashreplace")
        except Exception:
            self.handleError(record)
            return
        if os.getpid() != self._pid:
            self._begin()
        self._take(data, record.levelno >= logging.WARNING)
        if self._at_once:
            self._try()

    def _echo(self, record: logging.LogRecord) -> bool:
        """Whether it tells of this journal's own appends: a log of those would feed on itself."""
        thread = self._thread
        return thread is not None and bool(self._chunk) and record.threadName in (thread.name, "fsspecIO")

    def _take(self, data: bytes, hasty: bool) -> None:
        with self._changed:
            if self._bytes + len(self._chunk) + len(data) > HELD + (RESERVE if hasty else 0):
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
        stamp = time.strftime(TIME)
        return f"[{stamp}] WARNING notata: {count} lines are missing here; the storage did not take them\n".encode()

    def _wake(self) -> None:
        """Have a thread that appends, and look at the clock again where that may have come nearer."""
        if self._thread is not None:
            self._changed.notify_all()
            return
        thread = threading.Thread(target=self._work, name="notata-journal", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is ending: `_finish` comes
            return
        self._thread = thread

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
            with self._changed:
                while True:
                    if not (self._waiting or self._chunk) or os.getpid() != self._pid:
                        self._thread = None
                        return
                    seconds = self._due() - self._clock()
                    if seconds <= 0:
                        break
                    self._changed.wait(seconds)
            self._try()

    # -- out -----------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Store what waits, now.

        Raises:
            StorageError: It could not be stored; it is kept, and tried again.
        """
        if os.getpid() != self._pid:
            self._begin()
        with self._storing:
            while self._pending():
                self._store()

    def _pending(self) -> bool:
        with self._changed:
            if self._dropped and not self._closed:
                self._put(self._gap(), self._clock())
            return bool(self._waiting or self._chunk)

    def _try(self) -> None:
        """Append, and say afterwards what came of it: whoever hears it may want this handler's lock."""
        said = None
        with self._storing:
            was_closed = self._closed
            try:
                self._store()
                while self._at_once and self._pending():
                    self._store()
            except Exception as error:
                said = self._failed(error)
            else:
                self._failures = 0
                if self._closed and not was_closed:
                    said = "another writer has this run by now: its log takes no more lines from here"
        if said:
            _own.warning(said)

    def _failed(self, error: Exception) -> str | None:
        """Keep what could not be stored, and wait longer each time; what to say of the first time."""
        self._failures += 1
        self._not_before = self._clock() + min(SECONDS * 2 ** min(self._failures - 1, 9), LONGEST)
        return None if self._failures > 1 else f"log.txt waits to be stored, which will be tried again: {error}"

    def _store(self) -> None:
        """Append once. The same bytes are tried until they are stored, so that a lost reply is known for what it is."""
        if self._contested:
            if not self._mine():
                self.close()
                return
            self._contested = False
        hasty = self._fill()
        if not self._chunk:
            return
        try:
            self._end.append(self._chunk)
        except ConflictError:
            self._contested = True
            return
        with self._changed:
            self._chunk = b""
            self._last = self._clock()
            if hasty:
                self._last_hasty = self._last
            self._enough = min(MANY, max(FEW, self._end.again or self._end.size // 2))
            if not self._waiting:
                exits.forget(self._finish)

    def _fill(self) -> bool:
        """Take what waits as the next chunk, unless there is one; whether a warning is in it."""
        with self._changed:
            if self._chunk:
                return False
            waiting, self._waiting = self._waiting, []
            hasty, self._has_hasty = self._has_hasty, False
            self._chunk = b"".join(waiting)
            self._bytes -= len(self._chunk)
            return hasty

    def _finish(self) -> None:
        """At exit."""
        if os.getpid() == self._pid:
            self.flush()

    def close(self) -> None:
        """Take no more lines, and drop what waits: what is to be kept is flushed before."""
        with self._changed:
            self._closed = True
            self._waiting, self._bytes, self._chunk = [], 0, b""
            exits.forget(self._finish)
        super().close()


class RunLogger(logging.Logger):
    """A logger that no registry holds, so that nothing of it is left when the run is gone.

    `logging` has loggers remember which levels they take, and makes those forget that it knows of; this one asks.
    """

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802
        return self.manager.disable < level and level >= self.level


class _Lines(logging.Formatter):
    """The documented form of a line."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        super().__init__(LINE, TIME)
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        if record.exc_info or " " in record.levelname:  # "Level 25"; and what other handlers made of the traceback
            record = copy.copy(record)
            record.exc_text = None
            record.levelname = record.levelname.replace(" ", "-")
        return super().format(record)

    def formatException(self, ei: object) -> str:  # noqa: N802
        return self._redact(super().formatException(ei))  # type: ignore[arg-type]
