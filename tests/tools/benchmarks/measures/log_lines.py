"""(d) The cost of a log: bytes and requests for its lines, when they come fast and when they come slowly."""

from __future__ import annotations

from typing import Any

from tests.tools.benchmarks import peers
from tests.tools.benchmarks.contest import Bench
from tests.tools.benchmarks.results import TIMES, Budget, Column, Result
from tests.tools.benchmarks.sites import GCS, REAL

PLACES = (("S3", REAL), ("GCS", GCS))
FIGURES = (("log.txt", "MB"), ("sent", f"{TIMES} its size"), ("requests", ""), ("sent per second", "kB/s"))
PAUSE = 0.1  # seconds between slow lines


def measure(bench: Bench) -> list[Result]:
    """Measure bytes sent per byte of the log."""
    sizes = bench.sizes
    fast, slow = f"notata, {sizes.lines} lines at once", f"notata, {sizes.lines} lines, one every {PAUSE} s"
    port = f"{peers.PORT}, {sizes.few_lines} lines"
    columns = [Column(f"{place}: {figure}", unit, ratio=False) for place, _ in PLACES for figure, unit in FIGURES]
    result = Result("d", "The lines of a log in a bucket; once, because these are counts", columns)
    for place, kind in PLACES:
        with bench.contest((peers.OURS, peers.PORT), bench.sites.at(kind)) as contest:
            for row, peer, verb, arguments in (
                (fast, peers.OURS, "lines", (sizes.lines,)),
                (slow, peers.OURS, "slow_lines", (sizes.lines, PAUSE)),
                (port, peers.PORT, "lines", (sizes.few_lines,)),
            ):
                answer = contest.one(peer, verb, *arguments)
                if not answer.refused:
                    _add(result, row, place, answer.value)
            result.refuse(contest.refused)
        sent = result.median(fast, f"{place}: sent")
        result.budgets.append(Budget(f"bytes sent for fast lines to {place}", 3, sent, f"{TIMES} log.txt"))
        rate = result.median(slow, f"{place}: sent per second")
        result.budgets.append(Budget(f"bytes per second for slow lines to {place}", 100, rate, "kB/s"))
    result.notes.append("Slow lines: the clock is simulated, so hours pass in seconds; each append is real.")
    return [result]


def _add(result: Result, row: str, place: str, cost: dict[str, Any]) -> None:
    result.add(row, f"{place}: log.txt", [cost["size"] / 1e6])
    result.add(row, f"{place}: sent", [cost["sent"] / max(1, cost["size"])])
    result.add(row, f"{place}: requests", [cost["requests"]])
    if "seconds" in cost:
        result.add(row, f"{place}: sent per second", [cost["sent"] / 1e3 / cost["seconds"]])
    if not cost["whole"]:
        result.notes.append(f"{row}, {place}: lines are MISSING from log.txt afterwards")
