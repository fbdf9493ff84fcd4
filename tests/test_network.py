"""Runs on a failing network; `tests.tools.network` does many more rounds."""

from __future__ import annotations

import asyncio
import functools
import gc
import itertools
import logging
import socket
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from fsspec.asyn import sync

from notata import DeadlineError, NotataError, StorageError
from notata.store import Store
from notata.store.backends.patience import Patience
from notata.store.files import PART
from tests.backends import Place
from tests.contract.conftest import make_place
from tests.faulty_proxy import FAULTS, LIE, SILENT, SLOW, UNDONE, FaultyProxy, faulty
from tests.tools.network import Tally, behind, hurried, outing

TIMEOUT = 0.6  # time limit in seconds of requests whose reply may never come


@pytest.fixture(params=["s3", "gcs"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    place = make_place(request.param, request)
    yield place
    place.store().clear()


@pytest.fixture
def proxy(place: Place) -> Iterator[FaultyProxy]:
    with faulty(urlsplit(str(place.options["endpoint_url"])).port or 80) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def _hurried() -> Iterator[None]:
    with hurried(0.0):
        yield


def test_each_fault_once(place: Place, proxy: FaultyProxy) -> None:
    """One request of a small write fails and is repeated. If the server is silent, the write ends at the time limit."""
    patient, hasty = stores(place, proxy)
    for number, fault in enumerate(FAULTS):
        patient.write("a", b"old")
        faults, new = iter([fault]), b"%d" % number
        proxy.met.clear()
        proxy.plan = lambda request, faults=faults: next(faults, "")  # type: ignore[misc]
        if fault in SILENT:
            with pytest.raises(DeadlineError) as caught:
                hasty.write("a", new)
            assert caught.value.key == "a"
            assert place.bytes("a") in left(fault, new), fault
        else:
            patient.write("a", new)
            assert place.bytes("a") == new, fault
            assert proxy.met == {fault: 1, "": 1}


def test_each_fault_for_good(place: Place, proxy: FaultyProxy) -> None:
    """Every request fails: the error names the key, and the file has the old or the new content."""
    patient, hasty = stores(place, proxy)
    for fault in FAULTS:
        patient.write("a", b"old")
        proxy.plan = lambda request, fault=fault: fault  # type: ignore[misc]
        with pytest.raises(NotataError) as caught:
            (hasty if fault in SILENT else patient).write("a", b"new")
        proxy.plan = lambda request: ""
        assert caught.value.key == "a"
        assert place.bytes("a") in left(fault, b"new"), fault


@pytest.mark.parametrize("answer", ["503", "429"])
def test_a_store_that_asks_for_fewer_requests_gets_the_whole_time_limit(
    place: Place, proxy: FaultyProxy, answer: str
) -> None:
    """The pauses take no real time here, but count as if they did."""
    patient, hasty = stores(place, proxy)[0], behind(place, proxy).store(timeout=10.0)
    faults = iter([answer] * 7)
    proxy.met.clear()
    proxy.plan = lambda request: next(faults, "")
    patient.write("a", b"new")
    assert place.bytes("a") == b"new"
    assert proxy.met == {answer: 7, "": 1}
    proxy.plan = lambda request: answer
    for store, requests in ((patient, range(8, 60)), (hasty, range(3, 10))):
        proxy.met.clear()
        with pytest.raises(StorageError, match="kept asking for fewer requests") as caught:
            store.write("a", b"newer")
        assert type(caught.value) is StorageError  # the outcome is known, unlike after a deadline
        assert proxy.met[answer] in requests
    assert place.bytes("a") == b"new"


def test_a_new_connection_that_is_asked_for_fewer_requests_has_the_whole_time_limit_too(
    place: Place, proxy: FaultyProxy
) -> None:
    """A refusal is a response: the short time limit applies only while no server responds."""
    faults = iter(["503"] * 7)
    proxy.plan = lambda request: next(faults, "")
    behind(place, proxy).store().write("a", b"new")
    assert place.bytes("a") == b"new"


@pytest.mark.parametrize("answer", ["400", "403"])
def test_what_the_store_refuses_for_good_is_asked_once(place: Place, proxy: FaultyProxy, answer: str) -> None:
    patient, _ = stores(place, proxy)
    proxy.plan = lambda request: answer
    proxy.met.clear()
    with pytest.raises(NotataError):
        patient.write("a", b"new")
    assert proxy.met == {answer: 1}


def test_twenty_seconds_of_refusals_are_within_thirty() -> None:
    for _ in range(200):
        now = [0.0]
        patience = Patience(lambda: 30.0, functools.partial(max, now))
        while now[-1] < 20:
            pause = patience.pause()
            assert pause is not None
            now.append(now[-1] + pause)


def test_the_delay_that_the_server_requests_is_used_within_the_time_limit() -> None:
    patience = Patience(lambda: 30.0, lambda: 0.0)
    assert patience.pause(wanted=20.0) == 20.0
    assert patience.pause(wanted=20.0) is None


@pytest.mark.parametrize("fault", ["silent", "half-silent"])
@pytest.mark.parametrize("size", [9, PART, 2 * PART])
def test_an_answer_that_stops_coming_ends_a_read(place: Place, proxy: FaultyProxy, fault: str, size: int) -> None:
    """The read asks for 8 MiB because the size of the file is unknown, but the time limit does not grow with that."""
    patient, hasty = stores(place, proxy)
    patient.write("a", bytes(size))
    proxy.plan = lambda request: fault
    with pytest.raises(DeadlineError):
        hasty.start_fetch("a").result(50)  # botocore alone would wait for a minute


@pytest.mark.parametrize("answered", [False, True])
def test_a_slow_answer_may_take_longer_than_the_time_limit(place: Place, proxy: FaultyProxy, answered: bool) -> None:
    place.put("a", bytes(range(256)) * 16)
    store = behind(place, proxy).store(timeout=1.5)
    for _ in range(20):
        with suppress(DeadlineError):  # a busy machine pauses longer
            if answered:
                store.exists("a")
            proxy.plan, proxy.pause = lambda request: SLOW, 0.1  # before each of 20 pieces
            assert store.read("a", 0, 4096) == bytes(range(256)) * 16
            return
    pytest.fail("each read ended at the time limit")


def test_each_piece_of_an_answer_gives_the_request_its_time_anew() -> None:
    now = [0.0]
    patience = Patience(lambda: 30.0, lambda: now[-1])
    now.append(29.9)
    assert patience.pause() is None
    patience.renew()
    now.append(40.0)
    assert patience.pause() is not None


def stores(place: Place, proxy: FaultyProxy) -> tuple[Store, Store]:
    """Return a store with a long time limit, and one with a short limit for requests without reply; both connected."""
    found = behind(place, proxy).store(), behind(place, proxy).store(timeout=TIMEOUT)
    for store in found:
        while True:
            with suppress(DeadlineError):  # on a busy machine
                store.write("warm", b"")
                break
    return found


def left(fault: str, new: bytes) -> set[bytes]:
    """Return the possible contents; on a slow machine the time limit may end before the request reaches the server."""
    return {b"old"} if fault in UNDONE else {b"old", new} if fault in SILENT else {new}


class Held:
    """A large object of the caller."""


CALLS: dict[str, Callable[[Store], object]] = {
    "write": lambda store: store.write("a", b"1"),
    "create": lambda store: store.create("new", b"1"),
    "append": lambda store: store.append("a", b"1"),
    "read": lambda store: store.read("a"),
    "stat": lambda store: store.stat("a"),
    "list": lambda store: store.list(),
    "folder_names": lambda store: store.folder_names(),
    "delete": lambda store: store.delete(["a"]),
    "many": lambda store: store.write_many({"a": b"1", "b": b"2"}),
    "large": lambda store: store.write("a", bytes(2 * PART + 1)),
}


def test_an_error_that_was_handled_holds_nothing_of_its_callers(
    place: Place, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frames in a traceback refer to the callers' objects and would keep them until the next garbage collection."""
    store, _ = stores(place, proxy)
    store.write("a", b"old")
    proxy.plan = lambda request: "500"
    monkeypatch.setattr(logging.getLogger("gcsfs"), "disabled", True)  # pytest keeps its log records
    gc.disable()
    try:
        for name, call in CALLS.items():
            held = attempt(store, call)
            sync(store.filesystem().loop, asyncio.sleep, 0)  # wait until the loop's thread has released it
            assert held() is None, name
    finally:
        gc.enable()


def attempt(store: Store, call: Callable[[Store], object]) -> weakref.ref[Held]:
    held = Held()
    with suppress(NotataError):
        call(store)
        raise AssertionError("it was to fail")
    return weakref.ref(held)


def test_an_error_of_a_listing_is_about_no_key(place: Place, proxy: FaultyProxy) -> None:
    proxy.plan = lambda request: "500"
    with pytest.raises(NotataError) as caught:
        behind(place, proxy).store().list()
    assert (caught.value.key, caught.value.url) == (None, place.url)


@pytest.mark.parametrize("background", [False, True])
def test_a_run_completes_despite_any_fault(place: Place, background: bool) -> None:
    done = Tally()
    for number in range(8):  # on a busy machine a deadline may end a round after few requests
        here = replace(place, url=f"{place.url}/{number}")
        plan = f"suite/{background}/{number}"
        done.add(outing(here, plan, background=background, timeout=TIMEOUT, count=16, large=0))
        if done.faults > 10:
            break
    assert done.problems == []
    assert done.faults > 10
    assert done.returned + done.raised >= 1 + 16 + 2


def test_a_store_with_false_replies_is_noticed(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A request to S3 that is confirmed but not executed loses a file, and the check finds that."""
    lies = itertools.count()

    def lying(rng: object) -> object:
        return lambda line: LIE if "artifacts" in line and not next(lies) else ""

    monkeypatch.setattr("tests.tools.network.weather", lying)
    place = make_place("s3", request)
    done = outing(place, "suite/lie", background=False, timeout=30.0, count=8, large=0)
    assert set(done.wrong) & {"lost", "changed"}, done
    place.store().clear()


# -- the proxy itself ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["", *FAULTS])
def test_the_proxy_does_what_its_plan_says(fault: str, request: pytest.FixtureRequest) -> None:
    place = make_place("s3", request)
    with faulty(urlsplit(str(place.options["endpoint_url"])).port or 80) as proxy:
        proxy.plan = lambda line: fault
        said = ask(proxy, f"/{place.url.removeprefix('s3://')}/a", fault)
        wanted = {"": "200", "500": "500", "503": "503", "lost-500": "500"}
        resets = {"refused", "reset", "lost", "half-reset"}
        silent = dict.fromkeys(SILENT, "silence")
        assert said == {**dict.fromkeys(resets, "reset"), **silent, **wanted}.get(fault, "closed")
        assert proxy.met == {fault: 1}
        assert proxy.done.empty()  # once at most
    assert place.raw().exists(f"{place.url}/a") is (fault not in UNDONE)
    place.store().clear()


def ask(proxy: FaultyProxy, path: str, fault: str) -> str:
    """Send a put that moto accepts unsigned; return the status of a complete reply, or how the connection ended."""
    reply = b""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=60) as connection:
        connection.sendall(b"PUT %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nsome text" % path.encode())
        if fault not in UNDONE:
            assert proxy.done.get(timeout=60).startswith("PUT ")
        connection.settimeout(0.1 if fault in SILENT else 60)
        try:
            while b"\r\n\r\n" not in reply:
                if not (part := connection.recv(2**16)):
                    return "closed"
                reply += part
        except ConnectionResetError:
            return "reset"
        except TimeoutError:
            return "silence"
    return reply.split(b" ")[1].decode()
