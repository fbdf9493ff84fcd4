"""Fail the n-th storage operation of each call, before and after it took effect, for every n."""

from __future__ import annotations

import errno
import json
import pickle
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from notata import FullError, Logbook, NotataError, RunDisplacedError, StorageError
from notata.store import open_store
from notata.store.files import PART
from notata.testing import FaultyStore, Operation
from tests.backends import Place

OLD = b"old" * 1000
NEW = b"new" * 2000
BIG = b"x" * (2 * PART + 5)


def write_big(log: Logbook) -> None:
    with log.open("artifacts/a", "wb") as file:
        file.write(BIG)


def write_new_big(log: Logbook) -> None:
    with log.open("artifacts/fresh", "xb") as file:
        file.write(BIG)


def append(log: Logbook) -> None:
    with log.open("artifacts/a", "ab") as file:
        file.write(NEW)


def local(log: Logbook) -> None:
    with log.local("artifacts/a") as path:
        path.write_bytes(NEW)


CALLS: dict[str, Callable[[Logbook], Any]] = {
    "text": lambda log: log.text("t", "new"),
    "json": lambda log: log.json("j", {"new": 1}),
    "pickle": lambda log: log.pickle("p", {"new": 1}),
    "bytes": lambda log: log.bytes("a", NEW),
    "path.write_bytes": lambda log: log["artifacts/a"].write_bytes(NEW),
    "path.touch": lambda log: log["artifacts/a"].touch(),
    "path.unlink": lambda log: log["artifacts/a"].unlink(),
    "open w": write_big,
    "open x": write_new_big,
    "open a": append,
    "local": local,
    "meta": lambda log: log.meta(remark="new"),
    "mark_complete": lambda log: log.mark_complete(),
    "mark_failed": lambda log: log.mark_failed("new"),
}

WHOLE = {OLD, NEW, OLD + NEW, BIG, b"new", b'{\n  "new": 1\n}\n', pickle.dumps({"new": 1}, -1), b""}


def prepared() -> tuple[FaultyStore, Place, Logbook]:
    place = Place("memory", f"memory://{uuid.uuid4().hex}")
    store = FaultyStore(open_store(place.url))
    log = Logbook("run", store, params={"x": 1})
    log.bytes("a", OLD)
    return store, place, log


def how_many(call: Callable[[Logbook], Any]) -> int:
    store, _, log = prepared()
    before = len(store.operations)
    call(log)
    return len(store.operations) - before


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", CALLS)
def test_every_operation_of_a_call_may_fail(name: str, after: bool) -> None:
    count = how_many(CALLS[name])
    assert count >= 1
    for nth in range(1, count + 1):
        store, place, log = prepared()
        store.fail(nth, after=after)
        failed = None
        try:
            CALLS[name](log)
        except NotataError as error:
            failed = error
        assert failed is not None or name == "open a", (name, nth)  # an append may find that it is done
        if failed is not None:
            assert isinstance(failed, StorageError)
            assert failed.key, failed
            assert str(failed.key) in str(failed)
            assert isinstance(failed.__cause__, ConnectionError)
        check_folder(place, name)
        store.heal()
        if name != "mark_failed":
            log.mark_complete()
            assert json.loads(place.bytes("log_run/metadata.json"))["status"] == "complete"


def check_folder(place: Place, name: str) -> None:
    """Each file is the old or the new one, whole; the status is true; no debris."""
    fields = json.loads(place.bytes("log_run/metadata.json"))
    ends = {"mark_complete": {"initialized", "complete"}, "mark_failed": {"initialized", "failed"}}
    assert fields["status"] in ends.get(name, {"initialized"})
    for key in place.names():
        assert ".notata-" not in key
        if key.startswith("log_run/artifacts/"):
            assert place.bytes(key) in WHOLE


def test_a_claim_of_unknown_effect_is_looked_up() -> None:
    place = Place("memory", f"memory://{uuid.uuid4().hex}")
    store = FaultyStore(open_store(place.url))
    store.fail(2, after=True, error=TimeoutError)  # 1 looks whether the folder is empty, 2 claims it
    with Logbook("run", store):
        pass
    assert json.loads(place.bytes("log_run/metadata.json"))["status"] == "complete"
    store.fail(2, after=True, error=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        Logbook("interrupted", store)
    assert json.loads(place.bytes("log_interrupted/metadata.json"))["status"] == "failed"
    store.fail(2, error=TimeoutError)
    with pytest.raises(TimeoutError):
        Logbook("not", store)
    assert "log_not/metadata.json" not in place.names()


@pytest.mark.parametrize("mode", ["w", "a"])
def test_an_interrupt_while_text_is_closed_is_not_hidden(mode: str) -> None:
    store, place, _ = prepared()
    run = store.below("log_run")
    for error in (KeyboardInterrupt, lambda: OSError(errno.ENOSPC, "full")):
        file = run.open("artifacts/a", mode)
        file.write("x" * PART)
        file.write("y")
        store.fail(1, error=error)
        with pytest.raises((KeyboardInterrupt, FullError)):
            file.close()
        assert place.bytes("log_run/artifacts/a") == OLD


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_every_operation_of_a_start_may_fail(after: bool, overwrite: bool) -> None:
    def start(store: FaultyStore) -> Logbook:
        return Logbook("run", store, params={"x": 2}, overwrite=overwrite)

    def fresh() -> tuple[FaultyStore, Place]:
        place = Place("memory", f"memory://{uuid.uuid4().hex}")
        if overwrite:
            Logbook("run", place.url, params={"x": 1}).text("old", "old")
        return FaultyStore(open_store(place.url)), place

    store, _ = fresh()
    start(store)
    for nth in range(1, len(store.operations) + 1):
        store, place = fresh()
        store.fail(nth, after=after)
        with pytest.raises(StorageError):
            start(store)
        names = place.names()
        if "log_run/metadata.json" in names:
            status = json.loads(place.bytes("log_run/metadata.json"))["status"]
            assert status in ({"initialized", "replacing", "failed"} if overwrite else {"initialized", "failed"})
            old_run_stands = b'"replacing"' not in place.bytes("log_run/metadata.json") and nth <= 2
            assert old_run_stands or status == "replacing" or "log_run/artifacts/old.txt" not in names
        # Whatever is left, the way out that the error names works:
        with Logbook("run", place.url, overwrite=True) as log:
            log.text("t", "x")
        assert place.names() == ["log_run/artifacts/t.txt", "log_run/metadata.json"]


def test_a_storage_failure_never_hides_the_users_own_error() -> None:
    store, place, log = prepared()
    with pytest.raises(ValueError, match="mine") as caught, log:
        store.fail(1)
        raise ValueError("mine")
    assert "marked failed" in "".join(caught.value.__notes__)
    assert json.loads(place.bytes("log_run/metadata.json"))["status"] == "initialized"


def test_a_lost_reply_of_the_end_is_made_good() -> None:
    store, place, log = prepared()
    seen: list[str] = []
    log.callback = lambda ended: seen.append(ended.status)
    store.fail(1, after=True)
    with pytest.raises(StorageError):
        log.mark_complete()
    assert (log.status, seen) == ("initialized", [])
    log.mark_complete()
    log.mark_complete()
    assert seen == ["complete"]
    assert json.loads(place.bytes("log_run/metadata.json"))["status"] == log.status == "complete"


def test_a_successor_is_not_mistaken_for_a_lost_reply() -> None:
    _, place, log = prepared()
    Logbook("run", place.url, overwrite=True)
    with pytest.raises(RunDisplacedError):
        log.mark_complete()
    assert json.loads(place.bytes("log_run/metadata.json"))["status"] == "initialized"


def test_the_store_fails_as_it_is_told() -> None:
    store, _, log = prepared()
    store.fail(2, error=lambda: TimeoutError("slow"))
    log.text("one", "1")
    with pytest.raises(TimeoutError):
        log.text("two", "2")
    log.text("three", "3")
    assert store.operations[-1] == Operation("put", "artifacts/three.txt")


def test_the_fixture(memory_logbook: Logbook) -> None:
    memory_logbook.text("notes", "x")
    assert memory_logbook.url.startswith("memory://notata-")
