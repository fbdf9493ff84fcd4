"""fsync for local disks: which files and folders to sync after a write, in which order, and how.

This module handles names and descriptors of files and folders, never their content.
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
"""Errors of a file system that cannot sync folders; most network shares keep them in order by themselves."""


class Durability:
    """The fsync calls of one store, and the set of folders whose names are known to be on disk.

    A file is on disk when its bytes are, its name in its folder, the name of that folder in its parent, and so on. All
    of this is synced up to the root of the store and its parent, as the root may be new too.

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
        return _restored, (self._above,)  # other folders may be known elsewhere

    def sync_file(self, handle: int) -> None:
        """Sync the bytes of an open file, before it gets its name."""
        _sync(handle)

    def sync_appended(self, handle: int) -> None:
        """Sync the bytes that were appended to an open file, and its size."""
        if sys.platform in ("win32", "darwin"):
            _sync(handle)
        else:
            os.fdatasync(handle)

    def sync_closed(self, path: str) -> None:
        """Sync the bytes of a closed file, by its path."""
        handle = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))
        try:
            self.sync_file(handle)
        finally:
            os.close(handle)

    def sync_folder(self, folder: str) -> None:
        """Sync the names in a folder, the folder's own name, and those of its parents."""
        _sync_folder(folder)
        new = []
        while folder not in self._known and len(folder) > len(self._above):
            new.append(folder)
            folder = os.path.dirname(folder)
            with suppress(PermissionError):  # it belongs to another user and existed before
                _sync_folder(folder)
        self._known.update(new)  # last: another thread that finds a folder here syncs no parents

    def sync_deletions(self, folder: str) -> None:
        """Sync a folder after deletions, or its nearest existing parent if it was removed too."""
        while not os.path.isdir(folder) and len(folder) > len(self._above):
            folder = os.path.dirname(folder)
        _sync_folder(folder)

    def forget_folder(self, folder: str) -> None:
        """Record that a folder was created anew, and maybe its parents."""
        while len(folder) > len(self._above):
            self._known.discard(folder)
            folder = os.path.dirname(folder)


def _restored(above: str) -> Durability:
    return Durability(os.path.join(above, "any"))


def _sync(handle: int) -> None:
    if sys.platform == "darwin":  # there, fsync leaves the data in the drive's cache
        try:
            fcntl.fcntl(handle, fcntl.F_FULLFSYNC)
            return
        except OSError as error:
            if error.errno not in _NO_SYNC:
                raise
    os.fsync(handle)


def _sync_folder(folder: str) -> None:
    if sys.platform == "win32":  # folders cannot be opened there; NTFS keeps names by its journal
        return
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:  # another process removed the folder and its content
        return
    try:
        _sync(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(handle)
