"""What has a local disk keep files through a power cut: which are to be synced, in which order, and how.

It knows files and folders by name and by descriptor, and nothing of what is written.
"""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from typing import Any, Final

if sys.platform != "win32":
    import fcntl

__all__ = ["Durability"]

_NO_SYNC: Final = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
"""What a file system says that syncs no folders: those of network shares mostly keep them in order by themselves."""


class Durability:
    """The syncs of one store, and those of its folders whose names are known to be on the disk.

    A file is on the disk when its bytes are, and its name in its folder, and the name of that folder in the one above,
    and so on. All this is synced up to the root of the store and once more, as the root may be new too.

    Args:
        root: The folder of the store.
    """

    __slots__ = ("_above", "_known")

    def __init__(self, root: str) -> None:
        above = os.path.dirname(root)
        while not os.path.isdir(above) and above != os.path.dirname(above):
            above = os.path.dirname(above)
        self._above = above
        self._known: set[str] = set()

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self._above,)  # elsewhere other folders may be known

    def file(self, handle: int) -> None:
        """Have the bytes of an open file on the disk, before it gets its name."""
        _sync(handle)

    def growth(self, handle: int) -> None:
        """Have what was added to an open file on the disk, and its size."""
        if sys.platform in ("win32", "darwin"):
            _sync(handle)
        else:
            os.fdatasync(handle)

    def closed(self, path: str) -> None:
        """As `file`, of one that somebody else wrote."""
        handle = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
        try:
            self.file(handle)
        finally:
            os.close(handle)

    def folder(self, folder: str) -> None:
        """Have the names in a folder on the disk, and its own, and those of the folders above it."""
        _sync_folder(folder)
        new = []
        while folder not in self._known and len(folder) > len(self._above):
            new.append(folder)
            folder = os.path.dirname(folder)
            with suppress(PermissionError):  # it is somebody else's, and was there before
                _sync_folder(folder)
        self._known.update(new)  # at the end: who finds it there goes no further up

    def removed(self, folder: str) -> None:
        """Have it on the disk that names in a folder are gone, and maybe the folder, and some above it."""
        while not os.path.isdir(folder) and len(folder) > len(self._above):
            folder = os.path.dirname(folder)
        _sync_folder(folder)

    def forget(self, folder: str) -> None:
        """Take note that a folder is made anew, and maybe those above it."""
        while len(folder) > len(self._above):
            self._known.discard(folder)
            folder = os.path.dirname(folder)


def _again(above: str) -> Durability:
    return Durability(os.path.join(above, "any"))


def _sync(handle: int) -> None:
    if sys.platform == "darwin":  # there fsync leaves it in the cache of the drive
        try:
            fcntl.fcntl(handle, fcntl.F_FULLFSYNC)
            return
        except OSError as error:
            if error.errno not in _NO_SYNC:
                raise
    os.fsync(handle)


def _sync_folder(folder: str) -> None:
    if sys.platform == "win32":  # no folder can be opened there; NTFS keeps names by its journal
        return
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:  # somebody removed it with all that was in it
        return
    try:
        _sync(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(handle)
