"""Handle the signals that a scheduler or a person sends to a process that runs points one after the other."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final, Self

from notata.errors import Terminated
from notata.sweep.interrupts import print_in_handler

__all__ = ["Signals"]

_APART: Final = 0.5  # seconds; a signal that arrives twice in a shorter time was sent once, by two ways
_MESSAGE: Final = (
    "\nnotata: no more runs will start. Waiting for the one that has started; press Ctrl-C again to "
    "stop without waiting.\n"
)


class Signals:
    """A context manager that handles signals in the main thread, unless the script has handlers of its own.

    SIGTERM raises `Terminated` in a running task, so that its run ends at once, as failed; otherwise it is only noted.
    After SIGUSR1, or a first SIGINT (Ctrl-C), the running task continues; a second SIGINT raises KeyboardInterrupt.

    Args:
        clock: The time in seconds.

    Attributes:
        stopped: Whether no more runs are to begin.
        terminated: Whether SIGTERM was received.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.stopped = False
        self.terminated = False
        self._in_task = False
        self._last_interrupt = -_APART
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            handlers = [(signal.SIGTERM, self._terminate), (signal.SIGINT, self._interrupt)]
            if hasattr(signal, "SIGUSR1"):
                handlers.append((signal.SIGUSR1, self._stop))
            for number, handler in handlers:
                if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                    self._previous[number] = signal.signal(number, handler)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let SIGTERM interrupt the block, also one that was received before.

        Raises:
            Terminated: The process received SIGTERM.
        """
        self._in_task = True
        try:
            if self.terminated:
                raise Terminated
            yield
        finally:
            self._in_task = False

    def _terminate(self, _number: int, _frame: FrameType | None) -> None:
        is_first, self.terminated, self.stopped = not self.terminated, True, True
        if is_first and self._in_task:
            raise Terminated

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        now = self._clock()
        is_repeated = now - self._last_interrupt < _APART
        was_stopped, self.stopped = self.stopped, True
        self._last_interrupt = now
        if was_stopped and not is_repeated:
            raise KeyboardInterrupt
        if not was_stopped:
            print_in_handler(_MESSAGE)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stopped = True
