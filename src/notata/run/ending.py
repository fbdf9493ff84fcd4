"""End a run: plan the steps of its end, then apply them, and keep what could not be stored.

`Logbook._plan_end` plans the steps of an end in three groups, and `Ending.apply` makes them in this order:

1. *before*: the steps that store the end, such as log, manifest and status. If one fails, the end is *unstored*: the
   run has not ended. `flush` and the exit retry it, and heartbeats if it is a failure;
2. *closing*: release the run and its series. From then on, the run has *ended*;
3. *after*: such as the last line of the log, the traceback, the callback and the mirror. Each one is made even if an
   earlier one fails.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

from notata import formats
from notata._base import keys
from notata.errors import StorageError
from notata.provenance import failures
from notata.store import Store

__all__ = ["End", "Ending", "EndingPlan", "FailureFiles", "FinalStatus", "Unstored"]

FinalStatus: TypeAlias = Literal["complete", "failed"]
Step: TypeAlias = Callable[[], object]

_MOST_CAUGHT: Final = 100  # caught exceptions that get a file each; more than that come from a loop


@dataclass(frozen=True, slots=True)
class End:
    """One way in which a run ends.

    Attributes:
        status: The status to store.
        reason: The reason of a failed run.
        error: The exception of a failed run, if there is one.
    """

    status: FinalStatus
    reason: str = ""
    error: BaseException | None = None

    @property
    def line(self) -> str:
        """The line of the log."""
        return f"Marked {self.status}: {self.reason}" if self.reason else f"Marked {self.status}"

    @property
    def level(self) -> int:
        """The level of the line."""
        return logging.ERROR if self.status == "failed" else logging.INFO

    @property
    def fields(self) -> Mapping[str, Any]:
        """The fields of metadata.json that describe a failure."""
        if self.status == "complete":
            return {}
        kind = {} if self.error is None else {"failure_type": failures.kind(self.error)}
        return {"failure_reason": self.reason, **kind}


@dataclass(frozen=True, slots=True)
class Unstored:
    """An end that could not be stored, and the error of the storage."""

    end: End
    failure: Exception


@dataclass(frozen=True, slots=True)
class EndingPlan:
    """The steps of an end, see the module, and the run time in seconds."""

    before: Sequence[Step]
    closing: Sequence[Step]
    after: Sequence[Step]
    runtime: float


class Ending:
    """The end of one run. Safe to use from many threads.

    Attributes:
        ended: The end that is stored; None if there is none. A complete run can still fail.
        unstored: The last end, if it could not be stored.
        runtime: The run time in seconds at the end.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.ended: End | None = None
        self.unstored: Unstored | None = None
        self.runtime: float | None = None

    @property
    def unstored_failure(self) -> End | None:
        """The end as failed that could not be stored; it is kept, as a failed run keeps its first failure."""
        end = None if self.unstored is None else self.unstored.end
        return None if end is None or end.status == "complete" else end

    def has_ended_as(self, status: str) -> bool:
        """Check whether the run has ended with this status."""
        return self.ended is not None and self.ended.status == status

    def apply(self, end: End, plan: Callable[[End], EndingPlan | None], log: Callable[..., None]) -> None:
        """End the run.

        Args:
            end: How the run ends.
            plan: Returns the steps; None if the run has already ended like this.
            log: Logs an error, with arguments as in `logging`.
        """
        with self._lock:
            steps = plan(end)
            if steps is None:
                return
            try:
                for step in steps.before:
                    step()
            except Exception as failure:
                self.unstored = Unstored(end, failure)
                log("%s, but that was not stored: %s", end.line, failure)
                raise
            for step in steps.closing:
                step()
            self.ended, self.runtime, self.unstored = end, steps.runtime, None
        _make_each(steps.after)


def _make_each(steps: Sequence[Step]) -> None:
    """Make each step, even if an earlier one fails. An error keeps its context, the exception that ended the run."""
    if steps:
        try:
            steps[0]()
        finally:
            _make_each(steps[1:])


class FailureFiles:
    """Stores the details of exceptions in ``artifacts/debug/``.

    Args:
        store: The store of the run.
        redact: Redacts secrets in a text.
        variables: Whether to describe local variables, too.
    """

    def __init__(self, store: Store, redact: Callable[[str], str], *, variables: bool) -> None:
        self._store = store
        self._redact = redact
        self._variables = variables
        self._caught = 0

    def reason(self, error: BaseException) -> str:
        """Return an exception as the reason of a failure."""
        return self._redact(failures.reason(error))

    def write(self, error: BaseException) -> StorageError | None:
        """Store the traceback and the structure of the exception that ended the run. Return the first failure."""
        problem: StorageError | None = None
        text = formats.encode(formats.TEXT, failures.text(error, self._redact))
        # One after the other: at exit, some Python versions cannot start a thread.
        for key, data in ((keys.TRACEBACK, text), (keys.FAILURE, self._described(error))):
            try:
                self._store.write(key, data)
            except StorageError as failure:
                problem = problem or failure
        return problem

    def write_caught(self, error: BaseException) -> None:
        """Store the structure of an exception that did not end the run, of the first hundred only."""
        self._caught += 1
        if self._caught <= _MOST_CAUGHT:
            name = re.sub(r"\W", "_", type(error).__name__)[:80]
            moment = f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%S.%fZ}"
            self._store.write(keys.check(f"{keys.CAUGHT}/{moment}-{name}.json"), self._described(error))

    def _described(self, error: BaseException) -> bytes:
        description = failures.describe(error, self._redact, variables=self._variables)
        return formats.encode(formats.Json("failure"), description)
