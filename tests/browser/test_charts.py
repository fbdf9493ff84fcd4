"""Curves, scatter plots and parallel coordinates in a report, with the chart library and without it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from notata.page.bundle import chart_library, html_of
from notata.page.values import encoded
from tests.browser.modules import script
from tests.browser.synthetic import column
from tests.browser.visits import Visits, findings

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.browser

STEPS = 50
RUNS: list[dict[str, Any]] = [
    {"id": f"sweep/{lr}-{seed}", "lr": lr, "seed": seed, "loss": lr * 10 + seed / 10, "kind": kind}
    for lr, kind in ((0.01, "adam"), (0.1, "sgd"))
    for seed in (0, 1, 2)
]
FACTS = ("run_id", "certain", "why", "started", "ended", "seconds", "size", "files", "failure_reason", "host")


def curve(run: dict[str, Any], y: list[float | None], nonfinite: dict[str, str]) -> dict[str, Any]:
    step = list(range(len(y)))
    common = {"rank": "", "rows": len(y), "start": 1_764_380_000, "thinned": False, "smoothed": False}
    return {"run": run["id"], "step": step, "time": step, "y": y, "nonfinite": nonfinite, **common}


def losses(place: int) -> list[float | None]:
    """Return the loss of a run; that of the first has a hole, and an infinity."""
    y: list[float | None] = [math.exp(-step / 10) + RUNS[place]["loss"] for step in range(STEPS)]
    if place == 0:
        y[20], y[30] = None, None
    return y


BLOCKS = {
    "runs": {
        "title": "Charts", "version": "1", "made": "2026-11-29T12:00:00+00:00", "live": False, "places": [],
        "total": len(RUNS), "count": len(RUNS), "group": [], "problems": [], "left_out": [], "stale": False,
        "columns": [
            column("id", "fact", [run["id"] for run in RUNS]),
            column("name", "fact", [run["id"] for run in RUNS]),
            column("status", "fact", ["complete"] * len(RUNS)),
            *(column(name, "fact", [None] * len(RUNS)) for name in FACTS),
            *(column(name, "param", [run[name] for run in RUNS]) for name in ("lr", "kind", "seed")),
            column("loss", "metric", [run["loss"] for run in RUNS]),
        ],
        "series": {"scalars": {"columns": ["loss", "negative", "none"], "runs": list(range(len(RUNS)))}},
    },
    "curves/scalars/loss": {
        "series": "scalars", "column": "loss", "problems": [],
        "curves": [
            curve(run, losses(place), {"20": "NaN", "30": "Infinity"} if place == 0 else {})
            for place, run in enumerate(RUNS)
        ],
    },
    "curves/scalars/negative": {
        "series": "scalars", "column": "negative", "problems": [],
        "curves": [curve(run, [-1.0, -2.0], {}) for run in RUNS],
    },
    "curves/scalars/none": {"series": "scalars", "column": "none", "curves": [], "problems": []},
}  # fmt: skip

Report = Callable[[str], str]


@pytest.fixture(params=["with the library", "without it"])
def report(request: pytest.FixtureRequest, tmp_path: Path) -> Report:
    """Return addresses within a report."""
    chart = chart_library() if request.param == "with the library" else None
    assert chart or request.param == "without it", "the extra `view` is not installed"
    file = tmp_path / "report.html"
    file.write_bytes(b"".join(html_of("Charts", [(key, encoded(value)) for key, value in BLOCKS.items()], chart=chart)))
    return lambda address: f"{file.as_uri()}{address}"


def picture(page: Page, place: int = 0) -> Locator:
    """Return the picture of a chart that is drawn: only then its label has the range."""
    return page.locator(".chart-picture[aria-label*=', x from ']").nth(place)


def test_each_column_has_a_chart_that_says_what_it_shows(report: Report, visits: Visits) -> None:
    page = visits.open(report("#/runs"))
    loss = picture(page)
    loss.wait_for()
    assert re.fullmatch(
        r"loss: 6 curves, x from 0 to 49, values from 0\.0\d+ to 2\.\d+", str(loss.get_attribute("aria-label"))
    )
    page.locator(".curve-note", has_text="No values").wait_for()
    assert page.locator(".curve-card").all_inner_texts()[2].split("\n") == ["none", "No values"]
    assert [host.is_visible() for host in page.locator(".curve-host").all()] == [True, True, False]
    page.get_by_role("button", name="Log y").click()
    page.get_by_text("No values above 0 for a logarithmic axis").wait_for()
    assert page.url.endswith("#/runs?log=y")


def test_the_legend_emphasises_its_curve_in_all_charts_and_leads_to_the_run(report: Report, visits: Visits) -> None:
    page = visits.open(report("#/runs"))
    picture(page).wait_for()
    entry = page.locator(".curve-entry").nth(1)
    assert entry.inner_text().split("\n")[-1].strip() == "0.2074"
    entry.focus()
    page.locator(".chart-strong").nth(1).wait_for(state="attached")
    assert entry.get_attribute("href") == "#/run/sweep%2F0.01-1"


def test_a_drag_zooms_all_charts_and_the_back_button_undoes_it(report: Report, visits: Visits) -> None:
    page = visits.open(report("#/runs"))
    picture(page).wait_for()
    box = page.locator(".chart").first.bounding_box()
    assert box
    page.mouse.move(box["x"] + 80, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 150, box["y"] + 60, steps=3)
    page.mouse.up()
    page.wait_for_url(re.compile(r"#/runs\?from=[\d.]+&to=[\d.]+$"))
    page.get_by_role("img", name=re.compile("loss: 6 curves, x from [1-9]")).wait_for()
    page.go_back()
    page.get_by_role("img", name="loss: 6 curves, x from 0 to 49").wait_for()


def test_runs_that_differ_in_the_seed_become_a_mean_with_a_band(report: Report, visits: Visits) -> None:
    page = visits.open(report("#/runs?group=seed"))
    page.get_by_role("img", name="loss: 2 curves").wait_for()
    texts = [" ".join(text.split()) for text in page.locator(".curve-entry").all_inner_texts()]
    assert texts == ["lr 0.01 kind adam 3 runs 0.2074", "lr 0.1 kind sgd 3 runs 1.107"]


def test_a_large_chart_is_moved_by_keys_and_its_values_are_a_table(report: Report, visits: Visits) -> None:
    page = visits.open(report("#/curve/scalars/loss"))
    picture(page).wait_for()
    page.locator(".chart").focus()
    page.keyboard.press("+")
    page.wait_for_url(re.compile(r"from=12\.25&to=36\.75$"))
    page.keyboard.press("ArrowRight")
    page.wait_for_url(re.compile(r"from=18\.38&to=42\.88$"))
    page.keyboard.press("0")
    page.wait_for_url(re.compile(r"#/curve/scalars/loss\?*$"))
    page.get_by_role("button", name="Largest").click()
    page.get_by_role("button", name="Largest").click()
    rows = [row.split("\t") for row in page.locator(".curve-table tbody tr").all_inner_texts()]
    assert [row[1:] for row in rows[:1]] == [["2.2", "1.20745", "1.20745", "2.2", "50"]]
    assert page.locator("th[aria-sort=descending]").inner_text() == "Largest"


def test_runs_are_plotted_against_each_other_and_filtered_by_ranges(report: Report, visits: Visits) -> None:
    page = visits.open(report("#/plots?brush=lr%3A0.05%3A0.2"))
    page.get_by_text("3 runs of 6 within the ranges").wait_for()
    page.get_by_role("group", name=re.compile("Scatter")).focus()
    page.keyboard.press("ArrowRight")
    assert "sweep/0.01-" in page.locator(".scatter .chart-cursor").inner_text()
    page.get_by_role("button", name="lr: 0.05 to 0.2").click()
    page.get_by_text("Drag along an axis").wait_for()
    page.locator(".scatter").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("#/run/sweep"))


@pytest.mark.parametrize("address", ["#/runs?group=seed", "#/curve/scalars/loss", "#/plots"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_at_charts(address: str, scheme: Any, report: Report, visits: Visits) -> None:
    page = visits.open(report(address), scheme=scheme)
    page.locator("[role=img][aria-label]").first.wait_for()
    assert findings(page) == []


def test_ticks_are_round_short_and_within_the_axis(page: Page) -> None:
    page.evaluate(f"window.scales = {script('scales.js')}")

    def ticks(low: float, high: float, most: int = 4, **options: Any) -> list[str]:
        axis = {"min": low, "max": high, **options}
        return [
            tick["text"].replace("\N{MINUS SIGN}", "-")
            for tick in page.evaluate("([axis, most]) => scales.ticksOf(axis, most)", [axis, most])
        ]

    assert ticks(0, 1) == ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert ticks(-1, 1) == ["-1.0", "-0.5", "0", "0.5", "1.0"]
    assert ticks(0, 100_000) == ["0", "20k", "40k", "60k", "80k", "100k"]
    assert ticks(1e9, 3e9) == ["1.0G", "1.5G", "2.0G", "2.5G", "3.0G"]
    assert ticks(0, 2e-7) == ["0", "5e-8", "1e-7", "1.5e-7", "2e-7"]
    assert ticks(1e-6, 1, isLog=True) == ["1e-6", "1e-4", "0.01", "1"]
    assert ticks(0, 7200, kind="span") == ["0", "0.5 h", "1 h", "1.5 h", "2 h"]
    assert ticks(0, 0.002, kind="span") == ["0", "0.5 ms", "1 ms", "1.5 ms", "2 ms"]
    assert ticks(1, 1) == []


TRACE = """([x, y, column]) => {
  const drawn = [];
  const pen = {moveTo: (x, y) => drawn.push(`M${x},${y}`), lineTo: (x, y) => drawn.push(`L${x},${y}`),
    dot: (x, y) => drawn.push(`dot ${x},${y}`), edge: (x, isAbove) => drawn.push(`${isAbove ? "top" : "bottom"} ${x}`)};
  const numbers = y.map((value) => value === null ? NaN : Number(value));
  const line = {x, y: numbers, isSorted: true};
  lines.traceLine(line, {atX: (value) => value, atY: (value) => value, from: x[0], to: x[x.length - 1], column}, pen);
  return drawn.join(" ");
}"""


def test_a_line_keeps_the_extremes_of_each_pixel_and_its_gaps(page: Page) -> None:
    page.evaluate(f"window.lines = {script('lines.js')}")

    def traced(y: list[Any], column: int = 1) -> str:
        return str(page.evaluate(TRACE, [list(range(len(y))), y, column]))

    assert traced([1, 2, 3]) == "M0,1 L1,2 L2,3"
    assert traced([5, 1, 9, 4, 6, 6, 6, 6], 4) == "M0,5 L1,1 L2,9 L3,4 L4,6 L7,6"
    assert traced([1, None, 3, 4]) == "M0,1 dot 0,1 M2,3 L3,4"
    assert traced([1, 2, "Infinity", 4, 5]) == "M0,1 L1,2 top 2 M3,4 L4,5"
    assert traced([None, None]) == ""


def test_the_last_value_of_a_line_may_be_no_number(page: Page) -> None:
    page.evaluate(f"window.lines = {script('lines.js')}")
    stats = """(y) => {
      const curve = {run: "a", rank: "", rows: y.length, step: y.map((_, index) => index), time: y, y: y.map(Number)};
      const {first, last, min, max} = lines.lineOf(curve, "step");
      return [first, last, min, max].map(String);
    }"""
    assert page.evaluate(stats, ["3", "1", "NaN"]) == ["3", "NaN", "1", "3"]
    assert page.evaluate(stats, ["NaN", "2", "Infinity"]) == ["2", "Infinity", "2", "2"]
    assert page.evaluate(stats, ["NaN", "2", "1"]) == ["2", "1", "1", "2"]


def test_a_column_is_constant_only_if_all_rows_have_the_value(page: Page) -> None:
    page.evaluate(f"window.data = {script('rundata.js')}")
    constant = "([values, ignores]) => data.isConstant({values}, values.keys(), {ignoresMissing: ignores})"
    answers = [[page.evaluate(constant, [values, ignores]) for ignores in (False, True)] for values in (
        [1, 1], [1, 2], [1, None], [None, 1, 1], [None, None], [[1], [1]], ["1", 1],
    )]  # fmt: skip
    assert answers == [
        [True, True], [False, False], [False, True], [False, True], [True, True], [True, True], [False, False],
    ]  # fmt: skip


def test_columns_that_the_chosen_runs_have_come_first(page: Page) -> None:
    page.evaluate(f"window.data = {script('rundata.js')}")
    columns = """([rows, series]) => new data.RunData({
      columns: [
        {name: "run_id", path: "id", values: ["a", "b"]},
        {name: "metrics.lr", path: "metrics.lr", values: [0.5, null]},
        {name: "loss", path: "metrics.loss", values: [null, "NaN"]},
        {name: "val.loss", path: "metrics.val.loss", values: [0, null]},
      ],
      series: {scalars: {columns: ["acc", "loss", "lr"]}, val: {columns: ["acc", "loss"]}},
    }).columnsOf(series, rows)"""
    assert page.evaluate(columns, [[0], "scalars"]) == [["lr"], ["acc", "loss"]]
    assert page.evaluate(columns, [[1], "scalars"]) == [["loss"], ["acc", "lr"]]
    assert page.evaluate(columns, [[0, 1], "scalars"]) == [["loss", "lr"], ["acc"]]
    assert page.evaluate(columns, [[0, 1], "val"]) == [["loss"], ["acc"]]
    assert page.evaluate(columns, [[0], "other"]) == [[], []]


def test_only_repetitions_of_the_same_parameters_become_one_curve(page: Page) -> None:
    page.evaluate(f"window.modules = {script('curvedata.js', 'rundata.js')}")
    entries = """([params, group]) => {
      const {curveEntries, entryText, RunData} = modules;
      const ids = Object.values(params)[0].map((_, row) => `run${row}`);
      const columns = Object.entries(params).map(([name, values]) => ({name, path: name, kind: "param", values}));
      const facts = ["id", "run_id"].map((path) => ({name: path, path, kind: "fact", values: ids}));
      const data = new RunData({columns: [...facts, ...columns], count: ids.length});
      return curveEntries({data}, [...ids.keys()], {group}).map((entry) => [entry.rows, entryText(entry)]);
    }"""
    seeds = {"seed": [0, 1, 0, 1, None, None, 2]}
    lengths = {"length": [1, 1, None, None, None, None, 1]}
    rates = {"rate": [None, None, 5, 5, None, None, None]}
    assert page.evaluate(entries, [seeds | lengths | rates, ["seed"]]) == [
        [[0, 1, 6], "length=1 (3 runs)"],
        [[2, 3], "rate=5 (2 runs)"],
        [[4], "run4"],
        [[5], "run5"],
    ]
    assert page.evaluate(entries, [{"seed": [0, 1]}, ["seed"]]) == [[[0, 1], "All (2 runs)"]]


@pytest.mark.parametrize("word", ["عربى", "Größe", "日本", "😀", "plain-1.5"])
def test_a_word_in_any_script_finds_runs_by_their_names(word: str, page: Page) -> None:
    page.evaluate(f"window.modules = {script('table.js', 'rundata.js')}")
    page.evaluate("word => { location.hash = `/runs?where=${encodeURIComponent(word)}` }", word)
    chosen = """(word) => {
      const ids = ["other", `log_${word}_2`];
      const data = new modules.RunData({columns: [{name: "run_id", path: "id", values: ids}], count: 2});
      const {rows, error} = modules.chosenRows({data});
      return [rows, error];
    }"""
    assert page.evaluate(chosen, word) == [[1], ""]


def test_a_mean_takes_lines_between_their_points_and_only_where_they_are(page: Page) -> None:
    page.evaluate(f"window.lines = {script('lines.js')}")
    curves = [{"run": "a", "step": [0, 2, 4], "y": [0, 2, 4]}, {"run": "b", "step": [1, 2, 3], "y": [3, 4, 5]}]
    mean = """([curves, band]) => {
      const own = curves.map((curve) => lines.lineOf({...curve, rank: "", rows: 3, time: curve.step}, "step"));
      const {x, y, low, high} = lines.meanLine("mean", own, band);
      return [x, y, low, high].map((values) => [...values]);
    }"""
    assert page.evaluate(mean, [curves, "minmax"]) == [
        [0, 1, 2, 3, 4],
        [0, 2, 3, 4, 4],
        [0, 1, 2, 3, 4],
        [0, 3, 4, 5, 4],
    ]
    _, y, low, high = page.evaluate(mean, [curves, "std"])
    assert high == pytest.approx([0, 2 + 2**0.5, 3 + 2**0.5, 4 + 2**0.5, 4])
    assert [value * 2 for value in y] == pytest.approx([one + other for one, other in zip(low, high, strict=True)])


def test_a_large_chart_takes_keys_at_once_and_counts_the_rows_in_its_range(report: Report, visits: Visits) -> None:
    page = visits.open(report("#/runs"))
    page.get_by_role("link", name="loss", exact=True).first.click()
    page.locator(".curve-table tbody tr").nth(5).wait_for()
    page.keyboard.press("+")
    page.wait_for_url(re.compile("from="))
    page.get_by_role("heading", name=re.compile("^Values of each curve from 12")).wait_for()
    assert page.locator(".curve-table tbody tr").nth(1).locator("td").last.inner_text() == "24"
    page.keyboard.press("0")
    page.get_by_role("heading", name="Values of each curve", exact=True).wait_for()


def test_means_have_no_row_count_and_smoothed_values_are_named(report: Report, visits: Visits) -> None:
    page = visits.open(report("#/curve/scalars/loss?group=seed&smooth=0.5"))
    page.get_by_role("heading", name="Means of each group, smoothed").wait_for()
    assert page.locator(".curve-table th[scope=col]").all_inner_texts() == [
        "Curve", "First", "Last", "Smallest", "Largest",
    ]  # fmt: skip


def test_plots_name_both_axes_and_the_values_of_few_colours(report: Report, visits: Visits) -> None:
    page = visits.open(report("#/plots?sx=lr&sy=loss&scolour=seed"))
    page.locator(".scatter-point").nth(5).wait_for()
    assert page.locator(".scatter-name").all_text_contents() == ["lr", "loss"]
    assert page.get_by_role("img", name="Colours of seed").first.locator("text").all_text_contents() == ["0", "1", "2"]
