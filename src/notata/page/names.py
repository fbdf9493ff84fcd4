"""The names of series and columns in the table of a report, within a number of bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from notata._base.display import counted
from notata.page.values import encoded

__all__ = ["lost_names", "shortened_series"]


def shortened_series(series: Mapping[str, Any], budget: int) -> dict[str, Any]:
    """Return the field ``series`` of the table, without columns and series that do not fit in this number of bytes.

    Each series gets an equal part of what is left, the smallest one first; its first columns stay.

    >>> names = {"a": {"columns": ["x", "y"], "runs": [0]}, "b": {"columns": ["z" * 100, "z"], "runs": [0]}}
    >>> shortened_series(names, 120)
    {'a': {'columns': ['x', 'y'], 'runs': [0]}, 'b': {'columns': [], 'runs': [0]}}
    """
    sizes = {name: len(encoded({name: one})) for name, one in series.items()}
    left, kept = budget, dict[str, Any]()
    for done, name in enumerate(sorted(sizes, key=lambda name: sizes[name])):
        share = left // (len(sizes) - done)
        if sizes[name] <= share:
            kept[name] = series[name]
            left -= sizes[name]
            continue
        room = share - len(encoded({name: {**series[name], "columns": []}}))
        if room < 0:
            continue
        columns: list[str] = []
        left -= share - room
        for column in series[name]["columns"]:
            cost = len(encoded(column)) + 1
            if cost > room:
                break
            columns.append(column)
            room, left = room - cost, left - cost
        kept[name] = {**series[name], "columns": columns}
    return {name: kept[name] for name in series if name in kept}


def lost_names(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return a sentence if columns of series are no longer in the table, as a list.

    >>> lost_names({"a": {"columns": ["x", "y"]}, "b": {"columns": ["z"]}}, {"a": {"columns": ["y"]}})
    ['No room in the list of series for 2 columns. `notata curve` draws them.']
    """
    there = {name: {*one["columns"]} for name, one in after.items()}
    lost = sum(column not in there.get(name, ()) for name, one in before.items() for column in one["columns"])
    return [f"No room in the list of series for {counted(lost, 'column')}. `notata curve` draws them."] if lost else []
