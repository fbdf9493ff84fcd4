"""Drawing of curves as lines of text: dots of braille characters.

plotext would do this, too, but its versions 5 and 6 draw by different functions, it labels logarithmic axes with
numbers such as 0.20449, and takes 0.4 to 0.8 s to import.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import click
import numpy as np
import numpy.typing as npt

from notata._base.axes import Array, Axis
from notata.cli.output import width_of

__all__ = ["COLOURS", "MARKS", "Line", "picture"]

COLOURS: Final = (
    "cyan", "yellow", "magenta", "green", "red", "blue",
    "bright_cyan", "bright_yellow", "bright_magenta", "bright_green", "bright_red", "bright_blue",
)  # fmt: skip
"""The colours of lines, in this order."""

MARKS: Final = "*ox#@%&=~^ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""The characters of lines without colours, or without braille characters."""

_DOTS: Final = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # bits of a braille cell, by column and row
_BLANK: Final = 0x2800


@dataclass(frozen=True, slots=True)
class Line:
    """A line to draw: points in order; a value that is not finite breaks it.

    Attributes:
        x: The coordinates.
        y: The values.
        number: Its number, which decides its colour and mark.
    """

    x: Array
    y: Array
    number: int


# -- the picture -------------------------------------------------------------------------------------------


def picture(
    lines: Sequence[Line], width: int, height: int, *, x: Axis, y: Axis, title: str = "", below: str = "", marks: bool
) -> Iterator[str]:
    """Yield the rows of text of a picture.

    Args:
        lines: The lines; a later one covers earlier ones.
        width: The number of characters of a row.
        height: The number of rows, with title and axis.
        x: The horizontal axis.
        y: The vertical axis.
        title: A text above.
        below: A text at the end of the lower axis.
        marks: Draw one plain character for each point, another one for each line, instead of coloured dots.
    """
    rows = max(3, height - 2 - bool(title))
    ticks = {_row(at, rows): label for at, label in y.ticks(max(2, rows // 2))}
    gutter = max(map(len, ticks.values()), default=0)
    columns = max(10, width - gutter - 1)
    canvas = _Canvas(columns, rows, 1 if marks else 2, 1 if marks else 4)
    for line in lines:
        canvas.draw(x.positions(line.x), y.positions(line.y), line.number)
    if title:
        yield f"{'':{gutter}} {title}"
    sides = ("+", "|", "-") if marks else ("┤", "│", "─")
    for row, drawn in enumerate(canvas.rows()):
        yield f"{ticks.get(row, ''):>{gutter}}{sides[0] if row in ticks else sides[1]}{drawn}".rstrip()
    places, labels = _labels(x, columns, below)
    corner, tick = ("+", "+") if marks else ("└", "┬")
    yield f"{'':{gutter}}{corner}" + "".join(tick if place in places else sides[2] for place in range(columns))
    yield f"{'':{gutter}} {labels}".rstrip()


def _row(position: float, rows: int) -> int:
    return min(rows - 1, max(0, round((1 - position) * (rows - 1))))


def _labels(axis: Axis, columns: int, below: str) -> tuple[set[int], str]:
    """Return the columns of the ticks, and the row of their labels, with the name of the axis at the end."""
    end = columns - width_of(below)
    text = [" "] * end
    end -= 2 * bool(below)
    places = set()
    free = 0
    for at, label in axis.ticks(max(2, columns // 14)):
        place = round(at * (columns - 1))
        begin = min(max(0, place - len(label) // 2), max(0, end - len(label)))
        if begin < free or begin + len(label) > end:
            continue
        text[begin : begin + len(label)] = label
        places.add(place)
        free = begin + len(label) + 2
    return places, "".join(text) + below


class _Canvas:
    """A grid of cells; each cell has dots, and the number of the line that was drawn last in it."""

    def __init__(self, columns: int, rows: int, wide: int, high: int) -> None:
        self._wide, self._high = wide, high
        self._dots = np.zeros((rows * high, columns * wide), bool)
        self._number = np.zeros((rows, columns), np.int64)

    def draw(self, x: Array, y: Array, number: int) -> None:
        """Draw a line through points, given as fractions of width and height; points that are NaN break it."""
        high, wide = self._dots.shape
        across = np.rint(np.clip(x, 0, 1) * (wide - 1))
        down = np.rint((1 - np.clip(y, 0, 1)) * (high - 1))
        is_shown = np.isfinite(across) & np.isfinite(down) & (x >= 0) & (x <= 1) & (y >= 0) & (y <= 1)
        self._set(across[is_shown], down[is_shown], number)
        joins = np.flatnonzero(is_shown[:-1] & is_shown[1:])
        for at in joins.tolist():
            length = int(max(abs(across[at + 1] - across[at]), abs(down[at + 1] - down[at])))
            if length > 1:
                between = np.arange(1, length) / length
                self._set(
                    np.rint(across[at] + between * (across[at + 1] - across[at])),
                    np.rint(down[at] + between * (down[at + 1] - down[at])),
                    number,
                )

    def _set(self, across: Array, down: Array, number: int) -> None:
        columns, rows = across.astype(np.int64), down.astype(np.int64)
        self._dots[rows, columns] = True
        self._number[rows // self._high, columns // self._wide] = number

    def rows(self) -> Iterator[str]:
        """Yield each row of cells as text."""
        for row, numbers in enumerate(self._number.tolist()):
            block = self._dots[row * self._high : (row + 1) * self._high]
            yield "".join(self._marks(block, numbers) if self._wide == 1 else self._braille(block, numbers))

    def _marks(self, block: npt.NDArray[np.bool_], numbers: list[int]) -> Iterator[str]:
        for dot, number in zip(block[0].tolist(), numbers, strict=True):
            yield MARKS[number % len(MARKS)] if dot else " "

    def _braille(self, block: npt.NDArray[np.bool_], numbers: list[int]) -> Iterator[str]:
        """Yield characters of one colour together, so that there are few control sequences."""
        bits = sum(block[row, column::2] * _DOTS[column][row] for column in range(2) for row in range(4))
        begun, colour = "", -1
        for code, number in zip(np.asarray(bits).tolist(), numbers, strict=True):
            if code and number != colour:
                if begun:
                    yield _coloured(begun, colour)
                begun, colour = "", number
            begun += chr(_BLANK + code) if code else " "
        yield _coloured(begun, colour)


def _coloured(text: str, number: int) -> str:
    return click.style(text, fg=COLOURS[number % len(COLOURS)]) if number >= 0 and text.strip() else text
