"""Files on any other fsspec protocol, as well as that protocol can; it knows only fsspec's common calls.

Limits, of which the user is told: nothing there makes a create exclusive, a replacement conditional or a rename
atomic, so two writers of one run id are not told apart for certain. Writes still go aside and are moved into place
whole, and a failed one publishes nothing.
"""

from __future__ import annotations

import hashlib
import posixpath
import secrets
import warnings
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any, Final

import fsspec
from fsspec.asyn import AsyncFileSystem
from fsspec.core import url_to_fs

from notata import keys, limits
from notata.errors import (
    AccessError,
    ConfigurationError,
    MissingError,
    NotataError,
    StorageError,
    UnprotectedWarning,
    UnreachableError,
)
from notata.store import batches
from notata.store.appending import Tail
from notata.store.base import ABSENT, Blob, Entry
from notata.store.files import Upload
from notata.store.in_flight import started_in_thread
from notata.store.remote import Connection, RemoteStore, without_credentials

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem
    from upath import UPath

__all__ = ["CACHES", "GenericStore"]

CACHES: Final = frozenset({"blockcache", "cached", "filecache", "simplecache"})
"""Protocols that keep local copies: what is written through them is seen late, or never."""

_UNKNOWN: Final = -1
"""As a size: the server does not tell."""

_TIMES: Final = ("mtime", "LastModified", "last_modified", "modified", "updated", "created")


class GenericStore(RemoteStore):
    """Files below one URL of any fsspec protocol."""

    swaps = False
    sized = False

    def __init__(self, url: str, options: dict[str, Any], timeout: float) -> None:
        caches = CACHES.intersection(part.partition(":")[0] for part in url.split("::"))
        if caches:
            raise ConfigurationError(
                f"{without_credentials(url)}: runs cannot be written through "
                f"{', '.join(sorted(caches))}, which shows writes late or never; "
                "leave it out of base_dir"
            )
        # The query of a web address is a key to it (a signed URL): it goes with each request, and nowhere else.
        first, mark, rest = url.partition("::")
        web = first.startswith(("http://", "https://"))
        first, _, self._query = first.partition("?") if web else (first, "", "")
        self._web = web
        self._url = first + mark + rest
        self._connect = _Connect(self._url)
        super().__init__(self._url, Connection(self._connect, options, timeout, self._query))

    def _split(self, url: str) -> tuple[str, str]:
        return "", ""

    def _name(self, key: str) -> str:
        root = self._connect.root(self._connection.options)
        name = "/".join(part for part in (root, self._prefix, key) if part)
        return f"{name}?{self._query}" if self._query else name

    def _put(self, key: str, data: bytes, match: str | None) -> str:
        upload = _Moved(self, key, match)
        try:
            upload.write(data)
            return upload.commit()
        except BaseException:
            upload.abort()
            raise

    def _begin(self, key: str, match: str | None) -> Upload:
        return _Moved(self, key, match)

    def _check(self, key: str, match: str | None, *, warn: bool = True) -> None:
        """Look before writing: not a promise, as another writer may come between."""
        if match is None:
            return
        try:
            present = self._stat(key).version
        except FileNotFoundError:
            present = ABSENT
        if match == ABSENT and warn:
            warnings.warn(
                f"{without_credentials(self._url)}: {self._scheme()} cannot make a file exclusively, so nothing there "
                "keeps two writers "
                "from one run id; give each run its own id",
                UnprotectedWarning,
                stacklevel=2,
            )
        if match == ABSENT and present != ABSENT:
            raise FileExistsError(key)
        if match != ABSENT and present != match:
            raise self._conflict(key, "it was changed meanwhile")

    def _scheme(self) -> str:
        return self._url.partition(":")[0]

    def _append(self, key: str, data: bytes, tail: Tail) -> Tail:
        try:
            old = self._get(key, 0, None, None)
        except FileNotFoundError:
            if tail.size:
                raise
            version = self._put(key, data, None)
            return Tail(len(data), version, again=len(data))
        if old.size != tail.size:
            raise self._conflict(key, f"it has {old.size} bytes, not {tail.size}")
        version = self._put(key, old.data + data, old.version)
        return Tail(old.size + len(data), version, again=old.size + len(data))

    def _get(self, key: str, start: int, end: int | None, version: str | None) -> Blob:
        return self._read(self._stat(key), start, end, version)

    def _get_whole(self, key: str, start: int = 0) -> Blob:
        entry, limit = self._stat(key), limits.limit_of(key)
        if limit is None:
            return self._read(entry, start, None, None)
        limits.check_size(self.url, key, entry.size, limit)
        found = self._read(entry, start, None if entry.size >= 0 else start + limit + 1, None)
        limits.check_size(self.url, key, len(found.data), limit)
        return found

    def _read(self, entry: Entry, start: int, end: int | None, version: str | None) -> Blob:
        """Read a range of a file that was looked up."""
        key = entry.key
        if version is not None and entry.version != version:
            raise self._conflict(key, "it was changed while it was read")
        if entry.size == _UNKNOWN:
            data = self._connection.fs.cat_file(self._name(key))
            return Blob(data[start:end], len(data), entry.version)
        if start >= entry.size or (end is not None and end <= start):
            return Blob(b"", entry.size, entry.version)
        whole = not start and end is None
        fs = self._connection.fs
        data = fs.cat_file(self._name(key)) if whole else fs.cat_file(self._name(key), start=start, end=end)
        if len(data) > len(range(entry.size)[start:end]):  # a web server need not know of ranges
            data = data[start:end]
        return Blob(data, entry.size, entry.version)

    def _stream(self, key: str) -> IO[bytes]:
        stream: IO[bytes] = self._connection.fs.open(self._name(key), "rb")  # servers without ranges, and sizes, too
        return stream

    def _stat(self, key: str) -> Entry:
        fs, name = self._connection.fs, self._name(key)
        fs.invalidate_cache()
        info = fs.info(name)
        if info.get("type") == "directory":
            raise IsADirectoryError(name)
        return _entry(key, info)

    def _list(self, folder: str, beginning: str = "") -> Iterator[Entry]:
        fs, name = self._connection.fs, self._name(folder).rstrip("/")
        fs.invalidate_cache()
        try:  # of a web address, what goes wrong at the first request reads as an empty folder if not asked for
            found = fs.find(name, detail=True, **({"on_error": "raise"} if self._web else {}))
        except FileNotFoundError:
            return
        start = len(str(fs._strip_protocol(name)).rstrip("/"))
        for path, info in found.items():
            below = path[start:].lstrip("/")
            if info.get("type") != "directory" and path != name and below.startswith(beginning):
                yield _entry(keys.join(folder, below), info)

    def _delete(self, names: dict[str, str | None]) -> dict[str, Exception]:
        fs = self._connection.fs
        return batches.remove(lambda name: started_in_thread(fs.rm_file, self._name(name)), names)

    def _path(self, key: str) -> UPath:
        from notata.store.paths import RunPath

        first, *rest = self._url.split("::")
        first = f"{first}{self._prefix}" if first.endswith("://") else keys.join(first.rstrip("/"), self._prefix)
        return RunPath.of(self, "::".join((first, *rest)), self._connection.options, key)

    def _cause(self, error: Exception) -> Exception | None:
        return None if self._query else error  # it may tell the whole address

    def _failure(self, error: Exception) -> tuple[type[NotataError], str]:
        if isinstance(error, NotImplementedError):
            return ConfigurationError, f"{self._scheme()} cannot do that; choose another storage"
        return (_failure_of_web(error) if self._web else None) or super()._failure(error)


def _failure_of_web(error: Exception) -> tuple[type[NotataError], str] | None:
    """Which of our errors it is that a web address cannot be read: fsspec says of most that nothing is there."""
    from aiohttp import ClientConnectionError, ClientResponseError

    if isinstance(error, FileNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    status = error.status if isinstance(error, ClientResponseError) else 0
    if status in (404, 410):
        return MissingError, "there is no such file"
    if status in (401, 403):
        return AccessError, f"the server refused it ({status}); check the address, and whether a signature has expired"
    if status:
        return StorageError, f"the server answered {status}"
    if isinstance(error, ClientConnectionError) and not isinstance(error, TimeoutError):
        return UnreachableError, "nobody answers there; check the address and the network"
    return None


class _Connect:
    """Makes the file system of a URL, and knows where in it the URL points: others may point elsewhere in the same."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._root: str | None = None

    def __call__(self, options: dict[str, Any]) -> AbstractFileSystem:
        fs, root = url_to_fs(self._url, **options)
        self._root = str(root).rstrip("/")
        return fs

    def root(self, options: dict[str, Any]) -> str:
        if self._root is None:
            self(options)
        return self._root or ""


class _Moved:
    """A streamed write: aside, then moved into place."""

    def __init__(self, store: GenericStore, key: str, match: str | None) -> None:
        self._store = store
        self._key = key
        self._match = match
        store._check(key, match)
        self._fs = store.filesystem()
        self._target = store._name(key)
        folder = posixpath.dirname(self._target)
        self._aside = f"{folder}/{keys.RESERVED}{secrets.token_hex(8)}"
        with suppress(NotImplementedError, FileExistsError):
            self._fs.makedirs(folder, exist_ok=True)
        self._file: IO[bytes] = self._fs.open(self._aside, "wb")

    def write(self, part: bytes) -> None:
        self._file.write(part)

    def commit(self) -> str:
        self._file.close()
        self._store._check(self._key, self._match, warn=False)
        if _moves(self._fs):
            self._fs.mv(self._aside, self._target)
        else:
            self._fs.cp_file(self._aside, self._target)
            self._fs.rm_file(self._aside)
        return self._store._stat(self._key).version

    def abort(self) -> None:
        for step in (self._file.close, lambda: self._fs.rm_file(self._aside)):
            with suppress(Exception):  # hidden from listings, and the next owner sweeps it
                step()


def _moves(fs: AbstractFileSystem) -> bool:
    """Whether the protocol has a move of its own; fsspec's default expands globs, copies and removes."""
    mine = type(fs).mv
    return mine is not fsspec.AbstractFileSystem.mv and mine is not AsyncFileSystem.mv


def _entry(key: str, info: dict[str, Any]) -> Entry:
    stamp = next((info[name] for name in _TIMES if info.get(name) is not None), 0)
    size = int(info["size"]) if info.get("size") is not None else _UNKNOWN
    mark = info.get("ETag") or info.get("etag") or info.get("generation") or f"{info.get('ino')}-{stamp}-{size}"
    return Entry(key, size, _time(stamp), hashlib.sha256(str(mark).encode()).hexdigest()[:16])


def _time(stamp: object) -> datetime:
    if isinstance(stamp, datetime):
        return stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)
    if isinstance(stamp, int | float):
        return datetime.fromtimestamp(stamp, UTC)
    try:
        parsed = datetime.fromisoformat(str(stamp))
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
