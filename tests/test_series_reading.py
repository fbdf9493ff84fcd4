"""Series read back into arrays, through pyarrow and without it, from whole, torn and forged files."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
import uuid
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.json
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notata import (
    ConfigurationError,
    DamagedFileWarning,
    EncodeError,
    ExperimentReader,
    Logbook,
    LogReader,
    TooLargeError,
    UnknownNameError,
)
from notata._base import limits
from notata.testing import FaultyBackend
from tests.backends import Place
from tests.series import FIELDS, parsed_by_arrow, parsers, read_with, rows, same

KEY = "log_run/series/scalars.jsonl"
GOOD = b'{"step": 0, "time": 1.5, "a": 1}\n'


@pytest.fixture
def place() -> Place:
    return Place("memory", f"memory://{uuid.uuid4().hex}")


@pytest.fixture
def run(place: Place) -> Place:
    """A place with a complete run that has one row."""
    with place.logbook(environment=False, manifest=False) as log:
        log.scalars(a=1)
    return place


def reader(place: Place) -> LogReader:
    return LogReader(f"{place.url}/log_run")


@pytest.fixture
def by_arrow(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the blocks that pyarrow parses from now on."""
    return parsed_by_arrow(monkeypatch)


# -- rows that notata wrote ----------------------------------------------------------------------------------

TEXTS = st.one_of(
    st.sampled_from(["2026-11-28", "2026-11-28T12:00:00", "2026-11-28 12:00:00.5", "12:00", "1", "null", "NaN", ""]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
KINDS = {
    "float": st.floats(),
    "int": st.integers(-(2**63) + 1, 2**63 - 1),
    "number": st.one_of(st.floats(), st.integers(-(2**53), 2**53)),
    "text": TEXTS,
    "flag": st.booleans(),
}
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8).filter(lambda name: name not in FIELDS)


@st.composite
def tables(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Rows whose columns have one type each, with gaps; some columns come late."""
    kinds = draw(st.dictionaries(NAMES, st.sampled_from(sorted(KINDS)), max_size=4))
    kinds = {name: kind for name, kind in kinds.items() if name not in {"rank", "run_id"}}
    rows_: list[dict[str, Any]] = []
    for _ in range(draw(st.integers(0, 8))):
        row = {name: draw(KINDS[kind] | st.none()) for name, kind in kinds.items() if draw(st.booleans())}
        rows_.append(row)
    return rows_


def expected(table: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return the columns as lists, with gaps as NaN in columns of numbers, and as None in others."""
    names = dict.fromkeys(name for row in table for name in row)
    found: dict[str, list[Any]] = {}
    for name in names:
        column = [row.get(name) for row in table]
        given = [value for value in column if value is not None]
        if any(isinstance(value, str | bool) for value in given) or (
            len(given) == len(column) and all(isinstance(value, int) for value in given)
        ):
            found[name] = column
        else:
            found[name] = [math.nan if value is None else float(value) for value in column]
    return found


@parsers
@given(table=tables(), times=st.sampled_from([1, 1, 400]))
def test_rows_are_read_back(parser: str, table: list[dict[str, Any]], times: int) -> None:
    place = Place("memory", f"memory://{uuid.uuid4().hex}")
    table = table * times  # several blocks
    with place.logbook(environment=False, manifest=False) as log:
        for row in table:
            log.scalars(row)
    if not table:
        return
    with read_with(parser):
        data = reader(place).series()
    columns = {name: array.tolist() for name, array in data.items()}
    wanted = expected(table)
    assert columns.keys() == wanted.keys()
    assert same(columns, wanted)
    assert data.step.tolist() == list(range(len(table)))
    assert data.step.dtype == data.attempt.dtype == np.int64
    assert data.time.dtype == np.float64
    assert data.time.tolist() == [row["time"] for row in rows(place.bytes(KEY))]
    assert data.end == len(place.bytes(KEY))
    assert set(data.attempt.tolist()) == {0}
    kinds = {name: array.dtype.kind for name, array in data.items()}
    for name, column in wanted.items():
        types = {type(value) for value in column}
        assert kinds[name] == {float: "f", int: "i", bool: "b"}.get(next(iter(types)), "O") if len(types) == 1 else "O"


def test_pyarrow_parses_the_usual_rows(run: Place, by_arrow: list[int]) -> None:
    assert reader(run).series()["a"].tolist() == [1]
    assert by_arrow == [len(run.bytes(KEY))]
    with read_with("json"):
        assert reader(run).series()["a"].tolist() == [1]
    assert len(by_arrow) == 1


@parsers
def test_dtypes(place: Place, parser: str) -> None:
    with place.logbook() as log:
        log.scalars(i=1, f=0.5, b=True, t="x", gi=1, gb=True, none=None, mixed=1)
        log.scalars(i=2, f=1.5, b=False, t="2026-11-28", mixed=0.5, late=7)
    with read_with(parser):
        data = reader(place).series()
    assert {name: array.dtype for name, array in data.items()} == {
        "i": np.int64, "f": np.float64, "b": np.bool_, "t": np.object_, "gi": np.float64, "gb": np.object_,
        "none": np.float64, "mixed": np.float64, "late": np.float64,
    }  # fmt: skip
    assert data["gb"].tolist() == [True, None]
    assert same(data["late"].tolist(), [math.nan, 7.0])
    assert same(data["none"].tolist(), [math.nan, math.nan])


@parsers
def test_a_column_that_comes_or_changes_in_a_later_block(place: Place, parser: str, by_arrow: list[int]) -> None:
    count = 3000
    with place.logbook() as log:
        for number in range(count):
            log.scalars(a=number, b=number < 5, t="x" * (number % 50))
        for number in range(count):
            log.scalars(a=number / 2, late=number, t=f"2026-11-{10 + number % 10}", special=math.inf)
        log.scalars(a=math.nan)
    with read_with(parser):
        data = reader(place).series()
    assert len(place.bytes(KEY)) > 5 * 2**16
    assert (len(by_arrow) > 5) is (parser == "pyarrow")
    assert data["a"].dtype == np.float64
    assert same(data["a"].tolist(), [*map(float, range(count)), *(number / 2 for number in range(count)), math.nan])
    assert data["b"].tolist() == [number < 5 for number in range(count)] + [None] * (count + 1)
    assert np.isnan(data["late"][:count]).all()
    assert data["late"][count:-1].tolist() == [*range(count)]
    assert data["t"][count] == "2026-11-10"
    assert data["t"][-1] is None
    assert np.isposinf(data["special"][count:-1]).all()
    assert data.summary()["columns"]["a"]["count"] == 2 * count + 1
    assert data.summary()["columns"]["special"]["count"] == count


@parsers
def test_nan_is_a_value_and_a_gap_is_none(place: Place, parser: str) -> None:
    with place.logbook() as log:
        log.scalars(a=math.nan, i=1)
        log.scalars(a=None, i=math.inf)
        log.scalars(i=3)
        log.scalars(a=-math.inf)
    with read_with(parser):
        data = reader(place).series()
        part = data.where(slice(0, 3)).where(np.array([True, True, True]))
    assert same(data["a"].tolist(), [math.nan, math.nan, math.nan, -math.inf])
    assert same(data["i"].tolist(), [1.0, math.inf, 3.0, math.nan])
    assert data.summary()["columns"]["a"]["count"] == 2
    assert part.summary()["columns"]["a"]["count"] == 1
    assert same(data.to_arrow()["a"].to_pylist(), [math.nan, None, None, -math.inf])
    assert data.to_arrow()["i"].to_pylist() == [1, math.inf, 3, None]


def test_other_forms(place: Place) -> None:
    with place.logbook() as log:
        log.scalars(step=3, a=0.5, t="x", flag=True)
        log.scalars(step=9, a=None, n=1)
    data = reader(place).series()
    frame = data.to_pandas()
    assert list(frame.columns) == ["step", "time", "a", "t", "flag", "n"]
    assert frame["step"].tolist() == [3, 9]
    assert frame["a"].isna().tolist() == [False, True]
    table = data.to_arrow()
    assert table.schema.names == list(frame.columns)
    assert table["t"].to_pylist() == ["x", None]
    assert table["flag"].to_pylist() == [True, None]
    assert table.schema.field("step").type == pa.int64()
    assert (len(data), data.rows, sorted(data)) == (4, 2, ["a", "flag", "n", "t"])
    assert repr(data) == "SeriesData('scalars', 2 rows of a, t, flag, n)"
    later = data.where(data.step > 3)
    assert (later.rows, later.name, later["n"].tolist()) == (1, "scalars", [1.0])
    with pytest.raises(KeyError):
        data["missing"]


def test_a_missing_series_names_those_that_exist(run: Place) -> None:
    with pytest.raises(UnknownNameError, match="scalars"):
        reader(run).series("residual")
    with pytest.raises(UnknownNameError, match="no series 'scalars' of the worker with rank '3' in run 'run'"):
        reader(run).series(rank=3)
    with pytest.raises(UnknownNameError, match="scalars"):
        reader(run).series("residual", workers=True)


def test_a_series_that_only_workers_have(place: Place) -> None:
    with place.logbook() as log, log.worker(1) as worker:
        worker.scalars(loss=0.5)
    with pytest.raises(UnknownNameError, match=r"only workers have it\. Pass workers=True, or rank= with one of '1'$"):
        reader(place).series()
    with pytest.raises(UnknownNameError, match=r"of the worker with rank '7' .*; the ranks that have it: '1'$"):
        reader(place).series(rank=7)
    with pytest.raises(UnknownNameError, match=r"there is no 'residual' in run .*; there is scalars$"):
        reader(place).series("residual", workers=True)
    with pytest.raises(
        UnknownNameError, match=r"only workers have it\. Pass workers=True \(in the terminal, --workers"
    ):
        ExperimentReader(place.url).series("scalars")
    assert reader(place).series(workers=True)["loss"].tolist() == [0.5]


def test_an_unknown_column_lists_those_that_exist(run: Place) -> None:
    data = reader(run).series()
    with pytest.raises(KeyError, match="the series 'scalars' has no column 'b'; its columns: 'a'") as caught:
        data["b"]
    assert isinstance(caught.value, UnknownNameError)
    for name in ("step", "time", "attempt"):
        with pytest.raises(KeyError, match=rf"'{name}' is an attribute .*: use data\.{name}$"):
            data[name]
    with pytest.raises(KeyError, match="no column 'b'"):
        data.given("b")
    assert ("a" in data, "step" in data, data.get("b")) == (True, False, None)


@parsers
def test_a_column_of_many_types_is_no_column_of_a_table(run: Place, parser: str) -> None:
    run.put(KEY, GOOD + b'{"step": 1, "time": 1.0, "a": "x"}\n{"step": 2, "time": 1.0}\n')
    with read_with(parser):
        data = reader(run).series()
    with pytest.raises(EncodeError, match="the column 'a' has numbers and texts") as caught:
        data.to_arrow()
    assert caught.value.where == "a"
    run.put(KEY, b'{"step": 0, "time": 1.5, "a": 1%s}\n{"step": 1, "time": 1.5, "a": [1]}\n' % (b"0" * 30))
    with read_with(parser):
        data = reader(run).series()
    assert data.to_arrow()["a"].to_pylist() == [1e30, None]


# -- a part of the file --------------------------------------------------------------------------------------


@parsers
def test_only_what_was_added_is_read(place: Place, parser: str) -> None:
    store = FaultyBackend(place.store())
    with Logbook("run", store) as log, read_with(parser):
        log.scalars(a=1)
        log.scalars(a=2)
        found = reader(place).series()
        assert found.end == len(place.bytes(KEY))
        again = reader(place).series(start=found.end)
        assert (again.rows, again.end, len(again)) == (0, found.end, 0)
        log.scalars(a=3)
        added = reader(place).series(start=found.end)
    assert (added["a"].tolist(), added.step.tolist(), added.end) == ([3], [2], len(place.bytes(KEY)))


@parsers
def test_an_incomplete_last_line_is_left_for_later(run: Place, parser: str) -> None:
    whole = run.bytes(KEY)
    second = GOOD.replace(b'"step": 0', b'"step": 1')
    for size in range(1, len(second)):
        run.put(KEY, whole + second[:size])
        with read_with(parser):
            data = reader(run).series()
        assert (data.rows, data.end) == (1, len(whole))
    run.put(KEY, whole + second)
    with read_with(parser):
        assert reader(run).series(start=len(whole)).step.tolist() == [1]


@pytest.mark.parametrize("start", [-1, "x", None, 1.0, True, math.nan, pytest.param(10**5000, id="huge")])
def test_an_invalid_start_is_refused(run: Place, start: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"invalid start .*: pass 0, or `end` of an earlier read"):
        reader(run).series(start=start)
    with pytest.raises(ConfigurationError, match="invalid start"):
        next(iter(reader(run).follow(start=start)))


def test_a_start_at_which_no_row_ends_is_refused(run: Place) -> None:
    """As after the run was overwritten: the rows of another file would be skipped."""
    end: Any = np.int64(reader(run).series().end)
    assert reader(run).series(start=end).rows == 0
    for start, problem in (
        (end - 3, "no row ends there"),
        (end + 1, f"the file has only {end} bytes"),
        (10**9, "only"),
    ):
        with pytest.raises(ConfigurationError, match=problem) as caught:
            reader(run).series(start=start)
        assert caught.value.key == "series/scalars.jsonl"
        assert "read it again with start=0" in str(caught.value)
        with pytest.raises(ConfigurationError, match=problem):
            next(iter(reader(run).follow(start=start)))


def test_workers_read_no_part(run: Place) -> None:
    both: list[dict[str, Any]] = [{"start": 5}, {"rank": 0}, {"rank": 0, "start": 5}]
    for options in both:
        with pytest.raises(ConfigurationError, match="workers=True reads all rows of all workers"):
            reader(run).series(workers=True, **options)


def test_a_file_of_many_requests(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store = place.store()
    with place.logbook(manifest=False):
        pass
    line = b'{"step": %d, "time": 1.000, "a": %d, "text": "' + b"x" * 900 + b'"}\n'
    count = 20_000
    place.put(KEY, b"".join(line % (number, number) for number in range(count)))
    faulty = FaultyBackend(store)
    data = LogReader(faulty.inner and f"{place.url}/log_run").series()
    assert data["a"].tolist() == [*range(count)]
    assert data.end == len(place.bytes(KEY)) > 2 * 8 * 2**20


# -- damaged and forged files --------------------------------------------------------------------------------

NO_ROWS: dict[str, bytes] = {
    "torn": b'{"step": 1, "time": 1.0, "a": 0.\n',
    "torn in a name": b'{"step": 1, "time": 1.0, "a\n',
    "joined by a torn write": b'{"step": 1, "time": 1.0, "a{"step": 2, "time": 1.0, "a": 1}\n',
    "text": b"not JSON\n",
    "an array": b"[1, 2]\n",
    "a number": b"5\n",
    "an empty object": b"{}\n",
    "bytes": bytes(range(256)).replace(b"\n", b"") + b"\n",
    "zeros": b"\0" * 4096 + b"\n",
    "no UTF-8": b'{"step": 1, "time": 1.0, "b": "\xff"}\n',
    "no UTF-8 in a name": b'{"step": 1, "time": 1.0, "\xff": 1}\n',
    "a NUL": b'{"step": 1, "time": 1.0, "b": "\0"}\n',
    "no step": b'{"time": 1.0, "a": 1}\n',
    "no time": b'{"step": 1, "a": 1}\n',
    "step null": b'{"step": null, "time": 1.0, "a": 1}\n',
    "step text": b'{"step": "1", "time": 1.0, "a": 1}\n',
    "step float": b'{"step": 1.0, "time": 1.0, "a": 1}\n',
    "step boolean": b'{"step": true, "time": 1.0, "a": 1}\n',
    "step list": b'{"step": [1], "time": 1.0, "a": 1}\n',
    "step huge": b'{"step": 9223372036854775808, "time": 1.0, "a": 1}\n',
    "time null": b'{"step": 1, "time": null, "a": 1}\n',
    "time text": b'{"step": 1, "time": "2026-11-28T12:00:00", "a": 1}\n',
    "time boolean": b'{"step": 1, "time": true, "a": 1}\n',
    "try text": b'{"step": 1, "time": 1.0, "try": "1", "a": 1}\n',
    "try float": b'{"step": 1, "time": 1.0, "try": 0.5, "a": 1}\n',
    "try list": b'{"step": 1, "time": 1.0, "try": [], "a": 1}\n',
    "try huge": b'{"step": 1, "time": 1.0, "try": 1%s, "a": 1}\n' % (b"0" * 30),
    "deep arrays": b'{"step": 1, "time": 1.0, "a": %s%s}\n' % (b"[" * 100_000, b"]" * 100_000),
    "deep objects": b'{"step": 1, "time": 1.0, "a": %s1%s}\n' % (b'{"a": ' * 100_000, b"}" * 100_000),
    "deep and torn": b"[" * 100_000 + b"\n",
    "deep names": b'{"nonfinite": ' * 100_000 + b"\n",
    "larger than a row": b'{"step": 1, "time": 1.0, "a": 1, "t": "%s"}\n' % (b"x" * 2**20),
}
"""Lines that are no rows."""


@parsers
@pytest.mark.parametrize("place_of", ["alone", "first", "between", "last"])
@pytest.mark.parametrize("name", NO_ROWS)
def test_a_line_that_is_no_row_is_skipped(run: Place, parser: str, name: str, place_of: str) -> None:
    bad = NO_ROWS[name]
    good = [GOOD.replace(b'"step": 0', b'"step": %d' % step) for step in range(2)]
    run.put(KEY, {"alone": bad, "first": bad + good[0], "between": bad.join(good), "last": good[0] + bad}[place_of])
    with read_with(parser), pytest.warns(DamagedFileWarning) as caught:
        data = reader(run).series()
    (warning,) = caught
    count = 1 if bad.count(b"\n") == 1 else 2
    assert (
        str(warning.message) == f"{run.url}/log_run/series/scalars.jsonl has 1 line that is not a row; it was skipped"
    )
    assert warning.filename == __file__, count
    steps = {"alone": [], "first": [0], "between": [0, 1], "last": [0]}[place_of]
    assert data.step.tolist() == steps
    assert [data[name].tolist() for name in data] == ([[1] * len(steps)] if steps else [])
    assert data.end == len(run.bytes(KEY))


ODD_ROWS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "a huge integer": (b'{"step": 1, "time": 1.0, "a": 1%s}\n' % (b"0" * 400), {"a": math.inf}),
    "a huge negative integer": (b'{"step": 1, "time": 1.0, "a": -1%s}\n' % (b"0" * 400), {"a": -math.inf}),
    "an integer of 65 bits": (b'{"step": 1, "time": 1.0, "a": 18446744073709551616}\n', {"a": 2.0**64}),
    "a huge time": (b'{"step": 1, "time": 1%s, "a": 1}\n' % (b"0" * 400), {"a": 1}),
    "a literal NaN": (b'{"step": 1, "time": 1.0, "a": NaN}\n', {"a": math.nan}),
    "a lone surrogate": (b'{"step": 1, "time": 1.0, "t": "\\ud800"}\n', {"t": "\\ud800"}),
    "a lone surrogate in a name": (b'{"step": 1, "time": 1.0, "\\udfff": 1}\n', {"\\udfff": 1}),
    "nonfinite is null": (b'{"step": 1, "time": 1.0, "a": null, "nonfinite": null}\n', {"a": math.nan}),
    "nonfinite is a text": (b'{"step": 1, "time": 1.0, "a": null, "nonfinite": "Infinity"}\n', {"a": math.nan}),
    "nonfinite is a list": (b'{"step": 1, "time": 1.0, "a": null, "nonfinite": ["a"]}\n', {"a": math.nan}),
    "nonfinite is a number": (b'{"step": 1, "time": 1.0, "a": null, "nonfinite": 5}\n', {"a": math.nan}),
    "nonfinite of lists": (b'{"step": 1, "time": 1.0, "a": null, "nonfinite": {"a": ["NaN"]}}\n', {"a": math.nan}),
    "nonfinite of objects": (b'{"step": 1, "time": 1.0, "a": null, "nonfinite": {"a": {"b": 1}}}\n', {"a": math.nan}),
    "nonfinite of numbers": (b'{"step": 1, "time": 1.0, "a": null, "nonfinite": {"a": 1}}\n', {"a": math.nan}),
    "nonfinite of odd words": (b'{"step": 1, "time": 1.0, "a": null, "nonfinite": {"a": "inf"}}\n', {"a": math.nan}),
    "nonfinite of no column": (
        b'{"step": 1, "time": 1.0, "a": 1, "nonfinite": {"step": "NaN", "time": "NaN", "z": "NaN"}}\n',
        {"a": 1},
    ),
    "nonfinite of a text": (b'{"step": 1, "time": 1.0, "t": "x", "nonfinite": {"t": "NaN"}}\n', {"t": "x"}),
    "a list": (b'{"step": 1, "time": 1.0, "a": 1, "b": [1, 2]}\n', {"a": 1, "b": None}),
    "an object": (b'{"step": 1, "time": 1.0, "a": 1, "b": {"c": 1}}\n', {"a": 1, "b": None}),
    "a name twice": (b'{"step": 1, "time": 1.0, "a": 1, "a": 2}\n', {"a": 2}),
    "no values": (b'{"step": 1, "time": 1.0}\n', {}),
    "an integer as time": (b'{"step": 1, "time": 1, "a": 1}\n', {"a": 1}),
    "a carriage return": (b'{"step": 1, "time": 1.0, "a": 1}\r\n', {"a": 1}),
    "blank lines": (b'\n\n  \n{"step": 1, "time": 1.0, "a": 1}\n\n', {"a": 1}),
    "another order": (b'{"a": 1, "time": 1.0, "step": 1}\n', {"a": 1}),
    "names that readers add": (b'{"step": 1, "time": 1.0, "rank": 5, "run_id": "forged", "a": 1}\n', {"a": 1}),
}
"""Rows that notata never writes, and their values."""


@parsers
@pytest.mark.parametrize("name", ODD_ROWS)
def test_an_odd_row_is_read_as_far_as_it_can_be(run: Place, parser: str, name: str) -> None:
    line, found = ODD_ROWS[name]
    for data, at in ((line, 0), (GOOD + line, 1), (line + GOOD, 0), (GOOD * 2000 + line, 2000)):
        run.put(KEY, data)
        with read_with(parser):
            series = reader(run).series()
        assert series.step[at] == 1
        values = {name: column.tolist()[at] for name, column in series.items()}
        assert same({name: value for name, value in values.items() if name in found}, found)
        assert series.rows == data.count(b'"step"') - data.count(b'{"step": "NaN"')
        assert not {"rank", "run_id"} & series.keys()
        series.summary()
        assert len(series.to_pandas()) == series.to_arrow().num_rows == series.rows


@parsers
def test_a_column_of_many_types(run: Place, parser: str) -> None:
    values = ["1", "0.5", "true", '"text"', "null", "[1]", '{"b": 1}', '"2026-11-28"']
    lines = [b'{"step": %d, "time": 1.0, "a": %s}\n' % (at, value.encode()) for at, value in enumerate(values)]
    run.put(KEY, b"".join(lines))
    with read_with(parser):
        data = reader(run).series()
    assert same(data["a"].tolist(), [1, 0.5, True, "text", None, None, None, "2026-11-28"])
    data.summary()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
FORGED = st.dictionaries(st.sampled_from(["step", "time", "try", "nonfinite", "a", "b"]), JSON, max_size=6)
LINES = st.one_of(
    st.builds(lambda row: json.dumps(row).encode(), FORGED),
    st.builds(
        lambda row, cut: json.dumps({"step": 1, "time": 1.0, **row}).encode()[:cut], FORGED, st.integers(0, 80)
    ),
    st.builds(
        lambda row: json.dumps({**row, "step": 1, "time": 1.0}, ensure_ascii=False).encode("utf-8", "replace"), FORGED
    ),
    st.binary(max_size=40),
    st.just(GOOD[:-1]),
)  # fmt: skip


@given(st.lists(LINES, max_size=6), st.booleans())
def test_no_bytes_cause_an_internal_error(lines: list[bytes], ends: bool) -> None:
    """Both parsers find the same rows in lines of JSON objects that are rows; neither fails on any others."""
    place = Place("memory", f"memory://{uuid.uuid4().hex}")
    with place.logbook(environment=False, manifest=False) as log:
        log.scalars(a=1)
    place.put(KEY, b"\n".join(lines) + (b"\n" if ends else b""))
    for parser in ("pyarrow", "json"):
        with read_with(parser), warnings.catch_warnings():
            warnings.simplefilter("ignore", DamagedFileWarning)
            data = reader(place).series()
        assert all(len(column) == data.rows for column in [*data.values(), data.step, data.time, data.attempt])
        data.summary()
        data.to_pandas()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamagedFileWarning)
        assert reader(place).series(workers=True).rows <= len(lines) if data.rows else True


DEEP = """
import sys, threading, warnings
from notata import LogReader
warnings.simplefilter("ignore")
threading.stack_size(512 * 1024)  # the stack of threads on macOS
thread = threading.Thread(target=lambda: print(LogReader(sys.argv[1]).series().step.tolist()))
thread.start()
thread.join()
"""


@pytest.mark.parametrize(("opens", "closes"), [(b"[", b"]"), (b'{"a":', b"}"), (b'{"step": \n', b"}")])
def test_deep_values_do_not_end_the_process(tmp_path: Path, opens: bytes, closes: bytes) -> None:
    place = Place("local", str(tmp_path))
    with place.logbook(environment=False):
        pass
    for depth in (200, 2000, 50_000):
        place.put(KEY, GOOD + b'{"step": 1, "time": 1.0, "b": ' + opens * depth + b"1" + closes * depth + b"}\n" + GOOD)
        done = subprocess.run(
            [sys.executable, "-c", DEEP, f"{place.url}/log_run"], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr[-500:]
        assert done.stdout.startswith("[0, "), done.stderr[-500:]


@parsers
def test_columns_that_differ_in_each_row_do_not_fill_the_memory(run: Place, parser: str) -> None:
    run.put(KEY, b"".join(b'{"step": %d, "time": 1.0, "c%d": 1}\n' % (number, number) for number in range(10_001)))
    with (
        read_with(parser),
        pytest.raises(TooLargeError, match=r"more than 10,000 columns\. Read the file with pyarrow"),
    ):
        reader(run).series()


def test_a_file_of_too_many_values_is_refused(run: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SERIES_VALUES", 999)
    run.put(KEY, GOOD * 999)
    assert reader(run).series().rows == 999
    run.put(KEY, GOOD * 1000)
    with pytest.raises(TooLargeError, match="more than 999 values") as caught:
        reader(run).series()
    assert caught.value.key == "series/scalars.jsonl"
    monkeypatch.setattr(limits, "SERIES", 100)
    with pytest.raises(TooLargeError, match="the limit for this file is 100"):
        reader(run).series()


def test_a_line_without_end_is_refused(run: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LINE", 2**20)
    run.put(KEY, GOOD + b" " * 9 * 2**20)
    with pytest.raises(TooLargeError, match="it has a line of more than 1,048,576 bytes"):
        reader(run).series()


# -- follow --------------------------------------------------------------------------------------------------


def test_follow_yields_each_row_once_until_the_end(place: Place) -> None:
    """Each row is added when the ones before were yielded, so nothing depends on the clock."""
    log = place.logbook()
    log.scalars(a=0)
    found: list[int] = []
    for data in reader(place).follow(interval=0.001):
        found += data["a"].tolist()
        if found[-1] < 5:
            log.scalars(a=found[-1] + 1)
            log.scalars(a=found[-1] + 2)
        elif log.status != "complete":
            log.scalars(a=found[-1] + 1)
            log.mark_complete()
    assert found == [*range(found[-1] + 1)]
    assert found[-1] >= 6


def test_follow_waits_for_a_series_that_does_not_exist_yet(place: Place) -> None:
    log = place.logbook()
    found: list[float] = []
    begun = threading.Event()

    def follow() -> None:
        begun.set()
        for data in reader(place).follow("late", interval=0.001):
            found.extend(data["r"].tolist())

    thread = threading.Thread(target=follow)
    thread.start()
    assert begun.wait(60)
    log.series("late").add(r=0.5)
    log.series("late").add(r=0.25)
    log.mark_complete()
    thread.join(120)
    assert not thread.is_alive()
    assert found == [0.5, 0.25]


def test_follow_of_a_run_that_has_ended_ends(run: Place) -> None:
    assert [data.step.tolist() for data in reader(run).follow()] == [[0]]
    assert [*reader(run).follow(start=len(run.bytes(KEY)))] == []
    assert [*reader(run).follow("missing")] == []
    assert [*reader(run).follow(rank=3)] == []


def test_follow_reads_another_file_from_its_beginning(place: Place) -> None:
    """The new file is shorter, longer, or has a row that ends at the same place."""
    log = place.logbook()
    log.scalars(step=10, a=10)
    log.scalars(step=11, a=11)
    wanted = [[10, 11], [20], [30, 31, 32, 33], [40, 41], [50, 51, 52]]
    found: list[list[int]] = []
    for data in reader(place).follow(interval=0):
        found.append(data["a"].tolist())
        if len(found) == len(wanted):
            log.mark_complete()
            continue
        log = place.logbook(overwrite=True)
        texts = {2: {"longer": "x" * 7}}.get(len(found), {})
        steps = wanted[len(found)]
        lines = [{"step": step, "time": 1764323213.125, "a": step, **texts} for step in steps]
        place.put(KEY, "".join(json.dumps(line) + "\n" for line in lines).encode())
    assert found == wanted


def test_follow_notices_another_file_before_the_metadata_changes(run: Place) -> None:
    end = len(run.bytes(KEY))
    metadata = json.loads(run.bytes("log_run/metadata.json"))
    run.put("log_run/metadata.json", json.dumps(metadata | {"status": "replacing"}).encode())
    found = []
    for data in reader(run).follow(interval=0):
        found.append(data["a"].tolist())
        if len(found) == 1:
            run.put(KEY, GOOD.replace(b"1.5", b"1.%s" % (b"5" * end)))
        else:
            run.put("log_run/metadata.json", json.dumps({**metadata, "start_time": "later"}).encode())
    assert found == [[1], [1]]


def test_follow_goes_on_while_the_run_is_being_replaced(run: Place) -> None:
    metadata = json.loads(run.bytes("log_run/metadata.json"))
    run.put("log_run/metadata.json", json.dumps({**metadata, "status": "replacing"}).encode())
    found = []
    for data in reader(run).follow(interval=0):
        found += data["a"].tolist()
        if len(found) == 1:
            run.put(KEY, run.bytes(KEY) * 2)
        run.put(
            "log_run/metadata.json",
            json.dumps(metadata | {"status": "replacing" if len(found) < 2 else "failed"}).encode(),
        )
    assert found == [1, 1]


@pytest.mark.parametrize(
    "interval", [-1, math.nan, math.inf, 1e300, pytest.param(10**5000, id="huge"), "x", None, True]
)
def test_an_invalid_interval_is_refused(run: Place, interval: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"invalid interval .*: pass a number of seconds"):
        reader(run).follow(interval=interval)


def test_pandas_reads_what_the_reader_reads(place: Place) -> None:
    with place.logbook() as log:
        for step in range(5):
            log.scalars(step=step, a=step / 3, n=step)
    frame = pd.DataFrame(rows(place.bytes(KEY)))
    pd.testing.assert_frame_equal(log.reader.series().to_pandas(), frame)
