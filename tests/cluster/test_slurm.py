"""Job arrays of `notata sweep run` on a real Slurm: cancelled, requeued, at their time limit, killed.

``pytest tests/cluster`` starts a cluster of one node; see `tests.cluster.slurm` for what it needs. Some four minutes.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from notata import Experiment
from notata.sweep import grid
from tests.cluster.slurm import Cluster, cluster, wait_until

TASK = """
import os, time

def solve(log, x):
    with open("begun.txt", "a") as file:
        file.write(f"{x} {os.getpid()}\\n")
    time.sleep(float(os.environ["SECONDS"]))
    return {"y": x * x}
"""
RUN = f"{sys.executable} -m notata sweep run task.py:solve space.toml"


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("slurm")) as found:
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "task.py").write_text(TASK)
    return tmp_path


def write_space(folder: Path, count: int) -> None:
    (folder / "space.toml").write_text(f'experiment = "e"\nbase_dir = "runs"\n[grid]\nx = {{ range = [{count}] }}\n')


def runs(folder: Path) -> list[dict[str, Any]]:
    """Return the content of each metadata.json."""
    found = []
    for path in (folder / "runs/e/runs").glob("log_*/metadata.json"):
        found.append(json.loads(path.read_text()))
    return found


def statuses(folder: Path) -> Counter[str]:
    return Counter(fields["status"] for fields in runs(folder))


def begun(folder: Path) -> list[list[str]]:
    path = folder / "begun.txt"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def check_complete(folder: Path, count: int) -> None:
    """Check that each point is complete, and that no task was called except by an attempt of its run."""
    found = runs(folder)
    assert sorted(fields["row"]["params"]["x"] for fields in found) == list(range(count))
    assert statuses(folder) == {"complete": count}
    assert all(fields["row"]["metrics"]["y"] == fields["row"]["params"]["x"] ** 2 for fields in found)
    calls = Counter(int(x) for x, _ in begun(folder))
    attempts = {fields["row"]["params"]["x"]: 1 + len(fields.get("resumes", [])) for fields in found}
    assert all(1 <= calls[x] <= attempts[x] for x in range(count))
    assert all(entry["after"] != "complete" for fields in found for entry in fields.get("resumes", []))
    lines = (folder / "runs/e/index.csv").read_text().splitlines()
    assert len(lines) == len(set(lines)) == count + 1


def exit_codes(folder: Path, job: str) -> list[int]:
    texts = [path.read_text() for path in sorted(folder.glob(f"job-{job}-*.txt"))]
    return [int(text.rpartition("exit code ")[2]) for text in texts if "exit code " in text]


def test_an_array_of_50_tasks_is_cancelled_and_submitted_again(slurm: Cluster, folder: Path) -> None:
    write_space(folder, 150)
    job = slurm.submit(folder, f"srun {RUN}", "--array=0-49", SECONDS="0.5")
    wait_until(lambda: statuses(folder)["complete"] >= 30, "the sweep makes no progress", 120)
    slurm.run("scancel", job)
    slurm.wait(job)
    found = statuses(folder)
    assert 30 <= found["complete"] < 150
    assert found.keys() <= {"complete", "failed"}
    reasons = {fields["failure_reason"] for fields in runs(folder) if fields["status"] == "failed"}
    assert reasons <= {"SIGTERM"}

    again = slurm.submit(folder, f"srun {RUN}", "--array=0-49", SECONDS="0.1")
    slurm.wait(again)
    assert exit_codes(folder, again) == [0] * 50
    check_complete(folder, 150)
    assert sorted(os.listdir(folder / "runs/e/sweeps")) == [f"slurm-tests-{job}.json", f"slurm-tests-{again}.json"]


def test_a_task_that_is_requeued_resumes_its_point(slurm: Cluster, folder: Path) -> None:
    write_space(folder, 40)
    job = slurm.submit(folder, f"srun {RUN}", "--array=0-1", "--requeue", SECONDS="1")
    wait_until(lambda: len(begun(folder)) >= 6, "the sweep makes no progress")
    slurm.run("scontrol", "requeue", f"{job}_0")
    wait_until(lambda: statuses(folder)["failed"] == 1, "no run was interrupted")
    (interrupted,) = (fields for fields in runs(folder) if fields["status"] == "failed")
    assert interrupted["failure_reason"] == "SIGTERM"
    wait_until(lambda: "PENDING" in slurm.run("scontrol", "show", "job", f"{job}_0"), "the task is not queued")
    slurm.run("scontrol", "update", f"JobId={job}_0", "StartTime=now")  # by default two minutes later
    slurm.wait(job)
    assert "Restarts=1" in slurm.run("scontrol", "show", "job", f"{job}_0")
    check_complete(folder, 40)
    assert [fields["resumes"][0]["failure_reason"] for fields in runs(folder) if "resumes" in fields] == ["SIGTERM"]


def test_a_signal_before_the_time_limit(slurm: Cluster, folder: Path) -> None:
    write_space(folder, 60)
    job = slurm.submit(folder, f"srun {RUN}", "--time=1", "--signal=TERM@20", SECONDS="2")
    slurm.wait(job)
    assert exit_codes(folder, job) == [75]
    found = statuses(folder)
    assert found.keys() == {"complete", "failed"}
    assert found["failed"] == 1
    again = slurm.submit(folder, f"srun {RUN}", "--array=0-3", SECONDS="0")
    slurm.wait(again)
    check_complete(folder, 60)


def test_the_batch_shell_passes_a_signal_on_with_exec(slurm: Cluster, folder: Path) -> None:
    write_space(folder, 60)
    job = slurm.submit(folder, f"exec {RUN}", "--time=1", "--signal=B:USR1@20", SECONDS="2")
    slurm.wait(job)
    assert statuses(folder).keys() == {"complete"}  # the running point was completed
    assert "remain" in (folder / f"job-{job}-4294967294.txt").read_text()


def test_the_points_of_a_killed_task_are_run_by_the_others(slurm: Cluster, folder: Path) -> None:
    write_space(folder, 30)
    job = slurm.submit(folder, f"srun {RUN}", "--array=0-2", SECONDS="1")
    wait_until(lambda: len(begun(folder)) >= 6, "the sweep makes no progress")
    os.kill(int(begun(folder)[-1][1]), signal.SIGKILL)
    slurm.wait(job)
    check_complete(folder, 30)
    resumed = [fields["resumes"] for fields in runs(folder) if "resumes" in fields]
    assert [[entry["after"] for entry in entries] for entries in resumed] == [["died"]]


def square(log: Any, x: int, folder: str) -> dict[str, int]:
    (Path(folder) / f"{x}.txt").open("a").write("called\n")
    return {"y": x * x}


def test_submitit(slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import submitit

    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    executor = submitit.AutoExecutor(folder=tmp_path / "jobs", cluster="slurm")
    executor.update_parameters(timeout_min=5, cpus_per_task=1, slurm_array_parallelism=4)
    experiment = Experiment("e", tmp_path / "runs")
    result = experiment.sweep(square, grid(x=range(12), folder=str(tmp_path)), executor)
    assert (result.complete, result.failed, result.lost) == (12, 0, 0)
    assert sorted(row["y"] for row in experiment.reader.table()) == [x * x for x in range(12)]
    assert {path.read_text() for path in tmp_path.glob("*.txt")} == {"called\n"}


def slow_once(log: Any, x: int, folder: str) -> dict[str, int]:
    begun = Path(folder) / f"{x}.txt"
    is_first = not begun.exists()
    with begun.open("a") as file:
        file.write("called\n")
    if is_first and x == 1:
        time.sleep(60)
    return {"y": x * x}


def test_a_job_of_submitit_resumes_its_run_after_the_signal_of_the_time_limit(
    slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That submitit notices a cancelled job is not tested: it asks ``sacct``, which needs an accounting database."""
    import submitit

    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    executor = submitit.AutoExecutor(folder=tmp_path / "jobs", cluster="slurm")
    executor.update_parameters(timeout_min=5, cpus_per_task=1)
    experiment = Experiment("e", tmp_path / "runs")

    def interrupt() -> None:
        wait_until((tmp_path / "1.txt").exists, "the point does not begin")
        wait_until(lambda: len(slurm.run("squeue", "-h", "-o", "%i").split()) == 1, "the other jobs have not ended")
        slurm.run("scancel", "--signal=USR2", slurm.run("squeue", "-h", "-o", "%i"))
        wait_until(lambda: "PD" in slurm.run("squeue", "-h", "-o", "%t"), "no job is queued again", 120)
        slurm.run("scontrol", "update", f"JobId={slurm.run('squeue', '-h', '-o', '%i')}", "StartTime=now")

    with ThreadPoolExecutor(1) as pool:
        interrupted = pool.submit(interrupt)
        result = experiment.sweep(slow_once, grid(x=range(3), folder=str(tmp_path)), executor)
        interrupted.result()
    assert (result.complete, result.failed, result.lost) == (3, 0, 0)
    assert sorted(row["y"] for row in experiment.reader.table()) == [0, 1, 4]
    assert (tmp_path / "1.txt").read_text() == "called\ncalled\n"
