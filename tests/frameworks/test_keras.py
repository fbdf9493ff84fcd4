"""The callback of Keras, in real trainings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from notata import Logbook, LogReader
from notata.integrations.keras import NotataCallback
from tests.integrations.rows import params_of, rows_of

X = np.linspace(0, 1, 12)[:, None]


def line() -> Any:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1), "mse", metrics=["mae"])
    return model


def fit(model: Any, *callbacks: Any, **options: Any) -> Any:
    settings = {"epochs": 3, "batch_size": 4, "validation_split": 0.25, "verbose": 0}
    return model.fit(X, 2 * X, callbacks=[*callbacks], **{**settings, **options})


def test_each_epoch_is_a_row_and_the_optimizer_a_parameter(tmp_path: Path) -> None:
    with Logbook("a", tmp_path, params={"data": "line"}) as log:
        history = fit(line(), NotataCallback(log))
        assert log.status == "initialized"
    rows = rows_of(tmp_path / "log_a")
    assert [row["step"] for row in rows] == [0, 1, 2]
    assert {*history.history} == {"loss", "mae", "val_loss", "val_mae"}
    for name, values in history.history.items():
        assert [row[name] for row in rows] == pytest.approx(values)
    assert [row["learning_rate"] for row in rows] == pytest.approx([0.1] * 3)
    found = params_of(tmp_path / "log_a")
    assert (found["data"], found["epochs"], found["steps_per_epoch"]) == ("line", 3, 3)
    assert found["optimizer"]["learning_rate"] == pytest.approx(0.1)
    assert not (tmp_path / "log_a/series/batches.jsonl").exists()
    assert LogReader(tmp_path / "log_a").state.status == "complete"


def test_a_schedule_shows_in_the_learning_rate(tmp_path: Path) -> None:
    model = line()
    halving = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2 if epoch else rate)
    with Logbook("a", tmp_path) as log:
        fit(model, halving, NotataCallback(log))
    assert [row["learning_rate"] for row in rows_of(tmp_path / "log_a")] == pytest.approx([0.1, 0.05, 0.025])

    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.5)), "mse")
    with Logbook("b", tmp_path) as log:
        fit(model, NotataCallback(log))
    assert [row["learning_rate"] for row in rows_of(tmp_path / "log_b")] == pytest.approx([0.05, 0.025, 0.0125])
    assert params_of(tmp_path / "log_b")["optimizer"]["learning_rate"]["class_name"] == "ExponentialDecay"


def test_batches_have_a_series_of_their_own(tmp_path: Path) -> None:
    seen: list[float] = []
    spy = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(logs["loss"]))
    with Logbook("a", tmp_path) as log:
        fit(line(), NotataCallback(log, batches=2), spy)
    rows = rows_of(tmp_path / "log_a", "batches")
    assert [row["step"] for row in rows] == [1, 3, 5, 7]
    assert [row["loss"] for row in rows] == pytest.approx(seen[1::2])


def test_a_training_that_goes_on_continues_the_steps(tmp_path: Path) -> None:
    model = line()
    fails = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: 1 / (epoch - 2))
    with pytest.raises(ZeroDivisionError), Logbook("a", tmp_path) as log:
        fit(model, fails, NotataCallback(log, batches=1))
    run = LogReader(tmp_path / "log_a")
    assert run.state.status == "failed"
    with Logbook("a", tmp_path, resume=True) as log:
        fit(model, NotataCallback(log, batches=1), initial_epoch=1)
    assert LogReader(run.url).state.status == "complete"
    assert run.series().step.tolist() == [0, 1, 2]
    assert run.series().attempt.tolist() == [0, 1, 1]
    assert run.series("batches").step.tolist() == [*range(9)]


@pytest.mark.filterwarnings("ignore:'shape' was not added")
def test_a_value_that_no_row_can_store_does_not_end_the_training(tmp_path: Path) -> None:
    odd = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(shape=np.ones(3), time=1.0))
    with Logbook("a", tmp_path) as log:
        fit(line(), odd, NotataCallback(log))
    rows = rows_of(tmp_path / "log_a")
    assert [row["time_"] for row in rows] == [1.0] * 3
    assert all("loss" in row and "shape" not in row for row in rows)
    assert (tmp_path / "log_a/log.txt").read_text().count("'shape' was not added") == 1


def test_a_worker_and_no_run(tmp_path: Path) -> None:
    with Logbook("a", tmp_path) as log, log.worker(1) as worker:
        fit(line(), NotataCallback(worker), NotataCallback(None, batches=1))
    assert len(rows_of(tmp_path / "log_a/workers/1")) == 3
    assert params_of(tmp_path / "log_a") == {}
