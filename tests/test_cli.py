"""The command, as a separate process and within this one; and the demo, which records the same run on every storage."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from notata import Logbook, __version__
from notata.store import open_store
from tests.backends import Place
from tests.command import fresh_process, notata, process
from tests.servers import Server

OWN = re.compile(r"(metadata|manifest)\.json|scalars\.jsonl")
VOLATILE = {"start_time", "end_time", "runtime_sec", "lease", "environment"}


def stored(folder: Path) -> dict[str, bytes]:
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            files[str(path.relative_to(folder))] = path.read_bytes()
    return files


def demo_run(folder: Path, *run_ids: str) -> None:
    """Record the run of the demo that has every kind of file, without the sweep and the report."""
    from notata.cli.demo_script import record

    for run_id in run_ids:
        record(folder, run_id)


def comparable(files: dict[str, bytes]) -> dict[str, object]:
    """Return the files without times, environment, versions, and the owner token."""
    known: dict[str, object] = dict(files)
    metadata = json.loads(files["metadata.json"])
    assert metadata.keys() >= VOLATILE
    known["metadata.json"] = {key: value for key, value in metadata.items() if key not in VOLATILE}
    row = metadata["row"]
    del row["metrics_version"], row["files"]["series/scalars.jsonl"]
    for receipt in row["files"].values():
        del receipt["version"]
    told = json.loads(files["manifest.json"])
    known["manifest.json"] = [
        (key, key not in ("log.txt", "series/scalars.jsonl") and receipt["size"])
        for key, receipt in told["files"].items()
    ]
    rows = [json.loads(line) for line in files["series/scalars.jsonl"].decode().splitlines()]
    known["series/scalars.jsonl"] = [{**row, "time": 0} for row in rows]
    known["log.txt"] = [line.partition("] ")[2] for line in files["log.txt"].decode().splitlines()]
    return known


def test_the_demo_is_the_same_everywhere(tmp_path: Path, moto_server: Server, gcs_server: Server) -> None:
    _compare_demos(tmp_path, [moto_server, gcs_server])


@pytest.mark.real
def test_the_demo_on_a_production_store(tmp_path: Path, seaweed_server: Server) -> None:
    _compare_demos(tmp_path, [seaweed_server])


def _compare_demos(tmp_path: Path, servers: list[Server]) -> None:
    from notata.cli.demo_script import record

    done = fresh_process("demo", "--run-id", "demo", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    expected = comparable(stored(tmp_path / "outputs" / "log_demo"))
    assert len(expected) == 15
    log = record("memory://demo", "demo")
    memory = Place("memory", log.url)
    assert comparable(memory.files()) == expected
    memory.raw().rm(memory.url, recursive=True)
    for server in servers:
        options = [f"--storage-option={key}={value}" for key, value in server.options.items()]
        remote = notata("demo", f"{server.url}/demo", "--run-id", "demo", *options, folder=tmp_path)
        assert remote.returncode == 0, remote.stderr
        store = open_store(f"{server.url}/demo/log_demo", server.options)
        assert comparable({entry.key: store.read(entry.key) for entry in store.list()}) == expected
        tree = [line for line in remote.stdout.splitlines() if "bytes" in line and not OWN.search(line)]
        assert tree == [line for line in done.stdout.splitlines() if "bytes" in line and not OWN.search(line)]
        assert remote.stdout.splitlines()[-1] == f"Report: {server.url}/demo/report.html"
        report = open_store(f"{server.url}/demo", server.options).read("report.html")
        assert b"lorenz_dt_0.01_rho_28_seed_1" in report
        open_store(f"{server.url}/demo", server.options).clear()


def test_the_demo_records_a_sweep_and_names_its_report(tmp_path: Path) -> None:
    done = notata("demo", "--run-id", "a", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "Report: outputs/report.html"
    assert "(6 complete, 1 failed)" in done.stdout
    assert "dt = 0.18 is too large for the Runge-Kutta method, choose 0.01" in done.stdout
    page = (tmp_path / "outputs/report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert all(name in page for name in ("lorenz_dt_0.18_rho_28_seed_1", "FloatingPointError", "log_a"))
    kept = stored(tmp_path / "outputs/lorenz/runs")
    again = notata("demo", "outputs/", "--run-id", "b", folder=tmp_path)
    assert again.stdout.splitlines()[-1] == "Report: outputs/report.html"
    assert stored(tmp_path / "outputs/lorenz/runs") == kept
    assert "log_b" in (tmp_path / "outputs/report.html").read_text()


def test_close_states_part_where_the_system_is_chaotic(tmp_path: Path) -> None:
    from notata.cli.demo_script import sweep

    distances = {
        run.params["rho"]: run.series()["log10_distance"]
        for run in sweep(tmp_path).reader
        if run.state.status == "complete"
    }
    assert distances[14.0][-1] < distances[14.0][0]
    assert distances[28.0][-1] > distances[28.0][0] + 6
    assert {len(distance) for distance in distances.values()} == {250}
    failed = [run for run in sweep(tmp_path).reader if run.state.status == "failed"]
    assert [(run.params["dt"], run.series().rows) for run in failed] == [(0.18, 5)]


def test_the_demo_computes_what_lorenz_computed(tmp_path: Path) -> None:
    notata("demo", "--run-id", "demo", folder=tmp_path)
    metrics = json.loads((tmp_path / "outputs/log_demo/artifacts/metrics.json").read_text())
    assert 0.7 < metrics["lyapunov_exponent"] < 1.1  # limit 0.906, from J. C. Sprott, Chaos and Time-Series Analysis
    assert 40 < metrics["z_max"] < 50


def test_the_base_folder_of_the_environment(tmp_path: Path) -> None:
    done = notata("demo", "--run-id", "a", folder=tmp_path, NOTATA_BASE_DIR=str(tmp_path / "elsewhere"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "elsewhere/log_a/metadata.json").exists()


def test_an_error_is_one_line_and_no_traceback(tmp_path: Path) -> None:
    notata("demo", "--run-id", "a", folder=tmp_path)
    again = process("demo", "--run-id", "a", folder=tmp_path)
    assert again.returncode == 3
    assert again.stderr.startswith("Error: cannot create run 'a': it already exists")
    assert "Traceback" not in again.stderr
    wrong = notata("demo", "--storage-option", "nothing", folder=tmp_path)
    assert wrong.returncode == 2
    assert "key=value" in wrong.stderr


def test_sync_prints_what_it_would_do_and_does_it(tmp_path: Path) -> None:
    demo_run(tmp_path / "outputs", "a")
    expected = stored(tmp_path / "outputs")
    would = notata("sync", "outputs/log_a", "copies", "--dry-run", folder=tmp_path)
    assert would.returncode == 0, would.stderr
    assert not (tmp_path / "copies").exists()
    lines = [line.split(maxsplit=2) for line in would.stdout.splitlines()[:-1]]
    assert {(verb, int(size), f"log_a/{key}") for verb, size, key in lines} == {
        ("copy", len(data), key) for key, data in expected.items()
    }
    assert "15 files would be copied" in would.stdout.splitlines()[-1]
    done = process("sync", "outputs/log_a", "copies", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == 1
    assert "15 files copied" in done.stdout
    assert stored(tmp_path / "copies") == expected
    again = notata("sync", "outputs", "copies", folder=tmp_path)
    assert "0 files copied, 0 appended to, 0 bytes sent; 15 equal" in again.stdout


def test_sync_deletes_when_asked(tmp_path: Path) -> None:
    demo_run(tmp_path / "outputs", "a")
    (tmp_path / "copies").mkdir()
    (tmp_path / "copies/extra").write_text("extra")
    assert notata("sync", "outputs", "copies", folder=tmp_path).returncode == 0
    assert (tmp_path / "copies/extra").exists()
    would = notata("sync", "outputs", "copies", "--delete", "--dry-run", folder=tmp_path)
    assert would.stdout.splitlines()[0].split() == ["delete", "5", "extra"]
    assert (tmp_path / "copies/extra").exists()
    done = notata("sync", "outputs", "copies", "--delete", folder=tmp_path)
    assert "; 15 equal, 1 deleted" in done.stdout
    assert stored(tmp_path / "copies") == stored(tmp_path / "outputs")


def test_sync_as_json_and_what_fails(tmp_path: Path) -> None:
    demo_run(tmp_path / "outputs", "a", "b")
    demo_run(tmp_path / "copies", "a")
    os.mkfifo(tmp_path / "outputs/log_b/pipe")
    failed = notata("sync", "outputs", "copies", "--json", folder=tmp_path)
    assert failed.returncode == 3
    told = json.loads(failed.stdout)
    assert (told["runs"], told["left_out"], told["appended"]) == (2, ["log_b/pipe"], {})
    assert told["copied"].keys() == {key for key in stored(tmp_path / "outputs") if key.startswith("log_b/")}
    assert told["bytes"] == sum(told["copied"].values())
    assert len(told["errors"]) == 1
    assert "a different run with this id" in told["errors"][0]
    assert failed.stderr == f"Error: {told['errors'][0]}\n"
    assert notata("sync", "outputs", "copies", "--delete", folder=tmp_path).returncode == 0
    assert stored(tmp_path / "copies") == stored(tmp_path / "outputs")


def test_sync_says_in_one_line_what_cannot_be_done(tmp_path: Path) -> None:
    (tmp_path / "index.csv").write_text("run_id\n")
    for arguments in (["outputs", "copies"], ["outputs"], ["index.csv", "copies"]):
        nowhere = notata("sync", *arguments, folder=tmp_path)
        assert (nowhere.returncode, nowhere.stdout) == (1, "")
        assert nowhere.stderr.startswith(f"Error: there is no folder with files at {tmp_path}/{arguments[0]}; name the")
    demo_run(tmp_path / "outputs", "a")
    assert "no destination was given" in notata("sync", "outputs/log_a", folder=tmp_path).stderr
    assert "one contains the other" in notata("sync", "outputs/log_a", "outputs", folder=tmp_path).stderr
    assert notata("sync", folder=tmp_path).returncode == 2


def test_sync_takes_options_for_each_side(tmp_path: Path, moto_server: Server, gcs_server: Server) -> None:
    demo_run(tmp_path / "outputs", "a")
    url = f"{moto_server.url}/cli"
    there = [f"--destination-option={key}={value}" for key, value in moto_server.options.items()]
    assert notata("sync", "outputs", url, *there, folder=tmp_path).returncode == 0
    here = [f"--source-option={key}={value}" for key, value in moto_server.options.items()]
    to = [f"--destination-option={key}={value}" for key, value in gcs_server.options.items()]
    assert notata("sync", url, f"{gcs_server.url}/cli", *here, *to, folder=tmp_path).returncode == 0
    here = [f"--source-option={key}={value}" for key, value in gcs_server.options.items()]
    back = notata("sync", f"{gcs_server.url}/cli/log_a", "back", *here, "--no-progress", folder=tmp_path)
    assert back.returncode == 0, back.stderr
    assert stored(tmp_path / "back") == stored(tmp_path / "outputs")
    both = [f"-o{key}={value}" for key, value in moto_server.options.items()]
    assert notata("sync", url, f"{url}-too", *both, folder=tmp_path).returncode == 0
    assert notata("sync", f"{url}-too", "again", *both, folder=tmp_path).returncode == 0
    assert stored(tmp_path / "again") == stored(tmp_path / "outputs")
    nowhere = "-oendpoint_url=http://127.0.0.1:1"  # an option for one side overrides the common one
    here = [f"--source-option={key}={value}" for key, value in moto_server.options.items()]
    assert notata("sync", f"{url}-too", "third", nowhere, *here, folder=tmp_path).returncode == 0
    assert notata("sync", "outputs", f"{url}-too", nowhere, *there, folder=tmp_path).returncode == 0
    open_store(f"{url}-too", moto_server.options).clear()
    for server in (moto_server, gcs_server):
        open_store(f"{server.url}/cli", server.options).clear()


INTERRUPTED = """
import itertools, signal, threading
from notata.cli import main
from notata.store.backends import local

publish, count, interrupted = local.Staged.commit, itertools.count(1), threading.Event()

def interrupt(*_):
    interrupted.set()
    raise KeyboardInterrupt

def commit(staged):
    number = next(count)
    if number == 6:
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    if number >= 6:
        interrupted.wait()
    if number > 6:
        raise OSError("the interrupt came before this file was stored")
    return publish(staged)

signal.signal(signal.SIGINT, interrupt)

local.Staged.commit = commit
main(["sync", "outputs", "copies"])
"""


def test_an_interrupted_sync_ends_in_one_line_and_the_next_one_finishes(tmp_path: Path) -> None:
    demo_run(tmp_path / "outputs", "a")
    expected = stored(tmp_path / "outputs")
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False
    )
    assert (ended.returncode, ended.stderr.strip()) == (130, "Interrupted")
    left = stored(tmp_path / "copies")
    assert json.loads(left.pop("log_a/metadata.json"))["status"] == "replacing"
    assert left.items() <= expected.items()
    assert len(left) < len(expected) - 1
    assert notata("sync", "outputs", "copies", folder=tmp_path).returncode == 0
    assert stored(tmp_path / "copies") == expected


def test_help_and_version(tmp_path: Path) -> None:
    assert fresh_process("--version", folder=tmp_path).stdout.strip() == f"notata, version {__version__}"
    assert "demo" in notata("--help", folder=tmp_path).stdout
    for command in ("demo", "sync", "verify"):
        told = notata(command, "-h", folder=tmp_path).stdout
        assert any(line.startswith(f"  notata {command} ") for line in told.splitlines())
        assert "\\b" not in told
    script = Path(sys.executable).with_name("notata")
    assert subprocess.run([script, "--version"], capture_output=True, check=True).stdout


def test_verify_reports_each_run_in_a_line_and_by_its_exit_code(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        with Logbook(name, tmp_path / "out") as log:
            log.text("t", "whole")
    done = process("verify", "out", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.partition(": ")[0] for line in done.stdout.splitlines()] == [
        f"out/log_{name}" for name in ("a", "b", "c")
    ]
    (tmp_path / "out/log_b/artifacts/t.txt").write_text("WHOLE")
    (tmp_path / "out/log_c/manifest.json").unlink()
    done = notata("verify", "out/log_a", "out/log_b", "out/log_c", folder=tmp_path)
    whole, changed, unknown = done.stdout.splitlines()
    assert done.returncode == 1
    assert ": ok; 2 files" in whole
    assert "NOT ok" in changed
    assert "1 changed: artifacts/t.txt" in changed
    assert "out/log_c: cannot tell: it " in unknown
    assert notata("verify", "out/log_a", "out/log_c", folder=tmp_path).returncode == 3
    lines = [json.loads(line) for line in notata("verify", "out", "--json", folder=tmp_path).stdout.splitlines()]
    assert [(line["run_id"], line["code"]) for line in lines] == [("a", 0), ("b", 1), ("c", 3)]
    assert (lines[0]["name"], lines[0]["url"]) == ("out/log_a", str(tmp_path / "out/log_a"))
    assert (lines[1]["changed"], lines[0]["checked"], lines[2]["why"][:11]) == (["artifacts/t.txt"], 2, "cannot tell")


def test_verify_finds_runs_below_a_folder_and_says_where_there_is_none(tmp_path: Path) -> None:
    for name in ("e/runs", "e/deep/er"):
        Logbook("x", tmp_path / name).mark_complete()
    done = notata("verify", "e", "nowhere", folder=tmp_path)
    assert done.returncode == 3
    assert [line.split(": ")[1].split(";")[0] for line in done.stdout.splitlines()] == ["ok", "ok", "cannot tell"]
    assert "there is no run at" in done.stdout
    assert notata("verify", folder=tmp_path).returncode == 3


def test_verify_reports_a_run_that_has_lost_its_metadata(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with Logbook(name, tmp_path / "out") as log, log.worker("log_1") as worker:
            worker.text("t", "whole")
    (tmp_path / "out/log_b/metadata.json").unlink()
    done = notata("verify", "out", folder=tmp_path)
    whole, lost = done.stdout.splitlines()
    assert done.returncode == 3
    assert "log_a: ok" in whole
    assert "log_b: cannot tell: there is no run at" in lost
    alone = notata("verify", "out/log_b", folder=tmp_path)
    assert (alone.returncode, alone.stdout) == (3, f"{lost}\n")


def test_verify_in_a_bucket_with_storage_options(tmp_path: Path, moto_server: Server) -> None:
    url = f"{moto_server.url}/verify-command"
    with Logbook("a", url, storage_options=moto_server.options) as log:
        log.text("t", "x")
    options = [part for name, value in moto_server.options.items() for part in ("-o", f"{name}={json.dumps(value)}")]
    done = notata("verify", url, *options, folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{url}/log_a: {log.reader.verify()}\n")
