"""(q) The page: a report of many series, and `notata view` of many runs on S3 and of new rows."""

from __future__ import annotations

import json
from typing import Any

from tests.children import ChildError
from tests.tools.benchmarks.contest import MISSING, Bench
from tests.tools.benchmarks.environments import BROWSER
from tests.tools.benchmarks.processes import Command, run
from tests.tools.benchmarks.results import Budget, Column, Result

DISTANCE = 20
FIGURE = "measured"
FIGURES = {
    "report": {
        "command": "`notata report`, s",
        "processor": "of these the processor, s",
        "file": "its file, MB",
        "rows": "from opening it to rows on the screen, s",
        "chart": "to the first chart, s",
        "curves": "one chart with the curves of all runs, s",
        "heap": "memory of its scripts, MiB",
    },
    "view": {
        "address": "`notata view`, to its address, s",
        "rows": "from the address to rows on the screen, s",
        "confirmed": "from the command until a listing has confirmed all runs, s",
    },
    "live": {"disk": "a new row on a disk, to the screen, s", "S3": "a new row on S3, to the screen, s"},
}
LIMITS = {("view", "rows"): 3.0, ("live", "disk"): 2.0, ("live", "S3"): 5.0}


def measure(bench: Bench) -> list[Result]:
    """Measure in Chromium, without a graphics card."""
    sizes = bench.sizes
    report = f"`notata report` of {sizes.page_runs} runs, each with 5 columns of {sizes.page_rows} rows; once"
    view = f"`notata view` of {sizes.view_runs} runs on S3, {DISTANCE} ms round trip; once"
    return [
        _measured(bench, "report", report, sizes.page_runs, sizes.page_rows),
        _measured(bench, "view", view, sizes.view_runs, DISTANCE),
        _measured(bench, "live", f"`notata view` of new rows; median of {sizes.page_updates}", sizes.page_updates),
    ]


def _measured(bench: Bench, part: str, title: str, *arguments: int) -> Result:
    result = Result("q", title, [Column(FIGURE, "", ratio=False)])
    if BROWSER not in bench.pythons:
        result.refuse({"Playwright": MISSING})
        return result
    module = "tests.tools.benchmarks.page"
    try:
        output = run(Command([bench.pythons[BROWSER], "-m", module, part, *map(str, arguments)])).output
    except ChildError as error:
        result.refuse({part: f"failed: {error}"})
        return result
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    for name, row in FIGURES[part].items():
        result.add(row, FIGURE, found[name] if isinstance(found[name], list) else [found[name]])
        if (part, name) in LIMITS:
            what = f"the page: {row.removesuffix(', s')}"
            result.budgets.append(Budget(what, LIMITS[part, name], result.median(row, FIGURE), "s"))
    bench.say(f"(q) {part}")
    return result
