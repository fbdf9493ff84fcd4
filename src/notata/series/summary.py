"""Summaries of the columns of a series: last value, minimum, maximum, and their steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

__all__ = [
    "NONFINITE",
    "SCALARS",
    "Column",
    "flat_values",
    "kind_of",
    "loaded",
    "nonfinite_word",
    "stored",
    "summary_of",
]

SCALARS: Final = "scalars"
"""The name of the series that `Logbook.scalars` writes. Its columns have plain names in tables."""


NONFINITE: Final = "nonfinite"
"""The field that names the values which JSON has no numbers for; the value itself is null."""

_WORDS: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class Column:
    """One column of a series that is being written.

    Attributes:
        name: The name.
        prefix: The beginning of its part of a row.
        kind: float, str or bool; None before the first value other than None.
        count: The number of values other than None.
        last: The last value other than None; it may be NaN.
        min: The smallest number, NaN excluded; None if there is none.
        max: The largest number.
        min_step: The first step at which it has the smallest number.
        max_step: The first step at which it has the largest number.
    """

    __slots__ = ("count", "kind", "last", "max", "max_step", "min", "min_step", "name", "prefix")

    def __init__(self, name: str, prefix: str = "", kind: type | None = None) -> None:
        self.name = name
        self.prefix = prefix
        self.kind = kind
        self.count = 0
        self.last: Any = None
        self.min: float | None = None
        self.max: float = math.nan
        self.min_step = self.max_step = 0

    def add(self, step: int, value: Any) -> None:
        """Add a value at a step."""
        if value is None:
            return
        if self.kind is None:
            self.kind = kind_of(value)
        self.last = value
        self.count += 1
        if self.kind is float:
            if self.min is None:
                if value == value:  # not NaN
                    self.min = self.max = value
                    self.min_step = self.max_step = step
            elif value < self.min:
                self.min, self.min_step = value, step
            elif value > self.max:
                self.max, self.max_step = value, step

    def fields(self) -> dict[str, Any]:
        """Return the summary for metadata.json."""
        fields: dict[str, Any] = {"last": self.last, "count": self.count}
        if self.min is not None:
            fields |= {"min": self.min, "max": self.max, "min_step": self.min_step, "max_step": self.max_step}
        return fields


def kind_of(value: float | str) -> type:
    """Return the type of the column of a value: float, str or bool."""
    return float if type(value) is int else type(value)


def summary_of(rows: int, step: int | None, columns: Iterable[Column]) -> dict[str, Any]:
    """Return the summary of a series for metadata.json: rows, last step, and each column."""
    fields = {column.name: column.fields() for column in columns if column.count}
    return {"rows": rows, "step": step, "columns": fields}


def stored(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the summary of a series as it is stored: NaN and infinities are null, as in the rows of a series.

    >>> stored({"rows": 1, "step": 0, "columns": {"loss": {"last": float("nan"), "count": 1}}})["columns"]
    {'loss': {'last': None, 'count': 1, 'nonfinite': {'last': 'NaN'}}}
    """
    columns = {name: _without_nonfinite(fields) for name, fields in summary["columns"].items()}
    return {**summary, "columns": columns}


def nonfinite_word(value: float) -> str:
    """Return the word for a number that JSON lacks.

    >>> nonfinite_word(math.inf), nonfinite_word(math.nan)
    ('Infinity', 'NaN')
    """
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def _without_nonfinite(fields: Mapping[str, Any]) -> dict[str, Any]:
    words = {
        name: nonfinite_word(value)
        for name, value in fields.items()
        if type(value) is float and not math.isfinite(value)
    }
    return {**fields, **dict.fromkeys(words), NONFINITE: words} if words else dict(fields)


def loaded(summaries: object) -> dict[str, Any]:
    """Return summaries as `Series.summary` returns them, from what metadata.json has; without what is malformed.

    >>> loaded({"scalars": {"columns": {"loss": {"last": None, "nonfinite": {"last": "NaN"}}}}, "forged": [1]})
    {'scalars': {'columns': {'loss': {'last': nan}}}}
    """
    found: dict[str, Any] = {}
    for series, summary in summaries.items() if isinstance(summaries, Mapping) else ():
        columns = summary.get("columns") if isinstance(summary, Mapping) else None
        if isinstance(columns, Mapping):
            given = {str(name): _with_nonfinite(fields) for name, fields in columns.items() if isinstance(fields, dict)}
            found[str(series)] = {**summary, "columns": given}
    return found


def loaded_one(summaries: object, series: str) -> dict[str, Any] | None:
    """Return the summary of one series as `loaded` does; None if there is none. The others are not converted.

    >>> loaded_one({"scalars": {"columns": {"loss": {"last": 1}}}, "forged": [1]}, "scalars")
    {'columns': {'loss': {'last': 1}}}
    """
    return loaded({series: summaries.get(series)}).get(series) if isinstance(summaries, Mapping) else None


def _with_nonfinite(fields: Mapping[str, Any]) -> dict[str, Any]:
    words = fields.get(NONFINITE)
    given = words.items() if isinstance(words, Mapping) else ()
    numbers = {name: _WORDS[word] for name, word in given if isinstance(word, str) and word in _WORDS}
    return {name: value for name, value in {**fields, **numbers}.items() if name != NONFINITE}


def flat_values(summaries: object) -> dict[str, Any]:
    """Return the values of summaries by their names in tables and filters.

    The columns of the series `SCALARS` have plain names, those of other series begin with the name of the series.

    >>> flat_values({"scalars": {"columns": {"loss": {"last": 0.1, "min": 0.1, "max": 2.0, "count": 9}}}})
    {'loss': 0.1, 'loss.min': 0.1, 'loss.max': 2.0}
    """
    values: dict[str, Any] = {}
    own: set[str] = set()  # a column of the user with such a name wins over a minimum or maximum
    for series, summary in loaded(summaries).items():
        for name, fields in summary["columns"].items():
            full = name if series == SCALARS else f"{series}.{name}"
            own.add(full)
            values[full] = fields.get("last")
            for part in ("min", "max"):
                if part in fields and f"{full}.{part}" not in own:
                    values[f"{full}.{part}"] = fields[part]
    return values
