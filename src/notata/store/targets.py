"""Targets of an `AtomicWriter`: a store's own puts and uploads, with errors translated to ours."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from notata._base.processes import ForkCheck
from notata.store.files import Upload

if TYPE_CHECKING:
    from fsspec.callbacks import Callback

    from notata.store.store import Store


__all__ = ["Appending", "Writing"]


@dataclass(frozen=True, slots=True)
class Writing:
    """The target of an `AtomicWriter` in the modes ``w`` and ``x``."""

    store: Store
    key: str
    match: str | None

    def put(self, data: bytes) -> object:
        return self.store.put(self.key, data, self.match)

    def begin(self) -> Upload:
        with self.store.guard("write", self.key):
            return _Guarded(
                self.store,
                self.key,
                self.store.backend.begin_upload(self.key, self.match),
                self.store.callback(self.key),
            )


@dataclass(frozen=True, slots=True)
class _Guarded:
    """An upload with its errors translated to ours."""

    store: Store
    key: str
    upload: Upload
    callback: Callback | None
    fork: ForkCheck = field(default_factory=ForkCheck)

    def write(self, part: bytes) -> None:
        with self.store.guard("write", self.key):
            self._check()
            self.upload.write(part)
        if self.callback is not None:
            self.callback.relative_update(len(part))

    def commit(self) -> str:
        with self.store.guard("write", self.key):
            self._check()
            version = self.upload.commit()
        self._close()
        return version

    def abort(self) -> None:
        if self.fork.is_forked():
            return
        self._close()
        with self.store.guard("give up writing", self.key):
            self.upload.abort()

    def _check(self) -> None:
        """Refuse the upload in a forked child: it belongs to the parent process."""
        if self.fork.is_forked():
            raise OSError(errno.EPERM, "the parent process started this write; open the file again in the child")

    def _close(self) -> None:
        if self.callback is not None:
            self.callback.close()


class Appending:
    """The target of an `AtomicWriter` in mode ``a``: it collects in memory, then appends once."""

    def __init__(self, store: Store, key: str) -> None:
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
