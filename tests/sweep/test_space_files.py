"""Spaces in TOML files: axes, fixed values, single points, and errors that name the line."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from notata.errors import ConfigurationError
from notata.sweep.files import SpaceFile, read_space
from notata.sweep.points import Points


def read(folder: Path, text: str) -> SpaceFile:
    path = folder / "space.toml"
    path.write_text(text)
    return read_space(path)


def problem(folder: Path, text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read(folder, text)
    return str(caught.value).replace(str(folder / "space.toml"), "F").removeprefix("cannot read the space ")


def test_a_file_with_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", "/scratch")
    found = read(
        tmp_path,
        """
        experiment = "group/decay"
        base_dir = "${PLACE}/runs"
        [fixed]
        method = "rk4"
        solver = { order = 4 }
        [grid]
        dt = [0.1, 1]
        seed = { range = [3] }
        [[points]]
        dt = 0.5
        seed = -1
        [[points]]
        method = "euler"
        """,
    )
    assert (found.experiment, found.base_dir) == ("group/decay", "/scratch/runs")
    fixed = {"method": "rk4", "solver": {"order": 4}}
    grid = [{**fixed, "dt": dt, "seed": seed} for dt in (0.1, 1) for seed in (0, 1, 2)]
    assert list(found.points) == [*grid, {**fixed, "dt": 0.5, "seed": -1}, {**fixed, "method": "euler"}]
    assert [type(point["dt"]) for point in found.points[:4]] == [float, float, float, int]


def test_the_name_of_the_file_is_that_of_the_experiment(tmp_path: Path) -> None:
    found = read(tmp_path, "[[points]]\nx = 1")
    assert (found.experiment, found.base_dir, list(found.points)) == ("space", None, [{"x": 1}])


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ("{ range = [3] }", [0, 1, 2]),
        ("{ range = [2, 12, 5] }", [2, 7]),
        ("{ linspace = [0, 1, 11] }", np.linspace(0, 1, 11).tolist()),
        ("{ logspace = [-4, -1, 4] }", np.logspace(-4, -1, 4).tolist()),
        ("{ geomspace = [1, 8, 4] }", np.geomspace(1, 8, 4).tolist()),
        ('["a", true, 1, 2.5, nan, [1, 2], { b = 1 }]', ["a", True, 1, 2.5, float("nan"), [1, 2], {"b": 1}]),
        ("[1979-05-27]", ["1979-05-27"]),
    ],
)
def test_axes(axis: str, values: list[Any], tmp_path: Path) -> None:
    found = [point["a"] for point in read(tmp_path, f"[grid]\na = {axis}").points]
    assert str(found) == str(values)  # nan is not equal to itself
    assert [type(value) for value in found] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a =", "F: it is not valid TOML: Invalid value (at end of document)"),
        ("dt = 1\n[grid]\nx = [1]", "F, line 1: dt is unknown"),
        ("[grid]\n\n'dt' = 0.1", "F, line 3: grid.dt is 0.1; write a list of values, or a table with one of range"),
        ("[fixed]\ndt = 1\n[grid]\ndt = {linspace = [1, 2]}", "line 4: grid.dt is {'linspace': [1, 2]}; write {linspa"),
        ("[grid]\ndt = {range = [1.0, 2]}", "(range needs integers; linspace takes others)"),
        ("[grid]\ndt = {range = [0, 9, 0]}", "(range() arg 3 must not be zero)"),
        ("[grid]\ndt = {linspace = [0, 1, 2000000]}", "an integer from 1 to 1,000,000"),
        ("[grid]\ndt = {logspace = [0, 999, 2]}", "(a value is not finite)"),
        ("[grid]\ndt = {range = 3}", "grid.dt is {'range': 3}; write {range = [start, stop, step]}"),
        ("[grid.dt]\nlr = [1]", "F, line 1: grid.dt is {'lr': [1]}"),
        ("[grid]\ndt = []", "F, line 2: grid.dt has no values"),
        ("[grid]\ndt = [1, 1.0]", "F, line 2: grid.dt contains a value twice"),
        (
            "[grid]\na = {range = [100000]}\nb = {range = [100000]}",
            "F has 10,000,000,000 points, but at most 100,000,000",
        ),
        ("[grid]\ndt = [1]\n[fixed]\ndt = 3", "F, line 2: grid.dt is also in [fixed]"),
        ("[fixed]\nlog = 1\n[grid]\na = [1]", "F, line 2: fixed.log cannot be the name of a parameter"),
        ("[fixed]\na = 1", "F has no points: add [grid] or [[points]]"),
        ("fixed = 3\n[grid]\na = [1]", "F, line 1: fixed is 3; write a table: [fixed]"),
        ("points = [1]", "F, line 1: points is not a list of points; write [[points]]"),
        ("[[points]]\na = 3\n[[points]]\nskip_existing = 3", "F, line 4: points[2].skip_existing cannot be the name"),
        ("[[points]]\na = 3\n[[points]]\na = 4\n[[points]]\na = 3.0", "F, line 5: points[3] equals points[1]"),
        ("[grid]\na = [1, 2]\n[[points]]\na = 2", "F, line 3: points[1] is also one of the combinations of [grid]"),
        ("experiment = ''\n[grid]\na = [1]", "F, line 1: experiment is ''; write a text"),
        ("base_dir = '$NO_SUCH/x'\n[grid]\na = [1]", "the environment variable $NO_SUCH is not set"),
    ],
)
def test_errors_name_the_key_and_the_line(text: str, said: str, tmp_path: Path) -> None:
    assert said in problem(tmp_path, text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        read_space(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigurationError, match="not text in UTF-8"):
        read_space(tmp_path / "bytes.toml")


def test_points_are_found_by_their_parameters() -> None:
    axes = {"a": range(2, 9, 3), "b": [1.0, True, "x", None, float("nan"), [1.0]]}
    points = Points(axes, {"c": {"d": 1}}, [{"a": 2}, {"e": 1}])
    assert [points.find(point) for point in points] == list(range(len(points)))
    assert points.find({"a": 5.0, "b": 1, "c": {"d": 1.0}}) == points.find({"a": 5, "b": 1.0, "c": {"d": 1}}) == 6
    for params in ({}, {"a": 3, "b": 1, "c": {"d": 1}}, {"a": True, "b": 1, "c": {"d": 1}}, {**points[0], "z": 1}):
        assert points.find(params) is None
    assert points.find_within({**points[7], "cells": 100}) == [7]
    assert points.find_within({**points[1], "cells": 100}) == [1, 18]  # the further point has a part of them, too
    assert points.find_within({"z": 1}) == []
    assert str(list(pickle.loads(pickle.dumps(points)))) == str(list(points))


def test_a_sequence_of_points() -> None:
    points = Points({"a": range(3)}, {}, [{"b": 1}])
    assert (points[-1], points[1:3], len(points)) == ({"b": 1}, [{"a": 1}, {"a": 2}], 4)
    with pytest.raises(IndexError):
        points[4]
