"""The cost of whole runs on a disk: system calls, calls of Python, and threads. Counts do not depend on other load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from notata import ExperimentReader, LogReader
from tests.run_costs import LINES

pytestmark = pytest.mark.skipif(os.name == "nt", reason="other calls are made there")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("costs")


@pytest.fixture(scope="module")
def costs(folder: Path) -> Any:
    root = Path(__file__).parent.parent
    command = [sys.executable, "-m", "tests.run_costs", str(folder)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, cwd=root).stdout)


def test_the_system_calls_of_a_run(costs: Any, folder: Path) -> None:
    counted = costs["system calls"]["run"]
    lines = LINES + 4  # begun, parameters, metrics, ended
    assert counted["flock"] == 2 * lines + 4  # the file and its folder, when the end is stored
    assert counted["write"] == lines + 5  # parameters, metrics, manifest, and metadata twice
    assert counted["link"] == 2  # metadata.json and manifest.json are created if there are none
    assert counted["replace"] == 3  # parameters, metrics, and the end in metadata.json
    assert counted["mkdir"] == 2
    assert counted["open"] <= 23
    assert counted["scandir"] == 2
    assert sum(counted.values()) <= 150
    assert LogReader(folder / "log_run").verify().ok


def test_the_system_calls_of_a_run_of_an_experiment(costs: Any, folder: Path) -> None:
    counted = costs["system calls"]["point"]
    assert counted["mkdir"] == 4  # the run, data, plots, artifacts
    assert counted["open"] <= 54
    assert sum(counted.values()) <= 182
    assert sorted(row["y"] for row in ExperimentReader(folder / "e").table()) == [0, 1, 4, 100, 400]


def test_runs_call_few_functions(costs: Any) -> None:
    """A call of Python takes a tenth of a microsecond or more; most of a short run is such calls."""
    counted = costs["python calls"]
    assert counted["run"] < 4700
    assert counted["run with environment"] < 4900
    assert counted["run with code"] < counted["run with environment"] + 900
    assert counted["point"] < 4500


def test_the_code_of_a_run_is_two_more_files(costs: Any, folder: Path) -> None:
    counted = costs["system calls"]
    assert counted["run with code"]["replace"] == counted["run"]["replace"] + 2  # the patch, the packages
    assert sum(counted["run with code"].values()) <= sum(counted["run"].values()) + 40
    assert LogReader(folder / "log_run-with-code").verify().ok
    assert "+a = 2" in (folder / "log_run-with-code" / "code" / "diff.patch").read_text()


def test_short_runs_start_no_threads(costs: Any) -> None:
    """The heartbeat needs a thread only when the run lasts longer than its interval."""
    assert costs["threads"] in ([], ["notata-alarms"])  # it waits for all runs of the process
