"""Runs as Parquet and CSV, read back by pyarrow, DuckDB and pandas, and compared with what was recorded."""

from __future__ import annotations

import csv
import json
import math
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import fsspec
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from notata import ConfigurationError, Experiment, Logbook, UnknownNameError, search
from notata.errors import TooLargeError
from notata.series import reading
from notata.store import open_store
from notata.table.parquet import write_columns
from tests.command import notata

BIG = 2**62 + 1


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Record three runs with values of all types, and two series."""
    params: list[dict[str, Any]] = [
        {"lr": 0.1, "steps": 10, "big": BIG, "huge": 2**70, "mixed": 1, "net": {"depth": 3, "sizes": [1, 2]}},
        {"lr": math.nan, "steps": 20, "big": 1, "mixed": "a", "flag": True, "text": "ä\ud800", "status": "mine"},
        {"lr": math.inf, "none": None, "mixed": [1], "near": 2**53 + 1},
    ]
    for number, values in enumerate(params):
        with Logbook(f"r{number}", tmp_path / "runs", params=values) as log:
            log.json("metrics", {"error": number / 3, "near": 0.5})
            for step in range(4):
                log.scalars(step=step, loss=[0.5, math.nan, -math.inf, 2.0][step], **({} if step % 2 else {"b": step}))
            log.series("val/other").add(count=BIG + number, phase="warm" if number else None, ok=number == 1)
    return tmp_path


def read(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def test_the_table_of_runs_keeps_values_and_types(place: Path) -> None:
    done = search.export(place / "runs", place / "out")
    assert str(done).endswith(
        "runs.parquet (3 rows), series/scalars.parquet (12 rows), series/val/other.parquet (3 rows)"
    )
    table = pq.read_table(place / "out/runs.parquet")
    kinds = {name: str(table.schema.field(name).type) for name in table.column_names}
    assert (kinds["lr"], kinds["steps"], kinds["big"]) == ("double", "int64", "int64")
    assert (kinds["flag"], kinds["started"], kinds["mixed"]) == ("bool", "timestamp[us, tz=UTC]", "string")
    one, two, three = table.to_pylist()
    assert [row["run_id"] for row in (one, two, three)] == ["r0", "r1", "r2"]
    assert (one["big"], one["huge"], one["net.depth"], json.loads(one["net.sizes"])) == (BIG, str(2**70), 3, [1, 2])
    assert math.isnan(two["lr"])
    assert three["lr"] == math.inf
    assert [json.loads(row["mixed"]) for row in (one, two, three)] == [1, "a", [1]]
    assert (two["params.status"], two["status"], two["text"]) == ("mine", "complete", "ä\\ud800")
    assert (three["near"], three["metrics.near"]) == (2**53 + 1, 0.5)
    assert [row["error"] for row in (one, two, three)] == [0, 1 / 3, 2 / 3]
    fields = json.loads((place / "runs/log_r0/metadata.json").read_text())
    assert one["started"] == datetime.fromisoformat(fields["start_time"])
    assert one["ended"] == datetime.fromisoformat(fields["end_time"])
    assert one["seconds"] == fields["runtime_sec"]


def test_wide_series_have_gaps_nan_and_times(place: Path) -> None:
    search.export(place / "runs", place / "out")
    rows = read(place / "out/series/scalars.parquet")
    stored = [json.loads(line) for line in (place / "runs/log_r1/series/scalars.jsonl").read_text().splitlines()]
    mine = [row for row in rows if row["run_id"] == "r1"]
    assert [row["step"] for row in mine] == [0, 1, 2, 3]
    assert [row["b"] for row in mine] == [0, None, 2, None]
    assert [repr(row["loss"]) for row in mine] == ["0.5", "nan", "-inf", "2.0"]
    assert [row["time"].timestamp() for row in mine] == [row["time"] for row in stored]
    others = read(place / "out/series/val/other.parquet")
    assert [(row["count"], row["phase"], row["ok"]) for row in others] == [
        (BIG, None, False),
        (BIG + 1, "warm", True),
        (BIG + 2, "warm", False),
    ]


def test_a_long_file_has_each_value(place: Path) -> None:
    done = search.export(place / "runs", place / "out", long=True)
    assert done.rows == {"runs.parquet": 3, "series.parquet": 3 * (4 + 2 + 2) + 2}
    rows = read(place / "out/series.parquet")
    found = {(row["run_id"], row["series"], row["name"], row["step"]): (row["value"], row["text"]) for row in rows}
    assert found["r0", "scalars", "loss", 2] == (-math.inf, None)
    assert math.isnan(found["r0", "scalars", "loss", 1][0])
    assert found["r1", "val/other", "phase", 0] == (None, "warm")
    assert found["r1", "val/other", "ok", 0] == (None, "true")
    assert found["r2", "val/other", "count", 0] == (float(BIG + 2), str(BIG + 2))
    assert ("r0", "val/other", "phase", 0) not in found


def test_duckdb_and_pandas_read_the_files(place: Path) -> None:
    search.export(place / "runs", place / "out")
    query = f"""
        select r.steps, max(s.loss) filter (where not isnan(s.loss)) from '{place}/out/runs.parquet' r
        join '{place}/out/series/scalars.parquet' s using (run_id) group by all order by 1
    """
    assert duckdb.sql(query).fetchall() == [(10, 2.0), (20, 2.0), (None, 2.0)]
    frame = pd.read_parquet(place / "out/runs.parquet", dtype_backend="pyarrow")
    assert frame["big"].tolist()[:2] == [BIG, 1]
    assert str(frame["started"].dtype) == "timestamp[us, tz=UTC][pyarrow]"


def test_csv_has_the_same_rows(place: Path) -> None:
    done = search.export(place / "runs", place / "out", form="csv", series="val/*", where="steps >= 10")
    assert done.rows == {"runs.csv": 2, "series/val/other.csv": 2}
    with open(place / "out/runs.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["lr"], row["big"], row["net.sizes"]) for row in rows] == [
        ("0.1", str(BIG), "[1, 2]"),
        ("nan", "1", ""),
    ]
    with open(place / "out/series/val/other.csv", newline="", encoding="utf-8") as file:
        assert [row["count"] for row in csv.DictReader(file)] == [str(BIG), str(BIG + 1)]


def test_a_single_file_has_the_table_alone(place: Path) -> None:
    done = search.export(place / "runs", str(place / "table.parquet"), columns=["run_id", "lr"])
    assert done.rows == {"table.parquet": 3}
    assert [*read(place / "table.parquet")[0]] == ["run_id", "lr"]
    with pytest.raises(ConfigurationError, match="pass a folder"):
        search.export(place / "runs", str(place / "table.parquet"), series="scalars")


def test_wrong_requests_are_errors(place: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"no run has a series 'los'; they have 'scalars', 'val/other'"):
        search.export(place / "runs", place / "out", series="los")
    with pytest.raises(ConfigurationError, match="unknown form 'xml'"):
        search.export(place / "runs", place / "out", form="xml")
    with pytest.raises(ConfigurationError, match=r"cannot write parquet to 'a.csv': end the name with .parquet"):
        search.export(place / "runs", str(place / "a.csv"))
    assert not (place / "a.csv").exists()
    with pytest.raises(FileNotFoundError, match="no run at"):
        search.export(place / "nothing", place / "out")


def test_columns_of_several_types_are_json(tmp_path: Path) -> None:
    for name, value in (("a", 1), ("b", 2.5), ("c", "x"), ("d", BIG)):
        with Logbook(name, tmp_path / "runs") as log:
            log.scalars(mixed=value, only=1 if name in "ab" else None, number=1 if name == "a" else 2.5)
    search.export(tmp_path / "runs", tmp_path / "out")
    rows = read(tmp_path / "out/series/scalars.parquet")
    assert [json.loads(row["mixed"]) for row in rows] == [1, 2.5, "x", BIG]
    assert [row["only"] for row in rows] == [1, 1, None, None]
    kinds = pq.read_schema(tmp_path / "out/series/scalars.parquet")
    assert (str(kinds.field("number").type), str(kinds.field("mixed").type)) == ("double", "string")


def test_resumed_runs_have_the_curve_of_the_last_attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for resume in (False, True, True):
        with Logbook("a", tmp_path / "runs", resume=resume) as log:
            for step in range(6):
                log.series("s").add(step=step + (2 if resume else 0), resumed=int(resume))
    wanted = [(int(step), int(value)) for step, value in zip(*_curve(tmp_path), strict=True)]
    search.export(tmp_path / "runs", tmp_path / "out")
    assert [(row["step"], row["resumed"]) for row in read(tmp_path / "out/series/s.parquet")] == wanted
    monkeypatch.setattr(reading, "PIECE", 100)  # a file of many pieces
    monkeypatch.setattr("notata.search.exporting_series.PIECE", 100)
    search.export(tmp_path / "runs", tmp_path / "again", long=True)
    assert [(row["step"], row["value"]) for row in read(tmp_path / "again/series.parquet")] == wanted
    done = search.export(tmp_path / "runs", tmp_path / "all", repeated=True)
    assert done.rows["series/s.parquet"] == 18


def _curve(place: Path) -> tuple[Any, Any]:
    data = search.series(place / "runs", "s").data[0]
    return data.step, data["resumed"]


def test_workers_have_a_rank(tmp_path: Path) -> None:
    with Logbook("a", tmp_path / "runs") as log:
        log.scalars(loss=1.0)
        with log.worker(3) as worker:
            worker.scalars(loss=2.0)
    search.export(tmp_path / "runs", tmp_path / "out", workers=True)
    assert [(row["rank"], row["loss"]) for row in read(tmp_path / "out/series/scalars.parquet")] == [
        ("", 1.0),
        ("3", 2.0),
    ]
    assert search.export(tmp_path / "runs", tmp_path / "out").rows["series/scalars.parquet"] == 1


def test_runs_of_one_id_are_told_apart(tmp_path: Path) -> None:
    for name in ("x", "y"):
        with Logbook("a", tmp_path / "runs" / name) as log:
            log.scalars(loss=1.0, run="mine")
    search.export(tmp_path / "runs", tmp_path / "out")
    rows = read(tmp_path / "out/series/scalars.parquet")
    assert [row["run"].split("/")[-2:] for row in rows] == [["x", "log_a"], ["y", "log_a"]]
    assert [row["run_"] for row in rows] == ["mine", "mine"]


def test_experiments_with_an_index_are_exported(tmp_path: Path) -> None:
    experiment = Experiment("sweep", tmp_path)
    for number in range(5):
        with experiment.add(x=number) as log:
            log.scalars(loss=number / 2)
    done = search.export(tmp_path / "sweep", tmp_path / "out")
    assert done.rows == {"runs.parquet": 5, "series/scalars.parquet": 5}
    rows = read(tmp_path / "out/runs.parquet")
    assert [(row["x"], row["loss"]) for row in rows] == [(number, number / 2) for number in range(5)]
    assert all(row["started"] is not None for row in rows)


def test_a_damaged_series_is_an_error_and_the_others_are_exported(place: Path) -> None:
    (place / "runs/log_r1/series/scalars.jsonl").unlink()
    (place / "runs/log_r1/series/scalars.jsonl").mkdir()
    errors: list[Exception] = []
    done = search.export(place / "runs", place / "out", failed=errors.append)
    assert done.rows["series/scalars.parquet"] == 8


def test_many_rows_are_written_in_groups(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    with store.open("a.parquet", "wb") as file:
        write_columns(file, [("x", lambda start, end: [*range(start, min(end, 50_000))])], 50_000)
    found = pq.ParquetFile(tmp_path / "a.parquet")
    assert found.num_row_groups == 3
    assert np.array_equal(found.read()["x"].to_numpy(), np.arange(50_000))


def test_too_many_columns_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Logbook("a", tmp_path / "runs", params={"a": 1, "b": 2}) as log:
        log.scalars(a=1, b=2, c=3)
    monkeypatch.setattr("notata.search.exporting_series._COLUMNS", 2)
    with pytest.raises(TooLargeError, match="Pass long=True"):
        search.export(tmp_path / "runs", tmp_path / "out")
    monkeypatch.setattr("notata.search.exporting._COLUMNS", 5)
    with pytest.raises(TooLargeError, match="Choose columns"):
        search.export(tmp_path / "runs", tmp_path / "out")


def test_the_command_exports(place: Path) -> None:
    done = notata("export", "runs", "--parquet", "out", "--where", "steps == 10", "--json", folder=place)
    assert (done.returncode, done.stderr) == (0, "")
    wanted = {"runs.parquet": 1, "series/scalars.parquet": 4, "series/val/other.parquet": 1}
    assert json.loads(done.stdout) == {"url": str(place / "out"), "rows": wanted}
    done = notata("export", "runs", "--csv", "memory://csv", "--no-series", folder=place)
    assert done.stdout == "memory://csv: runs.csv (3 rows)\n"
    assert fsspec.filesystem("memory").cat_file("/csv/runs.csv").startswith(b'"name","run_id"')
    assert notata("export", "runs", "--parquet", "out", "--series", "x", folder=place).returncode == 1
    before = (place / "out/runs.parquet").read_bytes()
    done = notata("export", "nothing", "--parquet", "out", folder=place)
    assert (done.returncode, done.stdout) == (1, "")
    assert (place / "out/runs.parquet").read_bytes() == before  # a misspelt URL does not empty it
    for wrong in ([], ["--parquet", "a", "--csv", "b"], ["--csv", "a", "--no-series", "--series", "x"]):
        assert notata("export", "runs", *wrong, folder=place).returncode == 2
