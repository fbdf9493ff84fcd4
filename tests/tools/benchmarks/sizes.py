"""Sizes and repetitions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Counts of a complete benchmark.

    Peers that work one after another handle fewer items, and their time is extrapolated; the tables say so.

    Attributes:
        samples: Samples of one artifact, by peer and site.
        distances: Round trips in ms for one artifact to S3.
        many: Artifacts of a batch.
        few: The same for peers that work one after another.
        batches: Repetitions of the batch.
        large: Bytes of the large array.
        larges: Repetitions of its upload and download.
        large_distances: Round trips for it.
        lines: Lines of the log.
        few_lines: The same for the port, which sends the whole log with each line.
        runs: Runs of the table.
        few_runs: The same for peers that read one after another.
        tables: Repetitions of the table.
        local: Consecutive artifacts on the local disk.
        locals: Repetitions of these.
        imports: Repetitions of the import.
        rows: Consecutive rows of a series.
        row_samples: Repetitions of these.
        many_rows: Rows of the series that is counted in a bucket.
        read_rows: Rows of the series that is read.
        reads: Repetitions of reading it.
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
    rows: int = 200
    row_samples: int = 15
    many_rows: int = 100_000
    read_rows: int = 1_000_000
    reads: int = 5


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
    rows=20,
    row_samples=3,
    many_rows=5000,
    read_rows=10_000,
    reads=1,
)
