"""Runs of which every text is an attack execute nothing in the page and fetch nothing, in a report and live."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from notata.search import report
from tests.browser.recorded import ATTACK_KEYS, ATTACKS, attack
from tests.browser.visits import Visits, count
from tests.cli.test_view import viewing

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

ADDRESSES = """() => [...document.querySelectorAll("[src], [href]")]
    .map((one) => one.getAttribute("src") ?? one.getAttribute("href")).filter(Boolean)"""
OWN = ("#", "data:image/", "data:,", "static/", "api/")


@pytest.fixture(params=["report", "view"])
def page(request: pytest.FixtureRequest, visits: Visits, tmp_path: Path) -> Iterator[Page]:
    """Open the hostile runs in a report, and live."""
    attack(tmp_path / "outputs")
    if request.param == "report":
        report(str(tmp_path / "outputs"), str(tmp_path / "report.html"), title=ATTACKS[2])
        yield visits.open((tmp_path / "report.html").as_uri())
        return
    with viewing(str(tmp_path / "outputs"), "--no-browser", folder=tmp_path) as view:
        yield visits.open(view.address, origin=view.address.partition("/?")[0] + "/")
        visits.close()


def test_hostile_runs_execute_nothing_and_fetch_nothing(page: Page) -> None:
    page.locator("table.runs tr[data-row]").first.wait_for()
    start = page.url.partition("#")[0]
    for text in (ATTACKS[0], ATTACKS[2]):  # shown as what it is
        page.get_by_text(text).first.wait_for(state="attached")
    ids = [f"log_attack_{number}" for number in range(len(ATTACKS))]
    views = [
        f"#/runs?where={quote(text)}&sort={quote(text)}&hide={quote(text)}&sel={quote(text)}" for text in ATTACKS[:4]
    ]
    views += [f"#/run/{quote(one)}" for one in ids]
    views += [f"#/run/{ids[2]}?file={quote(key)}" for key in ATTACK_KEYS]
    views += [f"#/run/{quote(ATTACKS[2], safe='')}", f"#/compare/{ids[0]}/{ids[3]}", "#/plots"]
    views += [f"#/curve/scalars/{quote(text, safe='')}" for text in ATTACKS[:3]]
    for view in views:
        page.goto(start + view)
        count(page.locator("[aria-busy=true]"), 0)
        page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
        assert page.evaluate("window.owned ?? Object.prototype.owned ?? null") is None, view
        assert page.locator("iframe, object, embed, base, foreignObject, main script, main link").count() == 0, view
        assert [one for one in page.evaluate(ADDRESSES) if not one.startswith(OWN)] == [], view
    page.goto(f"{start}#/run/{ids[0]}?file=picture.svg")
    page.locator(".preview").get_by_text("picture.svg").first.wait_for()
