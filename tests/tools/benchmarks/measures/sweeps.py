"""(n) What a sweep adds to each run on the local disk."""

from __future__ import annotations

from collections.abc import Sequence

from tests.tools.benchmarks import peers
from tests.tools.benchmarks.contest import Bench
from tests.tools.benchmarks.results import Budget, Column, Result
from tests.tools.benchmarks.sites import LOCAL

CONTESTANTS = (
    peers.ONE_BY_ONE, peers.SWEPT, peers.SWEPT_LIGHTLY, peers.SWEPT_AGAIN, peers.SWEPT_BY_PROCESSES, peers.FUTURES,
    peers.JOBLIB,
)  # fmt: skip
TIME, PROCESSOR = "a run", "processor"


def measure(bench: Bench, contestants: Sequence[str] = CONTESTANTS) -> list[Result]:
    """Measure milliseconds a run, by the clock and of the processor, in the driver and its processes together."""
    sizes = bench.sizes
    title = f"A sweep of {sizes.sweep_runs} runs of an empty task on the local disk; median of {sizes.sweep_samples}"
    result = Result("n", title, [Column(TIME, "ms"), Column(PROCESSOR, "ms", ratio=False)])
    with bench.contest(contestants, bench.sites.at(LOCAL)) as contest:
        for peer, answers in contest.each("sweep", sizes.sweep_runs, times=sizes.sweep_samples).items():
            found = [answer.value for answer in answers]
            result.add(peer, TIME, (sample["seconds"] / sizes.sweep_runs * 1e3 for sample in found))
            result.add(peer, PROCESSOR, (sample["processor"] / sizes.sweep_runs * 1e3 for sample in found))
        result.refuse(contest.refused)
    result.notes.append(
        "The processor time includes the start of processes; the time does not. The last two rows record nothing."
    )
    own = result.median(peers.SWEPT, PROCESSOR)
    result.budgets.append(Budget("a run on a disk in a sweep, processor time", 5, own, "ms"))
    return [result]
