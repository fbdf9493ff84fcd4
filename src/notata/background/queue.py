"""Queue pending writes by key, send them in order, and keep the errors of lost writes.

A write passes through these places:

1. *waiting*: its caller waits for space, in `Room`;
2. *pending*: it has not started, in `KeyedWrites`. A newer write to the same key replaces it;
3. *in flight*: the storage is writing it, in `KeyedWrites`. For each key at most one is;
4. *stored*, or *lost*: its error is in `Losses` until the key is stored.

A large file is a *stream*: its parts are sent while it is written, as steps in `StreamSteps`. Its end is a write like
the others, and becomes the last step.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from notata._base import exits
from notata._base.processes import ForkCheck
from notata._base.threads import Bell, start_thread
from notata.background.helper_thread import HelperThread
from notata.background.keyed import FolderCounts, KeyedWrites
from notata.background.losses import Losses, Lost
from notata.background.room import Admission, Entry, Room
from notata.background.steps import StreamSteps
from notata.background.writes import OVERHEAD, Item, Step, StepKind, Stream, Value
from notata.errors import BatchError, DeadlineError, NotataError, StorageError, UnreachableError
from notata.store import Store

__all__ = ["Lost", "Queue", "QueueStats"]

_AT_ONCE: Final = 32  # concurrent writes; the limit is 64 connections (store/backends/s3.py)
WARN_AFTER: Final = 2.0  # seconds that the end of a run waits before it logs a warning
_THREAD: Final = "notata-background"
_STORAGE_THREAD: Final = "fsspecIO"
_own = logging.getLogger("notata")

T = TypeVar("T")


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
        waiting: Number of callers that wait until certain writes are stored.
        writes_through: Whether writes go directly to the storage, as after the end of a run.
    """

    bytes: int
    keys: tuple[str, ...]
    prefixes: int
    in_flight: int
    streams: int
    active_streams: int
    callers: int
    waiting: int
    writes_through: bool


class Queue:
    """A queue of pending writes and of the errors of lost writes.

    The lock is held only for bookkeeping, never during a request. The main thread never holds it: `HelperThread` makes
    its calls, so that neither an interrupt nor a signal handler can stop them halfway. A waiting caller holds no lock.

    Args:
        store: The wrapped store.
        most: Maximum number of bytes in the queue.
        check: Raises an error if writes are not allowed any more.
        lost: Called for each failed write.
    """

    def __init__(self, store: Store, most: int, check: Callable[[], None], lost: Lost) -> None:
        self._url = store.url
        self._is_local = store.is_local
        self.check = check
        self._losses = Losses(store.url, lost)
        self._fork = ForkCheck()
        self._begin(most, is_closed=False)

    def _begin(self, most: int, *, is_closed: bool) -> None:
        """Start with an empty queue: in a new object, and in a forked child, as the parent keeps its own writes."""
        self._lock = threading.RLock()
        self._helper = HelperThread(_THREAD)
        self._bells: deque[Bell] = deque()  # of callers that wait for a change
        self._local = threading.local()
        self._folders = FolderCounts()
        self._writes = KeyedWrites(self._folders)
        self._steps = StreamSteps()
        self._room = Room(most)
        self._room.is_closed = is_closed
        self._unanswered = 0  # consecutive writes without an answer

    def _check_process(self) -> None:
        self._fork.when_forked(self._begin_anew)

    def _begin_anew(self) -> None:
        self._begin(self._room.most, is_closed=self._room.is_closed)
        self._losses.clear()

    @property
    def writes_through(self) -> bool:
        """True if the queue accepts no more writes, so that each one is stored before its call returns."""
        return self._room.is_closed

    def stats(self) -> QueueStats:
        """Return the current contents of the queue, with all changes by writes that have ended."""
        return self._helper.run(partial(self._apply, self._stats))

    def _stats(self) -> QueueStats:
        return QueueStats(
            bytes=self._room.used,
            keys=tuple(self._writes),
            prefixes=len(self._folders),
            in_flight=self._writes.values_in_flight,
            streams=len(self._steps),
            active_streams=self._steps.in_progress,
            callers=self._room.waiting,
            waiting=len(self._bells),
            writes_through=self.writes_through,
        )

    # -- in ------------------------------------------------------------------------------------------------

    def put(self, value: Value) -> bool:
        """Queue a value as soon as there is space. Return False if the caller has to write it directly."""
        self._check_process()
        return self._enter(value.cost, value.key, partial(self._add, value))

    def give(self, stream: Stream, part: bytes) -> None:
        """Queue a part of a stream as soon as there is space."""
        step = Step(StepKind.PART, part, len(part) + OVERHEAD)
        if not self._enter(step.cost, None, partial(self._add_step, stream, step)):
            self._take_directly(stream, step)

    def commit(self, stream: Stream) -> None:
        """Queue the end of a stream, which becomes the newest write to its key."""
        if not self._enter(stream.cost, stream.key, partial(self._add, stream)):
            self._take_directly(stream, Step(StepKind.COMMIT))
            self.stored(stream.key)
            stream.is_over = True

    def finish_stream(self, stream: Stream) -> None:
        """Queue the last step of a stream, as its end is in flight."""
        self._apply(partial(self._add_step, stream, Step(StepKind.COMMIT)))
        self._launch()

    def abort(self, stream: Stream) -> None:
        """Abort a stream, unless its end is already queued. Do not wait."""
        self._helper.run(partial(self._change, partial(self._abort, stream)))

    def _abort(self, stream: Stream) -> None:
        if not stream.is_over:
            self._give_up(stream)

    def _take_directly(self, stream: Stream, step: Step) -> None:
        """Do a step in the caller's thread, after all pending steps."""
        self._wait_for(lambda: not stream.steps and stream.step is None)
        if stream.error is not None:
            self.lose(stream, stream.error)
            raise stream.error
        if step.kind is StepKind.COMMIT:
            self.wait(stream.key)
        stream.take(step)

    def _enter(self, cost: int, key: str | None, add: Callable[[], None]) -> bool:
        """Add a write when there is space for its bytes, after callers that came before.

        Returns:
            Whether it was added; False if it is too large, or the queue accepts no more writes.
        """
        if cost > self._room.most:
            return False
        entry = Entry(cost, add, lambda: 0 if key is None else self._writes.pending_cost(key))
        try:
            self._helper.run(partial(self._change, partial(self._room.enter, entry)))  # an interrupt does not undo this
            self._wait_for(lambda: entry.state is not Admission.WAITING)
        finally:
            if entry.state is Admission.WAITING:  # an interrupt ended the wait
                self._helper.run(partial(self._change, partial(self._room.leave, entry)))
        return entry.state is Admission.ADDED

    def _add(self, item: Item) -> None:
        """Make an item the newest write of its key. The caller holds the lock."""
        self._register_exit()
        old = self._writes.add(item)
        self._room.used += item.cost - (0 if old is None else old.cost)
        if isinstance(item, Stream):
            item.is_over = True
        if isinstance(old, Stream):
            self._give_up(old)

    def _add_step(self, stream: Stream, step: Step) -> None:
        """Queue a step of a stream. The caller holds the lock."""
        if stream.error is not None and step.kind is StepKind.PART:
            return  # the next call of the writer raises the error
        self._register_exit()
        self._steps.add(stream, step)
        self._room.used += step.cost

    def _give_up(self, stream: Stream) -> None:
        """Discard the steps of a stream, and abort its upload. The caller holds the lock."""
        stream.is_over = True
        self._room.used -= self._steps.discard(stream)
        if stream.upload is not None or stream.step is not None:
            self._add_step(stream, Step(StepKind.ABORT))
        self._ring()

    def _register_exit(self) -> None:
        exits.at_exit(self._finish)
        exits.mark_used()

    # -- bookkeeping ---------------------------------------------------------------------------------------

    def _change(self, work: Callable[[], object]) -> None:
        """Change the queue under its lock, then start all writes and steps that can start."""
        self._apply(work)
        self._pump()

    def _apply(self, work: Callable[[], T]) -> T:
        """Change the queue under its lock. After an interrupt, count all again."""
        with self._lock:
            try:
                return work()
            except BaseException:
                self._mend()
                raise

    def _mend(self) -> None:
        """Count all again, and return writes to pending that an interrupt of this thread kept from starting."""
        self._room.used = self._writes.mend(lambda item: item.was_sent(self)) + self._steps.mend()
        self._ring()

    def _after_change(self) -> None:
        """Wake waiting callers, and unregister from exit if the queue is empty. The caller holds the lock."""
        if not (self._writes or self._steps):
            exits.forget(self._finish)
        self._ring()

    def _ring(self) -> None:
        """Wake all waiting callers after a change. The caller holds the lock."""
        self._room.admit()
        for _ in range(len(self._bells)):  # a bell added during the loop has seen the change
            self._bells.popleft().ring()

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
            self._apply(self._mend)
            raise

    def _next(self) -> Item | None:
        with self._lock:
            return self._writes.start() if self._writes.values_in_flight < _AT_ONCE else None

    def _start(self, item: Item) -> None:
        before = getattr(self._local, "starting", False)
        self._local.starting = True
        try:
            if self.writes_through and self._unanswered >= _AT_ONCE:
                raise UnreachableError(
                    f"cannot write {item.store.shown(item.name)}: not tried, because the storage did not answer "
                    "earlier writes. Check the connection",
                    url=item.store.url,
                    key=item.name,
                )
            item.begin(self)
            item.starter = 0
        except Exception as error:
            self.finished(item, error)
        finally:
            self._local.starting = before

    def finished(self, item: Item, error: BaseException | None) -> None:
        """Finish a write that is stored or lost. It can be called in any thread, and never waits."""
        if not self._writes.is_in_flight(item):
            return
        failure = None if error is None else _without_frames(item.failed(error))
        if failure is not None:
            self._losses.announce(item.key, failure)
        with self._lock:
            if not self._writes.is_in_flight(item):
                return
            if failure is None:  # update this first, as waiting callers read without the lock
                self._losses.forget(item.key)
                self._unanswered = 0
            else:
                self._losses.add(item.key, failure)
                self._unanswered += isinstance(failure, UnreachableError | DeadlineError)
            self._writes.finish(item)
            self._room.used -= item.cost
            self._after_change()
        if not getattr(self._local, "starting", False):  # else the loop that starts writes continues
            self._pump()

    # -- streams -------------------------------------------------------------------------------------------

    def _launch(self) -> None:
        """Start a thread for steps of streams, if any step can start."""
        while self._steps.can_start():
            try:
                start_thread(self._work, _THREAD)
            except RuntimeError:  # no thread can be started, as the interpreter is ending
                if _in_storage_thread() and not self._is_local:
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
                stream = self._steps.start()
            if stream is None or stream.step is None:
                return
            error: BaseException | None = None
            try:
                stream.take(stream.step)
            except BaseException as raised:
                error = raised
            self._taken(stream, stream.step, error)
            if error is not None and not isinstance(error, Exception) and _in_main_thread():
                raise error

    def _taken(self, stream: Stream, step: Step, error: BaseException | None) -> None:
        """Finish a step of a stream."""
        if error is not None and step.kind is StepKind.ABORT:
            _own.warning("notata: could not clean up after %s: %s", stream.key, stream.failed(error))
        with self._lock:
            if error is not None and step.kind is not StepKind.ABORT:  # before its end: waiting callers hold no lock
                stream.error = stream.failed(error)
                self._room.used -= self._steps.discard(stream)
                if stream.upload is not None:
                    self._add_step(stream, Step(StepKind.ABORT))
            self._room.used -= self._steps.finish(stream)
            is_end = step.kind is StepKind.COMMIT or stream.error is not None
            is_finished = is_end and self._writes.is_in_flight(stream)
            self._after_change()
        if is_finished:
            self.finished(stream, stream.error)
        else:
            self._send()  # writes for which there is space now

    # -- wait ----------------------------------------------------------------------------------------------

    def wait(self, key: str) -> None:
        """Wait until the currently pending writes to a key are stored or lost."""
        if key in self._writes:
            self._check_process()
            self._wait_for(partial(self._writes.is_settled, key, self._writes.number))

    def wait_below(self, folder: str) -> None:
        """Wait like `wait`, for a key and all keys below it."""
        if folder in self._folders:
            self._check_process()
            self._wait_below(folder)

    def _wait_below(self, folder: str, until: float | None = None) -> None:
        number = self._writes.number
        for key in self._writes:
            if not folder or f"{key}/".startswith(f"{folder}/"):
                self._wait_for(partial(self._writes.is_settled, key, number), until)

    def settle(self, timeout: float | None = None) -> None:
        """Wait until all currently pending writes are stored or lost; see `BackgroundBackend.settle`."""
        self._check_process()
        until = None if timeout is None else time.monotonic() + timeout
        over = self._steps.over()
        try:
            self._wait_below("", until)
            for stream in over:  # such as aborted ones
                self._wait_for(lambda stream=stream: stream not in self._steps, until)  # type: ignore[misc]
        except TimeoutError:
            raise DeadlineError(
                f"{len(self._writes)} writes to {self._url} were not stored within {timeout} s. They stay pending; "
                "call flush() again",
                url=self._url,
            ) from None

    def _wait_for(self, done: Callable[[], bool], until: float | None = None) -> None:
        if done():
            return
        self._check_can_wait()
        while True:
            if self._steps.can_start() or self._writes.can_start():  # no other thread could start these
                self._helper.run(self._pump)
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
                "cannot store pending writes: the interpreter is shutting down. Call flush() earlier", url=self._url
            )
        if _in_storage_thread() and not self._is_local:
            raise StorageError(
                "cannot wait for the storage in the thread that fsspec uses; use another thread, or a larger queue",
                url=self._url,
            )

    # -- end -----------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Wait for all pending writes at the end of a run. An interrupt discards writes that have not started."""
        self.write_through()
        try:
            try:
                self.settle(WARN_AFTER)
            except DeadlineError:
                _own.warning(
                    "notata: waiting for %d pending files to be stored in %s; press Ctrl-C to discard those that "
                    "have not started",
                    len(self._writes),
                    self._url,
                )
                self.settle()
        except BaseException:
            self._helper.run(partial(self._change, self._discard_pending))
            self.settle()  # writes in progress have their own time limit
            raise

    def write_through(self) -> None:
        """Accept no more writes: from now on, each one is stored before its call returns."""
        self._check_process()
        if not self.writes_through:
            self._helper.run(partial(self._apply, self._close))

    def _close(self) -> None:
        self._room.is_closed, self._unanswered = True, 0
        self._ring()

    def _discard_pending(self) -> None:
        """Discard all pending writes; they count as lost. The caller holds the lock."""
        late = InterruptedError("an interrupt came before the write started")
        for key in self._writes:
            item = self._writes.take_back(key)
            if item is not None:
                self._losses.add(key, item.failed(late))
                self._room.used -= item.cost
                if isinstance(item, Stream):
                    self._give_up(item)
        self._after_change()

    def _finish(self) -> None:
        """Store pending writes at exit."""
        if not self._fork.is_forked():
            try:
                self.finish()
            finally:
                self.raise_lost()

    # -- lost writes ---------------------------------------------------------------------------------------

    def lose(self, item: Item, error: NotataError) -> None:
        """Record a failed write whose error is raised to its writer now."""
        self._losses.add_reported(item.key, error)

    def stored(self, key: str) -> None:
        """Forget the lost write of a key, as the key is stored now."""
        self._check_process()
        self._losses.forget(key)

    def errors_deferred(self) -> AbstractContextManager[None]:
        """Raise the errors of lost writes now, and none within the block."""
        self._check_process()
        return self._losses.deferred()

    def raise_lost(self, without: Collection[str] = ()) -> None:
        """Raise the unreported errors of lost writes, except for these keys."""
        self._check_process()
        self._losses.raise_unreported(without)

    def lost(self, *, again: bool = False) -> BatchError | None:
        """Return the errors of lost writes that were not reported yet; see `BackgroundBackend.lost`."""
        self._check_process()
        return self._losses.take(again=again)


def _without_frames(failure: NotataError) -> NotataError:
    """Remove frames and further causes from an error, as a group can show hundreds of errors."""
    failure.__traceback__ = None
    if (cause := failure.__cause__) is not None:
        cause.__traceback__ = cause.__cause__ = cause.__context__ = None
    return failure


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _in_storage_thread() -> bool:
    return threading.current_thread().name == _STORAGE_THREAD
