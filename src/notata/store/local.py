"""Files on a local disk, and their paths; it knows the operating system's atomic steps and nothing of fsspec.

Every write goes to a temporary file in the folder of its target (another folder may be another disk) and is
renamed over it; a create is a hard link, which fails where something is.
"""

from __future__ import annotations

import errno
import io
import os
import random
import secrets
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Self

from upath.implementations.local import PosixUPath, WindowsUPath

from notata import keys
from notata.errors import ExistsError
from notata.store.appending import Tail
from notata.store.base import ABSENT, Blob, Entry, Store
from notata.store.paths import TextAndBytes

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem
    from upath import UPath

    _LocalPath = PosixUPath
else:
    _LocalPath = WindowsUPath if os.name == "nt" else PosixUPath

__all__ = ["LocalRunPath", "LocalStore"]

_NO_LINKS: Final = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
_NO_LOCKS: Final = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOLCK}
_LOCK_SECONDS: Final = 30.0  # it is held for microseconds; nobody lives who holds it so long
_FOLDER_TRIES: Final = 100  # another process may be pruning the empty folder that we are about to write into
_COPIED: Final = 2**20


class LocalStore(Store):
    """Files below one folder of a local disk."""

    folders = True
    near = True

    def __init__(self, folder: str) -> None:
        self._folder = os.path.abspath(folder)
        super().__init__(self._folder)

    def _enter(self, folder: str) -> None:
        self._folder = self._file(folder)

    def _file(self, key: str) -> str:
        return os.path.join(self._folder, *key.split("/")) if key else self._folder

    def _put(self, key: str, data: bytes, match: str | None) -> str:
        upload = self._begin(key, match)
        try:
            upload.write(data)
            return upload.commit()
        except BaseException:
            upload.abort()
            raise

    def _begin(self, key: str, match: str | None) -> Staged:
        target = self._file(key)
        if match is None:
            return Staged(target, os.replace)
        if match and not os.path.exists(target):
            raise self._conflict(key, "it was removed meanwhile")
        return Staged(target, _link if match == ABSENT else self._swap(key, match), stamped=True)

    def _swap(self, key: str, match: str) -> Callable[[str, str], None]:
        def publish(temporary: str, target: str) -> None:
            with _locked(os.path.dirname(target)):
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
            return Tail(len(data))
        with _locked(os.path.dirname(target)), open(target, "r+b", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size != at:
                raise self._conflict(key, f"it has {size} bytes, not {at}")
            try:
                file.seek(at)
                _write_all(file, data)
            except BaseException:
                file.truncate(at)
                raise
        return Tail(at + len(data))

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

    def _list(self, folder: str) -> Iterator[Entry]:
        try:
            children = list(os.scandir(self._file(folder)))
        except (FileNotFoundError, NotADirectoryError):
            return
        for child in children:
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
        for folder in sorted({os.path.dirname(self._file(name)) for name in names}, key=len, reverse=True):
            self._prune(folder)
        return failures

    def _unlink(self, path: str, version: str | None) -> None:
        if version is None:
            os.unlink(path)
            return
        with _locked(os.path.dirname(path)):
            if _version(os.stat(path)) == version:
                os.unlink(path)

    def _prune(self, folder: str) -> None:
        """Remove folders that a deletion left empty, as a bucket has none; never the root."""
        while len(folder) > len(self._folder):
            try:
                os.rmdir(folder)
            except OSError:
                return
            folder = os.path.dirname(folder)

    def _path(self, key: str) -> UPath:
        return LocalRunPath(self._file(key))

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
                os.replace(path, target)

    def filesystem(self) -> AbstractFileSystem:
        from fsspec.implementations.local import LocalFileSystem

        return LocalFileSystem()


class LocalRunPath(TextAndBytes, _LocalPath):  # type: ignore[misc]
    """A path on a local disk. Its own writes are atomic, and make the folders that they need.

    It works wherever a `pathlib.Path` does; what another library does with it (`np.save`, the builtin `open`) is that
    library's own affair, and not atomic.
    """

    def __new__(cls, *_: Any, **__: Any) -> Self:
        return object.__new__(cls)  # UPath's own looks its class up by protocol, and the empty one is taken

    def _inside(self) -> tuple[LocalStore, str]:
        path = os.path.abspath(self)
        return LocalStore(os.path.dirname(path)), os.path.basename(path)

    def open(  # type: ignore[override]
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        **_: Any,
    ) -> IO[Any]:
        """As `notata.Logbook.open`: ``w`` shows nothing before it closes cleanly, ``x`` claims, ``a`` appends."""
        if "+" in mode:
            return open(self, mode, buffering, encoding, errors, newline)
        store, name = self._inside()
        return store.open(name, mode, encoding=encoding, errors=errors, newline=newline)

    def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        """Make an empty file where nothing is; of many racing with ``exist_ok=False`` one succeeds."""
        store, name = self._inside()
        try:
            store.create(name, b"")
        except ExistsError:
            if not exist_ok:
                raise
            os.utime(self)


class Staged:
    """A streamed write: a temporary file beside its target, published in one step."""

    def __init__(self, target: str, publish: Callable[[str, str], str | None], *, stamped: bool = False) -> None:
        self._target = target
        self._publish = publish
        self._stamped = stamped
        self._file, self._temporary = _temporary_beside(target)

    def write(self, part: bytes) -> None:
        _write_all(self._file, part)

    def commit(self) -> str:
        if self._stamped and os.utime in os.supports_fd:
            # The kernel stamps files by the tick (4 ms): two versions could look the same.
            now = time.time_ns()
            os.utime(self._file.fileno(), ns=(now, now))
        version = _version(os.fstat(self._file.fileno()))
        self._file.close()
        return self._publish(self._temporary, self._target) or version

    def abort(self) -> None:
        self._file.close()
        with suppress(FileNotFoundError):
            os.unlink(self._temporary)


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _temporary_beside(target: str) -> tuple[IO[bytes], str]:
    folder = os.path.dirname(target)
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    for last in range(_FOLDER_TRIES, 0, -1):
        temporary = os.path.join(folder, keys.RESERVED + secrets.token_hex(8))
        try:
            return open(os.open(temporary, flags, 0o666), "wb", buffering=0), temporary
        except FileNotFoundError:
            if last == 1:
                raise
            os.makedirs(folder, exist_ok=True)
    raise AssertionError("unreachable")


def _write_all(file: IO[bytes], data: bytes) -> None:
    written = file.write(data)
    while written < len(data):  # a raw write may be short: signals, 2 GiB at once
        written += file.write(memoryview(data)[written:])


def _link(temporary: str, target: str) -> str | None:
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
        version = _copy_exclusively(temporary, target)
    os.unlink(temporary)
    return version


def _copy_exclusively(temporary: str, target: str) -> str:
    with open(temporary, "rb") as source, open(target, "xb") as file:
        try:
            while part := source.read(_COPIED):
                file.write(part)
            file.flush()
            return _version(os.fstat(file.fileno()))
        except BaseException:
            os.unlink(target)
            raise


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
    import fcntl

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
