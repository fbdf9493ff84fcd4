"""Tasks for processes that import this module, and scripts that sweep with them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from notata import Logbook

__all__ = ["double", "killed_once", "killer", "slow", "touch"]


def double(log: Logbook, x: int) -> dict[str, int]:
    return {"y": 2 * x}


def killer(log: Logbook, x: int) -> dict[str, int]:
    """Kill the process at the point 3."""
    if x == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"y": x}


def killed_once(log: Logbook, x: int, folder: str) -> dict[str, int]:
    """Kill the process at the points 0, 5 and 10, the first time."""
    mark = Path(folder) / f"killed-{x}"
    if x % 5 == 0 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"y": x}


def touch(log: Logbook, x: int, folder: str) -> dict[str, int]:
    """Append a line for each call to a file of the point."""
    with open(Path(folder) / f"called-{x}", "a") as file:
        file.write(f"{os.getpid()}\n")
    return {"y": x}


def slow(log: Logbook, x: int, folder: str) -> dict[str, int]:
    """Run until the file ``go`` exists."""
    (Path(folder) / f"began-{x}").write_text(str(os.getpid()))
    while not (Path(folder) / "go").exists():
        time.sleep(0.01)
    return {"y": x}
