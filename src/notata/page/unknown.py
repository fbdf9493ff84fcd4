"""Names in a request for a page that no run has: of series, columns and parameters."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator

from notata._base import keys
from notata._base.display import listed
from notata._base.terminal import quoted
from notata.errors import UnknownNameError
from notata.formats import flattened
from notata.page.model import number_columns
from notata.search.places import Run
from notata.series.columns import unmatched

__all__ = ["unknown_groups", "unknown_series"]


def unknown_series(
    wanted: Iterable[str], runs: Iterable[Run], place: str, found: Iterable[tuple[str, str]] = ()
) -> list[UnknownNameError]:
    """Return an error for each name or pattern that is no series and no column of numbers of any run.

    Args:
        wanted: The names and patterns: of series, of columns, or of both as ``series/column``.
        runs: The runs.
        place: The name of the place.
        found: Series and columns that files of the runs have, besides those in their summaries.
    """
    names = {name for run in runs for series, column in _columns(run) for name in _names(series, column)}
    names |= {name for series, column in found for name in _names(series, column)}
    return [
        UnknownNameError(
            f"no run at {place} has a series, or a column of numbers, called {quoted(name)}{_hint(name, names)}",
            key=name,
        )
        for name in unmatched(wanted, names)
    ]


def unknown_groups(group: Iterable[str], runs: Collection[Run]) -> list[str]:
    """Return a note for each name that is no parameter of any run.

    >>> unknown_groups(["sede", "lr"], [Run("a", "a", "memory://a", params={"seed": 1, "lr": 0.1})])
    ["no run has a parameter 'sede'; similar names: 'seed'"]
    """
    known = {name for run in runs for name in flattened(run.params)}
    return [
        f"no run has a parameter {quoted(name)}{_hint(name, known)}"
        for name in group
        if runs and name not in known and name.removeprefix("params.") not in known
    ]


def _columns(run: Run) -> Iterator[tuple[str, str]]:
    """Yield the series of a run, each with an empty column, and then with each column that is known."""
    for series in {known[1] for key in run.entries if (known := keys.series_name(key)) is not None}:
        yield series, ""
        for column in number_columns(run, series):
            yield series, column


def _names(series: str, column: str) -> tuple[str, ...]:
    return (series, column, f"{series}/{column}") if column else (series,)


def _hint(name: str, known: Collection[str]) -> str:
    """Return similar names, or else some of those that exist."""
    if close := difflib.get_close_matches(name, sorted(known), 3, 0.6):
        return f"; similar names: {', '.join(map(quoted, close))}"
    return f"; there are {listed(map(quoted, sorted(known)), 10)}" if known else "; there are none"
