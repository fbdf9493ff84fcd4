"""Describe how a program ended: its exit code or signal, processor time and memory."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Any, Final

from notata._base import display

__all__ = ["NOT_EXECUTABLE", "NOT_FOUND", "NOT_RECORDED", "Exit", "signal_name"]

NOT_FOUND: Final = 127
"""Exit code of a command that does not exist, as in shells."""

NOT_EXECUTABLE: Final = 126
"""Exit code of a command that cannot be executed, as in shells."""

NOT_RECORDED: Final = 3
"""Exit code if the program succeeded, but its record could not be stored."""

_BY_SIGNAL: Final = 128  # a shell adds the number of the signal that ended a command
_SUSPICIOUS: Final = 0.7  # part of the memory limit from which the end by SIGKILL is probably due to memory


@dataclass(frozen=True, slots=True)
class Exit:
    """The end of a program.

    Attributes:
        code: The exit code; None if a signal ended it.
        signal: The number of the signal that ended it; None if it ended itself.
        cpu_seconds: Processor time of the program and of its child processes that it has waited for; None if unknown.
        peak_memory_bytes: The largest memory (resident set size) of the process tree; None if unknown.
        processes: The largest number of processes at once; None if unknown.
        memory_limit_bytes: The memory that the program could use; None if unknown.
        out_of_memory: Whether the system has killed a process of this control group for lack of memory.
        by_key: Whether the signal came from a key of the terminal, which would reach the process group of notata, too.

    >>> Exit(3).reason, Exit(None, 2).reason, Exit(None, 15).shell_code
    ('exit code 3', 'interrupted (SIGINT)', 143)
    """

    code: int | None
    signal: int | None = None
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    processes: int | None = None
    memory_limit_bytes: int | None = None
    out_of_memory: bool = False
    by_key: bool = False

    @property
    def is_success(self) -> bool:
        """True if the exit code is 0."""
        return self.code == 0

    @property
    def shell_code(self) -> int:
        """The exit code, or 128 and the number of the signal, as shells report it."""
        return self.code if self.code is not None else _BY_SIGNAL + (self.signal or 0)

    @property
    def reason(self) -> str:
        """The reason of the failure, for `failure_reason`; empty for a success."""
        if self.is_success:
            return ""
        if self.code is not None:
            return f"exit code {self.code}{self._of_shell()}"
        if self.signal == signal.SIGINT:
            return "interrupted (SIGINT)"
        name = signal_name(self.signal or 0)
        return f"{name}{self._memory_hint()}" if name == "SIGKILL" else name

    def _of_shell(self) -> str:
        """Return the signal that an exit code of a shell, or of mpirun, stands for."""
        number = (self.code or 0) - _BY_SIGNAL
        if number <= 0 or signal_name(number).startswith("signal"):
            return ""
        name = signal_name(number)
        return f" ({name}{self._memory_hint() if name == 'SIGKILL' else ''})"

    def _memory_hint(self) -> str:
        peak, limit = self.peak_memory_bytes, self.memory_limit_bytes
        size = "" if peak is None else f": its peak was {display.size(peak)}"
        if size and limit is not None:
            size += f", the limit is {display.size(limit)}"
        if self.out_of_memory:
            return f" (out of memory{size})"
        return f" (perhaps out of memory{size})" if peak and limit and peak > _SUSPICIOUS * limit else ""

    @property
    def fields(self) -> dict[str, Any]:
        """The field `exit` of metadata.json."""
        end: dict[str, Any] = (
            {"code": self.code} if self.code is not None else {"signal": signal_name(self.signal or 0)}
        )
        facts = {
            "cpu_seconds": None if self.cpu_seconds is None else round(self.cpu_seconds, 3),
            "peak_memory_bytes": self.peak_memory_bytes,
            "processes": self.processes,
        }
        return {**end, **{name: value for name, value in facts.items() if value is not None}}


def signal_name(number: int) -> str:
    """Return the name of a signal.

    >>> signal_name(15), signal_name(77)
    ('SIGTERM', 'signal 77')
    """
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
