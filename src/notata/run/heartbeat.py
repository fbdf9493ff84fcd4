"""Call a function at regular intervals in a thread, so that other processes see that a run is alive."""

from __future__ import annotations

import time
from collections.abc import Callable

from notata._base.threads import Event, start_thread

__all__ = ["Heartbeat"]


class Heartbeat:
    """Calls a function when nothing else was stored for some seconds, until it is stopped.

    Attributes:
        last: The time of the last change, as `time.monotonic`. Any change counts as a heartbeat.
    """

    def __init__(self) -> None:
        self.last = time.monotonic()
        self._stopped = Event()

    def start(self, seconds: float, beat: Callable[[], object]) -> None:
        """Start the thread.

        Raises:
            RuntimeError: No thread can be started.
        """

        def work() -> None:
            while not self._stopped.wait(max(0.0, self.last + seconds - time.monotonic())):
                if time.monotonic() >= self.last + seconds:
                    beat()

        start_thread(work, "notata-heartbeat")

    def note_change(self) -> None:
        """Restart the interval, as a change is stored or tried now."""
        self.last = time.monotonic()

    def stop(self) -> None:
        """End the thread without waiting for it."""
        self._stopped.set()

    @property
    def is_stopped(self) -> bool:
        """True once the thread is to end."""
        return self._stopped.is_set()
