"""Files in fsspec's memory file system, for tests and experiments; they are gone when the process ends.

It has real folders, as a local disk does: each write registers them, so ``a`` and ``a/b`` cannot both be files.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from types import FrameType
from typing import TYPE_CHECKING, Any

from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from notata._base import keys, limits
from notata._base.nesting import is_running
from notata.store.appending import Tail
from notata.store.backend import ABSENT, Backend
from notata.store.entries import Blob, Entry
from notata.store.gaps import Gap, folder_or_gap, gap_or

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem
    from upath import UPath

    from notata.store.files import Upload
    from notata.store.store import Store

__all__ = ["MemoryBackend"]

_locks: dict[str, threading.RLock] = {}
"""By path, for compare-and-swap: the whole process shares one dictionary of files, so it shares the locks too.

A signal handler may write inside a write of its own thread, so each lock is reentrant. Each file has its own lock, as
the handler may wait for a thread that stores another file.
"""

_swapping: dict[str, FrameType] = {}
"""By path, the call that compares and then stores; a signal handler may run between the two. See `is_running`."""

if hasattr(os, "register_at_fork"):  # a child must not wait for a thread that exists only in its parent
    os.register_at_fork(after_in_child=_locks.clear)


def _lock_of(path: str) -> threading.RLock:
    return _locks.get(path) or _locks.setdefault(path, threading.RLock())


class MemoryBackend(Backend):
    """Files below one path of ``memory://``, which the whole process shares."""

    folders = True
    is_local = True
    shared = False

    def __init__(self, path: str, options: dict[str, Any] | None = None) -> None:
        self._base = "/" + path.strip("/") if path.strip("/") else ""
        self._options = dict(options or {})
        self._fs = MemoryFileSystem(**self._options)
        super().__init__(f"memory://{self._base[1:]}")

    def enter(self, folder: str) -> None:
        self._base = self._file(folder)

    def _file(self, key: str) -> str:
        return f"{self._base}/{key}" if key else self._base

    def put(self, key: str, data: bytes, match: str | None) -> str:
        path = self._file(key)
        with _lock_of(path):
            self._make_folders(path)
            if match is None:
                return self._set(path, data)
            if is_running(_swapping.get(path)):
                raise self.conflict(key, "the call that this one interrupts is about to store it")
            _swapping[path] = sys._getframe()
            try:
                present = self._fs.store.get(path)
                if match == ABSENT and (present is not None or path in self._fs.pseudo_dirs):
                    raise FileExistsError(path)
                if match and (present is None or _version(present) != match):
                    raise self.conflict(key, "another writer changed it")
                return self._set(path, data)
            finally:
                _swapping.pop(path, None)

    def _set(self, path: str, data: bytes) -> str:
        if path in self._fs.pseudo_dirs:
            raise IsADirectoryError(path)
        file = self._fs.store[path] = MemoryFile(self._fs, path, data)
        self._make_folders(path)  # again: another thread may have removed one while it was empty
        return _version(file)

    def _make_folders(self, path: str) -> None:
        parent = path.rpartition("/")[0]
        if parent and parent not in self._fs.pseudo_dirs:
            self._make_folders(parent)
            if parent in self._fs.store:
                raise NotADirectoryError(parent)
            self._fs.pseudo_dirs.append(parent)

    def begin_upload(self, key: str, match: str | None) -> Upload:
        return _Collected(self, key, match)

    def append(self, key: str, data: bytes, tail: Tail) -> Tail:
        path = self._file(key)
        with _lock_of(path):
            present = self._fs.store.get(path)
            if present is not None:
                size = present.seek(0, io.SEEK_END)
                if size != tail.size:
                    raise self.conflict(key, f"its size is {size} bytes, not {tail.size}")
                try:
                    present.write(data)
                except BufferError:  # another call reads its size right now, maybe the one that a handler interrupts
                    self._fs.store[path] = MemoryFile(self._fs, path, present.getvalue() + data)
                else:
                    present.modified = datetime.now(UTC)
                return Tail(size + len(data))
        if tail.size:
            raise FileNotFoundError(key)
        self.put(key, data, ABSENT)
        return Tail(len(data))

    def get(self, key: str, start: int, end: int | None, version: str | None = None, limit: int | None = None) -> Blob:
        file = self._present(key)
        if version is not None and _version(file) != version:
            raise self.conflict(key, "it changed while it was read")
        data = file.getvalue()
        if end is None and limit is not None:
            limits.check_size(self.url, key, len(data) - start, limit)
        age = max(0.0, (datetime.now(UTC) - file.modified).total_seconds())
        return Blob(data[start:end] if start or end is not None else data, len(data), _version(file), age)

    def open_read(self, key: str, *, once: bool = False) -> io.BytesIO:
        return io.BytesIO(self._present(key).getvalue())  # a copy: fsspec's readers share one position

    def _present(self, key: str) -> MemoryFile:
        path = self._file(key)
        try:
            return self._fs.store[path]
        except KeyError:
            if path in self._fs.pseudo_dirs:
                raise IsADirectoryError(path) from None
            raise FileNotFoundError(path) from None

    def stat(self, key: str) -> Entry:
        return _entry(key, self._present(key))

    def list(self, folder: str, beginning: str = "") -> Iterator[Entry | Gap]:
        inside = self._file(folder) + "/"
        found = self._fs.store.copy()  # atomic, whatever other threads do
        for path in sorted(path for path in found if path.startswith(inside + beginning)):  # as in a bucket
            yield gap_or(_entry(keys.join(folder, path[len(inside) :]), found[path]))

    def folder_names(self, folder: str, beginning: str = "") -> Iterator[str | Gap]:
        inside = self._file(folder) + "/"
        start = len(inside)
        below = (path[start:] for path in self._fs.store.copy() if path.startswith(inside + beginning))
        found = {name.partition("/")[0] for name in below if "/" in name}
        found.update(
            path[start:].partition("/")[0]
            for path in self._fs.pseudo_dirs.copy()
            if path.startswith(inside + beginning) and len(path) > start
        )
        yield from (folder_or_gap(folder, name) for name in found)

    def has_folder(self, key: str) -> bool:
        return super().has_folder(key) or self._file(key) in self._fs.pseudo_dirs

    def delete(self, names: dict[str, str | None]) -> dict[str, Exception]:
        for name, version in names.items():
            path = self._file(name)
            with _lock_of(path):
                file = self._fs.store.get(path)
                if file is not None and version in (None, _version(file)):
                    self._fs.store.pop(path, None)
        self._prune({self._file(name).rpartition("/")[0] for name in names})
        return {}

    def make_folder(self, key: str) -> bool:
        self._make_folders(self._file(key) + "/")
        return False

    def remove_empty_folders(self) -> None:
        inside = self._base + "/"
        if not any(path.startswith(inside) for path in self._fs.store.copy()):
            for path in self._fs.pseudo_dirs.copy():
                if path == self._base or path.startswith(inside):
                    self._drop(path)

    def _prune(self, folders: set[str]) -> None:
        """Remove folders that a deletion left empty. The root is kept."""
        for lowest in sorted(folders, key=len, reverse=True):
            folder = lowest
            while len(folder) > len(self._base) and folder in self._fs.pseudo_dirs:
                inside = folder + "/"
                if any(path.startswith(inside) for path in (*self._fs.store.copy(), *self._fs.pseudo_dirs.copy())):
                    break
                self._drop(folder)
                folder = folder.rpartition("/")[0]

    def _drop(self, folder: str) -> None:
        """Remove a folder; two threads that made it at once may have added it twice."""
        with suppress(ValueError):
            while True:
                self._fs.pseudo_dirs.remove(folder)

    def path(self, key: str, store: Store) -> UPath:
        from notata.store.paths import RunPath

        return RunPath.of(store, f"memory://{self._base}", self._options, key)

    def filesystem(self) -> AbstractFileSystem:
        return self._fs


class _Collected:
    """A streamed write, collected in memory."""

    def __init__(self, backend: MemoryBackend, key: str, match: str | None) -> None:
        self._backend = backend
        self._key = key
        self._match = match
        self._held = io.BytesIO()

    def write(self, part: bytes) -> None:
        self._held.write(part)

    def commit(self) -> str:
        return self._backend.put(self._key, self._held.getvalue(), self._match)

    def abort(self) -> None:
        self._held = io.BytesIO()


def _version(file: MemoryFile) -> str:
    # The address may be reused after a deletion, and two files may share the time.
    return f"{id(file):x}-{file.created.timestamp():f}-{file.modified.timestamp():f}-{file.size}"


def _entry(key: str, file: MemoryFile) -> Entry:
    return Entry(key, file.size, file.modified.astimezone(UTC), _version(file))
