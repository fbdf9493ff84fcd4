"""The lines of an index part: each row comes back as it was, and other programs load the same file."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import pandas as pd
import pyarrow.json
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from notata import EncodeError
from notata.table import Row
from notata.table.lines import decoded, encoded_header, encoded_removal, encoded_row

TEXT = st.text(max_size=12) | st.sampled_from(
    ["", "a/b", "a~b", "~1", "\n", "\u2028", "\x85", "\0", "\ud800", "nonfinite"]
)
NUMBERS = (
    st.floats() | st.integers() | st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 2**64, -(10**30), 10**400])
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXT)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
NAMED = st.dictionaries(TEXT, VALUES, max_size=4)
ROWS = st.builds(
    lambda **fields: Row(**fields),
    run_id=st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=10),
    status=st.sampled_from(["complete", "failed", "died", "unreadable"]),
    params=NAMED,
    metrics=NAMED,
    failure_reason=TEXT,
    metrics_error=TEXT,
    revision=st.just("0a1b2c3d"),
    started=st.just("2026-11-01T10:00:00.123+01:00"),
    ended=st.just("") | st.just("2026-11-01T10:00:01.123+01:00"),
    seconds=st.none() | st.floats(0, 1e9),
    host=TEXT,
    attempt=st.integers(0, 100),
    time=st.floats(0, 2e9).map(lambda time: round(time, 3)),
)


def shown(row: Row) -> str:
    """Return all values of a row with their types; NaN equals NaN, 1 does not equal 1.0."""
    fields = {name: getattr(row, name) for name in Row._fields if name != "series"}
    return json.dumps({name: dict(value) if name in ("params", "metrics") else value for name, value in fields.items()})


def has_surrogates(row: Row) -> bool:
    try:
        json.dumps(json.loads(shown(row)), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


@settings(max_examples=50)
@given(st.lists(ROWS, max_size=4))
@example([Row("a", "complete", {"nonfinite": math.nan, "": {"": [math.inf, None]}, "/": {"~": -math.inf}})])
@example([Row("a", "complete", {"params": {"params": math.nan}}, {"a": None, "b": [[], {}]})])
def test_whatever_a_row_holds_is_read_back_as_it_was(made: list[Row]) -> None:
    data = b"".join(map(encoded_row, made))
    assert data.count(b"\n") == len(made)  # each row is one line, whatever it contains
    found = decoded(data)
    assert found.complete == len(data)
    for row, read in zip(made, found.rows, strict=True):
        if has_surrogates(row):
            assert read.revision == ""  # a reader that checks rows reads the run
        else:
            assert shown(read) == shown(row)


@settings(max_examples=30)
@given(ROWS)
def test_each_line_is_strict_json_in_utf_8(row: Row) -> None:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    fields = json.loads(encoded_row(row).decode("utf-8", "strict"), parse_constant=refuse)
    assert fields["run_id"] == row.run_id
    assert [*fields["params"]] == [name.encode("utf-8", "backslashreplace").decode() for name in row.params]


@settings(max_examples=30)
@given(st.lists(ROWS, min_size=1, max_size=4), st.integers(0, 10_000), st.binary(max_size=30))
def test_a_torn_line_costs_no_other_row(made: list[Row], cut: int, junk: bytes) -> None:
    lines = [encoded_row(row) for row in made]
    torn = lines[0][: cut % (len(lines[0]) - 1)]
    for between in (torn, torn + b"\n", b"{}\n", b"[1]\n\n", b'{"run_id": 1}\nnull\n'):
        found = decoded(b"".join(lines) + between + (b"\n" if not between.endswith(b"\n") else b"") + lines[0])
        assert [row.run_id for row in found.rows] == [*(row.run_id for row in made), made[0].run_id]
    assert len(decoded(b"".join(lines) + torn).rows) == len(made)
    decoded(junk)
    decoded(junk + b"\n" + lines[0])


def test_the_end_of_the_last_complete_line_is_known() -> None:
    line = encoded_row(Row("a", "complete"))
    assert decoded(line + line[:10]).complete == len(line)
    assert decoded(line[:-1]).complete == 0
    assert [row.run_id for row in decoded(line[:-1]).rows] == ["a"]  # only its newline is missing


def test_a_tombstone_and_a_header_are_no_rows() -> None:
    found = decoded(encoded_header({"index.csv": "3f"}) + encoded_removal("a", 12.5))
    assert (found.rows, found.removed, found.covers) == ([], [("a", 12.5)], [("index.csv", "3f")])


@pytest.mark.parametrize(
    "line",
    [
        b'{"run_id": "a", "status": "complete", "params": [], "metrics": {}}',
        b'{"run_id": "a", "params": {}, "metrics": {}}',
        b'{"run_id": null, "status": "complete", "params": {}, "metrics": {}}',
        b'{"notata_index": 1, "covers": [1]}',
        b"[" * 100_000,
        b'{"a": ' + b"9" * 5000 + b"}",
        b"\xff\xfe",
    ],
)
def test_a_forged_line_is_left_out(line: bytes) -> None:
    good = encoded_row(Row("good", "complete"))
    assert [row.run_id for row in decoded(good + line + b"\n" + good).rows] == ["good", "good"]


@pytest.mark.parametrize(
    "fields",
    [
        {"started": 1, "ended": None, "seconds": "x", "host": [], "attempt": None, "time": "late", "revision": 2},
        {"seconds": 10**400, "attempt": True, "time": 10**400},
        {"nonfinite": {"/params/x": "NaN", "": "NaN", "/status": "NaN", "/params/dt/5": 1}},
        {"nonfinite": [1]},
    ],
)
def test_forged_fields_of_a_line_have_their_defaults(fields: dict[str, Any]) -> None:
    whole = {"run_id": "a", "status": "complete", "params": {"dt": None}, "metrics": {}, **fields}
    [row] = decoded(json.dumps(whole).encode()).rows
    assert row._replace(seconds=None) == Row("a", "complete", {"dt": None})


def test_a_row_that_json_cannot_hold_is_refused() -> None:
    with pytest.raises(EncodeError, match="cannot add run 'a' to the index"):
        encoded_row(Row("a", "complete", {"x": object()}))


def test_pandas_and_pyarrow_load_a_part() -> None:
    rows = [
        Row("a", "complete", {"dt": 0.1, "opt": {"lr": math.inf}}, {"loss": math.nan}, started="2026-11-01T10:00:00Z"),
        Row("b", "failed", {"dt": 0.2, "opt": {"lr": 1.0}}, {"loss": 1.0}, "boom", "\ud800", seconds=1.5),
    ]
    data = b"".join(map(encoded_row, rows))
    frame = pd.read_json(io.BytesIO(data), lines=True)
    assert frame["run_id"].tolist() == ["a", "b"]
    assert frame["params"][1] == {"dt": 0.2, "opt": {"lr": 1.0}}
    table = pyarrow.json.read_json(io.BytesIO(data))
    assert table["metrics"].to_pylist() == [{"loss": None}, {"loss": 1.0}]
    assert table["seconds"].to_pylist() == [None, 1.5]
    assert table["nonfinite"].to_pylist()[0] == {"/params/opt/lr": "Infinity", "/metrics/loss": "NaN"}


def test_rows_with_integers_beyond_64_bits_say_so_and_are_read_exactly() -> None:
    rows = [Row("a", "complete", {"n": 2**63 - 1}), Row("b", "complete", {"deep": [{"n": -(2**63) - 1}]})]
    lines = [encoded_row(row) for row in rows]
    assert ["big_integers" in json.loads(line) for line in lines] == [False, True]
    assert [row.params for row in decoded(b"".join(lines)).rows] == [row.params for row in rows]
