"""(k) A whole run on the local disk: ten lines, parameters, metrics and its end, with manifest and environment."""

from __future__ import annotations

from tests.tools.benchmarks import peers
from tests.tools.benchmarks.contest import Bench
from tests.tools.benchmarks.results import Budget, Column, Result
from tests.tools.benchmarks.sites import LOCAL

CONTESTANTS = (
    peers.OURS, peers.NO_CODE, peers.NO_ENVIRONMENT, peers.NO_MANIFEST, peers.SIGNAC, peers.SACRED, peers.DVCLIVE,
    peers.MLFLOW, peers.TRACKIO,
)  # fmt: skip
TIME, PROCESSOR = "a run", "processor"


def measure(bench: Bench) -> list[Result]:
    """Measure milliseconds of a run, of several in a row."""
    sizes = bench.sizes
    title = f"A whole run on the local disk, {sizes.whole_runs} in sequence; median of {sizes.whole_samples}"
    result = Result("k", title, [Column(TIME, "ms"), Column(PROCESSOR, "ms")])
    with bench.contest(CONTESTANTS, bench.sites.at(LOCAL)) as contest:
        contest.each("begin")
        contest.each("end")
        contest.each("whole_runs", 2)
        for peer, answers in contest.each("whole_runs", sizes.whole_runs, times=sizes.whole_samples).items():
            result.add(peer, TIME, (answer.seconds / sizes.whole_runs * 1e3 for answer in answers))
            result.add(peer, PROCESSOR, (answer.process / sizes.whole_runs * 1e3 for answer in answers))
        result.refuse(contest.refused)
    result.notes.append(
        f"{peers.SIGNAC}, {peers.DVCLIVE} and {peers.MLFLOW} have no log, and write the lines as one file or text. "
        f"{peers.TRACKIO} sends everything to its database from a thread, and writes no file for a run."
    )
    for peer in (peers.OURS, peers.NO_CODE, peers.NO_ENVIRONMENT):
        what = f"a whole run on a local disk{peer.removeprefix(peers.OURS)}"
        result.budgets.append(Budget(what, 2, result.median(peer, TIME), "ms"))
    return [result]
