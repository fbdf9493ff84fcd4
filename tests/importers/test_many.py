"""1000 runs of MLflow and of TensorBoard: table and curves are those that the tools report; time and requests.

``pytest -s --confcutdir tests/importers tests/importers/test_many.py`` prints the times that are in
``docs/how-to/importing.md``.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from notata import ExperimentReader
from notata.importing import import_runs
from notata.store import open_store
from notata.testing import FaultyBackend
from tests.importers.test_tensorboard import reported, same_curves
from tests.importing.sources import points

RUNS = 1000
STEPS = 20
NAMES = ("loss", "accuracy", "val/loss")


def values(number: int, name: str) -> list[float]:
    """Return the values of one metric of one run."""
    chance = np.random.default_rng([number, NAMES.index(name)])
    return [float(value) for value in chance.normal(size=STEPS)]


def params(number: int) -> dict[str, Any]:
    return {
        "lr": 0.1 / (number + 1),
        "seed": number,
        "optimizer": "adam",
        "flag": number % 2 == 0,
        "layers": f"{number}-2",
    }


def measured(kind: str, source: Path, to: Path) -> list[str]:
    """Import the runs to a disk and to a memory that counts; print times and numbers of operations; return the URLs."""
    begin = time.perf_counter()
    report = import_runs(kind, source, to)
    took = time.perf_counter() - begin
    begin = time.perf_counter()
    assert import_runs(kind, source, to).equal == report.new
    again = time.perf_counter() - begin
    counting = FaultyBackend(open_store(f"memory://many-{kind}"))
    import_runs(kind, source, counting)
    verbs = Counter(operation.verb for operation in counting.operations if "index" not in operation.key)
    print(f"\n{kind}: {len(report.new)} runs in {took:.1f} s, again {again:.1f} s; at the destination {dict(verbs)}")
    written = verbs["put"] + verbs["commit"]
    assert written <= (3 + 3) * RUNS  # claim, manifest and end; parameters, metrics and the series
    assert sum(verbs.values()) - written <= RUNS + 100
    return list(report.new)


@pytest.fixture(scope="module")
def mlruns(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """Record runs with MLflow's client; return the folder and the client."""
    import os

    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    folder = tmp_path_factory.mktemp("many") / "mlruns"
    client = MlflowClient(f"file://{folder}")
    experiments = [client.create_experiment(name) for name in ("one", "two")]
    for number in range(RUNS):
        run = client.create_run(experiments[number % 2], run_name=f"run {number}")
        metrics = [
            Metric(name, value, 1_772_350_200_000 + 10 * number + step, step)
            for name in NAMES
            for step, value in enumerate(values(number, name))
        ]
        client.log_batch(run.info.run_id, metrics, [Param(name, str(value)) for name, value in params(number).items()])
        client.set_terminated(run.info.run_id, "FAILED" if number % 10 == 9 else "FINISHED")
    return folder, client


def test_mlflow_reports_the_same(mlruns: tuple[Path, Any], tmp_path: Path) -> None:
    folder, client = mlruns
    urls = measured("mlruns", folder, tmp_path / "to")
    assert len(urls) == RUNS
    names = {experiment.experiment_id: experiment.name for experiment in client.search_experiments()}
    wanted = {run.info.run_id: run for run in client.search_runs(list(names), max_results=2 * RUNS)}
    tables = {name: ExperimentReader(tmp_path / "to" / name).table() for name in ("one", "two")}
    rows = {row["run_id"]: (name, row) for name, table in tables.items() for row in table}
    assert rows.keys() == wanted.keys()
    for run_id, run in wanted.items():
        experiment, row = rows[run_id]
        assert experiment == names[run.info.experiment_id]
        assert row["status"] == {"FINISHED": "complete", "FAILED": "failed"}[run.info.status]
        assert {name: str(row[name]) for name in run.data.params} == run.data.params
        assert {name: row[name] for name in NAMES} == run.data.metrics
        found = points(str(tmp_path / "to" / experiment / f"runs/log_{run_id}"))
        for name in NAMES:
            history = client.get_metric_history(run_id, name)
            assert found[name] == [(one.step, one.timestamp / 1000, one.value) for one in history]


def test_tensorboard_reports_the_same(tmp_path: Path) -> None:
    from tensorboardX import SummaryWriter

    source = tmp_path / "logs"
    for number in range(RUNS):
        log = SummaryWriter(str(source / f"sweep/{number}"))
        columns = {name: values(number, name) for name in NAMES}
        for step in range(STEPS):
            for name in NAMES:
                log.add_scalar(name, columns[name][step], step)
        log.close()
    urls = measured("tensorboard", source, tmp_path / "to")
    assert len(urls) == RUNS
    table = {row["run_id"]: row for row in ExperimentReader(tmp_path / "to").table()}
    for number in range(RUNS):
        wanted = reported(source / f"sweep/{number}")
        run_id = f"sweep--{number}"
        assert same_curves(points(str(tmp_path / f"to/runs/log_{run_id}")), wanted)
        assert {name: table[run_id][name] for name in NAMES} == {name: wanted[name][-1][2] for name in NAMES}
