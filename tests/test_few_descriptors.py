"""Processes with few file descriptors: notata leaves most of them to others, and calls that fail can be retried."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SECONDS = 60

MANY_RUNS = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
from notata import Logbook

runs = [Logbook(f"run{number}", sys.argv[1], params={"number": number}) for number in range(60)]
for number, log in enumerate(runs):
    log.info("line %d", number)
for log in runs:
    log.mark_complete()
    log.info("after the end")
assert len([open("/dev/null") for _ in range(20)]) == 20
"""

NONE_LEFT = """
import resource, sys
from notata import Logbook, StorageError

log = Logbook("run", sys.argv[1])
log.json("first", 1)
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
files = []
try:
    while True:
        files.append(open("/dev/null"))
except OSError:
    pass
try:
    log.mark_complete()
except StorageError as error:
    print(error)
files.clear()
log.mark_complete()
"""


def run(script: str, folder: Path) -> str:
    command = [sys.executable, "-c", script, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_more_runs_than_files_that_may_be_open(tmp_path: Path) -> None:
    run(MANY_RUNS, tmp_path)
    for number in range(60):
        folder = tmp_path / f"log_run{number}"
        assert json.loads((folder / "metadata.json").read_text())["status"] == "complete"
        lines = (folder / "log.txt").read_text().splitlines()
        assert sum(line.endswith(f"INFO line {number}") for line in lines) == 1
        assert lines[-1].endswith("INFO after the end")


def test_an_end_without_a_free_descriptor_is_an_error_and_can_be_repeated(tmp_path: Path) -> None:
    assert "this process has too many open files; close some and try again" in run(NONE_LEFT, tmp_path)
    assert json.loads((tmp_path / "log_run/metadata.json").read_text())["status"] == "complete"
