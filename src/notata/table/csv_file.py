"""One write of index.csv: rows are appended, or merged by compare-and-swap, or the file is rewritten from the runs."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import suppress
from enum import Enum
from typing import Final

from notata._base import keys, limits
from notata.errors import ConflictError, ExistsError, MissingError, TooLargeError
from notata.run.values import crc
from notata.store import ABSENT, Blob, Store
from notata.table.columns import (
    Columns,
    appendable,
    encoded_rows,
    extendable,
    header_of,
    is_ours,
    merged_rows,
    parsed_rows,
    revision_in,
)
from notata.table.parts import FOLDER
from notata.table.row import FIXED, Row
from notata.table.runs import Table, found_index, gather, row_now

__all__ = ["KnownCsv", "Outcome", "ended", "retry_conflicts", "rewrite", "write_rows", "write_whole"]

_PAUSE: Final = 100  # rows that are appended with a look at the file after another process has changed it
RETRY_SECONDS: Final = 30.0  # retries after conflicts with other writers


class Outcome(Enum):
    """The outcome of an attempt to add rows to index.csv."""

    WRITTEN = "the rows are in the file"
    CONFLICT = "another writer was faster"
    FULL = "the rows belong into parts: the file has as many as it may have, or there are parts without it"


def retry_conflicts(store: Store, write: Callable[[], bool], longest: float = 2.0) -> None:
    """Retry a write after conflicts, with random pauses."""
    give_up, pause = time.monotonic() + RETRY_SECONDS, min(0.05, longest)
    while not write():
        if time.monotonic() > give_up:
            raise ConflictError(
                f"cannot write {store.url}/{keys.INDEX}: other processes keep writing it; no row is lost, because "
                "each run stores its own row",
                url=store.url,
                key=keys.INDEX,
            )
        time.sleep(random.uniform(0, pause))
        pause = min(2 * pause, longest)


class KnownCsv:
    """The index.csv on a disk as this process last left it, so that it appends a row without reading the file.

    Another version of the file shows that another process has changed it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state: tuple[bytearray, Columns, str] | None = None
        self._rows = 0
        self._pause = 0

    def append(self, store: Store, row: Row, most: int) -> bool:
        """Append a row; return False if the file must be read first, because it has changed or is nearly full."""
        if not self._lock.acquire(blocking=False):  # another thread, or a call that this one interrupts
            return False
        try:
            if self._state is None or self._rows >= most:
                return False
            data, columns, version = self._state
            self._state = None  # after an error, the content is unknown
            line = appendable(data, columns, row)
            if not line:
                return False
            try:
                if store.stat(keys.INDEX).version != version:
                    raise store.conflict(keys.INDEX, "another process has changed it")
                store.append(keys.INDEX, line, len(data))
            except (ConflictError, MissingError):
                self._pause = _PAUSE
                return False
            data += line
            self._rows += 1
            self._keep(store, data, columns)
            return True
        finally:
            self._lock.release()

    def learn(self, store: Store, data: bytes, columns: Columns, rows: int) -> None:
        """Remember the content that this process has just left in the file."""
        self._pause -= 1  # several processes write: reading is quicker than a refused append and reading
        if self._pause < 0 and self._lock.acquire(blocking=False):
            try:
                self._rows = rows
                self._keep(store, bytearray(data), columns)
            finally:
                self._lock.release()

    def _keep(self, store: Store, data: bytearray, columns: Columns) -> None:
        try:
            now = store.stat(keys.INDEX)
        except MissingError:
            return
        if now.size == len(data):
            self._state = data, columns, now.version


def write_rows(store: Store, rows: Sequence[Row], most: int, known: KnownCsv) -> Outcome:
    """Write rows once, unless index.csv has `most` rows already. In a bucket two requests; three for the first rows."""
    if store.is_local and len(rows) == 1 and known.append(store, rows[0], most):
        return Outcome.WRITTEN
    try:
        found = found_index(store)
    except TooLargeError:
        return Outcome.FULL
    if found is None:
        if store.has_folder(FOLDER):
            return Outcome.FULL
        return _outcome(_written(store, None, encoded_rows(rows)))
    count = found.data.count(b"\n") - 1
    if count >= most:
        return Outcome.FULL
    columns = extendable(found.data) if store.is_local and len(rows) == 1 else None
    if columns is not None and (line := appendable(found.data, columns, rows[0])):
        try:
            store.append(keys.INDEX, line, found.size)
        except ConflictError:
            return Outcome.CONFLICT
        known.learn(store, found.data + line, columns, count + 1)
        return Outcome.WRITTEN
    if not is_ours(found.data):  # written by notata 0.3.0, or damaged
        return _outcome(rewrite(store, gather(store)))
    current = [row for row in (_current(store, found.data, row) for row in rows) if row is not None]
    return _outcome(_written(store, found, merged_rows(found.data, current)))


def _outcome(is_written: bool | str) -> Outcome:
    return Outcome.WRITTEN if is_written else Outcome.CONFLICT


def _current(store: Store, data: bytes, row: Row) -> Row | None:
    """Return the row if index.csv has no other one; else that of the run, which another process may have resumed."""
    if revision_in(data, row.run_id) in (None, row.revision):
        return row
    return row_now(store, row)


def rewrite(store: Store, table: Table) -> bool:
    """Rewrite index.csv from the rows of ended and dead runs; return False on a conflict with another writer."""
    if table.unread is not None:
        raise table.unread
    return bool(write_whole(store, table.found, ended(table.rows), table.runs))


def write_whole(store: Store, found: Blob | None, rows: Sequence[Row], runs: Container[str]) -> str:
    """Replace index.csv by one with these rows; return its version, or an empty string after a conflict.

    Raises:
        TooLargeError: It would be larger than its limit.
    """
    data = encoded_rows(rows)
    if found is not None and _is_only_copy(found.data, data, runs):
        with suppress(ExistsError):
            store.create(f"{keys.INDEX}.{crc(found.data)}.bak", found.data)
    return _written(store, found, data)


def ended(rows: Iterable[Row]) -> list[Row]:
    """Return the rows of ended and dead runs."""
    return [row for row in rows if row.status not in ("running", "replacing")]


def _is_only_copy(old: bytes, new: bytes, runs: Container[str]) -> bool:
    """Check whether an index.csv has data that are neither in its successor nor in a run.

    These are columns that a user added, and rows of notata 0.3.0, which stored them only there.
    """
    if {*header_of(old)} - {*header_of(new), *FIXED}:
        return True
    return not is_ours(old) and any(row.run_id not in runs for row in parsed_rows(old))


def _written(store: Store, found: Blob | None, data: bytes) -> str:
    if found is not None and found.data == data:
        return found.version
    limits.check_size(store.url, keys.INDEX, len(data), limits.INDEX)  # readers refuse larger ones
    try:
        return store.put(keys.INDEX, data, ABSENT if found is None else found.version)
    except (ConflictError, ExistsError):
        return ""
