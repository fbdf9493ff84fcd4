"""Summaries of the columns of a series: last value, minimum, maximum, and their steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

__all__ = ["SCALARS", "Column", "flat_values", "kind_of", "summary_of"]

SCALARS: Final = "scalars"
"""The name of the series that `Logbook.scalars` writes. Its columns have plain names in tables."""


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


def flat_values(summaries: object) -> dict[str, Any]:
    """Return the values of summaries by their names in tables and filters.

    The columns of the series `SCALARS` have plain names, those of other series begin with the name of the series.

    >>> flat_values({"scalars": {"columns": {"loss": {"last": 0.1, "min": 0.1, "max": 2.0, "count": 9}}}})
    {'loss': 0.1, 'loss.min': 0.1, 'loss.max': 2.0}
    """
    values: dict[str, Any] = {}
    if not isinstance(summaries, Mapping):
        return values
    for series, summary in summaries.items():
        columns = summary.get("columns") if isinstance(summary, Mapping) else None
        if not isinstance(columns, Mapping):
            continue
        for name, fields in columns.items():
            if isinstance(fields, Mapping):
                full = str(name) if series == SCALARS else f"{series}.{name}"
                values[full] = fields.get("last")
                values |= {f"{full}.{part}": fields[part] for part in ("min", "max") if part in fields}
    return values
