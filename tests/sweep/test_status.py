"""Counting the points of a sweep by the state of their runs."""

from __future__ import annotations

from datetime import UTC, datetime

from notata import Experiment
from notata.store import open_store
from notata.sweep.points import Points
from notata.sweep.status import SweepStatus, sweep_status
from notata.table import Row, write_parts
from notata.testing import FaultyBackend

SPACE = Points({"x": range(10)}, {"method": "rk4"}, [{"y": 1}, {"y": 2}])


def counts(found: SweepStatus) -> tuple[int | None, ...]:
    return (found.complete, found.failed, found.running, found.died, found.not_begun, found.outside)


def test_points_and_runs_of_an_experiment() -> None:
    experiment = Experiment("group/some", "memory://status")
    store = open_store("memory://status/group/some")
    assert counts(sweep_status(store, "group/some", SPACE)) == (0, 0, 0, 0, 12, 0)
    for x in range(3):
        experiment.add(x=x, method="rk4").mark_complete()
    experiment.add(x=3, method="rk4").mark_failed("bad")
    experiment.add(y=1, method="rk4").mark_complete()
    experiment.add(x=5, method="euler").mark_complete()  # no point
    with experiment.add(x=4, method="rk4") as log:
        log.params(cells=100)  # added by the task
        found = sweep_status(store, "group/some", SPACE)
    assert counts(found) == (4, 1, 1, 0, 6, 1)
    assert (found.points, found.note) == (12, "")
    everything = sweep_status(store, "group/some")
    assert (counts(everything), everything.points) == ((6, 1, 0, 0, None, 0), None)


def test_a_large_experiment_is_counted_from_its_index() -> None:
    backend = FaultyBackend(open_store("memory://status-large"))
    store = open_store(backend)
    rows = [Row(f"large_method_rk4_x_{x}", "complete", {"method": "rk4", "x": x}) for x in range(6)]
    rows.append(Row("large_method_rk4_y_1", "failed", {"method": "rk4", "y": 1}))
    write_parts(store, rows, time=datetime.now(UTC).timestamp())
    before = len(backend.operations)
    found = sweep_status(store, "large", SPACE, large=5)
    assert counts(found) == (6, 1, 0, 0, 5, 0)
    assert found.note.startswith("memory://status-large: 7 runs from the index as of ")
    read = {operation.key.partition("/")[0] for operation in backend.operations[before:] if operation.verb != "list"}
    assert read <= {"index", "index.csv"}
    assert counts(sweep_status(store, "large", SPACE, large=5, fresh=True)) == (0, 0, 0, 0, 12, 0)
    assert found.note.endswith("looks at every run. Points whose runs are missing count as not begun")
    everything = sweep_status(store, "large", large=5)
    assert everything.not_begun is None
    assert everything.note.endswith("looks at every run")
