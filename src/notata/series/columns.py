"""Columns of a series that are requested by name or pattern, and the errors for those that no run has."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable, Iterator

from notata._base.display import listed
from notata._base.terminal import quoted
from notata.errors import UnknownNameError
from notata.series.summary import loaded_one

__all__ = ["chosen", "is_chosen", "unknown_columns", "unmatched"]


def chosen(columns: str | Iterable[str] | None) -> list[str] | None:
    """Return the patterns of columns as a list."""
    return [columns] if isinstance(columns, str) else None if columns is None else list(columns)


def is_chosen(name: str, patterns: Collection[str]) -> bool:
    """Check whether a column has one of these names, or matches one of them as a pattern with ``*``, ``?``, ``[…]``."""
    return name in patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def unmatched(patterns: Iterable[str], columns: Collection[str]) -> list[str]:
    """Return the names and patterns that match none of these columns.

    >>> unmatched(["loss", "val/*", "los"], ["loss", "val/loss"])
    ['los']
    """
    others = [pattern for pattern in patterns if pattern not in columns]
    return [pattern for pattern in others if not any(is_chosen(column, [pattern]) for column in columns)]


def unknown_columns(
    columns: Iterable[str], name: str, url: str, summaries: Iterable[object]
) -> Iterator[UnknownNameError]:
    """Yield the errors for columns that none of the runs has; the messages name those in their summaries.

    Args:
        columns: The names or patterns.
        name: The name of the series.
        url: The place.
        summaries: The field `series_summary` in the metadata of each run.
    """
    there = None
    for column in columns:
        if there is None:  # once for all, as there can be many columns and many summaries
            each = [loaded_one(summary, name) or {"columns": ()} for summary in summaries]
            known = sorted({quoted(one) for found in each for one in found["columns"]})
            there = f"; it has {listed(known, 20)}" if known else ""
        message = f"the series {quoted(name)} of the runs at {url} has no column {quoted(column)}{there}"
        yield UnknownNameError(message, url=url, key=column)
