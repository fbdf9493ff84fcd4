"""Drawing of curves as lines of text: dots of braille characters, axes with round numbers, times or powers of ten.

plotext would do this, too, but its versions 5 and 6 draw by different functions, it labels logarithmic axes with
numbers such as 0.20449, and takes 0.4 to 0.8 s to import.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias

import click
import numpy as np
import numpy.typing as npt

from notata.cli.output import width_of

__all__ = ["COLOURS", "MARKS", "Axis", "Line", "picture"]

Array: TypeAlias = npt.NDArray[np.float64]
Kind: TypeAlias = Literal["number", "log", "seconds", "time"]

COLOURS: Final = (
    "cyan", "yellow", "magenta", "green", "red", "blue",
    "bright_cyan", "bright_yellow", "bright_magenta", "bright_green", "bright_red", "bright_blue",
)  # fmt: skip
"""The colours of lines, in this order."""

MARKS: Final = "*ox#@%&=~^ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""The characters of lines without colours, or without braille characters."""

_DOTS: Final = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # bits of a braille cell, by column and row
_BLANK: Final = 0x2800
_FRACTIONS: Final = (1, 2, 5, 10)
_SPANS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)
_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


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


@dataclass(frozen=True, slots=True)
class Axis:
    """The range of an axis, and how positions and labels follow from values.

    Attributes:
        kind: ``number``, ``log``, ``seconds`` (since a start), or ``time`` (seconds since 1970).
        low: The smallest value.
        high: The largest value; larger than `low`.
    """

    kind: Kind
    low: float
    high: float

    @classmethod
    def of(cls, kind: Kind, values: Iterable[Array]) -> Axis:
        """Return the axis for some values, of which those that it cannot show are ignored."""
        shown = [part[_is_shown(kind, part)] for part in values]
        shown = [part for part in shown if len(part)]
        low = min((float(part.min()) for part in shown), default=1.0)
        high = max((float(part.max()) for part in shown), default=low)
        if kind == "time" and not _FIRST_TIME <= low <= high <= _LAST_TIME:
            kind = "number"
        if high - low <= max(_SMALLEST, _EXACT * max(abs(low), abs(high))):  # equal, or nearly
            half = abs(low) / 2 if abs(low) > _SMALLEST and kind != "time" else 1.0
            low, high = (low / 2, high * 2) if kind == "log" else (low - half, high + half)
        return cls(kind, low, high)

    @property
    def date(self) -> str:
        """The date of an axis of times; empty if it has several, which the labels have then."""
        dates = (
            {f"{datetime.fromtimestamp(at):%Y-%m-%d}" for at in (self.low, self.high)} if self.kind == "time" else ()
        )
        return "".join(dates) if len(dates) == 1 else ""

    def positions(self, values: Array) -> Array:
        """Return values as fractions of the axis, from 0 to 1; NaN for those that it cannot show."""
        return self._fractions(np.where(_is_shown(self.kind, values), values, np.nan))

    def _fractions(self, values: Array) -> Array:
        if self.kind == "log":
            return (np.log10(values) - math.log10(self.low)) / (math.log10(self.high) - math.log10(self.low))
        return (values - self.low) / (self.high - self.low)

    def ticks(self, most: int) -> list[tuple[float, str]]:
        """Return at most about `most` positions with their labels."""
        if self.kind == "log" and (found := self._powers(most)):
            values, labels = found, [_power(value) for value in found]
        elif self.kind in ("seconds", "time"):
            values, labels = self._times(most)
        else:
            step = _step((self.high - self.low) / most)
            first, last = math.ceil(self.low / step), math.floor(self.high / step)
            values = [number * step for number in range(first, last + 1)]
            digits = 1 + max(0, math.ceil(math.log10(max(abs(self.low), abs(self.high)) / step)))
            labels = [f"{value:.{max(4, digits)}g}" for value in values]
        return [*zip(self._fractions(np.array(values, np.float64)).tolist(), labels, strict=True)]

    def _powers(self, most: int) -> list[float]:
        """Return powers of ten, and for a short axis also twice and five times a power; none for a very short one."""
        first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
        if last - first >= 1:
            return [10.0**power for power in range(first, last + 1, 1 + (last - first) // max(1, most))]
        near = (float(f"{factor}e{power}") for power in range(first - 1, last + 1) for factor in (1, 2, 5))
        found = [value for value in near if self.low <= value <= self.high]
        return found if len(found) > 1 else []

    def _times(self, most: int) -> tuple[list[float], list[str]]:
        wanted = (self.high - self.low) / most
        if wanted < 0.5:
            step = _step(wanted)
        else:
            step = next((span for span in _SPANS if span >= wanted), 86_400 * _step(wanted / 86_400))
        zone = 0.0
        if self.kind == "time":
            zone = (datetime.fromtimestamp(self.low).astimezone().utcoffset() or timedelta()).total_seconds()
        first, last = math.ceil((self.low + zone) / step), math.floor((self.high + zone) / step)
        values = [number * step - zone for number in range(first, last + 1)]
        if self.kind == "time":
            return values, [_clock(datetime.fromtimestamp(value), step, has_date=not self.date) for value in values]
        size, unit = next(((size, unit) for size, unit in _UNITS if size <= step), _UNITS[-1])
        return values, [f"{value / size:.6g} {unit}" if value else "0" for value in values]


_LARGEST: Final = 1e300  # of the values that are shown, so that differences and products are floats
_SMALLEST: Final = 1e-300
_EXACT: Final = 1e-14  # a smaller difference, as a part of the values, is not shown
_FIRST_TIME: Final = 0.0
_LAST_TIME: Final = 3e10  # in the year 2920; datetime has limits, which differ between systems


def _clock(time: datetime, step: float, *, has_date: bool) -> str:
    """Return the label of a time of day, as exact as the distance of the labels."""
    if step >= 86_400:
        return f"{time:%Y-%m-%d}"
    text = f"{time:%H:%M}" if step >= 60 else f"{time:%H:%M:%S}" if step >= 1 else f"{time:%H:%M:%S.%f}"[:-3]
    return f"{time:%m-%d} {text}" if has_date else text


def _is_shown(kind: Kind, values: Array) -> npt.NDArray[np.bool_]:
    return (values >= _SMALLEST if kind == "log" else values >= -_LARGEST) & (values <= _LARGEST)


def _step(rough: float) -> float:
    """Return a round distance of ticks: 1, 2 or 5 times a power of ten, not smaller than this."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next((factor * power for factor in _FRACTIONS if factor * power >= rough), 10 * power)


def _power(value: float) -> str:
    return f"{value:g}" if 1e-3 <= value < 1e5 else f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")


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
