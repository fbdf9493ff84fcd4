"""Sweeps with submitit: as processes of this machine, and in this process. Slurm has the same interface."""

from __future__ import annotations

import gc
import os
import signal
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import submitit

from notata import Experiment, Logbook
from notata.sweep import grid
from notata.sweep.adapters import Submitit
from tests.engines import checks
from tests.sweep.cluster_tasks import stored


def executor(folder: Path, cluster: str = "local") -> Any:
    made = submitit.AutoExecutor(folder / "jobs", cluster=cluster)
    made.update_parameters(timeout_min=5)
    return made


def test_each_point_is_calculated_once(tmp_path: Path) -> None:
    checks.check_plain(executor(tmp_path), tmp_path)


def test_in_this_process(tmp_path: Path) -> None:
    checks.check_plain(executor(tmp_path, "debug"), tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # submitit does not close the log files of these jobs
        gc.collect()


def test_the_code_of_a_task_is_sent(tmp_path: Path) -> None:
    checks.check_code(executor(tmp_path), tmp_path)


def test_a_killed_job_is_submitted_again(tmp_path: Path) -> None:
    checks.check_killed(executor(tmp_path), tmp_path)


def test_ctrl_c_lets_the_runs_end_that_have_begun(tmp_path: Path) -> None:
    """Local jobs begin at once, so as many are submitted as there are processors, and none waits."""
    checks.check_interrupted(executor(tmp_path), tmp_path, queued=1, is_cancelled=False)


def preempted_once(log: Logbook, number: int, folder: str) -> dict[str, int]:
    try:
        (Path(folder) / "was_preempted").touch(exist_ok=False)
    except FileExistsError:
        return {"square": number**2}
    os.kill(os.getpid(), signal.SIGUSR2)  # what Slurm sends before the time limit
    raise AssertionError("not reached")


def test_a_preempted_job_is_queued_again_and_resumes_its_run(tmp_path: Path) -> None:
    task = partial(preempted_once, folder=str(tmp_path))
    result = Experiment("preempted", tmp_path).sweep(task, grid(number=[4]), Submitit(executor(tmp_path), interval=0.1))
    assert result.complete == 1
    assert stored(tmp_path / "preempted") == {4: ("complete", ["failed"])}
