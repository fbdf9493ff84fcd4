"""Any other fsspec protocol, as well as it can: whole files or none, and a warning that nothing is claimed."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from notata import ConflictError, Logbook, RunExistsError, UnprotectedWarning, sync
from notata.store import Store, open_store
from notata.store.files import PART

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*cannot make a file exclusively:notata.UnprotectedWarning"),
    pytest.mark.filterwarnings("ignore:UPath:UserWarning"),
]


class Plain(LocalFileSystem):  # type: ignore[misc]
    """A protocol that fsspec's users might add: files, and a move of its own."""

    protocol = "plain"

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        return str(LocalFileSystem._strip_protocol(str(path).removeprefix("plain://")))


class Copying(Plain):
    """The same without a move."""

    protocol = "copying"
    mv = fsspec.AbstractFileSystem.mv

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        return str(LocalFileSystem._strip_protocol(str(path).removeprefix("copying://")))


@pytest.fixture(params=["plain", "copying", "dir"])
def url(request: pytest.FixtureRequest, folder: Path) -> str:
    fsspec.register_implementation("plain", Plain, clobber=True)
    fsspec.register_implementation("copying", Copying, clobber=True)
    return f"dir://runs::file://{folder.parent}" if request.param == "dir" else f"{request.param}://{folder}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the files of `url` lie on the disk."""
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
    path = store.path("sub/a.txt")
    path.write_text("é")
    assert (folder / "sub/a.txt").read_bytes() == "é".encode()
    assert path.read_text() == "é"
    path.unlink()
    assert not (folder / "sub/a.txt").exists()


def test_two_stores_of_one_file_system_point_where_they_did(url: str, folder: Path) -> None:
    """fsspec has one object for both."""
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


@pytest.mark.filterwarnings("error:.*cannot make a file exclusively:notata.UnprotectedWarning")
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
    again = sync(tmp_path / "here", there)  # such a storage tells nothing of a content: it is sent again
    assert again.copied.keys() == report.copied.keys() - {
        f"log_a/{key}" for key in ("artifacts/empty", "log.txt", "metadata.json")
    }
