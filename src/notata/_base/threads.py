"""Threads, futures and events that an interrupt cannot leave locked.

Python raises KeyboardInterrupt in the main thread, between two of its instructions. ``with lock`` is safe for a lock
that is written in C: no instruction lies between taking it and entering the block. `threading.Condition` takes its lock
in a function of its own; an interrupt within that function leaves the lock taken for ever, and the next thread that
needs it waits for ever. `threading.Event`, `threading.Thread.start`, `concurrent.futures.Future` and
`concurrent.futures.ThreadPoolExecutor` are built on it. What is here does the same without that.
"""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from operator import attrgetter
from queue import Empty, SimpleQueue
from typing import Any, Final, Self, TypeVar

__all__ = ["NO_THREADS", "Bell", "Condition", "Event", "Outcome", "Pool", "start_thread", "whole"]

T = TypeVar("T")

NO_THREADS: Final = (
    "the system allows this process no more threads. Raise the limit (ulimit -u, or pids.max of the container or job), "
    "or start fewer threads"
)
"""Why a thread could not be started, and what to do, for messages."""


class Bell:
    """Wakes a waiting thread. A signal handler may use it at any moment, which `threading.Event` does not allow."""

    __slots__ = ("_rung",)

    def __init__(self) -> None:
        self._rung: SimpleQueue[object] = SimpleQueue()

    def ring(self, _: object = None) -> None:
        self._rung.put(None)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it rings, or so many seconds; return whether it rang."""
        try:
            self._rung.get(timeout=seconds)
        except Empty:
            return False
        return True


class Event:
    """A flag that is set once, and that threads wait for."""

    def __init__(self) -> None:
        self._is_set = False
        self._bells: list[Bell] = []

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        for bell in tuple(self._bells):
            bell.ring()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is set, or so many seconds; return whether it is set."""
        bell = Bell()
        self._bells.append(bell)
        if not self._is_set:
            bell.wait(seconds)
        self._bells.remove(bell)
        return self._is_set


class Condition(threading.Condition):
    """A `threading.Condition` whose lock ``with`` takes by itself, as it does any lock.

    >>> changed = Condition()
    >>> with changed:
    ...     changed.notify_all()
    """

    __enter__: Final[Any] = property(attrgetter("_lock.__enter__"))
    __exit__: Final[Any] = property(attrgetter("_lock.__exit__"))

    def wait(self, timeout: float | None = None) -> bool:
        try:
            return super().wait(timeout)
        except BaseException:
            if not self._is_owned():  # type: ignore[attr-defined]  # an interrupt came where it was given back
                self.acquire()
            raise


class Outcome(Future[T]):
    """A `concurrent.futures.Future` that may be waited for, and given callbacks, in the main thread.

    >>> outcome = Outcome()
    >>> outcome.set_result(4)
    >>> outcome.result()
    4
    """

    def __init__(self) -> None:
        super().__init__()
        self._condition = Condition()

    def result(self, timeout: float | None = None) -> T:
        self._wait(timeout)
        try:
            return super().result(0)
        finally:
            del self  # an error holds this frame, and the future holds the error

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._wait(timeout)
        return super().exception(0)

    def _wait(self, seconds: float | None) -> None:
        bell = Bell()
        self.add_done_callback(bell.ring)
        if not bell.wait(seconds):
            raise TimeoutError(f"there is no outcome after {seconds} s")


def start_thread(work: Callable[[], object], name: str) -> threading.Thread:
    """Start a daemon thread that calls `work`, and return it.

    Raises:
        RuntimeError: No thread can be started: the interpreter is ending, or the system allows no more threads.
    """
    thread = threading.Thread(target=work, name=name, daemon=True)
    try:
        whole(thread.start)
    except RuntimeError:  # the thread that called it may have been the last one that the system allows
        thread.start()
    return thread


def whole(call: Callable[[], T]) -> T:
    """Return what `call` returns, or raise what it raises; an interrupt that comes meanwhile does not cut it in two.

    It is for calls that start threads, as those wait under a lock until the thread runs: in the main thread, a short
    thread of its own makes the call, where one can be started.

    >>> whole(threading.active_count) > 0
    True
    """
    if threading.current_thread() is not threading.main_thread():
        return call()
    outcome = Outcome[T]()
    try:
        try:
            _thread.start_new_thread(_make, (call, outcome))
        except RuntimeError:
            return call()
        return outcome.result()
    finally:
        del outcome  # an error holds this frame


def _make(call: Callable[[], T], outcome: Outcome[T]) -> None:
    try:
        result = call()
    except BaseException as error:
        outcome.set_exception(error)
    else:
        outcome.set_result(result)


class Pool:
    """Threads that make calls, started as they are needed, `most` at the most; as a context, they end with the block.

    `concurrent.futures.ThreadPoolExecutor` takes a lock of its own in `submit`, for which a signal handler that comes
    just then, and submits as well, would wait for ever.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._calls: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._idle: list[None] = []
        self._threads: list[threading.Thread] = []

    def submit(self, work: Callable[[], object]) -> None:
        """Have a thread make this call; what it returns or raises is lost.

        Raises:
            RuntimeError: No thread can be started; another one may make the call all the same.
        """
        self._calls.put(work)
        try:
            self._idle.pop()
        except IndexError:
            if len(self._threads) < self._most:
                self._threads.append(start_thread(self._work, f"{self._name}_{len(self._threads)}"))

    def _work(self) -> None:
        while True:
            try:
                work = self._calls.get_nowait()
            except Empty:
                self._idle.append(None)
                work = self._calls.get()
            if work is None:
                return
            with suppress(BaseException):
                work()
            del work

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Wait until all calls have been made, and end the threads."""
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join()
