"""A file reader for random access with few requests and little memory."""

from __future__ import annotations

import io
from collections import deque
from typing import TYPE_CHECKING, Final

from notata._base.buffers import flat
from notata.store import Blob, Store

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["HEAD", "BlockReader"]

HEAD: Final = 2**14
"""Bytes that usually contain the header of an array and its first values."""

_BLOCK: Final = 2**16


class BlockReader(io.RawIOBase):
    """A read-only file for random access: each request fetches 64 KiB, and the last few blocks are kept."""

    def __init__(self, store: Store, key: str, first: Blob | None) -> None:
        self._store = store
        self._key = key
        first = store.backend.get(key, 0, HEAD, None) if first is None else first
        self._size, self._version = first.size, first.version
        self._held: deque[tuple[int, bytes]] = deque([(0, first.data)], 16)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        goal = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence] + offset
        if goal < 0:
            raise ValueError(f"negative seek position {goal}")
        self._at = goal
        return goal

    def readinto(self, target: Buffer, /) -> int:
        view = flat(target)
        data = self._next()[: view.nbytes]
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _next(self) -> memoryview:
        """Return some bytes from the current position; none at the end."""
        if self._at >= self._size:
            return memoryview(b"")
        for start, held in self._held:
            if start <= self._at < start + len(held):
                return memoryview(held)[self._at - start :]
        start = max(0, min(self._at, self._size - _BLOCK))
        data = self._store.backend.get(self._key, start, min(self._size, start + _BLOCK), self._version).data
        self._held.append((start, data))
        return memoryview(data)[self._at - start :]
