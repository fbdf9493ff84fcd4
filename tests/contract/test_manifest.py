"""The manifest at the end of a run, on every backend, compared with the bytes by plain fsspec and hashlib."""

from __future__ import annotations

import json
import os
import pickle
import threading
import warnings
from contextlib import suppress
from hashlib import md5, sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from notata import DecodeError, Logbook, LogReader, MissingError, RunDisplacedError, sync
from notata._base import exits
from notata.store.files import PART
from notata.testing import FaultyBackend
from tests import receipts
from tests.backends import Place
from tests.command import notata
from tests.counting import counted
from tests.exiting import calls_at_exit, run_at_exit

BIG = bytes(range(256)) * 2**16  # two parts


def reader(place: Place, run_id: str = "run") -> LogReader:
    return LogReader(f"{place.url}/log_{run_id}", storage_options=place.options)


def fill(log: Logbook) -> None:
    """Write a file in each of the ways that reach the storage."""
    log.text("t", "text")
    log.json("t", {"a": [1, 2]})
    log.bytes("empty", b"")
    log.array("big", np.frombuffer(BIG, np.uint8))
    log.arrays("bundle", x=[1.0], y=[2.0])
    log["artifacts/by path"].write_text("äöü")
    log["artifacts/deep/er/é.txt"].write_bytes(b"\x00\xff")
    with log.open("artifacts/table.csv", "w") as file:
        file.write("a,b\n")
    with log.open("artifacts/table.csv", "a") as file:
        file.write("1,2\n")
    with log.local("artifacts/local.bin") as path:
        path.write_bytes(BIG[:1000])
    log.text("gone", "x")
    log["artifacts/gone.txt"].unlink()
    log.text("t", "another text")
    with suppress(ValueError), log.open("artifacts/t.txt", "w") as file:
        file.write("never seen")
        raise ValueError
    log.plot("several", Figure(), formats=("png", "svg"))
    with log.open("artifacts/x", "xb") as file:
        file.write(b"exclusive")


@pytest.mark.parametrize("background", [False, True], ids=["direct", "background"])
def test_the_manifest_describes_each_file_as_it_is_stored(place: Place, background: bool) -> None:
    with place.logbook(params={"a": 1}, background=background) as log:
        fill(log)
    told = receipts.check(place)
    assert len(told) == 14
    assert "artifacts/gone.txt" not in told
    stored = receipts.manifest(place)
    metadata = json.loads(place.bytes("log_run/metadata.json"))
    assert stored["run_id"] == "run"
    assert metadata["lease"]["owner"].startswith(stored["owner"])
    lines = place.bytes("log_run/manifest.json").decode().splitlines()
    assert lines[1:-1] == [
        f'"{key}": {json.dumps(receipt)}{"," * (key != list(told)[-1])}' for key, receipt in told.items()
    ]


def test_versions_are_those_of_the_storage(place: Place) -> None:
    with place.logbook(params={"a": 1}) as log:
        fill(log)
    fs = place.raw()
    for key, receipt in receipts.check(place).items():
        known = set(receipt) - {"size", "sha256"}
        if key == "log.txt" or not place.bucket:
            assert known == set()  # the next line changes the log
        elif place.name == "gcs":
            assert receipt["generation"] == fs.info(f"{place.url}/log_run/{key}")["generation"]
        else:
            assert receipt["etag"] == fs.info(f"{place.url}/log_run/{key}")["ETag"].strip('"')


def test_a_failed_run_has_a_manifest_with_its_traceback(place: Place) -> None:
    with pytest.raises(ValueError, match="h = -1"), place.logbook() as log:
        log.text("t", "x")
        raise ValueError("h = -1")
    assert {"artifacts/debug/traceback.txt", "artifacts/debug/failure.json", "log.txt"} < set(receipts.check(place))
    assert reader(place).verify().ok


def test_a_run_that_ends_at_exit_has_a_manifest(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    log = place.logbook()
    log.text("t", "x")
    monkeypatch.setattr(exits, "call_late", lambda call: False)  # the `atexit` functions have already run
    run_at_exit(log)
    assert json.loads(place.bytes("log_run/metadata.json"))["status"] == "failed"
    assert set(receipts.check(place)) == {"artifacts/t.txt", "log.txt"}


def test_without_a_manifest_there_is_none(place: Place) -> None:
    with place.logbook(manifest=False) as log:
        log.text("t", "x")
    assert place.names() == ["log_run/artifacts/t.txt", "log_run/metadata.json"]
    with pytest.raises(MissingError, match="manifest=False") as caught:
        reader(place).verify()
    assert caught.value.key == "manifest.json"


def test_a_resumed_run_keeps_valid_receipts(place: Place) -> None:
    with suppress(ValueError), place.logbook() as log:
        fill(log)
        raise ValueError
    place.put("log_run/artifacts/t.txt", b"another text")  # the same bytes, but their digest is no longer known
    place.put("log_run/artifacts/empty.bin", b"4")
    with place.logbook(resume=True) as log:
        log.text("new", "x")
        log.json("t", {"a": "again"})
        place.put("log_run/artifacts/foreign", b"by another program")
    foreign = {"artifacts/t.txt", "artifacts/empty.bin", "artifacts/foreign"}
    told = receipts.check(place, without=foreign)
    unknown = {key for key, receipt in told.items() if "sha256" not in receipt}
    if not place.bucket:
        assert unknown == set()
    else:  # on S3, equal bytes have the same version
        assert unknown == (foreign if place.name == "gcs" else foreign - {"artifacts/t.txt"})
    report = reader(place).verify()
    assert report.ok
    assert report.checked == len(told)


def test_a_run_that_is_overwritten_has_a_manifest_of_its_own(place: Place) -> None:
    with place.logbook() as old:
        old.text("old", "x")
    with place.logbook(overwrite=True) as new:
        assert "log_run/manifest.json" not in place.names()
        new.text("new", "x")
    assert set(receipts.check(place)) == {"artifacts/new.txt", "log.txt"}


@pytest.mark.parametrize("resumed", [False, True])
def test_a_displaced_writer_leaves_its_successors_manifest_alone(place: Place, resumed: bool) -> None:
    old = place.logbook()
    old.text("old", "x")
    if resumed:
        fields = json.loads(place.bytes("log_run/metadata.json"))
        place.put("log_run/metadata.json", json.dumps({**fields, "status": "failed"}).encode())
    new = place.logbook(resume=True) if resumed else place.logbook(overwrite=True)
    with pytest.raises(RunDisplacedError):
        old.mark_complete()
    assert "log_run/manifest.json" not in place.names()
    new.text("new", "x")
    new.mark_complete()
    stored = place.bytes("log_run/manifest.json")
    with pytest.raises(RunDisplacedError):
        old.mark_failed("late")
    assert place.bytes("log_run/manifest.json") == stored
    assert reader(place).verify().ok


def test_a_writer_that_has_ended_leaves_its_successors_manifest_alone(place: Place) -> None:
    with place.logbook() as old:
        pass
    old.text("late", "x")
    with place.logbook(overwrite=True) as new:
        new.text("new", "x")
    stored = place.bytes("log_run/manifest.json")
    with pytest.raises(RunDisplacedError):
        old.flush()
    assert place.bytes("log_run/manifest.json") == stored
    assert reader(place).verify().ok


@pytest.mark.usefixtures("stopped_clock")
def test_files_written_after_the_end_are_in_the_manifest_after_a_flush_and_at_exit(place: Place) -> None:
    with place.logbook() as log:
        log.text("t", "x")
    log.flush()
    with counted() as sent:
        log.flush()
    assert sent == []
    log.json("metrics", {"late": 1})
    with counted() as sent:
        log.flush()
    assert len(sent) == (2 if place.bucket else 0), sent  # the log lines, and the manifest
    assert "artifacts/metrics.json" in receipts.check(place)
    log.json("metrics", {"later": 1})
    log["artifacts/t.txt"].unlink()
    assert len(calls_at_exit(log)) == 1
    run_at_exit(log)
    assert set(receipts.check(place)) == {"artifacts/metrics.json", "log.txt"}


def test_a_callback_may_still_write(place: Place) -> None:
    def late(log: Logbook) -> None:
        log.text("late", "x")

    with place.logbook(callback=late):
        pass
    assert "artifacts/late.txt" in receipts.check(place)


def test_two_threads_at_one_file_leave_a_receipt_that_is_true(place: Place) -> None:
    with place.logbook() as log:
        for number in range(8):
            writers = [threading.Thread(target=log.bytes, args=(f"{number}", b"%d" % one * 50)) for one in range(3)]
            for writer in writers:
                writer.start()
            for writer in writers:
                writer.join()
    receipts.check(place, without=[f"artifacts/{number}" for number in range(8)])
    assert reader(place).verify().ok


# -- who else writes ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("stopped_clock")
def test_a_fork_and_a_path_sent_elsewhere_have_the_bucket_listed(bucket: Place) -> None:
    def fork(log: Logbook) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)

    def send(log: Logbook) -> None:
        pickle.dumps(log["artifacts/a"])

    for number, happen in enumerate((fork, send)):
        log = bucket.logbook(number)
        log.text("t", "x")
        happen(log)
        bucket.put(f"log_{number}/artifacts/t.txt", b"by a child")
        bucket.put(f"log_{number}/artifacts/a", b"by a child too")
        with counted() as sent:
            log.mark_complete()
        assert len(sent) == 4, sent  # including a listing
        receipts.check(bucket, f"log_{number}", without=["artifacts/t.txt", "artifacts/a"])
        assert reader(bucket, str(number)).verify().ok


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_stores_no_manifest(place: Place) -> None:
    log = place.logbook()
    log.mark_complete()
    before = place.bytes("log_run/manifest.json")
    log.text("late", "x")
    assert calls_at_exit(log)
    with warnings.catch_warnings():  # Python warns of a fork beside threads
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        with suppress(BaseException):
            run_at_exit(log)
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert place.bytes("log_run/manifest.json") == before


def worker(place: Place, rank: int, files: dict[str, bytes]) -> None:
    """Write a worker's files and its manifest."""
    fs = place.raw()
    lines: dict[str, Any] = {}
    for name, data in files.items():
        place.put(f"log_run/{name}", data)
        info = fs.info(f"{place.url}/log_run/{name}")
        mark = {"etag": info["ETag"].strip('"')} if "ETag" in info and place.name != "gcs" else {}
        mark |= {"generation": str(info["generation"])} if place.name == "gcs" else {}
        lines[name] = {"size": len(data), "sha256": sha256(data).hexdigest()} | mark
    document = {"run_id": "run", "owner": "", "created": "2026-03-01T09:30:00+01:00", "files": lines}
    place.put(f"log_run/workers/{rank}/manifest.json", json.dumps(document).encode())


def test_the_files_of_workers_are_in_the_manifest_with_their_receipts(place: Place) -> None:
    log = place.logbook(heartbeat=0)
    log.text("mine", "x")
    worker(place, 3, {"data/3.npy": b"three", "workers/3/log.txt": b"begun\n", "artifacts/changed": b"first"})
    worker(place, 4, {"data/4.npy": b"four"})
    place.put("log_run/artifacts/changed", b"later")
    place.put("log_run/workers/5/manifest.json", b"damaged")
    fields = json.loads(place.bytes("log_run/metadata.json"))
    # The owner notices this at its end.
    place.put("log_run/metadata.json", json.dumps({**fields, "workers": True}).encode())
    log.mark_complete()
    assert log.status == "complete"
    told = receipts.check(place, without=["artifacts/changed"])
    assert {"data/3.npy", "data/4.npy", "workers/3/log.txt", "artifacts/changed", "artifacts/mine.txt"} < set(told)
    assert ("sha256" in told["artifacts/changed"]) is not place.bucket
    place.raw().pipe_file(f"{place.url}/log_run/workers/3/log.txt", b"begun\nended\n")
    report = reader(place).verify()
    assert report.ok
    assert "workers/3/log.txt" in report.grown
    assert report.extra == ()


# -- verify ------------------------------------------------------------------------------------------------


@pytest.fixture
def whole(place: Place) -> Place:
    with place.logbook(params={"a": 1}) as log:
        fill(log)
    return place


def test_a_run_that_is_as_it_was(whole: Place) -> None:
    report = reader(whole).verify()
    assert report.ok
    told = receipts.manifest(whole)["files"]
    assert (report.checked, report.bytes) == (len(told), sum(receipt["size"] for receipt in told.values()))
    assert (report.missing, report.changed, report.extra, report.unverified, report.clashes) == ((), (), (), (), ())
    assert str(report).startswith(f"ok; {len(told)} files unchanged, {report.bytes} bytes read")


def test_missing_changed_and_extra_files_are_reported(whole: Place) -> None:
    fs, log = whole.raw(), whole.bytes("log_run/log.txt")
    fs.rm_file(f"{whole.url}/log_run/artifacts/table.csv")
    whole.put("log_run/artifacts/t.txt", b"Another text")  # of the same size
    whole.put("log_run/data/bundle.npz", b"cut")
    large = whole.bytes("log_run/data/big.npy")
    whole.store().write("log_run/data/big.npy", large[:-1] + b"!")
    whole.put("log_run/artifacts/more", b"extra")
    whole.put("log_run/log.txt", log + b"[2026-03-01T09:30:00] INFO later\n")
    report = reader(whole).verify()
    assert not report.ok
    assert report.missing == ("artifacts/table.csv",)
    assert report.changed == ("artifacts/t.txt", "data/big.npy", "data/bundle.npz")
    assert report.extra == ("artifacts/more",)
    assert report.grown == ("log.txt",)
    assert report.checked == len(receipts.manifest(whole)["files"]) - 4
    assert "NOT ok" in str(report)
    assert "1 missing: artifacts/table.csv" in str(report)
    whole.put("log_run/log.txt", b"!" + log[1:])
    assert "log.txt" in reader(whole).verify().changed
    whole.put("log_run/log.txt", log[:10])
    assert "log.txt" in reader(whole).verify().changed


def test_a_run_without_an_end_cannot_be_verified(place: Place) -> None:
    log = place.logbook()
    with pytest.raises(MissingError, match="still being written"):
        reader(place).verify()
    log.mark_complete()
    assert reader(place).verify().ok
    store = FaultyBackend(place.store())
    again = Logbook("run", store, resume=True)
    with pytest.raises(MissingError, match="still being written"):
        reader(place).verify()
    store.fail(1, key="manifest.json")
    again.mark_failed("on purpose")
    with pytest.raises(MissingError, match="earlier attempt"):
        reader(place).verify()
    place.put("log_run/manifest.json", b"{}")
    with pytest.raises(DecodeError, match="damaged"):
        reader(place).verify()
    old = {"run_id": "old", "status": "complete", "start_time": "2025-01-01T00:00:00"}
    place.put("log_old/metadata.json", json.dumps(old).encode())
    with pytest.raises(MissingError, match=r"notata 0\.3\.0"):
        reader(place, "old").verify()


def test_a_file_where_a_folder_is_needed_is_reported(bucket: Place) -> None:
    with bucket.logbook() as log:
        log.bytes("a", b"1")
        log.bytes("a/b", b"2")
    report = reader(bucket).verify()
    assert report.ok
    assert report.clashes == ("artifacts/a",)


def test_an_etag_stands_for_a_content_without_a_digest(bucket: Place) -> None:
    log = bucket.logbook()
    log.text("ours", "with a digest")  # shows that versions here can be compared with those in the manifest
    log.mark_failed("first")
    bucket.put("log_run/artifacts/foreign", b"foreign")
    bucket.logbook(resume=True).mark_complete()
    [receipt] = [told for key, told in receipts.manifest(bucket)["files"].items() if key == "artifacts/foreign"]
    assert "sha256" not in receipt
    assert reader(bucket).verify().ok  # it is the same object
    bucket.put("log_run/artifacts/foreign", b"FOREIGN")
    report = reader(bucket).verify()
    assert not report.ok
    assert report.changed == ("artifacts/foreign",)
    bucket.put("log_run/artifacts/foreign", b"foreign")
    if bucket.name != "gcs":
        assert receipt["etag"] == md5(b"foreign", usedforsecurity=False).hexdigest()
        assert reader(bucket).verify().ok


def test_an_intact_copy_elsewhere_is_ok_though_the_manifest_has_no_digest_of_a_file(
    bucket: Place, tmp_path: Path
) -> None:
    log = bucket.logbook()
    log.text("ours", "with a digest")
    log.mark_failed("first")
    bucket.put("log_run/artifacts/foreign", b"x" * 10)
    if bucket.name == "gcs":
        bucket.put("log_run/artifacts/parts", b"y" * 11)
    else:  # in parts, so its ETag is not the MD5 of the content
        bucket.raw().pipe_file(f"{bucket.url}/log_run/artifacts/parts", b"y" * 11 * 2**20, chunksize=5 * 2**20)
    bucket.logbook(resume=True).mark_complete()
    sync(bucket.url, tmp_path / "copy", source_options=bucket.options)
    verified = LogReader(tmp_path / "copy/log_run").verify()
    by_size = {"artifacts/parts"} | ({"artifacts/foreign"} if bucket.name == "gcs" else set())
    assert (verified.ok, set(verified.unverified)) == (True, by_size)
    assert "checked by size only" in str(verified)
    assert notata("verify", str(tmp_path / "copy"), folder=tmp_path).returncode == 0
    (tmp_path / "copy/log_run/artifacts/parts").write_bytes(b"y")
    assert LogReader(tmp_path / "copy/log_run").verify().changed == ("artifacts/parts",)


def test_verify_costs_one_read_a_listing_and_the_files(bucket: Place) -> None:
    with bucket.logbook() as log:
        for number in range(10):
            log.bytes(str(number), b"x")
        log.bytes("two-parts", b"x" * (PART + 1))
    known = reader(bucket)
    with counted() as sent:
        assert known.verify().ok
    assert len(sent) == 2 + 1 + 10 + 1 + 2, sent  # metadata.json, manifest.json; a listing; the files and the log
