"""`notata.sweep.grid`: all combinations, in the memory of the values."""

from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest

from notata import ConfigurationError
from notata.sweep import grid


def test_all_combinations_in_the_order_of_itertools() -> None:
    axes: dict[str, Sequence[object]] = {"a": [1, 2], "b": ["x", "y", "z"], "c": [None, {"lr": 0.1}]}
    expected = [dict(zip(axes, values, strict=True)) for values in product(*(list(one) for one in axes.values()))]
    points = grid(**axes)
    assert list(points) == expected
    assert [points[number] for number in range(len(points))] == expected
    assert points[-1] == expected[-1]
    assert list(reversed(points)) == expected[::-1]
    with pytest.raises(IndexError):
        points[12]


def test_a_part_of_a_grid_is_a_grid() -> None:
    points = grid(a=range(10), b=range(10))
    assert list(points[5:25:7]) == list(points)[5:25:7]
    assert list(points[50:][1:3]) == list(points)[51:53]
    assert list(pickle.loads(pickle.dumps(points[3:5]))) == list(points)[3:5]


def test_single_values_arrays_and_iterators() -> None:
    points = grid(method="rk4", step=3, lr={"base": 0.1}, dt=np.linspace(0, 1, 3), seed=iter([1, 2]), one=np.float64(2))
    assert len(points) == 6
    assert points[5] == {"method": "rk4", "step": 3, "lr": {"base": 0.1}, "dt": 1.0, "seed": 2, "one": 2.0}
    assert list(grid()) == [{}]
    assert list(grid(a=[], b=[1])) == []


def test_a_set_has_no_order() -> None:
    with pytest.raises(ConfigurationError, match=r"invalid values of method.*sorted\(values\)"):
        grid(method={"rk4", "euler"})


@pytest.mark.parametrize(
    "axes",
    [
        {"a": range(10**10), "b": range(10**10)},
        {"a": range(10**30)},
        {"a": range(10**300), "b": range(10**300)},
        {"a": range(2**63), "b": []},
    ],
)
def test_a_grid_with_more_points_than_a_sequence_can_have(axes: dict[str, Sequence[int]]) -> None:
    with pytest.raises(ConfigurationError, match=r"invalid grid of a.*: it would have more than 9223372036854775807 "):
        grid(**axes)
    assert len(grid(a=range(2**63 - 1))) == 2**63 - 1


def test_a_large_grid_takes_no_memory() -> None:
    tracemalloc.start()
    try:
        points = grid(a=range(10**6), b=range(10**6), c=[0.1, 0.2])
        assert points[len(points) // 2] == {"a": 500_000, "b": 0, "c": 0.1}
        assert tracemalloc.get_traced_memory()[1] < 10_000
    finally:
        tracemalloc.stop()
    assert repr(points) == "<Grid of 2000000000000 points (a: 1000000, b: 1000000, c: 2)>"
