"""Provide threads, futures and events that an interrupt cannot leave locked.

Python raises KeyboardInterrupt in the main thread, between two instructions. ``with lock`` is safe for a lock written
in C: there is no instruction between acquiring the lock and entering the block. `threading.Condition` acquires its lock
in a Python function. An interrupt within that function leaves the lock acquired forever, and the next thread that needs
it never continues. `threading.Event`, `threading.Thread.start`, `concurrent.futures.Future` and
`concurrent.futures.ThreadPoolExecutor` use it. The classes of this module do not have this problem.
"""

from __future__ import annotations

import _thread
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from operator import attrgetter
from queue import Empty, SimpleQueue
from typing import Any, Final, Self, TypeVar

__all__ = ["NO_THREADS", "Bell", "Condition", "Event", "Outcome", "Pool", "make_call", "start_thread", "whole"]

T = TypeVar("T")

_STARTS: Final = 1000  # milliseconds until a thread has started, after an interrupt

NO_THREADS: Final = (
    "the system does not allow this process to start more threads. Raise the limit (ulimit -u, or pids.max of the "
    "container or job), or start fewer threads"
)
"""Text for messages: the reason why a thread could not be started, and the solution."""


class Bell:
    """A signal that wakes a waiting thread. Unlike `threading.Event`, a signal handler can use it at any time."""

    __slots__ = ("_rung",)

    def __init__(self) -> None:
        self._rung: SimpleQueue[object] = SimpleQueue()

    def ring(self, _: object = None) -> None:
        self._rung.put(None)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it rings, or until the timeout in seconds; return whether it rang.

        An interrupt ends the wait, even after ``import polars``: its handler of SIGINT restarts waits without timeout.
        """
        try:
            self._rung.get(timeout=threading.TIMEOUT_MAX if seconds is None else seconds)
        except Empty:
            return False
        return True


class Event:
    """A flag that is set once; threads can wait for it."""

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
        """Wait until it is set, or until the timeout in seconds; return whether it is set."""
        bell = Bell()
        self._bells.append(bell)
        if not self._is_set:
            bell.wait(seconds)
        self._bells.remove(bell)
        return self._is_set


class Condition(threading.Condition):
    """A `threading.Condition` that ``with`` locks without a Python function in between.

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
            if not self._is_owned():  # type: ignore[attr-defined]  # an interrupt came before it was reacquired
                self.acquire()
            raise


class Outcome(Future[T]):
    """A `concurrent.futures.Future` that the main thread can safely wait for and add callbacks to.

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
            del self  # break the reference cycle: the error references this frame, and the future the error

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._wait(timeout)
        return super().exception(0)

    def _wait(self, seconds: float | None) -> None:
        bell = Bell()
        self.add_done_callback(bell.ring)
        if not bell.wait(seconds):
            raise TimeoutError(f"no result after {seconds} s")


def start_thread(work: Callable[[], object], name: str) -> threading.Thread:
    """Start a daemon thread that calls `work`, and return it.

    Raises:
        RuntimeError: No thread can be started: the interpreter is ending, or the system allows no more threads.
    """
    thread = threading.Thread(target=work, name=name, daemon=True)
    _start(thread)
    return thread


def _start(thread: threading.Thread) -> None:
    try:
        whole(thread.start)
    except RuntimeError:  # the helper thread of `whole` may have been the last one that the system allows
        thread.start()


def whole(call: Callable[[], T]) -> T:
    """Make a call that an interrupt cannot stop halfway; return its result, or raise its exception.

    Use it for calls that start threads, as these wait under a lock until the thread runs. In the main thread, a
    short-lived helper thread makes the call, if it can be started.

    >>> whole(threading.active_count) > 0
    True
    """
    if threading.current_thread() is not threading.main_thread():
        return call()
    outcome = Outcome[T]()
    try:
        try:
            _thread.start_new_thread(make_call, (call, outcome))
        except RuntimeError:
            return call()
        return outcome.result()
    finally:
        del outcome  # break the reference cycle: the error references this frame


def make_call(call: Callable[[], T], outcome: Outcome[T]) -> None:
    """Make a call, and set its result or exception."""
    try:
        result = call()
    except BaseException as error:
        outcome.set_exception(error)
    else:
        outcome.set_result(result)


class Pool:
    """A pool of at most `most` threads, started as needed; as a context manager, it ends them with the block.

    `concurrent.futures.ThreadPoolExecutor` acquires a lock in `submit`. A signal handler that interrupts `submit`, and
    calls it, too, would wait forever.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._calls: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._idle: list[None] = []
        self._created: list[threading.Thread] = []  # which may never start
        self._threads: list[threading.Thread] = []

    def submit(self, work: Callable[[], object]) -> None:
        """Make a call in a thread of the pool. Its result or exception is ignored.

        Raises:
            RuntimeError: No thread can be started; a running thread may still make the call.
        """
        self._calls.put(work)
        try:
            self._idle.pop()
        except IndexError:
            if len(self._threads) < self._most:
                name = f"{self._name}_{len(self._threads)}"
                thread = threading.Thread(target=self._work, name=name, daemon=True)
                self._created.append(thread)
                try:
                    _start(thread)  # after an interrupt, it may run without being among those that count
                except RuntimeError:
                    self._created.remove(thread)
                    raise
                self._threads.append(thread)

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
        """Wait for all calls, and end the threads."""
        for _ in self._created:
            self._calls.put(None)
        for thread in self._created:
            for _ in range(_STARTS):
                with suppress(RuntimeError):
                    thread.join()
                    break
                time.sleep(0.001)  # an interrupt came before the thread ran: it starts soon, or never
