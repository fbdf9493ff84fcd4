"""Translate Python's builtin errors to ours; no backend is involved."""

from __future__ import annotations

import errno
from typing import Final

from notata.errors import (
    AccessError,
    DeadlineError,
    ExistsError,
    FolderError,
    FullError,
    KeyNameError,
    MissingError,
    NotataError,
    StorageError,
    UnreachableError,
)

__all__ = ["failure_of_builtin"]


_AILING: Final = {
    errno.EIO: "the disk or the mount reports an input/output error; check it (dmesg, fsck), and copy what can still "
    "be read",
    errno.ESTALE: "the network file system lost this folder (stale file handle); mount it again",
    errno.ENOTCONN: "the mount is gone (its program ended); unmount it and mount it again",
    errno.EMFILE: "this process has too many open files; close some and try again, or raise the limit (ulimit -n)",
    errno.ENFILE: "this machine has too many open files; end some of its processes and try again",
}
"""Errors of a broken disk, mount or machine, and of an exceeded limit."""


def failure_of_builtin(error: Exception, text: str) -> tuple[type[NotataError], str]:
    """Return our error class for a builtin error, by type and then by errno, and a hint for the user."""
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, FileNotFoundError):
        return MissingError, "there is no such file"
    if isinstance(error, FileExistsError):
        return ExistsError, "it already exists"
    if isinstance(error, IsADirectoryError | NotADirectoryError) or number == errno.ENOTEMPTY:
        return FolderError, (
            "there is a file where a folder is needed, or a folder where a file is needed; choose another name"
        )
    if number in (errno.ENOSPC, errno.EDQUOT):
        return FullError, "no space left; free some space and write again, the previous content is unchanged"
    if number in (errno.ENOSYS, errno.EOPNOTSUPP) or isinstance(error, NotImplementedError):
        return StorageError, "the storage does not support this operation; choose another base_dir"
    if number == errno.EROFS:
        return AccessError, "the file system is read-only; choose another base_dir"
    if isinstance(error, PermissionError):
        return AccessError, "permission denied; check the read and write permissions, or choose another base_dir"
    if number in _AILING:
        return StorageError, _AILING[number]
    if number == errno.ENAMETOOLONG:
        return KeyNameError, "the path is too long for the file system; shorten base_dir or the name"
    if isinstance(error, TimeoutError):
        return DeadlineError, (
            "no answer in time; the network or the server is stalled, and it is unknown whether the request took effect"
        )
    if isinstance(error, ConnectionError):
        return UnreachableError, "no server answered at this address; check the address and the network"
    return StorageError, f"{type(error).__name__}: {text}"
