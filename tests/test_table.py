"""The table of many runs and its index.csv: a row for each run, not shifted, not torn, whatever the files contain."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from notata import DecodeError, Experiment, ExperimentReader, UnknownNameError, search
from notata.run.values import crc
from notata.search import remove
from notata.search import table as table_of
from notata.store import Store, open_store
from notata.table import IndexWriter, Row, Table, columns, to_pandas
from notata.table.columns import encoded_rows
from notata.table.row import sealed
from tests.command import notata

WORDS = """1 1.0 .5 1e5 +1 True None null nan -inf " "a" [ {} , ; - ' ٣ status params.a \\ud800"""
ODD = ["", " ", " x ", "a\nb", "\r\n", "\ud800", "\u2028", "\x85", "\0", "x" * 300]
TEXT = st.text(max_size=12) | st.sampled_from([*WORDS.split(), *ODD])
FLOATS = st.floats(allow_nan=False)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.sampled_from([10**400, -(10**30)]), FLOATS, TEXT)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
NAMES = TEXT | st.sampled_from(["a", "b", "run_id", "revision", "failure_reason", "metrics_error", "metrics.a"])
NAMED = st.dictionaries(NAMES, VALUES, max_size=4)
ONE_LINE = st.text(max_size=20)
ROWS = st.builds(
    lambda **fields: Row(**fields),
    run_id=st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=10),
    status=st.sampled_from(["complete", "failed", "died", "unreadable"]),
    params=NAMED,
    metrics=NAMED,
    failure_reason=ONE_LINE,
    metrics_error=ONE_LINE,
    revision=st.just("0a1b2c3d") | st.just(""),
)
TABLES = st.lists(ROWS, max_size=5, unique_by=lambda row: row.run_id)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "sweep")


@pytest.fixture
def sweep(tmp_path: Path) -> Experiment:
    return Experiment("sweep", tmp_path)


@pytest.fixture
def memory() -> Iterator[Store]:
    store = open_store("memory://tables")
    yield store
    store.clear()


def index(sweep: Experiment) -> bytes:
    return Path(str(sweep.index_file)).read_bytes()


def cells(sweep: Experiment) -> list[dict[str, str]]:
    """Read index.csv with the csv module."""
    with open(str(sweep.index_file), newline="", encoding="utf-8", errors="replace") as file:
        return list(csv.DictReader(file, strict=True))


def rows(sweep: Experiment) -> dict[str, dict[str, Any]]:
    """Return the table of a reader, by run."""
    return {row["run_id"]: row for row in ExperimentReader(sweep.exp_dir).table()}


def run(sweep: Experiment, metrics: object = None, **params: Any) -> str:
    """Record a complete run and return its id."""
    with sweep.add(**params) as log:
        if metrics is not None:
            log.json("metrics", metrics)
    return str(log.run_id)


def equal(one: Any, other: Any) -> bool:
    """Compare values and types: 1 equals neither True nor 1.0."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def same(one: Row, other: Row) -> bool:
    def parts(row: Row) -> list[object]:
        fixed = [row.run_id, row.status, row.failure_reason, row.metrics_error, row.revision]
        return [*fixed, dict(row.params), dict(row.metrics)]

    return equal(parts(one), parts(other))


# -- cells -------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(TABLES)
@example([Row("a", "complete", {"a": 1}, {"a": 2}), Row("b", "complete", {}, {"a": 3})])
@example(
    [Row("a", "complete", {"status": 1, "run_id": 2, "revision": 3}, {"status": 4, "metrics.a": 5, "params.a": 6})]
)
@example([Row("a", "complete", {"": ""}, {"": ""})])
@example([Row("a", "complete", {"a\nb": "a\nb", '"': '"'}, {"\ud800": "\ud800", "\\ud800": 1})])
@example([Row("\ufeff", "failed", {}, {}, "two\nlines", '"quoted"'), Row('"', "failed")])
def test_whatever_a_row_holds_is_read_back_as_it_was(made: list[Row]) -> None:
    data = columns.encoded_rows(made)
    assert data.count(b"\n") == len(made) + 1  # each row is one line, whatever it contains
    read = columns.parsed_rows(data)
    assert len(read) == len(made)
    assert all(same(one, other) for one, other in zip(read, made, strict=True))


def escaped(value: Any) -> Any:
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


@settings(max_examples=40)
@given(TABLES)
@example([Row("a", "complete", {"a": [1, 2]}, {"b": None}), Row("b", "complete", {"a": [3, 4], "c": True}, {"b": 1})])
@example([Row("a", "complete", {"a": 1, "b": True, "c": 2}), Row("b", "failed", {"a": 1.5, "b": False, "c": None})])
@example([Row("a", "complete", {"a": {"b": 1}, "a.b": 2}), Row("b", "complete", {"\ud800": "\ud800"})])
def test_a_frame_has_the_values_and_types_of_the_records(made: list[Row]) -> None:
    table = Table(made)
    shown = [name.encode("utf-8", "backslashreplace") for name in table.columns()]
    assume(len({*shown}) == len(shown))  # a record has one value for each name
    records = [{escaped(name): escaped(value) for name, value in record.items()} for record in table.records()]
    expected = pd.DataFrame.from_records(records, columns=[*map(escaped, table.columns())] if made else None)
    pd.testing.assert_frame_equal(to_pandas(table), expected)


@settings(max_examples=40)
@given(TABLES)
def test_rows_added_one_by_one_are_the_rows_written_at_once(made: list[Row]) -> None:
    store = open_store("memory://tables-one-by-one")
    keeper = IndexWriter(store)
    for row in made:
        keeper.put(row)
    read = {row.run_id: row for row in columns.parsed_rows(store.read("index.csv"))} if made else {}
    store.clear()
    assert [*read] == [row.run_id for row in made]
    assert all(same(read[row.run_id], row) for row in made)


@settings(max_examples=40)
@given(TABLES, st.binary(max_size=40), st.integers(0, 10_000))
def test_an_index_that_is_cut_anywhere_loses_its_last_row_at_most(made: list[Row], junk: bytes, at: int) -> None:
    data = columns.encoded_rows(made)
    cut = data[: at % len(data)]
    whole = cut.count(b"\n") - 1
    read = columns.parsed_rows(cut)
    for one, other in zip(read, made[: max(0, whole)], strict=False):
        assert same(one, other)
    assert max(0, whole) <= len(read) <= max(0, whole) + 1
    columns.parsed_rows(cut + junk)
    columns.parsed_rows(junk)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.0])
def test_numbers_without_a_word_in_json_are_read_back(value: float) -> None:
    read = columns.parsed_rows(columns.encoded_rows([Row("a", "complete", {"x": value})]))[0].params["x"]
    assert math.isnan(read) if math.isnan(value) else (read, math.copysign(1, read)) == (value, math.copysign(1, value))


def test_pandas_reads_the_values_of_index_csv(sweep: Experiment) -> None:
    run(sweep, {"error": 0.25, "steps": 3, "note": "a, b"}, dt=0.1, method="rk4", adaptive=True)
    run(sweep, {"error": math.inf, "steps": 4, "note": 'say "yes"\nno'}, dt=1e-12, method="2nd order", adaptive=False)
    frame = pd.read_csv(str(sweep.index_file))
    assert list(frame.columns) == ["run_id", "adaptive", "dt", "method", "status", "error", "note", "steps", "revision"]
    assert frame["dt"].tolist() == [0.1, 1e-12]
    assert frame["error"].tolist() == [0.25, math.inf]
    assert frame["steps"].tolist() == [3, 4]
    assert frame["adaptive"].tolist() == [True, False]
    assert frame["method"].tolist() == ["rk4", "2nd order"]
    assert json.loads(frame["note"][1]) == 'say "yes"\nno'
    assert frame["note"][0] == "a, b"
    assert frame["status"].tolist() == ["complete", "complete"]


# -- columns -----------------------------------------------------------------------------------------------


def test_no_row_shifts_where_columns_differ(sweep: Experiment) -> None:
    run(sweep, {"height": 95.0, "speed": 9.81}, dt=0.01)
    with pytest.raises(RuntimeError), sweep.add(dt=0.5):
        raise RuntimeError("hit the ground, h=-1")
    run(sweep, {"warning": "late", "height": 1.0}, dt=0.02, wind=3)
    run(sweep, None, mass=2.0)
    assert [line.rpartition(",")[0] for line in index(sweep).decode().splitlines()] == [
        "run_id,dt,mass,wind,status,failure_reason,height,speed,warning",
        "sweep_dt_0.01,0.01,,,complete,,95.0,9.81,",
        'sweep_dt_0.5,0.5,,,failed,"hit the ground, h=-1",,,',
        "sweep_dt_0.02_wind_3,0.02,,3,complete,,1.0,,late",
        "sweep_mass_2,,2.0,,complete,,,,",
    ]


def test_a_row_with_known_columns_is_appended_and_nothing_else_is_touched(sweep: Experiment) -> None:
    run(sweep, {"error": 1.0}, dt=0.1)
    before = index(sweep)
    run(sweep, {"error": 2.0}, dt=0.2)
    after = index(sweep)
    assert after.startswith(before)
    assert after[len(before) :].startswith(b"sweep_dt_0.2,0.2,complete,2.0,")


def test_names_that_notata_has_already(sweep: Experiment) -> None:
    clash = {"status": "melting", "run_id": 7, "revision": "r1", "failure_reason": "none", "dt": 3}
    run(sweep, {**clash, "params.x": 1}, dt=0.1, status="solid", run_id=8, revision="r2", x=2)
    (row,) = rows(sweep).values()
    assert row["run_id"].startswith("sweep_dt_0.1")
    assert (row["status"], row["params.status"], row["metrics.status"]) == ("complete", "solid", "melting")
    assert (row["params.run_id"], row["metrics.run_id"]) == (8, 7)
    assert (row["params.revision"], row["metrics.revision"], "revision" in row) == ("r2", "r1", False)
    assert (row["metrics.failure_reason"], "failure_reason" in row) == ("none", False)
    assert (row["dt"], row["metrics.dt"], row["x"], row["metrics.params.x"]) == (0.1, 3, 2, 1)
    assert set(cells(sweep)[0]) == {*row, "revision"}
    assert rows(sweep) == {row["run_id"]: row}


@pytest.mark.parametrize("text", ["two\nlines", "a\r\nb", '"', "x,y", "\u2028", "\t", "\x1b[31m", "üñ"])
def test_a_row_is_one_line_that_grep_finds(sweep: Experiment, text: str) -> None:
    run(sweep, {"note": text, "nested": {text: [text]}}, label=text, mark="needle")
    found = subprocess.run(["grep", "-c", "needle", str(sweep.index_file)], capture_output=True, text=True, check=True)
    assert found.stdout == "1\n"
    assert len(index(sweep).decode().splitlines()) == 2
    (row,) = rows(sweep).values()
    assert (row["note"], row["label"], row[f"nested.{text}"]) == (text, text, [text])


def test_a_reason_of_many_lines_is_one_line(sweep: Experiment) -> None:
    sweep.add(dt=0.1).mark_failed("first\nsecond, third")
    assert len(index(sweep).splitlines()) == 2
    assert rows(sweep)["sweep_dt_0.1"]["failure_reason"] == "first\nsecond, third"


@pytest.mark.parametrize("name", ["two\nlines", '"quoted"', "", "\ud800", "a,b"])
def test_names_of_metrics_may_be_any_text(sweep: Experiment, name: str) -> None:
    for dt in (0.1, 0.2):
        with sweep.add(dt=dt) as log:
            log["artifacts/metrics.json"].write_text(json.dumps({name: dt}))
    assert len(index(sweep).splitlines()) == 3
    assert {row[name] for row in rows(sweep).values()} == {0.1, 0.2}
    assert {row.metrics[name] for row in columns.parsed_rows(index(sweep))} == {0.1, 0.2}


# -- an index.csv that is damaged, or from another program ------------------------------------------------------

OF_0_3_0 = (
    "run_id,dt,status,height\r\nsweep_dt_0.1,0.1,complete,3.0\r\nsweep_dt_0.2,0.2,missing\r\n"
    "sweep_dt_0.3_wind_1,0.3,1,complete,4.0\r\n"
)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"\n",
        lambda data: data[:-1],
        lambda data: data[:-4],
        lambda data: data[:-20],
        lambda data: data[:25],
        lambda data: data + b'sweep_dt_0.9,0.9,complete,"half a ce',
        lambda data: data + b"sweep_dt_0.9,0.9",
        lambda data: data + b"\0\xff\n",
        lambda data: b"\x89PNG\r\n\x1a\n\0\0\0\xff" * 50,
        lambda data: b"\xff\xfe" + data.decode().encode("utf-16-le"),
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: data.replace(b",", b";"),
        lambda data: data + data,
        lambda data: data.replace(b"0.1,complete", b"0.1,failed"),
        lambda data: data.replace(b"1.0,", b"7.0,"),
        lambda data: b"date,amount\n2026-01-01,3\n",
        lambda data: b"run_id,status,status\na,b,c\n",
        lambda data: OF_0_3_0.encode(),
    ],
)
def test_a_damaged_index_loses_no_row(sweep: Experiment, damage: Any) -> None:
    for dt in (0.1, 0.2):
        run(sweep, {"error": dt * 10}, dt=dt)
    Path(str(sweep.index_file)).write_bytes(damage(index(sweep)))
    told = {run_id: (row["dt"], row["error"], row["status"]) for run_id, row in rows(sweep).items() if "error" in row}
    assert told == {"sweep_dt_0.1": (0.1, 1.0, "complete"), "sweep_dt_0.2": (0.2, 2.0, "complete")}
    run(sweep, {"error": 3.0}, dt=0.3)  # the next row is appended to the file as it is
    assert ("sweep_dt_0.3", "3.0") in [(line.get("run_id"), line.get("error")) for line in cells(sweep)]
    sweep.write_index()
    read = [(line["run_id"], line["dt"], line["status"], line["error"]) for line in cells(sweep) if line["error"]]
    assert sorted(read) == [
        ("sweep_dt_0.1", "0.1", "complete", "1.0"),
        ("sweep_dt_0.2", "0.2", "complete", "2.0"),
        ("sweep_dt_0.3", "0.3", "complete", "3.0"),
    ]


def test_a_torn_line_costs_index_csv_no_other_row(sweep: Experiment) -> None:
    for dt in (0.1, 0.2, 0.3):
        run(sweep, {"note": "a, b"}, dt=dt)
    Path(str(sweep.index_file)).write_bytes(index(sweep)[:-12])  # inside the quotes of the last row's note
    run(sweep, {"note": "x", "more": 1}, dt=0.4)
    assert [line["run_id"] for line in cells(sweep)] == ["sweep_dt_0.1", "sweep_dt_0.2", "sweep_dt_0.4"]
    sweep.write_index()
    assert sorted(line["dt"] for line in cells(sweep)) == ["0.1", "0.2", "0.3", "0.4"]


def test_rows_of_0_3_0_that_are_shifted_are_put_right(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    for run_id, params, metrics in (
        ("sweep_dt_0.1", {"dt": 0.1}, {"height": 3.0}),
        ("sweep_dt_0.2", {"dt": 0.2}, None),
        ("sweep_dt_0.3_wind_1", {"dt": 0.3, "wind": 1}, {"height": 4.0}),
    ):
        _write_0_3_0(folder / "runs" / f"log_{run_id}", run_id, params, metrics)
    (folder / "index.csv").write_bytes(OF_0_3_0.encode())
    sweep = Experiment("sweep", tmp_path)
    sweep.write_index()
    assert [line.rpartition(",")[0] for line in index(sweep).decode().splitlines()] == [
        "run_id,dt,wind,status,height",
        "sweep_dt_0.1,0.1,,complete,3.0",
        "sweep_dt_0.2,0.2,,complete,",
        "sweep_dt_0.3_wind_1,0.3,1,complete,4.0",
    ]


def _write_0_3_0(folder: Path, run_id: str, params: Any, metrics: Any) -> None:
    (folder / "artifacts").mkdir(parents=True)
    fields = {"run_id": run_id, "status": "complete", "start_time": "2025-11-01T10:00:00", "runtime_sec": 1.5}
    (folder / "metadata.json").write_text(json.dumps(fields))
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    if metrics is not None:
        (folder / "artifacts/metrics.json").write_text(json.dumps(metrics))


def test_an_index_that_is_no_table_at_all_can_be_shown(sweep: Experiment) -> None:
    run(sweep, None, dt=0.1)
    Path(str(sweep.index_file)).write_bytes(b"x" * 200_000)
    reader = ExperimentReader(sweep.exp_dir)
    assert rows(sweep) == {"sweep_dt_0.1": {"run_id": "sweep_dt_0.1", "dt": 0.1, "status": "complete"}}
    with pytest.raises(DecodeError, match=r"index\.csv is not a CSV table"):
        reader.index()
    reader._repr_html_()


# -- runs that are gone, or have not ended -----------------------------------------------------------------


@pytest.mark.parametrize("by", ["rm", "rmtree"])
def test_a_run_that_was_removed_is_in_no_table(sweep: Experiment, by: str) -> None:
    for dt, error in ((0.1, 0.01), (0.2, 0.04)):
        run(sweep, {"error": error}, dt=dt)
    gone = Path(str(sweep.runs_dir)) / "log_sweep_dt_0.1"
    if by == "rm":
        assert [done.removed for done in remove(str(gone))] == [True]
    else:
        shutil.rmtree(gone)
    reader = ExperimentReader(sweep.exp_dir)
    assert [line["run_id"] for line in cells(sweep)] == ["sweep_dt_0.1", "sweep_dt_0.2"]  # nothing has rewritten it yet
    for table in (reader.table(), reader.to_pandas().to_dict("records"), list(table_of(str(sweep.exp_dir)))):
        assert [row["run_id"] for row in table] == ["sweep_dt_0.2"]
    assert list(reader.params) == list(reader.meta) == ["sweep_dt_0.2"]
    assert "Runs directory: runs with 1 runs\n- sweep_dt_0.2" in str(reader)

    frame = sweep.to_dataframe()
    assert frame.nsmallest(1, "error")["run_id"].tolist() == ["sweep_dt_0.2"]
    assert sweep.select(dt=0.1).empty
    assert [line["run_id"] for line in cells(sweep)] == ["sweep_dt_0.2"]
    assert not list(Path(str(sweep.exp_dir)).glob("*.bak"))


def test_a_run_that_was_removed_leaves_index_csv_when_it_is_written(sweep: Experiment) -> None:
    for dt in (0.1, 0.2):
        run(sweep, {"error": 1.0}, dt=dt)
    shutil.rmtree(Path(str(sweep.runs_dir)) / "log_sweep_dt_0.1")
    sweep.write_index()
    assert [line["run_id"] for line in cells(sweep)] == ["sweep_dt_0.2"]
    run(sweep, {"error": 3.0}, dt=0.1)
    assert {line["run_id"]: line["error"] for line in cells(sweep)} == {"sweep_dt_0.2": "1.0", "sweep_dt_0.1": "3.0"}


def test_removing_the_last_run_removes_the_last_row(sweep: Experiment) -> None:
    run(sweep, {"error": 1.0}, dt=0.1)
    shutil.rmtree(Path(str(sweep.runs_dir)) / "log_sweep_dt_0.1")
    assert sweep.to_dataframe().empty
    assert cells(sweep) == []
    with pytest.raises(UnknownNameError, match="none, as there are no runs"):
        sweep.select(dt=0.1)


def test_rows_of_0_3_0_without_runs_are_kept_in_a_backup(sweep: Experiment) -> None:
    run(sweep, {"error": 1.0}, dt=0.2)
    index = Path(str(sweep.index_file))
    old = "run_id,dt,status,error\nsweep_dt_0.1,0.1,complete,0.01\nsweep_dt_0.2,0.2,complete,1.0\n"
    index.write_text(old)
    assert [row["run_id"] for row in ExperimentReader(sweep.exp_dir).table()] == ["sweep_dt_0.2"]
    assert index.read_text() == old
    run(sweep, {"error": 3.0}, dt=0.3)
    assert [line["run_id"] for line in cells(sweep)] == ["sweep_dt_0.2", "sweep_dt_0.3"]
    assert [kept.read_text() for kept in index.parent.glob("index.csv.*.bak")] == [old]


def test_a_run_that_is_running_is_in_the_table_but_not_in_index_csv(sweep: Experiment) -> None:
    log = sweep.add(dt=0.1)
    assert log is not None
    log.json("metrics", {"error": 0.5})
    assert rows(sweep)["sweep_dt_0.1"] == {"run_id": "sweep_dt_0.1", "dt": 0.1, "status": "running", "error": 0.5}
    sweep.write_index()
    assert cells(sweep) == []
    log.mark_complete()
    assert cells(sweep)[0]["status"] == rows(sweep)["sweep_dt_0.1"]["status"] == "complete"


def test_a_run_that_died_says_so_with_a_reason(sweep: Experiment) -> None:
    log = sweep.add(dt=0.1)
    assert log is not None
    log.json("metrics", {"error": 0.5})
    _edit(log.path, lambda fields: fields["lease"].update(process=fields["lease"]["process"] + "0"))
    row = rows(sweep)["sweep_dt_0.1"]
    assert (row["status"], row["error"]) == ("died", 0.5)
    assert row["failure_reason"].endswith("is gone")
    sweep.write_index()
    assert [(line["status"], line["revision"]) for line in cells(sweep)] == [("died", "")]  # the run may be resumed


def test_a_run_that_is_being_replaced(sweep: Experiment) -> None:
    run(sweep, {"error": 0.5}, dt=0.1)
    _edit(sweep.runs_dir / "log_sweep_dt_0.1", lambda fields: fields.update(status="replacing"))
    assert rows(sweep)["sweep_dt_0.1"]["status"] == "replacing"
    sweep.write_index()
    assert cells(sweep) == []


def _edit(folder: Any, change: Any) -> None:
    file = Path(folder) / "metadata.json"
    fields = json.loads(file.read_text())
    change(fields)
    file.write_text(json.dumps(fields))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff\0", b"[" * 10**5])
def test_metadata_that_cannot_be_read_is_a_row_that_says_so(sweep: Experiment, data: bytes) -> None:
    run(sweep, {"error": 0.5}, dt=0.1)
    (Path(str(sweep.runs_dir)) / "log_sweep_dt_0.1/metadata.json").write_bytes(data)
    run(sweep, {"error": 0.6}, dt=0.2)
    told = rows(sweep)
    assert told["sweep_dt_0.1"]["status"] == "unreadable"
    assert told["sweep_dt_0.1"]["failure_reason"] == "metadata.json is not a JSON object"
    assert (told["sweep_dt_0.1"]["dt"], told["sweep_dt_0.1"]["error"]) == (0.1, 0.5)
    assert told["sweep_dt_0.2"]["status"] == "complete"
    sweep.write_index()
    assert len(cells(sweep)) == 2


@pytest.mark.parametrize("row", [[], "x", 3, {"params": 3, "metrics": []}, {"params": [1]}, {"metrics_error": {}}])
def test_a_damaged_row_field(sweep: Experiment, row: Any) -> None:
    run(sweep, {"error": 0.5}, dt=0.1)
    _edit(sweep.runs_dir / "log_sweep_dt_0.1", lambda fields: fields.update(row=row))
    told = rows(sweep)["sweep_dt_0.1"]
    assert (told["status"], told["error"]) == ("complete", 0.5)
    sweep.write_index()
    assert len(cells(sweep)) == 1


# -- metrics -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"{", "artifacts/metrics.json: "),
        (b"", "artifacts/metrics.json: "),
        (b"\xff", "artifacts/metrics.json: "),
        (b"[1, 2]", "artifacts/metrics.json contains a list instead of names and values"),
        (b"null", "artifacts/metrics.json contains a NoneType instead of names and values"),
    ],
)
def test_metrics_that_are_none_are_said_to_be_so(sweep: Experiment, data: bytes, error: str) -> None:
    with sweep.add(dt=0.1) as log:
        log["artifacts/metrics.json"].write_bytes(data)
    run(sweep, {"error": 1.0}, dt=0.2)
    told = rows(sweep)
    assert told["sweep_dt_0.1"]["metrics_error"].startswith(error)
    assert told["sweep_dt_0.1"]["status"] == "complete"
    assert cells(sweep)[0]["metrics_error"] == told["sweep_dt_0.1"]["metrics_error"]
    assert "metrics_error" not in told["sweep_dt_0.2"]


@pytest.mark.parametrize("metrics", [{}, {"error": None}, {"error": math.nan}, {"": 1}])
def test_metrics_of_few_or_odd_values(sweep: Experiment, metrics: dict[str, Any]) -> None:
    run(sweep, metrics, dt=0.1)
    sweep.write_index()
    (row,) = rows(sweep).values()
    assert repr({name: row[name] for name in metrics}) == repr(metrics)
    assert "metrics_error" not in row


def test_metrics_too_many_for_metadata_are_in_the_table_all_the_same(sweep: Experiment) -> None:
    many = {f"m{number:05}": number / 7 for number in range(5000)}
    run(sweep, many, dt=0.1)
    assert "metrics" not in json.loads((sweep.runs_dir / "log_sweep_dt_0.1/metadata.json").read_text())["row"]
    row = rows(sweep)["sweep_dt_0.1"]
    assert {name: row[name] for name in many} == many
    sweep.write_index()
    (line,) = cells(sweep)
    assert {name: float(line[name]) for name in many} == many
    assert rows(sweep)["sweep_dt_0.1"] == row


def test_a_value_too_long_for_a_cell_is_in_the_table_and_not_in_index_csv(sweep: Experiment) -> None:
    """Python's csv module refuses cells of more than 131,072 characters, spreadsheets refuse more than 32,767."""
    long = {"trace": [number / 7 for number in range(20_000)], "error": 1.0}
    run(sweep, long, dt=0.1)
    for _ in range(2):
        sweep.write_index()
        assert [(line["error"], line["trace"], line["revision"]) for line in cells(sweep)] == [("1.0", "", "")]
        assert rows(sweep)["sweep_dt_0.1"]["trace"] == long["trace"]
    run(sweep, {"error": 2.0, "new": 3}, dt=0.2)
    assert [line["error"] for line in cells(sweep)] == ["1.0", "2.0"]


@pytest.mark.parametrize("by", ["json", "path", "builtin open", "bytes"])
def test_metrics_written_after_the_end_are_in_the_table(sweep: Experiment, by: str) -> None:
    log = sweep.add(dt=0.1)
    assert log is not None
    log.mark_complete()
    assert "error" not in rows(sweep)["sweep_dt_0.1"]
    for error in (0.5, 0.6):  # the second time, index.csv already has the first value
        text = json.dumps({"error": error})
        match by:
            case "json":
                log.json("metrics", {"error": error})
            case "path":
                log["artifacts/metrics.json"].write_text(text)
            case "bytes":
                log.bytes("metrics.json", text.encode())
            case _:
                with open(str(log["artifacts/metrics.json"]), "w") as file:
                    file.write(text)
        assert rows(sweep)["sweep_dt_0.1"]["error"] == error
        sweep.write_index()
        assert cells(sweep)[0]["error"] == str(error)


def test_metrics_of_the_same_second_differ_by_their_version(memory: Store) -> None:
    """Times on S3 have whole seconds, so they do not show that metrics are newer than the end."""
    sweep = Experiment("sweep", memory)
    run(sweep, {"error": 0.5}, dt=0.1)
    sweep.write_index()
    sweep.reader["sweep_dt_0.1"]["artifacts/metrics.json"].write_text('{"error": 0.6}')
    for file in memory.filesystem().store.values():
        file.modified = file.modified.replace(microsecond=0)
    sweep.write_index()
    assert sweep.reader.table()[0]["error"] == 0.6


def test_metrics_recorded_from_another_file_stay_though_there_are_others(sweep: Experiment) -> None:
    log = sweep.add(dt=0.1)
    assert log is not None
    log.json("summary", {"error": 0.1})
    sweep.record(log, "artifacts/summary.json")
    log.json("metrics", {"error": 0.2})
    log.json("summary", {"error": 0.3})
    log.mark_complete()  # the metrics are looked up where they were found before
    for _ in range(2):
        assert rows(sweep)["sweep_dt_0.1"]["error"] == 0.3
        sweep.write_index()
        assert cells(sweep)[0]["error"] == "0.3"
    sweep.record(log)
    assert rows(sweep)["sweep_dt_0.1"]["error"] == 0.2


# -- parameters --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"a: [", b"\xff", b"- 1\n- 2\n", b"just text"])
def test_damaged_parameters_of_a_run_of_0_3_0_are_said_to_be_so(tmp_path: Path, data: bytes) -> None:
    folder = tmp_path / "sweep/runs/log_a"
    _write_0_3_0(folder, "a", {}, {"error": 0.5})
    (folder / "params.yaml").write_bytes(data)
    for _ in range(2):
        (row,) = ExperimentReader(tmp_path / "sweep").table()
        assert (row["status"], row["error"]) == ("complete", 0.5)
        assert row["metrics_error"].startswith("params.yaml: ")
        Experiment("sweep", tmp_path).write_index()


def test_parameters_edited_by_hand_have_a_row_too(tmp_path: Path) -> None:
    folder = tmp_path / "sweep/runs/log_a"
    _write_0_3_0(folder, "a", {}, None)
    (folder / "params.yaml").write_text("day: 2026-01-02\n1: one\ntrue: yes\nraw: !!binary aGk=\n")
    (row,) = ExperimentReader(tmp_path / "sweep").table()
    assert row["status"] == "complete"
    assert row["metrics_error"].startswith("params.yaml: raw")
    (folder / "params.yaml").write_text("day: 2026-01-02\n1: one\n")
    (row,) = ExperimentReader(tmp_path / "sweep").table()
    assert (row["day"], row["1"]) == ("2026-01-02", "one")


def test_parameters_damaged_during_the_run_do_not_stop_its_end(sweep: Experiment) -> None:
    run(sweep, None, dt=0.1)
    folder = Path(str(sweep.runs_dir)) / "log_sweep_dt_0.1"
    (folder / "params.yaml").write_text("1: a\n'1': b\n")
    from notata.experiment import Member

    Member("sweep_dt_0.1", sweep.runs_dir, resume=True).mark_complete()
    assert rows(sweep)["sweep_dt_0.1"]["status"] == "complete"


def test_parameters_added_during_the_run_are_in_the_row(sweep: Experiment) -> None:
    with sweep.add(dt=0.1) as log:
        log.params(ext="json", seed=3)
    assert (cells(sweep)[0]["dt"], cells(sweep)[0]["seed"]) == ("0.1", "3")
    assert rows(sweep)["sweep_dt_0.1"]["seed"] == 3


# -- runs that go on ---------------------------------------------------------------------------------------


def test_a_resumed_run_has_one_row_with_its_current_state(sweep: Experiment) -> None:
    sweep.add(dt=0.1).mark_failed("node lost")
    run(sweep, None, dt=0.2)
    assert cells(sweep)[0]["failure_reason"] == "node lost"
    log = sweep.add(dt=0.1, skip_existing="complete")
    assert log is not None
    assert rows(sweep)["sweep_dt_0.1"]["status"] == "running"
    log.json("metrics", {"error": 0.5})
    log.mark_complete()
    assert [(line["run_id"], line["status"], line["error"]) for line in cells(sweep)] == [
        ("sweep_dt_0.1", "complete", "0.5"),
        ("sweep_dt_0.2", "complete", ""),
    ]
    assert "failure_reason" not in rows(sweep)["sweep_dt_0.1"]


def test_a_complete_run_may_still_fail_and_has_one_row(sweep: Experiment) -> None:
    log = sweep.add(dt=0.1)
    assert log is not None
    log.mark_complete()
    log.mark_failed("found out later")
    assert [(line["status"], line["failure_reason"]) for line in cells(sweep)] == [("failed", "found out later")]


def test_rows_of_index_csv_are_not_read_from_the_runs_again(memory: Store) -> None:
    from notata.testing import FaultyBackend

    watched = FaultyBackend(memory)
    sweep = Experiment("sweep", watched)
    for dt in (0.1, 0.2, 0.3):
        run(sweep, {} if dt == 0.1 else {"error": dt}, dt=dt)
    sweep.write_index()
    before = len(watched.operations)
    assert len(sweep.to_dataframe()) == 3
    assert [operation.verb for operation in watched.operations[before:]] == ["list", "get"]


def test_two_folders_of_one_run_id_are_one_run(tmp_path: Path) -> None:
    _write_0_3_0(tmp_path / "log_a", "a", {"where": "outside"}, None)
    _write_0_3_0(tmp_path / "runs/log_a", "a", {"where": "runs"}, None)
    reader = ExperimentReader(tmp_path)
    assert reader["a"].params["where"] == reader.params["a"]["where"] == "runs"


def test_rows_written_by_csv_are_what_the_csv_module_reads(sweep: Experiment) -> None:
    run(sweep, {"text": 'a "quoted" text, and more', "list": [1, "x"]}, dt=0.1)
    (line,) = csv.DictReader(io.StringIO(index(sweep).decode()), strict=True)
    assert (line["text"], json.loads(line["list"])) == ('a "quoted" text, and more', [1, "x"])


# -- a forged index.csv --------------------------------------------------------------------------------------


def forged(sweep: Experiment) -> None:
    """Add rows with false values and the valid checksum that anyone can compute, and a row of a run that never was."""
    folder = Path(sweep.url)
    store = open_store(str(folder))
    lies = []
    for entry in store.list("runs"):
        if entry.key.endswith("/metadata.json"):
            fields = json.loads(store.read(entry.key))
            metrics = store.stat(entry.key.replace("metadata.json", "artifacts/metrics.json"))
            lie = Row(fields["run_id"], "complete", {"dt": 0.1}, {"error": -1.0})
            lies.append(sealed(lie, entry.version, crc(metrics.version)))
    lies.append(Row("sweep_never", "complete", {"dt": 9.0}, {"error": -9.0}, revision="0a1b2c3d"))
    (folder / "index.csv").write_bytes(encoded_rows(lies))


def test_a_forged_index_is_ignored_where_runs_are_read(sweep: Experiment, tmp_path: Path) -> None:
    run_id = run(sweep, {"error": 0.5}, dt=0.1)
    forged(sweep)
    reader = ExperimentReader(sweep.url)
    assert {row["run_id"]: row["error"] for row in reader.table()} == {run_id: -1.0}
    assert [(row["run_id"], row["error"]) for row in reader.table(fresh=True)] == [(run_id, 0.5)]
    assert reader.to_pandas(fresh=True)["error"].tolist() == [0.5]
    assert [row["error"] for row in search.table(sweep.url, fresh=True)] == [0.5]
    shown = notata("table", sweep.url, "--fresh", "--json", folder=tmp_path).stdout
    assert [json.loads(line)["metrics"] for line in shown.splitlines()] == [{"error": 0.5}]


def test_nothing_is_removed_for_what_a_forged_index_says(sweep: Experiment, tmp_path: Path) -> None:
    run(sweep, {"error": 0.5}, dt=0.1)
    forged(sweep)
    before = sorted(str(path) for path in Path(sweep.url).rglob("*"))
    done = notata("rm", "-r", "--yes", "--where", "error < 0", sweep.url, folder=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert sorted(str(path) for path in Path(sweep.url).rglob("*")) == before
    for command in ("ls", "verify", "du"):
        done = notata(command, "--where", "error < 0", sweep.url, folder=tmp_path)
        assert (done.returncode > 0, "sweep_" in done.stdout) == (True, False)
