"""Drive a sweep: submit the points to an engine, a bounded number at once, and record how each one ends.

One thread does all of this. Calls that end put themselves into a queue, from any thread; the loop takes them from
there, so a point costs the same whether there are ten or a million.

A point is submitted again in three cases, each a bounded number of times: its task has failed (`retries`), its worker
was lost, or its run was being written by another process that has died (`Others`).
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from notata import table
from notata.errors import ConfigurationError, NotataError, SweepError, SweepInterrupted
from notata.sweep.engines import Engine, Future
from notata.sweep.interrupts import Interrupts
from notata.sweep.known import Ids, complete_ids
from notata.sweep.options import Options
from notata.sweep.others import Others, Point
from notata.sweep.point import Outcome, Task, pickled_job, pickled_params, run_pickled, run_point
from notata.sweep.progress import Progress
from notata.sweep.result import FailureKind, SweepResult, failure_of

if TYPE_CHECKING:
    from notata.experiment import Experiment

__all__ = ["Driver"]

_DIED: Final = 3  # times that a run dies with its worker, before its point counts as lost
_LOST: Final = 10  # times that a call is lost in all; a run that did not begin was lost because of another one
_LOST_IN_A_ROW: Final = 10  # times that calls are lost, each one submitted after the loss before, without a result
_UNSTORED_IN_A_ROW: Final = 30  # runs that could not begin or be stored
_LOOK: Final = 1.0  # seconds between two looks for Ctrl-C and updates of the display
_BACKLOG: Final = 1000  # points to submit again, before they come first: they take memory


class Driver:
    """One sweep of an experiment.

    Args:
        experiment: The experiment.
        task: The task.
        engine: Runs the calls.
        options: The options of the sweep.

    Raises:
        ConfigurationError: The task cannot be sent to other processes.
    """

    def __init__(self, experiment: Experiment, task: Task, engine: Engine, options: Options) -> None:
        self._experiment = experiment
        self._task = task
        self._engine = engine
        self._options = options
        self._job = None if engine.in_process else engine.share(self._pickled_job())
        self._most = min(options.max_in_flight, engine.most or options.max_in_flight)
        self._done: queue.SimpleQueue[tuple[Point, Future] | None] = queue.SimpleQueue()
        self._in_flight: dict[str, tuple[Point, Future]] = {}
        self._again: deque[Point] = deque()
        self._others = Others(experiment._runs, options.wait)
        self._submissions = 0
        self._lost = 0  # times in a row that calls were lost
        self._last_loss = 0  # the number of submissions at the last time
        self._unstored = 0  # runs in a row that could not be stored
        self._stopped = False  # no point begins any more
        self._interrupted = False  # because of Ctrl-C
        self._began = time.monotonic()
        self._points = Ids()
        self._result = SweepResult(experiment.url, _store=experiment._store, _points=self._points)

    def sweep(self, space: Iterable[Mapping[str, Any]]) -> SweepResult:
        """Run the task for each point. An error leaves this method once the calls that have begun have ended.

        Raises:
            SweepError: The sweep cannot go on.
            SweepInterrupted: Ctrl-C ended it.
        """
        total = len(space) if isinstance(space, Sized) else None
        self._progress = Progress(f"sweep {self._experiment.name}", total, self._options.progress)
        must_leave = True  # the calls that have begun
        try:
            with Interrupts(self._stop):
                try:
                    self._drive(self._new_points(space))
                except Exception:
                    self._finish()
                    must_leave = False
                    raise
                self._finish()
            must_leave = False
        finally:
            self._result.seconds = time.monotonic() - self._began
            self._progress.close(self._result)
            if must_leave:
                self._cancel()
                self._engine.abandon()
            else:
                self._engine.close()
                with suppress(NotataError):  # in a bucket, some rows are pending; the exit tries it again
                    self._experiment._keeper.flush()
        if self._interrupted:
            raise SweepInterrupted(self._result)
        return self._result

    def _drive(self, points: Iterator[Point]) -> None:
        """Submit and record points until none is left, or the sweep is stopped."""
        while not self._stopped:
            self._submit_more(points)
            if self._in_flight:
                self._take_next()
            elif self._others:
                self._look_at_others()
            else:
                return
            self._show()

    def _finish(self) -> None:
        """Cancel the calls that have not begun, wait for the others, and count what is left."""
        self._stopped = True
        self._cancel()
        while self._in_flight:
            self._take_next()
            self._show()
        for point in self._others.take_all():
            self._fail(point, "busy", point.reason)
        for point in self._again:
            if point.failures:
                self._fail(point, "failed", point.reason)
            else:
                self._result.cancelled += 1
        self._again.clear()

    def _cancel(self) -> None:
        """Cancel the calls that have not begun."""
        if self._in_flight:
            self._engine.stop()
        for _, future in list(self._in_flight.values()):
            with suppress(Exception):  # parsl has no cancel
                future.cancel()

    def _show(self) -> None:
        self._progress.update(self._result, len(self._in_flight), len(self._others))

    # -- points that begin ---------------------------------------------------------------------------------

    def _new_points(self, space: Iterable[Mapping[str, Any]]) -> Iterator[Point]:
        """Yield the points that are not known to be complete, each one once."""
        known = Ids() if self._options.fresh else complete_ids(self._experiment._store, existing=True)
        for params in space:
            if self._stopped:
                return
            point = self._point(params)
            if point is None:
                continue
            if point.run_id in known:
                self._result.skipped += 1
                self._show()
            else:
                yield point

    def _point(self, params: Mapping[str, Any]) -> Point | None:
        """Return a point; None if it came before, or cannot be one."""
        if not isinstance(params, Mapping):
            raise ConfigurationError(
                f"invalid point {params!r}: each point of a sweep is a dictionary of parameters, as in grid(dt=[0.1])"
            )
        try:
            run_id = self._experiment.run_id(**params)
        except (NotataError, TypeError) as error:  # a TypeError for names that are not strings
            self._fail(Point(params, ""), "not begun", str(error))
            return None
        return Point(dict(params), run_id) if self._points.add(run_id) else None

    def _pickled_job(self) -> bytes:
        return pickled_job(self._experiment, self._task, imports_main=self._engine.imports_main)

    def _submit_more(self, points: Iterator[Point]) -> None:
        while len(self._in_flight) < self._most and not self._stopped:
            point = self._next(points)
            if point is None:
                return
            self._submit(point)

    def _next(self, points: Iterator[Point]) -> Point | None:
        if len(self._again) < _BACKLOG and (point := next(points, None)) is not None:
            return point
        return self._again.popleft() if self._again else None

    def _submit(self, point: Point) -> None:
        retry = self._options.retries > 0
        try:
            if self._engine.in_process:
                call = partial(run_point, self._experiment, self._task, point.params, retry_failed=retry)
                future = self._engine.submit(call)
            else:
                params = pickled_params(point.params, imports_main=self._engine.imports_main)
                future = self._engine.submit(run_pickled, self._job, params, retry)
        except ConfigurationError as error:
            self._fail(point, "not begun", str(error))
            return
        except Exception as error:
            self._again.append(point)
            raise self._ended(f"the executor takes no more work: {_shown(error)}") from error
        self._submissions += 1
        point.number = self._submissions
        self._in_flight[point.run_id] = (point, future)
        future.add_done_callback(partial(self._put_done, point))

    def _put_done(self, point: Point, future: Future) -> None:
        """Hand a call that has ended to the loop. Called in any thread."""
        self._done.put((point, future))

    # -- points that end -----------------------------------------------------------------------------------

    def _take_next(self) -> None:
        """Wait for a call to end, and record it."""
        try:
            taken = self._done.get(timeout=_LOOK)  # on Windows, Ctrl-C waits for the end of this call
        except queue.Empty:
            return
        if taken is None:  # the sweep is stopped
            return
        point, future = taken
        del self._in_flight[point.run_id]
        try:
            outcome = future.result()
        except BaseException as error:
            self._take_error(point, error)
        else:
            self._lost = 0
            self._take(point, outcome)

    def _take_error(self, point: Point, error: BaseException) -> None:
        """Record a call that raised an exception: it was cancelled or lost, or the task has ended its process."""
        if isinstance(error, KeyboardInterrupt):  # Ctrl-C reached the worker
            self._stop()
        is_loss = self._engine.is_loss(error)
        if is_loss and self._stopped:
            self._again.append(point)
            return
        outcome = self._others.state_of(point)
        if outcome is not None and outcome.kind in ("found complete", "busy", "unknown"):
            self._take(point, outcome)
        elif is_loss:
            self._lose(point, error, outcome)
        else:
            row = None if outcome is None else outcome.row
            self._take(point, Outcome(point.run_id, "failed" if row else "not begun", _shown(error), row))

    def _lose(self, point: Point, error: BaseException, outcome: Outcome | None) -> None:
        """Record a point whose call was lost, and submit it again.

        All calls in flight can be lost at once, as when a scheduler is restarted. That counts as one loss in a row.
        """
        if point.number > self._last_loss:
            self._lost, self._last_loss = self._lost + 1, self._submissions
        point.lost += 1
        self._submit_lost(point, _shown(error), outcome)
        if self._lost >= _LOST_IN_A_ROW and not self._stopped:
            raise self._ended(f"{_LOST_IN_A_ROW} workers in a row were lost: {_shown(error)}") from error

    def _submit_lost(self, point: Point, why: str, outcome: Outcome | None) -> None:
        """Submit a lost point again, unless it was lost too often.

        A call can be lost before it resumes the run. Then the run has died in the same attempt as before.
        """
        has_died = outcome is not None and outcome.kind == "died"
        if outcome is not None and has_died and outcome.attempt != point.last_dead:
            point.died, point.last_dead = point.died + 1, outcome.attempt
        if point.died < _DIED and point.lost < _LOST:
            self._again.append(point)
            return
        reason = f"its worker was lost {max(point.lost, point.died)} times: {why}"
        if has_died:
            self._end_dead(point, reason)
        self._fail(point, "lost", reason)

    def _end_dead(self, point: Point, reason: str) -> None:
        """Record the run of a lost point as failed, if it is still dead."""
        with suppress(NotataError):
            log = self._experiment._start(point.run_id, point.params, resume="died")
            log.mark_failed(reason)
            self._experiment._keeper.put(table.of_ended(log.run_id, log._lease.fields, log._lease.version))

    def _take(self, point: Point, outcome: Outcome) -> None:
        """Record the outcome of a point."""
        if outcome.row is not None:
            self._experiment._keeper.put(outcome.row)
        point.reason = outcome.reason
        self._unstored = self._unstored + 1 if outcome.kind in ("not begun", "not stored") else 0
        match outcome.kind:
            case "complete":
                self._result.complete += 1
            case "found complete":
                self._result.skipped += 1
            case "busy":
                self._others.add(point)
            case "died":  # between two requests of the worker
                point.lost += 1
                self._submit_lost(point, outcome.reason, outcome)
            case "unknown":
                self._fail(point, "busy", outcome.reason)
            case "failed" | "not begun":
                self._retry(point, "failed" if outcome.kind == "failed" else "not begun")
            case "found failed":
                self._fail(point, "failed", outcome.reason)
            case "not stored":
                self._fail(point, "not stored", outcome.reason)
        if self._unstored >= _UNSTORED_IN_A_ROW and not self._stopped:
            raise self._ended(f"{_UNSTORED_IN_A_ROW} runs in a row could not begin or be stored: {outcome.reason}")

    def _retry(self, point: Point, kind: FailureKind) -> None:
        point.failures += 1
        if point.failures <= self._options.retries and not self._stopped:
            self._again.append(point)
        else:
            self._fail(point, kind, point.reason)

    def _fail(self, point: Point, kind: FailureKind, reason: str) -> None:
        failure = failure_of(self._experiment._runs, point.params, point.run_id, kind, reason)
        self._result.add_failure(failure)

    # -- runs of other processes ---------------------------------------------------------------------------

    def _look_at_others(self) -> None:
        """Wait a moment, and look which runs of other processes have ended or died."""
        if self._others.is_over():
            for point in self._others.take_all():
                self._fail(point, "busy", point.reason)
            return
        with suppress(queue.Empty):  # Ctrl-C puts a value
            self._done.get(timeout=self._others.next_pause())
        for point, outcome in self._others.look():
            may_retry = outcome is not None and outcome.kind == "found failed" and self._may_retry(point)
            if outcome is not None and outcome.kind == "died" and point.lost:  # its own worker was lost
                self._submit_lost(point, outcome.reason, outcome)
            elif outcome is None or outcome.kind == "died" or may_retry:
                self._again.append(point)
            else:
                self._take(point, outcome)

    def _may_retry(self, point: Point) -> bool:
        return point.failures < self._options.retries

    # -- the end -------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        """Begin no more points. Called by a signal handler, too."""
        self._stopped = self._interrupted = True
        self._engine.halt()
        self._done.put(None)

    def _ended(self, why: str) -> SweepError:
        self._result.seconds = time.monotonic() - self._began
        url = self._experiment.url
        error = SweepError(f"the sweep of {url} has stopped: {why} ({self._result})", url=url)
        error.result = self._result
        return error


def _shown(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
