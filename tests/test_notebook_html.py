"""Tables of a notebook: escaped and shortened texts, aligned numbers, and the number of what is left out."""

from __future__ import annotations

import pytest

from notata._base.notebook import Cell, cell, escaped, grid, names, note, page, problem, state
from tests.notebook import Page, cells

EVIL = "<script>alert('&')</script>"


class Strange:
    """A value that cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


def test_everything_is_escaped() -> None:
    html = page(
        EVIL,
        names(EVIL, {EVIL: EVIL, "list": [EVIL]}),
        grid(EVIL, [EVIL], [{EVIL: EVIL}, {EVIL: [EVIL]}]),
        note(EVIL),
        problem(EVIL),
    )
    assert "<script" not in html
    assert html.count("&lt;script&gt;alert(&#x27;&amp;&#x27;)&lt;/script&gt;") == 11
    found = Page(html)
    assert found.open == []
    assert found.tags == {"div", "b", "table", "caption", "tr", "th", "td"}
    assert {name for name, _ in found.attributes} == {"style"}


def test_control_characters_are_visible() -> None:
    assert escaped("\x1b[2J\u202e\ud800") == "\\x1b[2J\\u202e\\ud800"
    assert escaped("\ufffe\uffff") == "\N{REPLACEMENT CHARACTER}" * 2


@pytest.mark.parametrize(
    ("value", "shown", "is_number"),
    [
        (0.1, "0.1", True),
        (2.0, "2.0", True),
        (1 / 3, "0.333333", True),
        (123456789.0, "1.23457e+08", True),
        (float("nan"), "nan", True),
        (-(10**18), "-1000000000000000000", True),
        (True, "True", False),
        (None, "", False),
        ([1, 2], "[1, 2]", False),
        (Strange(), "a Strange", False),
    ],
)
def test_values_are_rounded_and_always_shown(value: object, shown: str, is_number: bool) -> None:
    assert cell(value) == Cell(shown, is_number)


def test_numbers_that_python_does_not_print_are_shown() -> None:
    huge = 10**5000
    assert cell(huge) == Cell("an integer of 16610 bits", is_number=True)
    assert cell([huge]) == Cell("a list")


def test_numbers_are_on_the_right() -> None:
    html = grid("", ["dt", "method", "size"], [{"dt": 0.1, "method": "rk4", "size": Cell("1.2 MB", is_number=True)}])
    assert html.count("text-align:right") == 4
    assert cells(html) == [["dt", "method", "size"], ["0.1", "rk4", "1.2 MB"]]


def test_a_status_has_a_colour_and_a_text() -> None:
    html = grid("", ["status"], [{"status": state("failed")}, {"status": state("running", "running?")}])
    assert cells(html)[1:] == [["● failed"], ["● running?"]]
    colours = {value for name, value in Page(html).attributes if name == "style" and value.startswith("color:#")}
    assert len(colours) == 2


def test_a_cell_that_a_row_lacks_is_empty() -> None:
    assert cells(grid("", ["a", "b"], [{"a": 1}, {"a": None, "b": 0}]))[1:] == [["1", ""], ["", "0"]]


def test_long_tables_and_long_values_are_cut() -> None:
    html = names("params", {f"n{number}": number for number in range(75)})
    assert cells(html, "params")[-2:] == [["n49", "49"], ["… and 25 more"]]
    rows = [{"a": number} for number in range(51)]
    assert cells(grid("", ["a"], rows))[-2:] == [["49"], ["… and 1 more"]]
    assert cells(grid("", ["a"], iter(rows), total=51))[-1] == ["… and 1 more"]
    assert cells(names("params", {"a": "<" * 300}), "params") == [["a", "<" * 200 + "…"]]
    assert names("", {"status": "x" * 200, "n": 1}).count("min-width:calc(6ch + 16px)") == 2  # the names stay whole
    assert "min-width:calc(30ch + 16px)" in names("", {"n" * 31: 1})
    wide = grid("", [f"c{number}" for number in range(40)], [{}])
    assert len(cells(wide)[0]) == 30
    assert "and 10 more columns" in Page(wide).text


def test_hostile_values_do_not_fill_the_notebook() -> None:
    large = "\x1b" * 10**6
    html = page(large, names(large, {large: large}), grid(large, [large], [{large: large}] * 1000), note(large))
    assert len(html) < 50_000


def test_no_rows_are_a_table_with_a_head() -> None:
    assert cells(grid("", ["a"], [])) == [["a"]]
    assert names("params", {}) == ""
    assert note("") == ""
