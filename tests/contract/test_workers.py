"""Several processes that write one run: ranks that attach by its URL, and pool processes that receive a worker."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from notata import LogReader, RunDisplacedError, RunEndedError, RunMissingError, Worker
from tests import receipts
from tests.backends import Place
from tests.contract.conftest import EVERYWHERE, QUICK, emptied
from tests.contract.parts import closing_part, part
from tests.contract.test_life import metadata, until
from tests.contract.test_races import die
from tests.counting import counted
from tests.forks import forkserver

RANKS = 4


@pytest.fixture(params=QUICK)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Processes are slow to start, so production stores run few of these tests."""
    yield from emptied(request)


def attach(place: Place, rank: int | str, run_id: str = "run", **options: Any) -> Worker:
    return Worker(f"{place.url}/log_{run_id}", rank, storage_options=place.options, **options)


def log_of(place: Place, rank: int | str, run_id: str = "run") -> list[str]:
    """Return the messages of a worker's log."""
    text = place.bytes(f"log_{run_id}/workers/{rank}/log.txt").decode()
    assert text.endswith("\n")
    return [line.partition("] ")[2] if line.startswith("[") else line for line in text.splitlines()]


def reader(place: Place, run_id: str = "run") -> LogReader:
    return LogReader(f"{place.url}/log_{run_id}", storage_options=place.options)


def run_each(place: Place, work: Callable[..., object], *arguments: Any) -> None:
    """Call a function for all ranks at once: in separate processes, or in threads for memory."""
    if place.name == "memory":
        with ThreadPoolExecutor(RANKS) as pool:
            assert all(done is None for done in pool.map(lambda rank: work(place, rank, *arguments), range(RANKS)))
        return
    context = forkserver()
    ranks = [context.Process(target=work, args=(place, rank, *arguments)) for rank in range(RANKS)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    assert [rank.exitcode for rank in ranks] == [0] * RANKS


# -- ranks -------------------------------------------------------------------------------------------------


def record(place: Place, rank: int) -> None:
    """Write the files of a rank; the worker is not closed explicitly, but when its process ends."""
    worker = attach(place, rank)
    worker.array(f"field/{rank}", [float(rank)] * 3)
    worker.json(f"metrics/{rank}", {"rank": rank})
    worker.text(f"notes/{rank}", "é")
    worker.pickle(f"state/{rank}", {rank})
    worker[f"artifacts/settings/{rank}.ini"].write_text("a = 1")
    with worker.open(f"data/large/{rank}.raw", "wb") as file:
        file.write(bytes([rank]) * (9 * 2**20))
    with worker.local(f"artifacts/mesh/{rank}.vtk") as path:
        path.write_text("# vtk")
    worker.warning("rank %d is done", rank)
    if place.name == "memory":
        worker.close()


@pytest.mark.parametrize("place", EVERYWHERE, indirect=True)
def test_ranks_write_one_run_while_its_owner_is_running(place: Place) -> None:
    with place.logbook(heartbeat=0.2) as log:
        run_each(place, record)
        log.json("metrics/all", {"ranks": RANKS})
    fields = metadata(place)
    assert (fields["status"], fields["workers"]) == ("complete", True)
    run = reader(place)
    for rank in range(RANKS):
        assert run.load_array(f"field/{rank}").tolist() == [float(rank)] * 3
        assert run.load_json(f"metrics/{rank}") == {"rank": rank}
        assert run.load_text(f"notes/{rank}") == "é"
        assert run.load_pickle(f"state/{rank}") == {rank}
        assert place.bytes(f"log_run/artifacts/settings/{rank}.ini") == b"a = 1"
        assert place.bytes(f"log_run/data/large/{rank}.raw") == bytes([rank]) * (9 * 2**20)
        assert place.bytes(f"log_run/artifacts/mesh/{rank}.vtk") == b"# vtk"
        said = log_of(place, rank)
        assert said[0].startswith(f"INFO Worker {rank} attached to the run by process ")
        assert said[1:] == [
            f"INFO Saved array field/{rank} in data/field/{rank}.npy",
            f"INFO Saved JSON metrics/{rank} in artifacts/metrics/{rank}.json",
            f"INFO Saved text notes/{rank} in artifacts/notes/{rank}.txt",
            f"INFO Saved pickle state/{rank} in artifacts/state/{rank}.pkl",
            f"INFO Saved file {rank}.vtk in artifacts/mesh/{rank}.vtk",
            f"WARNING rank {rank} is done",
        ]
    assert not any("rank" in line for line in place.log())


def announce(place: Place, rank: int) -> None:
    attach(place, rank).close()


def test_many_workers_that_attach_at_once_do_not_displace_each_other(place: Place) -> None:
    """Meanwhile the owner sends heartbeats and changes its metadata: each is a swap of the same file."""
    log = place.logbook(heartbeat=0.01)
    over = threading.Event()
    steps: list[int] = []

    def change() -> None:
        while not over.is_set():
            log.meta(step=len(steps))
            steps.append(1)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        run_each(place, announce)
    finally:
        over.set()
        thread.join()
    log.mark_complete()
    fields = metadata(place)
    assert (fields["status"], fields["workers"], fields["step"]) == ("complete", True, len(steps) - 1)
    log.text("after", "still the owner")


def test_attaching_a_worker_does_not_displace_the_owner(place: Place) -> None:
    log = place.logbook(heartbeat=0)
    before = metadata(place)
    attach(place, 0)
    assert metadata(place) == {**before, "workers": True}
    stored = place.bytes("log_run/metadata.json")
    attach(place, 1)  # already recorded
    assert place.bytes("log_run/metadata.json") == stored
    log.meta(machine="node17")
    log.mark_complete()
    after = metadata(place)
    assert (after["machine"], after["workers"], after["status"]) == ("node17", True, "complete")
    assert after["lease"]["owner"] == before["lease"]["owner"]


def test_heartbeats_continue_after_a_worker_attached(place: Place) -> None:
    log = place.logbook(heartbeat=0.05)
    attach(place, 0)
    first = metadata(place)["lease"]["beat"]
    until(lambda: metadata(place)["lease"]["beat"] > first)
    assert metadata(place)["workers"] is True
    log.mark_complete()
    assert metadata(place)["workers"] is True


def test_the_owner_sets_the_field_workers_once(place: Place) -> None:
    log = place.logbook(heartbeat=0)
    assert "workers" not in metadata(place)
    log.worker(0)
    stored = place.bytes("log_run/metadata.json")
    assert metadata(place)["workers"] is True
    log.worker("1")
    assert place.bytes("log_run/metadata.json") == stored
    assert [name for name in place.names(logs=True) if "workers" in name] == []  # nothing is written yet
    log.mark_complete()


@pytest.mark.usefixtures("stopped_clock")
def test_a_worker_costs_what_the_docs_say(bucket: Place) -> None:
    log = bucket.logbook("warm", heartbeat=0)
    with counted() as sent:
        log.worker(0)
    assert len(sent) == 1, sent
    with counted() as sent:
        worker = log.worker(1)
    assert sent == []
    with counted() as sent:
        worker.text("t", "x")
    assert len(sent) == 1, sent
    with counted() as sent:
        worker.close()
    assert len(sent) == 3, sent  # the end of the log, its lines, and the manifest
    with counted() as sent:
        worker.close()
    assert sent == []
    worker.text("t", "y")
    with counted() as sent:
        worker.close()
    assert len(sent) == 2, sent  # its line, and the manifest
    log.mark_complete()
    other = bucket.logbook("other", heartbeat=0)
    with counted() as sent:
        attach(bucket, 0, "other")
    assert len(sent) == 2, sent  # metadata read, and swapped
    with counted() as sent:
        attach(bucket, 1, "other")
    assert len(sent) == 1, sent
    other.mark_complete()


# -- pools -------------------------------------------------------------------------------------------------


PARTS = 12


@pytest.mark.parametrize(
    ("method", "work"), [("spawn", part), ("forkserver", closing_part), ("threads", part), ("threads", closing_part)]
)
def test_a_pool_may_be_given_a_worker(place: Place, method: str, work: Callable[[Worker, int], object]) -> None:
    if place.name == "memory" and method != "threads":
        method = "threads"  # other processes have their own memory
    with place.logbook() as log:
        worker = log.worker("pool")
        if method == "threads":
            with ThreadPoolExecutor(3) as threads:
                assert len(list(threads.map(work, [worker] * PARTS, range(PARTS)))) == PARTS
        else:
            context = forkserver() if method == "forkserver" else multiprocessing.get_context(method)
            with ProcessPoolExecutor(2, mp_context=context) as pool:
                assert len(list(pool.map(work, [worker] * PARTS, range(PARTS)))) == PARTS
    assert metadata(place)["status"] == "complete"
    for number in range(PARTS):
        assert json.loads(place.bytes(f"log_run/artifacts/parts/{number}.json")) == {"part": number}
    expected = [
        line.format(number)
        for number in range(PARTS)
        for line in ("INFO Saved JSON parts/{0} in artifacts/parts/{0}.json", "INFO part {0}")
    ]
    assert sorted(log_of(place, "pool")) == sorted(expected)


def children(place: Place, worker: Worker) -> None:
    """Fork a process for each rank before this one has connected."""
    context = multiprocessing.get_context("fork")
    forked = [context.Process(target=part, args=(worker, number)) for number in range(RANKS)]
    for child in forked:
        child.start()
    for child in forked:
        child.join()
    assert [child.exitcode for child in forked] == [0] * RANKS


def test_a_forked_child_may_use_it(place: Place) -> None:
    """A process may pass its worker to forked children, which make their own connections."""
    if place.name == "memory":  # a forked child has its own memory
        return
    with place.logbook() as log:
        context = forkserver()
        process = context.Process(target=children, args=(place, log.worker("forked")))
        process.start()
        process.join()
        assert process.exitcode == 0
    assert sorted(line for line in log_of(place, "forked") if "Saved" not in line) == [
        f"INFO part {number}" for number in range(RANKS)
    ]
    assert len(reader(place).artifacts) == RANKS


# -- ends --------------------------------------------------------------------------------------------------


def fail(place: Place, rank: int) -> None:
    try:
        with attach(place, rank) as worker:
            worker.text("partial", "x")
            raise ArithmeticError(f"no mean flow on {rank}")
    except ArithmeticError:
        if rank % 2:
            raise SystemExit(0) from None


def test_a_worker_that_fails_logs_it_and_the_run_continues(place: Place) -> None:
    with place.logbook() as log:
        fail(place, 0)
        assert metadata(place)["status"] == log.status == "initialized"
    assert metadata(place)["status"] == "complete"
    said = log_of(place, 0)
    assert said[2] == "ERROR Worker 0 failed: no mean flow on 0"
    assert said[3] == "  Traceback (most recent call last):"
    assert said[-1] == "  ArithmeticError: no mean flow on 0"


def test_the_lines_of_workers_in_this_process_are_stored_before_the_run_is_complete(place: Place) -> None:
    with place.logbook() as log:
        worker = log.worker(0)
        worker.info("a")
    assert metadata(place)["status"] == "complete"
    assert log_of(place, 0) == ["INFO a"]
    worker.info("late")
    worker.close()
    assert log_of(place, 0) == ["INFO a", "INFO late"]


def test_the_lines_of_workers_of_a_failed_run_are_stored(place: Place) -> None:
    log = place.logbook()
    worker = log.worker(0)
    worker.info("a")
    log.mark_failed("on purpose")
    assert log_of(place, 0) == ["INFO a"]


def test_a_rank_used_again_continues_its_log(place: Place) -> None:
    log = place.logbook()
    with attach(place, 0) as worker:
        worker.info("first")
    with attach(place, 0) as worker:
        worker.info("second")
    assert [line for line in log_of(place, 0) if "attached" not in line] == ["INFO first", "INFO second"]
    log.mark_complete()


# -- receipts ----------------------------------------------------------------------------------------------


def own_manifest(place: Place, rank: int | str) -> dict[str, Any]:
    """Return the file records of a worker's manifest."""
    found: dict[str, Any] = json.loads(place.bytes(f"log_run/workers/{rank}/manifest.json"))
    assert found["run_id"] == "run"
    assert found["owner"] == metadata(place)["lease"]["owner"][:8]
    return dict(found["files"])


def digests(files: dict[str, Any]) -> dict[str, str]:
    """Return the digests of all files except logs, which grow."""
    return {key: told["sha256"] for key, told in files.items() if not key.endswith("/log.txt")}


def sums(place: Place, *names: str) -> dict[str, str]:
    """Return the SHA-256 of files, by plain fsspec and hashlib."""
    return {name: hashlib.sha256(place.bytes(f"log_run/{name}")).hexdigest() for name in names}


def test_the_manifest_of_a_run_has_what_its_ranks_wrote(place: Place) -> None:
    with place.logbook() as log:
        run_each(place, record)
        log.json("metrics/all", {"ranks": RANKS})
    told = receipts.check(place)
    assert len(told) == 2 + RANKS * 8  # log.txt and one JSON; and seven files and a log per worker
    for rank in range(RANKS):
        own = own_manifest(place, rank)
        assert own[f"artifacts/notes/{rank}.txt"] == told[f"artifacts/notes/{rank}.txt"]
        large = f"data/large/{rank}.raw"
        assert (own[large]["size"], own[large]["sha256"]) == (9 * 2**20, sums(place, large)[large])
        assert (f"workers/{rank}/log.txt" in own) is place.bucket  # on a disk the owner reads it
    report = reader(place).verify()
    assert report.ok, str(report)
    assert [*report.unverified, *report.extra, *report.missing, *report.changed] == []


def test_a_rank_that_is_used_twice_loses_no_receipt(place: Place) -> None:
    log = place.logbook()
    first, second = attach(place, 0), attach(place, 0)
    first.text("a", "1")
    second.text("b", "2")
    first.close()
    second.text("a", "1, again")
    second.close()
    first.text("c", "3")
    first.close()
    assert digests(own_manifest(place, 0)) == sums(place, *(f"artifacts/{name}.txt" for name in "abc"))
    with attach(place, 0) as third:
        third.text("d", "4")
        third.text("a", "5")
    assert digests(own_manifest(place, 0)) == sums(place, *(f"artifacts/{name}.txt" for name in "abcd"))
    log.mark_complete()
    receipts.check(place)


def closing(place: Place, rank: int) -> None:
    for step in range(3):
        with attach(place, "shared") as worker:
            worker.text(f"{rank}-{step}", f"{rank}-{step}")


def test_ranks_that_have_one_name_lose_none_either(place: Place) -> None:
    with place.logbook():
        run_each(place, closing)
    names = [f"artifacts/{rank}-{step}.txt" for rank in range(RANKS) for step in range(3)]
    assert digests(own_manifest(place, "shared")) == sums(place, *names)
    receipts.check(place)


def be_killed(place: Place) -> None:
    attach(place, "killed").text("notes", "x")
    os._exit(7)


def test_what_a_killed_rank_wrote_is_listed(place: Place) -> None:
    """In a bucket without a digest, which no process knows."""
    with place.logbook():
        if place.name == "memory":
            attach(place, "killed").text("notes", "x")
        else:
            process = forkserver().Process(target=be_killed, args=(place,))
            process.start()
            process.join()
            assert process.exitcode == 7
    told = receipts.check(place, without=["artifacts/notes.txt", "workers/killed/log.txt"])
    assert ("sha256" in told["artifacts/notes.txt"]) is not place.bucket


def test_a_run_one_of_whose_workers_was_never_closed_is_verified_all_the_same(place: Place) -> None:
    """For example, the worker was killed or its pool was shut down. The log that it left is not an error."""
    log = place.logbook()
    worker = attach(place, 3)
    worker.text("notes", "x")
    worker.flush()
    log.mark_complete()
    report = reader(place).verify()
    assert report.ok, report
    assert report.checked == 3
    place.put("log_run/workers/3/log.txt", b"x" * len(place.bytes("log_run/workers/3/log.txt")))
    assert not reader(place).verify().ok


def test_a_worker_leaves_no_manifest_where_none_is_wanted(place: Place) -> None:
    with place.logbook(manifest=False) as log, log.worker(0) as worker:
        worker.text("a", "1")
    with place.logbook("other") as log, attach(place, 0, "other", manifest=False) as worker:
        worker.text("a", "1")
    found = [name for name in place.names() if name.endswith("manifest.json")]
    assert found == ["log_other/manifest.json"]


def test_a_worker_that_only_logs_has_its_log_in_the_manifest(bucket: Place) -> None:
    with bucket.logbook():
        attach(bucket, 0).close()
    assert list(own_manifest(bucket, 0)) == ["workers/0/log.txt"]
    receipts.check(bucket)


def test_files_written_without_notata_are_reported_as_they_are(tmp_path: Path) -> None:
    place = Place("local", str(tmp_path))
    log = place.logbook()
    with attach(place, 0) as worker:
        worker.text("a", "1")
        worker.text("b", "2")
        worker.text("c", "3")
        place.put("log_run/artifacts/a.txt", b"9")
        worker["artifacts/c.txt"].unlink()
    assert digests(own_manifest(place, 0)) == sums(place, "artifacts/a.txt", "artifacts/b.txt")
    log.mark_complete()
    receipts.check(place)


def test_on_a_disk_a_worker_detects_at_its_end_that_its_run_was_replaced(tmp_path: Path) -> None:
    place = Place("local", str(tmp_path))
    place.logbook(heartbeat=0)
    worker = attach(place, 0)
    worker.text("a", "1")
    place.logbook(heartbeat=0, overwrite=True).mark_complete()
    with pytest.raises(RunDisplacedError, match="replaced by another run"):
        worker.close()
    assert not any("workers" in name for name in place.names(logs=True))


# -- runs that take none -----------------------------------------------------------------------------------


def test_a_worker_needs_a_run(place: Place) -> None:
    with pytest.raises(RunMissingError, match=r"cannot attach a worker to .*log_none"):
        attach(place, 0, "none")
    log = place.logbook()
    log.mark_complete()
    with pytest.raises(RunEndedError, match="it has ended"):
        attach(place, 0)
    with pytest.raises(RunEndedError, match="it has ended"):
        log.worker(0)
    place.put("log_run/metadata.json", json.dumps(metadata(place) | {"status": "replacing"}).encode())
    with pytest.raises(RunEndedError, match="it is being replaced"):
        attach(place, 0)
    assert [name for name in place.names(logs=True) if "workers" in name] == []


def test_a_worker_of_a_dead_run_warns(place: Place) -> None:
    die(place, "dead")
    with pytest.warns(UserWarning, match="is dead, so its owner will not end it") as warned:
        worker = attach(place, 0, "dead")
    assert warned[0].filename.endswith("test_workers.py")
    worker.close()
    assert log_of(place, 0, "dead")[1].startswith("WARNING The run is dead, so its owner will not end it: process ")
    with place.logbook("dead", resume=True):
        worker.text("late", "x")
        worker.close()
    assert metadata(place, "dead")["workers"] is True
    assert reader(place, "dead").state.status == "complete"


def test_a_worker_continues_when_its_run_is_resumed(place: Place) -> None:
    log = place.logbook()
    worker = attach(place, 0)
    worker.close()
    log.mark_failed("preempted")
    with place.logbook(resume=True):
        worker.info("still here")
        worker.text("still", "there")
        worker.close()
    assert log_of(place, 0)[1:] == ["INFO still here", "INFO Saved text still in artifacts/still.txt"]


def test_a_worker_detects_that_its_run_was_replaced(bucket: Place) -> None:
    """In a bucket it notices this when another run owns its log."""
    bucket.logbook(heartbeat=0)
    worker = attach(bucket, 0)
    worker.close()
    new = bucket.logbook(overwrite=True)
    worker.info("which run is this?")
    worker.flush()
    with pytest.raises(RunDisplacedError, match="replaced by another run"):
        worker.text("notes", "x")
    worker.info("ignored")
    worker.flush()
    new.mark_complete()
    assert not any("workers" in name for name in bucket.names(logs=True))
