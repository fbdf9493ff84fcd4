"""(r) The memory of a writer and of a reader of a very long series."""

from __future__ import annotations

from tests.tools.benchmarks import peers
from tests.tools.benchmarks.contest import Bench
from tests.tools.benchmarks.results import Column, Result
from tests.tools.benchmarks.sites import LOCAL

TENTH, END, PEAK, ARRAYS = "after a tenth", "at the end", "growth at most", "arrays"
LONGEST = 3600.0


def measure(bench: Bench) -> list[Result]:
    """Measure the memory of three processes: one writes to a disk, one to a bucket that drops all, and one reads."""
    count = bench.sizes.long_rows
    columns = [Column(name, "MiB", ratio=False) for name in (TENTH, END, PEAK, ARRAYS)]
    result = Result("r", f"The memory for a series of {count} rows of five values; once", columns)
    site = bench.sites.at(LOCAL)
    for row, verb in (("write to a disk", "write_long"), ("write to a bucket", "send_long"), ("read", "read_long")):
        with bench.contest([peers.LONG_SERIES], site, LONGEST) as contest:
            answer = contest.one(peers.LONG_SERIES, verb, count)
        if answer.refused:
            result.refuse({row: answer.refused})
            continue
        found = answer.value
        if verb == "read_long":
            result.add(row, ARRAYS, [found["arrays"]])
            result.add(row, PEAK, [found["more"]])
        else:
            result.add(row, TENTH, [found["memory"][0]])
            result.add(row, END, [found["memory"][-1]])
        bench.say(f"(r) {row}")
    result.notes.append(
        "Growth: the peak memory of the process that reads, minus its memory before. The bucket drops the rows."
    )
    return [result]
