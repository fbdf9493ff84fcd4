"""Many runs in little time: notata writes a few of them, and the others are copies with ids of their own."""

from __future__ import annotations

import os
from itertools import count as counting
from itertools import islice
from pathlib import Path
from typing import Any

from notata import Experiment, Logbook
from tests.tools.benchmarks.sites import Site

__all__ = ["copy_runs", "write_large_runs", "write_small_runs"]

_WRITTEN = 20
_LINES = 300


def write_large_runs(site: Site) -> None:
    """Write runs of ten files, with a log of 20 kB; each has another ``omega``, and the log of each third an error."""
    import numpy as np

    for number in range(_WRITTEN):
        params = {"omega": 50.0 * number, "dt": 0.01, "solver": {"order": 4}}
        options: dict[str, Any] = {"storage_options": site.options, "heartbeat": 0, "code": False}
        with Logbook(f"written-{number:02}", site.url, params, **options) as log:
            for step in range(_LINES):
                log.info("step %d of %d: residual %.3e, energy drift %.3e", step, _LINES, 1 / (step + 1), 1e-9 * step)
            if number % 3 == 0:
                log.error("step %d: the residual grows", _LINES)
            log.json("metrics", {"error": 1e-3 * number, "steps": 1000})
            log.text("notes", "converged\n" * 10)
            log.json("config", {"grid": [64, 64], "scheme": "upwind"})
            for name in ("t", "x", "v"):
                log.array(name, np.linspace(0.0, 1.0, 200))


def write_small_runs(folder: Path, runs: int) -> tuple[Path, Path]:
    """Write an experiment of runs with parameters, ten lines and metrics, and as many runs outside an experiment.

    Returns:
        The folders of both.
    """
    experiment = Experiment("sweep", folder)
    outside = folder / "outside"
    for number in range(_WRITTEN):
        params: dict[str, Any] = {"dt": 0.001 * (number + 1), "depth": number % 7, "scheme": "leapfrog"}
        with experiment.add(**params) as log:
            _fill(log, number)
        with Logbook(f"written-{number:02}", outside, params, heartbeat=0) as log:
            _fill(log, number)
    copy_runs(folder / "sweep" / "runs", runs)
    copy_runs(outside, runs)
    experiment.write_index()
    return folder / "sweep", outside


def _fill(log: Logbook, number: int) -> None:
    for step in range(10):
        log.info("step %d", step)
    log.json("metrics", {"loss": 1 / (number + 1), "accuracy": 0.5, "steps": 10 * number})


def copy_runs(folder: Path, runs: int) -> None:
    """Copy the runs of a folder in turn, until it has `runs`.

    Files without the id are hard links, so they have the versions on this disk that notata has recorded.
    """
    written = sorted(folder.glob("log_*"))
    names = (f"{path.name}-{number:05}" for number in counting() for path in written)
    for number, name in enumerate(islice(names, max(0, runs - len(written)))):
        _copy(written[number % len(written)], folder / name)


def _copy(run: Path, copy: Path) -> None:
    own, new = run.name.removeprefix("log_").encode(), copy.name.removeprefix("log_").encode()
    for source in run.rglob("*"):
        target = copy / source.relative_to(run)
        if source.is_dir():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.parent == run and source.suffix == ".json":
            target.write_bytes(source.read_bytes().replace(own, new))
        else:
            os.link(source, target)
