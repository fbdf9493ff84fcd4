"""Runs whose folder was moved or deleted, their remains, and folders named with ``~`` and ``$NAME``."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path

import pytest
from upath import UPath

from notata import ConfigurationError, Logbook, LogReader, RunDisplacedError, search
from notata.errors import RunMissingError
from notata.search.finding import look_up
from notata.search.target import Target
from notata.store import open_store
from tests.command import notata, process

# -- moved and deleted ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("moved", [True, False], ids=["moved", "deleted"])
def test_a_writer_whose_folder_was_removed_raises(moved: bool, tmp_path: Path) -> None:
    log = Logbook("a", tmp_path)
    folder = tmp_path / "log_a"
    if moved:
        folder.rename(tmp_path / "elsewhere")
    else:
        shutil.rmtree(folder)
    for _ in range(2):
        with pytest.raises(RunDisplacedError, match=r"its metadata\.json is missing, so its folder was"):
            log.meta(step=1)
    with pytest.raises(RunDisplacedError, match="moved or deleted"):
        log.text("notes", "x")
    assert not folder.exists()


def test_a_run_of_another_writer_differs_from_a_missing_run() -> None:
    url = f"memory://{uuid.uuid4().hex}"
    log = Logbook("a", url)
    Logbook("a", url, overwrite=True)
    with pytest.raises(RunDisplacedError, match="now belongs to another writer"):
        log.meta(step=1)


# -- orphans -------------------------------------------------------------------------------------------------


def orphans(base: str) -> str:
    """Create a complete run, the remains of three lost runs, and files that belong to no run."""
    store = open_store(base)
    with Logbook("whole", base):
        pass
    for key in ("log_a/log.txt", "log_b/artifacts/x/y.txt", "deep/log_c/params.yaml"):
        store.write(key, b"left")
    for key in ("log_backup/data/x.csv", "log_backup/notes.txt", "log.txt", "artifacts/x.txt"):
        store.write(key, b"foreign")
    return base


def test_what_is_left_of_a_run_is_listed() -> None:
    base = orphans(f"memory://{uuid.uuid4().hex}")
    found = {run.run_id: (run.status, run.failure_reason) for run in search.runs(base)}
    lost = ("unreadable", "it has no metadata.json")
    assert found == {"a": lost, "b": lost, "c": lost, "whole": ("complete", "")}
    assert [run.run_id for run in search.runs(f"{base}/log_b")] == ["b"]
    assert [run.run_id for run in search.runs(f"{base}/log_[ab]")] == ["a", "b"]
    with pytest.raises(RunMissingError):
        search.runs(f"{base}/log_backup")


def test_a_part_of_a_run_has_no_orphan_in_it(tmp_path: Path) -> None:
    with Logbook("a", tmp_path) as log:
        log["artifacts/log_b/log.txt"].write_text("of another one")
    for place in ("log_a/artifacts", "log_a/artifacts/*", "log_a/a*"):
        assert look_up(Target(f"{tmp_path}/{place}")).runs == {}, place
    assert list(look_up(Target(f"{tmp_path}/log_a")).runs) == [""]


def test_what_is_left_of_a_run_is_removed_by_its_name_only(tmp_path: Path) -> None:
    orphans(str(tmp_path))
    done = process("rm", "-r", ".", "--yes", folder=tmp_path)  # the test process would turn its warning into an error
    assert done.returncode == 0
    assert sorted(line for line in done.stderr.splitlines() if "log_" in line) == [
        f"Warning: ./{name} has no metadata.json, and is kept; name it explicitly to remove it"
        for name in ("deep/log_c", "log_a", "log_b")
    ]
    assert not (tmp_path / "log_whole").exists()
    done = notata("rm", "log_a", "deep/log_c", "--yes", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["name"] for line in done.stdout.splitlines()] == ["log_a", "deep/log_c"]
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {
        "log_b/artifacts/x/y.txt", "log_backup/data/x.csv", "log_backup/notes.txt", "log.txt", "artifacts/x.txt"
    }  # fmt: skip


# -- names of folders ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, Path, UPath])
def test_a_tilde_is_the_home_folder(kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mesh.vtk").write_text("x")
    with Logbook("a", kind("~/runs")) as log:
        log.file(kind("~/mesh.vtk"))
    assert (tmp_path / "runs" / "log_a" / "artifacts" / "mesh.vtk").read_text() == "x"
    assert LogReader(kind("~/runs/log_a")).state.status == "complete"
    assert not (tmp_path / "~").exists()


def test_an_environment_variable_in_the_base_folder_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCRATCH_OF_A_TEST", str(tmp_path / "scratch"))
    for base in ("$SCRATCH_OF_A_TEST/runs", "${SCRATCH_OF_A_TEST}/runs"):
        monkeypatch.setenv("NOTATA_BASE_DIR", base)
        with Logbook("a", overwrite=True) as log:
            assert str(log.path) == str(tmp_path / "scratch" / "runs" / "log_a")
    monkeypatch.delenv("SCRATCH_OF_A_TEST")
    with pytest.raises(ConfigurationError, match=r"environment variable \$\{SCRATCH_OF_A_TEST\} is not set"):
        Logbook("b")
    assert [path.name for path in tmp_path.iterdir()] == ["scratch"]


@pytest.mark.parametrize("base", ["$SCRATCH/runs", Path("$SCRATCH/runs"), "${SCRATCH}/runs"])
def test_a_path_that_begins_with_an_environment_variable_is_refused(
    base: str | Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"which notata does not expand\. Pass os\.path\.expandvars"):
        Logbook("a", base)
    assert list(tmp_path.iterdir()) == []
    with Logbook("a", "./$SCRATCH"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["$SCRATCH"]
