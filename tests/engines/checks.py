"""The same sweeps on each engine, and what must be stored of them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from notata import Experiment
from notata.sweep import SweepInterrupted, SweepResult, grid
from tests.sweep.cluster_tasks import KILLED, check_stored, dies_once, square, stored

POINTS = 8


def check_plain(executor: Any, folder: Path) -> None:
    """Sweep twice: the first sweep calculates each point once, the second one skips what is complete."""
    experiment = Experiment("plain", folder)
    result = experiment.sweep(square, grid(number=range(POINTS)), executor, retries=0)
    assert (result.complete, result.failed, result.lost) == (POINTS - 1, 1, 0), result.failures
    assert result.failures[0].reason == "no square of 3"
    check_stored(folder / "plain", POINTS)
    again = experiment.sweep(square, grid(number=range(POINTS)), executor, retries=0)
    assert (again.complete, again.skipped, again.failed) == (0, POINTS - 1, 1)
    assert all(resumes == [] for _, resumes in stored(folder / "plain").values())


def check_code(executor: Any, folder: Path) -> None:
    """Sweep with a task that the processes cannot import."""
    offset = 5
    result = Experiment("code", folder).sweep(lambda log, number: {"y": number + offset}, grid(number=[1, 2]), executor)
    assert sorted(row["y"] for row in result.table()) == [6, 7]


def check_killed(executor: Any, folder: Path) -> SweepResult:
    """Sweep while one process is killed in the middle of a run."""
    task = partial(dies_once, folder=str(folder))
    result = Experiment("killed", folder).sweep(task, grid(number=range(POINTS)), executor, retries=0)
    assert (folder / "was_killed").exists()
    assert (result.complete + result.skipped, result.failed, result.lost) == (POINTS - 1, 1, 0), result.failures
    check_stored(folder / "killed", POINTS)
    assert stored(folder / "killed")[KILLED] == ("complete", ["died"])
    return result


def waiting(log: Any, number: int, folder: str) -> dict[str, int]:
    """Wait for the file ``go``."""
    (Path(folder) / f"begun-{number}").touch()
    while not (Path(folder) / "go").exists():
        time.sleep(0.02)
    return {"square": number**2}


def interrupting(folder: Path, points: int, queued: int) -> Iterator[dict[str, int]]:
    """Yield points; once `queued` of them are submitted and one runs, press Ctrl-C, then let those go on that run."""
    yielded = threading.Semaphore(0)

    def press() -> None:
        for _ in range(queued):
            yielded.acquire()
        while not list(folder.glob("begun-*")):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
        (folder / "go").touch()

    threading.Thread(target=press, daemon=True).start()
    for number in range(points):
        yield {"number": number}
        yielded.release()


def check_interrupted(executor: Any, folder: Path, *, queued: int = 40, is_cancelled: bool = True) -> None:
    """Press Ctrl-C: the runs that have begun end, and the others never begin.

    Args:
        executor: The executor.
        folder: A folder for the runs.
        queued: The number of points that are submitted before.
        is_cancelled: Whether the engine can cancel calls that have not begun.
    """
    points = 60
    experiment = Experiment("interrupted", folder)
    task = partial(waiting, folder=str(folder))
    try:
        experiment.sweep(task, interrupting(folder, points, queued), executor, max_in_flight=queued + 1)
    except SweepInterrupted as interrupt:
        result = interrupt.result
    else:
        raise AssertionError("not interrupted")
    runs = stored(folder / "interrupted")
    assert 0 < len(runs) < (min(queued, 12) if is_cancelled else points)
    assert {status for status, _ in runs.values()} == {"complete"}
    assert result.complete == len(runs) == len(list(folder.glob("begun-*")))
    assert not is_cancelled or result.cancelled >= queued - len(runs)
