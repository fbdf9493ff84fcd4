"""Many runs of one name, on every backend: Experiment and ExperimentReader of 0.3.0, and the new features."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import notata
from notata import (
    ConfigurationError,
    EncodeError,
    KeyNameError,
    Logbook,
    RunExistsError,
    RunMissingError,
    UnknownNameError,
)
from notata._base import exits
from notata.experiment import Experiment
from notata.reader import ExperimentReader, LogReader
from notata.store import Store, open_store
from notata.table import IndexWriter
from notata.testing import FaultyBackend
from tests.backends import Place
from tests.contract.conftest import QUICK, emptied, make_place
from tests.counting import counted
from tests.exiting import calls_at_exit, run_at_exit
from tests.far import FarBackend, faults_in
from tests.forks import forkserver


@pytest.fixture(params=QUICK)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """The lower layers are tested on all stores; production stores run the tests of `bucket` only."""
    yield from emptied(request)


ROOT = Path(__file__).parents[2]


@pytest.fixture
def sweep(place: Place) -> Experiment:
    return experiment(place)


def experiment(place: Place, name: str = "sweep", **options: Any) -> Experiment:
    return Experiment(name, place.url, storage_options=place.options, **options)


def reader(place: Place, name: str = "sweep") -> ExperimentReader:
    return ExperimentReader(f"{place.url}/{name}", storage_options=place.options)


def begun(experiment: Experiment, **arguments: Any) -> Logbook:
    """Start the run, which must not exist yet."""
    log: Logbook | None = experiment.add(**arguments)
    assert log is not None
    return log


def fill(experiment: Experiment) -> None:
    """Record the example of the README of 0.3.0: two falls, one of which reaches the ground."""
    with begun(experiment, dt=0.01, skip_existing=True) as log:
        log.json("metrics", {"final_height": 95.04595, "final_speed": 9.81})
    with pytest.raises(RuntimeError, match="hit the ground"), begun(experiment, dt=0.5, skip_existing=True):
        raise RuntimeError("Object hit the ground (h=-13.50)")


def index(place: Place, name: str = "sweep") -> list[dict[str, str]]:
    """Read index.csv with plain fsspec and the csv module."""
    text = place.bytes(f"{name}/index.csv").decode()
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def metadata(place: Place, run_id: str, name: str = "sweep") -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(place.bytes(f"{name}/runs/log_{run_id}/metadata.json"))
    return fields


# -- 0.3.0: Experiment -------------------------------------------------------------------------------------


def test_the_names_that_0_3_0_has() -> None:
    assert notata.Experiment is Experiment
    assert notata.ExperimentReader is ExperimentReader
    assert notata.LogReader is LogReader


def test_the_places_of_an_experiment(place: Place, sweep: Experiment) -> None:
    assert sweep.name == "sweep"
    assert sweep.url == f"{place.url}/sweep"
    assert sweep.exp_dir == sweep.base_dir / "sweep"
    assert sweep.runs_dir == sweep.exp_dir / "runs"
    assert sweep.index_file == sweep.exp_dir / "index.csv"
    assert not sweep.index_file.exists()
    assert sweep.runs_dir.is_dir() is not place.bucket
    assert repr(sweep) == f"Experiment('sweep', {place.url!r})"
    if place.name == "local":
        assert all(isinstance(path, Path) for path in (sweep.base_dir, sweep.exp_dir, sweep.runs_dir, sweep.index_file))


def test_an_experiment_lies_where_it_did_in_0_3_0(place: Place, sweep: Experiment) -> None:
    fill(sweep)
    sweep.write_index()
    assert place.names() == [
        "sweep/index.csv",
        "sweep/runs/log_sweep_dt_0.01/artifacts/metrics.json",
        "sweep/runs/log_sweep_dt_0.01/manifest.json",
        "sweep/runs/log_sweep_dt_0.01/metadata.json",
        "sweep/runs/log_sweep_dt_0.01/params.yaml",
        "sweep/runs/log_sweep_dt_0.5/artifacts/debug/failure.json",
        "sweep/runs/log_sweep_dt_0.5/artifacts/debug/traceback.txt",
        "sweep/runs/log_sweep_dt_0.5/manifest.json",
        "sweep/runs/log_sweep_dt_0.5/metadata.json",
        "sweep/runs/log_sweep_dt_0.5/params.yaml",
    ]
    assert place.bytes("sweep/runs/log_sweep_dt_0.01/params.yaml") == b"dt: 0.01\n"
    folders = sweep.runs_dir / "log_sweep_dt_0.01"
    assert (folders / "plots").is_dir() is not place.bucket  # created immediately, where there are folders


def test_a_run_gets_its_parameters_and_an_id_made_of_them(place: Place, sweep: Experiment) -> None:
    log = begun(sweep, omega=2.0, dt=1e-3, method="rk4")
    assert isinstance(log, Logbook)
    assert log.run_id == "sweep_dt_0.001_method_rk4_omega_2"
    assert dict(log.params) == {"dt": 0.001, "method": "rk4", "omega": 2.0}
    assert log.status == metadata(place, log.run_id)["status"] == "initialized"
    assert metadata(place, log.run_id)["run_id"] == log.run_id


def test_a_run_without_parameters(place: Place, sweep: Experiment) -> None:
    begun(sweep).mark_complete()
    assert [run.run_id for run in reader(place)] == ["sweep_"]
    assert sweep.add(skip_existing=True) is None


def test_parameters_that_are_called_like_arguments(sweep: Experiment) -> None:
    log = begun(sweep, self=1, name="n", run_id="r", params=2, log=3)
    assert dict(log.params) == {"log": 3, "name": "n", "params": 2, "run_id": "r", "self": 1}


def test_a_run_that_is_there_is_an_error_that_says_what_to_pass(place: Place, sweep: Experiment) -> None:
    begun(sweep, dt=0.1).mark_complete()
    with pytest.raises(FileExistsError, match="Pass skip_existing=True") as caught:
        sweep.add(dt=0.1)
    assert isinstance(caught.value, RunExistsError)
    assert caught.value.url == f"{place.url}/sweep/runs/log_sweep_dt_0.1"
    assert caught.value.key == "metadata.json"


@pytest.mark.parametrize(
    ("how", "skip"),
    [
        ("complete", True),
        ("failed", True),
        ("running", True),
        ("complete", "complete"),
        ("failed", "complete"),
        ("running", "complete"),
        ("died", "complete"),
    ],
)
def test_which_runs_are_left_as_they_are(place: Place, sweep: Experiment, how: str, skip: Any) -> None:
    leave(place, sweep, how)
    before = place.bytes("sweep/runs/log_sweep_dt_0.1/metadata.json")
    log = sweep.add(dt=0.1, skip_existing=skip)
    if skip is True or how in ("complete", "running"):
        assert log is None
        assert place.bytes("sweep/runs/log_sweep_dt_0.1/metadata.json") == before
        return
    assert log is not None
    assert [entry["after"] for entry in metadata(place, "sweep_dt_0.1")["resumes"]] == [how]
    assert place.bytes("sweep/runs/log_sweep_dt_0.1/artifacts/kept.txt") == b"yes"
    log.json("metrics", {"error": 0.5})
    log.mark_complete()
    sweep.write_index()
    (line,) = index(place)
    assert (line["status"], line["error"], line.get("failure_reason", "")) == ("complete", "0.5", "")
    assert sweep.add(dt=0.1, skip_existing=skip) is None


def leave(place: Place, experiment: Experiment, how: str) -> None:
    """Leave a run with this status."""
    if how == "died":
        die(place)
        return
    log = begun(experiment, dt=0.1)
    log.text("kept", "yes")
    if how == "complete":
        log.mark_complete()
    elif how == "failed":
        log.mark_failed("node lost")


def die(place: Place) -> None:
    """Leave a dead run by killing its process. Memory has no other process, so there metadata.json names a dead one."""
    if place.name != "memory":
        process = forkserver().Process(target=_die, args=(place,))
        process.start()
        process.join()
        assert process.exitcode == 7
        return
    begun(experiment(place), dt=0.1).text("kept", "yes")
    fields = metadata(place, "sweep_dt_0.1")
    fields["lease"]["process"] += "0"  # a different start time: that process is gone
    place.put("sweep/runs/log_sweep_dt_0.1/metadata.json", json.dumps(fields).encode())


def _die(place: Place) -> None:
    begun(experiment(place), dt=0.1).text("kept", "yes")
    os._exit(7)


def test_skip_existing_may_be_given_by_position_as_in_0_3_0(sweep: Experiment) -> None:
    begun(sweep, dt=0.1).mark_complete()
    assert sweep.add(True, dt=0.1) is None


@pytest.mark.parametrize("skip", ["failed", None, 2])
def test_skip_existing_is_one_of_three(place: Place, sweep: Experiment, skip: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"invalid skip_existing .*: pass True, False or 'complete'"):
        sweep.add(skip_existing=skip, dt=0.1)
    assert place.names() == []


def test_a_parameter_that_cannot_be_stored_leaves_nothing(place: Place, sweep: Experiment) -> None:
    with pytest.raises(EncodeError, match=r"params\.model"):
        sweep.add(model=object())
    assert place.names() == []


def test_a_failed_run_says_so_with_its_reason(place: Place, sweep: Experiment) -> None:
    fill(sweep)
    sweep.write_index()
    assert [{**line, "revision": ""} for line in index(place)] == [
        {
            "run_id": "sweep_dt_0.01",
            "dt": "0.01",
            "status": "complete",
            "failure_reason": "",
            "final_height": "95.04595",
            "final_speed": "9.81",
            "revision": "",
        },
        {
            "run_id": "sweep_dt_0.5",
            "dt": "0.5",
            "status": "failed",
            "failure_reason": "Object hit the ground (h=-13.50)",
            "final_height": "",
            "final_speed": "",
            "revision": "",
        },
    ]


def test_metrics_that_a_failed_run_wrote_before_are_in_its_row(place: Place, sweep: Experiment) -> None:
    with pytest.raises(ValueError, match="h = -1"), begun(sweep, dt=0.1) as log:
        log.json("metrics", {"height": 3.0})
        raise ValueError("h = -1")
    row = reader(place).table()[0]
    assert (row["status"], row["height"], row["failure_reason"]) == ("failed", 3.0, "h = -1")


def test_record_takes_metrics_from_another_file(place: Place, sweep: Experiment) -> None:
    log = begun(sweep, dt=0.1)
    log.mark_complete()
    log.json("results/summary", {"error": 0.25})
    sweep.record(log, metrics_file="artifacts/results/summary.json")
    sweep.write_index()
    assert [(line["run_id"], line["error"]) for line in index(place)] == [("sweep_dt_0.1", "0.25")]
    log.json("metrics", {"error": 0.5})
    sweep.record(log)
    sweep.write_index()
    assert [(line["run_id"], line["error"]) for line in index(place)] == [("sweep_dt_0.1", "0.5")]


def test_record_of_metrics_that_are_not_there(place: Place, sweep: Experiment) -> None:
    log = begun(sweep, dt=0.1)
    log.mark_complete()
    sweep.record(log, "artifacts/none.json")
    assert reader(place).table() == [{"run_id": "sweep_dt_0.1", "dt": 0.1, "status": "complete"}]
    with pytest.raises(KeyNameError):
        sweep.record(log, "../none.json")


def test_metrics_written_after_the_end_are_in_the_table(place: Place, sweep: Experiment) -> None:
    log = begun(sweep, dt=0.1)
    log.json("metrics", {"error": 0.5})
    log.mark_complete()
    sweep.write_index()
    for error in (0.6, 0.7):  # within the second in which the run ended, which some storage clocks cannot tell apart
        log["artifacts/metrics.json"].write_text(json.dumps({"error": error}))
        assert reader(place).table()[0]["error"] == error
        sweep.write_index()
        assert [line["error"] for line in index(place)] == [str(error)]


def test_a_dataframe_of_all_runs(sweep: Experiment) -> None:
    fill(sweep)
    frame = sweep.to_dataframe()
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == ["run_id", "dt", "status", "failure_reason", "final_height", "final_speed"]
    assert frame["dt"].tolist() == [0.01, 0.5]
    assert frame["status"].tolist() == ["complete", "failed"]
    assert frame["final_height"].isna().tolist() == [False, True]
    assert frame["final_speed"][0] == 9.81


def test_a_dataframe_of_no_run(place: Place, sweep: Experiment) -> None:
    assert sweep.to_dataframe().empty
    assert sweep.select().empty
    assert isinstance(sweep.to_dataframe(), pd.DataFrame)
    with pytest.raises(KeyError, match="it has none, as there are no runs"):
        sweep.select(dt=0.1)


def test_rows_are_selected_by_values(sweep: Experiment) -> None:
    fill(sweep)
    begun(sweep, dt=0.01, wind=[1, 2]).mark_complete()
    assert sweep.select(dt=0.01)["run_id"].tolist()[0] == "sweep_dt_0.01"
    assert len(sweep.select(dt=0.01)) == 2
    assert len(sweep.select(dt=0.01, status="complete", final_speed=9.81)) == 1
    assert len(sweep.select(wind=[1, 2])) == 1
    assert len(sweep.select()) == 3
    assert sweep.select(status="failed")["dt"].tolist() == [0.5]


def selected(sweep: Experiment, **filters: Any) -> list[str]:
    return [str(case) for case in sweep.select(**filters)["case"]]


def test_rows_are_selected_by_none_several_values_and_functions(sweep: Experiment) -> None:
    values: dict[str, Any] = {"a": None, "b": 0.5, "c": 1, "d": True, "e": "x", "f": [1, 2], "g": "", "i": False}
    for case, value in values.items():
        sweep.add(case=case, p=value).mark_complete()
    sweep.add(case="h").mark_complete()
    assert selected(sweep, p=None) == ["a"]
    assert selected(sweep, p=0.5) == ["b"]
    assert selected(sweep, p=1) == selected(sweep, p=1.0) == ["c"]
    assert selected(sweep, p=True) == selected(sweep, p=np.bool_(True)) == ["d"]
    assert selected(sweep, p=0) == []
    assert selected(sweep, p=[0.5, None, "x"]) == selected(sweep, p=("x", None, 0.5)) == ["a", "b", "e"]
    assert selected(sweep, p={0.5, "x"}) == ["b", "e"]
    assert selected(sweep, p=np.array([0.5, 1])) == ["b", "c"]
    assert selected(sweep, p=[1, 2]) == ["c", "f"]
    assert selected(sweep, p=[[1, 2]]) == ["f"]
    assert selected(sweep, p=[]) == []
    assert selected(sweep, p=lambda value: isinstance(value, str)) == ["e", "g"]
    assert selected(sweep, p=lambda value: value is None) == ["a"]
    assert selected(sweep, p=[0.5, 1], case=lambda case: case > "b", status="complete") == ["c"]
    with pytest.raises(TypeError):
        sweep.select(p=lambda value: value > 1)
    with pytest.raises(notata.EncodeError, match="p is an object"):
        sweep.select(p=object())


def test_nested_parameters_are_columns(place: Place, sweep: Experiment) -> None:
    for case, optimizer in (("a", {"name": "adam", "lr": 0.1}), ("b", {"name": "sgd", "lr": 0.2, "momentum": None})):
        with sweep.add(case=case, optimizer=optimizer, layers=[1, 2]) as log:
            log.json("metrics", {"loss": {"train": 0.5, "test": {"mean": 1.0}}})
    with sweep.add(case="c", optimizer="none", empty={}):
        pass
    columns = ["optimizer", "optimizer.lr", "optimizer.momentum", "optimizer.name"]
    losses = ["loss.test.mean", "loss.train"]
    frame = sweep.to_dataframe()
    assert list(frame.columns) == ["run_id", "case", "empty", "layers", *columns, "status", *losses]
    assert frame["optimizer.lr"].tolist()[:2] == [0.1, 0.2]
    row = sweep.reader.table()[1]
    assert {name: row[name] for name in ("case", *columns[1:])} == {
        "case": "b",
        "optimizer.lr": 0.2,
        "optimizer.momentum": None,
        "optimizer.name": "sgd",
    }
    assert "optimizer" not in row
    assert sweep.select(**{"optimizer.lr": 0.2})["case"].tolist() == ["b"]
    assert sweep.select(optimizer={"name": ["adam", "sgd"], "lr": 0.1})["case"].tolist() == ["a"]
    assert sweep.select(optimizer={"momentum": None})["case"].tolist() == ["b"]
    assert sweep.select(optimizer="none")["case"].tolist() == ["c"]
    assert sweep.select(empty={})["case"].tolist() == ["c"]
    assert next(line["optimizer"] for line in index(place)) == '{"lr": 0.1, "name": "adam"}'  # one cell, as before
    assert sweep.reader.params[row["run_id"]]["optimizer"] == {"name": "sgd", "lr": 0.2, "momentum": None}


def test_a_nested_name_that_is_taken_stays_in_its_dictionary(sweep: Experiment) -> None:
    sweep.add(**{"a": {"b": 1, "c": 2}, "a.b": 3, "metrics": {"x": 4}}).mark_complete()
    row = sweep.reader.table()[0]
    assert (row["a"], row["a.b"], row["params.metrics.x"]) == ({"b": 1, "c": 2}, 3, 4)


def test_a_selection_of_nothing_has_all_columns(sweep: Experiment) -> None:
    fill(sweep)
    nothing = sweep.select(dt=99, status="complete", final_speed=1.0)
    assert (len(nothing), list(nothing.columns)) == (0, list(sweep.to_dataframe().columns))


def test_a_column_that_is_none_is_an_error_that_lists_them(sweep: Experiment) -> None:
    fill(sweep)
    with pytest.raises(KeyError, match="no column 'omega'; it has run_id, dt, status") as caught:
        sweep.select(dt=99, omega=2.0)
    assert isinstance(caught.value, UnknownNameError)


def test_an_experiment_can_be_opened_again(place: Place, sweep: Experiment) -> None:
    fill(sweep)
    again = experiment(place)
    assert again.add(dt=0.01, skip_existing=True) is None
    begun(again, dt=0.02).mark_complete()
    assert len(again.to_dataframe()) == len(sweep.to_dataframe()) == 3


def test_names_with_folders(place: Place) -> None:
    nested = experiment(place, "2026/november/sweep")
    begun(nested, dt=0.1).mark_complete()
    nested.write_index()
    assert "2026/november/sweep/runs/log_sweep_dt_0.1/metadata.json" in place.names()
    assert index(place, "2026/november/sweep")[0]["run_id"] == "sweep_dt_0.1"
    assert reader(place, "2026/november/sweep")["sweep_dt_0.1"].params == {"dt": 0.1}
    assert nested.name == "2026/november/sweep"
    assert reader(place, "2026/november/sweep").name == "sweep"


@pytest.mark.parametrize("name", ["", "/etc", "../x", "a//b", "a\\b", "a\nb", ".notata-x"])
def test_names_that_are_no_folder_are_refused(place: Place, name: str) -> None:
    with pytest.raises(KeyNameError):
        experiment(place, name)
    assert place.names() == []


def test_options_of_runs_are_handed_on(place: Place) -> None:
    made = experiment(place, environment=False, log_level="WARNING", heartbeat=5)
    log = begun(made, dt=0.1)
    log.info("not this")
    log.mark_complete()
    fields = metadata(place, "sweep_dt_0.1")
    assert "environment" not in fields
    assert fields["lease"]["heartbeat"] == 5
    options: dict[str, Any] = {"overwrite": True}
    with pytest.raises(ConfigurationError, match=r"overwrite: Experiment\(\) takes name, base_dir"):
        experiment(place, **options)


def test_no_base_dir_is_outputs_or_what_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Path(str(Experiment("a").exp_dir)) == tmp_path / "outputs/a"
    monkeypatch.setenv("NOTATA_BASE_DIR", str(tmp_path / "elsewhere"))
    assert Path(str(Experiment("a").exp_dir)) == tmp_path / "elsewhere/a"
    assert (tmp_path / "elsewhere/a/runs").is_dir()


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for base, name in ((tmp_path / "file", "sweep"), (tmp_path, "file")):
        with pytest.raises(notata.NotataError, match="file"):
            Experiment(name, base)


def test_credentials_are_nowhere(bucket: Place) -> None:
    secret = "testsecret" if bucket.name == "seaweed" else "hidden-9f3a"
    options = {**bucket.options, "token": "anon"} if bucket.name == "gcs" else {**bucket.options, "secret": secret}
    made = Experiment("sweep", bucket.url, storage_options=options)
    fill(made)
    made.write_index()
    shown = [repr(made), made.url, repr(made.reader), str(made.reader), made.reader._repr_html_()]
    assert not any(secret in text for text in shown)
    assert not any(secret.encode() in bucket.bytes(name) for name in bucket.names(logs=True))


# -- 0.3.0: ExperimentReader -------------------------------------------------------------------------------


def test_a_reader_of_an_experiment(place: Place, sweep: Experiment) -> None:
    fill(sweep)
    found = reader(place)
    assert len(found) == 2
    assert [run.run_id for run in found] == ["sweep_dt_0.01", "sweep_dt_0.5"]
    assert all(isinstance(run, LogReader) for run in found)
    assert found["sweep_dt_0.01"].load_json("metrics") == {"final_height": 95.04595, "final_speed": 9.81}
    assert found[0].params == {"dt": 0.01}
    assert found[-1].meta["failure_reason"] == "Object hit the ground (h=-13.50)"
    assert "sweep_dt_0.5" in found
    assert "sweep_dt_0.7" not in found
    assert found.params == {"sweep_dt_0.01": {"dt": 0.01}, "sweep_dt_0.5": {"dt": 0.5}}
    assert {run_id: fields["status"] for run_id, fields in found.meta.items()} == {
        "sweep_dt_0.01": "complete",
        "sweep_dt_0.5": "failed",
    }
    assert found.path == sweep.exp_dir
    assert found.runs_path == sweep.runs_dir
    assert found.index_path == sweep.index_file
    assert found.runs == [sweep.runs_dir / "log_sweep_dt_0.01", sweep.runs_dir / "log_sweep_dt_0.5"]
    assert (found.name, found.url) == ("sweep", f"{place.url}/sweep")


def test_a_reader_says_what_is_not_there(place: Place, sweep: Experiment) -> None:
    fill(sweep)
    found = reader(place)
    with pytest.raises(KeyError, match=r"no run 'sweep_dt_0.02' in .*; there is sweep_dt_0.01, sweep_dt_0.5"):
        found["sweep_dt_0.02"]
    for place_ in (2, -3, 100):
        with pytest.raises(IndexError, match="it has 2"):
            found[place_]
    wrong: list[Any] = [0.0, None, True, ("a",), slice(1)]
    for key in wrong:
        with pytest.raises(TypeError, match="pass a run id or a position"):
            found[key]


def test_a_reader_of_nothing(place: Place) -> None:
    with pytest.raises(FileNotFoundError, match="there is no experiment at") as caught:
        reader(place, "none")
    assert isinstance(caught.value, RunMissingError)
    assert place.names() == []
    made = experiment(place)
    if place.bucket:  # no folders here: an experiment without runs does not exist
        with pytest.raises(RunMissingError):
            reader(place)
        return
    empty = reader(place)
    assert (len(empty), list(empty), list(empty.index()), empty.table(), empty.params) == (0, [], [], [], {})
    assert len(made.reader) == 0
    assert "Fields: (missing)" in str(empty)


def test_a_reader_of_an_experiment_names_the_one_of_a_run(place: Place, sweep: Experiment) -> None:
    sweep.add(n=1).mark_complete()
    with pytest.raises(RunMissingError, match=r"/log_sweep_n_1 is a run, .*: open it with LogReader$"):
        reader(place, "sweep/runs/log_sweep_n_1")
    with pytest.raises(RunMissingError, match="to read a folder of runs, use ExperimentReader"):
        LogReader(f"{place.url}/sweep", storage_options=place.options)


def test_the_rows_of_the_index(place: Place, sweep: Experiment) -> None:
    fill(sweep)
    sweep.write_index()
    listed = reader(place).index()
    first = next(listed)
    assert (first["run_id"], first["dt"], first["final_speed"]) == ("sweep_dt_0.01", "0.01", "9.81")
    assert [row["status"] for row in listed] == ["failed"]
    place.store().delete(["sweep/index.csv"])
    assert list(reader(place).index()) == []


def test_a_reader_as_text(place: Place, sweep: Experiment) -> None:
    fill(sweep)
    sweep.write_index()
    assert str(reader(place)).splitlines() == [
        "<ExperimentReader 'sweep'>",
        "Index file: index.csv with 2 entries",
        "Fields: run_id, dt, status, failure_reason, final_height, final_speed, revision",
        "Runs directory: runs with 2 runs",
        "- sweep_dt_0.01: complete",
        "- sweep_dt_0.5: failed",
    ]
    assert repr(reader(place)) == f"ExperimentReader('{place.url}/sweep')"


def test_a_reader_of_a_plain_folder_of_runs(place: Place) -> None:
    with place.logbook("b", params={"dt": 0.1}) as log:
        log.json("metrics", {"error": 0.5})
    place.logbook("a", params={"dt": 0.2})
    place.put("notes.txt", b"not a run")
    place.put("log_c/half.txt", b"no run either")
    found = ExperimentReader(place.url, storage_options=place.options)
    assert [run.run_id for run in found] == ["a", "b"]
    assert sorted(found.table(), key=lambda row: str(row["run_id"])) == [
        {"run_id": "a", "dt": 0.2, "status": "running"},
        {"run_id": "b", "dt": 0.1, "status": "complete", "error": 0.5},
    ]
    assert found.to_pandas()["error"].notna().sum() == 1
    assert "index.csv" not in place.names()


def test_reading_writes_nothing(place: Place, sweep: Experiment) -> None:
    fill(sweep)
    sweep.write_index()
    place.store().delete(["sweep/index.csv"])
    before = place.names(logs=True)
    found = reader(place)
    assert found.table() == sweep.reader.table()
    assert [found.params, found.meta, str(found), list(found.index()), found._repr_html_()]
    assert place.names(logs=True) == before


# -- many at once ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("skip", [True, "complete"])
def test_of_many_threads_that_add_the_same_parameters_one_gets_the_run(place: Place, skip: Any) -> None:
    start = threading.Barrier(8)

    def race(number: int) -> list[Logbook | None]:
        made = experiment(place)
        start.wait()
        return [made.add(skip_existing=skip, step=step) for step in range(3)]

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(race, range(8)))
    for step in range(3):
        (winner,) = [logs[step] for logs in outcomes if logs[step] is not None]
        assert winner is not None
        winner.mark_complete()
    assert {row["status"] for row in reader(place).table()} == {"complete"}
    assert len(reader(place)) == 3


@pytest.mark.parametrize("how", ["failed", "died"])
def test_of_many_threads_one_resumes_a_failed_or_dead_run(place: Place, sweep: Experiment, how: str) -> None:
    leave(place, sweep, how)
    start = threading.Barrier(8)

    def race(number: int) -> Logbook | None:
        start.wait()
        return sweep.add(skip_existing="complete", dt=0.1)

    with ThreadPoolExecutor(8) as pool:
        (winner,) = [log for log in pool.map(race, range(8)) if log is not None]
    winner.mark_complete()
    assert [entry["after"] for entry in metadata(place, "sweep_dt_0.1")["resumes"]] == [how]
    assert [row["status"] for row in reader(place).table()] == ["complete"]


def test_many_threads_of_one_experiment_lose_no_row(place: Place, sweep: Experiment) -> None:
    def work(step: int) -> None:
        with begun(sweep, step=step, **({"extra": 1} if step % 3 == 0 else {})) as log:
            log.json("metrics", {"error": step / 10, **({"rare": 1} if step % 5 == 0 else {})})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(24)))
    sweep.write_index()
    lines = {int(line["step"]): line for line in index(place)}
    assert len(index(place)) == len(lines) == 24
    for step, line in lines.items():
        assert float(line["error"]) == step / 10
        assert line["extra"] == ("1" if step % 3 == 0 else "")
        assert line["rare"] == ("1" if step % 5 == 0 else "")


# -- other processes ---------------------------------------------------------------------------------------


def _work(sent: Experiment, step: int, results: Any) -> None:
    with begun(sent, step=step) as log:
        log.json("metrics", {"pid": os.getpid()})
    results.put((step, os.getpid()))


def test_an_experiment_is_sent_to_other_processes(shared: Place) -> None:
    context = forkserver()
    made, results = experiment(shared), context.Queue()
    begun(made, step=-1).mark_complete()
    workers = [context.Process(target=_work, args=(made, step, results)) for step in range(3)]
    for worker in workers:
        worker.start()
    done = dict(results.get(timeout=100) for _ in workers)
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    # Each process has written its rows to index.csv before it exits.
    assert {(line["step"], line["pid"]) for line in index(shared) if line["pid"]} == {
        (str(step), str(pid)) for step, pid in done.items()
    }
    assert len(reader(shared)) == 4


@pytest.fixture(params=["local", "s3", "gcs", pytest.param("seaweed", marks=pytest.mark.real)])
def shared(request: pytest.FixtureRequest) -> Any:
    """A place that other processes can reach."""
    place = make_place(request.param, request)
    yield place
    place.store().clear()


SCRIPT = """
import json, sys
from notata import Experiment

experiment = Experiment("sweep", sys.argv[1], storage_options=json.loads(sys.argv[2]))
for step in range(5):
    with experiment.add(step=step) as log:
        log.json("metrics", {"error": step / 10})
forgotten = experiment.add(step=5)
"""


def test_the_index_follows_at_the_end_of_the_process(shared: Place) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, shared.url, json.dumps(shared.options)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = {line["step"]: line for line in index(shared)}
    assert {step: line["error"] for step, line in lines.items()} == {
        **{str(step): str(step / 10) for step in range(5)},
        "5": "",
    }
    assert lines["5"]["failure_reason"] == "the process ended without mark_complete() or mark_failed()"
    assert [line["status"] for line in lines.values()].count("complete") == 5


# -- index.csv in a bucket ---------------------------------------------------------------------------------


def test_in_a_bucket_index_csv_is_written_every_half_a_minute(bucket: Place) -> None:
    made = experiment(bucket)
    for step in range(5):
        begun(made, step=step).mark_complete()
    assert [line["step"] for line in index(bucket)] == ["0"]  # immediately; the others within half a minute
    assert [row["step"] for row in reader(bucket).table()] == [0, 1, 2, 3, 4]
    assert made.write_index() == made.index_file
    assert [line["step"] for line in index(bucket)] == ["0", "1", "2", "3", "4"]


class Timer:
    """A timer that never fires."""

    def __init__(self, interval: float, function: Callable[[], None]) -> None:
        self.interval = interval
        self.function = function

    def start(self) -> None:
        started.append(self)


started: list[Timer] = []


@pytest.fixture
def timers(monkeypatch: pytest.MonkeyPatch) -> list[Timer]:
    """Collect the timers that start during a test, which calls their functions itself."""
    started.clear()
    monkeypatch.setattr(threading, "Timer", Timer)
    return started


def test_pending_rows_are_written_half_a_minute_later(
    bucket: Place, timers: list[Timer], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = experiment(bucket)
    before = time.monotonic()
    for step in range(3):
        begun(made, step=step).mark_complete()
    [timer] = timers
    assert 30 - (time.monotonic() - before) <= timer.interval <= 30
    monkeypatch.setattr("notata.table.index.EVERY", 0.0)  # from the next time on
    timer.function()
    assert [line["step"] for line in index(bucket)] == ["0", "1", "2"]
    assert calls_at_exit(IndexWriter) == []
    begun(made, step=3).mark_complete()
    assert [line["step"] for line in index(bucket)] == ["0", "1", "2", "3"]


@pytest.mark.parametrize("near", [True, False], ids=["near", "far"])
def test_a_pending_row_does_not_replace_that_of_a_resumed_run(near: bool) -> None:
    place = Place("memory", f"memory://{uuid.uuid4().hex}")
    one, other = (Experiment("sweep", faults_in(open_store(place.url), near)) for _ in range(2))
    one.add(dt=0.0).mark_complete()  # the first row is written immediately, the others wait
    other.add(dt=0.5).mark_complete()
    one.add(dt=0.1).mark_failed("boom")
    again = other.add(dt=0.1, skip_existing="complete")
    assert again is not None
    again.mark_complete()
    other.write_index()
    run_at_exit(IndexWriter)
    assert {line["run_id"]: line["status"] for line in index(place)}["sweep_dt_0.1"] == "complete"
    later = one.add(dt=0.2)
    later.mark_failed("boom")
    assert other.add(dt=0.2, skip_existing="complete") is not None  # it is running now
    run_at_exit(IndexWriter)
    assert {row["run_id"]: row["status"] for row in one.reader.table()}["sweep_dt_0.2"] == "running"


def test_parameters_that_come_late_are_in_the_table(sweep: Experiment) -> None:
    with sweep.add(dt=0.1) as log:
        pass
    sweep.write_index()
    log.params(note="late")
    assert [row.get("note") for row in sweep.reader.table()] == ["late"]


def test_metrics_that_metadata_cannot_hold_do_not_keep_a_run_from_ending(sweep: Experiment) -> None:
    with sweep.add(dt=0.1) as log:
        log["artifacts/metrics.json"].write_text("[" * 400 + "]" * 400)
    with sweep.add(dt=0.2) as log:
        log["artifacts/metrics.json"].write_text('{"a": ' * 400 + "1" + "}" * 400)
    rows = sweep.reader.table()
    assert [row["status"] for row in rows] == ["complete", "complete"]
    assert "nested too deeply" in rows[1]["metrics_error"]


def test_a_bad_file_affects_its_own_row_only(sweep: Experiment, place: Place) -> None:
    for number in range(3):
        sweep.add(number=number).mark_complete()
    sweep.write_index()
    place.put("sweep/index.csv", place.bytes("sweep/index.csv") + b"sweep_x," + b"[" * 30000 + b",complete,0\n")
    assert [row["run_id"] for row in sweep.reader.table()][:3] == [sweep.run_id(number=n) for n in range(3)]
    laughs = ["a0: &a0 [1]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    place.put(f"sweep/runs/log_{sweep.run_id(number=1)}/params.yaml", "\n".join(laughs).encode())
    fields = json.loads(place.bytes(f"sweep/runs/log_{sweep.run_id(number=1)}/metadata.json"))
    del fields["row"]
    place.put(f"sweep/runs/log_{sweep.run_id(number=1)}/metadata.json", json.dumps(fields).encode())
    rows = {row["run_id"]: row for row in sweep.reader.table()}
    assert "aliases" in rows[sweep.run_id(number=1)]["metrics_error"]


def test_metrics_too_large_for_a_table_are_reported_and_not_read(sweep: Experiment) -> None:
    with sweep.add(dt=0.1) as log:
        log.json("metrics", {"curve": "x" * 5 * 2**20})
    assert "too much for a table" in sweep.reader.table()[0]["metrics_error"]


@pytest.mark.usefixtures("stopped_clock")
def test_the_table_of_a_bucket_costs_what_the_docs_say(bucket: Place) -> None:
    made = experiment(bucket)
    for step in range(5):
        with begun(made, step=step) as log:
            log.json("metrics", {"error": step})
    looked = reader(bucket)
    with counted() as sent:
        looked.table()
    assert len(sent) == 1 + 1 + 4, sent  # a list, index.csv, and the runs missing in it
    made.write_index()
    with counted() as sent:
        looked.table()
    assert len(sent) == 2, sent
    with counted() as sent:
        looked.index()
    assert len(sent) == 1, sent


@pytest.mark.usefixtures("stopped_clock")
def test_a_run_of_an_experiment_costs_what_a_run_costs_and_one_look_at_its_metrics(bucket: Place) -> None:
    made = experiment(bucket)
    begun(made, step=0).mark_complete()
    with counted() as sent:
        log = begun(made, step=1)
    assert len(sent) == 2, sent
    log.json("metrics", {"error": 0.5})
    with counted() as sent:
        log.mark_complete()
    assert len(sent) == 4, sent
    with counted() as sent:
        made.record(log)
    assert len(sent) == 1, sent  # nothing is new
    with counted() as sent:
        assert made.add(step=1, skip_existing="complete") is None
    assert len(sent) == 1, sent


# -- storage that fails ------------------------------------------------------------------------------------


def test_an_index_that_cannot_be_written_ends_no_run_badly(caplog: pytest.LogCaptureFixture) -> None:
    store = FaultyBackend(open_store("memory://experiment-faults"))
    made = Experiment("sweep", store)
    store.fail(1, key="index.csv")
    log = begun(made, dt=0.1)
    log.mark_complete()
    assert log.status == "complete"
    assert "run sweep_dt_0.1 ended, but index.csv was not updated" in caplog.text
    assert made.reader.table() == [{"run_id": "sweep_dt_0.1", "dt": 0.1, "status": "complete"}]
    store.fail(2, key="index.csv")
    assert len(made.to_dataframe()) == 1
    store.heal()
    assert made.write_index().read_text().count("sweep_dt_0.1") == 1


def test_rows_that_cannot_be_written_at_exit_are_a_warning(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notata.table.csv_file.RETRY_SECONDS", 0.0)
    store = FarBackend(open_store("memory://experiment-at-exit"))
    made = Experiment("sweep", store)
    for step in range(3):
        begun(made, step=step).mark_complete()
    store.fail(2, key="index.csv", error=lambda: notata.ConflictError("others came before", url="", key=""))
    [call] = calls_at_exit(IndexWriter)
    call()
    assert "the last rows are not in index.csv; write_index() adds them" in caplog.text
    assert len(list(made.reader.index())) == 1
    call()
    assert len(list(made.reader.index())) == len(made.reader.table()) == 3


def test_metrics_that_cannot_be_read_at_the_end_are_read_later(place: Place) -> None:
    store = FaultyBackend(place.store())
    made = Experiment("sweep", store)
    log = begun(made, dt=0.1)
    log.json("metrics", {"error": 0.5})
    store.fail(1, key="artifacts/metrics.json")
    log.mark_complete()
    assert metadata(place, "sweep_dt_0.1")["row"].keys() == {"params", "files"}
    assert reader(place).table()[0]["error"] == 0.5


def test_the_end_of_a_run_whose_reply_is_lost_has_one_row(place: Place) -> None:
    store = FaultyBackend(place.store())
    made = Experiment("sweep", store)
    log = begun(made, dt=0.1)
    store.fail(1, key="metadata.json", after=True)
    with pytest.raises(notata.UnreachableError):
        log.mark_complete()
    log.mark_complete()
    made.write_index()
    assert [(line["run_id"], line["status"]) for line in index(place)] == [("sweep_dt_0.1", "complete")]


def test_a_displaced_run_records_no_row(place: Place, sweep: Experiment) -> None:
    log = begun(sweep, dt=0.1)
    Logbook("sweep_dt_0.1", sweep.runs_dir, overwrite=True, storage_options=place.options)
    with pytest.raises(notata.RunDisplacedError):
        sweep.record(log)
    with pytest.raises(notata.RunDisplacedError):
        log.mark_complete()
    assert [row["status"] for row in reader(place).table()] == ["running"]


def test_writers_of_index_csv_give_up_after_repeated_conflicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notata.table.csv_file.RETRY_SECONDS", 0.0)
    store = FaultyBackend(open_store(tmp_path))
    made = Experiment("sweep", store)
    begun(made, dt=0.1).mark_complete()
    Path(str(made.index_file)).write_text("torn")
    store.fail(2, key="index.csv", error=lambda: notata.ConflictError("on purpose", url="", key=""))  # after the read
    with pytest.raises(notata.ConflictError, match="no row is lost"):
        made.write_index()


def test_rows_in_the_index_are_not_pending(sweep: Experiment) -> None:
    for number in range(3):
        sweep.add(number=number).mark_complete()
    sweep.write_index()
    assert calls_at_exit(IndexWriter) == []
    sweep.add(number=3).mark_complete()
    sweep.to_dataframe()
    assert calls_at_exit(IndexWriter) == []


def test_the_id_of_parameters_can_be_asked_for(sweep: Experiment) -> None:
    assert sweep.run_id(dt=0.1, method="rk4") == sweep.add(dt=0.1, method="rk4").run_id
    assert sweep.run_id(dt=0.2) not in sweep.reader


def test_a_run_with_damaged_parameters_is_resumed(sweep: Experiment, place: Place) -> None:
    sweep.add(dt=0.1).mark_failed("on purpose")
    folder = f"{sweep.name}/runs/log_{sweep.run_id(dt=0.1)}"
    place.put(f"{folder}/params.yaml", b"dt: [")
    log = sweep.add(dt=0.1, skip_existing="complete")
    assert log is not None
    assert dict(log.params) == {"dt": 0.1}
    assert place.bytes(f"{folder}/params.yaml") == b"dt: 0.1\n"


def test_a_folder_of_runs_says_its_own_name(place: Place) -> None:
    place.logbook("a").mark_complete()
    reader = ExperimentReader(place.url, storage_options=place.options)
    assert f"Runs directory: {reader.name} with 1 runs" in str(reader)


def test_an_index_changed_by_users_is_kept_as_a_backup(sweep: Experiment, place: Place) -> None:
    sweep.add(n=1).mark_complete()
    old = b"run_id,n,status,score,comment\nsweep_n_1,1,complete,0.5,the best one\n"
    place.put("sweep/index.csv", old)
    sweep.to_dataframe()
    sweep.add(n=2).mark_complete()
    sweep.write_index()
    kept = [name for name in place.names() if name.endswith(".bak")]
    assert [place.bytes(name) for name in kept] == [old]
    assert [row["n"] for row in sweep.reader.table()] == [1, 2]


def test_a_parameter_that_resembles_skip_existing_is_a_warning(sweep: Experiment) -> None:
    with pytest.warns(UserWarning, match="skip_exisiting was used as a parameter; did you mean skip_existing"):
        sweep.add(n=1, skip_exisiting=True)


def test_a_damaged_run_is_not_skipped_silently(sweep: Experiment, place: Place) -> None:
    sweep.add(n=1).mark_complete()
    place.put("sweep/runs/log_sweep_n_1/metadata.json", b"")
    with pytest.raises(notata.StorageError, match="not the metadata of a run"):
        sweep.add(n=1, skip_existing="complete")


def test_an_index_of_our_own_is_not_kept_when_it_changes(sweep: Experiment, place: Place) -> None:
    sweep.add(n=1).mark_failed("on purpose")
    sweep.write_index()
    again = sweep.add(n=1, skip_existing="complete")
    assert again is not None
    again.mark_complete()
    sweep.write_index()
    assert [name for name in place.names() if name.endswith(".bak")] == []


def test_rows_are_retried_after_a_conflict(bucket: Place, timers: list[Timer]) -> None:
    def conflict() -> Exception:
        conflicts.append("")
        return notata.ConflictError("others came before", url="", key="")

    conflicts: list[str] = []
    store = FaultyBackend(bucket.store())
    made = Experiment("sweep", store)
    store.fail(2, key="index.csv", error=conflict)  # the first operation is the read, the second the write
    begun(made, step=0).mark_complete()
    store.fail(2, key="index.csv", error=conflict)
    [first] = timers
    first.function()
    assert len(conflicts) == 2
    assert len(calls_at_exit(IndexWriter)) == 1
    [_, second] = timers
    second.function()
    assert [line["step"] for line in index(bucket)] == ["0"]
    assert len(timers) == 2
    assert calls_at_exit(IndexWriter) == []


def test_a_forked_child_waits_for_no_thread_of_its_parent(tmp_path: Path) -> None:
    """Another thread may hold the lock of the pending rows or of the parameters at the moment of a fork."""
    code = (
        "import os, signal, sys\n"
        "from notata import Experiment\n"
        "experiment = Experiment('sweep', sys.argv[1])\n"
        "log = experiment.add(dt=0.1)\n"
        "lock = experiment._keeper._lock\n"
        "import threading\n"
        "held, over = threading.Event(), threading.Event()\n"
        "def hold():\n"
        "    with lock, log._params._lock.held(), log._lease._lock.held():\n"
        "        held.set(); over.wait()\n"
        "threading.Thread(target=hold, daemon=True).start()\n"
        "held.wait()\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    signal.alarm(120)  # if it waits for a lock for ever\n"
        "    assert log.params['dt'] == 0.1\n"
        "    log.params(late=True)\n"
        "    log.meta(late=True)\n"
        "    experiment.write_index()\n"
        "    os._exit(7)\n"
        "status = os.waitpid(child, 0)[1]\n"
        "over.set()\n"
        "print(os.waitstatus_to_exitcode(status))\n"
        "os._exit(0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=200)
    assert done.stdout.split() == ["7"], done.stderr


def test_a_pending_row_is_written_at_exit_whatever_other_threads_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread stores the rows first and cancels the call at exit while this thread begins to wait."""
    place = Place("memory", f"memory://{uuid.uuid4().hex}")
    made = Experiment("sweep", FarBackend(place.store()))
    for dt in (0.0, 0.05):
        made.add(dt=dt).mark_complete()
    listed, pending = threading.Event(), threading.Event()
    put, asked = Store.put, exits.at_exit

    def put_later(self: Store, key: str, *arguments: Any) -> str:
        if key == "index.csv":
            listed.set()
            assert pending.wait(120)
        return put(self, key, *arguments)

    def at_exit(call: Any) -> None:
        asked(call)
        if call in calls_at_exit(IndexWriter):
            pending.set()
            other.join(0.5)  # the other thread may have to wait for this one

    monkeypatch.setattr(Store, "put", put_later)
    monkeypatch.setattr(exits, "at_exit", at_exit)
    other = threading.Thread(target=made.to_dataframe)
    other.start()
    assert listed.wait(120)
    made.add(dt=0.1).mark_complete()
    other.join()
    [call] = calls_at_exit(IndexWriter)
    call()
    assert [line["dt"] for line in index(place)] == ["0.0", "0.05", "0.1"]
