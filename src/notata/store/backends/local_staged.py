"""Writes on a local disk: a temporary file next to its target, published in one step.

This module handles open folders and single names, not keys.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from notata.store.backends.durability import Durability
from notata.store.backends.local_folders import Folder
from notata.store.entries import Entry
from notata.store.unfinished import new_name

__all__ = ["Publish", "Staged", "entry_of", "publish_new", "version_of", "write_all"]

_NO_LINKS: Final = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EIO}
"""Errors of file systems without hard links. ``rclone mount`` reports EIO; a broken disk would report it again."""
_COPIED: Final = 2**20
_READ: Final = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NEW: Final = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)

Publish = Callable[[Folder, str, str], "str | None"]
"""Gives a temporary file of a folder its final name. Returns the version if that changes it."""


class Staged:
    """A streamed write: a temporary file next to its target, published in one step.

    Args:
        folder: The open folder of the target; it is closed with the write.
        name: Of the target.
        publish: Gives the temporary file this name.
        durability: Makes the write durable, if given.
        stamped: Whether its time must differ from that of a write just before.

    Attributes:
        found: The version of a stamped file after it was published; empty if it is unknown.
    """

    __slots__ = ("_durability", "_folder", "_handle", "_name", "_publish", "_stamped", "_temporary", "found")

    def __init__(
        self, folder: Folder, name: str, publish: Publish, durability: Durability | None, *, stamped: bool
    ) -> None:
        self._folder = folder
        self._name = name
        self._publish = publish
        self._durability = durability
        self._stamped = stamped
        self.found = ""
        self._handle = -1
        self._temporary = new_name()
        try:
            self._handle = folder.open(self._temporary, _NEW)
        except BaseException:
            folder.close()
            raise

    def limit(self, mode: int) -> None:
        """Remove the permissions of group and others that `mode` lacks."""
        if hasattr(os, "fchmod"):
            os.fchmod(self._handle, stat.S_IMODE(os.fstat(self._handle).st_mode) & (mode | stat.S_IRWXU))

    def write(self, part: bytes) -> None:
        write_all(self._handle, part)

    def commit(self) -> str:
        if self._stamped and os.utime in os.supports_fd:
            # The kernel's time stamps have steps of 4 ms, so two versions could look the same.
            now = time.time_ns()
            os.utime(self._handle, ns=(now, now))
        version = version_of(os.fstat(self._handle))
        if self._durability is not None:
            self._durability.sync_file(self._handle)
        self._close()
        version = self._publish(self._folder, self._temporary, self._name) or version
        if self._durability is not None:
            self._durability.sync_folder(self._folder.path)
        if self._stamped:
            with suppress(OSError):
                self.found = version_of(self._folder.stat(self._name))
        self._folder.close()
        return version

    def abort(self) -> None:
        self._close()
        with suppress(FileNotFoundError):
            self._folder.unlink(self._temporary)
        self._folder.close()

    def _close(self) -> None:
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def __del__(self) -> None:
        self._close()


def write_all(handle: int, data: bytes) -> None:
    """Write all of `data` to an open file."""
    written = os.write(handle, data)
    while written < len(data):  # a write may be short: signals, the limit of 2 GiB, a disk that is full next time
        written += os.write(handle, memoryview(data)[written:])


def publish_new(folder: Folder, temporary: str, name: str, durability: Durability | None) -> str | None:
    """Publish a file if the name is free: by a hard link, or by O_EXCL and a copy on disks without links."""
    version = None
    try:
        folder.link(temporary, name)
    except FileExistsError:
        if folder.stat(temporary).st_nlink < 2:  # 2: NFS made the link and lost the reply
            raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        version = _copy_exclusively(folder, temporary, name, durability)
    folder.unlink(temporary)
    return version


def _copy_exclusively(folder: Folder, temporary: str, name: str, durability: Durability | None) -> str:
    with open(folder.open(temporary, _READ), "rb") as source, open(folder.open(name, _NEW), "wb") as file:
        try:
            while part := source.read(_COPIED):
                file.write(part)
            file.flush()
            if durability is not None:
                durability.sync_file(file.fileno())
            return version_of(os.fstat(file.fileno()))
        except BaseException:
            folder.unlink(name)
            raise


def entry_of(key: str, state: os.stat_result) -> Entry:
    """Return a file as a listing shows it."""
    return Entry(key, state.st_size, datetime.fromtimestamp(state.st_mtime, UTC), version_of(state))


def version_of(state: os.stat_result) -> str:
    """Return a text that differs for different contents of a file: its inode, time and size."""
    return f"{state.st_ino:x}-{state.st_mtime_ns:x}-{state.st_size:x}"
