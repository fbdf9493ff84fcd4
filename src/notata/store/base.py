"""The storage contract: commit, claim, append, read, list, delete under one root; it never knows what bytes mean.

`Store` holds what is the same everywhere: which keys are legal, how a file object becomes one commit, how many
keys go at once, how a backend's errors become ours. A backend gives eight primitives (`_put` … `_path`), each
taking a checked key and raising whatever its library raises; `_failure` says what that means.

A recipe for the next backend: copy ``memory.py``, make `_put` exclusive and atomic for ``match=ABSENT`` and for
a version, name it in ``store/__init__.py``, and add a fixture to ``tests/contract``: the suite says the rest.
"""

from __future__ import annotations

import builtins
import codecs
import copy
import errno
import io
import shutil
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Self, TypeAlias, cast

from notata._base import keys, limits
from notata._base.buffers import flat
from notata._base.retries import attempts
from notata._base.secrets import redacted, without_secrets
from notata._base.terminal import quoted
from notata.errors import (
    BatchError,
    ConflictError,
    ExistsError,
    FolderError,
    KeyNameError,
    MissingError,
    NotataError,
    StorageError,
    StoredNameError,
)
from notata.store import batches
from notata.store.appending import NOTHING, Appender, Tail
from notata.store.builtin_errors import failure_of_builtin
from notata.store.entries import Blob, Entry
from notata.store.files import PART, AtomicWriter, RangeReader, TextWriter, Upload
from notata.store.gaps import Gap, Skipped, ignore
from notata.store.in_flight import BYTES_AT_ONCE, started_in_thread
from notata.store.targets import Appending, Writing
from notata.store.unfinished import is_abandoned, is_unfinished, new_name

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem
    from fsspec.callbacks import Callback
    from typing_extensions import Buffer
    from upath import UPath

    from notata.store.stored_path import StoredPath

__all__ = ["ABSENT", "Blob", "Entry", "Store"]

ABSENT: Final = ""
"""As a version to match: nothing may be stored under the key."""

_APPENDS: Final = 160  # attempts at the end of a file to which others append: about a minute

Progress: TypeAlias = "Callable[[str, int | None], Callback]"

_FOR_OTHERS: Final = 0o044  # permission bits: the group and all others may read


class Store(ABC):
    """Files under one root URL, with the same promises on every backend.

    Safe to use from many threads; in a forked child it connects anew; it pickles, **with** its credentials, so
    that another process can reach the same storage: send it, do not keep it.

    Attributes:
        url: The root, without credentials.
        folders: Whether the backend has real folders, so that ``a`` and ``a/b`` cannot both be files.
        near: Whether a write costs no round trip, so that callers need not collect small ones.
        shared: Whether others than this process can see what is stored.
        sized: Whether a file's size is known, and a range of it can be read by itself.
        leaves_unfinished: Whether a writer that is killed may leave a hidden file behind.
        queues: Whether a write may have to wait for others, so that the storage's own thread must not begin one.
        progress: Makes the callback that is told of the bytes of a file which takes more than one part: of its name,
            and its size where that is known.
        bytes_at_once: Of one large file that is written, on their way at a time.
    """

    folders: bool = False
    near: bool = False
    shared: bool = True
    sized: bool = True
    leaves_unfinished: bool = False
    queues: bool = False
    progress: Progress | None = None
    bytes_at_once: int = BYTES_AT_ONCE

    def __init__(self, url: str) -> None:
        self.url = url

    @property
    def creates(self) -> bool:
        """Whether `create` holds against everybody. Elsewhere the storage is asked before the file is written.

        An S3 store that is not Amazon's is tried once per bucket and process, see `notata.store.s3_conditions`.

        Raises:
            StorageError: The storage could not be tried.
        """
        return True

    @property
    def swaps(self) -> bool:
        """As `creates`, of `replace`."""
        return True

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def _notata_for_file(self) -> tuple[Any, ...]:
        """How `notata.formats` pickles it into a file: without storage options."""
        from notata.store import open_store

        return open_store, (self.url,)

    def below(self, folder: str) -> Self:
        """The store of one of this store's folders; it shares the connection and costs no request."""
        other = copy.copy(self)
        other.url = self._shown(keys.check(folder))
        other._enter(folder)
        return other

    def aside(self) -> Self:
        """The store of a new folder that listings of this one hide, for what is tried and removed; no request."""
        other = copy.copy(self)
        folder = new_name()
        other.url = self._shown(folder)
        other._enter(folder)
        return other

    def watched(self, progress: Progress) -> Self:
        """This store, with its large reads and writes told to callbacks."""
        other = copy.copy(self)
        other.progress = progress
        return other

    def durably(self) -> Self:
        """This store, with what it writes kept through a power cut once a write returns.

        On a local disk each file is fsynced before it gets its name, and its folder after that; each append too. A
        bucket answers when that is so, and memory has nothing to keep: there it is the same store.
        """
        return self

    def following_links(self) -> Self:
        """Return this store, with links to files read and listed as the files that they lead to.

        For a place whose content the user asks for. Links to folders are not followed. Only local disks have links.
        """
        return self

    def strictly(self) -> Self:
        """Return this store, with every verb refused where its root is a link. Only local disks have links.

        A folder that a user names may be a link; a run that is removed, or written as a copy, may not.
        """
        return self

    def sparing(self, bytes_at_once: int) -> Self:
        """This store, with fewer bytes of one large file under way: slower, and in less memory."""
        other = copy.copy(self)
        other.bytes_at_once = bytes_at_once
        return other

    @property
    def gap(self) -> str:
        """What readers may see while a file is replaced, and why; empty where they see the old one or the new one."""
        return ""

    def prepare(self) -> None:  # noqa: B027  most need nothing
        """Begin what a first request needs and what cannot be begun while the interpreter ends; no request."""

    # -- write ---------------------------------------------------------------------------------------------

    def write(self, key: str, data: Buffer) -> None:
        """Store `data` whole, in place of what was there. One request up to 8 MiB, then parts."""
        view = flat(data)
        if view.nbytes > PART:
            with self._writer(key) as writer:
                writer.write(view)
        else:
            self._write(keys.check(key), bytes(view), None)

    def start_write(self, key: str, data: bytes) -> Future[str]:
        """Begin to store `data` (at most 8 MiB), in place of what was there, and do not wait for it.

        Returns:
            A future of the version, or of an error of ours. What is called when it is done runs in a thread of the
            storage: it must not wait for the storage itself.
        """
        return started_in_thread(self._write, keys.check(key), data, None)

    def create(self, key: str, data: Buffer) -> str:
        """Store `data` where nothing is; of any number of racing callers exactly one succeeds.

        A retry after a lost reply knows its own write and succeeds.

        Returns:
            The version that was stored, for `replace`.

        Raises:
            ExistsError: Something is there; it is untouched.
        """
        return self._write(keys.check(key), bytes(flat(data)), ABSENT)

    def replace(self, key: str, data: Buffer, if_version: str) -> str:
        """Store `data` only where the version is still `if_version` (compare and swap).

        Returns:
            The version that was stored.

        Raises:
            ConflictError: Another one is there, or none; it is untouched.
        """
        if not if_version:
            raise ValueError("if_version is empty; create() stores where nothing is")
        return self._write(keys.check(key), bytes(flat(data)), if_version)

    def append(self, key: str, data: Buffer, at: int | None = None) -> int:
        """Extend a file whose size is known to be `at`; 0 makes it. Without `at`, extend it wherever it ends.

        With `at`, calling again after a lost reply does not write twice: bytes that are there already count as
        appended. Cost: local and memory what is added; S3 a rewrite below 5 MiB (2 requests), then a copy on the
        server (5); GCS a rewrite up to 1 MiB (2 requests), then a compose on the server (4). Without `at` one more.

        Returns:
            The new size, in bytes.

        Raises:
            ConflictError: The size is another one; nothing was added. Without `at`: for a minute others were faster.
        """
        raw = bytes(flat(data))
        keys.check(key)
        if at is None:
            return self._append_at_end(key, raw)
        try:
            self._append_once(key, raw, Tail(at))
        except ConflictError:
            if not raw or not self._ends_in(key, raw, at):
                raise
        return at + len(raw)

    def appender(self, key: str, *, new: bool = False, end: bytes = b"") -> Appender:
        """The one writer of a file that grows.

        Args:
            key: The file.
            new: Nothing is there, as far as is known. Else it is asked for, by one request.
            end: What the file ends with; where somebody left it out, it is put before what is appended.
        """
        keys.check(key)
        if new:
            return Appender(self, key, NOTHING, end)
        with self._guard("look up", key):
            try:
                found = self._get(key, 0, PART, None)
            except FileNotFoundError:
                return Appender(self, key, NOTHING, end)
        whole = found.data if len(found.data) == found.size else None
        return Appender(self, key, Tail(found.size, found.version, whole), end)

    def _append_at_end(self, key: str, data: bytes) -> int:
        """Append at whatever the end is, as O_APPEND does: others may append meanwhile."""
        for last in attempts(_APPENDS, longest=0.5):
            try:
                at = self.stat(key).size
            except MissingError:
                at = 0
            try:
                self._append_once(key, data, Tail(at))
                return at + len(data)
            except ConflictError:
                if last:
                    raise
        raise AssertionError("unreachable")

    def _append_once(self, key: str, data: bytes, tail: Tail) -> Tail:
        with self._guard("append to", key):
            try:
                return self._append(key, data, tail)
            except Exception as error:
                kind = type(error) if isinstance(error, NotataError) else self._failure(error)[0]
                if kind is ExistsError or kind is MissingError:
                    why = "it exists" if kind is ExistsError else "it does not exist"
                    raise self._conflict(key, f"{why}, against an append at {tail.size}") from error
                raise

    def _ends_in(self, key: str, data: bytes, at: int) -> bool:
        try:
            found = self.fetch(key, at)
        except MissingError:
            return False
        return found.data == data and found.size == at + len(data)

    def copy(self, source: str, target: str) -> None:
        """Store the content of one file under another key too: read and written in parts, bounded in memory."""
        with self.open(source, "rb") as reader, self.open(target, "wb") as writer:
            shutil.copyfileobj(reader, writer, PART)

    def _write(self, key: str, data: bytes, match: str | None) -> str:
        with self._guard("write", key):
            return self._put(key, data, match)

    # -- read ----------------------------------------------------------------------------------------------

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """The bytes of a file, or of ``[start, end)`` of it. One request for each 8 MiB.

        Raises:
            TooLargeError: Without `end`: it is one of the files in `notata._base.limits`, and beyond its limit there.
        """
        return self.fetch(key, start, end).data

    def read_all(self, key: str) -> bytes:
        """The bytes of a file of any size, for a caller who was asked for all of it. One request for each 8 MiB."""
        with self._guard("read", keys.check(key)):
            return self._get(key, 0, None, None).data

    def fetch(self, key: str, start: int = 0, end: int | None = None) -> Blob:
        """As `read`, with the file's size and its version for `replace`."""
        with self._guard("read", keys.check(key)):
            return self._get_whole(key, start) if end is None else self._get(key, start, end, None)

    def start_fetch(self, key: str, start: int = 0, end: int | None = None) -> Future[Blob]:
        """Begin to `fetch`; the future has what was read, or an error of ours."""
        return started_in_thread(self.fetch, keys.check(key), start, end)

    def _start_read(self, key: str, start: int, end: int, version: str) -> Future[bytes]:
        """Begin to read a range of one version, in one request."""

        def read() -> bytes:
            with self._guard("read", key):
                return self._get(key, start, end, version).data

        return started_in_thread(read)

    def stat(self, key: str) -> Entry:
        """Size, time and version of one file. One request.

        Raises:
            MissingError: There is none.
        """
        with self._guard("look up", keys.check(key)):
            return self._stat(key)

    def locate(self, name: str) -> Entry:
        """As `stat`, of a file that another program wrote: its name need not be legal for a run.

        Raises:
            MissingError: There is none.
            FolderError: It is a folder, in a bucket too.
        """
        with self._guard("look up", name):
            try:
                return self._stat(name)
            except Exception as error:
                if isinstance(self._translated(error, "look up", name), MissingError) and any(self._list(name)):
                    raise IsADirectoryError(errno.EISDIR, "is a folder") from error
                raise

    def exists(self, key: str) -> bool:
        """Whether a file is stored under `key`. One request."""
        try:
            self.stat(key)
        except (MissingError, FolderError):
            return False
        return True

    def has_folder(self, key: str) -> bool:
        """Check whether there is a folder of this name; in a bucket, whether a file lies below it. One request."""
        with self._guard("look up", key):
            return self._has_folder(key)

    def _has_folder(self, key: str) -> bool:
        return next(iter(self._list(key)), None) is not None

    def list(self, folder: str = "", beginning: str = "", *, skipped: Skipped | None = None) -> builtins.list[Entry]:
        """Return all files below `folder`, fresh and sorted by key. One request per 1000 on a bucket.

        Args:
            folder: A key, or nothing for the root.
            beginning: How their names below `folder` begin, without a slash; others are not asked for.
            skipped: Called with the error of each folder that cannot be opened, and of each file whose name no key can
                have. If not given, the first such error is raised.

        Raises:
            StorageError: `folder` cannot be listed, or without `skipped` something below it.
            StoredNameError: Without `skipped`: a file has a name that no key can have.
        """
        return sorted(self.scan(folder, beginning, skipped=skipped), key=lambda entry: entry.key)

    def scan(
        self,
        folder: str = "",
        beginning: str = "",
        *,
        skipped: Skipped | None = None,
        unfinished: Callable[[Entry], object] | None = None,
    ) -> Iterator[Entry]:
        """As `list`, each file as the storage tells of it, in no order: the first while the last are not asked for.

        Args:
            folder: As for `list`.
            beginning: As for `list`.
            skipped: As for `list`.
            unfinished: Called with each unfinished write, which is no file yet.
        """
        for found in self._found(folder, beginning):
            if keys.is_reserved(found.key):
                if unfinished is not None and isinstance(found, Entry) and is_unfinished(found.key):
                    unfinished(found)
                continue
            if isinstance(found, Entry):
                yield found
            else:
                self._skip(found, skipped)

    def everything(self, *, skipped: Skipped | None = None) -> builtins.list[Entry]:
        """As `list`, with what no verb takes but `remove`: unfinished writes, and odd names that can be deleted."""
        entries = []
        for found in self._found():
            if isinstance(found, Entry):
                entries.append(found)
            elif found.entry is not None:
                entries.append(found.entry)
            else:
                self._skip(found, skipped)
        return sorted(entries, key=lambda entry: entry.key)

    def remove_abandoned(self) -> builtins.list[Entry]:
        """Remove unfinished writes of processes that have ended. A listing, where writers leave such, and deletions.

        A write of a process that runs on this machine stays. If its process cannot be seen from here, as on another
        machine, the write stays for a day after its last change.

        Returns:
            What was removed.

        Raises:
            StorageError: The store cannot be listed. Of deletions, a `BatchError`.
        """
        if not self.leaves_unfinished:
            return []
        found: builtins.list[Entry] = []
        for _ in self.scan(skipped=ignore, unfinished=found.append):
            pass
        now = datetime.now(UTC)
        abandoned = [entry for entry in found if is_abandoned(entry, now)]
        self.remove(abandoned)
        return abandoned

    def occupied(self) -> bool:
        """Check whether anything is stored below the root, listable or not. One request on a bucket."""
        return any(not keys.is_reserved(found.key) for found in self._found())

    def _found(self, folder: str = "", beginning: str = "") -> Iterator[Entry | Gap]:
        with self._guard("list", keys.check(folder) if folder else None):
            yield from self._list(folder, beginning)

    def _skip(self, gap: Gap, skipped: Skipped | None) -> None:
        """Report what a listing skips, or raise it where nobody wants a report."""
        error = self._gap_error(gap)
        if skipped is None:
            raise error from error.__cause__
        skipped(error)

    def _gap_error(self, gap: Gap) -> StorageError:
        where = quoted(self._shown(gap.key))
        if isinstance(gap.why, str):
            text = f"{where} cannot be a key: {gap.why}; rename or remove it with the program that wrote it"
            return StoredNameError(text, url=self.url, key=gap.key)
        if isinstance(gap.why, StorageError):
            return gap.why
        kind, hint = self._failure(gap.why)
        if kind is KeyNameError:
            kind = StoredNameError
        kind = kind if issubclass(kind, StorageError) else StorageError
        error = kind(f"cannot list {where}: {hint}", url=self.url, key=gap.key)
        error.__cause__ = self._cause(gap.why)
        return error

    # -- open ----------------------------------------------------------------------------------------------

    def open(
        self,
        key: str,
        mode: str = "r",
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """A file object under the contract.

        ``w`` shows nothing before it closes cleanly; ``x`` does so where nothing is, checked now and once more
        at the close; ``a`` is held in memory and added at the close; ``r`` seeks. Writers do not seek.

        Args:
            key: The file.
            mode: ``r``, ``w``, ``x`` or ``a``, with ``b`` for bytes; else text.
            encoding: Of text; UTF-8 when not given, whatever the locale.
            errors: As for the builtin `open`.
            newline: As for the builtin `open`, but text is written with its newlines as given.

        Raises:
            MissingError: Nothing to read.
            ExistsError: ``x`` met a file.
        """
        kind, binary = mode.replace("b", "").replace("t", ""), "b" in mode
        if kind not in ("r", "w", "x", "a") or ("b" in mode and "t" in mode):
            raise ValueError(f"mode {mode!r}: use r, w, x or a, with b for bytes; to update in place use local()")
        if binary:
            return cast("IO[bytes]", self._reader(key) if kind == "r" else self._writer(key, kind))
        encoding = codecs.lookup(encoding or "utf-8").name
        if kind == "r":
            return io.TextIOWrapper(self._reader(key), encoding=encoding, errors=errors, newline=newline)
        newline = "" if newline is None else newline
        writer, from_start = self._writer(key, kind), kind != "a"
        return TextWriter(writer, encoding=encoding, errors=errors, newline=newline, from_start=from_start)

    def _reader(self, key: str) -> io.BufferedReader | io.BytesIO:
        with self._guard("read", keys.check(key)):
            return self._open_read(key)

    def _open_read(self, key: str) -> io.BufferedReader | io.BytesIO:
        first = self._get(key, 0, PART, None)

        def start(begin: int, end: int) -> Future[bytes]:
            return self._start_read(key, begin, end, first.version)

        callback = self._callback(key, first.size) if first.size > len(first.data) else None
        return io.BufferedReader(RangeReader(first.data, first.size, start, self._shown(key), callback), PART)

    def _callback(self, key: str, size: int | None = None) -> Callback | None:
        """What is told of the bytes of one large file."""
        return None if self.progress is None else self.progress(key.rpartition("/")[2], size)

    def _writer(self, key: str, kind: str = "w") -> AtomicWriter:
        keys.check(key)
        if kind == "a":
            return AtomicWriter(Appending(self, key), self._shown(key))
        if kind == "x" and self.exists(key):
            raise ExistsError(f"{self._shown(key)} exists already", url=self.url, key=key)
        return AtomicWriter(Writing(self, key, ABSENT if kind == "x" else None), self._shown(key))

    # -- many at once --------------------------------------------------------------------------------------

    def read_many(self, names: Iterable[str], *, callback: Callback | None = None) -> dict[str, bytes]:
        """The bytes of many files, 32 at once.

        Args:
            names: Their keys.
            callback: An `fsspec.callbacks.Callback`, told how many files have been read.

        Raises:
            BatchError: Some failed; it holds each one's error.
        """
        found = batches.fetch(self, dict.fromkeys(names, (0, None)), callback=callback)
        return {name: blob.data for name, blob in found.items()}

    def fetch_many(self, names: Iterable[str]) -> dict[str, Blob]:
        """As `fetch`, of many files, 32 at once; those that are not there are left out.

        Raises:
            BatchError: Some failed; it holds each one's error.
        """
        return batches.fetch(self, dict.fromkeys(names, (0, None)), without=(MissingError, FolderError))

    def read_ends(self, entries: Iterable[Entry], size: int) -> dict[str, bytes]:
        """The last `size` bytes of many files that were listed, 32 at once; of one that is gone by now, none.

        Raises:
            BatchError: Some failed; it holds each one's error.
        """
        listed = builtins.list(entries)
        ends = {entry.key: (max(0, entry.size - size), entry.size) for entry in listed if entry.size}
        found = batches.fetch(self, ends, without=(MissingError,))
        return {entry.key: found[entry.key].data if entry.key in found else b"" for entry in listed}

    def write_many(self, files: Mapping[str, Buffer], *, callback: Callback | None = None) -> None:
        """Store many files, 32 at once, of those that are not small as many as 32 MiB hold; each is atomic, not all.

        Args:
            files: What to store, by key.
            callback: An `fsspec.callbacks.Callback`, told how many files are stored.

        Raises:
            BatchError: Some failed; it holds each one's error, and the others are stored.
        """
        batches.write(self, {name: flat(data) for name, data in files.items()}, callback)

    def take(self, files: Mapping[str, Entry], source: Store, *, callback: Callback | None = None) -> None:
        """Copy files of another store to keys of this one: streamed, many at once, at most some 160 MiB in memory.

        Args:
            files: What to copy, as `source` lists it, by the key that it gets here. Each is atomic, the batch is not.
            source: Where they are.
            callback: An `fsspec.callbacks.Callback`, told of the bytes that have been read, from any thread.

        Raises:
            StorageError: A single file could not be read or written.
            BatchError: Of several, some could not; it holds each one's error, and the others are stored.
        """
        batches.take(self, files, source, callback)

    def folds_names(self, *, may_write: bool = True) -> bool:
        """Check whether names that differ in case only are one file here, as on most disks of macOS and Windows.

        Args:
            may_write: Find out by a file that is made and removed, else by what is there, which need not tell.
        """
        return False

    @contextmanager
    def keep_permissions(self, key: str, source: Store, source_key: str) -> Iterator[None]:
        """Give the file that the block stores under `key` no permissions for others that a file of `source` lacks.

        Only local disks have permissions of a file: a bucket has its own rules of who may read it.
        """
        mode = source._permissions(source_key)
        if mode is None or mode & _FOR_OTHERS == _FOR_OTHERS:
            yield
            return
        self._limit(key, mode)
        try:
            yield
        except BaseException:  # the next file of this name is another one
            self._limit(key, None)
            raise

    def _permissions(self, key: str) -> int | None:
        """The permission bits of a file, where the storage has such."""
        return None

    def _limit(self, key: str, mode: int | None) -> None:  # noqa: B027  a bucket has no permissions of a file
        """Give the file that is stored next under `key` no permission for others that `mode` lacks; None: any."""

    def remove_empty_folders(self) -> None:  # noqa: B027  a bucket has no folders
        """Remove the folders at and below the root that are empty, where there are such."""

    def irregular(self) -> builtins.list[str]:
        """Return the names of links, pipes and the like below the root, which `list` leaves out.

        Only local disks have such.
        """
        return []

    def remove_links(self) -> builtins.list[str]:
        """Remove the links below the root, and never what they lead to. Only local disks have such.

        Returns:
            Their names.
        """
        return []

    def delete(self, names: Iterable[str]) -> None:
        """Remove exactly these files; a missing one is no error. S3: one request per 1000.

        Raises:
            BatchError: Some could not be removed; it holds each one's error.
        """
        self._remove({keys.check(name): None for name in names})

    def remove(self, entries: Iterable[Entry]) -> None:
        """Remove files as they were listed: one that was written since stays, except on S3, which deletes by name.

        Raises:
            BatchError: Some could not be removed; it holds each one's error.
        """
        self._remove({entry.key: entry.version for entry in entries})

    def clear(self, keep: Iterable[str] = (), *, skipped: Skipped | None = None) -> None:
        """Remove every file below the root but those of `keep`, unfinished writes of the past and links included.

        What another one writes meanwhile stays, except on S3, which deletes by name.

        Args:
            keep: Keys.
            skipped: As for `list`; all that can be removed is.
        """
        kept = set(keep)
        self.remove_links()
        listed = self.everything(skipped=skipped)
        self._remove({entry.key: entry.version for entry in listed if entry.key not in kept})

    def _remove(self, names: dict[str, str | None]) -> None:
        """Remove files by name, those that have a version only as that one."""
        if not names:
            return
        with self._guard("delete", next(iter(names)) if len(names) == 1 else None):
            failures = self._delete(names)
        if failures:
            errors = [self._translated(error, "delete", key) for key, error in failures.items()]
            raise BatchError(f"{len(errors)} of {len(names)} deletions failed in {self.url}", errors)

    # -- paths ---------------------------------------------------------------------------------------------

    def path(self, key: str) -> StoredPath:
        """`key` as a path object. On a local disk its parents exist afterwards; elsewhere no request is made."""
        with self._guard("make the folders of", keys.check(key)):
            self._make_parents(key)
            return cast("StoredPath", self._path(key))

    def make_folder(self, key: str = "") -> None:
        """Make a folder, or the root, and the folders above it. A bucket has no folders, and needs none."""
        with self._guard("make the folder", keys.check(key) if key else None):
            if self.folders:
                self._make_folder(key)

    def _make_folder(self, key: str) -> None:
        self._path(key).mkdir(parents=True, exist_ok=True)

    def place(self, key: str = "") -> StoredPath:
        """As `path`, of a file that is stored already, or of the root: nothing is made."""
        with self._guard("name", key):
            return cast("StoredPath", self._path(key))

    def _make_parents(self, key: str) -> None:  # noqa: B027  most have no folders
        """Make the folders of a key, where there are folders that others need to be there."""

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        """A temporary file name on a local disk, whose file is stored under `key` on a clean exit.

        Nothing is there yet. It lies in the system's temporary folder (TMPDIR) and is streamed to the storage; on a
        local disk it lies beside its goal and is renamed.

        Raises:
            MissingError: No file was written there.
        """
        with tempfile.TemporaryDirectory(prefix="notata-") as folder:
            path = Path(folder, keys.check(key).rpartition("/")[2])
            yield path
            self._must_be_file(path, key)
            with self._writer(key) as target, path.open("rb") as source:
                shutil.copyfileobj(source, target, PART)

    def _must_be_file(self, path: Path, key: str) -> None:
        if not path.is_file():
            found = "a folder" if path.is_dir() else "nothing"
            raise MissingError(f"{self._shown(key)}: {found} was left at {path}, not a file", url=self.url, key=key)

    @abstractmethod
    def filesystem(self) -> AbstractFileSystem:
        """The fsspec file system below, connected for this process; what goes through it is not under the contract."""

    # -- errors --------------------------------------------------------------------------------------------

    @contextmanager
    def _guard(self, doing: str, key: str | None) -> Iterator[None]:
        """The one place where a backend's errors become ours, each chained to its cause."""
        try:
            yield
        except (NotataError, Warning):  # a warning that the user made an error stays what it is
            raise
        except Exception as error:
            raise self._translated(error, doing, key) from self._cause(error)

    def _translated(self, error: Exception, doing: str, key: str | None) -> NotataError:
        if isinstance(error, NotataError):
            return error
        if sys.is_finalizing():  # what a backend would import now, to look at the error, is not to be had any more
            kind: type[NotataError] = StorageError
            hint = "the interpreter is ending"
        else:
            kind, hint = self._failure(error)
        ours = kind(f"cannot {doing} {self._shown(key)}: {hint}", url=self.url, key=key)
        ours.__cause__ = self._cause(error)
        return ours

    def _cause(self, error: Exception) -> Exception | None:
        """What an error of ours is chained to: the backend's, without secrets in its text."""
        return without_secrets(error)

    def _failure(self, error: Exception) -> tuple[type[NotataError], str]:
        """Which of our errors `error` is, and what to tell the user; backends look at their own types first."""
        return failure_of_builtin(error, self.redacted(str(error) or type(error).__name__))

    def redacted(self, text: str) -> str:
        """Return `text` without secrets: storage options of this store, credentials, and what has a secret's form."""
        return redacted(text, self.url)

    def _conflict(self, key: str, why: str) -> ConflictError:
        return ConflictError(f"{self._shown(key)}: {why}; nothing was written", url=self.url, key=key)

    def _shown(self, key: str | None) -> str:
        if not key:
            return self.url
        return f"{self.url}{key}" if self.url.endswith("://") else f"{self.url.rstrip('/')}/{key}"

    # -- the primitives of a backend -----------------------------------------------------------------------

    @abstractmethod
    def _enter(self, folder: str) -> None:
        """Move the root of this copy one folder down."""

    @abstractmethod
    def _put(self, key: str, data: bytes, match: str | None) -> str:
        """Store at most 8 MiB in one atomic request; with `match` only over that version. The new version."""

    @abstractmethod
    def _begin(self, key: str, match: str | None) -> Upload:
        """Start a streamed write; `match` is None or `ABSENT`."""

    @abstractmethod
    def _append(self, key: str, data: bytes, tail: Tail) -> Tail:
        """Extend the file; raise a `ConflictError` when it is not as `tail` says.

        What else `tail` knows may save a look. The tail after it: with the content where the next append needs it.
        """

    @abstractmethod
    def _get(self, key: str, start: int, end: int | None, version: str | None) -> Blob:
        """Read a range in one request; with `version` only from that one."""

    def _get_whole(self, key: str, start: int = 0) -> Blob:
        """Read a file from `start` to its end, if it is within its limit; then no more than that is in memory."""
        limit = limits.limit_of(key)
        if limit is None:
            return self._get(key, start, None, None)
        found = self._get(key, start, start + min(limit + 1, PART), None)
        limits.check_size(self.url, key, found.size - start, limit)
        if len(found.data) == PART < found.size - start:
            found = self._get(key, start, start + limit + 1, None)
        limits.check_size(self.url, key, len(found.data), limit)
        return found

    def _stream(self, key: str) -> IO[bytes]:
        """A file object to read a file from once, from its start to its end."""
        return self._open_read(key)

    @abstractmethod
    def _stat(self, key: str) -> Entry:
        """Look one file up."""

    @abstractmethod
    def _list(self, folder: str, beginning: str = "") -> Iterator[Entry | Gap]:
        """Yield every file below `folder`, ours and unfinished ones too, in any order, never from a cache.

        A folder below it that cannot be opened is a `Gap`, and so is a file whose name the backend cannot use as a key.
        """

    @abstractmethod
    def _delete(self, names: dict[str, str | None]) -> dict[str, Exception]:
        """Remove files by exact name, those with a version only as that one; what failed, by name.

        One that is missing, or another one by now, has not failed.
        """

    @abstractmethod
    def _path(self, key: str) -> UPath:
        """The path object of a key, or of the root for an empty one."""
