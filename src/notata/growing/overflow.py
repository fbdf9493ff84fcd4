"""Lines that wait in a temporary file: a bucket may take longer to store output than a program to print it."""

from __future__ import annotations

import tempfile
from typing import IO

__all__ = ["Overflow"]


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

    def clear(self) -> None:
        """Remove all bytes."""
        if self._file is not None:
            self._file.close()
        self._file, self._start, self._stored, self._rest = None, 0, 0, bytearray()
