"""The storage contract: commit, claim, append, read, list and delete files under one root, whatever their content.

`Store` is what the rest of notata uses. It checks keys, turns a file object into one commit, limits how many requests
run at once, and translates errors. The bytes go to a `Backend` (``backend.py``), one class for each kind of storage.
Hashing, background writes and planned failures are backends around other backends (``wrapper.py``).
"""

from __future__ import annotations

import builtins
import codecs
import errno
import io
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar, Final, TypeAlias, TypeVar, cast, final

from notata._base import keys, limits
from notata._base.buffers import flat
from notata._base.retries import attempts
from notata._base.terminal import quoted
from notata.errors import (
    BatchError,
    ConflictError,
    ContainerMissingError,
    DeadlineError,
    ExistsError,
    FolderError,
    KeyNameError,
    MissingError,
    NotataError,
    StorageError,
    StoredNameError,
    UnreachableError,
)
from notata.store import batches
from notata.store.appending import NOTHING, Appender, Tail
from notata.store.backend import ABSENT, Backend
from notata.store.entries import Blob, Entry
from notata.store.files import PART, AtomicWriter, RangeReader, TextWriter
from notata.store.gaps import Gap, Skipped, ignore
from notata.store.in_flight import translated
from notata.store.outlines import Outline
from notata.store.targets import Appending, Writing
from notata.store.unfinished import is_abandoned, is_unfinished, new_name

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem
    from fsspec.callbacks import Callback
    from typing_extensions import Buffer

    from notata.store.stored_path import StoredPath

__all__ = ["Progress", "Store"]

T = TypeVar("T")

Progress: TypeAlias = "Callable[[str, int | None], Callback]"

_APPENDS: Final = 160  # attempts to append to a file that other writers append to as well: about a minute
_CHANGES: Final = 20  # attempts to change a file that other writers change as well
_FOR_OTHERS: Final = 0o044  # permission bits: the group and all others may read


@final
class Store:
    """Files under one root URL, with the same guarantees on every backend.

    A store is thread-safe, and a forked child opens its own connections. Pickling includes the credentials, so that
    another process can reach the same storage: send such a pickle, but do not keep it.

    Attributes:
        backend: The storage. It has no guarantees beyond those of its verbs, and raises its own errors.
        progress: Makes a callback for a file that takes more than one part, from its name and, if known, its size. The
            callback receives the number of bytes.
    """

    reopen: ClassVar[Callable[[str], Store]]
    """`notata.store.open_store`, which the package sets: a store knows no kind of storage."""

    def __init__(self, backend: Backend, progress: Progress | None = None) -> None:
        self.backend = backend
        self.progress = progress

    @property
    def url(self) -> str:
        """The root, without credentials."""
        return self.backend.url

    @property
    def folders(self) -> bool:
        """True if the backend has real folders, so that ``a`` and ``a/b`` cannot both be files."""
        return self.backend.folders

    @property
    def is_local(self) -> bool:
        """True if the files are on this machine, on a disk or in memory. A write then costs no round trip."""
        return self.backend.is_local

    @property
    def shared(self) -> bool:
        """True if other processes can see the stored files."""
        return self.backend.shared

    @property
    def sized(self) -> bool:
        """True if the backend knows a file's size and can read a range of it."""
        return self.backend.sized

    @property
    def queues(self) -> bool:
        """True if a write may wait for other writes, so that the storage's own thread must not start one."""
        return self.backend.queues

    @property
    def supports_exclusive_create(self) -> bool:
        """True if `create` is atomic against all other writers. If not, the store checks for a file before it writes.

        For an S3 store other than Amazon's, this is tested once per bucket and process.

        Raises:
            StorageError: The test failed because of the storage.
        """
        with self.guard("write to", None):
            return self.backend.supports_exclusive_create

    @property
    def supports_cas(self) -> bool:
        """True if `replace` is an atomic compare-and-swap; tested as for `supports_exclusive_create`."""
        with self.guard("write to", None):
            return self.backend.supports_cas

    @property
    def gap(self) -> str:
        """Description of what readers see while a file is replaced; empty if they see the old or the new file."""
        return self.backend.gap

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    def _notata_for_file(self) -> tuple[Any, ...]:
        """Return how `notata.formats` pickles the store into a file: without storage options."""
        return Store.reopen, (self.url,)

    def _on(self, backend: Backend) -> Store:
        return self if backend is self.backend else Store(backend, self.progress)

    def below(self, folder: str) -> Store:
        """Return the store of one of this store's folders. It shares the connection and costs no request."""
        return self._on(self.backend.below(keys.check(folder)))

    def hidden_folder(self) -> Store:
        """Return the store of a new hidden folder, for trial files that are removed afterwards. No request."""
        return self._on(self.backend.below(new_name()))

    def with_progress(self, progress: Progress) -> Store:
        """Return this store with `progress` callbacks for its large reads and writes."""
        return Store(self.backend, progress)

    def durably(self) -> Store:
        """Return this store with durable writes: what it wrote survives a power cut once the write returns.

        On a local disk, each file is fsynced before it gets its name, then its folder is; each append is fsynced too.
        A bucket is durable anyway and memory never is: for both, this returns the same store.
        """
        return self._on(self.backend.durably())

    def following_links(self) -> Store:
        """Return this store, with links to files read and listed as the files that they lead to.

        It is for folders whose content the user asks for. Links to folders are not followed. Only local disks have
        links.
        """
        return self._on(self.backend.following_links())

    def strictly(self) -> Store:
        """Return this store, with every operation refused if its root is a link. Only local disks have links.

        A folder that a user names may be a link. A run that is removed or written as a copy may not be one.
        """
        return self._on(self.backend.strictly())

    def serving_pages(self) -> Store:
        """Return this store, with HTML files that it writes to a bucket shown by browsers.

        By default they are downloads: a page that opens in the bucket's origin can run scripts there. This is for pages
        that notata itself makes.
        """
        return self._on(self.backend.serving_pages())

    def sparing(self, bytes_at_once: int) -> Store:
        """Return this store with fewer bytes of one large file in flight: slower, but with less memory."""
        return self._on(self.backend.sparing(bytes_at_once))

    def prepare(self) -> None:
        """Start what the first request needs and what cannot start once the interpreter is ending. No request."""
        self.backend.prepare()

    def arrive(self, key: str) -> None:
        """Wait for pending writes to a key and to all keys below it, if the store queues them. No request."""
        self.backend.arrive(key)

    # -- write ---------------------------------------------------------------------------------------------

    def write(self, key: str, data: Buffer) -> None:
        """Store `data` as the whole file, replacing a previous one. One request up to 8 MiB, then one for each part."""
        view = flat(data)
        if view.nbytes > PART:
            with self._writer(key) as writer:
                writer.write(view)
        else:
            self.put(keys.check(key), bytes(view), None)

    def start_write(self, key: str, data: bytes) -> Future[str]:
        """Start to store `data` (at most 8 MiB), replacing a previous file, without waiting for the result.

        Returns:
            A future of the version, or of a `NotataError`. Its callbacks run in a thread of the storage: they must not
            wait for the storage themselves.
        """
        with self.guard("write", keys.check(key)):
            return self._translated_later(self.backend.start_put(key, data), "write", key)

    def create(self, key: str, data: Buffer) -> str:
        """Store `data` if no file exists. If several callers race, exactly one succeeds.

        A retry after a lost reply recognizes its own write and succeeds.

        Returns:
            The version that was stored, for `replace`.

        Raises:
            ExistsError: A file exists; it is unchanged.
        """
        return self.put(keys.check(key), bytes(flat(data)), ABSENT)

    def replace(self, key: str, data: Buffer, if_version: str) -> str:
        """Store `data` if the current version is `if_version` (compare-and-swap).

        Returns:
            The version that was stored.

        Raises:
            ConflictError: The file has another version or is missing. Nothing was written.
        """
        if not if_version:
            raise ValueError("cannot replace a file: if_version is empty; call create() to store a new file")
        return self.put(keys.check(key), bytes(flat(data)), if_version)

    def append(self, key: str, data: Buffer, at: int | None = None) -> int:
        """Append to a file of size `at`; 0 creates it. Without `at`, append at the current end.

        With `at`, a repeated call after a lost reply does not write twice: if the same bytes are there, they count as
        appended. Cost: local disk and memory write only `data`. S3 rewrites a file below 5 MiB (2 requests), then
        copies on the server (5). GCS rewrites a file up to 1 MiB (2 requests), then composes on the server (4).
        Without `at`, one request more.

        Returns:
            The new size, in bytes.

        Raises:
            ConflictError: The file has another size; nothing was added. Without `at`: other writers kept appending
                first for a minute.
        """
        raw = bytes(flat(data))
        keys.check(key)
        if at is None:
            return self._append_at_end(key, raw)
        try:
            self.append_once(key, raw, Tail(at))
        except ConflictError:
            if not raw or not self._ends_in(key, raw, at):
                raise
        return at + len(raw)

    def appender(self, key: str, *, new: bool = False, end: bytes = b"") -> Appender:
        """Return an `Appender` for a file with a single writer.

        Args:
            key: The file.
            new: Assume that the file does not exist. Otherwise one request looks it up.
            end: Bytes that the file must end with. If they are missing, the next append writes them first.
        """
        keys.check(key)
        if new:
            return Appender(self, key, NOTHING, end)
        with self.guard("look up", key):
            try:
                found = self.backend.get(key, 0, PART)
            except FileNotFoundError:
                return Appender(self, key, NOTHING, end)
        whole = found.data if len(found.data) == found.size else None
        return Appender(self, key, Tail(found.size, found.version, whole), end)

    def _append_at_end(self, key: str, data: bytes) -> int:
        """Append at the current end, as O_APPEND does; other writers may append at the same time."""
        for last in attempts(_APPENDS, longest=0.5):
            try:
                at = self.stat(key).size
            except MissingError:
                at = 0
            try:
                self.append_once(key, data, Tail(at))
                return at + len(data)
            except ConflictError:
                if last:
                    raise
        raise AssertionError("unreachable")

    def append_once(self, key: str, data: bytes, tail: Tail) -> Tail:
        """Append to a file with this end, for `Appender`; raise a `ConflictError` if it has another one."""
        try:  # without `guard`, which takes as long as a system call that writes
            return self.backend.append(key, data, tail)
        except Exception as error:
            with self.guard("append to", key):
                kind = type(error) if isinstance(error, NotataError) else self.backend.failure(error)[0]
                if kind is ExistsError or kind is MissingError:
                    why = "the file exists" if kind is ExistsError else "the file does not exist"
                    raise self.backend.conflict(key, f"{why}, but the append expected {tail.size} bytes") from error
                raise

    def _ends_in(self, key: str, data: bytes, at: int) -> bool:
        try:
            found = self.fetch(key, at)
        except MissingError:
            return False
        return found.data == data and found.size == at + len(data)

    def copy(self, source: str, target: str) -> None:
        """Copy a file to another key. It is streamed in parts, so memory use is bounded."""
        with self.open(source, "rb") as reader, self.open(target, "wb") as writer:
            shutil.copyfileobj(reader, writer, PART)

    def modify(self, key: str, change: Callable[[Blob | None], bytes | None]) -> None:
        """Read a file, change its content, and store it, unless another writer stored it meanwhile: then start again.

        Args:
            key: The file.
            change: Called with the file, or None if there is none. Returns the new content, or None to leave the file.

        Raises:
            ConflictError: Other writers stored the file first, again and again.
            ExistsError: The same, for a file that did not exist.
        """
        for last in attempts(_CHANGES):
            try:
                found: Blob | None = self.fetch(key)
            except ContainerMissingError:
                raise
            except MissingError:
                found = None
            data = change(found)
            if data is None:
                return
            try:
                self.put(key, data, ABSENT if found is None else found.version)
            except (ConflictError, ExistsError):
                if last:
                    raise
            else:
                return

    def copies_from(self, source: Store) -> bool:
        """Check whether the storage can copy files of another store to this one itself.

        For an S3 store other than Amazon's, this is tested once per bucket and process.
        """
        with self.guard("write to", None):
            return self.backend.copies_from(source.backend)

    def copy_on_server(self, key: str, source: Store, entry: Entry, match: str | None) -> str | None:
        """Let the storage copy one version of a file of another store, so that its bytes do not pass this process.

        Args:
            key: The new file.
            source: The store for which `copies_from` is true.
            entry: The file there, in the version to copy.
            match: The version to replace, as in `put`.

        Returns:
            The version that was stored; None if the storage cannot copy this file, or not with the condition.

        Raises:
            ConflictError: Another writer changed one of the two files.
            MissingError: The source has no such file.
        """
        with self.guard("write", keys.check(key)):
            return self.backend.copy_on_server(key, source.backend, entry, match)

    def put(self, key: str, data: bytes, match: str | None) -> str:
        """Store at most 8 MiB in one request.

        Args:
            key: The file.
            data: Its content.
            match: The version to replace, as in `replace`; empty for a new file, as in `create`; None for any.

        Returns:
            The version that was stored.
        """
        with self.guard("write", key):
            return self.backend.put(key, data, match)

    # -- read ----------------------------------------------------------------------------------------------

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """Return the bytes of a file, or of its range ``[start, end)``. One request per 8 MiB.

        Raises:
            TooLargeError: Without `end`: the file is larger than its limit in `notata._base.limits`.
        """
        return self.fetch(key, start, end).data

    def read_all(self, key: str) -> bytes:
        """Return all bytes of a file, whatever its size. One request per 8 MiB."""
        with self.guard("read", keys.check(key)):
            return self.backend.get(key, 0, None).data

    def fetch(self, key: str, start: int = 0, end: int | None = None) -> Blob:
        """Read as `read` does, and return the file's size and its version (for `replace`) as well."""
        with self.guard("read", keys.check(key)):
            return self.backend.get(key, start, end, None, limits.limit_of(key) if end is None else None)

    def start_fetch(self, key: str, start: int = 0, end: int | None = None, version: str | None = None) -> Future[Blob]:
        """Start to `fetch`, with `version` only of that version; the future holds the `Blob` or a `NotataError`."""
        limit = limits.limit_of(key) if end is None else None
        with self.guard("read", keys.check(key)):
            return self._translated_later(self.backend.start_get(key, start, end, version, limit), "read", key)

    def stat(self, key: str) -> Entry:
        """Return size, time and version of one file. One request.

        Raises:
            MissingError: The file does not exist.
        """
        with self.guard("look up", keys.check(key)):
            return self.backend.stat(key)

    def locate(self, name: str) -> Entry:
        """Return the same as `stat`, for a file of another program, whose name need not be a legal key.

        Raises:
            MissingError: The file does not exist.
            FolderError: The name is that of a folder, also in a bucket.
        """
        with self.guard("look up", name):
            try:
                return self.backend.stat(name)
            except Exception as error:
                missing = isinstance(self.translated(error, "look up", name), MissingError)
                if missing and any(self.backend.list(name)):
                    raise IsADirectoryError(errno.EISDIR, "is a folder") from error
                raise

    def exists(self, key: str) -> bool:
        """Check whether a file is stored under `key`. One request."""
        try:
            self.stat(key)
        except (MissingError, FolderError):
            return False
        return True

    def has_folder(self, key: str) -> bool:
        """Check whether a folder of this name exists; in a bucket, whether a file lies below it. One request."""
        with self.guard("look up", key):
            return self.backend.has_folder(key)

    def list(self, folder: str = "", beginning: str = "", *, skipped: Skipped | None = None) -> builtins.list[Entry]:
        """Return all files below `folder`, never from a cache and sorted by key. One request per 1000 on a bucket.

        Args:
            folder: A key, or empty for the root.
            beginning: Prefix of the names below `folder`, without a slash. Other names are not requested.
            skipped: Called with the error of each folder that cannot be opened, and of each file whose name is no legal
                key. If not given, the first such error is raised.

        Raises:
            StorageError: `folder` cannot be listed, or without `skipped` something below it.
            StoredNameError: Without `skipped`: the name of a file is no legal key.
        """
        return sorted(self.scan(folder, beginning, skipped=skipped), key=lambda entry: entry.key)

    def scan(
        self,
        folder: str = "",
        beginning: str = "",
        *,
        skipped: Skipped | None = None,
        unfinished: Callable[[Entry], object] | None = None,
        outline: Outline | None = None,
    ) -> Iterator[Entry]:
        """Yield the same files as `list`, one page of the storage after the other, in no particular order.

        Args:
            folder: A key, or empty for the root.
            beginning: Prefix of the names below `folder`, without a slash. Other names are not requested.
            skipped: Called with the error of each folder that cannot be opened, and of each file whose name is no legal
                key. If not given, the first such error is raised.
            unfinished: Called with each unfinished write, which is not a file yet.
            outline: Gets folders of which only some files are looked at, on a storage where that is cheaper.
        """
        for found in self._found(folder, beginning, outline):
            if keys.is_reserved(found.key):
                if unfinished is not None and isinstance(found, Entry) and is_unfinished(found.key):
                    unfinished(found)
                continue
            if isinstance(found, Entry):
                yield found
            else:
                self._skip(found, skipped)

    def folder_names(
        self, folder: str = "", beginning: str = "", *, skipped: Skipped | None = None
    ) -> builtins.list[str]:
        """Return the names of the folders directly in `folder`, never from a cache and sorted.

        This is cheaper than `list`, which looks at each file in them: a local disk reads one folder, and a bucket takes
        one request per 1000 folders and files in `folder`. A bucket has no empty folders; elsewhere they are included.
        Links are not.

        Args:
            folder: A key, or empty for the root.
            beginning: Prefix of the names. Other names are not requested.
            skipped: Called with the error of each folder whose name is no legal key. If not given, the first such error
                is raised.

        Raises:
            StorageError: `folder` cannot be listed.
            StoredNameError: Without `skipped`: the name of a folder is no legal key.
        """
        names = []
        with self.guard("list", keys.check(folder) if folder else None):
            for found in self.backend.folder_names(folder, beginning):
                if isinstance(found, Gap):
                    self._skip(found, skipped)
                elif not keys.is_reserved(found):
                    names.append(found)
        return sorted(names)

    def list_all(self, *, skipped: Skipped | None = None) -> builtins.list[Entry]:
        """List as `list` does, with unfinished writes and illegal names too, if `remove` can delete them."""
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
        """Remove unfinished writes of processes that have ended. One listing, if writers can leave any, and deletions.

        A write of a process that runs on this machine is kept. If the process cannot be seen from here, for example on
        another machine, the write is kept for a day after its last change.

        Returns:
            The files that were removed.

        Raises:
            StorageError: The store cannot be listed. If deletions failed, a `BatchError`.
        """
        if not self.backend.leaves_unfinished:
            return []
        found: builtins.list[Entry] = []
        for _ in self.scan(skipped=ignore, unfinished=found.append):
            pass
        now = datetime.now(UTC)
        abandoned = [entry for entry in found if is_abandoned(entry, now)]
        self.remove(abandoned)
        return abandoned

    def occupied(self) -> bool:
        """Check whether anything is stored below the root, even if it cannot be listed. One request on a bucket."""
        return any(not keys.is_reserved(found.key) for found in self._found())

    def _found(self, folder: str = "", beginning: str = "", outline: Outline | None = None) -> Iterator[Entry | Gap]:
        with self.guard("list", keys.check(folder) if folder else None):
            if outline is None:
                yield from self.backend.list(folder, beginning)
            else:
                yield from self.backend.list_outlined(folder, beginning, outline)

    def _skip(self, gap: Gap, skipped: Skipped | None) -> None:
        """Report something that a listing skips, or raise its error if there is no callback."""
        error = self._gap_error(gap)
        if skipped is None:
            raise error from error.__cause__
        skipped(error)

    def _gap_error(self, gap: Gap) -> StorageError:
        where = quoted(self.shown(gap.key))
        if isinstance(gap.why, str):
            text = f"{where} cannot be a key: {gap.why}; rename or remove it with the program that wrote it"
            return StoredNameError(text, url=self.url, key=gap.key)
        if isinstance(gap.why, StorageError):
            return gap.why
        kind, hint = self.backend.failure(gap.why)
        if kind is KeyNameError:
            kind = StoredNameError
        kind = kind if issubclass(kind, StorageError) else StorageError
        error = kind(f"cannot list {where}: {hint}", url=self.url, key=gap.key)
        error.__cause__ = self.backend.cause(gap.why)
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
        """Open a file with the store's guarantees.

        ``w`` shows nothing before it closes without an error. ``x`` does the same, but only if no file exists; it
        checks this now and once more at the close. ``a`` collects in memory and appends at the close. ``r`` can seek;
        writers cannot.

        Args:
            key: The file.
            mode: ``r``, ``w``, ``x`` or ``a``, with ``b`` for bytes; else text.
            encoding: Of text. The default is UTF-8 in every locale.
            errors: As for the builtin `open`.
            newline: As for the builtin `open`, but by default text is written with its newlines unchanged.

        Raises:
            MissingError: Mode ``r``: the file does not exist.
            ExistsError: Mode ``x``: the file exists.
        """
        kind, binary = mode.replace("b", "").replace("t", ""), "b" in mode
        if kind not in ("r", "w", "x", "a") or ("b" in mode and "t" in mode):
            raise ValueError(
                f"cannot open a file with mode {mode!r}; use r, w, x or a, with b for bytes. To update in place, use "
                "local()"
            )
        if binary:
            return cast("IO[bytes]", self.open_listed(keys.check(key)) if kind == "r" else self._writer(key, kind))
        encoding = codecs.lookup(encoding or "utf-8").name
        if kind == "r":
            return io.TextIOWrapper(
                self.open_listed(keys.check(key)), encoding=encoding, errors=errors, newline=newline
            )
        newline = "" if newline is None else newline
        writer, from_start = self._writer(key, kind), kind != "a"
        return TextWriter(writer, encoding=encoding, errors=errors, newline=newline, from_start=from_start)

    def open_listed(self, key: str) -> io.BufferedReader | io.BytesIO:
        """Open a file to read it, as ``open(key, "rb")`` does; its name need not be a legal key."""
        with self.guard("read", key):
            file = self.backend.open_read(key)
            if file is not None:
                return cast("io.BufferedReader | io.BytesIO", file)
            first = self.backend.get(key, 0, PART)

        def start(begin: int, end: int) -> Future[Blob]:
            with self.guard("read", key):
                return self._translated_later(self.backend.start_get(key, begin, end, first.version), "read", key)

        callback = self.callback(key, first.size) if first.size > len(first.data) else None
        return io.BufferedReader(RangeReader(first.data, first.size, start, self.shown(key), callback), PART)

    def stream(self, key: str) -> IO[bytes]:
        """Open a file that is read once, from start to end. Its reads raise the backend's own errors: see `guard`."""
        return self.backend.open_read(key, once=True) or self.open_listed(key)

    def callback(self, key: str, size: int | None = None) -> Callback | None:
        """Return the progress callback for the bytes of one large file, or None."""
        return None if self.progress is None else self.progress(key.rpartition("/")[2], size)

    def _writer(self, key: str, kind: str = "w") -> AtomicWriter:
        keys.check(key)
        if kind == "a":
            return AtomicWriter(Appending(self, key), self.shown(key))
        if kind == "x" and self.exists(key):
            raise ExistsError(f"{self.shown(key)} exists already", url=self.url, key=key)
        return AtomicWriter(Writing(self, key, ABSENT if kind == "x" else None), self.shown(key))

    # -- many at once --------------------------------------------------------------------------------------

    def read_many(self, names: Iterable[str], *, callback: Callback | None = None) -> dict[str, bytes]:
        """Return the bytes of many files, 32 requests at once.

        Args:
            names: Their keys.
            callback: An `fsspec.callbacks.Callback` that receives the number of files read.

        Raises:
            BatchError: Some files failed; it holds the error of each.
        """
        found = batches.fetch(self, dict.fromkeys(names, (0, None)), callback=callback)
        return {name: blob.data for name, blob in found.items()}

    def fetch_many(self, names: Iterable[str]) -> dict[str, Blob]:
        """Fetch many files, 32 requests at once; missing files are left out.

        Raises:
            BatchError: Some files failed; it holds the error of each.
        """
        return batches.fetch(self, dict.fromkeys(names, (0, None)), without=(MissingError, FolderError))

    def read_ends(self, entries: Iterable[Entry], size: int) -> dict[str, bytes]:
        """Return the last `size` bytes of many listed files, 32 requests at once; empty if a file is missing by now.

        Raises:
            BatchError: Some files failed; it holds the error of each.
        """
        listed = builtins.list(entries)
        ends = {entry.key: (max(0, entry.size - size), entry.size) for entry in listed if entry.size}
        found = batches.fetch(self, ends, without=(MissingError,))
        return {entry.key: found[entry.key].data if entry.key in found else b"" for entry in listed}

    def write_many(self, files: Mapping[str, Buffer], *, callback: Callback | None = None) -> None:
        """Store many files, 32 at once, with at most 32 MiB of larger ones. Each file is atomic, the batch is not.

        Args:
            files: The content of each file, by key.
            callback: An `fsspec.callbacks.Callback` that receives the number of files stored.

        Raises:
            BatchError: Some files failed; it holds the error of each. The other files are stored.
        """
        with self.backend.many_writes():
            batches.write(self, {name: flat(data) for name, data in files.items()}, callback)

    def copy_from(self, files: Mapping[str, Entry], source: Store, *, callback: Callback | None = None) -> None:
        """Copy files of another store to keys of this one: streamed, many at once, at most about 160 MiB in memory.

        Args:
            files: Entries of `source` by their key in this store. Each file is atomic, the batch is not.
            source: The store that holds the files.
            callback: An `fsspec.callbacks.Callback` that receives the number of bytes read, from any thread.

        Raises:
            StorageError: A single file could not be read or written.
            BatchError: Some of several files failed; it holds the error of each. The other files are stored.
        """
        with self.backend.many_writes():
            batches.copy(self, files, source, callback)

    def folds_names(self, *, may_write: bool = True) -> bool:
        """Check whether names that differ only in case are the same file, as on most disks of macOS and Windows.

        Args:
            may_write: Test with a file that is created and removed. Otherwise use the existing names, which may not be
                enough to find out.
        """
        return self.backend.folds_names(may_write=may_write)

    @contextmanager
    def keep_permissions(self, key: str, source: Store, source_key: str) -> Iterator[None]:
        """Deny to group and others, for the file that the block stores under `key`, what a file of `source` denies.

        Only local disks have permissions per file; a bucket has its own access rules.
        """
        mode = source.backend.permissions(source_key)
        if mode is None or mode & _FOR_OTHERS == _FOR_OTHERS:
            yield
            return
        self.backend.limit_permissions(key, mode)
        try:
            yield
        except BaseException:  # a later file of this name is not affected
            self.backend.limit_permissions(key, None)
            raise

    def remove_empty_folders(self) -> None:
        """Remove the empty folders at and below the root, if the storage has folders."""
        self.backend.remove_empty_folders()

    def irregular(self) -> builtins.list[str]:
        """Return the names of links, pipes and other special files below the root, which `list` leaves out.

        Only local disks have them.
        """
        return self.backend.irregular()

    def remove_links(self) -> builtins.list[str]:
        """Remove the links below the root, but never their targets. Only local disks have links.

        Returns:
            The names of the links.

        Raises:
            BatchError: Some links could not be removed; it holds the error of each.
        """
        links = sorted(self.backend.links())
        self._remove(dict.fromkeys(links))
        return links

    def delete(self, names: Iterable[str]) -> None:
        """Remove exactly these files; a missing one is no error. S3: one request per 1000.

        Raises:
            BatchError: Some files could not be removed; it holds the error of each.
        """
        self._remove({keys.check(name): None for name in names})

    def remove(self, entries: Iterable[Entry]) -> None:
        """Remove files as they were listed. A file written since then is kept, except on S3, which deletes by name.

        Raises:
            BatchError: Some files could not be removed; it holds the error of each.
        """
        self._remove({entry.key: entry.version for entry in entries})

    def clear(self, keep: Iterable[str] = (), *, skipped: Skipped | None = None) -> None:
        """Remove every file below the root except `keep`, including links and unfinished earlier writes.

        A file that another process writes meanwhile is kept, except on S3, which deletes by name.

        Args:
            keep: Keys.
            skipped: Called with the error of each folder that cannot be opened; everything that can be removed is
                removed.
        """
        kept = set(keep)
        self.remove_links()
        listed = self.list_all(skipped=skipped)
        self._remove({entry.key: entry.version for entry in listed if entry.key not in kept})

    def _remove(self, names: dict[str, str | None]) -> None:
        """Remove files by name; those with a version only if it still matches."""
        if not names:
            return
        with self.guard("delete", next(iter(names)) if len(names) == 1 else None):
            failures = self.backend.delete(names)
        if failures:
            errors = [self.translated(error, "delete", key) for key, error in failures.items()]
            raise BatchError(f"{len(errors)} of {len(names)} deletions failed in {self.url}", errors)

    # -- paths ---------------------------------------------------------------------------------------------

    def path(self, key: str) -> StoredPath:
        """Return `key` as a path object. On a local disk this creates its parent folders; elsewhere no request."""
        with self.guard("make the folders of", keys.check(key)):
            self.backend.make_parents(key)
            return cast("StoredPath", self.backend.path(key, self))

    def path_for(self, key: str = "") -> StoredPath:
        """Return the path of a file that is already stored, or of the root. Unlike `path`, this creates nothing."""
        with self.guard("name", key):
            return cast("StoredPath", self.backend.path(key, self))

    def make_folder(self, key: str = "") -> bool:
        """Create a folder, or the root, with its parents. A bucket needs no folders, so nothing happens there.

        Returns:
            Whether the folder is known to be new, and therefore empty.
        """
        with self.guard("make the folder", keys.check(key) if key else None):
            return self.folders and self.backend.make_folder(key)

    def make_folders(self, names: Sequence[str]) -> None:
        """Create several folders, as `make_folder` does."""
        with self.guard("make the folders of", None):
            if self.folders:
                self.backend.make_folders([keys.check(name) for name in names])

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        """Yield a temporary path on a local disk; its file is stored under `key` if the block succeeds.

        The path does not exist yet. It lies in the system's temporary folder (TMPDIR), and its file is streamed to the
        storage. If the store is a local disk, the path is next to its target, and the file is renamed.

        Raises:
            MissingError: The block wrote no file there.
        """
        with ExitStack() as opened:
            with self.guard("make the folders of", keys.check(key)):
                staging = self.backend.stage(key)
            if staging is not None:
                opened.callback(staging.close)
                path = staging.path
            else:
                folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="notata-"))
                path = Path(folder, key.rpartition("/")[2])
            yield path
            self._must_be_file(path, key)
            if staging is not None and not path.is_symlink():
                with self.guard("write", key):
                    staging.publish()
                return
            with self._writer(key) as target, path.open("rb") as source:
                shutil.copyfileobj(source, target, PART)

    def _must_be_file(self, path: Path, key: str) -> None:
        if not path.is_file():
            found = "a folder" if path.is_dir() else "nothing"
            raise MissingError(f"{self.shown(key)}: {found} was left at {path}, not a file", url=self.url, key=key)

    def filesystem(self) -> AbstractFileSystem:
        """Return the underlying fsspec file system, connected in this process. It lacks the store's guarantees."""
        return self.backend.filesystem()

    # -- errors --------------------------------------------------------------------------------------------

    def guard(self, doing: str, key: str | None) -> AbstractContextManager[None]:
        """Translate the backend's errors in a block to ours, each with its cause.

        Args:
            doing: What failed, as in ``cannot <doing> <URL>: …``.
            key: The file, or None for the root.
        """
        return _Guard(self, doing, key)

    def translated(self, error: Exception, doing: str, key: str | None) -> NotataError:
        """Return our error for one of the backend's. `guard`, batches and futures all use this."""
        if isinstance(error, NotataError):
            return error
        if sys.is_finalizing():  # a backend can no longer import what it needs to examine the error
            kind: type[NotataError] = StorageError
            hint = "the interpreter is shutting down"
        else:
            kind, hint = self.backend.failure(error)
            if kind in (UnreachableError, DeadlineError) and not threading.main_thread().is_alive():
                hint += ". The script has ended, and some clients cannot connect after that; make the call earlier"
        ours = kind(f"cannot {doing} {self.shown(key)}: {hint}", url=self.url, key=key)
        ours.__cause__ = self.backend.cause(error)
        return ours

    def _translated_later(self, started: Future[T], doing: str, key: str) -> Future[T]:
        return translated(
            started, lambda error: error if isinstance(error, Warning) else self.translated(error, doing, key)
        )

    def redacted(self, text: str) -> str:
        """Return `text` with secrets redacted: this store's storage options, credentials, and what looks like one."""
        return self.backend.redacted(text)

    def conflict(self, key: str, why: str) -> ConflictError:
        """Return the error for a file that is not as its writer or reader expected."""
        return self.backend.conflict(key, why)

    def shown(self, key: str | None) -> str:
        """Return the URL of a key, without credentials."""
        return self.backend.shown(key)


class _Guard(AbstractContextManager[None]):
    """The block of `Store.guard`: a class, as a generator takes twice the time, and each call of a store has one."""

    __slots__ = ("_doing", "_key", "_store")

    def __init__(self, store: Store, doing: str, key: str | None) -> None:
        self._store, self._doing, self._key = store, doing, key

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        # Do not wrap a warning that the user turned into an error.
        if isinstance(error, Exception) and not isinstance(error, NotataError | Warning):
            raise self._store.translated(error, self._doing, self._key) from self._store.backend.cause(error)
