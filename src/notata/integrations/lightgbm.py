"""Record the training of LightGBM: `NotataCallback` is a callback for `train`, `cv` and the scikit-learn classes."""

from __future__ import annotations

from typing import Any

from notata.integrations.rows import Rows
from notata.integrations.values import store_params
from notata.run.recorder import Recorder

__all__ = ["NotataCallback"]


class NotataCallback:
    """A callback of LightGBM that writes to a run.

    Each iteration becomes a row of ``series/scalars.jsonl``, with names made of those of the data and of the metric:
    ``valid_0/l2``; from `cv`, ``valid/l2-mean`` and ``valid/l2-stdv``. The step is the number of the iteration, from 0;
    it continues if the training continues a model (`init_model`). The parameters of LightGBM become parameters of the
    run. The run stays open.

    Args:
        log: An open run, or a worker of one. None records nothing: pass it on ranks other than zero.
    """

    def __init__(self, log: Recorder | None) -> None:
        self._log = log
        self._rows = Rows(log)
        self.order = 25  # LightGBM calls early stopping at 30, which ends a round
        self.before_iteration = False

    def __call__(self, env: Any) -> None:
        """Add a row, and store the parameters with the first one."""
        if self._log is None:
            return
        if env.iteration == env.begin_iteration:
            store_params(self._log, env.params)
        row: dict[str, float] = {}
        for data, metric, value, _, *deviation in env.evaluation_result_list or ():
            if deviation and deviation[0] is not None:
                row[f"{data}/{metric}-mean"], row[f"{data}/{metric}-stdv"] = value, deviation[0]
            else:
                row[f"{data}/{metric}"] = value
        self._rows.add(row, env.iteration)
