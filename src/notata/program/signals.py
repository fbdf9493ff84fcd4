r"""Pass the signals that notata gets on to a program.

The program has a process group of its own, so that each signal reaches it once: the keys Ctrl-C and Ctrl-\ of a
terminal reach either the group of notata, which passes them on, or that of the program. While the program runs, notata
does not end on any of these signals: the program decides. When it has ended, notata still stores the record: then
SIGINT raises KeyboardInterrupt, as usual, and the others are ignored.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from types import FrameType, TracebackType
from typing import Any, Final, Self

__all__ = ["PASSED_ON", "Signals"]

PASSED_ON: Final = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
)
"""Signals that are passed on to the program."""

Handler = Callable[[], object]


class Signals:
    """Handlers of signals while a program runs, and a file descriptor that wakes the main loop.

    A signal that was ignored before, as by ``nohup``, stays ignored. Signals can only be handled in the main thread; in
    another one, this class does nothing.

    Attributes:
        wakeup: A file descriptor that can be read after a signal.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._pass_on: Callable[[int], object] | None = None
        self._has_ended = False
        self._wakeup_before = -1
        self._is_main = threading.current_thread() is threading.main_thread()
        self._pending: list[int] = []  # not passed on yet
        self.wakeup, self._wakes = os.pipe()
        os.set_blocking(self.wakeup, False)
        os.set_blocking(self._wakes, False)

    def __enter__(self) -> Self:
        if self._is_main:
            self._wakeup_before = signal.set_wakeup_fd(self._wakes, warn_on_full_buffer=False)
            for number in PASSED_ON:
                self._install(number, self._receive)
        return self

    def _install(self, number: int, handler: Any) -> None:
        before = signal.getsignal(number)
        if before is not signal.SIG_IGN or number == signal.SIGCHLD:
            self._before[number] = before
            signal.signal(number, handler)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self._has_ended:
            return
        self._pending.append(number)
        self._pass_pending_on()

    def _pass_pending_on(self) -> None:
        """Pass each pending signal on once, although another one can come at any moment."""
        while self._pass_on is not None and self._pending:
            with suppress(IndexError):  # a handler has just passed it on
                self._pass_on(self._pending.pop(0))

    def begin(self, pass_on: Callable[[int], object], others: Mapping[int, Handler]) -> None:
        """Pass on the signals to a program that has started, also those that came since `__enter__`.

        Args:
            pass_on: Sends a signal to the program.
            others: What to do on other signals.
        """
        self._pass_on = pass_on
        self._pass_pending_on()
        if self._is_main:
            for number, handler in others.items():
                self._install(number, partial(_call, handler))

    def end(self) -> None:
        """Pass nothing on any more: the program has ended."""
        self._has_ended = True
        if signal.SIGINT in self._before:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in [number for number in self._before if number not in PASSED_ON]:
            signal.signal(number, self._before.pop(number) or signal.SIG_DFL)

    def drain(self) -> None:
        """Empty the pipe that wakes the main loop."""
        with suppress(BlockingIOError):
            while os.read(self.wakeup, 4096):
                pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_main:
            for number, before in self._before.items():
                signal.signal(number, before or signal.SIG_DFL)
            signal.set_wakeup_fd(self._wakeup_before)
        os.close(self.wakeup)
        os.close(self._wakes)


def _call(handler: Handler, _number: int, _frame: FrameType | None) -> None:
    handler()
