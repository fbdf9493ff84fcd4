"""Drivers that are killed and started again, and several drivers at once: each point once, none lost, the table right.

``python -m tests.tools.sweep_drivers`` does the same on a larger scale.
"""

from __future__ import annotations

from pathlib import Path

from tests.tools.sweep_drivers import check, kill_drivers, run_drivers


def test_drivers_that_are_killed_and_started_again(tmp_path: Path) -> None:
    kills = kill_drivers(tmp_path, points=40, kills=2, seed=1)
    assert kills == 2
    check(tmp_path, points=40)


def test_three_drivers_at_once(tmp_path: Path) -> None:
    run_drivers(tmp_path, points=30, drivers=3)
    check(tmp_path, points=30)
