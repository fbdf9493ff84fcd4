"""Forked children of the process that writes a run, all of which flush lines at once: each line is stored once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.backends import Place
from tests.contract.conftest import REAL, emptied

CHILDREN = 16
SECONDS = 240  # kills a process that hangs

SCRIPT = """
import json, os, sys
from notata import Logbook

url, options, count = json.loads(sys.argv[1])
log = Logbook("run", url, storage_options=options)
log.flush()
begin, go = os.pipe()
children = []
for number in range(count):
    if not (pid := os.fork()):
        os.close(go)
        os.read(begin, 1)  # until the parent closes its end
        log.info("child %d", number)
        log.flush()
        os._exit(0)
    children.append(pid)
os.close(go)
codes = {os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children}
log.mark_complete()
print(codes)
"""


@pytest.fixture(params=["local", "s3", "gcs", *REAL])
def shared(request: pytest.FixtureRequest) -> Iterator[Place]:
    yield from emptied(request)


@pytest.mark.slow
def test_children_that_flush_at_once_lose_no_line(shared: Place) -> None:
    arguments = json.dumps([shared.url, shared.options, CHILDREN])
    command = [sys.executable, "-c", SCRIPT, arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (done.returncode, done.stdout) == (0, "{0}\n"), done.stderr
    lines = [message for message in shared.log() if message.startswith("INFO child")]
    assert sorted(lines) == sorted(f"INFO child {number}" for number in range(CHILDREN))
