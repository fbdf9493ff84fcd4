"""Take part in a sweep as one of many processes, such as those of a job array: run the points that are free."""

from __future__ import annotations

import functools
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from notata._base import keys, processes
from notata.errors import MissingError, NotataError, SweepError, SweepInterrupted, Terminated
from notata.run.state import ENDED, lease_of, read_state
from notata.sweep.history import attempts_since, is_interrupt, job_began
from notata.sweep.known import Ids, complete_ids
from notata.sweep.order import Permutation
from notata.sweep.point import Outcome, Task, outcome_of, run_point
from notata.sweep.progress import Progress
from notata.sweep.result import FailureKind, SweepResult, failure_of
from notata.sweep.signals import Signals

if TYPE_CHECKING:
    from notata.experiment import Experiment
    from notata.logbook import Logbook
    from notata.store import Store

__all__ = ["Job", "JobOptions"]

Report = Callable[[Outcome], object]

_DEATHS: Final = 3  # how often the process of a point may be killed in one job
_IN_A_ROW: Final = 30  # points that could not begin, one after the other, before the process gives up
_FRESH: Final = 30.0  # seconds between two looks at the index, if it turns out to be old
_SHARE: Final = 20  # looks at the index take at most this part of the time
_COUNTED: Final = 20_000  # points that are compared with the index when the process stops early
_SHORTEST: Final = 0.05  # seconds between two looks at the runs of other processes
_LONGEST: Final = 10.0
_AT_ONCE: Final = 256  # such runs that are looked at in one turn
_SLICE: Final = 0.2  # seconds of sleep until signals are noticed


@dataclass(frozen=True, slots=True)
class JobOptions:
    """The options of one process of a sweep.

    Attributes:
        retries: How often a point is tried again in a job if its task fails.
        time_limit: Seconds after which no point begins; also none that would end later, if it took as long as the
            points before it did on average. None: no limit.
        wait: Wait for runs that other processes are writing, until they have ended. False: wait only until it is
            clear that they are alive.
        job: The name of the job that the process belongs to, together with others; see `scheduler.job_of`.
        since: When the job began; by default, when its first process began to work on the experiment.
        seed: The seed of the order of the points; by default a random one.
        fresh: Look at every run, also at those that are complete according to the index.
        progress: Show a progress bar; None: on a terminal.
    """

    retries: int = 1
    time_limit: float | None = None
    wait: bool = False
    job: str | None = None
    since: datetime | None = None
    seed: str | None = None
    fresh: bool = False
    progress: bool | None = None


class Job:
    """One process of a sweep that takes the free points, in an order of its own, until none is left.

    Complete points are skipped, dead runs resumed, and failed ones tried again a bounded number of times: all processes
    of a job together count the failures. A run that a signal has ended does not count as failed, and is resumed.

    Args:
        experiment: The experiment.
        task: ``task(log, **params)``, as for `Experiment.sweep`.
        space: The points.
        options: How to proceed.
        report: Called with the outcome of each point that this process has run.
        clock: The time in seconds.
        sleep: Waits some seconds.
    """

    def __init__(
        self,
        experiment: Experiment,
        task: Task,
        space: Sequence[Mapping[str, Any]],
        options: JobOptions | None = None,
        *,
        report: Report = bool,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._experiment = experiment
        self._store: Store = experiment._store
        self._task = self._guarded(task)
        self._space = space
        self._options = options or JobOptions()
        self._report, self._clock, self._sleep = report, clock, sleep
        self._signals = Signals(clock)
        self._began = clock()
        self._order = iter(Permutation(len(space), self._options.seed or secrets.token_hex(8)))
        self._again: deque[int] = deque()  # points that failed, and are tried again
        self._others: dict[int, datetime] = {}  # points of other processes, each with the time when it was found
        self._tries: Counter[int] = Counter()  # how often a run could not be stored
        self._troubles = 0  # the same, one point after the other
        self._spent = 0.0  # seconds of the points that this process has completed
        self._known, self._next_look = Ids(), 0.0
        self._pause = _SHORTEST
        self._since = datetime.now(UTC)
        self._progress: Progress | None = None
        self._points = Ids()
        self._result = SweepResult(experiment.url, _store=experiment._store, _points=self._points)

    def run(self) -> SweepResult:
        """Run points until none is left, or no more are to begin.

        Returns:
            The numbers of points. `cancelled` is the number of those that remain.

        Raises:
            SweepError: 30 runs in a row could not be stored.
            SweepInterrupted: A second Ctrl-C ended the running task.
            StorageError: The experiment cannot be listed.
        """
        progress = Progress(f"sweep {self._experiment.name}", len(self._space), self._options.progress)
        self._progress = progress
        try:
            with self._signals:
                self._since = self._options.since or job_began(self._store, self._options.job)
                self._look_at_index()
                try:
                    self._run_all()
                finally:
                    with suppress(NotataError):  # in a bucket, some rows are pending; the exit tries it again
                        self._experiment._keeper.flush()
        except KeyboardInterrupt as error:
            self._result.cancelled = 0
            self._result.cancelled = len(self._space) - sum(self._result.counts.values())
            raise SweepInterrupted(self._result) from error
        finally:
            self._result.seconds = self._clock() - self._began
            progress.close(self._result)
        return self._result

    def _run_all(self) -> None:
        for number in self._order:
            run_id = self._run_id(number)
            is_complete = run_id in self._known
            if self._signals.stopped or (not is_complete and self._must_stop()):
                self._count_rest(number)
                break
            if self._points.add(run_id):
                self._visit(number, is_complete=is_complete)
        while (self._again or self._others) and not self._must_stop():
            if self._again:
                self._retry(self._again.popleft())
            else:
                self._look_at_others()
        self._result.cancelled += len(self._again) + len(self._others)

    def _must_stop(self) -> bool:
        """Check whether no more points are to begin."""
        if self._signals.stopped:
            return True
        limit = self._options.time_limit
        if limit is None:
            return False
        known = self._result.complete
        return self._clock() - self._began + (self._spent / known if known else 0.0) >= limit

    def _count_rest(self, number: int) -> None:
        """Count the points that remain; only the first ones are compared with the index, which takes time."""
        rest = len(self._space) - len(self._points)
        sample = [number, *islice(self._order, min(_COUNTED, rest - 1))]
        complete = sum(self._run_id(place) in self._known for place in sample)
        self._result.skipped += complete
        self._result.cancelled += rest - complete

    # -- one point -----------------------------------------------------------------------------------------

    def _run_id(self, number: int) -> str:
        return self._experiment.run_id(**self._space[number])

    def _visit(self, number: int, *, is_complete: bool) -> None:
        """Run a point, unless it is complete, has failed, or belongs to another process."""
        if is_complete:
            self._result.skipped += 1
            self._show()
        else:
            self._run(number, retry_failed=False)

    def _run(self, number: int, *, retry_failed: bool) -> None:
        began = self._clock()
        try:
            outcome = run_point(self._experiment, self._task, self._space[number], retry_failed=retry_failed)
        except (SystemExit, KeyboardInterrupt) as error:
            outcome = self._found(number)
            if outcome.row is not None:
                self._experiment._keeper.put(outcome.row)
            if isinstance(error, KeyboardInterrupt):
                raise
            if isinstance(error, Terminated):
                self._result.cancelled += 1
                return
            outcome = replace(outcome, kind="complete" if outcome.kind == "found complete" else "failed")
        self._take(number, replace(outcome, seconds=self._clock() - began))

    def _found(self, number: int) -> Outcome:
        """Return what is stored of a run that the task ended by an exit."""
        run_id = self._run_id(number)
        try:
            store = self._run_store(run_id)
            return outcome_of(run_id, store.fetch(keys.METADATA), store.url)
        except NotataError as error:
            return Outcome(run_id, "not begun", str(error))

    def _run_store(self, run_id: str) -> Store:
        return self._experiment._runs.below(keys.run_folder(run_id))

    def _take(self, number: int, outcome: Outcome) -> None:
        """Record how a point has ended."""
        if outcome.row is not None:
            self._experiment._keeper.put(outcome.row)
        kind = outcome.kind
        if kind not in ("not begun", "not stored"):
            self._troubles = 0
        if kind in ("complete", "failed", "not begun", "not stored"):
            self._report(outcome)
        if kind == "complete":
            self._result.complete += 1
            self._spent += outcome.seconds
        elif kind == "found complete":
            self._result.skipped += 1
            self._look_at_index_again()
        elif kind == "found failed":
            self._take_found_failure(number, outcome)
        elif kind == "failed" or kind == "not begun" or kind == "not stored":
            self._take_failure(number, kind, outcome.reason)
        elif kind == "died":
            self._again.append(number)
        else:
            self._others[number] = datetime.now(UTC)
        self._show()

    def _take_found_failure(self, number: int, outcome: Outcome) -> None:
        if is_interrupt(outcome.reason):
            self._run(number, retry_failed=True)
        else:
            self._again.append(number)

    def _take_failure(self, number: int, kind: FailureKind, reason: str) -> None:
        self._tries[number] += 1
        if kind != "failed":
            self._troubles += 1
        if self._troubles >= _IN_A_ROW:
            raise self._ended(f"{_IN_A_ROW} runs in a row could not be stored: {reason}")
        if self._tries[number] <= self._options.retries:
            self._again.append(number)
        else:
            self._fail(number, kind, reason)

    def _fail(self, number: int, kind: FailureKind, reason: str) -> None:
        params = self._space[number]
        runs = self._experiment._runs
        self._result.add_failure(failure_of(runs, params, self._run_id(number), kind, reason))

    def _ended(self, why: str) -> SweepError:
        url = self._experiment.url
        error = SweepError(f"the sweep of {url} has stopped: {why}. ({self._result})", url=url)
        error.result = self._result
        return error

    def _retry(self, number: int) -> None:
        """Run a failed point again, unless the processes of this job have done so often enough."""
        try:
            fields, state = read_state(self._run_store(self._run_id(number)))
        except MissingError:
            self._run(number, retry_failed=True)
            return
        except NotataError as error:
            self._take(number, Outcome(self._run_id(number), "not begun", str(error)))
            return
        attempts = attempts_since(fields, self._since)
        is_exhausted = attempts.failed >= self._options.retries + attempts.is_new
        if state.status == "failed" and is_exhausted and not is_interrupt(fields.get("failure_reason")):
            self._fail(number, "failed", str(fields.get("failure_reason") or ""))
        else:
            self._run(number, retry_failed=True)

    def _guarded(self, task: Task) -> Task:
        """Return the task such that SIGTERM interrupts it, and that a run whose processes are killed ends as failed."""

        @functools.wraps(task)
        def guarded(log: Logbook, **params: Any) -> Mapping[str, Any] | None:
            died = attempts_since(log._lease.fields, self._since).died
            if died >= _DEATHS:
                raise RuntimeError(
                    f"not started again: its process was killed {died} times in this job. Check whether it runs out "
                    "of memory; a new job tries it again"
                )
            with self._signals.interruptible():
                return task(log, **params)

        return guarded

    # -- other processes -----------------------------------------------------------------------------------

    def _look_at_index(self) -> None:
        """Read which points are complete."""
        began = self._clock()
        if not self._options.fresh:
            self._known = complete_ids(self._store)
        now = self._clock()
        self._next_look = now + max(_FRESH, _SHARE * (now - began))

    def _look_at_index_again(self) -> None:
        """Read the index again, as it did not have a complete point; not too often."""
        if self._clock() >= self._next_look:
            self._look_at_index()

    def _look_at_others(self) -> None:
        """Look at runs that other processes are writing, and pause if some of them may be dead."""
        for number in list(self._others)[:_AT_ONCE]:
            if self._signals.stopped:
                return
            self._look_at(number)
        if self._others and not self._again:
            self._pause_for(self._pause)
            self._pause = min(2 * self._pause, _LONGEST)

    def _look_at(self, number: int) -> None:
        found = self._others.pop(number)
        try:
            fields, state = read_state(self._run_store(self._run_id(number)))
        except NotataError:  # run_point reports it, or begins a removed run
            self._run(number, retry_failed=False)
            return
        is_alive = processes.alive(str(lease_of(fields).get("process", ""))) or state.last_seen > found
        if state.status in (*ENDED, "died"):
            self._run(number, retry_failed=False)
        elif not state.certain or state.status != "running" or (is_alive and not self._options.wait):
            self._fail(number, "busy", state.why)
        else:
            self._others[number] = found

    def _pause_for(self, seconds: float) -> None:
        until = self._clock() + seconds
        while not self._must_stop() and (left := until - self._clock()) > 0:
            self._sleep(min(left, _SLICE))

    def _show(self) -> None:
        if self._progress is not None:
            self._progress.update(self._result, 0, len(self._others))
