"""The parts of an index on every backend: written, merged, read and rewritten, with the requests that they cost."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from notata.store import Store
from notata.table import IndexWriter, Row, gather, read_index, record_removed, write_parts
from notata.table.compaction import claimed, tidy
from notata.table.sizes import Sizes
from tests.backends import Place
from tests.contract.conftest import BUCKETS, QUICK, emptied
from tests.counting import counted
from tests.exiting import run_at_exit

SIZES = Sizes(csv_local=3, csv_bucket=3, large=5, part=300, merged=20_000, together=4, sealed_after=0, look_every=4)
"""An index that is large after 5 runs."""


@pytest.fixture(params=[*QUICK, pytest.param("seaweed", marks=pytest.mark.real)])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    yield from emptied(request)


@pytest.fixture(params=BUCKETS)
def bucket(request: pytest.FixtureRequest) -> Iterator[Place]:
    yield from emptied(request)


def row(number: int) -> Row:
    return Row(f"run-{number:03}", "complete", {"n": number}, started=f"2026-11-01T10:00:{number % 60:02}+00:00")


def writer(store: Store) -> IndexWriter:
    return IndexWriter(store, SIZES, chance=lambda: 1.0, start=lambda call: None)


def names(place: Place) -> list[str]:
    """Return the names of the parts, by plain fsspec."""
    return [name.removeprefix("index/") for name in place.names() if name.startswith("index/")]


def ids(place: Place) -> set[str]:
    """Return the run ids in all parts and in index.csv, by plain fsspec."""
    found = {line["run_id"] for line in csv.DictReader(io.StringIO(place.bytes("index.csv").decode()))}
    for name in names(place):
        lines = map(json.loads, place.bytes(f"index/{name}").splitlines())
        found |= {line["run_id"] for line in lines if "run_id" in line}
    return found


def run(store: Store, number: int) -> None:
    """Store the metadata.json of a run that has ended."""
    fields = {"status": "complete", "start_time": row(number).started, "row": {"params": {"n": number}, "metrics": {}}}
    store.write(f"runs/log_run-{number:03}/metadata.json", json.dumps(fields).encode())


def test_rows_of_many_writers_are_all_in_the_index(place: Place) -> None:
    store = place.store()
    for number in range(3):
        run(store, number)
        writer(store).put(row(number))
    writers = [writer(store) for _ in range(3)]
    for number in range(3, 24):
        writers[number % 3].put(row(number))
    for one in writers:
        run_at_exit(one)
    expected = {f"run-{number:03}" for number in range(24)}
    assert ids(place) == expected
    assert len(place.bytes("index.csv").splitlines()) == 4
    index = read_index(store)
    assert index is not None
    assert set(index.rows) == expected
    assert index.rows["run-007"].params == {"n": 7}
    tidy(store, SIZES)
    assert {name[0] for name in names(place)} >= {"1", "2"}
    index = read_index(store, index)
    assert index is not None
    assert set(index.rows) == expected


def test_one_of_many_processes_merges(place: Place) -> None:
    store = place.store()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: write_parts(store, [row(number)], level=0), range(16)))
        list(pool.map(lambda _: tidy(store, SIZES), range(4)))
    assert not store.exists("index/compacting.json")
    tidy(store, SIZES)
    assert len(names(place)) == 1
    index = read_index(store)
    assert index is not None
    assert len(index.rows) == 16
    with claimed(store) as first, claimed(store) as second:
        assert (first, second) == (True, False)


def test_write_index_of_a_large_experiment_lists_folders_and_reads_what_is_missing(place: Place) -> None:
    store = place.store()
    for number in range(8):
        run(store, number)
    write_parts(store, [row(number) for number in range(7)] + [row(20), row(21)])  # 7 is missing, two were removed
    store.write("runs/log_run-000/data/large.bin", b"x")
    record_removed(store, ["run-021"])
    writer(store).write()
    assert sorted(name[0] for name in names(place)) == ["0", "3"]  # the tombstone stays for a day
    expected = {f"run-{number:03}" for number in range(8)}
    assert ids(place) - {"run-021"} == expected
    index = read_index(store)
    assert index is not None
    assert set(index.rows) == expected
    frame = pd.read_parquet(io.BytesIO(place.bytes("index.parquet")))
    assert frame["run_id"].tolist() == sorted(expected)
    assert frame["n"].tolist() == [*range(8)]
    assert frame["started"][3] == "2026-11-01T10:00:03+00:00"


def test_a_trusted_table_makes_no_request_for_a_run(bucket: Place) -> None:
    store = bucket.store()
    write_parts(store, [row(number) for number in range(9)])
    with counted() as sent:
        found = gather(store, large=5)
    assert len(sent) == 4, sent  # a page of the listing, the parts, one of them, and the version of index.csv
    assert [one.run_id for one in found.rows] == [f"run-{number:03}" for number in range(9)]
    assert found.index is not None
    with counted() as sent:
        found = gather(store, known=found.index, large=5)
    assert len(sent) == 3, sent
    assert gather(store, large=20).rows == []  # no such run exists
    assert gather(store, large=5, fresh=True).rows == []


@pytest.mark.usefixtures("stopped_clock")
def test_a_flush_to_a_part_is_one_request(bucket: Place) -> None:
    store = bucket.store()
    write_parts(store, [row(0)])
    one = writer(store)
    one.put(row(1))
    with counted() as sent:
        one.put(row(2))
        one.flush()
    assert len(sent) == 1, sent
    assert sent[0].startswith(("PUT", "POST"))
