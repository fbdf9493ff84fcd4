"""(h) Rows of a series: the time of a call, and bytes and requests in a bucket."""

from __future__ import annotations

from tests.tools.benchmarks import peers
from tests.tools.benchmarks.contest import Bench
from tests.tools.benchmarks.results import TIMES, Budget, Column, Result
from tests.tools.benchmarks.sites import GCS, LOCAL, REAL

CONTESTANTS = (peers.OURS, peers.MLFLOW, peers.TENSORBOARD, peers.DVCLIVE, peers.TRACKIO)
BUCKETS = (("S3", REAL), ("GCS", GCS))
TIME, PROCESSOR = "a row", "processor time of the calling thread"
MICRO = "\N{MICRO SIGN}s"
LONGEST = {LOCAL: 20, REAL: 10, GCS: 10}  # the budgets, in microseconds


def measure(bench: Bench) -> list[Result]:
    """Measure the time of a call with five values in the caller's thread, and what a bucket receives."""
    return [_calls(bench), _sent(bench)]


def _calls(bench: Bench) -> Result:
    sizes = bench.sizes
    title = f"Adding a row of five values, {sizes.rows} in sequence; median of {sizes.row_samples}"
    result = Result("h", title, [Column(TIME, MICRO), Column(PROCESSOR, MICRO)])
    for place, kind in (("a local disk", LOCAL), *BUCKETS):
        row = peers.OURS if kind == LOCAL else f"{peers.OURS}, {place}"
        with bench.contest(CONTESTANTS if kind == LOCAL else (peers.OURS,), bench.sites.at(kind)) as contest:
            contest.each("begin")
            contest.each("rows", max(2, sizes.rows // 10))
            for _ in range(sizes.row_samples):
                contest.each("settle")
                contest.each("rows", 1)  # the first row after a pause starts a thread, if rows are queued
                for peer, (answer,) in contest.each("rows", sizes.rows).items():
                    name = row if peer == peers.OURS else peer
                    result.add(name, TIME, [answer.seconds / sizes.rows * 1e6])
                    result.add(name, PROCESSOR, [answer.thread / sizes.rows * 1e6])
            contest.each("end")
            result.refuse(contest.refused)
        median = result.median(row, PROCESSOR)
        result.budgets.append(Budget(f"a row on {place}, processor time of the call", LONGEST[kind], median, MICRO))
    result.notes.append(
        f"When the call returns, {peers.OURS} on a local disk has written the row to its file, {peers.MLFLOW} to its "
        f"database, and {peers.DVCLIVE} to its files. {peers.TENSORBOARD}, {peers.TRACKIO}, and {peers.OURS} in a "
        f"bucket have put it into a queue."
    )
    return result


def _sent(bench: Bench) -> Result:
    count = bench.sizes.many_rows
    figures = (("file", "MB"), ("sent", f"{TIMES} its size"), ("requests", ""))
    columns = [Column(f"{place}: {figure}", unit, ratio=False) for place, _ in BUCKETS for figure, unit in figures]
    result = Result("h", "The rows of a series in a bucket; once, because these are counts", columns)
    row = f"{peers.OURS}, {count} rows at once"
    for place, kind in BUCKETS:
        with bench.contest((peers.OURS,), bench.sites.at(kind)) as contest:
            answer = contest.one(peers.OURS, "count_rows", count)
            result.refuse(contest.refused)
        if not answer.refused:
            cost = answer.value
            result.add(row, f"{place}: file", [cost["size"] / 1e6])
            result.add(row, f"{place}: sent", [cost["sent"] / cost["size"]])
            result.add(row, f"{place}: requests", [cost["requests"]])
            if not cost["whole"]:
                result.notes.append(f"{row}, {place}: rows are MISSING from the file afterwards")
        sent = result.median(row, f"{place}: sent")
        result.budgets.append(Budget(f"bytes sent for fast rows to {place}", 3, sent, f"{TIMES} the file"))
    return result
