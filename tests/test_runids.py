"""The run id made of parameters: as in notata 0.3.0 where unambiguous, and different for different parameters."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from notata._base import keys
from notata.errors import EncodeError
from notata.run.runids import LONGEST, run_id

IDENTIFIERS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True)
ALIKE = st.sampled_from(["a", "b", "a_b", "a_1", "b_1", "a_b_1", "_", "a_", "_1", "True_a", "e1", "a_1e"])
STRINGS = st.one_of(
    st.text(max_size=8),
    st.text("ab1_.-/ ", max_size=8),
    st.sampled_from(["", "1", "1.0", "True", "None", "nan", "-inf", "1e-05", "a_b", "a/b", "a--b", "-", "ß", "\ud800"]),
)
SCALARS = st.one_of(
    st.integers(), st.integers(-2, 2), st.floats(), st.sampled_from([0.5, 1e-5, 1e6]), st.booleans(), st.none(), STRINGS
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(STRINGS, inner, max_size=3), max_leaves=6
)
PARAMS = st.dictionaries(IDENTIFIERS | ALIKE, VALUES, max_size=4)
CLOSE = st.dictionaries(ALIKE, st.sampled_from([1, 2, -1, 0.1, True, None, "a", "b", "1", "a_1", "b_1"]), max_size=3)


def as_0_3_0(name: str, params: Mapping[str, Any]) -> str:
    """Return the id by the rule of notata 0.3.0, implemented independently."""

    def shown(value: Any) -> str:
        return format(value, ".5g") if isinstance(value, float) else str(value).replace("/", "_").replace(" ", "_")

    return name + "_" + "_".join(key + "_" + shown(params[key]) for key in sorted(params))


def same(one: Any, other: Any) -> bool:
    """Return True for equal values: numbers by value, booleans are not numbers, NaN equals itself."""
    return bool(told(one) == told(other))


def told(value: Any) -> Any:
    if isinstance(value, Mapping):
        return ("names", frozenset((name, told(item)) for name, item in value.items()))
    if isinstance(value, list):
        return ("list", tuple(told(item) for item in value))
    if isinstance(value, float) and value != value:
        return ("number", "nan")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return ("number", value)
    return (type(value).__name__, value)


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"dt": 0.01},
        {"dt": 0.5, "omega": 2.0},
        {"omega": 2.0, "dt": 1e-3, "method": "rk4"},
        {"dt": 1e-12, "steps": 10_000},
        {"n": 10**6, "x": 1e6, "y": -1e-05},
        {"seed": 0, "warm": True, "start": None},
        {"x": float("inf"), "y": float("-inf"), "z": float("nan")},
        {"learning_rate": 0.1, "batch_size": 32},
        {"solver": "CG", "tolerance": "loose"},
        {"version": "v1.2", "range": "0-5", "equation": "a=b+c"},
        {"größe": 3},
    ],
)
def test_ids_that_say_all_are_those_of_0_3_0(params: dict[str, Any]) -> None:
    assert run_id("sweep", params) == as_0_3_0("sweep", params)


@pytest.mark.parametrize(
    "params",
    [
        {"dt": 0.1234567},  # shortened to five digits
        {"path": "a/b"},  # looks like a_b
        {"path": "a b"},
        {"name": "a_b"},
        {"text": ""},
        {"text": "1"},
        {"text": "True"},
        {"text": "None"},
        {"text": "1e-05"},
        {"list": [1, 2]},
        {"nested": {"a": 1}},
        {"a b": 1},
        {"a": "é"},
        {"a": "x" * 300},
        {f"name{number}": number for number in range(60)},
    ],
)
def test_other_ids_end_in_a_digest_and_stay_legible(params: dict[str, Any]) -> None:
    made = run_id("sweep", params)
    assert made != as_0_3_0("sweep", params)
    legible, dashes, digest = made.rpartition("--")
    assert legible.startswith("sweep_")
    assert (dashes, len(digest), set(digest) <= set("0123456789abcdef")) == ("--", 16, True)


def test_examples_that_must_not_change() -> None:
    """A resumed sweep finds its runs by these ids."""
    assert run_id("falling_ball", {"dt": 0.01}) == "falling_ball_dt_0.01"
    assert run_id("sweep", {"dt": 0.1234567}) == "sweep_dt_0.12346--3f328ff4f67a970b"
    assert run_id("sweep", {"b": [1, 2.5, {"c": None}], "a": "x y"}) == (
        "sweep_a_x_y_b__1,_2.5,_c_None_--ffeb8bed37b862fd"
    )
    assert run_id("sweep", {"a": "b", "c": 1}) == "sweep_a_b_c_1"
    assert run_id("sweep", {"a": {"b": 1, "c": [2]}}) == "sweep_a.b_1_a.c__2_--e19ea40813313109"
    assert run_id("sweep", {"a_b_c": 1}) == "sweep_a_b_c_1--480bbd17cf33df12"


@pytest.mark.parametrize(
    "sets",
    [
        [{"a": "b", "c": 1}, {"a_b_c": 1}, {"a": "b_c_1"}, {"a_b": "c_1"}],
        [{"a": 1}, {"a": "1"}, {"a": True}, {"a": "True"}, {"a": [1]}, {"a": "[1]"}, {"a": {"1": 1}}],
        [{"a": None}, {"a": "None"}, {"a": "null"}, {"a": ""}, {}, {"a": []}, {"a": {}}],
        [{"a": 0.1}, {"a": 0.10000001}, {"a": 0.1000000149}, {"a": "0.1"}],
        [{"a": 1e6}, {"a": "1e+06"}, {"a": "1000000"}, {"a": 1000001.0}],
        [{"a": "b/c"}, {"a": "b_c"}, {"a": "b c"}, {"a": "b", "c": ""}, {"a_b": "c"}],
        [{"a": 1, "b": 2}, {"a": "1_b_2"}, {"a_1_b": 2}, {"a": 1, "b": "2"}],
        [{"a": "b", "b": "c"}, {"a_b": "b_c"}, {"a": "b_b_c"}, {"a_b_b": "c"}],
        [{"a": "x" * 100}, {"a": "x" * 101}, {"a": "x" * 1000}, {"a": "x" * 1001}],
        [{"a": float("nan")}, {"a": "nan"}, {"nan": "a"}, {"a": float("inf")}, {"a": "inf"}],
        [{"_": "_"}, {"__": ""}, {"_": ""}, {"___": 1}, {"_": "__1"}],
        [{"a": {1: "x"}}, {"a": {"1": "x"}}, {"a": {True: "x"}}, {"a": {"true": "x"}}, {"a": {None: "x"}}],
        [{"a": [{1: 2}]}, {"a": [{"1": 2}]}, {"a": {"b": {1: 2}}}, {"a": {"b": {"1": 2}}}, {"a": {"b": {"1": "2"}}}],
        [{"a": {"b": 1}}, {"a.b": 1}, {"a": {"b": {}}}, {"a": {}, "b": 1}, {"a": {"b.c": 1}}, {"a": {"b": {"c": 1}}}],
        [{"a": -1}, {"a": "-1"}, {"a": "-"}, {"a": "--1"}, {"a": "_-1"}],
        [{"a": "b--3f328ff4f67a970b"}, {"a": "b"}, {"a": "b--"}],
        [{"\ud800": 1}, {"\ud801": 1}, {"\\ud800": 1}, {"a": "\ud800"}, {"a": "\\ud800"}],
    ],
)
def test_sets_of_parameters_that_look_alike_have_ids_of_their_own(sets: list[dict[str, Any]]) -> None:
    assert len({run_id("sweep", params) for params in sets}) == len(sets)


@settings(max_examples=200)
@given(PARAMS | CLOSE, PARAMS | CLOSE)
@example({"a": 2**53}, {"a": 2.0**53 + 2})
@example({"a": [1]}, {"a": [1.0]})
@example({"a": [True]}, {"a": [1]})
@example({"a": 1e300}, {"a": 10**300})
def test_ids_differ_where_parameters_do(one: dict[str, Any], other: dict[str, Any]) -> None:
    if not same(one, other):
        assert run_id("s", one) != run_id("s", other)


@settings(max_examples=150)
@given(CLOSE, CLOSE)
def test_ids_differ_where_parameters_do_that_are_made_to_look_alike(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert (run_id("s", one) == run_id("s", other)) == same(one, other)


@settings(max_examples=100)
@given(PARAMS, st.sampled_from(["s", "falling_ball", "a--b", "my sweep", "é" * 120, "n" * 255]))
@example({"\ud800": 1}, "s")
@example({"": ""}, "s")
def test_every_id_is_legal_and_bounded(params: dict[str, Any], name: str) -> None:
    made = run_id(name, params)
    assert keys.run_folder(made) == f"log_{made}"
    assert len(made.encode()) <= LONGEST


@settings(max_examples=100)
@given(PARAMS)
def test_the_order_of_parameters_does_not_matter(params: dict[str, Any]) -> None:
    backwards = dict(reversed(params.items()))
    assert run_id("s", backwards) == run_id("s", params) == run_id("s", dict(params))


@settings(max_examples=100)
@given(PARAMS)
def test_an_id_without_a_digest_is_that_of_0_3_0(params: dict[str, Any]) -> None:
    made = run_id("s", params)
    assert made == as_0_3_0("s", params) or made[-18:-16] == "--"


@settings(max_examples=150)
@given(st.dictionaries(IDENTIFIERS, st.integers(-99_999, 99_999), min_size=1, max_size=3))
def test_whole_numbers_are_one_parameter_as_ints_and_as_floats(params: dict[str, int]) -> None:
    positive = {name: abs(value) for name, value in params.items()}  # -0.0 is written as in 0.3.0
    floats = {name: float(value) for name, value in positive.items()}
    assert run_id("s", floats) == run_id("s", positive)
    listed = {name: [value] for name, value in positive.items()}
    assert run_id("s", {name: [value] for name, value in floats.items()}) == run_id("s", listed)


def test_numpy_values_are_the_numbers_that_they_are() -> None:
    import numpy as np

    params = {"a": np.float64(0.5), "b": np.int32(3), "c": np.bool_(True), "d": np.arange(2)}
    assert run_id("s", params) == run_id("s", {"a": 0.5, "b": 3, "c": True, "d": [0, 1]})


def test_a_parameter_without_a_plain_form_is_refused_by_name() -> None:
    with pytest.raises(EncodeError, match=r"params\.model"):
        run_id("s", {"model": object()})


def test_many_underscores_take_no_time() -> None:
    """Such an id has exponentially many readings, all of which are checked."""
    assert run_id("s", {"_".join("ab" * 45): 1, "_".join("ac" * 4): "_".join("aa")}) != ""
    assert run_id("s", {"_".join(["a"] * count): 1 for count in range(1, 12)}) != ""


def test_every_process_makes_the_same_ids() -> None:
    """The order of sets and dictionaries, and so the hash seed, has no effect."""
    sets: list[dict[str, Any]] = [
        {"b": {"y": 1, "x": {"s", "t", "u"}}, "a": 0.123456789},
        {"method": "rk4", "tags": {"p", "q"}},
    ]
    script = f"import json; from notata.run.runids import run_id; print(json.dumps([run_id('s', p) for p in {sets!r}]))"
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", script], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        )
        assert json.loads(done.stdout) == [run_id("s", params) for params in sets]
