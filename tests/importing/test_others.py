"""Runs of Sacred, DVCLive and Weights & Biases, from the files that these packages wrote."""

from __future__ import annotations

from typing import Any

import fsspec
import numpy as np

from notata import ExperimentReader, LogReader
from notata.importing import import_runs
from tests.importing.sources import files_of, metadata, names, points, put, read_json, rows


def content(url: str) -> bytes:
    with fsspec.open(url) as file:
        data: bytes = file.read()
    return data


def by_id(url: str) -> list[dict[str, Any]]:
    """Return the table of an experiment, whose runs were imported in any order."""
    return sorted(ExperimentReader(url).table(), key=lambda row: row["run_id"])


# -- Sacred ------------------------------------------------------------------------------------------------


def test_sacred_runs_go_to_the_folders_of_their_experiments() -> None:
    report = import_runs("sacred", put("sacred", "memory://from/sacred"), "memory://to")
    assert report.new == [
        f"memory://to/{name}" for name in ("decay/runs/log_1", "decay/runs/log_2", "other/runs/log_3")
    ]
    table = by_id("memory://to/decay")
    assert [(row["run_id"], row["status"], row["rate"], row["nested.a"]) for row in table] == [
        ("1", "complete", 0.5, [1, 2]),
        ("2", "failed", 0.5, [1, 2]),
    ]
    assert [row.get("final") for row in table] == [0.5, None]


def test_sacred_curves_files_and_facts_are_kept() -> None:
    import_runs("sacred", put("sacred", "memory://from"), "memory://to")
    stored = read_json("memory://from/sacred/1/metrics.json")
    url = "memory://to/decay/runs/log_1"
    found = points(url)
    for name, columns in stored.items():
        times = np.array([np.datetime64(text, "ms").astype(float) / 1000 for text in columns["timestamps"]])
        steps, seconds, values = zip(*found[name], strict=True)
        assert (list(steps), list(values)) == (columns["steps"], columns["values"])
        assert abs(times - seconds).max() <= 0.0011
    assert content(f"{url}/output.txt") == content("memory://from/sacred/1/cout.txt")
    kept = ["artifacts/info.json", "artifacts/metrics.json", "artifacts/sources/decay.py", "artifacts/sub.txt"]
    assert [name for name in names(url) if name.startswith("artifacts/")] == kept
    run, fields = read_json("memory://from/sacred/1/run.json"), metadata(url)
    assert fields["environment"]["host"] == run["host"]["hostname"] == fields["lease"]["host"]
    assert fields["environment"]["packages"]["sacred"] == fields["imported"]["package_version"]
    assert fields["start_time"][:19] <= fields["end_time"][:19]
    failed = metadata("memory://to/decay/runs/log_2")
    assert failed["failure_reason"] == "ValueError: too many steps"
    assert b"too many steps" in content("memory://to/decay/runs/log_2/artifacts/debug/traceback.txt")


def test_values_of_jsonpickle_stay_data() -> None:
    import_runs("sacred", put("sacred", "memory://from"), "memory://to")
    info = LogReader("memory://to/decay/runs/log_1").load_json("info")
    assert info["grid"]["py/object"] == "numpy.ndarray"


# -- DVCLive -----------------------------------------------------------------------------------------------


def test_dvclive_runs_have_parameters_metrics_and_curves() -> None:
    report = import_runs("dvclive", put("dvclive", "memory://from"), "memory://to")
    assert report.new == ["memory://to/runs/log_dvclive--plain", "memory://to/runs/log_dvclive--timed"]
    plain, timed = by_id("memory://to")
    assert plain["lr"] == timed["lr"] == 0.1
    assert (plain["net.act"], plain["net.depth"]) == ("relu", 3)
    assert (timed["accuracy"], timed["train.loss"]) == (2, 1 / 3)
    assert [(row["step"], row["accuracy"], row["train/loss"]) for row in rows(report.new[0])] == [
        (0, 0, 1.0),
        (1, 1, 0.5),
        (2, 2, 1 / 3),
    ]
    stored = files_of("dvclive")["dvclive/timed/plots/metrics/accuracy.tsv"].decode().splitlines()[1:]
    cells = [[int(cell) for cell in line.split("\t")] for line in stored]
    assert points(report.new[1])["accuracy"] == [(step, time / 1000, value) for time, step, value in cells]
    assert "plots/picture.png" in names(report.new[1])
    assert "artifacts/report.md" in names(report.new[1])


def test_a_folder_of_dvclive_itself_is_a_run() -> None:
    put("dvclive", "memory://from")
    report = import_runs("dvclive", "memory://from/dvclive/timed", "memory://to")
    assert report.new == ["memory://to/runs/log_timed"]


# -- Weights & Biases --------------------------------------------------------------------------------------


def test_wandb_runs_have_configuration_history_and_summary() -> None:
    report = import_runs("wandb", put("wandb", "memory://from"), "memory://to")
    assert report.new == [f"memory://to/pendulum/runs/log_{run_id}" for run_id in ("abc12345", "fa11ed00")]
    url = report.new[0]
    reader = LogReader(url)
    assert dict(reader.params) == {"lr": 0.1, "net": {"depth": 3}}
    assert read_json(f"{url}/artifacts/metrics.json")["best"] == 0.5
    assert [(row["step"], row.get("loss"), row.get("val.accuracy")) for row in rows(url)] == [
        (0, 1, 0),
        (1, 0.5, 1),
        (2, 1 / 3, 2),
        (3, "NaN", None),
    ]
    assert rows(url)[3]["text"] == "end"


def test_wandb_names_files_and_the_exit_code_are_kept() -> None:
    report = import_runs("wandb", put("wandb", "memory://from"), "memory://to")
    fields, failed = map(metadata, report.new)
    assert (fields["name"], fields["note"], fields["tags"], fields["group"]) == ("nice-name", "A note", ["a", "b"], "g")
    assert (fields["status"], failed["status"], failed["failure_reason"]) == ("complete", "failed", "exit code 3")
    assert b"hello from the run" in content(f"{report.new[0]}/output.txt")
    assert len([name for name in names(report.new[0]) if name.startswith("plots/picture")]) == 1
    assert b"==" in content(f"{report.new[0]}/code/packages.txt")
    assert fields["imported"]["left_out"] == ["values of 'weights' of the type 'histogram'"]
    assert fields["start_time"] <= fields["end_time"]
