"""How a file gets its name on each fsspec protocol: whole, in one step where the protocol has such a step.

It knows what each file system calls that step, and what is lost where there is none.
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

from notata.store.client_errors import class_names, is_dropped
from notata.store.unfinished import new_name

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["Step", "make_folder", "move_over", "step_of", "unfinished_in", "write_aside"]

Step: TypeAlias = Literal["rename", "server", "copy"]
"""``rename``: one step of the protocol replaces a file. ``server``: one request does, and the server decides whether in
one step. ``copy``: the new content is copied over the old one."""

_SERVERS: Final = frozenset({"ArrowFSWrapper", "FTPFileSystem", "WebdavFileSystem"})
_TRIES: Final = 10  # at a folder that others make at the same time


def step_of(fs: AbstractFileSystem) -> Step:
    """In which way a file of a protocol replaces another one."""
    while isinstance(fs, DirFileSystem):
        fs = fs.fs
    if class_names(fs) & _SERVERS:
        return "server"
    return "copy" if _renamer(fs) is None else "rename"


def unfinished_in(folder: str) -> str:
    """Return a new name in a folder, for an unfinished write: listings hide it."""
    return f"{folder}/{new_name()}"


def make_folder(fs: AbstractFileSystem, folder: str) -> None:
    """Make a folder and those above it, where the protocol has folders and they are not there yet."""
    for last in range(_TRIES, 0, -1):
        fs.invalidate_cache()
        try:
            if not fs.isdir(folder):
                fs.makedirs(folder, exist_ok=True)
            return
        except NotImplementedError:
            return
        except Exception as error:  # another one made one of them just now; each library says so in its own way
            if is_dropped(error, fs) or (last == 1 and not fs.isdir(folder)):
                raise


def write_aside(fs: AbstractFileSystem, name: str, data: bytes) -> None:
    """Write a new file under a name that nobody looks at, with the folder that it is in."""
    make_folder(fs, posixpath.dirname(name))
    if hasattr(getattr(fs, "ftp", None), "putfo"):  # paramiko: all requests at once, then one look at the size
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
    """Give a file another name, in place of what has that name; whether the server took that as one request."""
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
    """Replace a file where the server renames over none: put it aside first.

    In between nothing has the name. Who is killed there leaves both files, under names that listings hide.
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
    """The call of a file system that renames over a file that is there; None where it can only copy.

    fsspec's default copies, and so does its `mv` for coroutines, even where the file system has a coroutine of its own.
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
    """SMB's rename with ``replace_if_exists``; that of `mv` is without."""
    import smbclient

    named = (rf"\\{fs.host}" + name.replace("/", "\\") for name in (source, target))
    smbclient.replace(*named, port=fs.port or 445)
