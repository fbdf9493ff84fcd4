"""Record studies of Optuna: `NotataCallback` adds a row for each trial, `trial_run` makes a run of each trial."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from notata.experiment import Experiment
from notata.integrations.rows import Rows
from notata.integrations.values import store_params
from notata.logbook import Logbook
from notata.run.recorder import Recorder

__all__ = ["NotataCallback", "trial_run"]


class NotataCallback:
    """A callback of Optuna that adds a row for each finished trial to ``series/trials.jsonl`` of a run.

    The step is the number of the trial. The other columns have the names of `Study.trials_dataframe`: ``state``;
    ``value``, or ``values_0`` and ``values_1`` of several objectives, or ``value_<name>`` and ``values_<name>`` after
    `Study.set_metric_names`; ``params_<name>``; and ``duration`` in seconds. The smallest and largest value of a run
    are in tables as ``trials.value.min`` and ``trials.value.max``. The run stays open.

    A categorical parameter whose choices are neither all numbers, all booleans nor all texts is stored as text.

    Args:
        log: An open run, or a worker of one. Processes that share a study each need a worker. None records nothing.
    """

    def __init__(self, log: Recorder | None) -> None:
        self._rows = Rows(log)

    def __call__(self, study: Any, trial: Any) -> None:
        """Add a row."""
        row: dict[str, Any] = {"state": trial.state.name}
        several = len(study.directions) > 1
        names = study.metric_names or (range(len(study.directions)) if several else [""])
        for name, value in zip(names, trial.values or [], strict=False):
            row[f"{'values' if several else 'value'}_{name}".removesuffix("_")] = value
        for name, value in trial.params.items():
            row[f"params_{name}"] = _stored(value, trial.distributions[name])
        if trial.duration is not None:
            row["duration"] = trial.duration.total_seconds()
        self._rows.add(row, trial.number, series="trials")


def _stored(value: Any, distribution: Any) -> Any:
    """Return a parameter as one of the type that its column has in each row."""
    kinds = {float if type(choice) is int else type(choice) for choice in getattr(distribution, "choices", ())}
    return value if len(kinds) < 2 else str(value)


@contextmanager
def trial_run(experiment: Experiment, trial: Any, **params: Any) -> Iterator[Logbook]:
    """Make a run of an experiment for a trial, as a context manager.

    The run id is made of the number of the trial and of `params`. At the end of the block, the values that the trial
    has suggested become parameters of the run. A pruned trial is a complete run with ``pruned: true`` in its
    parameters; any other exception fails the run. The URL of the run becomes the user attribute ``notata_url`` of the
    trial.

    Args:
        experiment: The experiment, one for each study.
        trial: The trial that Optuna passes to the objective.
        **params: More parameters of the run.

    Raises:
        RunExistsError: The experiment has a run of this trial, as of another study.

    >>> from notata import Experiment
    >>> import optuna
    >>> experiment = Experiment("parabola", "memory://studies")
    >>> def objective(trial):
    ...     with trial_run(experiment, trial) as log:
    ...         x = trial.suggest_float("x", -1, 1)
    ...         log.json("metrics", {"y": x**2})
    ...         return x**2
    >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
    >>> optuna.create_study().optimize(objective, n_trials=2)
    >>> [row["run_id"] for row in experiment.reader.table()]
    ['parabola_trial_0', 'parabola_trial_1']
    """
    from optuna import TrialPruned

    pruned: TrialPruned | None = None
    with experiment.add(trial=trial.number, **params) as log:
        trial.set_user_attr("notata_url", log.url)
        try:
            yield log
        except TrialPruned as error:
            pruned = error
        finally:
            store_params(log, {**trial.params, **({"pruned": True} if pruned else {})})
    if pruned is not None:
        raise pruned
