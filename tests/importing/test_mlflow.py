"""Runs of MLflow, from its folder and its database: equal to what MLflow's client reported when it wrote them."""

from __future__ import annotations

import math
import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from notata import ExperimentReader, LogReader, search
from notata.errors import BatchError, ConfigurationError
from notata.importing import import_runs
from tests.importing.sources import expected, metadata, names, on_disk, points, put

SECOND = "Users--ada--second-0d4ab3d7"
WORDS = {"nan": "NaN", "inf": "Infinity"}


@pytest.fixture(params=["mlruns", "mlflow_db"])
def imported(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, Any]]:
    """Import the committed files of one kind into memory; return the place, and what MLflow reported."""
    tool = request.param
    source = put(tool, "memory://from-mlflow") if tool == "mlruns" else str(on_disk(tool, tmp_path))
    report = import_runs("mlruns", source, "memory://to", deleted=True)
    assert len(report.new) == 5
    return "memory://to", expected(tool)


def run_url(place: str, run_id: str, run: dict[str, Any]) -> str:
    folder = "pendulum" if run["experiment"] == "pendulum" else SECOND
    return f"{place}/{folder}/runs/log_{run_id}"


def test_each_run_has_the_values_that_mlflow_reports(imported: tuple[str, dict[str, Any]]) -> None:
    place, runs = imported
    for run_id, run in runs.items():
        reader = LogReader(run_url(place, run_id, run))
        assert {name: str(value) for name, value in reader.params.items()} == run["params"]
        fields = metadata(run_url(place, run_id, run))
        assert fields["run_id"] == fields["imported"]["id"] == run_id
        assert (fields["name"], fields["experiment"]) == (run["name"], run["experiment"])
        metrics = fields["row"].get("metrics", {})
        assert {name: repr(value) for name, value in metrics.items()} == run["metrics"]


def test_the_curves_have_each_step_and_time(imported: tuple[str, dict[str, Any]]) -> None:
    place, runs = imported
    (run_id,) = [run_id for run_id, run in runs.items() if run["name"] == "first"]
    found = points(run_url(place, run_id, runs[run_id]))
    wanted = {
        "time_" if name == "time" else name: [
            (step, time / 1000, WORDS[value] if value in WORDS else float(value)) for step, time, value in values
        ]
        for name, values in runs[run_id]["points"].items()
    }
    assert found == {name: sorted(values, key=lambda point: point[1]) for name, values in wanted.items()}
    assert len(wanted["loss"]) == 5


def test_status_times_tags_and_files_are_kept(imported: tuple[str, dict[str, Any]]) -> None:
    place, runs = imported
    by_name = {run["name"]: (run_url(place, run_id, run), run) for run_id, run in runs.items()}
    url, run = by_name["first"]
    fields = metadata(url)
    state = {name: metadata(one)["status"] for name, (one, _) in by_name.items()}
    ended = dict.fromkeys(("first", "child", "deleted"), "complete")
    assert state == ended | {"broken": "failed", "running": "failed"}
    assert metadata(by_name["broken"][0])["failure_reason"] == "FAILED in MLflow"
    assert "had not ended" in metadata(by_name["running"][0])["failure_reason"]
    assert fields["note"] == "Two lines\nof a note"
    assert fields["tags"]["kind"] == "test"
    assert fields["environment"]["user"] == run["user"]
    assert fields["runtime_sec"] == pytest.approx((run["end"] - run["start"]) / 1000)
    assert datetime.fromisoformat(fields["start_time"]).timestamp() == pytest.approx(run["start"] / 1000)
    assert metadata(by_name["child"][0])["parent"] == url
    dataset = fields["datasets"][0]
    assert (dataset["name"], len(dataset["digest"])) == ("points", 8)
    kept = [name for name in names(url) if name.startswith("artifacts/")]
    assert kept == ["artifacts/imported/metrics.json", "artifacts/metrics.json", "artifacts/notes/a.txt"]
    assert LogReader(url).verify().ok


def test_the_table_and_readers_show_them(imported: tuple[str, dict[str, Any]]) -> None:
    place, runs = imported
    table = ExperimentReader(f"{place}/pendulum").table()
    (first,) = [row for row in table if row.get("lr") == 0.1]
    assert (first["steps"], first["flag"], first["none"], first["group/name"]) == (3, True, None, "1e-3")
    assert first["back"] == 1.0
    assert len(search.table(place)) == len(runs) == 5
    loss = LogReader(f"{place}/pendulum/runs/log_{first['run_id']}").series("scalars")["loss"]
    assert [value for value in loss if math.isfinite(value)][:3] == [1.0, 0.5, 1 / 3]


def test_deleted_runs_are_left_out_by_default() -> None:
    report = import_runs("mlruns", put("mlruns", "memory://from-mlflow"), "memory://to")
    stages = [run["stage"] for run in expected("mlruns").values()]
    assert len(report.new) == stages.count("active") == 4


def test_a_folder_of_one_experiment_and_of_one_run_can_be_imported() -> None:
    source = put("mlruns", "memory://from-mlflow")
    (run_id,) = [run_id for run_id, run in expected("mlruns").items() if run["name"] == "first"]
    (meta,) = [name for name in names(source) if name.endswith(f"{run_id}/meta.yaml")]
    experiment = f"{source}/{meta.split('/')[0]}/{meta.split('/')[1]}"
    assert len(import_runs("mlruns", experiment, "memory://to").new) == 3
    report = import_runs("mlruns", f"{experiment}/{run_id}", "memory://one")
    assert report.new == [f"memory://one/Default/runs/log_{run_id}"]


def test_runs_of_a_database_can_go_beside_it(tmp_path: Path) -> None:
    source = on_disk("mlflow_db", tmp_path)
    report = import_runs("mlruns", source / "mlflow.db", tmp_path / "outputs")
    assert len(report.new) == 4
    assert len(import_runs("mlruns", source, tmp_path / "outputs").equal) == 4
    with pytest.raises(ConfigurationError, match="overlap"):
        import_runs("mlruns", source / "mlflow.db", tmp_path / "mlruns/outputs")


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("drop table metrics", "has no table 'metrics'"),
        ("alter table runs rename to other; create view runs as select * from other", "has no table 'runs'"),
        ("update metrics set step = 'x'", "step 'x'"),
        ("update metrics set timestamp = 1e300", "time"),
    ],
)
def test_a_forged_database_is_an_error(tmp_path: Path, statement: str, message: str) -> None:
    source = on_disk("mlflow_db", tmp_path)
    with sqlite3.connect(source / "mlflow.db") as database:
        database.executescript(f"pragma legacy_alter_table = on; {statement}")
    database.close()
    with pytest.raises((BatchError, ValueError), match=message):
        import_runs("mlruns", source, "memory://to")


def test_what_is_no_database_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    with pytest.raises(ValueError, match=r"Is it an MLflow database\?"):
        import_runs("mlruns", tmp_path / "mlflow.db", "memory://to")
