"""(t) The index of 10⁶ runs on a disk and on S3, whose tables are read once, and what a sweep sends for it."""

from __future__ import annotations

from tests.tools.benchmarks.contest import Bench
from tests.tools.benchmarks.measures.large_index import Tables, traffic
from tests.tools.benchmarks.results import Result


def measure(bench: Bench) -> list[Result]:
    """Measure the tables of `large_index`."""
    runs = bench.sizes.million
    return [Tables(bench, "t", runs, 1).measured(15.0), traffic(bench, "t", runs)]
