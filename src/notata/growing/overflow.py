"""Lines that wait in a temporary file: a bucket may take longer to store output than a program to print it."""

from __future__ import annotations

import tempfile
from typing import IO

__all__ = ["Overflow", "Pieces"]


class Pieces:
    """Bytes of which the last ones are in a file; a slice reads them. For appends of more than fits into memory."""

    def __init__(self, head: bytes, file: IO[bytes], start: int, size: int) -> None:
        self._head, self._file, self._start, self._size = head, file, start, size

    def __len__(self) -> int:
        return len(self._head) + self._size

    def __getitem__(self, part: slice) -> bytes:
        start, end, _ = part.indices(len(self))
        head = self._head[start:end]
        at = max(0, start - len(self._head))
        self._file.seek(self._start + at)
        return head + self._file.read(max(0, end - len(self._head) - at))

    def __radd__(self, before: bytes) -> Pieces:
        return Pieces(before + self._head, self._file, self._start, self._size)

    def close(self) -> None:
        """Remove the file."""
        self._file.close()


class Overflow:
    """Bytes in a temporary file, first in, first out; if the disk is full, further ones wait in memory.

    Not thread-safe.
    """

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._start = self._stored = 0
        self._rest = bytearray()

    @property
    def size(self) -> int:
        """The bytes that wait."""
        return self._stored + len(self._rest)

    @property
    def is_crammed(self) -> bool:
        """True if bytes wait in memory, as the disk is full."""
        return bool(self._rest)

    def add(self, data: bytes) -> None:
        """Add bytes."""
        if self._rest:
            self._rest += data
            return
        try:
            self._write(data)
            self._stored += len(data)
        except OSError:
            self._rest += data

    def _write(self, data: bytes) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0)  # it is removed when it is closed
        self._file.seek(self._start + self._stored)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]

    def take(self, most: int) -> bytes:
        """Return the first bytes, at most `most`, and remove them."""
        data = b""
        if self._stored and self._file is not None:
            self._file.seek(self._start)
            data = self._file.read(min(most, self._stored))
            self._start += len(data)
            self._stored -= len(data)
            if not self._stored:
                self._file.close()
                self._file, self._start = None, 0
        if not self._stored and (left := most - len(data)) > 0:
            data += bytes(self._rest[:left])
            del self._rest[:left]
        return data

    def take_all(self, head: bytes) -> Pieces:
        """Return all bytes after `head`, and remove them. There must be some, all on the disk."""
        assert self._file is not None
        found = Pieces(head, self._file, self._start, self._stored)
        self._file, self._start, self._stored = None, 0, 0
        return found

    def clear(self) -> None:
        """Remove all bytes."""
        if self._file is not None:
            self._file.close()
        self._file, self._start, self._stored, self._rest = None, 0, 0, bytearray()
