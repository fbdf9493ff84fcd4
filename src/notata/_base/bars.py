"""The one display on the terminal whose lines are the bars of a process; imported when the first is shown.

A bar is decoration: it is drawn only where standard error is a terminal or a notebook, and no error of the display
reaches the caller, whose value is still to be stored.
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

__all__ = ["Bar"]

_WIDEST: Final = 40  # characters of a name
_lock = threading.Lock()
_display: progress.Progress | None = None
_bars = 0


class Bar(Callback):  # type: ignore[misc]
    """One line of the display. It never raises: without a display it only counts."""

    def __init__(self, label: str, size: int | None = None) -> None:
        super().__init__(size)
        self._pid = os.getpid()
        self._shown = _entered()
        self._task: Any = None
        with suppress(Exception):
            if self._shown is not None:
                self._task = self._shown.add_task(label, total=size)

    def call(self, hook_name: str | None = None, **_: Any) -> None:
        """Show where it stands; fsspec calls it at each change."""
        with suppress(Exception):
            if self._shown is not None and self._pid == os.getpid():  # a forked child has no part in the display
                self._shown.update(self._task, completed=self.value, total=self.size)

    def close(self) -> None:
        """Remove the line. A second call does nothing."""
        shown, self._shown = self._shown, None
        if shown is not None and self._pid == os.getpid():
            _left(shown, self._task)


class _Terminal:
    """A text file on a terminal that may be lost at any time: a closed window, a dropped connection.

    It has a descriptor of its own. What the buffer of `sys.stderr` could not write would make Python's exit code 120.
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


class _Moved(progress.ProgressColumn):
    """Bytes so far, of how many where that is known."""

    def render(self, task: progress.Task) -> Text:
        """As rich asks for it."""
        so_far = decimal(int(task.completed))
        return Text(so_far if task.total is None else f"{so_far} of {decimal(int(task.total))}")


def _entered() -> progress.Progress | None:
    """The display of all bars, begun with the first; None where there is none to draw on."""
    global _display, _bars  # noqa: PLW0603
    with _lock:
        if _display is None:
            _display = _begun()
        if _display is not None:
            _bars += 1
        return _display


def _left(display: progress.Progress, task: Any) -> None:
    global _display, _bars  # noqa: PLW0603
    with _lock, suppress(Exception):
        _bars -= 1
        if _bars:
            display.remove_task(task)
        else:
            _display = None
            _end(display)


def _begun() -> progress.Progress | None:
    display = None
    try:
        if (console := _console()) is not None:
            display = _made(console)
            display.start()
        return display
    except Exception:  # no thread can be started, no descriptor is free
        if display is not None:
            _end(display)
        return None


def _end(display: progress.Progress) -> None:
    with suppress(Exception):
        display.stop()
    if isinstance(display.console.file, _Terminal):
        display.console.file.close()


def _console() -> Console | None:
    """A console on standard error if that is a terminal, or in a notebook."""
    notebook = Console(stderr=True)
    if notebook.is_jupyter:
        return notebook
    if not _is_terminal(sys.stderr):
        return None
    return Console(file=_Terminal(sys.stderr.fileno(), sys.stderr.encoding or "ascii"))  # type: ignore[arg-type]


def _is_terminal(stream: Any) -> bool:
    try:
        return os.isatty(stream.fileno())
    except Exception:  # None, closed, or an object that is no file
        return False


def _made(console: Console) -> progress.Progress:
    columns = (
        progress.TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, max_width=_WIDEST)),
        progress.BarColumn(),  # the one that gives way on a narrow terminal
        _Moved(table_column=Column(no_wrap=True)),
        progress.TransferSpeedColumn(table_column=Column(no_wrap=True)),
        progress.TimeRemainingColumn(table_column=Column(no_wrap=True)),
    )
    # What a script prints meanwhile goes above the bars, but to a terminal only: a file keeps what is sent to it.
    return progress.Progress(*columns, console=console, redirect_stdout=_is_terminal(sys.stdout))


def _forget() -> None:
    """In a forked child: the thread that draws is not there, and may have held a lock."""
    global _lock, _display, _bars
    _lock, _display, _bars = threading.Lock(), None, 0
    for name in ("stdout", "stderr"):
        if isinstance(stream := getattr(sys, name), FileProxy):
            setattr(sys, name, stream.rich_proxied_file)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
