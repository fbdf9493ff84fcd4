"""Messages of ``notata run`` and ``notata put``; how programs are recorded is in test_program."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from notata import Logbook
from tests.command import notata


def test_resume_needs_the_id_of_a_run(tmp_path: Path) -> None:
    done = notata("run", "--resume", "--", sys.executable, "-IS", "-c", "print(1)", folder=tmp_path)
    assert (done.returncode, "--resume needs --id" in done.stderr) == (2, True)
    assert not (tmp_path / "outputs").exists()


def test_a_current_folder_that_was_removed_is_named_as_the_cause(tmp_path: Path) -> None:
    script = "import os, runpy, sys; os.rmdir(os.getcwd()); runpy.run_module('notata', run_name='__main__')"
    for arguments in (["run", "--", "true"], ["ls"]):
        (tmp_path / "gone").mkdir()
        command = [sys.executable, "-P", "-c", script, *arguments]
        done = subprocess.run(command, cwd=tmp_path / "gone", capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (
            3,
            "Error: the current folder does not exist any more. Change to another one with cd.\n",
        )


def test_show_names_the_series_that_put_has_stored(tmp_path: Path) -> None:
    with Logbook("a", tmp_path / "outputs"):
        done = notata("put", "-s", "loss=0.5", "--run", "outputs/log_a", folder=tmp_path)
        assert done.returncode == 0, done.stderr
    shown = notata("show", "outputs/log_a", folder=tmp_path).stdout
    assert re.search(r"series of workers \(notata curve --workers\)\n  put: scalars +\d+ B\n", shown)
