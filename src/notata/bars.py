"""The one display on standard error whose lines are the bars of a process; imported when the first is shown."""

from __future__ import annotations

import threading
from typing import Any, Final

from fsspec.callbacks import Callback
from rich import progress
from rich.console import Console
from rich.filesize import decimal
from rich.table import Column
from rich.text import Text

__all__ = ["Bar"]

_WIDEST: Final = 40  # characters of a name
_lock = threading.Lock()
_display: progress.Progress | None = None
_bars = 0


class Bar(Callback):  # type: ignore[misc]
    """One line of the display."""

    def __init__(self, label: str, size: int | None = None) -> None:
        super().__init__(size)
        self._shown: progress.Progress | None = _entered()
        self._task = self._shown.add_task(label, total=size)

    def call(self, hook_name: str | None = None, **_: Any) -> None:
        """Show where it stands; fsspec calls it at each change."""
        if self._shown is not None:
            self._shown.update(self._task, completed=self.value, total=self.size)

    def close(self) -> None:
        """Take the line away. A second call does nothing."""
        shown, self._shown = self._shown, None
        if shown is not None:
            _left(shown, self._task)


class _Moved(progress.ProgressColumn):
    """Bytes so far, of how many where that is known."""

    def render(self, task: progress.Task) -> Text:
        """As rich asks for it."""
        so_far = decimal(int(task.completed))
        return Text(so_far if task.total is None else f"{so_far} of {decimal(int(task.total))}")


def _entered() -> progress.Progress:
    global _display, _bars  # noqa: PLW0603
    with _lock:
        if _display is None:
            _display = _made()
            _display.start()
        _bars += 1
        return _display


def _left(display: progress.Progress, task: Any) -> None:
    global _display, _bars  # noqa: PLW0603
    with _lock:
        _bars -= 1
        if _bars:
            display.remove_task(task)
        else:
            display.stop()
            _display = None


def _made() -> progress.Progress:
    columns = (
        progress.TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, max_width=_WIDEST)),
        progress.BarColumn(),  # the one that gives way on a narrow terminal
        _Moved(table_column=Column(no_wrap=True)),
        progress.TransferSpeedColumn(table_column=Column(no_wrap=True)),
        progress.TimeRemainingColumn(table_column=Column(no_wrap=True)),
    )
    return progress.Progress(*columns, console=Console(stderr=True))
