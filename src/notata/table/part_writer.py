"""Writing of the parts of one process: rows are appended on a disk, and are new parts in a bucket."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable

from notata.errors import ConflictError
from notata.store import Store
from notata.table import parts
from notata.table.lines import encoded_removal

__all__ = ["PartWriter", "record_removed"]


class PartWriter:
    """Adds lines to the parts of one process. Each part has one writer, so that no two writers can be in conflict.

    In a bucket each call stores a new part, which never changes: one request. On a disk and in memory, the lines are
    appended to the part of the process, until it is full or another process has merged and removed it.

    Not thread-safe, except that a signal handler may interrupt a call by another one.

    Attributes:
        begun: The number of parts so far.
    """

    def __init__(self, store: Store, size: int) -> None:
        self._store = store
        self._size = size
        self._writer = parts.new_writer()
        self._numbers = itertools.count()
        self._tail: tuple[str, int] | None = None
        self.begun = 0

    def add(self, data: bytes) -> None:
        """Store complete lines.

        Raises:
            StorageError: They may or may not be stored; adding them again does no harm.
        """
        tail, self._tail = self._tail, None  # after an error, the end of the part is unknown: the next call begins one
        if not self._store.is_local:
            self._store.write(self._new(), data)
            return
        if tail is not None and tail[1] < self._size:
            key, at = tail
            try:
                self._tail = key, self._store.append(key, data, at)
            except ConflictError:  # it was merged and removed
                pass
            else:
                return
        key = self._new()
        self._tail = key, self._store.append(key, data, 0)

    def _new(self) -> str:
        self.begun += 1
        return parts.name(0, self._writer, next(self._numbers))


def record_removed(store: Store, run_ids: Iterable[str], *, now: float | None = None) -> None:
    """Hide the rows of removed runs in an index that has parts. One request, and one more if it has.

    Args:
        store: The store of the experiment.
        run_ids: The ids of the runs.
        now: The time of the removal in Unix seconds; rows that were added later count. By default, the current time.

    Raises:
        StorageError: The rows are still there.

    >>> from notata.store import open_store
    >>> from notata.table import Row, read_index, write_parts
    >>> store = open_store("memory://record-removed")
    >>> keys = write_parts(store, [Row("a", "complete"), Row("b", "failed")])
    >>> record_removed(store, ["b"])
    >>> [*read_index(store).rows]
    ['a']
    """
    moment = time.time() if now is None else now
    data = b"".join(encoded_removal(run_id, moment) for run_id in run_ids)
    if data and store.has_folder(parts.FOLDER):
        store.write(parts.name(0, parts.new_writer(), 0), data)
