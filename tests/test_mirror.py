"""The mirror of a run: when it copies which files, that it does not slow down the run, and that it ends cleanly."""

from __future__ import annotations

import io
import json
import logging
import multiprocessing
import os
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from notata import (
    AccessError,
    BatchError,
    ConfigurationError,
    DeadlineError,
    Experiment,
    KeyNameError,
    Logbook,
    LogReader,
    MirrorStorage,
    MissingError,
    RunDisplacedError,
    RunExistsError,
    StorageError,
    UnreachableError,
    sync,
)
from notata._base import exits
from notata.mirror import following, live, schedule
from notata.mirror.live import Behind, Clock, Mirror, State
from notata.mirror.schedule import Schedule
from notata.mirror.thread import StepThread
from notata.store import Blob, Entry, Store, open_store
from notata.store.files import PART
from notata.store.gaps import Gap
from notata.store.wrapper import Wrapper
from notata.testing import FaultyBackend
from tests.backends import Place, next_moment
from tests.exiting import calls_at_exit

OWN = ("notata-mirror", "notata-copy")


class FastClock(Clock):
    """A clock that advances when a thread waits, or on request."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.per_look = 0.0

    def now(self) -> float:
        self.seconds += self.per_look
        return self.seconds

    def wait(self, changed: threading.Condition, seconds: float) -> None:
        self.seconds += seconds
        changed.wait(0.001)  # release the lock to the others


@dataclass
class Line:
    """The connection between a run and its mirror."""

    open: threading.Event = field(default_factory=threading.Event)
    reached: threading.Event = field(default_factory=threading.Event)
    error: Callable[[], Exception] | None = None


class Far(FaultyBackend):
    """A target that can be blocked, so that its callers wait, and that can be down."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.line = Line()
        self.line.open.set()

    @contextmanager
    def _step(self, verb: str, key: str = "") -> Iterator[None]:
        self.line.reached.set()
        self.line.open.wait()
        if self.line.error is not None:
            raise self.line.error()
        with super()._step(verb, key):
            yield


class Pair:
    """A run in memory and its mirror, both read with plain fsspec."""

    def __init__(self) -> None:
        name = uuid.uuid4().hex
        self.here = Place("memory", f"memory://{name}/here")
        self.there = Place("memory", f"memory://{name}/there")
        self.far = Far(self.there.store())
        self.clock = FastClock()

    def logbook(self, **options: Any) -> Logbook:
        """Start a run with a mirror that has this `exit_timeout`."""
        seconds = options.pop("exit_timeout", 60.0)
        return self.here.logbook(mirror=MirrorStorage(self.far, exit_timeout=seconds), **options)

    def source(self) -> Store:
        """Return a separate store of the run's folder."""
        return self.here.store().below("log_run")

    def by_hand(self, log: Logbook, *, source: Store | None = None, **options: Any) -> Mirror:
        """Return a mirror for a run started without one; it copies on demand, and its clock stands still."""
        self.clock = FastClock()
        source = source or open_store(log.url)
        return Mirror(source, Store(self.far.below("log_run")), "run", clock=self.clock, **options)

    def differing_files(self) -> set[str]:
        """Return the names of files that differ between the run and its mirror."""
        here, there = self.here.files(), self.there.files()
        return {name for name in here.keys() | there.keys() if here.get(name) != there.get(name)}


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.far.line.open.set()


def settle(mirror: Mirror) -> None:
    """Wait until the thread has ended."""
    thread = mirror.thread
    if thread is not None:
        thread.join(60)
        assert not thread.is_alive()


def status(place: Place) -> str:
    fields: dict[str, Any] = json.loads(place.bytes("log_run/metadata.json"))
    return str(fields["status"])


@pytest.fixture
def threads() -> Callable[[], list[str]]:
    """Return a function that lists the threads of mirrors that were started since the test began, and do not end."""
    others = set(threading.enumerate())

    def threads() -> list[str]:
        own = [thread for thread in set(threading.enumerate()) - others if thread.name.startswith(OWN)]
        for thread in own:
            thread.join(60)  # it may be ending, when its mirror has none any more
        return [thread.name for thread in own if thread.is_alive()]

    return threads


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll as fast as possible with the real clock, and copy files immediately."""
    monkeypatch.setattr(live, "POLL_INTERVAL", 0.01)
    monkeypatch.setattr(schedule, "QUIET", 0.0)
    monkeypatch.setattr(schedule, "REST", 0.0)


# -- a run and its copy ------------------------------------------------------------------------------------


def test_the_copy_of_a_run_that_ended_is_equal(pair: Pair, threads: Callable[[], list[str]]) -> None:
    with pair.logbook(params={"dt": 0.1}) as log:
        log.text("notes", "a")
        log.array("energy", np.arange(5.0))
        log.info("half way")
    assert log.mirror is not None
    log.mirror.flush()
    assert pair.differing_files() == set()
    assert status(pair.there) == "complete"
    assert log.mirror.behind == Behind(0, 0)
    assert log.mirror.error is None
    assert log.mirror.url == pair.far.below("log_run").url
    settle(log.mirror)
    assert threads() == []
    assert calls_at_exit(Mirror) == []


def test_a_running_run_is_copied_with_its_status(pair: Pair) -> None:
    log = pair.logbook()
    log.text("notes", "a")
    assert log.mirror is not None
    log.mirror.flush()
    assert pair.differing_files() == set()
    assert status(pair.there) == "initialized"
    log.text("notes", "b")
    log.info("more")
    log.mirror.flush()
    assert pair.differing_files() == set()


def test_a_failed_run_with_its_traceback(pair: Pair) -> None:
    log = pair.logbook()
    with suppress(ValueError), log:
        raise ValueError("h = -1")
    assert log.mirror is not None
    log.mirror.flush()
    assert pair.differing_files() == set()
    assert b"ValueError: h = -1" in pair.there.bytes("log_run/artifacts/debug/traceback.txt")


def test_files_written_after_the_end_are_copied(pair: Pair) -> None:
    with pair.logbook() as log:
        pass
    assert log.mirror is not None
    settle(log.mirror)
    assert pair.differing_files() == set()
    log.json("metrics", {"late": 1})
    settle(log.mirror)
    log.mirror.flush()
    assert pair.differing_files() == set()
    assert pair.there.bytes("log_run/artifacts/metrics.json")


def test_what_the_callback_writes_is_copied(pair: Pair) -> None:
    with pair.logbook(callback=lambda log: log.text("last", "words")) as log:
        pass
    assert log.mirror is not None
    settle(log.mirror)
    assert pair.there.bytes("log_run/artifacts/last.txt") == b"words"
    assert pair.differing_files() == set()


def test_files_written_without_notata_are_copied(tmp_path: Path) -> None:
    here, there = Place("local", str(tmp_path / "here")), Place("local", str(tmp_path / "there"))
    with Logbook("run", here.url, mirror=there.url) as log:
        np.save(str(log["data/by_numpy.npy"]), np.arange(3))
        with open(str(log["artifacts/by_hand.txt"]), "w") as file:
            file.write("by hand")
        log["artifacts/deep/er.txt"].write_text("by a path object")
    assert log.mirror is not None
    log.mirror.flush()
    assert here.files() == there.files()
    assert sorted(there.files()) == [
        "log_run/artifacts/by_hand.txt",
        "log_run/artifacts/deep/er.txt",
        "log_run/data/by_numpy.npy",
        "log_run/log.txt",
        "log_run/manifest.json",
        "log_run/metadata.json",
    ]


def test_unfinished_writes_are_never_copied(tmp_path: Path) -> None:
    here, there = Place("local", str(tmp_path / "here")), Place("local", str(tmp_path / "there"))
    with Logbook("run", here.url, mirror=there.url) as log:
        assert log.mirror is not None
        with log.open("artifacts/large", "wb") as file:
            file.write(bytes(PART + 1))
            Path(str(log.path), "artifacts/.notata-left").write_bytes(b"by one who died")
            assert [name for name in here.names() if ".notata-" in name]
            log.mirror.flush()
            assert sorted(there.names()) == ["log_run/metadata.json"]
    log.mirror.flush()
    assert sorted(there.names()) == ["log_run/artifacts/large", "log_run/manifest.json", "log_run/metadata.json"]


def test_metadata_says_where_the_copy_is(pair: Pair) -> None:
    url = f"{pair.far.url}/log_run"
    with pair.logbook():
        assert json.loads(pair.here.bytes("log_run/metadata.json"))["mirror"] == url
    with pair.here.logbook(resume=True):  # without a mirror; the copy can still be completed
        pass
    assert json.loads(pair.here.bytes("log_run/metadata.json"))["mirror"] == url
    with pair.here.logbook(resume=True, mirror=f"{pair.there.url}/elsewhere"):
        pass
    assert json.loads(pair.here.bytes("log_run/metadata.json"))["mirror"] == f"{pair.there.url}/elsewhere/log_run"


def test_the_background_too(pair: Pair) -> None:
    with pair.logbook(background=True) as log:
        for step in range(20):
            log.text(f"steps/{step}", str(step))
    assert log.mirror is not None
    log.mirror.flush()
    assert pair.differing_files() == set()
    assert len(pair.there.names()) == 22


def test_a_run_of_a_sweep_in_memory_at_the_same_place(pair: Pair) -> None:
    experiment = Experiment("deep/sweep", pair.here.url, mirror=MirrorStorage(pair.far, exit_timeout=5))
    logs = [experiment.add(dt=dt) for dt in (0.1, 0.2)]
    for log in logs:
        with log:
            log.json("metrics", {"error": 0.5})
    for log in logs:
        assert log.mirror is not None
        log.mirror.flush()
    assert pair.differing_files() == {"deep/sweep/index.csv"}  # index.csv is derived from the runs
    assert LogReader(f"{pair.there.url}/deep/sweep/runs/log_sweep_dt_0.1").state.status == "complete"


# -- arguments ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Logbook, Experiment])
def test_a_bucket_cannot_be_mirrored(kind: Any) -> None:
    with pytest.raises(ConfigurationError, match="background=True"):
        kind("run", "s3://bucket/outputs", mirror="memory://far")


def test_arguments_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="invalid exit_timeout -1: pass a number of seconds"):
        Logbook("run", tmp_path, mirror=MirrorStorage("memory://far", exit_timeout=-1))
    for inside in (tmp_path, tmp_path / "log_run", tmp_path / "log_run" / "copies"):
        with pytest.raises(ConfigurationError, match="one contains the other"):
            Logbook("run", tmp_path, mirror=inside)
    with pytest.raises(ConfigurationError, match="cannot open nope:// storage"):
        Logbook("run", tmp_path, mirror="nope://bucket")
    assert list(tmp_path.iterdir()) == []
    with Logbook("run", tmp_path) as log:
        assert log.mirror is None
        with pytest.raises(ConfigurationError, match="mirror"):
            log.meta(mirror="s3://bucket")
    with Logbook("other", tmp_path, mirror=tmp_path / "log_run2") as log:  # a sibling folder
        pass
    assert log.mirror is not None
    with pytest.raises(ConfigurationError, match="timeout"):
        log.mirror.flush(-1)


# -- a target that fails -----------------------------------------------------------------------------------


def test_a_target_that_fails_for_a_while(pair: Pair) -> None:
    pair.far.line.error = lambda: ConnectionError("no route to host")
    log = pair.logbook()
    assert log.mirror is not None
    for step in range(5):
        log.text(f"steps/{step}", str(step))
    with pytest.raises(UnreachableError, match="no server answered at this address"):
        log.mirror.flush()
    with pytest.raises(UnreachableError, match="no server answered at this address"):
        log.mirror.flush()
    assert isinstance(log.mirror.error, UnreachableError)
    assert log.mirror.behind.files == 7
    pair.far.line.error = None
    log.mirror.flush()
    assert log.mirror.error is None
    log.mark_complete()
    log.mirror.flush()
    assert pair.differing_files() == set()
    told = [line for line in pair.here.log() if "mirror" in line]
    assert [line.partition(" ")[0] for line in told] == ["WARNING", "INFO"]
    assert "is behind, and notata will try again: cannot " in told[0]
    assert told[1].endswith("has caught up")


def test_retries_become_less_frequent(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "POLL_INTERVAL", 3.0)
    with pair.here.logbook() as log:
        mirror = pair.by_hand(log)
        pair.far.line.error = lambda: ConnectionError("no route to host")
        pauses = []
        for _ in range(7):
            pause = mirror.poll()
            assert pause is not None
            pauses.append(pause)
            before = len(pair.far.operations)
            assert mirror.poll() == pause  # not due yet
            assert len(pair.far.operations) == before
            pair.clock.seconds += pause
        assert pauses == [3, 6, 12, 24, 48, 60, 60]
        mirror._advance(State.EXITING)  # noqa: SLF001 - the end of this process comes later
        for expected in (3, 5, 5):
            assert mirror.poll() == expected
            pair.clock.seconds += expected


def test_writers_and_the_end_do_not_wait_for_a_target_that_stalls(pair: Pair) -> None:
    pair.far.line.open.clear()
    with pair.logbook(exit_timeout=0.0) as log:
        assert log.mirror is not None
        assert pair.far.line.reached.wait(60)
        log.text("notes", "a")
        log.info("a line")
        with pytest.raises(DeadlineError, match=r"3 files \(.* kB\) are not in memory://.*/log_run after 0.01 s"):
            log.mirror.flush(0.01)
    assert log.status == "complete"
    assert log.mirror.behind.files == 4
    assert pair.there.names() == []
    pair.far.line.open.set()
    log.mirror.flush()
    assert pair.differing_files() == set()


def test_one_missing_file_is_told_in_the_singular(pair: Pair) -> None:
    with pair.logbook(exit_timeout=0.0, heartbeat=0) as log:
        assert log.mirror is not None
        log.mirror.flush()
        pair.far.line.open.clear()
        pair.here.put("log_run/data/x.bin", b"x")
        with pytest.raises(DeadlineError, match=r"^1 file \(.*\) is not in memory://.*/log_run after 0.01 s"):
            log.mirror.flush(0.01)
        pair.far.line.open.set()


def test_the_interpreter_stops_waiting_after_the_time_limit(
    pair: Pair, capsys: pytest.CaptureFixture[str], threads: Callable[[], list[str]]
) -> None:
    pair.far.line.open.clear()
    with pair.logbook(exit_timeout=0.01) as log:
        log.text("notes", "a")
    exits.run_all()
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 1
    assert printed[0].startswith("notata: 4 files (")
    assert printed[0].endswith("of run 'run' are not mirrored yet; they are lost with this process")
    assert log.mirror is not None
    pair.far.line.open.set()
    settle(log.mirror)
    assert threads() == []


@pytest.mark.parametrize("seconds", [float("inf"), 1e12])
def test_the_interpreter_waits_without_limit_if_asked_to(
    pair: Pair, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "SILENT_WAIT", 0.0)
    pair.far.line.open.clear()
    with pair.logbook(exit_timeout=seconds) as log:
        log.text("notes", "a")
    assert log.mirror is not None
    told = threading.Event()

    class Stderr(io.StringIO):
        def write(self, text: str) -> int:
            if f"waiting at most {seconds:g} s" in text:
                told.set()
            return super().write(text)

    def answer() -> None:
        assert told.wait(60)
        pair.far.line.open.set()

    stderr = Stderr()
    monkeypatch.setattr(sys, "stderr", stderr)
    answering = threading.Thread(target=answer)
    answering.start()
    exits.run_all()
    answering.join()
    log.mirror.flush(seconds)
    assert pair.differing_files() == set()
    assert len(stderr.getvalue().splitlines()) == 1


def test_of_a_run_on_a_disk_it_says_how_to_finish(
    pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "SILENT_WAIT", 0.0)
    pair.far.line.error = lambda: ConnectionError("no route to host")
    with Logbook("run", tmp_path / "my outputs", mirror=MirrorStorage(pair.far, exit_timeout=0.02)) as log:
        assert log.mirror is not None
        with pytest.raises(StorageError):
            log.mirror.flush()  # one attempt is made, however busy the machine is
    exits.run_all()
    waiting, given_up = capsys.readouterr().err.splitlines()
    assert waiting.startswith("notata: 3 files (")
    assert waiting.endswith(f"to {pair.far.url}/log_run; waiting at most 0.02 s")
    command = f"notata sync '{tmp_path}/my outputs/log_run' {pair.far.url}/log_run"
    assert given_up.endswith(f"; finish with: {command}")
    assert "of run 'run' are not mirrored yet (cannot " in given_up


def test_no_time_is_lost_at_exit_where_the_target_refuses(
    pair: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.far.line.error = lambda: PermissionError("no")
    with Logbook("run", tmp_path, mirror=MirrorStorage(pair.far, exit_timeout=10**9)) as log:
        pass
    exits.run_all()
    assert isinstance(log.mirror.error, AccessError)  # type: ignore[union-attr]
    assert "finish with: notata sync" in capsys.readouterr().err
    settle(log.mirror)  # type: ignore[arg-type]


def test_at_exit_all_runs_end_before_any_mirror_is_waited_for(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    pair.far.line.open.clear()
    logs = [pair.here.logbook(f"{number}", mirror=MirrorStorage(pair.far, exit_timeout=0.05)) for number in range(3)]
    waited: list[str] = []

    def has_ended(thread: StepThread, until: float) -> bool:
        waited.extend(log.status for log in logs)
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StepThread, "has_ended", has_ended)
        exits.run_all()
    assert waited == ["failed"] * 9
    capsys.readouterr()


def test_at_exit_where_no_thread_starts_any_more(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pair.logbook() as log:
        pass
    assert log.mirror is not None
    settle(log.mirror)
    log.text("late", "by a script that ends")

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread at interpreter shutdown")

    settle(log.mirror)
    pair.here.put("log_run/artifacts/later.txt", b"by another road")
    monkeypatch.setattr(threading.Thread, "start", refuse)
    exits.run_all()
    assert pair.differing_files() == set()
    pair.here.put("log_run/artifacts/last.txt", b"by another road")
    pair.by_hand(log).flush()
    assert pair.differing_files() == set()
    assert capsys.readouterr().err == ""


def test_a_name_that_no_bucket_takes_is_reported_and_the_copy_does_not_say_complete(tmp_path: Path) -> None:
    here, there = Place("local", str(tmp_path / "here")), Place("local", str(tmp_path / "there"))
    with Logbook("run", here.url, mirror=MirrorStorage(there.url, exit_timeout=10**9)) as log:
        Path(str(log.path), "back\\slash").write_text("x")
        log.text("notes", "a")
    assert log.mirror is not None
    with pytest.raises(BatchError) as caught:
        log.mirror.flush()
    assert [isinstance(error, KeyNameError) for error in caught.value.exceptions] == [True]
    assert there.bytes("log_run/artifacts/notes.txt") == b"a"
    assert status(there) != "complete"
    exits.run_all()  # and it does not wait for long


# -- whose copy it is --------------------------------------------------------------------------------------


def test_another_run_at_the_target_is_left_alone(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    with pair.there.logbook() as other:
        other.text("theirs", "b")
    before = pair.there.files()
    with pair.logbook() as log:
        log.text("mine", "a")
        assert log.mirror is not None
        with pytest.raises(RunExistsError, match="a different run with this id"):
            log.mirror.flush()
    settle(log.mirror)
    assert pair.there.files() == before
    assert log.status == "complete"
    assert [line.partition(":")[0] for line in pair.here.log() if "irror" in line] == ["WARNING Not mirrored"]
    printed = capsys.readouterr().err
    assert printed.count("run 'run' is not mirrored: ") == printed.count("\n") == 1
    exits.run_all()
    assert capsys.readouterr().err == ""


def test_overwrite_replaces_it(pair: Pair) -> None:
    with pair.there.logbook() as other:
        other.text("theirs", "b")
    with pair.logbook(overwrite=True) as log:
        log.text("mine", "a")
    assert log.mirror is not None
    log.mirror.flush()
    assert pair.differing_files() == set()
    assert "log_run/artifacts/theirs.txt" not in pair.there.names()


def test_overwrite_of_a_run_with_its_copy(pair: Pair) -> None:
    for name in ("first", "second"):
        with pair.logbook(overwrite=True) as log:
            log.text(name, "a")
        assert log.mirror is not None
        log.mirror.flush()
        assert pair.differing_files() == set()
        assert [name for name in pair.there.names() if "artifacts" in name] == [f"log_run/artifacts/{name}.txt"]


def test_a_resumed_run_continues_its_copy(pair: Pair) -> None:
    with suppress(ValueError), pair.logbook() as log:
        log.text("first", "a")
        raise ValueError("h = -1")
    assert log.mirror is not None
    settle(log.mirror)
    operations = len(pair.far.operations)
    with pair.logbook(resume=True) as log:
        log.text("second", "b")
        assert log.mirror is not None
        log.mirror.flush()
        assert status(pair.there) == "initialized"
    log.mirror.flush()
    assert pair.differing_files() == set()
    assert status(pair.there) == "complete"
    sent = [operation.key for operation in pair.far.operations[operations:] if operation.verb == "put"]
    assert "artifacts/first.txt" not in sent
    assert "artifacts/second.txt" in sent


def test_two_runs_of_one_id_and_one_target(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    """The first one owns the target, and the other one writes nothing there."""
    elsewhere = Place("memory", f"memory://{uuid.uuid4().hex}")
    logs = []
    for place in (pair.here, elsewhere):
        logs.append(place.logbook(mirror=pair.far))
        next_moment()
    problems = []
    for number, log in enumerate(logs):
        log.text(f"of_{number}", "a")
        log.mark_complete()
    for log in logs:
        assert log.mirror is not None
        try:
            log.mirror.flush()
        except RunExistsError as error:
            problems.append(error)
        settle(log.mirror)  # it prints why it has stopped
    assert len(problems) == 1
    there = pair.there.files()
    assert there in [pair.here.files(), elsewhere.files()]
    assert capsys.readouterr().err.count("is not mirrored") == 1


def test_two_runs_of_one_id_that_both_replace_do_not_do_so_for_ever(
    pair: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = Place("memory", f"memory://{uuid.uuid4().hex}")
    logs = []
    for place in (pair.here, elsewhere):
        logs.append(place.logbook())
        next_moment()
    first, second = (pair.by_hand(log, replace=True) for log in logs)
    for mirror in (first, second):
        mirror.flush()  # starts a thread, which then ends
    for log in logs:
        log.json("metrics", {"a": 1})
        log.mark_complete()
    for mirror in (first, second, first):
        mirror.finish()
        settle(mirror)
    assert pair.there.files() == elsewhere.files()
    assert isinstance(first.error, RunExistsError)
    assert second.error is None
    assert capsys.readouterr().err.count("is not mirrored") == 1


def test_a_displaced_run_is_not_mirrored(pair: Pair, threads: Callable[[], list[str]]) -> None:
    log = pair.logbook()
    assert log.mirror is not None
    log.mirror.flush()
    with pair.logbook(overwrite=True) as successor:
        successor.text("theirs", "b")
    assert successor.mirror is not None
    successor.mirror.flush()
    with pytest.raises(RunDisplacedError):
        log.mirror.flush()
    settle(log.mirror)
    settle(successor.mirror)
    assert pair.differing_files() == set()
    assert threads() == []


@pytest.mark.skipif(sys.platform == "win32", reason="it has no fork")
def test_a_forked_child_does_not_mirror(tmp_path: Path, threads: Callable[[], list[str]]) -> None:
    here, there = Place("local", str(tmp_path / "here")), Place("local", str(tmp_path / "there"))
    refused = multiprocessing.get_context("fork").Event()

    def child() -> None:
        assert threads() == []
        try:
            log.mirror.flush()  # type: ignore[union-attr]
        except RunDisplacedError:
            refused.set()
        exits.run_all()

    with Logbook("run", here.url, mirror=there.url) as log:
        assert log.mirror is not None
        log.mirror.flush()
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(60)
        assert process.exitcode == 0
        assert refused.is_set()
        log.text("after", "the fork")
        log.mirror.flush()
    log.mirror.flush()
    assert here.files() == there.files()


# -- when what is copied -----------------------------------------------------------------------------------


def entry(key: str, version: str, size: int = 1) -> Entry:
    return Entry(key, size, datetime.now(UTC), version)


def test_a_file_is_due_once_it_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "QUIET", 2.0)
    plan = Schedule()
    due = []
    for now, version in enumerate(["1", "2", "3", "3", "3"]):
        if plan.due(plan.changed([entry("a", version)]), float(now)):
            due.append(now)
    assert due == [4]
    plan.known["a"] = "3"
    assert plan.changed([entry("a", "3"), entry("b", "1")]).keys() == {"b"}
    assert plan.changed([entry("b", "1")]).keys() == {"b"}
    assert plan.known == {}  # the file is gone


def test_a_file_that_keeps_changing_takes_a_tenth_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "REST", 9.0)
    plan = Schedule()
    sent, now = 0.0, 0.0
    while now < 10_000:
        changed = plan.changed([entry("a", str(now), 10**9)])
        if plan.due(changed, now):
            plan.sent(changed.values(), now, now + 20)
            sent, now = sent + 20, now + 20
        now += 1
    assert 900 < sent < 1050
    large, small = entry("large", "1", 10**9), entry("small", "1")
    plan.sent([large, small], 0.0, 100.0)
    assert plan.is_rested("small", 101.0)  # it took little of the time
    assert not plan.is_rested("large", 900.0)


def test_a_log_that_is_sent_again_costs_no_more_than_its_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Schedule()
    sent = 0
    for now in range(3600):
        if plan.is_rested("log.txt", float(now)):
            sent += 2_000_000
            plan.sends_again("log.txt", 2_000_000, float(now))
    assert sent / 3600 < 101e3


def test_polls_take_a_twentieth_of_the_time_at_most(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "POLL_INTERVAL", 3.0)
    with pair.here.logbook() as log:
        mirror = pair.by_hand(log)
        assert mirror.poll() == 3.0
        pair.clock.per_look = 0.5  # a large folder, or a slow disk
        pause = mirror.poll()
        assert pause is not None
        assert pause >= 10.0


def test_nothing_is_asked_of_the_target_while_nothing_changes(pair: Pair) -> None:
    log = pair.here.logbook(heartbeat=0)
    mirror = pair.by_hand(log)
    mirror.poll()
    before = list(pair.far.operations)
    for _ in range(5):
        mirror.poll()
    assert pair.far.operations == before
    log.text("notes", "a")
    mirror.poll()
    told = pair.far.operations[len(before) :]
    assert [(operation.verb, operation.key) for operation in told] == [
        ("get", "metadata.json"),
        ("put", "artifacts/notes.txt"),
        ("get", "metadata.json"),
        ("append", "log.txt"),
    ]
    assert pair.differing_files() == set()


def test_a_run_that_ends_between_two_polls_is_not_complete_before_its_files(pair: Pair) -> None:
    log = pair.here.logbook()
    mirror = pair.by_hand(log)
    mirror.poll()
    log.text("first", "a")
    done = False

    def end(verb: str, key: str) -> None:
        nonlocal done
        if key == "artifacts/first.txt" and not done:
            done = True
            log.text("second", "b")
            log.mark_complete()

    original = Far.put

    def put(store: Far, key: str, data: bytes, match: str | None) -> str:
        end("put", key)
        return original(store, key, data, match)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Far, "put", put)
        mirror.poll()
    assert done
    assert status(pair.here) == "complete"
    assert status(pair.there) == "initialized"
    mirror.poll()
    assert status(pair.there) == "complete"
    assert pair.differing_files() == set()


@pytest.mark.parametrize("manifest", [True, False])
def test_a_run_that_ends_during_a_poll_has_a_complete_copy(pair: Pair, manifest: bool) -> None:
    log = pair.here.logbook(manifest=manifest)
    ends = False

    class Source(Wrapper):
        """A source whose run ends after its status has been read."""

        def get(self, key: str, *arguments: Any) -> Blob:
            found = super().get(key, *arguments)
            if ends and key == "metadata.json" and log.status == "initialized":
                log.mark_complete()
            return found

    mirror = pair.by_hand(log, source=Store(Source(open_store(log.url).backend)))
    mirror.poll()
    ends = True
    mirror.poll()
    assert log.status == "complete"
    mirror.poll()
    assert status(pair.there) == "complete"
    assert pair.differing_files() == set()
    assert mirror.behind == Behind(0, 0)


def test_a_file_that_keeps_changing_does_not_hold_up_the_others(tmp_path: Path) -> None:
    here, there = Place("local", str(tmp_path / "here")), Place("local", str(tmp_path / "there"))
    over = threading.Event()
    with Logbook("run", here.url, mirror=there.url) as log:
        busy = Path(str(log.path), "busy.bin")
        busy.write_bytes(b"0")

        def work() -> None:
            for number in count():
                busy.write_bytes(b"%d" % number * 1000)
                if over.wait(0.0001):
                    return

        writer = threading.Thread(target=work)
        writer.start()
        try:
            assert log.mirror is not None
            for step in range(10):
                log.text(f"steps/{step}", str(step))
                with suppress(BatchError):  # the file changed each time it was read
                    log.mirror.flush()
                assert there.bytes(f"log_run/artifacts/steps/{step}.txt") == b"%d" % step
        finally:
            over.set()
            writer.join()
    log.mirror.flush()
    assert here.files() == there.files()


def test_many_files_go_in_batches_with_metadata_between_them(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "BATCH_FILES", 10)
    monkeypatch.setattr(following, "STATUS_INTERVAL", 0.0)
    log = pair.here.logbook(heartbeat=0)
    mirror = pair.by_hand(log)
    mirror.poll()
    pair.clock.per_look = 1.0
    for number in range(35):
        pair.source().write(f"data/{number}.npy", b"x")
    before = len(pair.far.operations)
    original = Far.put

    def put(store: Far, key: str, data: bytes, match: str | None) -> str:
        if key == "data/25.npy":
            log.info("half way")
            log.meta(step=25)
        return original(store, key, data, match)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Far, "put", put)
        mirror.poll()
    sent = [operation.key for operation in pair.far.operations[before:]]
    assert len([key for key in sent if key.startswith("data/")]) == 35
    assert "metadata.json" in sent[:-2]
    mirror.poll()
    assert pair.differing_files() == set()


def test_batches_are_bounded_in_bytes_and_number() -> None:
    entries = [entry(str(number), "1", size) for number, size in enumerate([5 * PART, 1, 3 * PART, 2 * PART, 0])]
    sizes = [[entry.size for entry in batch] for batch in following.batches(entries)]
    assert sizes == [[0, 1, 2 * PART], [3 * PART], [5 * PART]]
    many = [entry(str(number), "1") for number in range(450)]
    assert [len(batch) for batch in following.batches(many)] == [200, 200, 50]
    assert list(following.batches([])) == []


def test_few_requests_are_in_flight(pair: Pair) -> None:
    """Four small files, or one large file and one of its parts, however many wait."""
    now, most = 0, 0
    lock = threading.Lock()
    original = Far.put

    def put(store: Far, key: str, data: bytes, match: str | None) -> str:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        try:
            return original(store, key, data, match)
        finally:
            with lock:
                now -= 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Far, "put", put)
        with pair.logbook() as log:
            for number in range(300):
                pair.source().write(f"data/{number}.npy", b"x")
        assert log.mirror is not None
        log.mirror.flush()
    assert 1 <= most <= 4
    assert pair.differing_files() == set()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has it for a thread")
def test_only_the_thread_of_the_mirror_has_a_lower_priority(pair: Pair) -> None:
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    log = pair.logbook()
    assert log.mirror is not None
    log.mirror.flush()
    thread = log.mirror.thread
    assert thread is not None
    assert os.getpriority(os.PRIO_PROCESS, thread.native_id or 0) == live.NICENESS
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


def test_polls_after_the_end_that_always_find_changes_are_no_busy_loop(pair: Pair) -> None:
    with pair.here.logbook() as log:
        pass
    listings = 0

    class Source(Wrapper):
        """A source with a file that changes before each of the first listings; a poll makes two."""

        def list(self, folder: str, beginning: str = "") -> Iterator[Entry | Gap]:
            nonlocal listings
            if not folder:
                listings += 1
                if listings < 80:
                    pair.source().write("artifacts/again", b"%d" % listings)
            return super().list(folder, beginning)

    mirror = pair.by_hand(log, source=Store(Source(open_store(log.url).backend)))
    before = pair.clock.seconds
    mirror.finish()
    settle(mirror)
    assert listings >= 80
    assert pair.clock.seconds - before >= 25 * 3.0
    assert pair.differing_files() == set()


# -- faults ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_whichever_operation_at_the_target_fails(after: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is complete and no writer raises; the mirror never claims too much; one more pass completes it."""
    for module in ("store.files", "mirror.files"):
        monkeypatch.setattr(f"notata.{module}.PART", 1000)  # so that small files are sent in parts
    for nth in count(1):
        pair = Pair()
        log = pair.here.logbook(heartbeat=0, environment=False)
        mirror = pair.by_hand(log)
        pair.far.fail(nth, after=after)
        failed = 0
        for step in STEPS:
            step(log)
            pair.clock.seconds += live.RETRY_LIMIT
            mirror.poll()
            failed += mirror.error is not None
            check_honest(pair)
        assert log.status == "complete"
        if failed == 0:
            break
        assert failed == 1, "one more pass must complete it"
        assert mirror.error is None
        assert pair.differing_files() == set(), nth
        pair.here.store().clear()
        pair.there.store().clear()
    assert {"begin", "part", "commit", "append", "put", "get"} <= {operation.verb for operation in pair.far.operations}


def begin_large(log: Logbook) -> None:
    log.bytes("large", bytes(2500))
    log.info("large")


def change(log: Logbook) -> None:
    log.text("notes", "b")
    log.meta(step=2)


STEPS: list[Callable[[Logbook], object]] = [
    lambda log: log.text("notes", "a"),
    begin_large,
    change,
    lambda log: log.info("a line"),
    lambda log: log.mark_complete(),
    lambda log: None,
    lambda log: log.text("late", "c"),
    lambda log: None,
]


def check_honest(pair: Pair) -> None:
    """Check that a mirror that says complete has everything the run had at that time."""
    if "log_run/metadata.json" in pair.there.names() and status(pair.there) == "complete":
        differing_files = {name.partition("/")[2] for name in pair.differing_files()}
        assert differing_files <= {"artifacts/late.txt", "log.txt"}, differing_files


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("nth", range(1, 12))
def test_the_same_with_the_thread(pair: Pair, nth: int, after: bool, threads: Callable[[], list[str]]) -> None:
    pair.far.fail(nth, after=after)
    with pair.logbook() as log:
        log.text("notes", "a")
        log.info("a line")
    assert log.status == "complete"
    assert log.mirror is not None
    with suppress(Exception):
        log.mirror.flush()
    log.mirror.flush()
    assert pair.differing_files() == set()
    settle(log.mirror)
    assert threads() == []


def test_an_error_of_another_kind_does_not_stop_the_mirror(pair: Pair) -> None:
    lines: list[tuple[int, str]] = []
    log = pair.here.logbook()
    mirror = pair.by_hand(log, log_line=lambda level, line: lines.append((level, line)))
    pair.far.line.error = lambda: ZeroDivisionError("a bug")
    mirror.poll()
    pair.far.line.error = None
    pair.clock.seconds += live.RETRY_LIMIT
    mirror.poll()
    assert [level for level, _ in lines] == [logging.WARNING, logging.INFO]
    assert pair.differing_files() == set()


def test_a_removed_run_stops_the_mirror_and_keeps_the_copy(pair: Pair) -> None:
    log = pair.here.logbook()
    mirror = pair.by_hand(log)
    mirror.poll()
    before = pair.there.files()
    pair.source().clear()
    mirror.poll()
    assert isinstance(mirror.error, StorageError)
    assert pair.there.files() == before


def test_an_ended_run_that_was_moved_is_not_waited_for(
    tmp_path: Path, pair: Pair, capsys: pytest.CaptureFixture[str]
) -> None:
    log = Logbook("run", tmp_path)
    mirror = pair.by_hand(log)
    log.mark_complete()
    (tmp_path / "log_run").rename(tmp_path / "moved")
    mirror.finish()
    settle(mirror)
    assert isinstance(mirror.error, MissingError)
    assert not (tmp_path / "log_run").exists()  # no line in a log makes it again
    assert pair.there.names() == []
    assert mirror.poll() is None
    url = f"{pair.far.url}/log_run"
    assert capsys.readouterr().err == (
        f"notata: run 'run' is not mirrored completely, because its folder {tmp_path}/log_run is gone. If it was "
        f"moved, finish with: notata sync FOLDER {url}\n"
    )
    sync(tmp_path / "moved", url)
    assert status(pair.there) == "complete"


def test_the_backlog_is_reported_in_files_and_bytes(pair: Pair) -> None:
    log = pair.here.logbook(heartbeat=0)
    mirror = pair.by_hand(log)
    mirror.poll()
    pair.source().write("artifacts/a", bytes(1000))
    pair.source().write("artifacts/b", bytes(500))
    assert mirror.behind == Behind(2, 1500)
    assert str(mirror.behind) == "2 files (1.5 kB)"
    before = len(pair.here.bytes("log_run/log.txt"))
    log.info("a line")
    added = len(pair.here.bytes("log_run/log.txt")) - before
    assert mirror.behind == Behind(3, 1500 + added)
    assert [str(Behind(1, size)) for size in (1, 34_000_000, 2 * 10**12)] == [
        "1 file (1 B)",
        "1 file (34.0 MB)",
        "1 file (2.0 TB)",
    ]
