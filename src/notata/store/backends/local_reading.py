"""Read a file on a local disk without a file object, which takes four more system calls.

This module handles open folders and single names, not keys.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from typing import Final, Self

from notata.store.backends.local_folders import Folder

__all__ = ["READ", "Reading", "check_regular"]

READ: Final = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
_AT_ONCE: Final = 2**30  # bytes of one read; Linux returns at most 2 GiB
_BEYOND: Final = 2**16  # bytes to read behind the known end of a file


def check_regular(state: os.stat_result) -> None:
    """Refuse a folder, and a pipe or another special file: reading a pipe would block until a writer opens it."""
    if stat.S_ISDIR(state.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder")
    if not stat.S_ISREG(state.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")


class Reading:
    """A regular file that is open to be read, without the system calls of a file object.

    Attributes:
        state: Its status when it was opened.
    """

    __slots__ = ("_handle", "state")

    def __init__(self, folder: Folder, name: str, *, follow: bool) -> None:
        self._handle = -1
        with folder:
            self._handle = folder.open(name, READ, follow=follow)
        self.state = os.fstat(self._handle)
        check_regular(self.state)

    def read(self, start: int, most: int = sys.maxsize) -> bytes:
        """Return the bytes from `start`, at most `most` of them; a single call of the system may return fewer."""
        if start:
            os.lseek(self._handle, start, os.SEEK_SET)
        parts: list[bytes] = []
        while most > 0:
            left = self.state.st_size - start
            wanted = min(most, left + 1 if left > 0 else _BEYOND, _AT_ONCE)  # one more byte, as the file may have grown
            part = os.read(self._handle, wanted)
            if part:
                parts.append(part)
                start, most = start + len(part), most - len(part)
            if not part or (len(part) < wanted and start == self.state.st_size):
                break
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def __del__(self) -> None:
        self.close()
