"""Descriptions of pickles come from their opcodes; no pickle is ever executed."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import io
import pickle
import random
import sys
import tracemalloc
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pytest

from notata.formats.pickle_facts import PickleFacts, pickle_facts


def facts(data: bytes) -> PickleFacts:
    return pickle_facts(io.BytesIO(data))


class Point:
    def __init__(self) -> None:
        self.x = 1.5


class Made:
    """An object that its pickle creates by a call with these arguments."""

    def __init__(self, y: Any) -> None:
        self.y = y

    def __reduce__(self) -> Any:
        return Made, (self.y,), {"z": 1}


VALUES: list[Any] = [
    {"weights": np.arange(12.0).reshape(3, 4), "name": "ERROR", "more": [np.float32(1.5), np.bool_(True)]},
    [1, 2.5, None, True, (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), set(), {1}, frozenset([3]), 2**70, -1, 1j, "é", b"b"],
    [Point(), Made({"deep": [1]}), collections.OrderedDict(a=1), collections.Counter("aab"), collections.deque([1])],
    [dt.datetime(2026, 3, 1, tzinfo=dt.UTC), decimal.Decimal("1.5"), PurePosixPath("a/b"), ValueError("h"), Point],
    [np.random.default_rng(0), np.zeros(3, dtype=[("a", "f4")]), np.dtype("f8")],
]


class _Watched(pickle.Unpickler):
    """Python's own unpickler, which also records its imports."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.imported: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        now = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # by their names in Python 2
        self.imported.add(f"{now.get(module, module)}.{name}")
        return super().find_class(module, name)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_imports_are_those_that_reading_it_makes(value: Any, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    unpickler = _Watched(io.BytesIO(data))
    unpickler.load()
    found = facts(data)
    renamed = {
        name.replace("__builtin__.", "builtins.").replace("copy_reg.", "copyreg.") for name in unpickler.imported
    }
    assert set(found.imports) == renamed
    assert (found.dangerous, found.warnings) == ((), ())
    assert found.protocol == (protocol if protocol > 1 else 0)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"weights": [1.0, 2.0], "n": None}, "{'weights': [1.0, 2.0], 'n': None}"),
        (list(range(100)), "[0, 1, 2, 3, 4, 5, 6, 7, … 92 more]"),
        ([(), (1,), {1}, set(), frozenset([2]), "x" * 300, bytes(300), 10**4000],
         "[(), (1,), {1}, set(), frozenset({2}), <str of 300>, <bytes of 300 bytes>, <int of 1,662 bytes>]"),
        (collections.Counter("aa"), "collections.Counter({'a': 2})"),
        ([[[[[[[1]]]]]]], "[[[[[[…]]]]]]"),
    ],
)  # fmt: skip
def test_the_value_at_a_glance(value: Any, shown: str) -> None:
    assert facts(pickle.dumps(value, 5)).value == shown


def test_a_point_and_an_array_show_what_they_are_made_of() -> None:
    assert facts(pickle.dumps(Point(), 5)).value == f"{Point.__module__}.Point(state={{'x': 1.5}})"
    assert "(3, 4), 'C')" in facts(pickle.dumps(np.zeros((3, 4)), 5)).value


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", "os.system"),
        (b"c__builtin__\neval\n(S'1'\ntR.", "builtins.eval"),
        (b"(S'true'\nios\nsystem\n.", "os.system"),
        (b"(cos\nsystem\nS'true'\no.", "os.system"),
        (b"\x80\x04\x8c\x0asubprocess\x8c\x05Popen\x93)R.", "subprocess.Popen"),
        (b"\x80\x04\x8c\x06notata\x94\x8c\x09os.system\x940h\x00h\x01\x93.", "notata.os.system"),
        (b"\x80\x04\x8c\x02io\x8c\x04open\x93.", "io.open"),
        (b"cbuiltins\ngetattr\n.", "builtins.getattr"),
    ],
)
def test_dangerous_names_are_reported(data: bytes, name: str) -> None:
    found = facts(data)
    assert (found.imports, found.dangerous, found.warnings) == ((name,), (name,), ())
    assert f"DANGEROUS: {name}" in found.lines()


def test_a_computed_name_is_reported_as_hidden() -> None:
    found = facts(b"\x80\x04\x8c\x02os\x8c\x04join\x93)R\x8c\x06system\x93.")
    assert found.warnings == ("some of its imports have names that cannot be determined",)


def test_what_is_cut_off_damaged_or_none() -> None:
    data = pickle.dumps(VALUES[0])
    for at in range(len(data)):
        assert facts(data[:at]).warnings[-1].startswith(("it is truncated", "its operations are inconsistent"))
    assert facts(data + b"more").warnings == ("there is more data after its end",)
    assert "it is not a pickle" in facts(b"\xff\xfe no pickle").warnings[0]
    assert facts(b".").warnings == ("it does not create a value, after 1 operations",)
    assert "truncated" in facts(b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f" + b"x").warnings[0]
    assert "truncated" in facts(pickle.dumps(bytes(1000))[:-100]).warnings[0]


def test_damage_raises_nothing_and_imports_nothing() -> None:
    chosen = random.Random(1)
    sources = [pickle.dumps(value, protocol) for value in VALUES for protocol in (0, 2, 5)]
    before = set(sys.modules)
    for number in range(2000):
        data = bytearray(sources[number % len(sources)])
        for _ in range(3):
            data[chosen.randrange(len(data))] = chosen.randrange(256)
        facts(bytes(data)).lines()
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    "data",
    [
        b"(" * 50_000,
        b"\x80\x04]" + b"\x85" * 50_000 + b".",
        b"\x80\x04]\x94" + b"h\x00h\x00\x86\x940" * 15_000 + b".",
        b"\x80\x04(" + b"K\x01" * 50_000 + b"t.",
        b"S'" + b"x" * 10**7 + b"'\n.",
        b"\x80\x04\x95" + b"\xff" * 8,
    ],
    ids=["marks", "tuples", "doubling", "wide", "line", "frame"],
)
def test_bombs_take_little_memory(data: bytes) -> None:
    tracemalloc.start()
    try:
        pickle_facts(io.BytesIO(data), 30_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * 2**20


def test_the_examined_part_is_bounded() -> None:
    found = pickle_facts(io.BytesIO(pickle.dumps([float(number) for number in range(1000)])), 500)
    assert found.operations == 500
    assert found.warnings == ("only the first 500 operations were examined; the rest may import more",)
    assert found.value.endswith(" so far")


def test_a_dangerous_function_is_reported_under_any_name() -> None:
    found = facts(b"cx\nos.system\n0cx.os\nsystem\n.")
    assert (found.imports, found.dangerous) == (("x.os.system",), ("x.os.system",))
