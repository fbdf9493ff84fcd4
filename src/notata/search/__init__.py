"""Looking into runs on any storage: what the command does, for notebooks and scripts.

Each function takes places as the command does: a run, an experiment or a folder of runs, as any fsspec URL, local path,
`upath.UPath` or pattern. None writes, but for `remove`.
"""

from __future__ import annotations

from notata.search.checks import Check
from notata.search.choosing import Runs, runs
from notata.search.comparing import Comparison, Difference, compare
from notata.search.describing import Content, Description, describe
from notata.search.diagnosing import diagnose
from notata.search.finding import File, Found, Place, files_at, look_up, runs_at
from notata.search.following import follow
from notata.search.grepping import Match, grep
from notata.search.measuring import Usage, trees, usage
from notata.search.overview import Overview, overviews, show
from notata.search.reading import contents
from notata.search.record import Run, records
from notata.search.removing import Removal, removable, removals, remove
from notata.search.tables import RunTable, table
from notata.search.tailing import tail
from notata.search.verifying import Verdict, verdicts
from notata.search.where import FACTS, Where

__all__ = [
    "FACTS",
    "Check",
    "Comparison",
    "Content",
    "Description",
    "Difference",
    "File",
    "Found",
    "Match",
    "Overview",
    "Place",
    "Removal",
    "Run",
    "RunTable",
    "Runs",
    "Usage",
    "Verdict",
    "Where",
    "compare",
    "contents",
    "describe",
    "diagnose",
    "files_at",
    "follow",
    "grep",
    "look_up",
    "overviews",
    "records",
    "removable",
    "removals",
    "remove",
    "runs",
    "runs_at",
    "show",
    "table",
    "tail",
    "trees",
    "usage",
    "verdicts",
]
