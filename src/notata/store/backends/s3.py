"""Objects in an S3 bucket, through s3fs, and the S3 request behind each guarantee.

A put is atomic by itself, ``If-None-Match: *`` makes it exclusive and ``If-Match`` a compare-and-swap. Both carry
a token in the object's metadata. If a refusal follows a lost reply, the token shows that the object is our own.
If a store ignores these conditions, the object is looked up before the write.

A version is an ETag without quotes. A read compares it with that of the reply, as not all stores support ``If-Match``.
"""

from __future__ import annotations

import builtins
import re
import secrets
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from notata._base import keys
from notata._base.retries import attempts
from notata._base.terminal import quoted
from notata.errors import (
    AccessError,
    ConfigurationError,
    ContainerMissingError,
    DeadlineError,
    MissingError,
    NotataError,
    StorageError,
    StoredNameError,
    UnreachableError,
)
from notata.store.appending import Tail
from notata.store.backend import ABSENT, Backend
from notata.store.backends.http_errors import (
    WebPageError,
    failure_of_page,
    failure_of_reply,
    failure_of_tls,
    plain_code,
)
from notata.store.backends.patience import note_progress
from notata.store.backends.remote import BucketBackend, Connection
from notata.store.backends.s3_client import THROTTLED, connect, is_web_page
from notata.store.backends.s3_conditions import (
    ALL,
    NO_COPIES,
    Conditions,
    Known,
    is_amazon,
    tag_of,
    try_completions,
    try_conditions,
    try_copies,
)
from notata.store.backends.s3_direct import direct
from notata.store.backends.s3_replies import parse_time
from notata.store.entries import Blob, Entry
from notata.store.files import PART, part_size
from notata.store.gaps import Gap, folder_or_gap, gap_or
from notata.store.in_flight import InFlight

if TYPE_CHECKING:
    from upath import UPath

    from notata.store.store import Store

__all__ = ["S3Backend", "connect", "known", "parse_time"]

_TOKEN: Final = "notata-write"
_BUSY_TRIES: Final = 8  # after a 409, which AWS returns for simultaneous conditional writes
_BODY_TRIES: Final = 3  # after a body that breaks off: botocore retries requests, not bodies
_NO_COPY: Final = (400, 403, 405, 501)  # replies to a copy that the store cannot make, or not with these credentials
_SMALLEST_PART: Final = 5 * 2**20  # of a multipart upload, except for its last part
_MIB: Final = 2**20
_LARGEST_COPY: Final = 4 * 2**30
_DELETED_AT_ONCE: Final = 1000
_PIECE: Final = 2**18  # bytes of a response to read at once, if as many have come
_NOT_XML: Final = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")
_MD5: Final = re.compile(r"[0-9a-f]{32}(?:-[0-9]+)?")

known: Final = Known()
"""Conditions that the stores known to this process support, by endpoint and bucket."""


class S3Backend(BucketBackend):
    """Files below one prefix of an S3 bucket."""

    version_name = "etag"
    appends_pieces = True
    _download = "binary/octet-stream"  # Amazon's default. SeaweedFS would replace application/octet-stream.

    def __init__(self, url: str, options: dict[str, Any], timeout: float) -> None:
        super().__init__(url, Connection(connect, options, timeout))
        self._base = self._prefix  # does not change in the stores of subfolders

    def _split(self, url: str) -> tuple[str, str]:
        from s3fs import S3FileSystem

        bucket, prefix = S3FileSystem._find_bucket_key(None, url.partition("://")[2].strip("/"))  # access points too
        if not bucket:
            raise ConfigurationError(f"{url} does not name a bucket; write s3://bucket/folder")
        return bucket, self._checked(prefix, url)

    def _call(self, method: str, name: str | None = None, **arguments: Any) -> dict[str, Any]:
        return self._connection.run(self._ask, method, name, **arguments)

    async def _ask(self, method: str, name: str | None = None, *, size: int = 0, **arguments: Any) -> dict[str, Any]:
        """Make one request that sends `size` bytes."""
        if name is not None:
            arguments["Key"] = name
        call = direct(self._connection.fs).call
        reply: dict[str, Any] = await self._connection.ask(call, method, size=size, Bucket=self._bucket, **arguments)
        if is_web_page(reply):
            raise WebPageError()
        return reply

    # -- write ---------------------------------------------------------------------------------------------

    def put(self, key: str, data: bytes, match: str | None) -> str:
        if match is None:
            return self._connection.run(self._send, key, data)
        return self._put_if(key, data, match)

    async def _send(self, key: str, data: bytes) -> str:
        kind = self._content_type(key)
        reply = await self._ask("put_object", self._name(key), size=len(data), Body=data, ContentType=kind)
        return tag_of(str(reply["ETag"]))

    def _put_if(self, key: str, data: bytes, match: str) -> str:
        name, token = self._name(key), secrets.token_hex(16)
        condition = self._condition(self._conditions_for_write(), key, match)
        arguments = {"Metadata": {_TOKEN: token}, "ContentType": self._content_type(key), **condition}
        for last in attempts(_BUSY_TRIES):
            try:
                result = self._call("put_object", name, size=len(data), Body=data, **arguments)
                return tag_of(str(result["ETag"]))
            except Exception as error:
                if _status(error) not in (409, 412) and not _is_gone(error, match):
                    raise
                if _status(error) == 412 or _is_gone(error, match) or last:
                    return self._refused(error, key, match, token)
        raise AssertionError("unreachable")

    def _refused(self, error: Exception, key: str, match: str, token: str) -> str:
        """Handle a refused conditional write: return our own version if an earlier try succeeded, else raise."""
        if not _is_gone(error, match) and (version := self._own(self._name(key), token)):
            return version
        raise self._unmet(key, match) from error

    def _own(self, name: str, token: str) -> str | None:
        """Return the version of an object if it carries our token."""
        try:
            head = self._call("head_object", name)
        except FileNotFoundError:
            return None
        return tag_of(str(head["ETag"])) if head.get("Metadata", {}).get(_TOKEN) == token else None

    # -- conditions that the store supports ----------------------------------------------------------------

    @property
    def supports_exclusive_create(self) -> bool:
        return self._tested_conditions().supports_exclusive_create

    @property
    def supports_cas(self) -> bool:
        return self._tested_conditions().supports_cas

    def _tested_conditions(self) -> Conditions:
        """Return the conditions that the store supports in plain writes. Other stores than Amazon's are tested once."""
        if is_amazon(self._endpoint()):
            return ALL
        return known.find(self._place(), lambda: try_conditions(self._call, self._base, _status))

    def _conditions_for_write(self) -> Conditions:
        """Return `_tested_conditions` for a write, and warn the user if the store does not protect it."""
        found = self._tested_conditions()
        known.warn_once(self._place(), self._bucket, found)
        return found

    def _conditions_for_completion(self) -> Conditions:
        """Return the same as `_conditions_for_write`, for the completion of a multipart upload."""
        found = self._conditions_for_write()
        if found is ALL or found.ignored:
            return found
        place = (*self._place(), "completion")
        return known.find(place, lambda: try_completions(self._call, self._base, _status, found))

    def _conditions_for_copy(self) -> Conditions:
        """Return the same as `_conditions_for_write`, for a copy that the store makes itself."""
        found = self._conditions_for_write()
        if found is ALL:
            return found
        place = (*self._place(), "copy")
        return known.find(place, lambda: try_copies(self._call, self._bucket, self._base, _status, found))

    def _condition(self, conditions: Conditions, key: str, match: str) -> dict[str, str]:
        """Return the argument that makes a write conditional. If the store ignores it, check now and return none.

        Raises:
            FileExistsError: The file exists, and `match` is `ABSENT`.
            ConflictError: The file has another version.
        """
        if condition := conditions.header(match):
            return condition
        try:
            present = self.stat(key).version
        except FileNotFoundError:
            present = ABSENT
        if present != match:
            raise self._unmet(key, match)
        return {}

    def _unmet(self, key: str, match: str) -> Exception:
        """Return the error for a condition that does not hold."""
        return FileExistsError(key) if match == ABSENT else self.conflict(key, "another writer changed it")

    def _endpoint(self) -> str:
        return str(self._connection.fs.s3.meta.endpoint_url)

    def _place(self) -> tuple[str, str]:
        return self._endpoint(), self._bucket

    # -- copies by the store -------------------------------------------------------------------------------

    def copies_from(self, source: Backend) -> bool:
        # The same connection: the store knows both buckets, and these credentials.
        same = isinstance(source, S3Backend) and source._connection.fs is self._connection.fs
        return same and self._conditions_for_copy().copies

    def copy_on_server(self, key: str, source: Backend, entry: Entry, match: str | None) -> str | None:
        """See `Backend`. A file that was sent in parts is copied in the same parts, so that its ETag stays the same."""
        if not isinstance(source, S3Backend):
            return None
        conditions = self._conditions_for_copy()
        if match is not None and not conditions.header(match):
            return None
        try:
            if entry.digest.startswith("md5-parts:") or entry.size > _LARGEST_COPY:
                return self._copy_in_parts(key, source, entry, match)
            return self._copy_whole(key, source, entry, match, conditions)
        except _NoPartCopyError:
            return None
        except Exception as error:
            if _status(error) in _NO_COPY:
                return None
            if _status(error) not in (409, 412):
                raise
            raise self.conflict(key, "another writer changed it, or its source") from error

    def _copy_whole(self, key: str, source: S3Backend, entry: Entry, match: str | None, conditions: Conditions) -> str:
        name, token = self._name(key), secrets.token_hex(16)
        try:
            reply = self._call(
                "copy_object",
                name,
                size=entry.size,
                CopySource=source._place_of(entry.key),
                CopySourceIfMatch=conditions.tag(entry.version),
                MetadataDirective="REPLACE",
                Metadata={_TOKEN: token},
                ContentType=self._content_type(key),
                **({} if match is None else conditions.header(match)),
            )
        except Exception as error:
            if _status(error) in (409, 412) and (version := self._own(name, token)):
                return version
            raise
        version = tag_of(str(reply["CopyObjectResult"]["ETag"]))
        if version != entry.version and source.stat(entry.key).version != entry.version:  # it ignores the condition
            raise self.conflict(key, "another writer changed its source")
        return version

    def _copy_in_parts(self, key: str, source: S3Backend, entry: Entry, match: str | None) -> str | None:
        place = (*self._place(), "copies of parts")
        if not known.find(place, lambda: ALL).copies:
            return None
        edges = _edges(entry)
        with self._upload(key, match) as upload:
            upload.copy(entry.size, entry.version, edges, source._place_of(entry.key))
            version = upload.commit()
        if version == entry.version or not entry.digest:
            return version
        if edges == _own_edges(entry.size) and not keys.is_growing(entry.key):
            known.note(place, NO_COPIES)  # SeaweedFS: the next sync could not see that both files are equal
            return None
        if source.stat(entry.key).version != entry.version:  # it may ignore the condition
            raise self.conflict(key, "another writer changed its source")
        return version  # another program chose the parts: what this process would send had another ETag, too

    def _place_of(self, key: str) -> dict[str, str]:
        """Return the object of a key as the source of a copy."""
        return {"Bucket": self._bucket, "Key": self._name(key)}

    # -- larger writes -------------------------------------------------------------------------------------

    def begin_upload(self, key: str, match: str | None) -> _Multipart:
        return _Multipart(self, key, match)

    def append(self, key: str, data: bytes, tail: Tail) -> Tail:
        if tail.size >= _SMALLEST_PART:
            return Tail(tail.size + len(data), self._extend(key, data, tail))
        if tail.content is None:
            tail = self._small(key, tail)
        whole = (tail.content or b"") + data
        version = self._put_if(key, whole, tail.version or ABSENT)
        if len(whole) >= _SMALLEST_PART:
            return Tail(len(whole), version)
        return Tail(len(whole), version, whole, len(whole))

    def _extend(self, key: str, data: bytes, tail: Tail) -> str:
        """Extend a large object on the server: its content is copied as the first part of a new upload."""
        version = tail.version or self._version_at(key, tail.size)
        try:
            with self._upload(key, version) as upload:
                self._copied(key, upload, tail.size, version)
                for start in range(0, len(data), PART):
                    upload.write(data[start : start + PART])
                return upload.commit()
        except _NoPartCopyError:
            return self._rewritten(key, data, tail.size, version)

    def _rewritten(self, key: str, data: bytes, size: int, version: str) -> str:
        """Extend a large object by sending all of it again, if the server cannot copy it."""
        with self._upload(key, version) as upload:
            for start in range(0, size, PART):
                piece = self.get(key, start, min(start + PART, size), version).data
                if len(piece) < PART:  # only the last part may be small
                    piece, data = piece + data, b""
                upload.write(piece)
            for start in range(0, len(data), PART):
                upload.write(data[start : start + PART])
            return upload.commit()

    @contextmanager
    def _upload(self, key: str, match: str | None) -> Iterator[_Multipart]:
        """Yield a multipart upload with the condition of a `put`; an error aborts it."""
        upload = _Multipart(self, key, match)
        try:
            yield upload
        except BaseException as error:
            try:
                upload.abort()
            except Exception as failure:
                error.add_note(f"notata: could not abort the upload of {key}: {self.redacted(str(failure))}")
            raise

    def _copied(self, key: str, upload: _Multipart, size: int, version: str) -> None:
        try:
            count = -(-size // _LARGEST_COPY)
            edges = [size * step // count for step in range(count + 1)]
            upload.copy(size, version, edges, self._place_of(key))
        except Exception as error:
            if _status(error) == 412:
                raise self.conflict(key, "another writer changed it") from error
            if _status(error) in (405, 501):
                raise _NoPartCopyError("the store has no UploadPartCopy") from error
            raise

    # -- read ----------------------------------------------------------------------------------------------

    async def _range(self, key: str, start: int, end: int, version: str | None) -> Blob:
        blob = await self._part_of(key, start, end) if end > start else await self._nothing(key)
        if version not in (None, blob.version):
            raise self.conflict(key, "it changed while it was read")
        return blob

    async def _part_of(self, key: str, start: int, end: int) -> Blob:
        """Read ``[start, end)``, which must not be empty, of the current version."""
        try:
            return await self._connection.ask(self._body, self._name(key), start, end)
        except Exception as error:
            if _status(error) == 416:  # the file is empty, or ends earlier
                return await self._nothing(key)
            raise

    async def _nothing(self, key: str) -> Blob:
        entry = await self._look_up(key)
        return Blob(b"", entry.size, entry.version)

    async def _body(self, name: str, start: int, end: int) -> Blob:
        from s3fs.core import S3_RETRYABLE_ERRORS

        call = direct(self._connection.fs).call
        part = f"bytes={start}-{end - 1}"
        for last in range(_BODY_TRIES, 0, -1):
            reply = await call("get_object", Bucket=self._bucket, Key=name, Range=part)
            if is_web_page(reply):
                raise WebPageError()
            try:
                async with reply["Body"]:  # in aiobotocore 2, `as` would give the response of aiohttp
                    data = await _received(reply["Body"], end - start)
            except S3_RETRYABLE_ERRORS:
                if last == 1:
                    raise
                continue
            whole = reply.get("ContentRange", "").rpartition("/")[2]
            written = self._connection.age(reply["LastModified"], reply["ResponseMetadata"]["HTTPHeaders"])
            return Blob(data, int(whole) if whole else len(data), tag_of(str(reply["ETag"])), written)
        raise AssertionError("unreachable")

    def stat(self, key: str) -> Entry:
        return self._connection.run(self._look_up, key)

    async def _look_up(self, key: str) -> Entry:
        head = await self._ask("head_object", self._name(key))
        return _entry(key, int(head["ContentLength"]), head)

    def list(self, folder: str, beginning: str = "") -> Iterator[Entry | Gap]:
        for page in self._list_pages(Prefix=self._inside(folder) + beginning):
            for found in page.get("Contents", ()):
                if not found["Key"].endswith("/"):  # folder markers, which web consoles create
                    yield gap_or(_entry(self._key(found["Key"]), found["Size"], found))

    def folder_names(self, folder: str, beginning: str = "") -> Iterator[str | Gap]:
        inside = self._inside(folder)
        for page in self._list_pages(Prefix=inside + beginning, Delimiter="/"):
            for found in page.get("CommonPrefixes", ()):
                yield folder_or_gap(folder, found["Prefix"][len(inside) : -1])

    def _list_pages(self, **arguments: Any) -> Iterator[dict[str, Any]]:
        """Yield the pages of a listing, at most 1000 names each."""
        while True:
            page = self._call("list_objects_v2", **arguments)
            yield page
            token = page.get("NextContinuationToken")
            if not page.get("IsTruncated"):
                return
            if not token or token == arguments.get("ContinuationToken"):
                raise OSError("the store sent an incomplete list without a token for the rest; check endpoint_url")
            arguments["ContinuationToken"] = token

    def delete(self, names: dict[str, str | None]) -> dict[str, Exception]:
        odd = [name for name in names if keys.problem_of_stored(name)]
        failures = self._delete_together([name for name in names if name not in set(odd)])
        for name in odd:  # one per request: if a server refuses one of them, it refuses the whole request
            try:
                failures |= self._delete_odd(name)
            except Exception as error:
                failures[name] = error
        return failures

    def _delete_odd(self, name: str) -> dict[str, Exception]:
        """Delete an object by its exact name. Clients may resolve ``..`` in an address, and XML lacks some characters.

        Raises:
            StoredNameError: The name contains both.
        """
        if not _NOT_XML.search(name):
            return self._delete_together([name])
        if {"", ".", ".."} & set(name.split("/")):
            text = f"cannot delete {quoted(self.shown(name))} by its name; use the program that wrote it"
            raise StoredNameError(text, url=self.url, key=name)
        self._call("delete_object", self._exact(name))
        return {}

    def _delete_together(self, listed: builtins.list[str]) -> dict[str, Exception]:
        # Without versions: few S3 stores support them in a bulk deletion, and some refuse such a request.
        failures: dict[str, Exception] = {}
        for start in range(0, len(listed), _DELETED_AT_ONCE):
            objects = [{"Key": self._exact(name)} for name in listed[start : start + _DELETED_AT_ONCE]]
            result = self._call("delete_objects", Delete={"Objects": objects, "Quiet": True})
            for error in result.get("Errors", ()):
                refused = PermissionError if error.get("Code") == "AccessDenied" else OSError
                failures[self._key(error["Key"])] = refused(f"{error.get('Code')}: {error.get('Message')}")
        return failures

    def path(self, key: str, store: Store) -> UPath:
        from notata.store.paths import RunPath

        url = f"s3://{self._bucket}/{self._prefix}".rstrip("/")
        return RunPath.of(store, url, self._connection.options, key)

    # -- errors --------------------------------------------------------------------------------------------

    def failure(self, error: Exception) -> tuple[type[NotataError], str]:
        from botocore import exceptions as boto
        from botocore.parsers import ResponseParserError

        if isinstance(error, WebPageError | ResponseParserError) or is_web_page(_response(error)):
            return failure_of_page()
        status, code = _status(error), plain_code(_code(error))
        if failure := failure_of_tls(error) or failure_of_reply(status, code):
            return failure
        if code == "NoSuchBucket":
            return ContainerMissingError, f"there is no bucket {self._bucket!r}; create it, or correct the URL"
        if status == 404:
            return MissingError, "there is no such object (or no such bucket)"
        if status in (401, 403) or code == "InvalidToken":
            return AccessError, (
                f"the store refused these credentials ({code or status}); check storage_options, AWS_PROFILE or the "
                "environment, and the permissions on this bucket"
            )
        if isinstance(error, boto.NoCredentialsError | boto.CredentialRetrievalError | boto.PartialCredentialsError):
            return AccessError, (
                "no usable credentials found; set AWS_PROFILE or AWS_ACCESS_KEY_ID, or pass storage_options"
            )
        if isinstance(error, boto.ConnectTimeoutError | boto.ReadTimeoutError):
            return DeadlineError, (
                "no answer in time; the network or the server is stalled, and it is unknown "
                "whether the request took effect"
            )
        if isinstance(error, boto.HTTPClientError | boto.ConnectionError):
            return UnreachableError, (
                "no server answered at this address; check endpoint_url, the region and the network"
            )
        if isinstance(error, boto.ParamValidationError | boto.ProfileNotFound | boto.InvalidEndpointConfigurationError):
            return ConfigurationError, (
                "the bucket's name, profile or endpoint is invalid; check base_dir, storage_options and AWS_PROFILE"
            )
        if isinstance(error, ValueError) and str(error).startswith("Invalid endpoint"):  # botocore has no type for it
            return (
                ConfigurationError,
                "endpoint_url or AWS_ENDPOINT_URL is not a valid address; it must begin with http:// or https://",
            )
        if code in ("PermanentRedirect", "AuthorizationHeaderMalformed", "301", "307"):
            return ConfigurationError, "the bucket is in another region; set client_kwargs={'region_name': …}"
        if status in THROTTLED or code in THROTTLED:
            return StorageError, (
                f"the store kept asking for fewer requests ({status} {code}) until the time limit; try again later, "
                "with fewer writers at once or a longer timeout="
            )
        if status >= 500:
            return StorageError, f"the store failed repeatedly ({status} {code}); try again later"
        return super().failure(error)


class _Multipart:
    """A streamed write: parts, four at a time, and one completion that publishes them.

    It carries a token as a put does. s3fs would send the parts of a file object one after the other.
    """

    def __init__(self, backend: S3Backend, key: str, match: str | None) -> None:
        self._backend = backend
        self._key = key
        self._name = backend._name(key)
        self._match = match
        self._conditions = None if match is None else backend._conditions_for_completion()
        self._token = secrets.token_hex(16)
        self._parts = InFlight[int, str](bytes_at_once=backend.bytes_at_once)  # their ETags, by number
        self._count = 0
        self._id: str | None = backend._connection.run(self._create, undo=self._end)

    async def _create(self) -> str:
        kind = self._backend._content_type(self._key)
        reply = await self._backend._ask(
            "create_multipart_upload", self._name, Metadata={_TOKEN: self._token}, ContentType=kind
        )
        return str(reply["UploadId"])

    async def _end(self, upload: str) -> None:
        await self._backend._ask("abort_multipart_upload", self._name, UploadId=upload)

    def write(self, part: bytes) -> None:
        self._add(len(part), self._send, part)

    def copy(self, size: int, version: str, edges: Iterable[int], source: dict[str, str]) -> None:
        """Copy `size` bytes of an object on the server, as the first parts, which end at the given edges."""
        for start, end in pairwise(edges):
            self._add((end - start) // 100, self._copy, start, end, version, source)
        self._parts.land()
        self._parts.check()

    def _add(self, size: int, work: Callable[..., Coroutine[Any, Any, str]], *arguments: Any) -> None:
        """Start the next part once there is room for it."""
        self._count += 1
        self._parts.begin(self._count, size, self._backend._connection.start, work, self._count, *arguments)
        self._parts.check()

    async def _send(self, number: int, part: bytes) -> str:
        place = {"UploadId": self._id, "PartNumber": number}
        reply = await self._backend._ask("upload_part", self._name, size=self._parts.bytes, Body=part, **place)
        return str(reply["ETag"])

    async def _copy(self, number: int, start: int, end: int, version: str, source: dict[str, str]) -> str:
        reply = await self._backend._ask(
            "upload_part_copy",
            self._name,
            size=self._parts.bytes,
            CopySource=source,
            CopySourceRange=f"bytes={start}-{end - 1}",
            CopySourceIfMatch=self._backend._tested_conditions().tag(version),
            UploadId=self._id,
            PartNumber=number,
        )
        try:
            return str(reply["CopyPartResult"]["ETag"])
        except KeyError:  # the store took the request for an upload of an empty part
            raise _NoPartCopyError("the store does not support UploadPartCopy") from None

    def commit(self) -> str:
        self._parts.land()
        self._parts.check()
        parts = [{"PartNumber": number, "ETag": mark} for number, mark in sorted(self._parts.results.items())]
        condition = self._condition()
        try:
            reply = self._backend._call(
                "complete_multipart_upload",
                self._name,
                UploadId=self._id,
                MultipartUpload={"Parts": parts},
                **condition,
            )
        except Exception as error:
            # A repeated completion finds its upload gone; the token shows whether the first one succeeded.
            if _status(error) not in (404, 409, 412):
                raise
            version = self._backend._own(self._name, self._token)
            if version is None:
                if self._match is None or _status(error) == 404:
                    raise
                raise self._backend._unmet(self._key, self._match) from error
            self._id = None
            return version
        self._id = None
        if mark := reply.get("ETag"):  # Ceph RGW 16 sends none
            return tag_of(str(mark))
        return self._backend._own(self._name, self._token) or ""

    def _condition(self) -> dict[str, str]:
        if self._match is None or self._conditions is None:
            return {}
        return self._backend._condition(self._conditions, self._key, self._match)

    def abort(self) -> None:
        upload, self._id = self._id, None
        if upload is None:
            return
        self._parts.cancel()  # a part that arrives after the abort would remain stored
        self._parts.errors.clear()
        try:
            self._backend._connection.run(self._end, upload)
        except FileNotFoundError:
            return


class _NoPartCopyError(Exception):
    """The server cannot copy a part of an upload from an existing object."""


def _edges(entry: Entry) -> list[int]:
    """Return where the parts of an object end, from 0: as notata sends them, or as many parts of some equal size."""
    ours = _own_edges(entry.size)
    count = int(entry.version.rpartition("-")[2]) if entry.digest.startswith("md5-parts:") else 1
    if len(ours) - 1 == count or entry.size > _LARGEST_COPY * count:
        return ours
    size = max(_SMALLEST_PART, -(-entry.size // count // _MIB) * _MIB)
    return [*range(0, entry.size, size), entry.size]


def _own_edges(size: int) -> list[int]:
    edges = [0]
    while edges[-1] < size:
        edges.append(min(size, edges[-1] + part_size(len(edges) - 1)))
    return edges


async def _received(body: Any, count: int) -> bytes:
    """Return the body of a response of at most `count` bytes. A longer one is an error, so that it fills no memory."""
    pieces, size = [], 0
    note_progress()
    while piece := await body.read(min(_PIECE, count + 1 - size)):
        note_progress()
        pieces.append(piece)
        size += len(piece)
        if size > count:
            raise OSError("the store sent more bytes than requested; check endpoint_url")
    return b"".join(pieces)


def _entry(key: str, size: int, found: dict[str, Any]) -> Entry:
    version = tag_of(str(found["ETag"]))
    modified = found["LastModified"]
    modified = modified if modified.tzinfo is UTC else modified.astimezone(UTC)
    return Entry(key, size, modified, version, stored_digest(version))


def stored_digest(mark: str) -> str:
    """Return the digest that an ETag contains, if it has the form of one.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html: the MD5 of content that came in one request and is
    not encrypted with a KMS key; for a multipart upload, the MD5 of its parts' MD5s, and their number.
    """
    bare = mark.lower()
    if not _MD5.fullmatch(bare):
        return ""
    return f"md5-parts:{bare}" if "-" in bare else f"md5:{bare}"


def _response(error: BaseException) -> dict[str, Any]:
    """Return the reply behind an error: s3fs turns botocore's errors into builtins and chains the original."""
    for candidate in (error, error.__cause__):
        response = getattr(candidate, "response", None)
        if isinstance(response, dict):
            return response
    return {}


def _status(error: BaseException) -> int:
    return int(_response(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _is_gone(error: BaseException, match: str) -> bool:
    """Check whether a compare-and-swap found no object."""
    return _status(error) == 404 and match != ABSENT and _code(error) != "NoSuchBucket"


def _code(error: BaseException) -> str:
    return str(_response(error).get("Error", {}).get("Code") or "")
