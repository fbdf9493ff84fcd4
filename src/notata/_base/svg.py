"""Curves as plain SVG text, for notebooks and for reports without a chart library.

A picture has axes, round ticks and a legend, takes the colour of the text around it, and has neither scripts nor
references. The colours are those of M. Okabe and K. Ito, Color Universal Design (2008), which people with any colour
vision can distinguish; after seven lines, dashes distinguish them, too.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from notata._base.axes import Array, Axis, Kind
from notata._base.display import more, shortened
from notata._base.notebook import escaped
from notata._base.terminal import safe
from notata._base.thinning import Coordinates, thinned

__all__ = ["COLOURS", "DASHES", "Line", "fitting_kind", "legend", "picture"]

COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "currentColor")
"""The colours of lines, in this order."""

DASHES: Final = ("", "6 3", "2 3", "8 3 2 3")
"""The dashes of the first, second, … seven lines."""

_LINES: Final = 20  # drawn lines of one picture
_BINS: Final = 150  # of a line, each of which gives at most six points
_POINTS: Final = 6000  # of all lines of a picture
_LABEL: Final = 28  # characters of a label
_TITLE: Final = 48
_FONT: Final = 11  # pixels
_ROW: Final = 16
_TOP: Final = 22
_BOTTOM: Final = 34
_DECADES: Final = 1000.0  # quotient of largest and smallest value from which on an axis is logarithmic


@dataclass(frozen=True, slots=True)
class Line:
    """A line to draw: points in order; a value that is not finite breaks it.

    Attributes:
        label: Its name in the legend.
        x: The coordinates.
        y: The values.
        number: Its number, which decides its colour and dashes.
    """

    label: str
    x: Coordinates
    y: Array
    number: int = 0

    @property
    def colour(self) -> str:
        """The colour of the line."""
        return COLOURS[self.number % len(COLOURS)]

    @property
    def style(self) -> str:
        """The attributes of the line."""
        dashes = DASHES[self.number // len(COLOURS) % len(DASHES)]
        return f'stroke="{self.colour}"' + f' stroke-dasharray="{dashes}"' * bool(dashes)


def fitting_kind(lines: Sequence[Line]) -> Kind:
    """Return ``log`` if all values are positive and their quotients exceed 1000, else ``number``.

    >>> fitting_kind([Line("a", np.arange(2), np.array([1e-6, 1.0]))])
    'log'
    """
    found = [line.y[np.isfinite(line.y)] for line in lines]
    found = [part for part in found if len(part)]
    low = min((float(part.min()) for part in found), default=0.0)
    return "log" if 0 < low <= max(float(part.max()) for part in found) / _DECADES else "number"


def picture(
    lines: Sequence[Line],
    title: str,
    *,
    below: str = "step",
    x: Kind = "number",
    y: Kind = "number",
    width: int = 320,
    height: int = 200,
    has_legend: bool = True,
) -> str:
    """Return a picture of curves as SVG text.

    Each line is thinned to a few thousand points, so that the text has at most some 100 kB; of more than 20 lines, the
    first are drawn.

    Args:
        lines: The lines; a later one covers earlier ones.
        title: A text above.
        below: The name of the horizontal axis.
        x: The kind of the horizontal axis.
        y: The kind of the vertical axis; a logarithmic one shows positive values only.
        width: The width in pixels.
        height: The height in pixels, without the legend.
        has_legend: Whether to name the lines below.

    >>> steps = np.arange(1000)
    >>> text = picture([Line("rk4", steps, np.sin(steps / 100))], "energy")
    >>> text.startswith("<svg "), "<title>energy</title>" in text, len(text) < 10_000
    (True, True, True)
    """
    drawn = lines[:_LINES]
    few = max(8, min(_BINS, _POINTS // (6 * max(1, len(drawn)))))
    points = [thinned(line.x, line.y, few) for line in drawn]
    across = Axis.of(x, [_shown(along, values) for along, values in points])
    up = Axis.of(y, [values for _, values in points])
    ticks = up.ticks(max(2, (height - _TOP - _BOTTOM) // 32))
    gutter = max((_width_of(label) for _, label in ticks), default=0) + 8
    box = _Box(gutter, _TOP, width - gutter - 8, height - _TOP - _BOTTOM)
    parts = [
        *_title(title, up),
        *_rows(box, ticks),
        *_columns(box, across, " ".join(filter(None, (below, across.date)))),
    ]
    for line, (along, values) in zip(drawn, points, strict=True):
        parts += _drawn(line, box, across.positions(along.astype(np.float64)), up.positions(values))
    if not any("<path" in part for part in parts):
        parts.append(_text(box.left + box.width / 2, box.top + box.height / 2, "no numbers", "middle"))
    keys, tall = _legend(lines, width, height) if has_legend else ([], 0)
    return _svg(title, [*parts, *keys], width, height + tall)


def legend(lines: Sequence[Line], width: int = 320) -> str:
    """Return a picture that only names the lines, for several pictures of the same lines."""
    keys, tall = _legend(lines, width, 4)
    return _svg("legend", keys, width, tall + 8)


@dataclass(frozen=True, slots=True)
class _Box:
    """The part of a picture in which curves are drawn, in pixels."""

    left: float
    top: float
    width: float
    height: float

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return the place of a point that is given as fractions of width and height."""
        return self.left + x * self.width, self.top + (1 - y) * self.height


def _svg(title: str, parts: Sequence[str], width: int, height: int) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="system-ui,sans-serif" font-size="{_FONT}" fill="none" '
        'stroke-width="1.5" stroke-linejoin="round" stroke-linecap="round" style="max-width:100%;color:inherit">'
        f"<title>{escaped(title)}</title>{''.join(parts)}</svg>"
    )


def _text(x: float, y: float, text: str, anchor: str = "start", weight: int = 400) -> str:
    style = f'text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text x="{x:.0f}" y="{y:.0f}" {style} fill="currentColor">{escaped(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, opacity: float) -> str:
    place = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {place} stroke="currentColor" stroke-width="1" opacity="{opacity}"/>'


def _title(title: str, up: Axis) -> Iterator[str]:
    kind = " (log)" if up.kind == "log" else ""
    yield _text(2, 13, shortened(title, _TITLE - len(kind)) + kind, weight=600)


def _rows(box: _Box, ticks: Sequence[tuple[float, str]]) -> Iterator[str]:
    """Yield the grid and the labels of the vertical axis."""
    for at, label in ticks:
        _, y = box.at(0, at)
        yield _line(box.left, y, box.left + box.width, y, 0.15)
        yield _text(box.left - 5, y + 4, label, "end")
    yield _line(box.left, box.top, box.left, box.top + box.height, 0.5)


def _columns(box: _Box, axis: Axis, below: str) -> Iterator[str]:
    """Yield the horizontal axis, its labels as far as they have room, and its name."""
    bottom = box.top + box.height
    yield _line(box.left, bottom, box.left + box.width, bottom, 0.5)
    free = 0.0
    for at, label in axis.ticks(max(2, int(box.width // 70))):
        x, _ = box.at(at, 0)
        half = _width_of(label) / 2
        x_text = min(x, box.left + box.width + 6 - half)
        if x_text - half < free:
            continue
        free = x_text + half + 8
        yield _line(x, bottom, x, bottom + 3, 0.5)
        yield _text(x_text, bottom + 14, label, "middle")
    yield _text(box.left + box.width / 2, bottom + 28, shortened(below, _LABEL), "middle")


def _shown(along: Coordinates, values: Array) -> Array:
    """Return the coordinates at which there is a value."""
    return along.astype(np.float64)[np.isfinite(values)]


def _drawn(line: Line, box: _Box, x: Array, y: Array) -> Iterator[str]:
    """Yield a line through points, given as fractions; points that are NaN break it, and a single one is a dot."""
    is_shown = np.isfinite(x) & np.isfinite(y)
    across = np.rint((box.left + x * box.width) * 10) / 10
    down = np.rint((box.top + (1 - y) * box.height) * 10) / 10
    edges = np.flatnonzero(np.diff(np.concatenate(([False], is_shown, [False])).astype(np.int8)))
    path = dots = ""
    for begin, end in edges.reshape(-1, 2).tolist():
        places = [f"{a:g} {d:g}" for a, d in zip(across[begin:end].tolist(), down[begin:end].tolist(), strict=True)]
        if len(places) == 1:
            dots += f"M{places[0]}h0"
        else:
            path += f"M{places[0]}L{' '.join(places[1:])}"
    if path:
        yield f'<path d="{path}" {line.style}/>'
    if dots:
        yield f'<path d="{dots}" stroke="{line.colour}" stroke-width="4"/>'


def _legend(lines: Sequence[Line], width: int, top: float) -> tuple[list[str], int]:
    """Return the names of lines in rows, each with a sample, and the height that they take."""
    labels = [shortened(safe(line.label), _LABEL) for line in lines[:_LINES]]
    room = 34 + max(map(_width_of, labels), default=0)
    columns = max(1, int((width - 4) // room))
    parts: list[str] = []
    for at, (line, label) in enumerate(zip(lines, labels, strict=False)):
        x, y = 2 + at % columns * room, top + _FONT + at // columns * _ROW
        parts += [f'<path d="M{x:.0f} {y - 4:.0f}h18" {line.style}/>', _text(x + 24, y, label)]
    rows = -(-len(labels) // columns)
    if rest := more(len(lines), _LINES):
        parts.append(_text(2, top + _FONT + rows * _ROW, f"{rest}, which are not drawn"))
        rows += 1
    return parts, rows * _ROW + 4


def _width_of(text: str) -> float:
    """Return about how many pixels a text takes."""
    return sum(_FONT if unicodedata.east_asian_width(char) in "WF" else 0.58 * _FONT for char in text)
