"""Files on a local disk; it knows the operating system's atomic steps and nothing of fsspec.

Every write goes to a temporary file in the folder of its target (another folder may be another disk) and is
renamed over it; a create is a hard link, which fails where something is.
"""

from __future__ import annotations

import copy
import errno
import io
import os
import random
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from notata import keys
from notata.store.appending import Held, Tail
from notata.store.base import ABSENT, Blob, Entry, Store
from notata.store.durability import Durability

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem
    from upath import UPath

__all__ = ["UNSTORED", "LocalStore"]

UNSTORED: Final[dict[str, Callable[[], None]]] = {}
"""Files that are yet to be stored, and the folders that they are in: what to call to wait for them.

It is empty unless writes go in the background, as `notata.background` has it; path objects look here.
"""

_NO_LINKS: Final = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
_NO_LOCKS: Final = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK}
_LOCK_SECONDS: Final = 30.0  # it is held for microseconds; nobody lives who holds it so long
_FOLDER_TRIES: Final = 100  # another process may be pruning the empty folder that we are about to write into
_COPIED: Final = 2**20
_NEW: Final = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_KEPT: Final = 64
"""Files with a descriptor below this stay open between appends: descriptors count from 0, so no more are ever kept."""


class LocalStore(Store):
    """Files below one folder of a local disk."""

    folders = True
    near = True
    _durability: Durability | None = None

    def __init__(self, folder: str) -> None:
        super().__init__(os.path.abspath(folder))
        self._set(self.url)
        self._limits: dict[str, int] = {}  # permission bits of files that are yet to be stored

    def durably(self) -> Self:
        if self._durability is not None:
            return self
        other = copy.copy(self)
        other._durability = Durability(other._folder)
        return other

    def _set(self, folder: str) -> None:
        self._folder = folder
        self._inside = folder.rstrip(os.sep) + os.sep

    def _enter(self, folder: str) -> None:
        self._set(self._file(folder))

    def _file(self, key: str) -> str:
        return self._inside + key.replace("/", os.sep) if key else self._folder

    def _put(self, key: str, data: bytes, match: str | None) -> str:
        upload = self._begin(key, match)
        try:
            upload.write(data)
            return upload.commit()
        except BaseException:
            upload.abort()
            raise

    def _begin(self, key: str, match: str | None) -> Staged:
        staged = self._staged(key, match)
        if (mode := self._limits.pop(self._file(key), None)) is not None:
            staged.limit(mode)
        return staged

    def _permissions(self, key: str) -> int | None:
        try:
            return stat.S_IMODE(os.stat(self._file(key)).st_mode)
        except OSError:  # whoever reads it finds out
            return None

    def _limit(self, key: str, mode: int) -> None:
        self._limits[self._file(key)] = mode

    def _staged(self, key: str, match: str | None) -> Staged:
        target = self._file(key)
        if match is None:
            return Staged(target, os.replace, self._durability)
        if match and not os.path.exists(target):
            raise self._conflict(key, "it was removed meanwhile")
        publish = self._link if match == ABSENT else self._swap(key, match)
        return Staged(target, publish, self._durability, stamped=True)

    def _link(self, temporary: str, target: str) -> str | None:
        return _link(temporary, target, self._durability)

    def _swap(self, key: str, match: str) -> Callable[[str, str], None]:
        def publish(temporary: str, target: str) -> None:
            with _all_locked(target):
                if not os.path.exists(target) or _version(os.stat(target)) != match:
                    raise self._conflict(key, "it was changed meanwhile")
                try:
                    os.replace(temporary, target)
                except FileNotFoundError as error:  # who has the run by now clears its folder, unfinished writes too
                    raise self._conflict(key, "another writer cleared the folder meanwhile") from error

        return publish

    def _append(self, key: str, data: bytes, tail: Tail) -> Tail:
        target, at = self._file(key), tail.size
        if at == 0 and not os.path.exists(target):
            self._put(key, data, ABSENT)
        elif (size := _extended(target, data, at, tail.held, self._durability)) != at:
            raise self._conflict(key, f"it has {size} bytes, not {at}")
        return Tail(at + len(data), held=tail.held)

    def _get(self, key: str, start: int, end: int | None, version: str | None) -> Blob:
        with self._opened(key) as file:  # buffered: a raw read may be short, and takes 2 GiB at most
            state = os.fstat(file.fileno())
            if version is not None and _version(state) != version:
                raise self._conflict(key, "it was changed while it was read")
            if start:
                file.seek(start)
            data = file.read() if end is None else file.read(max(0, end - start))
        return Blob(data, state.st_size, _version(state), max(0.0, time.time() - state.st_mtime))

    def _open_read(self, key: str) -> io.BufferedReader:
        return self._opened(key)

    def _opened(self, key: str) -> io.BufferedReader:
        """To read, if it is a regular file; a pipe would keep its reader waiting for somebody who writes."""
        file = open(self._file(key), "rb", opener=_at_once)
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise OSError(errno.EINVAL, "it is no regular file")
        return file

    def _stat(self, key: str) -> Entry:
        state = os.stat(self._file(key))
        if stat.S_ISDIR(state.st_mode):
            raise IsADirectoryError(errno.EISDIR, "is a folder")
        if not stat.S_ISREG(state.st_mode):  # to open a pipe would wait for somebody who writes into it
            raise OSError(errno.EINVAL, "it is no regular file")
        return _entry(key, state)

    def _list(self, folder: str, beginning: str = "") -> Iterator[Entry]:
        try:
            children = list(os.scandir(self._file(folder)))
        except (FileNotFoundError, NotADirectoryError):
            return
        for child in children:
            if not child.name.startswith(beginning):
                continue
            key = keys.join(folder, child.name)
            if child.is_dir(follow_symlinks=False):
                yield from self._list(key)
                continue
            try:
                state = child.stat()
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ELOOP):  # removed meanwhile, or a link to nothing or itself
                    raise
                continue
            if stat.S_ISREG(state.st_mode):
                yield _entry(key, state)

    def irregular(self) -> list[str]:
        names = []
        for folder, folders, files in os.walk(self._folder):
            for name in folders + files:
                path = os.path.join(folder, name)
                if not os.path.isfile(path) and (name in files or os.path.islink(path)):
                    names.append(os.path.relpath(path, self._folder))
        return sorted(names)

    def _delete(self, names: dict[str, str | None]) -> dict[str, Exception]:
        failures: dict[str, Exception] = {}
        for name, version in names.items():
            try:
                self._unlink(self._file(name), version)
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                continue  # no file is there
            except OSError as error:
                failures[name] = error
        folders = sorted({os.path.dirname(self._file(name)) for name in names}, key=len, reverse=True)
        for folder in folders:
            self._prune(folder)
        if self._durability is not None:
            for folder in folders:
                self._durability.removed(folder)
        return failures

    def _unlink(self, path: str, version: str | None) -> None:
        if version is None:
            os.unlink(path)
            return
        with _all_locked(path):
            if _version(os.stat(path)) == version:
                os.unlink(path)

    def remove_empty_folders(self) -> None:
        for folder, _, _ in os.walk(self._folder, topdown=False):
            with suppress(OSError):
                os.rmdir(folder)

    def _prune(self, folder: str) -> None:
        """Remove folders that a deletion left empty, as a bucket has none; never the root."""
        while len(folder) > len(self._folder):
            try:
                os.rmdir(folder)
            except OSError:
                return
            folder = os.path.dirname(folder)

    def _path(self, key: str) -> UPath:
        from notata.store.local_paths import path_of  # universal_pathlib: most of the time that `notata ls` begins in

        return path_of(self._file(key), durable=self._durability is not None)

    def _make_parents(self, key: str) -> None:
        os.makedirs(os.path.dirname(self._file(key)), exist_ok=True)

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        target = self._file(keys.check(key))
        with self._guard("make the folders of", key):
            self._make_parents(key)
            folder = tempfile.TemporaryDirectory(prefix=keys.RESERVED, dir=os.path.dirname(target))
        with folder as beside:
            path = Path(beside, os.path.basename(target))
            yield path
            self._must_be_file(path, key)
            with self._guard("write", key):
                if self._durability is not None:
                    self._durability.closed(str(path))
                os.replace(path, target)
                if self._durability is not None:
                    self._durability.folder(os.path.dirname(target))

    def filesystem(self) -> AbstractFileSystem:
        from fsspec.implementations.local import LocalFileSystem

        return LocalFileSystem()


class Staged:
    """A streamed write: a temporary file beside its target, published in one step."""

    __slots__ = ("_durability", "_handle", "_publish", "_stamped", "_target", "_temporary")

    def __init__(
        self,
        target: str,
        publish: Callable[[str, str], str | None],
        durability: Durability | None = None,
        *,
        stamped: bool = False,
    ) -> None:
        self._target = target
        self._publish = publish
        self._durability = durability
        self._stamped = stamped
        self._handle = -1
        self._handle, self._temporary = _temporary_beside(target, durability)

    def limit(self, mode: int) -> None:
        """Take permissions of the group and of others away that `mode` does not have."""
        if hasattr(os, "fchmod"):
            os.fchmod(self._handle, stat.S_IMODE(os.fstat(self._handle).st_mode) & (mode | stat.S_IRWXU))

    def write(self, part: bytes) -> None:
        _write_all(self._handle, part)

    def commit(self) -> str:
        if self._stamped and os.utime in os.supports_fd:
            # The kernel stamps files by the tick (4 ms): two versions could look the same.
            now = time.time_ns()
            os.utime(self._handle, ns=(now, now))
        version = _version(os.fstat(self._handle))
        if self._durability is not None:
            self._durability.file(self._handle)
        self._close()
        version = self._publish(self._temporary, self._target) or version
        if self._durability is not None:
            self._durability.folder(os.path.dirname(self._target))
        return version

    def abort(self) -> None:
        self._close()
        with suppress(FileNotFoundError):
            os.unlink(self._temporary)

    def _close(self) -> None:
        handle, self._handle = self._handle, -1
        if handle >= 0:
            os.close(handle)

    def __del__(self) -> None:
        self._close()


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _temporary_beside(target: str, durability: Durability | None) -> tuple[int, str]:
    """A new file, open to write, in the folder of `target`, which is made where it is missing; and its name."""
    folder = target[: target.rindex(os.sep) + 1]
    for last in range(_FOLDER_TRIES, 0, -1):
        temporary = f"{folder}{keys.RESERVED}{os.urandom(8).hex()}"
        try:
            return os.open(temporary, _NEW, 0o666), temporary
        except FileNotFoundError:
            if last == 1:
                raise
            os.makedirs(folder, exist_ok=True)
            if durability is not None:
                durability.forget(os.path.dirname(target))
    raise AssertionError("unreachable")


def _write_all(handle: int, data: bytes) -> None:
    written = os.write(handle, data)
    while written < len(data):  # it may be short: signals, 2 GiB at once, a disk that is full next time
        written += os.write(handle, memoryview(data)[written:])


def _link(temporary: str, target: str, durability: Durability | None) -> str | None:
    """Publish where nothing is. A hard link fails if anything is; disks without links have O_EXCL, and a copy."""
    version = None
    try:
        os.link(temporary, target)
    except FileExistsError:
        if os.stat(temporary).st_nlink < 2:  # 2: NFS made the link and lost the reply
            raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        version = _copy_exclusively(temporary, target, durability)
    os.unlink(temporary)
    return version


def _copy_exclusively(temporary: str, target: str, durability: Durability | None) -> str:
    with open(temporary, "rb") as source, open(target, "xb") as file:
        try:
            while part := source.read(_COPIED):
                file.write(part)
            file.flush()
            if durability is not None:
                durability.file(file.fileno())
            return _version(os.fstat(file.fileno()))
        except BaseException:
            os.unlink(target)
            raise


def _extended(path: str, data: bytes, at: int, held: Held | None, durability: Durability | None) -> int:
    """Add `data` to a file if it has `at` bytes; how many it had. It stays open where it can be `held`."""
    if sys.platform != "win32":  # there an open file can be neither removed nor replaced
        try:
            return _extended_open(path, data, at, held, durability)
        except _NoLock:
            pass
    with _locked(os.path.dirname(path)), open(path, "r+b", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size == at:
            file.seek(at)
            _add(file.fileno(), data, at, durability)
        return size


def _extended_open(path: str, data: bytes, at: int, held: Held | None, durability: Durability | None) -> int:
    holder, stays = held or Held(), False
    try:
        for _ in range(_FOLDER_TRIES):
            file = holder.what
            if not isinstance(file, _Growing) or not file.here():
                holder.hold(file := _Growing(path))
            size = file.extend(data, at, durability)
            if size is not None:
                stays = held is not None and file.is_of_few()
                return size
            holder.hold(None)
        raise OSError(errno.EBUSY, "it is replaced again and again")
    finally:
        if not stays:
            holder.hold(None)


class _Growing:
    """A file that is open at its end. Who adds to it holds its lock for as long as that takes.

    The lock is what is relied upon: O_APPEND adds at the end on a local disk, but on NFS it is the client that works
    out where that is. The lock is the server's there, and makes the client ask anew for the size. A write that was
    short can be made whole under it, or taken back, as nothing lies behind it yet.
    """

    __slots__ = ("_handle", "_identity", "_path", "_pid")

    def __init__(self, path: str) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe would wait for its reader
        self._handle = -1
        self._handle = os.open(path, flags)
        self._path, self._pid = path, os.getpid()
        self._identity = _identity(os.fstat(self._handle))

    def here(self) -> bool:
        """Whether this process opened it: a lock of the parent's would be this child's as well."""
        return self._pid == os.getpid()

    def is_of_few(self) -> bool:
        """Whether few files are open, so that this one may stay so."""
        return self._handle < _KEPT

    def extend(self, data: bytes, at: int, durability: Durability | None) -> int | None:
        """Add `data` if there are `at` bytes; how many there were, or None if the name is another file's by now."""
        self.lock()
        try:
            state = os.stat(self._path)
            if _identity(state) != self._identity or _identity(os.fstat(self._handle)) != self._identity:
                return None
            if state.st_size == at:
                _add(self._handle, data, at, durability)
            return state.st_size
        finally:
            self.unlock()

    def lock(self) -> None:
        """Wait for the lock.

        Raises:
            _NoLock: There is none here.
        """
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                raise _NoLock from error
            raise

    def unlock(self) -> None:
        """Release the lock. A forked child has the file open too, so that to close it alone would not do that."""
        fcntl.flock(self._handle, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close it; but a process that closed all its files to become a daemon has another one under the number."""
        handle, self._handle = self._handle, -1
        with suppress(OSError):
            if handle >= 0 and _identity(os.fstat(handle)) == self._identity:
                os.close(handle)

    def __del__(self) -> None:
        self.close()


class _NoLock(Exception):
    """The system locks no file here."""


def _add(handle: int, data: bytes, at: int, durability: Durability | None) -> None:
    """Write at the end, all or nothing."""
    try:
        _write_all(handle, data)
        if durability is not None:
            durability.growth(handle)
    except BaseException:
        os.ftruncate(handle, at)
        raise


def _identity(state: os.stat_result) -> tuple[int, int]:
    return state.st_dev, state.st_ino


@contextmanager
def _all_locked(path: str) -> Iterator[None]:
    """Hold the lock of a file's folder, under which files are swapped, and that of the file, under which it grows."""
    with _locked(os.path.dirname(path)):
        file = None
        try:
            if sys.platform != "win32":
                with suppress(OSError, _NoLock):  # nothing is there to grow, or nothing that this user may change
                    file = _Growing(path)
                    file.lock()
            yield
        finally:
            if file is not None:
                with suppress(OSError):  # it may be that nothing locks here
                    file.unlock()
                file.close()


@contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Hold a folder's lock, which the system releases when its holder dies.

    The folder itself is locked, so nothing is left behind; NFS and Windows refuse that and get a lock file. Where the
    system has no locks at all (Lustre may be mounted so), a file that only one can make is the lock.
    """
    lock_file = os.path.join(folder, f"{keys.RESERVED}lock")
    if sys.platform == "win32":
        import msvcrt

        with open(lock_file, "ab") as file:
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
            try:
                yield
            finally:
                msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                with _made(lock_file):
                    yield
                return
            os.close(handle)
            handle = os.open(lock_file, os.O_RDWR | os.O_CREAT, 0o666)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        with suppress(OSError):  # a forked child holds the file open too: to close it alone would not release it
            fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


@contextmanager
def _made(lock_file: str) -> Iterator[None]:
    """Hold a lock that is the existence of a file; one that is left by a dead holder is broken after a while."""
    while True:
        try:
            os.close(os.open(lock_file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            break
        except FileExistsError:
            with suppress(FileNotFoundError):
                if time.time() - os.stat(lock_file).st_mtime > _LOCK_SECONDS:
                    os.unlink(lock_file)
            time.sleep(random.uniform(0, 0.01))
    try:
        yield
    finally:
        os.unlink(lock_file)


def _version(state: os.stat_result) -> str:
    return f"{state.st_ino:x}-{state.st_mtime_ns:x}-{state.st_size:x}"


def _entry(key: str, state: os.stat_result) -> Entry:
    return Entry(key, state.st_size, datetime.fromtimestamp(state.st_mtime, UTC), _version(state))
