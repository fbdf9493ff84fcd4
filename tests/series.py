"""Rows of series for the tests: read as raw JSON, and summarized by a plain loop."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow.json
import pytest

from tests.backends import Place

__all__ = [
    "FIELDS",
    "parsed_by_arrow",
    "parsers",
    "read_with",
    "rows",
    "same",
    "stored_summaries",
    "summarized",
    "values",
]

FIELDS = {"step", "time", "try", "nonfinite"}
parsers = pytest.mark.parametrize("parser", ["pyarrow", "json"])


@contextmanager
def read_with(parser: str) -> Iterator[None]:
    """Read series by pyarrow, or as if it were not installed."""
    with pytest.MonkeyPatch.context() as patch:
        if parser == "json":
            patch.setitem(sys.modules, "pyarrow", None)
        yield


def parsed_by_arrow(patch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which the size of each block is added that pyarrow parses from now on."""
    sizes: list[int] = []
    original = pyarrow.json.read_json

    def read_json(source: Any, *arguments: Any, **options: Any) -> Any:
        sizes.append(source.size())
        return original(source, *arguments, **options)

    patch.setattr(pyarrow.json, "read_json", read_json)
    return sizes


def rows(data: bytes) -> list[dict[str, Any]]:
    """Return the rows of a file, of whole lines of JSON."""
    *lines, rest = data.decode().split("\n")
    assert rest == ""
    return [json.loads(line) for line in lines]


def values(place: Place, key: str = "series/scalars.jsonl", run_id: str = "run") -> list[dict[str, Any]]:
    """Return the values of the rows of a file, with their steps, read by plain fsspec."""
    found = rows(place.bytes(f"log_{run_id}/{key}"))
    return [{name: value for name, value in row.items() if name != "time"} for row in found]


def stored_summaries(place: Place, key: str = "log_run/metadata.json") -> dict[str, Any]:
    """Return the summaries in metadata.json, with NaN and infinities instead of their names."""
    found: dict[str, Any] = json.loads(place.bytes(key), parse_constant=_no_json)["series_summary"]
    for series in found.values():
        for column in series["columns"].values():
            column |= {name: float(word) for name, word in column.pop("nonfinite", {}).items()}
    return found


def _no_json(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def summarized(steps: Iterable[int], columns: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the summary of rows, by a plain loop over each value."""
    count, last_step = 0, None
    found: dict[str, dict[str, Any]] = {}
    for step, row in zip(steps, columns, strict=True):
        count, last_step = count + 1, step
        for name, value in row.items():
            if value is None:
                continue
            column = found.setdefault(name, {"count": 0})
            column["count"] += 1
            column["last"] = value
            if isinstance(value, str | bool) or math.isnan(value):
                continue
            if "min" not in column or value < column["min"]:
                column |= {"min": value, "min_step": step}
            if "max" not in column or value > column["max"]:
                column |= {"max": value, "max_step": step}
    return {"rows": count, "step": last_step, "columns": found}


def same(one: Any, other: Any) -> bool:
    """Check whether two values are equal; NaN equals NaN."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other):
        return True
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)
