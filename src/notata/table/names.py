"""The names of parameters and metrics of many rows: they become the columns of a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final

from notata.formats import flattened
from notata.run.values import ERROR
from notata.table.row import REASON, Row

__all__ = ["Names", "flat_names", "own_names"]

_REASON: Final = attrgetter(REASON)
_ERROR: Final = attrgetter(ERROR)
_SIMPLE: Final = frozenset({bool, int, float, str, list, type(None)})
"""Types of nearly all values that are no dictionaries."""


@dataclass(slots=True)
class Names:
    """The names that some rows have, or may have: rows that were replaced or left out since count too.

    They are collected when the rows are parsed. The columns of a table are among them, so a search for the columns
    ends as soon as it has found all of them, mostly after a few rows.

    Attributes:
        params: The names of parameters, one for each item of a dictionary.
        metrics: The names of metrics, one for each item of a dictionary.
        own_metrics: The names of metrics as the rows have them.
        facts: `REASON` and `ERROR`, if a row has one, and ``pinned`` if the row of a part says so.
    """

    params: set[str] = field(default_factory=set)
    metrics: set[str] = field(default_factory=set)
    own_metrics: set[str] = field(default_factory=set)
    facts: set[str] = field(default_factory=set)

    def add(self, rows: Sequence[Row], *, are_flat: bool = False) -> None:
        """Add the names of rows.

        Args:
            rows: The rows.
            are_flat: No value of a row is a dictionary. Then there is no loop over the rows in Python.
        """
        own = set[str]().union(*[row.metrics for row in rows])
        self.own_metrics |= own
        if are_flat:
            self.params.update(*[row.params for row in rows])
            self.metrics |= own
        else:
            self.params |= flat_names([row.params for row in rows])
            self.metrics |= flat_names([row.metrics for row in rows])
        if REASON not in self.facts and any(map(_REASON, rows)):
            self.facts.add(REASON)
        if ERROR not in self.facts and any(map(_ERROR, rows)):
            self.facts.add(ERROR)

    def update(self, *others: Names) -> None:
        """Add the names of other rows."""
        for other in others:
            self.params |= other.params
            self.metrics |= other.metrics
            self.own_metrics |= other.own_metrics
            self.facts |= other.facts


def flat_names(dictionaries: Iterable[Mapping[str, Any]], possible: set[str] | None = None) -> set[str]:
    """Return the names that `notata.formats.flattened` gives the values of many dictionaries.

    Args:
        dictionaries: The dictionaries.
        possible: All of their names, and maybe more; the search ends when all were found.

    >>> sorted(flat_names([{"a": {"b": 1}}, {"c": 2}]))
    ['a.b', 'c']
    """
    names: set[str] = set()
    shapes: set[tuple[Any, ...]] = set()
    count = -1 if possible is None else len(possible)
    for values in dictionaries if count else ():
        if _SIMPLE.issuperset(map(type, values.values())):
            names.update(values)
            if len(names) == count:
                break
            continue
        inner = [(name, *value) for name, value in values.items() if type(value) is dict]
        shape = (*values, *inner)
        if shape not in shapes:
            names.update(flattened(values))
            if _is_simple(values, dict) and all(_is_simple(values[name]) for name, *_ in inner):
                shapes.add(shape)  # dictionaries of equal shape have equal names
            if len(names) == count:
                break
    return names


def own_names(dictionaries: Iterable[Mapping[str, Any]], possible: set[str] | None = None) -> set[str]:
    """Return the names in many dictionaries.

    Args:
        dictionaries: The dictionaries.
        possible: All of their names, and maybe more; the search ends when all were found.
    """
    names: set[str] = set()
    count = -1 if possible is None else len(possible)
    for values in dictionaries if count else ():
        names.update(values)
        if len(names) == count:
            break
    return names


def _is_simple(values: Mapping[str, Any], *others: type) -> bool:
    """Check whether the types of all values are in `_SIMPLE`, or among others."""
    return _SIMPLE.union(others).issuperset(map(type, values.values()))
