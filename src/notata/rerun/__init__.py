"""Repeat a run: the same commit and changes, the same command, a new run that names the old one."""

from __future__ import annotations

from notata.rerun.planning import Plan, plan
from notata.rerun.rerunning import Rerun, rerun

__all__ = ["Plan", "Rerun", "plan", "rerun"]
