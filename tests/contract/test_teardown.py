"""Objects that use a run during interpreter shutdown: the process still ends, and nothing waits for stopped threads."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from notata import LogReader
from tests.backends import Place
from tests.contract.conftest import REAL, emptied
from tests.nursery import Script

SECONDS = 240  # kills a process that hangs

SCRIPT = """
import json, logging, sys
from notata import Logbook, LogReader, NotataError

url, options, background, ends = json.loads(sys.argv[1])

class Trainer:
    def __del__(self):
        calls = {
            "info": lambda: log.info("bye"),
            "flush": log.flush,
            "json": lambda: log.json("late", 1),
            "meta": lambda: log.meta(step=1),
            "mark_complete": log.mark_complete,
            "files": lambda: log.reader.files,
            "exists": lambda: log["artifacts/kept.json"].exists(),
            "state": lambda: LogReader(log.url, storage_options=options).state,
            "handler": lambda: logger.error("Unclosed client session"),
        }
        for name, call in calls.items():
            try:
                call()
            except NotataError as error:
                print(name, type(error).__name__)
            else:
                print(name, "returned")
        sys.stdout.flush()

trainer = Trainer()
logger = logging.getLogger("asyncio")
log = Logbook("run", url, storage_options=options, background=background)
logger.addHandler(log.handler)
log.json("kept", 1)
if ends:
    log.mark_complete()
"""


@pytest.fixture(params=["local", "s3", "gcs", *REAL])
def shared(request: pytest.FixtureRequest) -> Iterator[Place]:
    yield from emptied(request)


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("ends", [False, True])
def test_a_process_ends_whose_objects_use_the_run_to_the_last(shared: Place, background: bool, ends: bool) -> None:
    arguments = json.dumps([shared.url, shared.options, background, ends])
    command = [sys.executable, "-c", SCRIPT, arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    said = dict(line.split(" ") for line in done.stdout.splitlines())
    assert {"info", "flush", "json", "meta", "files", "exists", "state", "handler"} <= said.keys(), done.stderr
    if shared.bucket:
        assert {said[name] for name in ("json", "meta", "files", "state")} == {"StorageError"}
    reader = LogReader(shared.url + "/log_run", storage_options=shared.options)
    assert reader.state.status == ("complete" if ends else "failed")
    assert json.loads(shared.bytes("log_run/artifacts/kept.json")) == 1


LAST = """
import sys
from notata import Logbook

class Last:
    def __del__(self):
        log.info("bye")
        log.text("notes", "written last")
        log.meta(step=1)
        log.flush()

log = Logbook("run", sys.argv[1])
last = Last()
log.mark_complete()
"""


def test_on_a_disk_the_last_object_of_a_process_writes_as_at_any_time(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LAST, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "log_run/artifacts/notes.txt").read_text() == "written last"
    assert json.loads((tmp_path / "log_run/metadata.json").read_text())["step"] == 1
    assert "INFO bye" in (tmp_path / "log_run/log.txt").read_text()


AT_EXIT = """
import atexit, json, sys
from notata import Logbook, StorageError

def write():
    try:
        log.text("late", "x")
    except StorageError as error:
        print(error)

url, options = json.loads(sys.argv[1])
log = Logbook("run", url, storage_options=options)
atexit.register(write)
log.mark_complete()
"""


@pytest.mark.parametrize("shared", ["s3", "gcs"], indirect=True)
def test_a_function_of_atexit_that_cannot_reach_a_bucket_gets_an_error(shared: Place) -> None:
    command = [sys.executable, "-c", AT_EXIT, json.dumps([shared.url, shared.options])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stdout or "script has ended" in done.stdout, done.stdout


NO_THREADS = """
import json, sys, threading
from notata import Logbook, Storage, StorageError

url, options, allowed = json.loads(sys.argv[1])
start = threading.Thread.start

def refuse(thread):
    global allowed
    if not allowed:
        raise RuntimeError("can't start new thread")
    allowed -= 1
    start(thread)

threading.Thread.start = refuse
for number in range(2):
    try:
        Logbook(f"refused-{number}", Storage(url, options, timeout=5))
    except StorageError as error:
        print(error)
threading.Thread.start = start
Logbook("run", url, storage_options=options).mark_complete()
"""


@pytest.mark.parametrize("allowed", [0, 1])
@pytest.mark.parametrize("shared", ["s3", "gcs"], indirect=True)
def test_a_process_that_may_start_few_threads_gets_an_error_that_says_so(shared: Place, allowed: int) -> None:
    script = Script("tests.given_code", [NO_THREADS, json.dumps([shared.url, shared.options, allowed])])
    output, errors = script.communicate()
    assert script.returncode == 0, errors
    assert len(output.splitlines()) == 2
    assert allowed or output.count("the system does not allow this process to start more threads") == 2
    assert LogReader(shared.url + "/log_run", storage_options=shared.options).state.status == "complete"
