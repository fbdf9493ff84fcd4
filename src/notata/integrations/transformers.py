"""Record the training of Hugging Face: `NotataCallback` is a callback for the Trainer of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from notata._base.packages import needed
from notata.integrations.rows import Rows
from notata.integrations.values import plain_values, store_params
from notata.run.recorder import Recorder

with needed("NotataCallback needs transformers", "transformers"):
    from transformers import TrainerCallback

__all__ = ["NotataCallback"]


class NotataCallback(TrainerCallback):
    """A callback of the Trainer that writes to a run.

    Each log of the Trainer becomes a row of ``series/scalars.jsonl``, with its names, such as ``loss``,
    ``learning_rate`` and ``eval_loss``; the step is the global step. Training arguments that differ from their
    defaults become parameters of the run; all of them are stored in ``artifacts/training_arguments.json``, and the
    configuration of the model in ``artifacts/model_config.json``. Only the main process of the job writes. The run
    stays open.

    Args:
        log: An open run, or a worker of one. None records nothing: pass it in other processes than the main one.
    """

    def __init__(self, log: Recorder | None) -> None:
        self._log = log
        self._rows = Rows(log)

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Store the arguments."""
        if self._log is None or not state.is_world_process_zero:
            return
        every = plain_values(args.to_dict())  # without tokens
        defaults = {field.name: field.default for field in fields(args) if field.default is not MISSING}
        differ = (name for name in every if getattr(args, name, None) != defaults.get(name, MISSING))
        store_params(self._log, {name: every[name] for name in differ if name in defaults})
        self._log.json("training_arguments", every)
        if (config := getattr(model, "config", None)) is not None:
            self._log.json("model_config", plain_values(config.to_dict()))

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        """Add a row."""
        if state.is_world_process_zero and logs:
            self._rows.add(logs, state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Log the place of a checkpoint."""
        if self._log is not None and state.is_world_process_zero:
            self._log.info("Saved checkpoint %d in %s", state.global_step, args.output_dir)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Log the best checkpoint."""
        if self._log is not None and state.is_world_process_zero and state.best_model_checkpoint:
            self._log.info("Best checkpoint: %s (%s)", state.best_model_checkpoint, state.best_metric)
