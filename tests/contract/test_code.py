"""The files in ``code/`` of a run on each backend, read with plain fsspec: when they are stored, and which are kept."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from notata import ConfigurationError, Experiment, Logbook, LogReader, Worker
from notata.provenance import git as asked
from notata.store import Store
from notata.testing import FaultyBackend
from tests.backends import Place
from tests.command import notata
from tests.counting import Send, counted, intercepted
from tests.test_environment import git

pytestmark = pytest.mark.skipif(os.name == "nt", reason="other processes are started there")

PASSWORD = "hunter2-do-not-tell"
PATCH, UNTRACKED, PACKAGES = "code/diff.patch", "code/untracked.json", "code/packages.txt"


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a checkout with a changed and an untracked file, which is the working folder; git is asked for each run."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "code.py").write_text("a = 1\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    (folder / "code.py").write_text("a = 2\n")
    (folder / "new.py").write_text("x = 1\n")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(asked, "LONGEST", 0.0)
    monkeypatch.delenv("NOTATA_CODE")
    return folder


def environment(place: Place, folder: str = "log_run") -> dict[str, Any]:
    return dict(json.loads(place.bytes(f"{folder}/metadata.json"))["environment"])


def code_names(place: Place, folder: str = "log_run") -> list[str]:
    return [name.removeprefix(f"{folder}/") for name in place.names() if name.startswith(f"{folder}/code/")]


def test_a_run_stores_its_code(place: Place, repo: Path) -> None:
    with place.logbook():
        pass
    assert code_names(place) == [PATCH, PACKAGES, UNTRACKED]
    facts = environment(place)
    assert facts["git"]["commit"] == git(repo, "rev-parse", "HEAD")
    described = {
        PATCH: facts["git"]["patch"],
        UNTRACKED: facts["git"]["untracked"],
        PACKAGES: facts["installed"],
    }
    for key, fields in described.items():
        assert fields["sha256"] == hashlib.sha256(place.bytes(f"log_run/{key}")).hexdigest()
    assert b"+a = 2" in place.bytes(f"log_run/{PATCH}")
    assert b"+x = 1" in place.bytes(f"log_run/{PATCH}")
    assert b"numpy==" in place.bytes(f"log_run/{PACKAGES}")
    report = LogReader(f"{place.url}/log_run", storage_options=place.options).verify()
    assert report.ok
    assert not report.extra
    assert sum("The code has changes: saved in code/diff.patch" in line for line in place.log()) == 1


@pytest.mark.parametrize(
    ("options", "variable", "expected"),
    [
        ({}, "0", []),
        ({"code": False}, "", []),
        ({"environment": False}, "", []),
        ({"code": True}, "0", [PATCH, PACKAGES, UNTRACKED]),
        ({}, "1", [PATCH, PACKAGES, UNTRACKED]),
    ],
)
@pytest.mark.usefixtures("repo")
def test_the_code_can_be_switched_off(
    options: dict[str, Any], variable: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place("memory", "memory://switched")
    if variable:
        monkeypatch.setenv("NOTATA_CODE", variable)
    place.logbook(**options).mark_complete()
    assert code_names(place) == expected
    if not expected and "environment" not in options:
        assert set(environment(place)["git"]) == {"commit", "branch", "dirty"}


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="invalid code 'yes': pass True, False, or None"):
        Logbook("run", "memory://refused", code="yes")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="code=True needs environment=True"):
        Logbook("run", "memory://refused", code=True, environment=False)


def test_runs_of_an_experiment_store_changes_only(place: Place, repo: Path) -> None:
    experiment = Experiment("e", place.url, storage_options=place.options)
    experiment.add(x=1).mark_complete()
    git(repo, "add", "-A")
    git(repo, "commit", "-q", "-m", "second")
    (repo / "other.py").write_text("y = 1\n")
    experiment.add(x=2).mark_complete()
    Experiment("e", place.url, storage_options=place.options, code=True).add(x=3).mark_complete()
    assert code_names(place, "e/runs/log_e_x_1") == [PATCH, UNTRACKED]
    assert code_names(place, "e/runs/log_e_x_2") == []
    assert code_names(place, "e/runs/log_e_x_3") == [PATCH, PACKAGES, UNTRACKED]  # the patch has other.py


def test_a_program_has_the_code_of_its_folder_and_no_packages(repo: Path, tmp_path: Path) -> None:
    (repo / "code.py").write_text("a = 1\n")  # as in the commit: only new.py is new
    done = notata("run", "--id", "run", "--base-dir", str(tmp_path / "runs"), "--", "true", folder=repo)
    assert done.returncode == 0, done.stderr
    place = Place("local", str(tmp_path / "runs"))
    assert code_names(place) == [PATCH, UNTRACKED]
    assert b"+x = 1" in place.bytes(f"log_run/{PATCH}")


@pytest.mark.usefixtures("repo")
def test_workers_record_no_code(place: Place) -> None:
    with place.logbook(environment=False) as log, Worker(log.url, 1, storage_options=place.options) as worker:
        worker.text("a", "b")
    assert not [name for name in place.names() if "code" in name]


@pytest.mark.usefixtures("repo", "stopped_clock")
def test_a_run_does_not_wait_for_its_code_in_a_bucket(bucket: Place) -> None:
    bucket.logbook("warm").mark_complete()
    go = threading.Event()
    held: list[str] = []

    async def hold(send: Send, method: str, url: Any, **options: Any) -> Any:
        body = options.get("data")  # in GCS it begins with the name
        content = body.getvalue() if isinstance(body, io.BytesIO) else body
        if method != "GET" and "/code/" in f"{url} {content!r}"[:1000]:
            held.append(method)
            await asyncio.to_thread(go.wait, 30)
        return await send(method, url, **options)

    with intercepted(hold):
        log = bucket.logbook(params={"a": 1})
        log.text("notes", "stored meanwhile")
        assert bucket.bytes("log_run/artifacts/notes.txt") == b"stored meanwhile"
        go.set()
        log.mark_complete()
    assert len(held) == 3
    assert code_names(bucket) == [PATCH, PACKAGES, UNTRACKED]
    assert len(json.loads(bucket.bytes("log_run/manifest.json"))["files"]) == 6


@pytest.mark.usefixtures("repo", "stopped_clock")
def test_code_costs_what_the_docs_say(bucket: Place) -> None:
    bucket.logbook("warm").mark_complete()
    with counted() as sent:
        bucket.logbook().mark_complete()
    assert len(sent) == 1 + 3 + 3, sent  # claim; code; log, manifest and status
    experiment = Experiment("e", bucket.url, storage_options=bucket.options)
    experiment.add(x=1).mark_complete()
    with counted() as sent:
        log = experiment.add(x=2)
    with counted() as more:
        log.flush()
    assert len(sent) + len(more) == 2 + 2 + 1, sent  # claim, parameters; patch, untracked files; log


@pytest.mark.usefixtures("repo")
@pytest.mark.parametrize("status", ["complete", "failed"])
def test_code_that_is_not_stored_is_a_warning(status: str, place: Place) -> None:
    storage = FaultyBackend(place.store())
    storage.fail(1, key="code/untracked.json")
    log = Logbook("run", Store(storage))
    if status == "failed":
        log.mark_failed("diverged")
    else:
        log.mark_complete()
    assert log.status == status
    assert code_names(place) == [PATCH, PACKAGES]
    warnings = [line for line in place.log() if line.startswith("WARNING")]
    assert len(warnings) == 1
    assert "code/untracked.json was not stored" in warnings[0]
    assert "code/untracked.json" not in json.loads(place.bytes("log_run/manifest.json"))["files"]


# -- resumed runs --------------------------------------------------------------------------------------------


def resumes(place: Place) -> list[dict[str, Any]]:
    return list(json.loads(place.bytes("log_run/metadata.json"))["resumes"])


@pytest.mark.usefixtures("repo")
def test_a_resumed_run_with_the_same_code_keeps_it(place: Place) -> None:
    place.logbook().mark_complete()
    before = place.bytes(f"log_run/{PATCH}")
    place.logbook(resume=True).mark_complete()
    assert code_names(place) == [PATCH, PACKAGES, UNTRACKED]
    assert place.bytes(f"log_run/{PATCH}") == before
    assert "code" not in resumes(place)[0]


def test_a_resumed_run_keeps_the_code_of_each_attempt(place: Place, repo: Path) -> None:
    patches, commits = [], []
    for content in ("a = 2\n", "a = 3\n", "a = 4\n"):
        (repo / "code.py").write_text(content)
        place.logbook(resume=True).mark_complete()
        patches.append(place.bytes(f"log_run/{PATCH}"))
        commits.append(git(repo, "rev-parse", "HEAD"))
    git(repo, "commit", "-q", "-a", "-m", "second")
    (repo / "new.py").unlink()
    place.logbook(resume=True).mark_complete()
    assert [place.bytes(f"log_run/code/{attempt}/diff.patch") for attempt in range(3)] == patches
    assert code_names(place) == [
        "code/0/diff.patch", "code/1/diff.patch", "code/2/diff.patch", "code/2/untracked.json", PACKAGES,
    ]  # fmt: skip
    first, second, third = [entry["code"] for entry in resumes(place)]
    assert first == {"patch": hashlib.sha256(patches[0]).hexdigest(), "files": ["code/0/diff.patch"]}
    assert second["files"] == ["code/1/diff.patch"]
    assert third["commit"] == commits[2]
    assert third["files"] == ["code/2/diff.patch", "code/2/untracked.json"]
    facts = environment(place)["git"]
    assert (facts["dirty"], "patch" in facts) == (False, False)
    assert LogReader(f"{place.url}/log_run", storage_options=place.options).verify().ok


def test_a_patch_that_cannot_be_kept_is_not_overwritten(place: Place, repo: Path) -> None:
    place.logbook().mark_complete()
    before = place.bytes(f"log_run/{PATCH}")
    (repo / "code.py").write_text("a = 3\n")
    storage = FaultyBackend(place.store())
    storage.fail(1, key="code/0/diff.patch")
    Logbook("run", Store(storage), resume=True).mark_complete()
    assert place.bytes(f"log_run/{PATCH}") == before
    assert any("code/diff.patch of the previous attempt was kept" in line for line in place.log())


@pytest.mark.usefixtures("repo")
def test_a_run_resumed_without_code_keeps_the_patch_of_the_attempt_before(place: Place) -> None:
    place.logbook().mark_complete()
    before = place.bytes(f"log_run/{PATCH}")
    place.logbook(resume=True, code=False).mark_complete()
    assert place.bytes("log_run/code/0/diff.patch") == before
    assert PATCH not in code_names(place)
    place.logbook(overwrite=True, code=False).mark_complete()
    assert code_names(place) == []


# -- packages, copies, and secrets ---------------------------------------------------------------------------


@pytest.mark.usefixtures("repo")
def test_packages_of_a_new_folder_are_added_at_the_end(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = place.logbook()
    before = environment(place)["installed"]
    (tmp_path / "late" / "late_solver-7.1.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path / "late"))
    log.mark_complete()
    packages = place.bytes(f"log_run/{PACKAGES}")
    assert b"late-solver==7.1\n" in packages
    after = environment(place)["installed"]
    assert after == {"packages": before["packages"] + 1, "sha256": hashlib.sha256(packages).hexdigest()}
    assert LogReader(f"{place.url}/log_run", storage_options=place.options).verify().ok


@pytest.mark.usefixtures("repo")
def test_queued_and_mirrored_runs_have_their_code(tmp_path: Path) -> None:
    with Logbook("run", tmp_path / "runs", background=True, mirror=tmp_path / "copies") as log:
        pass
    assert log.mirror is not None
    log.mirror.flush()
    for folder in ("runs", "copies"):
        assert b"+a = 2" in (tmp_path / folder / "log_run" / PATCH).read_bytes()


def test_no_secret_of_a_checkout_is_in_a_run(place: Place, repo: Path) -> None:
    (repo / "conf.ini").write_text(f'[db]\npassword = "{PASSWORD}"\n')
    (repo / "code.py").write_text("a = 1\nkey = 'AKIA" + "IOSFODNN7EXAMPLE'\n")
    (repo / ".env").write_text(f"DB_PASSWORD={PASSWORD}\n")
    (repo / "blob.ini").write_bytes(b"\0" + f"password={PASSWORD}".encode("utf-16"))
    git(repo, "remote", "add", "origin", f"https://ada:{PASSWORD}@host/x.git")
    with place.logbook():
        pass
    for name, content in place.files().items():
        for secret in (PASSWORD, PASSWORD.encode("utf-16-le").decode("latin-1"), "IOSFODNN7EXAMPLE"):
            assert secret.encode("latin-1") not in content, name


@pytest.mark.usefixtures("repo")
def test_the_command_line_of_the_process_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place("memory", "memory://commands")
    monkeypatch.setattr(sys, "orig_argv", ["python", "-X", "dev", "fit.py", "--password", PASSWORD, "--n", "5"])
    monkeypatch.setattr(sys, "argv", ["fit.py", "--password", PASSWORD, "--n", "5"])
    place.logbook("a").mark_complete()
    facts = environment(place, "log_a")
    assert facts["command"] == ["python", "-X", "dev", "fit.py", "--password", "***", "--n", "5"]
    assert facts["argv"] == facts["command"][3:]
    monkeypatch.setattr(sys, "orig_argv", ["python", "-c", "x" * 20_000])
    place.logbook("b").mark_complete()
    assert "command" not in environment(place, "log_b")
