"""Make short calls that neither an interrupt nor a signal handler can stop halfway.

Python runs signal handlers, and raises KeyboardInterrupt, in the main thread only. Another thread therefore makes the
calls of the main thread. It always completes a call that holds a lock, and a signal handler that waits for the lock
waits for a thread that is still running.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import Final, TypeVar

from notata._base.threads import Outcome, make_call, start_thread
from notata.errors import StorageError

__all__ = ["HelperThread"]

_IDLE: Final = 1.0  # seconds without a call after which the thread ends

T = TypeVar("T")


class HelperThread:
    """Makes the calls of the main thread in a helper thread; other threads make their calls directly.

    The helper thread starts with the first call of the main thread, and ends after a second without calls. If no thread
    can be started, the main thread makes its calls itself.

    Args:
        name: The name of the helper thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def run(self, work: Callable[[], T]) -> T:
        """Call `work`, and return its result or raise its exception.

        An interrupt during the call is raised at once, but the call is still completed.
        """
        if threading.current_thread() is not threading.main_thread():
            return work()
        if sys.is_finalizing():
            raise StorageError(
                "cannot store this in the background: the interpreter is shutting down. Call flush() earlier"
            )
        outcome = Outcome[T]()
        try:
            self._calls.put(partial(make_call, work, outcome))
            if not self._is_served():
                self._serve(0.0)
            return outcome.result()
        finally:
            del outcome  # break the reference cycle: the error references this frame

    def _is_served(self) -> bool:
        if self._thread is None:
            try:
                start_thread(self._work, self._name)
            except RuntimeError:  # the system allows no more threads, or the interpreter is ending
                return False
        return True

    def _work(self) -> None:
        me = threading.current_thread()
        while True:
            self._thread = me
            self._serve(_IDLE)
            self._thread = None  # from here on, a caller starts a new thread
            if self._calls.empty():
                return

    def _serve(self, seconds: float) -> None:
        """Make calls until none has come for `seconds`."""
        while True:
            try:
                call = self._calls.get(timeout=seconds)
            except Empty:
                return
            call()
            del call
