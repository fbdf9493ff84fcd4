"""The number and size of concurrent requests, and what remains when one fails or all are interrupted."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from fsspec.callbacks import Callback

from notata import errors
from notata.store import Store, open_store
from notata.store.backends.remote import _Started
from notata.store.files import PART
from tests.backends import Place
from tests.contract.conftest import EVERYWHERE, emptied
from tests.contract.test_store import open_uploads
from tests.counting import Send, counted, intercepted

SECONDS = 120.0  # until something hangs


@pytest.fixture(params=EVERYWHERE)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    yield from emptied(request)


class Gate:
    """Hold requests of one kind until the expected number has arrived; later requests pass.

    Attributes:
        here: The number of requests in flight now.
        most: The maximum number of requests in flight.
    """

    def __init__(self, method: str, marker: str, expected: int) -> None:
        self.most = self.here = 0
        self._kind = method, marker
        self._expected = expected
        self._open = False
        self._changed: asyncio.Event | None = None
        self.full = threading.Event()

    def concerns(self, method: str, url: object) -> bool:
        return (method, True) == (self._kind[0], self._kind[1] in str(url))

    async def passed(self) -> None:
        self._changed = self._changed or asyncio.Event()
        self.here += 1
        self.most = max(self.most, self.here)
        if self.here == self._expected:
            self.full.set()
            self._changed.set()
        await asyncio.wait_for(self._changed.wait(), SECONDS)

    def left(self) -> None:
        self.here -= 1


@contextmanager
def gate(method: str, marker: str, expected: int, behind: int = 0) -> Iterator[Gate]:
    """Create a gate for requests of one kind; the first `behind` of them pass."""
    one = Gate(method, marker, expected)
    left = behind

    async def request(send: Send, verb: str, url: Any, **kwargs: Any) -> Any:
        nonlocal left
        left -= one.concerns(verb, url)
        if not one.concerns(verb, url) or left >= 0:
            return await send(verb, url, **kwargs)
        try:
            await one.passed()
            return await send(verb, url, **kwargs)
        finally:
            one.left()

    with intercepted(request):
        yield one


@pytest.fixture
def part(bucket: Place) -> tuple[str, str, int]:
    """Return the method and marker of a request that uploads a part, and how many run at once."""
    return ("POST", "upload_id", 1) if bucket.name == "gcs" else ("PUT", "partNumber", 4)


def test_a_large_value_goes_up_in_four_parts_at_a_time_where_the_protocol_has_parts(
    bucket: Place, part: tuple[str, str, int]
) -> None:
    store, data = bucket.store(), np.random.default_rng(0).bytes(6 * PART + 1)
    with gate(*part) as up, store.open("a", "wb") as file:
        file.write(data)
    assert up.most == part[2]
    assert bucket.bytes("a") == data


def test_a_large_value_comes_back_in_four_parts_at_a_time(bucket: Place) -> None:
    store, data = bucket.store(), np.random.default_rng(0).bytes(6 * PART + 1)
    store.write("a", data)
    assert store.read("a", 0, 1) == data[:1]
    for read in (store.read, lambda key: store.open(key, "rb").read()):
        store.stat("a")
        with gate("GET", "", 4, behind=1) as down:  # the first reply contains the number of parts
            assert read("a") == data
        assert down.most == 4


def test_a_batch_has_32_requests_in_flight_and_no_thread_for_any(bucket: Place) -> None:
    store = bucket.store()
    store.exists("a")
    files = {f"f{number:02}": bytes([number]) for number in range(64)}
    method, marker = ("POST", "upload") if bucket.name == "gcs" else ("PUT", "")
    threads = set(threading.enumerate())
    with gate(method, marker, 32) as up:
        store.write_many(files)
    assert up.most == 32
    with gate("GET", "", 32) as down:
        assert store.read_many(files) == files
    assert down.most == 32
    assert not [thread.name for thread in set(threading.enumerate()) - threads if "notata" in thread.name]


def test_a_batch_of_large_files_is_bounded_in_bytes(bucket: Place) -> None:
    store = bucket.store()
    files = {f"f{number}": bytes([number]) * PART for number in range(8)}
    method, marker = ("POST", "upload") if bucket.name == "gcs" else ("PUT", "")
    with gate(method, marker, 4) as up:
        store.write_many(files)
    assert up.most == 4
    assert store.read_many(files) == files


def test_a_copy_between_stores_has_many_requests_in_flight(bucket: Place) -> None:
    source = open_store(f"memory://{bucket.url.rpartition('/')[2]}")
    files = {f"f{number:02}": bytes([number]) for number in range(64)}
    source.write_many(files)
    method, marker = ("POST", "upload") if bucket.name == "gcs" else ("PUT", "")
    with gate(method, marker, 32) as up, counted() as sent:
        bucket.store().copy_from({entry.key: entry for entry in source.list()}, source)
    assert up.most == 32
    assert len(sent) == 64
    assert bucket.store().read_many(files) == files
    source.clear()


@contextmanager
def refused(method: str, marker: str, after: int) -> Iterator[None]:
    """Make the network refuse requests of this kind after the first `after` of them."""
    seen = 0

    async def request(send: Send, verb: str, url: Any, **kwargs: Any) -> Any:
        nonlocal seen
        if verb == method and marker in str(url):
            seen += 1
            if seen > after:
                raise PermissionError("no")
        return await send(verb, url, **kwargs)

    with intercepted(request):
        yield


@pytest.mark.parametrize("after", [0, 2, 5])
def test_a_part_that_fails_leaves_nothing(bucket: Place, part: tuple[str, str, int], after: int) -> None:
    store = bucket.store()
    store.write("a", b"old")
    with refused(*part[:2], after), pytest.raises(errors.StorageError) as caught, store.open("a", "wb") as file:
        file.write(bytes(7 * PART))
    assert caught.value.key == "a"
    assert bucket.bytes("a") == b"old"
    assert open_uploads(bucket) == []


def test_an_interrupt_while_parts_are_in_flight_leaves_nothing(bucket: Place, part: tuple[str, str, int]) -> None:
    store = bucket.store()
    store.write("a", b"old")
    expected = part[2] + 1  # one more than ever arrives, so those that arrive wait
    with gate(*part[:2], expected) as up, pytest.raises(KeyboardInterrupt), store.open("a", "wb") as file:
        file.write(bytes((2 if bucket.name == "gcs" else 4) * PART + 1))
        raise KeyboardInterrupt
    assert up.here == 0
    assert bucket.bytes("a") == b"old"
    assert open_uploads(bucket) == []


def test_every_failure_of_a_batch_is_kept_with_its_key(bucket: Place) -> None:
    store = bucket.store()
    method, marker = ("POST", "upload") if bucket.name == "gcs" else ("PUT", "")
    with refused(method, marker, 40), pytest.raises(errors.BatchError, match="24 of 64 writes") as caught:
        store.write_many({f"f{number:02}": b"x" for number in range(64)})
    lost = {error.key for error in caught.value.exceptions if isinstance(error, errors.StorageError)}
    assert lost == {f"f{number:02}" for number in range(64)} - set(bucket.names())
    assert len(lost) == 24


def test_batches_report_to_a_callback(store: Store) -> None:
    files = {f"f{number}": b"x" for number in range(9)}
    up, down, copied = Callback(), Callback(), Callback()
    store.write_many(files, callback=up)
    assert store.read_many(files, callback=down) == files
    store.below("copies").copy_from({entry.key: entry for entry in store.list()}, store, callback=copied)
    assert [(callback.size, callback.value) for callback in (up, down, copied)] == [(9, 9)] * 3


@pytest.mark.parametrize("when", ["under way", "told"])
def test_an_upload_whose_begin_is_interrupted_is_ended(
    bucket: Place, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 starts the upload, but the caller never receives its id: notata aborts the upload when the id arrives."""
    if bucket.name == "gcs":
        return  # uploads expire there
    store = bucket.store()
    store.exists("a")
    result = _Started.result
    asked, interrupted, ended = threading.Event(), threading.Event(), threading.Event()

    def result_or_interrupt(self: Any, timeout: float | None = None) -> Any:
        if interrupted.is_set():
            return result(self, timeout)
        assert asked.wait(SECONDS)
        if when == "told":
            result(self, timeout)
        interrupted.set()
        raise KeyboardInterrupt

    async def request(send: Send, verb: str, url: Any, **kwargs: Any) -> Any:
        asked.set()
        if when == "under way":
            await asyncio.to_thread(interrupted.wait, SECONDS)
        reply = await send(verb, url, **kwargs)
        if verb == "DELETE":
            ended.set()
        return reply

    with intercepted(request):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt), store.open("a", "wb") as file:
            patch.setattr(_Started, "result", result_or_interrupt)
            file.write(bytes(2 * PART))
        assert ended.wait(SECONDS)
    assert open_uploads(bucket) == []


def test_an_interrupted_call_is_given_up(bucket: Place) -> None:
    store = bucket.store()
    store.exists("a")
    begun, given_up = threading.Event(), threading.Event()

    async def long(send: Send, method: str, url: Any, **options: Any) -> Any:
        begun.set()
        try:
            await asyncio.sleep(SECONDS)
        except asyncio.CancelledError:
            given_up.set()
            raise

    def interrupt() -> None:
        assert begun.wait(SECONDS)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with intercepted(long), pytest.raises(KeyboardInterrupt):
        store.exists("a")
    thread.join()
    assert given_up.wait(SECONDS)
