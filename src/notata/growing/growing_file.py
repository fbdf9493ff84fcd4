"""Grow a file line by line: collect lines, and append them when they are due.

A line passes through these places, in this order:

1. *pending*, in `GrowingFile`: it waits until it is due;
2. *in flight*, in a `Chunk`: it is being appended together with others. If that fails, the chunk stays in flight and is
   retried with the same bytes;
3. *stored* in the file.

If too many bytes wait, a line is *dropped* instead and counted. If another writer owns the file, lines are ignored.

On storage without round trips (a disk, memory), the call that writes a line also appends it, and the line is never
pending. Only if other lines wait, because an append failed or is being made, the line waits with them.

On other storage a thread appends the lines; it runs only while lines are pending. `Schedule` decides when. Here `again`
is the number of old bytes that an append sends again: a bucket replaces a small object as a whole. Pending lines are
appended

* when there are as many pending bytes as `again` (or as half of the file, if nothing is sent again; from 64 KiB to 8
  MiB), so that the traffic grows linearly with the file, not quadratically;
* when the oldest line is 5 s old, and the last append was `again` / 100 kB/s ago, so that appends send at most 100 kB/s
  again. If nothing is sent again, the pause grows with the size of the file, to at most a minute;
* one second after an urgent line, unless another urgent line caused an append within the same pause;
* on `flush`.

After a failure, the pause grows from 5 s to a minute.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from itertools import count
from types import FrameType
from typing import Final, Protocol, cast

from notata._base import exits
from notata._base.nesting import is_running
from notata._base.processes import ForkCheck
from notata._base.retries import attempts
from notata._base.threads import Bell
from notata.errors import ConflictError, DeadlineError, StorageError
from notata.growing.append_thread import AppendThread
from notata.growing.overflow import Overflow, Pieces

__all__ = ["Appender", "Chunk", "GrowingFile", "Schedule", "State"]

RATE: Final = 100e3  # average bytes per second that a file may send
SECONDS: Final = 5.0  # minimum time that a line is pending, to collect more lines
SOON: Final = 1.0  # seconds that an urgent line is pending
LONGEST: Final = 60.0  # maximum seconds between appends that send no old bytes again
FEW: Final = 64 * 2**10  # pending bytes below which the size alone never causes an append
MANY: Final = 8 * 2**20  # pending bytes that always cause an append
IN_MEMORY: Final = 4 * 2**20  # pending bytes in memory, of a file with an overflow
LARGEST: Final = 32 * 2**20  # bytes that are appended at once to a file with an overflow
HELD: Final = 32 * 2**20  # maximum pending bytes; further lines are dropped
RESERVE: Final = 4 * 2**20  # additional pending bytes for urgent lines

_CONTESTED: Final = 100  # attempts of an append that conflicts with other writers, such as forked children
_CONTESTED_PAUSE: Final = 2.0  # maximum seconds between two attempts, so two minutes or more in total
_MEANWHILE: Final = 3  # appends in a row, for lines that arrived during the previous one
_RETRY: Final = 0.2  # seconds between two attempts of a writer that waits
_NEVER: Final = float("-inf")
_UNSENT: Final = -1
_own = logging.getLogger("notata")


class Appender(Protocol):
    """The interface of the file; `notata.store.appending.Appender` implements it."""

    @property
    def size(self) -> int: ...
    @property
    def again(self) -> int: ...
    def append(self, data: bytes) -> None: ...
    def close(self) -> None: ...


class State(Enum):
    """The state of a growing file."""

    OPEN = "open"
    """Lines are stored."""

    CLOSED = "closed"
    """Lines are still stored, and the file is closed again after each append."""

    DISPLACED = "displaced"
    """Another writer owns the file: lines are ignored."""


class Schedule:
    """Decides when the next append is due, from sizes and times alone.

    >>> schedule = Schedule()
    >>> schedule.add(100.0, pending=0, size=30)
    False
    >>> schedule.next_append(30, again=0, size=0)
    105.0
    """

    def __init__(self, most: int = MANY) -> None:
        self._most = most  # pending bytes that always cause an append
        self._oldest = 0.0
        self._urgent_since: float | None = None  # the oldest urgent line
        self._last = self._last_urgent = _NEVER  # the last append, and the last one that an urgent line caused
        self._threshold = FEW
        self._not_before = _NEVER
        self._failures = 0
        self._timed_out = False

    def add(self, now: float, *, pending: int, size: int, urgent: bool = False) -> bool:
        """Take a line into account. Return whether the next append may now be due earlier.

        Args:
            now: The time.
            pending: The bytes that are already pending.
            size: The bytes of the line.
            urgent: Whether the line is a warning or an error.
        """
        if not pending:
            self._oldest = now
        is_first_urgent = urgent and self._urgent_since is None
        if is_first_urgent:
            self._urgent_since = now
        return is_first_urgent or pending < self._threshold <= pending + size

    def next_append(self, pending: int, *, again: int, size: int) -> float:
        """Return the time of the next append, in the past if it is due.

        Args:
            pending: The pending bytes.
            again: The bytes of the file that the append sends again.
            size: The bytes of the file.
        """
        if pending >= self._threshold:
            return self._not_before
        period = max(SECONDS, again / RATE if again else min(size / RATE, LONGEST))
        due = max(self._oldest + SECONDS, self._last + period)
        if self._urgent_since is not None:
            due = min(due, max(self._urgent_since + SOON, self._last_urgent + period))
        return max(due, self._not_before)

    def take(self) -> bool:
        """Begin with the lines that come after those in flight. Return whether there is an urgent line among these."""
        urgent, self._urgent_since = self._urgent_since is not None, None
        return urgent

    def appended(self, now: float, *, urgent: bool, again: int, size: int) -> None:
        """Take a successful append into account; `again` and `size` as for `next_append`."""
        self.recovered()
        self._last = now
        if urgent:
            self._last_urgent = now
        self._threshold = min(self._most, max(FEW, again or size // 2))

    def recovered(self) -> None:
        """Forget earlier failures."""
        self._failures, self._not_before, self._timed_out = 0, _NEVER, False

    def failed(self, now: float, error: Exception) -> bool:
        """Increase the pause after each failure. Return whether it is the first one."""
        self._failures += 1
        self._timed_out = isinstance(error, DeadlineError)
        self._not_before = now + min(SECONDS * 2 ** min(self._failures - 1, 9), LONGEST)
        return self._failures == 1

    def is_stalled(self, now: float) -> bool:
        """Check whether the last append timed out recently, so that each line would wait as long."""
        return self._timed_out and now < self._not_before


class Chunk:
    """Lines that are appended together, exactly once.

    Each attempt sends the same bytes, so that the appender detects an append whose reply was lost. The size of the file
    shows that an append took effect before an interrupt.

    Attributes:
        data: The lines.
        urgent: Whether one of them is urgent.
        is_contested: Whether another process changed the file before the append, perhaps the new owner of the run.
    """

    __slots__ = ("_goal", "data", "is_contested", "urgent")

    def __init__(self, data: bytes, urgent: bool = False) -> None:
        self.data = data
        self.urgent = urgent
        self.is_contested = False
        self._goal = _UNSENT  # the size of the file after the append

    def close(self) -> None:
        """Remove the file with the lines, if they are on a disk."""
        if isinstance(self.data, Pieces):
            self.data.close()

    def send(self, file: Appender) -> None:
        """Append the lines, unless an earlier attempt has done so.

        Raises:
            ConflictError: Another process changed the file; the chunk is contested now.
        """
        if file.size == self._goal:
            return
        self._goal = file.size + len(self.data)
        try:
            file.append(self.data)
        except ConflictError:
            self.is_contested, self._goal = True, _UNSENT
            raise

    def store(self, file: Appender, is_owner: Callable[[], bool]) -> bool:
        """Append the lines, and retry after changes of other processes. Return False if another writer owns the file.

        Args:
            file: The file.
            is_owner: Called if the chunk is contested; returns whether this writer still owns the file.
        """
        if not self.is_contested:  # the usual case
            try:
                self.send(file)
                return True
            except ConflictError:
                pass
        for last in attempts(_CONTESTED, longest=_CONTESTED_PAUSE):
            if self.is_contested and not is_owner():
                return False
            self.is_contested = False
            try:
                self.send(file)
                break
            except ConflictError:
                if last:
                    raise
        return True


class GrowingFile:
    """A file to which lines are appended, at once or a thread collects them.

    Safe to use from many threads, signal handlers and forked children. A child starts without lines, as the parent
    keeps its own.

    Args:
        file: The appender of the file.
        name: The name of the file in messages.
        at_once: Whether each line is appended separately, in the thread that writes it.
        is_owner: Called after another process changed the file; returns whether this writer still owns it.
        missing: Returns the line that states the number of dropped lines.
        clock: Returns a monotonic time in seconds.
        thread: The thread that appends the lines; by default one of its own.
        overflow: Where lines wait beyond `IN_MEMORY` bytes; then fewer and larger appends are made. A writer that uses
            it calls `wait` before the temporary folder is full.
        in_pieces: Whether the appender takes slices of its data, so that an append can be larger than the memory.

    Attributes:
        state: Whether lines are stored.
    """

    def __init__(
        self,
        file: Appender,
        name: str,
        *,
        at_once: bool,
        is_owner: Callable[[], bool] = lambda: True,
        missing: Callable[[int], bytes] = lambda count: b"",
        clock: Callable[[], float] = time.monotonic,
        thread: AppendThread | None = None,
        overflow: Overflow | None = None,
        in_pieces: bool = False,
    ) -> None:
        self._in_pieces = in_pieces
        self._overflow = overflow
        self._file, self._name, self._at_once = file, name, at_once
        self._is_owner, self._missing, self._clock = is_owner, missing, clock
        self._thread = AppendThread() if thread is None else thread
        self._fork = ForkCheck()
        self._begin()

    def _begin(self) -> None:
        """Start without lines: in a new object, and in a forked child."""
        self._lock = threading.RLock()  # for the lines; held for moments
        self._storing = threading.RLock()  # for the file; held during an append
        self._appending: FrameType | None = None  # the call that appends; see `nesting.is_running`
        self._pending = bytearray()
        self._in_flight: Chunk | None = None
        self._dropped = 0
        if self._overflow is not None:
            self._overflow = Overflow()
        self._schedule = Schedule(MANY if self._overflow is None else LARGEST)
        self._room: Bell | None = None  # rung when pending lines are stored or discarded
        self.state = State.OPEN

    # -- in ------------------------------------------------------------------------------------------------

    def write(self, line: bytes, *, urgent: bool = False) -> None:
        """Add a line. Never raises an error of the storage, and waits for the storage only if lines are stored at once.

        Args:
            line: The line, with its line end.
            urgent: Whether it is stored within a second.
        """
        self._fork.when_forked(self._begin)
        if sys.is_finalizing():
            self._append_last(line)
        elif not (self._at_once and self._append_alone(line, urgent)):
            self._add(line, urgent)
            if self._at_once and not self._schedule.is_stalled(self._clock()):
                self.try_append()

    @property
    def pending_bytes(self) -> int:
        """The bytes that are pending or in flight."""
        chunk = self._in_flight
        beyond = 0 if self._overflow is None else self._overflow.size
        return len(self._pending) + beyond + (0 if chunk is None else len(chunk.data))

    @property
    def _waiting(self) -> int:
        """The bytes that are pending, in memory and beyond it."""
        return len(self._pending) + (0 if self._overflow is None else self._overflow.size)

    def wait(self, most: int, seconds: float) -> bool:
        """Wait until at most `most` bytes are pending or in flight, or for some seconds; return whether it is so.

        For a writer that must not lose lines: it waits before `write` would drop one. On storage without round trips,
        lines that could not be stored are retried here.
        """
        end = self._clock() + seconds
        bell = self._room = Bell()
        try:
            while self.pending_bytes > most and not self.is_displaced:
                if self._at_once and not self._schedule.is_stalled(self._clock()):
                    self.try_append()
                left = end - self._clock()
                if left <= 0:
                    break
                if self.pending_bytes > most:
                    bell.wait(min(left, _RETRY) if self._at_once else left)
        finally:
            self._room = None
        return self.pending_bytes <= most or self.is_displaced

    @property
    def is_displaced(self) -> bool:
        """True if another writer owns the file, so that lines are ignored."""
        return self.state is State.DISPLACED

    @property
    def is_crammed(self) -> bool:
        """True if the disk of the overflow is full, so that lines wait in memory beyond `IN_MEMORY`."""
        return self._overflow is not None and self._overflow.is_crammed

    @property
    def has_overflow(self) -> bool:
        """True if lines wait on a disk beyond `IN_MEMORY`."""
        return self._overflow is not None

    @property
    def is_in_flight(self) -> bool:
        """True if lines are being appended, or were and it failed."""
        return self._in_flight is not None

    def _append_alone(self, line: bytes, urgent: bool) -> bool:
        """Append a line that need not be pending first, in half the time. Return False if it must be.

        If the append fails, the line stays in flight, as in `try_append`.
        """
        with self._storing:
            if self._pending or self._in_flight or self._dropped or self.state is State.DISPLACED or self._is_nested():
                return False
            exits.mark_used()
            self._appending = sys._getframe()
            try:
                exits.at_exit(self._finish)
                self._in_flight = Chunk(line, urgent)
                self._store()
            except Exception as error:
                self._failed(error)
            finally:
                self._end_append()
        if self.is_displaced:
            self._warn_of_displacement()
        elif self._pending and not self._in_flight:  # a signal handler wrote a line meanwhile
            self.try_append()
        return True

    def _append_last(self, line: bytes) -> None:
        """Append a line while the interpreter ends, if that needs no other thread; else drop it.

        By then Python has stopped the threads that append lines, and those that hold a lock.
        """
        if self._at_once and self._storing.acquire(blocking=False):
            try:
                with suppress(Exception):
                    self._file.append(line)
            finally:
                self._storing.release()

    def _add(self, line: bytes, urgent: bool) -> None:
        """Make a line pending, or drop it."""
        exits.mark_used()
        with self._lock:
            if self.state is State.DISPLACED:
                return
            waiting = self.pending_bytes
            if self._overflow is not None and self._overflows(line):
                is_earlier = not waiting
            else:
                if self._overflow is None and waiting and waiting + len(line) > HELD + (RESERVE if urgent else 0):
                    self._dropped += 1
                    return
                self._add_missing()
                is_earlier = self._add_pending(line, urgent) or not waiting
        if not self._at_once and (is_earlier or not self._thread.serves(self)):
            self._thread.wake(self)

    def _overflows(self, line: bytes) -> bool:
        """Add a line to the overflow if the memory is full. Return False if it is not."""
        overflow = self._overflow
        if overflow is None or not (overflow.size or len(self._pending) + len(line) > IN_MEMORY):
            return False
        before = self._waiting
        overflow.add(line)
        exits.at_exit(self._finish)
        self._schedule.add(self._clock(), pending=before, size=len(line))
        return True

    def _add_missing(self) -> None:
        if self._dropped:
            count, self._dropped = self._dropped, 0
            self._add_pending(self._missing(count))

    def _add_pending(self, line: bytes, urgent: bool = False) -> bool:
        """Make a line pending. Return whether the next append may now be due earlier. The caller holds the lock."""
        if not self._pending:
            exits.at_exit(self._finish)
        is_earlier = self._schedule.add(self._clock(), pending=len(self._pending), size=len(line), urgent=urgent)
        self._pending += line
        return is_earlier

    # -- when ----------------------------------------------------------------------------------------------

    def seconds_left(self) -> float | None:
        """Return the seconds until the next append, not positive if it is due; None if no lines are pending."""
        with self._lock:
            if not (self._waiting or self._in_flight):
                return None
            due = self._schedule.next_append(self._waiting, again=self._file.again, size=self._file.size)
            return due - self._clock()

    # -- out -----------------------------------------------------------------------------------------------

    def _is_nested(self) -> bool:
        """Check whether a signal handler runs within an append of this thread."""
        return self._appending is not None and is_running(self._appending)

    def _end_append(self) -> None:
        """Finish an append in this thread."""
        self._appending = None
        if self.state is not State.OPEN:
            self._file.close()

    def flush(self) -> None:
        """Store the pending lines.

        Raises:
            StorageError: They could not be stored. They stay pending and are retried.
        """
        self._fork.when_forked(self._begin)
        if not sys.is_finalizing():
            self._drain()
        elif self._waiting or self._in_flight:
            raise StorageError("cannot store pending log lines: the interpreter is shutting down. Call flush() earlier")

    def try_append(self) -> None:
        """Store the pending lines, or keep them if that fails."""
        before = self.state
        try:
            self._drain()
        except Exception as error:
            self._failed(error)
        if self.state is State.DISPLACED and before is not State.DISPLACED:
            self._warn_of_displacement()

    def _warn_of_displacement(self) -> None:
        self._warn("another writer took over the run, or the run was moved or deleted; further log lines are discarded")

    def _failed(self, error: Exception) -> None:
        """Log a warning after the first failure."""
        with self._lock:
            is_first = self._schedule.failed(self._clock(), error)
        if is_first:
            self._warn(f"cannot store {self._name} now; notata will try again: {error}")

    def _warn(self, what: str) -> None:
        with suppress(Exception):  # a foreign logging handler must not end this thread
            _own.warning("notata: %s", what)

    def _drain(self) -> None:
        """Append the lines in flight since an earlier attempt, then the pending lines."""
        with self._storing:
            if self._is_nested():  # the interrupted append continues afterwards, and includes these lines
                return
            self._appending = sys._getframe()
            try:
                self._store()
                left = self._waiting
                for number in count():
                    if number >= (_MEANWHILE if self._at_once else 1) and left <= 0:
                        break
                    self._fill()
                    if self._in_flight is None:
                        break
                    left -= len(self._in_flight.data)
                    self._store()
            finally:
                self._end_append()

    def _fill(self) -> None:
        """Make the pending lines the next chunk, unless there is one."""
        with self._lock:
            self._add_missing()
            if self._in_flight is None and self._overflow is not None and self._overflow.size:
                self._in_flight, self._pending = Chunk(self._taken(self._overflow)), bytearray()
                self._schedule.take()
            elif self._in_flight is None and self._pending:
                chunk = Chunk(bytes(self._pending), self._schedule.take())
                size = len(chunk.data)
                # In one statement, as a signal handler may add a line before, and raise.
                self._in_flight, self._pending = chunk, self._pending[size:]

    def _taken(self, overflow: Overflow) -> bytes:
        """Take the pending lines and those of the overflow: all that are on the disk, if the appender reads pieces."""
        is_large = self._in_pieces and self._file.size >= MANY and overflow.size > LARGEST
        if is_large and not overflow.is_crammed:
            return cast("bytes", overflow.take_all(bytes(self._pending)))  # only slices of it are used
        return bytes(self._pending) + overflow.take(LARGEST - len(self._pending))

    def _store(self) -> None:
        """Append the lines in flight."""
        chunk = self._in_flight
        if chunk is None:
            return
        if chunk.store(self._file, self._is_owner):
            self._stored(chunk)
        else:
            self.displace()

    def _stored(self, chunk: Chunk) -> None:
        with self._lock:
            if self._at_once:
                self._schedule.recovered()
            else:
                size, again = self._file.size, self._file.again
                self._schedule.appended(self._clock(), urgent=chunk.urgent, again=again, size=size)
            self._in_flight = None
            if self._overflow is not None:
                chunk.close()
            if not self._pending and (self._overflow is None or not self._overflow.size):
                exits.forget(self._finish)
                self._thread.ring()
        if self._room is not None:
            self._ring_room()

    def _ring_room(self) -> None:
        if (bell := self._room) is not None:
            bell.ring()

    # -- end -----------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """Store the pending lines at exit."""
        if not self._fork.is_forked():
            self.flush()

    def close(self) -> None:
        """Close the file. Later lines are still stored."""
        with self._storing:
            if self.state is State.OPEN:
                self.state = State.CLOSED
            if not self._is_nested():
                self._file.close()

    def displace(self) -> None:
        """Ignore further lines and discard pending ones, because another writer owns the file."""
        with self._lock:
            if self._in_flight is not None:
                self._in_flight.close()
            self.state = State.DISPLACED
            self._pending, self._in_flight, self._dropped = bytearray(), None, 0
            if self._overflow is not None:
                self._overflow.clear()
            exits.forget(self._finish)
            self._thread.ring()
        self._ring_room()
