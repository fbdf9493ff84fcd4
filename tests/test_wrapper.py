"""Wrappers of backends pass each name of the interface to the inner one. Also a complete backend in 40 lines."""

from __future__ import annotations

import inspect
import itertools
import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fsspec import AbstractFileSystem, filesystem
from upath import UPath

from notata import ConflictError, ExistsError, Logbook, LogReader, RunExistsError
from notata.background import BackgroundBackend
from notata.manifest import HashingBackend
from notata.store import ABSENT, Backend, Blob, Entry, Store, open_store
from notata.store.appending import Tail
from notata.store.files import PART
from notata.store.outlines import Outline
from notata.store.wrapper import Wrapper
from notata.testing import FaultyBackend

NAMES = {name for name in vars(Backend) if not name.startswith("_")} - {"enter"} | {"url"}  # `below` calls `enter`
FACTS = {name for name in NAMES if not callable(getattr(Backend, name, None))}
VARIANTS: dict[str, tuple[Any, ...]] = {
    "below": ("a/b",),
    "durably": (),
    "following_links": (),
    "serving_pages": (),
    "sparing": (5,),
    "strictly": (),
}
TAIL = Tail(3, "v1", b"old")
NOW = datetime(2026, 3, 1, tzinfo=UTC)
ENTRY = Entry("k", 3, NOW, "v1")
NOTHING = Blob(b"", 0, ABSENT)


class Stage:
    """The return value of `stage`."""

    path = "/nowhere"

    def publish(self) -> None: ...
    def close(self) -> None: ...


class Call:
    """A call of an operation with arguments other than its defaults, and the reply of the inner backend."""

    def __init__(self, reply: Any, *arguments: Any, **options: Any) -> None:
        self.reply, self.arguments, self.options = reply, arguments, options


def done(result: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(result)
    return future


CALLS: dict[str, Callable[[], Call]] = {
    "put": lambda: Call("v2", "k", b"new", "v1"),
    "begin_upload": lambda: Call(BytesIO(), "k", ABSENT),
    "append": lambda: Call(Tail(6, "v2"), "k", b"new", TAIL),
    "get": lambda: Call(Blob(b"ld", 3, "v1"), "k", 1, 3, "v1", 7),
    "stat": lambda: Call(ENTRY, "k"),
    "list": lambda: Call([ENTRY], "folder", "begin"),
    "list_outlined": lambda: Call([ENTRY], "folder", "begin", Outline("runs", "log_", ("one",))),
    "delete": lambda: Call({"k": PermissionError()}, {"k": "v1", "l": None}),
    "path": lambda: Call(UPath("memory://x/k"), "k", open_store("memory://x")),
    "filesystem": lambda: Call(filesystem("memory")),
    "start_put": lambda: Call(done("v2"), "k", b"new"),
    "start_get": lambda: Call(done(Blob(b"ld", 3, "v1")), "k", 1, 3, "v1", 7),
    "prepare": lambda: Call(None),
    "arrive": lambda: Call(None, "k"),
    "copies_from": lambda: Call(True, Files()),
    "copy_on_server": lambda: Call("v2", "k", Files(), ENTRY, "v1"),
    "many_writes": lambda: Call(BytesIO()),
    "open_read": lambda: Call(BytesIO(b"old"), "k", once=True),
    "stage": lambda: Call(Stage(), "k"),
    "folder_names": lambda: Call(["sub"], "folder", "begin"),
    "has_folder": lambda: Call(True, "folder"),
    "make_folder": lambda: Call(True, "folder"),
    "make_folders": lambda: Call(None, ["folder"]),
    "make_parents": lambda: Call(None, "k"),
    "remove_empty_folders": lambda: Call(None),
    "folds_names": lambda: Call(True, may_write=False),
    "irregular": lambda: Call(["pipe"]),
    "links": lambda: Call(["link"]),
    "permissions": lambda: Call(0o600, "k"),
    "limit_permissions": lambda: Call(None, "k", 0o600),
    "failure": lambda: Call((ConflictError, "why"), ValueError("x")),
    "cause": lambda: Call(ValueError("y"), ValueError("x")),
    "redacted": lambda: Call("x=…", "x=1"),
    "conflict": lambda: Call(ConflictError("changed", url="", key="k"), "k", "changed"),
    "shown": lambda: Call("memory://x/k", "k"),
}

ANSWERED: dict[type[Wrapper], set[str]] = {
    Wrapper: set(),
    HashingBackend: {"copies_from"},  # bytes that it does not see cannot be hashed
    # It also waits for its own queue.
    BackgroundBackend: {"queues", "arrive", "many_writes", "copies_from"},
    # Each read is a `get` and each staged file an upload, so that they are counted.
    FaultyBackend: {"open_read", "stage"},
}
"""By wrapper, the names that it handles without the inner backend."""

INNER: dict[tuple[type[Wrapper], str], tuple[str, tuple[Any, ...]]] = {
    (FaultyBackend, "start_put"): ("put", ("k", b"new", None)),
    (FaultyBackend, "start_get"): ("get", ("k", 1, 3, "v1", 7)),
    (FaultyBackend, "list_outlined"): ("list", ("folder", "begin")),
    (BackgroundBackend, "list_outlined"): ("list", ("folder", "begin")),
}
"""Methods that call another method of the inner backend."""

REPLACED = {
    (HashingBackend, "begin_upload"),
    (HashingBackend, "stage"),
    (BackgroundBackend, "begin_upload"),
    (BackgroundBackend, "stage"),
    (BackgroundBackend, "start_put"),
    (FaultyBackend, "begin_upload"),
}
"""Methods whose result the wrapper replaces."""


class Recorder:
    """An inner backend that records its calls. Each of its attributes is a different object."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.replies: dict[str, Any] = {}
        for name in FACTS:
            setattr(self, name, object())
        self.url = f"recorder://{id(self)}"

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in NAMES:
            raise AttributeError(name)

        def call(*arguments: Any, **options: Any) -> Any:
            self.calls.append((name, bound(name, *arguments, **options)))
            return self.replies[name]

        return call


def bound(name: str, *arguments: Any, **options: Any) -> dict[str, Any]:
    """Return the arguments of a call by name, with defaults."""
    call = inspect.signature(getattr(Backend, name)).bind(None, *arguments, **options)
    call.apply_defaults()
    return {argument: value for argument, value in call.arguments.items() if argument != "self"}


def wrapped(kind: type[Wrapper], inner: Any) -> Wrapper:
    return BackgroundBackend(inner, 2**20) if kind is BackgroundBackend else kind(inner)


def plain(reply: Any) -> Any:
    if isinstance(reply, Future):
        return reply.result(60)
    return list(reply) if isinstance(reply, Iterator) and not isinstance(reply, BytesIO) else reply


def test_each_public_name_is_tested_here() -> None:
    assert FACTS | set(VARIANTS) | set(CALLS) == NAMES


@pytest.mark.parametrize("name", sorted(CALLS))
@pytest.mark.parametrize("kind", ANSWERED, ids=lambda kind: kind.__name__)
def test_each_verb_reaches_the_inner_backend_with_its_arguments(kind: type[Wrapper], name: str) -> None:
    recorder, call = Recorder(), CALLS[name]()
    inner, arguments = INNER.get((kind, name), (name, call.arguments))
    recorder.replies[name] = recorder.replies[inner] = call.reply
    if inner != name:
        recorder.replies[inner] = call.reply.result() if isinstance(call.reply, Future) else call.reply
    backend = wrapped(kind, recorder)
    reply = plain(getattr(backend, name)(*call.arguments, **call.options))
    if isinstance(backend, BackgroundBackend):
        backend.settle(60)
    if name in ANSWERED[kind]:
        assert recorder.calls == []
    else:
        assert recorder.calls == [(inner, bound(inner, *arguments, **call.options))]
        assert (kind, name) in REPLACED or reply == plain(call.reply)


@pytest.mark.parametrize("kind", ANSWERED, ids=lambda kind: kind.__name__)
def test_each_fact_is_that_of_the_inner_backend(kind: type[Wrapper]) -> None:
    recorder = Recorder()
    backend = wrapped(kind, recorder)
    for name in FACTS - ANSWERED[kind]:
        assert getattr(backend, name) is getattr(recorder, name), name


def test_a_backend_with_a_queue_queues() -> None:
    assert wrapped(BackgroundBackend, Recorder()).queues is True


@pytest.mark.parametrize("name", sorted(VARIANTS))
@pytest.mark.parametrize("kind", ANSWERED, ids=lambda kind: kind.__name__)
def test_a_variant_is_the_same_wrapper_around_the_variant_of_the_inner_backend(kind: type[Wrapper], name: str) -> None:
    recorder: Any = Recorder()
    variant: Any = Recorder()
    recorder.replies[name] = variant
    backend = wrapped(kind, recorder)
    found = getattr(backend, name)(*VARIANTS[name])
    assert recorder.calls == [(name, bound(name, *VARIANTS[name]))]
    assert type(found) is kind
    assert found is not backend
    assert found.inner is variant
    assert backend.inner is recorder
    assert found.full("k") == ("a/b/k" if name == "below" else "k")
    assert backend.full("k") == "k"


@pytest.mark.parametrize("name", sorted(VARIANTS.keys() - {"below"}))
def test_where_the_inner_backend_has_no_such_variant_the_wrapper_has_none(name: str) -> None:
    recorder = Recorder()
    recorder.replies[name] = recorder
    backend = Wrapper(recorder)  # type: ignore[arg-type]
    assert getattr(backend, name)(*VARIANTS[name]) is backend


def test_a_key_is_relative_to_the_root_of_the_first_backend_in_any_variant(tmp_path: Path) -> None:
    for names in itertools.permutations(VARIANTS):
        backend: Any = Wrapper(open_store(tmp_path).backend)
        for name in (*names, "below"):
            backend = getattr(backend, name)(*VARIANTS[name])
        assert backend.full("k") == "a/b/a/b/k"
        assert backend.full("") == "a/b/a/b"
        assert backend.url == backend.inner.url == f"{tmp_path}/a/b/a/b"


def test_variants_share_records_queue_and_plan(tmp_path: Path) -> None:
    faults = FaultyBackend(open_store(tmp_path))
    hashing = HashingBackend(faults)
    queue = BackgroundBackend(hashing, 2**20)
    Store(queue.durably().below("a").sparing(2**20).below("b").strictly()).write("k", b"1")
    queue.settle()
    assert set(hashing.records.receipts()) == {"a/b/k"}
    assert [operation.verb for operation in faults.operations] == ["put"]
    assert (tmp_path / "a/b/k").read_bytes() == b"1"
    faults.fail(1)
    Store(queue.below("a")).write("l", b"2")
    queue.settle()
    lost = queue.lost()
    assert lost is not None
    assert "1 write was lost" in str(lost)
    assert "a/l" in str(lost)


# -- a custom backend -----------------------------------------------------------------------------------------


class Files(Backend):
    """Files in a dictionary, by URL."""

    def __init__(self) -> None:
        super().__init__("files://test")
        self.files: dict[str, Blob] = {}

    def enter(self, folder: str) -> None: ...

    def put(self, key: str, data: bytes, match: str | None) -> str:
        before = self.files.get(self.shown(key), NOTHING)
        if match is not None and match != before.version:
            raise FileExistsError(key) if match == ABSENT else self.conflict(key, "another writer changed it")
        self.files[self.shown(key)] = Blob(data, len(data), uuid.uuid4().hex)
        return self.files[self.shown(key)].version

    def begin_upload(self, key: str, match: str | None) -> Any:
        parts: list[bytes] = []
        return SimpleNamespace(write=parts.append, commit=lambda: self.put(key, b"".join(parts), match), abort=bool)

    def append(self, key: str, data: bytes, tail: Tail) -> Tail:
        before = self.files.get(self.shown(key), NOTHING)
        if before.size != tail.size:
            raise self.conflict(key, f"it has {before.size} bytes, not {tail.size}")
        return Tail(tail.size + len(data), self.put(key, before.data + data, before.version))

    def get(self, key: str, start: int, end: int | None, version: str | None = None, limit: int | None = None) -> Blob:
        if version not in (None, self.stat(key).version):
            raise self.conflict(key, "it changed while it was read")
        return replace(self.files[self.shown(key)], data=self.files[self.shown(key)].data[start:end])

    def stat(self, key: str) -> Entry:
        if self.shown(key) not in self.files:
            raise FileNotFoundError(key)
        return Entry(key, self.files[self.shown(key)].size, NOW, self.files[self.shown(key)].version)

    def list(self, folder: str, beginning: str = "") -> Iterator[Entry]:
        found = [url for url in self.files.copy() if url.startswith(f"{self.shown(folder)}/{beginning}")]
        yield from (self.stat(url[len(self.url) + 1 :]) for url in found)

    def delete(self, names: dict[str, str | None]) -> dict[str, Exception]:
        for url, version in {self.shown(name): version for name, version in names.items()}.items():
            self.files.pop(url if version in (None, self.files.get(url, NOTHING).version) else "", None)
        return {}

    def path(self, key: str, store: Store) -> UPath:
        return UPath(f"memory://{key}")

    def filesystem(self) -> AbstractFileSystem:
        return filesystem("memory")


def test_a_whole_backend_takes_40_lines() -> None:
    lines = [line for line in inspect.getsource(Files).splitlines() if line]
    assert len(lines) <= 40


@pytest.mark.parametrize("background", [False, True], ids=["", "background"])
def test_a_run_on_a_backend_of_40_lines(background: bool) -> None:
    files = Files()
    with pytest.raises(ZeroDivisionError), Logbook("run", files, params={"dt": 0.1}, background=background) as log:
        log.text("notes", "converged")
        log.json("settings", {"steps": [1, 2]})
        log.bytes("large", b"x" * (PART + 1))
        log.info("the first line")
        raise ZeroDivisionError("h = 0")
    with pytest.raises(RunExistsError):
        Logbook("run", files)
    with Logbook("run", files, resume=True, background=background) as log:
        log.info("the second line")
        log.text("notes", "converged again")
        log.text("more", "x")
    assert json.loads(files.files["files://test/log_run/metadata.json"].data)["status"] == "complete"
    assert files.files["files://test/log_run/artifacts/notes.txt"].data == b"converged again"
    assert json.loads(files.files["files://test/log_run/artifacts/settings.json"].data) == {"steps": [1, 2]}
    assert files.files["files://test/log_run/artifacts/large"].data == b"x" * (PART + 1)
    lines = files.files["files://test/log_run/log.txt"].data.decode().splitlines()
    own = [line.partition("] ")[2] for line in lines if "line" in line]
    assert own == ["INFO the first line", "INFO the second line"]
    reader = LogReader(files.below("log_run"))
    assert reader.state.status == "complete"
    assert reader.load_text("notes") == "converged again"
    assert reader.load_json("settings") == {"steps": [1, 2]}
    assert {"large", "more.txt", "notes.txt", "settings.json"} < set(reader.artifacts)
    report = reader.verify()
    assert report.ok, report


def test_the_verbs_of_a_store_on_a_backend_of_40_lines() -> None:
    store = Store(Files()).below("a")
    version = store.create("k", b"1")
    with pytest.raises(ExistsError):
        store.create("k", b"2")
    assert store.replace("k", b"2", version) != version
    with pytest.raises(ConflictError):
        store.replace("k", b"3", version)
    assert store.append("k", b"34") == 3
    store.write_many({"deep/l": b"l", "m": b"m"})
    assert store.read_many(["k", "m"]) == {"k": b"234", "m": b"m"}
    assert [entry.key for entry in store.list()] == ["deep/l", "k", "m"]
    assert [entry.key for entry in store.list("deep")] == ["deep/l"]
    assert (store.folder_names(), store.folder_names("deep"), store.folder_names(beginning="x")) == (["deep"], [], [])
    assert (store.has_folder("deep"), store.exists("deep"), store.exists("missing")) == (True, False, False)
    store.delete(["m", "missing"])
    store.clear(keep=["k"])
    assert store.read("k") == b"234"
    assert list(store.backend.list("")) == [store.stat("k")]


def test_a_subclass_keeps_the_facts_of_its_class() -> None:
    class Mine(BackgroundBackend):
        pass

    assert Mine(open_store("memory://mine").backend, 2**20).queues
