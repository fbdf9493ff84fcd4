"""Sweeps on Ray: the module is passed, or an engine with options of `ray.remote`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from notata.sweep.adapters import Ray
from tests.engines import checks


@pytest.fixture(scope="module", autouse=True)
def _running() -> Iterator[None]:
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        _node_ip_address="127.0.0.1",
        object_store_memory=100 * 2**20,
    )
    yield
    ray.shutdown()


def test_each_point_is_calculated_once(tmp_path: Path) -> None:
    checks.check_plain(ray, tmp_path)


def test_the_code_of_a_task_is_sent(tmp_path: Path) -> None:
    checks.check_code(ray, tmp_path)


def test_ray_calls_a_task_again_whose_process_was_killed(tmp_path: Path) -> None:
    assert checks.check_killed(ray, tmp_path).lost == 0


def test_a_loss_that_ray_reports_is_submitted_again(tmp_path: Path) -> None:
    checks.check_killed(Ray(ray, max_retries=0), tmp_path)


def test_ctrl_c_lets_the_runs_end_that_have_begun(tmp_path: Path) -> None:
    checks.check_interrupted(ray, tmp_path)
