"""Call a function at regular intervals in a thread, so that other processes see that a run is alive.

Each run has its own thread, as a heartbeat waits for the storage of its run. The thread starts when the first heartbeat
is due: most runs of a sweep end before that, and starting a thread costs as much as storing a file.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from notata._base.alarms import Alarms, alarms
from notata._base.threads import Event, start_thread

__all__ = ["Heartbeat"]

_SOON: Final = 1.0  # seconds; with a shorter interval, the thread starts at once


class Heartbeat:
    """Calls a function when nothing else was stored for some seconds, until it is stopped.

    Args:
        waiting: Where the run waits for its first heartbeat.

    Attributes:
        last: The time of the last change, as `time.monotonic`. Any change counts as a heartbeat.
    """

    def __init__(self, waiting: Alarms = alarms) -> None:
        self.last = time.monotonic()
        self._waiting = waiting
        self._stopped = Event()
        self._seconds = 0.0
        self._beat: Callable[[], object] = bool

    def start(self, seconds: float, beat: Callable[[], object]) -> None:
        """Call `beat` when nothing was stored for `seconds`.

        Raises:
            RuntimeError: No thread can be started.
        """
        self._seconds, self._beat = seconds, beat
        if seconds <= _SOON:
            start_thread(self._work, "notata-heartbeat")
        else:
            self._waiting.set(self._first_is_due, self.last + seconds)

    def _first_is_due(self) -> None:
        """Start the thread, unless something was stored meanwhile. If it cannot start, send this heartbeat here."""
        if self._stopped.is_set():
            return
        if self._left() > 0:
            self._waiting.set(self._first_is_due, self.last + self._seconds)
            return
        try:
            start_thread(self._work, "notata-heartbeat")
        except RuntimeError:
            self._waiting.set(self._first_is_due, time.monotonic() + self._seconds)
            self._beat()

    def _work(self) -> None:
        while not self._stopped.wait(max(0.0, self._left())):
            if self._left() <= 0:
                self._beat()

    def _left(self) -> float:
        """Return the seconds until the next heartbeat is due."""
        return self.last + self._seconds - time.monotonic()

    def note_change(self) -> None:
        """Restart the interval, as a change is stored or tried now."""
        self.last = time.monotonic()

    def stop(self) -> None:
        """End the thread without waiting for it."""
        self._stopped.set()
        self._waiting.cancel(self._first_is_due)

    @property
    def is_stopped(self) -> bool:
        """True once the thread is to end."""
        return self._stopped.is_set()
