"""Turn MLflow's description of a run, in its files or its database, into fields of notata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from notata._base import keys
from notata.importing.facts import Facts
from notata.importing.naming import legal_name
from notata.importing.source import checked_text, milliseconds

__all__ = ["Described", "facts_of"]

_STATUSES: Final[Mapping[object, str]] = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
_NAME: Final = "mlflow.runName"
_NOTE: Final = "mlflow.note.content"
_USER: Final = "mlflow.user"
_PARENT: Final = "mlflow.parentRunId"
_GIT: Final = {"mlflow.source.git.commit": "commit", "mlflow.source.git.branch": "branch"}
_MAPPED: Final = {_NAME, _NOTE, _USER, *_GIT}


@dataclass(frozen=True, slots=True)
class Described:
    """The values of one run as MLflow stores them.

    Attributes:
        meta: The fields of meta.yaml, or the columns of the table ``runs``.
        tags: The tags.
        params: The parameters.
        metrics: The latest value of each metric.
        datasets: The datasets.
        experiment: The name of its experiment.
        runs_url: The destination.
    """

    meta: Mapping[str, Any]
    tags: Mapping[str, str]
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    datasets: Sequence[Mapping[str, Any]]
    experiment: str
    runs_url: str


def facts_of(run: Described) -> Facts:
    """Return what an imported run says about itself."""
    given = run.meta.get("status")
    status = _STATUSES.get(given, checked_text(given, 40)) if not isinstance(given, list | dict) else ""
    is_complete = status == "FINISHED"
    return Facts(
        params=run.params,
        metrics=run.metrics,
        status="complete" if is_complete else "failed",
        reason="" if is_complete else _reason(status),
        start=milliseconds(run.meta.get("start_time")),
        end=milliseconds(run.meta.get("end_time")),
        fields=_fields(run),
        environment=_environment(run),
    )


def _reason(status: str) -> str:
    if status in ("FAILED", "KILLED"):
        return f"{status} in MLflow"
    return f"it had not ended when it was imported: {status or 'it has no status'} in MLflow"


def _fields(run: Described) -> dict[str, Any]:
    tags = run.tags
    fields: dict[str, Any] = {
        "name": checked_text(run.meta.get("run_name") or run.meta.get("name") or tags.get(_NAME), 1000),
        "note": checked_text(tags.get(_NOTE)),
        "experiment": run.experiment,
        "tags": {name: text for name, text in tags.items() if name not in _MAPPED},
        "datasets": list(run.datasets),
        "parent": _parent(run),
    }
    return {name: value for name, value in fields.items() if value}


def _parent(run: Described) -> str:
    """Return the URL of the parent at the destination; its experiment is nearly always the same."""
    parent = run.tags.get(_PARENT, "")
    if not parent:
        return ""
    return f"{run.runs_url}/{legal_name(run.experiment)}/{keys.RUNS}/{keys.run_folder(legal_name(parent))}"


def _environment(run: Described) -> dict[str, Any]:
    user = checked_text(run.meta.get("user_id") or run.tags.get(_USER), 200)
    git = {name: checked_text(run.tags.get(tag), 200) for tag, name in _GIT.items() if run.tags.get(tag)}
    commit = checked_text(run.meta.get("source_version"), 200)
    if commit and "commit" not in git:
        git["commit"] = commit
    return {**({"user": user} if user else {}), **({"git": git} if git else {})}
