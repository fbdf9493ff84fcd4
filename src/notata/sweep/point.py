"""Run one point of a sweep in a worker: begin the run, call the task, end the run, return an `Outcome`."""

from __future__ import annotations

import functools
import pickle
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from notata import table
from notata._base import keys
from notata._base.display import indefinite
from notata.errors import (
    ConfigurationError,
    MissingError,
    NotataError,
    RunDisplacedError,
    RunExistsError,
    Terminated,
)
from notata.run.state import ENDED, attempt_of, parsed, state_of
from notata.store import Blob
from notata.table import Row

if TYPE_CHECKING:
    from notata.experiment import Experiment
    from notata.logbook import Logbook

__all__ = [
    "Outcome",
    "Task",
    "outcome_of",
    "pickled_job",
    "pickled_params",
    "run_pickled",
    "run_point",
    "store_metrics",
]

Task: TypeAlias = Callable[..., Mapping[str, Any] | None]
"""``task(log, **params)`` calculates one point. It returns metrics by name, or None."""

Kind: TypeAlias = Literal[
    "complete", "failed", "found complete", "found failed", "busy", "died", "unknown", "not begun", "not stored"
]

_JOBS = 8  # experiments and tasks that a process keeps


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one point: whether its task was called, and how the run ended.

    Attributes:
        run_id: The id of its run.
        kind: ``complete`` and ``failed``: the task was called. ``found complete`` and ``found failed``: the run had
            ended before. ``busy``: another process is writing the run. ``died``: the process that wrote it is gone.
            ``unknown``: the run has not ended, and it is unknown whether a process is writing it. ``not begun``: the
            run could not be created. ``not stored``: its end could not be stored.
        reason: Why it failed, or what is known of the other process.
        row: The row of a run that has ended, for the index.
        seconds: The time that it took.
        attempt: The attempt in which the run has died: how often it was resumed before.
    """

    run_id: str
    kind: Kind
    reason: str = ""
    row: Row | None = None
    seconds: float = 0.0
    attempt: int = 0


def run_point(experiment: Experiment, task: Task, params: Mapping[str, Any], *, retry_failed: bool = True) -> Outcome:
    """Run the task for one point, unless its run is complete or another process is writing it.

    The run is created, or resumed if it has died or failed. An exception of the task makes the run fail.

    Args:
        experiment: The experiment.
        task: The task.
        params: The parameters of the point.
        retry_failed: Resume a failed run; False: leave it as it is.

    Raises:
        EncodeError: A parameter has no plain form.
        KeyboardInterrupt: It ended the task, and the run has failed. The same holds for SystemExit.

    >>> from notata import Experiment
    >>> run_point(Experiment("point", "memory://sweeps"), lambda log, x: {"y": x**2}, {"x": 3}).row.metrics
    {'y': 9}
    """
    began = time.monotonic()
    run_id = experiment.run_id(**params)
    try:
        log = experiment._start(run_id, params, resume="unfinished" if retry_failed else "died")
    except RunExistsError:
        return _visited(experiment, run_id)
    except NotataError as error:
        return Outcome(run_id, "not begun", str(error), seconds=time.monotonic() - began)
    return _run(log, task, params, began)


def _run(log: Logbook, task: Task, params: Mapping[str, Any], began: float) -> Outcome:
    """Call the task in a run that has begun."""
    failure: Exception | None = None
    try:
        with log:
            store_metrics(log, task, task(log, **params))
            if log.status in ENDED:  # by the task, so the manifest lacks the metrics until the process ends
                log.flush()
    except RunDisplacedError as error:  # another process has taken over the run, and records it
        return Outcome(log.run_id, "busy", str(error), seconds=time.monotonic() - began)
    except Exception as error:
        failure = error
        if log.status not in ENDED:
            _end_later(log, error)
    seconds = time.monotonic() - began
    if log.status not in ENDED:
        return Outcome(log.run_id, "not stored", _reason(log, failure), seconds=seconds)
    row = table.of_ended(log.run_id, log._lease.fields, log._lease.version)
    if log.status == "complete":
        return Outcome(log.run_id, "complete", row=row, seconds=seconds)
    return Outcome(log.run_id, "failed", _reason(log, failure), row, seconds)


def _end_later(log: Logbook, error: Exception) -> None:
    """Mark a run failed whose end could not be stored. If that fails too, each heartbeat tries it again."""
    with suppress(NotataError):
        log.mark_failed(f"its end could not be stored: {error}", error)


def _reason(log: Logbook, error: Exception | None) -> str:
    return str(log._lease.fields.get("failure_reason") or error or "")


def store_metrics(log: Logbook, task: Task, result: object) -> None:
    """Store what a task returns."""
    if isinstance(result, Mapping):
        log.json("metrics", dict(result))
    elif result is not None:
        name = getattr(task, "__qualname__", repr(task))
        raise TypeError(
            f"{name} returned {indefinite(type(result).__name__)}: a task returns a mapping of names and values, which "
            "become the metrics of the run, or None"
        )


def _visited(experiment: Experiment, run_id: str) -> Outcome:
    """Return what is known of a run that was refused. One request."""
    store = experiment._runs.below(keys.run_folder(run_id))
    try:
        return outcome_of(run_id, store.fetch(keys.METADATA), store.url)
    except MissingError:
        return Outcome(run_id, "busy", "the run is being removed or replaced")
    except NotataError as error:
        return Outcome(run_id, "not begun", str(error))


def outcome_of(run_id: str, found: Blob, url: str) -> Outcome:
    """Return the state of an existing run as an outcome.

    Args:
        run_id: Its id.
        found: Its metadata.json.
        url: Its location, for messages.
    """
    fields = parsed(found.data)
    if fields is None:
        return Outcome(run_id, "not begun", f"{keys.METADATA} in {url} is not a JSON object, so its state is unknown")
    state = state_of(fields, found)
    if state.status in ENDED:
        row = table.of_ended(run_id, fields, found.version)
        kind: Kind = "found complete" if state.status == "complete" else "found failed"
        return Outcome(run_id, kind, row.failure_reason, row)
    if state.status == "replacing" or not state.certain:
        return Outcome(run_id, "unknown", state.why)
    return Outcome(run_id, "died" if state.status == "died" else "busy", state.why, attempt=attempt_of(fields))


# -- other processes ---------------------------------------------------------------------------------------


def pickled_job(experiment: Experiment, task: Task, *, imports_main: bool = False) -> bytes:
    """Return experiment and task for `run_pickled`.

    A task that pickle cannot name, such as a lambda or a function of a notebook, needs the package cloudpickle.

    Args:
        experiment: The experiment.
        task: The task.
        imports_main: Whether the other processes import the script that this process runs.

    Raises:
        ConfigurationError: The task cannot be pickled.
    """
    return _pickled((experiment, task), "the task", task, imports_main=imports_main)


def pickled_params(params: Mapping[str, Any], *, imports_main: bool = False) -> bytes:
    """Return the parameters of a point for `run_pickled`.

    Raises:
        ConfigurationError: A parameter cannot be pickled.
    """
    return _pickled(dict(params), f"the parameters {sorted(params)}", *params.values(), imports_main=imports_main)


def _pickled(value: object, what: str, *parts: object, imports_main: bool) -> bytes:
    is_importable = imports_main and hasattr(sys.modules["__main__"], "__file__")
    try:
        if is_importable or not any(_is_of_main(part) for part in parts):
            return pickle.dumps(value)
        problem = "it is defined in the running script or interactive session, which they do not import"
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    try:
        import cloudpickle
    except ImportError:
        raise ConfigurationError(
            f"cannot send {what} to other processes: {problem}. Define it at the top level of a module, install "
            "cloudpickle, or pass executor=None or a ThreadPoolExecutor"
        ) from None
    try:
        return bytes(cloudpickle.dumps(value))
    except Exception as error:
        raise ConfigurationError(f"cannot send {what} to other processes: {error}") from error


def _is_of_main(value: object) -> bool:
    return getattr(value, "__module__", None) == "__main__"


def run_pickled(job: bytes, params: bytes, retry_failed: bool = True) -> Outcome:
    """Do the same as `run_point` in another process.

    Each process loads an experiment and a task once, so all its runs share the connections to the storage. An exit of
    the task, such as by `sys.exit`, ends its run, but not the process: it would end a worker of Dask or Ray.

    Raises:
        Terminated: The process received SIGTERM.
        KeyboardInterrupt: It ended the task, and the run has failed.
    """
    try:
        experiment, task = _loaded(job)
        values = pickle.loads(params)
    except Exception as error:
        return Outcome(
            "", "not begun", f"the task cannot be loaded in another process: {type(error).__name__}: {error}"
        )
    try:
        return run_point(experiment, task, values, retry_failed=retry_failed)
    except Terminated:
        raise
    except SystemExit:
        return _exited(experiment, experiment.run_id(**values))


def _exited(experiment: Experiment, run_id: str) -> Outcome:
    """Return the outcome of a run that its task has ended by an exit. One request."""
    found = _visited(experiment, run_id)
    kinds: dict[Kind, Kind] = {"found complete": "complete", "found failed": "failed"}
    return replace(found, kind=kinds.get(found.kind, found.kind))


@functools.lru_cache(_JOBS)
def _loaded(job: bytes) -> tuple[Experiment, Task]:
    experiment, task = pickle.loads(job)
    return experiment, task
