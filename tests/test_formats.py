"""Values and the bytes of their files, read back by other means: json, PyYAML, pickle, the bytes themselves."""

from __future__ import annotations

import argparse
import array
import dataclasses
import datetime as dt
import enum
import io
import json
import math
import pickle
import sys
import threading
import tracemalloc
import types
import uuid
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

import attrs
import fsspec
import numpy as np
import numpy.typing as npt
import pandas as pd
import pydantic
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from upath import UPath

from notata import formats
from notata.errors import EncodeError, KeyNameError, NotataError, StorageError
from notata.store import Store, open_store

if TYPE_CHECKING:
    from typing_extensions import Buffer

SECRET = "hunter2-do-not-store"
MIB = 2**20

ANY_TEXT = st.text(st.characters() | st.characters(categories=["Cs"]), max_size=30)
SCALARS = st.none() | st.booleans() | st.integers() | st.integers(-(10**60), 10**60) | st.floats()


def _joined(text: str) -> str:
    """Return the text as JSON reads it: two consecutive surrogates form one character."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


def _escaped(text: str) -> str:
    r"""Return the text in a form that UTF-8 can encode: lone surrogates become their escapes, such as ``\udc80``."""
    return "".join(f"\\u{ord(c):04x}" if "\ud800" <= c <= "\udfff" else c for c in text)


def _exact(value: object) -> object:
    """Return a form that compares equal only for the same value and type: NaN equals NaN, 1 does not equal 1.0."""
    if isinstance(value, dict):
        return {(type(key), key): _exact(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_exact(item) for item in value]
    return (type(value), repr(value))


def _nested(leaves: st.SearchStrategy[Any], names: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves, lambda parts: st.lists(parts, max_size=4) | st.dictionaries(names, parts, max_size=4), max_leaves=12
    )


def _json(value: object) -> Any:
    return json.loads(formats.encode(formats.JSON, value))


def _yaml(value: object) -> Any:
    return yaml.safe_load(formats.encode(formats.YAML, value))


def _refused(form: formats.Format, value: object) -> EncodeError:
    with pytest.raises(EncodeError) as caught:
        formats.encode(form, value)
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, NotataError)
    return caught.value


class Sink:
    """A binary file that keeps only the sizes of the writes."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def write(self, data: Buffer) -> int:
        self.sizes.append(memoryview(data).nbytes)
        return self.sizes[-1]


class Refusing:
    """A binary file whose writes all fail with the same error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def write(self, data: Buffer) -> int:
        raise self.error


def _file(fake: Sink | Refusing) -> IO[bytes]:
    return cast("IO[bytes]", fake)


def _deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


class Phase(enum.Enum):
    SOLID = "solid"
    LIQUID = 2


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Mode(enum.Flag):
    A = 1
    B = 2


class Word(enum.StrEnum):
    YES = "yes"


@dataclasses.dataclass
class Layer:
    weight: object
    name: str = "dense"


@dataclasses.dataclass(frozen=True)
class Site:
    x: int


class Point(NamedTuple):
    y: float
    x: float


class LoudStr(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "loud"

    __repr__ = __str__


class LoudInt(int):
    def __repr__(self) -> str:
        return "loud"

    __str__ = __repr__


class LoudFloat(float):
    def __repr__(self) -> str:
        return "loud"

    __str__ = __repr__


class ListLike:
    """Like a tensor of torch or jax: it has a dtype and a `tolist` method."""

    dtype = "float32"

    def tolist(self) -> list[list[float]]:
        return [[1.0], [2.0]]


# -- text --------------------------------------------------------------------------------------------------


@given(ANY_TEXT)
@example("a\r\nb\rc\nd\x85e\u2028")
@example("\ufeffbom")
@example("\x00\x1b[0m")
@example("\ud800")
@example("\ud83d\ude00 is no 😀 here")
@example("\\ud800")
def test_any_text_is_valid_utf_8_with_its_newlines_as_given(text: str) -> None:
    assert formats.encode(formats.TEXT, text).decode("utf-8") == _escaped(text)


def test_long_text_goes_in_slices_and_none_is_lost() -> None:
    text = "é😀\udc80\r\n" * 700_000
    sink = Sink()
    formats.TEXT.write(text, _file(sink))
    assert len(sink.sizes) > 3
    assert max(sink.sizes) <= 6 * MIB
    assert sum(sink.sizes) == 700_000 * (2 + 4 + 6 + 2)
    assert formats.encode(formats.TEXT, text) == "é😀\\udc80\r\n".encode() * 700_000


def test_empty_text_is_an_empty_file() -> None:
    assert formats.encode(formats.TEXT, "") == b""


@pytest.mark.parametrize("value", [b"a", bytearray(b"a"), 5, None, ["a"], Path("a")])
def test_text_takes_strings_only(value: object) -> None:
    message = str(_refused(formats.TEXT, value))
    assert message == f"text takes a str, not {type(value).__name__}; use bytes() for bytes"


# -- JSON --------------------------------------------------------------------------------------------------


@given(_nested(SCALARS | ANY_TEXT.map(_joined), ANY_TEXT.map(_joined)))
@example({"\ud800": ["\udc80", "\\", "\\\ud800", '"\udfff"']})
@example([math.nan, math.inf, -math.inf, -0.0, 5e-324, 1, True, 10**400])
@example({"": {}, "a": [], "\u2028": "\x00\x7f\x85"})
def test_any_json_value_reads_back_as_it_was(value: object) -> None:
    data = formats.encode(formats.JSON, value)
    data.decode("utf-8")
    assert data.endswith(b"\n")
    assert _exact(json.loads(data)) == _exact(value)


def test_json_has_two_spaces_sorted_keys_and_unescaped_utf_8() -> None:
    assert formats.encode(formats.JSON, {"b": [1, None], "ä": {}, "a": {"y": True, "x": "π"}}) == (
        '{\n  "a": {\n    "x": "π",\n    "y": true\n  },\n  "b": [\n    1,\n    null\n  ],\n  "ä": {}\n}\n'.encode()
    )


def test_keys_of_one_number_type_are_in_the_order_of_the_numbers() -> None:
    assert formats.encode(formats.JSON, {10: "a", 9: "b", -1: "c"}) == b'{\n  "-1": "c",\n  "9": "b",\n  "10": "a"\n}\n'


def test_keys_of_several_types_become_strings_in_one_order() -> None:
    value = {"b": 1, None: 2, True: 3, 2.5: 4, Phase.SOLID: 5, 7: 6, dt.date(2026, 1, 2): 7, Path("p/q"): 8}
    expected = {"b": 1, "null": 2, "true": 3, "2.5": 4, "solid": 5, "7": 6, "2026-01-02": 7, "p/q": 8}
    data = formats.encode(formats.JSON, value)
    assert json.loads(data) == expected
    assert data == formats.encode(formats.JSON, dict(reversed(value.items())))


def test_numpy_keys_are_as_python_s() -> None:
    value = {np.int64(3): 1, np.float64(2.5): 2, np.str_("x"): 3}
    assert _json(value) == {"3": 1, "2.5": 2, "x": 3}


def test_a_numpy_boolean_key_is_as_python_s() -> None:
    assert _json({np.True_: 1, np.False_: 2}) == {"true": 1, "false": 2}


def test_long_json_goes_in_pieces() -> None:
    value = list(range(500_000))
    sink = Sink()
    formats.JSON.write(value, _file(sink))
    assert len(sink.sizes) > 2
    assert max(sink.sizes) < 2 * MIB
    assert sum(sink.sizes) == len(json.dumps(value, indent=2)) + 1


# -- YAML --------------------------------------------------------------------------------------------------

YAML_TEXT = st.text(max_size=30) | st.sampled_from(
    "\0\a\t\n\r\x1b \x7f\x85\x9f\xa0\u2028\u2029\ufeff\ufffe😀\U0010ffff"
)
NUMBERS = "1 1.5 1e5 1e-3 +1 -1 1. .5 0x1f 0o7 0b1 017 1_000 12:30:45 1:1 .inf -.inf .nan"
WORDS = "true True yes no on off y n null Null ~ 2020-01-01 2020-01-01T00:00:00 2020-01-01T00:00:00Z"
MARKS = "= << ? - : | > & * ! % @ ` ' \" # , [ ] { } --- ..."
AWKWARD = [
    *f"{NUMBERS} {WORDS} {MARKS}".split(),
    "",
    " ",
    " a",
    "a ",
    "\t",
    "\ta",
    "\n",
    "\na",
    "a\n",
    "a\n\n",
    "a\nb",
    " a\n  b\n",
    "a\r\nb",
    "- a",
    "a: b",
    "a #b",
    "#a",
    "!!python/object:os.system",
    "&a b",
    "*a",
    "%YAML 1.1",
    "a\x85b",
    "a\u2028b",
    "\ufeffa",
    "😀",
    "é" * 300,
    "long " * 300,
    "x" * 2000,
    "\x00",
    "\x1b[31m",
    "\x7f",
    "\U0010ffff",
]
YAML_KEYS = st.text(max_size=12) | st.sampled_from(AWKWARD) | st.integers() | st.floats(allow_nan=False) | st.none()
PLAIN_MAPPINGS = st.dictionaries(
    YAML_KEYS, _nested(SCALARS | YAML_TEXT | st.sampled_from(AWKWARD), YAML_KEYS), max_size=4
)


def _tags(data: bytes) -> list[object]:
    """Return every explicit tag, anchor and alias of a YAML file."""
    found: list[object] = []
    for event in yaml.parse(data, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            found.append(event)
        elif isinstance(event, yaml.NodeEvent):
            found += [mark for mark in (event.anchor, getattr(event, "tag", None)) if mark is not None]
    return found


@given(PLAIN_MAPPINGS)
def test_any_plain_mapping_reads_back_from_yaml_as_it_was(value: dict[Any, Any]) -> None:
    data = formats.encode(formats.YAML, value)
    data.decode("utf-8")
    assert _exact(yaml.safe_load(data)) == _exact(value)
    assert _tags(data) == []


@pytest.mark.parametrize("text", AWKWARD)
def test_a_string_that_looks_like_something_else_stays_a_string(text: str) -> None:
    value = {"value": text, "inner": [text, {text: text}]}
    data = formats.encode(formats.YAML, value)
    assert yaml.safe_load(data) == value
    assert _tags(data) == []


@given(st.dictionaries(ANY_TEXT, ANY_TEXT | st.lists(ANY_TEXT, max_size=3), max_size=3))
@example({"\ud800": "\udc80", "k": ["\ud83d\ude00", "a\udfff: b"]})
def test_lone_surrogates_become_their_escapes_in_yaml(value: dict[str, Any]) -> None:
    wanted = {_escaped(k): _escaped(v) if isinstance(v, str) else [*map(_escaped, v)] for k, v in value.items()}
    if len(wanted) == len(value):
        assert _yaml(value) == wanted


def test_yaml_is_block_style_with_sorted_keys_and_no_aliases() -> None:
    shared = [1, 2]
    value = {"b": shared, "a": shared, "c": {"y": "π", "x": 1e-05}, "d": [], "e": {}, "f": None, "g": True}
    assert formats.encode(formats.YAML, value) == (
        "a:\n- 1\n- 2\nb:\n- 1\n- 2\nc:\n  x: 1.0e-05\n  y: π\nd: []\ne: {}\nf: null\ng: true\n".encode()
    )


def test_yaml_keys_that_are_no_strings_stay_what_they_are() -> None:
    value = {1: "a", 2.5: "b", None: "c", False: "d", "e": {np.int8(-3): np.float32(0.5)}}
    assert _exact(_yaml(value)) == _exact({1: "a", 2.5: "b", None: "c", False: "d", "e": {-3: 0.5}})


@pytest.mark.parametrize("number", [1e5, 1e-5, 1e16, 1e22, 1e300, 5e-324, -0.0, 0.1, 123456789.125, math.inf])
def test_yaml_floats_stay_floats(number: float) -> None:
    assert _exact(_yaml({"x": number, "y": np.float64(number)})) == _exact({"x": number, "y": number})


def test_yaml_takes_what_json_takes() -> None:
    value = {"at": dt.date(2026, 1, 2), "phase": Phase.LIQUID, "site": Site(3), "z": 1 + 2j, "out": Path("a/b")}
    wanted = {"at": "2026-01-02", "phase": 2, "site": {"x": 3}, "z": {"real": 1.0, "imag": 2.0}, "out": "a/b"}
    data = formats.encode(formats.YAML, value)
    assert yaml.safe_load(data) == wanted
    assert _tags(data) == []


# -- numpy -------------------------------------------------------------------------------------------------

NUMPY_SCALARS: list[tuple[object, object]] = [
    (np.bool_(True), True),
    *((np.dtype(code).type(np.iinfo(code).max), int(np.iinfo(code).max)) for code in "bhilqBHILQ"),
    *((np.dtype(code).type(np.iinfo(code).min), int(np.iinfo(code).min)) for code in "bhilqBHILQ"),
    *((np.dtype(code).type(-1.5), -1.5) for code in "efd"),
    *((np.dtype(code).type(1.5 - 2j), {"real": 1.5, "imag": -2.0}) for code in "FD"),
    (np.float64(math.inf), math.inf),
    (np.float64(-0.0), -0.0),
    (np.str_("1e5"), "1e5"),
    (np.datetime64("2026-11-22"), "2026-11-22"),
    (np.datetime64("2026-11-22T19:50:03.123456789"), "2026-11-22T19:50:03.123456789"),
    (np.datetime64("2026", "Y"), "2026"),
    (np.datetime64("NaT"), None),
    (np.timedelta64(1500, "ms"), 1.5),
    (np.timedelta64(2, "D"), 172800.0),
    (np.timedelta64(1, "ns"), 1e-9),
    (np.timedelta64("NaT"), None),
]
STRUCTURED = np.dtype([("n", "i4"), ("x", "f8"), ("t", "M8[s]"), ("v", "f4", (2,)), ("z", "c8")])


@pytest.mark.parametrize(("value", "plain"), NUMPY_SCALARS)
def test_a_numpy_scalar_is_what_python_says(value: object, plain: object) -> None:
    assert _exact(_json([value, np.array(value), {"k": value}])) == _exact([plain, plain, {"k": plain}])
    assert _exact(_yaml({"k": [value, np.array(value)]})) == _exact({"k": [plain, plain]})


@pytest.mark.parametrize("code", "gG")
def test_a_long_double_is_a_number(code: str) -> None:
    plain = 1.5 if code == "g" else {"real": 1.5, "imag": 0.0}
    scalar = np.dtype(code).type(1.5)
    assert _json([scalar, np.array(scalar), np.array([scalar])]) == [plain, plain, [plain]]


def test_a_nan_of_any_width_is_nan() -> None:
    read = _json([np.float16("nan"), np.float32("nan"), np.array([math.nan]), math.nan])
    assert [str(item) for item in read] == ["nan", "nan", "[nan]", "nan"]


@pytest.mark.parametrize("code", [*"?bhilqBHILQefdFDU", "M8[s]", "m8[s]", "O"])
def test_arrays_of_every_type_are_nested_lists(code: str) -> None:
    element = _json(np.zeros((), code))
    assert _json(np.zeros((2, 1), code)) == [[element], [element]]
    assert _json([np.zeros((0, 3), code), np.zeros(0, code), np.zeros((1, 0), code)]) == [[], [], [[]]]


def test_array_orders_and_strides_do_not_show() -> None:
    grid = np.arange(12.0).reshape(3, 4)
    rows = [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0], [8.0, 9.0, 10.0, 11.0]]
    assert _json([grid, np.asfortranarray(grid), grid.astype(">f4")]) == [rows, rows, rows]
    assert _json(grid[::2, ::-3]) == [[3.0, 0.0], [11.0, 8.0]]


def test_a_structured_array_is_a_list_of_dictionaries() -> None:
    row = (7, 0.5, "2026-01-02T03:04:05", [1, 2], 1j)
    plain = {"n": 7, "x": 0.5, "t": "2026-01-02T03:04:05", "v": [1.0, 2.0], "z": {"real": 0.0, "imag": 1.0}}
    rows = np.array([row, row], STRUCTURED)
    assert _json([rows, rows[0], np.array(row, STRUCTURED), rows[:0]]) == [[plain, plain], plain, plain, []]


def test_masked_values_are_null() -> None:
    masked = np.ma.array([1.0, 2.0], mask=[False, True])
    assert _json({"array": masked, "one": np.ma.masked}) == {"array": [1.0, None], "one": None}


def test_object_arrays_are_walked() -> None:
    value = np.array([1, "a", None, {"at": np.int8(3)}, dt.date(2026, 1, 2)], object)
    assert _json(value) == [1, "a", None, {"at": 3}, "2026-01-02"]


def test_times_in_arrays() -> None:
    days = np.array([["2026-01-02", "NaT"]], "M8[D]")
    assert _json([days, np.array([90, "NaT"], "m8[m]")]) == [[["2026-01-02", None]], [5400.0, None]]


@pytest.mark.parametrize("unit", ["W", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as"])
def test_a_time_difference_of_any_unit_is_seconds(unit: str) -> None:
    seconds = {"W": 604800.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "ps": 1e-12}
    seconds |= {"fs": 1e-15, "as": 1e-18}
    assert _json(np.array([5], f"m8[{unit}]")) == [pytest.approx(5 * seconds[unit], rel=1e-12, abs=0)]


@pytest.mark.parametrize("value", [np.timedelta64(5, "Y"), np.timedelta64(5, "M"), np.zeros((), "M8")])
def test_a_time_without_a_plain_form_is_named(value: object) -> None:
    error = _refused(formats.Json("run"), {"took": [value]})
    assert error.where == "run.took[0]"
    assert str(error).startswith(("run.took[0] is a ", "run.took[0] is an "))


# -- pandas, and other arrays ------------------------------------------------------------------------------


def test_a_series_whose_labels_only_count_is_a_list() -> None:
    value = {
        "n": pd.Series([1, 2], index=[0, 1]),
        "x": pd.Series([0.5]),
        "t": pd.Series(pd.to_datetime(["2026-01-02"])),
        "d": pd.Series(pd.to_timedelta([1.5], unit="s")),
        "c": pd.Series(["u", "v"], dtype="category"),
        "i": pd.Index([3, 4]),
        "e": pd.Series([], dtype="f8"),
    }
    wanted = {"n": [1, 2], "x": [0.5], "t": ["2026-01-02T00:00:00"], "d": [1.5], "c": ["u", "v"], "i": [3, 4], "e": []}
    assert _json(value) == wanted
    assert _yaml(value) == wanted


def test_a_series_keeps_its_labels() -> None:
    frame = pd.DataFrame({"energy": [1.0, 2.0], "drift": [0.5, 1.0]})
    assert _json(frame.mean()) == _yaml(frame.mean()) == {"energy": 1.5, "drift": 0.75}
    assert _json({"of": frame["energy"][frame["energy"] > 1]}) == {"of": {"1": 2.0}}
    assert _yaml(frame["energy"][frame["energy"] > 1]) == {1: 2.0}
    days = pd.Series([1, 2], index=pd.to_datetime(["2026-01-02", "2026-01-03"]))
    assert _json(days) == {"2026-01-02T00:00:00": 1, "2026-01-03T00:00:00": 2}


@pytest.mark.parametrize(
    ("index", "why"),
    [
        (["a", "a"], "metrics is a Series: two of its keys become 'a'"),
        (pd.MultiIndex.from_tuples([("a", 1), ("a", 2)]), "a key of this type cannot be written as text"),
    ],
)
def test_labels_that_cannot_be_kept_are_an_error(index: Any, why: str) -> None:
    assert why in str(_refused(formats.Json("metrics"), pd.Series([1.0, 2.0], index=index)))


def test_a_time_that_pandas_misses_is_null_as_numpy_s() -> None:
    times = pd.Series([pd.Timestamp("2026-01-02"), pd.NaT])
    assert _json([pd.NaT, times]) == [None, ["2026-01-02T00:00:00", None]]


def test_a_value_that_pandas_misses_is_null() -> None:
    assert _json([pd.NA, pd.Series([1, None], dtype="Int64")]) == [None, [1, None]]


def test_what_turns_into_lists_by_itself_does() -> None:
    assert _json({"w": ListLike(), "a": array.array("d", [0.5])}) == {"w": [[1.0], [2.0]], "a": [0.5]}


# -- the rest of Python ------------------------------------------------------------------------------------

UTC_PLUS_2 = dt.timezone(dt.timedelta(hours=2))
OTHERS: list[tuple[object, object]] = [
    (dt.date(2026, 1, 2), "2026-01-02"),
    (dt.datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05"),
    (dt.datetime(2026, 1, 2, 3, 4, 5, 6, UTC_PLUS_2), "2026-01-02T03:04:05.000006+02:00"),
    (dt.time(3, 4), "03:04:00"),
    (dt.timedelta(days=1, milliseconds=500), 86400.5),
    (dt.timedelta(seconds=-1), -1.0),
    (Phase.SOLID, "solid"),
    (Level.HIGH, 2),
    (Mode.A | Mode.B, 3),
    (Word.YES, "yes"),
    (Layer(np.ones(2)), {"weight": [1.0, 1.0], "name": "dense"}),
    (Point(1.0, 2.0), {"y": 1.0, "x": 2.0}),
    ((1, (2,)), [1, [2]]),
    ({3, 1, 2}, [1, 2, 3]),
    (frozenset({"b", "a"}), ["a", "b"]),
    ({frozenset({2}), frozenset({1, 0})}, [[0, 1], [2]]),
    (set(), []),
    (PurePosixPath("a/b"), "a/b"),
    (PureWindowsPath("a\\b"), "a\\b"),
    (UPath("memory://bucket/a"), "memory://bucket/a"),
    (UPath("/tmp/a"), "/tmp/a"),
    (uuid.UUID(int=10), "00000000-0000-0000-0000-00000000000a"),
    (Decimal("1.10"), "1.10"),
    (Fraction(1, 3), "1/3"),
    (1 - 2j, {"real": 1.0, "imag": -2.0}),
    (deque([1, 2], maxlen=5), [1, 2]),
    (range(1, 7, 3), [1, 4]),
    (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    (Counter("aab"), {"a": 2, "b": 1}),
    (MappingProxyType({"a": 1}), {"a": 1}),
    ({"a": 1, "b": 2}.keys(), ["a", "b"]),
    ({"a": 1, "b": 2}.items(), [["a", 1], ["b", 2]]),
    (LoudStr("a"), "a"),
    (LoudInt(5), 5),
    (LoudFloat(0.5), 0.5),
    ({LoudStr("k"): LoudStr("v")}, {"k": "v"}),
]


@pytest.mark.parametrize(("value", "plain"), OTHERS)
def test_other_values_have_a_plain_form(value: object, plain: object) -> None:
    assert _exact(_json([value])) == _exact([plain])
    assert _exact(_yaml({"k": value})) == _exact({"k": plain})


@attrs.define
class Optimizer:
    name: str = "adam"
    lr: float = 0.1


class Training(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow", arbitrary_types_allowed=True)

    steps: int = 100
    optimizer: Optimizer = Optimizer()
    data: pydantic.HttpUrl = pydantic.HttpUrl("https://data.example.org/a")
    key: pydantic.SecretStr = pydantic.SecretStr(SECRET)


class Shape(pydantic.RootModel[list[int]]):
    pass


@attrs.define
class Late:
    lr: float = attrs.field(init=False)
    steps: int = 1


TRAINING = {
    "steps": 100,
    "optimizer": {"name": "adam", "lr": 0.1},
    "data": "https://data.example.org/a",
    "key": "*" * 10,
    "more": 1,
}
CONFIGURATIONS: list[tuple[object, object]] = [
    (argparse.Namespace(lr=0.1, model=argparse.Namespace(depth=2)), {"lr": 0.1, "model": {"depth": 2}}),
    (types.SimpleNamespace(lr=0.1), {"lr": 0.1}),
    (Optimizer(), {"name": "adam", "lr": 0.1}),
    (Late(), {"steps": 1}),
    (Training.model_validate({"more": 1}), TRAINING),
    (Shape([1, 2]), [1, 2]),
    (OmegaConf.create({"a": {"b": 1, "c": "${a.b}", "d": [1, "${a.b}"]}}), {"a": {"b": 1, "c": 1, "d": [1, 1]}}),
]


@pytest.mark.parametrize(("value", "plain"), CONFIGURATIONS)
def test_configurations_have_a_plain_form(value: object, plain: object) -> None:
    assert _json([value]) == [plain]
    assert _yaml({"k": value}) == {"k": plain}


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"b": "???"}, "m.a is a DictConfig: its parts cannot be read: Missing"),
        ({"b": "${z}"}, "m.a is a DictConfig: its parts cannot be read: Interpolation key"),
        ([1, "???"], "m.a is a ListConfig: its parts cannot be read: Missing"),
    ],
)
def test_a_configuration_that_lacks_a_value_is_refused(value: object, why: str) -> None:
    for form in (formats.Json("m"), formats.Yaml("m")):
        assert str(_refused(form, OmegaConf.create({"a": value}))).startswith(why)


def test_classes_and_dtypes_are_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = types.ModuleType("torch")  # torch has 200 MB; the test needs two classes that print their names
    kind, device = (
        type("dtype", (), {"__str__": lambda _: "torch.float32"}),
        type("device", (), {"__str__": lambda _: "cuda:0"}),
    )
    vars(torch).update(dtype=kind, device=device)
    monkeypatch.setitem(sys.modules, "torch", torch)
    value = {
        "builtin": int,
        "own": Layer,
        "nested": Decimal,
        "numpy": np.float32,
        "dtype": np.dtype("float32"),
        "torch": kind(),
        "device": device(),
    }
    names = {
        "builtin": "int",
        "own": f"{Layer.__module__}.Layer",
        "nested": "decimal.Decimal",
        "numpy": "numpy.float32",
        "dtype": "float32",
        "torch": "torch.float32",
        "device": "cuda:0",
    }
    assert _json(value) == _yaml(value) == names


def test_a_long_double_that_no_double_holds_is_refused() -> None:
    for number in ("1e4000", "-1e4000", "1e-4000"):
        value = np.longdouble(number)
        for odd in (value, np.array([1, value]), np.clongdouble(1 + 1j) * value):
            error = _refused(formats.Json("m"), {"x": odd})
            assert error.where == "m.x"
            assert str(error).endswith(
                "a number in it is outside the range of 64 bits; scale it, or store it as text or an array"
            )
    assert _json([np.longdouble("inf"), np.longdouble(0), np.longdouble("0.5")]) == [math.inf, 0.0, 0.5]


def test_the_values_of_a_dictionary_are_a_list() -> None:
    assert _json({"v": {"b": 1, "a": 2}.values()}) == {"v": [1, 2]}


def test_a_set_of_several_types_has_one_order() -> None:
    members: list[Any] = [1, "a", None, 2.5, (1, "x"), (1, 2), Site(1), Site(0), 1j]
    backwards: set[Any] = set()
    backwards.update(reversed(members))
    data = formats.encode(formats.JSON, set(members))
    assert data == formats.encode(formats.JSON, backwards)
    read = json.loads(data)
    assert len(read) == len(members)
    for plain in (1, "a", None, 2.5, [1, "x"], [1, 2], {"x": 1}, {"x": 0}, {"real": 0.0, "imag": 1.0}):
        assert plain in read


def test_a_value_that_occurs_twice_is_written_twice() -> None:
    part = {"x": [1]}
    assert _json([part, part, {"again": part}]) == [part, part, {"again": part}]


# -- what has no plain form, and where ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("root", "value", "where"),
    [
        ("metrics", {"layers": [0, 1, 2, {"weight": object()}]}, "metrics.layers[3].weight"),
        ("metrics", [object()], "metrics[0]"),
        ("metrics", object(), "metrics"),
        ("", {"layers": [object()]}, "layers[0]"),
        ("", [[object()]], "[0][0]"),
        ("m", {"two words": {"1": object()}}, "m['two words']['1']"),
        ("m", {"": object()}, "m['']"),
        ("m", {3: object()}, "m['3']"),
        ("m", {"x": Layer(object())}, "m.x.weight"),
        ("m", Point(0.0, cast("float", object())), "m.x"),
        ("m", {"x": deque([1, object()])}, "m.x[1]"),
        ("m", {"x": np.array([1, object()], object)}, "m.x[1]"),
        ("m", {"a": {len}}, "m.a{<built-in function len>}"),
    ],
)
def test_an_error_names_the_part(root: str, value: object, where: str) -> None:
    for form in (formats.Json(root), formats.Yaml(root)):
        error = _refused(form, value)
        if isinstance(form, formats.Json) or "'3'" not in where:
            assert error.where == where
            assert str(error).startswith((f"{where} is a ", f"{where} is an "))
            assert str(error).endswith(
                ": it cannot be stored as JSON or YAML; convert it to numbers, text, lists or a dict"
            )


def test_the_error_of_a_nested_object_in_full() -> None:
    error = _refused(formats.Json("metrics"), {"layers": [0, 1, 2, {"weight": object()}]})
    assert str(error) == (
        "metrics.layers[3].weight is an object: it cannot be stored as JSON or YAML; convert it to numbers, text, "
        "lists or a dict"
    )
    assert error.where == "metrics.layers[3].weight"
    assert (error.url, error.key) == (None, None)


def test_the_error_of_a_nameless_value() -> None:
    error = _refused(formats.JSON, object())
    assert str(error).startswith("the value is an object: it cannot be stored")
    assert error.where == ""


def _numbers() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    "value", [_numbers(), map(str, [1]), len, lambda: 1, ..., NotImplemented, io.BytesIO(), list[int]]
)
def test_what_has_no_plain_form_is_refused(value: object) -> None:
    assert _refused(formats.JSON, {"x": value}).where == "x"


@pytest.mark.parametrize(
    "value",
    [b"", b"raw", bytearray(b"raw"), memoryview(b"raw"), np.bytes_(b"raw"), np.void(b"raw"), np.array([b"raw"])],
)
def test_bytes_are_not_taken_for_text(value: object) -> None:
    for form in (formats.Json("m"), formats.Yaml("m")):
        error = _refused(form, {"x": value})
        assert error.where == ("m.x[0]" if isinstance(value, np.ndarray) else "m.x")
        assert str(error).endswith(": JSON and YAML hold text; decode it, or store it with bytes()")


def _own_list() -> object:
    value: list[Any] = [1]
    value.append({"again": value})
    return value


def _own_dict() -> object:
    value: dict[str, Any] = {}
    value["x"] = [value]
    return [0, value]


def _own_dataclass() -> object:
    value = Layer(None)
    value.weight = (value,)
    return [value]


def _own_array() -> object:
    value = np.empty(1, object)
    value[0] = value
    return {"x": value}


@pytest.mark.parametrize(
    ("make", "where", "kind"),
    [
        (_own_list, "m[1].again", "list"),
        (_own_dict, "m[1].x[0]", "dict"),
        (_own_dataclass, "m[0].weight[0]", "Layer"),
        (_own_array, "m.x[0]", "ndarray"),
    ],
)
def test_a_value_that_contains_itself_is_refused(make: Callable[[], object], where: str, kind: str) -> None:
    for form in (formats.Json("m"), formats.Yaml("m")):
        error = _refused(form, make())
        assert str(error) == f"{where} is {'an' if kind == 'ndarray' else 'a'} {kind}: it contains itself"
        assert error.where == where


@pytest.mark.parametrize(
    ("value", "where", "kind", "name"),
    [
        ({1: "a", "1": "b"}, "m", "dict", "'1'"),
        ({"x": [{None: 1, "null": 2}]}, "m.x[0]", "dict", "'null'"),
        ({"x": {True: 1, "true": 2}}, "m.x", "dict", "'true'"),
        ({Phase.SOLID: 1, "solid": 2}, "m", "dict", "'solid'"),
        ({Path("a"): 1, "a": 2}, "m", "dict", "'a'"),
        ({dt.date(2026, 1, 2): 1, "2026-01-02": 2}, "m", "dict", "'2026-01-02'"),
    ],
)
def test_keys_that_become_the_same_are_refused(value: object, where: str, kind: str, name: str) -> None:
    error = _refused(formats.Json("m"), value)
    assert str(error) == f"{where} is a {kind}: two of its keys become {name}"
    assert error.where == where


def test_yaml_keys_that_become_the_same_are_refused() -> None:
    error = _refused(formats.Yaml("m"), {"x": {Phase.LIQUID: 1, "2": 2}, "y": {Phase.LIQUID: 1, 2: 3}})
    assert str(error) == "m.y is a dict: two of its keys become 2"


def test_yaml_keys_that_become_the_same_escape_are_refused() -> None:
    error = _refused(formats.Yaml("m"), {"x": {"\ud800": 1, "\\ud800": 2}})
    assert error.where == "m.x"
    assert "two of its keys become" in str(error)


@pytest.mark.parametrize("key", [(1, 2), frozenset({1}), 1j, Site(1), len, b"raw"])
def test_a_key_without_a_form_as_text_is_refused(key: object) -> None:
    for form in (formats.Json("m"), formats.Yaml("m")):
        assert _refused(form, {"x": {key: 1}}).where == f"m.x[{repr(key)!r}]"


@pytest.mark.parametrize("levels", [5_000, 100_000])
def test_what_is_nested_too_deeply_is_refused(levels: int) -> None:
    for form in (formats.Json("m"), formats.Yaml("m")):
        error = _refused(form, {"x": _deep(levels)})
        assert str(error) == "m is nested too deeply"
        assert error.where == "m"
    assert str(_refused(formats.JSON, _deep(levels))) == "the value is nested too deeply"


def test_a_moderate_depth_is_allowed() -> None:
    value = _deep(100)
    assert _json(value) == value
    assert _yaml({"x": value}) == {"x": value}
    assert pickle.loads(formats.encode(formats.PICKLE, value)) == value


@pytest.mark.parametrize("form", [formats.Json("m"), formats.Yaml("m")])
def test_at_every_depth_a_value_is_written_or_refused(form: formats.Format) -> None:
    messages = set()
    for depth in range(220, 340):
        try:
            assert formats.encode(form, {"x": _deep(depth)})
        except EncodeError as error:
            messages.add(str(error))
    assert messages <= {"m is nested too deeply"}


@pytest.mark.parametrize("form", [formats.Json("m"), formats.Yaml("m")])
def test_a_number_with_too_many_digits_is_refused(form: formats.Format) -> None:
    assert "x" in str(_refused(form, {"x": 10**5000}))


@pytest.mark.parametrize("form", [formats.JSON, formats.YAML])
def test_nothing_is_written_of_a_value_that_is_refused(form: formats.Format) -> None:
    sink = Sink()
    with pytest.raises(EncodeError):
        form.write({"a": list(range(1000)), "z": object()}, _file(sink))
    assert sink.sizes == []


# -- pickle ------------------------------------------------------------------------------------------------

PICKLED = st.recursive(
    SCALARS.filter(lambda value: value == value) | ANY_TEXT | st.binary(),
    lambda parts: st.lists(parts, max_size=4) | st.dictionaries(ANY_TEXT, parts, max_size=4) | st.tuples(parts, parts),
    max_leaves=12,
)


@given(PICKLED, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_any_value_comes_back_from_its_pickle(value: object, protocol: int) -> None:
    assert pickle.loads(formats.encode(formats.Pickle(protocol), value)) == value


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_the_protocol_is_the_one_asked_for(protocol: int) -> None:
    assert formats.encode(formats.Pickle(protocol), [1])[:2] == bytes([0x80, protocol])


def test_objects_shared_or_their_own_part_come_back_so() -> None:
    value: list[Any] = [Layer(np.arange(3)), Phase.SOLID, {1, 2}]
    value += [value[0], value]
    read = pickle.loads(formats.encode(formats.PICKLE, value))
    assert read[0] is read[3]
    assert read[4] is read
    assert read[0].weight.tolist() == [0, 1, 2]
    assert read[1:3] == [Phase.SOLID, {1, 2}]


class Stubborn:
    """Objects that refuse to be pickled, each in a different way."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        raise self.error


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda: 1, "function cannot be pickled: "),
        (threading.Lock(), "lock cannot be pickled: cannot pickle '_thread.lock' object"),
        (_numbers(), "generator cannot be pickled: cannot pickle 'generator' object"),
        ({"a": [threading.Lock()]}, "dict cannot be pickled: cannot pickle '_thread.lock' object"),
        (type("Local", (), {})(), "Local cannot be pickled: "),
        (_deep(100_000), "list cannot be pickled: maximum recursion depth exceeded"),
        (Stubborn(TypeError("no way")), "Stubborn cannot be pickled: no way"),
        (Stubborn(ValueError("no way")), "Stubborn cannot be pickled: no way"),
        (Stubborn(RuntimeError("no way")), "Stubborn cannot be pickled: no way"),
        (Stubborn(NotImplementedError("no way")), "Stubborn cannot be pickled: no way"),
    ],
)
def test_what_does_not_pickle_is_an_encode_error(value: object, message: str) -> None:
    error = _refused(formats.PICKLE, value)
    assert str(error).startswith(message)
    assert error.__cause__ is not None


def test_a_protocol_that_python_does_not_have_is_an_encode_error() -> None:
    assert "protocol" in str(_refused(formats.Pickle(99), 1))


CARRIERS: list[Callable[[Store], object]] = [
    lambda store: store,
    lambda store: store.path_for("a/b"),
    lambda store: store.path_for("a/b").parent,
    lambda store: store.path_for(),
    lambda store: store.path_for("a") / "b" / "c",
    lambda store: store.below("folder"),
    lambda store: {"deep": [Layer(store.path_for("x")), (store, store.path_for("y"))]},
]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("url", ["memory://secretive/base", "s3://secretive/base"])
def test_no_storage_option_reaches_a_pickle(url: str, carrier: Callable[[Store], object], protocol: int) -> None:
    store = open_store(url, {"secret": SECRET, "key": SECRET})
    data = formats.encode(formats.Pickle(protocol), carrier(store))
    assert SECRET.encode() not in data
    assert b"secretive/base" in data
    assert SECRET.encode() in pickle.dumps(store)  # a pickle for other processes must contain it


def test_a_path_comes_back_from_its_pickle_as_the_same_place() -> None:
    store = open_store("memory://secretive/base", {"secret": SECRET})
    store.write("a/b", b"content")
    path, again = pickle.loads(formats.encode(formats.PICKLE, (store.path_for("a/b"), store)))
    assert isinstance(path, UPath)
    assert str(path) == "memory://secretive/base/a/b"
    assert path.read_bytes() == b"content"
    assert dict(path.storage_options) == {}
    assert again.read("a/b") == b"content"


def test_a_local_path_comes_back_from_its_pickle(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    path, again = pickle.loads(formats.encode(formats.PICKLE, (store.path_for("a/b"), store)))
    assert isinstance(path, Path)
    assert str(path) == str(tmp_path / "a/b")
    assert again.url == store.url


def _stock_path() -> object:
    return UPath("memory://secretive/a", secret=SECRET)


def _stock_filesystem() -> object:
    return fsspec.filesystem("memory", secret=SECRET)


def _stock_file() -> object:
    return fsspec.open("memory://secretive/a", secret=SECRET)


@pytest.mark.parametrize("make", [_stock_path, _stock_filesystem, _stock_file])
def test_other_carriers_of_storage_options_are_refused(make: Callable[[], object]) -> None:
    error = _refused(formats.PICKLE, [make()])
    assert "has storage options, which must not be stored in a file" in str(error)
    assert SECRET not in str(error)


def test_paths_and_file_systems_without_options_pickle() -> None:
    value = [UPath("memory://open/a"), UPath("/tmp/a"), fsspec.filesystem("file")]
    read = pickle.loads(formats.encode(formats.PICKLE, value))
    assert [str(item) for item in read[:2]] == ["memory://open/a", "/tmp/a"]


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_large_array_pickles_without_a_copy(order: Any) -> None:
    values = np.zeros((8 * MIB, 4), "u1", order=order)
    sink = Sink()
    tracemalloc.start()
    try:
        formats.PICKLE.write({"values": values, "again": values}, _file(sink))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert max(sink.sizes) == values.nbytes
    assert sum(sink.sizes) < values.nbytes + 1000
    assert peak < values.nbytes / 16


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_large_array_comes_back_from_its_pickle(order: Any) -> None:
    values = np.asarray(np.arange(300_000.0).reshape(300, 1000), order=order)
    for array_ in (values, values[::2, ::3], values[0], values[:, 0]):
        read = pickle.loads(formats.encode(formats.PICKLE, array_))
        assert read.dtype == array_.dtype
        assert read.tobytes() == array_.tobytes()


# -- bytes -------------------------------------------------------------------------------------------------


@given(st.binary())
def test_bytes_are_as_they_are(data: bytes) -> None:
    for value in (data, bytearray(data), memoryview(data), pickle.PickleBuffer(data), array.array("B", data)):
        assert formats.encode(formats.BYTES, value) == data


GRID = np.arange(24, dtype="<i2").reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (GRID, bytes.fromhex("".join(f"{n:02x}00" for n in range(24)))),
        (np.float64(1.0), bytes.fromhex("000000000000f03f")),
        (np.array(258, ">i2"), b"\x01\x02"),
        (np.zeros((0, 3)), b""),
        (np.zeros((3, 0), order="F"), b""),
        (np.array([1 + 2j], "<c8"), bytes.fromhex("0000803f00000040")),
        (np.array([True, False]), b"\x01\x00"),
        (np.array([(1, 2)], [("a", "<i2"), ("b", "u1")]), b"\x01\x00\x02"),
        (np.frombuffer(b"abc", "V3"), b"abc"),
        (array.array("h", [1, 2]), array.array("h", [1, 2]).tobytes()),
    ],
)
def test_the_bytes_of_an_array_are_those_in_memory(value: Any, data: bytes) -> None:
    assert formats.encode(formats.BYTES, value) == data


def test_the_bytes_of_a_fortran_array_are_in_the_order_of_memory() -> None:
    assert formats.encode(formats.BYTES, np.asfortranarray([[1, 2], [3, 4]]).astype("u1")) == b"\x01\x03\x02\x04"


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (memoryview(b"abcdef")[::2], b"ace"),
        (memoryview(b"abc")[::-1], b"cba"),
        (np.arange(6, dtype="u1").reshape(2, 3)[:, ::2], bytes([0, 2, 3, 5])),
        (np.arange(24, dtype="u1").reshape(2, 3, 4).transpose(1, 0, 2)[0], bytes([0, 1, 2, 3, 12, 13, 14, 15])),
    ],
)
def test_the_bytes_of_a_strided_array_are_in_c_order(value: Buffer, data: bytes) -> None:
    assert formats.encode(formats.BYTES, value) == data


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_large_array_goes_out_in_bytes_without_a_copy(order: Any) -> None:
    values: Any = np.zeros((8 * MIB, 4), "u1", order=order)
    sink = Sink()
    tracemalloc.start()
    try:
        formats.BYTES.write(values, _file(sink))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(sink.sizes) == values.nbytes
    assert peak < values.nbytes / 16


@pytest.mark.parametrize("value", ["text", 5, None, ["a"], {}, object()])
def test_bytes_takes_what_has_a_buffer_only(value: object) -> None:
    message = str(_refused(formats.BYTES, value))
    assert message.startswith(f"bytes takes a bytes-like object, not {type(value).__name__}: ")
    assert message.endswith("; use text() for text")


def test_bytes_refuses_an_array_of_objects_whose_memory_is_addresses() -> None:
    assert "ndarray" in str(_refused(formats.BYTES, np.array([object()])))


# -- every format ------------------------------------------------------------------------------------------

EVERY: list[tuple[formats.Format, object, str]] = [
    (formats.TEXT, "text", ".txt"),
    (formats.JSON, {"a": 1}, ".json"),
    (formats.PICKLE, [1], ".pkl"),
    (formats.BYTES, b"raw", ""),
    (formats.YAML, {"a": 1}, ".yaml"),
]


@pytest.mark.parametrize(("form", "value", "suffix"), EVERY)
def test_a_format_has_its_suffix(form: formats.Format, value: object, suffix: str) -> None:
    assert isinstance(form, formats.Format)
    assert form.suffix == suffix


@pytest.mark.parametrize(
    "error", [StorageError("full"), OSError("disk"), KeyNameError("the path is too long"), TypeError("the file's own")]
)
@pytest.mark.parametrize(("form", "value", "suffix"), EVERY)
def test_an_error_of_the_file_stays_what_it_is(
    form: formats.Format, value: object, suffix: str, error: Exception
) -> None:
    with pytest.raises(type(error)) as caught:
        form.write(value, _file(Refusing(error)))
    assert caught.value is error


@pytest.mark.parametrize(("form", "value", "suffix"), EVERY)
def test_a_format_leaves_the_file_open_and_what_is_before(form: formats.Format, value: object, suffix: str) -> None:
    file = io.BytesIO()
    file.write(b"before ")
    form.write(value, file)
    assert file.getvalue() == b"before " + formats.encode(form, value)
    assert not file.closed


@given(st.dictionaries(st.text(), st.lists(st.floats())))
def test_a_value_is_left_as_it_was(value: Mapping[str, list[float]]) -> None:
    before = repr(value)
    for form in (formats.JSON, formats.YAML, formats.PICKLE):
        formats.encode(form, value)
    assert repr(value) == before


def test_plain_is_what_both_text_formats_write() -> None:
    values: npt.NDArray[np.int64] = np.arange(2)
    assert formats.plain({"b": values, 1: None}) == {"1": None, "b": [0, 1]}
    assert formats.plain({"b": values, 1: None}, text_keys=False) == {1: None, "b": [0, 1]}
    assert list(formats.plain({"b": 1, "a": 2})) == ["a", "b"]


@pytest.mark.parametrize("name", ["numpy", "pandas", "fsspec"])
def test_a_module_that_another_thread_is_importing_has_nothing_in_it_yet(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    assert formats.plain({"loss": [0.5], "when": dt.date(2026, 3, 1)}) == {"loss": [0.5], "when": "2026-03-01"}
    for form in (formats.JSON, formats.YAML, formats.PICKLE):
        assert formats.decode(form, formats.encode(form, {"loss": [0.5, 1]})) == {"loss": [0.5, 1]}
    assert formats.decode(formats.PICKLE, formats.encode(formats.PICKLE, dt.date(2026, 3, 1))) == dt.date(2026, 3, 1)


def test_nor_has_one_of_tables_or_of_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib as mpl

    assert mpl
    for name in ("polars", "matplotlib.pyplot"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    assert formats.encode(formats.named("parquet"), {"t": [1, 2]})[:4] == b"PAR1"
    with pytest.raises(EncodeError, match="there is no current figure"):
        formats.current_figure()
