"""Objects in a Google Cloud Storage bucket, through gcsfs, and the GCS request behind each guarantee.

A simple upload is atomic by itself. ``ifGenerationMatch=0`` makes it exclusive, a generation makes it a
compare-and-swap. Requests use gcsfs's `call`: its own uploads accept no generation, and separate
the parts of the body with a fixed boundary that the content itself may contain.
"""

from __future__ import annotations

import asyncio
import base64
import builtins
import json
import logging
import os
import re
import secrets
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

from notata._base import keys
from notata.errors import (
    AccessError,
    ConfigurationError,
    ContainerMissingError,
    MissingError,
    NotataError,
    StorageError,
    UnreachableError,
)
from notata.store import batches
from notata.store.appending import Tail
from notata.store.backend import ABSENT, Backend
from notata.store.backends.gcs_refusals import asking, session_options
from notata.store.backends.http_errors import WebPageError, failure_of_page, failure_of_reply, failure_of_tls
from notata.store.backends.patience import current
from notata.store.backends.remote import BucketBackend, Connection
from notata.store.entries import Blob, Entry
from notata.store.files import Upload
from notata.store.gaps import Gap, folder_or_gap, gap_or
from notata.store.unfinished import new_name

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem
    from upath import UPath

    from notata.store.store import Store

__all__ = ["GCSBackend", "connect"]

_TOKEN: Final = "notata-write"
_REWRITTEN: Final = 2**20  # an append to a smaller object rewrites it in 2 requests; composing takes 4
_QUOTA: Final = re.compile(r"(?i)\bquota ?exceeded|\bexceeds? .*\bquota\b")
"""Matches gcsfs's text of a 403; gcsfs keeps the message of the response, but not its reason code."""
_FOR_NOW: Final = (429, 503)  # https://cloud.google.com/storage/docs/retry-strategy


def connect(options: dict[str, Any]) -> AbstractFileSystem:
    """Return a gcsfs file system without cached listings, which would hide another client's new files.

    This is gcsfs's plain file system. The extended one first asks a gRPC endpoint for the type of each bucket, and
    hangs for a minute if nothing listens there. GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT=true (zonal buckets) selects it.
    """
    if os.environ.get("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "").lower() in ("true", "1"):
        from gcsfs import GCSFileSystem
    else:
        from gcsfs.core import GCSFileSystem
    token = options.get("token")
    if isinstance(token, str) and token.endswith(".json") and not os.path.exists(token):  # gcsfs would send it as token
        raise ConfigurationError("storage option 'token' names a key file that does not exist; correct the path")
    logging.getLogger("gcsfs").addFilter(_beyond_end)
    session = session_options(options.get("session_kwargs"))
    fs = GCSFileSystem(**{"use_listings_cache": False, **options, "session_kwargs": session})
    fs._request = _patient(type(fs)._request.__wrapped__, fs)
    return fs


class _BusyError(Exception):
    """GCS throttled a request until its time limit. gcsfs does not repeat it."""

    def __init__(self, code: int) -> None:
        super().__init__(f"GCS asks for fewer requests ({code})")
        self.code = code


def _patient(once: Callable[..., Coroutine[Any, Any, Any]], fs: AbstractFileSystem) -> Callable[..., Any]:
    """Wrap gcsfs's method for one request, to repeat throttled requests until the time limit.

    gcsfs does so too, but waits up to 16 seconds between two attempts. Its other retries remain unchanged.
    """
    from gcsfs.retry import HttpError, retry_request

    async def request(*args: Any, **kwargs: Any) -> Any:
        while True:
            try:
                return await once(fs, *args, **kwargs)
            except HttpError as error:
                patience = current.get()
                if _status(error) not in _FOR_NOW or patience is None:
                    raise
                seconds = patience.pause()
                if seconds is None:
                    raise _BusyError(_status(error)) from error
            await asyncio.sleep(seconds)

    return retry_request(retries=type(fs).retries)(request)  # type: ignore[no-any-return]


def _beyond_end(record: logging.LogRecord) -> bool:
    """Suppress gcsfs's traceback for a range of an empty file (416), which is a normal response."""
    return not (record.exc_info and record.exc_info[1] and _status(record.exc_info[1]) == 416)


class GCSBackend(BucketBackend):
    """Files below one prefix of a GCS bucket."""

    leaves_unfinished = True
    version_name = "generation"

    def __init__(self, url: str, options: dict[str, Any], timeout: float) -> None:
        super().__init__(url, Connection(connect, options, timeout))
        if not self._bucket:
            raise ConfigurationError(f"{url} does not name a bucket; write gs://bucket/folder")

    def _call(self, method: str, path: str, *names: str, **arguments: Any) -> Any:
        return self._connection.run(self._ask, method, path, *names, **arguments)

    async def _ask(self, method: str, path: str, *names: str, **arguments: Any) -> Any:
        """Make one request. `names` are quoted into the path; arguments unknown to gcsfs become query parameters.

        `size` is the number of bytes that it sends.
        """
        call = self._connection.fs._call
        with asking():
            answer = await self._connection.ask(call, method, path, self._bucket, *names, **arguments)
        if isinstance(answer, tuple) and _is_web_page(*answer):
            raise WebPageError()
        return answer

    def _address(self, service: str) -> str:
        """Return the root URL of ``upload`` or ``download``, which the JSON API has one each for."""
        base: str = self._connection.fs.base
        return f"{base.removesuffix('/storage/v1/')}/{service}/storage/v1/b/{{}}/o"

    # -- write ---------------------------------------------------------------------------------------------

    def put(self, key: str, data: bytes, match: str | None) -> str:
        with self._bucket_needed(key):
            return self._put(key, data, match)

    def _put(self, key: str, data: bytes, match: str | None) -> str:
        token = "" if match is None else secrets.token_hex(16)
        try:
            return self._connection.run(self._upload, self._name(key), data, match, token)
        except FileExistsError as error:  # gcsfs's error for 412
            return str(self._refused(error, key, match, token)["generation"])

    async def _send(self, key: str, data: bytes) -> str:
        with self._bucket_needed(key):
            return await self._upload(self._name(key), data, None, "")

    async def _upload(self, name: str, data: bytes, match: str | None, token: str) -> str:
        from gcsfs.core import UnclosableBytesIO

        kind = self._content_type(name)
        resource: dict[str, Any] = {"name": name, "contentType": kind}
        if token:
            resource["metadata"] = {_TOKEN: token}
        mark = f"notata-{secrets.token_hex(16)}".encode()
        head = b"--%s\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n%s\r\n--%s\r\nContent-Type: %s\r\n\r\n"
        body = head % (mark, json.dumps(resource).encode(), mark, kind.encode()) + data + b"\r\n--%s--" % mark
        reply = await self._ask(
            "POST",
            self._address("upload"),
            size=len(body),
            uploadType="multipart",
            headers={"Content-Type": f"multipart/related; boundary={mark.decode()}"},
            data=UnclosableBytesIO(body),  # aiohttp warns about large bytes; gcsfs rewinds it for a retry
            json_out=True,
            ifGenerationMatch=None if match is None else match or "0",
        )
        return str(reply["generation"])

    def _refused(self, error: Exception, key: str, match: str | None, token: str) -> dict[str, Any]:
        """Handle a refused conditional write: return our own object if an earlier try succeeded, else raise."""
        with suppress(FileNotFoundError):
            found = self._connection.run(self._look_up, self._name(key))
            if found.get("metadata", {}).get(_TOKEN) == token:
                return found
        if match == ABSENT:
            raise FileExistsError(key) from error
        raise self.conflict(key, "another writer changed it") from error

    def copies_from(self, source: Backend) -> bool:
        return isinstance(source, GCSBackend) and source._connection.fs is self._connection.fs

    def copy_on_server(self, key: str, source: Backend, entry: Entry, match: str | None) -> str | None:
        """See `Backend`. A large file may take several requests."""
        if not isinstance(source, GCSBackend):
            return None
        token, progress = secrets.token_hex(16), None
        try:
            while True:
                reply: dict[str, Any] = source._call(
                    "POST",
                    "b/{}/o/{}/rewriteTo/b/{}/o/{}",
                    source._name(entry.key),
                    self._bucket,
                    self._name(key),
                    size=entry.size,
                    ifGenerationMatch=None if match is None else match or "0",
                    ifSourceGenerationMatch=entry.version,
                    rewriteToken=progress,
                    json={"contentType": self._content_type(key), "metadata": {_TOKEN: token}},
                    json_out=True,
                )
                if reply.get("done", True):
                    return self._copied(key, reply["resource"], entry)
                progress = reply["rewriteToken"]
        except FileExistsError as error:  # gcsfs's error for 412
            with suppress(FileExistsError):
                return str(self._refused(error, key, match, token)["generation"])
            raise self.conflict(key, "another writer changed it, or its source") from error

    def _copied(self, key: str, stored: dict[str, Any], entry: Entry) -> str:
        """Return the version of a copy. An emulator may have copied another version than the one of `entry`."""
        digest = stored_digest(stored)
        if digest.partition(":")[0] == entry.digest.partition(":")[0] and digest != entry.digest:
            raise self.conflict(key, "another writer changed its source")
        return str(stored["generation"])

    def begin_upload(self, key: str, match: str | None) -> Upload:
        with self._bucket_needed(key):
            return _Resumable(self, key) if match is None else _HiddenUpload(self, key)

    def append(self, key: str, data: bytes, tail: Tail) -> Tail:
        if tail.size > _REWRITTEN:
            return Tail(tail.size + len(data), self._extend(key, data, tail))
        if tail.content is None:
            tail = self._small(key, tail)
        whole = (tail.content or b"") + data
        with self._bucket_needed(key) if tail.version == ABSENT else nullcontext():
            version = self._put(key, whole, tail.version or ABSENT)
        return Tail(len(whole), version, whole, len(whole)) if len(whole) <= _REWRITTEN else Tail(len(whole), version)

    def _extend(self, key: str, data: bytes, tail: Tail) -> str:
        """Extend a large object on the server: upload the new data to a temporary object and compose both."""
        version = tail.version or self._version_at(key, tail.size)
        hidden = self._hidden_name(key)
        try:
            self._connection.run(self._upload, hidden, data, None, "")
            reply = self._compose(key, [self._name(key), hidden], version)
            if int(reply["size"]) != tail.size + len(data):
                # An emulator that ignores conditions: the object was not the expected one, or it composed twice.
                return self._mended(key, data, tail, str(reply["generation"]))
            return str(reply["generation"])
        finally:
            self._remove_quietly(hidden)

    def _mended(self, key: str, data: bytes, tail: Tail, version: str) -> str:
        whole = self.get(key, 0, tail.size, None).data + data
        return self._connection.run(self._upload, self._name(key), whole, version, "")

    def _hidden_name(self, key: str) -> str:
        return self._name(keys.join(key.rpartition("/")[0], new_name()))

    def _compose(self, key: str, sources: builtins.list[str], match: str) -> dict[str, Any]:
        token = secrets.token_hex(16)
        try:
            composed: dict[str, Any] = self._call(
                "POST",
                "b/{}/o/{}/compose",
                self._name(key),
                ifGenerationMatch=match or "0",
                json={
                    "sourceObjects": [{"name": source} for source in sources],
                    "destination": {"contentType": self._content_type(key), "metadata": {_TOKEN: token}},
                },
                json_out=True,
            )
        except FileExistsError as error:
            return self._refused(error, key, match, token)
        return composed

    def _remove_quietly(self, name: str) -> None:
        with suppress(Exception):  # listings hide it, and the next owner removes it
            self._call("DELETE", "b/{}/o/{}", name)

    # -- read ----------------------------------------------------------------------------------------------

    async def _range(self, key: str, start: int, end: int, version: str | None) -> Blob:
        if end <= start:
            return await self._nothing(key)
        try:
            answer, data = await self._ask(
                "GET",
                f"{self._address('download')}/{{}}",
                self._name(key),
                alt="media",
                headers={"Range": f"bytes={start}-{end - 1}"},
                generation=version,
            )
        except FileNotFoundError as error:
            if version is not None:
                await self._nothing(key)
                raise self.conflict(key, "it changed while it was read") from error
            raise
        except Exception as error:
            if _status(error) == 416 or "not satisfiable" in str(error):  # the file is empty, or ends earlier
                return await self._nothing(key)
            raise
        whole = answer.get("Content-Range", "").rpartition("/")[2]
        size = int(whole) if whole.isdigit() else len(data)
        modified = answer.get("Last-Modified")
        written = self._connection.age(parsedate_to_datetime(modified), answer) if modified else None
        return Blob(data, size, str(answer["x-goog-generation"]), written)

    async def _nothing(self, key: str) -> Blob:
        entry = _entry(key, await self._look_up(self._name(key)))
        return Blob(b"", entry.size, entry.version)

    async def _look_up(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = await self._ask("GET", "b/{}/o/{}", name, json_out=True)
        return found

    def stat(self, key: str) -> Entry:
        return _entry(key, self._connection.run(self._look_up, self._name(key)))

    def has_file(self, key: str) -> bool:
        """Check whether an object exists."""
        try:
            self.stat(key)
        except FileNotFoundError:
            return False
        return True

    def list(self, folder: str, beginning: str = "") -> Iterator[Entry | Gap]:
        for page in self._list_pages(folder, beginning):
            for item in page.get("items", ()):
                if not item["name"].endswith("/"):  # folder markers, which web consoles create
                    yield gap_or(_entry(self._key(item["name"]), item))

    def folder_names(self, folder: str, beginning: str = "") -> Iterator[str | Gap]:
        start = len(self._inside(folder))
        for page in self._list_pages(folder, beginning, delimiter="/", fields="prefixes,nextPageToken"):
            for prefix in page.get("prefixes", ()):
                yield folder_or_gap(folder, prefix[start:-1])

    def _list_pages(self, folder: str, beginning: str, **arguments: str) -> Iterator[dict[str, Any]]:
        """Yield the pages of a listing, at most 1000 names each."""
        prefix = self._inside(folder) + beginning or None
        token: str | None = None
        while True:
            with self._bucket_needed(folder or None, "list"):
                page = self._call(
                    "GET", "b/{}/o", prefix=prefix, pageToken=token, maxResults=1000, json_out=True, **arguments
                )
            yield page
            token = page.get("nextPageToken")
            if not token:
                return

    def delete(self, names: dict[str, str | None]) -> dict[str, Exception]:
        async def remove(name: str) -> None:
            with suppress(FileExistsError):  # gcsfs's error for 412: the object has another version by now
                await self._ask("DELETE", "b/{}/o/{}", self._exact(name), ifGenerationMatch=names[name])

        return batches.remove(lambda name: self._connection.start(remove, name), names)

    def path(self, key: str, store: Store) -> UPath:
        from notata.store.paths import RunPath

        url = f"gs://{self._bucket}/{self._prefix}".rstrip("/")
        return RunPath.of(store, url, self._connection.options, key)

    # -- errors --------------------------------------------------------------------------------------------

    def failure(self, error: Exception) -> tuple[type[NotataError], str]:
        from aiohttp import ClientConnectionError
        from google.auth.exceptions import GoogleAuthError

        if isinstance(error, WebPageError | json.JSONDecodeError):
            return failure_of_page()
        status = _status(error)
        code = "quotaExceeded" if status in (0, 403) and _QUOTA.search(str(error)) else ""
        if failure := failure_of_tls(error) or failure_of_reply(status, code):
            return failure
        if status in (401, 403) or isinstance(error, GoogleAuthError) or str(error).startswith("Forbidden:"):
            return AccessError, (
                "the store refused these credentials; check storage_options (token, project), "
                "GOOGLE_APPLICATION_CREDENTIALS or `gcloud auth application-default login`, and their permissions"
            )
        if isinstance(error, FileNotFoundError):
            return MissingError, "there is no such object (or no such bucket)"
        if isinstance(error, ClientConnectionError):
            return UnreachableError, "no server answered at this address; check endpoint_url and the network"
        if status in _FOR_NOW:
            return StorageError, (
                f"the store kept asking for fewer requests ({status}) until the time limit; try again later, with "
                "fewer writers at once or a longer timeout="
            )
        if status >= 500:
            return StorageError, f"the store failed repeatedly ({status}); try again later"
        return super().failure(error)

    @contextmanager
    def _bucket_needed(self, key: str | None, doing: str = "write") -> Iterator[None]:
        """Translate a missing object in a write or a listing: there, it is the bucket that is missing."""
        try:
            yield
        except FileNotFoundError as error:
            raise ContainerMissingError(
                f"cannot {doing} {self.shown(key)}: there is no bucket {self._bucket!r}; create it, or correct the URL",
                url=self.url,
                key=key,
            ) from error


def _is_web_page(head: Mapping[str, str], body: object) -> bool:
    """Check whether a response is a web page: an object, which may be a page too, comes with its generation."""
    page = str(head.get("Content-Type", "")).lower().startswith("text/html")
    return page and "x-goog-generation" not in head and bool(body)


class _Resumable:
    """A streamed write: a resumable upload, which GCS receives one part after the other.

    The last part must be marked as the last. So one part is held back while the previous one is sent.
    https://cloud.google.com/storage/docs/resumable-uploads
    """

    def __init__(self, backend: GCSBackend, key: str) -> None:
        from gcsfs.core import initiate_upload

        self._backend = backend
        self._held = b""
        self._sent = 0
        self._sending: Future[bytes] | None = None
        self._ask = backend._connection.ask
        self._type = backend._content_type(key)
        arguments = backend.filesystem(), backend._bucket, backend._name(key), self._type
        self._session: str | None = backend._connection.run(self._ask, initiate_upload, *arguments)

    def write(self, part: bytes) -> None:
        if self._held:
            self._send(self._held, None)
        self._held = part

    def commit(self) -> str:
        self._send(self._held, self._sent + len(self._held))
        reply = self._wait()
        self._session = None
        return str(json.loads(reply)["generation"])

    def _send(self, part: bytes, total: int | None) -> None:
        self._wait()
        self._sending = self._backend._connection.start(self._put, part, self._sent, total)
        self._sent += len(part)

    def _wait(self) -> bytes:
        """Return the reply to the part that is being sent."""
        if self._sending is None:
            return b""
        reply = self._sending.result()
        self._sending = None
        return reply

    async def _put(self, part: bytes, at: int, total: int | None) -> bytes:
        from gcsfs.core import UnclosableBytesIO

        while True:
            where = f"bytes {at}-{at + len(part) - 1}/{'*' if total is None else total}"
            headers = {"Content-Range": where, "Content-Type": self._type}  # fake-gcs-server takes that of the parts
            call, data = self._backend._connection.fs._call, UnclosableBytesIO(part)
            answer, reply = await self._ask(call, "POST", self._session, size=len(part), headers=headers, data=data)
            if reply and total is not None:
                _of_size(total, int(json.loads(reply)["size"]))
                return bytes(reply)
            taken = int(answer["Range"].rpartition("-")[2]) + 1 if "Range" in answer else 0
            if taken <= at:
                raise OSError("GCS accepted no bytes of a part; write the file again")
            part, at = part[taken - at :], taken
            if not part:
                return bytes(reply)

    def abort(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            wait([self._sending])
        session, self._session, self._sending = self._session, None, None
        if session is not None:
            with suppress(FileNotFoundError):
                self._backend._connection.run(self._ask, self._backend.filesystem()._call, "DELETE", session)


class _HiddenUpload:
    """A streamed exclusive write: an upload to a temporary object, then one compose request that creates the target.

    GCS supports the condition only in simple requests, and a resumable upload is not one.
    """

    def __init__(self, backend: GCSBackend, key: str) -> None:
        self._backend = backend
        self._key = key
        self._name = backend._hidden_name(key)
        self._upload = _Resumable(backend, backend._key(self._name))

    def write(self, part: bytes) -> None:
        self._upload.write(part)

    def commit(self) -> str:
        self._upload.commit()
        try:
            if self._backend.has_file(self._key):  # emulators ignore the condition in compose; GCS itself supports it
                raise FileExistsError(self._key)
            return str(self._backend._compose(self._key, [self._name], ABSENT)["generation"])
        finally:
            self._backend._remove_quietly(self._name)

    def abort(self) -> None:
        self._upload.abort()


def _of_size(sent: int, stored: int) -> None:
    """Detect a part that was stored twice because it was sent again after a lost reply.

    GCS skips bytes that it has already; fake-gcs-server ignores the offset of a part.
    """
    if stored != sent:
        raise OSError(f"{sent} bytes were sent but {stored} are stored; write the file again")


def _status(error: BaseException) -> int:
    """Return the HTTP status of gcsfs's HttpError."""
    code = str(getattr(error, "code", ""))
    return int(code) if code.isdigit() else 0


def _entry(key: str, item: dict[str, Any]) -> Entry:
    updated, generation = datetime.fromisoformat(item["updated"]), str(item["generation"])
    return Entry(key, int(item.get("size", 0)), updated, generation, stored_digest(item))


def stored_digest(item: dict[str, Any]) -> str:
    """Return the digest that a listing reports: a composed object has no MD5, all have a CRC32C; both in base64.

    https://cloud.google.com/storage/docs/json_api/v1/objects
    """
    for name, kind in (("md5Hash", "md5"), ("crc32c", "crc32c")):
        if digest := item.get(name):
            return f"{kind}:{base64.b64decode(digest).hex()}"
    return ""
