"""Publish a file under its name on each fsspec protocol: as a whole, and in one step if the protocol supports it.

This module knows the call of each file system, and the risk on file systems without such a step.
"""

from __future__ import annotations

import io
import posixpath
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import fsspec
from fsspec.asyn import AsyncFileSystem, sync
from fsspec.implementations.dirfs import DirFileSystem

from notata.store.backends.client_errors import class_names, is_dropped
from notata.store.unfinished import new_name

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["Step", "make_folder", "move_over", "step_of", "unfinished_in", "write_hidden"]

Step: TypeAlias = Literal["rename", "server", "copy"]
"""``rename``: one step of the protocol replaces a file. ``server``: one request does, and the server decides whether it
is one step. ``copy``: the new content is copied over the old one."""

_SERVERS: Final = frozenset({"ArrowFSWrapper", "FTPFileSystem", "WebdavFileSystem"})
_TRIES: Final = 10  # attempts to make a folder that others make at the same time


def step_of(fs: AbstractFileSystem) -> Step:
    """Return in which way a file system replaces a file."""
    while isinstance(fs, DirFileSystem):
        fs = fs.fs
    if class_names(fs) & _SERVERS:
        return "server"
    return "copy" if _renamer(fs) is None else "rename"


def unfinished_in(folder: str) -> str:
    """Return a new name in a folder for an unfinished write, which listings hide."""
    return f"{folder}/{new_name()}"


def make_folder(fs: AbstractFileSystem, folder: str) -> None:
    """Create a folder and its parents, if the protocol has folders and they are missing."""
    for last in range(_TRIES, 0, -1):
        fs.invalidate_cache()
        try:
            if not fs.isdir(folder):
                fs.makedirs(folder, exist_ok=True)
            return
        except NotImplementedError:
            return
        except Exception as error:  # another process made one of them just now; each library reports that differently
            if is_dropped(error, fs) or (last == 1 and not fs.isdir(folder)):
                raise


def write_hidden(fs: AbstractFileSystem, name: str, data: bytes) -> None:
    """Write a new file under a hidden name, and create its folder."""
    make_folder(fs, posixpath.dirname(name))
    if hasattr(getattr(fs, "ftp", None), "putfo"):  # paramiko: sends all requests at once, then checks the size
        fs.ftp.putfo(io.BytesIO(data), name)
        return
    file = fs.open(name, "wb")
    try:
        file.write(data)
    except BaseException:
        with suppress(Exception):
            file.close()
        raise
    file.close()


def move_over(fs: AbstractFileSystem, source: str, target: str) -> bool:
    """Rename a file over another one. Return whether the server did that in one request."""
    while isinstance(fs, DirFileSystem):
        fs, source, target = fs.fs, fs._join(source), fs._join(target)
    rename = _renamer(fs)
    if rename is None:
        fs.cp_file(source, target)
        fs.rm_file(source)
        return True
    try:
        rename(source, target)
    except Exception as error:
        if is_dropped(error, fs) or not (fs.exists(source) and fs.exists(target)):
            raise
        _exchange(fs, rename, source, target)
        return False
    return True


def _exchange(fs: AbstractFileSystem, rename: Callable[[str, str], object], source: str, target: str) -> None:
    """Replace a file on a server that cannot rename over one: first move the old file to a hidden name.

    In between, the name does not exist. A process that is killed then leaves both files under hidden names.
    """
    spare = unfinished_in(posixpath.dirname(target))
    rename(target, spare)
    try:
        rename(source, target)
    except BaseException:
        with suppress(Exception):
            rename(spare, target)
        raise
    fs.rm_file(spare)


def _renamer(fs: AbstractFileSystem) -> Callable[[str, str], object] | None:
    """Return the call of a file system that renames over an existing file, or None if it can only copy.

    fsspec's default copies, and so does the `mv` of asynchronous file systems, even of those with an own coroutine.
    """
    names = class_names(fs)
    if "WebdavFileSystem" in names:
        return lambda source, target: fs.client.move(*map(fs._strip_protocol, (source, target)), overwrite=True)
    if "SMBFileSystem" in names:
        return lambda source, target: _replace_on_share(fs, source, target)
    if isinstance(fs, AsyncFileSystem) and hasattr(fs, "_mv"):
        return lambda source, target: sync(fs.loop, fs._mv, source, target)
    own = type(fs).mv
    return None if own in (fsspec.AbstractFileSystem.mv, AsyncFileSystem.mv) else fs.mv


def _replace_on_share(fs: AbstractFileSystem, source: str, target: str) -> None:
    """Rename on SMB with ``replace_if_exists``, which fsspec's `mv` does not set."""
    import smbclient

    named = (rf"\\{fs.host}" + name.replace("/", "\\") for name in (source, target))
    smbclient.replace(*named, port=fs.port or 445)
