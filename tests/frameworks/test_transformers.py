"""The callback of the Trainer of Hugging Face, in real trainings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PretrainedConfig, PreTrainedModel, Trainer, TrainingArguments

from notata import Logbook, LogReader
from notata.integrations.transformers import NotataCallback
from tests.integrations.rows import params_of, rows_of


class LineConfig(PretrainedConfig):
    model_type = "line"


class Line(PreTrainedModel):
    """A straight line through 12 points."""

    config_class = LineConfig

    def __init__(self, config: LineConfig) -> None:
        super().__init__(config)
        self.line = torch.nn.Linear(1, 1)
        self.fails_at = -1
        self.calls = 0
        self.post_init()

    def forward(self, x: Any = None, labels: Any = None, **_: Any) -> dict[str, Any]:
        if self.calls == self.fails_at:
            raise ArithmeticError("diverged")
        self.calls += 1
        y = self.line(x)
        return {"loss": torch.nn.functional.mse_loss(y, labels), "logits": y}


POINTS = [{"x": torch.tensor([n / 12]), "labels": torch.tensor([n / 6])} for n in range(12)]


def trainer(log: Any, folder: Path, model: Line | None = None, **options: Any) -> Trainer:
    settings = {"max_steps": 6, "logging_steps": 2, "per_device_train_batch_size": 4, "save_strategy": "no"}
    quiet = {"disable_tqdm": True, "report_to": "none", "use_cpu": True, "dataloader_pin_memory": False}
    arguments = TrainingArguments(output_dir=str(folder), **{**settings, **quiet, **options})
    callbacks = [NotataCallback(log)]
    return Trainer(
        model or Line(LineConfig()), arguments, train_dataset=POINTS, eval_dataset=POINTS, callbacks=callbacks
    )


def test_each_log_is_a_row_and_arguments_are_parameters(tmp_path: Path) -> None:
    with Logbook("a", tmp_path, params={"data": "line"}) as log:
        training = trainer(log, tmp_path / "o", learning_rate=0.01, eval_strategy="steps", eval_steps=3)
        training.train()
        assert log.status == "initialized"
    rows = rows_of(tmp_path / "log_a")
    history = training.state.log_history
    assert [row["step"] for row in rows] == [entry["step"] for entry in history]
    for name in ("loss", "learning_rate", "grad_norm", "epoch", "eval_loss", "train_runtime"):
        expected = [entry[name] for entry in history if name in entry]
        assert expected, name
        assert [row[name] for row in rows if name in row] == pytest.approx(expected)
    found = params_of(tmp_path / "log_a")
    assert {"data": "line", "learning_rate": 0.01, "max_steps": 6, "logging_steps": 2}.items() <= found.items()
    assert "weight_decay" not in found  # as it is by default
    artifacts = tmp_path / "log_a/artifacts"
    assert json.loads((artifacts / "training_arguments.json").read_text())["weight_decay"] == 0.0
    assert json.loads((artifacts / "model_config.json").read_text())["model_type"] == "line"
    assert LogReader(tmp_path / "log_a").state.status == "complete"


def test_a_resumed_run_continues_from_the_checkpoint(tmp_path: Path) -> None:
    def train(fails_at: int, checkpoint: bool) -> None:
        model = Line(LineConfig())
        model.fails_at = fails_at
        with Logbook("a", tmp_path, resume=True) as log:
            folder = Path(log.path) / "artifacts/checkpoints"
            options = {"save_strategy": "steps", "save_steps": 2, "logging_steps": 1}
            trainer(log, folder, model, **options).train(resume_from_checkpoint=checkpoint)

    with pytest.raises(ArithmeticError):
        train(3, checkpoint=False)
    run = LogReader(tmp_path / "log_a")
    assert run.state.status == "failed"
    assert "Saved checkpoint 2 in " in run["log.txt"].read_text()
    train(-1, checkpoint=True)
    assert LogReader(run.url).state.status == "complete"
    steps = [row["step"] for row in rows_of(tmp_path / "log_a") if "loss" in row]
    assert steps == [1, 2, 3, 3, 4, 5, 6]
    assert run.series().step.tolist() == [1, 2, 3, 4, 5, 6, 6]  # the last one is a summary
    assert (tmp_path / "log_a/artifacts/checkpoints/checkpoint-6").is_dir()


@pytest.mark.filterwarnings("ignore:'eval_table' was not added")
def test_a_value_that_no_row_can_store_does_not_end_the_training(tmp_path: Path) -> None:
    with Logbook("a", tmp_path) as log:
        training = trainer(log, tmp_path / "o")
        training.compute_metrics = lambda _: {"table": [[1, 2], [3, 4]], "mean": torch.tensor(0.5)}
        training.train()
        training.evaluate()
    (last,) = [row for row in rows_of(tmp_path / "log_a") if "eval_loss" in row]
    assert last["eval_mean"] == 0.5
    assert "eval_table" not in last


def test_another_process_records_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Logbook("a", tmp_path) as log:
        training = trainer(log, tmp_path / "o")
        training.state.is_world_process_zero = False
        callback = NotataCallback(log)
        callback.on_train_begin(training.args, training.state, training.control)
        callback.on_log(training.args, training.state, training.control, logs={"loss": 1.0})
    assert not (tmp_path / "log_a/series").exists()
    assert params_of(tmp_path / "log_a") == {}


def test_without_a_run_nothing_is_recorded(tmp_path: Path) -> None:
    trainer(None, tmp_path / "o").train()
