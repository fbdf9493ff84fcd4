"""The format for a name and a suffix, among the built-in ones and those of installed packages."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from notata import formats
from notata.errors import ConfigurationError, NotataError
from notata.formats import as_format, known, named, of_file


class VTK:
    suffix = ".vtk"

    def write(self, mesh: Any, file: Any) -> None: ...

    def read(self, file: Any) -> None: ...


class Needy(VTK):
    def __init__(self, needed: int) -> None:
        self.needed = needed


class Slashed(VTK):
    suffix = "a/b"


PLUGIN = """
class Vtk:
    suffix = ".vtk"
    def write(self, mesh, file): file.write(mesh)
    def read(self, file): return file.read()
class Meta(Vtk):
    suffix = ".Meta.json"
class Thief(Vtk):
    suffix = ".json"
class Nameless(Vtk):
    suffix = ""
VTK = Vtk()
"""
ENTRIES = """[notata.formats]
vtk = a_plugin:Vtk
zmeta = a_plugin:Meta
thief = a_plugin:Thief
json = a_plugin:Thief
nameless = a_plugin:Nameless
broken = not_installed_anywhere:X
wrong = a_plugin:__name__
xyz = a_plugin:Missing
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package that provides formats, as pip installs it."""
    (tmp_path / "a_plugin.py").write_text(PLUGIN)
    info = tmp_path / "a_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: a-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("a_plugin", None)


BUILT_IN = {
    "bytes": formats.BYTES, "csv": formats.CSV, "json": formats.JSON, "netcdf": formats.NETCDF, "npy": formats.NPY,
    "npz": formats.NPZ,
    "parquet": formats.PARQUET, "pickle": formats.PICKLE, "text": formats.TEXT, "yaml": formats.YAML,
}  # fmt: skip


def test_the_formats_of_notata() -> None:
    assert BUILT_IN.items() <= known().items()
    assert list(known()) == sorted(known())
    for name, form in BUILT_IN.items():
        assert named(name) is form
        assert as_format(name) is form


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.txt", "text"), ("a.json", "json"), ("a.yaml", "yaml"), ("a.yml", "yaml"), ("a.pkl", "pickle"),
        ("a.npy", "npy"), ("a.npz", "npz"), ("a.parquet", "parquet"), ("A.JSON", "json"), ("x/y.z/a.b.Npy", "npy"),
        (".json", "json"), ("json", None), ("a.dat", None), ("a", None), ("", None), ("a.json/b", None),
        ("a.npy.gz", None),
    ],
)  # fmt: skip
def test_a_suffix_means_a_format(name: str, form: str | None) -> None:
    assert of_file(name) is (None if form is None else BUILT_IN[form])


@pytest.mark.usefixtures("plugin")
def test_an_installed_package_adds_formats() -> None:
    assert named("vtk").suffix == ".vtk"
    found = of_file("out/mesh.VTK")
    assert found is not None
    assert formats.decode(found, formats.encode(found, b"mesh")) == b"mesh"
    assert type(known()["vtk"]).__module__ == "a_plugin"
    assert "broken" not in known()
    assert list(known()) == sorted({*BUILT_IN, "vtk", "zmeta", "thief", "nameless"})


@pytest.mark.usefixtures("plugin")
def test_the_longest_suffix_counts_and_of_equal_ones_ours() -> None:
    longest = of_file("a.meta.json")
    assert longest is not None
    assert longest.suffix == ".Meta.json"
    assert of_file("a.json") is formats.JSON
    assert of_file("b.a.json") is formats.JSON
    assert named("json") is formats.JSON
    assert known()["json"] is formats.JSON


@pytest.mark.usefixtures("plugin")
def test_a_broken_package_does_not_break_others() -> None:
    assert of_file("a.dat") is None
    assert of_file("a.parquet") is formats.PARQUET
    calls: list[Callable[[], object]] = [
        lambda: named("broken"),
        lambda: of_file("a.broken"),
        lambda: as_format("broken"),
    ]
    for call in calls:
        with pytest.raises(ConfigurationError, match=r"the format 'broken' \(not_installed_anywhere:X\) cannot be"):
            call()
    with pytest.raises(ConfigurationError) as caught:
        named("broken")
    assert isinstance(caught.value.__cause__, ImportError)
    with pytest.raises(ConfigurationError) as caught:
        named("xyz")
    assert isinstance(caught.value.__cause__, AttributeError)
    with pytest.raises(ConfigurationError, match="is not a format"):
        named("wrong")


@pytest.mark.usefixtures("plugin")
def test_the_error_for_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigurationError) as caught:
        named("vkt")
    assert isinstance(caught.value, NotataError)
    assert str(caught.value) == (
        "there is no format 'vkt'; known formats: "
        "broken, bytes, csv, json, nameless, netcdf, npy, npz, parquet, pickle, text, thief, vtk, wrong, xyz, yaml, "
        "zmeta"
    )


def test_an_object_or_a_class_is_a_format() -> None:
    form = VTK()
    assert as_format(form) is form
    assert type(as_format(VTK)) is VTK
    assert as_format(formats.Npz(compressed=False)) == formats.Npz(compressed=False)
    assert as_format(formats.Npz) == formats.NPZ


@pytest.mark.parametrize("given", [None, 5, object(), b"json", int, {"suffix": ".x"}, lambda: VTK()])
def test_anything_else_is_none(given: object) -> None:
    with pytest.raises(ConfigurationError) as caught:
        as_format(given)
    there = "bytes, csv, json, netcdf, npy, npz, parquet, pickle, text, yaml"
    assert f" is not a format; pass the name of one ({there}), or an" in str(caught.value)


def test_a_class_that_needs_arguments_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match=r"cannot create Needy without arguments: .*pass an instance"):
        as_format(Needy)
    assert as_format(Needy(3)).suffix == ".vtk"


def test_a_suffix_has_a_dot_and_no_slash() -> None:
    with pytest.raises(ConfigurationError, match=r"a suffix must look like '.vtk', with the dot and without a slash"):
        as_format(Slashed)
