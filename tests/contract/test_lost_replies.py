"""A lost reply: the client library repeats the request, and notata recognizes its own earlier write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import aiohttp
import pytest

from notata import ConflictError, StorageError
from notata.store.files import PART
from tests.backends import Place
from tests.contract.conftest import BUCKETS, CEPH, emptied
from tests.counting import Send, intercepted


@contextmanager
def lost_reply(method: str, marker: str = "") -> Iterator[list[str]]:
    """Drop the reply of the next request of this kind, after the server has applied it."""
    lost: list[str] = []

    async def request(send: Send, verb: str, url: Any, **kwargs: Any) -> Any:
        response = await send(verb, url, **kwargs)
        if not lost and verb == method and marker in str(url):
            lost.append(str(url))
            await response.read()
            response.close()
            raise aiohttp.ServerDisconnectedError
        return response

    with intercepted(request):
        yield lost
    assert lost, "no such request was sent"


@pytest.fixture(params=[*BUCKETS, CEPH])
def bucket(request: pytest.FixtureRequest) -> Iterator[Place]:
    yield from emptied(request)


@pytest.fixture
def put(bucket: Place) -> str:
    """Return the HTTP method of a write."""
    return "POST" if bucket.name == "gcs" else "PUT"


def test_create(bucket: Place, put: str) -> None:
    store = bucket.store()
    with lost_reply(put):
        version = store.create("a", b"mine")
    assert store.fetch("a").version == version
    assert bucket.bytes("a") == b"mine"
    store.replace("a", b"still mine", version)


def test_replace(bucket: Place, put: str) -> None:
    store = bucket.store()
    version = store.create("a", b"1")
    with lost_reply(put):
        version = store.replace("a", b"2", version)
    store.replace("a", b"3", version)
    assert bucket.bytes("a") == b"3"


def test_a_claim(bucket: Place, put: str) -> None:
    with lost_reply(put):
        log = bucket.logbook("a")
    with lost_reply(put):
        log.mark_complete()
    assert log.status == "complete"
    assert b'"complete"' in bucket.bytes("log_a/metadata.json")


@pytest.mark.parametrize("size", [10, 6 * 2**20])
def test_append_does_not_write_twice(bucket: Place, put: str, size: int) -> None:
    store = bucket.store()
    store.write("log", b"x" * size)
    last = {"gcs": "compose" if size > 2**20 else "upload"}.get(bucket.name, "uploadId" if size > 2**20 else "")
    with lost_reply("POST" if size > 2**20 else put, last):
        store.append("log", b"tail", size)
    assert bucket.bytes("log") == b"x" * size + b"tail"
    with pytest.raises(ConflictError):
        store.append("log", b"more", size)


def test_the_completion_of_a_large_file(bucket: Place) -> None:
    store = bucket.store()
    data = b"x" * (2 * PART + 1)
    with lost_reply("POST", "compose" if bucket.name == "gcs" else "uploadId="), store.open("a", "xb") as file:
        file.write(data)
    assert bucket.bytes("a") == data
    assert bucket.names() == ["a"]


def test_a_part_of_a_large_file(bucket: Place) -> None:
    """GCS skips the part it already has. The emulator stores it twice: an error, but no silent corruption."""
    store = bucket.store()
    data = b"x" * (2 * PART + 1)
    emulated = bucket.name == "gcs"
    noticed = pytest.raises(StorageError, match="are stored; write the file again") if emulated else nullcontext()
    with noticed, lost_reply(*(("POST", "upload_id=") if emulated else ("PUT", "partNumber="))):
        store.write("a", data)
    assert emulated or bucket.bytes("a") == data
