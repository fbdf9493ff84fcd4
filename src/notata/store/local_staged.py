"""How a file of a local disk is written: a temporary file beside its target, published in one step.

It knows open folders and single names, nothing of keys.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from notata.store.durability import Durability
from notata.store.local_folders import Folder
from notata.store.unfinished import new_name

__all__ = ["Publish", "Staged", "publish_new", "version_of", "write_all"]

_NO_LINKS: Final = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EIO}
"""What a file system says that has no hard links. EIO is said by ``rclone mount``; a broken disk says it once more."""
_COPIED: Final = 2**20
_READ: Final = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NEW: Final = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)

Publish = Callable[[Folder, str, str], "str | None"]
"""Give a temporary file of a folder its name; the version, if that is another one than before."""


class Staged:
    """A streamed write: a temporary file beside its target, published in one step.

    Args:
        folder: Where the target lies, open; it is closed with the write.
        name: Of the target.
        publish: What gives the temporary file this name.
        durability: What has it outlast a power cut.
        stamped: Whether it is to differ in time from a write just before.
    """

    __slots__ = ("_durability", "_folder", "_handle", "_name", "_publish", "_stamped", "_temporary")

    def __init__(
        self, folder: Folder, name: str, publish: Publish, durability: Durability | None, *, stamped: bool
    ) -> None:
        self._folder = folder
        self._name = name
        self._publish = publish
        self._durability = durability
        self._stamped = stamped
        self._handle = -1
        self._temporary = new_name()
        try:
            self._handle = folder.open(self._temporary, _NEW)
        except BaseException:
            folder.close()
            raise

    def limit(self, mode: int) -> None:
        """Take permissions of the group and of others away that `mode` does not have."""
        if hasattr(os, "fchmod"):
            os.fchmod(self._handle, stat.S_IMODE(os.fstat(self._handle).st_mode) & (mode | stat.S_IRWXU))

    def write(self, part: bytes) -> None:
        write_all(self._handle, part)

    def commit(self) -> str:
        if self._stamped and os.utime in os.supports_fd:
            # The kernel stamps files by the tick (4 ms): two versions could look the same.
            now = time.time_ns()
            os.utime(self._handle, ns=(now, now))
        version = version_of(os.fstat(self._handle))
        if self._durability is not None:
            self._durability.file(self._handle)
        self._close()
        version = self._publish(self._folder, self._temporary, self._name) or version
        if self._durability is not None:
            self._durability.folder(self._folder.path)
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
    while written < len(data):  # it may be short: signals, 2 GiB at once, a disk that is full next time
        written += os.write(handle, memoryview(data)[written:])


def publish_new(folder: Folder, temporary: str, name: str, durability: Durability | None) -> str | None:
    """Publish where nothing is. A hard link fails if anything is; disks without links have O_EXCL, and a copy."""
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
                durability.file(file.fileno())
            return version_of(os.fstat(file.fileno()))
        except BaseException:
            folder.unlink(name)
            raise


def version_of(state: os.stat_result) -> str:
    """Return what tells one content of a file from another: its inode, time and size."""
    return f"{state.st_ino:x}-{state.st_mtime_ns:x}-{state.st_size:x}"
