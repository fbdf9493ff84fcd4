"""Files in a container of Azure Blob Storage, through adlfs: a write is one request, and the server checks conditions.

As on S3, a conditional write puts a token into the file's metadata. If a refusal follows a lost reply, the token shows
that the file is our own.

This module uses adlfs's file system and its service client. Reads, listings and deletions use `GenericBackend`.
"""

from __future__ import annotations

import builtins
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from fsspec.asyn import sync

from notata.store.backend import ABSENT
from notata.store.backends.generic import GenericBackend
from notata.store.files import Upload

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

    from notata.store.backends.clients import Client

__all__ = ["AzureBackend"]

_METADATA: Final = {"is_directory": "false"}
"""Metadata that adlfs gives each file."""

_TOKEN: Final = "notata_write"  # names in Azure's metadata follow the rules of C# identifiers


class AzureBackend(GenericBackend):
    """Files below one folder of a container."""

    supports_exclusive_create = True
    supports_cas = True

    @property
    def gap(self) -> str:
        return ""

    def _version(self, info: dict[str, Any]) -> str:
        return str(info.get("etag") or "").strip('"')

    def put(self, key: str, data: bytes, match: str | None) -> str:
        def put(client: Client, token: str) -> str:
            name = self._name(key)  # first: it refuses names that adlfs would take for another one
            arguments = _described(self._content_type(key), match, token)
            return client.call(_upload, client.fs, name, data, arguments, size=len(data))

        return self._put_if(key, match, put)

    def _put_if(self, key: str, match: str | None, put: Callable[[Client, str], str]) -> str:
        """Make a write, with a condition unless `match` is None. A repeated write recognizes its own file."""
        token = "" if match is None else secrets.token_hex(16)
        try:
            return self._connection.run_with(lambda client: put(client, token))
        except Exception as error:
            unmet = self._unmet(key, match, error)
            if unmet is None:
                raise
            if version := self._own(key, token):
                return version
            raise unmet from error

    def _unmet(self, key: str, match: str | None, error: Exception) -> Exception | None:
        """Return the error for a condition that does not hold, or None if the write failed for another reason."""
        status = _status(error)
        if match == ABSENT and status in (409, 412):
            return FileExistsError(key)
        if match and status in (404, 412):
            return self.conflict(key, "another writer changed or removed it")
        return None

    def _own(self, key: str, token: str) -> str | None:
        """Return the version of a file if it carries our token."""
        try:
            found = self._connection.run_with(lambda client: client.call(_properties, client.fs, self._name(key)))
        except Exception as error:
            if _status(error) == 404:
                return None
            raise
        return _tag(found) if found["metadata"].get(_TOKEN) == token else None

    def begin_upload(self, key: str, match: str | None) -> Upload:
        return _Blocks(self, key, match)


class _Blocks:
    """A streamed write: uncommitted blocks, which one request makes into the file.

    Azure deletes the blocks of an aborted write within a week.
    """

    def __init__(self, backend: AzureBackend, key: str, match: str | None) -> None:
        self._backend = backend
        self._key = key
        self._match = match
        self._name = backend._name(key)
        self._blocks: builtins.list[str] = []

    def write(self, part: bytes) -> None:
        block = secrets.token_hex(16)  # unique among all writers of this name
        self._backend._connection.run_with(
            lambda client: client.call(_stage, client.fs, self._name, block, part, size=len(part))
        )
        self._blocks.append(block)

    def commit(self) -> str:
        def commit(client: Client, token: str) -> str:
            arguments = _described(self._backend._content_type(self._key), self._match, token)
            return client.call(_commit, client.fs, self._name, self._blocks, arguments)

        return self._backend._put_if(self._key, self._match, commit)

    def abort(self) -> None:
        self._blocks = []


def _condition(match: str | None) -> dict[str, Any]:
    """Return the condition of a write as arguments of the service client."""
    from azure.core import MatchConditions

    if match is None:
        return {}
    if match == ABSENT:
        return {"match_condition": MatchConditions.IfMissing}
    return {"etag": f'"{match}"', "match_condition": MatchConditions.IfNotModified}


def _described(kind: str, match: str | None, token: str) -> dict[str, Any]:
    """Return content type, metadata and condition of a write as arguments of the service client."""
    from azure.storage.blob import ContentSettings

    metadata = {**_METADATA, _TOKEN: token} if token else _METADATA
    return {"metadata": metadata, "content_settings": ContentSettings(content_type=kind), **_condition(match)}


def _upload(fs: AbstractFileSystem, name: str, data: bytes, arguments: dict[str, Any]) -> str:
    async def upload() -> Any:
        async with _blob(fs, name) as blob:
            return await blob.upload_blob(data, length=len(data), overwrite=True, **arguments)

    return _stored(fs, sync(fs.loop, upload))


def _stage(fs: AbstractFileSystem, name: str, block: str, part: bytes) -> None:
    async def stage() -> None:
        async with _blob(fs, name) as blob:
            await blob.stage_block(block, part, length=len(part))

    sync(fs.loop, stage)


def _commit(fs: AbstractFileSystem, name: str, blocks: builtins.list[str], arguments: dict[str, Any]) -> str:
    async def commit() -> Any:
        from azure.storage.blob import BlobBlock

        async with _blob(fs, name) as blob:
            named = [BlobBlock(block) for block in blocks]
            return await blob.commit_block_list(named, **arguments)

    return _stored(fs, sync(fs.loop, commit))


def _blob(fs: AbstractFileSystem, name: str) -> Any:
    container, path, _ = fs.split_path(name)
    return fs.service_client.get_blob_client(container=container, blob=path)


def _properties(fs: AbstractFileSystem, name: str) -> Any:
    async def look_up() -> Any:
        async with _blob(fs, name) as blob:
            return await blob.get_blob_properties()

    return sync(fs.loop, look_up)


def _stored(fs: AbstractFileSystem, reply: dict[str, Any]) -> str:
    fs.invalidate_cache()
    return _tag(reply)


def _tag(reply: Any) -> str:
    return str(reply["etag"]).strip('"')


def _status(error: Exception) -> int | None:
    """Return the HTTP status of an error of azure's."""
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) else None
