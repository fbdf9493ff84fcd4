"""Tools for the tests of notata's users: a backend that fails on demand, and a pytest fixture.

`FaultyBackend` wraps the backend of any store and makes its n-th operation fail, before or after it took effect. The
fixture ``memory_logbook`` (in `notata.testing.plugin`, which pytest loads automatically) is a run in memory.
"""

from __future__ import annotations

import builtins
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from notata.store import Backend, Blob, Entry, Store
from notata.store.gaps import Gap
from notata.store.in_flight import started_in_thread
from notata.store.wrapper import Wrapper

if TYPE_CHECKING:
    from notata.store.appending import Tail
    from notata.store.files import Upload

__all__ = ["FaultyBackend", "Operation"]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation that reached the storage.

    Attributes:
        verb: ``put``, ``begin``, ``part``, ``commit``, ``abort``, ``append``, ``get``, ``stat``, ``list``,
            ``delete``.
        key: Relative to the store that received it; empty for a whole listing or deletion.
    """

    verb: str
    key: str


@dataclass
class _Plan:
    """The planned failures; a store and the stores of its subfolders share it."""

    operations: builtins.list[Operation] = field(default_factory=list)
    fails_at: int | None = None
    key: str | None = None
    matched: int = 0
    after: bool = False
    error: Callable[[], BaseException] = ConnectionError
    lock: threading.Lock = field(default_factory=threading.Lock)
    closed: dict[str, Callable[[], Exception]] = field(default_factory=dict)

    def count(self, operation: Operation) -> bool:
        with self.lock:
            self.operations.append(operation)
            if self.key is None or operation.key == self.key:
                self.matched += 1
                return self.matched == self.fails_at
            return False


class FaultyBackend(Wrapper):
    """A wrapper of a backend that fails on demand.

    Args:
        inner: The store whose backend is wrapped, or a backend.

    >>> from notata import Logbook
    >>> from notata.store import open_store
    >>> storage = FaultyBackend(open_store("memory://faulty"))
    >>> log = Logbook("a", storage)
    >>> storage.fail(1)
    >>> log.text("notes", "lost")
    Traceback (most recent call last):
    notata.errors.UnreachableError: cannot write memory://faulty/log_a/artifacts/notes.txt: no server answered ...
    >>> log["artifacts/notes.txt"].exists()
    False
    """

    def __init__(self, inner: Store | Backend) -> None:
        super().__init__(inner.backend if isinstance(inner, Store) else inner)
        self._plan = _Plan()

    def __reduce__(self) -> tuple[Any, ...]:
        return FaultyBackend, (self.inner,)

    @property
    def operations(self) -> builtins.list[Operation]:
        """All operations so far, including failed ones."""
        return self._plan.operations

    def fail(
        self,
        nth: int,
        *,
        key: str | None = None,
        after: bool = False,
        error: Callable[[], BaseException] = lambda: ConnectionError("on purpose"),
    ) -> None:
        """Make the `nth` operation from now fail, once.

        notata converts the exception as it does those of a real storage: a `ConnectionError` arrives as an
        `UnreachableError`, a `PermissionError` as an `AccessError`, a `TimeoutError` as a `DeadlineError`.

        Args:
            nth: 1 is the next operation.
            key: Count only operations on this key, such as ``"log.txt"``.
            after: Fail after the operation took effect, as when a reply is lost; else before it.
            error: A class or a function that makes the exception; the default makes a `ConnectionError`.

        >>> from notata import AccessError, Logbook
        >>> from notata.store import open_store
        >>> store = FaultyBackend(open_store("memory://faulty-once"))
        >>> log = Logbook("a", store)
        >>> store.fail(1, key="artifacts/notes.txt", error=PermissionError)
        >>> try:
        ...     log.text("notes", "lost")
        ... except AccessError as error:
        ...     print(error.key)
        artifacts/notes.txt
        """
        self._plan.fails_at, self._plan.matched, self._plan.key = nth, 0, key
        self._plan.after = after
        self._plan.error = error

    def close_folder(self, folder: str, error: Callable[[], Exception] = lambda: PermissionError(13, "denied")) -> None:
        """Make listings fail at one folder, like a folder of another user; its files are no longer listed.

        Args:
            folder: Its key below this store.
            error: Makes the storage's error.
        """
        self._plan.closed[self.full(folder)] = error

    def heal(self) -> None:
        """Stop failing."""
        self._plan.fails_at = None
        self._plan.closed.clear()

    @contextmanager
    def _step(self, verb: str, key: str = "") -> Iterator[None]:
        failing = self._plan.count(Operation(verb, key))
        if failing and not self._plan.after:
            raise self._plan.error()
        try:
            yield
        except Exception:
            if not failing:  # a refusal is a reply too, and can be lost like any other
                raise
        if failing:
            raise self._plan.error()

    def put(self, key: str, data: bytes, match: str | None) -> str:
        with self._step("put", key):
            return self.inner.put(key, data, match)

    def start_put(self, key: str, data: bytes) -> Future[str]:
        return started_in_thread(self.put, key, data, None)

    def copy_on_server(self, key: str, source: Backend, entry: Entry, match: str | None) -> str | None:
        with self._step("copy", key):
            return self.inner.copy_on_server(key, source, entry, match)

    def begin_upload(self, key: str, match: str | None) -> Upload:
        with self._step("begin", key):
            return _FaultyUpload(self, key, self.inner.begin_upload(key, match))

    def append(self, key: str, data: bytes, tail: Tail) -> Tail:
        with self._step("append", key):
            return self.inner.append(key, data, tail)

    def get(self, key: str, start: int, end: int | None, version: str | None = None, limit: int | None = None) -> Blob:
        with self._step("get", key):
            return self.inner.get(key, start, end, version, limit)

    def start_get(
        self, key: str, start: int, end: int | None, version: str | None = None, limit: int | None = None
    ) -> Future[Blob]:
        return started_in_thread(self.get, key, start, end, version, limit)

    def open_read(self, key: str, *, once: bool = False) -> IO[bytes] | None:
        return None  # each read is a `get`, and counts

    def stat(self, key: str) -> Entry:
        with self._step("stat", key):
            return self.inner.stat(key)

    def has_folder(self, key: str) -> bool:
        with self._step("list", key):
            return self.inner.has_folder(key)

    def list(self, folder: str, beginning: str = "") -> Iterator[Entry | Gap]:
        with self._step("list", folder):
            root = f"{self.full('')}/" if self.full("") else ""
            closed = {key: error for key, error in self._plan.closed.items() if f"{key}/".startswith(root)}
            reported = set()
            for found in self.inner.list(folder, beginning):
                inside = next((key for key in closed if f"{root}{found.key}".startswith(f"{key}/")), None)
                if inside is None:
                    yield found
                elif inside not in reported:
                    reported.add(inside)
                    yield Gap(inside[len(root) :], closed[inside]())

    def folder_names(self, folder: str, beginning: str = "") -> Iterator[str | Gap]:
        inside = f"{self.full(folder)}/"
        with self._step("list", folder):
            for key, error in self._plan.closed.items():
                if inside.startswith(f"{key}/"):
                    raise error()
            yield from self.inner.folder_names(folder, beginning)

    def delete(self, names: dict[str, str | None]) -> dict[str, Exception]:
        with self._step("delete"):
            return self.inner.delete(names)

    def stage(self, key: str) -> None:
        return None  # a file of another program is streamed, so that its writes count


class _FaultyUpload:
    """An upload whose steps count as operations."""

    def __init__(self, backend: FaultyBackend, key: str, upload: Upload) -> None:
        self._backend = backend
        self._key = key
        self._upload = upload

    def write(self, part: bytes) -> None:
        with self._backend._step("part", self._key):
            self._upload.write(part)

    def commit(self) -> str:
        with self._backend._step("commit", self._key):
            return self._upload.commit()

    def abort(self) -> None:
        with self._backend._step("abort", self._key):
            self._upload.abort()
