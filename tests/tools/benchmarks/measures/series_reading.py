"""(i) A series of many rows that is read from the local disk."""

from __future__ import annotations

from tests.tools.benchmarks import peers
from tests.tools.benchmarks.contest import Bench
from tests.tools.benchmarks.results import Budget, Column, Result
from tests.tools.benchmarks.sites import LOCAL

CONTESTANTS = (peers.OURS, peers.WITHOUT_ARROW, peers.ARROW, peers.POLARS, peers.DUCKDB, peers.PANDAS)
TIME, PROCESSOR, MEMORY = "time", "processor, all threads", "memory"


def measure(bench: Bench) -> list[Result]:
    """Measure the time to read a series of five values into memory, and how much memory it takes at most."""
    sizes, site = bench.sizes, bench.sites.at(LOCAL)
    title = f"Reading a series of {sizes.read_rows} rows of five values from the local disk; median of {sizes.reads}"
    result = Result("i", title, [Column(TIME, "s"), Column(PROCESSOR, "s"), Column(MEMORY, "MiB")])
    with bench.contest((peers.OURS,), site) as writer:
        writer.one(peers.OURS, "begin")
        writer.one(peers.OURS, "rows", sizes.read_rows)
        path = writer.one(peers.OURS, "series").value
        writer.one(peers.OURS, "end")
        result.refuse(writer.refused)
    with bench.contest(CONTESTANTS, site) as contest:
        first = contest.each("read_rows", path)  # imports modules, and has the highest memory
        for peer, answers in contest.each("read_rows", path, times=sizes.reads).items():
            result.add(peer, TIME, (answer.seconds for answer in answers))
            result.add(peer, PROCESSOR, (answer.process for answer in answers))
            result.add(peer, MEMORY, [first[peer][0].grown])
            if any(answer.value != sum(range(sizes.read_rows)) for answer in answers):
                result.notes.append(f"{peer}: values are WRONG")
        result.refuse(contest.refused)
    result.notes.append("Memory: the peak memory of the process after the first read, minus its memory before.")
    seconds = result.median(peers.OURS, TIME)
    result.budgets.append(Budget("reading a series with pyarrow", 2, seconds, "s"))
    return [result]
