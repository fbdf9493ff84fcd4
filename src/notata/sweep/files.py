"""Read a space of parameters from a TOML file: axes of a grid, fixed values, and points one by one."""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from notata import formats
from notata._base import display
from notata._base.terminal import one_line
from notata.errors import ConfigurationError, EncodeError
from notata.sweep.points import Points, token

__all__ = ["SpaceFile", "read_space"]

LARGEST: Final = 16 * 2**20
"""Bytes of a file."""

MOST: Final = 10**8
"""Points of a space. More of them are probably a mistake: the table of so many runs cannot be read."""

_AXIS: Final = 10**6  # values of linspace, logspace and geomspace, which are computed at once

_TABLES: Final = ("fixed", "grid", "points")
_TEXTS: Final = ("experiment", "base_dir")
_TAKEN: Final = ("log", "skip_existing")  # the first argument of a task; an argument of `Experiment.add`
_VARIABLE: Final = re.compile(r"\$(\w+|\{[^}]*\})")
_HEADER: Final = re.compile(r"\s*\[{1,2}\s*([^\[\]#]*?)\s*\]")


@dataclass(frozen=True, slots=True)
class SpaceFile:
    """The content of a TOML file that describes a space.

    Attributes:
        path: The path of the file.
        experiment: The name of the experiment; by default the name of the file without its suffix.
        base_dir: The folder that contains the experiment; None if the file names none.
        points: The points.
    """

    path: str
    experiment: str
    base_dir: str | None
    points: Points


def read_space(path: str | os.PathLike[str]) -> SpaceFile:
    """Read a space from a TOML file.

    The file has ``experiment`` and ``base_dir`` at the top, both optional. ``[grid]`` has the axes of a grid, all of
    whose combinations are points: a list of values, ``{range = [start, stop, step]}`` as in Python, or ``{linspace =
    [start, stop, number]}``, ``logspace`` or ``geomspace`` as in numpy. ``[fixed]`` has values of all points. Each
    ``[[points]]`` is one further point.

    Raises:
        ConfigurationError: The file cannot be read, or has a mistake. The message says in which line.
    """
    return _Reading(os.fspath(path)).space()


class _Reading:
    """One file that is being read.

    Attributes:
        path: The path of the file.
        text: The content of the file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.text = _text(path)

    def space(self) -> SpaceFile:
        try:
            fields = tomllib.loads(self.text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise ConfigurationError(f"cannot read the space {self.path}: it is not valid TOML: {error}") from error
        self._check_names(fields)
        fixed = {name: self._plain(value, "fixed", name) for name, value in self._table(fields, "fixed").items()}
        axes = {name: self._axis(name, value) for name, value in self._table(fields, "grid").items()}
        if both := sorted(fixed.keys() & axes.keys()):
            self.fail("grid", both[0], "is also in [fixed]. Keep one of them")
        points = Points(axes, fixed, self._further(fields))
        self._check_number(points, axes)
        base = fields.get("base_dir")
        name = fields.get("experiment", os.path.basename(self.path).removesuffix(".toml"))
        return SpaceFile(self.path, name, None if base is None else self._expanded(base), points)

    def _check_names(self, fields: Mapping[str, Any]) -> None:
        for name in fields:
            if name not in (*_TABLES, *_TEXTS):
                self.fail(
                    "", name, "is unknown. Write a value that all points share below [fixed], and an axis below [grid]"
                )
        for name in _TEXTS:
            if not isinstance(fields.get(name, ""), str) or fields.get(name) == "":
                self.fail("", name, f"is {_shown(fields[name])}; write a text in quotes")
        if not fields.get("grid") and not fields.get("points"):
            raise ConfigurationError(f"the space {self.path} has no points: add [grid] or [[points]]")

    def _table(self, fields: Mapping[str, Any], table: str) -> dict[str, Any]:
        found = fields.get(table, {})
        if not isinstance(found, dict):
            self.fail("", table, f"is {_shown(found)}; write a table: [{table}], and below it a line for each name")
        for name in found:
            self._check_name(table, name)
        return found

    def _check_name(self, table: str, name: str) -> None:
        if name in _TAKEN:
            self.fail(table, name, "cannot be the name of a parameter, because notata uses it. Choose another name")

    def _further(self, fields: Mapping[str, Any]) -> list[dict[str, Any]]:
        found = fields.get("points", [])
        if not isinstance(found, list) or not all(isinstance(point, dict) for point in found):
            self.fail("", "points", "is not a list of points; write [[points]], and below it a line for each name")
        further = []
        for number, point in enumerate(found, 1):
            for name in point:
                self._check_name(f"points[{number}]", name)
            further.append({name: self._plain(value, f"points[{number}]", name) for name, value in point.items()})
        return further

    def _plain(self, value: Any, table: str, name: str) -> Any:
        try:
            return formats.plain(value, f"{table}.{name}")
        except EncodeError as error:
            self.fail(table, name, f"cannot be stored: {error}")

    # -- axes ----------------------------------------------------------------------------------------------

    def _axis(self, name: str, value: Any) -> Sequence[Any]:
        if isinstance(value, list):
            values: Sequence[Any] = [self._plain(item, "grid", name) for item in value]
        elif isinstance(value, dict) and len(value) == 1 and next(iter(value)) in _RANGES:
            [(kind, numbers)] = value.items()
            values = self._range(name, kind, numbers)
        else:
            kinds = ", ".join(_RANGES)
            self.fail("grid", name, f"is {_shown(value)}; write a list of values, or a table with one of {kinds}")
        if not len(values):
            self.fail("grid", name, "has no values, so the grid has no points")
        if not isinstance(values, range) and len({token(item) for item in values}) < len(values):
            self.fail("grid", name, "contains a value twice, so two points would be the same run")
        return values

    def _range(self, name: str, kind: str, numbers: Any) -> Sequence[Any]:
        make, usage = _RANGES[kind]
        try:
            return make(*numbers)
        except (TypeError, ValueError, OverflowError) as error:
            reason = f" ({error})" if type(error) is ValueError else ""
            self.fail("grid", name, f"is {_shown({kind: numbers})}; write {{{kind} = {usage}}}{reason}")

    def _check_number(self, points: Points, axes: Mapping[str, Sequence[Any]]) -> None:
        count = math.prod(len(values) for values in axes.values())
        if count > MOST:
            raise ConfigurationError(
                f"the space {self.path} has {count:,} points, but at most {MOST:,} are possible. Remove an axis of "
                "[grid], or values of one"
            )
        grid = count if axes else 0
        seen: dict[object, int] = {}
        for number in range(grid, len(points)):
            point, place = points[number], number - grid + 1
            before = seen.setdefault(token(point), place)
            if before != place:
                self.fail(f"points[{place}]", "", f"equals points[{before}], so two points would be the same run")
            found = points.find(point)
            if found is not None and found < grid:
                self.fail(f"points[{place}]", "", "is also one of the combinations of [grid]. Remove one of them")

    # -- texts ---------------------------------------------------------------------------------------------

    def _expanded(self, base: str) -> str:
        """Return the base folder with environment variables expanded, as in ``$SCRATCH/outputs``."""
        expanded = os.path.expandvars(base)
        if unset := _VARIABLE.search(expanded):
            self.fail("", "base_dir", f"is {base!r}, but the environment variable {unset[0]} is not set. Set it")
        return expanded

    def fail(self, table: str, name: str, problem: str) -> NoReturn:
        """Raise an error that names the line.

        Raises:
            ConfigurationError: Always.
        """
        line = _line_of(self.text, table, name)
        where = f"{self.path}, line {line}" if line else self.path
        key = ".".join(part for part in (table, name) if part)
        raise ConfigurationError(f"cannot read the space {where}: {one_line(key, 200)} {problem}")


def _text(path: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            size = display.size(LARGEST)
            raise ConfigurationError(f"cannot read the space {path}: the file has more than {size}")
        return data.decode()
    except OSError as error:
        raise ConfigurationError(f"cannot read the space {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"cannot read the space {path}: it is not text in UTF-8, as TOML is") from error


def _line_of(text: str, table: str, name: str) -> int:
    r"""Return the number of the line of a key, or of the header of its table; 0 if it is not found.

    >>> _line_of("[grid]\na = 1\nb = 2", "grid", "b")
    3
    """
    table, _, number = table.rstrip("]").partition("[")
    key = re.compile(rf"\s*[\"']?{re.escape(name)}[\"']?\s*[=.]") if name else None
    current, header, count = "", 0, 0
    for place, line in enumerate(text.splitlines(), 1):
        if found := _HEADER.match(line):
            current = found[1]
            count += current == table
            if current in (table, f"{table}.{name}" if table else name) and count <= int(number or 1):
                header = place
        elif key is not None and current == table and count == int(number or count) and key.match(line):
            return place
    return header


def _shown(value: object) -> str:
    return one_line(repr(value), 100)


# -- ranges ------------------------------------------------------------------------------------------------


def _integers(*numbers: Any) -> Sequence[int]:
    if not all(type(number) is int for number in numbers):
        raise ValueError("range needs integers; linspace takes others")
    return range(*numbers)


def _spaced(function: str) -> Callable[[Any, Any, Any], list[float]]:
    """Return a function that returns the numbers of a function of numpy as a list."""

    def values(start: Any, stop: Any, number: Any) -> list[float]:
        if not all(type(end) in (int, float) for end in (start, stop)):
            raise TypeError(f"{function} goes from one number to another")
        if type(number) is not int or not 1 <= number <= _AXIS:
            raise ValueError(f"the number of values is an integer from 1 to {_AXIS:,}")
        import numpy as np

        with np.errstate(all="ignore"):
            found: list[float] = getattr(np, function)(start, stop, number).tolist()
        if not all(map(math.isfinite, found)):
            raise ValueError("a value is not finite")
        return found

    return values


_RANGES: Final[Mapping[str, tuple[Callable[..., Sequence[Any]], str]]] = {
    "range": (_integers, "[start, stop, step]"),
    "linspace": (_spaced("linspace"), "[start, stop, number]"),
    "logspace": (_spaced("logspace"), "[first exponent of 10, last exponent, number]"),
    "geomspace": (_spaced("geomspace"), "[start, stop, number]"),
}
