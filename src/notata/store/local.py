"""Files on a local disk; it knows the operating system's atomic steps and nothing of fsspec.

Every write goes to a temporary file in the folder of its target (another folder may be another disk) and is
renamed over it; a create is a hard link, which fails where something is. Folders are opened by `local_folders`, so that
no write, read or removal leaves the folder that the user named through a link.
"""

from __future__ import annotations

import copy
import errno
import io
import os
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from notata._base import keys
from notata._base.terminal import quoted
from notata.errors import DeadlineError, LinkError, NotataError, StoredNameError
from notata.store.appending import Held, Tail
from notata.store.base import ABSENT, Blob, Entry, Store
from notata.store.durability import Durability
from notata.store.gaps import Gap
from notata.store.local_folders import Folder, LinkMetError, make_folder, open_folder, parent
from notata.store.local_locks import LockHeldError, NoLockError, OwnLockError, hold, locked, release
from notata.store.local_staged import Publish, Staged, publish_new, version_of, write_all
from notata.store.spelling import Spelling
from notata.store.unfinished import new_name

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem
    from upath import UPath

if sys.platform != "win32":
    import resource

__all__ = ["UNSTORED", "LocalStore"]

UNSTORED: Final[dict[str, Callable[[], None]]] = {}
"""Files that are yet to be stored, and the folders that they are in: what to call to wait for them.

It is empty unless writes go in the background, as `notata.background` has it; path objects look here.
"""

_FOLDER_TRIES: Final = 100  # another process may be pruning the empty folder that we are about to write into
_COPIED: Final = 2**20
_READ: Final = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
_UPDATE: Final = os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_LOCK_SECONDS: Final = 30.0  # it is held for microseconds, or for as long as a durable line takes
_KEPT: Final = 64
"""Files with a descriptor below this stay open between appends: descriptors count from 0, so no more are ever kept.

Nor more than a quarter of what the process may have open: the rest is for everything else.
"""


class LocalStore(Store):
    """Files below one folder of a local disk.

    Args:
        folder: The folder that the user names. It may be a link; nothing below it is followed through one.
        timeout: Seconds to wait for the lock of a file or a folder.
    """

    folders = True
    near = True
    leaves_unfinished = True
    _durability: Durability | None = None
    _follows = False

    def __init__(self, folder: str, timeout: float = _LOCK_SECONDS) -> None:
        super().__init__(os.path.abspath(folder))
        self._timeout = timeout
        self._spelling = Spelling()
        self._limits: dict[str, int] = {}  # permission bits of files that are yet to be stored
        self._root, self._below = self.url, ""
        self._set()

    def durably(self) -> Self:
        if self._durability is not None:
            return self
        other = copy.copy(self)
        other._durability = Durability(other._folder)
        return other

    def following_links(self) -> Self:
        other = copy.copy(self)
        other._follows = True
        return other

    def strictly(self) -> Self:
        above, name = os.path.split(self._root)
        if self._below or not name:
            return self
        other = copy.copy(self)
        other._root, other._below = above, name
        return other

    def beside(self, path: str) -> tuple[Self, str]:
        """The store of the folder of a file, and the file's name there; it trusts no other folder than this one does.

        Args:
            path: Absolute. Of a file outside, the folder counts as one that the user named.
        """
        folder, name = os.path.split(path)
        other = copy.copy(self)
        inside = os.path.join(self._root, "")
        if folder != self._root and not folder.startswith(inside):
            other._root, other._below = folder, ""
        else:
            other._below = folder[len(inside) :].replace(os.sep, "/")
        other._set()
        other.url = other._folder
        return other, name

    @property
    def trusted(self) -> tuple[str, bool]:
        """The folder that the user named, and whether what is written outlasts a power cut: what a path takes along."""
        return self._root, self._durability is not None

    def opener(self, key: str) -> Callable[[str, int], int]:
        """Return what the builtin `open` takes as ``opener``, for a file that is changed in place."""

        def opened(_: str, flags: int) -> int:
            folder, name = self._parent(key)
            with folder:
                return folder.open(name, flags)

        return opened

    def _set(self) -> None:
        inside = os.path.join(self._root, "")
        self._folder = inside + self._below.replace("/", os.sep) if self._below else self._root
        self._inside = os.path.join(self._folder, "")

    def _enter(self, folder: str) -> None:
        self._below = keys.join(self._below, folder)
        self._set()

    def _file(self, key: str) -> str:
        return self._inside + key.replace("/", os.sep) if key else self._folder

    def _parent(self, key: str) -> tuple[Folder, str]:
        """The folder of a file, open, and the file's name there."""
        return parent(self._root, keys.join(self._below, key))

    def _make_parents(self, key: str) -> None:
        make_folder(self._root, keys.join(self._below, key).rpartition("/")[0])
        if self._durability is not None:
            self._durability.forget(os.path.dirname(self._file(key)))

    def _make_folder(self, key: str) -> None:
        make_folder(self._root, keys.join(self._below, key))

    def _put(self, key: str, data: bytes, match: str | None) -> str:
        upload = self._begin(key, match)
        try:
            upload.write(data)
            version = upload.commit()
        except BaseException:
            upload.abort()
            raise
        return version if match is None else self._as_published(key, data, version)

    def _as_published(self, key: str, data: bytes, version: str) -> str:
        """The version of what was just published.

        Where a bucket is mounted as a folder, a rename changes the time or the inode of a file.
        """
        try:
            if version_of(self._looked_up(key)) == version:
                return version
            found = self._get(key, 0, None, None)
        except OSError:
            return version
        return found.version if found.data == data else version

    def _begin(self, key: str, match: str | None) -> Staged:
        mode = self._limits.pop(self._file(key), None)
        staged = self._begun(key, match)
        if mode is not None:
            staged.limit(mode)
        return staged

    def _permissions(self, key: str) -> int | None:
        try:
            return stat.S_IMODE(self._looked_up(key).st_mode)
        except OSError:  # whoever reads it finds out
            return None

    def _limit(self, key: str, mode: int | None) -> None:
        if mode is None:
            self._limits.pop(self._file(key), None)
        else:
            self._limits[self._file(key)] = mode

    def _begun(self, key: str, match: str | None) -> Staged:
        if match is None:
            return self._staged(key, self._spelled(key, Folder.replace))
        if match and not self._holds(key):
            raise self._conflict(key, "it was removed meanwhile")
        publish = self._link if match == ABSENT else self._swap(key, match)
        return self._staged(key, self._spelled(key, publish), stamped=True)

    def _spelled(self, key: str, publish: Publish) -> Publish:
        """Publish a file only under its own name, and not as another one whose name the disk takes for the same."""

        def publish_if_spelled(folder: Folder, temporary: str, name: str) -> str | None:
            self._spelling.learn(folder.path_of(temporary))
            with self._spelling.held(key):
                self._check_spelling(key)
                return publish(folder, temporary, name)

        return publish_if_spelled

    def _check_spelling(self, key: str, *, once: bool = False) -> None:
        other = self._spelling.clash(self._folder, key, once=once)
        if other is not None:
            text = (
                f"cannot write {quoted(self._shown(key))}: this disk takes the name for the one of "
                f"{quoted(other)}, which is another file; choose a name that differs in more than upper and lower "
                "case or accents"
            )
            raise StoredNameError(text, url=self.url, key=key)

    def folds_names(self, *, may_write: bool = True) -> bool:
        folder = self._folder
        while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
            folder = os.path.dirname(folder)
        return self._spelling.folds(folder, may_write=may_write)

    def _staged(self, key: str, publish: Publish, *, stamped: bool = False) -> Staged:
        for last in range(_FOLDER_TRIES, 0, -1):
            try:
                folder, name = self._parent(key)
                return Staged(folder, name, publish, self._durability, stamped=stamped)
            except FileNotFoundError:  # it is yet to be made, or another process prunes empty folders
                if last == 1:
                    raise
                self._make_parents(key)
        raise AssertionError("unreachable")

    def _link(self, folder: Folder, temporary: str, name: str) -> str | None:
        return publish_new(folder, temporary, name, self._durability)

    def _swap(self, key: str, match: str) -> Publish:
        def publish(folder: Folder, temporary: str, name: str) -> None:
            try:
                with _all_locked(folder, name, self._timeout):
                    if not _is_version(folder, name, match):
                        raise self._conflict(key, "it was changed meanwhile")
                    folder.replace(temporary, name)
            except FileNotFoundError as error:  # who has the run by now clears its folder, unfinished writes too
                raise self._conflict(key, "another writer cleared the folder meanwhile") from error
            except OwnLockError as error:
                raise self._conflict(key, "the call that this one interrupts is about to store it") from error

        return publish

    def _append(self, key: str, data: bytes, tail: Tail) -> Tail:
        at = tail.size
        if at == 0 and not self._holds(key):
            self._put(key, data, ABSENT)
            return Tail(len(data), held=tail.held)
        self._check_spelling(key, once=True)
        if (size := self._extended(key, data, at, tail.held)) != at:
            raise self._conflict(key, f"it has {size} bytes, not {at}")
        return Tail(at + len(data), held=tail.held)

    def _extended(self, key: str, data: bytes, at: int, held: Held | None) -> int:
        """Add `data` to a file if it has `at` bytes; how many it had. It stays open where it can be `held`."""
        if sys.platform != "win32":  # there an open file can be neither removed nor replaced
            with suppress(NoLockError):
                return self._extended_open(key, data, at, held)
        folder, name = self._parent(key)
        with folder, locked(folder, self._timeout):
            handle = folder.open(name, _UPDATE)
            try:
                size = os.fstat(handle).st_size
                if size == at:
                    os.lseek(handle, at, os.SEEK_SET)
                    _add(handle, data, at, self._durability)
            finally:
                os.close(handle)
        return size

    def _extended_open(self, key: str, data: bytes, at: int, held: Held | None) -> int:
        holder, stays = held or Held(), False
        try:
            for _ in range(_FOLDER_TRIES):
                file = holder.what
                if not isinstance(file, _Growing) or not file.here():
                    holder.hold(file := self._growing(key))
                size = file.extend(data, at, self._durability, self._timeout)
                if size is not None:
                    stays = held is not None and file.is_of_few()
                    return size
                holder.hold(None)
            raise OSError(errno.EBUSY, "it is replaced again and again")
        finally:
            if not stays:
                holder.hold(None)

    def _growing(self, key: str) -> _Growing:
        folder, name = self._parent(key)
        with folder:
            return _Growing(folder, name)

    def _get(self, key: str, start: int, end: int | None, version: str | None) -> Blob:
        with self._open_read(key) as file:  # buffered: a raw read may be short, and takes 2 GiB at most
            state = os.fstat(file.fileno())
            if version is not None and version_of(state) != version:
                raise self._conflict(key, "it was changed while it was read")
            if start:
                file.seek(start)
            data = file.read() if end is None else file.read(max(0, end - start))
        return Blob(data, state.st_size, version_of(state), max(0.0, time.time() - state.st_mtime))

    def _open_read(self, key: str) -> io.BufferedReader:
        """To read, if it is a regular file; a pipe would keep its reader waiting for somebody who writes."""
        folder, name = self._parent(key)
        with folder:
            file = open(self._file(key), "rb", opener=lambda *_: folder.open(name, _READ, follow=self._follows))
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise OSError(errno.EINVAL, "it is no regular file")
        return file

    def _stat(self, key: str) -> Entry:
        state = self._looked_up(key)
        if stat.S_ISDIR(state.st_mode):
            raise IsADirectoryError(errno.EISDIR, "is a folder")
        if not stat.S_ISREG(state.st_mode):  # to open a pipe would wait for somebody who writes into it
            raise OSError(errno.EINVAL, "it is no regular file")
        return _entry(key, state)

    def _looked_up(self, key: str) -> os.stat_result:
        folder, name = self._parent(key)
        with folder:
            return folder.stat(name, follow=self._follows)

    def _holds(self, key: str) -> bool:
        """Whether anything has this name."""
        try:
            self._looked_up(key)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    # -- what lies there -----------------------------------------------------------------------------------

    def _list(self, folder: str, beginning: str = "") -> Iterator[Entry | Gap]:
        for found in self._walk(folder, beginning):
            if isinstance(found, Gap):
                yield found
                continue
            inside, _, children = found
            for child in children:
                key = keys.join(inside, child.name)
                try:
                    if child.is_dir(follow_symlinks=False):
                        continue
                    state = child.stat(follow_symlinks=self._follows)
                except OSError as error:
                    if error.errno not in (errno.ENOENT, errno.ELOOP):  # removed since, or a link to nothing or itself
                        yield Gap(key, error)
                    continue
                if stat.S_ISREG(state.st_mode):
                    yield _entry(key, state)

    def _walk(
        self, folder: str = "", beginning: str = ""
    ) -> Iterator[tuple[str, Folder, list[os.DirEntry[str]]] | Gap]:
        """Yield each folder at and below one, open, with what lies in it, outer ones first; links are not followed.

        A folder below it that cannot be opened is a `Gap`.

        Args:
            folder: The first one, a key or nothing for the root.
            beginning: How the names in it begin; others are left out.

        Raises:
            LinkMetError: A folder on the way to the first one is a link, or that one is.
            OSError: The first one cannot be opened.
        """
        waiting = [folder]
        while waiting:  # no recursion: others may nest folders deeper than Python's stack
            key = waiting.pop()
            try:
                opened = open_folder(self._root, keys.join(self._below, key), read=True)
                with opened:
                    children = [child for child in opened.scan() if child.name.startswith(beginning)]
                    yield key, opened, children
                    waiting += [keys.join(key, child.name) for child in children if child.is_dir(follow_symlinks=False)]
            except (FileNotFoundError, NotADirectoryError):
                pass
            except OSError as error:
                if key == folder:
                    raise
                yield Gap(key, error)
            beginning = ""

    def irregular(self) -> list[str]:
        return sorted(keys.join(key, child.name).replace("/", os.sep) for key, _, child in self._irregular())

    def _folders(self) -> Iterator[tuple[str, Folder, list[os.DirEntry[str]]]]:
        """As `_walk` from the root, without what cannot be opened."""
        with suppress(OSError):
            yield from (found for found in self._walk() if not isinstance(found, Gap))

    def _irregular(self) -> Iterator[tuple[str, Folder, os.DirEntry[str]]]:
        for key, folder, children in self._folders():
            for child in children:
                with suppress(OSError):
                    if not child.is_dir(follow_symlinks=False) and not child.is_file(follow_symlinks=self._follows):
                        yield key, folder, child

    # -- remove --------------------------------------------------------------------------------------------

    def _delete(self, names: dict[str, str | None]) -> dict[str, Exception]:
        failures: dict[str, Exception] = {}
        patience = self._timeout
        for name, version in names.items():
            try:
                self._unlink(name, version, patience)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                continue  # no file is there
            except OSError as error:
                failures[name] = error
                if isinstance(error, LockHeldError):
                    patience = 0.0  # who holds one lock may hold thousands: only the first is waited for
        folders = sorted({name.rpartition("/")[0] for name in names}, key=len, reverse=True)
        for folder in folders:
            self._prune(folder)
        if self._durability is not None:
            for folder in folders:
                self._durability.removed(self._file(folder))
        return failures

    def _unlink(self, key: str, version: str | None, seconds: float) -> None:
        folder, name = self._parent(key)
        with folder:
            if version is None:
                folder.unlink(name)
                return
            with _all_locked(folder, name, seconds):
                if _is_version(folder, name, version):
                    folder.unlink(name)

    def remove_links(self) -> list[str]:
        removed = []
        for key, folder, child in self._irregular():
            if child.is_symlink():
                link = keys.join(key, child.name)
                with self._guard("remove the link", link):
                    folder.unlink(child.name)
                removed.append(link)
        return sorted(removed)

    def remove_empty_folders(self) -> None:
        for folder in sorted((key for key, _, _ in self._folders()), key=len, reverse=True):
            with suppress(OSError):
                self._rmdir(folder)

    def _prune(self, folder: str) -> None:
        """Remove folders that a deletion left empty, as a bucket has none; never the root."""
        with suppress(OSError):
            while folder:
                self._rmdir(folder)
                folder = folder.rpartition("/")[0]

    def _rmdir(self, key: str) -> None:
        if not key and not self._below:
            os.rmdir(self._root)
            return
        folder, name = self._parent(key)
        with folder:
            folder.rmdir(name)

    # -- paths ---------------------------------------------------------------------------------------------

    def _path(self, key: str) -> UPath:
        from notata.store.local_paths import path_of  # universal_pathlib: most of the time that `notata ls` begins in

        return path_of(self._file(key), self)

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        with ExitStack() as opened:
            with self._guard("make the folders of", keys.check(key)):
                self._make_parents(key)
                folder, name = self._parent(key)
                opened.enter_context(folder)
                temporary = new_name()
                folder.mkdir(temporary, 0o700)
                opened.callback(folder.remove_tree, temporary)
                beside = opened.enter_context(folder.folder(temporary))
            path = Path(folder.path_of(temporary), name)
            yield path
            self._must_be_file(path, key)
            if path.is_symlink():
                with self._writer(key) as target, path.open("rb") as source:
                    shutil.copyfileobj(source, target, _COPIED)
                return
            with self._guard("write", key):
                self._spelling.learn(folder.path_of(temporary))
                self._check_spelling(key)
                if self._durability is not None:
                    self._durability.closed(str(path))
                beside.replace(name, name, folder)
                if self._durability is not None:
                    self._durability.folder(folder.path)

    def filesystem(self) -> AbstractFileSystem:
        from fsspec.implementations.local import LocalFileSystem

        return LocalFileSystem()

    def _failure(self, error: Exception) -> tuple[type[NotataError], str]:
        if isinstance(error, LinkMetError):
            return LinkError, (
                f"{error.name!r} below {self._root} is a link, and notata follows no link below the folder that you "
                "name. Remove the link, put what it leads to in its place, or name the place that it leads to"
            )
        if isinstance(error, LockHeldError):
            return DeadlineError, (
                f"another process held the lock of {error.path} for {error.seconds:g} s, and nothing was changed. Find "
                "the process, for example with fuser or lsof, and end it, or pass a larger timeout="
            )
        return super()._failure(error)


def _open_files_allowed() -> int:
    """How many files this process may have open."""
    if sys.platform == "win32":
        return 512
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if allowed == resource.RLIM_INFINITY else allowed


class _Growing:
    """A file that is open at its end. Who adds to it holds its lock for as long as that takes.

    The lock is what is relied upon: O_APPEND adds at the end on a local disk, but on NFS it is the client that works
    out where that is. The lock is the server's there, and makes the client ask anew for the size. A write that was
    short can be made whole under it, or taken back, as nothing lies behind it yet.
    """

    __slots__ = ("_handle", "_identity", "_path", "_pid")

    def __init__(self, folder: Folder, name: str) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe would wait for its reader
        self._handle = -1
        self._handle = folder.open(name, flags)
        self._path, self._pid = folder.path_of(name), os.getpid()
        state = os.fstat(self._handle)
        self._identity = _identity(state)
        if not stat.S_ISREG(state.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")

    def here(self) -> bool:
        """Whether this process opened it: a lock of the parent's would be this child's as well."""
        return self._pid == os.getpid()

    def is_of_few(self) -> bool:
        """Whether few files are open, so that this one may stay so."""
        return self._handle < min(_KEPT, _open_files_allowed() // 4)

    def extend(self, data: bytes, at: int, durability: Durability | None, seconds: float) -> int | None:
        """Add `data` if there are `at` bytes; how many there were, or None if the name is another file's by now."""
        with suppress(OwnLockError):  # a signal handler within an append adds at the current end, as O_APPEND does
            self.lock(seconds)
        try:
            state = os.stat(self._path, follow_symlinks=False)
            if _identity(state) != self._identity or _identity(os.fstat(self._handle)) != self._identity:
                return None
            if state.st_size == at:
                _add(self._handle, data, at, durability)
            return state.st_size
        finally:
            self.unlock()

    def lock(self, seconds: float = _LOCK_SECONDS) -> None:
        """Take the lock.

        Raises:
            LockHeldError: Another process holds it all this time.
            NoLockError: There is none here.
        """
        hold(self._handle, self._path, seconds)

    def unlock(self) -> None:
        """Release the lock."""
        release(self._handle)

    def close(self) -> None:
        """Close it; but a process that closed all its files to become a daemon has another one under the number."""
        # Where an interrupt ended __init__, they may not be set.
        handle, identity = getattr(self, "_handle", -1), getattr(self, "_identity", None)
        self._handle = -1
        with suppress(OSError):
            if handle >= 0 and identity in (None, _identity(os.fstat(handle))):
                os.close(handle)

    def __del__(self) -> None:
        self.close()


def _add(handle: int, data: bytes, at: int, durability: Durability | None) -> None:
    """Write at the end, all or nothing."""
    try:
        write_all(handle, data)
        if durability is not None:
            durability.growth(handle)
    except BaseException:
        os.ftruncate(handle, at)
        raise


def _identity(state: os.stat_result) -> tuple[int, int]:
    return state.st_dev, state.st_ino


@contextmanager
def _all_locked(folder: Folder, name: str, seconds: float) -> Iterator[None]:
    """Hold the lock of a file's folder, under which files are swapped, and that of the file, under which it grows."""
    with locked(folder, seconds):
        file = None
        try:
            if sys.platform != "win32":
                try:
                    file = _Growing(folder, name)
                    file.lock(seconds)
                except (LockHeldError, OwnLockError):
                    raise
                except (OSError, NoLockError):
                    pass  # nothing is there to grow, or nothing that this user may change; or nothing locks here
            yield
        finally:
            if file is not None:
                with suppress(OSError):  # it may be that nothing locks here
                    file.unlock()
                file.close()


def _is_version(folder: Folder, name: str, version: str) -> bool:
    """Whether a file is there, and still as it was."""
    try:
        return version_of(folder.stat(name)) == version
    except FileNotFoundError:
        return False


def _entry(key: str, state: os.stat_result) -> Entry:
    return Entry(key, state.st_size, datetime.fromtimestamp(state.st_mtime, UTC), version_of(state))
