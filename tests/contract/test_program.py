"""A program recorded by `notata run` on each backend: how it ended, its output, and its files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from notata import Logbook, RunExistsError, Worker
from notata.program import record
from tests.backends import Place

# How it ends: the command, the exit code, the status, the reason and the field `exit`.
ENDS: dict[str, tuple[str, int, str, str | None, dict[str, Any]]] = {
    "complete": ("echo value = 1", 0, "complete", None, {"code": 0}),
    "fails": ("echo value = 1; exit 3", 3, "failed", "exit code 3", {"code": 3}),
    "killed": ("echo value = 1; kill -KILL $$", 137, "failed", "SIGKILL", {"signal": "SIGKILL"}),
    "interrupted": ("echo value = 1; kill -INT {pid}; read never < /dev/zero", 130, "failed", "interrupted (SIGINT)",
                    {"signal": "SIGINT"}),
}  # fmt: skip


def metadata(place: Place, run_id: str = "run") -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(place.bytes(f"log_{run_id}/metadata.json"))
    return fields


@pytest.mark.parametrize("end", ENDS)
def test_the_run_says_how_the_program_ended(place: Place, end: str) -> None:
    script, code, status, reason, expected = ENDS[end]
    done = record(
        ["sh", "-c", script],
        place.url,
        run_id="run",
        storage_options=place.options,
        params={"pid": os.getpid()},
        series=[r"value = (?P<v>\d+)"],
        echo=False,
    )
    assert done == code
    fields = metadata(place)
    assert fields["status"] == status
    assert fields.get("failure_reason") == reason
    assert {name: fields["exit"].get(name) for name in expected} == expected
    assert 0 <= fields["exit"]["cpu_seconds"] < 60
    assert fields["command"]["argv"] == ["sh", "-c", script]
    assert fields["environment"]["argv"] == ["sh", "-c", script.format(pid=os.getpid())]
    assert place.bytes("log_run/output.txt") == b"value = 1\n"
    assert json.loads(place.bytes("log_run/series/output.jsonl"))["v"] == 1


def test_kept_files_are_those_that_the_program_wrote(place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    (folder / "out").mkdir(parents=True)
    (folder / "out" / "old.vtk").write_text("of an earlier run")
    (folder / "out" / "again.vtk").write_text("of an earlier run")
    script = "echo new > out/new.vtk; echo again > out/again.vtk; echo no > out/other.txt"
    code = record(
        ["sh", "-c", script],
        place.url,
        run_id="run",
        storage_options=place.options,
        keep=["out/*.vtk"],
        cwd=str(folder),
        echo=False,
    )
    assert code == 0
    kept = {key: data for key, data in place.files().items() if key.startswith("log_run/artifacts/")}
    assert kept == {"log_run/artifacts/out/again.vtk": b"again\n", "log_run/artifacts/out/new.vtk": b"new\n"}
    assert "WARNING Not kept, because they have not changed since the start: out/old.vtk" in place.log()
    assert (
        "log_run/artifacts/out/new.vtk".removeprefix("log_run/")
        in json.loads(place.bytes("log_run/manifest.json"))["files"]
    )


def test_a_resumed_run_has_the_output_of_both_attempts(place: Place) -> None:
    options: dict[str, Any] = {"run_id": "run", "storage_options": place.options, "echo": False}
    assert record(["sh", "-c", "echo first; exit 1"], place.url, **options) == 1
    with pytest.raises(RunExistsError):
        record(["sh", "-c", "echo second"], place.url, **options)
    assert record(["sh", "-c", "echo second"], place.url, resume=True, **options) == 0
    assert place.bytes("log_run/output.txt") == b"first\nsecond\n"
    fields = metadata(place)
    assert (fields["status"], fields["exit"]["code"], "failure_reason" in fields) == ("complete", 0, False)


def test_a_child_process_finds_its_run(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    log = place.logbook()
    if place.name == "memory":  # no other process can see it
        assert record(["sh", "-c", "test -z $NOTATA_RUN"], place.url, run_id="b", echo=False) == 0
        return
    code = record(
        ["sh", "-c", 'echo "$NOTATA_RUN"; echo "$NOTATA_RUN_OPTIONS"'],
        place.url,
        run_id="child",
        storage_options=place.options,
        echo=False,
    )
    assert code == 0
    url, options = place.bytes("log_child/output.txt").decode().splitlines()
    assert url == f"{place.url}/log_child"
    assert "secret" not in options
    monkeypatch.setenv("NOTATA_RUN", log.url)
    monkeypatch.setenv("NOTATA_RUN_OPTIONS", options)
    monkeypatch.setenv("PMI_RANK", "7")
    for name, option in (("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret")):
        monkeypatch.setenv(name, place.options.get(option, "none"))
    type(place.raw()).clear_instance_cache()  # an earlier test may have had no credentials in its environment
    worker = Logbook.current()
    assert isinstance(worker, Worker)
    assert worker is Logbook.current()
    assert (worker.rank, worker.url) == ("7", log.url)
    worker.scalars(step=3, loss=0.5)
    worker.close()
    log.mark_complete()
    assert json.loads(place.bytes("log_run/workers/7/series/scalars.jsonl"))["loss"] == 0.5
