"""Printing of lines, tables and JSON, for people on a terminal and for programs in a pipe.

On a terminal a table has a header, colours, and human-readable sizes and times. In a pipe it has no header, one line a
row, tabs between cells, and plain values. Names always stay on one line. `NO_COLOR` is respected.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import Any, Final

import click

from notata._base import display
from notata._base.secrets import redacted
from notata._base.terminal import safe, safe_lines

__all__ = [
    "COLOURS",
    "content",
    "error_line",
    "fits",
    "is_terminal",
    "json_line",
    "line",
    "print_unfinished",
    "rows",
    "sizes",
    "width_of",
]

COLOURS: Final = {
    "complete": "green",
    "failed": "red",
    "died": "magenta",
    "running": "cyan",
    "replacing": "yellow",
    "unreadable": "red",
}
"""The colour of each status."""

_DEEP: Final = 100  # levels of nesting in JSON output; values in a run may be nested deeper than Python's stack allows

_FLAGS: Final = ("bold", "dim", "italic", "underline")


def is_terminal() -> bool:
    """Check whether standard output is a terminal."""
    return sys.stdout.isatty()


def sizes(human: bool | None = None) -> Callable[[int], str]:
    """Return the function that formats sizes: human-readable, in bytes, or by default depending on the output."""
    return display.size if (is_terminal() if human is None else human) else str


def line(text: str = "", **style: Any) -> None:
    """Print one line, in a style of `click.style` on a terminal, with control characters escaped."""
    click.echo(click.style(safe(text), **style) if style else safe(text))


def print_unfinished(count: int, size: int) -> None:
    """Report unfinished writes, which sizes and listings leave out."""
    if count:
        error_line(
            f"Note: not counted: {display.counted(count, 'unfinished write')}, {display.size(size)}. A killed process "
            "leaves them; they go when their run is resumed, overwritten or removed"
        )


def error_line(text: str) -> None:
    """Print one line on standard error, without secrets."""
    click.echo(safe(redacted(text)), err=True)


def content(data: bytes) -> None:
    """Print the content of a file: unchanged in a pipe, without control sequences on a terminal."""
    if is_terminal():
        click.echo(safe_lines(data.decode("utf-8", "surrogateescape")), nl=False)
    else:
        click.echo(data, nl=False)


def json_line(record: object) -> None:
    """Print an object as one line of ASCII JSON; numbers that JSON does not have become null, times ISO 8601."""
    click.echo(json.dumps(_plain(record)))


def _plain(value: Any, room: int = _DEEP) -> Any:
    if not room:
        return "…"
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value), room)
    if isinstance(value, Mapping):
        return {str(name): _plain(item, room - 1) for name, item in value.items()}
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str | int) or value is None:
        return value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Iterable):
        return [_plain(item, room - 1) for item in value]
    return str(value)


def rows(
    columns: Sequence[str],
    table: Iterable[Sequence[object]],
    *,
    right: Iterable[str] = (),
    colours: Mapping[str, str] = COLOURS,
    fit: Iterable[str] | None = None,
    spare: Iterable[str] = (),
    last: str | None = None,
) -> list[str]:
    """Print a table.

    On a terminal cells are not folded: a line that is too long wraps, so that a name can be copied. The layout is
    computed here, because a table of rich takes 0.7 s for 1000 runs.

    Args:
        columns: The names of the columns, for people.
        table: The rows; cells for people are already formatted as text.
        right: Columns that are right-aligned.
        colours: The colour of cells with exactly this text, as words for `click.style`, such as ``bold red``. They
            apply to the column ``status``, or to all columns if there is none.
        fit: On a terminal, omit columns that do not fit, starting at the right, but never these.
        spare: Columns that are omitted before others.
        last: A column that moves to the end on a terminal where the lines would not fit: cells padded to a long name
            are hard to read once the line wraps.

    Returns:
        The names of the omitted columns.
    """
    lines = ([safe(str(cell)) for cell in row] for row in table)
    if not is_terminal():
        for line in lines:
            click.echo("\t".join(line))
        return []
    grid = [[safe(name) for name in columns], *lines]
    widths = [max(map(width_of, column)) for column in zip(*grid, strict=True)]
    shown = list(range(len(columns))) if fit is None else _fitting(columns, widths, set(fit), set(spare))
    if last is not None and _line(widths[place] for place in shown) > shutil.get_terminal_size().columns:
        shown.sort(key=lambda place: columns[place] == last)
    coloured = [place for place in shown if columns[place] == "status"] or shown
    styles = {said: _style(words) for said, words in colours.items()}
    right = set(right)
    for number, line in enumerate(grid):
        cells = []
        for place in shown:
            text = line[place]
            gap = " " * (widths[place] - width_of(text))
            style = {"bold": True} if not number else styles.get(text) if place in coloured else None
            styled = click.style(text, **style) if style else text
            cells.append(gap + styled if columns[place] in right else styled + gap)
        click.echo("  ".join(cells).rstrip())
    return [name for place, name in enumerate(columns) if place not in shown]


def fits(columns: Sequence[str], table: Iterable[Sequence[object]]) -> bool:
    """Check whether a terminal of this width has room for all columns of a table."""
    grid = [columns, *table]
    widths = [max(width_of(safe(str(cell))) for cell in column) for column in zip(*grid, strict=True)]
    return _line(widths) <= shutil.get_terminal_size().columns


def _line(widths: Iterable[int]) -> int:
    """Return the width of a line of cells, with two spaces between them."""
    return sum(width + 2 for width in widths) - 2


def width_of(text: str) -> int:
    """Return how many terminal columns a text takes: characters of some scripts take two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _fitting(columns: Sequence[str], widths: Sequence[int], kept: set[str], spare: set[str]) -> list[int]:
    """Return the places of the columns that fit, with two spaces between them; expendable columns come last."""
    shown = [place for place, name in enumerate(columns) if name in kept]
    room = shutil.get_terminal_size().columns + 2 - sum(widths[place] + 2 for place in shown)
    others = [place for place, name in enumerate(columns) if name not in kept]
    for place in sorted(others, key=lambda place: columns[place] in spare):
        if widths[place] + 2 <= room:
            room -= widths[place] + 2
            shown.append(place)
    return sorted(shown or [0])


def _style(words: str) -> dict[str, Any]:
    given = words.split()
    colour = [word for word in given if word not in _FLAGS]
    return dict.fromkeys((word for word in given if word in _FLAGS), True) | {"fg": colour[0] if colour else None}
