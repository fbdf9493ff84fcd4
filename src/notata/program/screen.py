"""Find the terminals of this process, and show output there."""

from __future__ import annotations

import os
import select
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Final

from notata.program.exit import Exit

__all__ = ["HAS_TERMINALS", "LINGER", "Ended", "Screen", "Terminals", "find_terminal"]

HAS_TERMINALS: Final = sys.platform != "win32"
"""True if the system has pseudo-terminals, process groups and signals."""

LINGER: Final = 3.0
"""Seconds that notata waits for output after the program has ended, if another process holds it open."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a program, as the loop that ran it saw it.

    Attributes:
        exit: The exit code or signal.
        is_held_open: Whether another process still had the output open.
    """

    exit: Exit
    is_held_open: bool = False


@dataclass(frozen=True, slots=True)
class Terminals:
    """The terminals of this process, and the kind of terminal that a program gets.

    Attributes:
        input: The descriptor of standard input if it is a terminal.
        output: The descriptor of standard output if it is a terminal.
        is_terminal: Whether the program gets a pseudo-terminal for its output.
    """

    input: int | None
    output: int | None
    is_terminal: bool

    @classmethod
    def found(cls, wanted: bool | None) -> Terminals:
        """Return the terminals of this process.

        Args:
            wanted: Whether the program gets a pseudo-terminal; by default, if standard output is a terminal.
        """
        given, output = find_terminal(sys.__stdin__), find_terminal(sys.__stdout__)
        is_terminal = HAS_TERMINALS and (output is not None if wanted is None else wanted)
        return cls(given, output, is_terminal)

    @property
    def is_input(self) -> bool:
        """True if the program also reads from its pseudo-terminal."""
        return self.is_terminal and self.input is not None and self.output is not None


def find_terminal(stream: IO[str] | None) -> int | None:
    """Return the descriptor of a stream if it is a terminal."""
    with suppress(OSError, ValueError, AttributeError):
        number = stream.fileno() if stream is not None else -1
        return number if os.isatty(number) else None
    return None


class Screen:
    """Standard output, which gets bytes as they come."""

    def __init__(self) -> None:
        sys.stdout.flush()
        try:
            self._descriptor = sys.stdout.fileno()
        except (OSError, ValueError):  # replaced by an object in memory
            self._descriptor = -1

    def write(self, data: bytes) -> None:
        """Write all bytes.

        Raises:
            OSError: The output is closed.
        """
        if self._descriptor < 0:
            sys.stdout.write(data.decode("utf-8", "replace"))
            return
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:  # another program has made it non-blocking
                select.select([], [self._descriptor], [])
