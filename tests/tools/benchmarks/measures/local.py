"""(f) Small artifacts on the local disk."""

from __future__ import annotations

from tests.tools.benchmarks import peers
from tests.tools.benchmarks.contest import Bench
from tests.tools.benchmarks.results import Budget, Column, Result
from tests.tools.benchmarks.sites import LOCAL

CONTESTANTS = (peers.OURS, peers.RENAMED, peers.OLD, peers.MLFLOW)
TIME, RATE = "one artifact", "in a second"


def measure(bench: Bench) -> list[Result]:
    """Measure milliseconds per artifact of a sequence, each with its log line where there is a log."""
    sizes = bench.sizes
    title = f"A JSON artifact of 2 kB on the local disk, of {sizes.local} in a row; median of {sizes.locals}"
    result = Result("f", title, [Column(TIME, "ms"), Column(RATE, "artifacts")])
    with bench.contest(CONTESTANTS, bench.sites.at(LOCAL)) as contest:
        contest.each("begin")
        contest.each("artifacts", max(2, sizes.local // 10))
        for peer, answers in contest.each("artifacts", sizes.local, times=sizes.locals).items():
            result.add(peer, TIME, (answer.seconds / sizes.local * 1e3 for answer in answers))
            result.add(peer, RATE, (sizes.local / answer.seconds for answer in answers))
        contest.each("end")
        result.refuse(contest.refused)
    result.notes.append(
        f"{peers.OLD} writes in place, so not atomically; {peers.RENAMED} and {peers.MLFLOW} write no line."
    )
    median = result.median(peers.OURS, TIME)
    result.budgets.append(Budget("one artifact on a local disk, atomic and logged", 0.25, median, "ms"))
    return [result]
