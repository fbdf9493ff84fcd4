"""The folders of a local disk below one that the user named: opened one by one, and never through a link.

A folder is opened by its name in the folder above it, with ``O_NOFOLLOW``, and its files by their names in it. So a
folder that is swapped for a link at any moment is an error, never another place. The named folder itself, and what is
above it, may be links.

Where the system has no such calls (Windows), each folder is checked by name just before it is used; a swap between the
check and the use is not noticed there.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, Self

__all__ = ["Folder", "LinkMetError", "is_link", "make_folder", "open_folder", "parent"]

BY_DESCRIPTOR: Final = {os.open, os.mkdir, os.stat, os.unlink, os.rmdir, os.rename, os.link} <= os.supports_dir_fd

_NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0)
_READ: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_PASS: Final = _READ | getattr(os, "O_PATH", 0)  # Linux: to pass through a folder needs no permission to list it
_LINK_MET: Final = {errno.ELOOP, errno.EMLINK, errno.ENOTDIR}  # Linux and macOS, FreeBSD; and any for a folder
_TRIES: Final = 100  # another process may prune a folder that has just been made
_LONGEST: Final = 4096  # bytes of a path, PATH_MAX of Linux


class LinkMetError(OSError):
    """A link lies where a file or a folder of our own is needed; it was not followed.

    Attributes:
        name: Of the link, below the folder that the user named.
    """

    def __init__(self, name: str) -> None:
        super().__init__(errno.ELOOP, "it is a link", name)
        self.name = name


class Folder:
    """One folder, open. The names that its methods take are those of what lies directly in it.

    Attributes:
        path: Its path, for messages and for libraries that want a name.
        name: Its path below the folder that the user named.
    """

    __slots__ = ("_handle", "_prefix", "name", "path")

    def __init__(self, path: str, name: str = "", handle: int | None = None) -> None:
        self.path = path
        self.name = name
        self._handle = handle
        self._prefix = os.path.join(path, "") if handle is None else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close it. Safe to call again."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def path_of(self, name: str) -> str:
        """Return the path of a file in it, for messages and for libraries that want a name."""
        return os.path.join(self.path, name)

    def open(self, name: str, flags: int, *, follow: bool = False) -> int:
        """Open a file; its descriptor.

        Args:
            name: Of the file.
            flags: As for `os.open`.
            follow: Whether a link of this name is followed.

        Raises:
            LinkMetError: It is a link.
        """
        if follow:
            return os.open(self._prefix + name, flags, 0o666, dir_fd=self._handle)
        if not _NO_LINK:
            self._refuse_link(name)
        try:
            return os.open(self._prefix + name, flags | _NO_LINK, 0o666, dir_fd=self._handle)
        except OSError as error:
            self.explain(name, error)
            raise

    def open_to_read(self) -> int:
        """Open the folder itself, to lock or sync it; the descriptor."""
        return os.open(self._prefix or ".", _READ, dir_fd=self._handle)

    def stat(self, name: str, *, follow: bool = False) -> os.stat_result:
        """Return what the system knows of a file.

        Raises:
            LinkMetError: It is a link, and not to be followed.
        """
        found = os.stat(self._prefix + name, dir_fd=self._handle, follow_symlinks=follow)
        if is_link(found):
            raise self._met(name)
        return found

    def scan(self) -> Iterator[os.DirEntry[str]]:
        """Yield what lies in it. Entries are valid while the folder is open. It must be opened with ``read=True``."""
        with os.scandir(self._prefix if self._handle is None else self._handle) as found:
            yield from found

    def replace(self, source: str, target: str, into: Folder | None = None) -> None:
        """Rename a file over another one, of this folder or of `into`. A link of that name is replaced by the file."""
        to = self if into is None else into
        os.replace(self._prefix + source, to._prefix + target, src_dir_fd=self._handle, dst_dir_fd=to._handle)

    def link(self, source: str, target: str) -> None:
        """Give a file a second name, where nothing has it yet."""
        names = self._prefix + source, self._prefix + target
        if BY_DESCRIPTOR:
            os.link(*names, src_dir_fd=self._handle, dst_dir_fd=self._handle, follow_symlinks=False)
        else:
            os.link(*names)

    def unlink(self, name: str) -> None:
        """Remove a file, or a link and never what it leads to."""
        os.unlink(self._prefix + name, dir_fd=self._handle)

    def mkdir(self, name: str, mode: int = 0o777) -> None:
        """Make a folder."""
        os.mkdir(self._prefix + name, mode, dir_fd=self._handle)

    def rmdir(self, name: str) -> None:
        """Remove an empty folder; a link is none."""
        os.rmdir(self._prefix + name, dir_fd=self._handle)

    def folder(self, name: str, *, read: bool = False) -> Folder:
        """Open a folder in it.

        Args:
            name: Of the folder.
            read: Whether its content is to be listed.

        Raises:
            LinkMetError: It is a link.
        """
        path, below = f"{self._prefix or self.path + os.sep}{name}", f"{self.name}/{name}" if self.name else name
        if not BY_DESCRIPTOR:
            if not stat.S_ISDIR(self.stat(name).st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            return Folder(path, below)
        try:
            handle = os.open(self._prefix + name, (_READ if read else _PASS) | _NO_LINK, dir_fd=self._handle)
        except OSError as error:
            self.explain(name, error)
            raise
        return Folder(path, below, handle)

    def remove_tree(self, name: str) -> None:
        """Remove a folder in it with all that it has, as far as that can be done."""
        shutil.rmtree(self._prefix + name, ignore_errors=True, dir_fd=self._handle)

    def explain(self, name: str, error: OSError) -> None:
        """Look whether a link is why a file or a folder could not be opened.

        Raises:
            LinkMetError: It is.
        """
        if error.errno in _LINK_MET:
            self._refuse_link(name)

    def _refuse_link(self, name: str) -> None:
        try:
            found = os.stat(self._prefix + name, dir_fd=self._handle, follow_symlinks=False)
        except OSError:
            return
        if is_link(found):
            raise self._met(name) from None

    def _met(self, name: str) -> LinkMetError:
        return LinkMetError(f"{self.name}/{name}" if self.name else name)


def open_folder(root: str, name: str = "", *, read: bool = False) -> Folder:
    """Open a folder below one that the user named.

    Args:
        root: The path of the folder that the user named. It may be a link.
        name: The folder below it, with slashes; the root itself if empty, for which no call is made.
        read: Whether its content is to be listed.

    Raises:
        LinkMetError: A folder on the way is a link, or the last one is.
        FileNotFoundError: One of them is not there.
        NotADirectoryError: One of them is a file.
    """
    if not name:
        return Folder(root)
    if len(root) + len(name) > _LONGEST:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), name)
    parts = name.split("/")
    if not BY_DESCRIPTOR:
        return _checked(root, parts)
    last, handle, place = len(parts) - 1, None, os.path.join(root, parts[0])
    for number, part in enumerate(parts):
        flags = _READ if read and number == last else _PASS
        try:
            inner = os.open(place if handle is None else part, flags | _NO_LINK, dir_fd=handle)
        except OSError as error:
            with Folder(root if handle is None else "", "/".join(parts[:number]), handle) as above:
                above.explain(part, error)
            raise
        if handle is not None:
            os.close(handle)
        handle = inner
    return Folder(os.path.join(root, name) if os.sep == "/" else os.path.join(root, *parts), name, handle)


def _checked(root: str, parts: list[str]) -> Folder:
    folder = Folder(root)
    for part in parts:
        folder = folder.folder(part)
    return folder


def make_folder(root: str, name: str = "") -> None:
    """Make a folder below one that the user named, and those above it, where they are missing.

    Raises:
        LinkMetError: A folder on the way is a link, or the last one is.
        FileExistsError: One of them is a file.
    """
    for last in range(_TRIES, 0, -1):
        try:
            os.makedirs(root, exist_ok=True)
            _make(root, name)
            return
        except FileNotFoundError:
            if last == 1:
                raise


def _make(root: str, name: str) -> None:
    folder = Folder(root)
    for part in name.split("/") if name else ():
        with folder:
            try:
                folder = folder.folder(part)
            except FileNotFoundError:
                with suppress(FileExistsError):
                    folder.mkdir(part)
                folder = folder.folder(part)
    folder.close()


def parent(root: str, name: str) -> tuple[Folder, str]:
    """Open the folder that a file or a folder lies in; and the last part of its name.

    Raises:
        LinkMetError: A folder on the way is a link.
        FileNotFoundError: One of them is not there.
    """
    above, _, last = name.rpartition("/")
    return open_folder(root, above), last


def is_link(state: os.stat_result) -> bool:
    """Check whether what was looked up is a link: on Windows a junction too."""
    if stat.S_ISLNK(state.st_mode):
        return True
    return sys.platform == "win32" and state.st_reparse_tag == stat.IO_REPARSE_TAG_MOUNT_POINT
