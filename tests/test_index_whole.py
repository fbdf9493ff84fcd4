"""A large index: trusted tables, write_index, and its copies for other programs."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from notata import ConfigurationError, Experiment, ExperimentReader, FolderError
from notata._base import limits
from notata.store import Store, open_store
from notata.table import IndexWriter, Row, gather, read_index, record_removed, write_parts
from notata.table.parquet import write_parquet
from notata.table.sizes import Sizes
from notata.testing import FaultyBackend
from tests.exiting import run_at_exit
from tests.far import FarBackend
from tests.test_index_parts import SMALL, full_csv, ids, later, names, row, rows_of, run


@pytest.fixture
def memory() -> Store:
    return open_store("memory://whole")


def write(store: Store, sizes: Sizes = SMALL) -> None:
    IndexWriter(store, sizes, chance=lambda: 1.0, start=later).write()


def cells(store: Store) -> list[dict[str, str]]:
    """Read index.csv with the csv module."""
    return list(csv.DictReader(io.StringIO(store.read("index.csv").decode()), strict=True))


def large(memory: Store, count: int = 10_001) -> Experiment:
    """Return an experiment with a large index, whose runs have no folders."""
    write_parts(memory.below("sweep"), map(row, range(count)))
    return Experiment("sweep", memory)


def test_a_folder_in_place_of_the_claim_is_named(tmp_path: Path) -> None:
    for name, count in (("sweep", 10_001), ("other", 0)):
        if count:
            write_parts(open_store(tmp_path).below(name), map(row, range(count)))
        (tmp_path / name / "index" / "compacting.json" / "inside").mkdir(parents=True)
    with pytest.raises(FolderError, match=r"sweep/index/compacting\.json is a folder; remove it and try again"):
        Experiment("sweep", tmp_path).write_index()
    Experiment("other", tmp_path).write_index()  # a small index has no claim
    (tmp_path / "sweep" / "index" / "compacting.json" / "inside").rmdir()
    (tmp_path / "sweep" / "index" / "compacting.json").rmdir()
    Experiment("sweep", tmp_path).write_index()


# -- tables of a large index -------------------------------------------------------------------------------


def test_the_table_of_more_than_10_000_runs_is_that_of_the_index(memory: Store) -> None:
    faulty = FaultyBackend(memory)
    large(memory, 10_002)
    experiment = Experiment("sweep", faulty)
    before = len(faulty.operations)
    frame = experiment.to_dataframe()
    assert {done.verb for done in faulty.operations[before:]} == {"list", "get", "stat"}
    assert len(faulty.operations) - before == 5  # three lists, one part, and the version of index.csv
    assert len(frame) == 10_002
    assert frame["number"].sum() == sum(range(10_002))
    assert not memory.exists("sweep/index.csv")
    record_removed(memory.below("sweep"), ["run-0003"])
    assert 3 not in experiment.to_dataframe()["number"].tolist()
    assert len(experiment.select(number=[3, 4])) == 1


def test_fresh_looks_at_every_run(memory: Store) -> None:
    experiment = large(memory)
    experiment.add(number=-1).mark_complete()
    assert len(experiment.to_dataframe()) == 10_002
    assert experiment.to_dataframe(fresh=True)["number"].tolist() == [-1]
    assert experiment.select(fresh=True, number=-1)["status"].tolist() == ["complete"]
    with pytest.raises(ConfigurationError, match="invalid fresh 'now': pass True or False"):
        experiment.select(fresh="now")


def test_up_to_10_000_runs_rows_are_checked_against_the_runs(memory: Store) -> None:
    experiment = large(memory, 9_000)
    assert len(experiment.to_dataframe()) == 0  # no such run exists
    experiment.add(number=1).mark_complete()
    log = experiment.add(number=2)
    assert log is not None
    assert experiment.to_dataframe()["status"].tolist() == ["complete", "running"]
    log.mark_complete()


def test_a_table_has_the_pending_rows_of_its_own_process(memory: Store) -> None:
    store = Store(FarBackend(memory))
    write_parts(store, map(row, range(6)))
    writer = IndexWriter(store, SMALL, chance=lambda: 1.0, start=later)
    writer.put(row(6))
    writer.put(row(7))  # pending for half a minute
    assert rows_of(store) == ids(range(7))
    assert {one.run_id for one in writer.gather().rows} == ids(range(8))
    run_at_exit(writer)


def test_a_trusted_table_is_the_exact_one_for_runs_that_have_ended(memory: Store) -> None:
    experiment = Experiment("sweep", memory)
    for number in range(7):
        log = experiment.add(number=number, optimizer={"lr": number / 7, "name": "adam"})
        assert log is not None
        log.json("metrics", {"error": math.nan if number == 3 else number * 0.1})
        log.mark_failed("boom") if number == 5 else log.mark_complete()
    store = memory.below("sweep")
    write(store)
    trusted, exact = gather(store, large=5), gather(store, large=None)
    assert trusted.index is not None
    assert trusted.index.is_large
    assert json.dumps(trusted.records()) == json.dumps(sorted(exact.records(), key=lambda one: str(one["number"])))
    assert trusted.columns() == exact.columns()


# -- write_index -------------------------------------------------------------------------------------------


def test_write_index_makes_parts_of_an_index_csv_with_many_rows(memory: Store) -> None:
    for number in range(7):
        run(memory, number)
    write(memory)
    assert [name.split("-")[0] + name[-8:] for name in names(memory)] == ["3-7.jsonl"]
    assert {line["run_id"] for line in cells(memory)} == ids(range(7))
    index = read_index(memory, large=5)
    assert index is not None
    assert index.is_large
    assert index.csv is None  # its rows are in the parts
    assert {one.started for one in index.rows.values()} == {row(number).started for number in range(7)}


def test_write_index_of_few_runs_makes_no_parts(memory: Store) -> None:
    for number in range(5):
        run(memory, number)
    write(memory)
    assert names(memory) == []
    assert len(cells(memory)) == 5


def test_write_index_reads_only_runs_that_the_index_lacks(memory: Store) -> None:
    for number in range(9):
        run(memory, number)
    memory.write("runs/log_no-run/notes.txt", b"")
    write_parts(memory, map(row, range(7)))
    faulty = FaultyBackend(memory)
    write(Store(faulty))
    read = {done.key for done in faulty.operations if done.key.startswith("runs/") and done.verb == "get"}
    assert read == {f"runs/log_{run_id}/metadata.json" for run_id in ("run-0007", "run-0008", "no-run")}
    assert rows_of(memory) == ids(range(9))


def test_write_index_reads_dead_runs_again_and_leaves_out_running_ones(tmp_path: Path) -> None:
    experiment = Experiment("sweep", tmp_path, heartbeat=0)
    store = open_store(tmp_path / "sweep")
    for number in range(8):
        log = experiment.add(number=number)
        assert log is not None
        if number < 6:
            log.mark_complete()
        if number == 7:
            fields = json.loads((tmp_path / "sweep/runs/log_sweep_number_7/metadata.json").read_text())
            fields["lease"]["process"] = fields["lease"]["process"].rpartition("/")[0] + "/1"  # gone
            store.write("runs/log_sweep_number_7/metadata.json", json.dumps(fields).encode())
    write(store)
    index = read_index(store)
    assert index is not None
    assert {one.params["number"]: one.status for one in index.rows.values() if one.params["number"] > 4} == {
        5: "complete",
        7: "died",
    }
    run_id = "sweep_number_7"
    assert index.rows[run_id].failure_reason
    fields |= {"status": "complete", "row": {"params": {"number": 7}, "metrics": {"error": 1}}}
    store.write(f"runs/log_{run_id}/metadata.json", json.dumps(fields).encode())  # it was resumed, and has ended
    write(store)
    index = read_index(store)
    assert index is not None
    assert (index.rows[run_id].status, index.rows[run_id].metrics) == ("complete", {"error": 1})


def test_an_index_csv_that_cannot_hold_all_runs_stays_as_it_is(memory: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    full_csv(memory)
    old = memory.read("index.csv")
    for number in range(3, 9):
        run(memory, number)
    write_parts(memory, map(row, range(3, 9)))
    for name, value in (("INDEX_CELLS", 8), ("INDEX", 300)):
        monkeypatch.setattr(limits, name, value)
        write(memory)
        assert memory.read("index.csv") == old
        index = read_index(memory, large=5)
        assert index is not None
        assert index.csv is None
        assert set(index.rows) == ids(range(9))
        assert all(one.started for one in index.rows.values())
    monkeypatch.undo()
    write(memory)
    assert {line["run_id"] for line in cells(memory)} == ids(range(9))


def test_write_index_has_the_pending_row_of_a_resumed_run(memory: Store) -> None:
    store = Store(FarBackend(memory))
    for number in range(7):
        run(store, number)
    write_parts(store, map(row, range(7)))
    writer = IndexWriter(store, SMALL, chance=lambda: 1.0, start=later)
    writer.put(row(0))
    writer.put(row(3, attempt=1, host="new"))  # pending
    writer.write()
    index = read_index(store)
    assert index is not None
    assert index.rows["run-0003"].host == "new"
    run_at_exit(writer)
    assert rows_of(store) == ids(range(7))


def test_a_fresh_table_does_not_rewrite_index_csv_beside_parts(memory: Store) -> None:
    full_csv(memory)
    before = memory.stat("index.csv")
    for number in range(3, 9):
        run(memory, number)
    write_parts(memory, map(row, range(3, 9)))
    writer = IndexWriter(memory, SMALL, chance=lambda: 1.0, start=later)
    assert len(writer.gather(fresh=True).rows) == 9
    assert memory.stat("index.csv") == before


def test_a_column_that_a_user_added_to_index_csv_is_kept_in_a_backup(memory: Store) -> None:
    for number in range(7):
        run(memory, number)
    memory.write("index.csv", b"run_id,number,status,note,revision\nrun-0001,1,complete,good,\n")
    write_parts(memory, map(row, range(7)))
    write(memory)
    [backup] = [entry.key for entry in memory.list() if entry.key.endswith(".bak")]
    assert b"good" in memory.read(backup)
    assert len(cells(memory)) == 7


def test_tombstones_are_kept_for_a_day(memory: Store) -> None:
    for number in range(7):
        run(memory, number)
    write_parts(memory, map(row, range(9)))
    record_removed(memory, ["run-0007"], now=1.0)
    record_removed(memory, ["run-0008"])
    write(memory)
    kept = [
        line for entry in memory.list("index") for line in memory.read(entry.key).splitlines() if b"removed" in line
    ]
    assert [json.loads(line)["run_id"] for line in kept] == ["run-0008"]
    write_parts(memory, [row(8, time=1.0)], level=0)  # by a process that was slow
    assert rows_of(memory) == ids(range(7))


def test_rows_that_are_added_while_write_index_works_stay(memory: Store) -> None:
    for number in range(8):
        run(memory, number)
    faulty = FaultyBackend(memory)
    store = Store(faulty)
    write_parts(store, map(row, range(6)))
    writer = IndexWriter(store, SMALL, chance=lambda: 1.0, start=later)
    writer.put(row(6))
    known = read_index(store, large=5)
    assert known is not None
    write(store)
    writer.put(row(7))  # its own part is gone
    assert rows_of(store) == ids(range(8))
    assert len([name for name in names(memory) if name.startswith("0-")]) == 1


# -- index.parquet -----------------------------------------------------------------------------------------


def test_columns_of_parquet_have_the_types_of_their_values(memory: Store) -> None:
    values: list[dict[str, Any]] = [
        {"int": 1, "float": 1, "bool": True, "text": "a", "mixed": 1, "seed": 2**70, "list": [1], "none": None},
        {"int": -5, "float": math.nan, "bool": False, "text": "\ud800", "mixed": "b", "seed": 2, "list": [], "": 0.5},
        {"opt": {"lr": 0.1, "names": {"a": 1}}, "started": 3, "status": "mine", "run_id": 4},
    ]
    rows = [row(number, attempt=number) for number in range(3)]
    rows = [
        Row(one.run_id, one.status, params, {"error": 0.5}, started=one.started)
        for one, params in zip(rows, values, strict=True)
    ]
    assert write_parquet(memory, rows)
    table = parquet.read_table(io.BytesIO(memory.read("index.parquet")))
    types = {field.name: field.type for field in table.schema}
    assert types["int"] == types["opt.names.a"] == types["attempt"] == pa.int64()
    assert types["float"] == types["opt.lr"] == types["error"] == pa.float64()
    assert types["bool"] == pa.bool_()
    assert table["mixed"].to_pylist() == ["1", '"b"', None]
    assert table["seed"].to_pylist() == [str(2**70), "2", None]
    assert table["list"].to_pylist() == ["[1]", "[]", None]
    assert table["none"].to_pylist() == [None, None, None]
    assert table["text"].to_pylist() == ["a", "\\ud800", None]
    assert table["started"].to_pylist() == [None, None, 3]
    assert table["run.started"].to_pylist()[0] == "2026-11-01T10:00:00+00:00"
    assert table["params.status"].to_pylist() == [None, None, "mine"]
    assert table["status"].to_pylist() == ["complete"] * 3
    assert math.isnan(table["float"].to_pylist()[1])


def test_parquet_of_no_rows_and_without_pyarrow(memory: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert write_parquet(memory, [])
    assert len(pd.read_parquet(io.BytesIO(memory.read("index.parquet")))) == 0
    memory.clear()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert not write_parquet(memory, [row(1)])
    assert not memory.exists("index.parquet")


def test_columns_without_end_make_no_parquet(memory: Store) -> None:
    wide = Row("a", "complete", {f"c{number}": number for number in range(10_001)})
    assert not write_parquet(memory, [wide])


# -- other readers -----------------------------------------------------------------------------------------


def test_index_csv_of_a_large_experiment_is_read_as_0_3_0_did(memory: Store) -> None:
    for number in range(7):
        run(memory, number)
    write(memory)
    assert [*ExperimentReader(memory).index()][2]["run_id"] == "run-0002"  # the rows as csv.DictReader has them
    assert [*cells(memory)[0]] == ["run_id", "number", "status", "error", "revision"]


def test_a_fresh_write_of_a_large_index_reads_every_run(memory: Store) -> None:
    experiment, store = Experiment("sweep", memory), memory.below("sweep")
    for number in range(SMALL.large + 1):
        experiment.add(number=number).mark_complete()
    write(store)
    key = "runs/log_sweep_number_0/metadata.json"
    store.write(key, json.dumps({**json.loads(store.read(key)), "status": "failed"}).encode())

    def status() -> str:
        index = read_index(store, large=SMALL.large)
        assert index is not None
        assert index.is_large
        return index.rows["sweep_number_0"].status

    write(store)
    assert status() == "complete"
    IndexWriter(store, SMALL, chance=lambda: 1.0, start=later).write(fresh=True)
    assert status() == "failed"


def test_a_folder_with_an_impossible_name_is_left_out(tmp_path: Path, memory: Store) -> None:
    for base in (tmp_path, memory):
        experiment = Experiment("sweep", base)
        for number in range(SMALL.large + 1):
            experiment.add(number=number).mark_complete()
        write(open_store(base).below("sweep"))
    (tmp_path / "sweep/runs/log_a\nb").mkdir()
    fsspec.filesystem("memory").pipe_file("/whole/sweep/runs/log_a\nb/metadata.json", b"{}")
    for base in (tmp_path, memory):
        store = open_store(base).below("sweep")
        write(store)
        index = read_index(store, large=SMALL.large)
        assert index is not None
        assert len(index.rows) == SMALL.large + 1
