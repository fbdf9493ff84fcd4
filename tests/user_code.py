"""User scripts for the type checker: ``mypy`` reads this file, and it is never executed.

A ``type: ignore`` here means that the checker must complain; an unneeded one is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_type

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from notata import Experiment, ExperimentReader, Logbook, LogReader


def paths_are_taken_by_name(log: Logbook, reader: LogReader, experiment: Experiment, runs: ExperimentReader) -> None:
    with open(log["artifacts/notes.txt"], "w") as file:
        file.write("converged")
    np.save(log["data/x.npy"], np.zeros(3))
    np.load(log.array("x", [0.0]))
    frame = pd.read_csv(log["artifacts/table.csv"])
    frame.to_csv(log.datadir / "table.csv")
    plt.figure().savefig(log.plotdir / "energy.png")
    open(log.log_path)
    open(log.text("notes", "x").parent / "more.txt")
    pd.read_csv(reader["artifacts/table.csv"])
    for path in reader.path.iterdir():
        open(path)
    pd.read_csv(experiment.index_file)
    open(runs.runs[0] / "metadata.json")
    log["artifacts/notes.txt"].write_text("x")


async def decorated_functions_keep_their_signatures(log: Logbook) -> None:
    @log.catch(ValueError)
    def area(width: float, *, height: float = 1.0) -> float:
        return width * height

    @log.catch(reraise=True)
    def steps(count: int) -> list[int]:
        return list(range(count))

    @log.catch()
    async def fetch(url: str) -> bytes:
        return url.encode()

    assert_type(area(2.0, height=3.0), float | None)
    assert_type(steps(3), list[int])
    assert_type(await fetch("x"), bytes | None)
    area("2")  # type: ignore[arg-type]
    steps(kount=3)  # type: ignore[call-arg]

    def plain(function: Callable[[int], list[int]]) -> None: ...

    plain(steps)


def a_run_that_may_be_left_is_none(experiment: Experiment) -> None:
    assert_type(experiment.add(dt=0.1), Logbook)
    assert_type(experiment.add(skip_existing=True, dt=0.1), Logbook | None)
    with experiment.add(skip_existing="complete", dt=0.1):  # type: ignore[union-attr]
        pass
