"""Rewriting a large index as a whole: without removed runs, with the runs that it lacked, in few parts."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Final

from notata._base import keys, limits
from notata._base.retries import attempts
from notata.errors import TooLargeError
from notata.run.state import ENDED
from notata.store import Store
from notata.store.gaps import ignore
from notata.table import parts
from notata.table.compaction import claimed, remove_parts
from notata.table.csv_file import ended, rewrite, write_whole
from notata.table.lines import encoded_removal
from notata.table.parquet import write_parquet
from notata.table.parts import listed_parts, write_parts
from notata.table.row import Row
from notata.table.runs import found_index, gather, read_runs, row_order
from notata.table.sizes import SIZES, Sizes
from notata.table.stored import Index, read_index

__all__ = ["rewrite_index"]

_DAY: Final = 86400.0  # seconds for which tombstones are kept: rows of their runs may still be pending elsewhere
_CLAIMS: Final = 30  # attempts to claim the parts, about half a minute


def rewrite_index(store: Store, sizes: Sizes = SIZES, *, fresh: bool = False) -> bool:
    """Write index.csv from the runs; if there are many, write the parts too, and index.parquet if pyarrow is there.

    A large index is not checked run by run: only runs that it lacks are read; with `fresh` all are read.

    Returns:
        False if another writer of a small index.csv was faster.
    """
    listed = listed_parts(store)
    index = read_index(store, large=sizes.large, listed=listed) if listed else None
    found: Sequence[Row] = ()
    if index is None or not index.is_large:
        table = gather(store, large=None, fresh=fresh)
        if len(table.rows) <= sizes.large:
            return rewrite(store, table)
        found = ended(table.rows)
    with ExitStack() as held:
        for _ in attempts(_CLAIMS):
            if held.enter_context(claimed(store, sizes)):
                break
        index = read_index(store, index, large=sizes.large) if index is not None else None
        rows = list(found) if found or index is None else [*_rows_of_runs(store, index, fresh)]
        _write(store, index, sorted(rows, key=row_order), sizes)
    return True


def _rows_of_runs(store: Store, index: Index, fresh: bool) -> Iterator[Row]:
    """Yield the rows of existing runs: from the index, or from the run if the index lacks it or has no final row."""
    lacking: list[str] = []
    for run_id in map(keys.run_id, store.folder_names(keys.RUNS, beginning="log_", skipped=ignore)):
        row = None if fresh else index.rows.get(run_id)
        if row is None or row.status not in ENDED or index.csv_rows.get(run_id) is row:
            lacking.append(run_id)
        else:
            yield row
    yield from ended(read_runs(store, lacking))


def _write(store: Store, index: Index | None, rows: Sequence[Row], sizes: Sizes) -> None:
    now = time.time()
    version = _write_csv(store, rows)
    covers = {keys.INDEX: version} if version else {}
    write_parts(store, rows, time=now, covers=covers, size=sizes.merged)
    if index is not None:
        recent = {run_id: time for run_id, time in index.removed.items() if time > now - _DAY}
        _write_tombstones(store, recent.items())
        remove_parts(store, [read.entry for read in index.parts.values()])
    write_parquet(store, rows)


def _write_csv(store: Store, rows: Sequence[Row]) -> str:
    """Write index.csv if it can hold so many rows; return the version of the file, also of an older one."""
    try:
        found = found_index(store)
    except TooLargeError:
        return store.stat(keys.INDEX).version
    if sum(len(row.params) + len(row.metrics) for row in rows) <= limits.INDEX_CELLS:
        try:
            return write_whole(store, found, rows, {row.run_id for row in rows})
        except TooLargeError:
            pass
    return found.version if found is not None else ""


def _write_tombstones(store: Store, removed: Iterable[tuple[str, float]]) -> None:
    if data := b"".join(encoded_removal(run_id, time) for run_id, time in removed):
        store.write(parts.name(0, parts.new_writer(), 0), data)
