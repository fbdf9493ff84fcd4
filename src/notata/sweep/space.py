"""The points of a sweep: all combinations of some values, without a list of them in memory."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, overload

from notata.errors import ConfigurationError

__all__ = ["Grid", "grid"]


def grid(**values: Any) -> Grid:
    """Return all combinations of these values, as a sequence of dictionaries.

    The points are made when they are needed, so a grid of any size takes the memory of its values only. The last
    parameter changes fastest. To combine grids, use `itertools.chain`.

    Args:
        **values: For each parameter the values that it takes: a list, range, array, or another iterable. A text,
            a dictionary or any other single value is a constant of all points.

    Raises:
        ConfigurationError: A set is given, which has no order, or there are more than 2**63 - 1 points.

    >>> points = grid(dt=[0.1, 0.01], seed=range(3), method="rk4")
    >>> len(points), points[4]
    (6, {'dt': 0.01, 'seed': 1, 'method': 'rk4'})
    >>> len(grid(x=range(1000), y=range(1000))[:500_000])
    500000
    """
    axes = {name: _axis(name, given) for name, given in values.items()}
    lengths = list(map(_length, axes.values()))
    number = math.prod(lengths)
    if max(number, *lengths, 0) > sys.maxsize:  # the largest length of a sequence in Python
        raise ConfigurationError(
            f"invalid grid of {', '.join(axes)}: it would have more than {sys.maxsize} points, the most that a "
            "sequence can have. Pass fewer values"
        )
    return Grid(axes, range(number))


def _length(values: Sequence[Any]) -> int:
    """Return the number of values, also of a range that is too long for `len`."""
    return values.index(values[-1]) + 1 if isinstance(values, range) and values else len(values)


def _axis(name: str, given: Any) -> Sequence[Any]:
    """Return the values of one parameter as a sequence."""
    if isinstance(given, set | frozenset):
        raise ConfigurationError(
            f"invalid values of {name}: a set has no order, so each process would number the points differently. Pass "
            "a list, such as sorted(values)"
        )
    if isinstance(given, range):
        return given
    is_single = isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable)
    return (given,) if is_single or getattr(given, "ndim", 1) == 0 else tuple(given)


class Grid(Sequence[dict[str, Any]]):
    """All combinations of some values, or a part of them; see `grid`.

    Attributes:
        axes: The values of each parameter.
    """

    __slots__ = ("_numbers", "axes")

    def __init__(self, axes: Mapping[str, Sequence[Any]], numbers: range) -> None:
        self.axes = dict(axes)
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Grid: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | Grid:
        if isinstance(index, slice):
            return Grid(self.axes, self._numbers[index])
        number, places = self._numbers[index], []
        for values in reversed(self.axes.values()):
            number, place = divmod(number, len(values))
            places.append(values[place])
        return dict(zip(self.axes, reversed(places), strict=True))

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name}: {len(values)}" for name, values in self.axes.items())
        return f"<Grid of {len(self)} points ({sizes})>"
