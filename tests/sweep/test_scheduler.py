"""The order of the points, and what the environment says about the job."""

from __future__ import annotations

import time
import tracemalloc
from collections import Counter

import pytest

from notata.errors import ConfigurationError
from notata.sweep.order import Permutation
from notata.sweep.scheduler import job_of, parsed_seconds, seconds_left


@pytest.mark.parametrize("size", [0, 1, 2, 3, 5, 64, 65, 1000])
def test_an_order_has_each_number_once(size: int) -> None:
    assert sorted(Permutation(size, "seed")) == list(range(size))


def test_an_order_depends_on_its_seed_only() -> None:
    first = Permutation(10**6, "a")
    assert first[:1000] == Permutation(10**6, "a")[:1000] != Permutation(10**6, "b")[:1000]
    assert first[-1] == first[10**6 - 1]
    with pytest.raises(IndexError):
        first[10**6]


def test_processes_begin_anywhere() -> None:
    begun = Counter(Permutation(10, str(seed))[0] for seed in range(2000))
    assert all(120 < begun[number] < 280 for number in range(10))


def test_an_order_takes_no_memory() -> None:
    tracemalloc.start()
    order = Permutation(10**9, "seed")
    assert len({order[place] for place in range(100)}) == 100
    assert tracemalloc.get_traced_memory()[1] < 50_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("environment", "job"),
    [
        ({}, None),
        ({"SLURM_ARRAY_JOB_ID": "12", "SLURM_JOB_ID": "17", "SLURM_STEP_ID": "0"}, "slurm-12"),
        ({"SLURM_ARRAY_JOB_ID": "12", "SLURM_CLUSTER_NAME": "big one"}, "slurm-big-one-12"),
        ({"SLURM_JOB_ID": "17", "SLURM_STEP_ID": "3"}, "slurm-17.3"),
        ({"SLURM_JOB_ID": "17"}, None),  # an interactive allocation, in which several calls can follow each other
        ({"PBS_JOBID": "99[4].head.cluster"}, "pbs-99"),
        ({"PBS_JOBID": "99.head.cluster"}, None),
        ({"LSB_JOBID": "5", "LSB_JOBINDEX": "2"}, "lsf-5"),
        ({"LSB_JOBID": "5", "LSB_JOBINDEX": "0"}, None),
        ({"JOB_ID": "6", "SGE_TASK_ID": "1"}, "sge-6"),
        ({"JOB_ID": "6", "SGE_TASK_ID": "undefined"}, None),
    ],
)
def test_the_processes_of_a_job_array_have_one_name(environment: dict[str, str], job: str | None) -> None:
    assert job_of(environment) == job


def test_the_end_of_a_slurm_job() -> None:
    assert seconds_left({}) is None
    assert seconds_left({"SLURM_JOB_END_TIME": "never"}) is None
    end = int(time.time()) + 100
    before = time.time()
    left = seconds_left({"SLURM_JOB_END_TIME": str(end)})
    assert left is not None
    assert end - time.time() <= left <= end - before


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1.5", 1.5), ("3:50:00", 13800), ("02:30", 150), ("1-12:00:00", 129600), ("0", 0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parsed_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1", "nan", "1e99", "1:2:3:4", "1-30", "3h"])
def test_durations_that_are_none(text: str) -> None:
    with pytest.raises(ConfigurationError, match="write seconds, or hours, minutes and seconds such as 3:50:00"):
        parsed_seconds(text)
