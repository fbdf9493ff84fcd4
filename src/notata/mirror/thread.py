"""A thread that works while there is work, and starts again when more comes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from notata._base.threads import Condition, start_thread

__all__ = ["Clock", "StepThread"]

_BUSY_STEPS: Final = 10  # in a row without a pause; after that each is followed by
_BUSY_PAUSE: Final = 3.0  # seconds


class Clock:
    """Monotonic time, and waiting."""

    def now(self) -> float:
        """Return seconds, as `time.monotonic`."""
        return time.monotonic()

    def wait(self, changed: Condition, seconds: float) -> None:
        """Wait until notified, at most this many seconds. The caller holds the condition's lock."""
        changed.wait(min(seconds, threading.TIMEOUT_MAX))  # seconds may be infinite


class StepThread:
    """Repeats one step in a thread of its own, which ends when no work is left, and starts again when woken.

    Attributes:
        changed: The lock of everything that the thread shares with others. The caller of `wake`, `start` and
            `is_running` holds it. It notifies when the thread is woken, and when it ends.

    Args:
        step: Does some work, and returns the seconds until the next step; None if no work is left.
        prepare: Called at the beginning of the thread.
        clock: The clock.
    """

    def __init__(self, step: Callable[[], float | None], prepare: Callable[[], object], clock: Clock) -> None:
        self.changed = Condition()
        self._step = step
        self._prepare = prepare
        self._clock = clock
        self._thread: threading.Thread | None = None
        self._is_woken = False

    @property
    def is_running(self) -> bool:
        """True if there is a thread, which takes notice of everything that changes from now on."""
        return self._thread is not None

    @property
    def thread(self) -> threading.Thread | None:
        """The thread; None if there is none."""
        return self._thread

    @property
    def is_woken(self) -> bool:
        """True if the thread was woken after its last step began."""
        return self._is_woken

    def wake(self) -> None:
        """Have a step begin now."""
        self._is_woken = True
        self.changed.notify_all()
        self.start(0.0)

    def start(self, after: float) -> None:
        """Start a thread if there is none; its first step begins after some seconds, or when it is woken."""
        if self._thread is None:
            with suppress(RuntimeError):  # the interpreter is exiting, and starts no threads; see `run`
                self._thread = start_thread(partial(self._run, after), "notata-mirror")

    def run(self) -> None:
        """Repeat the step in this thread until no work is left."""
        busy = 0
        while True:
            with self.changed:
                self._is_woken = False
            pause = self._step()
            with self.changed:  # a later `wake` starts a new thread
                if pause is None and not self._is_woken:
                    self._thread = None
                    self.changed.notify_all()
                    return
                busy = busy + 1 if pause == 0 else 0
                if not self._is_woken:
                    self._clock.wait(self.changed, _BUSY_PAUSE if busy > _BUSY_STEPS else pause or 0.0)

    def _run(self, after: float) -> None:
        try:
            self._prepare()
            with self.changed:
                if not self._is_woken:
                    self._clock.wait(self.changed, after)
            self.run()
        finally:
            with self.changed:
                if self._thread is threading.current_thread():
                    self._thread = None
                self.changed.notify_all()

    def has_ended(self, until: float) -> bool:
        """Wait until the thread has ended, at most until a time of the clock; return whether it has."""
        with self.changed:
            while self._thread is not None:
                left = until - self._clock.now()
                if left <= 0:
                    return False
                self._clock.wait(self.changed, left)
        return True
