"""Sweeps on `mpi4py.futures.MPIPoolExecutor`, in scripts that mpiexec starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.engines import checks
from tests.sweep.cluster_tasks import check_stored

SCRIPT = """
import sys

from mpi4py.futures import MPIPoolExecutor
from notata import Experiment
from notata.sweep import grid
from tests.sweep.cluster_tasks import {task} as task


if __name__ == "__main__":
    with MPIPoolExecutor() as executor:
        print(Experiment("{name}", sys.argv[1]).sweep(task, grid(number=range(8)), executor, retries=0).counts)
"""


def run(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    script = folder / "script.py"
    script.write_text(text)
    command = ["mpiexec", "-n", "3", sys.executable, "-m", "mpi4py.futures", str(script), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_each_point_is_calculated_once(tmp_path: Path) -> None:
    done = run(tmp_path, SCRIPT.format(task="square", name="plain"))
    assert "'complete': 7, 'skipped': 0, 'failed': 1, 'lost': 0" in done.stdout, done.stderr
    check_stored(tmp_path / "plain", checks.POINTS)


def test_a_task_of_the_script(tmp_path: Path) -> None:
    text = SCRIPT.format(task="square", name="plain").replace(
        "\n\nif", "\n\ndef task(log, number):\n    return {'square': number**2}\n\n\nif"
    )
    assert "'complete': 8" in run(tmp_path, text).stdout


def test_a_killed_rank_ends_the_job_and_the_next_one_does_what_is_left(tmp_path: Path) -> None:
    """MPI ends all ranks together with the one that was killed, the driver included."""
    assert run(tmp_path, SCRIPT.format(task="dies_always", name="killed")).returncode != 0
    done = run(tmp_path, SCRIPT.format(task="square", name="killed"))
    assert "'failed': 1, 'lost': 0, 'busy': 0, 'cancelled': 0" in done.stdout, done.stderr
    check_stored(tmp_path / "killed", checks.POINTS)
