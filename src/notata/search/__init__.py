"""Looking into runs on any storage: what the command does, for notebooks and scripts.

Each function takes places as the command does: a run, an experiment or a folder of runs, as any fsspec URL, local path,
`upath.UPath` or pattern. None writes, but for `remove`.
"""

from __future__ import annotations

from notata.search.finding import File, Found, Place, files_at, look_up, runs_at
from notata.search.record import Run, records
from notata.search.verdicts import Verdict, verdicts

__all__ = ["File", "Found", "Place", "Run", "Verdict", "files_at", "look_up", "records", "runs_at", "verdicts"]
