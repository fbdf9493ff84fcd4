"""(f) Small artifacts on the local disk, lines, the end of a run, and the digest of a large value."""

from __future__ import annotations

from tests.tools.benchmarks import peers
from tests.tools.benchmarks.contest import Bench
from tests.tools.benchmarks.results import Budget, Column, Result
from tests.tools.benchmarks.sites import LOCAL

CONTESTANTS = (peers.OURS, peers.RENAMED, peers.OLD, peers.MLFLOW)
TIME, RATE = "one artifact", "rate"
KINDS = (peers.OURS, peers.NO_MANIFEST, peers.DURABLE)
ARTIFACT, LINE, END = "one artifact", "one line", "the end of the run"
VALUES = (peers.OURS, peers.NO_MANIFEST, peers.HASH)
STORE, VERIFY = "store", "verify"
FEW = 20  # calls of one kind in a row, where each may wait for the disk


def measure(bench: Bench) -> list[Result]:
    """Measure artifacts beside other libraries, then what options cost."""
    return [artifacts(bench), options(bench), value(bench)]


def artifacts(bench: Bench) -> Result:
    """Measure milliseconds per artifact of a sequence, each with its log line where there is a log."""
    sizes = bench.sizes
    title = f"Storing a JSON artifact of 2 kB on the local disk, {sizes.local} in sequence; median of {sizes.locals}"
    result = Result("f", title, [Column(TIME, "ms"), Column(RATE, "artifacts/s")])
    with bench.contest(CONTESTANTS, bench.sites.at(LOCAL)) as contest:
        contest.each("begin")
        contest.each("artifacts", max(2, sizes.local // 10))
        for peer, answers in contest.each("artifacts", sizes.local, times=sizes.locals).items():
            result.add(peer, TIME, (answer.seconds / sizes.local * 1e3 for answer in answers))
            result.add(peer, RATE, (sizes.local / answer.seconds for answer in answers))
        contest.each("end")
        result.refuse(contest.refused)
    result.notes.append(
        f"{peers.OLD} overwrites the file, which is not atomic; {peers.RENAMED} and {peers.MLFLOW} write no line."
    )
    median = result.median(peers.OURS, TIME)
    result.budgets.append(Budget("one artifact on a local disk, atomic and logged", 0.25, median, "ms"))
    return result


def options(bench: Bench) -> Result:
    """Measure what the manifest and ``durable=True`` cost, beside the least that is atomic or durable."""
    times, files = bench.sizes.locals, bench.sizes.run_files
    few = min(FEW, files // 2)
    columns = [Column(ARTIFACT, "ms"), Column(LINE, "ms"), Column(END, "ms")]
    result = Result("f", f"The same with other options, in runs of {files} files; median of {times}", columns)
    with bench.contest((*KINDS, peers.RENAMED, peers.SYNCED), bench.sites.at(LOCAL)) as contest:
        for turn in range(-1, times):  # the first round imports modules
            contest.each("begin")
            contest.each("artifacts", files - few)
            stored = contest.each("artifacts", few)
            lines = {name: [contest.one(name, "log_lines", few)] for name in KINDS}
            ended = contest.each("end")
            for column, answers, count in ((ARTIFACT, stored, few), (LINE, lines, few), (END, ended, 1)):
                for peer, (answer,) in answers.items() if turn >= 0 else ():
                    if column != END or peer in KINDS:
                        result.add(peer, column, [answer.seconds / count * 1e3])
        result.refuse(contest.refused)
    return result


def value(bench: Bench) -> Result:
    """Measure the digest of a large value."""
    mib = bench.sizes.value_mib
    title = f"Storing and verifying a value of {mib} MiB on the local disk; median of 3"
    result = Result("f", title, [Column(STORE, "s"), Column(VERIFY, "s", ratio=False)])
    with bench.contest(VALUES, bench.sites.at(LOCAL)) as contest:
        contest.each("hold_value", mib)
        for _ in range(3):
            contest.each("begin")
            for peer, (answer,) in contest.each("value").items():
                result.add(peer, STORE, [answer.seconds])
            contest.each("end")
            result.add(peers.OURS, VERIFY, [contest.one(peers.OURS, "verify").seconds])
        result.refuse(contest.refused)
    return result
