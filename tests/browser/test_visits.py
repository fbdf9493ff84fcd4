"""The visits of these tests notice what they should: errors, violations, requests and what axe-core finds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.visits import Visits, findings

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser

POLICY = "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; img-src data: http:\">"
HEAD = "<!doctype html><html lang=en><title>A page</title>"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("<script>console.error('wrong')</script>", "error: wrong"),
        ("<script>console.warn('odd')</script>", "warning: odd"),
        ("<script>missing()</script>", "missing is not defined"),
        ("<script>Promise.reject(new Error('late'))</script>", "late"),
        ("<script>alert('owned')</script>", "dialog: owned"),
        ("<script>open('about:blank#x')</script>", "another page"),
        ("<img src='http://127.0.0.1:9/x.png' alt=''>", "request: http://127.0.0.1:9/x.png"),
        ("<link rel=stylesheet href='other.css'>", "other.css"),
        (f"{POLICY}<script>document.title = 'owned'</script>", "policy violation: script-src-elem inline"),
        (f"{POLICY}<p style='color: red'>x</p>", "policy violation: style-src-attr inline"),
        (f"{POLICY}<img src=x onerror='document.title = 1' alt=''>", "policy violation"),
    ],
)
def test_what_goes_wrong_on_a_page_is_noticed(body: str, problem: str, browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(HEAD + body)
    visits = Visits(browser)
    page = visits.open(file.as_uri())
    page.evaluate("new Promise((done) => setTimeout(done))")
    visits.close()
    assert any(problem in found for found in visits.problems), visits.problems


def test_a_good_page_has_no_problem(visits: Visits, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(f"{HEAD}{POLICY}<main><h1>Runs</h1><img src='data:,' alt='nothing' hidden></main>")
    page = visits.open(file.as_uri())
    assert findings(page) == []
    assert visits.requests == [file.as_uri()]


def test_axe_finds_what_some_people_cannot_use(visits: Visits, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    file.write_text(f"{HEAD}{POLICY}<main><h1>Runs</h1><input><button></button></main>")
    found = findings(visits.open(file.as_uri()))
    assert {text.partition(":")[0] for text in found} == {"label", "button-name"}
