"""The scripts of the page about clusters run with the packages that they are for."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/tutorials/cluster.md"
POINTS = 4


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the files of the page."""
    for block in re.findall(r"^```(?:python|toml)\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE):
        if found := re.match(r"# (\w+\.(?:py|toml))\n", block):
            tmp_path.joinpath(found[1]).write_text(block.replace('AutoExecutor(folder="slurm_logs")', LOCAL))
    return tmp_path


LOCAL = 'AutoExecutor(folder="slurm_logs", cluster="local")'


@pytest.mark.parametrize(
    "command",
    [
        ["dask_sweep.py"],
        ["-m", "mpi4py.futures", "mpi_sweep.py"],
        ["ray_sweep.py"],
        ["slurm_sweep.py"],
        ["-m", "notata", "sweep", "run", "cavity.py:solve", "space.toml"],
    ],
    ids=["Dask", "MPI", "Ray", "submitit", "job array"],
)
def test_a_script_completes_each_point(folder: Path, command: list[str]) -> None:
    mpi = ["mpiexec", "-n", "3"] if "mpi4py.futures" in command else []
    done = subprocess.run(
        [*mpi, sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"{POINTS} complete" in done.stdout + done.stderr
    assert len(list(folder.glob("outputs/*/runs/log_*/metadata.json"))) == POINTS
