"""An S3 store whose plain writes and reads go through obstore, which takes less time for each; it knows when they may.

Everything else goes through s3fs as ever: claims, swaps, appends, parts of an upload, lists, deletions. So does again
what obstore does not do at once: s3fs's answer says why, and its retries are the only ones.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import fsspec.config

from notata._base.packages import needed
from notata.errors import ConfigurationError
from notata.store.base import Blob
from notata.store.patience import note_progress
from notata.store.s3 import S3Store
from notata.store.s3_conditions import tag_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from obstore import GetOptions, GetResult
    from obstore.store import S3Store as Client

__all__ = ["ObstoreS3Store"]

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
"""Storage options of s3fs that obstore can heed: endpoint, region and credentials are taken from s3fs's own client."""

_RENEWED: Final = timedelta(minutes=10)  # credentials are asked for again; botocore has new ones in time

_PIECE: Final = 2**16  # bytes of an answer that are taken at once

_whole: set[str] = set()
"""Endpoints that answer a range which is all of a file by the file, and no range; obstore refuses that."""

_pid = 0
"""The process in which obstore's threads run: one forked from it has none of them."""


class ObstoreS3Store(S3Store):
    """Files below one prefix of an S3 bucket, by obstore where that keeps the contract."""

    def __init__(self, url: str, options: dict[str, Any], timeout: float) -> None:
        with needed("engine 'obstore' needs the package of that name", "obstore>=0.12", "obstore"):
            import obstore  # noqa: F401
        if unknown := sorted(_unknown({**fsspec.config.conf.get("s3", {}), **options})):
            raise ConfigurationError(
                f"obstore cannot heed these storage options: {', '.join(unknown)}; leave them out, or engine='obstore'"
            )
        super().__init__(url, options, timeout)

    async def _send(self, key: str, data: bytes) -> str:
        name = self._name(key)
        reply = await self._by_obstore(lambda client: client.put_async(name, data, use_multipart=False), size=len(data))
        if reply is not None and reply["e_tag"] is not None:
            return tag_of(reply["e_tag"])
        return await super()._send(key, data)

    async def _part_of(self, key: str, start: int, end: int) -> Blob:
        blob = None
        if self._connection.clock is not None:  # s3fs's first reply tells what obstore does not
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
        """The reply for a range; for all of a small file without one, where the endpoint was seen to need that."""
        from obstore.exceptions import GenericError

        ranged: GetOptions = {"range": (start, end)}
        if start or self._endpoint() not in _whole:
            try:
                return await client.get_async(name, options=ranged)
            except GenericError:
                if start:
                    raise
        reply = await client.get_async(name)
        if reply.meta["size"] > end:
            return await client.get_async(name, options=ranged)
        if reply.meta["size"]:  # of an empty file any server refuses a range
            _whole.add(self._endpoint())
        return reply

    async def _by_obstore(self, call: Callable[[Client], Coroutine[Any, Any, Any]], **sizes: int) -> Any:
        """What comes of a request by obstore; None where nothing does, whatever the reason."""
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
        if os.getpid() != _pid or self._bucket.startswith("arn:"):  # an access point has an address of its own
            return None
        fs = self._connection.fs
        clients: dict[str, Client] = fs.__dict__.setdefault("notata_clients", {})
        if self._bucket not in clients:
            clients[self._bucket] = _made(fs, self._bucket)
        return clients[self._bucket]


def _unknown(options: dict[str, Any]) -> set[str]:
    """The options that mean nothing to obstore, by name."""
    unknown = options.keys() - _KNOWN.keys()
    for name, known in _KNOWN.items():
        if known is not None:
            unknown |= {f"{name}[{inner!r}]" for inner in (options.get(name) or {}).keys() - known}
    return unknown


def _made(fs: Any, bucket: str) -> Client:
    """A client for the endpoint, region and credentials of s3fs's, whatever told it of them. It retries nothing."""
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
        endpoint=endpoint,  # whatever the environment says to obstore
        virtual_hosted_style_request=False,
        region=region or "us-east-1",
        client_options={"allow_http": endpoint.startswith("http://"), "timeout": "1h"},  # the deadline is ours
        retry_config={"max_retries": 0},
        **options,
    )
