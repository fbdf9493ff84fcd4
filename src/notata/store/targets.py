"""Where the bytes of an `AtomicWriter` go: a store's own puts and uploads, their errors ours; it knows no bytes."""

from __future__ import annotations

import errno
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from notata.store.files import Upload

if TYPE_CHECKING:
    from fsspec.callbacks import Callback


__all__ = ["Appending", "Writing"]


class Files(Protocol):
    """Where the bytes go: `notata.store.Store`."""

    def append(self, key: str, data: bytes) -> int: ...
    def _write(self, key: str, data: bytes, match: str | None) -> str: ...
    def _begin(self, key: str, match: str | None) -> Upload: ...
    def _callback(self, key: str) -> Callback | None: ...
    def _guard(self, doing: str, key: str | None) -> AbstractContextManager[None]: ...


@dataclass(frozen=True, slots=True)
class Writing:
    """Where an `AtomicWriter` of modes ``w`` and ``x`` puts its bytes."""

    store: Files
    key: str
    match: str | None

    def put(self, data: bytes) -> object:
        return self.store._write(self.key, data, self.match)

    def begin(self) -> Upload:
        with self.store._guard("write", self.key):
            return _Guarded(
                self.store, self.key, self.store._begin(self.key, self.match), self.store._callback(self.key)
            )


@dataclass(frozen=True, slots=True)
class _Guarded:
    """An upload whose errors are ours."""

    store: Files
    key: str
    upload: Upload
    callback: Callback | None
    pid: int = field(default_factory=os.getpid)

    def write(self, part: bytes) -> None:
        with self.store._guard("write", self.key):
            self._check()
            self.upload.write(part)
        if self.callback is not None:
            self.callback.relative_update(len(part))

    def commit(self) -> str:
        with self.store._guard("write", self.key):
            self._check()
            version = self.upload.commit()
        self._close()
        return version

    def abort(self) -> None:
        if os.getpid() != self.pid:
            return
        self._close()
        with self.store._guard("give up writing", self.key):
            self.upload.abort()

    def _check(self) -> None:
        """A forked child has no part in it: what is under way is the parent's."""
        if os.getpid() != self.pid:
            raise OSError(errno.EPERM, "it was begun by the parent process")

    def _close(self) -> None:
        if self.callback is not None:
            self.callback.close()


class Appending:
    """Where an `AtomicWriter` of mode ``a`` puts its bytes: all in memory, then one append."""

    def __init__(self, store: Files, key: str) -> None:
        self._store = store
        self._key = key
        self._held = bytearray()

    def begin(self) -> Upload:
        return self

    def write(self, part: bytes) -> None:
        self._held += part

    def commit(self) -> str:
        self.put(bytes(self._held))
        return ""

    def abort(self) -> None:
        self._held = bytearray()

    def put(self, data: bytes) -> None:
        self._store.append(self._key, data)
