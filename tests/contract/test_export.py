"""Exports from and to every backend, read by pyarrow from plain bytes, with a bounded number of requests."""

from __future__ import annotations

import io

import pyarrow.parquet as pq

from notata import search
from tests.backends import Place
from tests.counting import counted


def recorded(place: Place, runs: int = 3) -> None:
    for number in range(runs):
        with place.logbook(f"r{number}", params={"dt": number / 10}) as log:
            log.json("metrics", {"error": number})
            log.scalars(step=7, loss=number / 2)


def test_runs_and_series_are_written_everywhere(place: Place) -> None:
    recorded(place)
    done = search.export(
        place.url, f"{place.url}/tables", storage_options=place.options, target_options=place.options, where="dt > 0"
    )
    assert done.rows == {"runs.parquet": 2, "series/scalars.parquet": 2}
    runs = pq.read_table(io.BytesIO(place.bytes("tables/runs.parquet"))).to_pylist()
    assert [(row["run_id"], row["dt"], row["error"], row["loss"]) for row in runs] == [
        ("r1", 0.1, 1, 0.5),
        ("r2", 0.2, 2, 1),
    ]
    rows = pq.read_table(io.BytesIO(place.bytes("tables/series/scalars.parquet"))).to_pylist()
    assert [(row["run_id"], row["step"], row["loss"]) for row in rows] == [("r1", 7, 0.5), ("r2", 7, 1.0)]


def test_an_export_takes_two_reads_for_each_run(bucket: Place) -> None:
    recorded(bucket, 6)
    search.table(bucket.url, storage_options=bucket.options)  # connected
    with counted() as sent:
        search.export(bucket.url, "memory://exported", storage_options=bucket.options)
    assert len(sent) == 1 + 6 + 6, sent  # a listing, each metadata.json, each series
