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
        run_files: Artifacts of a run whose end is measured.
        imports: Repetitions of the import.
        rows: Consecutive rows of a series.
        row_samples: Repetitions of these.
        many_rows: Rows of the series that is counted in a bucket.
        read_rows: Rows of the series that is read.
        reads: Repetitions of reading it.
        command_runs: Runs that commands list, search and tabulate at a distance.
        command_rounds: Repetitions of these commands.
        whole_runs: Consecutive whole runs on the local disk.
        whole_samples: Repetitions of these.
        disk_runs: Runs of the table on the local disk.
        disk_tables: Repetitions of this table.
        index_runs: Runs of the large index.
        index_tables: Repetitions of each of its tables.
        sweep_runs: Runs of a sweep.
        sweep_samples: Repetitions of the sweep.
        synced_runs: Runs that are synced.
        sync_rounds: Repetitions of their sync.
        starts: Repetitions of the start of a command.
        value_mib: Size of a value whose digest is measured, in MiB.
        million: Runs of the largest index.
        long_rows: Rows of the series whose writer's memory is measured.
        page_runs: Runs of a report.
        page_rows: Rows of each of their series.
        view_runs: Runs of a page that shows a bucket.
        output: Bytes of a program's output.
        outputs: Repetitions of it.
        page_updates: New rows whose way to the page is measured.
    """

    samples: int = 11
    distances: tuple[int, ...] = (0, 20, 100)
    many: int = 1000
    few: int = 20
    batches: int = 2
    large: int = 3 * 10**8
    larges: int = 1
    large_distances: tuple[int, ...] = (0, 20)
    lines: int = 100_000
    few_lines: int = 100
    runs: int = 1000
    few_runs: int = 10
    tables: int = 2
    local: int = 500
    locals: int = 7
    run_files: int = 100
    imports: int = 11
    rows: int = 200
    row_samples: int = 7
    many_rows: int = 100_000
    read_rows: int = 1_000_000
    reads: int = 2
    command_runs: int = 1000
    command_rounds: int = 2
    whole_runs: int = 50
    whole_samples: int = 5
    disk_runs: int = 10_000
    disk_tables: int = 2
    index_runs: int = 100_000
    index_tables: int = 1
    sweep_runs: int = 200
    sweep_samples: int = 3
    synced_runs: int = 250
    sync_rounds: int = 1
    starts: int = 5
    value_mib: int = 256
    million: int = 1_000_000
    long_rows: int = 2_000_000
    page_runs: int = 1000
    page_rows: int = 10_000
    view_runs: int = 10_000
    output: int = 10**9
    outputs: int = 3
    page_updates: int = 10


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
    run_files=10,
    imports=5,
    rows=20,
    row_samples=3,
    many_rows=5000,
    read_rows=10_000,
    reads=1,
    command_runs=40,
    command_rounds=1,
    whole_runs=3,
    whole_samples=2,
    disk_runs=60,
    disk_tables=1,
    index_runs=12_000,
    index_tables=1,
    sweep_runs=10,
    sweep_samples=1,
    synced_runs=20,
    sync_rounds=1,
    starts=2,
    value_mib=4,
    million=11_000,
    long_rows=10_000,
    page_runs=10,
    page_rows=100,
    view_runs=40,
    output=10**6,
    outputs=1,
    page_updates=2,
)
