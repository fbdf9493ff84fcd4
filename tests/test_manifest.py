"""The file records that notata makes during writes, and the manifest made from them, also when operations fail."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
import tracemalloc
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from fsspec.callbacks import Callback
from hypothesis import given, settings
from hypothesis import strategies as st

from notata import BatchError, ConfigurationError, ConflictError, Experiment, Logbook, LogReader, StorageError
from notata._base import exits
from notata.background import BackgroundBackend
from notata.manifest import Document, FileRecords, HashingBackend, Receipt, valid_receipts, verify
from notata.manifest.hashing import hashed
from notata.store import Backend, Entry, Store, open_store
from notata.store.appending import Tail
from notata.store.files import PART
from notata.testing import FaultyBackend, Operation
from tests import receipts
from tests.at_instruction import At
from tests.backends import Place
from tests.far import FarBackend

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
MD5_OF_1 = "c4ca4238a0b923820dcc509a6f75849b"


def place() -> Place:
    return Place("memory", f"memory://{uuid.uuid4().hex}")


def far() -> tuple[FaultyBackend, Store, FileRecords]:
    """Return a store like a bucket: it records its appends, because checking the file would cost a request."""
    faulty = FarBackend(open_store(place().url))
    hashing = HashingBackend(faulty)
    return faulty, Store(hashing), hashing.records


def raw(store: Store | Backend) -> dict[str, bytes]:
    """Read all stored files, bypassing the store."""
    fs, start = store.filesystem(), len(store.url.removeprefix("memory:/")) + 1
    return {path[start:]: fs.cat_file(path) for path in fs.find(store.url)}


# -- the records --------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "deep/c"])
DATA = st.binary(max_size=20) | st.sampled_from([b"x" * (PART + 1), b"y" * (2 * PART)])
VERBS = ["write", "create", "start", "many", "open", "append", "abort", "below", "delete", "copy"]


def do(store: Store, verb: str, name: str, data: bytes) -> None:
    if verb == "write":
        store.write(name, data)
    elif verb == "create":
        store.create(name, data)
    elif verb == "start":
        store.start_write(name, data[:PART]).result()
    elif verb == "many":
        store.write_many({name: data, "other": data})
    elif verb == "open":
        with store.open(name, "wb") as file:
            file.write(data)
    elif verb == "append":
        store.append(name, data)
    elif verb == "abort":
        with suppress(ValueError), store.open(name, "wb") as file:
            file.write(data)
            raise ValueError
    elif verb == "below":
        store.below("deep").write("c", data)
    elif verb == "delete":
        store.delete([name])
    else:
        store.copy(name, "copied")


@pytest.mark.slow
@settings(max_examples=60)
@given(
    steps=st.lists(st.tuples(st.sampled_from(VERBS), NAMES, DATA), max_size=12),
    fails_at=st.none() | st.integers(1, 30),
    after=st.booleans(),
)
def test_every_receipt_is_correct_after_any_operations_and_failures(
    steps: list[tuple[str, str, bytes]], fails_at: int | None, after: bool
) -> None:
    """The records match the stored files; after a failure, those that name the stored version match it."""
    faulty, store, records = far()
    if fails_at is not None:
        faulty.fail(fails_at, after=after)
    for step in steps:
        with suppress(StorageError, BatchError):
            do(store, *step)
    faulty.heal()
    stored, own = raw(faulty), records.receipts()
    if records.incomplete:
        assert fails_at is not None or "append" in [verb for verb, _, _ in steps]  # of unknown content
        own, unknown = valid_receipts(Store(faulty).list(), own)
        assert {entry.key for entry in unknown} | set(own) == set(stored)
    else:
        assert set(own) == set(stored)
    for key, receipt in own.items():
        assert (receipt.size, receipt.sha256) == (len(stored[key]), sha256(stored[key]).digest()), key


@pytest.mark.parametrize("verb", VERBS)
def test_a_hashing_store_makes_the_operations_of_its_store_and_no_other(verb: str) -> None:
    ours, store, _ = far()
    plain = FarBackend(open_store(place().url))
    for target in (store, Store(plain)):
        for data in (b"small", b"x" * (PART + 5)):
            with suppress(StorageError):
                do(target, verb, "a", data)
            target.list()
            target.exists("a")
            with suppress(StorageError):
                target.read("a")
    assert sorted(map(str, ours.operations)) == sorted(map(str, plain.operations))


def test_a_hashing_store_has_the_properties_of_its_store() -> None:
    real = open_store(place().url).backend
    front = HashingBackend(real)
    for name in ("url", "folders", "is_local", "shared", "supports_cas", "sized", "queues"):
        assert getattr(front, name) == getattr(real, name), name
    assert type(front.below("a").inner) is type(real)
    assert front.below("a").url == real.below("a").url
    assert front.below("a").records is front.records
    assert copy.copy(front).records is front.records


def test_a_pickled_hashing_store_is_its_store() -> None:
    real = open_store(place().url).backend
    front = HashingBackend(real)
    assert not front.records.incomplete
    assert type(pickle.loads(pickle.dumps(front))) is type(real)
    assert front.records.incomplete


def test_a_path_of_the_store_notes_what_is_written_through_it() -> None:
    front = HashingBackend(open_store(place().url).backend)
    path = Store(front).path("a/b.txt")
    path.write_text("x")
    path.parent.joinpath("c.txt").write_text("y")
    path.rename("d.txt")
    assert set(front.records.receipts()) == {"a/c.txt", "a/d.txt"}


def test_a_write_in_the_background_is_recorded_before_a_waiting_caller_continues() -> None:
    faulty, store, records = far()
    background = BackgroundBackend(store.backend, 2**20)
    queue = Store(background)
    for number in range(200):
        queue.write(f"{number}", b"%d" % number)
        queue.write("same", b"%d" % number)
    background.settle()
    assert not records.incomplete
    assert {key: receipt.sha256 for key, receipt in records.receipts().items()} == {
        key: sha256(data).digest() for key, data in raw(faulty).items()
    }


def test_two_writes_at_once_leave_it_open_which_came_last() -> None:
    records = FileRecords()
    records.begin("a")
    records.begin("b")
    assert not records.incomplete
    records.begin("a")
    assert records.incomplete


def test_a_write_that_begins_within_the_beginning_of_another_one_is_noticed() -> None:
    """It begins in another thread or a signal handler, at any place."""
    for number in itertools.count():
        records = FileRecords()
        inside = At(number, partial(records.begin, "k"), ["recording.py"])
        inside.call(partial(records.begin, "k"))
        assert records.incomplete == inside.came
        if not inside.came:
            break
    assert number > 2


def test_a_write_that_begins_within_the_end_of_another_one_is_not_forgotten() -> None:
    for number in itertools.count():
        records = FileRecords()
        records.begin("k")
        inside = At(number, partial(records.begin, "k"), ["recording.py"])
        inside.call(partial(records.end, "k"))
        if not inside.came:
            break
        records.begin("k")
        assert records.incomplete
    assert number > 2


def test_a_write_whose_reply_comes_after_an_append_to_the_same_file_leaves_it_open_which_came_last() -> None:
    faulty, store, records = far()
    write = faulty.put

    def appended_meanwhile(key: str, data: bytes, match: str | None) -> str:
        version = write(key, data, match)
        if key == "k":
            store.append_once(key, b"more", Tail(len(data), version, data))  # with the state kept for buckets
        return version

    faulty.put = appended_meanwhile  # type: ignore[method-assign]
    store.append_once("j", b"more", Tail(0, "", b""))
    assert not records.incomplete
    store.write("k", b"written ")
    assert raw(store)["k"] == b"written more"
    assert records.incomplete
    assert records.stats().in_progress == 0


def test_a_log_is_hashed_as_it_grows_and_not_again() -> None:
    faulty, store, records = far()
    end = store.appender("log.txt", new=True)
    lines = [b"line %d\n" % number for number in range(100)]
    for line in lines:
        end.append(line)
    receipt = records.receipts()["log.txt"]
    assert (receipt.size, receipt.sha256) == (len(b"".join(lines)), sha256(b"".join(lines)).digest())
    assert [operation.verb for operation in faulty.operations] == ["append"] * 100


def test_of_a_log_whose_beginning_is_not_known_what_was_known_stays() -> None:
    faulty, store, records = far()
    end = store.appender("log.txt", new=True)
    end.append(b"one\n")
    Store(faulty.inner).append("log.txt", b"by another\n", 4)
    with pytest.raises(ConflictError):
        end.append(b"two\n")
    end.append(b"two\n")
    assert records.receipts()["log.txt"] == Receipt(4, sha256(b"one\n").digest())


def test_many_growing_files_keep_their_receipts() -> None:
    faulty, store, records = far()
    for number in range(300):
        store.append(f"{number}", b"one", 0)
    assert records.stats().growing < 100
    assert {receipt.sha256 for receipt in records.receipts().values()} == {sha256(b"one").digest()}
    assert len(records.receipts()) == len(raw(faulty)) == 300


def test_a_receipt_takes_less_than_200_bytes_beside_its_name() -> None:
    records, names = FileRecords(), [f"artifacts/steps/{number:06}.json" for number in range(20_000)]
    tracemalloc.start()
    try:
        for name in names:
            records.note(name, 1000, bytes(32), f'"{MD5_OF_1}"')
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size / len(names) < 200


def test_an_aborted_streamed_write_is_not_in_progress() -> None:
    _, store, records = far()
    writer = store.open("a", "wb")
    writer.write(b"x" * (2 * PART))
    writer.abort()  # type: ignore[attr-defined]
    store.write("a", b"1")
    assert not records.incomplete
    assert records.stats().in_progress == 0


def test_a_write_whose_start_fails_is_not_in_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    faulty, store, records = far()

    def refuse(key: str, data: bytes) -> Future[str]:
        raise ConnectionError

    monkeypatch.setattr(faulty, "start_put", refuse)
    with pytest.raises(ConnectionError):
        store.start_write("a", b"1")
    assert records.stats().in_progress == 0
    assert records.incomplete


# -- the document ------------------------------------------------------------------------------------------

KEYS = st.text(min_size=1, max_size=30)
RECEIPTS = st.builds(Receipt, st.integers(0, 2**60), st.just(b"") | st.binary(min_size=32, max_size=32), st.just(""))


@given(files=st.dictionaries(KEYS, RECEIPTS, max_size=5), run_id=KEYS)
def test_a_document_reads_back(files: dict[str, Receipt], run_id: str) -> None:
    document = Document(run_id, "5a1f0c4b", NOW, files)
    data = document.encode("etag")
    assert Document.parse(data) == document
    assert json.loads(data)["created"] == "2026-03-01T09:30:00.000+00:00"
    assert len(data.decode().split("\n")) == len(files) + 3


def test_a_name_that_utf8_cannot_hold_is_reported_all_the_same() -> None:
    document = Document("a", "", NOW, {"artifacts/\udcff": Receipt(1, bytes(32)), "é": Receipt(2)})
    assert Document.parse(document.encode("/tmp/log_a")) == document
    assert "é".encode() in document.encode("/tmp/log_a")


HEAD = b'{"run_id": "a", "owner": "", "created": "2026-03-01T09:30:00+01:00", "files": '


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[]", b"\xff", b'{"run_id": 1, "owner": "", "created": "then", "files": {}}', b"[" * 100_000]
    + [
        HEAD + files + b"}"
        for files in (b"[]", b'{"a": 1}', b'{"a": {}}', b'{"a": {"size": "1"}}', b'{"a": {"size": 1, "sha256": "00"}}')
    ],
)
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    assert Document.parse(HEAD + b"{}}").files == {}
    with pytest.raises(ValueError):
        Document.parse(data)


def entry(key: str, size: int = 1, version: str = "", modified: datetime = NOW) -> Entry:
    return Entry(key, size, modified, version)


def test_only_receipts_that_hold_are_merged() -> None:
    one, two = sha256(b"1").digest(), sha256(b"2").digest()
    earlier = Document("a", "", NOW, {"kept": Receipt(1, one, "v1"), "disk": Receipt(1, one), "late": Receipt(1, one)})
    listing = [
        entry("own", version="v2"),
        entry("changed", version="v3"),
        entry("kept", version='"v1"'),
        entry("disk", modified=NOW - timedelta(minutes=1)),
        entry("late", modified=NOW),
        entry("larger", 2, "v2"),
        entry("log.txt", 5, "v9"),
        entry("manifest.json"),
        entry("metadata.json"),
        entry("workers/3/manifest.json"),
        entry("unknown"),
    ]
    own = {name: Receipt(1, two, "v2") for name in ("own", "changed", "larger", "gone")} | {"log.txt": Receipt(3, two)}
    known, unknown = valid_receipts(listing, own, [earlier])
    assert known == {
        "own": Receipt(1, two, "v2"),
        "kept": Receipt(1, one, '"v1"'),
        "disk": Receipt(1, one, ""),
        "log.txt": Receipt(3, two),
    }
    assert [found.key for found in unknown] == ["changed", "late", "larger", "unknown"]


# -- the end of a run --------------------------------------------------------------------------------------


def verbs(store: FaultyBackend, before: int) -> list[tuple[str, str]]:
    return [(operation.verb, operation.key) for operation in store.operations[before:]]


def read(store: FaultyBackend, before: int) -> list[str]:
    return sorted(key for verb, key in verbs(store, before) if verb == "get")


def test_the_manifest_is_stored_before_the_status_and_nothing_is_listed() -> None:
    where = place()
    faulty = FarBackend(open_store(where.url))
    log = Logbook("run", faulty)
    log.text("t", "x")
    before = len(faulty.operations)
    log.mark_complete()
    assert verbs(faulty, before) == [("append", "log.txt"), ("put", "manifest.json"), ("put", "metadata.json")]
    receipts.check(where)


def test_a_failure_of_the_manifest_keeps_a_run_from_being_complete_and_a_failed_one_failed() -> None:
    where = place()
    faulty = FaultyBackend(open_store(where.url))
    log = Logbook("run", faulty)
    faulty.fail(1, key="manifest.json")
    with pytest.raises(StorageError) as caught:
        log.mark_complete()
    assert caught.value.key == "manifest.json"
    assert log.status == "initialized"
    faulty.fail(1, key="manifest.json")
    log.mark_failed("on purpose")
    assert json.loads(where.bytes("log_run/metadata.json"))["status"] == "failed"
    assert where.log()[-1].startswith("WARNING manifest.json was not stored: cannot write")
    log.flush()
    receipts.check(where)


def test_the_status_waits_for_the_files_of_a_worker_that_came_meanwhile() -> None:
    where = place()
    faulty = FarBackend(open_store(where.url))
    log = Logbook("run", faulty)
    fields = json.loads(where.bytes("log_run/metadata.json"))
    where.put("log_run/metadata.json", json.dumps({**fields, "workers": True}).encode())
    where.put("log_run/data/3", b"3")
    before = len(faulty.operations)
    log.mark_complete()
    assert verbs(faulty, before) == [
        ("append", "log.txt"),
        ("put", "manifest.json"),
        ("put", "metadata.json"),  # refused: another writer changed it
        ("get", "metadata.json"),
        ("list", ""),
        ("put", "manifest.json"),
        ("put", "metadata.json"),
    ]
    assert "data/3" in receipts.check(where, without=["data/3"])


def test_files_written_without_notata_are_read_once_and_others_not_again(tmp_path: Path) -> None:
    where = Place("local", str(tmp_path))
    faulty = FaultyBackend(open_store(str(tmp_path)))
    log = Logbook("run", faulty)
    log.bytes("mine", b"x" * (PART + 1))
    log.text("t", "x")
    for key, data in (("artifacts/sub/other.bin", b"another road"), ("artifacts/t.txt", b"y")):
        with open(str(log[key]), "wb") as file:
            file.write(data)
    before = len(faulty.operations)
    log.mark_complete()
    assert read(faulty, before) == ["artifacts/sub/other.bin", "artifacts/t.txt", "log.txt"]
    receipts.check(where)
    with open(str(log["artifacts/late"]), "wb") as file:
        file.write(b"late")
    before = len(faulty.operations)
    log.flush()
    assert read(faulty, before) == ["artifacts/late", "log.txt"]
    receipts.check(where)


def test_a_file_damaged_since_an_earlier_attempt_is_reported(tmp_path: Path) -> None:
    """Its modification time is unchanged, so notata keeps the earlier record and does not read the file again."""
    where = Place("local", str(tmp_path))
    with where.logbook() as log:
        log.bytes("old", b"1234")
    manifest = tmp_path / "log_run/manifest.json"
    told = json.loads(manifest.read_text())
    later = datetime.fromisoformat(told["created"]) + timedelta(minutes=1)
    manifest.write_text(json.dumps({**told, "created": later.isoformat()}))
    (tmp_path / "log_run/artifacts/old").write_bytes(b"12_4")
    where.logbook(resume=True).mark_complete()
    assert LogReader(str(tmp_path / "log_run")).verify().changed == ("artifacts/old",)


def test_a_file_that_may_not_be_read_does_not_keep_a_run_from_its_end() -> None:
    where = place()
    faulty = FaultyBackend(open_store(where.url))
    log = Logbook("run", faulty)
    where.put("log_run/artifacts/secret", b"1")
    faulty.fail(1, key="artifacts/secret", error=PermissionError)
    log.mark_complete()
    assert receipts.check(where, without=["artifacts/secret"])["artifacts/secret"] == {"size": 1}
    report = LogReader(f"{where.url}/log_run").verify()
    assert (report.ok, report.unverified) == (True, ("artifacts/secret",))
    assert str(report).startswith("ok; 1 file unchanged")
    assert "1 file checked by size only: artifacts/secret" in str(report)


def test_a_run_of_an_experiment_may_have_no_manifest() -> None:
    where = place()
    Experiment("e", where.url, manifest=False).add(x=1).mark_complete()
    Experiment("e", where.url).add(x=2).mark_complete()
    assert [name for name in where.names() if "manifest" in name] == ["e/runs/log_e_x_2/manifest.json"]
    with pytest.raises(ConfigurationError, match="invalid manifest 'no'"):
        Logbook("run", where.url, manifest="no")  # type: ignore[arg-type]


def test_a_run_whose_beginning_fails_has_none() -> None:
    where = place()
    faulty = FaultyBackend(open_store(where.url))
    faulty.fail(1, key="params.yaml")
    with pytest.raises(StorageError):
        Logbook("run", faulty, params={"a": 1})
    assert json.loads(where.bytes("log_run/metadata.json"))["status"] == "failed"
    assert "log_run/manifest.json" not in where.names()


# -- reading again -----------------------------------------------------------------------------------------


def test_many_files_are_hashed_and_each_failure_is_kept_with_its_key() -> None:
    faulty, store, _ = far()
    store.write_many({f"{number}": b"%d" % number for number in range(50)} | {"large": b"x" * (PART + 1)})
    entries = [*store.list(), entry("missing"), entry("missing too", 2**21)]
    faulty.fail(1, key="7", error=PermissionError)
    found, errors = hashed(store, entries)
    assert {key: content.sha256 for key, content in found.items()} == {
        key: sha256(data).digest() for key, data in raw(faulty).items() if key != "7"
    }
    assert {key: type(error).__name__ for key, error in errors.items()} == {
        "7": "AccessError",
        "missing": "MissingError",
        "missing too": "MissingError",
    }


def test_a_progress_callback_receives_the_bytes() -> None:
    where = place()
    with where.logbook() as log:
        log.bytes("a", b"x" * (PART + 1))
        log.bytes("b", b"y" * 10)
    callback = Callback()
    report = LogReader(f"{where.url}/log_run").verify(progress=callback)
    assert callback.value == report.bytes
    assert callback.size == sum(told["size"] for told in receipts.manifest(where)["files"].values())


def test_a_file_that_goes_while_it_is_verified_is_missing_and_one_that_cannot_be_read_is_an_error() -> None:
    faulty, store, records = far()
    store.write_many({"a": b"1", "b": b"2"})
    files = records.receipts()
    faulty.fail(1, key="a", error=FileNotFoundError)
    assert verify(store, files).missing == ("a",)
    faulty.fail(1, key="a")
    with pytest.raises(BatchError, match="cannot read 1 files") as caught:
        verify(store, files)
    assert [getattr(error, "key", None) for error in caught.value.exceptions] == ["a"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda receipt: receipt, []),
        (lambda receipt: replace(receipt, sha256=bytes(32)), ["changed"]),
        (lambda receipt: replace(receipt, size=receipt.size + 1), ["changed"]),
        (lambda receipt: replace(receipt, sha256=b"", version=""), ["unverified"]),
        (lambda receipt: replace(receipt, sha256=b"", version=f'"{MD5_OF_1}"'), []),
        (lambda receipt: replace(receipt, sha256=b"", version="0" * 32), ["unverified"]),
        (lambda receipt: replace(receipt, sha256=b"", version=f"{MD5_OF_1}-2"), ["unverified"]),
    ],
)
def test_a_receipt_is_checked_against_the_file(change: Callable[[Receipt], Receipt], told: list[str]) -> None:
    _, store, records = far()
    store.write("a", b"1")
    report = verify(store, {key: change(receipt) for key, receipt in records.receipts().items()})
    assert [name for name in ("missing", "changed", "unverified") if getattr(report, name)] == told
    assert report.ok is (told in ([], ["unverified"]))


def test_verify_is_one_read_a_listing_and_the_files() -> None:
    faulty = FaultyBackend(open_store(place().url))
    with Logbook("run", faulty) as log:
        log.text("t", "x")
    reader = LogReader(faulty.below("log_run"))
    before = len(faulty.operations)
    assert reader.verify().ok
    assert sorted(faulty.operations[before:], key=str) == [
        Operation("get", "artifacts/t.txt"),
        Operation("get", "log.txt"),
        Operation("get", "manifest.json"),
        Operation("get", "metadata.json"),
        Operation("list", ""),
    ]


def test_a_flush_after_the_end_looks_again_at_what_others_stored(tmp_path: Path) -> None:
    with Logbook("run", tmp_path) as log:
        path, worker = log["data/t.npy"], log.worker(3)
    np.save(str(path), np.arange(3))
    worker.text("late", "after its owner's end")
    worker.close()
    report = log.reader.verify()
    assert (report.ok, report.extra) == (True, ("artifacts/late.txt", "data/t.npy", "workers/3/log.txt"))
    np.save(str(path), np.arange(4))
    log.flush()
    report = log.reader.verify()
    assert (report.ok, report.extra) == (True, ())
    receipts.check(Place("local", str(tmp_path)))


def test_a_failed_run_that_another_writer_resumes_at_once_leaves_nothing_for_the_exit(tmp_path: Path) -> None:
    later: list[Logbook] = []
    log = Logbook("run", tmp_path, callback=lambda _: later.append(Logbook("run", tmp_path, resume=True)))
    log.mark_failed("at first")  # the callback comes after the status, before the manifest
    assert [call for call in exits.pending() if getattr(call, "__self__", None) is log] == []
    later[0].mark_complete()
    assert later[0].reader.verify().ok
