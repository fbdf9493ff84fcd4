"""Runs as those see them who do not write them: one, or many. It never writes."""

from __future__ import annotations

from notata.reader.experiment import ExperimentReader
from notata.reader.run import LogReader

__all__ = ["ExperimentReader", "LogReader"]
