"""Targets of an `AtomicWriter`: a store's own puts and uploads, with errors translated to ours."""

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
    """The store of the file: `notata.store.Store`."""

    def append(self, key: str, data: bytes) -> int: ...
    def _write(self, key: str, data: bytes, match: str | None) -> str: ...
    def _begin(self, key: str, match: str | None) -> Upload: ...
    def _callback(self, key: str) -> Callback | None: ...
    def _guard(self, doing: str, key: str | None) -> AbstractContextManager[None]: ...


@dataclass(frozen=True, slots=True)
class Writing:
    """The target of an `AtomicWriter` in the modes ``w`` and ``x``."""

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
    """An upload with its errors translated to ours."""

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
        """Refuse the upload in a forked child: it belongs to the parent process."""
        if os.getpid() != self.pid:
            raise OSError(errno.EPERM, "the parent process started this write; open the file again in the child")

    def _close(self) -> None:
        if self.callback is not None:
            self.callback.close()


class Appending:
    """The target of an `AtomicWriter` in mode ``a``: it collects in memory, then appends once."""

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
