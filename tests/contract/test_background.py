"""Writes in the background, on every backend and until real processes exit.

As a script it is such a process: ``python -m tests.contract.test_background HOW URL OPTIONS [NOTES]``.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import fsspec.asyn
import numpy as np
import pytest

from notata import BatchError, Logbook, LogReader, StorageError
from notata.store import Store, open_store
from notata.testing import FaultyBackend
from tests.backends import Place
from tests.contract.conftest import EVERYWHERE, emptied, make_place
from tests.counting import counted
from tests.nursery import Script

MIB = 2**20
SECONDS = 60
LARGE = 9 * MIB  # two parts
ROOT = Path(__file__).parents[2]
SCRIPT = "tests.contract.test_background"
COUNT = 40
FORKED = 5
UNENDED = "the process ended without mark_complete() or mark_failed()"


@pytest.fixture(params=EVERYWHERE)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    yield from emptied(request)


def test_a_run_in_the_background(place: Place) -> None:
    with place.logbook(background=True, params={"omega": 2.0}) as log:
        for number in range(COUNT):
            log.json(f"steps/{number}", {"number": number})
        log.array("large", np.arange(3 * MIB))
        log.arrays("bundle", a=[1], b=[2])
        with log.open("artifacts/table.csv", "w") as file:
            file.write("t,x\n")
        with log.open("artifacts/table.csv", "a") as file:
            file.write("0,1\n")
        with log.local("artifacts/mesh.vtk") as path:
            path.write_text("# vtk")
        copy = log.file(log["artifacts/table.csv"], "copy.csv")
        assert copy.read_text() == "t,x\n0,1\n"
        log.text("gone", "1").unlink()
        moved = log.text("moved", "1")
        assert moved.rename(moved.with_name("target.txt")).read_text() == "1"
        log["artifacts/own.txt"].write_text("own")
        assert log["artifacts/own.txt"].exists()
        assert len(log.reader.artifacts) == COUNT + 5
    assert log.status == "complete"
    assert json.loads(place.bytes("log_run/metadata.json"))["status"] == "complete"
    for number in range(COUNT):
        assert json.loads(place.bytes(f"log_run/artifacts/steps/{number}.json")) == {"number": number}
    assert LogReader(f"{place.url}/log_run", storage_options=place.options).load_array("large")[-1] == 3 * MIB - 1
    assert place.bytes("log_run/params.yaml") == b"omega: 2.0\n"
    assert place.bytes("log_run/artifacts/mesh.vtk") == b"# vtk"
    assert not [name for name in place.names() if "gone" in name or "moved" in name]


def test_a_background_run_is_resumed_and_overwritten(place: Place) -> None:
    log = place.logbook(background=True)
    log.text("first", "1")
    log.mark_failed("on purpose")
    with place.logbook(background=True, resume=True, params={"a": 1}) as again:
        again.text("second", "2")
    assert "log_run/artifacts/first.txt" in place.names()
    with place.logbook(background=True, overwrite=True) as new:
        new.text("third", "3")
    assert place.names() == ["log_run/artifacts/third.txt", "log_run/manifest.json", "log_run/metadata.json"]


@pytest.mark.usefixtures("stopped_clock")
def test_a_hundred_artifacts_are_a_hundred_requests(bucket: Place) -> None:
    bucket.logbook("warm").mark_complete()
    log = bucket.logbook(background=True, log_level="critical")  # no log line, which holds the log's name on GCS
    with counted() as sent:
        for number in range(100):
            log.text(f"t{number}", "x")
        log.flush()
    assert len(sent) == 100
    with counted() as sent:
        for number in range(100):
            log.text("same", str(number))
        log.flush()
    assert len(sent) < 100
    assert bucket.bytes("log_run/artifacts/same.txt") == b"99"
    with counted() as sent:
        assert log["artifacts/same.txt"].read_text() == "99"
    assert len(sent) == 1
    with counted() as sent:
        log.mark_complete()
    assert len(sent) == 2, sent  # the manifest and the status, as without a queue


@pytest.mark.usefixtures("stopped_clock")
def test_a_large_value_costs_what_it_costs_otherwise(bucket: Place) -> None:
    bucket.logbook("warm").mark_complete()
    requests = []
    for background in (False, True):
        log = bucket.logbook(f"run-{background}", background=background)
        log.flush()
        with counted() as sent:
            log.bytes("large", b"x" * 20 * MIB)
            log.flush()
        requests.append(len([request for request in sent if "log.txt" not in request]))
    assert requests[0] == requests[1]


def test_an_upload_that_is_given_up_leaves_nothing(place: Place) -> None:
    log = place.logbook(background=True)
    with pytest.raises(ZeroDivisionError), log.open("artifacts/large", "wb") as file:
        file.write(b"x" * 20 * MIB)
        raise ZeroDivisionError
    log.flush()
    assert not [name for name in place.names() if "metadata" not in name]
    if place.is_s3:
        bucket, _, prefix = place.url.removeprefix("s3://").partition("/")
        uploads = place.raw().call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix)
        assert not uploads.get("Uploads")


def test_a_lost_write_of_a_bucket_is_reported(bucket: Place) -> None:
    store = FaultyBackend(bucket.store())
    log = Logbook("run", store, background=True)
    store.fail(1, key="artifacts/x.txt")
    log.text("x", "1")
    with pytest.raises(BatchError, match=r"artifacts/x\.txt"):
        log.mark_complete()
    assert json.loads(bucket.bytes("log_run/metadata.json"))["status"] == "failed"
    assert any(line.startswith("ERROR Lost artifacts/x.txt") for line in bucket.log())


def test_while_an_event_loop_runs_as_in_a_notebook(place: Place) -> None:
    log = place.logbook(background=True)

    async def cell() -> str:
        path = log.text("from a cell", "x")
        log.bytes("large", b"x" * 20 * MIB)
        log.flush()
        return path.read_text()

    assert asyncio.run(cell()) == "x"
    log.mark_complete()


def test_calls_from_the_thread_of_the_storage_do_not_wait_for_ever(place: Place) -> None:
    log = place.logbook(background=4 * 2000)
    log.text("before", "x")
    outcome: list[Any] = []
    done = threading.Event()

    def on_the_loop() -> None:
        try:
            for number in range(20):
                log.text(f"t{number}", "x" * 900)
            outcome.append(log["artifacts/before.txt"].read_text())
        except Exception as error:
            outcome.append(error)
        done.set()

    fsspec.asyn.get_loop().call_soon_threadsafe(on_the_loop)
    assert done.wait(SECONDS)
    if place.bucket:
        assert isinstance(outcome[0], StorageError)
        assert "the thread that fsspec uses" in str(outcome[0])
    else:
        assert outcome == ["x"]
    log.text("after", "x")
    log.mark_complete()
    assert place.bytes("log_run/artifacts/after.txt") == b"x"


# -- processes ---------------------------------------------------------------------------------------------


@pytest.fixture(params=["local", "s3"])
def reachable(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A place that another process can reach."""
    place = make_place(request.param, request)
    yield place
    place.store().clear()


def fill(log: Logbook, prefix: str = "t") -> None:
    for number in range(COUNT):
        log.text(f"{prefix}{number}", "x" * 1000)
    log.bytes(f"{prefix}-large", b"x" * LARGE)


def ready() -> None:
    print("ready", flush=True)
    sys.stdin.read()


def end_well(begin: Callable[..., Logbook]) -> None:
    with begin() as log:
        fill(log)


def forget_to_end(begin: Callable[..., Logbook]) -> None:
    fill(begin())


def exit_with_3(begin: Callable[..., Logbook]) -> None:
    fill(begin())
    sys.exit(3)


def raise_an_error(begin: Callable[..., Logbook]) -> None:
    fill(begin())
    raise ValueError("h = -1")


def raise_in_the_block(begin: Callable[..., Logbook]) -> None:
    with begin() as log:
        fill(log)
        raise ValueError("h = -1")


def get_sigterm(begin: Callable[..., Logbook]) -> None:
    log = begin(handle_sigterm=True)
    fill(log)
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(SECONDS)


def write_after_the_end(begin: Callable[..., Logbook]) -> None:
    with begin() as log:
        pass
    fill(log)


def lose_one(begin: Callable[..., Logbook]) -> None:
    log = begin(lost="artifacts/t3.txt")
    for number in range(4):
        log.text(f"t{number}", "x")


def write_in_a_thread(begin: Callable[..., Logbook]) -> None:
    log = begin()

    def work() -> None:
        threading.Event().wait(0.2)  # the main thread has ended by then, except for its work at exit
        fill(log)
        log.mark_complete()

    threading.Thread(target=work).start()


def wait_to_be_killed(begin: Callable[..., Logbook]) -> None:
    log = begin()
    fill(log)
    log.flush()
    fill(log, "unflushed")
    ready()


class SlowRecorder(FaultyBackend):
    """A slow backend that records the key and the process of each new file."""

    def put(self, key: str, data: bytes, match: str | None) -> str:
        if match is None:
            threading.Event().wait(0.005)
            with open(os.environ["NOTES"], "a") as file:
                file.write(f"{os.getpid()} {key}\n")
        return super().put(key, data, match)


def fork(begin: Callable[..., Logbook]) -> None:
    """Fork children while writes are pending and other threads hold every lock."""
    log = begin(noting=True)
    over = threading.Event()

    def hammer(name: str) -> None:
        number = 0
        while not over.is_set():
            number += 1
            log.text(f"{name}/{number}", "x")
            if number % 7 == 0:
                log[f"artifacts/{name}/{number}.txt"].exists()

    threads = [threading.Thread(target=hammer, args=(f"hammer{number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    upload = log.open("artifacts/parent", "wb")
    upload.write(b"x" * 10 * MIB)
    for number in range(FORKED):
        child = os.fork()
        if child == 0:
            signal.alarm(SECONDS)  # kills the child if a lock is never released
            code = 1
            try:
                writes: list[Callable[[], Any]] = [
                    lambda number=number: log.text(f"child{number}", str(os.getpid())),  # type: ignore[misc]
                    lambda number=number: log.bytes(f"child-large{number}", b"x" * 9 * MIB),  # type: ignore[misc]
                ]
                for write in writes[:: (-1) ** number]:
                    write()
                log.flush()
                try:
                    upload.close()
                except StorageError:
                    code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
    over.set()
    for thread in threads:
        thread.join()
    upload.close()
    log.mark_complete()


def main(how: str, url: str, options: str, notes: str = "") -> None:
    os.environ["NOTES"] = notes

    def begin(*, lost: str = "", noting: bool = False, **arguments: Any) -> Logbook:
        store = open_store(url, json.loads(options))
        if noting:
            store = Store(SlowRecorder(store))
        if lost:
            faults = FaultyBackend(store)
            faults.fail(1, key=lost)
            store = Store(faults)
        return Logbook("run", store, background=True, **arguments)

    globals()[how](begin)


Run: TypeAlias = Callable[..., tuple[int, str]]


@pytest.fixture
def run() -> Run:
    """Run the script to its end and return its exit code and errors. With `fresh`, it starts as a separate process."""

    def run(place: Place, how: Callable[..., None], notes: str = "", *, fresh: bool = False) -> tuple[int, str]:
        arguments = [how.__name__, place.url, json.dumps(place.options), notes]
        if fresh:
            command = [sys.executable, "-W", "ignore", "-m", SCRIPT, *arguments]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
            return done.returncode, done.stderr
        script = Script(SCRIPT, arguments)
        _, errors = script.communicate()
        return int(script.wait()), errors

    return run


def all_there(place: Place, prefix: str = "t") -> None:
    names = [name for name in place.names() if "/debug/" not in name]
    wanted = {f"log_run/artifacts/{prefix}{number}.txt" for number in range(COUNT)}
    assert wanted | {f"log_run/artifacts/{prefix}-large"} <= set(names)
    assert len(place.bytes(f"log_run/artifacts/{prefix}-large")) == LARGE


def meta(place: Place) -> dict[str, Any]:
    return dict(json.loads(place.bytes("log_run/metadata.json")))


HOWS = [
    (end_well, 0, None),
    (write_after_the_end, 0, None),
    (exit_with_3, 3, UNENDED),  # the interpreter prints nothing for a SystemExit
    (raise_an_error, 1, "h = -1"),
    (write_in_a_thread, 0, None),
    (forget_to_end, 0, UNENDED),
    (raise_in_the_block, 1, "h = -1"),
    (get_sigterm, 143, "SIGTERM"),
]


@pytest.mark.parametrize(
    ("reachable", "how", "code", "reason"),
    [*(("local", *how) for how in HOWS), *(("s3", *how) for how in HOWS[4:])],
    indirect=["reachable"],
)
def test_however_a_process_ends_what_is_pending_is_stored(
    reachable: Place, run: Run, how: Callable[..., None], code: int, reason: str | None
) -> None:
    ended = run(reachable, how, fresh=how is forget_to_end)
    assert ended[0] == code, ended
    assert "Lost" not in ended[1]
    all_there(reachable)
    assert meta(reachable)["status"] == ("failed" if reason else "complete")
    assert meta(reachable).get("failure_reason") == reason


def test_lost_writes_are_reported_at_exit(reachable: Place, run: Run) -> None:
    code, errors = run(reachable, lose_one)
    assert code == 0
    assert "notata, at exit: BatchError: 1 write was lost in" in errors
    assert "artifacts/t3.txt" in errors
    reason = meta(reachable)["failure_reason"]
    assert reason.startswith(f"{UNENDED}; 1 write was lost")
    assert reason.endswith(": artifacts/t3.txt")
    assert any(line.startswith("ERROR Lost artifacts/t3.txt") for line in reachable.log())
    assert {f"log_run/artifacts/t{number}.txt" for number in range(3)} <= set(reachable.names())


def test_what_was_flushed_is_there_after_a_kill(reachable: Place) -> None:
    process = Script(SCRIPT, [wait_to_be_killed.__name__, reachable.url, json.dumps(reachable.options)])
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.communicate()
    all_there(reachable)
    assert meta(reachable)["status"] == "initialized"
    assert any("Saved text t0" in line for line in reachable.log())


def test_a_forked_child_begins_with_an_empty_queue(reachable: Place, run: Run, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    code, errors = run(reachable, fork, str(notes))
    assert code == 0, errors
    assert meta(reachable)["status"] == "complete"
    stored = [line.split(" ") for line in notes.read_text().splitlines()]
    assert max(Counter(key for _, key in stored).values()) == 1
    by = {key: pid for pid, key in stored}
    for number in range(FORKED):
        assert reachable.bytes(f"log_run/artifacts/child{number}.txt").decode() == by[f"artifacts/child{number}.txt"]
        assert len(reachable.bytes(f"log_run/artifacts/child-large{number}")) == 9 * MIB
    hammered = {key for _, key in stored if "hammer" in key}
    assert len({by[key] for key in hammered}) == 1
    assert hammered == {name.removeprefix("log_run/") for name in reachable.names() if "hammer" in name}
    assert len(reachable.bytes("log_run/artifacts/parent")) == 10 * MIB


if __name__ == "__main__":
    main(*sys.argv[1:])
