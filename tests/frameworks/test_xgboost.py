"""The callback of XGBoost, in real trainings."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import xgboost

from notata import Logbook, LogReader
from notata.integrations.xgboost import NotataCallback
from tests.integrations.rows import rows_of

DATA = np.random.default_rng(0).random((60, 3))
TARGET = DATA.sum(axis=1)
PARAMS = {"max_depth": 2, "nthread": 1}


def matrix() -> xgboost.DMatrix:
    return xgboost.DMatrix(DATA, TARGET)


def test_each_round_is_a_row(tmp_path: Path) -> None:
    history: dict[str, dict[str, list[float]]] = {}
    data = matrix()
    with Logbook("a", tmp_path) as log:
        xgboost.train(
            PARAMS | {"eval_metric": ["rmse", "mae"]},
            data,
            3,
            evals=[(data, "train"), (data, "valid")],
            callbacks=[NotataCallback(log)],
            evals_result=history,
            verbose_eval=False,
        )
        assert log.status == "initialized"
    columns = {f"{name}-{metric}": v for name, metrics in history.items() for metric, v in metrics.items()}
    assert sorted(columns) == ["train-mae", "train-rmse", "valid-mae", "valid-rmse"]
    expected = [{"step": step, **{name: column[step] for name, column in columns.items()}} for step in range(3)]
    assert rows_of(tmp_path / "log_a") == expected
    config = json.loads((tmp_path / "log_a/artifacts/xgboost_config.json").read_text())
    assert config["learner"]["gradient_booster"]["tree_train_param"]["max_depth"] == "2"
    assert LogReader(tmp_path / "log_a").state.status == "complete"


def test_a_continued_model_continues_the_steps(tmp_path: Path) -> None:
    data = matrix()
    with Logbook("a", tmp_path) as log:
        callback = NotataCallback(log)
        first = xgboost.train(PARAMS, data, 2, evals=[(data, "d")], callbacks=[callback], verbose_eval=False)
        xgboost.train(PARAMS, data, 2, evals=[(data, "d")], callbacks=[callback], verbose_eval=False, xgb_model=first)
    assert [row["step"] for row in rows_of(tmp_path / "log_a")] == [0, 1, 2, 3]


def test_cross_validation_has_means_and_deviations(tmp_path: Path) -> None:
    with Logbook("a", tmp_path) as log:
        table = xgboost.cv(PARAMS, matrix(), 3, nfold=3, callbacks=[NotataCallback(log)])
    rows = rows_of(tmp_path / "log_a")
    assert list(table.columns) == [name for name in rows[0] if name != "step"]
    for name in table.columns:
        assert [row[name] for row in rows] == pytest.approx(list(table[name]))
    assert not (tmp_path / "log_a/artifacts").exists()


@pytest.mark.parametrize("stops_first", [True, False])
def test_early_stopping_loses_no_row(stops_first: bool, tmp_path: Path) -> None:
    noise = np.random.default_rng(1).random(60)
    held_out = xgboost.DMatrix(DATA, noise)
    with Logbook("a", tmp_path) as log:
        stop, record = xgboost.callback.EarlyStopping(rounds=2), NotataCallback(log)
        model = xgboost.train(
            PARAMS,
            matrix(),
            50,
            evals=[(held_out, "valid")],
            callbacks=[stop, record] if stops_first else [record, stop],
            verbose_eval=False,
        )
    assert model.num_boosted_rounds() < 50
    assert [row["step"] for row in rows_of(tmp_path / "log_a")] == [*range(model.num_boosted_rounds())]


def test_the_class_for_scikit_learn_can_be_pickled_and_cloned(tmp_path: Path) -> None:
    from sklearn.base import clone

    with Logbook("a", tmp_path) as log:
        model = xgboost.XGBRegressor(n_estimators=2, n_jobs=1, callbacks=[NotataCallback(log)])
        clone(model).fit(DATA, TARGET, eval_set=[(DATA, TARGET)], verbose=False)
        model.fit(DATA, TARGET)  # no metric, so no row
        log.pickle("model", model)
        copy = LogReader(log.path).load_pickle("model")
        copy.fit(DATA, TARGET, eval_set=[(DATA, TARGET)], verbose=False)  # not recorded: the copy has no run
    rows = rows_of(tmp_path / "log_a")
    assert [list(row) for row in rows] == [["step", "validation_0-rmse"]] * 2


def test_a_worker_goes_with_the_pickle(tmp_path: Path) -> None:
    with Logbook("a", tmp_path) as log, log.worker(1) as worker:
        callback = pickle.loads(pickle.dumps(NotataCallback(worker)))
        callback.after_iteration(None, 4, {"train": {"rmse": [0.5]}})
    assert rows_of(tmp_path / "log_a/workers/1") == [{"step": 4, "train-rmse": 0.5}]


def test_without_a_run_nothing_is_recorded() -> None:
    data = matrix()
    xgboost.train(PARAMS, data, 2, evals=[(data, "d")], callbacks=[NotataCallback(None)], verbose_eval=False)
