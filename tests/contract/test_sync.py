"""Sync from and to every backend: equal bytes by plain fsspec, nothing sent twice, requests counted."""

from __future__ import annotations

import base64
import json
import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from notata import BatchError, FolderError, Logbook, LogReader, SyncReport, sync
from notata.mirror.evidence import digest_of
from notata.mirror.runs import RunCopy
from notata.store.backends import gcs, s3
from notata.store.files import PART
from notata.testing import FaultyBackend
from tests.backends import Place
from tests.contract.conftest import BUCKETS, make_place
from tests.counting import counted
from tests.forks import forkserver

ODD = ["a#b", "50%", "%41", "with space", "what?", "plus+and&amp", "é", "e\u0301", "日本", "[x]*", "~", "a=b;c", "'q'"]


def files(place: Place) -> dict[str, bytes]:
    """Read all files with plain fsspec."""
    return {key: place.bytes(key) for key in place.names(logs=True)}


def written(place: Place, names: list[str] = ODD) -> Logbook:
    """Record a run with files of all kinds."""
    with place.logbook("a", params={"omega": 2.0}) as log:
        log.text("notes", "converged")
        log.bytes("empty", b"")
        log.bytes("part", os.urandom(PART))
        log.bytes("large", os.urandom(2 * PART + 7))
        for name in names:
            log.bytes(f"odd/{name}", name.encode())
    return log


def synced(source: Place, target: Place, run: str = "/log_a", **options: Any) -> SyncReport:
    return sync(
        f"{source.url}{run}",
        target.url,
        source_options=source.options,
        destination_options=target.options,
        **options,
    )


@pytest.fixture(params=["memory", "local"])
def near(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A nearby place from or to which a run is copied."""
    if request.param == "memory":
        return Place("memory", f"memory://{uuid.uuid4().hex}")
    return Place("local", str(tmp_path / "near"))


def test_a_run_is_synced_there_and_back(near: Place, place: Place) -> None:
    """The second sync sends nothing, even where it must read files because the two sides have no comparable digests."""
    written(near)
    report = synced(near, place)
    assert files(place) == files(near)
    assert report.bytes == sum(map(len, files(near).values()))
    with counted() as sent:
        again = synced(near, place)
    assert (again.bytes, again.equal) == (0, len(files(near)))
    assert not [request for request in sent if not request.startswith(("GET", "HEAD"))]
    assert not [request for request in sent if "artifacts" in request.replace("%2F", "/")]
    assert len(sent) <= 4, sent
    back = Place(near.name, f"{near.url}-back")
    assert synced(place, back).bytes == report.bytes
    assert files(back) == files(near)
    with counted() as sent:
        assert synced(place, back).bytes == 0
    assert not [request for request in sent if "artifacts" in request.replace("%2F", "/")], sent
    assert LogReader(f"{back.url}/log_a").state.status == "complete"


def test_what_changed_is_sent_and_nothing_else(near: Place, place: Place) -> None:
    written(near, [])
    synced(near, place)
    near.put("log_a/artifacts/notes.txt", b"converges")
    near.put("log_a/artifacts/new", b"new")
    near.store().delete(["log_a/artifacts/empty"])
    place.store().write("log_a/artifacts/large", os.urandom(2 * PART + 7))
    with counted() as sent:
        report = synced(near, place)
    large = 2 * PART + 7
    assert report.copied == {"artifacts/notes.txt": 9, "artifacts/new": 3, "artifacts/large": large}
    assert sent.bytes < large + 5000
    assert synced(near, place, delete=True).deleted == {"artifacts/empty": 0}
    assert files(place) == files(near)


def test_of_a_large_log_the_end_is_sent(near: Place, place: Place) -> None:
    log = near.logbook("a")
    near.put("log_a/log.txt", b"[2026-01-01T00:00:00] INFO step\n" * 200_000)
    synced(near, place)
    for _ in range(2):
        near.store().append("log_a/log.txt", b"[2026-01-01T00:00:00] INFO more\n" * 10)
        with counted() as sent:
            report = synced(near, place)
        assert report.appended == {"log.txt": 320}
        assert sent.bytes < 5000
        with counted() as sent:
            assert synced(near, place).bytes == 0
        assert sent.bytes < 1000
    assert place.bytes("log_a/log.txt") == near.bytes("log_a/log.txt")
    log.mark_complete()


def test_a_sync_costs_what_the_docs_say(tmp_path: Path, bucket: Place) -> None:
    near = Place("local", str(tmp_path / "near"))
    bucket.logbook("warm").mark_complete()
    with near.logbook("a", params={"omega": 2.0}) as log:
        for number in range(20):
            log.text(f"t{number}", "x")
    with counted() as sent:
        synced(near, bucket)
    assert len(sent) == 1 + len(files(near)) + 1, sent  # one list, each file, and the claim of the run
    with counted() as sent:
        synced(near, bucket)
    assert len(sent) == 1, sent
    with near.logbook("a", resume=True) as log:
        log.text("t0", "y")
    with counted() as sent:
        synced(near, bucket)
    # One list; metadata.json read, set to `replacing`, and set; the file and the log, both small.
    assert len(sent) <= 7, sent


@pytest.mark.parametrize("source", BUCKETS)
def test_from_bucket_to_bucket(source: str, bucket: Place, request: pytest.FixtureRequest) -> None:
    origin = make_place(source, request)
    written(origin, ODD[:2])
    synced(origin, bucket)
    assert files(bucket) == files(origin)
    alike = origin.url.partition(":")[0] == bucket.url.partition(":")[0]
    large = {} if alike else {"artifacts/large": 2 * PART + 7}
    with counted() as sent:
        report = synced(origin, bucket)
    assert report.copied == large  # two kinds of bucket have no comparable digests of a large file
    assert files(bucket) == files(origin)
    # Two stats of metadata.json, and at most three lists: the target, the source, and the run in it.
    assert large or len(sent) == 5, sent
    origin.store().clear()


def test_a_tree_of_runs(near: Place, place: Place) -> None:
    for number in range(6):
        with Logbook(f"r{number}", f"{near.url}/sweep/runs", params={"number": number}) as log:
            log.text("notes", "x" * number)
    near.put("sweep/index.csv", b"run_id,status\n")
    near.put("README.md", b"read me")
    assert synced(near, place, run="").runs == 6
    assert files(place) == files(near)
    with counted() as sent:
        assert synced(near, place, run="").bytes == 0
    assert len(sent) <= 1, sent
    if place.bucket:
        back = Place("memory", f"memory://{uuid.uuid4().hex}")
        synced(place, back, run="")
        assert files(back) == files(near)


def test_a_file_beside_a_folder_of_its_name_is_reported(bucket: Place, near: Place) -> None:
    with bucket.logbook("a") as log:
        log.text("x/y", "below")
        log.bytes("x", b"beside")
        log.text("z", "other")
    with pytest.raises(BatchError) as failed:
        synced(bucket, near)
    assert all(isinstance(error, FolderError) for error in failed.value.exceptions)
    assert near.bytes("log_a/artifacts/z.txt") == b"other"
    assert json.loads(near.bytes("log_a/metadata.json"))["status"] == "replacing"


def test_a_file_whose_digest_in_the_bucket_differs_is_sent_again(
    tmp_path: Path, bucket: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ETag of an object encrypted by KMS is not the MD5 of its content: sync just sends it again."""
    near = Place("local", str(tmp_path / "near"))
    with near.logbook("a") as log:
        log.text("notes", "converged")
    synced(near, bucket)
    for module in (s3, gcs):
        monkeypatch.setattr(module, "stored_digest", lambda _: "md5:" + "0" * 32)
    report = synced(near, bucket)
    assert report.copied.keys() == {key.removeprefix("log_a/") for key in files(near)} - {"metadata.json"}
    assert files(bucket) == files(near)


def test_a_composed_object_is_known_by_its_checksum(
    tmp_path: Path, gcs_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    near = Place("local", str(tmp_path / "near"))
    data = os.urandom(3 * 2**20)
    near.logbook("a").mark_complete()
    near.put("log_a/artifacts/x", data)
    synced(near, gcs_place)
    store = gcs_place.store()
    store.write("log_a/artifacts/x", data[:-1])
    store.append("log_a/artifacts/x", data[-1:], len(data) - 1)
    [entry] = [entry for entry in store.list() if entry.key == "log_a/artifacts/x"]
    told = gcs_place.raw().info(f"{gcs_place.url}/log_a/artifacts/x")
    checksum = f"crc32c:{base64.b64decode(told['crc32c']).hex()}"
    assert digest_of(iter([data[:1000], data[1000:]]), "crc32c:") == checksum
    assert entry.digest == (digest_of(iter([data]), "md5:") if "md5Hash" in told else checksum)
    monkeypatch.setattr(gcs, "stored_digest", lambda item: f"crc32c:{base64.b64decode(item['crc32c']).hex()}")
    assert synced(near, gcs_place).bytes == 0


@pytest.fixture
def gcs_place(request: pytest.FixtureRequest) -> Iterator[Place]:
    place = make_place("gcs", request)
    yield place
    place.store().clear()


def test_a_run_copied_in_steps_is_whole_at_the_end(near: Place, place: Place) -> None:
    """As a mirror does: files known to be up to date are not checked again, and the end of the log is remembered."""
    store = place.store().below("log_a")
    with near.logbook("a") as log:
        copy = RunCopy(near.store().below("log_a"), store, known={})
        copy.update()
        for step in range(3):
            log.text(f"step{step}", "x")
            log.info("step %d", step)
            with counted() as sent:
                results = copy.update()
            copied = {key for key, result in results.items() if result.verb == "copied"}
            assert copied - {"log.txt"} == {f"artifacts/step{step}.txt"}
            assert len(sent) in (0, 3), sent  # a stat of metadata.json, the file, and the log
        assert json.loads(place.bytes("log_a/metadata.json"))["status"] == "initialized"
    assert "metadata.json" in copy.update()
    assert files(place) == files(near)


def sync_and_be_killed(source: str, shared: Place, nth: int, *, after: bool) -> None:
    target = FaultyBackend(shared.store())
    target.fail(nth, after=after, error=end_at_once)
    sync(source, target)


def end_at_once() -> Exception:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("it goes on")


@pytest.mark.parametrize(("nth", "after"), [(3, "after"), (25, "before")])
def test_a_sync_that_is_killed_leaves_whole_files_and_the_next_one_finishes(
    tmp_path: Path, shared: Place, nth: int, after: str
) -> None:
    near = Place("local", str(tmp_path / "near"))
    written(near)
    process = forkserver().Process(
        target=sync_and_be_killed, args=(near.url, shared, nth), kwargs={"after": after == "after"}
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    expected, left = files(near), files(shared)
    assert json.loads(left.pop("log_a/metadata.json"))["status"] == "replacing"
    seen = {key: data for key, data in left.items() if "/.notata-" not in key}  # without unfinished files
    assert all(expected[key] == data for key, data in seen.items())
    assert len(seen) < len(expected)
    report = synced(near, shared)
    assert set(report.copied) <= {key.removeprefix("log_a/") for key in expected.keys() - seen.keys()} | {
        "metadata.json"
    }
    assert {key: data for key, data in files(shared).items() if "/.notata-" not in key} == expected


@pytest.fixture(params=["local", *BUCKETS])
def shared(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A place that other processes can reach."""
    place = make_place(request.param, request)
    yield place
    place.store().clear()
