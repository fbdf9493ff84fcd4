"""A report of real runs: sorting, filtering, choosing, keys, the back button, each view, and no request."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from notata import Logbook
from notata.search import report
from tests.browser.recorded import QUIET, sweep
from tests.browser.visits import Scheme, Visits, count, findings, picture_width

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

GOOD = "log_sweep_lr_0.01_seed_0"
FAILED = "log_sweep_lr_1_seed_1"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the address of a report."""
    folder = tmp_path_factory.mktemp("report")
    sweep(str(folder / "outputs"))
    file = folder / "report.html"
    report(str(folder / "outputs"), str(file), title="Rates & seeds <1>", sort="name")
    return file.as_uri()


def names(page: Page) -> list[str]:
    """Return the rate and seed of each row of the table, from top to bottom."""
    links = page.locator("table.runs tbody tr[data-row] th a")
    return [re.sub(r".*lr_([\d.]+)_seed_(\d)$", r"\1 \2", str(link.get_attribute("title"))) for link in links.all()]


def shows(page: Page, *rows: str) -> None:
    """Wait until the table has these rows."""
    count(page.locator("table.runs tbody tr[data-row]"), len(rows))
    assert names(page) == [*rows]


ALL = ("0.01 0", "0.01 1", "0.1 0", "0.1 1", "1 0", "1 1")


@pytest.mark.parametrize("view", ["constructor", "toString", "__proto__"])
def test_an_address_of_no_view_shows_the_runs_and_other_views_still_work(
    view: str, address: str, visits: Visits
) -> None:
    page = visits.open(f"{address}#/{view}?x={view}")
    shows(page, *ALL)
    page.get_by_role("img", name=re.compile("^loss: 6 curves")).wait_for()
    page.get_by_role("link", name="Plots").click()
    page.get_by_role("heading", name="Scatter").wait_for()


def test_runs_are_sorted_by_a_column_and_the_back_button_undoes_it(address: str, visits: Visits) -> None:
    page = visits.open(address)
    shows(page, *ALL)
    assert page.title() == "Rates & seeds <1>"
    button = page.locator("table.runs thead").get_by_role("button", name=re.compile("^error"))
    sorted_rows = ["0.01 0", "0.1 0", "0.01 1", "0.1 1", "1 0"]
    for order, rows in (("ascending", sorted_rows), ("descending", sorted_rows[::-1])):
        button.click()
        page.locator(f"th[aria-sort={order}]").wait_for()
        assert names(page) == [*rows, "1 1"]  # without a value: last in both orders
    assert page.url.endswith("sort=-error")
    page.go_back()
    page.locator("th[aria-sort=ascending]").wait_for()
    page.go_back()
    count(page.locator("th[aria-sort]"), 0)
    page.go_forward()
    page.locator("th[aria-sort=ascending]").wait_for()
    again = visits.open(page.url)
    again.locator("th[aria-sort=ascending]").wait_for()


def test_runs_are_filtered_while_typing_and_errors_are_explained(address: str, visits: Visits) -> None:
    page = visits.open(address)
    box = page.get_by_role("searchbox", name="Filter", exact=True)
    message = page.locator("#filter-message")
    box.press_sequentially("lr < 0.5 and seed == 1")
    shows(page, "0.01 1", "0.1 1")
    box.press("Enter")
    box.fill("seed = 1")
    page.get_by_text("to compare, write '=='").wait_for()
    assert box.get_attribute("aria-invalid") == "true"
    shows(page, "0.01 1", "0.1 1")  # what the last valid filter found
    box.fill("status == failed")
    page.get_by_text("put text in quotes: status == 'failed'").wait_for()
    box.fill("status == 'failed'")
    shows(page, "1 1")
    assert message.inner_text() == ""
    box.fill("lrr > 1")
    page.get_by_text("no run has lrr; similar names: lr").wait_for()
    page.get_by_role("button", name="Show all runs").click()
    shows(page, *ALL)
    page.get_by_role("button", name=re.compile("failed")).click()
    shows(page, "1 1")
    page.go_back()
    shows(page, *ALL)


def test_what_is_typed_stays_when_the_runs_change_before_it_is_applied(address: str, visits: Visits) -> None:
    page = visits.open(address)
    shows(page, *ALL)
    page.evaluate("""() => {
      const box = document.getElementById("filter");
      box.value = "seed == 1";
      box.dispatchEvent(new Event("input"));
      dispatchEvent(new HashChangeEvent("hashchange"));
    }""")
    shows(page, "0.01 1", "0.1 1", "1 1")
    assert page.get_by_role("searchbox", name="Filter", exact=True).input_value() == "seed == 1"
    page.evaluate("location.hash = '/runs?where=lr+%3C+0.5'")
    shows(page, "0.01 0", "0.01 1", "0.1 0", "0.1 1")
    assert page.get_by_role("searchbox", name="Filter", exact=True).input_value() == "lr < 0.5"


def test_a_long_name_shows_its_end_in_the_table(visits: Visits, tmp_path: Path) -> None:
    for seed in (0, 1):
        Logbook(f"{seed}{40 * 'w'}-mmmm_seed{seed}", tmp_path / "outputs", **QUIET).mark_complete()
    report(str(tmp_path / "outputs"), str(tmp_path / "report.html"), sort="name")
    page = visits.open((tmp_path / "report.html").as_uri())
    links = page.locator("table.runs tbody th a")
    count(links, 2)
    for seed, link in enumerate(links.all()):
        assert str(link.text_content()).endswith(f"mmmm_seed{seed}")
        ends = link.evaluate(
            "link => [link.lastChild, link.closest('th')].map((one) => one.getBoundingClientRect().right)"
        )
        assert ends[0] <= ends[1]
        assert page.get_by_role("link", name=str(link.text_content()), exact=True).count() == 1


def test_chosen_runs_are_drawn_and_stay_in_the_address(address: str, visits: Visits) -> None:
    page = visits.open(address)
    shows(page, *ALL)
    chart = page.get_by_role("img", name=re.compile("^loss: 6 curves"))
    chart.wait_for()
    page.get_by_role("checkbox", name="Select all runs").uncheck()
    page.get_by_text("Select runs in the table").wait_for()
    boxes = page.locator("table.runs tbody [data-part=box]")
    boxes.nth(1).check()
    boxes.nth(3).click(modifiers=["Shift"])
    page.get_by_role("img", name=re.compile("^loss: 3 curves")).wait_for()
    boxes.nth(2).uncheck()
    page.get_by_role("link", name="Compare them").wait_for()
    again = visits.open(page.url)
    again.get_by_role("img", name=re.compile("^loss: 2 curves")).wait_for()
    page.get_by_role("link", name="Compare them").click()
    page.get_by_role("heading", name="Compare", exact=True).wait_for()
    assert page.locator(".compare-run h3").all_inner_texts() == [
        "A log_sweep_lr_0.01_seed_1",
        "B log_sweep_lr_0.1_seed_1",
    ]


def test_columns_are_hidden(address: str, visits: Visits) -> None:
    page = visits.open(address)
    heads = page.locator("table.runs thead button.sort")
    heads.first.wait_for()
    assert "accuracy" in heads.all_inner_texts()
    page.locator("summary", has_text="Columns").click()
    page.get_by_role("searchbox", name="Find a column").fill("acc")
    page.get_by_role("checkbox", name=re.compile("^accuracy *metric")).first.uncheck()
    page.wait_for_url(re.compile("hide=accuracy"))
    assert "accuracy" not in heads.all_inner_texts()
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.textContent") == "Columns"


@pytest.mark.parametrize(
    ("view", "menu"),
    [
        ("/runs", "Columns"),
        ("/runs", "Mean over"),
        ("/plots", "Axes"),
        (f"/run/{GOOD}", "Compare with…"),
        (f"/compare/{GOOD}/{FAILED}", "Other runs…"),
    ],
)
def test_a_menu_opens_within_a_narrow_window(view: str, menu: str, address: str, visits: Visits) -> None:
    page = visits.open(f"{address}#{view}", width=360)
    page.locator("summary", has_text=menu).click()
    page.locator("details[open][style*='--moved']").wait_for()
    box = page.locator("details[open] > .menu-body").bounding_box()
    assert box
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 360


def test_all_is_done_with_the_keyboard(address: str, visits: Visits) -> None:
    page = visits.open(address)
    shows(page, *ALL)

    def to(wanted: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("wanted => document.activeElement.matches(wanted)", wanted):
                assert page.evaluate(
                    """() => {
                        const {outlineStyle, outlineWidth, boxShadow} = getComputedStyle(document.activeElement);
                        return (outlineStyle !== "none" && outlineWidth !== "0px") || boxShadow !== "none";
                    }"""
                ), f"the focus is not seen at {wanted}"
                return
        pytest.fail(f"the Tab key does not lead to {wanted}")

    to("a.skip")
    to("#filter")
    page.keyboard.type("lr > 0.05")
    shows(page, *ALL[2:])
    to("button[data-sort=error]")
    for order in ("ascending", "descending"):
        page.keyboard.press("Enter")
        page.locator(f"th[aria-sort={order}]").wait_for()
    to("[data-part=box]")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    page.get_by_role("img", name=re.compile("^loss: 3 curves")).wait_for()
    to("[data-part=link]")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="log_sweep_lr_0.1_seed_1").wait_for()
    page.go_back()
    shows(page, "1 0", "0.1 1", "0.1 0", "1 1")


def test_a_failed_run_shows_its_exception_its_log_and_its_files(address: str, visits: Visits) -> None:
    page = visits.open(f"{address}#/runs")
    page.get_by_role("link", name=re.compile("lr_1_seed_1")).first.click()
    page.get_by_role("heading", name=FAILED).wait_for()
    failure = page.locator("section.is-failure")
    failure.wait_for()
    assert "FloatingPointError" in failure.inner_text()
    assert "the rate 1 is too large" in failure.inner_text()
    assert "raise FloatingPointError" in failure.inner_text()
    page.locator(".log").get_by_text("the loss is not a number").wait_for()
    preview = page.locator(".preview")
    for name, text in (("notes.txt", "second line"), ("table.csv", "0.25"), ("field.npy", "8 × 6")):
        page.locator(".tree").get_by_text(name, exact=True).click()
        preview.get_by_text(text).first.wait_for()
    page.locator(".tree").get_by_text("dot.png", exact=True).click()
    assert picture_width(preview.locator("img")) == 8
    page.go_back()
    shows(page, *ALL)


def test_a_comparison_begins_with_what_differs(address: str, visits: Visits) -> None:
    page = visits.open(f"{address}#/compare/{GOOD}/{FAILED}")
    page.get_by_text("FloatingPointError").first.wait_for()
    text = page.locator("main").inner_text()
    assert re.search(r"lr\s+0\.01\s+1\b", text)
    assert "conv4" not in text or text.index("lr") < text.index("conv4")


VIEWS = {
    "": "table.runs tr[data-row]",
    "#/runs?where=lr+%3D+1": ".filter-message.is-error",
    "#/runs?where=lr+%3E+9": "main .empty",
    "#/plots": "main svg, main canvas",
    f"#/run/{GOOD}?file=artifacts%2Ftable.csv": ".preview table",
    f"#/run/{FAILED}?file=data%2Ffield.npy": "section.is-failure",
    "#/run/none": "main .empty",
    f"#/compare/{GOOD}/{FAILED}": ".compare-run",
    "#/compare": ".compare-form",
    "#/curve/scalars/loss?group=seed&log=y": ".chart-picture",
}


CONTRAST = "color-contrast"


@pytest.mark.parametrize(
    ("scheme", "width", "rules"),
    [
        ("light", 1280, {}),
        ("dark", 1280, {"runOnly": {"type": "rule", "values": [CONTRAST]}}),
        ("light", 390, {"rules": {CONTRAST: {"enabled": False}}}),
    ],
)
def test_axe_finds_nothing_in_any_view_and_none_is_wider_than_the_screen(
    address: str, scheme: Scheme, width: int, rules: dict[str, Any], visits: Visits
) -> None:
    page = visits.open(address, scheme=scheme, width=width, height=844)
    found = {}
    for view, ready in VIEWS.items():
        page.goto(address + view)
        page.locator(ready).first.wait_for()
        found[view] = findings(page, **rules)
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            found[view].append(f"wider than {width} pixels")
    assert {view: problems for view, problems in found.items() if problems} == {}
    assert {url.partition("#")[0] for url in visits.requests} == {address}
