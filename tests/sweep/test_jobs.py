"""One of many processes that take the free points of a sweep."""

from __future__ import annotations

import errno
import json
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from notata import Experiment, Logbook, SweepError
from notata._base import processes
from notata.errors import SweepInterrupted
from notata.store import open_store
from notata.store.wrapper import Wrapper
from notata.sweep import grid
from notata.sweep.jobs import Job, JobOptions
from notata.sweep.result import SweepResult

Task = Callable[..., Mapping[str, Any] | None]


def job(experiment: Experiment, task: Task, count: int, **options: Any) -> SweepResult:
    return Job(experiment, task, grid(x=range(count)), JobOptions(progress=False, **options)).run()


def metadata(experiment: Experiment, x: int) -> dict[str, Any]:
    path = experiment.runs_dir / f"log_{experiment.run_id(x=x)}" / "metadata.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


class Calls(list[int]):
    """A task that records its points, and fails for some of them."""

    def __init__(self, *failing: int) -> None:
        self._failing = failing

    def __call__(self, log: Logbook, x: int) -> dict[str, int]:
        self.append(x)
        if x in self._failing:
            raise ValueError("bad point")
        return {"y": x * x}


def test_each_point_once_in_an_order_of_its_own() -> None:
    experiment = Experiment("once", "memory://jobs")
    calls = Calls()
    result = job(experiment, calls, 30)
    assert (result.complete, len(result.table())) == (30, 30)
    assert sorted(calls) == list(range(30)) != calls
    assert metadata(experiment, 7)["row"]["metrics"] == {"y": 49}
    assert len(experiment.index_file.read_text().splitlines()) == 31


def test_a_second_process_runs_what_is_free() -> None:
    experiment = Experiment("free", "memory://jobs")
    job(experiment, Calls(), 10)
    calls = Calls()
    result = job(experiment, calls, 15)
    assert (result.complete, result.skipped, sorted(calls)) == (5, 10, [10, 11, 12, 13, 14])
    assert job(experiment, calls, 15, fresh=True).skipped == 15


def test_the_processes_of_a_job_count_failures_together() -> None:
    experiment = Experiment("together", "memory://jobs")
    calls = Calls(2)
    first, second, third = (job(experiment, calls, 4, job="array-1", retries=2) for _ in range(3))
    assert calls.count(2) == 3
    assert [(one.complete, one.failed) for one in (first, second, third)] == [(3, 1), (0, 1), (0, 1)]
    (failure,) = third.failures
    assert (failure.params, failure.reason) == ({"x": 2}, "bad point")
    began = json.loads((experiment.exp_dir / "sweeps/array-1.json").read_text())["began"]
    assert began <= metadata(experiment, 2)["start_time"]

    job(experiment, calls, 4, job="array-2", retries=0)
    assert calls.count(2) == 3
    job(experiment, calls, 4, job="array-3", retries=1)
    assert calls.count(2) == 4
    assert job(experiment, Calls(), 4, job="array-4").complete == 1


def test_a_task_that_works_the_second_time() -> None:
    failing = {1, 3}

    def task(log: Logbook, x: int) -> None:
        if x in failing:
            failing.remove(x)
            raise ValueError("not yet")

    assert job(Experiment("second", "memory://jobs"), task, 5).counts["complete"] == 5


@pytest.mark.parametrize("retries", [0, 1])
def test_sigterm_interrupts_the_task_and_the_next_process_resumes_its_run(retries: int) -> None:
    experiment = Experiment("sigterm", "memory://jobs")
    seen = []

    def task(log: Logbook, x: int) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
            pytest.fail("the task continues")
        finally:
            seen.append(x)  # where it would save its state

    result = job(experiment, task, 5, job="array", retries=retries)
    assert (result.complete, result.failed, result.cancelled) == (0, 0, 5)
    fields = metadata(experiment, seen[0])
    assert (fields["status"], fields["failure_reason"]) == ("failed", "SIGTERM")
    assert f"{experiment.run_id(x=seen[0])},{seen[0]},failed" in experiment.index_file.read_text()

    assert job(experiment, Calls(), 5, job="array", retries=retries).complete == 5
    resumes = metadata(experiment, seen[0])["resumes"]
    assert [(one["after"], one["failure_reason"]) for one in resumes] == [("failed", "SIGTERM")]


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGINT])
def test_the_task_is_the_last_one_after_a_signal(number: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = Experiment("last", "memory://jobs")

    def task(log: Logbook, x: int) -> None:
        signal.raise_signal(number)

    result = job(experiment, task, 5)
    assert (result.complete, result.cancelled) == (1, 4)
    assert ("press Ctrl-C again" in capsys.readouterr().err) is (number == signal.SIGINT)
    assert signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)


def test_the_second_ctrl_c_interrupts_the_task() -> None:
    experiment = Experiment("leave", "memory://jobs")
    now = [0.0]

    def task(log: Logbook, x: int) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # the same one, by another way
        now[0] += 10
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(SweepInterrupted) as caught:
        Job(experiment, task, grid(x=range(3)), JobOptions(progress=False), clock=lambda: now[0]).run()
    assert (caught.value.result.complete, caught.value.result.cancelled) == (0, 3)
    said = "the sweep was interrupted (3 cancelled in 10.0 s); make the same call again to run the rest"
    assert str(caught.value) == said
    assert str(SweepInterrupted()) == "the sweep was interrupted; make the same call again to run the rest"
    assert experiment.reader.table()[0]["failure_reason"] == "KeyboardInterrupt"


def test_no_point_begins_that_would_probably_end_after_the_time_limit() -> None:
    now = [0.0]

    def task(log: Logbook, x: int) -> None:
        now[0] += 10

    options = JobOptions(progress=False, time_limit=35)
    result = Job(Experiment("limit", "memory://jobs"), task, grid(x=range(9)), options, clock=lambda: now[0]).run()
    assert (result.complete, result.cancelled, result.seconds) == (3, 6, 30)


def test_the_points_that_remain_are_not_those_that_others_have_completed() -> None:
    experiment = Experiment("remain", "memory://jobs")
    job(experiment, Calls(), 4)
    result = job(experiment, Calls(), 10, time_limit=0)
    assert (result.complete, result.skipped, result.cancelled) == (0, 4, 6)
    assert job(experiment, Calls(), 4, time_limit=0).counts["cancelled"] == 0


def kill(experiment: Experiment, x: int, deaths: int = 0) -> None:
    """Leave a run as a process does that was killed, after other attempts that were killed."""
    path = experiment.runs_dir / f"log_{experiment.run_id(x=x)}" / "metadata.json"
    fields = json.loads(path.read_text())
    start = fields["start_time"]
    begin, _, tick = processes.identity().rpartition("/")
    fields["lease"]["process"] = f"{begin}/{int(tick) - 1}"
    fields |= {"status": "initialized", "resumes": [{"time": start, "after": "died"}] * deaths}
    path.write_text(json.dumps(fields))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux names processes")
def test_dead_runs_are_resumed_but_not_if_their_process_is_killed_each_time() -> None:
    experiment = Experiment("dead", "memory://jobs")
    began = experiment.reader  # of no run
    job(experiment, Calls(), 2, job="array")
    kill(experiment, 0)
    kill(experiment, 1, deaths=3)
    calls = Calls()
    result = job(experiment, calls, 2, job="array", retries=0)
    assert (result.complete, result.failed, calls, len(began)) == (1, 1, [0], 2)
    assert "its process was killed 4 times in this job" in result.failures[0].reason
    assert metadata(experiment, 0)["resumes"][-1]["after"] == "died"
    kill(experiment, 1, deaths=3)
    assert job(experiment, calls, 2, job="another").complete == 1


def test_the_run_of_another_process_is_left_to_it() -> None:
    experiment = Experiment("others", "memory://jobs")
    with experiment.add(x=1):
        result = job(experiment, Calls(), 3)
        assert (result.complete, result.busy, result.failures[0].params) == (2, 1, {"x": 1})


def test_the_run_of_another_process_is_waited_for() -> None:
    experiment = Experiment("waiting", "memory://jobs")
    log = experiment.add(x=1)
    options = JobOptions(progress=False, wait=True)
    result = Job(experiment, Calls(), grid(x=range(3)), options, sleep=lambda _: log.mark_complete()).run()
    assert (result.complete, result.skipped, result.busy) == (2, 1, 0)


def test_a_task_that_exits_does_not_end_the_process() -> None:
    def task(log: Logbook, x: int) -> None:
        sys.exit(x)

    result = job(Experiment("exits", "memory://jobs"), task, 3)
    assert (result.complete, result.failed) == (1, 2)
    assert sorted(one.reason for one in result.failures) == ["sys.exit(1)", "sys.exit(2)"]


class Full(Wrapper):
    """A disk without space."""

    def put(self, key: str, data: bytes, match: str | None) -> str:
        raise OSError(errno.ENOSPC, "no space left")


def test_the_process_gives_up_if_nothing_can_be_stored() -> None:
    experiment = Experiment("full", Full(open_store("memory://jobs-full").backend))
    calls = Calls()
    with pytest.raises(SweepError, match="30 runs in a row could not be stored"):
        job(experiment, calls, 100)
    assert calls == []


def move(log: Logbook) -> Callable[[], None]:
    """Make a run look like that of another machine; return a function that sends its heartbeat."""
    path = log.path / "metadata.json"

    def beat() -> None:
        fields = json.loads(path.read_text())
        fields["lease"] |= {"process": "elsewhere/1/2/3", "heartbeat": 30}
        path.write_text(json.dumps(fields))

    beat()
    return beat


def test_a_run_of_another_machine_is_left_to_it_once_it_sends_a_heartbeat() -> None:
    experiment = Experiment("elsewhere", "memory://jobs")
    slept: list[float] = []
    with experiment.add(x=1) as log:
        beat = move(log)

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            beat()

        options = JobOptions(progress=False)
        result = Job(experiment, Calls(), grid(x=range(3)), options, clock=lambda: sum(slept), sleep=sleep).run()
    assert (result.complete, result.busy, len(slept)) == (2, 1, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux names processes")
def test_a_run_of_another_machine_that_dies_is_resumed() -> None:
    experiment = Experiment("gone", "memory://jobs")
    log = experiment.add(x=1)
    move(log)
    options = JobOptions(progress=False)
    result = Job(experiment, Calls(), grid(x=range(3)), options, sleep=lambda _: kill(experiment, 1)).run()
    assert (result.complete, result.busy) == (3, 0)
    assert metadata(experiment, 1)["resumes"][0]["after"] == "died"


def test_a_second_look_at_the_index_finds_what_others_have_completed() -> None:
    experiment, now = Experiment("look", "memory://jobs"), [0.0]
    begun: list[int] = []

    def task(log: Logbook, x: int) -> None:
        if not begun:  # another process completes the rest meanwhile
            others = [other for other in range(30) if other != x]
            experiment.sweep(Calls(), [{"x": other} for other in others], progress=False)
        begun.append(x)
        now[0] += 60

    result = Job(experiment, task, grid(x=range(30)), JobOptions(progress=False), clock=lambda: now[0]).run()
    assert (result.complete, result.skipped, len(begun)) == (1, 29, 1)
