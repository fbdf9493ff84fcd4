"""The table of many runs, one row a run, and its copy index.csv; this package does not create runs.

Each run stores its row: the field `ROW` of its metadata.json has parameters and metrics from its end on. So no row is
lost with index.csv, torn, or dependent on another writer. index.csv is a copy of these rows that `grep` can search, and
that takes one read instead of one for each run. Its last column is a checksum of the row and of the versions of
metadata.json and metrics that the row was made from. A listing shows whether these versions are current.
"""

from __future__ import annotations

from notata.table.columns import parsed_rows
from notata.table.copies import experiment_of_index_file, record_changed, record_copies
from notata.table.frames import frame_of
from notata.table.index import IndexWriter
from notata.table.large import IndexFinder, experiments_with_parts, freshness, listed_or_index, scan_without_large
from notata.table.names import Names, flat_names, own_names
from notata.table.part_writer import record_removed
from notata.table.parts import write_parts
from notata.table.row import Row, metrics_file, of_ended
from notata.table.runs import (
    Table,
    current_rows,
    gather,
    rows_of,
    runs_below,
    to_pandas,
)
from notata.table.stored import LARGE, Index, read_index

__all__ = [
    "LARGE",
    "Index",
    "IndexFinder",
    "IndexWriter",
    "Names",
    "Row",
    "Table",
    "current_rows",
    "experiment_of_index_file",
    "experiments_with_parts",
    "flat_names",
    "frame_of",
    "freshness",
    "gather",
    "listed_or_index",
    "metrics_file",
    "of_ended",
    "own_names",
    "parsed_rows",
    "read_index",
    "record_changed",
    "record_copies",
    "record_removed",
    "rows_of",
    "runs_below",
    "scan_without_large",
    "to_pandas",
    "write_parts",
]
