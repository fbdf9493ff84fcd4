"""Files on a local disk, with the operating system's atomic operations and without fsspec.

Every write goes to a temporary file in the folder of its target (another folder may be another disk) and is
renamed over it. A create is a hard link, which fails if the name exists. `local_folders` opens folders, so that no
write, read or removal leaves the user's folder through a link.
"""

from __future__ import annotations

import builtins
import copy
import errno
import io
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from io import open  # noqa: A004, UP029  the builtin is gone in the last moments of the interpreter
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeAlias, cast

from notata._base import keys, limits
from notata._base.processes import ForkCheck
from notata._base.terminal import quoted
from notata.errors import DeadlineError, LinkError, NotataError, StoredNameError
from notata.store.appending import Held, Tail
from notata.store.backend import ABSENT, Backend
from notata.store.backends.durability import Durability
from notata.store.backends.local_folders import Folder, LinkMetError, make_below, make_folder, open_folder, parent
from notata.store.backends.local_locks import LockHeldError, NoLockError, OwnLockError, hold, locked, release
from notata.store.backends.local_outlines import Group, grouped, look_up
from notata.store.backends.local_reading import READ, Reading, check_regular
from notata.store.backends.local_staged import Publish, Staged, entry_of, publish_new, version_of, write_all
from notata.store.backends.spelling import Spelling
from notata.store.entries import Blob, Entry
from notata.store.gaps import Gap, folder_or_gap
from notata.store.unfinished import new_name

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem
    from upath import UPath

    from notata.store.backend import Staging
    from notata.store.outlines import Outline
    from notata.store.store import Store

if sys.platform != "win32":
    import resource

__all__ = ["LocalBackend"]

_FOLDER_TRIES: Final = 100  # another process may remove the empty folder that we are about to write into
_UPDATE: Final = os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_LOCK_SECONDS: Final = 30.0  # a lock is held for microseconds, or for one durable append
OPEN_FILES: Final = 64
"""Files with a descriptor below this stay open between appends. Descriptors count from 0, so at most this many do.

It is also limited to a quarter of the files that the process may open; the rest is for other uses.
"""


_Walked: TypeAlias = "tuple[str, Folder, list[os.DirEntry[str]]]"


class LocalBackend(Backend):
    """Files below one folder of a local disk.

    Args:
        folder: The user's folder. It may be a link, but no links below it are followed.
        timeout: Seconds to wait for the lock of a file or a folder.
    """

    folders = True
    is_local = True
    leaves_unfinished = True
    _durability: Durability | None = None
    _follows = False

    def __init__(self, folder: str, timeout: float = _LOCK_SECONDS) -> None:
        super().__init__(os.path.abspath(folder))
        self._timeout = timeout
        self._spelling = Spelling()
        self._limits: dict[str, int] = {}  # permission bits of files that are not stored yet
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
        """Return the store of a file's folder, and the file's name there. It trusts no other folder than this store.

        Args:
            path: Absolute. For a file outside this store, its folder counts as the user's folder.
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
        """The user's folder, and whether writes are durable: what a pickled path needs."""
        return self._root, self._durability is not None

    def opener(self, key: str) -> Callable[[str, int], int]:
        """Return an ``opener`` for the builtin `open`, for a file that is changed in place."""

        def opened(_: str, flags: int) -> int:
            folder, name = self._parent(key)
            with folder:
                return folder.open(name, flags)

        return opened

    def _set(self) -> None:
        inside = os.path.join(self._root, "")
        self._folder = inside + self._below.replace("/", os.sep) if self._below else self._root
        self._inside = os.path.join(self._folder, "")

    def enter(self, folder: str) -> None:
        self._below = keys.join(self._below, folder)
        self._set()

    def _file(self, key: str) -> str:
        return self._inside + key.replace("/", os.sep) if key else self._folder

    def _parent(self, key: str) -> tuple[Folder, str]:
        """Open the folder of a file, and return it with the file's name there."""
        return parent(self._root, keys.join(self._below, key))

    def make_parents(self, key: str) -> None:
        self._make(keys.join(self._below, key).rpartition("/")[0])

    def make_folder(self, key: str) -> bool:
        return self._make(keys.join(self._below, key))

    def make_folders(self, names: Sequence[str]) -> None:
        try:
            with open_folder(self._root, self._below) as root:
                for name in names:
                    make_below(root, name)
        except FileNotFoundError:  # of the root, or of a folder above one of these
            super().make_folders(names)

    def _make(self, folder: str) -> bool:
        """Create a folder below the user's folder. Return whether it is new."""
        is_new = make_folder(self._root, folder)
        if self._durability is not None:
            self._durability.forget_folder(os.path.join(self._root, *folder.split("/")))
        return is_new

    def put(self, key: str, data: bytes, match: str | None) -> str:
        upload = self.begin_upload(key, match)
        try:
            upload.write(data)
            version = upload.commit()
        except BaseException:
            upload.abort()
            raise
        if match is None or upload.found in (version, ""):
            return version
        return self._as_published(key, data, version)

    def _as_published(self, key: str, data: bytes, version: str) -> str:
        """Return the version of a file that was just published, if that changed it.

        On a bucket that is mounted as a folder, a rename changes the time or the inode of a file.
        """
        try:
            found = self.get(key, 0, None, None)
        except OSError:
            return version
        return found.version if found.data == data else version

    def begin_upload(self, key: str, match: str | None) -> Staged:
        mode = self._limits.pop(self._file(key), None)
        staged = self._begun(key, match)
        if mode is not None:
            staged.limit(mode)
        return staged

    def permissions(self, key: str) -> int | None:
        try:
            return stat.S_IMODE(self._looked_up(key).st_mode)
        except OSError:  # the reader gets the error
            return None

    def limit_permissions(self, key: str, mode: int | None) -> None:
        if mode is None:
            self._limits.pop(self._file(key), None)
        else:
            self._limits[self._file(key)] = mode

    def _begun(self, key: str, match: str | None) -> Staged:
        if match is None:
            return self._staged(key, self._spelled(key, Folder.replace))
        if match == ABSENT:
            return self._staged(key, self._spelled(key, self._link), stamped=True)
        publish = self._spelled(key, self._swap(key, match))
        try:
            return Staged(*self._parent(key), publish, self._durability, stamped=True)
        except FileNotFoundError as error:  # of the folder
            raise self.conflict(key, "another writer removed it") from error

    def _spelled(self, key: str, publish: Publish) -> Publish:
        """Wrap `publish` to refuse a name that the disk confuses with that of another file."""

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
                f"cannot write {quoted(self.shown(key))}: this disk does not distinguish its name from "
                f"{quoted(other)}, which is a different file; choose a name that differs in more than case or "
                "accents"
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
            except FileNotFoundError:  # the folder does not exist yet, or another process removes empty folders
                if last == 1:
                    raise
                self.make_parents(key)
        raise AssertionError("unreachable")

    def _link(self, folder: Folder, temporary: str, name: str) -> str | None:
        return publish_new(folder, temporary, name, self._durability)

    def _swap(self, key: str, match: str) -> Publish:
        def publish(folder: Folder, temporary: str, name: str) -> None:
            try:
                with _all_locked(folder, name, self._timeout):
                    if (found := _version(folder, name)) != match:
                        done = "changed" if found else "removed"
                        raise self.conflict(key, f"another writer {done} it")
                    folder.replace(temporary, name)
            except FileNotFoundError as error:  # another writer owns the run by now and has cleared its folder
                raise self.conflict(key, "another writer cleared the folder") from error
            except OwnLockError as error:
                raise self.conflict(key, "the call that this one interrupts is about to store it") from error

        return publish

    def append(self, key: str, data: bytes, tail: Tail) -> Tail:
        at = tail.size
        if at == 0 and not self._can_create(key, tail.held) and not self._holds(key):
            self.put(key, data, ABSENT)
            return Tail(len(data), held=tail.held)
        self._check_spelling(key, once=True)
        if (size := self._extended(key, data, at, tail.held)) != at:
            raise self.conflict(key, f"its size is {size} bytes, not {at}")
        return Tail(at + len(data), held=tail.held)

    def _can_create(self, key: str, held: Held | None) -> bool:
        """Check whether the first append may create the file empty, as readers of a growing file expect any size.

        Otherwise its first bytes are a `put`: on a disk that confuses names, with limited permissions, or durably.
        """
        return (
            held is not None
            and sys.platform != "win32"
            and self._durability is None
            and self._spelling.keeps(key)
            and self._file(key) not in self._limits
        )

    def _extended(self, key: str, data: bytes, at: int, held: Held | None) -> int:
        """Append `data` to a file of `at` bytes, and return its size before. With `held`, the file stays open."""
        if sys.platform != "win32":  # on Windows, an open file can be neither removed nor replaced
            try:
                return self._extended_open(key, data, at, held)
            except NoLockError:
                pass
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
                file = holder.file
                if not isinstance(file, _Growing) or not file.here():
                    holder.hold(file := self._growing(key, new=at == 0))
                size = file.extend(data, at, self._durability, self._timeout)
                if size is not None:
                    stays = held is not None and file.may_stay_open
                    return size
                holder.hold(None)
            raise OSError(errno.EBUSY, "the file keeps being replaced; stop its other writer and try again")
        finally:
            if not stays:
                holder.hold(None)

    def _growing(self, key: str, *, new: bool) -> _Growing:
        """Open a file to append to it; with `new`, create it if it is missing."""
        for last in range(_FOLDER_TRIES, 0, -1):
            try:
                folder, name = self._parent(key)
                with folder:
                    return _Growing(folder, name, os.O_CREAT if new else 0)
            except FileNotFoundError:
                if last == 1 or not new:
                    raise
                self.make_parents(key)
        raise AssertionError("unreachable")

    def get(self, key: str, start: int, end: int | None, version: str | None = None, limit: int | None = None) -> Blob:
        with Reading(*self._parent(key), follow=self._follows) as file:
            state = file.state
            if version is not None and version_of(state) != version:
                raise self.conflict(key, "it changed while it was read")
            if end is not None:
                data = file.read(start, max(0, end - start))
            elif limit is None:
                data = file.read(start)
            else:
                limits.check_size(self.url, key, state.st_size - start, limit)
                data = file.read(start, limit + 1)  # it may have grown since
                limits.check_size(self.url, key, len(data), limit)
        return Blob(data, state.st_size, version_of(state), max(0.0, time.time() - state.st_mtime))

    def open_read(self, key: str, *, once: bool = False) -> io.BufferedReader:
        """Open a regular file to read it; a pipe would block until a writer opens it."""
        folder, name = self._parent(key)
        with folder:
            file = open(self._file(key), "rb", opener=lambda *_: folder.open(name, READ, follow=self._follows))  # noqa: UP020
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise OSError(errno.EINVAL, "it is not a regular file")
        return file

    def stat(self, key: str) -> Entry:
        state = self._looked_up(key)
        check_regular(state)
        return entry_of(key, state)

    def _looked_up(self, key: str) -> os.stat_result:
        folder, name = self._parent(key)
        with folder:
            return folder.stat(name, follow=self._follows)

    def _holds(self, key: str) -> bool:
        """Check whether anything has this name."""
        try:
            self._looked_up(key)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    # -- list ----------------------------------------------------------------------------------------------

    def list(self, folder: str, beginning: str = "") -> Iterator[Entry | Gap]:
        return self._files(self._walk(folder, beginning))

    def list_outlined(self, folder: str, beginning: str, outline: Outline) -> Iterator[Entry | Gap]:
        return self._files(self._walk(folder, beginning, outline))

    def _files(self, walk: Iterator[_Walked | Gap]) -> Iterator[Entry | Gap]:
        for found in walk:
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
                    if error.errno not in (errno.ENOENT, errno.ELOOP):  # removed since, or a broken or circular link
                        yield Gap(key, error)
                    continue
                if stat.S_ISREG(state.st_mode):
                    yield entry_of(key, state)

    def _walk(self, folder: str = "", beginning: str = "", outline: Outline | None = None) -> Iterator[_Walked | Gap]:
        """Yield each folder at and below `folder`, open, with its content, outer ones first. No links are followed.

        Folders in a folder come in the order of keys in a bucket: a search that meets a large index ends before the
        runs beside it.

        A folder below `folder` that cannot be opened is a `Gap`. Folders that are outlined are left out.

        Args:
            folder: The first folder, as a key, or empty for the root.
            beginning: Prefix of the names in `folder`; others are left out.
            outline: Finds folders of which only some files are looked at.

        Raises:
            LinkMetError: `folder`, or one on the way to it, is a link.
            OSError: `folder` cannot be opened.
        """
        try:
            top = open_folder(self._root, keys.join(self._below, folder), read=True)
        except (FileNotFoundError, NotADirectoryError):
            return

        def at(key: str, *, read: bool) -> AbstractContextManager[Folder]:
            return nullcontext(top) if key == folder else top.below(key[len(folder) :].lstrip("/"), read=read)

        waiting: list[str | Group] = [folder]
        with top:
            while waiting:  # no recursion: folders of other programs may be nested deeper than Python's stack
                key = waiting.pop()
                try:
                    if isinstance(key, Group):
                        with at(key.key, read=False) as opened:
                            waiting += reversed(look_up(opened, key, follow=self._follows))
                        continue
                    with at(key, read=True) as opened:
                        children = [child for child in opened.scan() if child.name.startswith(beginning)]
                        yield key, opened, children
                        inner = [child.name for child in children if child.is_dir(follow_symlinks=False)]
                        waiting += reversed(grouped(key, sorted(inner, key=_as_in_a_bucket), outline))
                except (FileNotFoundError, NotADirectoryError):
                    pass
                except OSError as error:
                    if key == folder:
                        raise
                    yield Gap(key.key if isinstance(key, Group) else key, error)
                beginning = ""

    def folder_names(self, folder: str, beginning: str = "") -> Iterator[str | Gap]:
        try:
            with open_folder(self._root, keys.join(self._below, folder), read=True) as opened:
                for child in opened.scan():
                    if child.name.startswith(beginning) and child.is_dir(follow_symlinks=False):
                        yield folder_or_gap(folder, child.name)
        except (FileNotFoundError, NotADirectoryError):
            return

    def irregular(self) -> builtins.list[str]:
        return sorted(keys.join(key, child.name).replace("/", os.sep) for key, _, child in self._irregular())

    def _folders(self) -> Iterator[tuple[str, Folder, builtins.list[os.DirEntry[str]]]]:
        """Yield the same as `_walk` from the root, without folders that cannot be opened."""
        with suppress(OSError):
            yield from (found for found in self._walk() if not isinstance(found, Gap))

    def _irregular(self) -> Iterator[tuple[str, Folder, os.DirEntry[str]]]:
        for key, folder, children in self._folders():
            for child in children:
                with suppress(OSError):
                    if not child.is_dir(follow_symlinks=False) and not child.is_file(follow_symlinks=self._follows):
                        yield key, folder, child

    # -- remove --------------------------------------------------------------------------------------------

    def delete(self, names: dict[str, str | None]) -> dict[str, Exception]:
        failures: dict[str, Exception] = {}
        patience = self._timeout
        for name, version in names.items():
            try:
                self._unlink(name, version, patience)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                continue  # no such file
            except OSError as error:
                failures[name] = error
                if isinstance(error, LockHeldError):
                    patience = 0.0  # its owner may hold thousands of locks, so wait only for the first
        folders = sorted({name.rpartition("/")[0] for name in names}, key=len, reverse=True)
        for folder in folders:
            self._prune(folder)
        if self._durability is not None:
            for folder in folders:
                self._durability.sync_deletions(self._file(folder))
        return failures

    def _unlink(self, key: str, version: str | None, seconds: float) -> None:
        folder, name = self._parent(key)
        with folder:
            if version is None:
                folder.unlink(name)
                return
            with _all_locked(folder, name, seconds):
                if _version(folder, name) == version:
                    folder.unlink(name)

    def links(self) -> builtins.list[str]:
        return [keys.join(key, child.name) for key, _, child in self._irregular() if child.is_symlink()]

    def remove_empty_folders(self) -> None:
        for folder in sorted((key for key, _, _ in self._folders()), key=len, reverse=True):
            with suppress(OSError):
                self._rmdir(folder)

    def _prune(self, folder: str) -> None:
        """Remove folders that a deletion left empty, as a bucket has none. The root is kept."""
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

    def path(self, key: str, store: Store) -> UPath:
        try:
            from notata.store.backends.local_paths import (
                path_of,  # imports universal_pathlib: most of a command's start
            )
        except ImportError:
            if not sys.is_finalizing():
                raise
            return cast("UPath", Path(self._file(key)))  # nothing can be imported any more, and the file is stored
        return path_of(self._file(key), self)

    def stage(self, key: str) -> Staging:
        return _Beside(self, key)

    def _publish(self, key: str, folder: Folder, inside: Folder, path: str) -> None:
        """Give a file that another program wrote in a folder beside its target the name of the target."""
        name = key.rpartition("/")[2]
        self._spelling.learn(path)
        self._check_spelling(key)
        if self._durability is not None:
            self._durability.sync_closed(os.path.join(path, name))
        inside.replace(name, name, folder)
        if self._durability is not None:
            self._durability.sync_folder(folder.path)

    def filesystem(self) -> AbstractFileSystem:
        from fsspec.implementations.local import LocalFileSystem

        return LocalFileSystem()

    def failure(self, error: Exception) -> tuple[type[NotataError], str]:
        if isinstance(error, LinkMetError):
            return LinkError, (
                f"{error.name!r} below {self._root} is a link, and notata does not follow links below your folder. "
                "Remove the link, replace it with its target, or pass the path of the target"
            )
        if isinstance(error, LockHeldError):
            return DeadlineError, (
                f"another process held the lock of {error.path} for {error.seconds:g} s, so nothing was changed. Find "
                "the process, for example with fuser or lsof, and end it, or pass a larger timeout="
            )
        return super().failure(error)


class _Beside:
    """A file in a hidden folder beside its target, which another program writes."""

    def __init__(self, backend: LocalBackend, key: str) -> None:
        backend.make_parents(key)
        self._backend = backend
        self._key = key
        with ExitStack() as opened:
            self._folder, self._name = backend._parent(key)
            opened.enter_context(self._folder)
            temporary = new_name()
            self._folder.mkdir(temporary, 0o700)
            opened.callback(self._folder.remove_tree, temporary)
            self._inside = opened.enter_context(self._folder.folder(temporary))
            self._temporary = self._folder.path_of(temporary)
            self._opened = opened.pop_all()
        self.path = Path(self._temporary, self._name)

    def publish(self) -> None:
        self._backend._publish(self._key, self._folder, self._inside, self._temporary)

    def close(self) -> None:
        self._opened.close()


def _open_files_allowed() -> int:
    """Return the number of files that this process may have open."""
    if sys.platform == "win32":
        return 512
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if allowed == resource.RLIM_INFINITY else allowed


class _Growing:
    """A file that is open at its end. Each append holds its lock.

    Appends rely on this lock: O_APPEND is exact on a local disk, but on NFS the client computes the end. There the lock
    is the server's, and makes the client ask for the size again. Under the lock, a short write can be completed or
    undone, as nothing follows it yet.

    Attributes:
        may_stay_open: Whether few files were open when this one was opened, so that it may stay open.
    """

    __slots__ = ("_fork", "_handle", "_identity", "_path", "may_stay_open")

    def __init__(self, folder: Folder, name: str, create: int = 0) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK  # opening a pipe would block without a reader
        self._handle = -1
        self._handle = folder.open(name, flags | create)
        self._path, self._fork = folder.path_of(name), ForkCheck()
        state = os.fstat(self._handle)
        self._identity = _identity(state)
        self.may_stay_open = self._handle < min(OPEN_FILES, _open_files_allowed() // 4)
        if not stat.S_ISREG(state.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")

    def here(self) -> bool:
        """Check whether this process opened the file: a forked child shares its parent's lock."""
        return not self._fork.is_forked()

    def extend(self, data: bytes, at: int, durability: Durability | None, seconds: float) -> int | None:
        """Append `data` if the size is `at`. Return the size before, or None if the name is another file's by now."""
        try:  # noqa: SIM105 - each append does this, and suppress() takes twice the time
            hold(self._handle, self._path, seconds, sys._getframe())
        except OwnLockError:
            pass  # a signal handler inside an append adds at the current end, as O_APPEND does
        try:
            state = os.stat(self._path, follow_symlinks=False)
            if _identity(state) != self._identity or _identity(os.fstat(self._handle)) != self._identity:
                return None
            if state.st_size == at:
                _add(self._handle, data, at, durability)
            return state.st_size
        finally:
            release(self._handle)

    def lock(self, seconds: float = _LOCK_SECONDS) -> None:
        """Take the lock.

        Raises:
            LockHeldError: Another process held it for the whole time.
            NoLockError: The file system has no locks.
        """
        hold(self._handle, self._path, seconds)

    def unlock(self) -> None:
        """Release the lock."""
        release(self._handle)

    def close(self) -> None:
        """Close the file, unless its descriptor is another file's by now, as in a process that became a daemon."""
        # An interrupt in __init__ may have left them unset.
        handle, identity = getattr(self, "_handle", -1), getattr(self, "_identity", None)
        self._handle = -1
        with suppress(OSError):
            if handle >= 0 and identity in (None, _identity(os.fstat(handle))):
                os.close(handle)

    def __del__(self) -> None:
        self.close()


def _add(handle: int, data: bytes, at: int, durability: Durability | None) -> None:
    """Append all of `data` or nothing."""
    try:
        write_all(handle, data)
        if durability is not None:
            durability.sync_appended(handle)
    except BaseException:
        os.ftruncate(handle, at)
        raise


def _identity(state: os.stat_result) -> tuple[int, int]:
    return state.st_dev, state.st_ino


@contextmanager
def _all_locked(folder: Folder, name: str, seconds: float) -> Iterator[None]:
    """Hold the lock of a file's folder, which guards replacements, and that of the file, which guards appends."""
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
                    pass  # there is no such file, this user may not change it, or there are no locks here
            yield
        finally:
            if file is not None:
                with suppress(OSError):  # there may be no locks here
                    file.unlock()
                file.close()


def _version(folder: Folder, name: str) -> str:
    """Return the version of a file; empty if it does not exist."""
    try:
        return version_of(folder.stat(name))
    except FileNotFoundError:
        return ""


def _as_in_a_bucket(name: str) -> str:
    """Return the key by which a bucket sorts a folder."""
    return f"{name}/"
