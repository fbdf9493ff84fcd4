"""Make calls at later times, all in one thread of the process.

Most of these calls are cancelled before their time, as most runs of a sweep end before their first heartbeat. So
setting and cancelling an alarm costs no system call: the thread sleeps until the earliest time that it knows.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from notata._base.threads import Bell, start_thread

__all__ = ["Alarms", "alarms"]

Call = Callable[[], object]

_LONGEST: Final = 60.0  # seconds that the thread sleeps; it ends when it wakes and no alarm is set


class Alarms:
    """Calls to make at later times. The thread that makes them runs while some are set, and at most a minute longer.

    Safe to use from many threads and signal handlers. A forked child has no alarms: they are its parent's.

    Args:
        clock: Returns a monotonic time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begin()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._calls: dict[Call, float] = {}
        self._lock = threading.RLock()
        self._bell = Bell()
        self._thread: threading.Thread | None = None
        self._wakes = 0.0  # when the thread wakes next

    def set(self, call: Call, at: float) -> None:
        """Make a call at this time, as `clock` returns it; it must be short, as all calls wait for it.

        A call that is set already is made at the new time only.

        Raises:
            RuntimeError: The thread cannot be started: the interpreter is ending, or the system allows no more threads.
        """
        with self._lock:
            self._calls[call] = at
            if self._thread is None:
                self._wakes = min(at, self._clock() + _LONGEST)
                try:
                    self._thread = start_thread(self._work, "notata-alarms")
                except BaseException:
                    self._calls.pop(call, None)
                    raise
            elif at < self._wakes:
                self._bell.ring()

    def cancel(self, call: Call) -> None:
        """Do not make a call that was set."""
        self._calls.pop(call, None)

    def _work(self) -> None:
        while (seconds := self._until_next()) is not None:
            self._bell.wait(seconds)
            now = self._clock()
            for call in [call for call, at in self._calls.copy().items() if at <= now]:
                if self._calls.pop(call, None) is not None:
                    with suppress(Exception):
                        call()

    def _until_next(self) -> float | None:
        """Return the seconds that the thread sleeps; None if it ends, as it has slept and no alarm is set."""
        with self._lock:
            now = self._clock()
            if times := self._calls.copy().values():
                self._wakes = min(*times, now + _LONGEST)
            elif self._wakes <= now:
                if self._thread is threading.current_thread():
                    self._thread = None
                return None
            return max(0.0, self._wakes - now)


alarms: Final = Alarms()
"""The alarms of this process."""
