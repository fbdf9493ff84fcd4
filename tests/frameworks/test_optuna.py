"""The callback of Optuna and the runs of trials, in real studies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from notata import Experiment, Logbook, LogReader, RunExistsError
from notata.integrations.optuna import NotataCallback, trial_run
from tests.integrations.rows import params_of, rows_of


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


def study(*, seed: int = 0, **options: Any) -> optuna.Study:
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed), **options)


def test_each_trial_is_a_row_with_the_columns_of_the_data_frame_of_optuna(tmp_path: Path) -> None:
    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", -1, 1)
        depth = trial.suggest_int("depth", 1, 3)
        kernel = trial.suggest_categorical("kernel", ["rbf", "linear"])
        return x**2 + depth + len(kernel)

    search = study()
    with Logbook("a", tmp_path) as log:
        search.optimize(objective, n_trials=4, callbacks=[NotataCallback(log)])
    rows = rows_of(tmp_path / "log_a", "trials")
    table = search.trials_dataframe(attrs=("number", "value", "params", "state", "duration"))
    assert [row["step"] for row in rows] == [0, 1, 2, 3]
    assert {*table.columns} == {*rows[0], "number"} - {"step"}
    for name in ("value", "params_x", "params_depth", "params_kernel", "state"):
        assert [row[name] for row in rows] == list(table[name]), name
    assert [row["duration"] for row in rows] == [duration.total_seconds() for duration in table["duration"]]
    summary = LogReader(tmp_path / "log_a").meta["series_summary"]["trials"]["columns"]["value"]
    assert summary["min"] == search.best_value
    assert summary["min_step"] == search.best_trial.number


def test_failed_and_pruned_trials_have_rows(tmp_path: Path) -> None:
    def objective(trial: optuna.Trial) -> float:
        if trial.number == 0:
            raise ArithmeticError
        if trial.number == 1:
            trial.report(5.0, step=1)
            raise optuna.TrialPruned
        if trial.number == 2:
            raise optuna.TrialPruned
        return trial.suggest_float("x", 0, 1)

    with Logbook("a", tmp_path) as log:
        search = study()
        search.optimize(objective, n_trials=4, callbacks=[NotataCallback(log)], catch=(ArithmeticError,))
    rows = rows_of(tmp_path / "log_a", "trials")
    assert [row["state"] for row in rows] == ["FAIL", "PRUNED", "PRUNED", "COMPLETE"]
    assert [row.get("value") for row in rows] == [trial.value for trial in search.trials]
    assert "params_x" not in rows[0]
    assert "params_x" in rows[3]


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")  # of set_metric_names
def test_several_objectives_and_their_names(tmp_path: Path) -> None:
    def objective(trial: optuna.Trial) -> tuple[float, float]:
        x = trial.suggest_float("x", 0, 1)
        return x, 1 - x

    with Logbook("a", tmp_path) as log:
        search = study(directions=["minimize", "maximize"])
        search.optimize(objective, n_trials=1, callbacks=[NotataCallback(log)])
        search.set_metric_names(["cost", "gain"])
        search.optimize(objective, n_trials=1, callbacks=[NotataCallback(log)])
        single = study()
        single.set_metric_names(["error"])
        single.optimize(lambda trial: 0.5, n_trials=1, callbacks=[NotataCallback(log)])
    first, second, third = rows_of(tmp_path / "log_a", "trials")
    assert [first["values_0"], first["values_1"]] == search.trials[0].values
    assert [second["values_cost"], second["values_gain"]] == search.trials[1].values
    assert third["value_error"] == 0.5


@pytest.mark.parametrize(
    ("choices", "stored"),
    [
        ([None, "l1", 3], ["None", "l1", "3"]),
        ([1, 0.5, 2], [1, 0.5, 2]),
        ([True, False, True], [True, False, True]),
        ([True, "x", 2], ["True", "x", "2"]),
    ],
    ids=["mixed", "numbers", "booleans", "boolean and more"],
)
def test_a_categorical_parameter_has_one_type(choices: list[Any], stored: list[Any], tmp_path: Path) -> None:
    with Logbook("a", tmp_path) as log:
        search = study()
        for choice in choices:
            search.enqueue_trial({"c": choice})
        search.optimize(
            lambda trial: len(str(trial.suggest_categorical("c", choices))),
            n_trials=3,
            callbacks=[NotataCallback(log)],
        )
    assert [row["params_c"] for row in rows_of(tmp_path / "log_a", "trials")] == stored


def test_threads_share_the_callback(tmp_path: Path) -> None:
    with Logbook("a", tmp_path) as log:
        study().optimize(
            lambda trial: trial.suggest_float("x", 0, 1), n_trials=20, n_jobs=4, callbacks=[NotataCallback(log)]
        )
    assert sorted(row["step"] for row in rows_of(tmp_path / "log_a", "trials")) == list(range(20))


def test_each_trial_is_a_run(tmp_path: Path) -> None:
    experiment = Experiment("study", tmp_path)

    def objective(trial: optuna.Trial) -> float:
        with trial_run(experiment, trial, data="digits") as log:
            x = trial.suggest_float("x", 0, 1)
            for step in range(3):
                log.scalars(step=step, loss=x / (step + 1))
            if trial.number == 1:
                raise optuna.TrialPruned
            if trial.number == 2:
                raise ArithmeticError("diverged")
            return x

    search = study()
    search.optimize(objective, n_trials=3, catch=(ArithmeticError,))
    assert [trial.state.name for trial in search.trials] == ["COMPLETE", "PRUNED", "FAIL"]
    runs = [Path(trial.user_attrs["notata_url"]) for trial in search.trials]
    assert [run.name for run in runs] == [f"log_study_data_digits_trial_{number}" for number in range(3)]
    assert [LogReader(run).state.status for run in runs] == ["complete", "complete", "failed"]
    for number, run in enumerate(runs):
        expected = {"trial": number, "data": "digits", "x": search.trials[number].params["x"]}
        assert params_of(run) == (expected | {"pruned": True} if number == 1 else expected)
        assert len(rows_of(run)) == 3
    table = experiment.to_dataframe()
    assert table["loss.min"].tolist() == pytest.approx([trial.params["x"] / 3 for trial in search.trials])

    with pytest.raises(RunExistsError):
        study().optimize(objective, n_trials=1)  # another study


def test_without_a_run_nothing_is_recorded() -> None:
    study().optimize(lambda trial: 1.0, n_trials=1, callbacks=[NotataCallback(None)])
