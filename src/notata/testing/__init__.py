"""Tools for the tests of notata's users: a store that fails on demand, and a pytest fixture.

`FaultyStore` wraps any store and makes its n-th operation fail, before or after it took effect. The fixture
``memory_logbook`` (in `notata.testing.plugin`, which pytest loads automatically) is a run in memory.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from notata._base import keys
from notata.errors import NotataError
from notata.store import Blob, Entry, Store
from notata.store.gaps import Gap

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem
    from upath import UPath

    from notata.store.appending import Tail
    from notata.store.files import Upload

__all__ = ["FaultyStore", "Operation"]


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

    operations: list[Operation] = field(default_factory=list)
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


class FaultyStore(Store):
    """A wrapper of a store that fails on demand.

    Args:
        inner: The wrapped store.

    >>> from notata import Logbook
    >>> from notata.store import open_store
    >>> store = FaultyStore(open_store("memory://faulty"))
    >>> log = Logbook("a", store)
    >>> store.fail(1)
    >>> log.text("notes", "lost")
    Traceback (most recent call last):
    notata.errors.UnreachableError: cannot write memory://faulty/log_a/artifacts/notes.txt: no server answered ...
    >>> log["artifacts/notes.txt"].exists()
    False
    """

    def __init__(self, inner: Store) -> None:
        super().__init__(inner.url)
        self.inner = inner
        self.folders = inner.folders
        self.is_local = inner.is_local
        self.leaves_unfinished = inner.leaves_unfinished
        self.shared = inner.shared
        self._plan = _Plan()
        self._below = ""

    @property
    def supports_exclusive_create(self) -> bool:
        return self.inner.supports_exclusive_create

    @property
    def supports_cas(self) -> bool:
        return self.inner.supports_cas

    @property
    def gap(self) -> str:
        return self.inner.gap

    @property
    def operations(self) -> list[Operation]:
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
        >>> store = FaultyStore(open_store("memory://faulty-once"))
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
        self._plan.closed[keys.join(self._below, folder)] = error

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

    def durably(self) -> FaultyStore:
        return self._before(self.inner.durably())

    def following_links(self) -> FaultyStore:
        return self._before(self.inner.following_links())

    def strictly(self) -> FaultyStore:
        return self._before(self.inner.strictly())

    def _before(self, inner: Store) -> FaultyStore:
        if inner is self.inner:
            return self
        other = copy.copy(self)
        other.inner = inner
        return other

    def _enter(self, folder: str) -> None:
        self.inner = self.inner.below(folder)
        self._below = keys.join(self._below, folder)

    def _put(self, key: str, data: bytes, match: str | None) -> str:
        with self._step("put", key):
            return self.inner._put(key, data, match)

    def _begin(self, key: str, match: str | None) -> Upload:
        with self._step("begin", key):
            return _FaultyUpload(self, key, self.inner._begin(key, match))

    def _append(self, key: str, data: bytes, tail: Tail) -> Tail:
        with self._step("append", key):
            return self.inner._append(key, data, tail)

    def _get(self, key: str, start: int, end: int | None, version: str | None) -> Blob:
        with self._step("get", key):
            return self.inner._get(key, start, end, version)

    def _stat(self, key: str) -> Entry:
        with self._step("stat", key):
            return self.inner._stat(key)

    def _has_folder(self, key: str) -> bool:
        with self._step("list", key):
            return self.inner._has_folder(key)

    def _list(self, folder: str, beginning: str = "") -> Iterator[Entry | Gap]:
        with self._step("list", folder):
            closed = {key: error for key, error in self._plan.closed.items() if f"{key}/".startswith(self._root())}
            reported = set()
            for found in self.inner._list(folder, beginning):
                inside = next((key for key in closed if f"{self._root()}{found.key}".startswith(f"{key}/")), None)
                if inside is None:
                    yield found
                elif inside not in reported:
                    reported.add(inside)
                    yield Gap(inside[len(self._root()) :], closed[inside]())

    def _root(self) -> str:
        return f"{self._below}/" if self._below else ""

    def _delete(self, names: dict[str, str | None]) -> dict[str, Exception]:
        with self._step("delete"):
            return self.inner._delete(names)

    def hidden_folder(self) -> FaultyStore:
        other = self._before(self.inner.hidden_folder())
        other.url = other.inner.url
        return other

    def folds_names(self, *, may_write: bool = True) -> bool:
        return self.inner.folds_names(may_write=may_write)

    def remove_empty_folders(self) -> None:
        self.inner.remove_empty_folders()

    def irregular(self) -> list[str]:
        return self.inner.irregular()

    def remove_links(self) -> list[str]:
        return self.inner.remove_links()

    def _path(self, key: str) -> UPath:
        from notata.store.paths import RunPath

        path = self.inner._path(key)
        return path.bound_to(self) if isinstance(path, RunPath) else path

    def _make_parents(self, key: str) -> None:
        self.inner._make_parents(key)

    def _make_folder(self, key: str) -> None:
        self.inner._make_folder(key)

    def _failure(self, error: Exception) -> tuple[type[NotataError], str]:
        return self.inner._failure(error)

    def redacted(self, text: str) -> str:
        return self.inner.redacted(text)

    def filesystem(self) -> AbstractFileSystem:
        """Return the file system of the wrapped store, which does not fail."""
        return self.inner.filesystem()

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_plan": _Plan()}

    def __copy__(self) -> FaultyStore:
        other = object.__new__(FaultyStore)
        other.__dict__ = copy.copy(self.__dict__)
        return other


class _FaultyUpload:
    """An upload whose steps count as operations."""

    def __init__(self, store: FaultyStore, key: str, upload: Upload) -> None:
        self._store = store
        self._key = key
        self._upload = upload

    def write(self, part: bytes) -> None:
        with self._store._step("part", self._key):
            self._upload.write(part)

    def commit(self) -> str:
        with self._store._step("commit", self._key):
            return self._upload.commit()

    def abort(self) -> None:
        with self._store._step("abort", self._key):
            self._upload.abort()
