"""Axes of pictures: positions, and ticks with round numbers, times or powers of ten."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "Axis", "Kind"]

Array: TypeAlias = npt.NDArray[np.float64]
Kind: TypeAlias = Literal["number", "log", "seconds", "time"]

_FRACTIONS: Final = (1, 2, 5, 10)
_SPANS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)
_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_LARGEST: Final = 1e300  # of the values that are shown, so that differences and products are floats
_SMALLEST: Final = 1e-300
_EXACT: Final = 1e-14  # a smaller difference, as a part of the values, is not shown
_FIRST_TIME: Final = 0.0
_LAST_TIME: Final = 3e10  # in the year 2920; datetime has limits, which differ between systems


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
            labels = [_plain(f"{value:.{max(6, digits)}g}") for value in values]
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
    return f"{value:g}" if 1e-3 <= value < 1e5 else _plain(f"{value:.0e}")


def _plain(text: str) -> str:
    """Return a number without needless characters of its exponent."""
    return text.replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
