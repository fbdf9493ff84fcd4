"""A local disk: the system calls of an artifact and a log line, and the file that stays open between lines."""

from __future__ import annotations

import errno
import gc
import os
import stat
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from notata import Logbook
from notata.errors import ConflictError, FullError
from notata.store import open_store
from notata.store.backends import local
from tests.watched import Watched, watched_system

pytestmark = pytest.mark.skipif(os.name == "nt", reason="there a file that is open can be neither removed nor replaced")

fcntl = pytest.importorskip("fcntl", reason="the systems without it are skipped above")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep earlier tests from adding calls: by the limit of open files, or by garbage collection of files."""
    monkeypatch.setattr(local, "OPEN_FILES", 1024)
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def held_open(folder: Path) -> list[int]:
    """Return this process's descriptors of files below a folder."""
    there = {(state.st_dev, state.st_ino) for state in (path.stat() for path in folder.rglob("*"))}
    return [number for number in range(1024) if identity(number) in there]


def identity(number: int) -> tuple[int, int] | None:
    try:
        state = os.fstat(number)
    except OSError:
        return None
    return state.st_dev, state.st_ino


@pytest.fixture
def calls() -> list[str]:
    """Record the system calls of the local store, in order."""
    return []


@pytest.fixture
def system(calls: list[str], monkeypatch: pytest.MonkeyPatch) -> Watched:
    """Return the object that the local store uses as `os`."""
    return watched_system(calls, monkeypatch)


def lines(folder: Path, run_id: str = "run") -> list[str]:
    return [line.partition("] ")[2] for line in (folder / f"log_{run_id}" / "log.txt").read_text().splitlines()]


def quiet_run(folder: Path, run_id: str = "run") -> Logbook:
    return Logbook(run_id, folder, environment=False, heartbeat=0)


# -- what it costs -----------------------------------------------------------------------------------------


def test_an_artifact_opens_two_folders_and_is_one_open_one_write_and_one_rename(
    tmp_path: Path, system: Watched, calls: list[str]
) -> None:
    log = quiet_run(tmp_path)
    log.json("first", {})  # creates the folder
    log.logger.setLevel("ERROR")
    calls.clear()
    log.json("m", {"a": 1.0})
    folders = ["open", "open", "close"]  # opens the run's folder from the base folder, then the artifacts folder
    assert calls == [*folders, "open", "write", "fstat", "close", "replace", "close"]


def test_a_line_is_one_write_under_a_lock_to_a_file_that_is_open(
    tmp_path: Path, system: Watched, calls: list[str]
) -> None:
    log = quiet_run(tmp_path)
    log.info("the first opens the file")
    calls.clear()
    log.info("a")
    assert calls == ["flock", "stat", "fstat", "write", "flock"]
    calls.clear()
    for _ in range(10):
        log.info("a")
    assert Counter(calls) == {"flock": 20, "stat": 10, "fstat": 10, "write": 10}


def test_a_store_s_own_append_leaves_nothing_open(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for at in range(3):
        store.append("a", b"1", at)
    store.append("a", b"1")
    assert store.read("a") == b"1111"
    assert held_open(tmp_path) == []


# -- the file that stays open ------------------------------------------------------------------------------


def test_when_a_run_has_ended_nothing_is_open(tmp_path: Path) -> None:
    with quiet_run(tmp_path) as log:
        log.info("a")
        assert len(held_open(tmp_path)) == 1
    assert held_open(tmp_path) == []
    log.info("late")
    assert held_open(tmp_path) == []
    assert lines(tmp_path)[-2:] == ["INFO Marked complete", "INFO late"]


def test_a_run_that_is_forgotten_leaves_nothing_open(tmp_path: Path) -> None:
    appender = open_store(tmp_path).appender("log.txt", new=True)
    appender.append(b"1")
    appender.append(b"2")
    assert len(held_open(tmp_path)) == 1
    del appender
    assert held_open(tmp_path) == []


def test_of_many_runs_few_keep_their_file_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = [os.dup(0) for _ in range(8)]  # new descriptors get the lowest free numbers, which need not be adjacent
    for descriptor in taken:
        os.close(descriptor)
    limit = taken[-1] + 1  # allows eight files
    monkeypatch.setattr(local, "OPEN_FILES", limit)
    logs = [quiet_run(tmp_path, f"run{number}") for number in range(20)]
    for log in logs * 3:
        log.info("a")
    held = held_open(tmp_path)
    assert held
    assert max(held) < limit
    for log in logs:
        assert lines(tmp_path, log.run_id) == ["INFO Logbook initialized"] + ["INFO a"] * 3
        log.mark_complete()
    assert held_open(tmp_path) == []


def removed(path: Path) -> None:
    path.unlink()


def moved(path: Path) -> None:
    path.rename(path.with_name("old.txt"))


@pytest.mark.parametrize("away", [removed, moved])
def test_a_removed_log_is_created_again(away: Callable[[Path], None], tmp_path: Path) -> None:
    log = quiet_run(tmp_path)
    log.info("a")
    away(tmp_path / "log_run" / "log.txt")
    log.info("b")
    log.info("c")
    assert lines(tmp_path) == ["INFO b", "INFO c"]


def test_a_log_replaced_by_an_editor_is_continued_at_its_end(tmp_path: Path) -> None:
    log = quiet_run(tmp_path)
    log.info("a")
    path = tmp_path / "log_run" / "log.txt"
    edited = path.with_name("edited")
    edited.write_text(path.read_text() + "[2026-01-01T00:00:00] INFO by hand")
    edited.rename(path)
    log.info("b")
    log.info("c")
    assert lines(tmp_path) == ["INFO Logbook initialized", "INFO a", "INFO by hand", "INFO b", "INFO c"]


def test_a_log_of_the_same_size_in_its_place_is_another_file(tmp_path: Path) -> None:
    log = quiet_run(tmp_path)
    log.info("a")
    path = tmp_path / "log_run" / "log.txt"
    twin = path.with_name("twin")
    twin.write_bytes(path.read_bytes())
    twin.rename(path)
    log.info("b")
    assert lines(tmp_path) == ["INFO Logbook initialized", "INFO a", "INFO b"]


def test_a_program_that_closes_all_descriptors_loses_no_file_of_its_own(tmp_path: Path) -> None:
    appender = open_store(tmp_path).appender("a", new=True)
    for _ in range(2):
        appender.append(b"1")
    [number] = held_open(tmp_path)
    os.close(number)
    with open(tmp_path / "other", "wb") as other:
        assert other.fileno() == number
        appender.close()
        assert stat.S_ISREG(os.fstat(number).st_mode)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_has_a_lock_of_its_own(tmp_path: Path) -> None:
    """A lock belongs to an open file, and a fork shares that: both processes would hold it at once."""
    script = """
import fcntl, os, sys
from notata import Logbook
log = Logbook("run", sys.argv[1], environment=False, heartbeat=0)
log.info("parent")
held = log.handler.file._file._tail.held
before = held.file
reading, writing = os.pipe()
child = os.fork()
if not child:
    log.info("child")
    print("another file" if held.file is not before else "the same", flush=True)
    held.file.lock()
    os.write(writing, b"1")
    os.read(reading, 0)
    with open(log.path / "log.txt") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("locked", flush=True)
    held.file.unlock()
    os._exit(0)
os.waitpid(child, 0)
log.info("parent again")
log.mark_complete()
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["another file", "locked", ""]
    said = ["Logbook initialized", "parent", "child", "parent again", "Marked complete"]
    assert lines(tmp_path) == [f"INFO {text}" for text in said]


# -- whole lines -------------------------------------------------------------------------------------------


def test_a_short_write_is_completed(tmp_path: Path, system: Watched) -> None:
    log = quiet_run(tmp_path)
    log.info("a")
    system.instead["write"] = lambda handle, data: os.write(handle, data[:7])
    log.info("b")
    log.text("t", "a text of more than seven bytes")
    assert lines(tmp_path)[:3] == ["INFO Logbook initialized", "INFO a", "INFO b"]
    assert (tmp_path / "log_run" / "artifacts" / "t.txt").read_text() == "a text of more than seven bytes"


def test_a_disk_that_is_full_in_the_midst_of_a_line_leaves_none_of_it(tmp_path: Path, system: Watched) -> None:
    store = open_store(tmp_path)
    appender = store.appender("log.txt", new=True)
    appender.append(b"first\n")
    appender.append(b"second\n")
    left = [3]

    def full(handle: int, data: bytes) -> int:
        if not left:
            raise OSError(errno.ENOSPC, "No space left on device")
        return os.write(handle, data[: left.pop()])

    system.instead["write"] = full
    with pytest.raises(FullError):
        appender.append(b"third\n")
    assert (tmp_path / "log.txt").read_bytes() == b"first\nsecond\n"
    del system.instead["write"]
    appender.append(b"third\n")
    assert (tmp_path / "log.txt").read_bytes() == b"first\nsecond\nthird\n"


def test_a_line_that_the_disk_refused_is_stored_with_the_next(tmp_path: Path, system: Watched) -> None:
    log = quiet_run(tmp_path)
    log.info("a")

    def full(handle: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    system.instead["write"] = full
    log.info("b")
    del system.instead["write"]
    log.info("c")
    assert lines(tmp_path) == ["INFO Logbook initialized", "INFO a", "INFO b", "INFO c"]


MANY = """
import sys
from notata.store import open_store
appender = open_store(sys.argv[1]).appender("log.txt", end=b"\\n")
for number in range(200):
    appender.append(f"{sys.argv[2]} {number} {'x' * (number % 50)}\\n".encode())
"""


def test_lines_of_many_processes_and_threads_are_whole_and_there_once(tmp_path: Path) -> None:
    running = [subprocess.Popen([sys.executable, "-c", MANY, str(tmp_path), f"p{number}"]) for number in range(3)]
    store = open_store(tmp_path)

    def work(name: str) -> None:
        appender = store.appender("log.txt", end=b"\n")
        for number in range(200):
            appender.append(f"{name} {number} {'x' * (number % 50)}\n".encode())
        appender.close()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, ["t0", "t1", "t2"]))
    assert [process.wait(60) for process in running] == [0, 0, 0]
    found = [line.split(" ") for line in (tmp_path / "log.txt").read_text().splitlines()]
    for name in ("p0", "p1", "p2", "t0", "t1", "t2"):
        assert [(number, fill) for who, number, fill in found if who == name] == [
            (str(number), "x" * (number % 50)) for number in range(200)
        ]


def test_a_file_does_not_grow_while_it_is_swapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(tmp_path)
    appender = store.appender("a", new=True)
    appender.append(b"1")
    appender.append(b"2")
    thread = threading.Thread(target=appender.append, args=(b"3",))
    rename = os.replace

    def replace(*names: str, **folders: Any) -> None:
        thread.start()
        with open(tmp_path / "a", "r+b") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        rename(*names, **folders)

    monkeypatch.setattr(os, "replace", replace)
    store.replace("a", b"12 swapped ", store.stat("a").version)
    thread.join(30)
    assert (tmp_path / "a").read_bytes() == b"12 swapped 3"


def test_where_the_system_has_no_locks_a_file_is_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(handle: int, how: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", none)
    store = open_store(tmp_path)
    store.create("a", b"")

    def work(name: str) -> None:
        appender = store.appender("a")
        for number in range(20):
            appender.append(f"{name}{number}\n".encode())

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, "xyz"))
    said = (tmp_path / "a").read_text().split()
    assert {name: [text for text in said if text[0] == name] for name in "xyz"} == {
        name: [f"{name}{number}" for number in range(20)] for name in "xyz"
    }
    assert held_open(tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_an_append_elsewhere_than_at_the_end_is_refused_and_holds_nothing(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.create("a", b"12")
    with pytest.raises(ConflictError, match="its size is 2 bytes, not 1"):
        store.append("a", b"3", 1)
    assert held_open(tmp_path) == []


def test_a_descriptor_reused_for_another_file_gets_no_line(tmp_path: Path) -> None:
    """A process may close descriptors that it did not open, for example when it becomes a daemon."""
    log = Logbook("a", tmp_path)
    log.info("one")
    [handle] = held_open(tmp_path)
    with (tmp_path / "results.csv").open("w") as other:
        os.dup2(other.fileno(), handle)
        log.info("two")
    os.close(handle)
    assert (tmp_path / "results.csv").read_text() == ""
    assert log.log_path.read_text().splitlines()[-1].endswith("INFO two")
