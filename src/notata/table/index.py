"""Writing of index.csv: rows are appended, or merged by compare-and-swap."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Final

from notata._base import exits, keys, limits
from notata._base.processes import ForkCheck
from notata.errors import ConflictError, ExistsError, NotataError, StorageError
from notata.store import ABSENT, Blob, Store
from notata.table.columns import appendable, encoded_rows, header_of, is_ours, merged_rows, parsed_rows, revision_in
from notata.table.row import FIXED, Row, crc
from notata.table.runs import Table, found_index, gather, row_now

__all__ = ["IndexWriter"]

EVERY: Final = 30.0  # seconds between two writes of index.csv in a bucket; GCS takes one write a second to one object
RETRY_SECONDS: Final = 30.0  # retries after conflicts with other writers

_own = logging.getLogger("notata")


class IndexWriter:
    """Keeps the index.csv of one experiment up to date, for one process.

    On a disk and in memory a row is written at once. In a bucket rows are pending: up to half a minute, or until the
    end of the process. A row that cannot be written is not lost, because its run stores it too.

    Safe to use from many threads. Pickling omits pending rows; a forked child starts without them too.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._fork = ForkCheck()
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._pending: dict[str, Row] = {}
        self._next = 0.0
        self._timer: threading.Timer | None = None

    def __reduce__(self) -> tuple[Callable[[Store], IndexWriter], tuple[Store]]:
        return IndexWriter, (self._store,)

    def put(self, row: Row) -> None:
        """Write the row of a run that has ended; log errors as warnings."""
        try:
            if self._store.is_local:
                _retry_conflicts(self._store, lambda: _write_rows(self._store, [row]), 0.01)
                return
            due = self._add_pending(row)
            try:
                if due:
                    self._merge()
            finally:
                self._start_timer()
        except NotataError as error:
            _own.warning("notata: run %s ended, but %s was not updated: %s", row.run_id, keys.INDEX, error)

    def gather(self) -> Table:
        """Return the current rows of the runs, and rewrite index.csv unless another writer is faster."""
        waiting = self._pending_rows()
        rows = gather(self._store)
        try:
            if _rewrite(self._store, rows):
                self._remove_pending(waiting)
        except StorageError as error:
            _own.warning("notata: %s was not updated: %s", keys.INDEX, error)
        return rows

    def write(self) -> None:
        """Rewrite index.csv from the runs.

        Raises:
            ConflictError: Other processes kept writing it.
            StorageError: The runs cannot be read, or index.csv cannot be written.
        """
        waiting = self._pending_rows()
        _retry_conflicts(self._store, lambda: _rewrite(self._store, gather(self._store)))
        self._remove_pending(waiting)

    # -- pending rows --------------------------------------------------------------------------------------

    def _own_lock(self) -> AbstractContextManager[object]:
        """Return the lock; an interrupt cannot leave it held."""
        self._fork.when_forked(self._begin)  # the lock may be held for ever, and pending rows belong to the parent
        return self._lock

    def _add_pending(self, row: Row) -> bool:
        """Add a pending row; return whether it is time to write."""
        with self._own_lock():
            self._pending[row.run_id] = row
            exits.at_exit(self._at_exit)  # after adding the row: `_remove_pending` unregisters it if no row is pending
            due = time.monotonic() >= self._next
            if due:
                self._next = time.monotonic() + EVERY
        return due

    def _start_timer(self) -> None:
        """Start a timer that writes the pending rows when it is time."""
        with self._own_lock():
            if not self._pending or self._timer is not None:
                return
            timer = threading.Timer(max(0.0, self._next - time.monotonic()), self._due)
            timer.daemon = True
            with suppress(RuntimeError):  # the interpreter is exiting, and writes pending rows itself
                timer.start()
                self._timer = timer

    def _due(self) -> None:
        with self._own_lock():
            self._timer = None
            self._next = time.monotonic() + EVERY
        with suppress(NotataError):  # retried by the next timer, and at exit
            self._merge()
        self._start_timer()

    def _merge(self) -> bool:
        """Write the pending rows; return False on a conflict with another writer."""
        rows = self._pending_rows()
        if rows and not _write_rows(self._store, list(rows.values())):
            return False
        self._remove_pending(rows)
        return True

    def _pending_rows(self) -> dict[str, Row]:
        with self._own_lock():
            return dict(self._pending)

    def _remove_pending(self, rows: Mapping[str, Row]) -> None:
        """Remove rows that are in index.csv by now from the pending ones."""
        with self._own_lock():
            for run_id, row in rows.items():
                if self._pending.get(run_id) is row:
                    del self._pending[run_id]
            if not self._pending:
                exits.forget(self._at_exit)

    def _at_exit(self) -> None:
        if self._fork.is_forked():
            return
        try:
            _retry_conflicts(self._store, self._merge)
        except NotataError as error:
            _own.warning("notata: the last rows are not in %s; write_index() adds them: %s", keys.INDEX, error)


# -- one write ---------------------------------------------------------------------------------------------


def _retry_conflicts(store: Store, write: Callable[[], bool], longest: float = 2.0) -> None:
    """Retry a write after conflicts, with random pauses."""
    give_up, pause = time.monotonic() + RETRY_SECONDS, min(0.05, longest)
    while not write():
        if time.monotonic() > give_up:
            raise ConflictError(
                f"cannot write {store.url}/{keys.INDEX}: other processes keep writing it; no row is lost, as each run "
                "stores its own",
                url=store.url,
                key=keys.INDEX,
            )
        time.sleep(random.uniform(0, pause))
        pause = min(2 * pause, longest)


def _write_rows(store: Store, rows: Sequence[Row]) -> bool:
    """Write rows once; return False on a conflict with another writer. In a bucket two requests."""
    found = found_index(store)
    if found is None:
        return _is_written(store, None, encoded_rows(rows))
    if store.is_local and len(rows) == 1 and (line := appendable(found.data, rows[0])):
        try:
            store.append(keys.INDEX, line, found.size)
        except ConflictError:
            return False
        return True
    if not is_ours(found.data):  # written by notata 0.3.0, or damaged
        return _rewrite(store, gather(store))
    current = [row for row in (_current(store, found.data, row) for row in rows) if row is not None]
    return _is_written(store, found, merged_rows(found.data, current))


def _current(store: Store, data: bytes, row: Row) -> Row | None:
    """Return the row if index.csv has no other one; else that of the run, which another process may have resumed."""
    if revision_in(data, row.run_id) in (None, row.revision):
        return row
    return row_now(store, row)


def _rewrite(store: Store, table: Table) -> bool:
    """Rewrite index.csv from the rows of ended and dead runs; return False on a conflict with another writer."""
    if table.unread is not None:
        raise table.unread
    data = encoded_rows([row for row in table.rows if row.status not in ("running", "replacing")])
    if table.found is not None and _is_only_copy(table.found.data, data, table.runs):
        with suppress(ExistsError):
            store.create(f"{keys.INDEX}.{crc(table.found.data)}.bak", table.found.data)
    return _is_written(store, table.found, data)


def _is_only_copy(old: bytes, new: bytes, runs: Container[str]) -> bool:
    """Check whether an index.csv has data that are neither in its successor nor in a run.

    These are columns that a user added, and rows of notata 0.3.0, which stored them only there.
    """
    if {*header_of(old)} - {*header_of(new), *FIXED}:
        return True
    return not is_ours(old) and any(row.run_id not in runs for row in parsed_rows(old))


def _is_written(store: Store, found: Blob | None, data: bytes) -> bool:
    if found is not None and found.data == data:
        return True
    limits.check_size(store.url, keys.INDEX, len(data), limits.INDEX)  # readers refuse larger ones
    try:
        store.put(keys.INDEX, data, ABSENT if found is None else found.version)
    except (ConflictError, ExistsError):
        return False
    return True
