"""Calls in flight: bounded in number and in bytes, each result or error kept under its name.

This module handles futures, never what they fetch or store. The caller waits here for room, and for the end.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from notata._base.threads import Bell, Outcome, Pool

if TYPE_CHECKING:
    from fsspec.callbacks import Callback

__all__ = [
    "AT_ONCE",
    "BYTES_AT_ONCE",
    "InFlight",
    "Tally",
    "failure_of",
    "mapped",
    "started_in_thread",
    "then",
    "translated",
]

AT_ONCE: Final = 32
"""Small requests of a batch in flight; there are 64 connections (store/backends/s3.py)."""

BYTES_AT_ONCE: Final = 32 * 2**20
"""Bytes in flight of one batch, or of one large file: four parts."""

_THREADS: Final = 32
_NAME: Final = "notata-store"

N = TypeVar("N", bound=Hashable)
S = TypeVar("S")
T = TypeVar("T")


class InFlight(Generic[N, T]):
    """The calls that one caller has started. One thread starts and waits; calls may end in any other thread.

    >>> flying = InFlight[str, int](at_once=2)
    >>> for word in ("one", "two", "three"):
    ...     flying.begin(word, 1, started_in_thread, len, word)
    >>> flying.land()
    >>> sorted(flying.results.items()), flying.errors
    ([('one', 3), ('three', 5), ('two', 3)], {})

    Attributes:
        results: Results of successful calls, by name.
        errors: Errors of failed calls, by name.
    """

    def __init__(
        self, at_once: int = AT_ONCE, bytes_at_once: int = BYTES_AT_ONCE, callback: Callback | None = None
    ) -> None:
        self._at_once = at_once
        self._bytes_at_once = bytes_at_once
        self._callback = callback
        self._flying: dict[Future[T], tuple[N, int]] = {}  # not by name: a store may list a name twice
        self._ended: SimpleQueue[Future[T]] = SimpleQueue()
        self.results: dict[N, T] = {}
        self.errors: dict[N, Exception] = {}

    @property
    def bytes(self) -> int:
        """Number of bytes in flight now."""
        return sum(size for future, (_, size) in tuple(self._flying.items()) if not future.done())

    def begin(self, name: N, size: int, start: Callable[..., Future[T]], *arguments: Any, **options: Any) -> None:
        """Start a call that moves `size` bytes once there is room; a larger call than the limit runs alone."""
        with suppress(Empty):
            while True:
                self._note(self._ended.get_nowait())
        while not self._has_room(size):
            self._note(self._ended.get())
        self._report()
        try:
            future = start(*arguments, **options)
        except Exception as error:
            self.errors[name] = error
            return
        self._flying[future] = name, size
        future.add_done_callback(self._ended.put)

    def _has_room(self, size: int) -> bool:
        if not self._flying:
            return True
        under_way = sum(size for _, size in self._flying.values())
        return len(self._flying) < self._at_once and under_way + size <= self._bytes_at_once

    def _note(self, future: Future[T]) -> None:
        """Keep the outcome of a call that has ended."""
        if future not in self._flying:  # `cancel` has noted it already
            return
        name, _ = self._flying[future]
        error = failure_of(future)
        if error is None:
            self.results[name] = future.result()
        else:
            self.errors[name] = error
        del self._flying[future]

    def land(self) -> None:
        """Wait until all calls have ended."""
        while self._flying:
            self._note(self._ended.get())
            self._report()
        self._report()

    def check(self) -> None:
        """Raise the first error, if there is any.

        Raises:
            Exception: The error of a failed call.
        """
        if self.errors:
            raise next(iter(self.errors.values()))  # without a local name: it would make a cycle of error and frame

    def cancel(self) -> None:
        """Cancel the calls in flight, and wait until they have ended.

        An interrupt may have come at any point before, so `land` may already have taken what it would wait for.
        """
        for future in tuple(self._flying):
            future.cancel()
        for future in tuple(self._flying):
            bell = Bell()
            future.add_done_callback(bell.ring)
            bell.wait()
            self._note(future)

    @contextmanager
    def until_landed(self, give_up: Callable[[], object] = bool) -> Iterator[None]:
        """Wait for all calls at the end of the block; on an error or interrupt, call `give_up` and cancel them."""
        try:
            yield
            self.land()
        except BaseException:
            give_up()
            self.cancel()
            raise

    def _report(self) -> None:
        """Report progress to the callback, in the thread that waits."""
        if self._callback is not None:
            self._callback.absolute_update(len(self.results) + len(self.errors))


class Tally:
    """Reports to a callback the bytes that several threads move."""

    def __init__(self, callback: Callback | None, size: int) -> None:
        self._callback = callback
        self._lock = threading.Lock()
        if callback is not None:
            callback.set_size(size)

    def add(self, count: int) -> None:
        """Add `count` bytes."""
        if self._callback is not None:
            with self._lock:
                self._callback.relative_update(count)


def started_in_thread(call: Callable[..., T], *arguments: Any, pool: Pool | None = None) -> Future[T]:
    """Start a call in a thread, or run it in this thread if no thread can start any more, as at exit.

    The default pool belongs to this process. A call in it that waits for another call there could wait for ever,
    so such calls must not use it.
    """
    outcome: Future[T] = Outcome()
    begun = threading.Lock()

    def work() -> None:
        if begun.acquire(blocking=False) and outcome.set_running_or_notify_cancel():
            try:
                result = call(*arguments)
            except BaseException as error:
                outcome.set_exception(error)
                if not isinstance(error, Exception):
                    raise
            else:
                outcome.set_result(result)

    try:
        (pool or _pool()).submit(work)
    except RuntimeError:  # the pool may still have queued it, for a thread that it has
        work()
    return outcome


def mapped(call: Callable[[S], T], items: Iterable[S], pool: Pool) -> Generator[T, None, None]:
    """Yield the result of `call` for each item, in order. Closing the generator cancels calls that have not begun."""
    coming = [started_in_thread(call, item, pool=pool) for item in items]
    try:
        for outcome in coming:
            yield outcome.result()
    finally:
        for outcome in coming:
            outcome.cancel()


def failure_of(ended: Future[Any]) -> Exception | None:
    """Return the error of a failed call; a cancelled call counts as failed.

    The error is returned and not raised: a raised error holds every frame on its way, with all their variables.
    """
    error = CancelledError() if ended.cancelled() else ended.exception()
    if error is None or isinstance(error, Exception):
        return error
    return InterruptedError(f"the call was ended by a {type(error).__name__}")


def then(first: Future[S], start: Callable[[S], Future[T]]) -> Future[T]:
    """Return the future of `start`, which is called with the result of `first` in the thread where that ends.

    >>> then(started_in_thread(len, "four"), lambda size: started_in_thread(str, size)).result()
    '4'
    """
    return _Chain(first, start)


class _Chain(Outcome[T]):
    """The outcome of the second of two calls. After a cancel, it ends when the current call has ended."""

    def __init__(self, first: Future[S], start: Callable[[S], Future[T]]) -> None:
        super().__init__()
        self.set_running_or_notify_cancel()
        self._now: Future[Any] = first
        self._start = start
        first.add_done_callback(self._go_on)

    def _go_on(self, first: Future[Any]) -> None:
        if (failed := failure_of(first)) is not None:
            self.set_exception(failed)
            return
        try:
            self._now = self._start(first.result())
            self._now.add_done_callback(self._end)
        except Exception as error:
            self.set_exception(error)

    def _end(self, second: Future[T]) -> None:
        if (failed := failure_of(second)) is not None:
            self.set_exception(failed)
        else:
            self.set_result(second.result())

    def cancel(self) -> bool:
        return self._now.cancel()


def translated(first: Future[T], translate: Callable[[Exception], Exception]) -> Future[T]:
    """Return the future of the same call, with its error replaced by that of `translate`."""
    return _Translated(first, translate)


class _Translated(Outcome[T]):
    """The outcome of a call, with another error. After a cancel, it ends when the call has ended."""

    def __init__(self, first: Future[T], translate: Callable[[Exception], Exception]) -> None:
        super().__init__()
        self._first: Future[T] | None = first
        self._translate = translate
        first.add_done_callback(self._end)

    def _end(self, first: Future[T]) -> None:
        if first.cancelled():
            super().cancel()
            self.set_running_or_notify_cancel()
        elif (error := first.exception()) is not None:
            self.set_exception(self._translated(error) if isinstance(error, Exception) else error)
        else:
            self.set_result(first.result())
        self._first = None  # break the reference cycle, which keeps the bytes until the next garbage collection

    def _translated(self, error: Exception) -> Exception:
        try:
            return self._translate(error)
        except Exception as failed:  # its waiters need an outcome
            return failed

    def cancel(self) -> bool:
        first = self._first
        return self.cancelled() if first is None else first.cancel()


pools: dict[int, Pool] = {}
"""By process: a forked child has none of its parent's threads."""


def _pool() -> Pool:
    pid = os.getpid()
    return pools.get(pid) or pools.setdefault(pid, Pool(_THREADS, _NAME))
