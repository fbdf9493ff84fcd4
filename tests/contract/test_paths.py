"""Path objects on every backend: their own reads and writes keep the contract."""

from __future__ import annotations

import os
import pathlib
from typing import Any

import numpy as np
import pytest
from upath import UPath

from notata import errors
from notata.store import Store
from tests.backends import Place


def test_it_is_a_upath_and_on_a_disk_a_path(store: Store, place: Place) -> None:
    path = store.path("a/b.txt")
    assert isinstance(path, UPath)
    assert isinstance(path, pathlib.Path) == (place.name == "local")
    given: Any = path
    if place.name == "local":
        assert os.fspath(given) == f"{place.url}/a/b.txt"
        assert isinstance(path / "x", type(path))
    else:
        with pytest.raises(TypeError):
            os.fspath(given)


def test_on_a_disk_its_parents_exist(store: Store, place: Place) -> None:
    path = store.path("new/folder/a.npy")
    if place.name == "local":
        np.save(path, np.arange(3))
        assert np.load(f"{place.url}/new/folder/a.npy").tolist() == [0, 1, 2]
    else:
        assert place.names() == []


def test_reads_and_writes(store: Store, place: Place) -> None:
    path = store.path("a/é.txt")
    assert path.write_text("grüße\n") == 6
    assert place.bytes("a/é.txt") == "grüße\n".encode()
    assert path.read_text() == "grüße\n"
    assert path.write_bytes(b"\x00\xff") == 2
    assert path.read_bytes() == place.bytes("a/é.txt") == b"\x00\xff"
    assert path.write_text("x", encoding="utf-16") == 1
    assert path.read_text(encoding="utf-16") == "x"
    with path.open("w") as file:
        file.write("1,2\n")
    with path.open() as file:
        assert list(file) == ["1,2\n"]
    with pytest.raises(TypeError):
        path.write_text(b"bytes")  # type: ignore[arg-type]
    assert place.bytes("a/é.txt") == b"1,2\n"


def test_a_failed_write_publishes_nothing(store: Store, place: Place) -> None:
    path = store.path("a.txt")
    path.write_text("old")
    with pytest.raises(RuntimeError), path.open("w") as file:
        file.write("new")
        raise RuntimeError
    with pytest.raises(UnicodeEncodeError):
        path.write_text("new \ud800")
    with pytest.raises(RuntimeError), path.open("wb") as file:
        file.write(b"new" * 5_000_000)
        raise RuntimeError
    assert place.bytes("a.txt") == b"old"
    assert place.names() == ["a.txt"]


def test_append_and_exclusive(store: Store, place: Place) -> None:
    path = store.path("log.txt")
    for line in ("one\n", "two\n"):
        with path.open("a") as file:
            file.write(line)
    assert place.bytes("log.txt") == b"one\ntwo\n"
    with pytest.raises(FileExistsError):
        path.open("x")
    with store.path("fresh").open("x") as file:
        file.write("mine")
    assert place.bytes("fresh") == b"mine"


def test_touch(store: Store, place: Place) -> None:
    path = store.path("flag")
    path.touch()
    assert place.bytes("flag") == b""
    path.write_text("kept")
    path.touch()
    assert place.bytes("flag") == b"kept"
    with pytest.raises(FileExistsError):
        path.touch(exist_ok=False)
    assert place.bytes("flag") == b"kept"


def test_derived_paths_keep_the_contract(store: Store, place: Place) -> None:
    path = store.path("a/b.txt").parent / "c" / "d.txt"
    with pytest.raises(RuntimeError), path.open("w") as file:
        file.write("half")
        raise RuntimeError
    assert place.names() == []
    path.write_text("whole")
    assert place.bytes("a/c/d.txt") == b"whole"
    assert path.with_suffix(".md").name == "d.md"


def test_looking_around(store: Store, place: Place) -> None:
    for key in ("r/1.txt", "r/2.md", "r/s/3.txt"):
        place.put(key, key.encode())
    folder = store.path("r")
    assert folder.is_dir()
    assert not folder.is_file()
    assert (folder / "1.txt").is_file()
    assert (folder / "1.txt").stat().st_size == 7
    assert not (folder / "nope").exists()
    assert sorted(path.name for path in folder.iterdir()) == ["1.txt", "2.md", "s"]
    assert sorted(path.name for path in folder.glob("*.txt")) == ["1.txt"]
    assert sorted(path.name for path in folder.rglob("*.txt")) == ["1.txt", "3.txt"]
    assert all(isinstance(path, UPath) for path in folder.rglob("*"))
    assert [path.read_bytes() for path in folder.glob("s/*")] == [b"r/s/3.txt"]


def test_glob_in_a_folder_whose_name_is_a_pattern(store: Store, place: Place) -> None:
    for key in ("x[1]/a", "x1/b", "x*/c"):
        place.put(key, b"")
    assert [path.name for path in store.path("x[1]").glob("*")] == ["a"]
    assert [path.name for path in store.path("x*").glob("*")] == ["c"]


def test_folders(store: Store, place: Place) -> None:
    folder = store.path("made/by")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hand").write_text("")
    assert place.names() == ["made/by/hand"]
    with pytest.raises(OSError, match=r"[Nn]ot empty"):
        folder.rmdir()
    assert place.names() == ["made/by/hand"]
    (folder / "hand").unlink()
    assert place.names() == []
    with pytest.raises(FileNotFoundError):
        (folder / "hand").unlink()
    (folder / "hand").unlink(missing_ok=True)


def test_rename_takes_exactly_this_file(store: Store, place: Place) -> None:
    for key in ("x[1]", "x1"):
        place.put(key, key.encode())
    target = store.path("new/y[1]")
    store.path("x[1]").rename(target)
    assert place.names() == ["new/y[1]", "x1"]
    assert place.bytes("new/y[1]") == b"x[1]"


def test_a_rename_elsewhere_is_refused_and_onto_itself_does_nothing(store: Store, place: Place, tmp_path: Any) -> None:
    path = store.path("a")
    path.write_text("kept")
    path.rename(path)
    assert place.bytes("a") == b"kept"
    if place.name != "local":
        with pytest.raises(errors.ConfigurationError, match="is not below"):
            path.rename(UPath(tmp_path / "elsewhere"))
    assert place.bytes("a") == b"kept"


def test_relative_paths(store: Store) -> None:
    assert str(store.path("a/b/c.json").relative_to(store.path_for("a"))) == "b/c.json"
    assert store.path("a/b").is_relative_to(store.path_for())


def test_outside_the_root_it_is_a_plain_path(place: Place) -> None:
    root = place.store().below("inside").path_for()
    assert root.parent.name == place.url.rpartition("/")[2]
    (root.parent / "outside").write_text("plain")
    assert place.bytes("outside") == b"plain"


def test_update_in_place_is_refused_where_it_cannot_be(store: Store, place: Place) -> None:
    path = store.path("a")
    path.write_bytes(b"0123")
    if place.name == "local":
        with path.open("r+b") as file:
            file.write(b"9")
        assert place.bytes("a") == b"9123"
        return
    with pytest.raises(ValueError, match="local"):
        path.open("r+b")
    assert place.bytes("a") == b"0123"


def test_a_local_file(store: Store, place: Place) -> None:
    with store.local("deep/er/mesh.vtk") as path:
        assert path.name == "mesh.vtk"
        assert not path.exists()
        assert isinstance(path, pathlib.Path)
        path.write_bytes(b"# vtk")
        assert store.list() == []
    assert place.bytes("deep/er/mesh.vtk") == b"# vtk"
    assert place.names() == ["deep/er/mesh.vtk"]
    assert not path.parent.exists()


def test_a_local_file_after_an_exception_is_not_stored(store: Store, place: Place) -> None:
    store.write("a", b"old")
    with pytest.raises(KeyboardInterrupt), store.local("a") as path:
        path.write_bytes(b"new")
        raise KeyboardInterrupt
    assert place.bytes("a") == b"old"
    assert place.names() == ["a"]


@pytest.mark.parametrize("what", ["nothing", "folder"])
def test_a_local_file_that_was_not_written_is_an_error(store: Store, place: Place, what: str) -> None:
    store.write("a", b"old")
    with pytest.raises(errors.MissingError, match=what), store.local("a") as path:
        if what == "folder":
            path.mkdir()
    assert place.bytes("a") == b"old"


def test_pandas_and_numpy_write_through_a_file_object(store: Store, place: Place) -> None:
    import io

    import pandas as pd

    with store.open("a.csv", "w") as text:
        pd.DataFrame({"t": [0.0, 0.5]}).to_csv(text, index=False)
    assert place.bytes("a.csv") == b"t\n0.0\n0.5\n"
    with store.open("a.npz", "wb") as binary:
        np.savez_compressed(binary, x=np.arange(5))
    assert np.load(io.BytesIO(place.bytes("a.npz")))["x"].tolist() == [0, 1, 2, 3, 4]
    with store.open("a.npz", "rb") as back, np.load(back) as archive:
        assert archive["x"].tolist() == [0, 1, 2, 3, 4]


def test_hdf5_writes_through_a_local_file(store: Store, place: Place) -> None:
    import h5py

    with store.local("a.h5") as path, h5py.File(path, "w") as file:
        file["x"] = np.arange(4)
    with store.open("a.h5", "rb") as back, h5py.File(back, "r") as again:
        assert again["x"][:].tolist() == [0, 1, 2, 3]


def test_a_figure_writes_through_a_file_object(store: Store, place: Place) -> None:
    from matplotlib.figure import Figure

    figure: Any = Figure()
    figure.subplots().plot([1, 2])
    for kind, magic in (("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")):
        with store.open(f"p.{kind}", "wb") as file:
            figure.savefig(file, format=kind)
        assert place.bytes(f"p.{kind}").startswith(magic)
