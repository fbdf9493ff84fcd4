"""Connect a program with the terminal of the user: pseudo-terminals, raw mode, window size, foreground group."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import termios
import tty
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Foreground", "Keys", "RawMode", "copy_size", "is_foreground", "open_pair", "typed"]

_SIZE: Final = struct.pack("HHHH", 24, 80, 0, 0)  # for programs in a batch job, which has no terminal
_LFLAG: Final = 3  # places in the list of `termios.tcgetattr`
_OFLAG: Final = 1
_CC: Final = 6


def open_pair(like: int | None, *, is_input: bool) -> tuple[int, int]:
    """Return the two ends of a new pseudo-terminal: that of notata, and that of the program.

    Args:
        like: The terminal whose size and settings it gets; None if there is none.
        is_input: Whether the program also reads from it. If not, it leaves line ends as they are, as the terminal of
            the user translates them.
    """
    ours, theirs = pty.openpty()
    with suppress(termios.error, OSError):
        if is_input and like is not None:
            termios.tcsetattr(theirs, termios.TCSANOW, termios.tcgetattr(like))
        elif not is_input:
            settings = termios.tcgetattr(theirs)
            settings[_OFLAG] &= ~termios.OPOST
            termios.tcsetattr(theirs, termios.TCSANOW, settings)
    copy_size(like, ours)
    return ours, theirs


def copy_size(source: int | None, target: int) -> None:
    """Give a pseudo-terminal the size of a terminal, or 80 columns and 24 lines; the system informs its programs."""
    size = _SIZE
    with suppress(OSError):
        if source is not None:
            size = fcntl.ioctl(source, termios.TIOCGWINSZ, bytes(len(_SIZE)))
    with suppress(OSError):
        fcntl.ioctl(target, termios.TIOCSWINSZ, size if any(size) else _SIZE)


def is_foreground(terminal: int) -> bool:
    """Check whether this process may change a terminal: its group is in the foreground, or no shell controls it."""
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:  # it is not the controlling terminal of this process
        return True


@dataclass(frozen=True, slots=True)
class Keys:
    """Control keys in the input: the text before and after them, and which of them comes first."""

    before: bytes
    after: bytes
    is_suspend: bool
    is_interrupt: bool


def typed(terminal: int, data: bytes) -> Keys:
    """Find the keys for suspend (Ctrl-Z) and interrupt (Ctrl-C) that a pseudo-terminal would turn into signals.

    Args:
        terminal: The pseudo-terminal of the program, whose settings decide.
        data: The input.
    """
    try:
        settings: list[Any] = termios.tcgetattr(terminal)
    except termios.error:
        return Keys(data, b"", False, False)
    if not settings[_LFLAG] & termios.ISIG:
        return Keys(data, b"", False, False)
    suspend, interrupt = settings[_CC][termios.VSUSP], settings[_CC][termios.VINTR]
    before, found, after = data.partition(suspend)
    return Keys(before, after, bool(found), interrupt in before)


class RawMode:
    """Raw mode of the user's terminal while the program has its own: each key goes to the program.

    Args:
        terminal: The terminal.
    """

    def __init__(self, terminal: int) -> None:
        self.terminal = terminal
        self._before: list[Any] | None = None

    @property
    def is_on(self) -> bool:
        """True if the terminal is in raw mode."""
        return self._before is not None

    def enter(self) -> None:
        """Set raw mode, unless it is set, or this process is in the background."""
        if self._before is None and is_foreground(self.terminal):
            with suppress(termios.error, OSError):
                before = termios.tcgetattr(self.terminal)
                tty.setraw(self.terminal, termios.TCSANOW)
                self._before = before

    def leave(self) -> None:
        """Restore the mode before, unless a shell has taken the terminal back."""
        before, self._before = self._before, None
        if before is not None and is_foreground(self.terminal):
            with suppress(termios.error, OSError):
                termios.tcsetattr(self.terminal, termios.TCSADRAIN, before)


class Foreground:
    """The foreground group of the controlling terminal, which may read from it and gets the signals of its keys.

    Args:
        terminal: The standard input, if it is a terminal.
    """

    def __init__(self, terminal: int | None) -> None:
        self._terminal = terminal
        self._group = 0  # the one that it is handed over to

    @property
    def is_handed_over(self) -> bool:
        """True if another group has it."""
        return self._group != 0

    @property
    def is_own(self) -> bool:
        """True if the group of this process has it."""
        return self._has(os.getpgrp())

    def hand_over(self, group: int) -> bool:
        """Make another group the foreground group, if this process has the foreground; return whether it is."""
        if self.is_own and self._set(group):
            self._group = group
        return self.is_handed_over

    def take_back(self) -> None:
        """Make the group of this process the foreground group again."""
        if self._group and self._has(self._group):  # else a shell has taken it
            self._set(os.getpgrp())
        self._group = 0

    def _has(self, group: int) -> bool:
        try:
            return self._terminal is not None and os.tcgetpgrp(self._terminal) == group
        except OSError:
            return False

    def _set(self, group: int) -> bool:
        terminal = self._terminal
        return terminal is not None and _unstopped(lambda: os.tcsetpgrp(terminal, group))


def _unstopped(call: Callable[[], object]) -> bool:
    """Make a call that would stop a process in the background (SIGTTOU); return whether it succeeded."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
    try:
        call()
        return True
    except OSError:
        return False
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
