"""Many runs of one function, on any executor: the points, the driver, and what a sweep has done.

`notata.Experiment.sweep` is the way to begin one. `grid` makes the points.
"""

from __future__ import annotations

from notata.errors import SweepError, SweepInterrupted
from notata.sweep.result import Failure, SweepResult
from notata.sweep.space import Grid, grid

__all__ = ["Failure", "Grid", "SweepError", "SweepInterrupted", "SweepResult", "grid"]
