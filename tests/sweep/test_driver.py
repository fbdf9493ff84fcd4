"""`Experiment.sweep`: each point once, failures, lost calls, runs of other processes, memory."""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import signal
import subprocess
import sys
import threading
import tracemalloc
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from notata import ConfigurationError, Experiment, Logbook, RunMissingError, SweepError
from notata.errors import SweepInterrupted
from notata.store import open_store
from notata.sweep import grid
from notata.sweep.driver import Driver
from notata.sweep.engines import Engine
from notata.sweep.engines import Future as EngineFuture
from notata.sweep.executors import ThisThread
from notata.sweep.interrupts import Interrupts
from notata.sweep.known import Ids
from notata.sweep.options import Options
from notata.sweep.point import Outcome
from notata.table import LARGE, Row, write_parts
from notata.testing import FaultyBackend
from tests.servers import Server


def square(log: Logbook, x: float) -> dict[str, float]:
    return {"y": x**2}


class Calls:
    """A task that remembers its points."""

    def __init__(self, bad: tuple[int, ...] = ()) -> None:
        self.points: list[int] = []
        self.bad = bad

    def __call__(self, log: Logbook, x: int) -> None:
        self.points.append(x)
        if x in self.bad:
            raise ValueError(f"{x} is bad")


def index_of(experiment: Experiment) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(experiment.index_file.read_text())))


# -- each point once ---------------------------------------------------------------------------------------


def test_each_point_is_a_complete_run_with_its_metrics(tmp_path: Path) -> None:
    experiment = Experiment("plain", tmp_path)
    result = experiment.sweep(square, grid(x=range(5)))
    assert result.counts == {"complete": 5, "skipped": 0, "failed": 0, "lost": 0, "busy": 0, "cancelled": 0}
    assert sorted((row["x"], row["y"]) for row in result.table()) == [(0, 0), (1, 1), (2, 4), (3, 9), (4, 16)]
    assert sorted((row["x"], row["y"]) for row in index_of(experiment)) == [
        ("0", "0"), ("1", "1"), ("2", "4"), ("3", "9"), ("4", "16"),
    ]  # fmt: skip
    result.raise_failures()


def test_a_second_call_skips_what_is_complete_without_a_request_for_each() -> None:
    calls = Calls()
    backend = FaultyBackend(open_store("memory://sweep"))
    experiment = Experiment("again", backend)
    experiment.sweep(calls, grid(x=range(50)))
    backend.operations.clear()
    result = experiment.sweep(calls, grid(x=range(50)))
    assert (result.complete, result.skipped, len(calls.points)) == (0, 50, 50)
    assert len(backend.operations) < 10
    assert experiment.sweep(calls, grid(x=range(52))).counts["complete"] == 2


def test_a_row_that_a_killed_driver_did_not_write_is_written() -> None:
    experiment = Experiment("healed", "memory://sweep")
    experiment.sweep(square, grid(x=range(3)))
    experiment.index_file.unlink()
    result = experiment.sweep(square, grid(x=range(3)))
    assert (result.complete, result.skipped, len(index_of(experiment))) == (0, 3, 3)


def test_fresh_looks_at_each_run() -> None:
    experiment = Experiment("fresh", "memory://sweep")
    experiment.sweep(square, grid(x=range(2)))
    path = experiment.runs_dir / "log_fresh_x_1/metadata.json"
    before = path.stat().st_mtime
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({**stored, "status": "failed"}))
    assert path.stat().st_mtime >= before
    assert experiment.sweep(square, grid(x=range(2)), fresh=True).counts["complete"] == 1


def test_a_point_that_comes_twice_counts_once() -> None:
    calls = Calls()
    points: list[dict[str, float]] = [{"x": 1}, {"x": 1.0}, {"x": 2}, {"x": 1}]
    result = Experiment("twice", "memory://sweep").sweep(calls, points)
    assert (result.complete, result.skipped, calls.points) == (2, 0, [1, 2])


def test_the_table_has_the_points_of_the_sweep_only() -> None:
    experiment = Experiment("part", "memory://sweep")
    experiment.sweep(square, grid(x=range(5)))
    result = experiment.sweep(square, grid(x=[3, 4]))
    assert sorted(row["x"] for row in result.table()) == [3, 4]
    assert sorted(result.to_pandas()["x"]) == [3, 4]


def test_any_iterable_is_read_as_the_sweep_proceeds() -> None:
    calls = Calls()

    def points() -> Iterator[dict[str, int]]:
        for x in range(3):
            assert len(calls.points) == x
            yield {"x": x}

    assert Experiment("lazy", "memory://sweep").sweep(calls, points()).complete == 3


def test_threads() -> None:
    with ThreadPoolExecutor(3) as threads:
        result = Experiment("threads", "memory://sweep").sweep(square, grid(x=range(20)), threads)
    assert result.complete == len(result.table()) == 20


# -- failures ----------------------------------------------------------------------------------------------


def test_a_failure_is_tried_again_and_reported() -> None:
    calls = Calls(bad=(1,))
    result = Experiment("failing", "memory://sweep").sweep(calls, grid(x=range(3)), retries=2)
    assert (result.complete, result.failed, calls.points) == (2, 1, [0, 1, 2, 1, 1])
    (failure,) = result.failures
    assert (failure.params, failure.run_id, failure.kind, failure.reason) == (
        {"x": 1}, "failing_x_1", "failed", "1 is bad",
    )  # fmt: skip
    assert failure.url == "memory://sweep/failing/runs/log_failing_x_1"
    assert "Marked failed: 1 is bad" in str(failure.log())
    with pytest.raises(SweepError, match=r"1 point of memory.* no complete run.*failing_x_1: 1 is bad") as caught:
        result.raise_failures()
    assert caught.value.result is result
    html = result._repr_html_()
    assert "1 is bad" in html
    assert "failing_x_1" in html


def test_a_second_attempt_can_succeed() -> None:
    calls = Calls(bad=(1,))

    def heal(log: Logbook, x: int) -> None:
        try:
            calls(log, x)
        finally:
            calls.bad = ()

    experiment = Experiment("healing", "memory://sweep")
    result = experiment.sweep(heal, grid(x=range(3)))
    assert (result.complete, result.failed) == (3, 0)
    assert [row["status"] for row in index_of(experiment)] == ["complete"] * 3


def test_without_retries_runs_that_failed_before_are_left() -> None:
    calls = Calls(bad=(1,))
    experiment = Experiment("once", "memory://sweep")
    assert experiment.sweep(calls, grid(x=range(3)), retries=0).failed == 1
    result = experiment.sweep(calls, grid(x=range(3)), retries=0)
    assert (result.failed, result.skipped, calls.points) == (1, 2, [0, 1, 2])
    assert result.failures[0].reason == "1 is bad"
    calls.bad = ()
    assert experiment.sweep(calls, grid(x=range(3))).complete == 1


def test_a_point_with_bad_values_is_a_failure_and_the_sweep_continues() -> None:
    points: list[Any] = [{"x": 1}, {"x": object()}, {2: 1}, {"x": 3}]
    result = Experiment("bad", "memory://sweep").sweep(square, points)
    assert (result.complete, result.failed) == (2, 2)
    assert [(failure.params, failure.kind, failure.run_id) for failure in result.failures] == [
        (points[1], "not begun", ""), (points[2], "not begun", ""),
    ]  # fmt: skip
    assert "params.x" in result.failures[0].reason
    with pytest.raises(RunMissingError, match=r"the point \{2: 1\} has no run: "):
        result.failures[1].log()


def test_a_point_that_is_no_mapping_ends_the_sweep() -> None:
    with pytest.raises(ConfigurationError, match="invalid point 3: each point of a sweep is a dictionary"):
        Experiment("bad", "memory://sweep").sweep(square, [3])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("task", "space", "message"),
    [
        (square, None, "invalid space None: pass an iterable of dictionaries"),
        (square, 3, "invalid space 3: pass an iterable of dictionaries"),
        (square, "x", "invalid space 'x': pass an iterable of dictionaries"),
        (square, {"x": [1, 2]}, r"invalid space \{'x': \[1, 2\]\}: .* grid\(\*\*space\)"),
        (3, [{"x": 1}], r"invalid task 3: pass a function, which is called as task\(log, \*\*params\)"),
        (None, [{"x": 1}], "invalid task None: pass a function"),
    ],
)
def test_a_task_or_space_that_is_none_is_refused_before_any_run(task: Any, space: Any, message: str) -> None:
    experiment = Experiment("arguments", "memory://sweep")
    with pytest.raises(ConfigurationError, match=message):
        experiment.sweep(task, space)
    assert len(experiment.reader) == 0


def test_an_error_of_the_space_leaves_after_the_runs_that_have_begun() -> None:
    begun, gate = threading.Event(), threading.Event()

    def task(log: Logbook, x: int) -> None:
        begun.set()
        assert gate.wait(60)

    def points() -> Iterator[dict[str, int]]:
        yield {"x": 1}
        assert begun.wait(60)
        gate.set()
        raise ZeroDivisionError

    experiment = Experiment("broken", "memory://sweep")
    with ThreadPoolExecutor(1) as threads, pytest.raises(ZeroDivisionError):
        experiment.sweep(task, points(), threads)
    assert [row["status"] for row in index_of(experiment)] == ["complete"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retries": -1}, "invalid retries -1"),
        ({"retries": True}, "invalid retries True"),
        ({"max_in_flight": 0}, "invalid max_in_flight 0"),
        ({"wait": -1}, "invalid wait -1"),
        ({"wait": "long"}, "invalid wait 'long'"),
        ({"executor": 0}, "invalid executor 0"),
        ({"executor": "dask"}, "invalid executor 'dask'"),
    ],
)
def test_invalid_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Experiment("options", "memory://sweep").sweep(square, [], **options)


def test_only_a_thousand_failures_are_kept() -> None:
    points: Iterator[Mapping[str, Any]] = ({"x": object()} for _ in range(1500))
    result = Experiment("many", "memory://sweep").sweep(square, points)
    assert (result.failed, len(result.failures)) == (1500, 1000)


# -- storage -----------------------------------------------------------------------------------------------


def test_a_storage_that_fails_once_costs_one_attempt() -> None:
    backend = FaultyBackend(open_store("memory://sweep"))
    experiment = Experiment("faulty", backend)
    backend.fail(1, key="metadata.json")
    assert experiment.sweep(square, grid(x=range(3))).complete == 3


def test_a_storage_that_fails_for_many_runs_in_a_row_ends_the_sweep() -> None:
    backend = FaultyBackend(open_store("memory://sweep"))
    experiment = Experiment("dead", backend)
    lock = threading.Lock()

    class Down(ConnectionError):
        def __init__(self) -> None:
            super().__init__("down")
            with lock:
                backend.fail(1, error=Down)

    def task(log: Logbook, x: int) -> None:
        if x == 5:
            backend.fail(1, error=Down)

    with pytest.raises(
        SweepError, match=r"30 runs in a row could not begin or be stored.*no server answered"
    ) as caught:
        experiment.sweep(task, grid(x=range(1000)))
    assert caught.value.result.complete == 5
    backend.heal()
    for run in list(experiment.reader):
        assert run.run_id.startswith("dead_x_")


# -- lost calls --------------------------------------------------------------------------------------------


class Flaky(Executor):
    """Loses each third call, before or after it was made."""

    def __init__(self, *, after: bool) -> None:
        self.count = 0
        self.after = after

    def submit(self, fn: Callable[..., Any], /, *args: Any, **_: Any) -> Future[Any]:
        self.count += 1
        future: Future[Any] = Future()
        is_lost = self.count % 3 == 0
        if not is_lost or self.after:
            result = fn(*args)
        if is_lost:
            future.set_exception(BrokenExecutor("gone"))
        else:
            future.set_result(result)
        return future


@pytest.mark.parametrize("after", [False, True])
def test_a_lost_call_is_submitted_again(after: bool) -> None:
    experiment = Experiment("flaky", "memory://sweep")
    result = experiment.sweep(square, grid(x=range(20)), Flaky(after=after))
    assert (result.complete + result.skipped, result.lost, len(index_of(experiment))) == (20, 0, 20)
    assert all("resumes" not in run.meta for run in experiment.reader)


class Broken(Executor):
    """Takes three calls."""

    def __init__(self) -> None:
        self.count = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **_: Any) -> Future[Any]:
        self.count += 1
        if self.count > 3:
            raise BrokenExecutor("a worker was killed")
        future: Future[Any] = Future()
        future.set_result(fn(*args))
        return future


def test_an_executor_that_takes_no_more_work_ends_the_sweep() -> None:
    experiment = Experiment("broken", "memory://sweep")
    with pytest.raises(
        SweepError, match=r"the executor takes no more work: BrokenExecutor: a worker.*executor=4"
    ) as caught:
        experiment.sweep(square, grid(x=range(10)), Broken(), max_in_flight=5)
    assert isinstance(caught.value.__cause__, BrokenExecutor)
    assert (caught.value.result.complete, len(index_of(experiment))) == (3, 3)


class Losing(Executor):
    """Loses all calls."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **_: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_exception(BrokenExecutor("gone"))
        return future


def test_workers_that_are_all_lost_end_the_sweep() -> None:
    with pytest.raises(SweepError, match="10 workers in a row were lost: BrokenExecutor: gone"):
        Experiment("losing", "memory://sweep").sweep(square, grid(x=range(10)), Losing(), max_in_flight=2)


class Queueing(Engine):
    """Begins two calls, which end when the driver stops, and queues the others."""

    in_process = True

    def __init__(self) -> None:
        self.calls: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> EngineFuture:
        future: Future[Any] = Future()
        if len(self.calls) < 2:
            future.set_running_or_notify_cancel()
        self.calls.append((future, partial(function, *arguments)))
        return future

    def stop(self) -> None:
        for future, call in self.calls[:2]:
            future.set_result(call())


class Reentered:
    """A stderr that cannot be written to, as within another print."""

    def write(self, text: str) -> int:
        raise RuntimeError("reentrant call")

    def flush(self) -> None: ...


@pytest.mark.parametrize("is_open", [True, False])
def test_ctrl_c_cancels_the_calls_that_have_not_begun(is_open: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not is_open:
        monkeypatch.setattr(sys, "stderr", Reentered())

    def points() -> Iterator[dict[str, int]]:
        yield from ({"x": x} for x in range(4))
        signal.raise_signal(signal.SIGINT)
        yield {"x": 4}

    with pytest.raises(SweepInterrupted) as caught:
        Experiment("interrupted", "memory://sweep").sweep(square, points(), Queueing(), progress=False)
    assert (caught.value.result.complete, caught.value.result.cancelled) == (2, 2)


def test_ctrl_c_in_a_forked_worker_is_left_to_the_driver(capfd: pytest.CaptureFixture[str]) -> None:
    stopped: list[bool] = []

    def child() -> None:
        signal.raise_signal(signal.SIGINT)
        assert stopped == []
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    with Interrupts(lambda: stopped.append(True)):
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(60)
    assert process.exitcode == 0
    assert capfd.readouterr().err == ""


def test_the_number_of_calls_in_flight_is_bounded() -> None:
    most = 0

    class Counting(Executor):
        def __init__(self) -> None:
            self.open: list[tuple[Future[Any], Callable[[], Any]]] = []

        def submit(self, fn: Callable[..., Any], /, *args: Any, **_: Any) -> Future[Any]:
            nonlocal most
            future: Future[Any] = Future()
            self.open.append((future, lambda: fn(*args)))
            most = max(most, len(self.open))
            if len(self.open) == 7:
                threading.Thread(target=self.finish).start()
            return future

        def finish(self) -> None:
            calls, self.open = self.open, []
            for future, call in calls:
                future.set_result(call())

    result = Experiment("bound", "memory://sweep").sweep(square, grid(x=range(70)), Counting(), max_in_flight=7)
    assert (result.complete, most) == (70, 7)


# -- runs of other processes -------------------------------------------------------------------------------


def test_a_run_of_another_process_is_waited_for() -> None:
    experiment = Experiment("others", "memory://sweep")
    other = experiment.add(x=1)

    def task(log: Logbook, x: int) -> None:
        if x == 2:
            threading.Timer(0.1, other.mark_complete).start()

    result = experiment.sweep(task, grid(x=range(3)))
    assert (result.complete, result.skipped, result.busy) == (2, 1, 0)


def test_a_run_that_fails_in_another_process_is_tried_again() -> None:
    experiment = Experiment("others", "memory://sweep")
    other = experiment.add(x=1)

    def task(log: Logbook, x: int) -> None:
        if x == 2:
            threading.Timer(0.1, other.mark_failed, ["ill"]).start()

    assert experiment.sweep(task, grid(x=range(3))).complete == 3


def test_a_run_that_dies_in_another_process_is_resumed(tmp_path: Path) -> None:
    code = (
        "from notata import Experiment; log = Experiment('others', '.').add(x=1); print('begun', flush=True); input()"
    )
    other = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout is not None
    other.stdout.readline()
    calls = []

    def task(log: Logbook, x: int) -> None:
        calls.append(x)
        if x == 2:
            other.kill()
            other.communicate()

    experiment = Experiment("others", tmp_path)
    result = experiment.sweep(task, grid(x=[1, 2]))
    assert (result.complete, result.busy, calls) == (2, 0, [2, 1])
    assert experiment.reader["others_x_1"].meta["resumes"][0]["after"] == "died"


def test_a_death_counts_once_however_often_the_point_is_lost(tmp_path: Path) -> None:
    code = "import os; from notata import Experiment; Experiment('once', '.').add(x=1); os._exit(9)"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False)

    class Losing(Engine):
        """Loses four calls before it makes one, as a pool does whose process has just been killed."""

        in_process = True
        left = 4

        def submit(self, function: Callable[..., Any], /, *arguments: Any) -> EngineFuture:
            if not self.left:
                return ThisThread().submit(function, *arguments)
            self.left -= 1
            future: Future[Any] = Future()
            future.set_exception(BrokenExecutor("killed"))
            return future

    experiment = Experiment("once", tmp_path)
    result = experiment.sweep(lambda log, x: None, [{"x": 1}], Losing())
    assert (result.complete, result.lost) == (1, 0)
    assert len(experiment.reader["once_x_1"].meta["resumes"]) == 1


@pytest.mark.parametrize("wait", [False, 0.1])
def test_a_run_that_is_still_written_at_the_end_is_busy(wait: bool | float) -> None:
    experiment = Experiment("others", "memory://sweep")
    with experiment.add(x=1):
        result = experiment.sweep(square, grid(x=range(3)), wait=wait)
    assert (result.complete, result.busy) == (2, 1)
    assert (result.failures[0].kind, result.failures[0].params) == ("busy", {"x": 1})


# -- a bucket ----------------------------------------------------------------------------------------------


def test_in_a_bucket_the_rows_are_stored_when_the_sweep_returns(moto_server: Server) -> None:
    name = uuid.uuid4().hex
    experiment = Experiment(name, moto_server.url, storage_options=moto_server.options)
    with ThreadPoolExecutor(4) as threads:
        result = experiment.sweep(square, grid(x=range(12)), threads)
    assert result.complete == 12
    assert sorted(float(row["y"]) for row in index_of(experiment)) == [x**2 for x in range(12)]
    again = Experiment(name, moto_server.url, storage_options=moto_server.options).sweep(square, grid(x=range(12)))
    assert (again.complete, again.skipped) == (0, 12)


# -- memory ------------------------------------------------------------------------------------------------


class Instant(Engine):
    """Completes each call without making it."""

    in_process = True
    most = 100

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> EngineFuture:
        future: Future[Any] = Future()
        future.set_result(Outcome("", "complete"))
        return future


def memory_of_a_point() -> float:
    """Return the bytes that a sweep keeps for each point, without what libraries keep."""
    traced = []

    def points() -> Iterator[dict[str, int]]:
        for x in range(5000):
            if x in (1000, 4999):
                ours = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/notata/*")])
                traced.append(sum(one.size for one in ours.statistics("filename")))
            yield {"x": x}

    experiment = Experiment("memory", "memory://sweep")
    Driver(experiment, square, Instant(), Options()).sweep(grid(x=range(20)))  # imports what it needs
    tracemalloc.start()
    try:
        result = Driver(experiment, square, Instant(), Options()).sweep(points())
    finally:
        tracemalloc.stop()
    assert result.complete == 5000
    return (traced[1] - traced[0]) / 4000


def test_the_memory_of_a_point_is_that_of_a_digest() -> None:
    code = "from tests.sweep.test_driver import memory_of_a_point; print(memory_of_a_point())"
    root = Path(__file__).parents[2]  # in a process of its own, without the caches that other tests have filled
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 220  # in a set, which is merged into an array from time to time


def test_ids_are_kept_as_digests_of_16_bytes() -> None:
    Ids(map(str, range(20_000)))  # imports numpy
    tracemalloc.start()
    try:
        ids = Ids(f"run_{number}" for number in range(100_000))
        assert tracemalloc.get_traced_memory()[0] < 100_000 * 16 + 3_500_000
    finally:
        tracemalloc.stop()
    assert len(ids) == 100_000
    assert all(f"run_{number}" in ids for number in range(0, 100_000, 997))
    assert not any(f"run_{number}" in ids for number in range(100_000, 101_000))
    assert ids.add("run_7") is False
    assert ids.add("run_100000") is True


def test_this_thread_passes_interrupts_on() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ThisThread().submit(interrupted)


def test_a_large_index_is_trusted() -> None:
    backend = FaultyBackend(open_store("memory://sweep"))
    experiment = Experiment("large", backend)
    rows = [Row(experiment.run_id(x=x), "complete", {"x": x}, time=1.0) for x in range(LARGE + 1)]
    store = open_store("memory://sweep/large")
    write_parts(store, rows)
    store.write_many({f"runs/log_{row.run_id}/metadata.json": b"{}" for row in rows[1:]})
    backend.operations.clear()
    result = experiment.sweep(square, grid(x=range(LARGE + 2)))
    assert (result.skipped, result.complete) == (LARGE, 2)  # one run is new, and the folder of one was removed
    assert len(backend.operations) < 40


def test_a_run_that_the_task_has_ended_itself_is_whole(tmp_path: Path) -> None:
    def diverged(log: Logbook, x: int) -> dict[str, int]:
        log.mark_failed("diverged")
        return {"y": x}

    experiment = Experiment("ended", tmp_path)
    result = experiment.sweep(diverged, grid(x=[1]))
    assert (result.failed, result.failures[0].reason) == (1, "diverged")
    assert experiment.reader["ended_x_1"].verify().ok
    assert experiment.reader.table()[0]["y"] == 1
