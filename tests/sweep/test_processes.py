"""A sweep in processes: killed ones, Ctrl-C, a killed driver."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path

import pytest

from notata import Experiment, SweepError
from notata._base import processes
from notata.sweep import grid
from notata.sweep.processes import Processes
from tests.sweep import tasks

ROOT = Path(__file__).parents[2]


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.01)


def test_points_run_in_processes_and_the_driver_writes_their_rows(tmp_path: Path) -> None:
    experiment = Experiment("two", tmp_path)
    result = experiment.sweep(tasks.double, grid(x=range(10)), 2)
    assert (result.complete, result.failed) == (10, 0)
    pids = {run.meta["lease"]["pid"] for run in experiment.reader}
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert sorted(row["y"] for row in result.table()) == list(range(0, 20, 2))
    assert experiment.index_file.read_text().count("complete") == 10


def test_a_killed_process_is_replaced_and_its_run_is_resumed(tmp_path: Path) -> None:
    experiment = Experiment("killed", tmp_path)
    result = experiment.sweep(tasks.killed_once, grid(x=range(11), folder=str(tmp_path)), 2)
    assert (result.complete, result.lost, result.failed) == (11, 0, 0)
    resumed = {run.params["x"]: [entry["after"] for entry in run.meta.get("resumes", [])] for run in experiment.reader}
    assert resumed == {x: ["died"] if x % 5 == 0 else [] for x in range(11)}


def test_a_point_that_kills_its_process_each_time_is_lost_and_no_other_one(tmp_path: Path) -> None:
    result = Experiment("killer", tmp_path).sweep(tasks.killer, grid(x=range(8)), 2)
    assert (result.complete, result.lost, result.failed) == (7, 1, 0)
    (failure,) = result.failures
    assert (failure.params, failure.kind) == ({"x": 3}, "lost")
    assert "its worker was lost 3 times" in failure.reason
    assert failure.reader.meta["status"] == "failed"


SCRIPT = """
import sys
from notata import Experiment
from notata.sweep import SweepInterrupted, grid
from tests.sweep import tasks
{guard}
    try:
        result = Experiment("script", sys.argv[1]).sweep(
            getattr(tasks, sys.argv[2]), grid(x=range(int(sys.argv[3])), folder=sys.argv[1]), {executor}
        )
        print(result)
    except SweepInterrupted as error:
        print("interrupted:", error.result.counts)
        raise
"""


@contextmanager
def script(
    folder: Path, task: str, points: int, *, executor: str = "2", guard: str = 'if __name__ == "__main__":'
) -> Iterator[subprocess.Popen[str]]:
    """Start a script in a process group of its own, as a shell does."""
    path = folder / "script.py"
    path.write_text(SCRIPT.format(executor=executor, guard=guard))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    command = [sys.executable, str(path), str(folder), task, str(points)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def begun(folder: Path) -> list[int]:
    """Return the ids of processes that work on a point."""
    return [int(text) for path in folder.glob("began-*") if (text := path.read_text())]


def test_a_script_without_guard_is_told_what_to_do(tmp_path: Path) -> None:
    with script(tmp_path, "double", 3, guard="if True:") as process:
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    assert 'put that below `if __name__ == "__main__":`' in errors.splitlines()[-1]


def test_the_first_ctrl_c_waits_for_the_runs_that_have_begun(tmp_path: Path) -> None:
    with script(tmp_path, "slow", 20) as process:
        wait_for(lambda: len(begun(tmp_path)) == 2)
        os.killpg(process.pid, signal.SIGINT)  # what a terminal sends
        assert process.stderr is not None
        line = process.stderr.readline() + process.stderr.readline()
        (tmp_path / "go").touch()
        output, _ = process.communicate(timeout=120)
    assert "no more runs will start" in line
    assert "'complete': 2" in output
    cancelled = re.search(r"'cancelled': (\d+)", output)
    assert cancelled is not None
    assert int(cancelled[1]) <= 2  # the driver may already have given each process one more
    assert process.returncode not in (0, None)
    runs = list(Experiment("script", tmp_path).reader)
    assert [run.meta["status"] for run in runs] == ["complete", "complete"]


def test_the_second_ctrl_c_leaves_and_a_later_sweep_completes(tmp_path: Path) -> None:
    with script(tmp_path, "slow", 4) as process:
        wait_for(lambda: len(begun(tmp_path)) == 2)
        pids = begun(tmp_path)
        os.killpg(process.pid, signal.SIGINT)
        assert process.stderr is not None
        process.stderr.readline()
        os.killpg(process.pid, signal.SIGINT)
        process.wait(60)
        wait_for(lambda: not any(is_alive(pid) for pid in pids))
    experiment = Experiment("script", tmp_path)
    assert {run.state.status for run in experiment.reader} == {"died"}
    (tmp_path / "go").touch()
    result = experiment.sweep(tasks.slow, grid(x=range(4), folder=str(tmp_path)))
    assert (result.complete, result.skipped) == (4, 0)


def test_the_processes_end_with_a_driver_that_is_killed(tmp_path: Path) -> None:
    with script(tmp_path, "slow", 4) as process:
        wait_for(lambda: len(begun(tmp_path)) == 2)
        pids = begun(tmp_path)
        process.kill()
        wait_for(lambda: not any(is_alive(pid) for pid in pids))
    assert {run.state.status for run in Experiment("script", tmp_path).reader} == {"died"}


def test_ctrl_c_in_this_thread_ends_after_the_current_run(tmp_path: Path) -> None:
    with script(tmp_path, "slow", 4, executor="None") as process:
        wait_for(lambda: begun(tmp_path))
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        process.stderr.readline()
        (tmp_path / "go").touch()
        output, _ = process.communicate(timeout=60)
    assert "'complete': 1" in output
    assert process.returncode != 0


def test_no_queued_call_begins_once_the_engine_is_halted(tmp_path: Path) -> None:
    engine = Processes(1)
    futures = [engine.submit(tasks.slow, None, x, str(tmp_path)) for x in range(4)]
    wait_for(lambda: begun(tmp_path))
    engine.halt()
    (tmp_path / "go").touch()
    assert futures[0].result() == {"y": 0}
    for future in futures[1:]:
        with pytest.raises(CancelledError):
            future.result()
    engine.close()


def is_alive(pid: int) -> bool:
    return bool(processes.identity(pid))


def test_processes_that_cannot_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "__file__", str(tmp_path / "missing.py"), raising=False)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    with pytest.raises(SweepError, match="the processes end while they start; see their output for the reason"):
        Experiment("none", tmp_path).sweep(tasks.double, grid(x=range(3)), 1)
