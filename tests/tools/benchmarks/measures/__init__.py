"""The measurements, by letter."""

from __future__ import annotations

from collections.abc import Callable

from tests.tools.benchmarks.contest import Bench
from tests.tools.benchmarks.measures import (
    batch,
    imports,
    large,
    local,
    log_lines,
    series,
    series_reading,
    single,
    tables,
)
from tests.tools.benchmarks.results import Result

MEASURES: dict[str, Callable[[Bench], list[Result]]] = {
    "a": single.measure,
    "b": batch.measure,
    "c": large.measure,
    "d": log_lines.measure,
    "e": tables.measure,
    "f": local.measure,
    "g": imports.measure,
    "h": series.measure,
    "i": series_reading.measure,
}
