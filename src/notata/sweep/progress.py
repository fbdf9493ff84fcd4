"""Show the progress of a sweep: a bar in a terminal, a line in a notebook, lines in the output of a batch job."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol

from notata._base.bars import Bar
from notata._base.display import duration
from notata.sweep.result import SweepResult

__all__ = ["Progress"]

_EVERY: Final = 0.2  # seconds between two updates
_LINES: Final = 30.0  # seconds between two lines in a file


class _Display(Protocol):
    def show(self, text: str, done: int, tried: int) -> None: ...

    def close(self) -> None: ...


class Progress:
    """The display of one sweep. Errors of the display never reach the caller.

    Args:
        label: The name of the sweep.
        total: The number of points, if it is known.
        wanted: None: in a terminal or a notebook only. True: also as lines in a file. False: nothing.
    """

    def __init__(self, label: str, total: int | None, wanted: bool | None) -> None:
        self._label = label
        self._total = total
        self._began = time.monotonic()
        self._next = 0.0
        self._display: _Display | None = None
        with suppress(Exception):
            self._display = _display_of(label, total, wanted)

    def update(self, result: SweepResult, in_flight: int, others: int) -> None:
        """Show the counts, at most five times a second."""
        if self._display is None:
            return
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _EVERY
            more = {"submitted": in_flight, "of other processes": others}
            self._show({**result.counts, **more}, _done(result), _done(result) - result.skipped)

    def _show(self, counts: dict[str, int], done: int, tried: int, otherwise: str = "starting") -> None:
        with suppress(Exception):
            if self._display is not None:
                text = ", ".join(f"{number:,} {name}" for name, number in counts.items() if number)
                self._display.show(text or otherwise, done, tried)

    def close(self, result: SweepResult) -> None:
        """Show the last counts, and end the display."""
        self._show(result.counts, _done(result), 0, otherwise="no points")
        with suppress(Exception):
            if self._display is not None:
                self._display.close()


def _done(result: SweepResult) -> int:
    """Return the number of points that the sweep need not look at again."""
    return sum(result.counts.values()) - result.cancelled


def _display_of(label: str, total: int | None, wanted: bool | None) -> _Display | None:
    if wanted is False:
        return None
    if (display := _notebook_display()) is not None:
        return _NotebookLine(label, total, display)
    if sys.stderr is not None and sys.stderr.isatty():
        return _TerminalBar(label, total)
    return _FileLines(label, total) if wanted else None


def _notebook_display() -> Callable[..., Any] | None:
    """Return the function that displays objects in a notebook; None outside of one."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", bool)()
    if type(shell).__name__ != "ZMQInteractiveShell":
        return None
    from IPython.display import display

    return display


class _TerminalBar:
    def __init__(self, label: str, total: int | None) -> None:
        self._label = label
        self._bar = Bar(label, total, unit="runs")

    def show(self, text: str, done: int, tried: int) -> None:
        self._bar.label = f"{self._label}: {text}"
        self._bar.absolute_update(done)

    def close(self) -> None:
        self._bar.close()


class _Line:
    """A line of text with the share, the counts, the time so far and the time that is left, as tqdm shows them.

    Skipped points take no time, so the estimate of the time comes from those that were tried.
    """

    def __init__(self, label: str, total: int | None) -> None:
        self._label = label
        self._total = total
        self._began = time.monotonic()

    def text(self, counts: str, done: int, tried: int) -> str:
        """Return the line, without an estimate if no point was tried."""
        seconds = time.monotonic() - self._began
        share = f"{done:,}" if not self._total else f"{done / self._total:.0%} of {self._total:,}"
        left = ""
        if self._total and tried > 0 and done < self._total:
            left = f", about {duration(seconds * (self._total - done) / tried)} left"
        return f"{self._label}: {share} in {duration(seconds)}{left} ({counts})"


class _NotebookLine:
    def __init__(self, label: str, total: int | None, display: Callable[..., Any]) -> None:
        self._line = _Line(label, total)
        self._handle = display({"text/plain": self._line.text("starting", 0, 0)}, raw=True, display_id=True)

    def show(self, text: str, done: int, tried: int) -> None:
        self._handle.update({"text/plain": self._line.text(text, done, tried)}, raw=True)

    def close(self) -> None:
        """Leave the last line where it is."""


class _FileLines:
    def __init__(self, label: str, total: int | None) -> None:
        self._line = _Line(label, total)
        self._next = 0.0
        self._last = ""

    def show(self, text: str, done: int, tried: int) -> None:
        self._last = self._line.text(text, done, tried)
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _LINES
            self._write()

    def _write(self) -> None:
        if self._last:
            print(self._last, file=sys.stderr, flush=True)  # noqa: T201
        self._last = ""

    def close(self) -> None:
        self._write()
