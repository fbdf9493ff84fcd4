"""Show progress bars on the terminal: one display for all bars of a process. Imported with the first bar.

Bars are drawn only if standard error is a terminal or a notebook. Errors of the display never reach the caller, as
they must not prevent a value from being stored.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from typing import IO, Any, Final

from fsspec.callbacks import Callback
from rich import progress
from rich.console import Console
from rich.file_proxy import FileProxy
from rich.filesize import decimal
from rich.table import Column
from rich.text import Text

from notata._base.processes import ForkCheck

__all__ = ["Bar"]

_WIDEST: Final = 40  # characters of a name
_lock = threading.Lock()
_display: progress.Progress | None = None
_bars = 0


class Bar(Callback):  # type: ignore[misc]
    """One progress bar, a line of the display. It never raises. Without a display it only counts.

    Attributes:
        label: The text before the bar.

    Args:
        label: The text before the bar.
        size: The value at the end, if it is known.
        unit: What the value counts.
    """

    def __init__(self, label: str, size: int | None = None, unit: str = "bytes") -> None:
        super().__init__(size)
        self.label = label
        self._fork = ForkCheck()
        self._shown = _acquire_display()
        self._task: Any = None
        with suppress(Exception):
            if self._shown is not None:
                self._task = self._shown.add_task(label, total=size, unit=unit)

    def call(self, hook_name: str | None = None, **_: Any) -> None:
        """Show the current value; fsspec calls this after each change."""
        with suppress(Exception):
            if self._shown is not None and not self._fork.is_forked():  # a forked child does not use the display
                self._shown.update(self._task, completed=self.value, total=self.size, description=self.label)

    def close(self) -> None:
        """Remove the line. A second call does nothing."""
        shown, self._shown = self._shown, None
        if shown is not None and not self._fork.is_forked():
            _release_display(shown, self._task)


class _Terminal:
    """A text file on a terminal that can disappear at any time: a closed window, a dropped connection.

    It has a separate descriptor. Text that the buffer of `sys.stderr` cannot write would change Python's exit code to
    120.
    """

    def __init__(self, descriptor: int, encoding: str) -> None:
        self._file: IO[str] | None = open(os.dup(descriptor), "w", encoding=encoding, errors="replace")
        self.encoding = encoding

    def write(self, text: str) -> int:
        try:
            if self._file is not None:
                self._file.write(text)
        except Exception:
            self.close()
        return len(text)

    def flush(self) -> None:
        try:
            if self._file is not None:
                self._file.flush()
        except Exception:
            self.close()

    def close(self) -> None:
        file, self._file = self._file, None
        with suppress(Exception):
            if file is not None:
                file.close()

    def isatty(self) -> bool:
        return self._file is not None

    def fileno(self) -> int:
        if self._file is None:
            raise OSError("the terminal is lost")
        return self._file.fileno()


class _ValueColumn(progress.ProgressColumn):
    """The value so far, and at the end if known."""

    def render(self, task: progress.Task) -> Text:
        """Return the text of the column for rich."""
        so_far = _with_unit(task.completed, task)
        return Text(so_far if task.total is None else f"{so_far} of {_with_unit(task.total, task)}")


class _SpeedColumn(progress.ProgressColumn):
    """The change of the value in a second."""

    def render(self, task: progress.Task) -> Text:
        """Return the text of the column for rich."""
        speed = task.finished_speed or task.speed
        return Text("?" if speed is None else f"{_with_unit(speed, task)}/s")


def _with_unit(value: float, task: progress.Task) -> str:
    unit = task.fields.get("unit", "bytes")
    return decimal(int(value)) if unit == "bytes" else f"{value:,.{0 if value == int(value) else 1}f} {unit}"


def _acquire_display() -> progress.Progress | None:
    """Return the display, and start it with the first bar; None if there is no terminal."""
    global _display, _bars  # noqa: PLW0603
    with _lock:
        if _display is None:
            _display = _start_display()
        if _display is not None:
            _bars += 1
        return _display


def _release_display(display: progress.Progress, task: Any) -> None:
    global _display, _bars  # noqa: PLW0603
    with _lock, suppress(Exception):
        _bars -= 1
        if _bars:
            display.remove_task(task)
        else:
            _display = None
            _end(display)


def _start_display() -> progress.Progress | None:
    display = None
    try:
        if (console := _console()) is not None:
            display = _make_display(console)
            display.start()
        return display
    except Exception:  # for example, no thread can be started, or no descriptor is free
        if display is not None:
            _end(display)
        return None


def _end(display: progress.Progress) -> None:
    with suppress(Exception):
        display.stop()
    if isinstance(display.console.file, _Terminal):
        display.console.file.close()


def _console() -> Console | None:
    """Return a console on standard error or in a notebook; None if standard error is not a terminal."""
    notebook = Console(stderr=True)
    if notebook.is_jupyter:
        return notebook
    if not _is_terminal(sys.stderr):
        return None
    return Console(file=_Terminal(sys.stderr.fileno(), sys.stderr.encoding or "ascii"))  # type: ignore[arg-type]


def _is_terminal(stream: Any) -> bool:
    try:
        return os.isatty(stream.fileno())
    except Exception:  # None, closed, or not a file
        return False


def _make_display(console: Console) -> progress.Progress:
    columns = (
        progress.TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, max_width=_WIDEST)),
        progress.BarColumn(),  # the column that shrinks on a narrow terminal
        _ValueColumn(table_column=Column(no_wrap=True)),
        _SpeedColumn(table_column=Column(no_wrap=True)),
        progress.TimeRemainingColumn(table_column=Column(no_wrap=True)),
    )
    # Output of the script appears above the bars if standard output is a terminal; output to a file is unchanged.
    return progress.Progress(*columns, console=console, redirect_stdout=_is_terminal(sys.stdout))


def _reset_after_fork() -> None:
    """Reset the display in a forked child, where the drawing thread is missing and may have held a lock."""
    global _lock, _display, _bars
    _lock, _display, _bars = threading.Lock(), None, 0
    for name in ("stdout", "stderr"):
        if isinstance(stream := getattr(sys, name), FileProxy):
            setattr(sys, name, stream.rich_proxied_file)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)
