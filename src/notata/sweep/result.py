"""The result of a sweep: how many points are complete, and which ones failed and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from notata._base import keys, notebook
from notata._base.display import counted, duration
from notata.errors import RunMissingError, SweepError
from notata.reader import ExperimentReader, LogReader
from notata.store import Store
from notata.sweep.known import Ids

if TYPE_CHECKING:
    import pandas as pd

    from notata.run.runlog import RunLog

__all__ = ["MOST_FAILURES", "Failure", "FailureKind", "SweepResult", "failure_of"]

MOST_FAILURES: Final = 1000
"""Failures that a result keeps; the others are only counted, and are in the table."""

FailureKind: TypeAlias = Literal["failed", "lost", "busy", "not begun", "not stored"]

_NAMED: Final = 5  # failures that a message names


@dataclass(frozen=True, slots=True)
class Failure:
    """A point that has no complete run.

    Attributes:
        params: The parameters.
        run_id: The id of its run; empty if the parameters have none.
        url: The location of its run, without credentials.
        kind: ``failed``: the task raised an exception. ``lost``: its worker was killed each time. ``busy``: another
            process is still writing the run. ``not begun``: the run could not be created. ``not stored``: its end
            could not be stored.
        reason: Why.
        reader: The run.
    """

    params: Mapping[str, Any]
    run_id: str
    url: str
    kind: FailureKind
    reason: str
    reader: LogReader = field(repr=False)

    def log(self) -> RunLog:
        """Return log.txt of the run. One request.

        Raises:
            RunMissingError: The parameters have no run id.
        """
        if not self.run_id:
            raise RunMissingError(f"the point {dict(self.params)} has no run: {self.reason}", url=self.url)
        return self.reader.log


@dataclass(slots=True)
class SweepResult:
    """The result of `Experiment.sweep`. Each point counts once, in one of the numbers.

    Attributes:
        url: The location of the experiment, without credentials.
        complete: Points that this call has completed.
        skipped: Points that were complete before, or that another process has completed meanwhile, such as a worker
            that was lost before it could say so.
        failed: Points whose task raised an exception each time, or whose run could not be stored.
        lost: Points whose worker was killed each time.
        busy: Points whose run another process was still writing at the end.
        cancelled: Points that were not begun, as the sweep was interrupted. Points of the space that it had not read
            by then are in no number.
        failures: The points that failed, were lost or are busy, at most 1000 of them.
        seconds: The time that the call took.
    """

    url: str
    complete: int = 0
    skipped: int = 0
    failed: int = 0
    lost: int = 0
    busy: int = 0
    cancelled: int = 0
    failures: list[Failure] = field(default_factory=list)
    seconds: float = 0.0
    _store: Store | None = field(default=None, repr=False)
    _points: Ids = field(default_factory=Ids, repr=False)

    @property
    def counts(self) -> dict[str, int]:
        """The numbers by name."""
        names = ("complete", "skipped", "failed", "lost", "busy", "cancelled")
        return {name: getattr(self, name) for name in names}

    def add_failure(self, failure: Failure) -> None:
        """Count a failure, and keep it if there are not too many of them."""
        match failure.kind:
            case "lost":
                self.lost += 1
            case "busy":
                self.busy += 1
            case _:
                self.failed += 1
        if len(self.failures) < MOST_FAILURES:
            self.failures.append(failure)

    def table(self) -> list[dict[str, Any]]:
        """Return the rows of the points of this sweep, as `ExperimentReader.table` does; its cost is the same."""
        return [row for row in self._reader.table() if row["run_id"] in self._points]

    def to_pandas(self) -> pd.DataFrame:
        """Return the rows of the points of this sweep as a pandas DataFrame.

        Raises:
            PackageMissingError: pandas is not installed.
        """
        frame = self._reader.to_pandas()
        return frame[[run_id in self._points for run_id in frame["run_id"]]] if len(frame) else frame

    @property
    def _reader(self) -> ExperimentReader:
        assert self._store is not None
        return ExperimentReader._of(self._store)

    def raise_failures(self) -> None:
        """Raise an error if any point has no complete run.

        Raises:
            SweepError: It names the first points and their reasons; its `result` is this object.
        """
        missing = self.failed + self.lost + self.busy + self.cancelled
        if missing:
            text = "; ".join(f"{one.run_id or dict(one.params)}: {one.reason}" for one in self.failures[:_NAMED])
            count = f"{counted(missing, 'point')} of {self.url} {'has' if missing == 1 else 'have'}"
            error = SweepError(f"{count} no complete run ({self}). {text}", url=self.url)
            error.result = self
            raise error

    def __str__(self) -> str:
        parts = [f"{number} {name}" for name, number in self.counts.items() if number]
        return f"{', '.join(parts) or 'no points'} in {duration(self.seconds)}"

    def _repr_html_(self) -> str:
        """Return the counts and the failures as HTML for a notebook. No request."""
        rows = [{"run": one.run_id, "kind": one.kind, "reason": one.reason} for one in self.failures]
        listed = notebook.grid("failures", ["run", "kind", "reason"], rows) if rows else ""
        return notebook.page(f"sweep {self.url}", notebook.names("", self.counts), notebook.note(str(self)), listed)


def failure_of(
    runs: Store,
    params: Mapping[str, Any],
    run_id: str,
    kind: FailureKind,
    reason: str,
) -> Failure:
    """Return the failure of one point; `runs` is the store of the folder ``runs/``."""
    store = runs.below(keys.run_folder(run_id)) if run_id else runs
    return Failure(params, run_id, store.url, kind, reason, LogReader._of(store))
