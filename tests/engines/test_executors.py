"""Sweeps on engines with the interface of `concurrent.futures.Executor`: loky, joblib, executorlib, parsl."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engines import checks

NAMES = ("loky", "joblib", "executorlib", "parsl")


@pytest.fixture(params=NAMES, scope="module")
def executor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    # imported here, as executorlib warns at its import
    if request.param == "loky":
        import loky

        yield loky.get_reusable_executor(max_workers=2)
    elif request.param == "joblib":
        from joblib.externals import loky as loky_of_joblib

        yield loky_of_joblib.get_reusable_executor(max_workers=2)
    elif request.param == "executorlib":
        import executorlib

        with executorlib.SingleNodeExecutor(max_workers=2, block_allocation=True, restart_limit=3) as made:
            yield made
    else:
        from parsl.concurrent import ParslPoolExecutor

        with ParslPoolExecutor(parsl_config(tmp_path_factory.mktemp("parsl"))) as made:
            yield made


def parsl_config(folder: Path) -> Any:
    from parsl.config import Config
    from parsl.executors import HighThroughputExecutor
    from parsl.providers import LocalProvider

    nodes = HighThroughputExecutor(
        label="here",
        address="127.0.0.1",
        max_workers_per_node=2,
        provider=LocalProvider(init_blocks=1, max_blocks=1),
        heartbeat_period=1,
        heartbeat_threshold=5,
    )
    return Config(executors=[nodes], run_dir=str(folder))


def test_each_point_is_calculated_once(executor: Any, tmp_path: Path) -> None:
    checks.check_plain(executor, tmp_path)


def test_the_code_of_a_task_is_sent(executor: Any, tmp_path: Path) -> None:
    checks.check_code(executor, tmp_path)


def test_ctrl_c_lets_the_runs_end_that_have_begun(executor: Any, tmp_path: Path) -> None:
    """parsl cannot cancel, so there all points that were submitted are calculated."""
    checks.check_interrupted(executor, tmp_path, is_cancelled=not type(executor).__module__.startswith("parsl"))


def test_a_killed_process_costs_no_point(executor: Any, tmp_path: Path) -> None:
    checks.check_killed(executor, tmp_path)
