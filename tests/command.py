"""The command: in this process, as its own process, and on a terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import TypeAlias

from click.testing import CliRunner

from notata.cli import main
from tests.nursery import Forked, Script

Done: TypeAlias = "subprocess.CompletedProcess[str]"

__all__ = ["fresh_process", "notata", "process", "terminal"]


def notata(*arguments: str, folder: Path, given: str | None = None, **environment: str) -> Done:
    """Run the command in this process, in a tenth of the time of `process`."""
    with contextlib.chdir(folder):
        done = CliRunner().invoke(main, arguments, prog_name="notata", env=environment, input=given)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def process(*arguments: str, folder: Path, given: str = "", **environment: str) -> Done:
    """Run the command as a process of its own, forked by `tests.nursery`, in half the time of `fresh_process`.

    Python itself reads none of the environment: ``PYTHONIOENCODING`` and the like have no effect.
    """
    started = Script("notata", [*arguments], folder=folder, environment={**os.environ, **environment})
    started.stdin.write(given)
    stdout, stderr = started.communicate()
    return subprocess.CompletedProcess(arguments, started.returncode or 0, stdout, stderr)


def fresh_process(*arguments: str, folder: Path, **environment: str) -> Done:
    """Run the command as users do, with an interpreter that imports everything."""
    return subprocess.run(
        [sys.executable, "-m", "notata", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, **environment},
        timeout=120,
        check=False,
    )


def terminal(*arguments: str, folder: Path, columns: int = 120, **environment: str) -> tuple[int, bytes]:
    """Run the command on its own terminal, forked by `tests.nursery`; return its exit code and output."""
    shown = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns), **environment}
    master, slave = pty.openpty()
    with open(os.devnull, "rb") as nothing:
        started = Forked("notata", [*arguments], [nothing.fileno(), slave, slave], folder=folder, environment=shown)
    os.close(slave)
    got = bytearray()
    with contextlib.suppress(OSError):  # Linux reports a closed other end this way
        while piece := os.read(master, 65536):
            got += piece
    os.close(master)
    return started.wait(), bytes(got)
