"""Files on any other fsspec protocol, through fsspec's common calls, with the guarantees that the protocol allows.

The user is warned of the limits: a create is not exclusive and a replacement not conditional, so notata cannot reliably
detect two writers with one run id. A write goes to a hidden name and is moved into place as a whole (see
``publishing.py``), and a failed write publishes nothing.
"""

from __future__ import annotations

import builtins
import hashlib
import inspect
import posixpath
import warnings
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

import fsspec
from fsspec.asyn import AsyncFileSystem
from fsspec.core import get_filesystem_class, split_protocol, url_to_fs

from notata._base import keys, limits
from notata.errors import ConfigurationError, KeyNameError, NotataError, StorageError, UnprotectedWarning
from notata.store import batches
from notata.store.appending import Tail
from notata.store.backend import ABSENT
from notata.store.backends import web
from notata.store.backends.client_errors import class_names, failure_of_client, is_dropped
from notata.store.backends.clients import Client, ClientConnection, ClientFile
from notata.store.backends.http_errors import failure_of_tls
from notata.store.backends.publishing import Step, make_folder, move_over, step_of, unfinished_in, write_hidden
from notata.store.backends.remote import RemoteBackend, without_credentials
from notata.store.entries import Blob, Entry
from notata.store.files import PART, Upload
from notata.store.gaps import Gap, folder_or_gap, gap_or
from notata.store.in_flight import started_in_thread

if TYPE_CHECKING:
    import io

    from fsspec import AbstractFileSystem
    from upath import UPath

    from notata.store.store import Store

__all__ = ["CACHES", "GenericBackend"]

CACHES: Final = frozenset({"blockcache", "cached", "filecache", "simplecache"})
"""Protocols that keep local copies: files written through them appear late, or never."""

_UNKNOWN: Final = -1
"""Size of a file whose server does not report it."""

_TIMES: Final = ("mtime", "LastModified", "last_modified", "modified", "modify", "updated", "created")

_MARKS: Final = ("ETag", "etag", "generation")

_MANY: Final = 20  # requests that one listing call may make, for its time limit

_GAPS: Final[dict[Step, str]] = {
    "rename": "",
    "server": "the server decides whether a file is replaced in one step; some servers delete the old file first, so "
    "that it is missing for a moment",
    "copy": "{scheme} has no rename, so the new content is copied over the old one: readers may see a part of it, and "
    "a failed copy loses the old content",
}
"""Description of what readers may see while a file is replaced, by kind of step."""

_MISREAD: Final = {
    **dict.fromkeys(("abfs", "abfss", "az"), "?"),  # a version begins there
    **dict.fromkeys(("webdav", "dav"), "#%?"),  # parts of a URL
    "smb": '"*:<>?|',  # not allowed in names on Windows; a colon starts the name of a stream
}
"""By protocol, characters in names that its client or server interprets."""

_DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    "smb": {"share_access": "rwd", "register_session_retries": 0},  # readers exclude no one; a wrong host fails soon
}
"""By protocol, options that let files be shared and errors be reported in time."""


class GenericBackend(RemoteBackend):
    """Files below one URL of any fsspec protocol."""

    supports_exclusive_create = False
    supports_cas = False
    sized = False
    leaves_unfinished = True
    _connection: ClientConnection

    def __init__(self, url: str, options: dict[str, Any], timeout: float) -> None:
        caches = CACHES.intersection(part.partition(":")[0] for part in url.split("::"))
        if caches:
            raise ConfigurationError(
                f"{without_credentials(url)}: cannot write runs through {', '.join(sorted(caches))}, which makes "
                "writes visible late or never; leave it out of base_dir"
            )
        # The query of a web address is its key (a signed URL): it goes with each request, and nowhere else.
        first, mark, rest = url.partition("::")
        web = first.startswith(("http://", "https://"))
        first, _, self._query = first.partition("?") if web else (first, "", "")
        self._web = web
        self._url = first + mark + rest
        self._connect = _Connect(self._url)
        options = _DEFAULTS.get(self._scheme(), {}) | options
        super().__init__(
            self._url, ClientConnection(self._connect, options, timeout, self._query, host=self._connect.host)
        )

    def _split(self, url: str) -> tuple[str, str]:
        return "", ""

    def _name(self, key: str) -> str:
        if misread := set(_MISREAD.get(self._scheme(), "")) & set(key):
            characters = " ".join(sorted(misread))
            raise KeyNameError(
                f"{self.shown(key)} cannot be a name over {self._scheme()}: its client interprets {characters}, "
                "and would write another file; choose another name",
                url=self.url,
                key=key,
            )
        root = self._connect.root(self._connection.options)
        name = "/".join(part for part in (root, self._prefix, key) if part)
        return f"{name}?{self._query}" if self._query else name

    def filesystem(self) -> AbstractFileSystem:
        return cast("AbstractFileSystem", self._connection.client)

    @property
    def gap(self) -> str:
        if self._connection.has_exchanged:
            return f"{self._scheme()} cannot rename over a file, so a file that is replaced is missing for a moment"
        return _GAPS[step_of(self._connection.client.fs)].format(scheme=self._scheme())

    def _move(self, client: Client, source: str, target: str) -> None:
        if not client.call(move_over, client.fs, source, target):
            self._connection.has_exchanged = True

    def put(self, key: str, data: bytes, match: str | None) -> str:
        self._check(key, match)
        return self._connection.run_with(
            lambda client: self._publish(client, key, data, match), repeatable=match is None
        )

    def _publish(self, client: Client, key: str, data: bytes, match: str | None) -> str:
        target = self._name(key)
        hidden = unfinished_in(posixpath.dirname(target))
        try:
            client.call(write_hidden, client.fs, hidden, data, size=len(data))
            self._check(key, match, warn=False)
            self._move(client, hidden, target)
        except BaseException:
            with suppress(Exception):  # listings hide it, and the next owner removes it
                client.call(client.fs.rm_file, hidden)
            raise
        return self.stat(key).version

    def begin_upload(self, key: str, match: str | None) -> Upload:
        return _Moved(self, key, match)

    def _check(self, key: str, match: str | None, *, warn: bool = True) -> None:
        """Check the condition before a write. This is no guarantee, as another writer may come between."""
        if match is None:
            return
        try:
            present = self.stat(key).version
        except FileNotFoundError:
            present = ABSENT
        if match == ABSENT and warn:
            warnings.warn(
                f"{without_credentials(self._url)}: exclusive writes are not supported over {self._scheme()}: notata "
                "checks for a file and then writes it, so two writers may get the same run id. Give each run its "
                "own id.",
                UnprotectedWarning,
                stacklevel=2,
            )
        if match == ABSENT and present != ABSENT:
            raise FileExistsError(key)
        if match != ABSENT and present != match:
            raise self.conflict(key, "another writer changed it")

    def _scheme(self) -> str:
        return self._url.partition(":")[0]

    def append(self, key: str, data: bytes, tail: Tail) -> Tail:
        try:
            old = self.get(key, 0, None, None)
        except FileNotFoundError:
            if tail.size:
                raise
            version = self.put(key, data, None)
            return Tail(len(data), version, again=len(data))
        if old.size != tail.size:
            raise self.conflict(key, f"its size is {old.size} bytes, not {tail.size}")
        version = self.put(key, old.data + data, old.version)
        return Tail(old.size + len(data), version, again=old.size + len(data))

    def get(self, key: str, start: int, end: int | None, version: str | None = None, limit: int | None = None) -> Blob:
        return self._connection.run_with(lambda client: self._get_by(client, key, start, end, version, limit))

    def _get_by(
        self, client: Client, key: str, start: int, end: int | None, version: str | None, limit: int | None
    ) -> Blob:
        entry = self._stat_by(client, key)
        if version is not None and entry.version != version:
            raise self.conflict(key, "it changed while it was read")
        if end is not None or limit is None:
            return self._read_by(client, entry, start, end)
        limits.check_size(self.url, key, entry.size, limit)
        found = self._read_by(client, entry, start, None if entry.size >= 0 else start + limit + 1)
        limits.check_size(self.url, key, len(found.data), limit)
        return found

    def _read_by(self, client: Client, entry: Entry, start: int, end: int | None) -> Blob:
        """Read a range of a file that was looked up, never more than its size, whatever a server sends."""
        name = self._name(entry.key)
        if entry.size == _UNKNOWN:  # one byte more, so that the caller can detect that the file goes on
            data = client.call(_read, client.fs, name, start, None if end is None else end + 1)
            return Blob(data if end is None else data[: end - start], start + len(data), entry.version)
        wanted = len(range(entry.size)[start:end])
        end = entry.size if self._web and end is None else end
        data = client.call(_read, client.fs, name, start, end, size=wanted) if wanted else b""
        return Blob(data, entry.size, entry.version)

    def open_read(self, key: str, *, once: bool = False) -> IO[bytes] | None:
        """Open a file of a web server: one request for all of it, or a download if the server has no ranges."""
        if not self._web:
            return None
        if once:
            opened = self._connection.run_with(lambda client: client.open(self._name(key), "rb"))
            return cast("IO[bytes]", opened)
        return self._connection.run_with(partial(self._whole_of_web, key))

    def _whole_of_web(self, key: str, client: Client) -> io.BufferedReader | None:
        entry, name = self._stat_by(client, key), self._name(key)
        if entry.size != _UNKNOWN and (entry.size <= PART or client.call(web.has_ranges, client.fs, name)):
            return None
        with client.open(name, "rb", block_size=0) as reader:
            return web.fetched_once(cast("IO[bytes]", reader))

    def stat(self, key: str) -> Entry:
        return self._connection.run_with(lambda client: self._stat_by(client, key))

    def _stat_by(self, client: Client, key: str) -> Entry:
        name = self._name(key)
        client.invalidate_cache()
        info = client.call(client.fs.info, name)
        if info.get("type") == "directory":
            raise IsADirectoryError(name)
        return self._entry(key, info)

    def has_folder(self, key: str) -> bool:
        if self._web:
            return super().has_folder(key)
        try:
            self.stat(key)
        except IsADirectoryError:
            return True
        except (FileNotFoundError, NotADirectoryError):
            pass
        return False

    def list(self, folder: str, beginning: str = "") -> Iterator[Entry | Gap]:
        self._connection.client.invalidate_cache()
        by_folders = not self._web and _lists_by_folders(self._connection.client.fs)
        for found in self._walk(folder, beginning) if by_folders else self._find(folder):
            if isinstance(found, Gap):
                yield found
                continue
            key, info = found
            below = key[len(folder) + 1 :] if folder else key
            if below.startswith(beginning):
                yield gap_or(self._entry(key, info), removable=False)

    def _walk(self, folder: str, beginning: str = "") -> Iterator[tuple[str, dict[str, Any]] | Gap]:
        """Yield each file below a folder, with one request per folder, each with its own time limit."""
        waiting = [folder]
        while waiting:
            inside = waiting.pop()
            name = self._name(inside).rstrip("/") or "/"
            try:
                found = self._connection.run_with(partial(_listed_by, name))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except PermissionError as error:
                if inside == folder:
                    raise
                yield Gap(inside, error)
                continue
            for info in found:
                last = posixpath.basename(str(info["name"]).rstrip("/"))
                itself = info["name"].rstrip("/") == name and info["type"] != "directory"
                if itself or (inside == folder and not last.startswith(beginning)):
                    continue
                key = keys.join(inside, last)
                if info["type"] == "directory":
                    waiting.append(key)
                else:
                    yield key, info

    def folder_names(self, folder: str, beginning: str = "") -> Iterator[str | Gap]:
        if self._web:  # its listings are pages, which `list` checks
            yield from super().folder_names(folder, beginning)
            return
        self._connection.client.invalidate_cache()
        name = self._name(folder).rstrip("/") or "/"
        try:
            found = self._connection.run_with(partial(_listed_by, name, many=_MANY))
        except (FileNotFoundError, NotADirectoryError):
            return
        for info in found:
            last = posixpath.basename(str(info["name"]).rstrip("/"))
            if info["type"] == "directory" and last.startswith(beginning):
                yield folder_or_gap(folder, last)

    def _find(self, folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield each file below a folder, with the protocol's own call for it."""
        name = self._name(folder).rstrip("/")
        # for a web address, an error of the first request looks like an empty folder unless on_error="raise"
        options = {"detail": True, **({"on_error": "raise"} if self._web else {})}
        try:
            found = self._connection.run_with(lambda client: client.call(_found, client.fs, name, options, many=_MANY))
            start = len(str(self._connection.client.fs._strip_protocol(name)).rstrip("/"))
            if self._web and all(path == name for path in found):
                self._connection.run_with(lambda client: client.call(web.check_is_list, client.fs, name))
        except FileNotFoundError:
            return
        for path, info in found.items():
            if info.get("type") != "directory" and path != name:
                yield keys.join(folder, path[start:].lstrip("/")), info

    def delete(self, names: dict[str, str | None]) -> dict[str, Exception]:
        def remove(key: str) -> None:
            self._connection.run_with(lambda client: self._delete_by(client, key, names[key]))

        return batches.remove(lambda key: started_in_thread(remove, key), names)

    def _delete_by(self, client: Client, key: str, version: str | None) -> None:
        if version is not None and self._stat_by(client, key).version != version:
            return
        try:
            client.call(client.fs.rm_file, self._name(key))
        except Exception as error:  # a missing file is no failure, but each library reports it differently
            if is_dropped(error, client.fs) or self._is_there(client, key):
                raise

    def _is_there(self, client: Client, key: str) -> bool:
        """Check whether a file exists; fsspec's `exists` returns False if it cannot find out."""
        try:
            self._stat_by(client, key)
        except FileNotFoundError:
            return False
        return True

    def _entry(self, key: str, info: dict[str, Any]) -> Entry:
        size = int(info["size"]) if info.get("size") is not None else _UNKNOWN
        return Entry(key, size, _time(_stamp(info)), self._version(info))

    def _version(self, info: dict[str, Any]) -> str:
        """Return a text that differs for different content, as far as the protocol reports it."""
        mark = next((info[name] for name in _MARKS if info.get(name)), None)
        mark = mark or f"{info.get('ino') or info.get('unique')}-{_stamp(info)}-{info.get('size')}"
        return hashlib.sha256(str(mark).encode()).hexdigest()[:16]

    def path(self, key: str, store: Store) -> UPath:
        from notata.store.paths import RunPath

        return RunPath.of(store, _below(self._url, self._prefix), self._connection.options, key)

    def shown(self, key: str | None) -> str:
        return _below(self.url, key or "")

    def cause(self, error: Exception) -> Exception | None:
        return None if self._query else super().cause(error)  # the cause may contain the whole address

    def failure(self, error: Exception) -> tuple[type[NotataError], str]:
        if isinstance(error, NotImplementedError):
            return ConfigurationError, f"{self._scheme()} does not support this operation; choose another storage"
        known = failure_of_tls(error) or (web.failure_of_web(error) if self._web else failure_of_client(error))
        return known or super().failure(error)


def _below(url: str, key: str) -> str:
    """Return the URL of a key below that of a folder. In a chain, the key goes to the first link with a path.

    >>> _below("zip://in::s3://bucket/runs.zip", "log_a")
    'zip://in/log_a::s3://bucket/runs.zip'
    """
    if not key:
        return url
    links = url.split("::")
    at = next((at for at, link in enumerate(links) if "://" in link), 0)
    links[at] = f"{links[at]}{key}" if links[at].endswith("://") else f"{links[at].rstrip('/')}/{key}"
    return "::".join(links)


def _read(fs: AbstractFileSystem, name: str, start: int, end: int | None) -> bytes:
    """Read a range of a file; some protocols support no ranges, and some refuse one that starts at 0."""
    if "HTTPFileSystem" in class_names(fs):
        return web.read_range(fs, name, start, end)
    if "FTPFileSystem" in class_names(fs):
        return _read_by_ftp(fs, name, start, end)
    if not start and end is None and not hasattr(getattr(fs, "ftp", None), "getfo"):
        return cast("bytes", fs.cat_file(name))
    if isinstance(fs, AsyncFileSystem) and not _ignores_ranges(fs):
        data: bytes = fs.cat_file(name, start=start, end=end)
        return data
    with fs.open(name, "rb") as file:
        if hasattr(file, "readv"):  # paramiko: all requests at once
            size = file.stat().st_size
            return b"".join(file.readv([(start, len(range(size)[start:end]))]))
        if start:
            file.seek(start)
        return _exactly(file, None if end is None else end - start)


def _read_by_ftp(fs: AbstractFileSystem, name: str, start: int, end: int | None) -> bytes:
    """Read a range of a file by FTP, which supports only a start; at the end, the data connection is closed.

    fsspec would then wait for two replies, but servers send one.
    """
    from ftplib import Error

    fs.ftp.voidcmd("TYPE I")
    with fs.ftp.transfercmd(f"RETR {fs._strip_protocol(name)}", rest=start or None) as data:
        found = _exactly(data.makefile("rb"), None if end is None else end - start)
        is_whole = end is None or len(found) < end - start
    try:
        fs.ftp.voidresp()
    except Error:  # "transfer aborted"
        if is_whole:
            raise
    return found


def _exactly(file: IO[bytes], size: int | None) -> bytes:
    """Read `size` bytes, or all that there are: one read of a raw file may return fewer."""
    parts, left = [], size
    while left is None or left > 0:
        part = file.read() if left is None else file.read(left)  # pyarrow's read accepts no -1
        if not part:
            break
        parts.append(part)
        left = None if left is None else left - len(part)
    return b"".join(parts)


def _ignores_ranges(fs: AbstractFileSystem) -> bool:
    """Check whether an asynchronous `cat_file` accepts a range but reads the whole file, as that of sshfs does."""
    return "start" not in inspect.signature(fs._cat_file).parameters


def _lists_by_folders(fs: AbstractFileSystem) -> bool:
    """Check whether fsspec's own `find` would list one folder after the other."""
    if type(fs).find is not fsspec.AbstractFileSystem.find:
        return False
    return not isinstance(fs, AsyncFileSystem) or type(fs)._find is AsyncFileSystem._find


def _listed_by(name: str, client: Client, *, many: int = 1) -> builtins.list[dict[str, Any]]:
    return client.call(_listed, client.fs, name, many=many)


def _listed(fs: AbstractFileSystem, name: str) -> builtins.list[dict[str, Any]]:
    """List one folder; a file that is removed meanwhile is left out."""
    try:
        return cast("list[dict[str, Any]]", fs.ls(name, detail=True))
    except FileNotFoundError:
        infos = []
        for path in fs.ls(name, detail=False):
            with suppress(FileNotFoundError):
                infos.append(fs.info(path))
        return infos


def _found(fs: AbstractFileSystem, name: str, options: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what `find` finds, with details; adlfs returns a list of names if the name is also that of a file."""
    found = fs.find(name, **options)
    return found if isinstance(found, dict) else {path: fs.info(path) for path in found}


class _Connect:
    """Makes the file system of a URL, and knows the root path of that URL in it.

    Attributes:
        host: Equal for URLs that may share a file system: scheme and host, or the whole URL of a chain.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._root: str | None = None
        split = urlsplit(url)
        self.host = url if "::" in url else f"{split.scheme}://{split.netloc}"

    def __call__(self, options: dict[str, Any]) -> AbstractFileSystem:
        if self._url.startswith(("http://", "https://")):
            from notata.store.backends.web_pages import with_limit  # aiohttp

            options = with_limit(options)
        fs, root = url_to_fs(self._url, **options)
        self._root = str(root).rstrip("/")
        return fs

    def root(self, options: dict[str, Any]) -> str:
        if self._root is None:
            if "::" in self._url:
                self(options)
            else:
                kind = get_filesystem_class(split_protocol(self._url)[0])
                self._root = str(kind._strip_protocol(self._url)).rstrip("/")
        return self._root or ""


class _Moved:
    """A streamed write: to a hidden name, then moved into place."""

    def __init__(self, backend: GenericBackend, key: str, match: str | None) -> None:
        self._backend = backend
        self._key = key
        self._match = match
        backend._check(key, match)
        self._target = backend._name(key)
        self._hidden = unfinished_in(posixpath.dirname(self._target))
        self._size = 0
        self._client, self._file = backend._connection.run_with(self._opened)

    def _opened(self, client: Client) -> tuple[Client, ClientFile]:
        client.call(make_folder, client.fs, posixpath.dirname(self._target))
        file = client.open(self._hidden, "wb")
        with suppress(AttributeError):
            file.set_pipelined()  # paramiko: send parts without waiting for each reply
        return client, file

    def write(self, part: bytes) -> None:
        self._file.write(part)
        self._size += len(part)

    def commit(self) -> str:
        self._file.close()
        info = self._client.call(self._client.fs.info, self._hidden)
        stored = self._backend._entry(self._key, info).size
        if stored not in (self._size, _UNKNOWN):
            raise StorageError(
                f"the storage has only {stored} of {self._size} bytes; check for free space and write the file again"
            )
        self._backend._check(self._key, self._match, warn=False)
        self._backend._move(self._client, self._hidden, self._target)
        return self._backend.stat(self._key).version

    def abort(self) -> None:
        for step in (self._file.abandon, partial(self._client.call, self._client.fs.rm_file, self._hidden)):
            with suppress(Exception):  # listings hide it, and the next owner removes it
                step()


def _stamp(info: dict[str, Any]) -> object:
    return next((info[name] for name in _TIMES if info.get(name) is not None), 0)


def _time(stamp: object) -> datetime:
    if isinstance(stamp, datetime):
        return stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)
    if isinstance(stamp, int | float):
        return datetime.fromtimestamp(stamp, UTC)
    text = str(stamp)
    if text[:14].isdecimal():  # FTP's are 20260131235959.123
        text = f"{text[:8]}T{text[8:]}"
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
