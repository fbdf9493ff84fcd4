"""The live page while the storage or the server fails. The test plays the server."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from notata import Logbook
from tests.backends import Place
from tests.browser.recorded import QUIET
from tests.browser.test_storages import live, origin
from tests.browser.visits import Visits, findings

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

pytestmark = pytest.mark.browser

_EVENTS = """
window.streams = [];
window.EventSource = class {
  static CLOSED = 2;
  constructor(url) { Object.assign(this, {url, readyState: 1}); streams.push(this); }
  close() { this.readyState = 2; }
};
"""


def tell(page: Page, kind: str, text: str = "") -> None:
    """Send an event to the page."""
    data = json.dumps({"kind": kind, "ids": [], "text": text})
    page.evaluate("data => streams.at(-1).onmessage({data})", data)


def watched(page: Page) -> dict[str, Any]:
    """Return what the newest stream of the page watches."""
    address = page.evaluate("streams.at(-1).url")
    return dict(json.loads(parse_qs(urlsplit(address).query)["watch"][0]))


def without(answer: dict[str, Any], run_id: str) -> dict[str, Any]:
    """Return the answer with the table of runs, without one of them."""
    columns = [column | {"values": column["values"][:]} for column in answer["columns"]]
    row = next(column["values"] for column in columns if column["path"] == "id").index(run_id)
    for column in columns:
        assert not column.get("nonfinite")
        del column["values"][row]
    left = {
        name: series | {"runs": [other - (other > row) for other in series["runs"] if other != row]}
        for name, series in answer["series"].items()
    }
    return answer | {"columns": columns, "series": left, "count": answer["count"] - 1}


def answer_of(page: Page) -> dict[str, Any]:
    """Return the table of runs, as the server knows it."""
    return dict(page.request.get(page.url.partition("#")[0].partition("?")[0] + "api/runs").json())


def tell_runs(page: Page) -> None:
    """Say that the runs have changed, and wait until the page has read them."""
    with page.expect_response("**/api/runs"):
        tell(page, "runs")
        page.clock.fast_forward(1000)


def hold(_: Route) -> None:
    """Give no answer, until the page has no such route any more."""


@pytest.fixture
def page(visits: Visits, tmp_path: Path) -> Iterator[Page]:
    """Return the live page of two runs, whose events come from the test."""
    for number in (1, 2):
        with Logbook(f"run{number}", tmp_path / "outputs", params={"seed": number}, **QUIET) as log:
            log.scalars(step=0, loss=1.0)
            log.scalars(step=1, loss=0.5)
            for name in ("constructor", "__proto__") if number == 2 else ():
                log.series(name).add(step=0, x=1.0)
    with live(Place("local", str(tmp_path / "outputs")), visits, tmp_path) as view:
        page = visits.open("about:blank", origin=origin(view.address))
        page.context.add_init_script(_EVENTS)
        page.clock.install()
        page.goto(view.address)
        page.get_by_role("img", name=re.compile("^loss: 2 curves")).wait_for()
        yield page


def test_an_outage_is_named_on_every_view_until_it_ends(page: Page) -> None:
    assert page.locator(".made").inner_text() == "Live"
    tell(page, "problem", "no server answered")
    for view in ("runs", "plots", "compare", "run/log_run1"):
        page.evaluate("view => { location.hash = `#/${view}`; }", view)
        tell(page, "runs")
        page.clock.fast_forward(1000)
        page.locator(".main > *").first.wait_for()
        assert page.locator(".status").inner_text() == "no server answered"
        assert re.fullmatch(r"Not current since \d\d:\d\d", page.locator(".made").inner_text())
    assert findings(page) == []
    tell(page, "recovered")
    page.locator(".made").get_by_text("Live").wait_for()
    assert page.locator(".status").inner_text() == ""
    tell(page, "ended")
    page.get_by_text("notata view has ended").wait_for()
    assert "Live" not in page.locator(".made").inner_text()


def test_a_chart_without_an_answer_keeps_its_curves_and_says_so(page: Page) -> None:
    page.route("**/api/curves/**", hold)
    with page.expect_request("**/api/curves/**"):
        page.evaluate("location.hash = '#/runs?smooth=0.5'")
    page.clock.fast_forward(16_000)
    page.locator(".chart-message.is-note").get_by_text("The storage does not answer").first.wait_for()
    assert page.get_by_role("img", name=re.compile("^loss: 2 curves")).count() == 1
    page.unroute("**/api/curves/**", hold)  # and let those that were held go on
    page.locator(".chart-message.is-note").get_by_text("The storage does not answer").first.wait_for(state="hidden")


def test_a_chart_needs_no_name_before_it_is_drawn(page: Page) -> None:
    idle = "class { observe() {} unobserve() {} disconnect() {} }"
    page.evaluate(f"() => {{ window.ResizeObserver = {idle}; }}")  # the chart gets no size, and is not drawn
    page.evaluate("location.hash = '#/run/log_run1'")
    page.locator(".run-page .chart-picture").first.wait_for(state="attached")
    assert findings(page) == []


def test_a_run_without_an_answer_says_so(page: Page) -> None:
    page.route("**/api/run/**", hold)
    with page.expect_request("**/api/run/**"):
        page.evaluate("location.hash = '#/run/log_run1'")
    page.locator(".run-notes").get_by_text("Reading").wait_for()
    page.clock.fast_forward(16_000)
    page.locator(".run-notes").get_by_text("The storage does not answer").wait_for()
    page.unroute("**/api/run/**", hold)
    page.locator(".run-notes").get_by_text("The storage does not answer").wait_for(state="hidden")


def test_a_series_may_have_the_name_of_a_property_of_all_objects(page: Page) -> None:
    page.evaluate("location.hash = '#/run/log_run2'")
    page.get_by_role("img", name=re.compile("^loss: 1 curve")).wait_for()
    page.clock.fast_forward(1000)
    assert watched(page)["series"] == {name: ["log_run2"] for name in ("scalars", "constructor", "__proto__")}


def test_a_stream_that_is_refused_is_requested_again_after_pauses(page: Page, visits: Visits) -> None:
    visits.expected.append("the server responded with a status of 503")
    page.route("**/api/events?**", lambda route: route.fulfill(status=503, json={"error": "too many pages are open"}))
    streams = int(page.evaluate("streams.length"))
    page.clock.pause_at(
        page.evaluate("Date.now()") + 1000
    )  # otherwise its time passes with that of a busy machine, too
    for pause in (5_000, 10_000, 20_000, 40_000, 60_000, 60_000):
        refuse = "() => { const stream = streams.at(-1); stream.readyState = 2; stream.onerror(); }"
        page.evaluate(refuse)
        page.locator(".status").get_by_text("too many pages are open").wait_for()
        page.clock.fast_forward(pause - 1_000)
        assert page.evaluate("streams.length") == streams
        page.clock.fast_forward(2_000)
        streams += 1
        assert page.evaluate("streams.length") == streams
    page.evaluate("streams.at(-1).onopen()")
    page.locator(".made").get_by_text("Live").wait_for()
    assert page.locator(".status").inner_text() == ""


def test_a_page_watches_no_more_than_the_server_allows(page: Page) -> None:
    answer = answer_of(page)
    place = next(column for column in answer["columns"] if column["path"] == "id")["values"].index("log_run2")
    answer["series"] |= {f"series{number}": {"columns": ["x"], "runs": [place]} for number in range(600)}
    page.route("**/api/runs", lambda route: route.fulfill(json=answer))
    tell(page, "runs")
    page.clock.fast_forward(1000)
    page.evaluate("location.hash = '#/run/log_run2?series=series599'")
    page.get_by_label("Series", exact=False).first.wait_for()
    page.clock.fast_forward(1000)
    assert len(watched(page)["series"]) <= 101
    assert watched(page)["logs"] == ["log_run2"]


def test_a_compared_run_that_is_gone_is_named_and_shown_again_when_it_is_back(page: Page) -> None:
    page.evaluate("location.hash = '#/compare/log_run1/log_run2'")
    legend = page.locator(".curve-legend li a")
    page.get_by_role("img", name=re.compile("^loss: 2 curves")).wait_for()
    left = without(answer_of(page), "log_run1")
    page.route("**/api/runs", lambda route: route.fulfill(json=left))
    tell_runs(page)
    page.get_by_text("There is no run log_run1 any more.").wait_for()
    assert legend.count() == 0
    page.unroute("**/api/runs")
    tell_runs(page)
    page.get_by_role("img", name=re.compile("^loss: 2 curves")).wait_for()
    assert legend.count() == 2


def test_a_run_that_is_gone_is_shown_again_when_it_is_back(page: Page) -> None:
    page.evaluate("location.hash = '#/run/log_run1'")
    page.get_by_role("img", name=re.compile("^loss: 1 curve")).wait_for()
    left = without(answer_of(page), "log_run1")
    page.route("**/api/runs", lambda route: route.fulfill(json=left))
    tell_runs(page)
    page.get_by_role("heading", name="There is no such run").wait_for()
    assert page.locator(".run-page").count() == 0
    page.unroute("**/api/runs")
    tell_runs(page)
    page.get_by_role("img", name=re.compile("^loss: 1 curve")).wait_for()
    assert page.get_by_role("heading", name="There is no such run").count() == 0
