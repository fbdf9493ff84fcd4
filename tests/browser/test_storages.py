"""Real runs on a disk, in memory, in S3 and in GCS: a report of them, and the live page, which shows new data."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from notata import Logbook
from notata.search import report
from tests.backends import Place
from tests.browser.recorded import QUIET, sweep
from tests.browser.visits import Visits, findings, picture_width
from tests.cli.test_view import Started, viewing

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


@pytest.fixture(params=["local", "memory", "s3", "gcs"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "local":
        return Place("local", str(tmp_path / "outputs"))
    if request.param == "memory":
        return Place("memory", "memory://outputs")
    server = request.getfixturevalue("moto_server" if request.param == "s3" else "gcs_server")
    return Place(request.param, f"{server.url}/{uuid.uuid4().hex}", server.options)


@contextmanager
def live(place: Place, visits: Visits, folder: Path, *arguments: str) -> Iterator[Started]:
    """Serve a place; the pages are closed before the server ends."""
    options = [f"--storage-option={name}={value}" for name, value in place.options.items()]
    with viewing(place.url, "--no-browser", *options, *arguments, folder=folder) as view:
        yield view
        visits.close()


def origin(address: str) -> str:
    return address.partition("/?")[0] + "/"


def test_a_report_shows_runs_curves_and_files(place: Place, visits: Visits, tmp_path: Path) -> None:
    sweep(place.url, options=place.options)
    report(place.url, str(tmp_path / "report.html"), storage_options=place.options)
    page = visits.open((tmp_path / "report.html").as_uri())
    page.get_by_role("img", name=re.compile("^loss: 6 curves")).wait_for()
    page.get_by_role("link", name=re.compile("lr_1_seed_0")).first.click()
    page.locator(".tree").get_by_text("dot.png", exact=True).click()
    assert picture_width(page.locator(".preview img")) == 8


@pytest.fixture
def first(place: Place) -> Logbook:
    """Return a run that is being written, with two rows."""
    log = place.logbook("first", params={"lr": 0.1}, **QUIET)
    for step in (0, 1):
        log.scalars(step=step, loss=1.0 - step / 4)
    log.flush()
    return log


# Another process, such as the server, has another memory.
@pytest.mark.parametrize("place", ["local", "s3", "gcs"], indirect=True)
def test_the_live_page_shows_new_rows_and_lines(place: Place, first: Logbook, visits: Visits, tmp_path: Path) -> None:
    place.put("log_first/output.txt", b"  step  1\n")
    with live(place, visits, tmp_path, "--interval", "0.2") as view:
        page = visits.open(view.address, origin=origin(view.address))
        page.get_by_role("img", name=re.compile("^loss: 1 curve.* x from 0 to 1")).wait_for()
        assert "token" not in page.url
        first.scalars(step=7, loss=0.5)
        first.flush()
        page.get_by_role("img", name=re.compile("^loss: 1 curve.* x from 0 to 7")).wait_for()
        page.get_by_role("link", name="first").first.click()
        page.get_by_role("region", name="Log").wait_for()
        first.warning("a line of the log")
        first.flush()
        page.get_by_role("region", name="Log").get_by_text("a line of the log").wait_for()
        place.put("log_first/output.txt", b"  step  1\n  step  2\n")
        page.get_by_role("region", name="Output").get_by_text("step  2").wait_for()
        assert page.locator(".is-output .log-line").all_text_contents() == ["  step  1", "  step  2"]
        assert findings(page) == []


@pytest.mark.parametrize("place", ["local"], indirect=True)
def test_the_live_page_shows_new_runs_their_end_and_its_own(
    place: Place, first: Logbook, visits: Visits, tmp_path: Path
) -> None:
    with live(place, visits, tmp_path, "--interval", "0.2") as view:
        page = visits.open(view.address, origin=origin(view.address))
        page.locator("table.runs tr[data-row] th a").first.wait_for()
        first.mark_complete()
        with place.logbook("second", params={"lr": 0.2}, **QUIET):
            pass
        page.get_by_text("2 runs").wait_for()
        page.get_by_role("button", name=re.compile("complete 2")).wait_for()
        visits.expected.append("Failed to load resource")
        view.end()
        page.get_by_text("notata view has ended").wait_for()


def test_a_download_is_no_page(visits: Visits, tmp_path: Path) -> None:
    with Logbook("a", tmp_path / "outputs", **QUIET) as log:
        log.text("page", "<script>top.owned = 1</script>")
    (tmp_path / "outputs/log_a/artifacts/page.html").write_text("<script>top.owned = 1</script>")
    with live(Place("local", str(tmp_path / "outputs")), visits, tmp_path) as view:
        page = visits.open(f"{view.address}#/run/log_a?file=artifacts%2Fpage.html", origin=origin(view.address))
        with page.expect_download() as waited:
            page.locator(".preview").get_by_role("link", name="Download").click()
        assert Path(waited.value.path()).read_text() == "<script>top.owned = 1</script>"
        assert owned(page) is None


def owned(page: Page) -> object:
    return page.evaluate("window.owned ?? null")
