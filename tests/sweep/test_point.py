"""`run_point`: how one point ends, in this process and pickled for another one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from notata import ConfigurationError, Experiment, Logbook
from notata.errors import Terminated
from notata.store import open_store
from notata.sweep.point import pickled_job, pickled_params, run_pickled, run_point
from notata.testing import FaultyBackend


@pytest.fixture
def experiment() -> Experiment:
    return Experiment("point", "memory://sweep-point")


def double(log: Logbook, x: int) -> dict[str, int]:
    return {"y": 2 * x}


def fields(experiment: Experiment, **params: Any) -> dict[str, Any]:
    path = experiment.runs_dir / f"log_{experiment.run_id(**params)}" / "metadata.json"
    return dict(json.loads(path.read_text()))


def test_a_complete_run(experiment: Experiment) -> None:
    outcome = run_point(experiment, double, {"x": 2})
    assert (outcome.kind, outcome.run_id) == ("complete", "point_x_2")
    assert outcome.row is not None
    assert (outcome.row.params, outcome.row.metrics) == ({"x": 2}, {"y": 4})
    assert fields(experiment, x=2)["status"] == "complete"
    assert not experiment.index_file.exists()  # the driver writes the rows


def test_a_complete_run_is_found_with_its_row(experiment: Experiment) -> None:
    first = run_point(experiment, double, {"x": 2})
    found = run_point(experiment, double, {"x": 2})
    assert (found.kind, found.row) == ("found complete", first.row)


def test_an_exception_fails_the_run_with_its_traceback(experiment: Experiment) -> None:
    def task(log: Logbook, x: int) -> None:
        raise ValueError(f"no {x}")

    outcome = run_point(experiment, task, {"x": 2})
    assert (outcome.kind, outcome.reason) == ("failed", "no 2")
    assert outcome.row is not None
    assert (outcome.row.status, outcome.row.failure_reason) == ("failed", "no 2")
    trace = experiment.runs_dir / "log_point_x_2/artifacts/debug/traceback.txt"
    assert "ValueError: no 2" in trace.read_text()


def test_a_failed_run_is_tried_again_unless_it_should_not(experiment: Experiment) -> None:
    experiment.add(x=2).mark_failed("too hot")
    left = run_point(experiment, double, {"x": 2}, retry_failed=False)
    assert (left.kind, left.reason) == ("found failed", "too hot")
    assert run_point(experiment, double, {"x": 2}).kind == "complete"
    assert len(fields(experiment, x=2)["resumes"]) == 1


@pytest.mark.parametrize(("result", "named"), [(3.5, "a float"), ([1, 2], "a list"), ("good", "a str")])
def test_a_result_that_is_no_mapping_fails_the_run(experiment: Experiment, result: object, named: str) -> None:
    def task(log: Logbook, x: int) -> Any:
        return result

    outcome = run_point(experiment, task, {"x": 2})
    assert outcome.kind == "failed"
    assert f"task returned {named}: a task returns a mapping" in outcome.reason


def test_a_mapping_of_any_kind_and_none_are_results(experiment: Experiment) -> None:
    class Metrics(Mapping[str, float]):
        def __getitem__(self, name: str) -> float:
            return 1.0

        def __iter__(self) -> Any:
            return iter(["loss"])

        def __len__(self) -> int:
            return 1

    outcome = run_point(experiment, lambda log, x: Metrics(), {"x": 1})
    assert outcome.row is not None
    assert outcome.row.metrics == {"loss": 1.0}
    assert run_point(experiment, lambda log, x: None, {"x": 2}).kind == "complete"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_fails_the_run_and_is_not_swallowed(experiment: Experiment, error: type[BaseException]) -> None:
    def task(log: Logbook, x: int) -> None:
        raise error(3)

    with pytest.raises(error):
        run_point(experiment, task, {"x": 2})
    assert fields(experiment, x=2)["status"] == "failed"


def test_a_run_that_is_being_written_is_busy(experiment: Experiment) -> None:
    with experiment.add(x=2):
        outcome = run_point(experiment, double, {"x": 2})
    assert outcome.kind == "busy"
    assert f"process {os.getpid()}" in outcome.reason


def test_a_run_whose_process_was_killed_is_resumed(tmp_path: Path) -> None:
    code = "import os; from notata import Experiment; log = Experiment('point', '.').add(x=2); os._exit(1)"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False)
    experiment = Experiment("point", tmp_path)
    assert run_point(experiment, double, {"x": 2}).kind == "complete"
    assert fields(experiment, x=2)["resumes"][0]["after"] == "died"


def test_a_run_of_an_unknown_process_is_unknown(experiment: Experiment) -> None:
    with experiment.add(x=2) as log:
        path = log.path / "metadata.json"
        stored = json.loads(path.read_text())
        path.write_text(json.dumps({**stored, "lease": {"owner": "a", "host": "far", "pid": 1}}))
        outcome = run_point(experiment, double, {"x": 2})
        assert (outcome.kind, "it sends no heartbeats" in outcome.reason) == ("unknown", True)
        path.write_text(json.dumps(stored))


def test_a_damaged_run_did_not_begin(experiment: Experiment) -> None:
    experiment.add(x=2).mark_complete()
    path = experiment.runs_dir / "log_point_x_2/metadata.json"
    path.write_text("[]")
    outcome = run_point(experiment, double, {"x": 2})
    assert outcome.kind == "not begun"
    assert "not a JSON object" in outcome.reason


def test_a_storage_that_fails_at_the_start() -> None:
    backend = FaultyBackend(open_store("memory://sweep-point"))
    experiment = Experiment("point", backend)
    backend.fail(1, key="metadata.json")
    outcome = run_point(experiment, double, {"x": 2})
    assert outcome.kind == "not begun"
    assert run_point(experiment, double, {"x": 2}).kind == "complete"


# -- in another process ------------------------------------------------------------------------------------


def test_a_process_loads_the_experiment_once(experiment: Experiment) -> None:
    job = pickled_job(experiment, double, imports_main=True)
    outcomes = [run_pickled(job, pickled_params({"x": x}), True) for x in range(3)]
    assert [outcome.kind for outcome in outcomes] == ["complete"] * 3
    assert [outcome.row.metrics["y"] for outcome in outcomes if outcome.row] == [0, 2, 4]


def leave(log: Logbook, code: int) -> None:
    sys.exit(code)


@pytest.mark.parametrize(("code", "kind", "reason"), [(0, "complete", ""), (3, "failed", "sys.exit(3)")])
def test_an_exit_of_the_task_does_not_leave_the_process(
    experiment: Experiment, code: int, kind: str, reason: str
) -> None:
    job = pickled_job(experiment, leave, imports_main=True)
    outcome = run_pickled(job, pickled_params({"code": code}))
    assert (outcome.kind, outcome.reason) == (kind, reason)
    assert outcome.row is not None
    assert outcome.row.status == kind == fields(experiment, code=code)["status"]


def terminate(log: Logbook, x: int) -> None:
    raise Terminated


def test_sigterm_leaves_the_process(experiment: Experiment) -> None:
    job = pickled_job(experiment, terminate, imports_main=True)
    with pytest.raises(Terminated):
        run_pickled(job, pickled_params({"x": 1}))
    assert fields(experiment, x=1)["failure_reason"] == "SIGTERM"


def test_a_task_that_another_process_cannot_load(experiment: Experiment) -> None:
    outcome = run_pickled(b"cnowhere\ntask\n.", pickled_params({"x": 1}), True)
    assert outcome.kind == "not begun"
    assert "cannot be loaded in another process: ModuleNotFoundError" in outcome.reason


def test_a_task_without_a_name_needs_cloudpickle(experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(ConfigurationError, match="install cloudpickle, or pass executor=None"):
        pickled_job(experiment, lambda log, x: None)


def test_a_task_of_an_interactive_session_needs_cloudpickle(tmp_path: Path) -> None:
    code = textwrap.dedent(
        """
        import sys
        sys.modules["cloudpickle"] = None
        from notata import Experiment
        def task(log, x): pass
        try:
            Experiment("point", ".").sweep(task, [{"x": 1}], 2)
        except ValueError as error:
            print(error)
        """
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "cannot send the task to other processes" in done.stdout
    assert "install cloudpickle" in done.stdout
