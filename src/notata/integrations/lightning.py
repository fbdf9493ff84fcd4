"""Record the training of PyTorch Lightning: `NotataLogger` is a logger for its Trainer."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from notata._base.packages import needed
from notata.errors import StorageError
from notata.integrations.rows import Rows
from notata.integrations.values import store_params
from notata.run.recorder import Recorder

with needed("NotataLogger needs PyTorch Lightning", "lightning"):
    try:
        from lightning.pytorch.loggers.logger import Logger, rank_zero_experiment
        from lightning.pytorch.utilities import rank_zero_only
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] != "lightning":
            raise
        from pytorch_lightning.loggers.logger import Logger, rank_zero_experiment
        from pytorch_lightning.utilities import rank_zero_only

__all__ = ["NotataLogger"]


class NotataLogger(Logger):
    """A logger of PyTorch Lightning that writes to a run.

    Metrics become rows of ``series/scalars.jsonl``, with Lightning's names and steps, and hyperparameters become
    parameters of the run. Only the process of rank zero writes. The end of a fit or test is a line in the log: the run
    stays open, so that several of them can follow each other.

    On a local disk, Lightning stores its checkpoints in ``artifacts/checkpoints/`` of the run. In a bucket, and for a
    worker on another machine, it stores them in the Trainer's `default_root_dir`; the log names each checkpoint.

    Args:
        log: An open run, or a worker of one. None records nothing: pass it on ranks other than zero.
    """

    def __init__(self, log: Recorder | None) -> None:
        super().__init__()
        self._log = log
        self._rows = Rows(log)
        self._checkpoint = ""

    @property
    @rank_zero_experiment
    def experiment(self) -> Recorder | None:
        """The given run; on other ranks than zero, an object whose methods do nothing, as of any logger."""
        return self._log

    @property
    def name(self) -> str:
        """An empty name, as checkpoints belong to the folder of the run itself."""
        return ""

    @property
    def version(self) -> str:
        """An empty version, as for `name`."""
        return ""

    @property
    def save_dir(self) -> str | None:
        """The folder ``artifacts`` of a run on a local disk; None in a bucket."""
        path = None if self._log is None else self._log.path
        return str(path / "artifacts") if isinstance(path, Path) else None

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Add a row."""
        self._rows.add(metrics, step)

    @rank_zero_only
    def log_hyperparams(self, params: Mapping[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Store hyperparameters as parameters of the run. Those that have no plain form are stored as a type name."""
        store_params(self._log, vars(params) if isinstance(params, Namespace) else params)

    @rank_zero_only
    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Log the place of a new checkpoint."""
        path = str(checkpoint_callback.best_model_path or checkpoint_callback.last_model_path)
        if self._log is not None and path and path != self._checkpoint:
            self._checkpoint = path
            self._log.info("Best checkpoint: %s", path)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Store pending rows, and log the status with which Lightning ends a fit, a test, or the like."""
        if self._log is not None:
            self._log.info("Lightning has ended: %s", status)
            try:
                self._log.flush()
            except StorageError as error:  # the rows stay pending; the exception of a failed training must go on
                self._log.warning("Rows are still pending: %s", error)
