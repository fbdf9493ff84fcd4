"""Open the folders below the user's folder on a local disk one by one, never through a link.

A folder is opened by its name in its parent folder, with ``O_NOFOLLOW``, and files by their names in it. So a folder
that is replaced by a link at any moment causes an error and never leads elsewhere. The user's folder itself, and its
parents, may be links.

On systems without such calls (Windows), each folder is checked by name just before use. A replacement between the check
and the use is not detected there.
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

__all__ = ["Folder", "LinkMetError", "is_link", "make_below", "make_folder", "open_folder", "parent"]

BY_DESCRIPTOR: Final = {os.open, os.mkdir, os.stat, os.unlink, os.rmdir, os.rename, os.link} <= os.supports_dir_fd

NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0)
_READ: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_PASS: Final = _READ | getattr(os, "O_PATH", 0)  # Linux: passing through a folder needs no permission to list it
_LINK_MET: Final = {errno.ELOOP, errno.EMLINK, errno.ENOTDIR}  # Linux and macOS, FreeBSD; and any system for a folder
_TRIES: Final = 100  # another process may remove a folder that has just been made
_LONGEST: Final = 4096  # bytes of a path, PATH_MAX of Linux


class LinkMetError(OSError):
    """A link is where a file or a folder of ours is needed. It was not followed.

    Attributes:
        name: Path of the link, below the user's folder.
    """

    def __init__(self, name: str) -> None:
        super().__init__(errno.ELOOP, "it is a link", name)
        self.name = name


class Folder:
    """An open folder. Its methods take names of its direct children.

    Attributes:
        path: Its path, for messages and for libraries that need a name.
        name: Its path below the user's folder.
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
        """Close the folder. Safe to call again."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def path_of(self, name: str) -> str:
        """Return the path of a child, for messages and for libraries that need a name."""
        return f"{self.path}{name}" if self.path.endswith(os.sep) else f"{self.path}{os.sep}{name}"

    def open(self, name: str, flags: int, *, follow: bool = False) -> int:
        """Open a file, and return its descriptor.

        Args:
            name: Of the file.
            flags: As for `os.open`.
            follow: Whether to follow a link of this name.

        Raises:
            LinkMetError: The name is that of a link.
        """
        if follow:
            return os.open(self._prefix + name, flags, 0o666, dir_fd=self._handle)
        if not NO_LINK:
            self._refuse_link(name)
        try:
            return os.open(self._prefix + name, flags | NO_LINK, 0o666, dir_fd=self._handle)
        except OSError as error:
            self.explain(name, error)
            raise

    def open_to_read(self) -> int:
        """Open the folder itself, to lock or sync it, and return the descriptor."""
        return os.open(self._prefix or ".", _READ, dir_fd=self._handle)

    def stat(self, name: str, *, follow: bool = False) -> os.stat_result:
        """Return the status of a child.

        Raises:
            LinkMetError: The name is that of a link, and `follow` is not set.
        """
        found = os.stat(self._prefix + name, dir_fd=self._handle, follow_symlinks=follow)
        if is_link(found):
            raise self._met(name)
        return found

    def scan(self) -> Iterator[os.DirEntry[str]]:
        """Yield the children. Entries are valid while the folder is open. Needs a folder opened with ``read=True``."""
        with os.scandir(self._prefix if self._handle is None else self._handle) as found:
            yield from found

    def replace(self, source: str, target: str, into: Folder | None = None) -> None:
        """Rename a file over another one, of this folder or of `into`. The file replaces a link of that name."""
        to = self if into is None else into
        os.replace(self._prefix + source, to._prefix + target, src_dir_fd=self._handle, dst_dir_fd=to._handle)

    def link(self, source: str, target: str) -> None:
        """Give a file a second name, which must be free."""
        names = self._prefix + source, self._prefix + target
        if BY_DESCRIPTOR:
            os.link(*names, src_dir_fd=self._handle, dst_dir_fd=self._handle, follow_symlinks=False)
        else:
            os.link(*names)

    def unlink(self, name: str) -> None:
        """Remove a file or a link, but never the target of a link."""
        os.unlink(self._prefix + name, dir_fd=self._handle)

    def mkdir(self, name: str, mode: int = 0o777) -> None:
        """Create a folder."""
        os.mkdir(self._prefix + name, mode, dir_fd=self._handle)

    def rmdir(self, name: str) -> None:
        """Remove an empty folder; a link does not count as one."""
        os.rmdir(self._prefix + name, dir_fd=self._handle)

    def folder(self, name: str, *, read: bool = False) -> Folder:
        """Open a child folder.

        Args:
            name: Of the folder.
            read: Whether the caller will list its content.

        Raises:
            LinkMetError: The name is that of a link.
        """
        path, below = f"{self._prefix or self.path + os.sep}{name}", f"{self.name}/{name}" if self.name else name
        if not BY_DESCRIPTOR:
            if not stat.S_ISDIR(self.stat(name).st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            return Folder(path, below)
        try:
            handle = os.open(self._prefix + name, (_READ if read else _PASS) | NO_LINK, dir_fd=self._handle)
        except OSError as error:
            self.explain(name, error)
            raise
        return Folder(path, below, handle)

    def below(self, name: str, *, read: bool = False) -> Folder:
        """Open a folder at any depth below this one, as `open_folder` does below the user's folder."""
        _check_length(self.path, name)
        first, _, rest = name.partition("/")
        folder = self.folder(first, read=read and not rest)
        while rest:
            first, _, rest = rest.partition("/")
            with folder:
                folder = folder.folder(first, read=read and not rest)
        return folder

    def remove_tree(self, name: str) -> None:
        """Remove a child folder and its content, as far as possible."""
        shutil.rmtree(self._prefix + name, ignore_errors=True, dir_fd=self._handle)

    def explain(self, name: str, error: OSError) -> None:
        """Find out whether a file or a folder could not be opened because it is a link.

        Raises:
            LinkMetError: The name is that of a link.
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
    """Open a folder below the user's folder.

    Args:
        root: The path of the user's folder. It may be a link.
        name: The folder below it, with slashes. If empty, the root itself, without any call.
        read: Whether the caller will list its content.

    Raises:
        LinkMetError: `name`, or a folder on the way to it, is a link.
        FileNotFoundError: One of them does not exist.
        NotADirectoryError: One of them is a file.
    """
    if not name:
        return Folder(root)
    _check_length(root, name)
    parts = name.split("/")
    if not BY_DESCRIPTOR:
        return _checked(root, parts)
    inside = root if root.endswith("/") else f"{root}/"
    last, handle, place = len(parts) - 1, None, inside + parts[0]
    for number, part in enumerate(parts):
        flags = _READ if read and number == last else _PASS
        try:
            inner = os.open(place if handle is None else part, flags | NO_LINK, dir_fd=handle)
        except OSError as error:
            with Folder(root if handle is None else "", "/".join(parts[:number]), handle) as above:
                above.explain(part, error)
            raise
        if handle is not None:
            os.close(handle)
        handle = inner
    return Folder(inside + name, name, handle)


def _check_length(root: str, name: str) -> None:
    if len(root) + len(name) > _LONGEST:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), name)


def _checked(root: str, parts: list[str]) -> Folder:
    folder = Folder(root)
    for part in parts:
        folder = folder.folder(part)
    return folder


def make_folder(root: str, name: str = "") -> bool:
    """Create a folder below the user's folder, with missing parents. Return whether it is new.

    Raises:
        LinkMetError: `name`, or a folder on the way to it, is a link.
        FileExistsError: `root` is a file.
        NotADirectoryError: One of the others is a file.
    """
    if not name:
        os.makedirs(root, exist_ok=True)
        return False
    above, _, last = name.rpartition("/")
    for left in range(_TRIES, 0, -1):
        try:
            with open_folder(root, above) as folder:
                return make_below(folder, last)
        except FileNotFoundError:
            if left == 1:
                raise
        with suppress(FileNotFoundError):
            _make_all(root, above)
    raise AssertionError("unreachable")


def make_below(above: Folder, name: str) -> bool:
    """Create a folder in a folder. Return whether it is new."""
    try:
        above.mkdir(name)
    except FileExistsError:
        above.folder(name).close()  # refuses a link and a file
        return False
    return True


def _make_all(root: str, name: str) -> None:
    os.makedirs(root, exist_ok=True)
    folder = Folder(root)
    for part in name.split("/") if name else ():
        with folder:
            make_below(folder, part)
            folder = folder.folder(part)
    folder.close()


def parent(root: str, name: str) -> tuple[Folder, str]:
    """Open the parent folder of a file or folder, and return it with the last part of the name.

    Raises:
        LinkMetError: A folder on the way is a link.
        FileNotFoundError: One of them does not exist.
    """
    above, _, last = name.rpartition("/")
    return open_folder(root, above), last


def is_link(state: os.stat_result) -> bool:
    """Check whether a status is that of a link or, on Windows, of a junction."""
    if stat.S_ISLNK(state.st_mode):
        return True
    return sys.platform == "win32" and state.st_reparse_tag == stat.IO_REPARSE_TAG_MOUNT_POINT
