"""Filters in the browser hold for the same runs as `notata.search.Where`, and refuse the same texts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notata import ConfigurationError, Logbook, search
from notata.formats import flattened
from notata.page.model import runs_page
from notata.search import FACTS, Run, Where
from tests.browser.modules import script
from tests.browser.visits import Visits
from tests.cli import test_where as examples

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

NOW = examples.NOW
MISSING = object()

ON_PURPOSE = {
    "metadata.environment.user == 'ada'": "there is no metadata",
    "failure_reason != 'x' and metadata.environment": "there is no metadata",
    "host == 'node7' and metadata.environment.user == 'ada'": "there is no metadata",
    "huge * huge > 1": "a whole number beyond 1.8e308 is infinite",
    "huge ** huge > 1": "a whole number beyond 1.8e308 is infinite",
    "huge * 1.0 > 1": "a whole number beyond 1.8e308 is infinite",
}
"""Filters of `tests/cli/test_where.py` whose outcome in the browser differs, and why; see also `where.js`."""


@pytest.fixture(scope="module")
def filters(browser: Browser) -> Iterator[Page]:
    visits = Visits(browser)
    page = visits.open()
    page.evaluate(f"globalThis.filters = {script('format.js', 'where.js')}; 0")
    yield page
    visits.close()
    assert visits.problems == []


def table(runs: Sequence[Run]) -> dict[str, Any]:
    """Return what `runs` of the page has of these runs: its columns, as far as filters need them."""
    found: dict[str, dict[int, Any]] = {}
    for row, run in enumerate(runs):
        for name in FACTS:
            if name != "age":
                found.setdefault(name, {})[row] = FACTS[name](run)
        for part in ("params", "metrics"):
            for name, value in flattened(getattr(run, part)).items():
                found.setdefault(f"{part}.{name}", {})[row] = value
    columns = [column(path, [values.get(row, MISSING) for row in range(len(runs))]) for path, values in found.items()]
    return {"count": len(runs), "columns": columns}


def column(path: str, values: list[Any]) -> dict[str, Any]:
    odd = {row: value for row, value in enumerate(values) if isinstance(value, float) and not math.isfinite(value)}
    names = {row: "NaN" if math.isnan(value) else f"{'-' * (value < 0)}Infinity" for row, value in odd.items()}
    return {
        "path": path,
        "values": [None if value is MISSING or row in odd else value for row, value in enumerate(values)],
        "nonfinite": names,
        "nulls": [row for row, value in enumerate(values) if value is None and "." in path],
    }


def in_browser(page: Page, expressions: Sequence[str], runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return rows, error and notes of each filter."""
    code = """([data, expressions, now]) => {
        const runs = JSON.parse(data);
        for (const column of runs.columns) filters.restored(column.values, column.nonfinite);
        return expressions.map((text) => filters.whereRows(text, runs, now));
    }"""
    now = datetime.now(UTC).timestamp() * 1000
    return list(page.evaluate(code, [digits(table(runs)), list(expressions), now]))


def digits(data: Any) -> str:
    """Return JSON with integers of any length."""

    def plain(value: Any) -> Any:
        return "9" * 9000 if isinstance(value, int) and value.bit_length() > 10_000 else value

    columns = [{**one, "values": [plain(value) for value in one["values"]]} for one in data["columns"]]
    return json.dumps({**data, "columns": columns}).replace('"' + "9" * 9000 + '"', "9" * 9000)


def in_python(expression: str, runs: Sequence[Run]) -> dict[str, Any]:
    try:
        where = Where(expression)
    except ConfigurationError as error:
        return {"rows": [], "error": str(error), "notes": []}
    return {"rows": [row for row, run in enumerate(runs) if where(run)], "error": "", "notes": where.notes()}


def marked(test: Any, name: str = "parametrize") -> list[Any]:
    """Return the cases of a test of `tests/cli/test_where.py`."""
    return list(next(mark for mark in test.pytestmark if mark.name == name).args[1])


EMPTY = Run("x", "x", "memory://x", "unreadable")


def test_the_examples_of_filters_hold_for_the_same_runs(filters: Page) -> None:
    true = marked(examples.test_true_filters_match)
    false = marked(examples.test_what_does_not_fit_does_not_match_and_raises_nothing)
    runs = [examples.RUN, EMPTY]
    found = dict(zip(true + false, in_browser(filters, true + false, runs), strict=True))
    assert {text: one["error"] for text, one in found.items() if one["error"]} == {}
    different = {text for text, one in found.items() if one["rows"] != in_python(text, runs)["rows"]}
    assert different == {*ON_PURPOSE} & {*found}


def test_without_a_column_no_run_is_pinned(filters: Page) -> None:
    runs = [Run("x", "x", "memory://x", "complete"), Run("y", "y", "memory://y", "complete", pinned=True)]
    for some in (runs, runs[:1]):
        data = table(some)
        data["columns"] = [one for one in data["columns"] if one["path"] != "pinned" or len(some) > 1]
        code = "([data, text]) => filters.whereRows(text, JSON.parse(data), 0).rows"
        for text in ("pinned", "not pinned"):
            assert filters.evaluate(code, [digits(data), text]) == in_python(text, some)["rows"]


def test_powers_of_negative_numbers_are_those_of_python(filters: Page) -> None:
    powers = [f"({base}) ** {exponent}" for base in ("half", "two") for exponent in ("2", "3", "-1", "2.0", "0.5", "0")]
    runs = [Run("x", "x", "memory://x", "complete", params={"half": -1.5, "two": -2})]
    texts = [f"{power} {sign} 0" for power in powers for sign in "<>"]
    found = [one["rows"] for one in in_browser(filters, texts, runs)]
    assert found == [in_python(text, runs)["rows"] for text in texts]
    assert [0] in found


def test_patterns_take_a_bounded_number_of_steps_for_all_runs(filters: Page) -> None:
    expressions = [f"matches(text, '*{one}b')" for one in ("a" * 900, "a" * 200 + "[a0-9x-z]" * 80, "")]
    runs = [Run("x", "x", "memory://x", "complete", params={"text": "a" * 2000 + "b" * (row < 2)}) for row in range(90)]
    for found in in_browser(filters, expressions[:2], runs):
        assert found["notes"] == ["not computed for some runs: patterns take at most 50 million steps"]
        assert found["rows"] == [0, 1]
    short = in_browser(filters, expressions[2:], runs)
    assert short == [{"rows": [0, 1], "error": "", "notes": []}]


def test_the_same_texts_are_refused_and_the_place_is_shown(filters: Page) -> None:
    cases = [case for case in marked(examples.test_what_cannot_be_used_is_refused_and_the_place_shown) if case[0]]
    found = in_browser(filters, [case[0] for case in cases], [examples.RUN])
    for (expression, column, part, why), one in zip(cases, found, strict=True):
        assert one["error"], expression
        if why == "a filter cannot contain this" and "invalid syntax" in one["error"]:
            continue  # Python reads a comprehension or a condition before it refuses it
        assert why.replace("division by zero", "") in one["error"], expression
        if column:
            assert f"at column {column} ({part})" in one["error"], expression
    long = marked(examples.test_long_and_deep_ones_are_refused_too)
    errors = [one["error"] for one in in_browser(filters, long, [examples.RUN])]
    assert all(errors)
    assert max(map(len, errors)) < 300


def test_texts_without_quotes_are_reported_with_the_right_filter(filters: Page) -> None:
    cases = marked(examples.test_a_text_without_quotes_is_reported_with_the_right_expression)
    found = in_browser(filters, [case[0] for case in cases], [examples.RUN])
    for (expression, names, better), one in zip(cases, found, strict=True):
        assert one["notes"] == [(f"no run has {names}; " if names else "") + f"put text in quotes: {better}"], (
            expression
        )
    refused = marked(examples.test_an_unquoted_text_is_reported_with_quotes)
    for (_, better), one in zip(refused, in_browser(filters, [case[0] for case in refused], [EMPTY]), strict=True):
        assert one["error"].endswith(f"; put text in quotes: {better}")
    no_text = marked(examples.test_what_is_no_text_gets_no_quotes)
    assert not [
        note for one in in_browser(filters, no_text, [examples.RUN]) for note in one["notes"] if "quotes" in note
    ]
    unfit = marked(examples.test_a_value_that_does_not_fit_is_reported_in_words_of_the_filter)
    for (_, why), one in zip(unfit, in_browser(filters, [case[0] for case in unfit], [EMPTY]), strict=True):
        assert one["error"].endswith(f"it has no value: {why}")


def test_names_that_no_run_has_are_reported_with_close_ones(filters: Page) -> None:
    texts = ["omga > 1 or params.stpes > 1 or foo['x y'] == 2 or omega > 1 or size > 1", "solver.ordr == 4",
             "metrics.eror < 1", "omega ** 99999999 > 1"]  # fmt: skip
    found = in_browser(filters, texts, [examples.RUN])
    assert [one["notes"] for one in found] == [
        ["no run has foo['x y']", "no run has omga; similar names: omega",
         "no run has params.stpes; similar names: steps", "size is the value of the run; there is also params.size"],
        ["no run has solver.ordr; similar names: solver.order, solver, solver.name"],
        ["no run has metrics.eror; similar names: error"],
        ["not computed for some runs: a number has at most 32768 bits"],
    ]  # fmt: skip


def test_null_is_a_value_and_a_missing_parameter_is_none(filters: Page, tmp_path: Path) -> None:
    for name, params in (("null", {"clip": None}), ("number", {"clip": 0.5}), ("without", {"lr": 1})):
        with Logbook(name, tmp_path, params=params, environment=False, heartbeat=None):
            pass
    page = runs_page(search.runs(str(tmp_path), values=True), title="", places=[], live=False)
    code = "([runs, texts]) => texts.map((text) => filters.whereRows(text, runs, 0).rows.length)"
    texts = ["clip == null", "has(clip)", "clip != null", "clip is null or lr == 1"]
    assert filters.evaluate(code, [page, texts]) == [1, 2, 1, 2]


# -- any filter --------------------------------------------------------------------------------------------

NUMBERS = st.one_of(st.integers(-9, 9), st.sampled_from([0.5, -1.5, 2.25, 1000.0, math.nan, math.inf, -math.inf]))
TEXTS = st.sampled_from(["", "a", "ab", "Ab", "b'c", 'd"e', "x[1]", "\\n", "\n", "ä", "\ue000", "𝄞", "2026-11-28"])
PLAIN = st.one_of(NUMBERS, TEXTS, st.booleans())
FINITE = st.one_of(st.integers(-9, 9), st.sampled_from([0.5, -1.5]), TEXTS, st.booleans(), st.none())
VALUES = st.one_of(PLAIN, st.none(), st.lists(st.one_of(FINITE, st.lists(FINITE, max_size=2)), max_size=3))
NAMES = ["a", "b", "c", "learning rate", "size", "lambda", "ä"]
RUNS = st.builds(
    lambda status, params, inner, metrics, hours: Run(
        f"out/log_{status}", status, f"memory://out/log_{status}", status,
        started=None if hours is None else NOW - timedelta(hours=hours),
        seconds=None if hours is None else 60.0 * hours, size=1000, files=3,
        params=params | {"solver": inner}, metrics=metrics,
    ),
    st.sampled_from(["complete", "failed"]),
    st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=6),
    st.dictionaries(st.sampled_from(["order", "name", "deep"]), VALUES, min_size=1),
    st.dictionaries(st.sampled_from(["a", "loss", "error"]), NUMBERS).map(
        lambda metrics: metrics | {"loss.min": 0.5} if "loss" in metrics else metrics
    ),
    st.sampled_from([None, 1, 30]),
)  # fmt: skip

NAMED = st.sampled_from([
    "a", "b", "c", "loss", "error", "missing", "solver", "params", "size", "status", "seconds", "loss.min", "ä",
    "solver.order", "solver['name']", "solver.deep[0]", "a[0]", "b[-1]", "c[1][0]", "params['learning rate']",
    "params.solver.order", "metrics.a", "params.size", "params['lambda']", "age", "name", "certain", "host",
])  # fmt: skip
LITERALS = st.one_of(
    st.integers(0, 12).map(str),
    st.sampled_from(["0.5", ".5", "1.", "1e3", "0x1F", "1_000", "True", "null", "false", "None", "[]", "()", "{1}"]),
    TEXTS.map(repr),
    st.sampled_from(["r'\\n'", '"a"', "'''a'b'''", "'a' 'b'", "u'a'", r"'\x61\u00e4\141'", r"'\d'", "b'a'", "f'a'"]),
)
ATOMS = st.one_of(NAMED, LITERALS)
NUMERIC = st.one_of(st.sampled_from(["a", "b", "c", "loss", "solver.order"]), st.sampled_from(["0.5", "2", "7", "1."]))


PATTERNS = st.sampled_from(["*", "a*", "?b", "[!a]*", "[a-c]", "[]", "[", "*]"])


def calls(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    one = st.sampled_from(["abs", "has", "len", "lower", "days", "minutes", "max", "min", "hours", "contains", "foo"])
    two = st.sampled_from(["contains", "endswith", "matches", "startswith", "max", "min", "abs"])
    return st.one_of(
        st.builds("{}({})".format, one, parts),
        st.builds("{}({}, {})".format, two, parts, parts),
        st.builds(
            "matches({}, {!r})".format, parts, st.sampled_from(["*", "a*", "?b", "[!a]*", "[a-c]", "[]", "[", "*]"])
        ),
    )


ARITHMETIC = st.builds("{} {} {}".format, NUMERIC, st.sampled_from(["+", "-", "*", "/", "//", "%"]), NUMERIC)
SUMS = st.one_of(
    ARITHMETIC,
    st.builds("{} {} ({})".format, NUMERIC, st.sampled_from(["+", "-", "*", "/", "//", "%", "&", "|"]), ARITHMETIC),
    st.builds("{} ** {}".format, NUMERIC, st.sampled_from(["2", "-1", "0", "3", "-2", "2.0", "0.5", "-0.5", "b"])),
    st.builds("{}{}".format, st.sampled_from(["-", "+", "- -", "~", "not "]), ATOMS),
)
OPERANDS = st.one_of(ATOMS, SUMS, calls(ATOMS), st.lists(ATOMS, max_size=3).map(lambda parts: f"[{', '.join(parts)}]"))
COMPARED = st.sampled_from(["==", "!=", "<", "<=", ">", ">=", "in", "not in", "is", "is not", "="])
TESTS = st.one_of(
    st.builds("{} {} {}".format, OPERANDS, COMPARED, OPERANDS),
    st.builds("{} {} {} {} {}".format, OPERANDS, COMPARED, OPERANDS, COMPARED, OPERANDS),
    OPERANDS,
)
FILTERS = st.recursive(
    TESTS,
    lambda parts: st.one_of(
        st.builds("{} {} {}".format, parts, st.sampled_from(["and", "or"]), parts),
        st.builds("{}({})".format, st.sampled_from(["not ", "", "has"]), parts),
        calls(parts),
    ),
    max_leaves=4,
)


def without_close(notes: list[str]) -> list[str]:
    return sorted(note.partition("; similar names")[0] for note in notes)


@settings(max_examples=25, suppress_health_check=[*HealthCheck])
@given(st.lists(FILTERS, min_size=1, max_size=40), st.lists(RUNS, min_size=1, max_size=6))
def test_any_filter_holds_for_the_same_runs(filters: Page, expressions: list[str], runs: list[Run]) -> None:
    for expression, found in zip(expressions, in_browser(filters, expressions, runs), strict=True):
        wanted = in_python(expression, runs)
        assert (found["rows"], bool(found["error"])) == (wanted["rows"], bool(wanted["error"])), expression
        assert without_close(found["notes"]) == without_close(wanted["notes"]), expression


@settings(max_examples=20, suppress_health_check=[*HealthCheck])
@given(st.lists(st.lists(st.sampled_from(examples.TOKENS), max_size=12).map(" ".join), max_size=100))
def test_any_text_is_a_filter_or_refused(filters: Page, texts: list[str]) -> None:
    for text, found in zip(texts, in_browser(filters, texts, [examples.RUN]), strict=True):
        wanted = in_python(text, [examples.RUN])
        if text:
            assert (found["rows"], bool(found["error"])) == (wanted["rows"], bool(wanted["error"])), text
