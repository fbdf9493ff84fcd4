"""Sweeps on Dask that take long: a scheduler restarted, a task that kills each worker, a driver killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from notata import Experiment
from notata.sweep import SweepError, grid
from tests.clusters import DaskCluster, dask_cluster
from tests.sweep.cluster_tasks import KILLED, check_stored, dies_always, square, stored


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DaskCluster]:
    with dask_cluster(tmp_path) as cluster:
        yield cluster


def test_a_restarted_scheduler_costs_no_point(cluster: DaskCluster, tmp_path: Path) -> None:
    """The client connects to the new scheduler, which has no tasks; all calls in flight are submitted again."""

    def space() -> Iterator[dict[str, int]]:
        for number in range(200):
            if number == 100:
                cluster.restart_scheduler()
                for worker in cluster.workers:
                    worker.wait(100)
                cluster.replace_ended()
            yield {"number": number}

    with cluster.client() as client:
        result = Experiment("restarted", tmp_path).sweep(square, space(), client, max_in_flight=60)
    assert (result.complete + result.skipped, result.failed, result.lost) == (199, 1, 0)
    check_stored(tmp_path / "restarted", 200)


def test_a_scheduler_that_does_not_come_back_ends_the_sweep(cluster: DaskCluster, tmp_path: Path) -> None:
    def space() -> Iterator[dict[str, int]]:
        for number in range(100):
            if number == 50:
                cluster.close()
            yield {"number": number}

    cluster.client().close()  # now it is up
    with cluster.client(timeout=5) as client, pytest.raises(SweepError, match="takes no more work"):
        Experiment("gone", tmp_path).sweep(square, space(), client, max_in_flight=20)


def test_a_task_that_kills_each_worker_ends_as_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "0")
    with dask_cluster(tmp_path, workers=6) as cluster, cluster.client() as client:
        result = Experiment("poison", tmp_path).sweep(dies_always, grid(number=range(8)), client, retries=0)
    assert (result.complete, result.failed, result.lost) == (6, 1, 1)
    assert "KilledWorker" in next(failure.reason for failure in result.failures if failure.kind == "lost")
    status, resumes = stored(tmp_path / "poison")[KILLED]
    assert (status, resumes) == ("failed", ["died", "died", "died"])


DRIVER = """
import sys

from distributed import Client
from notata import Experiment
from notata.sweep import grid
from tests.sweep.cluster_tasks import square

with Client(sys.argv[1]) as client:
    print(Experiment("driven", sys.argv[2]).sweep(square, grid(number=range(300)), client).counts)
"""


def test_a_killed_driver_is_started_again(cluster: DaskCluster, tmp_path: Path) -> None:
    command = [sys.executable, "-c", DRIVER, cluster.address, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as first:
        while len(list(tmp_path.glob("driven/runs/*"))) < 50:
            assert first.poll() is None
        first.send_signal(signal.SIGKILL)
        assert first.wait() == -signal.SIGKILL
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert "'failed': 1, 'lost': 0, 'busy': 0" in done.stdout
    check_stored(tmp_path / "driven", 300)
