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
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

import notata

__all__ = ["At"]


_PACKAGE: Final = Path(notata.__file__).parent
_STANDARD: Final = Path(threading.__file__).parent


@cache
def _handler(code: CodeType, offset: int) -> int | None:
    """Return the offset of the exception handler of the instruction at this offset."""
    entries = dis.Bytecode(code).exception_entries  # type: ignore[attr-defined]  # since 3.11
    return next((entry.target for entry in entries if entry.start <= offset < entry.end), None)


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
        self._files = files
        self._before: dict[FrameType, tuple[str, int]] = {}  # the last instruction of each frame
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
        path = Path(frame.f_code.co_filename)
        if self.came or path.name not in self._files or not {_PACKAGE, _STANDARD}.intersection(path.parents):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._step

    def _step(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == "return":
            self._before.pop(frame, None)
        if event != "opcode" or self.came:
            return self._step
        code, offset = frame.f_code, frame.f_lasti
        before, now = self._before.get(frame, ("RESUME", offset)), opcode.opname[code.co_code[offset]]
        self._before[frame] = now, offset
        if before[0].startswith(("CALL", "RESUME", "JUMP_BACKWARD")) and not now.startswith("RESUME"):
            if _handler(code, before[1]) != _handler(code, offset):  # the signal would still arrive within the block
                return self._step
            self._left -= 1
            if self._left < 0:
                self.came = True
                again = self._act()
                if isinstance(again, int):
                    self.came, self._left = False, again
        return self._step
