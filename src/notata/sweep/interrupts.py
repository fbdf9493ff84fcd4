"""Handle Ctrl-C during a sweep: the first one asks it to end, the second one interrupts it."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self

from notata._base.processes import ForkCheck

__all__ = ["Interrupts", "print_in_handler"]

_MESSAGE = (
    "\nnotata: no more runs will start. Waiting for those that have started; press Ctrl-C again to stop without "
    "waiting.\n"
)


class Interrupts:
    """A context manager that calls a function at the first Ctrl-C, and raises KeyboardInterrupt at the second.

    It does so in the main thread, if the script has no handler of its own. In a forked worker, which Ctrl-C in a
    terminal reaches too, the first one does nothing: the driver handles it.
    """

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop
        self._fork = ForkCheck()
        self._count = 0
        self._previous: Any = None

    def __enter__(self) -> Self:
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count > 1:
            raise KeyboardInterrupt
        if self._fork.is_forked():
            return
        self._stop()
        print_in_handler(_MESSAGE)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)


def print_in_handler(text: str) -> None:
    """Print to stderr in a signal handler, if possible: stderr may be closed, or the handler may interrupt a print."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError, RuntimeError):
            sys.stderr.write(text)
