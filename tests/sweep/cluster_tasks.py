"""Tasks of sweeps in other processes, and what is stored of them, read with json and csv."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path
from typing import Any

from notata import Logbook

__all__ = ["FAILING", "KILLED", "check_stored", "dies_always", "dies_once", "rows", "square", "stored"]

FAILING = 3
"""The point whose task raises an exception."""

KILLED = 5
"""The point whose task is killed with its process."""


def square(log: Logbook, number: int) -> dict[str, int]:
    if number == FAILING:
        raise ArithmeticError("no square of 3")
    return {"square": number**2}


def dies_once(log: Logbook, number: int, folder: str) -> dict[str, int]:
    """Kill the process of the first attempt, in the middle of the run."""
    if number == KILLED:
        try:
            (Path(folder) / "was_killed").touch(exist_ok=False)
        except FileExistsError:
            pass
        else:
            os.kill(os.getpid(), signal.SIGKILL)
    return square(log, number)


def dies_always(log: Logbook, number: int) -> dict[str, int]:
    if number == KILLED:
        os.kill(os.getpid(), signal.SIGKILL)
    return square(log, number)


def stored(experiment: Path) -> dict[int, tuple[str, list[str]]]:
    """Return the status of each run, and the states after which it was resumed."""
    found = {}
    for path in experiment.glob("runs/*/metadata.json"):
        fields: dict[str, Any] = json.loads(path.read_bytes())
        number = fields["row"]["params"]["number"]
        assert number not in found
        found[number] = fields["status"], [resume["after"] for resume in fields.get("resumes", [])]
    return found


def rows(experiment: Path) -> dict[int, tuple[str, str]]:
    """Return status and square of each point in index.csv."""
    with (experiment / "index.csv").open(newline="") as file:
        lines = list(csv.DictReader(file, strict=True))
    found = {int(line["number"]): (line["status"], line["square"]) for line in lines}
    assert len(found) == len(lines)
    return found


def check_stored(experiment: Path, points: int) -> None:
    """Check that each point was recorded once."""
    runs, table = stored(experiment), rows(experiment)
    for number in range(points):
        status = "failed" if number == FAILING else "complete"
        assert runs[number][0] == status
        assert table[number] == (status, "" if number == FAILING else str(number**2))
    assert len(runs) == len(table) == points
