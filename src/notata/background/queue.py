"""Queue pending writes by key, send them in order, and keep the errors of lost writes.

For each key, at most one write is in progress and at most one is pending. A newer write replaces the pending one.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from notata._base import exits
from notata._base.display import listed
from notata._base.threads import Bell, start_thread
from notata.background.helper_thread import HelperThread
from notata.background.writes import ABORT, COMMIT, OVERHEAD, PART, Item, Stream, Value
from notata.errors import BatchError, DeadlineError, NotataError, StorageError, UnreachableError
from notata.store import Store
from notata.store.local import UNSTORED

__all__ = ["Lost", "Queue", "QueueStats"]

_AT_ONCE: Final = 32  # concurrent writes; the limit is 64 connections (store/s3.py)
_STREAMS: Final = 3  # concurrent parts of streams
_PATIENCE: Final = 2.0  # seconds that the end of a run waits before it logs a warning
_NAMED: Final = 5  # lost keys that a message names
_THREAD: Final = "notata-background"
_STORAGE_THREAD: Final = "fsspecIO"
_own = logging.getLogger("notata")

Lost = Callable[[str, NotataError], None]
"""Called for each failed write, in any thread; it must not wait for the storage."""


@dataclass(frozen=True, slots=True)
class QueueStats:
    """The contents of a queue at one moment.

    Attributes:
        bytes: Size of all pending writes, including 1 KiB for each of them.
        keys: Keys with a pending write, oldest first.
        prefixes: Number of keys and folders with a pending write at or below them.
        in_flight: Number of values that the storage is writing.
        streams: Number of streams with pending steps.
        active_streams: Number of streams of which the storage is writing a part.
        callers: Number of callers that wait for space.
        writes_through: Whether writes go directly to the storage, as after the end of a run.
    """

    bytes: int
    keys: tuple[str, ...]
    prefixes: int
    in_flight: int
    streams: int
    active_streams: int
    callers: int
    writes_through: bool


class _Slot:
    """The writes of one key: the one in progress, and the newest pending one."""

    __slots__ = ("next", "running")

    def __init__(self) -> None:
        self.running: Item | None = None
        self.next: Item | None = None

    @property
    def items(self) -> list[Item]:
        return [item for item in (self.running, self.next) if item is not None]


@dataclass
class _Waiter:
    """A caller that waits for space in the queue.

    Attributes:
        cost: Bytes to add.
        key: The key of the write, if it can replace an older one.
        add: A function that adds the write.
        was_added: True if it was added, False if the queue accepts no more writes, None while it waits.
        bell: Rings when the wait is over.
    """

    cost: int
    key: str | None
    add: Callable[[], None]
    was_added: bool | None = None
    bell: Bell = field(default_factory=Bell)


class Queue:
    """A queue of pending writes and of the errors of lost writes.

    The lock is held only for bookkeeping, never during a request. The main thread never holds it: `HelperThread` makes
    its calls, so that neither an interrupt nor a signal handler can stop them halfway. A waiting caller holds no lock.
    """

    def __init__(self, store: Store, most: int, check: Callable[[], None], lost: Lost) -> None:
        self._url = store.url
        self._near = store.is_local
        root = store.path_for() if store.folders else None
        self._root = str(root) if isinstance(root, Path) else None
        self._most = most
        self._on_lost = lost
        self._check = check
        self._lost: dict[str, tuple[NotataError, bool]] = {}
        self._deferring = 0
        self.writes_through = False
        self._begin()

    def _begin(self) -> None:
        """Start with an empty queue: in a new object, and in a forked child, as the parent keeps its own writes."""
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._helper = HelperThread(_THREAD)
        self._bells: deque[Bell] = deque()  # of callers that wait for a change
        self._local = threading.local()
        self._slots: dict[str, _Slot] = {}
        self._within: dict[str, int] = {}  # number of slots at or below a key
        self._ready: deque[str] = deque()  # keys whose pending write can start
        self._busy: set[Stream] = set()  # streams with steps
        self._stepping: set[Stream] = set()  # streams with a step in progress
        self._streams: deque[Stream] = deque()  # streams whose next step can start
        self._waiters: deque[_Waiter] = deque()  # callers that wait for space
        self._count = 0
        self._bytes = 0
        self._in_flight = 0
        self._unanswered = 0  # consecutive writes without an answer

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            self._begin()
            self._lost = {}

    def stats(self) -> QueueStats:
        """Return the current contents of the queue."""
        return QueueStats(
            bytes=self._bytes,
            keys=tuple(self._slots),
            prefixes=len(self._within),
            in_flight=self._in_flight,
            streams=len(self._busy),
            active_streams=len(self._stepping),
            callers=len(self._waiters),
            writes_through=self.writes_through,
        )

    def check(self) -> None:
        """Raise an error if writes are not allowed any more."""
        self._check()

    # -- in ------------------------------------------------------------------------------------------------

    def put(self, value: Value) -> bool:
        """Queue a value as soon as there is space. Return False if the caller has to write it directly."""
        self._check_process()
        return value.cost <= self._most and self._enter(value.cost, value.key, partial(self._add, value))

    def give(self, stream: Stream, part: bytes) -> None:
        """Queue a part of a stream as soon as there is space."""
        cost = len(part) + OVERHEAD
        if cost > self._most or not self._enter(cost, None, partial(self._add_step, stream, PART, part, cost)):
            self._at_once(stream, PART, part)

    def commit(self, stream: Stream) -> None:
        """Queue the end of a stream, which becomes the newest write to its key."""
        if stream.cost > self._most or not self._enter(stream.cost, stream.key, partial(self._add, stream)):
            self._at_once(stream, COMMIT)
            self.stored(stream.key)
            stream.over = True

    def abort(self, stream: Stream) -> None:
        """Abort a stream, unless its end is already queued. Do not wait."""
        self._helper.run(partial(self._abort, stream))

    def _abort(self, stream: Stream) -> None:
        with self._lock:
            if not stream.over:
                self._give_up(stream)
        self._pump()

    def step(self, stream: Stream, kind: str) -> None:
        with self._lock:
            self._add_step(stream, kind)
        self._launch()

    def _at_once(self, stream: Stream, kind: str, part: bytes = b"") -> None:
        """Do a step in the caller's thread, after all pending steps."""
        self._wait_for(lambda: not stream.steps and stream.at_work is None)
        if stream.error is not None:
            self.lose(stream, stream.error)
            raise stream.error
        if kind == COMMIT:
            self.wait(stream.key)
        stream.take(kind, part)

    def _enter(self, cost: int, key: str | None, add: Callable[[], None]) -> bool:
        """Add a write when there is space for its bytes, after callers that came before.

        Returns:
            Whether it was added; False if the queue accepts no more writes.
        """
        waiter = _Waiter(cost, key, add)
        try:
            self._helper.run(partial(self._add_waiter, waiter))  # an interrupt does not undo this
            if waiter.was_added is None:
                self._check_can_wait()
            while waiter.was_added is None:
                waiter.bell.wait()
                self._start_ready()
        finally:
            if waiter.was_added is None:  # an interrupt ended the wait
                self._helper.run(partial(self._remove_waiter, waiter))
        return waiter.was_added

    def _add_waiter(self, waiter: _Waiter) -> None:
        with self._lock:
            self._waiters.append(waiter)
            self._admit()
        self._pump()

    def _remove_waiter(self, waiter: _Waiter) -> None:
        with self._lock:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            self._ring()
        self._pump()

    def _admit(self) -> None:
        """Add the writes of waiting callers while there is space. The caller holds the lock."""
        while self._waiters and (self.writes_through or self._fits(self._waiters[0].cost, self._waiters[0].key)):
            waiter = self._waiters.popleft()
            if not self.writes_through:
                waiter.add()
            waiter.was_added = not self.writes_through
            waiter.bell.ring()

    def _ring(self) -> None:
        """Wake all waiting callers after a change. The caller holds the lock."""
        self._admit()
        for waiter in self._waiters:
            waiter.bell.ring()
        for _ in range(len(self._bells)):  # a bell added during the loop has seen the change
            self._bells.popleft().ring()

    def _start_ready(self) -> None:
        """Start writes that no other thread could start."""
        if self._streams or self._ready:
            self._helper.run(self._pump)

    def _fits(self, cost: int, key: str | None) -> bool:
        slot = self._slots.get(key) if key is not None else None
        replaced = slot.next.cost if slot is not None and slot.next is not None else 0
        return self._bytes - replaced + cost <= self._most

    def _add(self, item: Item) -> None:
        """Make an item the newest write of its key. The caller holds the lock."""
        old: Item | None = None
        try:
            self._register_exit()
            self._count += 1
            item.since = self._count
            slot = self._slots.get(item.key)
            if slot is None:
                slot = self._slots[item.key] = _Slot()
                self._note(item.key, 1)
            old = slot.next
            if old is not None:
                item.since = old.since  # a caller that waits for the old one waits for this one
            slot.next = item
            more = item.cost - (old.cost if old is not None else 0)
            self._bytes += more
            if slot.running is None:
                self._ready.append(item.key)
            if isinstance(item, Stream):
                item.over = True
        except BaseException:  # an interrupt came between two statements
            self._recount()
            raise
        if isinstance(old, Stream):
            self._give_up(old)

    def _add_step(self, stream: Stream, kind: str, part: bytes = b"", cost: int = 0) -> None:
        """Queue a step of a stream. The caller holds the lock."""
        if stream.error is not None and kind == PART:
            return  # the next call of the writer raises the error
        try:
            self._register_exit()
            self._busy.add(stream)
            stream.steps.append((kind, part, cost))
            self._bytes += cost
            if stream.at_work is None and len(stream.steps) == 1:
                self._streams.append(stream)
        except BaseException:
            self._recount()
            raise

    def _give_up(self, stream: Stream) -> None:
        """Remove a stream and its steps, and abort its upload. The caller holds the lock."""
        stream.over = True
        self._clear(stream)
        if stream.upload is not None or stream.at_work is not None:
            self._add_step(stream, ABORT)
        elif stream in self._busy:
            self._busy.discard(stream)
        self._ring()

    def _clear(self, stream: Stream) -> None:
        freed = sum(cost for _, _, cost in stream.steps)
        stream.steps.clear()
        self._bytes -= freed
        with suppress(ValueError):
            self._streams.remove(stream)

    def _register_exit(self) -> None:
        exits.at_exit(self._finish)
        exits.mark_used()

    def _recount(self) -> None:
        """Recompute all counts after an interrupt, and return writes to pending that it kept from starting."""
        me = threading.get_ident()
        for key, slot in list(self._slots.items()):
            late = slot.running
            if late is not None and late.by == me and not late.resumed(self):
                slot.running, late.by = None, 0
                slot.next = slot.next or late
                slot.next.since = late.since
            if not slot.items:
                del self._slots[key]
        running = [slot.running for slot in self._slots.values()]
        self._in_flight = sum(isinstance(item, Value) for item in running)
        self._ready = deque(key for key, slot in self._slots.items() if slot.running is None)
        self._busy = {stream for stream in self._busy if stream.steps or stream.at_work is not None}
        self._streams = deque(stream for stream in self._busy if stream.at_work is None)
        self._bytes = sum(item.cost for slot in self._slots.values() for item in slot.items)
        self._bytes += sum(cost for stream in self._busy for _, _, cost in stream.steps)
        self._bytes += sum(stream.at_work or 0 for stream in self._busy)
        for key in list(self._within):
            self._note(key, -self._within[key], alone=True)
        for key in self._slots:
            self._note(key, 1)
        self._ring()

    def _note(self, key: str, more: int, *, alone: bool = False) -> None:
        """Count a key in all its folders; on a disk, also register it for path objects."""
        names = [key] if alone else ["", key, *_folders(key)]
        for name in names:
            count = self._within.get(name, 0) + more
            path = None if self._root is None else os.path.join(self._root, *name.split("/")) if name else self._root
            if count:
                self._within[name] = count
                if path is not None:
                    UNSTORED[path] = partial(self.wait_below, name)
            else:
                self._within.pop(name, None)
                if path is not None:
                    UNSTORED.pop(path, None)

    # -- out -----------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Start all writes and steps that can start."""
        self._send()
        self._launch()

    def _send(self) -> None:
        try:
            while (item := self._next()) is not None:
                self._start(item)
        except BaseException:
            with self._lock:
                self._recount()
            raise

    def _next(self) -> Item | None:
        with self._lock:
            while self._ready and self._in_flight < _AT_ONCE:
                slot = self._slots.get(self._ready.popleft())
                if slot is None or slot.running is not None or slot.next is None:
                    continue
                item = slot.next
                item.by = threading.get_ident()
                slot.running = item
                slot.next = None
                self._in_flight += isinstance(item, Value)
                return item
        return None

    def _start(self, item: Item) -> None:
        before = getattr(self._local, "starting", False)
        self._local.starting = True
        try:
            if self.writes_through and self._unanswered >= _AT_ONCE:
                raise UnreachableError(
                    f"cannot write {item.store._shown(item.name)}: not tried, as the storage did not answer earlier "
                    "writes. Check the connection",
                    url=item.store.url,
                    key=item.name,
                )
            item.begin(self)
            item.by = 0
        except Exception as error:
            self.finished(item, error)
        finally:
            self._local.starting = before

    def finished(self, item: Item, error: BaseException | None) -> None:
        """Finish a write that is stored or lost. It can be called in any thread, and never waits."""
        slot = self._slots.get(item.key)
        if slot is None or slot.running is not item:
            return
        failure = None if error is None else _without_frames(item.failed(error))
        if failure is not None:
            self._report(item.key, failure)
        with self._lock:
            if slot.running is not item:
                return
            if failure is None:  # update this first, as waiting callers read without the lock
                self._lost.pop(item.key, None)
                self._unanswered = 0
            else:
                self._lost[item.key] = (failure, False)
                self._unanswered += isinstance(failure, UnreachableError | DeadlineError)
            slot.running, item.by = None, 0
            self._in_flight -= isinstance(item, Value)
            self._bytes -= item.cost
            if slot.next is not None:
                self._ready.append(item.key)
            else:
                del self._slots[item.key]
                self._note(item.key, -1)
            self._after_change()
        if not getattr(self._local, "starting", False):  # else the loop that starts writes continues
            self._pump()

    def _after_change(self) -> None:
        """Wake waiting callers, and unregister from exit if the queue is empty. The caller holds the lock."""
        if not (self._slots or self._busy):
            exits.forget(self._finish)
        self._ring()

    def _report(self, key: str, failure: NotataError) -> None:
        with suppress(Exception):  # a foreign logging handler must not end this thread
            self._on_lost(key, failure)

    # -- streams -------------------------------------------------------------------------------------------

    def _launch(self) -> None:
        """Start a thread for steps of streams, if any step can start."""
        while self._streams and len(self._stepping) < _STREAMS:
            try:
                start_thread(self._work, _THREAD)
            except RuntimeError:  # no thread can be started, as the interpreter is ending
                if _in_storage_thread() and not self._near:
                    with self._lock:  # a waiting caller does the steps
                        self._ring()
                    return
                self._work()
            else:
                return

    def _work(self) -> None:
        """Do steps of streams, until none can start or enough other threads do them."""
        while True:
            with self._lock:
                if not self._streams or len(self._stepping) >= _STREAMS:
                    return
                stream = self._streams.popleft()
                if not stream.steps:
                    continue
                kind, part, stream.at_work = stream.steps.popleft()
                self._stepping.add(stream)
            error: BaseException | None = None
            try:
                stream.take(kind, part)
            except BaseException as raised:
                error = raised
            del part
            self._taken(stream, kind, error)
            if error is not None and not isinstance(error, Exception) and _in_main_thread():
                raise error

    def _taken(self, stream: Stream, kind: str, error: BaseException | None) -> None:
        """Finish a step of a stream."""
        if error is not None and kind == ABORT:
            _own.warning("notata: could not clean up after %s: %s", stream.key, stream.failed(error))
        with self._lock:
            self._stepping.discard(stream)
            self._bytes -= stream.at_work or 0
            stream.at_work = None
            if error is not None and kind != ABORT:
                stream.error = stream.failed(error)
                self._clear(stream)
                if stream.upload is not None:
                    self._add_step(stream, ABORT)
            elif stream.steps:
                self._streams.append(stream)
            if not stream.steps:
                self._busy.discard(stream)
            slot = self._slots.get(stream.key)
            ended = slot is not None and slot.running is stream and (kind == COMMIT or stream.error is not None)
            self._after_change()
        if ended:
            self.finished(stream, stream.error)
        else:
            self._send()  # writes for which there is space now

    # -- wait ----------------------------------------------------------------------------------------------

    def wait(self, key: str) -> None:
        """Wait until the currently pending writes to a key are stored or lost."""
        if key in self._slots:
            self._check_process()
            self._wait_for(partial(self._settled, key, self._count))

    def wait_below(self, folder: str) -> None:
        """Wait like `wait`, for a key and all keys below it."""
        if folder in self._within:
            self._check_process()
            self._wait_below(folder)

    def _wait_below(self, folder: str, until: float | None = None) -> None:
        upto = self._count
        names = [key for key in list(self._slots) if not folder or f"{key}/".startswith(f"{folder}/")]
        for key in names:
            self._wait_for(partial(self._settled, key, upto), until)

    def settle(self, timeout: float | None = None) -> None:
        self._check_process()
        until = None if timeout is None else time.monotonic() + timeout
        given_up = [stream for stream in self._busy.copy() if stream.over or stream.error is not None]
        try:
            self._wait_below("", until)
            for stream in given_up:
                self._wait_for(partial(self._is_done, stream), until)
        except TimeoutError:
            raise DeadlineError(
                f"{len(self._slots)} writes to {self._url} were not stored within {timeout} s. They stay pending; call "
                "flush() again",
                url=self._url,
            ) from None

    def _settled(self, key: str, upto: int) -> bool:
        slot = self._slots.get(key)
        return slot is None or not (items := slot.items) or items[0].since > upto

    def _is_done(self, stream: Stream) -> bool:
        return stream not in self._busy

    def _wait_for(self, done: Callable[[], bool], until: float | None = None) -> None:
        if done():
            return
        self._check_can_wait()
        while True:
            self._start_ready()
            bell = Bell()
            self._bells.append(bell)
            if done():
                return
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError("it takes longer")
            bell.wait(left)

    def _check_can_wait(self) -> None:
        """Raise an error if waiting would never end: at exit, and in the thread of the storage."""
        if sys.is_finalizing():
            raise StorageError(
                "cannot store pending writes: the interpreter is ending. Call flush() earlier", url=self._url
            )
        if _in_storage_thread() and not self._near:
            raise StorageError(
                "cannot wait for the storage in fsspec's own thread; use another thread, or a larger max_pending",
                url=self._url,
            )

    def cancel(self, key: str) -> None:
        """Discard the pending write of a key that has not started."""
        self._check_process()
        self._helper.run(partial(self._cancel, key))

    def _cancel(self, key: str) -> None:
        with self._lock:
            self._take_back(key)
            self._after_change()
        self._pump()

    def _take_back(self, key: str) -> Item | None:
        """Remove and return the pending write of a key that has not started. The caller holds the lock."""
        slot = self._slots.get(key)
        item = None if slot is None else slot.next
        if slot is None or item is None:
            return None
        slot.next = None
        self._bytes -= item.cost
        if slot.running is None:
            del self._slots[key]
            self._note(key, -1)
        if isinstance(item, Stream):
            self._give_up(item)
        return item

    def drop(self) -> None:
        """Discard all pending writes that have not started; they count as lost."""
        self._check_process()
        self._helper.run(self._drop)

    def _drop(self) -> None:
        late = InterruptedError("an interrupt came before the write started")
        with self._lock:
            for key in list(self._slots):
                item = self._take_back(key)
                if item is not None:
                    self._lost[key] = item.failed(late), False
            self._after_change()
        self._pump()

    def finish(self) -> None:
        """Wait for all pending writes at the end of a run. An interrupt discards writes that have not started."""
        self.write_through()
        try:
            try:
                self.settle(_PATIENCE)
            except DeadlineError:
                _own.warning(
                    "notata: waiting for %d pending files to be stored in %s; Ctrl-C discards those not started yet",
                    len(self._slots),
                    self._url,
                )
                self.settle()
        except BaseException:
            self.drop()
            self.settle()  # writes in progress have their own time limit
            raise

    def write_through(self) -> None:
        self._check_process()
        if not self.writes_through:
            self._helper.run(self._close)

    def _close(self) -> None:
        with self._lock:
            self.writes_through, self._unanswered = True, 0
            self._ring()

    def _finish(self) -> None:
        """Store pending writes at exit."""
        if os.getpid() == self._pid:
            try:
                self.finish()
            finally:
                self.raise_lost()

    # -- what is lost --------------------------------------------------------------------------------------

    def lose(self, item: Item, error: NotataError) -> None:
        """Record a failed write whose error is raised to its writer now."""
        known = self._lost.get(item.key)
        self._lost[item.key] = (error, True)
        if known is None or known[0] is not error:
            self._report(item.key, error)

    def stored(self, key: str) -> None:
        """Forget the lost write of a key, as the key is stored now."""
        self._check_process()
        self._lost.pop(key, None)

    @contextmanager
    def errors_deferred(self) -> Iterator[None]:
        """Raise the errors of lost writes now, and none within the block."""
        self.raise_lost()
        self._deferring += 1
        try:
            yield
        finally:
            self._deferring -= 1

    def raise_lost(self, without: Collection[str] = ()) -> None:
        """Raise the unreported errors of lost writes, except for these keys."""
        self._check_process()
        if self._lost and not self._deferring and (group := self.lost(without=without)) is not None:
            raise group

    def lost(self, *, again: bool = False, without: Collection[str] = ()) -> BatchError | None:
        self._check_process()
        chosen = self._helper.run(partial(self._take_unreported, again, without)) if self._lost else {}
        if not chosen:
            return None
        chosen = dict(sorted(chosen.items()))
        what = "1 write was" if len(chosen) == 1 else f"{len(chosen)} writes were"
        return BatchError(f"{what} lost in {self._url}: {listed(chosen, _NAMED)}", list(chosen.values()))

    def _take_unreported(self, again: bool, without: Collection[str]) -> dict[str, NotataError]:
        """Return the errors of lost writes by key, and mark them as reported."""
        with self._lock:
            unreported = {key: error for key, (error, reported) in self._lost.items() if again or not reported}
            chosen = {key: error for key, error in unreported.items() if key not in without}
            self._lost |= {key: (error, True) for key, error in chosen.items()}
        return chosen


def _without_frames(failure: NotataError) -> NotataError:
    """Remove frames and further causes from an error, as a group can show hundreds of errors."""
    failure.__traceback__ = None
    if (cause := failure.__cause__) is not None:
        cause.__traceback__ = cause.__cause__ = cause.__context__ = None
    return failure


def _folders(key: str) -> Iterator[str]:
    """Yield all folders that contain a key."""
    at = key.rfind("/")
    while at > 0:
        yield key[:at]
        at = key.rfind("/", 0, at)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _in_storage_thread() -> bool:
    return threading.current_thread().name == _STORAGE_THREAD
