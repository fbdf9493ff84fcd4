"""Keeping the index of an experiment up to date: the rows of ended runs go to index.csv, and later to parts."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from typing import Final

from notata._base import exits, keys
from notata._base.processes import ForkCheck
from notata.errors import EncodeError, NotataError, StorageError
from notata.store import Store
from notata.table import csv_file
from notata.table.compaction import tidy
from notata.table.csv_file import KnownCsv, Outcome
from notata.table.lines import encoded_row
from notata.table.part_writer import PartWriter
from notata.table.parts import listed_parts
from notata.table.row import Row
from notata.table.runs import Table, gather
from notata.table.sizes import SIZES, Sizes
from notata.table.whole import rewrite_index

__all__ = ["IndexWriter"]

EVERY: Final = 30.0  # seconds between two writes of index.csv in a bucket; GCS takes one write a second to one object
_LAST_SECONDS: Final = 60.0  # that the exit waits for parts that are being merged

_own = logging.getLogger("notata")


class IndexWriter:
    """Keeps the index of one experiment up to date, for one process.

    On a disk and in memory a row is written at once. In a bucket rows are pending: up to half a minute, or until the
    end of the process. A row that cannot be written is not lost, because its run stores it too.

    The rows of a small experiment are in index.csv, which all processes write. Once it has as many rows as `Sizes`
    says, each process writes parts of its own, and some process merges them from time to time.

    Safe to use from many threads. Pickling omits pending rows; a forked child starts without them too.

    Args:
        store: The store of the experiment.
        sizes: When rows go to parts, and when parts are merged.
        chance: Returns a random number below 1, which decides whether the process merges parts at its end.
        start: Starts a call that merges parts, while the process goes on.
    """

    def __init__(
        self,
        store: Store,
        sizes: Sizes = SIZES,
        *,
        chance: Callable[[], float] = random.random,
        start: Callable[[Callable[[], None]], threading.Thread | None] | None = None,
    ) -> None:
        self._store = store
        self._sizes = sizes
        self._chance = chance
        self._start = start or _started
        self._fork = ForkCheck()
        self._begin()

    def _begin(self) -> None:
        self._lock, self._flushing = threading.RLock(), threading.RLock()
        self._pending: dict[str, Row] = {}
        self._pending_size = 0
        self._next = 0.0
        self._timer: threading.Timer | None = None
        self._parts: PartWriter | None = None  # once index.csv is full
        self._csv = KnownCsv()
        self._has_written_csv = False
        self._tidying: threading.Thread | None = None

    def __reduce__(self) -> tuple[Callable[[Store, Sizes], IndexWriter], tuple[Store, Sizes]]:
        return IndexWriter, (self._store, self._sizes)

    def put(self, row: Row) -> None:
        """Write the row of a run that has ended; log errors as warnings."""
        row = row._replace(time=time.time())
        try:
            if self._store.is_local:
                self._put_now(row)
                return
            due = self._add_pending(row)
            try:
                if due:
                    self._merge()
            finally:
                self._start_timer()
        except NotataError as error:
            file = keys.INDEX if self._parts is None else "the index"
            _own.warning("notata: run %s ended, but %s was not updated: %s", row.run_id, file, error)

    def _put_now(self, row: Row) -> None:
        """Write a row to a disk or memory; one that a part cannot take now is written with the next, or at the end."""
        with self._own_lock():
            parts = self._parts
        if parts is None:
            outcome = self._write_csv([row], 0.01)
            if outcome is Outcome.WRITTEN:
                return
        with self._own_lock():
            self._pending[row.run_id] = row
            exits.at_exit(self._at_exit)
        self._flush()

    def gather(self, *, fresh: bool = False) -> Table:
        """Return the current rows of the runs, and rewrite index.csv unless another writer is faster.

        Args:
            fresh: Read every run, also if the index is large.
        """
        waiting = self._pending_rows()
        found = gather(self._store, fresh=fresh, large=self._sizes.large)
        if found.index is not None and found.index.is_large:
            return self._with_pending(found) if waiting else found
        if len(found.rows) > self._sizes.large and self._has_parts():  # index.csv would be written again and again
            return found
        try:
            if csv_file.rewrite(self._store, found):
                self._remove_pending(waiting)
        except StorageError as error:
            _own.warning("notata: %s was not updated: %s", keys.INDEX, error)
        return found

    def _with_pending(self, found: Table) -> Table:
        """Write pending rows, and read what is new in a trusted index."""
        try:
            self.flush()
        except StorageError as error:
            _own.warning("notata: the table lacks the last rows, because the index was not updated: %s", error)
        return gather(self._store, known=found.index, large=self._sizes.large)

    def write(self, *, fresh: bool = False) -> None:
        """Rewrite index.csv from the runs; in a large experiment, rewrite the parts from the index and new runs.

        Args:
            fresh: Read every run, also those that the index has.

        Raises:
            ConflictError: Other processes kept writing it.
            StorageError: The runs cannot be read, or the index cannot be written.
        """
        if self._pending_rows() and self._has_parts():  # a trusted row of the same run would hide that in the run
            self.flush()
        waiting = self._pending_rows()
        csv_file.retry_conflicts(self._store, lambda: rewrite_index(self._store, self._sizes, fresh=fresh))
        self._remove_pending(waiting)

    def flush(self) -> None:
        """Write pending rows.

        Raises:
            ConflictError: Other processes kept writing index.csv.
            StorageError: The rows cannot be written.
        """
        csv_file.retry_conflicts(self._store, self._merge)

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
            if self._parts is not None:
                with suppress(EncodeError):
                    self._pending_size += len(encoded_row(row))
            due = time.monotonic() >= self._next or self._pending_size >= self._sizes.part
            if due:
                self._next = time.monotonic() + EVERY
                self._pending_size = 0
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
        if not rows:
            return True
        if self._parts is None:
            outcome = csv_file.write_rows(self._store, list(rows.values()), self._most, self._csv)
            self._note(outcome)
            if outcome is Outcome.CONFLICT:
                return False
            if outcome is Outcome.WRITTEN:
                self._remove_pending(rows)
                return True
        self._flush()
        return True

    def _pending_rows(self) -> dict[str, Row]:
        with self._own_lock():
            return dict(self._pending)

    def _remove_pending(self, rows: Mapping[str, Row]) -> None:
        """Remove rows that are in the index by now from the pending ones."""
        with self._own_lock():
            for run_id, row in rows.items():
                if self._pending.get(run_id) is row:
                    del self._pending[run_id]
            if not self._pending:
                self._pending_size = 0
                if self._parts is None:
                    exits.forget(self._at_exit)

    def _at_exit(self) -> None:
        if self._fork.is_forked():
            return
        try:
            self.flush()
        except NotataError as error:
            file = keys.INDEX if self._parts is None else "the index"
            _own.warning("notata: the last rows are not in %s; write_index() adds them: %s", file, error)
        if self._parts is None:
            return
        if (thread := self._tidying) is not None:
            thread.join(_LAST_SECONDS)
        elif self._chance() < 1 / self._sizes.look_every:
            self._tidy()

    # -- index.csv and parts -------------------------------------------------------------------------------

    def _has_parts(self) -> bool:
        """Check whether the experiment has parts; one listing unless this process writes some."""
        return self._parts is not None or bool(listed_parts(self._store))

    @property
    def _most(self) -> int:
        return self._sizes.csv_local if self._store.is_local else self._sizes.csv_bucket

    def _write_csv(self, rows: list[Row], longest: float) -> Outcome:
        """Write rows to index.csv, again after conflicts."""
        outcome = Outcome.CONFLICT

        def once() -> bool:
            nonlocal outcome
            outcome = csv_file.write_rows(self._store, rows, self._most, self._csv)
            return outcome is not Outcome.CONFLICT

        csv_file.retry_conflicts(self._store, once, longest)
        self._note(outcome)
        return outcome

    def _note(self, outcome: Outcome) -> None:
        """Use parts from now on if index.csv is full; a process that wrote to it adds its rows to the parts."""
        with self._own_lock():
            if outcome is Outcome.WRITTEN:
                self._has_written_csv = True
            elif outcome is Outcome.FULL and self._parts is None:
                self._parts = PartWriter(self._store, self._sizes.part)
                exits.at_exit(self._at_exit)
                if self._has_written_csv:
                    self._start_tidying()

    def _flush(self) -> None:
        """Write the pending rows to a part."""
        self._fork.when_forked(self._begin)
        with self._flushing:  # not the lock of the pending rows: other threads add some during a request
            rows, parts = self._pending_rows(), self._parts
            if not rows or parts is None:
                return
            before = parts.begun
            parts.add(b"".join(map(_line, rows.values())))
            self._remove_pending(rows)
            if parts.begun > before and parts.begun % self._sizes.look_every == 0:
                self._start_tidying()

    def _start_tidying(self) -> None:
        """Merge parts in another thread, if there are many."""
        if self._tidying is not None and self._tidying.is_alive():
            return
        self._tidying = self._start(self._tidy)

    def _tidy(self) -> None:
        with suppress(NotataError):  # another process, or a later look, does it
            tidy(self._store, self._sizes)


def _started(call: Callable[[], None]) -> threading.Thread | None:
    """Make a call in a new thread, unless the interpreter is exiting."""
    thread = threading.Thread(target=call, name="notata-index", daemon=True)
    with suppress(RuntimeError):
        thread.start()
        return thread
    return None


def _line(row: Row) -> bytes:
    """Return the line of a row, or of what can be stored of it."""
    try:
        return encoded_row(row)
    except EncodeError as error:
        reason = f"its values cannot be in the index: {error}"
        return encoded_row(row._replace(params={}, metrics={}, metrics_error=reason, revision=""))
