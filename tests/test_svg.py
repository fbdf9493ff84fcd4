"""Curves as SVG text: parsed as XML, and compared with the values that they show."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from notata._base import svg
from notata._base.axes import Kind
from notata._base.svg import Line, picture
from tests.notebook import SVG, points, texts, title

STEPS = np.arange(1000)
EVIL = "<script>alert('&\"')</script>\x1b[31m\x00\ud800\ufffe"


def drawn(*values: npt.ArrayLike, y: Kind = "number") -> ET.Element:
    """Return the picture of some lines over their row numbers."""
    lines = [Line(f"l{at}", np.arange(len(v)), v, at) for at, v in enumerate(np.asarray(v, np.float64) for v in values)]
    return ET.fromstring(picture(lines, "loss", y=y, has_legend=False))


def ticks(root: ET.Element, anchor: str) -> Iterator[tuple[float, float]]:
    """Yield position and value of each label of an axis: ``end`` for the vertical one, ``middle`` for the other."""
    for text in root.iter(f"{SVG}text"):
        if text.attrib["text-anchor"] == anchor and text.text != "step":
            yield float(text.attrib["y" if anchor == "end" else "x"]), float(text.text or "")


def test_a_picture_is_complete_in_itself() -> None:
    root = ET.fromstring(picture([Line("rk4", STEPS, np.sin(STEPS / 100))], "energy"))
    assert (root.tag, root.attrib["role"], title(root)) == (f"{SVG}svg", "img", "energy")
    assert {one.tag.removeprefix(SVG) for one in root.iter()} == {"svg", "title", "text", "line", "path"}
    assert not {name for one in root.iter() for name in one.attrib if "href" in name or name.startswith("on")}
    assert "url(" not in picture([Line("rk4", STEPS, np.sin(STEPS / 100))], "energy")
    assert {"energy", "step", "rk4", "0", "0.5", "-0.5", "500"} <= {*texts(root)}


def test_the_curve_lies_where_its_values_belong() -> None:
    values = 3 + 2 * np.sin(np.arange(50) / 5)
    root = drawn(values)
    [curve] = points(root)
    place, value = np.array([*ticks(root, "end")]).T
    slope, start = np.polyfit(place - 4, value, 1)  # texts are 4 pixels below their ticks
    assert np.abs(start + slope * np.array([y for _, y in curve]) - values).max() < 0.03  # a pixel is 0.028
    place, value = np.array([*ticks(root, "middle")]).T
    slope, start = np.polyfit(place, value, 1)
    assert np.abs(start + slope * np.array([x for x, _ in curve]) - np.arange(50)).max() < 0.5


def test_a_logarithmic_axis_has_powers_of_ten() -> None:
    values = np.exp(-np.arange(50) / 3)
    assert svg.fitting_kind([Line("a", np.arange(50), values)]) == "log"
    root = drawn(values, y="log")
    assert "loss (log)" in texts(root)
    found = [*ticks(root, "end")]
    assert all(np.log10(value) % 1 == 0 for _, value in found)
    place, value = np.array(found).T
    slope, start = np.polyfit(place - 4, np.log10(value), 1)
    [curve] = points(root)
    assert np.abs(start + slope * np.array([y for _, y in curve]) - np.log10(values)).max() < 0.06


@pytest.mark.parametrize("values", [[0.0, 1e9], [-1.0, 1e9], [1.0, 999.0], [np.nan], []])
def test_only_positive_values_of_many_sizes_have_a_logarithmic_axis(values: list[float]) -> None:
    assert svg.fitting_kind([Line("a", np.arange(len(values)), np.array(values))]) == "number"


def test_nan_and_infinities_are_gaps_and_a_single_value_is_a_dot() -> None:
    root = drawn([1, 2, np.nan, 3, 4, 5, np.inf, 6, np.nan])
    assert [len(part) for part in points(root)] == [2, 3, 1]
    [dot] = [one for one in root.iter(f"{SVG}path") if one.attrib["d"].endswith("h0")]
    assert float(dot.attrib["stroke-width"]) > 2


def test_a_peak_of_one_row_in_a_million_is_drawn() -> None:
    values = np.zeros(10**6)
    values[123_456], values[654_321] = 1, -1
    root = drawn(values)
    [curve] = points(root)
    heights = [y for _, y in curve]
    assert len(curve) < 1000
    assert (min(heights), max(heights)) == (22, 200 - 34)


def test_the_size_is_bounded() -> None:
    random = np.random.default_rng(0)
    lines = [Line("x" * 10**6, np.arange(20_000), random.normal(size=20_000), at) for at in range(50)]
    text = picture(lines, "y" * 10**6)
    assert len(text) < 120_000
    root = ET.fromstring(text)
    assert len(points(root)) == 20
    assert "and 30 more, which are not drawn" in texts(root)
    assert max(map(len, texts(root))) < 60


def test_without_numbers_it_says_so() -> None:
    for values in ([], [np.nan, np.nan], [np.inf]):
        assert "no numbers" in texts(drawn(values))
    assert "no numbers" not in texts(drawn([1.0]))
    assert "no numbers" in texts(ET.fromstring(picture([], "none")))


def test_twenty_lines_differ_in_colour_or_dashes() -> None:
    root = drawn(*np.arange(40.0).reshape(20, 2))
    styles = [(one.attrib["stroke"], one.attrib.get("stroke-dasharray")) for one in root.iter(f"{SVG}path")]
    assert len({*styles}) == len(styles) == 20
    assert not {colour for colour, _ in styles} & {"#000000", "#ffffff"}  # they suit light and dark pages


def test_every_text_is_escaped() -> None:
    text = picture([Line(EVIL, STEPS, STEPS / 1.0)], EVIL, below=EVIL)
    assert "<script" not in text
    assert "\x1b" not in text
    root = ET.fromstring(text.encode())
    assert [one for one in texts(root) if one.startswith("<script>")]
    assert {one.tag.removeprefix(SVG) for one in root.iter()} == {"svg", "title", "text", "line", "path"}


def test_a_legend_names_the_lines() -> None:
    lines = [Line(f"rho={at}", STEPS, STEPS / 1.0, at) for at in range(9)]
    root = ET.fromstring(svg.legend(lines))
    assert texts(root) == [f"rho={at}" for at in range(9)]
    samples = [one.attrib["stroke"] for one in root.iter(f"{SVG}path")]
    assert samples == [line.colour for line in lines]
    assert float(root.attrib["height"]) >= max(float(one.attrib["y"]) for one in root.iter(f"{SVG}text"))


@given(
    st.lists(st.floats(), max_size=30),
    st.sampled_from(["number", "log"]),
    st.sampled_from(["number", "seconds", "time"]),
    st.text(max_size=30),
)
def test_any_values_and_texts_give_a_picture(values: list[float], y: Kind, x: Kind, text: str) -> None:
    line = Line(text, np.array(values[::-1], np.float64), np.array(values, np.float64))
    root = ET.fromstring(picture([line], text, below=text, x=x, y=y).encode())
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert all(0 <= across <= width and 0 <= down <= height for part in points(root) for across, down in part)
