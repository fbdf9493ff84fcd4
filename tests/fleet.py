"""A folder with other files and runs of every kind: complete, failed, dead, running, broken, of 0.3.0, oddly named.

It is made once on a disk; `tests/cli/conftest.py` copies the same bytes to buckets.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np

from notata import Experiment, Logbook

__all__ = ["ESCAPES", "ODD", "RUNS", "fill"]

ODD = "ünï [1] it's"
"""A run id with characters that are special in shells, patterns and terminals."""

ESCAPES = "\x1b]0;owned\x07\x1b[31mred\x1b[0m \x9b2J café\n"
"""Text that would set the title of a terminal and clear the screen."""

RUNS = {
    "log_broken": "unreadable",
    "log_died": "died",
    "log_log_a": "complete",
    "log_lost": "unreadable",
    "log_notes": "complete",
    "log_old": "complete",
    "log_running": "running",
    f"log_{ODD}": "complete",
    "sweep/runs/log_sweep_dt_0.1_omega_2": "complete",
    "sweep/runs/log_sweep_dt_0.2_omega_2": "complete",
    "sweep/runs/log_sweep_dt_0.4_omega_2": "failed",
}
"""The runs that `fill` creates, with their status."""

_DIES = """
import os, sys
from notata import Logbook
log = Logbook("died", sys.argv[1], params={"omega": 3.0}, heartbeat=30)
log.info("last words")
log.text("notes", "unfinished")
log.flush()
os._exit(9)
"""


def fill(folder: Path) -> Logbook:
    """Create all of `RUNS` and some other files; return the running run, which the caller must keep alive."""
    _ended(folder)
    _swept(folder)
    subprocess.run([sys.executable, "-c", _DIES, str(folder)], check=False)
    _old(folder / "log_old")
    (folder / "log_broken").mkdir()
    (folder / "log_broken/metadata.json").write_text("{not json")
    (folder / "log_broken/log.txt").write_text("[2026-03-01T09:30:00] INFO begun\n")
    with Logbook("lost", folder) as lost:
        lost.text("notes", "who am I")
    (folder / "log_lost/metadata.json").unlink()
    (folder / "README.txt").write_text("runs of spring; ERROR is a word here too\n")
    (folder / "logs").mkdir()
    (folder / "logs/foreign.txt").write_text("no run\n")
    (folder / "empty").mkdir()
    # without a heartbeat, which would change the files while they are copied and compared
    running = Logbook("running", folder, params={"omega": 4.0, "dt": 0.05}, heartbeat=3600)
    running.info("step 1 of 3")
    running.warning("residual is large")
    running.flush()
    return running


def _ended(folder: Path) -> None:
    with Logbook("notes", folder, params={"omega": 2.0, "solver": {"name": "rk4", "order": 4}}) as log:
        log.info("begun with omega=2.0")
        log.warning("step size is at its minimum")
        log.error("no convergence\nin two lines")
        log.text("notes", "converged\nERROR in the middle\nlast line without end")
        log.text("evil", ESCAPES)
        log.json("metrics", {"energy": 0.5, "steps": 1000, "note": "fine"})
        log.json("nested/deep/config", {"a": [1, 2, {"b": None}], "text": "ERROR"})
        log.array("energy", np.linspace(0.0, 1.0, 11))
        log.array("states/grid", np.arange(12.0).reshape(3, 4))
        log.arrays("trajectory", t=np.array([0.0, 0.5, 1.0]), x=np.array([1, 2, 3]))
        log.pickle("model", {"weights": [1.0, 2.0], "name": "ERROR"})
        log.bytes("signal.raw", bytes(range(256)))
        log["artifacts/table.csv"].write_text("step,loss\n1,0.5\n2,0.25\n")
        with log.worker(3) as worker:
            worker.info("ERROR of a worker")
    with Logbook("log_a", folder, params={"omega": 5}) as log:
        log.info("a name that begins like a folder")
    with Logbook(ODD, folder, params={"omega": 0.5, "dt": 0.05}) as log:
        log.info("odd name")
        log.json("metrics", {"energy": 2.5})


def _swept(folder: Path) -> None:
    experiment = Experiment("sweep", folder)
    for dt in (0.1, 0.2, 0.4):
        with suppress(ArithmeticError), experiment.add(dt=dt, omega=2) as log:
            log.info("dt is %g", dt)
            if dt > 0.3:
                raise ArithmeticError(f"the step {dt} is unstable")
            log.json("metrics", {"error": dt**2, "steps": int(1 / dt)})


def _old(folder: Path) -> None:
    """Create a run as notata 0.3.0 left it."""
    (folder / "artifacts").mkdir(parents=True)
    times = {"start_time": "2025-03-01T09:30:00.000000", "end_time": "2025-03-01T09:31:30.500000"}
    metadata = {"status": "complete", **times, "runtime_sec": 90.5, "run_id": "old"}
    (folder / "metadata.json").write_text(json.dumps(metadata, indent=2))
    (folder / "params.yaml").write_text("omega: 1.5\ndt: 0.01\n")
    (folder / "log.txt").write_text("[2025-03-01T09:30:00] INFO Logbook initialized\n")
    (folder / "artifacts/metrics.json").write_text('{"energy": 1.25}')
    buffer = io.BytesIO()
    np.save(buffer, np.ones(3))
    (folder / "data").mkdir()
    (folder / "data/x.npy").write_bytes(buffer.getvalue())
