"""Other fsspec protocols: files are whole or absent, and a warning says that they do not support safe claims."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import sys
import threading
import uuid
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import _registry

from notata import (
    ConfigurationError,
    ConflictError,
    DeadlineError,
    KeyNameError,
    Logbook,
    MissingError,
    RunExistsError,
    StorageError,
    UnprotectedWarning,
    UnreachableError,
    sync,
)
from notata.search import diagnose
from notata.store import Backend, Store, open_store
from notata.store.files import PART
from notata.store.wrapper import Wrapper
from notata.testing import FaultyBackend

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*exclusive writes are not supported:notata.UnprotectedWarning"),
    pytest.mark.filterwarnings("ignore:UPath:UserWarning"),
]


class Plain(LocalFileSystem):  # type: ignore[misc]
    """A minimal protocol, as a user of fsspec might add one: files, and its own move."""

    protocol = "plain"

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        return str(super()._strip_protocol(str(path).removeprefix("plain://")))


class Copying(Plain):
    """The same without its own move."""

    protocol = "copying"
    mv = fsspec.AbstractFileSystem.mv

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        return str(super()._strip_protocol(str(path).removeprefix("copying://")))


@pytest.fixture(params=["plain", "copying", "dir"])
def url(request: pytest.FixtureRequest, folder: Path) -> str:
    fsspec.register_implementation("plain", Plain, clobber=True)
    fsspec.register_implementation("copying", Copying, clobber=True)
    return f"dir://runs::file://{folder.parent}" if request.param == "dir" else f"{request.param}://{folder}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder on the disk that holds the files of `url`."""
    return tmp_path / "runs"


@pytest.fixture
def store(url: str) -> Store:
    return open_store(url)


def test_a_run(url: str, folder: Path) -> None:
    with pytest.warns(UnprotectedWarning, match="two writers"):
        log = Logbook("a", url, params={"x": 1})
    with log:
        log.text("notes", "é")
        log.json("debug/m", {"a": 1})
        log.bytes("big", b"x" * (PART + 1))
        with log.local("data/mesh.vtk") as path:
            path.write_text("# vtk")
    run = folder / "log_a"
    assert sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()) == [
        "artifacts/big",
        "artifacts/debug/m.json",
        "artifacts/notes.txt",
        "data/mesh.vtk",
        "log.txt",
        "manifest.json",
        "metadata.json",
        "params.yaml",
    ]
    assert (run / "artifacts/notes.txt").read_bytes() == "é".encode()
    assert (run / "artifacts/big").stat().st_size == PART + 1
    assert json.loads((run / "metadata.json").read_text())["status"] == "complete"
    with pytest.raises(RunExistsError):
        Logbook("a", url)
    Logbook("a", url, overwrite=True)
    assert [path.name for path in run.rglob("*") if path.is_file()] == ["log.txt", "metadata.json"]


def test_inputs_are_recorded_and_warn_of_nothing(url: str, folder: Path) -> None:
    log = Logbook("a", url)
    (folder / "mesh.h5").write_bytes(b"mesh")
    (folder / "two.h5").write_bytes(b"two")
    path = f"{url}/mesh.h5" if "::" not in url else folder / "mesh.h5"
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnprotectedWarning)
        assert log.input(path).read_bytes() == b"mesh"
        log.input(folder / "two.h5")
    log.mark_complete()
    entries = json.loads((folder / "log_a" / "inputs.json").read_text())["inputs"]
    assert [entry["size"] for entry in entries] == [4, 3]
    assert [one.size for one in log.reader.inputs] == [4, 3]


def test_the_verbs(store: Store, folder: Path) -> None:
    store.write("f/x[1]", b"0123")
    assert (folder / "f/x[1]").read_bytes() == b"0123"
    assert store.read("f/x[1]", 1, 3) == b"12"
    store.append("f/x[1]", b"45", 4)
    store.append("f/x[1]", b"45", 4)
    assert (folder / "f/x[1]").read_bytes() == b"012345"
    with store.open("f/x[1]", "ab") as file:
        file.write(b"6")
    assert store.open("f/x[1]", "rb").read() == b"0123456"
    store.write("f/x1", b"")
    assert [(entry.key, entry.size) for entry in store.list()] == [("f/x1", 0), ("f/x[1]", 7)]
    assert [entry.key for entry in store.list("f")] == ["f/x1", "f/x[1]"]
    (folder / "f/deep/d").mkdir(parents=True)
    assert (store.folder_names(), store.folder_names("f"), store.folder_names("f", "x")) == (["f"], ["deep"], [])
    assert store.folder_names("f/x1") == store.folder_names("gone") == []
    store.delete(["f/x[1]", "gone"])
    assert [entry.key for entry in store.list()] == ["f/x1"]
    assert not store.exists("f")
    assert not store.exists("gone")


def test_create_and_replace_look_before_they_write(store: Store) -> None:
    version = store.create("a", b"1")
    with pytest.raises(FileExistsError):
        store.create("a", b"2")
    version = store.replace("a", b"22", version)
    store.write("a", b"333")
    with pytest.raises(ConflictError):
        store.replace("a", b"4", version)
    assert store.read("a") == b"333"


@pytest.mark.parametrize("size", [3, 2 * PART])
def test_an_exception_publishes_nothing(store: Store, folder: Path, size: int) -> None:
    store.write("a", b"old")
    with pytest.raises(KeyboardInterrupt), store.open("a", "wb") as file:
        file.write(b"x" * size)
        raise KeyboardInterrupt
    assert (folder / "a").read_bytes() == b"old"
    assert [path.name for path in folder.iterdir()] == ["a"]


def test_paths(store: Store, folder: Path) -> None:
    assert isinstance(store.filesystem(), AbstractFileSystem)
    path = store.path("sub/a.txt")
    path.write_text("é")
    assert (folder / "sub/a.txt").read_bytes() == "é".encode()
    assert path.read_text() == "é"
    path.unlink()
    assert not (folder / "sub/a.txt").exists()


def test_two_stores_of_one_file_system_point_where_they_did(url: str, folder: Path) -> None:
    """fsspec returns the same object for both."""
    first = open_store(url)
    first.write("a.txt", b"1")
    links = url.partition("::")
    second = open_store("::".join(part for part in (f"{links[0]}/sub", links[2]) if part))
    second.write("b.txt", b"2")
    first.write("c.txt", b"3")
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.txt")) == ["a.txt", "c.txt", "sub/b.txt"]
    assert (first.read("a.txt"), first.read("sub/b.txt"), second.read("b.txt")) == (b"1", b"2", b"2")


def test_threads(store: Store, folder: Path) -> None:
    threads = [threading.Thread(target=store.write, args=(f"t/{number}", b"x")) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list((folder / "t").iterdir())) == 20


@pytest.mark.filterwarnings("error:.*exclusive writes are not supported:notata.UnprotectedWarning")
def test_runs_are_copied_there_and_back(url: str, tmp_path: Path) -> None:
    with Logbook("a", tmp_path / "here", params={"omega": 2.0}) as log:
        log.text("notes", "converged")
        log.bytes("empty", b"")
        log.bytes("large", bytes(PART + 1))
    there = open_store(url).below("copies")
    report = sync(tmp_path / "here", there)
    back = sync(there, tmp_path / "back")
    assert (report.runs, report.bytes) == (back.runs, back.bytes) == (1, report.bytes)
    for path in (tmp_path / "here").rglob("*.*"):
        assert (tmp_path / "back" / path.relative_to(tmp_path / "here")).read_bytes() == path.read_bytes()
    again = sync(tmp_path / "here", there)  # such a storage has no digests, so the files are sent again
    assert again.copied.keys() == report.copied.keys() - {
        f"log_a/{key}" for key in ("artifacts/empty", "log.txt", "metadata.json")
    }


@pytest.mark.parametrize("front", [Wrapper, FaultyBackend])
def test_a_wrapper_says_what_readers_may_see(front: Callable[[Backend], Backend], url: str, store: Store) -> None:
    assert front(store.backend).gap == store.gap
    assert bool(store.gap) == url.startswith("copying:")


# -- quirks of single protocols ----------------------------------------------------------------------------


class Rooted:
    """Paths start with a slash, after any protocol and host."""

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return "/" + str(path).partition("://")[2].lstrip("/") if "://" in str(path) else str(path)


class Server(Rooted, AbstractFileSystem):  # type: ignore[misc]
    """A client that is not thread-safe, over a local folder; each call passes through `met`."""

    protocol = "double"
    cachable = True
    met: ClassVar[Callable[[str], object]] = bool
    made: ClassVar[list[Any]] = []

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.local = LocalFileSystem()
        type(self).made.append(self)

    def info(self, path: str, **_: Any) -> Any:
        type(self).met("info")
        return self.local.info(path)

    def ls(self, path: str, detail: bool = True, **_: Any) -> Any:
        type(self).met("ls")
        return self.local.ls(path, detail=detail)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        type(self).met("makedirs")
        self.local.makedirs(path, exist_ok=exist_ok)

    def rm_file(self, path: str) -> None:
        type(self).met("rm_file")
        self.local.rm_file(path)

    def mv(self, path1: str, path2: str, **_: Any) -> None:
        type(self).met("mv")
        os.replace(path1, path2)

    def cp_file(self, path1: str, path2: str, **_: Any) -> None:
        raise AssertionError("content is copied over the target, which readers see half written")

    def _open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        type(self).met("open")
        return open(path, mode)


@pytest.fixture
def double(tmp_path: Path) -> Iterator[Callable[..., Store]]:
    """Create a store over a client class."""
    named: list[type[AbstractFileSystem]] = []

    def make(kind: type[AbstractFileSystem], **options: Any) -> Store:
        kind.protocol = f"double{uuid.uuid4().hex}"
        named.append(kind)
        fsspec.register_implementation(kind.protocol, kind, clobber=True)
        return open_store(f"{kind.protocol}://{tmp_path}/runs", **options)

    yield make
    for kind in named:
        kind.clear_instance_cache()


def test_threads_call_a_client_that_is_not_thread_safe_one_at_a_time(
    double: Callable[..., Store], tmp_path: Path
) -> None:
    """Simultaneous calls meet at a barrier; a call that is alone continues after a moment."""
    together = threading.Barrier(2)
    overlaps = []

    def met(name: str) -> None:
        try:
            together.wait(0.1)
            overlaps.append(name)
        except threading.BrokenBarrierError:
            pass

    class Fragile(Server):
        """`sftp://` with paramiko: two simultaneous calls hang."""

        made: ClassVar[list[Any]] = []

    Fragile.met = staticmethod(met)
    store = double(Fragile)
    other = open_store(store.url)  # fsspec returns the same client for both
    threads = [
        threading.Thread(target=one.write, args=(f"{number}", b"x")) for number, one in enumerate([store, other])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not overlaps
    assert sorted(os.listdir(tmp_path / "runs")) == ["0", "1"]
    assert len(Fragile.made) == 1


def test_a_call_that_never_returns_is_a_deadline_error_and_the_next_one_connects_anew(
    double: Callable[..., Store], tmp_path: Path
) -> None:
    silent = threading.Event()
    answers = threading.Event()
    answers.set()

    class Stalled(Server):
        made: ClassVar[list[Any]] = []

    def met(name: str) -> None:
        if not answers.is_set():
            silent.wait()

    Stalled.met = staticmethod(met)
    store = double(Stalled)
    hasty = open_store(store.url, timeout=0.3)  # it shares the connection; the other calls may take longer
    store.write("a", b"1")
    answers.clear()
    with pytest.raises(DeadlineError):
        hasty.read("a")
    answers.set()
    assert store.read("a") == b"1"
    store.write("a", b"2")
    assert (tmp_path / "runs/a").read_bytes() == b"2"
    assert len(Stalled.made) == 2
    silent.set()


class SMBAuthenticationError(Exception):
    """smbprotocol's error: after its session is lost, smbclient logs in again without user and password."""


def dropping(lost: list[str], error: Exception) -> type[Server]:
    """A server whose connection breaks once at each of the named calls."""

    class Dropped(Server):
        made: ClassVar[list[Any]] = []

    def met(name: str) -> None:
        if name in lost:
            lost.remove(name)
            raise error

    Dropped.met = staticmethod(met)
    return Dropped


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(errno.ECONNRESET, "the session is gone"),
        OSError(errno.EBADF, "Bad file descriptor"),
        SMBAuthenticationError(),
    ],
)
def test_a_lost_connection_is_made_anew_for_what_may_be_repeated(
    double: Callable[..., Store], tmp_path: Path, error: Exception
) -> None:
    lost: list[str] = []
    server = dropping(lost, error)
    store = double(server)
    store.write("sub/a", b"1")
    steps: list[tuple[str, Callable[[], object]]] = [
        ("info", lambda: store.read("sub/a")),
        ("open", lambda: store.read("sub/a")),
        ("open", lambda: store.write("sub/a", b"2")),
        ("mv", lambda: store.write("sub/a", b"3")),
        ("ls", lambda: store.list()),
        ("ls", lambda: store.folder_names()),
        ("info", lambda: store.create("b", b"4")),
        ("rm_file", lambda: store.delete(["b"])),
    ]
    for call, step in steps:
        lost.append(call)
        step()
        assert not lost
    assert len(server.made) == 9
    assert [path.name for path in (tmp_path / "runs").rglob("*")] == ["sub", "a"]
    assert (tmp_path / "runs/sub/a").read_bytes() == b"3"


@pytest.mark.parametrize("error", [EOFError(), OSError(errno.EBADF, "closed"), SMBAuthenticationError()])
def test_a_create_whose_last_step_was_lost_is_not_repeated(double: Callable[..., Store], error: Exception) -> None:
    store = double(dropping(["mv"], error))
    with pytest.raises(UnreachableError, match="connection"):
        store.create("a", b"1")
    store.create("b", b"2")
    assert store.read("b") == b"2"


def test_a_rename_that_refuses_an_existing_file_puts_that_one_aside(
    double: Callable[..., Store], tmp_path: Path
) -> None:
    """As with Arrow's wrapper on HDFS."""

    class Refusing(Server):
        def mv(self, path1: str, path2: str, **_: Any) -> None:
            if os.path.exists(path2):
                raise OSError(errno.EIO, "rename failed")
            os.rename(path1, path2)

    store = double(Refusing)
    for content in (b"1", b"22", b"333"):
        store.write("a", content)
        assert (tmp_path / "runs/a").read_bytes() == content
    assert os.listdir(tmp_path / "runs") == ["a"]


def test_a_rename_that_fails_leaves_the_old_content(double: Callable[..., Store], tmp_path: Path) -> None:
    class Failing(Server):
        broken: ClassVar[bool] = False

        def mv(self, path1: str, path2: str, **_: Any) -> None:
            if os.path.exists(path2) or (self.broken and Path(path1).read_bytes() == b"new"):
                raise OSError(errno.EIO, "rename failed")
            os.rename(path1, path2)

    store = double(Failing)
    store.write("a", b"old")
    Failing.broken = True
    with pytest.raises(OSError, match="cannot write"):
        store.write("a", b"new")
    assert (tmp_path / "runs/a").read_bytes() == b"old"
    assert os.listdir(tmp_path / "runs") == ["a"]


class Loop(Rooted, AsyncFileSystem):  # type: ignore[misc]
    """An async client over a local folder, like sshfs: it has a rename and no `mv` of its own."""

    cachable = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.local = LocalFileSystem()

    async def _info(self, path: str, **_: Any) -> Any:
        return self.local.info(path)

    async def _ls(self, path: str, detail: bool = True, **_: Any) -> Any:
        return self.local.ls(path, detail=detail)

    async def _makedirs(self, path: str, exist_ok: bool = False) -> None:
        self.local.makedirs(path, exist_ok=exist_ok)

    async def _rm_file(self, path: str, **_: Any) -> None:
        self.local.rm_file(path)

    async def _mv(self, path1: str, path2: str) -> None:
        await asyncio.sleep(0)
        os.replace(path1, path2)

    async def _cp_file(self, path1: str, path2: str, **_: Any) -> None:
        raise AssertionError("content is copied over the target, which readers see half written")

    async def _cat_file(self, path: str, **_: Any) -> bytes:
        """Return the range, but read the whole file, as sshfs does."""
        if len(_) > 0:
            raise AssertionError("a range is asked for, and the whole file comes")
        return Path(path).read_bytes()

    def _open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        return open(path, mode)


def test_a_rename_that_is_a_coroutine_is_used(double: Callable[..., Store], tmp_path: Path) -> None:
    store = double(Loop)
    store.write("sub/a", b"first")
    store.write("sub/a", b"0123456789")
    assert (tmp_path / "runs/sub/a").read_bytes() == b"0123456789"
    assert store.read("sub/a") == b"0123456789"
    assert (store.read("sub/a", 0, 3), store.read("sub/a", 4)) == (b"012", b"456789")
    assert [entry.key for entry in store.list()] == ["sub/a"]
    store.delete(["sub/a"])
    assert store.list() == []


def test_a_find_that_gives_a_list(double: Callable[..., Store]) -> None:
    """adlfs returns a list if a file has the same name as the folder."""

    class Named(Server):
        def find(self, path: str, **_: Any) -> Any:
            return super().find(path)

    store = double(Named)
    store.write("sub/a", b"1")
    store.write("b", b"22")
    assert [(entry.key, entry.size) for entry in store.list()] == [("b", 2), ("sub/a", 1)]


def test_a_range_that_may_not_begin_at_0(double: Callable[..., Store]) -> None:
    """For ranges from 0, Arrow's wrapper opens a stream that cannot seek; for others, a file that can."""

    class Unseekable(Server):
        def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
            if start == 0:
                raise OSError("only valid on seekable files")
            return bytes(super().cat_file(path, start, end))

    store = double(Unseekable)
    store.write("a", b"0123456789")
    assert (store.read("a", 0, 3), store.read("a", 2, 5), store.read("a", 5)) == (b"012", b"234", b"56789")
    with store.open("a", "rb") as file:
        assert file.read() == b"0123456789"


def test_the_file_system_behind_takes_arguments_of_any_name(double: Callable[..., Store], tmp_path: Path) -> None:
    """In a user's `head(name, size=10)`, `size` is fsspec's own, not the size that sets the time limit of a call."""

    class Sized(Server):
        def _open(self, path: str, mode: str = "rb", size: int | None = None, many: int = 1, **_: Any) -> Any:
            opened.append((size, many))
            return super()._open(path, mode)

    opened: list[tuple[int | None, int]] = []
    store = double(Sized)
    store.write("a", b"0123456789")
    fs, name = store.filesystem(), f"{tmp_path}/runs/a"
    assert fs.head(name, size=4) == b"0123"
    with fs.open(name, "rb", size=10, many=3) as file:
        assert file.read1(4) == b"0123"
    assert opened[-1] == (10, 3)


def test_an_error_of_connecting_keeps_its_cause(double: Callable[..., Store]) -> None:
    class Unreachable(Server):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            try:
                raise ValueError("the port is no number")
            except ValueError as error:
                raise OSError("cannot connect") from error

    with pytest.raises(StorageError) as caught:
        double(Unreachable).read("a")
    cause = caught.value.__cause__
    assert str(cause) == "cannot connect"
    assert cause is not None
    assert str(cause.__cause__) == "the port is no number"


def test_a_large_file_at_a_server_that_reports_no_size(double: Callable[..., Store], tmp_path: Path) -> None:
    class Unsized(Server):
        def info(self, path: str, **_: Any) -> Any:
            return {name: value for name, value in super().info(path).items() if name != "size"}

    with double(Unsized).open("a", "wb") as file:
        file.write(bytes(PART + 1))
    assert (tmp_path / "runs/a").read_bytes() == bytes(PART + 1)


def test_a_missing_file_by_its_number_alone(double: Callable[..., Store]) -> None:
    """smbprotocol's error has the errno of a missing file, but another class."""

    class NumberedError(OSError):
        def __new__(cls, *arguments: Any) -> Any:
            return super().__new__(cls, *arguments)

    class Share(Server):
        def info(self, path: str, **_: Any) -> Any:
            try:
                return super().info(path)
            except FileNotFoundError:
                error = NumberedError("no such object")
                error.errno = errno.ENOENT
                raise error from None

        def rm_file(self, path: str) -> None:
            self.info(path)
            super().rm_file(path)

    store = double(Share)
    with pytest.raises(MissingError):
        store.read("a")
    assert not store.exists("a")
    store.create("a", b"1")
    store.delete(["a", "gone"])
    assert store.list() == []


def test_the_address_of_a_run_opens_it(tmp_path: Path) -> None:
    """In a chained URL, a key is appended to the link that names the folder."""
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("in/log_a/x.txt", "1")
    chains = {"dir": f"dir://runs::file://{tmp_path}", "zip": f"zip://in::file://{tmp_path}/z.zip"}
    (tmp_path / "runs/log_a").mkdir(parents=True)
    (tmp_path / "runs/log_a/x.txt").write_text("1")
    for url in chains.values():
        below = open_store(url).below("log_a")
        again = open_store(below.url)
        assert [entry.key for entry in below.list()] == [entry.key for entry in again.list()] == ["x.txt"]
        assert again.read("x.txt") == b"1"
    with Logbook("b", chains["dir"]) as log:
        log.text("notes", "é")
    assert open_store(log.url).read("artifacts/notes.txt") == "é".encode()


@pytest.mark.parametrize(
    "url",
    [
        "sftp://host/x", "ssh://host/x", "ftp://host/x", "webdav://host/x", "smb://host/share/x", "hdfs://host/x",
        "hf://datasets/x", "file:///tmp/x", "memory://x", "abfs://c/x", "http://host/x", "zip://a::s3://bucket/z.zip",
        "dir::sftp://host/x", "SFTP://host/x", "memory://",
    ],
)  # fmt: skip
def test_a_url_that_pathlib_flattened_is_no_local_folder(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for flattened in (Path(url), str(Path(url)), os.path.normpath(url), Path(url).absolute(), os.path.abspath(url)):
        with pytest.raises(ConfigurationError, match="removed a slash"):
            Logbook("a", flattened)
    assert os.listdir(tmp_path) == []


def test_a_local_folder_may_be_named_like_a_drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkdir("s3:")  # an existing folder takes precedence
    for folder in ("c:/runs", Path("c:/more"), "no-protocol:/runs", tmp_path / "s3:" / "runs"):
        open_store(folder).write("a", b"1")
        assert Path(folder, "a").read_bytes() == b"1"


# -- what the doctor says ----------------------------------------------------------------------------------


def test_the_doctor_names_what_holds_and_why_something_does_not(double: Callable[..., Store], tmp_path: Path) -> None:
    class Refusing(Server):
        def mv(self, path1: str, path2: str, **_: Any) -> None:
            if os.path.exists(path2):
                raise OSError(errno.EIO, "rename failed")
            os.rename(path1, path2)

    class WebdavFileSystem(Server):
        """The class name matters: the server decides."""

        @property
        def client(self) -> Any:
            return SimpleNamespace(move=lambda source, target, overwrite: os.replace(source, target))

    class Renaming(Server):
        pass

    class Without(Server):
        mv = AbstractFileSystem.mv

        def cp_file(self, path1: str, path2: str, **_: Any) -> None:
            Path(path2).write_bytes(Path(path1).read_bytes())

    for kind, state, words in [
        (Renaming, "yes", "replaced atomically"),
        (Refusing, "poor", "cannot rename over a file"),
        (WebdavFileSystem, "poor", "the server decides"),
        (Without, "poor", "copied over the old one"),
    ]:
        found = {check.name: check for check in diagnose(double(kind))}
        assert (found["overwrite"].state, words in found["overwrite"].told) == (state, True)
        assert {found[name].state for name in ("write", "read", "append", "delete", "list")} == {"yes"}
        assert (found["claim"].state, "checks for the file before it writes" in found["claim"].told) == ("poor", True)
        assert (found["swap"].state, "reads before it writes" in found["swap"].told) == ("poor", True)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("protocol", "name"), [("webdav", "a%20b"), ("webdav", "a#b"), ("smb", "a:b"), ("smb", "sub/x*"), ("abfs", "x?")]
)
def test_a_name_that_the_client_would_take_for_another_one_is_refused(
    protocol: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """webdav4 writes ``a%20b`` to ``a b``, adlfs ``x?`` to ``x``."""
    monkeypatch.setitem(_registry, protocol, Server)
    store = open_store(f"{protocol}://host/share/runs")
    for refused in (store.read, store.stat, lambda key: store.write(key, b"1"), lambda key: store.create(key, b"1")):
        with pytest.raises(KeyNameError, match="another file"):
            refused(name)


@pytest.mark.parametrize(
    ("url", "client"), [("s3://b/runs", "s3fs"), ("s3a://b/runs", "s3fs"), ("gs://b/runs", "gcsfs")]
)
def test_an_environment_without_the_client_of_a_bucket_names_it(
    url: str, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, client, None)
    with pytest.raises(ConfigurationError, match=f"the package {client} is not installed; run pip install {client}"):
        open_store(url)


def test_a_missing_client_names_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(_registry, "smb", raising=False)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.smb", raising=False)
    monkeypatch.setitem(sys.modules, "smbclient", None)
    with pytest.raises(ConfigurationError, match=r"notata\[smb\]"):
        open_store("smb://host/share/runs")


# -- a web server without ranges ---------------------------------------------------------------------------


def test_a_large_file_of_a_server_without_ranges_is_fetched_once() -> None:
    data = bytes(range(256)) * (3 * PART // 256)
    asked: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()

        def do_GET(self) -> None:
            asked.append(self.headers.get("Range"))
            self.do_HEAD()
            with suppress(ConnectionError):
                self.wfile.write(data)

        def log_message(self, *arguments: Any) -> None:
            """Do nothing, so the server prints nothing into the test output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        store = open_store(f"http://127.0.0.1:{server.server_port}/data")
        with store.open("big.bin", "rb") as file:
            assert file.read() == data
            file.seek(-5, os.SEEK_END)
            assert file.read() == data[-5:]
            file.seek(PART + 3)
            assert file.read(4) == data[PART + 3 : PART + 7]
        assert asked == ["bytes=0-0", None]
        assert store.read("big.bin", PART, PART + 5) == data[PART : PART + 5]
        assert store.read("big.bin", 0, 3) == data[:3]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_large_file_with_an_illegal_name_is_read_by_ranges(tmp_path: Path) -> None:
    (tmp_path / "tab\tx").write_bytes(bytes(9 * 2**20))
    store = Store(FaultyBackend(open_store(tmp_path)))
    assert len(store.stream("tab\tx").read()) == 9 * 2**20
