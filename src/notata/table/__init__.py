"""The table of many runs, a row for each, and index.csv, the same for people; it does not know how runs are made.

What a row says is stored with each run: its metadata.json has, from its end on, the field `ROW` with parameters and
metrics. So no row is lost with index.csv, none is torn, and none depends on another writer. index.csv is a copy of
these rows: greppable, and one read in place of one for each run. Its last column is a checksum of a row and of the
versions of metadata.json and of the metrics that it was made of; a listing tells whether those still are the versions.
"""

from __future__ import annotations

from notata.table.columns import parsed_rows
from notata.table.index import Keeper
from notata.table.row import Row, described, metrics_file, of_ended
from notata.table.runs import (
    Table,
    current_rows,
    gather,
    holdable,
    holdable_record,
    rows_of,
    runs_below,
    to_pandas,
)

__all__ = [
    "Keeper",
    "Row",
    "Table",
    "current_rows",
    "described",
    "gather",
    "holdable",
    "holdable_record",
    "metrics_file",
    "of_ended",
    "parsed_rows",
    "rows_of",
    "runs_below",
    "to_pandas",
]
