"""Search, inspection and removal of runs on any storage: the functions behind the command, for notebooks and scripts.

Each function takes places as the command does: a run, an experiment or a folder of runs, as any fsspec URL, local path,
`upath.UPath` or pattern. A `notata.Storage` has storage options and a time limit of its own, and a `Query` a filter.
Only `remove`, `removals`, `pin`, `unpin`, `diagnose`, `export`, `report` and `publish` write. Arguments with the same
name have the same meaning in all functions: `urls`, `status`, `where`, `storage_options`, and `failed` (called with
errors that do not stop a function).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from notata.page.report import Report, report
    from notata.publish import Published, publish
    from notata.search.alert import Alert
    from notata.search.alerts import Look, Undelivered, Watcher
    from notata.search.checks import Check
    from notata.search.choosing import Query, Runs, runs
    from notata.search.comparing import Comparison, Difference, compare
    from notata.search.curving import Curve, curves, series
    from notata.search.describing import Content, Description, describe
    from notata.search.diagnosing import diagnose
    from notata.search.exporting import Export, export
    from notata.search.following import follow
    from notata.search.graphs import Ancestor, Lineage, Link
    from notata.search.grepping import Files, Match, grep
    from notata.search.measuring import Usage, trees, usage
    from notata.search.overview import Overview, overviews, show
    from notata.search.patterns import Patterns
    from notata.search.pinning import Pinning, pin, unpin
    from notata.search.places import File, Run
    from notata.search.reading import contents
    from notata.search.removing import Removal, decisions, removable, removals, remove
    from notata.search.retention import Decision, Retention
    from notata.search.tables import RunTable, table
    from notata.search.tailing import tail
    from notata.search.target import URLs
    from notata.search.tracing import lineage
    from notata.search.verifying import Verdict, verdicts
    from notata.search.where import FACTS, Where

__all__ = [
    "FACTS",
    "Alert",
    "Ancestor",
    "Check",
    "Comparison",
    "Content",
    "Curve",
    "Decision",
    "Description",
    "Difference",
    "Export",
    "File",
    "Files",
    "Lineage",
    "Link",
    "Look",
    "Match",
    "Overview",
    "Patterns",
    "Pinning",
    "Published",
    "Query",
    "Removal",
    "Report",
    "Retention",
    "Run",
    "RunTable",
    "Runs",
    "URLs",
    "Undelivered",
    "Usage",
    "Verdict",
    "Watcher",
    "Where",
    "compare",
    "contents",
    "curves",
    "decisions",
    "describe",
    "diagnose",
    "export",
    "follow",
    "grep",
    "lineage",
    "overviews",
    "pin",
    "publish",
    "removable",
    "removals",
    "remove",
    "report",
    "runs",
    "series",
    "show",
    "table",
    "tail",
    "trees",
    "unpin",
    "usage",
    "verdicts",
]

_NAMES: Final = {
    "alert": ("Alert",),
    "alerts": ("Look", "Undelivered", "Watcher"),
    "checks": ("Check",),
    "choosing": ("Query", "Runs", "runs"),
    "comparing": ("Comparison", "Difference", "compare"),
    "curving": ("Curve", "curves", "series"),
    "describing": ("Content", "Description", "describe"),
    "diagnosing": ("diagnose",),
    "exporting": ("Export", "export"),
    "following": ("follow",),
    "graphs": ("Ancestor", "Lineage", "Link"),
    "grepping": ("Files", "Match", "grep"),
    "measuring": ("Usage", "trees", "usage"),
    "overview": ("Overview", "overviews", "show"),
    "patterns": ("Patterns",),
    "pinning": ("Pinning", "pin", "unpin"),
    "places": ("File", "Run"),
    "reading": ("contents",),
    "removing": ("Removal", "decisions", "removable", "removals", "remove"),
    "retention": ("Decision", "Retention"),
    "tables": ("RunTable", "table"),
    "tailing": ("tail",),
    "target": ("URLs",),
    "tracing": ("lineage",),
    "verifying": ("Verdict", "verdicts"),
    "where": ("FACTS", "Where"),
    "notata.page.report": ("Report", "report"),
    "notata.publish": ("Published", "publish"),
}
"""The modules and their public names: a module is imported when one of its names is first used, to start quickly.

Names without a dot are modules of this package. `notata.page` and `notata.publish` lie above it, and nothing here but
these lines names them.
"""

_MODULE_OF: Final = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _MODULE_OF[name]
    value = getattr(import_module(module if "." in module else f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *_MODULE_OF]
