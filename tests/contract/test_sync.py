"""Sync from and to every backend: equal bytes by plain fsspec, nothing sent twice, requests counted."""

from __future__ import annotations

import base64
import json
import os
import signal
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from notata import BatchError, ConflictError, FolderError, Logbook, LogReader, MissingError, SyncReport, sync
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
    assert place.files() == near.files()
    assert report.bytes == sum(map(len, near.files().values()))
    with counted() as sent:
        again = synced(near, place)
    assert (again.bytes, again.equal) == (0, len(near.files()))
    assert not [request for request in sent if not request.startswith(("GET", "HEAD"))]
    assert not [request for request in sent if "artifacts" in request.replace("%2F", "/")]
    assert len(sent) <= 4, sent
    back = Place(near.name, f"{near.url}-back")
    assert synced(place, back).bytes == report.bytes
    assert back.files() == near.files()
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
    assert place.files() == near.files()


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


RUNS = 6


def many(place: Place) -> dict[str, bytes]:
    """Record several runs of five files, and return what is stored."""
    for number in range(RUNS):
        with place.logbook(f"r{number}", params={"number": number}) as log:
            log.text("notes", "x" * (number + 1))
    return place.files()


def kinds(sent: list[str]) -> dict[str, int]:
    """Count the requests by method, lists separately, without those that test what a store supports."""
    found = Counter[str]()
    for request in sent:
        method, _, rest = request.replace("%2F", "/").partition(" ")
        is_list = "prefix=" in rest
        if "/.notata-" not in rest and "/b/test-bucket?" not in rest:
            found["LIST" if is_list else method] += 1
    return dict(found)


def test_many_runs_cost_their_files_and_at_most_two_requests_each(tmp_path: Path, bucket: Place) -> None:
    """Disk to bucket costs a claim a run; bucket to disk nothing but the files; and what is equal only the lists."""
    near, back = Place("local", str(tmp_path / "near")), Place("local", str(tmp_path / "back"))
    count = len(stored := many(near))
    write = "PUT" if bucket.is_s3 else "POST"
    with counted() as sent:
        synced(near, bucket, run="")
    assert kinds(sent) == {"LIST": 1, write: count + RUNS}
    with counted() as sent:
        synced(near, bucket, run="")
    assert kinds(sent) == {"LIST": 1}
    with counted() as sent:
        synced(bucket, back, run="")
    look = "HEAD" if bucket.is_s3 else "GET"  # whether the source is a run itself
    assert kinds(sent) == Counter({"LIST": 2, "GET": count}) + Counter({look: 1}), sent
    assert back.files() == bucket.files() == stored
    with counted() as sent:
        synced(bucket, back, run="")
    assert kinds(sent) == {"LIST": 1, look: 1}


def test_a_store_copies_its_files_itself(tmp_path: Path, bucket: Place, request: pytest.FixtureRequest) -> None:
    """No content passes this machine, except for that of metadata.json."""
    near, copies = Place("local", str(tmp_path / "near")), make_place(bucket.name, request)
    count = len(stored := many(near))
    synced(near, bucket, run="")
    with counted() as sent:
        report = synced(bucket, copies, run="")
    assert copies.files() == stored
    assert report.copied == {key: len(data) for key, data in stored.items()}
    assert not [each for each in sent if each.startswith("GET") and "notes" in each]
    claims = 2 * RUNS
    if bucket.is_s3:
        assert kinds(sent) == {"LIST": 3, "HEAD": 1, "GET": RUNS, "PUT": count - RUNS + claims}
    else:
        assert kinds(sent) == {"LIST": 3, "GET": 1 + RUNS, "POST": count - RUNS + claims}
    assert max(sent.bytes, 1) < sum(len(data) for key, data in stored.items() if "metadata" in key) * 3
    with counted() as sent:
        synced(bucket, copies, run="")
    assert kinds(sent) == {"LIST": 2, "HEAD" if bucket.is_s3 else "GET": 1}
    copies.store().clear()


def test_a_store_copies_a_file_of_several_parts_itself(bucket: Place, request: pytest.FixtureRequest) -> None:
    """Its copy has the digest of the original, so the next sync has nothing to do."""
    copies = make_place(bucket.name, request)
    data = os.urandom(2 * PART + 7)
    bucket.logbook("a", manifest=False).mark_complete()
    bucket.store().write("log_a/artifacts/large", data)
    with counted() as sent:
        synced(bucket, copies)
    assert copies.bytes("log_a/artifacts/large") == data
    reads = [each for each in sent if each.startswith("GET") and "large" in each]
    assert not reads or bucket.name == "seaweed"  # whose copies of parts have other ETags than their originals
    with counted() as sent:
        assert synced(bucket, copies).bytes == 0
    assert len(sent) <= 3
    copies.store().clear()


@pytest.mark.parametrize("name", ["log_a/artifacts/odd", "log_a/log.txt"])
def test_a_file_whose_parts_another_program_chose_is_copied_by_the_store_and_so_are_others(
    request: pytest.FixtureRequest, name: str
) -> None:
    bucket, copies = make_place("s3", request), make_place("s3", request)
    parts = [b"a" * (6 * 2**20), b"b" * (9 * 2**20), b"c"]
    bucket.logbook("a", manifest=False).mark_complete()
    bucket.store().write("log_a/artifacts/large", bytes(2 * PART))
    fs, (root, _, folder) = bucket.raw(), bucket.url.removeprefix("s3://").partition("/")
    place = {"Bucket": root, "Key": f"{folder}/{name}"}
    place["UploadId"] = fs.call_s3("create_multipart_upload", **place)["UploadId"]
    tags = [fs.call_s3("upload_part", **place, PartNumber=n, Body=part)["ETag"] for n, part in enumerate(parts, 1)]
    found = [{"PartNumber": number, "ETag": tag} for number, tag in enumerate(tags, 1)]
    fs.call_s3("complete_multipart_upload", **place, MultipartUpload={"Parts": found})
    for _ in range(2):
        with counted() as sent:
            synced(bucket, copies)
        assert copies.bytes(name) == b"".join(parts)
        assert sent.bytes < PART
        assert len([each for each in sent if each.startswith("GET") and name in each]) <= 2
        assert not [each for each in sent if each.startswith("GET") and "large" in each]
    bucket.store().clear()
    copies.store().clear()


def test_a_copy_by_the_store_replaces_only_what_was_seen(bucket: Place) -> None:
    store = bucket.store()
    store.write("a", b"one")
    [entry] = store.list()
    assert store.copies_from(store)
    version = store.copy_on_server("b", store, entry, "")
    assert (store.read("b"), store.stat("b").version) == (b"one", version)
    store.write("a", b"two")
    with pytest.raises(ConflictError):
        store.copy_on_server("c", store, entry, "")
    if bucket.name != "gcs":  # its emulator ignores the conditions of a copy
        assert not store.exists("c")
        entry = store.stat("a")
        with pytest.raises(ConflictError):
            store.copy_on_server("b", store, entry, "")
        with pytest.raises(ConflictError):
            store.copy_on_server("b", store, entry, "0" * 32)
        assert store.read("b") == b"one"
    assert store.copy_on_server("b", store, store.stat("a"), store.stat("b").version)
    assert store.read("b") == b"two"
    store.delete(["a"])
    with pytest.raises(MissingError):
        store.copy_on_server("d", store, entry, "")


def test_a_sync_costs_what_the_docs_say(tmp_path: Path, bucket: Place) -> None:
    near = Place("local", str(tmp_path / "near"))
    bucket.logbook("warm").mark_complete()
    with near.logbook("a", params={"omega": 2.0}) as log:
        for number in range(20):
            log.text(f"t{number}", "x")
    with counted() as sent:
        synced(near, bucket)
    assert len(sent) == 1 + len(near.files()) + 1, sent  # one list, each file, and the claim of the run
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
    assert bucket.files() == origin.files()
    alike = origin.url.partition(":")[0] == bucket.url.partition(":")[0]
    large = {} if alike else {"artifacts/large": 2 * PART + 7}
    with counted() as sent:
        report = synced(origin, bucket)
    assert report.copied == large  # two kinds of bucket have no comparable digests of a large file
    assert bucket.files() == origin.files()
    assert large or len(sent) == 3, sent  # a stat of metadata.json, and a list of each side
    origin.store().clear()


def test_a_tree_of_runs(near: Place, place: Place) -> None:
    for number in range(6):
        with Logbook(f"r{number}", f"{near.url}/sweep/runs", params={"number": number}) as log:
            log.text("notes", "x" * number)
    near.put("sweep/index.csv", b"run_id,status\n")
    near.put("README.md", b"read me")
    assert synced(near, place, run="").runs == 6
    assert place.files() == near.files()
    with counted() as sent:
        assert synced(near, place, run="").bytes == 0
    assert len(sent) <= 1, sent
    if place.bucket:
        back = Place("memory", f"memory://{uuid.uuid4().hex}")
        synced(place, back, run="")
        assert back.files() == near.files()


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
    assert report.copied.keys() == {key.removeprefix("log_a/") for key in near.files()} - {"metadata.json"}
    assert bucket.files() == near.files()


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
    assert place.files() == near.files()


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
    expected, left = near.files(), shared.files()
    assert json.loads(left.pop("log_a/metadata.json"))["status"] == "replacing"
    seen = {key: data for key, data in left.items() if "/.notata-" not in key}  # without unfinished files
    assert all(expected[key] == data for key, data in seen.items())
    assert len(seen) < len(expected)
    report = synced(near, shared)
    assert set(report.copied) <= {key.removeprefix("log_a/") for key in expected.keys() - seen.keys()} | {
        "metadata.json"
    }
    assert {key: data for key, data in shared.files().items() if "/.notata-" not in key} == expected


def test_a_sync_of_runs_that_is_killed_at_any_point_says_no_more_than_is_there(tmp_path: Path) -> None:
    """Every second one continues where the one before was killed."""
    here, there = Place("local", str(tmp_path / "here")), Place("local", str(tmp_path / "there"))
    for number in range(2):
        here.logbook(f"r{number}", manifest=False).mark_complete()
    expected = here.files()
    for nth in range(1, 40):
        process = forkserver().Process(
            target=sync_and_be_killed, args=(here.url, there, nth), kwargs={"after": nth % 2}
        )
        process.start()
        process.join()
        left = {key: data for key, data in there.files().items() if "/.notata-" not in f"/{key}"}
        for number in range(2):
            run = {key: data for key, data in expected.items() if key.startswith(f"log_r{number}/")}
            stored = left.get(f"log_r{number}/metadata.json")
            assert stored is None or json.loads(stored)["status"] != "complete" or left.items() >= run.items()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        if nth % 2:
            there.store().clear()
    assert left == expected


@pytest.fixture(params=["local", *BUCKETS])
def shared(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A place that other processes can reach."""
    place = make_place(request.param, request)
    yield place
    place.store().clear()
