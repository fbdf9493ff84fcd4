"""Record the training of Keras: `NotataCallback` is a callback for `fit`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from notata._base.packages import needed
from notata.integrations.values import store_params
from notata.run.recorder import Recorder

with needed("NotataCallback needs Keras 3 and one of its backends", "keras"):
    from keras.callbacks import Callback

__all__ = ["NotataCallback"]


class NotataCallback(Callback):
    """A callback of Keras that writes to a run.

    After each epoch, its metrics become a row of ``series/scalars.jsonl`` with the names of Keras, such as ``loss`` and
    ``val_loss``; the step is the number of the epoch, from 0. The number of epochs and the settings of the optimizer
    become parameters of the run. The run stays open.

    Args:
        log: An open run, or a worker of one. None records nothing.
    """

    def __init__(self, log: Recorder | None) -> None:
        super().__init__()
        self._log = log

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Store the parameters."""
        values = {"epochs": self.params.get("epochs"), "steps_per_epoch": self.params.get("steps")}
        optimizer = getattr(self.model, "optimizer", None)
        if optimizer is not None:
            values["optimizer"] = optimizer.get_config()
        store_params(self._log, {name: value for name, value in values.items() if value is not None})

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Add a row."""
        if self._log is not None and logs:
            self._log.scalars(logs, step=epoch)
