"""Provide `BackgroundStore`, a store that queues writes; its other methods wait for pending writes of their keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from notata.background.paths import WaitingPath
from notata.background.queue import Lost, Queue, QueueStats
from notata.background.writes import Stream, Value
from notata.errors import BatchError, ConfigurationError
from notata.store import Blob, Entry, Store
from notata.store.front import FrontStore
from notata.store.gaps import Gap
from notata.store.paths import RunPath

if TYPE_CHECKING:
    import io

    from typing_extensions import Buffer
    from upath import UPath

    from notata.store.appending import Appender, Tail
    from notata.store.files import Upload

__all__ = ["BackgroundStore"]


class BackgroundStore(FrontStore):
    """A wrapper around a store that queues writes.

    `write`, ``open("w")`` and methods based on them return when the value is in the queue. If the queue is full, they
    wait for space. A value larger than the queue is written directly. All other methods wait for the pending writes of
    their keys.

    A failed write is *lost* until its key is stored. The next write raises the errors of lost writes once.

    Safe to use from many threads. A forked child starts with an empty queue. Pickling returns the wrapped store.

    Args:
        real: The wrapped store.
        max_pending: Maximum number of pending bytes, including 1 KiB for each item.
        check: Called before a write starts; if it raises an exception, the write fails with it.
        lost: Called for each failed write.

    >>> from notata.store import open_store
    >>> store = BackgroundStore(open_store("memory://background"), 2**20)
    >>> store.write("a.txt", b"1")
    >>> store.read("a.txt")
    b'1'
    """

    def __init__(
        self,
        real: Store,
        max_pending: int,
        *,
        check: Callable[[], None] = lambda: None,
        lost: Lost = lambda key, error: None,
    ) -> None:
        if isinstance(max_pending, bool) or not isinstance(max_pending, int) or max_pending <= 0:
            raise ConfigurationError(f"invalid max_pending {max_pending!r}: pass a positive number of bytes")
        super().__init__(real)
        self._queue = Queue(real, max_pending, check, lost)
        self.queues = True

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
        self._queue.wait_below(self._full(key))

    # -- write ---------------------------------------------------------------------------------------------

    def _put(self, key: str, data: bytes, match: str | None) -> str:
        full = self._full(key)
        if match is None:
            self._queue.raise_lost()
            if self._queue.put(Value(self._real, key, full, data)):
                return ""  # without a version to match, the caller does not need the new version
        self._queue.wait(full)
        version = self._real._put(key, data, match)
        self._queue.stored(full)
        return version

    def _begin(self, key: str, match: str | None) -> Upload:
        full = self._full(key)
        if match is None:
            self._queue.raise_lost()
            return Stream(self._queue, self._real, key, full)
        self._queue.wait(full)
        return self._real._begin(key, match)

    def _append(self, key: str, data: bytes, tail: Tail) -> Tail:
        self._queue.wait(self._full(key))
        return self._real._append(key, data, tail)

    def appender(self, key: str, *, new: bool = False, end: bytes = b"") -> Appender:
        self._queue.wait(self._full(key))
        return self._real.appender(key, new=new, end=end)

    def write_many(self, files: Mapping[str, Buffer], *, callback: Any = None) -> None:
        if self._queue.writes_through:
            for key in files:
                self._queue.wait(self._full(key))
            self._real.write_many(files, callback=callback)
            return
        if callback is not None:
            callback.set_size(len(files))
        with self._queue.errors_deferred():
            for key, data in files.items():
                self.write(key, data)
                if callback is not None:
                    callback.relative_update(1)

    def copy_from(self, files: Mapping[str, Entry], source: Store, *, callback: Any = None) -> None:
        with self._queue.errors_deferred():
            super().copy_from(files, source, callback=callback)

    def _delete(self, names: dict[str, str | None]) -> dict[str, Exception]:
        gone = {name: self._full(name) for name in names}
        if names:  # pending writes may replace these files: store them first, or remove nothing
            self._queue.settle()
            self._queue.raise_lost(without=gone.values())
        failures = self._real._delete(names)
        for name in names.keys() - failures.keys():
            self._queue.stored(gone[name])
        return failures

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        if not isinstance(self._real.path_for(), Path):
            with super().local(key) as path:
                yield path
            return
        with self._real.local(key) as path:  # on a disk this is a rename
            yield path
            self._queue.wait(self._full(key))
        self._queue.stored(self._full(key))

    # -- read ----------------------------------------------------------------------------------------------

    def _get(self, key: str, start: int, end: int | None, version: str | None) -> Blob:
        self._queue.wait(self._full(key))
        return self._real._get(key, start, end, version)

    def _get_whole(self, key: str, start: int = 0) -> Blob:
        self._queue.wait(self._full(key))
        return self._real._get_whole(key, start)

    def start_fetch(self, key: str, start: int = 0, end: int | None = None) -> Future[Blob]:
        self._queue.wait(self._full(key))
        return self._real.start_fetch(key, start, end)

    def _open_read(self, key: str) -> io.BufferedReader | io.BytesIO:
        self._queue.wait(self._full(key))
        return self._real._open_read(key)

    def _stream(self, key: str) -> IO[bytes]:
        self._queue.wait(self._full(key))
        return self._real._stream(key)

    def _stat(self, key: str) -> Entry:
        self._queue.wait(self._full(key))
        return self._real._stat(key)

    def _list(self, folder: str, beginning: str = "") -> Iterator[Entry | Gap]:
        self.arrive(folder)
        yield from self._real._list(folder, beginning)

    def _has_folder(self, key: str) -> bool:
        self.arrive(key)
        return self._real._has_folder(key)

    def irregular(self) -> list[str]:
        self.arrive("")
        return self._real.irregular()

    def _path(self, key: str) -> UPath:
        path = self._real._path(key)
        return cast("UPath", WaitingPath.before(self, path)) if isinstance(path, RunPath) else path
