"""The points of a space that a file describes: a grid of axes with fixed values, and points one by one."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, overload

from notata.sweep.space import grid

__all__ = ["Points", "token"]


class Points(Sequence[Mapping[str, Any]]):
    """The points of a space: a grid of axes, then further points. Memory grows with the axes, not with their product.

    Args:
        axes: The values of each parameter of the grid, plain and without repetition; without an axis, the grid is
            empty.
        fixed: Values of all points; a further point can have another one.
        further: Points that are given one by one.

    >>> points = Points({"dt": [0.1, 0.2], "seed": range(3)}, {"method": "rk4"}, [{"dt": 1.0, "seed": 0}])
    >>> len(points), points[4]
    (7, {'method': 'rk4', 'dt': 0.2, 'seed': 1})
    >>> points.find({"seed": 1, "dt": 0.2, "method": "rk4"}), points.find({"seed": 1, "dt": 0.2})
    (4, None)
    """

    def __init__(
        self,
        axes: Mapping[str, Sequence[Any]],
        fixed: Mapping[str, Any] | None = None,
        further: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self._axes = dict(axes)
        self._fixed = dict(fixed or {})
        self._grid: Sequence[Mapping[str, Any]] = grid(**axes) if axes else ()
        self._further = [{**self._fixed, **point} for point in further]

    def __reduce__(self) -> tuple[type[Points], tuple[object, ...]]:
        return Points, (self._axes, self._fixed, self._further)

    def __len__(self) -> int:
        return len(self._grid) + len(self._further)

    @overload
    def __getitem__(self, at: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, at: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, at: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(at, slice):
            return [self[place] for place in range(*at.indices(len(self)))]
        place = at + len(self) if at < 0 else at
        if not 0 <= place < len(self):
            raise IndexError(f"the space has {len(self)} points, and none has the number {at}")
        if place < len(self._grid):
            return {**self._fixed, **self._grid[place]}
        return dict(self._further[place - len(self._grid)])

    def find(self, params: Mapping[str, Any]) -> int | None:
        """Return the number of the point that has exactly these parameters; None if the space has no such point.

        Args:
            params: Plain values, as a row of the table has them. Equal numbers, such as 2 and 2.0, are one value.
        """
        if len(params) == len(self._lookups) and (number := self._find_in_grid(params)) is not None:
            return number
        return self._numbers.get(token(dict(params))) if self._further else None

    def find_within(self, params: Mapping[str, Any]) -> list[int]:
        """Return the numbers of the points that have a part of these parameters, as a task can add others to its run.

        >>> Points({"dt": [0.1, 0.2]}).find_within({"dt": 0.2, "cells": 100})
        [1]
        """
        number = self._find_in_grid(params)
        parts = ({name: params[name] for name in names} for names in self._shapes if names <= params.keys())
        further = (self._numbers.get(token(part)) for part in parts)
        return [place for place in (number, *further) if place is not None]

    def _find_in_grid(self, params: Mapping[str, Any]) -> int | None:
        if not self._axes:
            return None
        number = 0
        for name, (step, place_of) in self._lookups.items():
            place = place_of(params[name]) if name in params else None
            if place is None:
                return None
            number += step * place
        return number

    @functools.cached_property
    def _shapes(self) -> set[frozenset[str]]:
        """The names of the parameters of the further points."""
        return {frozenset(point) for point in self._further}

    @functools.cached_property
    def _lookups(self) -> dict[str, tuple[int, Callable[[Any], int | None]]]:
        """For each parameter of the grid, the distance of two neighbours, and a function from a value to its place."""
        if not self._axes:
            return {}
        found: dict[str, tuple[int, Callable[[Any], int | None]]] = {}
        step = 1
        for name, values in reversed(self._axes.items()):
            found[name] = (step, _place_of(values))
            step *= len(values)
        alone = {name: (0, _place_of([value])) for name, value in self._fixed.items() if name not in self._axes}
        return found | alone

    @functools.cached_property
    def _numbers(self) -> dict[object, int]:
        return {token(point): len(self._grid) + place for place, point in enumerate(self._further)}


def _place_of(values: Sequence[Any]) -> Callable[[Any], int | None]:
    """Return a function that returns the place of a value in an axis, or None."""
    if isinstance(values, range):
        return functools.partial(_place_in_range, values)
    places = {token(value): place for place, value in enumerate(values)}
    return lambda value: places.get(token(value))


def _place_in_range(values: range, value: object) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return values.index(value) if type(value) is int and value in values else None


def token(value: Any) -> object:
    """Return a hashable form of a plain value, which is equal for values that give equal run ids.

    >>> token(2.0) == token(2), token(True) == token(1), token({"a": [1.0]}) == token({"a": [1]})
    (True, False, True)
    """
    if type(value) in (str, int):
        return value
    if isinstance(value, float):
        return value if value == value else ("nan",)
    if isinstance(value, dict | list):
        return (json.dumps(_canonical(value), sort_keys=True),)
    return (type(value).__name__, value)


def _canonical(value: Any) -> Any:
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _canonical(item) for name, item in value.items()}
    return [_canonical(item) for item in value] if isinstance(value, list) else value
