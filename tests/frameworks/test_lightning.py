"""The logger of Lightning, in real trainings."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

from notata import EncodeError, Logbook, LogReader
from notata.integrations.lightning import NotataLogger
from tests.integrations.rows import params_of, rows_of


class Line(LightningModule):
    """A straight line through 12 points; at a batch of choice it fails."""

    def __init__(self, rate: float = 0.1, loss: Any = torch.nn.functional.mse_loss, fails_at: int = -1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.line = torch.nn.Linear(1, 1)
        self.losses: list[float] = []
        self.more: dict[str, Any] = {}

    def training_step(self, batch: Any, index: int) -> Any:
        if self.global_step == self.hparams["fails_at"]:
            raise ArithmeticError("diverged")
        loss = self.hparams["loss"](self.line(batch[0]), batch[1])
        self.losses.append(loss.item())
        self.log_dict({"loss": loss, **self.more})
        return loss

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("val/loss", self.hparams["loss"](self.line(batch[0]), batch[1]))

    test_step = validation_step

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams["rate"])
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)}


def data() -> DataLoader[Any]:
    x = torch.linspace(0, 1, 12)[:, None]
    return DataLoader(TensorDataset(x, 2 * x), batch_size=4)


def trainer(log: Any, **options: Any) -> Trainer:
    settings = {"accelerator": "cpu", "max_epochs": 2, "log_every_n_steps": 1}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(**{**settings, **quiet, "logger": NotataLogger(log), **options})


def test_metrics_are_rows_and_hyperparameters_parameters(tmp_path: Path) -> None:
    model = Line()
    with Logbook("a", tmp_path, params={"data": "line"}) as log:
        trainer(log, callbacks=[LearningRateMonitor("epoch")]).fit(model, data(), data())
        assert log.status == "initialized"
        assert log.reader.series()["loss"].size  # nothing is pending
    rows = rows_of(tmp_path / "log_a")
    losses = [row for row in rows if "loss" in row]
    assert [row["step"] for row in losses] == [*range(6)]
    assert [row["loss"] for row in losses] == pytest.approx(model.losses)
    assert [row["epoch"] for row in losses] == [0, 0, 0, 1, 1, 1]
    assert [row["step"] for row in rows if "val/loss" in row] == [2, 5]
    assert [row["lr-SGD"] for row in rows if "lr-SGD" in row] == [0.1, 0.05]
    assert params_of(tmp_path / "log_a") == {
        "data": "line",
        "rate": 0.1,
        "loss": "torch.nn.functional.mse_loss",
        "fails_at": -1,
    }
    run = LogReader(tmp_path / "log_a")
    assert run.state.status == "complete"
    assert "Lightning has ended: success" in run["log.txt"].read_text()


def test_checkpoints_lie_in_the_run_and_a_resumed_run_continues_from_them(tmp_path: Path) -> None:
    def fit(fails_at: int) -> None:
        with Logbook("a", tmp_path, resume=True) as log:
            save = ModelCheckpoint(save_last=True)
            trainer(log, callbacks=[save], max_epochs=3).fit(
                Line(fails_at=fails_at), data(), ckpt_path="last", weights_only=False
            )

    with pytest.raises(ArithmeticError, match="diverged"):
        fit(5)
    run = LogReader(tmp_path / "log_a")
    assert run.state.status == "failed"
    assert "diverged" in run.meta["failure_reason"]
    text = run["log.txt"].read_text()
    assert "Lightning has ended: failed" in text
    folder = tmp_path / "log_a/artifacts/checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["epoch=0-step=3.ckpt", "last.ckpt"]
    assert f"Best checkpoint: {folder / 'epoch=0-step=3.ckpt'}" in text

    fit(-1)
    assert LogReader(run.url).state.status == "complete"
    data_of_run = run.series()
    losses = data_of_run.where([value == value for value in data_of_run["loss"]])  # no NaN
    assert losses.step.tolist() == [*range(9)]
    assert losses.attempt.tolist() == [0] * 3 + [1] * 6
    assert torch.load(folder / "last.ckpt", weights_only=False)["global_step"] == 9
    assert run.params["fails_at"] == -1


@pytest.mark.filterwarnings("ignore:.* was not added to the series 'scalars'")
def test_a_value_that_no_row_can_store_does_not_end_the_training(tmp_path: Path) -> None:
    with Logbook("a", tmp_path) as log:
        logger = NotataLogger(log)
        logger.log_metrics({"loss": 1.0, "histogram": torch.ones(3), "time": 2.0}, step=0)
        logger.log_metrics({"loss": 0.5, "histogram": torch.ones(3)})
        logger.log_metrics({"histogram": torch.ones(3)}, step=7)
        logger.log_metrics({"loss": 0.25}, step=9.0)
        logger.log_metrics({"loss": 0.25}, step=9.5)
        logger.log_hyperparams(Namespace(ext="npz", layers=[torch.nn.ReLU(), 3]))
    assert rows_of(tmp_path / "log_a") == [
        {"step": 0, "loss": 1.0, "time_": 2.0},
        {"step": 1, "loss": 0.5},
        {"step": 9, "loss": 0.25},
    ]
    assert params_of(tmp_path / "log_a") == {"ext_": "npz", "layers": ["torch.nn.modules.activation.ReLU", 3]}
    warnings = [line for line in (tmp_path / "log_a/log.txt").read_text().splitlines() if "WARNING" in line]
    assert len(warnings) == 2
    assert "'histogram' was not added to the series scalars: " in warnings[0]
    assert "A row was not added to the series scalars: invalid step 9.5" in warnings[1]


def test_a_value_left_out_is_a_warning_that_names_the_run(tmp_path: Path) -> None:
    with Logbook("a", tmp_path) as log, pytest.warns(UserWarning, match=r"'x' was not added .*log_a"):
        NotataLogger(log).log_metrics({"x": [1, 2]}, step=0)


def test_a_step_that_the_module_logs_is_the_step_of_the_row(tmp_path: Path) -> None:
    model = Line()
    model.more = {"step": 40.0}
    with Logbook("a", tmp_path) as log:
        trainer(log, max_epochs=1).fit(model, data())
    assert {row["step"] for row in rows_of(tmp_path / "log_a")} == {40}


def test_a_test_after_the_fit_adds_rows_to_the_same_run(tmp_path: Path) -> None:
    model = Line()
    with Logbook("a", tmp_path) as log:
        train = trainer(log, max_epochs=1)
        train.fit(model, data())
        train.test(model, data(), verbose=False)
    assert rows_of(tmp_path / "log_a")[-1]["val/loss"] > 0


def test_a_run_in_memory_has_its_checkpoints_elsewhere(tmp_path: Path) -> None:
    with Logbook("a", "memory://lightning") as log:
        trainer(log, default_root_dir=tmp_path).fit(Line(), data())
        assert log.reader.series().summary()["columns"]["loss"]["count"] == 6
    assert len([*tmp_path.rglob("*.ckpt")]) == 1


def test_without_a_run_nothing_is_recorded(tmp_path: Path) -> None:
    trainer(None, default_root_dir=tmp_path).fit(Line(), data())


def test_an_error_of_the_own_code_is_raised(tmp_path: Path) -> None:
    with Logbook("a", tmp_path) as log, pytest.raises(EncodeError):
        NotataLogger(log).experiment.scalars(loss=[1, 2])
