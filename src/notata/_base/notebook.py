"""HTML for notebooks: tables, notes and pictures, with inline styles that suit light and dark themes.

Every text is escaped and shortened, so that a run of another person cannot add markup or fill the notebook.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from notata._base.display import brief, more
from notata._base.terminal import safe

__all__ = ["Cell", "cell", "escaped", "grid", "names", "note", "page", "pictures", "problem", "state"]

_ROWS: Final = 50  # displayed rows of a table
_COLUMNS: Final = 30
_WIDTH: Final = 200  # displayed characters of a value
_CELL: Final = 80  # the same in a table of many rows
_NAME: Final = 30  # characters of a name beside its value that stay on one line
_SHORT: Final = 48  # characters of a text that is not broken into lines
_EXACT: Final = 8  # characters of a number that is shown as it is; a longer one is rounded to 6 digits

_LINE: Final = "1px solid #8885"  # half transparent grey
_COLOURS: Final = {
    "complete": "#009e73",
    "running": "#0072b2",
    "failed": "#d55e00",
    "died": "#cc79a7",
}
"""The colours of states, from Okabe and Ito; each has a contrast of 3 on white and on black."""

_OTHER: Final = "#888"
_NONCHARACTERS: Final = {0xFFFE: "\N{REPLACEMENT CHARACTER}", 0xFFFF: "\N{REPLACEMENT CHARACTER}"}  # illegal in XML


@dataclass(frozen=True, slots=True)
class Cell:
    """The text of a cell, and how it is shown.

    Attributes:
        text: The text, not escaped.
        is_number: Whether it is aligned to the right.
        colour: The colour of a dot before the text; empty for none.
    """

    text: str
    is_number: bool = False
    colour: str = ""


def cell(value: Any) -> Cell:
    """Return the cell for any value: floats are rounded to 6 digits.

    >>> cell(1 / 3)
    Cell(text='0.333333', is_number=True, colour='')
    """
    if isinstance(value, Cell):
        return value
    if value is None:
        return Cell("")
    if isinstance(value, float):
        text = repr(float(value))
        return Cell(text if len(text) <= _EXACT else f"{value:.6g}", is_number=True)
    if isinstance(value, int) and not isinstance(value, bool):
        return Cell(brief(value), is_number=True)
    try:
        return Cell(str(value))
    except Exception:  # a class may have its own str, and Python does not print integers of more than 4300 digits
        return Cell(brief(value))


def state(status: str, shown: str = "") -> Cell:
    """Return the cell for the status of a run, with a dot in its colour."""
    return Cell(shown or status, colour=_COLOURS.get(status, _OTHER))


def escaped(text: str, most: int = _WIDTH) -> str:
    """Return at most `most` characters of a text, escaped for HTML and XML; control characters become escapes.

    >>> escaped("<b>"), escaped("abcdef", 3)
    ('&lt;b&gt;', 'abc…')
    """
    from html import escape  # the import takes 2 ms, and only notebooks need it

    return escape(safe(text[:most]).translate(_NONCHARACTERS)) + "…" * (len(text) > most)


# -- parts of a page ---------------------------------------------------------------------------------------


def page(title: str, *parts: str) -> str:
    """Return HTML with a title and these parts, which are HTML themselves.

    >>> "<b>run a</b>" in page("run a")
    True
    """
    return f'<div style="line-height:1.4;text-align:left"><div><b>{escaped(title)}</b></div>{"".join(parts)}</div>'


def note(text: str) -> str:
    """Return a short text below a part; nothing if it is empty."""
    return f'<div style="opacity:.75;margin:2px 0">{escaped(text, 500)}</div>' if text else ""


def problem(error: object) -> str:
    """Return a message about something that could not be read."""
    text = escaped(str(error), 1000)
    return f'<div style="border-left:3px solid #d55e00;padding:2px 8px;margin:4px 0">{text}</div>'


def pictures(drawn: Iterable[str]) -> str:
    """Return pictures side by side; nothing if there are none."""
    found = "".join(drawn)
    return f'<div style="display:flex;flex-wrap:wrap;gap:8px 16px;margin:6px 0">{found}</div>' if found else ""


def names(caption: str, values: Mapping[str, Any]) -> str:
    """Return a table of names and values; nothing if there are none.

    >>> html = names("params", {"omega": 2.0})
    >>> html.count("<tr"), ">omega</th>" in html, ">2.0</td>" in html
    (1, True, True)
    """
    if not values:
        return ""
    style = "text-align:left;vertical-align:top;padding:2px 16px 2px 0;overflow-wrap:anywhere"
    letters = min(_NAME, max(len(str(name)) for name in islice(values, _ROWS)))  # a long value may not break the names
    lines = [
        f'<th style="{style};min-width:calc({letters}ch + 16px);font-weight:500">{escaped(str(name))}</th>'
        f'<td style="{style}">{_content(cell(value), _WIDTH)}</td>'
        for name, value in islice(values.items(), _ROWS)
    ]
    return _table(caption, lines, 2, len(values))


def grid(
    caption: str, columns: Sequence[str], records: Iterable[Mapping[str, Any]], *, total: int | None = None
) -> str:
    """Return a table of many rows; of many rows or columns it has the first ones, and their number.

    Args:
        caption: A text above it; empty for none.
        columns: The names from left to right.
        records: The rows by column; those that a row lacks are empty.
        total: The number of rows, if `records` has no length.

    >>> html = grid("", ["dt", "status"], [{"dt": 0.1, "status": state("failed")}])
    >>> html.count("<tr"), "text-align:right" in html, "failed</td>" in html
    (2, True, True)
    """
    shown = columns[:_COLUMNS]
    rows = [[cell(record.get(name)) for name in shown] for record in islice(records, _ROWS)]
    count = len(records) if total is None and isinstance(records, Sequence) else total or len(rows)
    sides = ["right" if _has_numbers(column) else "left" for column in zip(*rows, strict=True)] or ["left"] * len(shown)
    heads = "".join(
        f'<th style="{_style(side)};font-weight:600">{escaped(str(name), _CELL)}</th>'
        for side, name in zip(sides, shown, strict=True)
    )
    lines = [
        "".join(
            f'<td style="{_style(side, one.text)}">{_content(one, _CELL)}</td>'
            for side, one in zip(sides, row, strict=True)
        )
        for row in rows
    ]
    rest = more(len(columns), _COLUMNS)
    return _table(caption, [heads, *lines], len(shown), count + 1) + note(f"{rest} columns" * bool(rest))


def _has_numbers(column: Sequence[Cell]) -> bool:
    """Check whether most cells of a column are numbers."""
    given = [one.is_number for one in column if one.text]
    return 2 * sum(given) > len(given)


def _style(side: str, text: str = "") -> str:
    """Return the style of a cell; a long text is broken into lines, a short one is not."""
    breaks = "min-width:20em;white-space:normal" if len(text) > _SHORT else "white-space:nowrap"
    numerals = ";font-variant-numeric:tabular-nums" * (side == "right")
    return f"text-align:{side};vertical-align:top;padding:2px 16px 2px 0;{breaks}{numerals}"


def _content(one: Cell, most: int) -> str:
    dot = f'<span style="color:{one.colour}">●</span> ' if one.colour else ""
    return dot + escaped(one.text, most)


def _table(caption: str, lines: Sequence[str], columns: int, total: int) -> str:
    """Return a table that scrolls if it is wide; `total` is the number of its lines, omitted ones included."""
    left = total - len(lines)
    last = f'<tr><td colspan="{columns}" style="text-align:left;border:0">… and {left:,} more</td></tr>'
    body = "".join(f'<tr style="background:none;border-bottom:{_LINE}">{line}</tr>' for line in lines) + last * (
        left > 0
    )
    title = '<caption style="text-align:left;caption-side:top;color:inherit;opacity:.75;padding:4px 0 0">'
    head = f"{title}{escaped(caption)}</caption>" if caption else ""
    style = "border-collapse:collapse;border:0;color:inherit;background:none;font-size:inherit;margin:2px 0"
    return f'<div style="overflow-x:auto"><table style="{style}">{head}{body}</table></div>'
