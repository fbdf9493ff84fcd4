"""Columns that were requested of a series, and that no run has."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from notata._base.display import listed
from notata._base.terminal import quoted
from notata.errors import UnknownNameError
from notata.series.parsing import is_chosen
from notata.series.summary import loaded

__all__ = ["unknown_column", "unmatched"]


def unmatched(patterns: Iterable[str], columns: Collection[str]) -> list[str]:
    """Return the names and patterns that match none of these columns.

    >>> unmatched(["loss", "val/*", "los"], ["loss", "val/loss"])
    ['los']
    """
    return [pattern for pattern in patterns if not any(is_chosen(column, [pattern]) for column in columns)]


def unknown_column(column: str, name: str, url: str, summaries: Iterable[object]) -> UnknownNameError:
    """Return the error for a column that none of the runs has; the message names those in their summaries.

    Args:
        column: The name or pattern.
        name: The name of the series.
        url: The place.
        summaries: The field `series_summary` in the metadata of each run.
    """
    each = [loaded(summary) for summary in summaries]
    known = sorted({quoted(one) for found in each if name in found for one in found[name]["columns"]})
    there = f"; it has {listed(known, 20)}" if known else ""
    message = f"the series {quoted(name)} of the runs at {url} has no column {quoted(column)}{there}"
    return UnknownNameError(message, url=url, key=column)
