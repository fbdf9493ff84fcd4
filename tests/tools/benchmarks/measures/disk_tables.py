"""(l) The table of many runs on the local disk."""

from __future__ import annotations

from tests.tools.benchmarks import peers
from tests.tools.benchmarks.contest import Bench
from tests.tools.benchmarks.results import Budget, Column, Result
from tests.tools.benchmarks.sites import LOCAL, Site

COLD, OUTSIDE = "notata, without index.csv", "notata, runs without an experiment"
FIRST, AGAIN, PROCESSOR, MEMORY = "first", "again", "again, processor", "memory"


def measure(bench: Bench) -> list[Result]:
    """Measure the time until all runs are in a DataFrame: first in a new process, then again in the same one."""
    sizes = bench.sizes
    title = (
        f"Reading the table of {sizes.disk_runs} runs on the local disk; median of {sizes.disk_tables}, "
        "other libraries once"
    )
    columns = [Column(FIRST, "s"), Column(AGAIN, "s"), Column(PROCESSOR, "s"), Column(MEMORY, "MiB")]
    result = Result("l", title, columns)
    site = bench.sites.at(LOCAL)
    kinds = {peers.OURS: (peers.TABLES, "indexed"), COLD: (peers.TABLES, "bare"), OUTSIDE: (peers.TABLES, "outside")}
    kinds |= {peer: (peer, "all") for peer in (peers.SIGNAC_TABLE, peers.MLFLOW_TABLE)}
    where = _filled(bench, result, site)
    for turn in range(sizes.disk_tables):
        for row in list(kinds)[turn % len(kinds) :] + list(kinds)[: turn % len(kinds)]:
            peer, kind = kinds[row]
            if peer in where and (turn == 0 or peer == peers.TABLES):
                _read(bench, result, site, row, peer, [where[peer], kind])
    result.notes.append(
        "The time to import packages is not included. Memory: the peak memory of the process, minus its memory before."
    )
    what = f"the table of {sizes.disk_runs} runs on a local disk, with a current index.csv"
    result.budgets.append(Budget(what, 0.5, result.median(peers.OURS, FIRST), "s"))
    return [result]


def _filled(bench: Bench, result: Result, site: Site) -> dict[str, str]:
    contestants = (peers.TABLES, peers.SIGNAC_TABLE, peers.MLFLOW_TABLE)
    with bench.contest(contestants, site) as contest:
        filled = contest.each("fill_runs", bench.sizes.disk_runs)
        result.refuse(contest.refused)
    return {peer: answer.value for peer, (answer,) in filled.items()}


def _read(bench: Bench, result: Result, site: Site, row: str, peer: str, arguments: list[str]) -> None:
    with bench.contest([peer], site) as contest:
        contest.one(peer, "open_runs", *arguments)
        answers = [contest.one(peer, "read_runs") for _ in range(2)]
    if contest.refused:
        result.refuse({row: contest.refused[peer]})
        return
    first, again = answers
    result.add(row, FIRST, [first.seconds])
    result.add(row, AGAIN, [again.seconds])
    result.add(row, PROCESSOR, [again.process])
    result.add(row, MEMORY, [first.grown])
    if first.value != bench.sizes.disk_runs:
        result.notes.append(f"{row}: failed: {first.value} rows")
