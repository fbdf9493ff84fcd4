"""(m) The index of an experiment with very many runs, on a disk and on S3, and what a sweep sends for it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from tests.tools.benchmarks import peers
from tests.tools.benchmarks.contest import Bench
from tests.tools.benchmarks.processes import Command, take_turns
from tests.tools.benchmarks.proxy import Proxy
from tests.tools.benchmarks.results import TIMES, Budget, Column, Result, median_of
from tests.tools.benchmarks.sites import BUCKET, Site, serving

TOP = 20
TABLE = "`search.table`"
KINDS: dict[str, tuple[str, list[Any]]] = {
    "`table.read_index`": ("read_index", []),
    TABLE: ("read_table", []),
    f'`search.table(sort="loss", limit={TOP})`': ("read_table", [TOP]),
    "`ExperimentReader.to_pandas`": ("read_frame", []),
}
COMMAND = f"`notata table -n {TOP} --sort loss`, from start to end"
TIME, PROCESSOR, MEMORY, REQUESTS = "time", "processor", "memory", "requests"
DISTANCE = 20
WRITERS = (1, 32)
LONGEST = 600.0


def measure(bench: Bench) -> list[Result]:
    """Measure tables, then count bytes."""
    tables = Tables(bench, "m", bench.sizes.index_runs, bench.sizes.index_tables)
    return [tables.measured(2.0), traffic(bench, "m", bench.sizes.index_runs)]


class Tables:
    """Tables of one index, each read by a new process.

    Args:
        bench: The environment of the measurements.
        letter: The letter of the table.
        runs: Runs of the index.
        times: Repetitions, after one that does not count if there are several.
        kinds: Which of `KINDS` to read.
    """

    def __init__(self, bench: Bench, letter: str, runs: int, times: int, kinds: Sequence[str] = tuple(KINDS)) -> None:
        self.bench, self.runs, self.times, self.kinds = bench, runs, times, kinds
        self.result = Result(letter, "", [])

    def measured(self, limit: float, *, distant: bool = True) -> Result:
        """Return the figures; `limit` is the budget of the whole table on a disk in seconds."""
        folder = self.bench.sites.folder()
        experiment = folder / BUCKET / "sweep"
        experiment.mkdir(parents=True)
        disk = Site(str(experiment), {}, str(folder))
        with self.bench.contest([peers.TABLES], disk, LONGEST) as contest:
            facts = contest.one(peers.TABLES, "fill_index", self.runs).value
        self.result.title = (
            f"Reading an index of {self.runs} runs: {facts['parts']} parts, {facts['size'] / 1e6:.3g} MB; "
            f"{median_of(self.times)}, each in a separate process"
        )
        self._place("disk", disk, None)
        if distant:
            with serving(folder, DISTANCE) as (site, proxy):
                self._place("S3", Site(f"{site.url}/sweep", site.options, site.scratch), proxy)
        measured = self.result.median(TABLE, f"disk: {TIME}")
        self.result.budgets.append(Budget(f"table of {self.runs} runs on a disk", limit, measured, "s"))
        self.result.notes.append(
            f"The time to import packages is not included; their memory is. The round trip to S3 takes {DISTANCE} ms."
        )
        return self.result

    def _place(self, place: str, site: Site, proxy: Proxy | None) -> None:
        units = {TIME: "s", PROCESSOR: "s", MEMORY: "MiB"} | ({REQUESTS: ""} if proxy else {})
        self.result.columns += [Column(f"{place}: {figure}", unit, ratio=False) for figure, unit in units.items()]
        for turn in range(-1 if self.times > 1 else 0, self.times):
            for row in self.kinds:
                self._kind(row, place, site, proxy, keep=turn >= 0)
        options = [f"-o{name}={value}" for name, value in site.options.items()]
        command = [sys.executable, "-m", "notata", "table", site.url, *options, "-n", str(TOP), "--sort", "loss"]
        samples, failed = take_turns({COMMAND: Command(command)}, self.times, warm=0)
        for sample in samples.get(COMMAND, ()):
            self.result.add(COMMAND, f"{place}: {TIME}", [sample.seconds])
            self.result.add(COMMAND, f"{place}: {PROCESSOR}", [sample.processor])
        self.result.refuse(failed)

    def _kind(self, row: str, place: str, site: Site, proxy: Proxy | None, *, keep: bool) -> None:
        verb, arguments = KINDS[row]
        with self.bench.contest([peers.TABLES], site, LONGEST) as contest:
            contest.one(peers.TABLES, "open_index")
            before = proxy.passed() if proxy else None
            answer = contest.one(peers.TABLES, verb, *arguments)
            peak = contest.one(peers.TABLES, "peak").value
        if contest.refused:
            self.result.refuse({row: contest.refused[peers.TABLES]})
        if contest.refused or not keep:
            return
        if answer.value != (min(TOP, self.runs) if arguments else self.runs):
            self.result.notes.append(f"{row}, {place}: failed: {answer.value} rows")
        self.result.add(row, f"{place}: {TIME}", [answer.seconds])
        self.result.add(row, f"{place}: {PROCESSOR}", [answer.process])
        self.result.add(row, f"{place}: {MEMORY}", [peak])
        if proxy and before:
            self.result.add(row, f"{place}: {REQUESTS}", [(proxy.passed() - before).requests])


def traffic(bench: Bench, letter: str, runs: int) -> Result:
    """Count the bytes that a sweep sends for its index."""
    columns = [Column("index", "MB"), Column("sent", f"{TIMES} the index"), Column("PUT", ""), Column("GET", "")]
    title = f"What a sweep of {runs} runs in an hour sends for its index; once, because these are counts"
    result = Result(letter, title, [Column(column.name, column.unit, ratio=False) for column in columns])
    with bench.contest([peers.TABLES], bench.sites.at("memory")) as contest:
        for writers in WRITERS:
            row = "one driver" if writers == 1 else f"{writers} processes"
            found = contest.one(peers.TABLES, "sweep_traffic", runs, writers).value
            if found:
                result.add(row, "index", [found["size"] / 1e6])
                result.add(row, "sent", [found["ratio"]])
                result.add(row, "PUT", [found["traffic"]["puts"]])
                result.add(row, "GET", [found["traffic"]["gets"]])
            what = f"bytes that a sweep of {runs} runs sends for its index, {row}"
            result.budgets.append(Budget(what, 3, result.median(row, "sent"), f"{TIMES} the index"))
        result.refuse(contest.refused)
    result.notes.append("The clock is simulated, so an hour passes in seconds; the bucket is in memory.")
    return result
