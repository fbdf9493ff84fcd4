"""A child process that imports its parent's script again does not take over its parent's run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from notata import Logbook, LogReader, RunExistsError
from tests.children import run

_SCRIPT = """
import multiprocessing
import sys
from notata import Logbook

def work():
    pass

method, base, how = sys.argv[1:]
with Logbook("a", base, **{{how: True}} if how else {{}}) as log:
    log.text("notes", "of the parent")
    child = multiprocessing.get_context(method).Process(target=work)
    try:
        child.start()
        child.join()
    except (EOFError, OSError):  # of forkserver, which could not import the script
        pass
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("how", ["overwrite", "resume", ""])
def test_a_script_without_a_guard_does_not_lose_its_run_to_its_child(method: str, how: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT.format())
    done = subprocess.run(
        [sys.executable, str(script), method, str(tmp_path), how],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = next(line for line in done.stderr.splitlines() if "RunExistsError: cannot " in line)
    assert 'put its code below `if __name__ == "__main__":`' in told
    assert "a parent of this process" in told
    assert ".. " not in told  # each sentence ends once
    reader = LogReader(tmp_path / "log_a")
    assert (reader.state.status, reader.load_text("notes")) == ("complete", "of the parent")
    assert "resumes" not in reader.meta


def test_a_child_may_replace_a_run_that_its_parent_has_ended(tmp_path: Path) -> None:
    with Logbook("a", tmp_path):
        pass
    code = f"from notata import Logbook; Logbook('a', {str(tmp_path)!r}, overwrite=True).mark_complete()"
    before = LogReader(tmp_path / "log_a").meta["lease"]["owner"]
    run([sys.executable, "-c", code])
    assert LogReader(tmp_path / "log_a").meta["lease"]["owner"] != before


def test_without_a_process_identity_the_process_id_of_the_parent_counts(tmp_path: Path) -> None:
    log = Logbook("a", tmp_path)
    metadata = tmp_path / "log_a" / "metadata.json"
    fields = json.loads(metadata.read_text())
    code = f"""
import json, os, pathlib
from notata import Logbook, RunExistsError
metadata = pathlib.Path({str(metadata)!r})
fields = json.loads(metadata.read_text())
for pid in (os.getppid(), 0):
    metadata.write_text(json.dumps({{**fields, "lease": {{**fields["lease"], "process": "", "pid": pid}}}}))
    try:
        Logbook("a", {str(tmp_path)!r}, overwrite=True).mark_complete()
        print("replaced")
    except RunExistsError:
        print("refused")
"""
    assert run([sys.executable, "-c", code]).stdout.split() == ["refused", "replaced"]
    assert fields["status"] == "initialized"
    with pytest.raises(RunExistsError):
        Logbook("a", tmp_path)
    del log
