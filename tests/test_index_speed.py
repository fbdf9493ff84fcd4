"""The large indexes that the benchmarks read, at sizes too small to measure speed."""

from __future__ import annotations

import json
from pathlib import Path

from notata.store import open_store
from notata.table import read_index
from tests.tools.benchmarks.index import sweeps
from tests.tools.benchmarks.index.layout import fill, rows, size_of


def test_the_rows_of_a_sweep_are_the_same_each_time_and_numbered_on() -> None:
    first, again, later = list(rows(20)), list(rows(20)), list(rows(5, start=20))
    assert first == again
    assert len({row.run_id for row in first + later}) == 25
    assert all(len(row.params) == 5 for row in first)
    assert {len(row.metrics) for row in rows(100)} == {0, 10}


def test_an_index_is_filled_with_parts_of_a_driver_and_of_a_job_array(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    fill(store, 200)
    lines = [json.loads(line) for path in (tmp_path / "index").iterdir() for line in path.read_text().splitlines()]
    assert sorted(line["run_id"] for line in lines) == sorted(row.run_id for row in [*rows(100), *rows(100, start=100)])
    index = read_index(store)
    assert index is not None
    assert len(index.rows) == 200
    assert sum(read.size for read in index.parts.values()) == size_of(index.rows.values())


def test_the_traffic_of_a_sweep_is_counted() -> None:
    found = sweeps.measure(60, 3, hours=0.05)
    assert found.size == size_of(rows(60, seconds=180))
    assert found.traffic.sent == found.traffic.sent_csv > 0  # such a small index is only index.csv
    assert found.traffic.puts >= 18
