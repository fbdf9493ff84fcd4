"""Child processes of the tools in this folder. If a child fails, its error output is shown."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["ChildError", "run"]

_SHOWN = 4000  # length of the excerpt from the child's error output


class ChildError(RuntimeError):
    """A child process failed; the message holds the end of its error output."""


def run(
    command: Sequence[str | Path],
    *,
    cwd: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command and return its output as text.

    Raises:
        ChildError: The command exited with a code other than 0.
    """
    done = subprocess.run(command, cwd=cwd, env=env, timeout=timeout, capture_output=True, text=True, check=False)
    if done.returncode:
        shown = " ".join(map(str, command))[:200]
        raise ChildError(f"{shown} ended with exit code {done.returncode}:\n{done.stderr[-_SHOWN:]}")
    return done


WAKES = """
import os, signal
woken, wakes = os.pipe()
os.set_blocking(wakes, False)
signal.set_wakeup_fd(wakes)
"""
"""Lets `os.read(woken, 1)` wait for a signal with a handler, also for one that came just before, unlike `pause`."""
