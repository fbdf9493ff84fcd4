"""What commands print: lines, tables and JSON, for people on a terminal and for programs in a pipe.

On a terminal a table has a head, colours, and sizes and times for people; in a pipe it has a line a row, a tab between
two cells, values for programs, and no head. Names are one line everywhere. `NO_COLOR` is heeded.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import Any, Final

import click

from notata.terminal import safe, safe_lines

__all__ = ["COLOURS", "complain", "content", "is_terminal", "json_line", "line", "rows"]

COLOURS: Final = {
    "complete": "green",
    "failed": "red",
    "died": "magenta",
    "running": "cyan",
    "replacing": "yellow",
    "unreadable": "red",
}
"""Of a status."""


def is_terminal() -> bool:
    """Whether people read what is printed."""
    return sys.stdout.isatty()


def line(text: str = "", **style: Any) -> None:
    """Print one line, in a style of `click.style` on a terminal; what in it is no plain text is escaped."""
    click.echo(click.style(safe(text), **style) if style else safe(text))


def complain(text: str) -> None:
    """Print one line on standard error."""
    click.echo(safe(text), err=True)


def content(data: bytes) -> None:
    """Print what a file holds: as it is in a pipe, without control sequences on a terminal."""
    if is_terminal():
        click.echo(safe_lines(data.decode("utf-8", "surrogateescape")), nl=False)
    else:
        click.echo(data, nl=False)


def json_line(record: object) -> None:
    """Print an object as one line of JSON, in ASCII; numbers that JSON does not have are null, times are ISO 8601."""
    click.echo(json.dumps(_plain(record)))


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str | int) or value is None:
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Iterable):
        return [_plain(item) for item in value]
    return str(value)


def rows(
    columns: Sequence[str],
    table: Iterable[Sequence[object]],
    *,
    right: Iterable[str] = (),
    colours: Mapping[str, str] = COLOURS,
) -> None:
    """Print a table.

    Args:
        columns: The names of the columns, for people.
        table: The rows; cells are text already, as long as people shall read them.
        right: Columns that are aligned at their right end.
        colours: Of cells that say just this.
    """
    if not is_terminal():
        for row in table:
            click.echo("\t".join(safe(str(cell)) for cell in row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False, header_style="bold")
    right = set(right)
    for name in columns:
        shown.add_column(Text(safe(name)), justify="right" if name in right else "left", overflow="fold")
    for row in table:
        cells = [safe(str(cell)) for cell in row]
        shown.add_row(*(Text(cell, style=colours.get(cell, "")) for cell in cells))
    Console(highlight=False, markup=False, emoji=False, no_color="NO_COLOR" in os.environ or None).print(shown)
