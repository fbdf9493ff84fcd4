"""Notebook display: escaped and shortened names and values, human-readable sizes."""

from __future__ import annotations

import re

import pytest

from notata._base import display

EVIL = "<script>alert('&')</script>"


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1049, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_999, "1.0 MB"),
        (3_500_000, "3.5 MB"),
        (999_999_999, "1.0 GB"),
        (10**12, "1.0 TB"),
        (10**15, "1000.0 TB"),
    ],
)
def test_human_readable_sizes(count: int, told: str) -> None:
    assert display.size(count) == told


def test_a_size_beyond_every_float_is_shown() -> None:
    """The size comes from a server and may be anything."""
    assert display.size(10**400).endswith(" TB")


def test_everything_is_escaped() -> None:
    for html in (
        display.sections(EVIL, {EVIL: {EVIL: EVIL, "list": [EVIL]}}),
        display.rows(EVIL, [EVIL], [{EVIL: EVIL}, {EVIL: [EVIL]}]),
    ):
        assert "<script" not in html
        assert "alert('" not in html
        assert html.count("&lt;script&gt;alert(&#x27;&amp;&#x27;)&lt;/script&gt;") >= 4


def test_sections_without_entries_are_left_out() -> None:
    assert display.sections("run", {"params": {}, "files": {}}) == "<div><b>run</b></div>"
    assert "params" not in display.sections("run", {"params": {}, "files": {"a": 1}})


def test_a_cell_that_a_row_lacks_is_empty() -> None:
    assert "<td>1</td><td></td>" in display.rows("runs", ["a", "b"], [{"a": 1}])
    assert "<td>None</td><td>0</td>" in display.rows("runs", ["a", "b"], [{"a": None, "b": 0}])


def test_long_tables_and_long_values_are_cut() -> None:
    many = {f"n{number}": number for number in range(75)}
    html = display.sections("run", {"params": many})
    assert html.count("<tr>") == 61
    assert '<td colspan="2">… and 15 more</td>' in html
    assert "n59" in html
    assert "n60" not in html
    table = display.rows("runs", ["a", "b", "c"], [{"a": number} for number in range(61)])
    assert '<td colspan="3">… and 1 more</td>' in table
    [value] = re.findall("<td>(.*)</td>", display.sections("run", {"params": {"a": "<" * 300}}))
    assert value == "&lt;" * 200 + "…"


def test_no_rows_are_a_table_with_a_head() -> None:
    assert display.rows("runs", ["a"], []) == "<div><b>runs</b><table><tr><th>a</th></tr></table></div>"
