"""index.csv: rows put into it by appending, or by compare and swap; what a row says, it does not know."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Final

from notata import keys
from notata.errors import ConflictError, ExistsError
from notata.store import Blob, Store
from notata.table.columns import appendable, encoded_rows, is_ours, merged_rows
from notata.table.gather import Table, found_index, gather
from notata.table.row import Row

__all__ = ["add", "busy", "merge", "rewrite"]

_SECONDS: Final = 30.0  # that a row tries to get into index.csv of a disk


def add(store: Store, row: Row) -> None:
    """Put a row into index.csv where a write costs no round trip: appended, where the columns are there already.

    Raises:
        ConflictError: For half a minute others were faster.
    """
    give_up = time.monotonic() + _SECONDS
    while not _added(store, row):
        if time.monotonic() > give_up:
            raise busy(store)
        time.sleep(random.uniform(0, 0.01))


def merge(store: Store, rows: Sequence[Row]) -> bool:
    """Put rows into index.csv by one compare and swap; whether nobody came before. Two requests."""
    found = found_index(store)
    if found is not None and not is_ours(found.data):
        return rewrite(store, gather(store), rows)
    return _replaced(store, found, rows)


def rewrite(store: Store, table: Table, rows: Sequence[Row] = ()) -> bool:
    """Write index.csv anew from the rows of runs that ended or died, and `rows`; whether nobody came before."""
    told = [row for row in table.rows if row.status not in ("running", "replacing")]
    return _replaced(store, table.found, [*told, *rows], keep=False)


def busy(store: Store) -> ConflictError:
    """What to raise where others always come before."""
    return ConflictError(
        f"{store.url}/{keys.INDEX}: others write it all the time; no row is lost, as each run keeps its own",
        url=store.url,
        key=keys.INDEX,
    )


def _added(store: Store, row: Row) -> bool:
    found = found_index(store)
    if found is not None and (line := appendable(found.data, row)):
        try:
            store.append(keys.INDEX, line, found.size)
        except ConflictError:
            return False
        return True
    if found is not None and not is_ours(found.data):  # of notata 0.3.0, or damaged
        return rewrite(store, gather(store), [row])
    return _replaced(store, found, [row])


def _replaced(store: Store, found: Blob | None, rows: Sequence[Row], *, keep: bool = True) -> bool:
    rows = list({row.run_id: row for row in rows}.values())
    data = merged_rows(found.data, rows) if found and keep else encoded_rows(rows)
    if found is not None and found.data == data:
        return True
    try:
        if found is None:
            store.create(keys.INDEX, data)
        else:
            store.replace(keys.INDEX, data, found.version)
    except (ConflictError, ExistsError):
        return False
    return True
