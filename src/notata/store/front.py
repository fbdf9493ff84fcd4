"""A base class for store wrappers: every operation that is not overridden goes to the wrapped store."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from concurrent.futures import Future
from typing import IO, TYPE_CHECKING, Any, Self

from notata._base import keys
from notata.errors import NotataError
from notata.store.base import Blob, Entry, Store
from notata.store.gaps import Gap

if TYPE_CHECKING:
    import io

    from upath import UPath

    from notata.store.appending import Tail
    from notata.store.files import Upload

__all__ = ["FrontStore"]


class FrontStore(Store):
    """A wrapper that forwards every operation. It pickles as the wrapped store.

    A subclass overrides only the primitives that it changes. File objects, batches and errors remain those of `Store`.

    Args:
        real: The wrapped store.
    """

    def __init__(self, real: Store) -> None:
        super().__init__(real.url)
        self._real = real
        self._folder = ""  # below the root of the store that was wrapped first
        self.folders, self.is_local, self.shared = real.folders, real.is_local, real.shared
        self.leaves_unfinished = real.leaves_unfinished
        self.sized, self.queues, self.progress = real.sized, real.queues, real.progress

    def __copy__(self) -> Self:
        other = object.__new__(type(self))
        other.__dict__ = copy.copy(self.__dict__)
        return other

    def __reduce__(self) -> tuple[Any, ...]:
        return _itself, (self._real,)

    @property
    def supports_exclusive_create(self) -> bool:
        return self._real.supports_exclusive_create

    @property
    def supports_cas(self) -> bool:
        return self._real.supports_cas

    @property
    def gap(self) -> str:
        return self._real.gap

    def _enter(self, folder: str) -> None:
        self._real = self._real.below(folder)
        self._folder = keys.join(self._folder, folder)

    def _full(self, key: str) -> str:
        """Return a key relative to the store that was wrapped first."""
        return keys.join(self._folder, key)

    def _put(self, key: str, data: bytes, match: str | None) -> str:
        return self._real._put(key, data, match)

    def _begin(self, key: str, match: str | None) -> Upload:
        return self._real._begin(key, match)

    def _append(self, key: str, data: bytes, tail: Tail) -> Tail:
        return self._real._append(key, data, tail)

    def _delete(self, names: dict[str, str | None]) -> dict[str, Exception]:
        return self._real._delete(names)

    def _get(self, key: str, start: int, end: int | None, version: str | None) -> Blob:
        return self._real._get(key, start, end, version)

    def _get_whole(self, key: str, start: int = 0) -> Blob:
        return self._real._get_whole(key, start)

    def start_fetch(self, key: str, start: int = 0, end: int | None = None) -> Future[Blob]:
        return self._real.start_fetch(key, start, end)

    def _open_read(self, key: str) -> io.BufferedReader | io.BytesIO:
        return self._real._open_read(key)

    def _stream(self, key: str) -> IO[bytes]:
        return self._real._stream(key)

    def _stat(self, key: str) -> Entry:
        return self._real._stat(key)

    def _permissions(self, key: str) -> int | None:
        return self._real._permissions(key)

    def _limit(self, key: str, mode: int | None) -> None:
        self._real._limit(key, mode)

    def _list(self, folder: str, beginning: str = "") -> Iterator[Entry | Gap]:
        return self._real._list(folder, beginning)

    def _has_folder(self, key: str) -> bool:
        return self._real._has_folder(key)

    def hidden_folder(self) -> Self:
        other = self._before(self._real.hidden_folder())
        other.url = other._real.url
        return other

    def folds_names(self, *, may_write: bool = True) -> bool:
        return self._real.folds_names(may_write=may_write)

    def remove_empty_folders(self) -> None:
        self._real.remove_empty_folders()

    def irregular(self) -> list[str]:
        return self._real.irregular()

    def remove_links(self) -> list[str]:
        return self._real.remove_links()

    def following_links(self) -> Self:
        return self._before(self._real.following_links())

    def strictly(self) -> Self:
        return self._before(self._real.strictly())

    def _before(self, real: Store) -> Self:
        """Return this wrapper around another store."""
        if real is self._real:
            return self
        other = copy.copy(self)
        other._real = real
        return other

    def _path(self, key: str) -> UPath:
        return self._real._path(key)

    def _make_parents(self, key: str) -> None:
        self._real._make_parents(key)

    def _make_folder(self, key: str) -> None:
        self._real._make_folder(key)

    def filesystem(self) -> Any:
        return self._real.filesystem()

    def redacted(self, text: str) -> str:
        return self._real.redacted(text)

    def _failure(self, error: Exception) -> tuple[type[NotataError], str]:
        return self._real._failure(error)

    def _cause(self, error: Exception) -> Exception | None:
        return self._real._cause(error)


def _itself(store: Store) -> Store:
    return store
