"""How much is measured, and how often."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Counts of one whole benchmark.

    Where a peer works one after the other, fewer are measured, and the time is multiplied; the tables say so.

    Attributes:
        samples: Of one artifact, by peer and site.
        distances: Round trips in ms, over which one artifact goes to S3.
        many: Artifacts of a batch.
        few: Of them, where they go one after the other.
        batches: How often.
        large: Bytes of the large array.
        larges: How often it goes up and down.
        large_distances: Over which round trips.
        lines: Of the log.
        few_lines: Of the log of the port, which sends it anew with each.
        runs: Of the table.
        few_runs: Of them, where they are read one after the other.
        tables: How often.
        local: Artifacts on the local disk, in a row.
        locals: How often.
        imports: How often.
    """

    samples: int = 15
    distances: tuple[int, ...] = (0, 20, 100)
    many: int = 1000
    few: int = 50
    batches: int = 3
    large: int = 10**9
    larges: int = 1
    large_distances: tuple[int, ...] = (0, 20)
    lines: int = 100_000
    few_lines: int = 100
    runs: int = 1000
    few_runs: int = 20
    tables: int = 3
    local: int = 500
    locals: int = 7
    imports: int = 21


FULL = Sizes()
QUICK = Sizes(
    samples=3,
    distances=(20,),
    many=100,
    few=5,
    batches=1,
    large=3 * 10**7,
    larges=1,
    large_distances=(0,),
    lines=5000,
    few_lines=20,
    runs=50,
    few_runs=5,
    tables=1,
    local=100,
    locals=3,
    imports=5,
)
