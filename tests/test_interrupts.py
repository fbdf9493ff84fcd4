"""An interrupt may come before any instruction: a run goes on after it, and no line is lost or stored twice."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.backends import Place

ROOMS = ("journal.py", "processes.py", "appending.py", "lines.py")
"""Where the interrupts come: what holds a lock, or a state that two calls share, while a line is logged."""


class Interrupter:
    """Raises a KeyboardInterrupt before one instruction of the rooms, counted from the beginning of a call."""

    def __init__(self, number: int) -> None:
        self._left = number
        self.came = False

    def call(self, function: Callable[[], Any]) -> None:
        """Call a function, and take its interrupt."""
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            with suppress(KeyboardInterrupt):
                function()
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, event: str, _: Any) -> Any:
        path = Path(frame.f_code.co_filename)
        if path.name not in ROOMS or "notata" not in path.parts:
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._step

    def _step(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == "opcode" and not self.came:
            self._left -= 1
            if self._left < 0:
                self.came = True
                raise KeyboardInterrupt
        return self._step


@pytest.fixture(params=["memory", "local"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place("memory", "memory://interrupts") if request.param == "memory" else Place("local", str(tmp_path))


def test_a_line_that_is_interrupted_anywhere(place: Place) -> None:
    log = place.logbook()
    number = 0
    while True:
        interrupter = Interrupter(number)
        interrupter.call(lambda: log.info("line %d", number))  # noqa: B023  called at once
        log.info("after %d", number)
        if not interrupter.came:
            break
        number += 1
    log.mark_complete()
    assert number > 100
    messages = [line.partition(" ")[2] for line in place.log()]
    after = [message for message in messages if message.startswith("after")]
    assert after == [f"after {count}" for count in range(number + 1)]
    lines = [message for message in messages if message.startswith("line")]
    assert len(lines) == len(set(lines))
    assert log.status == "complete"
    assert log.reader.verify().ok
