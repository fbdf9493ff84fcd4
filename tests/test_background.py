"""Writes in the background: bounded, in order for each key, visible to reads, and reported when they are lost."""

from __future__ import annotations

import copy
import itertools
import os
import pickle
import shutil
import signal
import sys
import threading
import traceback
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import IO, Any

import fsspec
import numpy as np
import pytest
from fsspec.callbacks import Callback
from fsspec.core import strip_protocol
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from notata import (
    BatchError,
    ConfigurationError,
    DeadlineError,
    ExistsError,
    Experiment,
    FolderError,
    Logbook,
    LogReader,
    MissingError,
    RunDisplacedError,
    RunEndedError,
    StorageError,
    UnreachableError,
)
from notata._base import exits
from notata.background import BackgroundBackend, keyed, queue
from notata.background.keyed import FolderCounts
from notata.background.writes import Value
from notata.store import Backend, Store, in_flight, open_store
from notata.store.files import PART
from notata.testing import FaultyBackend
from tests.at_instruction import At
from tests.exiting import run_at_exit

MIB = 2**20
SECONDS = 60
QUEUE_FILES = ("queue.py", "keyed.py", "room.py", "steps.py", "losses.py", "helper_thread.py")


class WriteGate:
    """A gate for writes: which are waiting, and how many bytes waited at once at most."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.closed = True
        self.permits = 0
        self.inside: list[tuple[str, str]] = []
        self.passed: list[tuple[str, str]] = []
        self.most: Counter[str] = Counter()
        self.bytes = self.most_bytes = 0
        self.watch: Callable[[], object] = lambda: None

    @contextmanager
    def passing(self, verb: str, key: str, size: int = 0) -> Iterator[None]:
        with self.changed:
            self.inside.append((verb, key))
            self.bytes += size
            self.most_bytes = max(self.bytes, self.most_bytes)
            self.most[verb] = max(self.most[verb], sum(kind == verb for kind, _ in self.inside))
            self.watch()
            self.changed.notify_all()
            assert self.changed.wait_for(lambda: not self.closed or self.permits > 0, SECONDS)
            self.permits -= self.closed
        try:
            yield
        finally:
            with self.changed:
                self.inside.remove((verb, key))
                self.passed.append((verb, key))
                self.bytes -= size
                self.changed.notify_all()

    def open(self) -> None:
        with self.changed:
            self.closed = False
            self.changed.notify_all()

    def let_one_pass(self) -> None:
        with self.changed:
            self.permits += 1
            self.changed.notify_all()
            assert self.changed.wait_for(lambda: self.permits == 0 and self.passed, SECONDS)

    def wait_for(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.inside) >= count, SECONDS), self.inside


class Gated(FaultyBackend):
    """A backend whose writes wait until a gate opens; they can also be made to fail."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.gate = WriteGate()

    def put(self, key: str, data: bytes, match: str | None) -> str:
        if match is not None:
            return super().put(key, data, match)
        with self.gate.passing("put", key, len(data)):
            return super().put(key, data, match)

    def begin_upload(self, key: str, match: str | None) -> Any:
        return GatedUpload(self.gate, key, super().begin_upload(key, match))


class GatedUpload:
    def __init__(self, gate: WriteGate, key: str, upload: Any) -> None:
        self.gate, self.key, self.upload = gate, key, upload

    def write(self, part: bytes) -> None:
        with self.gate.passing("part", self.key, len(part)):
            self.upload.write(part)

    def commit(self) -> str:
        with self.gate.passing("commit", self.key):
            return str(self.upload.commit())

    def abort(self) -> None:
        with self.gate.passing("abort", self.key):
            self.upload.abort()


@pytest.fixture(params=["memory", "local"])
def gated(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Gated]:
    store = Gated(open_store(f"memory://{uuid.uuid4().hex}" if request.param == "memory" else tmp_path))
    yield store
    store.gate.open()


def behind(inner: Backend, max_pending: int = 64 * MIB, **options: Any) -> tuple[Store, BackgroundBackend]:
    """Return a store that queues its writes, and its backend."""
    background = BackgroundBackend(inner, max_pending, **options)
    return Store(background), background


def raw(store: Store | Backend | Logbook) -> dict[str, bytes]:
    """Read all stored files with plain fsspec."""
    fs: Any = fsspec.filesystem("memory" if store.url.startswith("memory") else "file")
    root = strip_protocol(store.url)
    return {path[len(root) + 1 :]: fs.cat_file(path) for path in fs.find(root)} if fs.exists(root) else {}


def eventually(true: Callable[[], Any]) -> None:
    """Wait until another thread makes the condition true."""
    for _ in range(SECONDS * 200):
        if true():
            return
        threading.Event().wait(0.005)
    raise AssertionError("it did not happen")


@contextmanager
def thread(work: Callable[[], Any]) -> Iterator[Any]:
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        yield future
        future.result(SECONDS)


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No thread can start, as at interpreter exit since Python 3.12.1."""

    def refuse(*_: Any) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with monkeypatch.context() as patch:
        patch.setattr(in_flight, "pools", {})
        patch.setattr(threading.Thread, "start", refuse)
        yield


# -- bounded -----------------------------------------------------------------------------------------------


def test_a_writer_does_not_wait_for_the_storage(gated: Gated) -> None:
    store, background = behind(gated)
    begun: list[str] = []
    begin = gated.start_put
    gated.start_put = lambda key, data: begun.append(key) or begin(key, data)  # type: ignore[func-returns-value,method-assign]
    for number in range(100):
        store.write(f"k{number}", b"x")
    gated.gate.wait_for(32)
    assert begun == [f"k{number}" for number in range(32)]
    assert raw(gated) == {}
    gated.gate.open()
    background.settle()
    assert raw(gated) == {f"k{number}": b"x" for number in range(100)}
    assert gated.gate.most == {"put": 32}


@pytest.mark.parametrize("size", [0, 1000])
def test_what_is_pending_is_bounded_and_a_writer_waits_for_room(gated: Gated, size: int) -> None:
    most = 20_000
    store, background = behind(gated, most)
    seen: list[int] = []
    gated.gate.watch = lambda: seen.append(background.stats().bytes)
    fits = most // (size + 1024)

    def write() -> None:
        for number in range(50):
            store.write(f"k{number}", b"x" * size)
            seen.append(background.stats().bytes)

    with thread(write) as writing:
        eventually(lambda: background.stats().callers)
        assert not writing.done()
        assert len(background.stats().keys) == fits < 50
        gated.gate.open()
    background.settle()
    assert len(raw(gated)) == 50
    assert fits * (size + 1024) <= max(seen) <= most
    assert background.stats().bytes == 0


def test_a_value_larger_than_the_queue_limit_is_written_directly(gated: Gated) -> None:
    store, background = behind(gated, 10_000)
    store.write("small", b"1")
    with thread(lambda: store.write("large", b"x" * 20_000)):
        gated.gate.wait_for(2)
        assert background.stats().bytes == 1025
        gated.gate.open()
    assert raw(gated)["large"] == b"x" * 20_000


@pytest.mark.parametrize("most", [9 * MIB, 20 * MIB])
def test_a_value_larger_than_the_queue_goes_in_parts(gated: Gated, most: int) -> None:
    store, background = behind(gated, most)
    data = os.urandom(30 * MIB)
    seen: list[int] = []
    gated.gate.watch = lambda: seen.append(background.stats().bytes)
    with thread(lambda: store.write("large", data)) as writing:
        eventually(lambda: background.stats().callers)
        assert not writing.done()
        assert raw(gated).get("large") is None
        gated.gate.open()
    background.settle()
    assert raw(gated) == {"large": data}
    assert PART <= max(seen) <= most


def test_parts_larger_than_the_queue_limit_are_written_directly(gated: Gated) -> None:
    gated.gate.open()
    store, background = behind(gated, MIB)
    data = os.urandom(20 * MIB)
    store.write("large", data)
    background.settle()  # its last part fits into the queue
    assert raw(gated) == {"large": data}
    assert gated.gate.most_bytes == PART


def test_three_large_streams_at_once_and_more_may_be_open(gated: Gated) -> None:
    store, background = behind(gated, 128 * MIB)
    files = [store.open(f"k{number}", "wb") for number in range(5)]
    for part in (b"a", b"b", b"c"):
        for file in files:
            file.write(part * 3 * MIB)
    gated.gate.wait_for(3)
    eventually(lambda: background.stats().active_streams == 3)
    assert raw(gated).keys() <= {name for name in raw(gated) if ".notata" in name}
    gated.gate.open()
    for file in files:
        file.close()
    background.settle()
    assert set(raw(gated)) == {f"k{number}" for number in range(5)}
    assert set(raw(gated).values()) == {b"a" * 3 * MIB + b"b" * 3 * MIB + b"c" * 3 * MIB}
    assert gated.gate.most["part"] == 3


def test_callers_get_space_in_order(gated: Gated) -> None:
    store, background = behind(gated, 10_000)
    store.write("a", b"x" * 4000)
    with thread(lambda: store.write("b", b"x" * 6000)):
        eventually(lambda: background.stats().callers == 1)
        with thread(lambda: store.write("c", b"")):  # there is room for this one
            eventually(lambda: background.stats().callers == 2)
            assert background.stats().keys == ("a",)
            gated.gate.open()
    background.settle()
    assert len(raw(gated)) == 3


# -- order -------------------------------------------------------------------------------------------------


def test_the_newest_value_replaces_a_pending_one(gated: Gated) -> None:
    store, background = behind(gated)
    for number in range(10):
        store.write("k", str(number).encode())
        gated.gate.wait_for(1)
    assert background.stats().bytes == 2 * 1025
    gated.gate.open()
    background.settle()
    assert raw(gated) == {"k": b"9"}
    assert gated.gate.passed == [("put", "k"), ("put", "k")]


def test_a_full_queue_accepts_a_replacement_of_a_pending_write(gated: Gated) -> None:
    store, _ = behind(gated, 2 * 1025)
    for number in range(10):
        store.write("k", str(number).encode())
        gated.gate.wait_for(1)
    gated.gate.open()
    assert store.read("k") == b"9"


def test_streams_and_values_of_one_key_keep_their_order(gated: Gated) -> None:
    store, background = behind(gated, 100 * MIB)
    store.write("k", b"begun")
    gated.gate.wait_for(1)
    store.write("k", b"first " * 2 * MIB)
    store.write("k", b"second" * 2 * MIB)
    gated.gate.open()
    assert store.read("k") == b"second" * 2 * MIB
    store.write("k", b"third " * 2 * MIB)
    store.write("k", b"small")
    background.settle()
    assert raw(gated) == {"k": b"small"}
    assert background.stats().bytes == 0
    assert not background.stats().streams


def test_a_stream_counts_from_its_end(gated: Gated) -> None:
    gated.gate.open()
    store, _ = behind(gated)
    with store.open("k", "wb") as file:
        file.write(b"x" * 10 * MIB)
        store.write("k", b"between")
    assert store.read("k") == b"x" * 10 * MIB


def test_what_is_changed_after_the_call_is_stored_as_it_was(gated: Gated) -> None:
    log = Logbook("run", gated, background=True)
    settings, array, raw_bytes, large = {"a": [1]}, np.zeros(3), bytearray(b"ab"), np.zeros(2 * MIB)
    log.json("settings", settings)
    log.array("array", array)
    log.bytes("bytes", raw_bytes)
    log.array("large", large)
    settings["a"].append(2)
    array[:] = 1
    raw_bytes[:] = b"xy"
    large[:] = 1
    gated.gate.open()
    assert log.reader.load_json("settings") == {"a": [1]}
    assert log.reader.load_array("array").tolist() == [0, 0, 0]
    assert log.reader.load_bytes("bytes") == b"ab"
    assert not log.reader.load_array("large").any()


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["write", "stream", "abort", "delete", "read", "append", "create", "list", "copy", "clear"]
            ),
            st.sampled_from(["a", "b", "c"]),
        ),
        max_size=40,
    ),
    st.sampled_from([2000, 9 * MIB, 64 * MIB]),
)
def test_any_schedule_equals_a_model(schedule: list[tuple[str, str]], most: int) -> None:
    """Four threads, each with its own keys in one store."""
    store, background = behind(open_store(f"memory://{uuid.uuid4().hex}").backend, most)

    def play(folder: str) -> dict[str, bytes]:
        mine, model = store.below(folder), dict[str, bytes]()
        for number, (verb, key) in enumerate(schedule):
            step(verb, key, mine, model, f"{folder} {number} ".encode())
        return {f"{folder}/{key}": data for key, data in model.items()}

    with ThreadPoolExecutor(4) as pool:
        models = list(pool.map(play, ["t1", "t2", "t3", "t4"]))
    background.settle()
    assert raw(store) == {key: data for model in models for key, data in model.items()}
    assert background.lost() is None
    assert not background.stats().prefixes
    stats = background.stats()
    assert stats.bytes == stats.in_flight == 0


def step(verb: str, key: str, store: Store, model: dict[str, bytes], data: bytes) -> None:
    if verb == "write":
        store.write(key, data)
        model[key] = data
    elif verb == "stream":
        store.write(key, data + b"x" * (PART + 1))
        model[key] = data + b"x" * (PART + 1)
    elif verb == "abort":
        with suppress(ZeroDivisionError), store.open(key, "wb") as file:
            file.write(b"y" * (PART + 1))
            raise ZeroDivisionError
    elif verb == "delete":
        store.delete([key])
        model.pop(key, None)
    elif verb == "read":
        assert (store.read(key) if store.exists(key) else None) == model.get(key)
    elif verb == "append":
        store.append(key, data)
        model[key] = model.get(key, b"") + data
    elif verb == "create":
        if key in model:
            with pytest.raises(FileExistsError):
                store.create(key, data)
        else:
            store.create(key, data)
            model[key] = data
    elif verb == "list":
        assert [entry.key for entry in store.list()] == sorted(model)
    elif verb == "copy":
        if key in model:
            store.copy(key, "copied")
            model["copied"] = model[key]
    else:
        store.clear(keep=[key])
        kept = model.get(key)
        model.clear()
        if kept is not None:
            model[key] = kept


# -- a run reads what it wrote -----------------------------------------------------------------------------

KEY = "artifacts/deep/x.txt"


def text(file: IO[Any]) -> Any:
    with file:
        return file.read()


STORE_ROADS: dict[str, Callable[[Store], Any]] = {
    "read": lambda store: store.read(KEY),
    "fetch": lambda store: store.fetch(KEY).data,
    "range": lambda store: store.read(KEY, 0, 3),
    "stat": lambda store: b"new"[: store.stat(KEY).size],
    "locate": lambda store: b"new"[: store.locate(KEY).size],
    "exists": lambda store: b"new" if store.exists(KEY) else b"",
    "open": lambda store: text(store.open(KEY, "rb")),
    "text": lambda store: text(store.open(KEY)).encode(),
    "list": lambda store: b"new" if [entry.key for entry in store.list()] == [KEY] else b"",
    "folder": lambda store: b"new" if [entry.key for entry in store.list("artifacts")] == [KEY] else b"",
    "folder_names": lambda store: b"new" if store.folder_names("artifacts") == ["deep"] else b"",
    "occupied": lambda store: b"new" if store.occupied() else b"",
    "read_many": lambda store: store.read_many([KEY])[KEY],
    "fetch_many": lambda store: store.fetch_many([KEY])[KEY].data,
    "read_ends": lambda store: store.read_ends([store.stat(KEY)], 3)[KEY],
    "below": lambda store: store.below("artifacts/deep").read("x.txt"),
    "append": lambda store: b"new" if store.append(KEY, b"!", at=3) == 4 else b"",
    "append at end": lambda store: b"new" if store.append(KEY, b"!") == 4 else b"",
    "appender": lambda store: b"new" if store.appender(KEY).size == 3 else b"",
    "replace": lambda store: store.replace(KEY, b"2", store.stat(KEY).version) and b"new",
    "x": lambda store: b"new" if raises(FileExistsError, lambda: store.open(KEY, "xb")) else b"",
    "create": lambda store: b"new" if raises(FileExistsError, lambda: store.create(KEY, b"2")) else b"",
    "irregular": lambda store: b"new" if store.irregular() == [] and not pending(store) else b"",
}


def pending(store: Store) -> tuple[str, ...]:
    assert isinstance(store.backend, BackgroundBackend)
    return store.backend.stats().keys


def raises(kind: type[Exception], call: Callable[[], Any]) -> bool:
    with suppress(kind):
        call()
        return False
    return True


@contextmanager
def opened_on_wait(gated: Gated, background: BackgroundBackend) -> Iterator[None]:
    """The gate stays closed until a call waits."""
    over = threading.Event()

    def watch() -> None:
        eventually(lambda: background.stats().waiting or over.is_set())
        gated.gate.open()

    with thread(watch):
        try:
            yield
        finally:
            over.set()


@pytest.fixture
def queues(monkeypatch: pytest.MonkeyPatch) -> list[BackgroundBackend]:
    """Collect the queues of the runs in a test."""
    made: list[BackgroundBackend] = []

    class Queue(BackgroundBackend):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            made.append(self)

    monkeypatch.setattr("notata.background.BackgroundBackend", Queue)
    return made


@pytest.mark.parametrize("road", list(STORE_ROADS))
def test_a_store_reads_what_it_wrote(gated: Gated, road: str) -> None:
    store, background = behind(gated)
    with opened_on_wait(gated, background):
        store.write(KEY, b"new")
        assert STORE_ROADS[road](store) == b"new"


def paths_of(path: Any) -> list[str]:
    return [found.name for found in path]


PATH_ROADS: dict[str, Callable[[Any], Any]] = {
    "read_text": lambda path: path.read_text(),
    "read_bytes": lambda path: path.read_bytes().decode(),
    "open": lambda path: text(path.open()),
    "exists": lambda path: "new" if path.exists() else "",
    "is_file": lambda path: "new" if path.is_file() else "",
    "stat": lambda path: "new"[: path.stat().st_size],
    "folder": lambda path: "new" if path.parent.is_dir() and path.parent.parent.is_dir() else "",
    "iterdir": lambda path: "new" if paths_of(path.parent.iterdir()) == ["x.txt"] else "",
    "glob": lambda path: "new" if paths_of(path.parent.glob("*.txt")) == ["x.txt"] else "",
    "rglob": lambda path: "new" if "x.txt" in paths_of(path.parent.parent.rglob("*.txt")) else "",
    "walk": lambda path: "new" if ["x.txt"] in [files for _, _, files in path.parent.parent.walk()] else "",
    "derived": lambda path: (path.parent.parent / "deep" / "x.txt").read_text(),
    "unlink": lambda path: "" if path.unlink() or path.exists() else "new",
    "rename": lambda path: path.rename(path.with_name("y.txt")).read_text(),
    "reader": lambda path: LogReader(path.parent.parent.parent).load_text("deep/x"),
    "another store": lambda path: open_store(path.parent).read("x.txt").decode(),
    "append": lambda path: appended(path),
}
LOCAL_ROADS: dict[str, Callable[[Any], Any]] = {
    "builtin open": lambda path: text(open(path)),
    "os.stat": lambda path: "new"[: os.stat(path).st_size],
    "os.path.exists": lambda path: "new" if os.path.exists(path) else "",
    "os.listdir": lambda path: "new" if "x.txt" in os.listdir(path.parent) else "",
    "shutil": lambda path: Path(shutil.copy(path, path.parent.parent / "copy")).read_text(),
    "fspath": lambda path: Path(os.fspath(path)).read_text(),
    "with dots": lambda path: text(open(path.parent / ".." / "deep" / "x.txt")),
    "numpy": lambda path: np.fromfile(path, dtype=np.uint8).tobytes().decode(),
    "own write": lambda path: path.write_text("newer") and path.read_text()[:3],
}


def appended(path: Any) -> str:
    with path.open("a") as file:
        file.write("er")
    return str(path.read_text())[:3]


@pytest.mark.parametrize("road", [*PATH_ROADS, *LOCAL_ROADS])
def test_path_objects_of_a_run_wait(gated: Gated, road: str, queues: list[BackgroundBackend]) -> None:
    local = not gated.url.startswith("memory")
    if road in LOCAL_ROADS and not local:
        elsewhere: Any = behind(gated)[0].path_for("x")
        assert raises(TypeError, lambda: os.fspath(elsewhere))
        return
    log = Logbook("run", gated, background=True)
    [queue] = queues
    with opened_on_wait(gated, queue):
        path = log.text("deep/x", "new")
        assert path == log[KEY]
        assert path.name == "x.txt"
        assert path.parent / "x.txt" == path
        assert gated.gate.closed
        assert isinstance(path, Path) is local
        assert (PATH_ROADS | LOCAL_ROADS)[road](path) == "new"
    log.flush()
    assert not queue.stats().prefixes


RUN_ROADS: dict[str, Callable[[Logbook], Any]] = {
    "open": lambda log: text(log.open(KEY)),
    "reader": lambda log: log.reader.load_text("deep/x"),
    "reader's names": lambda log: "new" if log.reader.artifacts == ["deep/x.txt"] else "",
    "reader's path": lambda log: log.reader[KEY].read_text(),
    "reader's in": lambda log: "new" if KEY in log.reader else "",
    "file of its own": lambda log: log.file(log[KEY], "copy.txt").read_text(),
    "folder of its own": lambda log: (log.folder(log[KEY].parent, "copies") / "x.txt").read_text(),
    "local": lambda log: replaced_by_local(log),
}


def replaced_by_local(log: Logbook) -> str:
    with log.local(KEY) as path:
        path.write_text("new")
    return log[KEY].read_text()


@pytest.mark.parametrize("road", list(RUN_ROADS))
def test_a_run_reads_what_it_wrote(gated: Gated, road: str, queues: list[BackgroundBackend]) -> None:
    log = Logbook("run", gated, background=True)
    [queue] = queues
    with opened_on_wait(gated, queue):
        log.text("deep/x", "new" if road != "local" else "old")
        assert RUN_ROADS[road](log) == "new"


def test_a_deletion_waits_for_all_that_is_queued(gated: Gated) -> None:
    store, background = behind(gated)
    store.write("k", b"begun")
    gated.gate.wait_for(1)
    store.write("k", b"waits")
    store.write("l", b"x" * 9 * MIB)
    with thread(lambda: store.delete(["k"])):
        eventually(lambda: background.stats().waiting)
        gated.gate.open()
    assert set(raw(gated)) == {"l"}
    store.delete(["l"])
    assert raw(gated) == {}
    assert gated.gate.passed.count(("put", "k")) == 2


def switched(
    position: int, call: Callable[[], Any], other: Callable[[], Any], file: str = keyed.__file__, function: str = ""
) -> bool:
    """Make a call, and another one just before an instruction of it, as another thread may.

    Args:
        position: The number of the instruction.
        call: The call.
        other: The other one.
        file: Only instructions of this file count.
        function: Only instructions of functions with this name count.

    Returns:
        Whether the call had so many instructions.
    """
    left = position

    def step(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if event == "opcode":
            left -= 1
            if left == -1:
                other()
        return step

    def enter(frame: FrameType, event: str, _: Any) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        code = frame.f_code
        return step if code.co_filename == file and function in ("", code.co_name) else None

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        call()
    finally:
        sys.settrace(before)
    return left < 0


@pytest.mark.parametrize("change", ["add", "start"])
@pytest.mark.parametrize("within", ["the change", "the look"])
def test_a_waiting_caller_does_not_take_a_moment_of_a_change_for_the_end(change: str, within: str) -> None:
    """It looks without the lock, while another thread replaces a pending write, or puts it in flight."""
    store, looks = open_store("memory://keyed"), list[bool]()
    for position in itertools.count():
        writes = keyed.KeyedWrites(FolderCounts())
        writes.add(Value(store, "k", "k", b"old"))
        changes: dict[str, Callable[[], Any]] = {
            "add": partial(writes.add, Value(store, "k", "k", b"new")),
            "start": writes.start,
        }

        def look(writes: keyed.KeyedWrites = writes) -> None:
            looks.append(writes.is_settled("k", 1))

        call, other = (changes[change], look) if within == "the change" else (look, changes[change])
        if not switched(position, call, other):
            break
    assert position > 10
    assert not any(looks)


def test_a_reader_waits_for_the_write_that_replaced_a_pending_one(gated: Gated) -> None:
    store, background = behind(gated)
    store.write("k", b"begun")
    gated.gate.wait_for(1)
    store.write("k", b"first")
    with thread(lambda: store.read("k")) as reading:
        eventually(lambda: background.stats().waiting)
        store.write("k", b"second")
        gated.gate.let_one_pass()
        gated.gate.wait_for(1)
        with suppress(TimeoutError):
            reading.result(0.1)
        gated.gate.open()
        assert reading.result(SECONDS) == b"second"


def test_it_is_the_real_store_when_it_is_pickled(gated: Gated) -> None:
    gated.gate.open()
    plain = open_store(gated.url)
    store, background = behind(plain.backend)
    store.write("k", b"1")
    assert type(pickle.loads(pickle.dumps(store)).backend) is type(plain.backend)
    assert type(pickle.loads(pickle.dumps(store.below("a"))).backend) is type(plain.backend)
    background.settle()
    assert pickle.loads(pickle.dumps(store.path_for("k"))).read_bytes() == b"1"
    assert (store.url, store.folders, store.is_local) == (plain.url, plain.folders, plain.is_local)
    assert (store.shared, store.supports_cas, store.sized) == (plain.shared, plain.supports_cas, plain.sized)
    assert store.redacted("x") == "x"


# -- what is lost ------------------------------------------------------------------------------------------


@pytest.fixture
def faulty() -> FaultyBackend:
    return FaultyBackend(open_store(f"memory://{uuid.uuid4().hex}"))


def messages(log: Logbook) -> list[str]:
    return raw(log)["log.txt"].decode().splitlines()


def lose(log: Logbook, faulty: FaultyBackend, *names: str) -> None:
    """Make writes fail, and wait until they have."""
    for name in names:
        failed = threading.Event()

        def fail(failed: threading.Event = failed) -> Exception:
            failed.set()
            return ConnectionError("on purpose")

        faulty.fail(1, key=f"artifacts/{name}.txt", error=fail)
        path = log.text(name, "lost")
        assert failed.wait(SECONDS)
        assert not path.exists()  # waits until the write is lost


def test_failed_writes_are_one_error_at_the_flush_and_are_reported_once(faulty: FaultyBackend) -> None:
    lost: list[str] = []
    store, background = behind(faulty, lost=lambda key, error: lost.append(key))
    with background.many_writes():  # none of these raises an earlier loss
        for key in ("a", "b"):
            faulty.fail(1, key=key)
            store.write(key, b"x")
            background.settle()
    background.finish()
    group = background.lost()
    assert group is not None
    assert str(group) == f"2 writes were lost in {faulty.url}: a, b (2 sub-exceptions)"
    assert [(type(error), error.key) for error in group.exceptions if isinstance(error, StorageError)] == [
        (UnreachableError, "a"),
        (UnreachableError, "b"),
    ]
    assert background.lost() is None
    assert lost == ["a", "b"]
    again = background.lost(again=True)
    assert again is not None
    assert len(again.exceptions) == 2


def test_the_flush_raises_once(faulty: FaultyBackend) -> None:
    log = Logbook("run", faulty, background=True)
    lose(log, faulty, "x")
    with pytest.raises(BatchError, match=r"1 write was lost in memory://.*/log_run: artifacts/x\.txt") as caught:
        log.flush()
    assert isinstance(caught.value, ExceptionGroup)
    log.flush()
    assert any("ERROR Lost artifacts/x.txt: cannot write" in line for line in messages(log))


@pytest.mark.parametrize(
    "write",
    [
        lambda log: log.text("y", "1"),
        lambda log: log.array("y", [1]),
        lambda log: log.bytes("y", b"1" * 10 * MIB),
        lambda log: log["y"].write_text("1"),
        lambda log: log.params(y=1),
        lambda log: log.file(log["log.txt"], "y"),
    ],
)
def test_the_next_writer_raises_before_it_takes_anything(
    faulty: FaultyBackend, write: Callable[[Logbook], Any]
) -> None:
    log = Logbook("run", faulty, background=True)
    lose(log, faulty, "x")
    log.info("no writer")
    with pytest.raises(BatchError, match=r"1 write was lost .*artifacts/x\.txt"):
        write(log)
    log.flush()
    assert not [key for key in raw(log) if "y" in key.rpartition("/")[2]]
    log.text("y", "2")
    log.flush()
    assert raw(log)["artifacts/y.txt"] == b"2"


def test_a_write_that_succeeds_later_is_not_lost(faulty: FaultyBackend) -> None:
    with Logbook("run", faulty, background=True) as log:
        lose(log, faulty, "x")
        with pytest.raises(BatchError):
            log.text("x", "not taken")
        log.text("x", "again")
    assert log.status == "complete"
    assert raw(log)["artifacts/x.txt"] == b"again"


@pytest.mark.parametrize("how", ["create", "delete", "large"])
def test_a_lost_write_that_is_replaced_or_removed_directly_is_not_lost(faulty: FaultyBackend, how: str) -> None:
    store, background = behind(faulty, 10_000)
    faulty.fail(1, key="x")
    store.write("x", b"1")
    background.settle()
    if how == "create":
        store.create("x", b"2")
    elif how == "delete":
        store.delete(["x"])
    else:
        assert background.lost() is not None
        store.write("x", b"2" * 20_000)
    assert background.lost(again=True) is None


def test_a_run_with_a_lost_write_is_never_complete(faulty: FaultyBackend) -> None:
    log = Logbook("run", faulty, background=True)
    lose(log, faulty, "a")
    with pytest.raises(BatchError):
        log.flush()
    with pytest.raises(BatchError, match=r"artifacts/a\.txt") as caught:
        log.mark_complete()
    assert log.status == "failed"
    meta = LogReader(f"{faulty.url}/log_run").meta
    assert meta["status"] == "failed"
    assert meta["failure_reason"] == f"1 write was lost in {faulty.url}/log_run: artifacts/a.txt"
    assert meta["failure_type"] == "notata.errors.BatchError"
    assert "cannot write" in raw(log)["artifacts/debug/traceback.txt"].decode()
    with pytest.raises(RunEndedError):
        log.mark_complete()
    assert [type(error) for error in caught.value.exceptions] == [UnreachableError]


def test_only_the_first_lost_keys_are_named(faulty: FaultyBackend) -> None:
    store, background = behind(faulty)
    with background.many_writes():
        for name in "abcdefgh":
            faulty.fail(1, key=name)
            store.write(name, b"x")
            background.settle()
    group = background.lost()
    assert group is not None
    assert str(group) == f"8 writes were lost in {faulty.url}: a, b, c, d, e and 3 more (8 sub-exceptions)"


def test_the_end_of_the_block_raises(faulty: FaultyBackend) -> None:
    with pytest.raises(BatchError, match=r"1 write was lost"), Logbook("run", faulty, background=True) as log:
        faulty.fail(1, key="artifacts/x.txt")
        log.text("x", "lost")
    assert log.status == "failed"
    assert LogReader(f"{faulty.url}/log_run").state.status == "failed"


def test_the_exception_of_the_block_stays_and_lost_keys_are_a_note(faulty: FaultyBackend) -> None:
    with pytest.raises(ValueError, match="h = -1") as caught, Logbook("run", faulty, background=True) as log:
        faulty.fail(1, key="artifacts/x.txt")
        log.text("x", "lost")
        raise ValueError("h = -1")
    assert "1 write was lost" in str(caught.value.__notes__)
    assert "artifacts/x.txt" in str(caught.value.__notes__)
    reason = LogReader(f"{faulty.url}/log_run").meta["failure_reason"]
    assert reason == f"h = -1; 1 write was lost in {faulty.url}/log_run: artifacts/x.txt"
    assert any("ERROR Lost artifacts/x.txt" in line for line in messages(log))


def test_a_loss_reported_within_the_block_is_a_note_at_its_end_too(faulty: FaultyBackend) -> None:
    with pytest.raises(ValueError, match="h = -1") as caught, Logbook("run", faulty, background=True) as log:
        lose(log, faulty, "x")
        with pytest.raises(BatchError):
            log.flush()
        raise ValueError("h = -1")
    assert len(caught.value.__notes__) == 1
    assert "artifacts/x.txt" in caught.value.__notes__[0]


def test_an_error_that_ends_the_block_is_not_reported_again(faulty: FaultyBackend) -> None:
    with pytest.raises(BatchError) as caught, Logbook("run", faulty, background=True) as log:
        lose(log, faulty, "x")
        log.text("y", "1")
    assert not hasattr(caught.value, "__notes__")
    assert LogReader(f"{faulty.url}/log_run").meta["failure_reason"].count("artifacts/x.txt") == 1


def test_a_run_that_is_marked_failed_reports_lost_writes(faulty: FaultyBackend) -> None:
    log = Logbook("run", faulty, background=True)
    lose(log, faulty, "x")
    with pytest.raises(BatchError, match=r"artifacts/x\.txt"):
        log.mark_failed("by hand")
    assert log.status == "failed"
    assert LogReader(f"{faulty.url}/log_run").meta["failure_reason"].startswith("by hand; 1 write was lost")
    log.mark_failed("again")


def test_writes_after_the_end_are_stored_when_they_return(faulty: FaultyBackend) -> None:
    with Logbook("run", faulty, background=True) as log:
        pass
    faulty.fail(1, key="artifacts/x.txt")
    with pytest.raises(UnreachableError):
        log.text("x", "1")
    log.text("x", "2")
    assert raw(log)["artifacts/x.txt"] == b"2"
    log.array("large", np.zeros(2 * MIB))
    assert len(raw(log)["data/large.npy"]) > 2 * MIB
    faulty.fail(2, key="data/large.npy")
    with pytest.raises(UnreachableError):
        log.array("large", np.zeros(2 * MIB))
    log.mark_complete()


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_stream_that_fails_raises_in_its_writer_and_is_lost(faulty: FaultyBackend, nth: int) -> None:
    lost: list[str] = []
    store, background = behind(faulty, lost=lambda key, error: lost.append(key))
    store.write("k", b"old")
    background.settle()
    faulty.fail(nth, key="k")
    with pytest.raises(UnreachableError, match="cannot write") as caught, store.open("k", "wb") as file:
        for _ in range(20):
            file.write(b"x" * 4 * MIB)
            eventually(lambda: not background.stats().streams)
    assert caught.value.key == "k"
    background.settle()
    assert raw(faulty) == {"k": b"old"}
    assert background.lost() is None
    assert background.lost(again=True) is not None
    assert lost == ["k"]
    assert [operation.verb for operation in faulty.operations].count("abort") == (nth > 1)
    store.write("k", b"new")
    background.settle()
    assert background.lost(again=True) is None


def test_a_stream_that_fails_after_its_end_is_lost(faulty: FaultyBackend) -> None:
    store, background = behind(faulty)
    faulty.fail(4, key="k")
    store.write("k", b"x" * 10 * MIB)
    background.settle()
    assert faulty.operations[-2].verb == "commit"
    assert faulty.operations[-1].verb == "abort"
    with pytest.raises(BatchError):
        store.write("l", b"1")
    assert raw(faulty) == {}
    assert background.stats().bytes == 0


def test_a_stream_that_fails_is_busy_until_it_is_aborted(no_threads: None) -> None:
    """A caller that waits for it looks without the lock."""
    for position in itertools.count():
        faulty = FaultyBackend(open_store(f"memory://{uuid.uuid4().hex}"))
        store, background = behind(faulty)
        faulty.fail(2, key="k")
        seen: list[tuple[int, list[str]]] = []

        def look(
            seen: list[tuple[int, list[str]]] = seen,
            faulty: FaultyBackend = faulty,
            background: BackgroundBackend = background,
        ) -> None:
            seen.append((background.stats().streams, [operation.verb for operation in faulty.operations]))

        def write(store: Store = store) -> None:
            with suppress(UnreachableError):
                store.write("k", bytes(9 * MIB))

        if not switched(position, write, look, queue.__file__, "_taken"):
            break
        assert faulty.operations[-1].verb == "abort"
        assert [streams for streams, verbs in seen if "abort" not in verbs] in ([], [1])
    assert position > 20


def test_a_stream_that_is_given_up_leaves_nothing(gated: Gated) -> None:
    store, background = behind(gated)
    with pytest.raises(ZeroDivisionError), store.open("k", "wb") as file:
        file.write(b"x" * 20 * MIB)
        gated.gate.wait_for(1)
        raise ZeroDivisionError
    gated.gate.open()
    background.settle()
    assert raw(gated) == {}
    assert background.lost(again=True) is None
    assert not background.stats().streams
    assert background.stats().bytes == 0
    assert gated.gate.passed[-1] == ("abort", "k")


def test_a_clean_up_that_fails_is_a_warning(faulty: FaultyBackend, caplog: pytest.LogCaptureFixture) -> None:
    store, background = behind(faulty)
    with pytest.raises(ZeroDivisionError), store.open("k", "wb") as file:
        file.write(b"x" * 20 * MIB)
        eventually(lambda: not background.stats().streams)
        faulty.fail(1, key="k")
        raise ZeroDivisionError
    background.settle()
    assert "could not clean up after k" in caplog.text
    assert background.lost(again=True) is None


def test_a_displaced_writer_writes_no_more(gated: Gated, queues: list[BackgroundBackend]) -> None:
    log = Logbook("run", gated, background=True, heartbeat=0)
    for number in range(40):
        log.text(f"x{number}", "of the old one")
    gated.gate.wait_for(32)
    Logbook("run", open_store(gated.url), overwrite=True, heartbeat=0)
    with pytest.raises(RunDisplacedError):
        log.meta(x=1)
    gated.gate.open()
    [queue] = queues
    queue.settle()
    assert len([key for key in raw(log) if key.startswith("artifacts")]) == 32
    group = queue.lost()
    assert group is not None
    assert {type(error.__cause__) for error in group.exceptions} == {RunDisplacedError}
    assert {getattr(error, "key", "") for error in group.exceptions} == {f"artifacts/x{n}.txt" for n in range(32, 40)}


def test_a_stream_is_not_begun_either(faulty: FaultyBackend) -> None:
    def refuse() -> None:
        raise RunDisplacedError("it is another's")

    store, background = behind(faulty, check=refuse)
    with suppress(StorageError):
        store.write("k", b"x" * 10 * MIB)
    background.settle()
    group = background.lost(again=True)
    assert group is not None
    assert type(group.exceptions[0].__cause__) is RunDisplacedError
    assert faulty.operations == []


def test_a_storage_that_does_not_answer_is_not_waited_for_at_the_end(gated: Gated) -> None:
    store, background = behind(gated)
    gated.put = lambda key, data, match: refuse(gated.gate, key)  # type: ignore[method-assign]
    for number in range(1000):
        store.write(f"k{number}", b"x")
    gated.gate.wait_for(32)
    with thread(background.finish):
        eventually(lambda: background.stats().writes_through)
        gated.gate.open()
    assert len(gated.gate.passed) < 100
    group = background.lost()
    assert group is not None
    assert len(group.exceptions) == 1000
    assert sum("not tried, because" in str(error) for error in group.exceptions) > 900


def refuse(gate: WriteGate, key: str) -> str:
    with gate.passing("put", key):
        raise ConnectionRefusedError


def test_a_folder_and_a_file_of_one_name(tmp_path: Path) -> None:
    store, background = behind(open_store(tmp_path).backend)
    store.write("a/b", b"1")
    background.settle()
    store.write("a", b"1")
    background.settle()
    group = background.lost()
    assert group is not None
    assert [type(error) for error in group.exceptions] == [FolderError]


# -- flush, interrupts, ends -------------------------------------------------------------------------------


def test_a_flush_that_takes_too_long(gated: Gated) -> None:
    log = Logbook("run", gated, background=True)
    log.text("x", "1")
    gated.gate.wait_for(1)
    with pytest.raises(DeadlineError, match=r"1 writes to .* were not stored within 0\.01 s\. They stay pending"):
        log.flush(timeout=0.01)
    gated.gate.open()
    log.flush(timeout=SECONDS)
    assert raw(log)["artifacts/x.txt"] == b"1"


def test_a_flush_waits_for_what_is_pending_by_now(gated: Gated) -> None:
    log = Logbook("run", gated, background=True)
    log.text("x", "1")
    file = log.open("artifacts/open", "wb")
    file.write(b"x" * 9 * MIB)
    with thread(log.flush) as flushing:
        gated.gate.wait_for(2)
        assert not flushing.done()
        gated.gate.open()
    assert raw(log)["artifacts/x.txt"] == b"1"
    assert "artifacts/open" not in raw(log)
    file.close()
    log.flush()
    assert len(raw(log)["artifacts/open"]) == 9 * MIB


def test_a_plain_run_flushes_its_log(faulty: FaultyBackend, queues: list[BackgroundBackend]) -> None:
    log = Logbook("run", faulty)
    log.flush()
    log.flush(timeout=1.0)
    assert queues == []


def test_an_interrupt_of_a_writer_that_waits_leaves_nothing_half_queued(gated: Gated) -> None:
    store, background = behind(gated, 3 * 1025)
    for name in "abc":
        store.write(name, b"1")

    def interrupt() -> None:
        eventually(lambda: background.stats().callers)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with thread(interrupt), pytest.raises(KeyboardInterrupt):
        store.write("d", b"1")
        threading.Event().wait(SECONDS)
    assert not background.stats().callers
    gated.gate.open()
    background.settle()
    assert set(raw(gated)) == {"a", "b", "c"}
    store.write("d", b"2")
    assert store.read("d") == b"2"
    assert background.stats().bytes == 0


def test_an_interrupt_of_a_caller_that_waits_for_space_leaves_no_entry(
    gated: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, background = behind(gated, 3 * 1025)
    for name in "abc":
        store.write(name, b"1")
    waits = False

    def wait() -> None:
        nonlocal waits
        waits = True
        raise KeyboardInterrupt

    def interrupt() -> None:
        if not waits:
            raise KeyboardInterrupt

    queue = background._queue  # noqa: SLF001 - a wait that begins cannot be met from outside at each instruction
    monkeypatch.setattr(queue, "_check_can_wait", wait)
    for position in itertools.count():
        at = At(position, interrupt, QUEUE_FILES)
        with pytest.raises(KeyboardInterrupt):
            at.call(partial(store.write, "d", b"1"))
        eventually(lambda: not background.stats().callers)
        if waits:
            break
    assert position > 10
    monkeypatch.undo()
    gated.gate.open()
    background.settle()
    assert set(raw(gated)) == {"a", "b", "c"}


@pytest.mark.parametrize("where", ["add", "at_exit", "start_put"])
def test_an_interrupt_within_a_call_leaves_consistent_counts(
    gated: Gated, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gated.gate.open()
    store, background = behind(gated)
    store.write("a/b", b"1")
    background.settle()
    owner: Any = {"add": FolderCounts, "at_exit": exits, "start_put": gated}[where]
    original, calls = getattr(owner, where), 0

    def interrupted(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(owner, where, interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.write("a/c", b"2")
    background.settle(SECONDS)
    stats = background.stats()
    assert stats.bytes == stats.in_flight == 0
    assert not background.stats().prefixes
    store.write("a/c", b"3")
    assert store.read("a/c") == b"3"


def test_where_no_thread_can_start_the_caller_does_all_writes(no_threads: None) -> None:
    store, background = behind(open_store(f"memory://{uuid.uuid4().hex}").backend)
    for number in range(2000):
        store.write(f"k{number}", b"x")
    store.write("large", b"x" * 20 * MIB)
    with suppress(ZeroDivisionError), store.open("given up", "wb") as file:
        file.write(b"x" * 20 * MIB)
        raise ZeroDivisionError
    background.settle()
    assert len(raw(store)) == 2001
    assert len(raw(store)["large"]) == 20 * MIB


def test_many_immediate_writes_do_not_nest(faulty: FaultyBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write may finish before the call that starts it returns, as in memory."""
    store, background = behind(faulty)
    held: list[Future[str]] = []

    def hold(key: str, data: bytes) -> Future[str]:
        held.append(Future())
        return held[-1]

    def do(key: str, data: bytes) -> Future[str]:
        future: Future[str] = Future()
        future.set_result(faulty.put(key, data, None))
        return future

    monkeypatch.setattr(faulty, "start_put", hold)
    for number in range(3000):
        store.write(f"k{number}", b"x")
    monkeypatch.setattr(faulty, "start_put", do)
    for future in held:
        future.set_result("")
    background.settle()
    assert background.lost() is None
    assert len(raw(faulty)) == 3000 - 32


def test_a_stream_that_is_ended_at_once_waits_for_the_older_write(
    faulty: FaultyBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, background = behind(faulty, MIB)
    older: Future[str] = Future()

    def finish() -> None:
        if not older.done():
            faulty.put("k", b"old", None)
            older.set_result("")

    monkeypatch.setattr(faulty, "start_put", lambda key, data: older)
    store.write("k", b"old")
    with thread(background.finish):
        eventually(lambda: background.stats().writes_through)
        with thread(lambda: store.write("k", b"new" * 5 * MIB)):
            eventually(lambda: background.stats().waiting == 2)  # the last part, and this write
            finish()
    assert raw(faulty) == {"k": b"new" * 5 * MIB}


def test_a_write_is_done_once_though_a_pool_took_it_and_refused_it(
    faulty: FaultyBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `ThreadPoolExecutor` queues a call before it starts the thread that it may be refused."""
    taken: list[Callable[[], None]] = []

    class Pool:
        def submit(self, work: Callable[[], None]) -> None:
            taken.append(work)
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(in_flight, "pools", {os.getpid(): Pool()})
    future = faulty.start_put("k", b"1")
    taken[0]()
    assert future.result() == faulty.stat("k").version
    assert [operation.verb for operation in faulty.operations] == ["put", "stat"]


def test_pending_writes_are_stored_where_no_thread_can_start(gated: Gated, request: pytest.FixtureRequest) -> None:
    store, _ = behind(gated)
    for number in range(100):
        store.write(f"k{number}", b"x")
    store.write("large", b"x" * 20 * MIB)
    gated.gate.wait_for(33)
    request.getfixturevalue("no_threads")
    gated.gate.open()
    [finish] = exits.pending()
    finish()
    assert len(raw(gated)) == 101


def test_pending_writes_are_stored_at_exit_and_an_idle_queue_is_not_registered(gated: Gated) -> None:
    store, background = behind(gated)
    before = exits.pending()
    store.write("k", b"1")
    assert len(exits.pending()) == len(before) + 1
    gated.gate.open()
    background.settle()
    eventually(lambda: exits.pending() == before)


def test_a_run_that_was_not_ended_is_failed_once_all_is_stored(gated: Gated, queues: list[BackgroundBackend]) -> None:
    log = Logbook("run", gated, background=True)
    log.text("x", "1")
    gated.gate.wait_for(1)
    with thread(lambda: run_at_exit(log)) as ending:
        eventually(lambda: queues[0].stats().writes_through)
        assert not ending.done()
        assert log.status == "initialized"
        gated.gate.open()
    assert log.status == "failed"
    assert raw(log)["artifacts/x.txt"] == b"1"


def test_a_signal_handler_may_write_while_the_writer_waits(gated: Gated) -> None:
    """The handler's write is added before the one for which the main thread waits."""
    store, background = behind(gated, 2 * 1025 + 200)
    store.write("a", b"1")
    store.write("b", b"1")

    def handler(number: int, frame: object) -> None:
        with thread(gated.gate.open):
            store.write("d", b"1")

    def interrupt() -> None:
        eventually(lambda: background.stats().callers)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with thread(interrupt):
            store.write("c", b"1")
    finally:
        signal.signal(signal.SIGUSR1, before)
    background.settle()
    assert set(raw(gated)) == set("abcd")


def test_options(faulty: FaultyBackend, gated: Gated, queues: list[BackgroundBackend]) -> None:
    for wrong in (0, -1, 1.5, "64"):
        with pytest.raises(ConfigurationError, match="pass True, False or a number of bytes"):
            Logbook("run", faulty, background=wrong)  # type: ignore[arg-type]
    experiment = Experiment("e", gated, background=MIB)
    with experiment.add(dt=0.1) as log:
        log.bytes("one", bytes(MIB // 2))
        with thread(lambda: log.bytes("two", bytes(MIB // 2))):
            eventually(lambda: queues[0].stats().callers)
            gated.gate.open()
        log.json("metrics", {"error": 0.5})
    assert experiment.reader.table()[0]["error"] == 0.5
    with pytest.raises(MissingError):
        open_store(faulty.url).read("log_run/metadata.json")


# -- ends that do not go well ------------------------------------------------------------------------------


def interrupt_when_waiting(monkeypatch: pytest.MonkeyPatch, gated: Gated, error: BaseException) -> None:
    """Interrupt the end of a run while it waits, then let the started writes continue."""
    settle = BackgroundBackend.finish.__globals__["Queue"].settle
    came: list[bool] = []

    def interrupted(self: Any, timeout: float | None = None) -> None:
        if not came:
            came.append(True)
            raise error
        gated.gate.open()
        settle(self, timeout)

    monkeypatch.setattr(BackgroundBackend.finish.__globals__["Queue"], "settle", interrupted)


@pytest.mark.parametrize("block", [True, False], ids=["in an interrupted block", "at the end of a good one"])
def test_an_interrupt_of_the_end_gives_up_what_has_not_begun_and_the_run_says_so(
    gated: Gated, monkeypatch: pytest.MonkeyPatch, block: bool
) -> None:
    with pytest.raises(KeyboardInterrupt), Logbook("a", gated, background=True) as log:
        for number in range(40):
            log.text(f"k{number:02}", "x")
        gated.gate.wait_for(32)
        interrupt_when_waiting(monkeypatch, gated, KeyboardInterrupt())
        if block:
            raise KeyboardInterrupt
    assert log.status == "failed"
    stored = [key for key in raw(gated) if key.startswith("log_a/artifacts/k")]
    assert len(stored) == 32
    told = LogReader(f"{gated.url}/log_a").meta["failure_reason"]
    assert told.startswith("KeyboardInterrupt; 8 writes were lost in ")
    assert "artifacts/k32.txt, artifacts/k33.txt" in told


def test_an_end_that_takes_long_says_what_it_waits_for(
    gated: Gated, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("notata.background.queue.WARN_AFTER", 0.01)
    log = Logbook("a", gated, background=True)
    for number in range(3):
        log.text(f"k{number}", "x")
    with thread(log.mark_complete):
        eventually(lambda: caplog.messages)
        gated.gate.open()
    assert caplog.messages == [
        f"notata: waiting for 3 pending files to be stored in {gated.url}/log_a; press Ctrl-C to discard those that "
        "have not started"
    ]
    assert log.status == "complete"


@pytest.mark.parametrize("how", ["block", "mark_complete", "mark_failed", "exit"])
def test_lost_writes_are_reported_though_the_status_cannot_be_stored(
    faulty: FaultyBackend, how: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Logbook("a", faulty, background=True)
    lose(log, faulty, "x")
    faulty.fail(1, key="metadata.json")
    if how == "exit":
        monkeypatch.setattr(exits, "phase", exits.Phase.RUNNING)
        exits.run_all()
        told = capsys.readouterr().err
    else:
        with pytest.raises(Exception) as caught:
            if how == "block":
                with log:
                    raise ValueError("h = -1")
            elif how == "mark_failed":
                log.mark_failed("no convergence")
            else:
                log.mark_complete()
        told = "\n".join([str(caught.value), *caught.value.__notes__])
    assert f"1 write was lost in {log.url}: artifacts/x.txt" in told


def test_a_group_of_many_is_short_to_read(gated: Gated) -> None:
    log = Logbook("a", gated, background=True)
    gated.fail(1, key="artifacts/k.txt")
    log.text("k", "x")
    gated.gate.open()
    with pytest.raises(BatchError) as caught:
        log.flush()
    lines = "".join(traceback.format_exception(caught.value.exceptions[0])).splitlines()
    assert not [line for line in lines if line.startswith("  File")]
    assert "cannot write" in lines[-1]
    assert "ConnectionError: on purpose" in lines[0]


def test_a_reason_does_not_repeat_what_is_lost(faulty: FaultyBackend) -> None:
    with pytest.raises(BatchError), Logbook("a", faulty, background=True) as log:
        lose(log, faulty, "y")
        log.text("z", "raises")
    told = LogReader(f"{faulty.url}/log_a").meta["failure_reason"]
    assert told == f"1 write was lost in {faulty.url}/log_a: artifacts/y.txt"


@pytest.mark.parametrize("timeout", ["5", -1, float("nan")])
def test_a_timeout_that_makes_no_sense_is_refused(faulty: FaultyBackend, timeout: Any) -> None:
    for background in (True, False):
        with pytest.raises(ConfigurationError, match=r"invalid timeout .*: pass a number of seconds"):
            Logbook(None, faulty, background=background).flush(timeout)
    with pytest.raises(ConfigurationError, match="invalid background"):
        Logbook("b", faulty, background="yes")  # type: ignore[arg-type]


def test_a_caller_that_waits_for_space_writes_directly_when_the_run_ends(
    gated: Gated, queues: list[BackgroundBackend]
) -> None:
    log = Logbook("a", gated, background=3000)
    log.bytes("one", bytes(1500))
    gated.gate.wait_for(1)
    told: list[str] = []

    def late() -> None:
        gated.fail(1, key="artifacts/two")
        try:
            log.bytes("two", bytes(1500))
        except StorageError as error:
            told.append(str(error.key))

    [queue] = queues
    with thread(late):
        eventually(lambda: queue.stats().callers)
        with thread(log.mark_complete):
            eventually(lambda: queue.stats().writes_through)
            gated.gate.open()
    assert told == ["artifacts/two"]
    assert (log.status, queue.stats().keys, queue.lost(again=True)) == ("complete", (), None)


def test_nothing_is_removed_before_what_takes_its_place_is_stored(faulty: FaultyBackend) -> None:
    log = Logbook("a", faulty, params={"dt": 0.1}, background=True)
    path = log.text("old", "x")
    log.flush()
    faulty.fail(1, key="artifacts/new.txt")
    with pytest.raises(BatchError, match=r"artifacts/new\.txt"):
        path.rename("new.txt")
    assert raw(faulty)["log_a/artifacts/old.txt"] == b"x"
    faulty.fail(1, key="params.json")
    with pytest.raises(BatchError, match=r"params\.json"):
        log.params(ext="json", dt=0.2)
    assert "log_a/params.yaml" in raw(faulty)


def test_a_deletion_that_fails_loses_no_newer_write(faulty: FaultyBackend) -> None:
    store, background = behind(faulty)
    store.write("k", b"old")
    background.settle()
    store.write("k", b"new")
    background.settle()
    faulty.fail(1, key="", error=lambda: PermissionError("on purpose"))
    with pytest.raises(PermissionError):
        store.delete(["k"])
    assert raw(faulty) == {"k": b"new"}


def test_lost_writes_are_reported_before_a_batch_and_not_within(
    faulty: FaultyBackend, queues: list[BackgroundBackend], tmp_path: Path
) -> None:
    for number in range(5):
        (tmp_path / str(number)).write_text("x")
    log = Logbook("a", faulty, background=True)
    lose(log, faulty, "lost")
    with pytest.raises(BatchError) as caught:
        log.folder(tmp_path, "f")
    assert [getattr(error, "key", None) for error in caught.value.exceptions] == ["artifacts/lost.txt"]
    faulty.fail(2, key="artifacts/f/1")
    log.folder(tmp_path, "f")
    callback = Callback()
    Store(queues[0]).write_many({"data/a": b"1", "data/b": b"2"}, callback=callback)
    assert (callback.size, callback.value) == (2, 2)
    log.flush()
    assert len([key for key in raw(faulty) if key.startswith("log_a/artifacts/f/")]) == 5


@pytest.mark.parametrize(
    "same",
    [
        copy.copy,
        copy.deepcopy,
        lambda path: pickle.loads(pickle.dumps(path)),
        lambda path: UPath(path),
        lambda path: type(path)(str(path)),
        lambda path: LogReader(path.parent.parent)["data/a.npy"],
    ],
    ids=["copy", "deepcopy", "pickle", "UPath", "class", "reader"],
)
def test_any_path_of_the_process_waits_on_a_disk(tmp_path: Path, same: Callable[[Any], Any]) -> None:
    inner = Gated(open_store(tmp_path))
    log = Logbook("run", inner, background=True)
    path = log.array("a", np.arange(3))
    with thread(lambda: np.load(same(path))) as loading:
        inner.gate.wait_for(1)
        assert not loading.done()
        inner.gate.open()
        assert list(loading.result(SECONDS)) == [0, 1, 2]
    log.mark_complete()


def test_after_the_end_of_a_queue_a_batch_is_not_cut_by_an_earlier_loss(faulty: FaultyBackend) -> None:
    store, background = behind(faulty)
    faulty.fail(1, key="lost")
    store.write("lost", b"1")
    background.finish()
    with pytest.raises(BatchError, match="lost"):
        store.write_many({"a": b"1", "b": bytes(9 * MIB), "c": b"1"})
    store.write_many({"a": b"1", "b": bytes(9 * MIB), "c": b"1"})
    assert set(raw(faulty)) == {"a", "b", "c"}


def test_an_exclusive_write_ends_after_writes_that_were_queued_meanwhile(faulty: FaultyBackend) -> None:
    store, _ = behind(faulty)
    file = store.open("k", "xb")
    file.write(bytes(9 * MIB))
    store.write("k", b"1")
    with pytest.raises(ExistsError):
        file.close()
    assert store.read("k") == b"1"
