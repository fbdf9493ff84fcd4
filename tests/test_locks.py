"""Locks that another process holds: any process that can read a file can lock it, and no run hangs because of that."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from notata import DeadlineError, Logbook, NotataError, Storage
from notata._base.nesting import thread_frames
from notata.growing import growing_file
from notata.search import remove
from notata.store import open_store
from notata.store.backends import local_locks

fcntl = pytest.importorskip("fcntl", reason="Windows locks files by other means")

LONG = 60  # seconds that a test waits for something that might never end


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a lock as another process may that can read, but not write, the file."""
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def in_time(work: Callable[[], object]) -> BaseException | None:
    """Run a call with a time limit and return its exception."""
    raised: list[BaseException | None] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)
        else:
            raised.append(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(LONG)
    assert raised, "timed out"
    return raised[0]


WRITES: dict[str, Callable[[Logbook], object]] = {
    "info": lambda log: log.info("a line"),
    "text": lambda log: log.text("notes", "x"),
    "meta": lambda log: log.meta(machine="n17"),
    "complete": lambda log: log.mark_complete(),
    "failed": lambda log: log.mark_failed("why"),
    "append": lambda log: log.open("log.txt", "a").close(),
    "flush": lambda log: log.flush(),
    "overwrite": lambda log: Logbook(log.run_id, Storage(log.path.parent, timeout=0.1), overwrite=True),
    "rm --force": lambda log: remove(Storage(log.path, timeout=0.1), force=True),
}


@pytest.mark.parametrize("name", ["", "log.txt", "metadata.json"])
@pytest.mark.parametrize("write", WRITES)
def test_a_lock_of_a_reader_does_not_block_a_run(write: str, name: str, tmp_path: Path) -> None:
    log = Logbook("run", Storage(tmp_path, timeout=0.1), heartbeat=0, environment=False)
    log.info("a line")
    with held(tmp_path / "log_run" / name):
        error = in_time(lambda: WRITES[write](log))
        assert error is None or isinstance(error, NotataError)


@pytest.mark.parametrize("name", ["", "metadata.json"])
def test_the_error_names_the_file_and_says_what_to_do(name: str, tmp_path: Path) -> None:
    log = Logbook("run", Storage(tmp_path, timeout=0.1), heartbeat=0, environment=False)
    before = (tmp_path / "log_run/metadata.json").read_bytes()
    with held(tmp_path / "log_run" / name):
        with pytest.raises(DeadlineError, match=r"another process held the lock of .*log_run") as caught:
            log.meta(machine="n17")
        assert str(tmp_path / "log_run" / name) in str(caught.value)
        assert "for 0.1 s, so nothing was changed. Find the process" in str(caught.value)
        assert caught.value.errno == errno.ETIMEDOUT
        assert (tmp_path / "log_run/metadata.json").read_bytes() == before
    log.meta(machine="n17")
    log.mark_complete()
    assert log.status == "complete"


def test_lines_that_had_to_wait_are_all_there_and_only_the_first_waited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(growing_file, "SECONDS", growing_file.LONGEST)  # the lock is not tried again meanwhile
    log = Logbook("run", Storage(tmp_path, timeout=0.1), heartbeat=0, environment=False)
    log.info("before")
    tries: list[int] = []
    real = fcntl.flock

    def counted(handle: int, how: int) -> None:
        tries.append(how)
        real(handle, how)

    with held(tmp_path / "log_run/log.txt"):
        log.info("0")
        monkeypatch.setattr(fcntl, "flock", counted)
        for number in range(1, 100):
            log.info(str(number))
        assert tries == []
    monkeypatch.undo()
    assert "cannot store log.txt now" in caplog.text
    log.mark_complete()
    said = [line.rpartition(" ")[2] for line in (tmp_path / "log_run/log.txt").read_text().splitlines()]
    assert said == ["initialized", "before", *map(str, range(100)), "complete"]


def test_of_many_locks_that_are_held_only_the_first_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a removal would wait for the time limit with each file."""
    with Logbook("run", tmp_path, environment=False, heartbeat=0) as log:
        for number in range(60):
            log.text(str(number), "x")
    tries: list[int] = []
    real = fcntl.flock

    def counted(handle: int, how: int) -> None:
        tries.append(how)
        real(handle, how)

    with held(tmp_path / "log_run/artifacts"):
        monkeypatch.setattr(fcntl, "flock", counted)
        done = remove(Storage(tmp_path / "log_run", timeout=0.5), failed=lambda error: None)
        monkeypatch.undo()
    assert (done[0].removed, len(done[0].remains.errors if done[0].remains else ())) == (False, 60)
    waited = tries.count(fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert 60 < waited < 60 + 0.5 / 0.01 + 100  # pauses between tries last at least 10 ms, except for the first
    assert remove(str(tmp_path / "log_run"))[0].removed


def test_waiting_for_a_lock_file_that_is_renewed_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a system without file locks, a file serves as the lock; one that is always new never counts as abandoned."""

    def none(handle: int, how: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", none)
    monkeypatch.setattr("notata.store.backends.local_locks.DEAD_AFTER", 0.2)
    store = open_store(tmp_path, timeout=0.1)
    version = store.create("a", b"1")
    future = 2**33
    (tmp_path / ".notata-lock").write_bytes(b"")
    os.utime(tmp_path / ".notata-lock", (future, future))
    error = in_time(lambda: store.replace("a", b"2", version))
    assert isinstance(error, DeadlineError)
    assert (tmp_path / "a").read_bytes() == b"1"


def test_a_time_limit_reaches_the_store_of_a_disk(tmp_path: Path) -> None:
    for base in (str(tmp_path), tmp_path, f"file://{tmp_path}"):
        store: Any = open_store(base, timeout=0.05)
        with suppress(NotataError):
            store.create("a", b"1")
        version = store.fetch("a").version
        with held(tmp_path), pytest.raises(DeadlineError, match=r"for 0\.05 s"):
            store.replace("a", b"2", version)


def test_a_lock_that_is_held_is_not_taken_for_one_that_was_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread appends while this one holds the lock of the file: it waits for its turn."""
    store = open_store(tmp_path, timeout=0.2)
    store.write("a", b"1")
    rename = os.replace

    def replace(*names: str, **folders: Any) -> None:
        with ThreadPoolExecutor(1) as pool, pytest.raises(DeadlineError):
            pool.submit(store.append, "a", b"2", 1).result()
        assert (tmp_path / "a").read_bytes() == b"1"
        rename(*names, **folders)

    monkeypatch.setattr(os, "replace", replace)
    store.replace("a", b"3", store.stat("a").version)
    assert store.append("a", b"2", 1) == 2


def test_a_lock_that_another_thread_takes_during_the_check_is_not_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check for an abandoned lock looks at all threads; another call begins meanwhile."""
    path = tmp_path / "file"
    path.write_bytes(b"")
    taken, done = [threading.Event(), threading.Event()], [threading.Event(), threading.Event()]

    def take(number: int) -> None:
        with opened(path) as handle:
            local_locks.hold(handle, str(path), 30)
            taken[number].set()
            assert done[number].wait(30)
            local_locks.release(handle)

    threads = [threading.Thread(target=take, args=(number,)) for number in (0, 1)]

    def frames_before_the_second() -> dict[int, FrameType]:
        found = thread_frames()
        if not done[0].is_set():
            done[0].set()
            threads[0].join()
            threads[1].start()
            assert taken[1].wait(30)
        return found

    threads[0].start()
    assert taken[0].wait(30)
    monkeypatch.setattr(local_locks, "thread_frames", frames_before_the_second)
    with opened(path) as handle, pytest.raises(local_locks.LockHeldError):
        local_locks.hold(handle, str(path), 0.1)
    done[1].set()
    threads[1].join()


@contextmanager
def opened(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDWR)
    try:
        yield handle
    finally:
        os.close(handle)
