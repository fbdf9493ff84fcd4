"""Rows of a series as they are stored, and the summary that a writer keeps of them."""

from __future__ import annotations

import decimal
import enum
import fractions
import json
import math
import re
import uuid
from typing import Any

import ml_dtypes
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notata import EncodeError, KeyNameError, Logbook, LogReader, search
from notata._base import limits
from tests.backends import Place
from tests.series import FIELDS, rows, same, stored_summaries, summarized, values


@pytest.fixture
def place() -> Place:
    return Place("memory", f"memory://{uuid.uuid4().hex}")


def named(value: object) -> str:
    """Return a value as the id of a test, which is the same in each process."""
    return re.sub(r" at 0x\w+|[^ -~]", "_", repr(value))[:40]


class Color(enum.Enum):
    RED = "red"


class Phase(enum.IntEnum):
    WARM_UP = 3


class Tensor:
    """A tensor of torch or JAX with one element on some device, as far as its interface is used."""

    def __init__(self, value: Any, shape: tuple[int, ...] = ()) -> None:
        self.value = value
        self.shape = shape

    def item(self) -> Any:
        return self.value

    def __repr__(self) -> str:
        return f"Tensor({self.value!r}, {self.shape})"


class EagerTensor:
    """A tensor of TensorFlow: it has no `item`."""

    shape = ()

    def __float__(self) -> float:
        return 0.5


class Text(str):
    pass


class Real(float):
    pass


# -- values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (0.31, 0.31),
        (0.1 + 0.2, 0.1 + 0.2),
        (-0.0, -0.0),
        (5e-324, 5e-324),
        (3, 3),
        (2**63 - 1, 2**63 - 1),
        (2**63, 2.0**63),
        (-(2**70), -(2.0**70)),
        (True, True),
        (False, False),
        (None, None),
        ("warm-up", "warm-up"),
        ('é\n\t"\\\0\u2028😀', 'é\n\t"\\\0\u2028😀'),
        ("lone \ud800", "lone \\ud800"),
        ("", ""),
        ("2026-11-28", "2026-11-28"),
        ("x" * limits.SERIES_TEXT, "x" * limits.SERIES_TEXT),
        (Text("own"), "own"),
        (Real(0.5), 0.5),
        (np.float64(0.1), 0.1),
        (np.float32(0.1), float(np.float32(0.1))),
        (np.float16(0.5), 0.5),
        (np.longdouble(0.25), 0.25),
        (np.int8(-3), -3),
        (np.uint64(2**63), 2.0**63),
        (np.bool_(True), True),
        (np.str_("text"), "text"),
        (np.array(0.5), 0.5),
        (np.array([3]), 3),
        (np.array([[0.5]], "f4"), 0.5),
        (np.array(["text"]), "text"),
        (np.ma.masked, None),
        (np.ma.array([1.5], mask=[True]), None),
        (np.ma.array([1.5]), 1.5),
        (ml_dtypes.bfloat16(1.5), 1.5),
        (np.array(1.5, ml_dtypes.bfloat16), 1.5),
        (np.array([0.25], ml_dtypes.float8_e4m3fn), 0.25),
        (ml_dtypes.int4(3), 3),
        (decimal.Decimal("0.1"), 0.1),
        (decimal.Decimal("1e400"), None),
        (fractions.Fraction(1, 4), 0.25),
        (fractions.Fraction(10**400), None),
        (Color.RED, "red"),
        (Phase.WARM_UP, 3),
        (Tensor(0.5), 0.5),
        (Tensor(np.float32(0.5)), 0.5),
        (Tensor(2, (1, 1)), 2),
        (Tensor(True), True),
        (Tensor(None), None),
        (EagerTensor(), 0.5),
        (pd.Series([0.5]), 0.5),
    ],
    ids=named,
)
def test_a_value_is_stored_as_plain_json(place: Place, value: object, stored: object) -> None:
    with place.logbook() as log:
        log.scalars(a=value)
    (row,) = values(place)
    assert row["a"] == stored
    assert type(row["a"]) is type(stored)
    assert str(row["a"]) == str(stored)  # with the sign of zero


@pytest.mark.parametrize(
    ("value", "name", "special"),
    [
        (math.nan, "NaN", math.nan),
        (math.inf, "Infinity", math.inf),
        (-math.inf, "-Infinity", -math.inf),
        (np.float32("nan"), "NaN", math.nan),
        (np.array([-np.inf]), "-Infinity", -math.inf),
        (ml_dtypes.bfloat16("inf"), "Infinity", math.inf),
        (decimal.Decimal("NaN"), "NaN", math.nan),
        (decimal.Decimal("sNaN"), "NaN", math.nan),
        (decimal.Decimal("-1e400"), "-Infinity", -math.inf),
        (10**400, "Infinity", math.inf),
        (fractions.Fraction(-(10**400)), "-Infinity", -math.inf),
        (Tensor(math.inf), "Infinity", math.inf),
    ],
    ids=named,
)
def test_a_number_that_json_lacks_is_null_and_named(place: Place, value: object, name: str, special: float) -> None:
    with place.logbook() as log:
        log.scalars({"a": value, "b": 1, 'of "x"': value}, step=3)
    assert values(place) == [{"step": 3, "a": None, "b": 1, 'of "x"': None, "nonfinite": {"a": name, 'of "x"': name}}]
    assert same(log.reader.series()["a"].tolist(), [special])


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([1, 2], "'a' is a list, and a series stores numbers, booleans, short texts and None"),
        ((1,), "'a' is a tuple,"),
        ({"b": 1}, "'a' is a dict,"),
        (b"bytes", "'a' is a bytes,"),
        (object(), "'a' is an object,"),
        (1j, "'a' is a complex number,"),
        (np.complex64(1), "'a' is a complex number,"),
        (np.array([1j]), "'a' is a complex number,"),
        (np.zeros(3), r"'a' is an array of shape \(3,\),"),
        (np.zeros((0, 2)), r"'a' is an array of shape \(0, 2\),"),
        (np.datetime64("2026-11-28"), "'a' is a date,"),
        (np.bytes_(b"x"), "'a' is a bytes,"),
        (pd.Timestamp("2026-11-28"), "'a' is a Timestamp,"),
        (pd.Series([1, 2]), r"'a' is an array of shape \(2,\),"),
        (Tensor([1, 2], (2,)), r"'a' is an array of shape \(2,\),"),
        (Tensor(1j), "'a' is a complex number,"),
        ("x" * 1001, "'a' has 1,001 characters; the limit in a series is 1,000"),
    ],
    ids=named,
)
def test_another_value_is_refused_and_no_part_of_the_row_is_stored(place: Place, value: object, told: str) -> None:
    with place.logbook() as log:
        log.scalars(good=1)
        with pytest.raises(EncodeError, match=told) as caught:
            log.scalars({"good": 2, "a": value, "more": 3})
        log.scalars(good=3)
    assert caught.value.where == "a"
    assert values(place) == [{"step": 0, "good": 1}, {"step": 1, "good": 3}]
    assert log.series("scalars").summary() == summarized([0, 1], [{"good": 1}, {"good": 3}])


def test_an_error_of_a_value_itself_is_named_and_nothing_is_stored(place: Place) -> None:
    class Traced(Tensor):
        def item(self) -> Any:
            raise RuntimeError("within jit")

    with place.logbook() as log:
        with pytest.raises(EncodeError, match="'b' cannot be converted to a number: RuntimeError: within jit"):
            log.scalars(a=1, b=Traced(1))
        log.scalars(a=2)
    assert values(place) == [{"step": 0, "a": 2}]


# -- names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted({*FIELDS, "rank", "run_id"} - {"step"}))
def test_a_name_of_a_field_is_refused(place: Place, name: str) -> None:
    with place.logbook() as log, pytest.raises(EncodeError, match=f"'{name}' cannot be the name of a value") as caught:
        log.scalars({name: 1})
    assert caught.value.where == name
    assert "log_run/series/scalars.jsonl" not in place.names()


def test_step_beside_a_step_is_refused(place: Place) -> None:
    with place.logbook() as log, pytest.raises(EncodeError, match="'step' cannot be the name of a value"):
        log.scalars({"step": 1}, step=2)


@pytest.mark.parametrize("name", [1, None, ("a", "b"), b"a"])
def test_a_name_that_is_no_text_is_refused(place: Place, name: Any) -> None:
    with place.logbook() as log, pytest.raises(EncodeError, match=re.escape(f"invalid name {name!r} of a value")):
        log.scalars({name: 1})


def test_a_long_name_is_refused(place: Place) -> None:
    with place.logbook() as log:
        log.scalars({"n" * 500: 1})
        with pytest.raises(EncodeError, match="has 501 characters; the limit is 500"):
            log.scalars({"n" * 501: 1})


@pytest.mark.parametrize("given", [[("a", 1)], 0.5, "a", {"a"}])
def test_values_that_are_no_mapping_are_refused(place: Place, given: Any) -> None:
    with place.logbook() as log, pytest.raises(EncodeError, match="pass names and values, or a dictionary"):
        log.scalars(given)


def test_all_names_of_one_file_are_one_series(place: Place) -> None:
    with place.logbook() as log:
        for name in ("1", 1, "1.jsonl"):
            log.series(name).add(a=2)  # type: ignore[arg-type]  # an integer is a name everywhere
        assert log.series("1") is log.series("1.jsonl")
        with pytest.raises(KeyNameError, match=r"a folder in it ends with \.jsonl"):
            log.series("1.jsonl/b")
    assert values(place, "series/1.jsonl") == [{"step": step, "a": 2} for step in range(3)]
    assert stored_summaries(place) == {"1": summarized(range(3), [{"a": 2}] * 3)}


def test_numbers_that_python_does_not_print_are_refused(place: Place) -> None:
    with place.logbook() as log:
        with pytest.raises(EncodeError, match="invalid step an integer of 16610 bits"):
            log.scalars(step=10**5000, a=1)
        with pytest.raises(EncodeError, match="invalid name an integer of 16610 bits of a value"):
            log.scalars({10**5000: 1})  # type: ignore[dict-item]


def test_a_column_with_the_name_of_an_extreme_wins_over_it(place: Place) -> None:
    with place.logbook() as log:
        log.scalars({"grad": 1.0, "grad.min": 5.0})
        log.series("other").add({"norm.max": 7.0, "norm": 2.0})
    (overview,) = search.overviews(place.url)
    assert {name: value for name, value in overview.run.metrics.items() if "grad" in name or "norm" in name} == {
        "grad": 1.0, "grad.min": 5.0, "grad.max": 1.0, "grad.min.min": 5.0, "grad.min.max": 5.0,
        "other.norm": 2.0, "other.norm.min": 2.0, "other.norm.max": 7.0,
        "other.norm.max.min": 7.0, "other.norm.max.max": 7.0,
    }  # fmt: skip


def test_any_text_is_a_name(place: Place) -> None:
    names = ["", " ", "val/loss", "a.b", "é", 'quo"te', "back\\slash", "new\nline", "values", "\ud800"]
    with place.logbook() as log:
        log.scalars(dict.fromkeys(names, 1), values=2, self=3, name=4)
    (row,) = values(place)
    expected = {**dict.fromkeys(names, 1), "values": 2, "self": 3, "name": 4}
    expected["\\ud800"] = expected.pop("\ud800")
    assert row == {"step": 0, **expected}


def test_a_series_may_have_a_name_with_folders_that_is_legal_on_every_backend(place: Place) -> None:
    with place.logbook() as log:
        log.series("val/best").add(a=1)
        for name in ("", "../up", "/absolute", "a//b", "nul\0"):
            with pytest.raises(KeyNameError):
                log.series(name)
        assert log.series("val/best") is log.series("val/best")
    assert values(place, "series/val/best.jsonl") == [{"step": 0, "a": 1}]


# -- a column has one type ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "other", "told"),
    [
        (1.0, "text", "'a' is a text here, but it was a number before: 'text'"),
        (1, "text", "'a' is a text here, but it was a number before"),
        ("text", 1, "'a' is a number here, but it was a text before: 1"),
        ("text", True, "'a' is a boolean here, but it was a text before: True"),
        (True, 1, "'a' is a number here, but it was a boolean before: 1"),
        (True, "text", "'a' is a text here, but it was a boolean before"),
    ],
)
def test_a_change_of_type_is_refused(place: Place, first: object, other: object, told: str) -> None:
    with place.logbook() as log:
        log.scalars(a=None)
        log.scalars(a=first)
        with pytest.raises(EncodeError, match=told) as caught:
            log.scalars(b=1, a=other)
        log.scalars(a=None)
        log.scalars(a=first)
        log.series("other").add(a=other)
    assert caught.value.where == "a"
    assert [row["a"] for row in values(place)] == [None, first, None, first]


def test_integers_floats_and_booleans_among_numbers_are_numbers(place: Place) -> None:
    with place.logbook() as log:
        for value in (1, 0.5, np.int64(2), True, math.nan, False):
            log.scalars(a=value)
    stored = [row["a"] for row in values(place)]
    assert stored == [1, 0.5, 2, 1, None, 0]
    assert not any(isinstance(value, bool) for value in stored)


def test_a_refused_row_does_not_decide_the_type(place: Place) -> None:
    with place.logbook() as log:
        log.scalars(a=None)
        with pytest.raises(EncodeError):
            log.scalars(a="text", b=[])
        log.scalars(a=0.5)
    assert [row["a"] for row in values(place)] == [None, 0.5]


# -- sizes -------------------------------------------------------------------------------------------------


def test_a_row_over_1_mib_is_refused(place: Place) -> None:
    text = "é" * 1000
    with place.logbook() as log:
        log.scalars({f"c{number}": text for number in range(500)})
        with pytest.raises(
            EncodeError, match=r"cannot store a row of 1\.. MB: the limit is 1\.0 MB. Use several series"
        ):
            log.scalars({f"c{number}": text for number in range(600)})
        log.scalars(c0="next")
    assert [len(row) for row in values(place)] == [501, 2]
    assert log.reader.series().rows == 2


def test_a_series_has_at_most_10_000_columns(place: Place) -> None:
    with place.logbook() as log:
        log.scalars({f"c{number}": number for number in range(9_999)})
        with pytest.raises(EncodeError, match="cannot add the column 'e': a series has at most 10,000 columns"):
            log.scalars(d=1, e=2)
        log.scalars(d=1)
        with pytest.raises(EncodeError, match="at most 10,000 columns"):
            log.scalars(e=1)
        log.scalars(c0=5, d=2)
        log.series("other").add(e=1)
    data = log.reader.series()
    assert (len(data), data.rows) == (10_000, 3)
    assert data["c9998"].tolist()[0] == 9998
    stored = json.loads(place.bytes("log_run/metadata.json"))["series_summary"]
    assert sum(len(series["columns"]) for series in stored.values()) == limits.SERIES_SUMMARY
    assert stored["scalars"]["columns"]["c0"]["last"] == 5


def test_each_series_has_a_share_of_the_columns_in_metadata_json(place: Place) -> None:
    with place.logbook() as log:
        log.scalars({f"c{number}": number for number in range(1_000)})
        log.series("wide").add({f"c{number}": number for number in range(400)})
        log.series("narrow").add(a=1, b=2)
    stored = json.loads(place.bytes("log_run/metadata.json"))["series_summary"]
    assert {name: len(series["columns"]) for name, series in stored.items()} == {
        "scalars": 249, "wide": 249, "narrow": 2,
    }  # fmt: skip


def test_10_000_columns_fit_into_one_row(place: Place) -> None:
    many = {f"c{number}": number / 7 for number in range(10_000)}
    with place.logbook() as log:
        log.scalars(many)
        with pytest.raises(EncodeError, match="at most 10,000 columns"):
            log.series("more").add({**many, "c": 1})
    assert values(place) == [{"step": 0, **many}]


# -- steps and times ---------------------------------------------------------------------------------------


def test_steps_count_on_from_the_last_row(place: Place) -> None:
    with place.logbook() as log:
        log.scalars(a=0)
        log.scalars(a=0)
        log.scalars(a=0, step=10)
        log.scalars(a=0)
        log.scalars(a=0, step=4)
        log.scalars(a=0)
        log.scalars({"step": 7, "a": 0})
        log.scalars({"step": None, "a": 0})
        log.scalars()
        log.series("other").add(a=0)
    assert [row["step"] for row in values(place)] == [0, 1, 10, 11, 4, 5, 7, 8, 9]
    assert values(place)[-1] == {"step": 9}
    assert values(place, "series/other.jsonl") == [{"step": 0, "a": 0}]


@pytest.mark.parametrize(
    ("step", "stored"),
    [
        (-5, -5), (2**63 - 1, 2**63 - 1), (-(2**63) + 1, -(2**63) + 1), (np.int32(3), 3), (np.uint8(3), 3),
        (np.array(3), 3), (np.array([3]), 3), (Tensor(3), 3), (Tensor(3.0), 3), (Phase.WARM_UP, 3),
    ],
    ids=named,
)  # fmt: skip
def test_a_step_is_an_integer(place: Place, step: Any, stored: int) -> None:
    with place.logbook() as log:
        log.scalars(step=step, a=1)
    assert values(place) == [{"step": stored, "a": 1}]
    assert log.reader.series().step.tolist() == [stored]


@pytest.mark.parametrize(
    "step",
    [0.5, 3.0, np.float32(0.5), np.float64(3), "3", True, np.bool_(True), 2**63, -(2**63), 10**400, np.uint64(2**63),
     math.nan, Tensor(0.5), Tensor(math.inf), Tensor(2.0**70), Color.RED],
    ids=named,
)  # fmt: skip
def test_another_step_is_refused(place: Place, step: Any) -> None:
    with place.logbook() as log:
        log.scalars(a=0)
        with pytest.raises(EncodeError, match=r"invalid step .*: pass an integer of 64 bits. A time or .*t=0\.5"):
            log.scalars(step=step, a=1)
        log.scalars(a=2)
    assert values(place) == [{"step": 0, "a": 0}, {"step": 1, "a": 2}]


def test_there_is_no_step_after_the_largest_one(place: Place) -> None:
    with place.logbook() as log:
        log.scalars(step=2**63 - 1, a=0)
        with pytest.raises(EncodeError, match="invalid step"):
            log.scalars(a=1)
        log.scalars(step=0, a=2)
    assert [row["a"] for row in values(place)] == [0, 2]


def test_a_row_has_its_time(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with place.logbook() as log:
        monkeypatch.setattr("time.time", lambda: 1764323.2134)
        log.scalars(step=120, loss=0.31, n=3, phase="warm-up", ok=True, gone=None)
        monkeypatch.undo()
    line = b'{"step": 120, "time": 1764323.213, "loss": 0.31, "n": 3, "phase": "warm-up", "ok": true, "gone": null}\n'
    assert place.bytes("log_run/series/scalars.jsonl") == line
    assert log.reader.series().time.tolist() == [1764323.213]


# -- summaries ---------------------------------------------------------------------------------------------

NUMBERS = st.one_of(
    st.none(),
    st.integers(-(2**53), 2**53),
    st.floats(allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, 1.0, -1, 2]),  # so that values repeat
)
TABLES = st.lists(
    st.tuples(
        st.one_of(st.none(), st.integers(-100, 100)),
        st.fixed_dictionaries(
            {},
            optional={
                "a": NUMBERS,
                "b": NUMBERS,
                "text": st.one_of(st.none(), st.sampled_from(["x", "2026-11-28"])),
                "flag": st.one_of(st.none(), st.booleans()),
            },
        ),
    ),
    max_size=12,
)


def test_a_stored_summary_is_strict_json_and_is_read_as_it_was(place: Place) -> None:
    with place.logbook(environment=False) as log:
        log.scalars(loss=0.5)
        log.scalars(loss=math.nan, largest=math.inf, smallest=-math.inf)

    stored = json.loads(place.bytes("log_run/metadata.json"))["series_summary"]["scalars"]["columns"]["loss"]
    assert stored == {
        "last": None, "count": 2, "min": 0.5, "max": 0.5, "min_step": 0, "max_step": 0, "nonfinite": {"last": "NaN"},
    }  # fmt: skip
    (overview,) = search.overviews(place.url)
    expected = {
        "loss": math.nan, "loss.min": 0.5, "loss.max": 0.5, "largest": math.inf, "largest.min": math.inf,
        "largest.max": math.inf, "smallest": -math.inf, "smallest.min": -math.inf, "smallest.max": -math.inf,
    }  # fmt: skip
    assert same(dict(overview.run.metrics), expected)


@given(TABLES)
def test_the_summary_is_that_of_a_plain_loop(table: list[tuple[int | None, dict[str, Any]]]) -> None:
    place = Place("memory", f"memory://{uuid.uuid4().hex}")
    steps: list[int] = []
    with place.logbook(environment=False, manifest=False) as log:
        for step, row in table:
            log.scalars(row, step=step)
            steps.append(step if step is not None else steps[-1] + 1 if steps else 0)
            running = log.series("scalars").summary()
            assert same(running, summarized(steps, [row for _, row in table[: len(steps)]]))
    if not table:
        assert b"series_summary" not in place.bytes("log_run/metadata.json")
        return
    expected = summarized(steps, [row for _, row in table])
    assert same(stored_summaries(place), {"scalars": expected})
    assert same(log.reader.series().summary(), expected)


def test_the_summary_of_a_column_has_the_first_step_of_its_extremes(place: Place) -> None:
    with place.logbook() as log:
        energy = log.series("energy")
        for step, value in enumerate([math.nan, 2, 1, 2, 1, None, 1.5, math.nan]):
            energy.add(kinetic=value, step=10 * step)
        found = energy.summary()
    assert found["rows"] == 8
    assert found["step"] == 70
    last = found["columns"]["kinetic"].pop("last")
    assert math.isnan(last)
    assert found["columns"] == {"kinetic": {"count": 7, "min": 1, "max": 2, "min_step": 20, "max_step": 10}}


def test_a_series_without_rows_is_not_in_the_summaries(place: Place) -> None:
    with place.logbook() as log:
        assert log.series("empty").summary() == {"rows": 0, "step": None, "columns": {}}
        log.scalars(a=1)
    assert json.loads(place.bytes("log_run/metadata.json"))["series_summary"].keys() == {"scalars"}
    assert not log.series("empty").path.exists()


def test_a_series_shows_its_place(place: Place) -> None:
    with place.logbook() as log:
        assert repr(log.series("val/a")) == f"Series('val/a', {place.url}/log_run/series/val/a.jsonl)"


def test_a_row_after_the_end_is_stored(place: Place) -> None:
    with place.logbook() as log:
        log.scalars(a=1)
    log.scalars(a=2)
    log.flush()
    assert [row["a"] for row in rows(place.bytes("log_run/series/scalars.jsonl"))] == [1, 2]
    assert LogReader(f"{place.url}/log_run").verify().ok


def test_many_series_of_one_run(place: Place) -> None:
    with Logbook("run", place.url) as log:
        for number in range(300):
            log.series(f"s/{number % 100}").add(a=number)
    assert log.reader.series_names == sorted(f"s/{number}" for number in range(100))
    assert [row["a"] for row in values(place, "series/s/7.jsonl")] == [7, 107, 207]
