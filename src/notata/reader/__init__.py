"""Read-only access to one run, or to many."""

from __future__ import annotations

from notata.reader.experiment import ExperimentReader
from notata.reader.run import LogReader

__all__ = ["ExperimentReader", "LogReader"]
