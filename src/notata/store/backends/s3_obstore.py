"""An S3 store that uses obstore for plain writes and reads, which takes less time for each.

All other operations use s3fs: claims, compare-and-swap, appends, upload parts, listings, deletions. A request that
obstore cannot complete at once is repeated through s3fs, whose error explains the reason and whose retries are the only
ones.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import fsspec.config

from notata._base.packages import needed
from notata.errors import ConfigurationError
from notata.store.backends.patience import note_progress
from notata.store.backends.s3 import S3Backend
from notata.store.backends.s3_conditions import tag_of
from notata.store.entries import Blob

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from obstore import GetOptions, GetResult, PutResult
    from obstore.store import S3Store as Client

__all__ = ["ObstoreS3Backend"]

_KNOWN: Final[dict[str, set[str] | None]] = {
    "anon": None,
    "client_kwargs": {"endpoint_url", "region_name"},
    "config_kwargs": {"connect_timeout", "max_pool_connections", "read_timeout", "retries"},
    "endpoint_url": None,
    "key": None,
    "profile": None,
    "secret": None,
    "token": None,
    "use_listings_cache": None,
}
"""s3fs's storage options that obstore can use: endpoint, region and credentials come from s3fs's own client."""

_RENEWED: Final = timedelta(minutes=10)  # time until obstore asks for credentials again; botocore renews them in time

_PIECE: Final = 2**16  # bytes of a response to read at once

WHOLE_ONLY: set[str] = set()
"""Endpoints that reply with the whole file, and no range, to a range that covers it; obstore refuses such a reply."""

_pid = 0
"""The process of obstore's threads: a forked child has none of them."""


class ObstoreS3Backend(S3Backend):
    """Files below one prefix of an S3 bucket, through obstore if that keeps the store's guarantees."""

    def __init__(self, url: str, options: dict[str, Any], timeout: float) -> None:
        with needed("engine 'obstore' needs the package obstore", "obstore>=0.12", "obstore"):
            import obstore  # noqa: F401
        if unknown := sorted(_unknown({**fsspec.config.conf.get("s3", {}), **options})):
            raise ConfigurationError(
                f"engine 'obstore' does not support these storage options: {', '.join(unknown)}; remove these "
                "options, or engine='obstore'"
            )
        super().__init__(url, options, timeout)

    async def _send(self, key: str, data: bytes) -> str:
        put = partial(_put, self._name(key), data, self._content_type(key))
        reply = await self._by_obstore(put, size=len(data))
        if reply is not None and reply["e_tag"] is not None:
            return tag_of(reply["e_tag"])
        return await super()._send(key, data)

    async def _part_of(self, key: str, start: int, end: int) -> Blob:
        blob = None
        if self._connection.clock is not None:  # s3fs's first reply has the storage's time, obstore's have not
            blob = await self._by_obstore(partial(self._got, self._name(key), start, end))
        return await super()._part_of(key, start, end) if blob is None else blob

    async def _got(self, name: str, start: int, end: int, client: Client) -> Blob:
        reply = await self._asked(client, name, start, end)
        found, pieces = reply.meta, []
        if found["e_tag"] is None:
            raise OSError("a reply without an ETag")
        note_progress()
        async for piece in reply.stream(min_chunk_size=_PIECE):
            note_progress()
            pieces.append(piece)
        return Blob(
            b"".join(pieces), found["size"], tag_of(found["e_tag"]), self._connection.age(found["last_modified"])
        )

    async def _asked(self, client: Client, name: str, start: int, end: int) -> GetResult:
        """Return the reply to a range. If the endpoint needs it, request a small file as a whole."""
        from obstore.exceptions import GenericError

        ranged: GetOptions = {"range": (start, end)}
        if start or self._endpoint() not in WHOLE_ONLY:
            try:
                return await client.get_async(name, options=ranged)
            except GenericError:
                if start:
                    raise
        reply = await client.get_async(name)
        if reply.meta["size"] > end:
            return await client.get_async(name, options=ranged)
        if reply.meta["size"]:  # any server refuses a range of an empty file
            WHOLE_ONLY.add(self._endpoint())
        return reply

    async def _by_obstore(self, call: Callable[[Client], Coroutine[Any, Any, Any]], **sizes: int) -> Any:
        """Return the result of a request by obstore, or None if it failed for any reason except a timeout."""
        client = self._client()
        if client is None:
            return None
        try:
            return await self._connection.ask(call, client, **sizes)
        except TimeoutError:
            raise
        except Exception:
            return None

    def _client(self) -> Client | None:
        global _pid  # noqa: PLW0603
        _pid = _pid or os.getpid()
        if os.getpid() != _pid or self._bucket.startswith("arn:"):  # an access point has its own address
            return None
        fs = self._connection.fs
        clients: dict[str, Client] = fs.__dict__.setdefault("notata_clients", {})
        if self._bucket not in clients:
            clients[self._bucket] = _made(fs, self._bucket)
        return clients[self._bucket]


async def _put(name: str, data: bytes, kind: str, client: Client) -> PutResult:
    return await client.put_async(name, data, attributes={"Content-Type": kind}, use_multipart=False)


def _unknown(options: dict[str, Any]) -> set[str]:
    """Return the names of options that obstore does not support."""
    unknown = options.keys() - _KNOWN.keys()
    for name, known in _KNOWN.items():
        if known is not None:
            unknown |= {f"{name}[{inner!r}]" for inner in (options.get(name) or {}).keys() - known}
    return unknown


def _made(fs: Any, bucket: str) -> Client:
    """Return a client with endpoint, region and credentials of s3fs, wherever they came from. It never retries."""
    from obstore.store import S3Store as Client

    endpoint, region = fs.s3.meta.endpoint_url, fs.s3.meta.region_name
    signed: Any = getattr(fs.s3._request_signer, "_credentials", None)

    async def credentials() -> dict[str, Any]:
        now = await signed.get_frozen_credentials()
        return {
            "access_key_id": now.access_key,
            "secret_access_key": now.secret_key,
            "token": now.token,
            "expires_at": datetime.now(UTC) + _RENEWED,
        }

    options: dict[str, Any] = {}
    if fs.anon or signed is None:
        options["skip_signature"] = True
    else:
        options["credential_provider"] = credentials
    return Client(
        bucket,
        endpoint=endpoint,  # overrides obstore's environment variables
        virtual_hosted_style_request=False,
        region=region or "us-east-1",
        client_options={"allow_http": endpoint.startswith("http://"), "timeout": "1h"},  # the deadline is ours
        retry_config={"max_retries": 0},
        **options,
    )
