"""Call a function just before one chosen bytecode instruction, as a signal handler may be, at the same place each time.

The interpreter runs signal handlers only at certain places: after a call, at the start of a function, and when it jumps
back in a loop.
"""

from __future__ import annotations

import dis
import opcode
import sys
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import notata

__all__ = ["At"]


_PACKAGE: Final = Path(notata.__file__).parent
_STANDARD: Final = Path(threading.__file__).parent


@dataclass(frozen=True)
class _Instructions:
    """Facts about each instruction of a function, by its offset, as a step looks them up some millions of times.

    Attributes:
        code: The function, kept so that no other gets its id.
        before: Whether a signal may arrive after it.
        first: Whether it is the one with which a function or generator goes on.
        handler: The offset of its exception handler.
    """

    code: CodeType
    before: list[bool]
    first: list[bool]
    handler: list[int | None]

    @classmethod
    def of(cls, code: CodeType) -> _Instructions:
        names = [opcode.opname[number] for number in code.co_code]
        entries = dis.Bytecode(code).exception_entries  # type: ignore[attr-defined]  # since 3.11
        return cls(
            code,
            [name.startswith(("CALL", "RESUME", "JUMP_BACKWARD")) for name in names],
            [name.startswith("RESUME") for name in names],
            [next((one.target for one in entries if one.start <= at < one.end), None) for at in range(len(names))],
        )


_known: Final[dict[int, _Instructions]] = {}  # by id: hashing a function takes longer than the rest of a step


def _instructions(code: CodeType) -> _Instructions:
    found = _known.get(id(code))
    if found is None:
        found = _known[id(code)] = _Instructions.of(code)
    return found


@cache
def _name(file: str) -> str:
    """Return the name of a file of notata or of the standard library, or an empty text."""
    path = Path(file)
    return path.name if {_PACKAGE, _STANDARD}.intersection(path.parents) else ""


class At:
    """Call `act` at place number `number`, counted in the files of notata from the start of a call.

    The places in standard library files also count if their names are in `files`, e.g. ``threading.py``.

    Exceptions of `act` are raised at that place. If `act` returns a number, it is called again that many places later.

    Attributes:
        came: Whether the call had that many places, also for the last call of `act`.
    """

    def __init__(self, number: int, act: Callable[[], object], files: Collection[str]) -> None:
        self._left = number
        self._act = act
        self._files = frozenset(files)
        self._before: dict[FrameType, int] = {}  # the last instruction of each frame
        self.came = False

    def call(self, function: Callable[[], Any]) -> None:
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            function()
        finally:
            sys.settrace(before)
            self._before.clear()

    def _enter(self, frame: FrameType, event: str, _: Any) -> Any:
        if self.came or _name(frame.f_code.co_filename) not in self._files:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._step

    def _step(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == "return":
            self._before.pop(frame, None)
        if event != "opcode" or self.came:
            return self._step
        known, now = _instructions(frame.f_code), frame.f_lasti
        before = self._before.get(frame)
        self._before[frame] = now
        if (before is None or known.before[before]) and not known.first[now]:
            if before is not None and known.handler[before] != known.handler[now]:
                return self._step  # the signal would still arrive within the block
            self._left -= 1
            if self._left < 0:
                self.came = True
                again = self._act()
                if isinstance(again, int):
                    self.came, self._left = False, again
                else:
                    sys.settrace(None)  # nothing that follows counts
        return self._step
