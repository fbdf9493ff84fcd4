"""(b) Many small artifacts at once."""

from __future__ import annotations

from tests.tools.benchmarks import peers
from tests.tools.benchmarks.contest import Bench
from tests.tools.benchmarks.results import Budget, Column, Result
from tests.tools.benchmarks.sites import QUICK

CONTESTANTS = (
    peers.BACKGROUND, peers.ENGINE_BACKGROUND, peers.WRITE_MANY, peers.OURS, peers.ENGINE, peers.PORT, peers.S3FS,
    peers.OBSTORE, peers.MLFLOW,
)  # fmt: skip
TIME = "time"


def measure(bench: Bench) -> list[Result]:
    """Measure seconds until all are stored."""
    sizes = bench.sizes
    result = Result(
        "b",
        f"Storing {sizes.many} artifacts of 2 kB on S3, 20 ms round trip; median of {sizes.batches}",
        [Column(TIME, "s")],
    )
    serial = set()
    with bench.contest(CONTESTANTS, bench.sites.at(QUICK, 20)) as contest:
        contest.each("begin")
        contest.each("artifact")
        for peer in CONTESTANTS:
            if peer not in contest.refused:
                result.rows[peer] = {}
        for _ in range(sizes.batches):
            contest.each("begin")
            for peer, (answer,) in contest.each("many", sizes.many, sizes.few).items():
                result.add(peer, TIME, [answer.seconds * sizes.many / answer.value])
                serial |= {peer} if answer.value < sizes.many else set()
            contest.each("end")
        result.refuse(contest.refused)
    if serial:
        names = ", ".join(name for name in CONTESTANTS if name in serial)
        result.notes.append(
            f"These store one after the other, so {sizes.few} were measured and the time was multiplied: {names}."
        )
    for peer, limit in ((peers.BACKGROUND, 2), (peers.ENGINE_BACKGROUND, 1)):
        what = f"{sizes.many} artifacts in the background{peer.removeprefix(peers.BACKGROUND)}, 20 ms round trip"
        result.budgets.append(Budget(what, limit, result.median(peer, TIME), "s"))
    return [result]
