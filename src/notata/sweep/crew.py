"""Several processes on one machine that take part in a sweep, each as a `Job` of its own."""

from __future__ import annotations

import _thread
import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Final

from notata.errors import NotataError, SweepError, SweepInterrupted
from notata.sweep.history import job_began
from notata.sweep.jobs import Job, JobOptions
from notata.sweep.point import Outcome
from notata.sweep.progress import Progress
from notata.sweep.result import Failure, SweepResult, failure_of
from notata.sweep.signals import Signals
from notata.sweep.status import sweep_status
from notata.sweep.tasks import load_task

if TYPE_CHECKING:
    from notata.experiment import Experiment
    from notata.sweep.points import Points

__all__ = ["Crew"]

_STARTS: Final = 10  # how often one of the processes is started, as it may be killed
_SLICE: Final = 0.2  # seconds until signals are passed on


@dataclass(frozen=True, slots=True)
class _Work:
    """The work of a process, which imports the task by its name."""

    experiment: Experiment
    task: str
    space: Points
    options: JobOptions


class Crew:
    """Processes that take part in a sweep until no point is free. One that is killed is started again.

    Signals that this process receives are passed on. The processes end with this one, even if it is killed.

    Args:
        experiment: The experiment.
        task: The name of the task, see `load_task`.
        space: The points.
        options: How each process proceeds.
        number: The number of processes.
        report: Called with the outcome of each point that a process has run.
        warn: Called with a text when a process is killed.
    """

    def __init__(
        self,
        experiment: Experiment,
        task: str,
        space: Points,
        options: JobOptions,
        number: int,
        *,
        report: Callable[[Outcome], object] = bool,
        warn: Callable[[str], object] = bool,
    ) -> None:
        self._experiment = experiment
        self._space = space
        self._options = options
        self._number = number
        since = options.since or job_began(experiment._store, options.job)
        self._work = _Work(experiment, task, space, replace(options, since=since, progress=False))
        self._report, self._warn = report, warn
        self._complete = 0
        self._failures: dict[str, Failure] = {}
        self._error: Exception | None = None

    def run(self) -> SweepResult:
        """Run points until none is left, or no more are to begin.

        Raises:
            SweepError: 30 runs in a row could not be stored.
            SweepInterrupted: A second Ctrl-C ended the running tasks.
            StorageError: The experiment cannot be listed.
        """
        began = time.monotonic()
        shown = Progress(f"sweep {self._experiment.name}", len(self._space), self._options.progress)
        members = [_Member(self._work) for _ in range(self._number)]
        try:
            with Signals() as signals:
                self._follow(members, signals, shown)
        except KeyboardInterrupt as error:
            for member in members:
                member.send(signal.SIGTERM)
            for member in members:
                member.close()
            raise SweepInterrupted(self._counted(began)) from error
        finally:
            for member in members:
                member.close()
            shown.close(self._so_far())
        if self._error is not None:
            raise self._error
        return self._counted(began)

    def _follow(self, members: Sequence[_Member], signals: Signals, shown: Progress) -> None:
        """Receive outcomes until all processes have ended."""
        active = {member.line: member for member in members}
        passed_on: set[int] = set()
        while active:
            for number in _due(signals) - passed_on:
                passed_on.add(number)
                for member in active.values():
                    member.send(number)
            for line in wait([*active], _SLICE):
                assert isinstance(line, Connection)
                member = active[line]
                try:
                    self._receive(line.recv())
                except (EOFError, OSError):
                    del active[line]
                    if self._start_again(member, signals):
                        active[member.line] = member
            shown.update(self._so_far(), len(active), 0)

    def _so_far(self) -> SweepResult:
        return SweepResult(self._experiment.url, complete=self._complete, failed=len(self._failures))

    def _receive(self, message: object) -> None:
        if isinstance(message, Outcome):
            self._complete += message.kind == "complete"
            self._report(message)
        elif isinstance(message, Exception):
            self._error = message
        elif isinstance(message, list):
            for params, run_id, kind, reason in message:
                self._failures[run_id] = failure_of(self._experiment._runs, params, run_id, kind, reason)

    def _start_again(self, member: _Member, signals: Signals) -> bool:
        """Start a process again that was killed, unless that has happened often or no more points are to begin."""
        code = member.join()
        if code == 0:
            return False
        reason = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        can_start = member.starts < _STARTS and not signals.stopped
        self._warn(f"a process has ended {reason}{'; another one replaces it' if can_start else ''}")
        if can_start:
            member.start()
        return can_start

    def _counted(self, began: float) -> SweepResult:
        """Return the result, with the state of all points at the end."""
        experiment = self._experiment
        status = sweep_status(experiment._store, experiment.name, self._space)
        failures = [one for one in self._failures.values() if one.kind != "busy"]
        busy = [one for one in self._failures.values() if one.kind == "busy" and not _has_ended(one)]
        result = SweepResult(
            experiment.url,
            complete=self._complete,
            skipped=max(0, status.complete - self._complete),
            failed=len(failures),
            busy=len(busy),
            failures=failures + busy,
            seconds=time.monotonic() - began,
            _store=experiment._store,
        )
        result.cancelled = max(0, len(self._space) - status.complete - result.failed - result.busy)
        return result


def _due(signals: Signals) -> set[int]:
    """Return the signals that the processes are to get."""
    stop = {int(getattr(signal, "SIGUSR1", signal.SIGTERM))} if signals.stopped else set()
    return stop | ({int(signal.SIGTERM)} if signals.terminated else set())


def _has_ended(failure: Failure) -> bool:
    try:
        return failure.reader.state.status in ("complete", "failed")
    except NotataError:
        return False


class _Member:
    """One process of a crew.

    Attributes:
        line: The connection to it.
        starts: How often it was started.
    """

    def __init__(self, work: _Work) -> None:
        self._work = work
        self.starts = 0
        self.start()

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.line, far = context.Pipe()
        self._process: BaseProcess = context.Process(target=_take_part, args=(self._work, far))
        self._process.start()
        far.close()
        self.starts += 1

    def send(self, number: int) -> None:
        """Let the main thread of the process handle a signal, unless the process has ended."""
        with contextlib.suppress(OSError):
            self.line.send(number)

    def join(self) -> int:
        """Wait for the end of the process, and return its exit code."""
        self.line.close()
        self._process.join()
        return self._process.exitcode or 0

    def close(self) -> None:
        """End the process, if it has not ended, and wait for that."""
        if not self.line.closed:
            self.line.close()
        self._process.join()


# -- in the process ----------------------------------------------------------------------------------------


def _take_part(work: _Work, line: Connection) -> None:
    """Run points in this process, and send the outcomes."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C in a terminal reaches the first process only, which passes on what it means
    threading.Thread(target=_follow, args=(line,), name="notata-crew", daemon=True).start()
    try:
        job = Job(work.experiment, load_task(work.task), work.space, work.options, report=line.send)
        result = job.run()
    except SweepInterrupted as error:
        result = error.result
    except NotataError as error:
        _send(line, error)
        return
    _send(line, [(dict(one.params), one.run_id, one.kind, one.reason) for one in result.failures])


def _send(line: Connection, message: object) -> None:
    with contextlib.suppress(OSError):
        try:
            line.send(message)
        except (TypeError, AttributeError, ValueError):  # an error that cannot be pickled
            line.send(SweepError(str(message)))


def _follow(line: Connection) -> None:
    """Pass on the signals that the first process sends, and SIGTERM at its end."""
    with contextlib.suppress(OSError, EOFError):
        while True:
            _interrupt_main(line.recv())
    _interrupt_main(signal.SIGTERM)


def _interrupt_main(number: int) -> None:
    """Send a signal to the main thread: another one would not interrupt what that waits for."""
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, number)
    else:
        _thread.interrupt_main(signal.Signals(number))
