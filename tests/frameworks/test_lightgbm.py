"""The callback of LightGBM, in real trainings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest

from notata import Logbook, LogReader
from notata.integrations.lightgbm import NotataCallback
from tests.integrations.rows import params_of, rows_of

DATA = np.random.default_rng(0).random((80, 3))
TARGET = DATA.sum(axis=1)
PARAMS: dict[str, Any] = {"num_leaves": 4, "num_threads": 1, "verbosity": -1, "metric": ["l2", "l1"]}


def train(*callbacks: Any, rounds: int = 3, **more: Any) -> lightgbm.Booster:
    data = lightgbm.Dataset(DATA, TARGET)
    valid = lightgbm.Dataset(DATA[:40], TARGET[:40], reference=data)
    names = ["train", "valid"]
    return lightgbm.train(
        dict(PARAMS), data, rounds, valid_sets=[data, valid], valid_names=names, callbacks=[*callbacks], **more
    )


def test_each_iteration_is_a_row(tmp_path: Path) -> None:
    history: dict[str, dict[str, list[float]]] = {}
    with Logbook("a", tmp_path, params={"data": "random"}) as log:
        train(NotataCallback(log), lightgbm.record_evaluation(history))
        assert log.status == "initialized"
    columns = {f"{name}/{metric}": v for name, metrics in history.items() for metric, v in metrics.items()}
    assert sorted(columns) == ["train/l1", "train/l2", "valid/l1", "valid/l2"]
    expected = [{"step": step, **{name: column[step] for name, column in columns.items()}} for step in range(3)]
    assert rows_of(tmp_path / "log_a") == expected
    found = params_of(tmp_path / "log_a")
    assert found["data"] == "random"
    assert {name: found[name] for name in PARAMS} == PARAMS
    assert LogReader(tmp_path / "log_a").state.status == "complete"


def test_a_continued_model_continues_the_steps(tmp_path: Path) -> None:
    with Logbook("a", tmp_path) as log:
        first = train(NotataCallback(log), rounds=2)
        train(NotataCallback(log), rounds=2, init_model=first)
    assert [row["step"] for row in rows_of(tmp_path / "log_a")] == [0, 1, 2, 3]


def test_cross_validation_has_means_and_deviations(tmp_path: Path) -> None:
    with Logbook("a", tmp_path) as log:
        found = lightgbm.cv(
            dict(PARAMS), lightgbm.Dataset(DATA, TARGET), 3, nfold=3, stratified=False, callbacks=[NotataCallback(log)]
        )
    rows = rows_of(tmp_path / "log_a")
    assert {name.replace(" ", "/") for name in found} == {*rows[0]} - {"step"}
    for name, values in found.items():
        assert [row[name.replace(" ", "/")] for row in rows] == pytest.approx(values)


def test_early_stopping_loses_no_row(tmp_path: Path) -> None:
    data = lightgbm.Dataset(DATA, TARGET)
    held_out = lightgbm.Dataset(DATA, np.random.default_rng(1).random(80), reference=data)
    printed: list[str] = []
    lightgbm.register_logger(Lines(printed))
    with Logbook("a", tmp_path) as log:
        model = lightgbm.train(
            PARAMS | {"verbosity": 1},
            data,
            50,
            valid_sets=[held_out],
            callbacks=[lightgbm.early_stopping(2), NotataCallback(log), lightgbm.log_evaluation()],
        )
    rounds = [line for line in printed if line.startswith("[") and "valid_0's" in line]
    assert model.best_iteration < len(rounds) < 50
    assert [row["step"] for row in rows_of(tmp_path / "log_a")] == [*range(len(rounds))]


class Lines:
    """A logger for LightGBM."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def info(self, line: str) -> None:
        self._lines.append(line)

    warning = info


def test_the_class_for_scikit_learn(tmp_path: Path) -> None:
    with Logbook("a", tmp_path) as log:
        model = lightgbm.LGBMRegressor(n_estimators=2, n_jobs=1, verbosity=-1, num_leaves=4)
        model.fit(DATA, TARGET, eval_X=DATA, eval_y=TARGET, callbacks=[NotataCallback(log)])
        log.pickle("model", model)
    assert [list(row) for row in rows_of(tmp_path / "log_a")] == [["step", "training/l2"]] * 2
    assert params_of(tmp_path / "log_a")["num_leaves"] == 4


def test_an_objective_of_ones_own_is_a_name_in_the_parameters(tmp_path: Path) -> None:
    def squared(predicted: Any, data: Any) -> tuple[Any, Any]:
        difference = predicted - data.get_label()
        return difference, np.ones_like(difference)

    with Logbook("a", tmp_path) as log:
        lightgbm.train(
            {**PARAMS, "objective": squared},
            lightgbm.Dataset(DATA, TARGET),
            1,
            callbacks=[NotataCallback(log)],
        )
    found = params_of(tmp_path / "log_a")
    assert found.get("objective", "none").endswith(("squared", "none"))
    assert not (tmp_path / "log_a/series").exists()  # no data to evaluate, so no row


def test_a_worker_has_rows_and_no_parameters(tmp_path: Path) -> None:
    with Logbook("a", tmp_path) as log, log.worker(1) as worker:
        train(NotataCallback(worker))
    assert len(rows_of(tmp_path / "log_a/workers/1")) == 3
    assert params_of(tmp_path / "log_a") == {}


def test_without_a_run_nothing_is_recorded() -> None:
    train(NotataCallback(None))
