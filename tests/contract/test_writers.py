"""The writers of a run, on every backend: parameters, arrays, plots, custom formats, files and folders."""

from __future__ import annotations

import enum
import io
import json
import logging
import os
import re
import socket
import sys
import threading
import tracemalloc
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import fsspec
import numpy as np
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from upath import UPath

from notata import Logbook, errors
from notata.run.parameters import Parameters, parameters
from notata.store import Store, open_store
from notata.store.backends import local
from notata.store.backends.local import LocalBackend
from notata.testing import FaultyBackend
from tests.backends import Place

MIB = 2**20


def stored(place: Place, key: str) -> bytes:
    return place.bytes(f"log_run/{key}")


def array_of(place: Place, key: str) -> Any:
    return np.load(io.BytesIO(stored(place, key)), allow_pickle=False)


def last_line(log: Logbook, place: Place) -> str:
    log.flush()
    return place.log()[-1]


def unchanged(place: Place) -> dict[str, bytes]:
    return place.files(logs=False)


# -- params ------------------------------------------------------------------------------------------------


class Scheme(enum.Enum):
    LEAPFROG = "leapfrog"


def test_params_merge_and_are_a_mapping(place: Place) -> None:
    log = place.logbook()
    assert (len(log.params), list(log.params), dict(log.params), "omega" in log.params) == (0, [], {}, False)
    log.params(omega=2.0, steps=100)
    log.params(steps=200, scheme="leapfrog")
    assert stored(place, "params.yaml") == b"omega: 2.0\nscheme: leapfrog\nsteps: 200\n"
    assert log.params["steps"] == 200
    assert dict(log.params) == log.params == {"omega": 2.0, "scheme": "leapfrog", "steps": 200}
    assert (len(log.params), sorted(log.params)) == (3, ["omega", "scheme", "steps"])
    assert "omega" in log.params
    assert "phi" not in log.params
    assert log.params.get("phi", 0) == 0
    with pytest.raises(KeyError, match="phi"):
        log.params["phi"]
    assert repr(log.params) == "Parameters({'omega': 2.0, 'scheme': 'leapfrog', 'steps': 200})"
    assert last_line(log, place) == "INFO Saved params (yaml) in params.yaml"


def test_params_as_json(place: Place) -> None:
    log = place.logbook()
    log.params(ext="json", b=1, a=[1, 2])
    log.params("json", c=None)
    assert stored(place, "params.json") == b'{\n  "a": [\n    1,\n    2\n  ],\n  "b": 1,\n  "c": null\n}\n'
    assert last_line(log, place) == "INFO Saved params (json) in params.json"
    assert "log_run/params.yaml" not in place.names()


def test_another_format_of_params_takes_the_place_of_the_first(place: Place) -> None:
    log = place.logbook(params={"omega": 2.0})
    log.params(ext="json", steps=100)
    assert place.names() == ["log_run/metadata.json", "log_run/params.json"]
    assert json.loads(stored(place, "params.json")) == {"omega": 2.0, "steps": 100}
    log.params(dt=0.1)
    assert place.names() == ["log_run/metadata.json", "log_run/params.yaml"]
    assert yaml.safe_load(stored(place, "params.yaml")) == {"dt": 0.1, "omega": 2.0, "steps": 100}


def test_parameters_of_numpy_and_others_are_stored_plainly(place: Place) -> None:
    log = place.logbook()
    log.params(
        omega=np.float32(2.0), steps=np.int64(3), grid=np.arange(3), where=Path("a/b"), scheme=Scheme.LEAPFROG,
        on=np.True_, nested={"dt": np.float64(1e-3), "shape": (2, 3)}, self="me", name="é", number="1e5", mode="on",
    )  # fmt: skip
    text = stored(place, "params.yaml").decode()
    assert "omega: 2.0\n" in text
    assert "!!" not in text
    expected = {
        "omega": 2.0, "steps": 3, "grid": [0, 1, 2], "where": "a/b", "scheme": "leapfrog", "on": True,
        "nested": {"dt": 0.001, "shape": [2, 3]}, "self": "me", "name": "é", "number": "1e5", "mode": "on",
    }  # fmt: skip
    assert yaml.safe_load(text) == log.params == expected


def test_what_is_done_to_a_value_that_was_read_does_not_change_the_parameters(place: Place) -> None:
    grid = [1, 2]
    log = place.logbook(params={"grid": grid})
    grid.append(3)
    log.params["grid"].append(4)
    assert log.params["grid"] == [1, 2]


@pytest.mark.parametrize("ext", ["yaml", "json"])
def test_a_parameter_that_cannot_be_stored_changes_nothing(place: Place, ext: str) -> None:
    log = place.logbook(params={"omega": 2.0})
    before = unchanged(place)
    with pytest.raises(errors.EncodeError, match=re.escape("params.solver.tolerances[1]")) as caught:
        log.params(ext, steps=1, solver={"tolerances": [0.1, object()]})
    assert (caught.value.url, caught.value.key) == (log.url, f"params.{ext}")
    assert caught.value.where == "params.solver.tolerances[1]"
    with pytest.raises(errors.ConfigurationError, match="toml"):
        log.params(ext="toml", steps=1)
    assert unchanged(place) == before
    assert dict(log.params) == {"omega": 2.0}
    log.params(dt=0.1)
    assert yaml.safe_load(stored(place, "params.yaml")) == {"dt": 0.1, "omega": 2.0}


def test_parameters_that_the_storage_refuses_are_not_there(place: Place) -> None:
    faulty = FaultyBackend(place.store())
    log = Logbook("run", faulty, params={"omega": 2.0}, heartbeat=0)
    faulty.fail(1, key="params.yaml")
    with pytest.raises(errors.StorageError):
        log.params(omega=3.0)
    assert dict(log.params) == {"omega": 2.0}
    assert stored(place, "params.yaml") == b"omega: 2.0\n"


@pytest.mark.parametrize(("first", "second"), [("yaml", "json"), ("json", "yaml")])
def test_no_parameter_is_lost_where_the_old_file_could_not_be_removed(place: Place, first: str, second: str) -> None:
    faulty = FaultyBackend(place.store())
    log = Logbook("run", faulty, heartbeat=0)
    log.params(first, a=1)
    log.flush()
    faulty.fail(2)
    with pytest.raises(errors.StorageError):
        log.params(second, b=2)
    faulty.heal()
    assert dict(log.params) == log.reader.params
    log.params(first, c=3)
    assert log.params["c"] == 3
    assert place.names() == ["log_run/metadata.json", f"log_run/params.{first}"]
    assert dict(log.params) == log.reader.params
    assert log.params["a"] == 1


@pytest.mark.parametrize("ext", ["yaml", "json"])
def test_a_resumed_run_has_its_parameters(place: Place, ext: str) -> None:
    with place.logbook() as log:
        log.params(ext, omega=2.0, nested={"1": [None, True]})
    log = place.logbook(resume=True)
    assert dict(log.params) == {"omega": 2.0, "nested": {"1": [None, True]}}
    log.params(ext, steps=1)
    assert place.names() == ["log_run/manifest.json", "log_run/metadata.json", f"log_run/params.{ext}"]
    assert yaml.safe_load(stored(place, f"params.{ext}")) == {"omega": 2.0, "nested": {"1": [None, True]}, "steps": 1}


@pytest.mark.parametrize("ext", ["yaml", "json"])
def test_a_run_resumed_with_the_same_parameters_does_not_rewrite_them(place: Place, ext: str) -> None:
    values: dict[str, Any] = {"omega": 2.0, "grid": np.arange(2), "undefined": float("nan"), "levels": {1: "a"}}
    with place.logbook() as log:
        log.params(ext, **values)
    before = stored(place, f"params.{ext}")
    log = place.logbook(resume=True, params=values)
    log.flush()
    assert stored(place, f"params.{ext}") == before
    assert not any("WARNING" in line for line in place.log())


@pytest.mark.parametrize("ext", ["yaml", "json"])
def test_a_run_resumed_with_other_parameters_logs_a_warning(place: Place, ext: str) -> None:
    with place.logbook() as log:
        log.params(ext, omega=2.0, steps=1)
    log = place.logbook(resume=True, params={"omega": 3.0})
    log.flush()
    assert f"WARNING The parameters differ from the previous ones; notata replaces params.{ext}" in place.log()
    assert place.names() == ["log_run/manifest.json", "log_run/metadata.json", "log_run/params.yaml"]
    assert stored(place, "params.yaml") == b"omega: 3.0\n"
    assert dict(log.params) == {"omega": 3.0}


def test_damaged_parameters_are_not_written_over(place: Place) -> None:
    with place.logbook(params={"omega": 2.0}):
        pass
    place.put("log_run/params.yaml", b"omega: [")
    log = place.logbook(resume=True)
    with pytest.raises(errors.DecodeError, match=r"params\.yaml") as caught:
        log.params(steps=1)
    assert (caught.value.url, caught.value.key) == (log.url, "params.yaml")
    assert stored(place, "params.yaml") == b"omega: ["


def test_threads_that_add_parameters_at_once_lose_none(place: Place) -> None:
    log = place.logbook()
    start = threading.Barrier(6)

    def add(number: int) -> None:
        start.wait()
        values: dict[str, Any] = {f"p{number}": number}
        log.params(**values)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {f"p{number}": number for number in range(6)}
    assert yaml.safe_load(stored(place, "params.yaml")) == log.params == expected


EXT = st.sampled_from(["yaml", "json"])


@given(calls=st.lists(st.tuples(EXT, st.integers(0, 3), st.booleans(), st.booleans()), max_size=7), last=EXT)
@example(calls=[("yaml", 0, False, False), ("json", 2, True, False)], last="yaml")
@example(calls=[("json", 0, False, False), ("yaml", 2, False, True)], last="json")
def test_a_parameter_that_was_stored_stays_whatever_fails_later(
    calls: list[tuple[str, int, bool, bool]], last: str
) -> None:
    """The first or second request of each call may fail, before or after it took effect; the run continues."""
    faults = FaultyBackend(open_store(f"memory://{uuid.uuid4().hex}"))
    store = Store(faults)

    def begun(*, new: bool) -> Parameters:
        return Parameters(store, lambda: None, lambda *line: None, lambda: None, new=new)

    params, wanted, maybe = begun(new=True), dict[str, int](), dict[str, int]()
    for number, (ext, fails_at, after, goes_on) in enumerate(calls):
        name = f"p{number}"
        faults.fail(fails_at, after=after)
        try:
            params(ext, **{name: number})
        except errors.StorageError:
            maybe[name] = number
        else:
            wanted[name] = number
        finally:
            faults.heal()
        assert name in maybe or dict(params) == parameters(store)
        if goes_on:
            params = begun(new=False)
        assert wanted.items() <= dict(params).items() <= (wanted | maybe).items()
        assert wanted.items() <= parameters(store).items()
    params(last, end=1)
    found = parameters(store)
    assert dict(params) == found
    assert wanted.items() <= found.items() <= (wanted | maybe | {"end": 1}).items()


# -- array and arrays --------------------------------------------------------------------------------------


class Tensor:
    """Like a tensor of torch: not a numpy array, but convertible to one."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.array([1.5, 2.5], dtype)


ARRAYS: list[Any] = [
    np.float64(0.5),
    np.array(7, ">i2"),
    np.zeros((0, 3)),
    np.arange(6.0).reshape(2, 3),
    np.asfortranarray(np.arange(6).reshape(2, 3)),
    np.arange(10)[::-2],
    np.array([(1, 2.5, "H2")], [("n", "<i4"), ("x", ">f8"), ("name", "U4")]),
    np.array(["a", "bc"]),
    np.array([1 + 2j], "complex64"),
    np.array(["2026-03-01"], "datetime64[D]"),
    np.array([True, False]),
]


def test_an_array_of_any_shape_and_dtype(place: Place) -> None:
    log = place.logbook()
    for array in ARRAYS:
        assert log.array("a", array).name == "a.npy"
        found = array_of(place, "data/a.npy")
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        assert found.tobytes() == np.asarray(array).tobytes()
        assert found.flags.f_contiguous or not np.asarray(array).flags.f_contiguous
    assert last_line(log, place) == "INFO Saved array a in data/a.npy"
    for value, expected in (([0.0, 0.5], [0.0, 0.5]), (3, 3), ([[1], [2]], [[1], [2]]), (Tensor(), [1.5, 2.5])):
        log.array("list", value)
        assert array_of(place, "data/list.npy").tolist() == expected


def test_names_of_arrays(place: Place) -> None:
    log = place.logbook()
    log.array("states/t", [1])
    log.array("x.npy", [1])
    log.array("v1.2", [1])
    log.array(10, [1])  # type: ignore[arg-type]
    log.arrays("states/bundle.npz", x=[1])
    assert [name.removeprefix("log_run/data/") for name in place.names()[:-1]] == [
        "10.npy",
        "states/bundle.npz",
        "states/t.npy",
        "v1.2.npy",
        "x.npy",
    ]


@pytest.mark.parametrize("compressed", [True, False])
def test_a_bundle_of_arrays(place: Place, compressed: bool) -> None:
    log = place.logbook()
    values = {str(number): np.asarray(array) for number, array in enumerate(ARRAYS)}
    path = log.arrays("bundle", compressed, self=[1.0], file=np.zeros(10_000), **values)
    assert path.name == "bundle.npz"
    found = array_of(place, "data/bundle.npz")
    assert set(found.files) == {"self", "file", *values}
    assert found["self"].tolist() == [1.0]
    for name, array in values.items():
        assert found[name].dtype == array.dtype
        assert found[name].tobytes() == array.tobytes()
    assert (len(stored(place, "data/bundle.npz")) < 40_000) == compressed
    assert last_line(log, place) == "INFO Saved arrays bundle in data/bundle.npz"


def test_an_array_of_a_bundle_may_be_called_name(place: Place) -> None:
    log = place.logbook()
    log.arrays("d", name=[1])
    log.arrays(name="e", x=[2])  # 0.3.0 accepts this
    assert array_of(place, "data/d.npz")["name"].tolist() == [1]
    assert array_of(place, "data/e.npz").files == ["x"]
    for arrays in ({"x": [1]}, {"name": [1]}):
        with pytest.raises(errors.ConfigurationError, match="pass the name of the bundle first"):
            log.arrays(**arrays)  # type: ignore[call-overload]


def test_a_bundle_of_no_arrays(place: Place) -> None:
    log = place.logbook()
    log.arrays("none")
    assert array_of(place, "data/none.npz").files == []


def test_an_array_that_would_be_a_pickle_is_refused_and_leaves_the_previous_one(place: Place) -> None:
    log = place.logbook()
    log.array("a", [1])
    log.arrays("b", x=[1])
    before = unchanged(place)
    objects = np.array([object()])
    with pytest.raises(errors.EncodeError, match="pickle") as caught:
        log.array("a", objects)
    assert (caught.value.url, caught.value.key) == (log.url, "data/a.npy")
    with pytest.raises(errors.EncodeError, match=r"bad.*pickle") as caught:
        log.arrays("b", good=np.zeros(3 * MIB), bad=objects)
    assert (caught.value.url, caught.value.key) == (log.url, "data/b.npz")
    with pytest.raises(errors.EncodeError):
        log.array("a", [[1], [1, 2]])
    with pytest.raises(errors.EncodeError, match="mask"):
        log.array("a", np.ma.array([1, 2], mask=[True, False]))
    assert unchanged(place) == before


def test_a_large_array_is_whole(place: Place) -> None:
    log = place.logbook()
    array = np.arange(3 * MIB, dtype=float).reshape(3, -1).T
    log.array("large", array)
    found = array_of(place, "data/large.npy")
    assert found.flags.f_contiguous
    assert np.array_equal(found, array)


# -- plot --------------------------------------------------------------------------------------------------

STARTS = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}


@pytest.fixture
def figure() -> Figure:
    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([0, 1], [1, 0])
    return figure


@pytest.fixture
def pyplot() -> Iterator[Any]:
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    yield plt
    plt.close("all")


def test_a_plot_in_several_formats(place: Place, figure: Figure) -> None:
    log = place.logbook()
    paths = log.plot("run/energy", figure, formats=("svg", "png", ".pdf"), dpi=30)
    assert [path.name for path in paths] == ["energy.svg", "energy.png", "energy.pdf"]
    for kind, start in STARTS.items():
        assert stored(place, f"plots/run/energy.{kind}").startswith(start)
    assert last_line(log, place) == "INFO Saved plot run/energy (svg/png/.pdf) in plots"


def test_a_plot_in_one_format(place: Place, figure: Figure) -> None:
    log = place.logbook()
    assert [path.name for path in log.plot("a", figure, 30)] == ["a.png"]
    assert [path.name for path in log.plot("b", figure, formats="svg")] == ["b.svg"]
    assert [path.name for path in log.plot("c.png", figure)] == ["c.png"]
    assert [path.name for path in log.plot("v1.2", figure)] == ["v1.2.png"]
    assert place.names() == [
        "log_run/metadata.json",
        *(f"log_run/plots/{n}" for n in ("a.png", "b.svg", "c.png", "v1.2.png")),
    ]
    assert last_line(log, place) == "INFO Saved plot v1.2 (png) in plots"


def test_the_dots_per_inch_of_a_plot(place: Place, figure: Figure) -> None:
    log = place.logbook()

    def width() -> int:
        return int.from_bytes(stored(place, "plots/a.png")[16:20], "big")

    log.plot("a", figure, dpi=50)
    small = width()
    log.plot("a", figure, dpi=100)
    assert 1.8 < width() / small < 2.2


def test_a_plot_of_axes_and_of_the_current_figure(place: Place, pyplot: Any) -> None:
    log = place.logbook()
    _, axes = pyplot.subplots()
    log.plot("axes", axes, dpi=20)
    log.plot("current", dpi=20)
    assert stored(place, "plots/axes.png") == stored(place, "plots/current.png")
    assert pyplot.get_fignums() == [1]


def test_no_figure_is_no_plot(place: Place, pyplot: Any) -> None:
    log = place.logbook()
    with pytest.raises(errors.EncodeError, match="no current figure") as caught:
        log.plot("nothing")
    assert (caught.value.url, caught.value.key) == (log.url, "plots/nothing.png")
    with pytest.raises(errors.EncodeError, match="not str"):
        log.plot("nothing", "figure")  # type: ignore[arg-type]
    assert pyplot.get_fignums() == []
    assert place.names() == ["log_run/metadata.json"]


def test_a_format_that_matplotlib_does_not_know_stores_nothing_at_all(place: Place, figure: Figure) -> None:
    log = place.logbook()
    with pytest.raises(errors.EncodeError, match=r"'bmpx'.*png") as caught:
        log.plot("a", figure, formats=("png", "bmpx"))
    assert caught.value.key == "plots/a.bmpx"
    assert place.names() == ["log_run/metadata.json"]


def test_without_matplotlib_a_plot_says_what_to_install(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    log = place.logbook()
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(errors.PackageMissingError, match="pip install matplotlib") as caught:
        log.plot("a")
    assert isinstance(caught.value, ImportError)
    assert isinstance(caught.value, RuntimeError)
    assert place.names() == ["log_run/metadata.json"]


# -- save --------------------------------------------------------------------------------------------------


class Lines:
    suffix = ".lines"

    def __init__(self, end: str = "\n") -> None:
        self.end = end

    def write(self, value: list[str], file: IO[bytes]) -> None:
        for item in value:
            file.write(f"{item}{self.end}".encode())

    def read(self, file: IO[bytes]) -> list[str]:
        return file.read().decode().split(self.end)[:-1]


def test_a_format_as_object_class_name_and_suffix(place: Place) -> None:
    log = place.logbook()
    assert log.save("a", ["H2", "O2"], Lines(";")).name == "a.lines"
    assert log.save("b.lines", ["H2"], format=Lines).name == "b.lines"
    assert log.save("c", {"x": 1}, format="yaml").name == "c.yaml"
    assert log.save("deep/d.yml", {"x": 1}).name == "d.yml"
    assert log.save("e.JSON", [1]).name == "e.JSON"
    assert log.save("f.npy", [1.0]).name == "f.npy"
    assert log.save("g", [1.0], "npy").name == "g.npy"
    assert log.save("table", {"t": [0.0, 0.5]}, format="parquet").name == "table.parquet"
    assert stored(place, "artifacts/a.lines") == b"H2;O2;"
    assert stored(place, "artifacts/b.lines") == b"H2\n"
    assert stored(place, "artifacts/c.yaml") == stored(place, "artifacts/deep/d.yml") == b"x: 1\n"
    assert json.loads(stored(place, "artifacts/e.JSON")) == [1]
    assert array_of(place, "artifacts/f.npy").tolist() == array_of(place, "artifacts/g.npy").tolist() == [1.0]
    assert stored(place, "artifacts/table.parquet").startswith(b"PAR1")
    log.save("a", ["N2"], Lines)
    assert last_line(log, place) == "INFO Saved lines a in artifacts/a.lines"


def test_an_unknown_format_is_refused_with_a_list_of_formats(place: Place) -> None:
    log = place.logbook()
    with pytest.raises(errors.ConfigurationError, match=r"'mesh\.xyz'.*format=.*json"):
        log.save("mesh.xyz", 1)
    with pytest.raises(errors.ConfigurationError, match=r"'xyz'.*json"):
        log.save("mesh", 1, format="xyz")
    with pytest.raises(errors.ConfigurationError, match="3 is not a format"):
        log.save("mesh", 1, format=3)  # type: ignore[arg-type]
    assert place.names() == ["log_run/metadata.json"]


class Breaks:
    suffix = ".dat"

    def __init__(self, size: int, error: BaseException) -> None:
        self.size = size
        self.error = error

    def write(self, value: object, file: IO[bytes]) -> None:
        file.write(b"x" * self.size)
        raise self.error

    def read(self, file: IO[bytes]) -> object:
        return file.read()


@pytest.mark.parametrize("size", [0, 10, 20 * MIB])
def test_a_format_that_fails_leaves_the_old_file(place: Place, size: int) -> None:
    log = place.logbook()
    log.bytes("a.dat", b"old")
    before = unchanged(place)
    with pytest.raises(errors.EncodeError, match="no such mesh") as caught:
        log.save("a", 1, Breaks(size, RuntimeError("no such mesh")))
    assert (caught.value.url, caught.value.key) == (log.url, "artifacts/a.dat")
    assert isinstance(caught.value.__cause__, RuntimeError)
    with pytest.raises(KeyboardInterrupt):
        log.save("a", 1, Breaks(size, KeyboardInterrupt()))
    assert unchanged(place) == before
    assert "Saved" not in last_line(log, place).replace("Saved bytes", "")


# -- file --------------------------------------------------------------------------------------------------


def test_a_file_of_another_program(place: Place, tmp_path: Path) -> None:
    source = tmp_path / "mesh.vtk"
    source.write_bytes(b"# vtk\r\n\x00")
    log = place.logbook()
    assert log.file(source).name == "mesh.vtk"
    assert last_line(log, place) == "INFO Saved file mesh.vtk in artifacts/mesh.vtk"
    log.file(str(source), "meshes/first.vtk")
    log.file(source.as_uri(), "second")
    log.file(UPath(source), "third")
    for name in ("mesh.vtk", "meshes/first.vtk", "second", "third"):
        assert stored(place, f"artifacts/{name}") == b"# vtk\r\n\x00"
    source.write_bytes(b"")
    log.file(source)
    assert stored(place, "artifacts/mesh.vtk") == b""


def test_a_file_in_the_working_folder(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("here")
    log = place.logbook()
    monkeypatch.chdir(tmp_path)
    log.file("a.txt")
    assert stored(place, "artifacts/a.txt") == b"here"


def test_a_file_in_memory_and_in_the_same_storage(place: Place) -> None:
    folder = uuid.uuid4().hex
    fsspec.filesystem("memory").pipe_file(f"/{folder}/a.bin", b"in memory")
    place.put("results/b.bin", b"beside")
    log = place.logbook()
    log.file(f"memory://{folder}/a.bin")
    log.file(UPath(f"memory://{folder}/a.bin"), "again")
    log.file(UPath(f"{place.url}/results/b.bin", **place.options))
    log.file(log["artifacts/b.bin"], "copy")
    assert stored(place, "artifacts/a.bin") == stored(place, "artifacts/again") == b"in memory"
    assert stored(place, "artifacts/b.bin") == stored(place, "artifacts/copy") == b"beside"


def test_a_file_whose_own_name_is_no_key_is_stored_under_another(place: Place, tmp_path: Path) -> None:
    log = place.logbook()
    for own in ("back\\slash", "new\nline", ".notata-mine"):
        (tmp_path / own).write_text(own)
        with pytest.raises(errors.KeyNameError, match="cannot be a key"):
            log.file(tmp_path / own)
        log.file(tmp_path / own, "good.txt")
        assert stored(place, "artifacts/good.txt") == own.encode()


@pytest.mark.parametrize("bad", ["../esc", "/etc/passwd", "", "a//b", "a\\b", "x" * 300])
def test_an_illegal_name_of_a_file_or_folder_is_refused(place: Place, tmp_path: Path, bad: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("a")
    log = place.logbook()
    calls: list[Callable[[], object]] = [
        lambda: log.file(tmp_path / "in" / "a", bad),
        lambda: log.folder(tmp_path / "in", bad),
    ]
    for call in calls:
        with pytest.raises(errors.KeyNameError, match="cannot be a key"):
            call()
    assert place.names() == ["log_run/metadata.json"]


def test_a_file_that_is_not_there_or_no_file(place: Place, tmp_path: Path) -> None:
    folder = uuid.uuid4().hex
    fsspec.filesystem("memory").pipe_file(f"/{folder}/in/a.bin", b"")
    place.put("results/in/b.bin", b"")
    log = place.logbook()
    log.text("old", "stays")
    for missing in (tmp_path / "none", f"memory://{folder}/none", UPath(f"{place.url}/none", **place.options)):
        with pytest.raises(errors.MissingError, match="none") as caught:
            log.file(missing, "old.txt")
        assert caught.value.key == "none"
    for inside in (tmp_path, f"memory://{folder}/in", UPath(f"{place.url}/results/in", **place.options)):
        with pytest.raises(errors.FolderError, match="folder"):
            log.file(inside, "old.txt")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(errors.StorageError, match="not a regular file"):
        log.file(tmp_path / "pipe", "old.txt")
    assert stored(place, "artifacts/old.txt") == b"stays"
    assert "Saved text" in last_line(log, place)


def test_a_file_that_cannot_be_read_leaves_the_old_one(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"x" * 20 * MIB)
    log = place.logbook()
    log.text("old", "stays")
    monkeypatch.setattr(LocalBackend, "open_read", lambda backend, key, **_: Torn(io.FileIO(tmp_path / "a")))
    with pytest.raises(errors.StorageError, match=r"cannot read .*/a: .*input/output") as caught:
        log.file(tmp_path / "a", "old.txt")
    assert isinstance(caught.value.__cause__, OSError)
    monkeypatch.undo()
    assert stored(place, "artifacts/old.txt") == b"stays"
    assert place.names() == ["log_run/artifacts/old.txt", "log_run/metadata.json"]


class Torn(io.BufferedReader):
    """A file on a disk whose reads fail after some MiB."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() > 10 * MIB:
            raise OSError(5, "Input/output error")
        data: bytes = super().read(size)
        return data


def test_a_large_file_is_whole_and_needs_little_memory(place: Place, tmp_path: Path) -> None:
    block = np.random.default_rng(0).bytes(MIB)
    with (tmp_path / "large").open("wb") as file:
        for number in range(64):
            file.write(number.to_bytes(4, "big") + block[4:])
    log = place.logbook()
    log.bytes("warm", b"x" * 17 * MIB)
    tracemalloc.start()
    try:
        log.file(tmp_path / "large")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Memory keeps the whole content; and moto runs in this process, so its memory counts too.
    assert place.name in ("memory", "s3") or peak < 96 * MIB
    found = stored(place, "artifacts/large")
    assert len(found) == 64 * MIB
    assert all(found[start : start + 4] == (start // MIB).to_bytes(4, "big") for start in range(0, len(found), MIB))
    assert found[-MIB + 4 :] == block[4:]


# -- folder ------------------------------------------------------------------------------------------------


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "empty").mkdir()
    for name in ("a.dat", "deep/b.dat", "deep/er/c d.dat"):
        (folder / name).write_text(name)
    return folder


def below(place: Place, start: str = "log_run/artifacts/") -> list[str]:
    return [name.removeprefix(start) for name in place.names() if name.startswith(start)]


def test_a_folder_with_folders_in_it(place: Place, results: Path) -> None:
    log = place.logbook()
    path = log.folder(results)
    assert path.name == "results"
    assert below(place) == ["results/a.dat", "results/deep/b.dat", "results/deep/er/c d.dat"]
    for name in ("a.dat", "deep/b.dat", "deep/er/c d.dat"):
        assert stored(place, f"artifacts/results/{name}") == name.encode()
    assert last_line(log, place) == "INFO Saved folder results (3 files, 30 bytes) in artifacts/results"


def test_the_name_of_a_folder(place: Place, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = place.logbook()
    monkeypatch.chdir(results)
    log.folder("deep/er", "one/two")
    log.folder(".")
    log.folder(f"{results}/deep/er/", "slash")
    log.folder(results.as_uri() + "/deep/er")
    assert below(place) == [
        "er/c d.dat", "one/two/c d.dat", "results/a.dat", "results/deep/b.dat", "results/deep/er/c d.dat",
        "slash/c d.dat",
    ]  # fmt: skip


def test_a_folder_in_memory_and_in_the_same_storage(place: Place) -> None:
    folder = uuid.uuid4().hex
    fsspec.filesystem("memory").pipe({f"/{folder}/in/a": b"1", f"/{folder}/in/b/c": b"2", f"/{folder}/into": b"3"})
    place.put("results/in/d", b"4")
    place.put("results/into", b"5")
    log = place.logbook()
    log.folder(f"memory://{folder}/in")
    log.folder(UPath(f"memory://{folder}/in/b"))
    log.folder(UPath(f"{place.url}/results/in", **place.options), "same")
    assert below(place) == ["b/c", "in/a", "in/b/c", "same/d"]
    assert stored(place, "artifacts/in/b/c") == b"2"
    assert stored(place, "artifacts/same/d") == b"4"


def test_of_a_folder_what_is_no_regular_file_is_left_out_and_named(
    place: Place, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(results)  # the name of a socket may have about a hundred bytes at most
    (results / "to_file").symlink_to("a.dat")
    (results / "to_folder").symlink_to("deep")
    (results / "deep" / "to_nothing").symlink_to("nowhere")
    os.mkfifo(results / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        log = place.logbook()
        log.folder(results)
    assert below(place) == ["results/a.dat", "results/deep/b.dat", "results/deep/er/c d.dat", "results/to_file"]
    assert stored(place, "artifacts/results/to_file") == b"a.dat"
    log.flush()
    told = "Skipped in folder results, because they are not regular files: deep/to_nothing, pipe, socket, to_folder"
    assert f"WARNING {told}" in place.log()


def test_a_warning_does_not_name_thousands_of_links(place: Place, results: Path) -> None:
    for number in range(30):
        (results / f"link{number:02}").symlink_to("nowhere")
    log = place.logbook()
    log.folder(results)
    log.flush()
    assert place.log()[-2].endswith("link18, link19 and 10 more")


def test_no_folder_and_no_file_in_it(place: Place, results: Path) -> None:
    log = place.logbook()
    for nothing in (
        results / "empty",
        results / "none",
        UPath(f"{place.url}/none", **place.options),
    ):
        with pytest.raises(errors.MissingError, match="cannot store folder"):
            log.folder(nothing)
    assert place.names() == ["log_run/metadata.json"]


def test_a_name_in_a_folder_that_is_no_key_stores_nothing(place: Place, results: Path) -> None:
    (results / "deep" / "back\\slash").write_text("x")
    log = place.logbook()
    with pytest.raises(errors.KeyNameError, match="backslash"):
        log.folder(results)
    assert place.names() == ["log_run/metadata.json"]


def _refuse_reads(monkeypatch: pytest.MonkeyPatch, files: Collection[Path]) -> None:
    """Let the system refuse to open these files, as it does for other users."""
    numbers = {(path.stat().st_dev, path.stat().st_ino) for path in files}

    def refusing(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(file: Any, *arguments: Any, **options: Any) -> Any:
            at = {"dir_fd": options["dir_fd"]} if options.get("dir_fd") is not None else {}
            with suppress(FileNotFoundError):
                found = os.stat(file, **at, follow_symlinks=False)
                if (found.st_dev, found.st_ino) in numbers:
                    raise PermissionError(13, "Permission denied")
            return real(file, *arguments, **options)

        return call

    monkeypatch.setattr(os, "open", refusing(os.open))
    monkeypatch.setattr(local, "open", refusing(open), raising=False)


def test_of_a_folder_with_files_that_cannot_be_read_all_others_are_stored(
    place: Place, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (results / "large").write_bytes(b"x" * 2 * MIB)
    _refuse_reads(monkeypatch, {results / "deep" / "b.dat", results / "large"})
    log = place.logbook()
    with pytest.raises(errors.BatchError, match="2 of 4") as caught:
        log.folder(results)
    failed = caught.value.exceptions
    assert sorted(str(getattr(error, "key", None)) for error in failed) == ["deep/b.dat", "large"]
    assert all(isinstance(error, PermissionError) and str(results) in str(error) for error in failed)
    assert below(place) == ["results/a.dat", "results/deep/er/c d.dat"]
    log.folder(results / "deep" / "er", "after")
    assert "after/c d.dat" in below(place)


def test_a_folder_that_holds_the_run_is_stored_without_it(place: Place) -> None:
    place.put("beside.txt", b"beside")
    place.put("log_run2/metadata.json", b"{}")
    log = place.logbook(params={"omega": 2.0})
    log.text("notes", "mine")
    log.flush()
    for _ in range(2):
        log.folder(UPath(place.url, **place.options), "all")
        assert below(place) == ["all/beside.txt", "all/log_run2/metadata.json", "notes.txt"]
    with pytest.raises(errors.MissingError, match="besides those of this run"):
        log.folder(log.path, "me")


def test_the_run_is_known_through_a_link_too(tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "beside.txt").write_text("beside")
    (tmp_path / "link").symlink_to("outputs")
    log = Logbook("run", tmp_path / "outputs")
    log.folder(tmp_path / "link", "all")
    assert log.reader.artifacts == ["all/beside.txt"]


def test_a_folder_within_the_run_is_stored_without_what_was_stored_of_it(place: Place) -> None:
    log = place.logbook()
    log["scratch/a.dat"].write_text("a")
    log.text("notes", "n")
    log.folder(log["scratch"])
    for _ in range(2):
        log.folder(log.artifactsdir, "copy")
    assert below(place) == ["copy/notes.txt", "copy/scratch/a.dat", "notes.txt", "scratch/a.dat"]


def test_many_small_files_and_a_few_large_ones(place: Place, tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"small{number:02}").write_bytes(bytes([number]))
    for number in range(2):
        (tmp_path / f"large{number}").write_bytes(bytes([number]) * (MIB + 1))
    log = place.logbook()
    log.folder(tmp_path, "many")
    assert len(below(place)) == 42
    assert all(stored(place, f"artifacts/many/small{number:02}") == bytes([number]) for number in range(0, 40, 13))
    assert all(stored(place, f"artifacts/many/large{number}") == bytes([number]) * (MIB + 1) for number in range(2))


# -- whose run it is ---------------------------------------------------------------------------------------


def test_every_call_on_a_displaced_run_is_refused_and_writes_nothing(
    place: Place, results: Path, figure: Figure
) -> None:
    old = place.logbook()
    place.logbook(overwrite=True).flush()
    with pytest.raises(errors.RunDisplacedError):
        old.meta(x=1)
    before = place.files()
    calls: list[Callable[[], object]] = [
        lambda: old.params(x=1),
        lambda: old.text("a", ""),
        lambda: old.json("a", {}),
        lambda: old.pickle("a", 1),
        lambda: old.bytes("a", b""),
        lambda: old.save("a.json", {}),
        lambda: old.file(results / "a.dat"),
        lambda: old.folder(results),
        lambda: old.array("a", [1]),
        lambda: old.arrays("a", x=[1]),
        lambda: old.plot("a", figure),
        lambda: old.plot("a", figure, formats=("png", "pdf")),
        lambda: old["artifacts/a"],
        lambda: old.open("artifacts/a", "w"),
        lambda: old.local("artifacts/a"),
    ]
    for call in calls:
        with pytest.raises(errors.RunDisplacedError, match="another writer"):
            call()
    old.note("ignored", logging.CRITICAL)
    old.flush()
    assert place.files() == before
