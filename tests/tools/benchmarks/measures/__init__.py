"""The measurements, by letter."""

from __future__ import annotations

from collections.abc import Callable

from tests.tools.benchmarks.contest import Bench
from tests.tools.benchmarks.measures import (
    batch,
    commands,
    disk_tables,
    imports,
    install,
    large,
    large_index,
    largest_index,
    local,
    log_lines,
    long_series,
    output,
    page,
    series,
    series_reading,
    single,
    starts,
    sweeps,
    syncing,
    tables,
    whole_runs,
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
    "j": commands.measure,
    "k": whole_runs.measure,
    "l": disk_tables.measure,
    "m": large_index.measure,
    "n": sweeps.measure,
    "o": starts.measure,
    "p": install.measure,
    "q": page.measure,
    "r": long_series.measure,
    "s": syncing.measure,
    "t": largest_index.measure,
    "u": output.measure,
}
ON_DEMAND = ("p", "q", "r", "t", "u")
"""Measurements that are slow, or that need a browser, a compiler or a network."""
