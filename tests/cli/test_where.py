"""Filters: their meaning, the position in error messages, and that no filter runs code, raises or takes forever."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notata import ConfigurationError, Logbook
from notata.search import FACTS, Run, Where, runs
from tests.command import notata

NOW = datetime.now(UTC)
PARAMS: dict[str, Any] = {
    "omega": 2.0,
    "steps": 100,
    "learning rate": 0.01,
    "solver": {"name": "rk4", "order": 4, "stages": [1, 2, {"deep": True}]},
    "note": "Fine",
    "none": None,
    "nan": float("nan"),
    "both": "param",
    "size": 64,
    "class": "odd",
    "huge": 10**9000,
    "empty": [],
}
METRICS: dict[str, Any] = {"error": 0.5, "both": "metric"}
RUN = Run(
    "out/log_sweep_1",
    "sweep_1",
    "memory://out/log_sweep_1",
    "failed",
    started=NOW - timedelta(hours=3),
    ended=NOW - timedelta(hours=2),
    seconds=3600.0,
    size=2_000_000,
    files=7,
    failure_reason="ArithmeticError: unstable",
    params=PARAMS,
    metrics=METRICS,
    metadata={"lease": {"host": "node7"}, "environment": {"user": "ada"}},
)


@pytest.mark.parametrize(
    "expression",
    [
        "omega > 1 and steps <= 100",
        "1 < omega < 3 <= solver.order",
        "not omega > 2",
        "omega * 2 + 1 == 5 and steps // 3 == 33 and steps % 7 == 2 and -omega < 0 and omega ** 2 / 4 == 1",
        "status == 'failed' and run_id != 'other'",
        "status in ['failed', 'died'] and 'unstable' in failure_reason",
        "params['learning rate'] < 0.1",
        "solver.name == 'rk4' and params.solver.order >= 4",
        "solver.stages[1] == 2 and solver.stages[-1].deep",
        "both == 'param' and metrics.both == 'metric'",
        "size > 1e6 and params.size == 64",
        "params['class'] == 'odd'",
        "none is None and none == None",
        "age > hours(2) and age < days(1) and seconds == minutes(60)",
        "started > '2020' and ended > started",
        "host == 'node7' and metadata.environment.user == 'ada'",
        "matches(run_id, 'sweep_[0-9]') and startswith(name, 'out/') and endswith(name, '_1')",
        "contains(lower(note), 'fine') and len(solver.stages) == 3 and max(omega, 3) == 3 and abs(-omega) == 2",
        "has(omega) and not has(missing)",
        "missing > 1 or omega > 1",
        "omega > 1 or missing > 1",
        "not (missing > 1 and omega > 5)",
        "note[0] == 'F'",
        "omega is not None and status is 'failed' and not (omega is not 2.0)",
        "seconds == hours(1) and days(1) == hours(24)",
        "omega in {1, 2}",
        "steps in (1, 100)",
        "failure_reason != 'x' and metadata.environment",
        r"not matches(run_id, '\d') and 1and 2",
        "certain",
        "huge > 1",
    ],
)
def test_true_filters_match(expression: str) -> None:
    assert Where(expression)(RUN)


@pytest.mark.parametrize(
    "expression",
    [
        "missing > 1", "not missing > 1", "missing == 1", "missing != 1", "missing > 1 and omega > 1", "not missing",
        "none > 1", "not none > 1", "note > 1", "not note > 1", "'a' in omega", "nan > 0 or nan < 0", "solver > 1",
        "omega.x > 1", "solver.missing == 1", "solver.stages[9] == 1", "solver.stages.x == 1", "len(omega) > 0",
        "lower(omega) == '2'", "huge ** huge > 1", "omega / (steps - 100)", "omega[0] == 2",
        "omega ** 99999999 > 1", "huge * 1.0 > 1", "min(none, 1) == 1", "metrics.omega > 1", "matches(steps, '*')",
        "huge * huge > 1", "max(empty) < 1", "note.x == 1", "note.real == 1", "days(note) > 0",
        "started == None", "host == ''", "failure_reason == ''", "metrics_error == ''",
    ],
)  # fmt: skip
def test_what_does_not_fit_does_not_match_and_raises_nothing(expression: str) -> None:
    assert not Where(expression)(RUN)
    assert not Where(expression)(Run("x", "x", "memory://x", "unreadable"))


@pytest.mark.parametrize(
    ("expression", "column", "part", "why"),
    [
        ("omega > > 1", 9, "> 1", "invalid syntax"),
        ("omega = 1", 7, "= 1", "write '=='"),
        ("", None, "", "it is empty"),
        ("omega & 1", 1, "omega & 1", "write 'and' and 'or'"),
        ("omega | 1", 1, "omega | 1", "write 'and' and 'or'"),
        ("omega > 1 or abs() > 1", 14, "abs()", "takes 1 argument, not 0"),
        ("min() > 1", 1, "min()", "takes 1 or more arguments, not 0"),
        ("min(steps, key=abs) > 1", 1, "min(steps, key=abs)", "a filter cannot contain this"),
        ("(omega >\n foo(1))", None, " (foo(1))", "there is no function foo()"),
        ("max([]) > omega", 1, "max([])", "it has no value"),
        ("1 < foo(omega)", 5, "foo(omega)", "there is no function foo()"),
        ("1 < abs(omega, 2)", 5, "abs(omega, 2)", "takes 1 argument, not 2"),
        ("note.upper() == 'F'", 1, "note.upper()", "methods are not supported"),
        ("'ä' == note and lambda: 1", None, "", "invalid syntax"),
        ("'ä' == note and [x for x in steps]", 17, "[x for x in steps]", "a filter cannot contain this"),
        ("f'{omega}' == '2'", 1, "f'{omega}'", "a filter cannot contain this"),
        ("omega > 1 and 1 / 0", 15, "1 / 0", "division by zero"),
        ("omega > 9 ** 9 ** 9", 9, "9 ** 9 ** 9", "at most"),
        ("omega > 2 ** 99999999", 9, "2 ** 99999999", "at most"),
        ("'a' * 999999999 == note", 1, "'a' * 999999999", "a str is not a number"),
        ("'%999999999d' % 1 == note", 1, "'%999999999d' % 1", "a str is not a number"),
        ("omega.__class__ == 1", 1, "omega.__class__", "there is no __class__"),
        ("__import__('os')", 1, "__import__('os')", "there is no function"),
        ("().__class__", 1, "()", "only names can have parts"),
        ("eval('1')", 1, "eval('1')", "there is no function"),
        ("(omega := 1)", 2, "omega := 1", "a filter cannot contain this"),
        ("omega if 1 else 2", 1, "omega if 1 else 2", "a filter cannot contain this"),
        ("params[omega] == 1", 1, "params[omega]", "only names can have parts"),
        ("b'x' == note", 1, "b'x'", "a filter cannot contain this"),
        ("omega > 1j", 9, "1j", "a filter cannot contain this"),
    ],
)
def test_what_cannot_be_used_is_refused_and_the_place_shown(
    expression: str, column: int | None, part: str, why: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Where(expression)
    told = str(caught.value)
    assert repr(expression) in told
    assert why in told
    if column:
        assert f"at column {column} ({part})" in told
    elif part:
        assert f"cannot be used{part}: " in told


@pytest.mark.parametrize(
    "expression",
    [
        "-" * 4000 + "1",
        "(" * 2000 + ")" * 2000,
        "x" * 5000,
        "a." * 2000 + "a",
        f"x <{' ' * 4092}'",  # in cubic time this takes minutes
        f"x < a{' ' * 4090}'",
        f"x < {'a ' * 2045}'",
    ],
)
def test_long_and_deep_ones_are_refused_too(expression: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Where(expression)
    assert len(str(caught.value)) < 300


def test_a_pattern_takes_no_time_of_its_own() -> None:
    long = Run("x", "x", "memory://x", "complete", params={"text": "a" * 100_000, "pattern": "*a" * 5000})
    assert not Where(f"matches(text, '{'*a' * 400}b')")(long)
    assert not Where("matches(text, pattern)")(long)


TOKENS = ["omega", "solver", ".", "order", "(", ")", "[", "]", "1", "'a'", "and", "or", "not", "in", ">", "==",
          "**", "*", "-", "%", ",", "len", "matches", "has", "none", "lambda", ":", "for", "__class__", "huge", "is",
          "@"]  # fmt: skip


@settings(max_examples=300)
@given(st.lists(st.sampled_from(TOKENS), max_size=12).map(" ".join))
def test_any_text_is_a_filter_or_refused(expression: str) -> None:
    try:
        where = Where(expression)
    except ConfigurationError:
        return
    assert where(RUN) in (True, False)


def test_what_is_read_depends_on_the_names() -> None:
    assert not Where("status == 'failed' and age > 1 and metadata.x == 1").values
    assert Where("omega > 1").values
    assert Where("has(metrics.error)").values
    assert Where("age > 1 or omega > 1").metadata
    assert not Where("size > 1 or files > 1 or omega > 1 or status == 'x'").metadata
    assert not Where("name == url or run_id == 'x' or failure_reason == 'x' or metrics_error == 'x'").metadata
    without = ("host", "metrics_error", "exit_code", "cpu_seconds", "peak_memory")
    assert all(getattr(RUN, name, None) is not None or name in without for name in FACTS)


def test_names_that_no_run_has_are_reported_with_close_ones() -> None:
    where = Where("omga > 1 or params.stpes > 1 or foo['x y'] == 2 or omega > 1 or size > 1")
    assert where(RUN)
    assert where.notes() == [
        "no run has foo['x y']",
        "no run has omga; similar names: omega",
        "no run has params.stpes; similar names: steps",
        "size is the value of the run; there is also params.size",
    ]
    places = Where("solver.stages[-3] == 1 or solver.stages[-9] == 1")
    assert places.notes() == []  # nothing was evaluated yet
    assert places(RUN)
    assert places.notes() == ["no run has solver.stages[-9]; similar names: solver"]
    assert Where("omega ** 99999999 > 1")(RUN) is False


@pytest.mark.parametrize(
    ("expression", "names", "better"),
    [
        ("status == failed", "failed", "status == 'failed'"),
        ("status != complete and omega > 1", "complete", "status != 'complete' and omega > 1"),
        ("failed == status", "failed", "'failed' == status"),
        ("solver.name == rk4", "rk4", "solver.name == 'rk4'"),
        ("note == Fine-grained", "Fine, grained", "note == 'Fine-grained'"),
        ("note in [Fine, 'Coarse', Gröber]", "Fine, Gröber", "note in ['Fine', 'Coarse', 'Gröber']"),
        ("unstable in failure_reason", "unstable", "'unstable' in failure_reason"),
        ("startswith(note, Fin)", "Fin", "startswith(note, 'Fin')"),
        ("host == n1.cluster.org", "n1.cluster.org", "host == 'n1.cluster.org'"),
        ("started > 2024-11-28", "", "started > '2024-11-28'"),
        ("run_id == 3 or omega > 1", "", "run_id == '3' or omega > 1"),
    ],
)
def test_a_text_without_quotes_is_reported_with_the_right_expression(expression: str, names: str, better: str) -> None:
    where = Where(expression)
    where(RUN)
    assert where.notes() == [(f"no run has {names}; " if names else "") + f"put text in quotes: {better}"]
    right = Where(better)
    right(RUN)
    assert right.notes() == []


@pytest.mark.parametrize("expression", ["omga == 1", "omega == 2", "note == 'Fine'", "not failed", "omega > lower(x)"])
def test_what_is_no_text_gets_no_quotes(expression: str) -> None:
    where = Where(expression)
    where(RUN)
    assert not [note for note in where.notes() if "quotes" in note]


@pytest.mark.parametrize(
    ("expression", "better"),
    [
        ("started > 2026-01-02", "started > '2026-01-02'"),
        ("note == runge kutta and omega > 1", "note == 'runge kutta' and omega > 1"),
        ("(host == node-1.cluster)", "(host == 'node-1.cluster')"),
        ("host == node 1  or host == order andy", "host == 'node 1'  or host == 'order andy'"),
    ],
)
def test_an_unquoted_text_is_reported_with_quotes(expression: str, better: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Where(expression)
    assert str(caught.value).endswith(f"; put text in quotes: {better}")
    Where(better)(RUN)


def test_true_false_and_null_are_words() -> None:
    def holds(expression: str, value: Any) -> bool:
        return Where(expression)(Run("a", "a", "memory://a", "complete", params={"p": value, "true": 5}))

    assert holds("p == true", True)
    assert holds("p is True and not p == false", True)
    assert holds("p == null", None)
    assert holds("p != null and p == false", False)
    assert holds("p in [true, null]", None)
    assert not holds("p == true or p in [true]", 1)
    assert not holds("p == 1 or p in [1]", True)
    assert holds("p == 1 and p in [1.0] and contains([1], p)", 1)
    assert holds("params.true == 5", 0)
    assert not holds("p == [1]", [True])


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("lower(3) == 'a'", "lower() takes strings, not an int"),
        ("startswith(3, 'a')", "startswith() takes strings, not an int"),
        ("matches('a', 3)", "matches() takes strings, not an int"),
        ("len(3) > 1", "len() takes a string, a list or a dictionary, not an int"),
        ("contains(3, 4)", "an int cannot be in an int"),
        ("3 in 'a3'", "an int cannot be in a str"),
    ],
)
def test_a_value_that_does_not_fit_is_reported_in_words_of_the_filter(expression: str, why: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Where(expression)
    assert str(caught.value).endswith(f"it has no value: {why}")


def test_a_filter_of_the_command(tmp_path: Path) -> None:
    for number in range(3):
        with Logbook(number, tmp_path, params={"omega": float(number)}) as log:
            log.json("metrics", {"error": 1 / (number + 1)})
    done = notata("ls", ".", "--where", "omega > 0 and error < 0.5", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.partition("\t")[0] for line in done.stdout.splitlines()] == ["./log_2"]
    nothing = notata("ls", ".", "--where", "omgea > 0", folder=tmp_path)
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (
        1,
        "",
        "Note: no run has omgea; similar names: omega\n",
    )
    bare = notata("ls", ".", "--where", "status == complete", folder=tmp_path)
    assert bare.stderr == "Note: no run has complete; put text in quotes: status == 'complete'\n"
    wrong = notata("ls", ".", "--where", "omega > > 1", folder=tmp_path)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.count("\n") == 1
    assert [run.run_id for run in runs(str(tmp_path), where=lambda run: run.params["omega"] == 1)] == ["1"]


def test_nothing_that_a_filter_or_a_run_says_is_run(tmp_path: Path) -> None:
    folder = tmp_path / "log_evil"
    folder.mkdir()
    code = "__import__('os').system('touch owned')"
    (folder / "metadata.json").write_text(json.dumps({"run_id": "evil", "status": "complete", "x": code}))
    (folder / "params.json").write_text(json.dumps({"x": code, "__class__": code}))
    for expression in (code, f"x == {code}", "params.__class__", "matches(x, x)", "params['__class__'] == x"):
        command = [sys.executable, "-m", "notata", "ls", ".", "--where", expression]
        if expression != code:
            notata("ls", ".", "--where", expression, folder=tmp_path)
            continue
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log_evil"]
