"""(e) The table of many runs, read from a bucket."""

from __future__ import annotations

from tests.tools.benchmarks import peers
from tests.tools.benchmarks.contest import Bench
from tests.tools.benchmarks.results import Column, Result
from tests.tools.benchmarks.sites import GCS, REAL

PLACES = (("S3", REAL, peers.S3FS), ("GCS", GCS, peers.GCSFS))
DISTANCE = 20


def measure(bench: Bench) -> list[Result]:
    """Measure seconds and requests until all rows are loaded."""
    sizes = bench.sizes
    result = Result(
        "e",
        f"Reading the table of {sizes.runs} runs, {DISTANCE} ms round trip; median of {sizes.tables}",
        [Column(f"{place}: {what}", unit) for place, *_ in PLACES for what, unit in (("time", "s"), ("requests", ""))],
    )
    for place, kind, bare in PLACES:
        indexed, plain = _filled(bench, kind)
        rows = (
            ("notata, with index.csv", peers.OURS, indexed),
            ("notata, without index.csv", peers.OURS, plain),
            ("the library alone: a list, and one read for each run", bare, plain),
            (peers.PORT, peers.PORT, plain),
        )
        for row, *_ in rows:
            result.rows.setdefault(row, {})
        with bench.contest((peers.OURS, bare, peers.PORT), bench.sites.at(kind, DISTANCE)) as contest:
            contest.each("begin")  # imports and connections are done
            contest.each("artifact")
            contest.each("end")
            for turn in range(sizes.tables):
                for row, peer, where in rows[turn % len(rows) :] + rows[: turn % len(rows)]:
                    answer = contest.one(peer, "table", where, sizes.few_runs, count=True)
                    if not answer.refused:
                        times = sizes.runs / answer.value
                        result.add(row, f"{place}: time", [answer.seconds * times])
                        result.add(row, f"{place}: requests", [round((answer.requests or 0) * times)])
            result.refuse(contest.refused)
    result.notes.append(
        f"{peers.PORT} reads one run after the other: {sizes.few_runs} were measured, and the time was multiplied."
    )
    result.notes.append("MLflow stores its table in a database next to its server, not in the bucket.")
    return [result]


def _filled(bench: Bench, kind: str) -> list[str]:
    with bench.contest([peers.OURS], bench.sites.at(kind)) as contest:
        answers = [contest.one(peers.OURS, "fill", bench.sizes.runs, index) for index in (True, False)]
    for answer in answers:
        if answer.refused:
            raise RuntimeError(f"no runs to read on {kind}: {answer.refused}")
    return [answer.value for answer in answers]
