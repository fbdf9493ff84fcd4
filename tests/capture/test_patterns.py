"""Values that regular expressions find in output."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notata import ConfigurationError
from notata.capture.patterns import SEARCHED, Finder, SeriesPattern, required_text, value_of
from notata.capture.searchers import ProcessSearcher, SlowSearchError, ThreadSearcher, can_explode, searcher_of


class Rows:
    """The rows that a finder adds, and its warnings."""

    def __init__(self, pattern: str, refuse: type[Exception] | None = None) -> None:
        self.rows: list[tuple[Mapping[str, object], object]] = []
        self.warnings: list[str] = []
        self.refuse = refuse
        own = SeriesPattern.parse(pattern)
        self.finder = Finder(own, self.add, self.warn, ThreadSearcher(own.expression, clock=self.now))
        self.time = self.pace = 0.0

    def now(self) -> float:
        self.time += self.pace
        return self.time

    def add(self, values: Mapping[str, object], step: object) -> None:
        if self.refuse:
            raise self.refuse("a column has one type")
        self.rows.append((values, step))

    def warn(self, text: str, *args: object) -> None:
        self.warnings.append(text % args)


def test_each_match_is_a_row() -> None:
    rows = Rows(r"it (?P<step>\d+) res = (?P<r>\S+)(?: (?P<note>\w+))?")
    rows.finder.lines(b"begin\nit 1 res = 1.5D-3\nit 2 res = NaN slow\nres = 7\n")
    assert rows.rows[0] == ({"r": 0.0015}, 1)
    assert rows.rows[1][1] == 2
    assert math.isnan(rows.rows[1][0]["r"])  # type: ignore[arg-type]
    assert rows.rows[1][0]["note"] == "slow"
    assert len(rows.rows) == 2


def test_several_matches_of_a_line_are_several_rows() -> None:
    rows = Rows(r"(?P<x>\d+);")
    rows.finder.lines(b"1; 2; 3;\n")
    assert [values["x"] for values, _ in rows.rows] == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1.5D-3", 1.5e-3), ("1.d0", 1.0), (".5", 0.5), ("-2", -2), ("+7", 7), ("1e400", math.inf), ("inf", math.inf),
        ("-Infinity", -math.inf), ("1.0-103", 1e-103), ("1.0+103", 1e103), ("1.2Q+4", 1.2e4),
        ("12345678901234567890", 12345678901234567890.0), ("yes", "yes"), ("1.2.3", "1.2.3"), ("0x1f", "0x1f"),
        ("--1", "--1"), ("", ""), ("1,5", "1,5"), ("1_000", "1_000"),
    ],
)  # fmt: skip
def test_texts_become_numbers_when_they_are_numbers(text: str, value: object) -> None:
    assert value_of(text) == value
    assert type(value_of(text)) is type(value)


def test_a_name_and_two_colons_name_the_series() -> None:
    assert SeriesPattern.parse(r"loss: (?P<v>\S+)") == SeriesPattern("output", r"loss: (?P<v>\S+)")
    assert SeriesPattern.parse(r"val/loss:: loss (?P<v>\S+)") == SeriesPattern("val/loss", r"loss (?P<v>\S+)")


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        (r"res = (?P<r>\S+", r"missing \), unterminated subpattern at character 7"),
        (r"res = (\S+)", "no named group"),
        (r"step (?P<step>\d+)", "no named group"),
        (r"(?P<time>\d+)", "'time'"),
        (r"../x:: (?P<r>\d+)", "name of a series"),
        (r"a{99999999999999}(?P<r>x)", "invalid pattern"),
    ],
)
def test_a_bad_pattern_is_refused(pattern: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        SeriesPattern.parse(pattern)


def test_a_row_that_cannot_be_stored_is_one_warning() -> None:
    rows = Rows(r"res (?P<r>\S+)", refuse=ValueError)
    rows.finder.lines(b"res 1\nres 2\nres 3\n")
    rows.finder.finish()
    assert len(rows.warnings) == 2
    assert "a column has one type" in rows.warnings[0]
    assert "3 matches" in rows.warnings[1]


def test_a_pattern_that_takes_long_is_not_used_again() -> None:
    rows = Rows(r"res (?P<r>\S+)")
    rows.pace = 2.0
    rows.finder.lines(b"res 1\nres 2\n")
    rows.finder.lines(b"res 3\n")
    assert len(rows.rows) == 1
    assert "takes too long" in rows.warnings[0]


def test_only_the_start_of_a_long_line_is_searched() -> None:
    rows = Rows(r"(?P<x>\d+)")
    rows.finder.lines(b"a" * (SEARCHED - 2) + b"12345\n")
    assert rows.rows == [({"x": 12}, None)]


PIECES = st.sampled_from([
    "a", "b+", "c?", "[a-c]", "[^]a]", r"\d", r"\.", "(a|b)", "(?:ab)*", "a{2}", "x|y", "^", r"\b", " ", "=",
    r"(?P<q>a)", "(?!a)",
])  # fmt: skip


@given(st.lists(PIECES, max_size=6).map("".join), st.text("abcxy =.1", max_size=30))
def test_each_match_contains_the_required_text(expression: str, text: str) -> None:
    try:
        found = re.search(expression, text)
    except re.error:
        return
    assert found is None or required_text(expression) in text


# -- patterns that backtrack ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (r"res = (?P<r>\S+)", False),
        (r"it +(?P<step>\d+)", False),
        (r"(?P<r>[^,]{1,20}){3}", False),
        (r"(?P<r>\d+)+x", True),
        (r"(?P<r>(?:\d+,)*)", True),
        (r"(?:x|(?P<r>a*))*b", True),
        (r".*(?P<r>\d).*x.*", True),
        (r"(?=(?P<r>a+))*", True),
    ],
)
def test_expressions_that_may_take_forever_are_known(expression: str, expected: bool) -> None:
    assert can_explode(expression) is expected
    assert isinstance(searcher_of(expression), ProcessSearcher if expected else ThreadSearcher)


def test_a_process_finds_what_a_thread_finds() -> None:
    expression, lines = r"(?P<list>(?:\d+,)*\d+) (?P<x>é)?", ["1,2,3 é", "no", "4 5 "] * 400
    process = ProcessSearcher(expression, patience=60)
    assert list(process.search(lines)) == list(ThreadSearcher(expression).search(lines))
    process.close()
    assert list(process.search(["7 "])) == [{"list": "7", "x": None}]
    process.close()


def test_a_search_that_does_not_end_is_given_up() -> None:
    expression = r"(?P<r>a+)+b"
    patient = ProcessSearcher(expression, patience=60)
    assert list(patient.search(["aab"])) == [{"r": "aa"}]
    patient.close()
    process = ProcessSearcher(expression, patience=0.3)
    with pytest.raises(SlowSearchError):
        list(process.search(["a" * 200]))
    process.close()
