"""Many processes, one experiment: every run is recorded once, with its own columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backends import Place
from tests.contract.conftest import make_place
from tests.tools.sweep import Outcome, sweep


def check(outcome: Outcome, count: int) -> None:
    assert (outcome.rows, outcome.lost, outcome.duplicate, outcome.wrong[:3]) == (count, 0, 0, [])


@pytest.mark.slow
def test_32_processes_lose_no_run(tmp_path: Path) -> None:
    """Like ``python -m tests.tools.sweep``, which makes 50 runs in each process."""
    place = Place("local", str(tmp_path / "sweep"))
    check(sweep(place, 32, 5, environment=False), 32 * 5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["s3", "gcs", pytest.param("seaweed", marks=pytest.mark.real)])
def test_a_sweep_in_a_bucket_loses_no_run(name: str, request: pytest.FixtureRequest) -> None:
    place = make_place(name, request)
    outcome = sweep(place, 4, 4)
    check(outcome, 16)
    assert outcome.tables[1:] == (2, 1 + 16)  # a list and index.csv; without index.csv, a list and each run
    assert 6 < outcome.requests < 11  # claim, parameters, metrics written and checked, log, end; sometimes index.csv
    place.store().clear()
