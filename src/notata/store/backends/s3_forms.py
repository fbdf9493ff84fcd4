"""Learn from botocore how the plain requests to an S3 bucket look, and make more of them.

For each operation and bucket, botocore prepares one sample request, which is never sent. It shows the address, the
fixed headers, the region and the protection of the body, wherever they come from: options, environment, profile, or
the response to an earlier request. If `Form` reproduces the sample exactly, signature included, it makes further
requests of this form, with other keys.
"""

from __future__ import annotations

import inspect
import io
import time
import zlib
from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final
from urllib.parse import quote, urlsplit

from notata.store.backends.s3_signature import Signer

__all__ = ["OPERATIONS", "Form", "Request", "answering", "learn", "session_of"]

OPERATIONS: Final = {
    "get_object": "GetObject",
    "head_object": "HeadObject",
    "list_objects_v2": "ListObjectsV2",
    "put_object": "PutObject",
}
"""botocore's names of its methods, and of their operations."""

_KEY: Final = "notata sample/+%~!$&'()*,;=:@[]{}|^`\"<>#?é中/x"  # shows how each kind of character is encoded
_SAMPLES: Final[dict[str, dict[str, Any]]] = {
    "get_object": {"Range": "bytes=0-9"},
    "head_object": {},
    "put_object": {
        "Body": b"notata",
        "ContentType": "text/plain",
        "IfMatch": '"0"',
        "IfNoneMatch": "*",
        "Metadata": {"notata-sample": "0"},
    },
}

_HEADERS: Final = {
    "ContentType": "Content-Type",
    "IfMatch": "If-Match",
    "IfNoneMatch": "If-None-Match",
    "Range": "Range",
}
_FIXED: Final = frozenset(
    {
        "user-agent",
        "x-amz-acl",
        "x-amz-expected-bucket-owner",
        "x-amz-request-payer",
        "x-amz-sdk-checksum-algorithm",
        "x-amz-server-side-encryption",
        "x-amz-server-side-encryption-aws-kms-key-id",
        "x-amz-server-side-encryption-bucket-key-enabled",
        "x-amz-server-side-encryption-customer-algorithm",
        "x-amz-server-side-encryption-customer-key",
        "x-amz-server-side-encryption-customer-key-md5",
        "x-amz-storage-class",
    }
)
"""Headers that are the same in each request of an operation."""

_OF_ATTEMPT: Final = frozenset({"amz-sdk-invocation-id", "amz-sdk-request", "content-length"})
"""Headers that differ in each attempt; aiohttp adds the last one, and the others are only for statistics."""

_CRC32: Final = "x-amz-checksum-crc32"
_UNSIGNED: Final = "UNSIGNED-PAYLOAD"
_TRAILER: Final = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
_CHUNK: Final = 2**20  # bytes of a chunk of a body with a trailer, as in botocore
_LARGE: Final = 2**20  # bytes beyond which aiohttp wants a file object


# -- taking part in botocore's requests --------------------------------------------------------------------

Answer = Callable[[Any], Awaitable[Any]]
"""Receives a prepared request. Returns its response, or None to have botocore send it."""

_answers: ContextVar[tuple[str, Answer] | None] = ContextVar("notata-s3-answer", default=None)
"""The operation whose requests are answered in this task, and by whom."""


async def answering(
    client: Any, method: str, answer: Answer, call: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any
) -> Any:
    """Make a call in which `answer` responds to each request of `method` that botocore is about to send."""
    operation = OPERATIONS[method]
    client.meta.events.register_first(f"before-send.s3.{operation}", _before_send, unique_id=f"notata-{operation}")
    before = _answers.set((operation, answer))
    try:
        return await call(*args, **kwargs)
    finally:
        _answers.reset(before)


async def _before_send(request: Any, event_name: str, **_: Any) -> Any:
    operation, answer = _answers.get() or ("", None)
    return await answer(request) if answer is not None and event_name.endswith(f".{operation}") else None


def session_of(client: Any) -> Any:
    """Return the session that sends a client's requests, through proxies and TLS; None if something replaces it.

    Libraries for tests, such as moto, add a handler that answers requests while it is enabled.
    """
    from aiobotocore.httpsession import AIOHTTPSession
    from botocore.handlers import BUILTIN_HANDLERS

    session = getattr(getattr(client, "_endpoint", None), "http_session", None)
    senders = [handler for event, handler, *_ in BUILTIN_HANDLERS if event.startswith("before-send")]
    is_replaced = any(getattr(handler, "enabled", True) for handler in senders)
    return session if type(session) is AIOHTTPSession and not is_replaced else None


# -- learning ----------------------------------------------------------------------------------------------


class _SampleTaken(Exception):
    """Ends a call of botocore once its request is prepared."""


async def learn(fs: Any, client: Any, method: str, bucket: str) -> Form | None:
    """Return the form of an operation's requests, or None if `Form` cannot reproduce a sample of botocore.

    Raises:
        LookupError: botocore cannot prepare a request now, for example because it finds no credentials.
    """
    session = session_of(client)
    retries = getattr(client.meta.config, "retries", None) or {}
    if session is None or fs.storage_options.get("session") is not None or retries.get("mode") == "adaptive":
        return None  # handlers of the user, or a limit of the rate, would be left out
    if fs.s3_additional_kwargs.keys() & _SAMPLES[method].keys():
        return None  # the sample replaces these values of the user, which other requests need
    sample = await _take_sample(fs, client, method, bucket)
    credentials = getattr(getattr(client, "_request_signer", None), "_credentials", None)
    form = _form_of(sample, method, session, credentials)
    try:
        return form if form is not None and await _reproduces(form, sample, method) else None
    except (AttributeError, TypeError, ValueError):  # credentials of another kind, or a body
        return None


async def _take_sample(fs: Any, client: Any, method: str, bucket: str) -> Any:
    taken: list[Any] = []

    async def answer(request: Any) -> Any:
        taken.append(request)
        raise _SampleTaken

    call = getattr(client, method)
    arguments = fs._get_s3_method_kwargs(call, Bucket=bucket, Key=_KEY, **_SAMPLES[method])
    try:
        await answering(client, method, answer, call, **arguments)
    except Exception as error:
        if not taken:
            raise LookupError("botocore prepared no request") from error
    return taken[0]


def _form_of(sample: Any, method: str, session: Any, credentials: Any) -> Form | None:
    base, key, query = sample.url.partition(_encoded(_KEY))
    headers = _headers_of(sample)
    signature = headers.get("authorization")
    signer = None if signature is None else Signer.of(signature)
    if not key or query or (signature is not None and (signer is None or credentials is None)):
        return None
    return Form(
        verb=sample.method,
        base=base,
        host=_host_of(base),
        path=urlsplit(base).path,
        fixed={name: _as_text(value) for name, value in sample.headers.items() if name.lower() in _FIXED},
        content=headers.get("x-amz-content-sha256", ""),
        has_checksum=_CRC32 in headers,
        is_streamed=sample.stream_output,
        arguments=frozenset({"Key", *_SAMPLES[method]}),
        session=session,
        signer=signer,
        credentials=credentials,
    )


async def _reproduces(form: Form, sample: Any, method: str) -> bool:
    """Check whether a form makes the same request as botocore for the arguments of the sample."""
    theirs = _headers_of(sample)
    ours = await form.request({"Key": _KEY, **_SAMPLES[method]}, moment=theirs.get("x-amz-date"))
    same = {name: value for name, value in theirs.items() if name not in _OF_ATTEMPT} == _headers_of(ours)
    return same and ours.url == sample.url and (ours.body or b"") == await _content(sample.body)


async def _content(body: Any) -> bytes:
    found = body.read() if hasattr(body, "read") else body or b""
    return bytes(await found if inspect.isawaitable(found) else found)


def _headers_of(request: Any) -> dict[str, str]:
    return {name.lower(): _as_text(value) for name, value in request.headers.items()}


def _as_text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


# -- making requests ---------------------------------------------------------------------------------------


class Request:
    """A request as aiobotocore's session expects it."""

    __slots__ = ("body", "headers", "method", "stream_output", "url")

    def __init__(self, method: str, url: str, headers: Mapping[str, str], body: Any, *, stream_output: bool) -> None:
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
        self.stream_output = stream_output


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Form:
    """The form of one operation's requests to one bucket.

    Attributes:
        verb: The method of HTTP.
        base: The URL up to the key.
        host: Its host, with the port if it is not the usual one.
        path: Its path.
        fixed: Headers that each request has.
        content: ``X-Amz-Content-SHA256`` of the sample, which shows how bodies are protected.
        has_checksum: Whether a header has the CRC-32 of the body.
        is_streamed: Whether the body of the response is read after the call.
        arguments: Names of the arguments that `request` accepts.
        session: aiobotocore's session, which sends the requests.
        signer: None for anonymous requests.
        credentials: botocore's, which renews them.
    """

    verb: str
    base: str
    host: str
    path: str
    fixed: dict[str, str]
    content: str
    has_checksum: bool
    is_streamed: bool
    arguments: frozenset[str]
    session: Any
    signer: Signer | None
    credentials: Any

    async def send(self, arguments: Mapping[str, Any]) -> Any:
        """Make a request and return its response, whatever the status."""
        request = await self.request(arguments)
        if isinstance(request.body, bytes) and len(request.body) > _LARGE:
            request.body = io.BytesIO(request.body)
        return await self.session.send(request)

    async def request(self, arguments: Mapping[str, Any], moment: str | None = None) -> Request:
        """Return the request for arguments of botocore's method.

        Args:
            arguments: Some of `arguments`.
            moment: The time of the signature, in the form of ``X-Amz-Date``; None for now.
        """
        path = _encoded(arguments["Key"])
        headers = {**self.fixed, **_headers_for(arguments)}
        body = arguments.get("Body")
        if body is not None:
            body = self._protect(body, headers)
        elif self.content:
            headers["X-Amz-Content-SHA256"] = self.content
        if self.signer is not None:
            await self._sign(path, headers, moment or time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()))
        return Request(self.verb, self.base + path, headers, body, stream_output=self.is_streamed)

    def _protect(self, body: bytes, headers: dict[str, str]) -> bytes:
        """Add the headers with digests of a body, and return the bytes to send."""
        if self.content == _TRAILER:
            headers |= {
                "Content-Encoding": "aws-chunked",
                "Transfer-Encoding": "chunked",
                "X-Amz-Content-SHA256": _TRAILER,
                "X-Amz-Decoded-Content-Length": str(len(body)),
                "X-Amz-Trailer": _CRC32,
            }
            return _chunked(body)
        if self.has_checksum:
            headers[_CRC32] = _crc32(body)
        if self.content:
            headers["X-Amz-Content-SHA256"] = _UNSIGNED if self.content == _UNSIGNED else sha256(body).hexdigest()
        return body

    async def _sign(self, path: str, headers: dict[str, str], moment: str) -> None:
        assert self.signer is not None
        credentials = await self.credentials.get_frozen_credentials()
        headers["X-Amz-Date"] = moment
        if credentials.token:
            headers["X-Amz-Security-Token"] = credentials.token
        headers["Authorization"] = self.signer.authorization(
            self.verb, self.host, self.path + path, headers, credentials
        )


def _headers_for(arguments: Mapping[str, Any]) -> dict[str, str]:
    headers = {_HEADERS[name]: value for name, value in arguments.items() if name in _HEADERS}
    for name, value in arguments.get("Metadata", {}).items():
        headers[f"x-amz-meta-{name}"] = value
    return headers


def _encoded(key: str) -> str:
    return quote(key, safe="/~")


def _host_of(url: str) -> str:
    parts = urlsplit(url)
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    host = parts.netloc.rpartition("@")[2]
    return host.removesuffix(f":{usual}") if parts.port == usual else host


def _crc32(data: bytes) -> str:
    return b64encode(zlib.crc32(data).to_bytes(4)).decode()


def _chunked(body: bytes) -> bytes:
    """Return a body in chunks, with its CRC-32 in a trailer."""
    pieces = [body[start : start + _CHUNK] for start in range(0, len(body), _CHUNK)]
    sent = [part for piece in pieces for part in (b"%x\r\n" % len(piece), piece, b"\r\n")]
    return b"".join([*sent, b"0\r\n", f"{_CRC32}:{_crc32(body)}".encode(), b"\r\n\r\n"])
