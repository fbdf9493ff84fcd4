"""Record the training of Keras: `NotataCallback` is a callback for `fit`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from notata._base.packages import needed
from notata.integrations.rows import Rows
from notata.integrations.values import store_params
from notata.run.recorder import Recorder

with needed("NotataCallback needs Keras 3 and one of its backends", "keras"):
    from keras import ops
    from keras.callbacks import Callback

__all__ = ["NotataCallback"]


class NotataCallback(Callback):
    """A callback of Keras that writes to a run.

    After each epoch, its metrics become a row of ``series/scalars.jsonl`` with the names of Keras, such as ``loss`` and
    ``val_loss``, and with ``learning_rate``; the step is the number of the epoch, from 0. The number of epochs and the
    settings of the optimizer become parameters of the run. The run stays open.

    Args:
        log: An open run, or a worker of one. None records nothing: pass it in processes other than the first.
        batches: Add a row to ``series/batches.jsonl`` after each so many batches. The step is the number of the batch,
            counted through all epochs from 0. Its values are those of the progress bar: means since the epoch began.
    """

    def __init__(self, log: Recorder | None, batches: int | None = None) -> None:
        super().__init__()
        self._log = log
        self._rows = Rows(log)
        self._batch = 0
        if batches is not None:
            self._batches = batches
            self.on_train_batch_end = self._add_batch  # Keras is faster without such a method

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Store the parameters."""
        values = {"epochs": self.params.get("epochs"), "steps_per_epoch": self.params.get("steps")}
        optimizer = getattr(self.model, "optimizer", None)
        if optimizer is not None:
            values["optimizer"] = optimizer.get_config()
        store_params(self._log, {name: value for name, value in values.items() if value is not None})
        self._batch = 0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Count the batches of an epoch that is not the first."""
        if steps := self.params.get("steps"):
            self._batch = epoch * steps

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Add a row."""
        rate = getattr(getattr(self.model, "optimizer", None), "learning_rate", None)
        found = {} if rate is None else {"learning_rate": ops.convert_to_numpy(rate)}
        self._rows.add({**found, **(logs or {})}, epoch)

    def _add_batch(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        if (self._batch + 1) % self._batches == 0:
            self._rows.add(logs or {}, self._batch, series="batches")
        self._batch += 1
