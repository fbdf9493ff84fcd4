"""Sweeps on a Dask cluster of two processes: lost workers, cancelled futures, a client that is closed."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import distributed
import pytest

from notata import ConfigurationError, Experiment
from notata.sweep import SweepError, grid
from tests.clusters import DaskCluster, dask_cluster
from tests.sweep.cluster_tasks import KILLED, check_stored, dies_once, square, stored

POINTS = 12


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    with dask_cluster(tmp_path_factory.mktemp("dask")) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: DaskCluster) -> Iterator[distributed.Client]:
    cluster.replace_ended()
    with cluster.client() as client:
        yield client


@pytest.mark.parametrize("kind", ["client", "executor"])
def test_each_point_is_calculated_once(kind: str, client: distributed.Client, tmp_path: Path) -> None:
    experiment = Experiment("plain", tmp_path)
    executor: Any = client if kind == "client" else client.get_executor()
    result = experiment.sweep(square, grid(number=range(POINTS)), executor, retries=0)
    assert (result.complete, result.failed, result.lost) == (POINTS - 1, 1, 0)
    assert result.failures[0].reason == "no square of 3"
    check_stored(tmp_path / "plain", POINTS)
    again = experiment.sweep(square, grid(number=range(POINTS)), executor, retries=0)
    assert (again.complete, again.skipped, again.failed) == (0, POINTS - 1, 1)
    assert all(resumes == [] for _, resumes in stored(tmp_path / "plain").values())


def test_a_task_of_a_script_is_sent_with_its_code(client: distributed.Client, tmp_path: Path) -> None:
    offset = 5
    result = Experiment("code", tmp_path).sweep(lambda log, number: {"y": number + offset}, grid(number=[1, 2]), client)
    assert sorted(row["y"] for row in result.table()) == [6, 7]


def test_a_killed_worker_costs_no_point(client: distributed.Client, tmp_path: Path) -> None:
    """Dask calls the task again in the other process, where the run resumes at once, as its process is gone.

    It also repeats calls whose results were lost with the process; these find their runs complete.
    """
    task = partial(dies_once, folder=str(tmp_path))
    result = Experiment("killed", tmp_path).sweep(task, grid(number=range(POINTS)), client, retries=0)
    assert (result.complete + result.skipped, result.failed, result.lost) == (POINTS - 1, 1, 0)
    check_stored(tmp_path / "killed", POINTS)
    assert stored(tmp_path / "killed")[KILLED] == ("complete", ["died"])


def test_cancelled_futures_are_submitted_again(client: distributed.Client, tmp_path: Path) -> None:
    """Someone cancels all futures of the client, twice."""

    def space() -> Iterator[dict[str, int]]:
        for number in range(40):
            if number in (15, 30):
                client.cancel([distributed.Future(key, client) for key in list(client.futures)])
            yield {"number": number}

    result = Experiment("cancelled", tmp_path).sweep(square, space(), client, max_in_flight=10)
    assert (result.complete + result.skipped, result.failed, result.lost) == (39, 1, 0)
    check_stored(tmp_path / "cancelled", 40)


def test_a_closed_client_ends_the_sweep(client: distributed.Client, tmp_path: Path) -> None:
    def space() -> Iterator[dict[str, int]]:
        yield {"number": 1}
        client.close()
        yield {"number": 2}

    with pytest.raises(SweepError, match="takes no more work") as caught:
        Experiment("closed", tmp_path).sweep(square, space(), client)
    assert caught.value.result.failed == 0


def test_an_asynchronous_client_is_refused(tmp_path: Path) -> None:
    facts = {"__init__": lambda self: None, "__repr__": lambda self: "<Client>", "asynchronous": True}
    client = type("Client", (distributed.Client,), facts)()
    with pytest.raises(ConfigurationError, match="<Client> as executor: it is asynchronous"):
        Experiment("asynchronous", tmp_path).sweep(square, [], client)
