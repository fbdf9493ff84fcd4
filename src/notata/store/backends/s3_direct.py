"""Plain S3 requests in a fraction of botocore's time: signed here, and sent by the session of s3fs's client.

A response that is not a plain success, and a failure to send, are handed over to botocore, as if it had sent the
request itself. So redirects, retries, pauses and errors are botocore's own, and nothing is requested twice.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from notata.store.backends.patience import note_start
from notata.store.backends.s3_forms import Form, answering, learn, session_of
from notata.store.backends.s3_replies import READERS, Reply, read_page

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["Direct", "direct"]

_LOGGER: Final = logging.getLogger("botocore.endpoint")  # at level DEBUG, it describes each request
_MOVED: Final = frozenset({*range(300, 400), 400, 401, 403})
"""Statuses after which botocore may use another address, region or credentials."""


def direct(fs: AbstractFileSystem) -> Direct:
    """Return the direct requests of a file system of s3fs; all stores that use it share them."""
    found = vars(fs).get("notata_direct")
    if not isinstance(found, Direct):
        found = vars(fs)["notata_direct"] = Direct(fs)
    return found


class Direct:
    """Requests of one file system of s3fs, which has the credentials, the connections and the options."""

    def __init__(self, fs: Any) -> None:
        self._fs = fs
        self._forms: dict[tuple[str, str], tuple[Any, Form | None]] = {}
        self._learning = asyncio.Lock()

    async def call(self, method: str, **arguments: Any) -> Reply:
        """Make one request, as s3fs's ``_call_s3`` does."""
        from botocore.exceptions import BotoCoreError

        bucket = arguments.pop("Bucket")
        if method == "list_objects_v2":
            return await self._list(bucket, arguments)
        if method not in READERS or _LOGGER.isEnabledFor(logging.DEBUG):
            return await self._usual(method, bucket, arguments)
        client = await self._client(bucket)
        form = await self._form(client, method, bucket)
        if form is None or not arguments.keys() <= form.arguments:
            return await self._usual(method, bucket, arguments)
        attempt = _Attempt()
        note_start()  # a first request has made the client and a form, which takes seconds on a busy machine
        try:
            attempt.response = await form.send(arguments)
            if (found := await READERS[method](attempt.response)) is not None:
                return found
        except BotoCoreError as error:
            attempt.failure = error
        return await self._hand_over(client, attempt, method, bucket, arguments)

    async def _usual(self, method: str, bucket: str, arguments: dict[str, Any]) -> Reply:
        reply: Reply = await self._fs._call_s3(method, Bucket=bucket, **arguments)
        return reply

    async def _client(self, bucket: str) -> Any:
        await self._fs.set_session()
        return await self._fs.get_s3(bucket)

    async def _form(self, client: Any, method: str, bucket: str) -> Form | None:
        of, form = self._forms.get((method, bucket), (None, None))
        if of is client:
            return form
        async with self._learning:
            of, form = self._forms.get((method, bucket), (None, None))
            if of is not client:
                try:
                    form = await learn(self._fs, client, method, bucket)
                except LookupError:  # the request itself fails in the same way
                    return None
                self._forms[method, bucket] = client, form
        return form

    async def _hand_over(
        self, client: Any, attempt: _Attempt, method: str, bucket: str, arguments: dict[str, Any]
    ) -> Reply:
        """Have botocore continue from the outcome of a first attempt. It makes further ones itself."""
        status = None if attempt.response is None else attempt.response.status_code
        call = self._fs._call_s3
        try:
            reply: Reply = await answering(client, method, attempt.answer, call, method, Bucket=bucket, **arguments)
            return reply
        finally:
            attempt.release()
            if status in _MOVED:
                self._forms.pop((method, bucket), None)

    async def _list(self, bucket: str, arguments: dict[str, Any]) -> Reply:
        """List a page: botocore makes the request, but does not read the response if `read_page` can."""
        client = await self._client(bucket)
        session = session_of(client)
        if session is None:
            return await self._usual("list_objects_v2", bucket, arguments)
        note_start()
        page: Reply | None = None

        async def answer(request: Any) -> Any:
            nonlocal page
            response = await session.send(request)
            page = read_page(await response.content) if response.status_code == 200 else None
            return response if page is None else _emptied(response)

        method = "list_objects_v2"
        reply: Reply = await answering(client, method, answer, self._fs._call_s3, method, Bucket=bucket, **arguments)
        return reply if page is None else {**reply, **page}


@dataclass(slots=True, repr=False)
class _Attempt:
    """The outcome of a first attempt: a response, or the reason why there is none. botocore takes it once."""

    response: Any = None
    failure: Exception | None = None

    async def answer(self, _: Any) -> Any:
        """Return or raise the outcome; later return None, so that botocore sends its request."""
        response, failure = self.response, self.failure
        self.response = self.failure = None
        if failure is not None:
            raise failure
        return response

    def release(self) -> None:
        """Return the connection of a response that botocore has not taken."""
        if self.response is not None:
            self.response.raw.release()


class _NoFiles:
    """The body of a listing without files.

    Attributes:
        raw_headers: The headers of the response, which aiobotocore 2 reads from here.
    """

    def __init__(self, raw_headers: Any) -> None:
        self.raw_headers = raw_headers

    async def read(self) -> bytes:
        return b"<ListBucketResult/>"


def _emptied(response: Any) -> Any:
    return type(response)(response.url, response.status_code, response.headers, _NoFiles(response.raw.raw_headers))
