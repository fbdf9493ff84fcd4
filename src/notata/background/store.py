"""The store that queues what is written; it knows which verb waits for which writes, and nothing of how they go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from notata.background.paths import WaitingPath
from notata.background.queue import Lost, Queue
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
    """A store whose writes are queued.

    `write`, ``open("w")`` and what is made of them return once the value is in the queue; when it is full, once there
    is room. A value that fits into no queue is written at once. Everything else waits for the writes of its keys.

    A write that fails is *lost* until its key is stored after all. The next write raises what is lost, once.

    Safe to use from many threads; a forked child begins with an empty queue. It pickles as the store behind it.

    Args:
        real: The store behind it.
        max_pending: Bytes that may be on their way, 1 KiB for each item included.
        check: Called before a write is begun; what it raises is why the write fails.
        lost: Told of each write that failed.

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
            raise ConfigurationError(f"max_pending is a number of bytes, not {max_pending!r}")
        super().__init__(real)
        self._queue = Queue(real, max_pending, check, lost)
        self.queues = True

    # -- what waits ----------------------------------------------------------------------------------------

    def settle(self, timeout: float | None = None) -> None:
        """Wait until what is pending by now is stored or lost.

        Raises:
            DeadlineError: It takes longer than `timeout` seconds. What waits goes on waiting.
        """
        self._queue.settle(timeout)

    def finish(self) -> None:
        """Wait for all that is pending, and from now on have every write be stored when its call returns.

        It says so after two seconds. An interrupt meanwhile loses what has not begun, and is raised then.
        """
        self._queue.finish()

    def lost(self, *, again: bool = False) -> BatchError | None:
        """What is lost and was not told yet, or with `again` all that is; it counts as told then.

        Returns:
            One error for each key; None if nothing is.
        """
        return self._queue.lost(again=again)

    def arrive(self, key: str) -> None:
        """Wait for the writes to a key and to all keys below it."""
        self._queue.wait_below(self._full(key))

    # -- write ---------------------------------------------------------------------------------------------

    def _put(self, key: str, data: bytes, match: str | None) -> str:
        full = self._full(key)
        if match is None:
            self._queue.tell()
            if self._queue.put(Value(self._real, key, full, data)):
                return ""  # who writes without a version to match does not ask for the new one
        self._queue.wait(full)
        version = self._real._put(key, data, match)
        self._queue.stored(full)
        return version

    def _begin(self, key: str, match: str | None) -> Upload:
        full = self._full(key)
        if match is None:
            self._queue.tell()
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
        if self._queue.is_through:
            for key in files:
                self._queue.wait(self._full(key))
            self._real.write_many(files, callback=callback)
            return
        if callback is not None:
            callback.set_size(len(files))
        with self._queue.telling_later():
            for key, data in files.items():
                self.write(key, data)
                if callback is not None:
                    callback.relative_update(1)

    def copy_from(self, files: Mapping[str, Entry], source: Store, *, callback: Any = None) -> None:
        with self._queue.telling_later():
            super().copy_from(files, source, callback=callback)

    def _delete(self, names: dict[str, str | None]) -> dict[str, Exception]:
        gone = {name: self._full(name) for name in names}
        if names:  # what is pending may be to take their place: it is stored first, or nothing is removed
            self._queue.settle()
            self._queue.tell(without=gone.values())
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
        with self._real.local(key) as path:  # on a disk it is a rename
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
