"""Series as HTML for notebooks: a picture of each column, and tables of summaries. No request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from notata._base import svg
from notata._base.display import counted
from notata._base.notebook import grid, note, pictures
from notata.series.labels import Named, labels
from notata.series.numbers import is_text, numbers
from notata.series.summary import SCALARS, loaded

__all__ = [
    "RUNS",
    "Rows",
    "preferred",
    "rows_html",
    "series_pictures",
    "summaries",
    "summary",
    "summary_table",
    "title",
]

RUNS: Final = 10
"""Runs that are drawn."""

_SYSTEM: Final = "system"
_COLUMNS: Final = 6  # columns that are drawn
_TABLE: Final = 50  # runs in a table
_MOST: Final = 2**63  # a larger number of rows is forged


class Rows(Protocol):
    """The rows of a series of one run, as `notata.SeriesData` has them."""

    @property
    def rows(self) -> int:
        """The number of rows."""

    @property
    def step(self) -> npt.NDArray[np.int64]:
        """The step of each row."""

    @property
    def time(self) -> npt.NDArray[np.float64]:
        """The time of each row."""

    def __iter__(self) -> Iterator[str]: ...

    def __getitem__(self, name: str, /) -> npt.NDArray[Any]: ...

    def given(self, name: str, /) -> npt.NDArray[np.bool_]:
        """Return which rows have a value of a column."""

    def summary(self) -> dict[str, Any]:
        """Return the summary of the columns."""


def series_pictures(name: str, parts: Sequence[tuple[str, Rows]]) -> str:
    """Return pictures of the first columns of numbers over the step, as HTML; no request.

    Args:
        name: The name of the series, which is a part of the titles unless it is `scalars`.
        parts: The rows of each run with its label; one without a label needs no legend.
    """
    columns: dict[str, list[svg.Line]] = {}
    for number, (label, data) in enumerate(parts):
        for column in data:
            if not is_text(data, column):
                given = data.given(column)
                line = svg.Line(label, data.step[given], numbers(data, column)[given], number)
                columns.setdefault(column, []).append(line)
    shown = [*columns][:_COLUMNS]
    few = [
        svg.picture(
            columns[column],
            column if name == SCALARS else f"{name}: {column}",
            y=svg.fitting_kind(columns[column]),
            has_legend=False,
        )
        for column in shown
    ]
    if few and any(label for label, _ in parts):
        few.append(svg.legend([svg.Line(label, data.step, data.time, at) for at, (label, data) in enumerate(parts)]))
    rest = f"{counted(len(columns) - _COLUMNS, 'more column')} of numbers" if len(columns) > _COLUMNS else ""
    return pictures(few) + note(rest and f"{rest}; search.curves(…) reads them")


def rows_html(name: str, runs: Sequence[tuple[Named, str, Rows]]) -> str:
    """Return a table with the rows of each run and the last value of each column, and curves of the first runs.

    Args:
        name: The name of the series.
        runs: The names of each run, the rank of the worker or an empty text, and the rows.
    """
    texts = labels([named for named, _, _ in runs])
    texts = [f"{text} worker {rank}" if rank else text for text, (_, rank, _) in zip(texts, runs, strict=True)]
    parts = [(text, data) for text, (_, _, data) in zip(texts, runs, strict=True)]
    records = [
        {
            "run": text,
            "rows": data.rows,
            **{column: given["last"] for column, given in data.summary()["columns"].items()},
        }
        for text, data in parts[:_TABLE]
    ]
    columns = [*dict.fromkeys(column for record in records for column in record)]
    first = f"the curves are those of the first {RUNS} of {len(parts)}" if len(parts) > RUNS else ""
    return grid("", columns, records, total=len(parts)) + series_pictures(name, parts[:RUNS]) + note(first)


def summaries(stored: object) -> str:
    """Return tables of series from the field `series_summary` of metadata.json, as HTML: last value and extremes."""
    found = loaded(stored)
    return "".join(summary(name, found[name]) for name in [*found][:_COLUMNS])


def summary(name: str, fields: Mapping[str, Any]) -> str:
    """Return a table of the columns of one series, as HTML."""
    return summary_table(title(name, fields), fields)


def title(name: str, fields: Mapping[str, Any]) -> str:
    """Return a title from the summary of a series: its name, number of rows and last step."""
    rows, step = fields.get("rows"), fields.get("step")
    facts = [f"{rows:,} rows" if type(rows) is int and abs(rows) < _MOST else ""]
    facts += [f"last step {step}" if type(step) is int and abs(step) < _MOST else ""]
    shown = ", ".join(filter(None, facts))
    return f"series {name}: {shown}" if shown else f"series {name}"


def summary_table(caption: str, fields: Mapping[str, Any]) -> str:
    """Return a table of the columns in the summary of a series, as HTML: last value and extremes."""
    parts = ("last", "min", "min_step", "max", "max_step")
    given = fields["columns"]
    records = [{"column": column, **{part: values.get(part) for part in parts}} for column, values in given.items()]
    there = [part for part in parts if any(record[part] is not None for record in records)]
    return grid(caption, ["column", *there], records)


def preferred(names: Iterable[str]) -> str:
    """Return `scalars` if it is among these series, else the first one; that of the monitor comes last."""
    return min(names, key=lambda name: (name != SCALARS, name == _SYSTEM, name), default=SCALARS)
