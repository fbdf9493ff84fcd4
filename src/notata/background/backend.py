"""Provide `BackgroundBackend`, which queues writes; its other methods wait for the pending writes of their keys."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import IO, TYPE_CHECKING

from notata._base.threads import Outcome
from notata.background.queue import Lost, Queue, QueueStats
from notata.background.writes import Stream, Value
from notata.errors import BatchError, ConfigurationError
from notata.store import Backend, Blob, Entry, Store
from notata.store.gaps import Gap
from notata.store.in_flight import failure_of
from notata.store.pending import note_queue
from notata.store.wrapper import Wrapper

if TYPE_CHECKING:
    from notata.store.appending import Tail
    from notata.store.backend import Staging
    from notata.store.files import Upload

__all__ = ["BackgroundBackend"]


class BackgroundBackend(Wrapper):
    """A wrapper around a backend that queues writes.

    A `put` without a version, and an upload, return when the bytes are in the queue. If the queue is full, they wait
    for space. A value larger than the queue is written directly. All other methods wait for the pending writes of
    their keys.

    A failed write is *lost* until its key is stored. The next write raises the errors of lost writes once.

    Safe to use from many threads. A forked child starts with an empty queue. Pickling returns the wrapped backend.

    Args:
        inner: The wrapped backend.
        max_pending: Maximum number of pending bytes, including 1 KiB for each item.
        check: Called before a write starts; if it raises an exception, the write fails with it.
        lost: Called for each failed write.

    >>> from notata.store import Store, open_store
    >>> store = Store(BackgroundBackend(open_store("memory://background").backend, 2**20))
    >>> store.write("a.txt", b"1")
    >>> store.read("a.txt")
    b'1'
    """

    queues = True

    def __init__(
        self,
        inner: Backend,
        max_pending: int,
        *,
        check: Callable[[], None] = lambda: None,
        lost: Lost = lambda key, error: None,
    ) -> None:
        if isinstance(max_pending, bool) or not isinstance(max_pending, int) or max_pending <= 0:
            raise ConfigurationError(f"invalid max_pending {max_pending!r}: pass a positive number of bytes")
        super().__init__(inner)
        self._queue = Queue(Store(inner), max_pending, check, lost)
        note_queue(self)

    # -- pending writes ------------------------------------------------------------------------------------

    def settle(self, timeout: float | None = None) -> None:
        """Wait until all currently pending writes are stored or lost.

        Raises:
            DeadlineError: It takes longer than `timeout` seconds. The writes stay pending.
        """
        self._queue.settle(timeout)

    def finish(self) -> None:
        """Wait for all pending writes. From now on, each write is stored before its call returns.

        After two seconds, a warning is logged. An interrupt discards writes that have not started, and is then raised.
        """
        self._queue.finish()

    def lost(self, *, again: bool = False) -> BatchError | None:
        """Return the errors of lost writes that were not reported yet, or with `again` all; mark them as reported.

        Returns:
            One error for each key; None if there are none.
        """
        return self._queue.lost(again=again)

    def stats(self) -> QueueStats:
        """Return the current contents of the queue."""
        return self._queue.stats()

    def arrive(self, key: str) -> None:
        """Wait for the writes to a key and to all keys below it."""
        self._queue.wait_below(self.full(key))

    def many_writes(self) -> AbstractContextManager[object]:
        return self._queue.errors_deferred()

    # -- write ---------------------------------------------------------------------------------------------

    def put(self, key: str, data: bytes, match: str | None) -> str:
        full = self.full(key)
        if match is None:
            self._queue.raise_lost()
            if self._queue.put(Value(Store(self.inner), key, full, data)):
                return ""  # without a version to match, the caller does not need the new version
        self._queue.wait(full)
        version = self.inner.put(key, data, match)
        self._queue.stored(full)
        return version

    def start_put(self, key: str, data: bytes) -> Future[str]:
        if not self._queue.writes_through:
            queued: Future[str] = Outcome()
            queued.set_result(self.put(key, data, None))
            return queued
        full = self.full(key)
        self._queue.raise_lost()
        self._queue.wait(full)
        started = self.inner.start_put(key, data)
        started.add_done_callback(lambda ended: None if failure_of(ended) else self._queue.stored(full))
        return started

    def begin_upload(self, key: str, match: str | None) -> Upload:
        full = self.full(key)
        if match is None:
            self._queue.raise_lost()
            return Stream(self._queue, Store(self.inner), key, full)
        self._queue.wait(full)
        return _UploadInOrder(self._queue, full, self.inner.begin_upload(key, match))

    def append(self, key: str, data: bytes, tail: Tail) -> Tail:
        self._queue.wait(self.full(key))
        return self.inner.append(key, data, tail)

    def copies_from(self, source: Backend) -> bool:
        return False  # a copy would overtake pending writes

    def delete(self, names: dict[str, str | None]) -> dict[str, Exception]:
        gone = {name: self.full(name) for name in names}
        if names:  # pending writes may replace these files: store them first, or remove nothing
            self._queue.settle()
            self._queue.raise_lost(without=gone.values())
        failures = self.inner.delete(names)
        for name in names.keys() - failures.keys():
            self._queue.stored(gone[name])
        return failures

    def stage(self, key: str) -> Staging | None:
        staging = self.inner.stage(key)
        return None if staging is None else _InOrder(self._queue, self.full(key), staging)

    # -- read ----------------------------------------------------------------------------------------------

    def get(self, key: str, start: int, end: int | None, version: str | None = None, limit: int | None = None) -> Blob:
        self._queue.wait(self.full(key))
        return self.inner.get(key, start, end, version, limit)

    def start_get(
        self, key: str, start: int, end: int | None, version: str | None = None, limit: int | None = None
    ) -> Future[Blob]:
        self._queue.wait(self.full(key))
        return self.inner.start_get(key, start, end, version, limit)

    def open_read(self, key: str, *, once: bool = False) -> IO[bytes] | None:
        self._queue.wait(self.full(key))
        return self.inner.open_read(key, once=once)

    def stat(self, key: str) -> Entry:
        self._queue.wait(self.full(key))
        return self.inner.stat(key)

    def has_folder(self, key: str) -> bool:
        self.arrive(key)
        return self.inner.has_folder(key)

    def list(self, folder: str, beginning: str = "") -> Iterator[Entry | Gap]:
        self.arrive(folder)
        yield from self.inner.list(folder, beginning)

    def folder_names(self, folder: str, beginning: str = "") -> Iterator[str | Gap]:
        self.arrive(folder)
        yield from self.inner.folder_names(folder, beginning)

    def irregular(self) -> builtins.list[str]:
        self.arrive("")
        return self.inner.irregular()


class _UploadInOrder:
    """A streamed write to a key that must not exist. It ends after the writes that were queued meanwhile."""

    def __init__(self, queue: Queue, key: str, upload: Upload) -> None:
        self._queue, self._key, self._upload = queue, key, upload

    def write(self, part: bytes) -> None:
        self._upload.write(part)

    def commit(self) -> str:
        self._queue.wait(self._key)
        return self._upload.commit()

    def abort(self) -> None:
        self._upload.abort()


class _InOrder:
    """A file that another program writes on the disk. It is published after the pending writes to its key."""

    def __init__(self, queue: Queue, key: str, staging: Staging) -> None:
        self._queue, self._key, self._staging = queue, key, staging
        self.path, self.close = staging.path, staging.close

    def publish(self) -> None:
        self._queue.wait(self._key)
        self._staging.publish()
        self._queue.stored(self._key)
