"""index.csv, kept for people and for a quick look: rows put into it by appending, or by compare and swap."""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any, Final

from notata._base import exits, keys, limits
from notata.errors import ConflictError, ExistsError, NotataError, StorageError
from notata.store import Blob, Store
from notata.table.columns import appendable, encoded_rows, header_of, is_ours, merged_rows, parsed_rows, revision_in
from notata.table.row import FIXED, Row, crc
from notata.table.runs import Table, found_index, gather, row_now

__all__ = ["Keeper"]

EVERY: Final = 30.0  # seconds from one index.csv in a bucket to the next; GCS takes one write a second to one object
_SECONDS: Final = 30.0  # that somebody tries who others come before

_own = logging.getLogger("notata")


class Keeper:
    """Keeps the index.csv of one experiment, for one process.

    On a disk and in memory a row is put in at once. In a bucket rows wait for others: up to half a minute, or to the
    end of the process. A row that does not get in is not lost, as its run keeps it too.

    Safe to use from many threads. It pickles without its rows; a forked child begins without them too.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._waiting: dict[str, Row] = {}
        self._next = 0.0
        self._timer: threading.Timer | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_store": self._store}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        self._begin()

    def put(self, row: Row) -> None:
        """Put in the row of a run that has ended; what goes wrong is a warning."""
        try:
            if self._store.is_local:
                _insist(self._store, lambda: _put(self._store, [row]), 0.01)
                return
            due = self._wait(row)
            try:
                if due:
                    self._merge()
            finally:
                self._arm()
        except NotataError as error:
            _own.warning("notata: run %s ended, but %s was not brought up to date: %s", row.run_id, keys.INDEX, error)

    def gather(self) -> Table:
        """The rows as the runs say now, and index.csv written by the way if others do not come before."""
        waiting = self._now()
        rows = gather(self._store)
        try:
            if _rewrite(self._store, rows):
                self._done(waiting)
        except StorageError as error:
            _own.warning("notata: %s was not brought up to date: %s", keys.INDEX, error)
        return rows

    def write(self) -> None:
        """Write it anew from the runs.

        Raises:
            ConflictError: Others wrote it all the time.
            StorageError: The runs cannot be read, or it cannot be written.
        """
        waiting = self._now()
        _insist(self._store, lambda: _rewrite(self._store, gather(self._store)))
        self._done(waiting)

    # -- rows that wait ------------------------------------------------------------------------------------

    def _alone(self) -> AbstractContextManager[object]:
        """Return the lock, by which an interrupt cannot leave it held."""
        if os.getpid() != self._pid:  # forked: the lock may be held for ever, and the parent's rows are the parent's
            self._begin()
        return self._lock

    def _wait(self, row: Row) -> bool:
        """Have a row wait; whether the time has come for those that do."""
        with self._alone():
            self._waiting[row.run_id] = row
            exits.at_exit(self._at_exit)  # not before: who finds no row waiting takes it back
            due = time.monotonic() >= self._next
            if due:
                self._next = time.monotonic() + EVERY
        return due

    def _arm(self) -> None:
        """Have a timer write the rows that wait, when it is time."""
        with self._alone():
            if not self._waiting or self._timer is not None:
                return
            timer = threading.Timer(max(0.0, self._next - time.monotonic()), self._due)
            timer.daemon = True
            with suppress(RuntimeError):  # the interpreter ends, and so does the waiting
                timer.start()
                self._timer = timer

    def _due(self) -> None:
        with self._alone():
            self._timer = None
            self._next = time.monotonic() + EVERY
        with suppress(NotataError):  # there is another time, and the end of the process
            self._merge()
        self._arm()

    def _merge(self) -> bool:
        """Write the rows that wait; whether nobody came before."""
        rows = self._now()
        if rows and not _put(self._store, list(rows.values())):
            return False
        self._done(rows)
        return True

    def _now(self) -> dict[str, Row]:
        with self._alone():
            return dict(self._waiting)

    def _done(self, rows: Mapping[str, Row]) -> None:
        """Take note that these rows are in index.csv."""
        with self._alone():
            for run_id, row in rows.items():
                if self._waiting.get(run_id) is row:
                    del self._waiting[run_id]
            if not self._waiting:
                exits.forget(self._at_exit)

    def _at_exit(self) -> None:
        if os.getpid() != self._pid:
            return
        try:
            _insist(self._store, self._merge)
        except NotataError as error:
            _own.warning("notata: the last rows are not in %s; write_index() puts them there: %s", keys.INDEX, error)


# -- one write ---------------------------------------------------------------------------------------------


def _insist(store: Store, write: Callable[[], bool], longest: float = 2.0) -> None:
    """Write though others do so too, with pauses of some random time."""
    give_up, pause = time.monotonic() + _SECONDS, min(0.05, longest)
    while not write():
        if time.monotonic() > give_up:
            raise ConflictError(
                f"{store.url}/{keys.INDEX}: others write it all the time; no row is lost, as each run keeps its own",
                url=store.url,
                key=keys.INDEX,
            )
        time.sleep(random.uniform(0, pause))
        pause = min(2 * pause, longest)


def _put(store: Store, rows: Sequence[Row]) -> bool:
    """Put rows in once; whether nobody came before. In a bucket two requests."""
    found = found_index(store)
    if found is None:
        return _swapped(store, None, encoded_rows(rows))
    if store.is_local and len(rows) == 1 and (line := appendable(found.data, rows[0])):
        try:
            store.append(keys.INDEX, line, found.size)
        except ConflictError:
            return False
        return True
    if not is_ours(found.data):  # of notata 0.3.0, or damaged
        return _rewrite(store, gather(store))
    current = [row for row in (_current(store, found.data, row) for row in rows) if row is not None]
    return _swapped(store, found, merged_rows(found.data, current))


def _current(store: Store, data: bytes, row: Row) -> Row | None:
    """Return the row, where index.csv has none of its run. Else ask the run: another process may have resumed it."""
    if revision_in(data, row.run_id) in (None, row.revision):
        return row
    return row_now(store, row)


def _rewrite(store: Store, table: Table) -> bool:
    """Write it anew from the rows of the runs that ended or died; whether nobody came before."""
    if table.unread is not None:
        raise table.unread
    data = encoded_rows([row for row in table.rows if row.status not in ("running", "replacing")])
    if table.found is not None and _is_only_copy(table.found.data, data, table.runs):
        with suppress(ExistsError):
            store.create(f"{keys.INDEX}.{crc(table.found.data)}.bak", table.found.data)
    return _swapped(store, table.found, data)


def _is_only_copy(old: bytes, new: bytes, runs: Container[str]) -> bool:
    """Check whether an index.csv says what neither its successor nor a run says.

    Such are columns that somebody added, and rows of notata 0.3.0, which kept them nowhere else.
    """
    if {*header_of(old)} - {*header_of(new), *FIXED}:
        return True
    return not is_ours(old) and any(row.run_id not in runs for row in parsed_rows(old))


def _swapped(store: Store, found: Blob | None, data: bytes) -> bool:
    if found is not None and found.data == data:
        return True
    limits.check_size(store.url, keys.INDEX, len(data), limits.INDEX)  # who would read it?
    try:
        if found is None:
            store.create(keys.INDEX, data)
        else:
            store.replace(keys.INDEX, data, found.version)
    except (ConflictError, ExistsError):
        return False
    return True
