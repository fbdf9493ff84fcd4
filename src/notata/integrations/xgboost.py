"""Record the training of XGBoost: `NotataCallback` is a callback for `train`, `cv` and the scikit-learn classes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Self, TypeAlias

from notata._base.packages import needed
from notata.errors import StorageError
from notata.integrations.rows import Rows
from notata.run.recorder import Recorder
from notata.worker import Worker

with needed("NotataCallback needs XGBoost", "xgboost"):
    from xgboost.callback import TrainingCallback

__all__ = ["NotataCallback"]

_History: TypeAlias = Mapping[str, Mapping[str, Sequence[float | tuple[float, float]]]]


class NotataCallback(TrainingCallback):
    """A callback of XGBoost that writes to a run.

    Each round becomes a row of ``series/scalars.jsonl``. The names are those that XGBoost prints and `cv` returns:
    ``train-rmse``; from `cv`, ``train-rmse-mean`` and ``train-rmse-std``. The step is the number of the round, from 0;
    it continues if the training continues a model (`xgb_model`). The configuration of the booster is stored in
    ``artifacts/xgboost_config.json`` at the end. The run stays open.

    A model that keeps the callback, such as `XGBRegressor`, can be pickled: the copy of the callback has no run.

    Args:
        log: An open run, or a worker of one. None records nothing: pass it on ranks other than zero.
    """

    def __init__(self, log: Recorder | None) -> None:
        super().__init__()
        self._log = log
        self._rows = Rows(log)
        self._first = 0
        self._history: _History = {}  # XGBoost extends it with each round
        self._step = -1

    def __getstate__(self) -> dict[str, Any]:
        log = self._log if isinstance(self._log, Worker) else None
        return {**self.__dict__, "_log": log, "_rows": Rows(log)}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return a callback for the same run, as scikit-learn copies estimators with their callbacks."""
        return type(self)(self._log)

    def before_training(self, model: Any) -> Any:
        """Count the rounds of a model that is continued."""
        self._first = model.num_boosted_rounds() if hasattr(model, "save_config") else 0
        self._history, self._step = {}, -1
        return model

    def after_iteration(self, model: Any, epoch: int, evals_log: _History) -> bool:
        """Add a row. The training continues."""
        self._history = evals_log
        self._add_row(epoch)
        return False

    def after_training(self, model: Any) -> Any:
        """Store the configuration; `cv` has none. Add the last row if another callback has stopped the training."""
        rounds = max((len(values) for metrics in self._history.values() for values in metrics.values()), default=0)
        if rounds > self._step + 1 > 0:
            self._add_row(self._step + 1)
        if self._log is not None and hasattr(model, "save_config"):
            try:
                self._log.json("xgboost_config", json.loads(model.save_config()))
            except StorageError as error:  # the model is worth more
                self._log.warning("The configuration of XGBoost was not stored: %s", error)
        return model

    def _add_row(self, epoch: int) -> None:
        row: dict[str, float] = {}
        for data, metrics in self._history.items():
            for metric, values in metrics.items():
                if isinstance(values[-1], tuple):
                    row[f"{data}-{metric}-mean"], row[f"{data}-{metric}-std"] = values[-1]
                else:
                    row[f"{data}-{metric}"] = values[-1]
        self._rows.add(row, self._first + epoch)
        self._step = epoch
