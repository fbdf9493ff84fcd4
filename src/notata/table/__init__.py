"""The table of many runs, one row a run, and its copy index.csv; this package does not create runs.

Each run stores its row: the field `ROW` of its metadata.json has parameters and metrics from its end on. So no row is
lost with index.csv, torn, or dependent on another writer. index.csv is a copy of these rows that `grep` can search, and
that takes one read instead of one for each run. Its last column is a checksum of the row and of the versions of
metadata.json and metrics that the row was made from. A listing shows whether these versions are current.
"""

from __future__ import annotations

from notata.table.columns import parsed_rows
from notata.table.index import IndexWriter
from notata.table.row import Row, described, metrics_file, of_ended
from notata.table.runs import (
    Table,
    current_rows,
    frame_of,
    gather,
    rows_of,
    runs_below,
    to_pandas,
)

__all__ = [
    "IndexWriter",
    "Row",
    "Table",
    "current_rows",
    "described",
    "frame_of",
    "gather",
    "metrics_file",
    "of_ended",
    "parsed_rows",
    "rows_of",
    "runs_below",
    "to_pandas",
]
