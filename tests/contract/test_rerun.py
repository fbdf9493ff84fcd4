"""Reruns of runs on every backend: the program in this process, the script in another one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from notata import LogReader
from notata.program import record
from notata.rerun import plan, rerun
from tests.backends import Place
from tests.contract.conftest import make_place


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a script."""
    top = tmp_path / "code"
    top.mkdir()
    (top / "fit.py").write_text(
        "from notata import Logbook\nwith Logbook('a', 'outputs') as log:\n    log.text('result', 'same')\n"
    )
    settings = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run(["git", *settings, *command], cwd=top, check=True)
    return top


def test_a_program_is_repeated_on_each_storage(place: Place, repository: Path) -> None:
    command = ["sh", "-c", "cat fit.py >copy.txt; echo {re}"]
    options: Any = {"storage_options": place.options or None}
    code = record(
        command, place.url, run_id="a", cwd=str(repository), echo=False, params={"re": 10}, keep=["*.txt"], **options
    )
    assert code == 0
    (repository / "copy.txt").unlink()
    done = rerun(plan(f"{place.url}/log_a", run_id="b", storage_options=place.options), echo=False, check=True)
    assert done.status == "complete"
    assert done.comparison is not None
    assert done.comparison.is_equal, done.comparison
    assert json.loads(place.bytes("log_b/metadata.json"))["origin"] == {
        "run_id": "a",
        "url": LogReader(f"{place.url}/log_a", storage_options=place.options).url,
        "commit": json.loads(place.bytes("log_a/metadata.json"))["environment"]["git"]["commit"],
        "how": "rerun",
    }
    files = [{name: place.bytes(name) for name in place.names() if name.startswith(f"log_{run}/")} for run in "ab"]
    kept = [{name[6:]: data for name, data in one.items() if name.endswith((".txt", ".yaml"))} for one in files]
    assert kept[0] == kept[1]
    assert any(name.endswith("copy.txt") for name in kept[0])


def test_a_script_is_repeated_into_a_bucket(
    repository: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make_place("s3", request)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", place.options["key"])  # storage options with secrets are not passed on
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", place.options["secret"])
    with place.logbook("a") as log:
        log.text("result", "same")
    fields = json.loads(place.bytes("log_a/metadata.json"))
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=repository, check=True, capture_output=True, text=True
    ).stdout.strip()
    fields["environment"] |= {
        "git": {"commit": commit, "dirty": False},
        "command": [sys.executable, "fit.py"],
        "cwd": str(repository),
    }
    place.put("log_a/metadata.json", json.dumps(fields).encode())
    done = rerun(plan(f"{place.url}/log_a", run_id="b", storage_options=place.options))
    assert done.status == "complete"
    assert place.bytes("log_b/artifacts/result.txt") == b"same"
    assert not os.path.exists(repository / "outputs")
    near = plan(f"{place.url}/log_a", base_dir=repository.parent / "near", storage_options=place.options)
    assert (near.base.is_local, near.base_options) == (True, None)  # the options of a bucket are not those of a disk
    place.store().clear()
