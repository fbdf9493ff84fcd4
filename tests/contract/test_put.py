"""`notata put` on each backend: files, metrics, rows and notes of a shell script in its run."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from notata import EncodeError, Logbook, LogReader, search
from notata.series.single import append_row
from tests.backends import Place
from tests.command import notata

Put = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def log(place: Place) -> Logbook:
    return place.logbook(heartbeat=0)


@pytest.fixture
def put(place: Place, log: Logbook, tmp_path: Path) -> Put:
    """Return a function that calls the command as a program of the run does."""
    options = [word for name, value in place.options.items() for word in ("-o", f"{name}={json.dumps(value)}")]

    def call(*arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        return notata("put", *options, *arguments, folder=tmp_path, given=given, NOTATA_RUN=log.url)

    return call


def test_files_metrics_rows_and_notes_are_in_the_run(place: Place, log: Logbook, put: Put, tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "a.svg").write_text("<svg/>")
    (tmp_path / "mesh.vtk").write_text("# vtk")
    log.json("metrics", {"cells": 1, "kept": True})
    for arguments in (
        ("mesh.vtk", "figures", "-m", "cells=4096", "-m", "error=1e-3"),
        ("mesh.vtk", "--as", "meshes/first.vtk", "-s", "r=0.5", "--step", "7"),
        ("-s", "r=0.25", "-s", "phase=solve", "--note", "refined\ntwice"),
    ):
        done = put(*arguments)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    log.mark_complete()
    assert place.bytes("log_run/artifacts/mesh.vtk") == place.bytes("log_run/artifacts/meshes/first.vtk") == b"# vtk"
    assert place.bytes("log_run/artifacts/figures/a.svg") == b"<svg/>"
    metrics = json.loads(place.bytes("log_run/artifacts/metrics.json"))
    assert metrics == {"cells": 4096, "error": 0.001, "kept": True}
    rows = [json.loads(line) for line in place.bytes("log_run/workers/put/series/scalars.jsonl").splitlines()]
    assert [(row["step"], row["r"], row.get("phase")) for row in rows] == [(7, 0.5, None), (8, 0.25, "solve")]
    assert b"INFO refined\n  twice\n" in place.bytes("log_run/workers/put/log.txt")
    manifest = json.loads(place.bytes("log_run/manifest.json"))["files"]
    assert {"artifacts/mesh.vtk", "artifacts/metrics.json"} <= {key for key, one in manifest.items() if "sha256" in one}
    run = next(iter(search.runs(place.url, storage_options=place.options, values=True)))
    assert run.metrics["error"] == 0.001
    assert LogReader(log.url, storage_options=place.options).verify().ok


def test_the_standard_input_is_stored_under_a_name(place: Place, put: Put) -> None:
    assert put("-", "--as", "notes/machine.txt", given="Linux\n").returncode == 0
    assert place.bytes("log_run/artifacts/notes/machine.txt") == b"Linux\n"


def test_many_processes_add_metrics_and_rows_at_once(place: Place, log: Logbook, put: Put) -> None:
    store = place.store().below("log_run")

    def add(number: int) -> None:
        append_row(store, "workers/put/series/scalars.jsonl", {"r": number}, number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(8)))
    rows = [json.loads(line) for line in place.bytes("log_run/workers/put/series/scalars.jsonl").splitlines()]
    assert sorted(row["step"] for row in rows) == list(range(8))


def test_a_row_after_a_torn_one_begins_on_a_line_of_its_own(place: Place, log: Logbook) -> None:
    key = "workers/put/series/scalars.jsonl"
    place.put(f"log_run/{key}", b'{"step": 4, "time": 1, "r": 1}\n{"step": 5, "ti')
    store = place.store().below("log_run")
    append_row(store, key, {"r": 2})
    assert json.loads(place.bytes(f"log_run/{key}").splitlines()[-1])["step"] == 5
    with pytest.raises(EncodeError, match="A column has one type"):
        append_row(store, key, {"r": "text"})


@pytest.mark.parametrize("place", ["local"], indirect=True)
def test_wrong_use_is_refused(place: Place, log: Logbook, put: Put, tmp_path: Path) -> None:
    for arguments, why in (
        ((), "nothing to store"),
        (("a", "b", "--as", "c"), "--as names one FILE"),
        (("-",), "pass --as NAME"),
        (("--step", "1", "-m", "a=1"), "--step belongs to a row"),
        (("-m", "a"), "write name=value"),
        (("-s", "time=1"), "'time' cannot be the name of a value"),
        (("--note", "x", "--run", ""), ""),
    ):
        done = put(*arguments)
        assert done.returncode == (2 if why else 0), done.stderr
        assert why in done.stderr
    assert put("missing.txt").returncode == 1
    assert "belongs to no run" in notata("put", "-m", "a=1", folder=tmp_path, NOTATA_RUN="").stderr
    place.put("log_run/artifacts/metrics.json", b"[1]")
    done = put("-m", "a=1")
    assert (done.returncode, "cannot merge metrics" in done.stderr) == (2, True)
    log.mark_complete()
    done = put("-m", "a=1")
    assert (done.returncode, "it has ended" in done.stderr) == (3, True)
    assert "NOTATA_RUN" not in os.environ
