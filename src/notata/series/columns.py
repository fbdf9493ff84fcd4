"""Columns of a series that are requested by name or pattern, and the error for those that no run has."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable

from notata._base.display import listed
from notata._base.terminal import quoted
from notata.errors import UnknownNameError
from notata.series.summary import loaded

__all__ = ["chosen", "is_chosen", "unknown_column", "unmatched"]


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
