"""Sweep with drivers that are killed again and again, or with several drivers at once, and check what they leave.

    python -m tests.tools.sweep_drivers FOLDER --points 1000 --kills 50
    python -m tests.tools.sweep_drivers FOLDER --points 1000 --drivers 3

A driver sweeps ``grid(x=range(points))`` in its thread or in processes (``--workers``); one of a hundred points fails.
SIGKILL ends it after a random number of completed points, and the next one is started. The last point of a sweep waits
for the kill, which may come late on a busy machine. Each call of the task adds a line to a file of its point, so that
`check` knows how often a point was calculated.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["check", "kill_drivers", "run_drivers"]

ROOT = Path(__file__).parents[2]
NAME = "killed"
BAD = 50  # each point with this remainder of 100 fails
HELD = "held"  # the name of a file with the number of the point that waits until the file is gone
PATIENCE = 600.0  # seconds that it waits at most


def task(log: Any, x: int, folder: str) -> dict[str, int]:
    """Add a line to the file of the point, and fail for one point of a hundred."""
    with open(Path(folder) / "calls" / str(x), "a") as file:
        file.write(f"{os.getpid()}\n")
    wait_for_the_kill(Path(folder))
    if x % 100 == BAD:
        raise ValueError(f"{x} is bad")
    return {"y": 2 * x}


def wait_for_the_kill(folder: Path) -> None:
    """Wait in the last point, if this driver is to be killed."""
    held, until = folder / HELD, time.monotonic() + PATIENCE
    while held.exists() and completed(folder) >= int(held.read_text()) and time.monotonic() < until:
        time.sleep(0.002)


def drive(folder: str, points: int, workers: int) -> None:
    """Sweep, in this process; print the result."""
    from notata import Experiment
    from notata.sweep import grid

    experiment = Experiment(NAME, folder, environment=False)
    result = experiment.sweep(task, grid(x=range(points), folder=folder), workers or None)
    print(json.dumps(result.counts))


def start(folder: Path, points: int, workers: int) -> subprocess.Popen[str]:
    """Start a driver."""
    (folder / "calls").mkdir(exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    command = [sys.executable, "-m", "tests.tools.sweep_drivers", str(folder), "--points", str(points), "--drive"]
    command += ["--workers", str(workers)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def kill_drivers(folder: Path, points: int, kills: int, seed: int = 0, workers: int = 0) -> int:
    """Kill drivers after random numbers of points, then let one complete the sweep. Return how many were killed."""
    chance = random.Random(seed)
    killed = 0
    (folder / HELD).write_text(str(points))
    for number in range(kills):
        goal = points * (number + 1) // (kills + 1) - chance.randrange(points // (2 * kills + 2) + 1)
        process = start(folder, points, workers)
        while process.poll() is None and completed(folder) < goal:
            time.sleep(0.002)
        killed += process.poll() is None
        process.kill()
        process.communicate()
    (folder / HELD).unlink()
    last = start(folder, points, workers)
    print(last.communicate()[0].strip())
    assert last.returncode == 0
    return killed


def run_drivers(folder: Path, points: int, drivers: int, workers: int = 0) -> None:
    """Run several drivers of the same sweep at once."""
    processes = [start(folder, points, workers) for _ in range(drivers)]
    for process in processes:
        print(process.communicate()[0].strip())
        assert process.returncode == 0


def completed(folder: Path) -> int:
    """Return the number of points that were begun."""
    return len(os.listdir(folder / "calls"))


def check(folder: Path, points: int) -> dict[str, int]:
    """Check that each point has one run in the right state, was completed once, and has one row in the table.

    The runs and index.csv are read as files, not by notata.
    """
    runs = [json.loads(path.read_text()) for path in folder.glob(f"{NAME}/runs/*/metadata.json")]
    found = {run["row"]["params"]["x"]: run for run in runs}
    assert sorted(found) == list(range(points))
    assert len(runs) == points
    for x, run in found.items():
        assert run["status"] == ("failed" if x % 100 == BAD else "complete"), (x, run["status"])
        calls = len((folder / "calls" / str(x)).read_text().splitlines())
        ends = len(run.get("resumes", [])) + 1
        if x % 100 != BAD:  # a run that was killed is resumed; a complete one never
            assert {entry["after"] for entry in run.get("resumes", [])} <= {"died"}
            assert calls <= ends, (x, calls, ends)
    with open(folder / NAME / "index.csv", newline="") as file:
        rows = {int(row["x"]): row for row in csv.DictReader(file)}
    assert sorted(rows) == list(range(points))
    assert all(rows[x]["status"] == found[x]["status"] for x in rows)
    assert all(rows[x]["y"] == str(2 * x) for x in rows if x % 100 != BAD)
    resumed = sum(bool(run.get("resumes")) for x, run in found.items() if x % 100 != BAD)
    return {"points": points, "resumed": resumed}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--drivers", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0, help="processes of each driver; 0: its own thread")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--drive", action="store_true", help="be one of the drivers")
    given = parser.parse_args()
    if given.drive:
        from tests.tools import sweep_drivers  # the task needs a name that other processes can import

        sweep_drivers.drive(given.folder, given.points, given.workers)
        return
    folder = Path(given.folder)
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    if given.kills:
        print("killed", kill_drivers(folder, given.points, given.kills, given.seed, given.workers))
    if given.drivers:
        run_drivers(folder, given.points, given.drivers, given.workers)
    print(check(folder, given.points), f"{time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
