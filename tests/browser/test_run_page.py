"""One run and the comparison of two in a report: all parts, broken and hostile runs, the keyboard, and axe-core."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from notata.page.bundle import html_of
from notata.page.values import encoded
from tests.browser.synthetic import column
from tests.browser.visits import Scheme, Visits, findings

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

EVIL = "<img src=x onerror=\"document.title='owned'\"><script>alert(1)</script>"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PICTURE = f"data:image/png;base64,{PIXEL}"
FRAME = {"file": "/home/anna/solver.py", "line": 214, "function": "step", "code": "raise SimulationError(t)"}
FAILURE = {
    "type": "SimulationError", "message": "the step is too small", "text": "", "frames": [FRAME],
    "chain": [{"relation": "caused by", "type": "KeyError", "message": "'cfl'", "text": "", "frames": []}],
}  # fmt: skip
TIME = "2026-11-28T21:00:00+00:00"


def file(key: str, kind: str, size: int = 1000, digest: str = "a" * 64) -> dict[str, Any]:
    return {"key": key, "size": size, "modified": TIME, "kind": kind, "digest": digest}


def run(id: str, status: str = "complete", **parts: Any) -> dict[str, Any]:
    facts = {"status": status, "certain": True, "why": "", "started": TIME, "ended": None, "seconds": 61.0}
    facts |= {"size": 1000, "files": 1, "host": "node-17", "failure_reason": None, **parts.pop("facts", {})}
    return {"id": id, "name": id, "url": f"s3://bucket/{id}", "facts": facts, **parts}


FILES = [
    file("plots/a.png", "image"), file("plots/b.png", "image"), file("artifacts/metrics.json", "json"),
    file("data/table.csv", "table"), file("data/u.npy", "array"), file("model.pt", "other"),
]  # fmt: skip
LOG = "[2026-11-28T21:00:00] INFO started\n[2026-11-28T21:00:01] ERROR bad\n  in line two\n\x1b[31m10 %\r20 %\x1b[0m\n"
OUTPUT = (
    "      it       res\n       1   2.5E-01\n"
    "\x1b]8;;http://x.example\x1b\\\x1b[38:2::255:0:0mNaN\x1b[m <b>\x1b]0;title\x07\n"
    "\x1b[K 10 %\r 20 %\n[2026-11-28T21:00:01] ERROR no level\nno end \x1b[31"
)
RUNS = [
    run(
        "good/a",
        params={"lr": 0.003, "net": {"depth": 3, "act": "gelu"}},
        metrics={"loss": 0.0123456789, "deep": {"error": 1.0}},
        files=FILES,
        environment={"python": {"version": "3.12"}, "pid": 1, "packages": {"numpy": "2.1", "scipy": "1.14"}},
        series={"scalars": {"rows": 50, "step": 49, "columns": {"loss": {"last": 0.5, "min": 0.25, "max": 2.0}}}},
        resumes=[{"time": TIME, "reason": "preempted"}],
        workers=["0", "1"],
        mirror="s3://backup/a",
        fields={"operator": "Anna"},
        log={"text": LOG, "start": 0, "end": len(LOG), "size": len(LOG)},
        output={"text": OUTPUT, "start": 5000, "end": 5000 + len(OUTPUT), "size": 5000 + len(OUTPUT)},
    ),
    run(
        "good/b",
        "failed",
        params={"lr": 0.01, "net": {"depth": 3, "act": "gelu"}},
        metrics={"loss": 0.0246913578},
        files=[*FILES[:2], file("data/u.npy", "array", digest="b" * 64)],
        environment={"python": {"version": "3.12"}, "pid": 2, "packages": {"numpy": "1.26", "scipy": "1.14"}},
        failure=FAILURE,
        caught=[FAILURE],
        caught_in_all=4,
    ),
    run("empty"),
    run("dead", "died", facts={"why": "no heartbeat from process 12"}, files=[file("log.txt", "text")]),
    run("unsure", "running", facts={"certain": False, "why": "it sends no heartbeats"}),
    run("unread", "unreadable", facts={"why": "metadata.json is not a JSON object"}),
    run(
        EVIL,
        "failed",
        facts={"why": EVIL, "host": EVIL, "failure_reason": EVIL},
        params={EVIL: EVIL, "__proto__": {"constructor": EVIL}, "long": "x" * 5000},
        metrics={"nan": "NaN", EVIL: 1e300},
        files=[file(EVIL, "text"), file(f"plots/{EVIL}.svg", "image"), file("a/../b.html", "other")],
        environment={"packages": {EVIL: EVIL}, "git": None, "python": None},
        failure={"type": EVIL, "message": EVIL, "frames": [{"file": EVIL, "code": EVIL}], "chain": [{"type": EVIL}]},
        series={EVIL: {"columns": {EVIL: {"last": 1}}}, "broken": None},
        log={"text": EVIL, "start": 0, "end": 10, "size": 10},
        output={"text": f"{EVIL} {'x' * 10_000}\n", "start": 0, "end": 10, "size": 10},
        resumes=[{"reason": EVIL}],
        mirror="javascript:alert(1)",
        problems=[EVIL],
    ),
    run("huge", params={f"p{n}": n for n in range(300)}, files=[file(f"data/x{n}.npy", "array") for n in range(5000)]),
    run("row only", params={"lr": 0.5}),
]
STATISTICS = {"min": -1.5, "max": 3.5, "mean": 0.25, "std": 0.75, "nan": 12}
PREVIEWS: dict[str, dict[str, Any]] = {
    "plots/a.png": {"image": PICTURE},
    "plots/b.png": {"image": PICTURE},
    "artifacts/metrics.json": {"json": {"loss": 0.5, "list": list(range(150))}},
    "data/table.csv": {"table": {"columns": ["step", "note"], "rows": [[n, EVIL] for n in range(20)], "total": 1000}},
    "data/u.npy": {"array": {"shape": [30, 20], "dtype": "float64", **STATISTICS, "head": [0.5], "image": PICTURE}},
    "model.pt": {"left_out": "Read it with: notata cat s3://bucket/a model.pt"},
}


def blocks() -> dict[str, Any]:
    names = ("status", "certain", "why", "started", "ended", "seconds", "size", "files", "host", "failure_reason")
    facts = [column(name, "fact", [one["facts"][name] for one in RUNS]) for name in names]
    facts += [column(name, "fact", [one["id"] for one in RUNS]) for name in ("id", "name", "run_id", "url")]
    found: dict[str, Any] = {
        "runs": {
            "title": "A sweep", "version": "1", "made": "2026-11-29T00:00:00+00:00", "live": False, "places": [],
            "total": len(RUNS), "count": len(RUNS), "series": {}, "group": [], "problems": [], "left_out": [],
            "columns": [*facts, column("lr", "param", [one.get("params", {}).get("lr") for one in RUNS])],
        }
    }  # fmt: skip
    found |= {f"run/{one['id']}": one for one in RUNS if one["id"] != "row only"}
    for name in ("good/a", "good/b"):
        found |= {f"file/{name}/{key}": {"key": key, "size": 1, **preview} for key, preview in PREVIEWS.items()}
    return found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_bytes(b"".join(html_of("A sweep", ((key, encoded(value)) for key, value in blocks().items()))))
    return path.as_uri()


def opened(visits: Visits, report: str, *parts: str, scheme: Scheme = "light", width: int = 1280) -> Page:
    """Open a view of the report, and wait until it is complete."""
    page = visits.open(f"{report}#/{'/'.join(quote(part, safe='') for part in parts)}", scheme=scheme, width=width)
    page.locator("main > :not([aria-busy])").wait_for()
    return page


def rows(page: Page, section: str) -> list[str]:
    found = page.locator("section", has=page.get_by_role("heading", name=section, exact=True)).locator("tr:visible")
    return ["|".join(row.locator("th, td").all_inner_texts()) for row in found.all()]


def test_all_parts_of_a_run_are_on_its_page(visits: Visits, report: str) -> None:
    page = opened(visits, report, "run", "good/a")
    assert page.locator("section.run-section:visible > h3").all_inner_texts() == [
        "Pictures", "Metrics", "Parameters", "Series", "Own fields", "Output", "Log", "Files", "Environment",
        "Resumes", "Workers and mirror",
    ]  # fmt: skip
    assert rows(page, "Metrics") == ["loss|0.01235", "deep.error|1"]
    assert rows(page, "Parameters") == ["lr|0.003", "net.depth|3", "net.act|gelu"]
    assert rows(page, "Series") == ["Column|Last|Min|Max", "loss|0.5|0.25|2"]
    assert page.get_by_title("0.0123456789").inner_text() == "0.01235"
    assert page.locator(".is-log .log-line").all_inner_texts()[1:] == [
        "[2026-11-28T21:00:01] ERROR bad",
        "  in line two",
        "20 %",
    ]
    assert page.locator(".log-error").count() == 2
    assert page.title() == "good/a · A sweep"


def test_output_is_shown_as_a_terminal_shows_it(visits: Visits, report: str) -> None:
    page = opened(visits, report, "run", "good/a")
    section = page.locator("section.is-output")
    assert section.locator(".log-line").all_text_contents() == [
        "      it       res", "       1   2.5E-01", "NaN <b>", " 20 %", "[2026-11-28T21:00:01] ERROR no level",
        "no end \x1b[31",
    ]  # fmt: skip
    assert section.get_by_text(re.compile(r"^The last \d+ B of 5\.\d kB$")).is_visible()
    assert section.get_by_role("link").count() == 0, "a report has no address of the file"
    assert section.get_by_role("button", name="Load earlier").count() == 0
    box, wrap = section.get_by_role("region", name="Output"), section.get_by_role("button", name="Wrap lines")
    assert box.locator(".log-line").first.evaluate("(line) => getComputedStyle(line).whiteSpace") == "pre"
    wrap.focus()
    page.keyboard.press("Enter")
    assert wrap.get_attribute("aria-pressed") == "true"
    assert box.locator(".log-line").first.evaluate("(line) => getComputedStyle(line).whiteSpace") == "pre-wrap"
    page.get_by_label("Parts of the run").get_by_role("link", name="Output").click()
    assert page.evaluate("document.activeElement.textContent") == "Output"


def test_copied_values_are_whole(visits: Visits, report: str) -> None:
    page = opened(visits, report, "run", "good/a")
    page.locator("table.values").first.select_text()
    page.evaluate("addEventListener('copy', (event) => { window.copied = event.clipboardData.getData('text/plain'); })")
    page.keyboard.press("Control+c")
    assert page.evaluate("window.copied") == "loss\t0.0123456789\ndeep.error\t1"


@pytest.mark.parametrize(
    ("key", "texts"),
    [
        ("metrics.json", ["{2 values}", "loss: 0.5", "list: [150 values]"]),
        ("table.csv", ["20 of 1000 rows, 2 columns", EVIL]),
        (
            "u.npy",
            ["30 \N{MULTIPLICATION SIGN} 20", "float64", "\N{MINUS SIGN}1.5", "Values from \N{MINUS SIGN}1.5 to 3.5"],
        ),
        ("model.pt", ["Read it with: notata cat s3://bucket/a model.pt"]),
    ],
)
def test_a_file_is_shown_as_what_it_is(key: str, texts: list[str], visits: Visits, report: str) -> None:
    page = opened(visits, report, "run", "good/a")
    page.locator(".tree-file", has_text=key).click()
    page.locator(".preview-body > :not(p.faint), .preview-body .left-out").first.wait_for()
    shown = page.locator(".preview-body").inner_text()
    assert [text for text in texts if text not in shown] == []
    assert page.locator(".tree-file[aria-current]").count() == 1
    assert quote(key) in page.url
    assert page.locator(".preview a").count() == 0, "a report has no address of the file"


def test_pictures_are_large_in_a_dialog_that_the_keyboard_closes(visits: Visits, report: str) -> None:
    page = opened(visits, report, "run", "good/a")
    page.locator(".thumbnail").first.focus()
    page.keyboard.press("Enter")
    page.locator("dialog img").wait_for()
    assert page.locator("dialog h3").inner_text() == "plots/a.png"
    assert findings(page) == []
    page.keyboard.press("ArrowRight")
    assert page.locator("dialog h3").inner_text() == "plots/b.png"
    page.keyboard.press("ArrowRight")
    assert page.locator("dialog h3").inner_text() == "plots/a.png"
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="detached")
    assert page.evaluate("document.activeElement.className") == "thumbnail"


def test_a_failure_comes_first_with_its_causes(visits: Visits, report: str) -> None:
    page = opened(visits, report, "run", "good/b")
    section = page.locator("section.run-section:visible").first
    assert section.locator("> h3").inner_text() == "What went wrong"
    assert section.locator(".failure-message, .failure-relation").all_inner_texts() == [
        "SimulationError: the step is too small", "caused by", "KeyError: 'cfl'",
    ]  # fmt: skip
    assert section.locator(".frames").inner_text().split("\n")[0] == "/home/anna/solver.py:214 in step"
    assert page.get_by_text("The last 1 of 4").is_visible()


@pytest.mark.parametrize(
    ("id", "status", "text"),
    [
        ("empty", "complete", "None recorded."),
        ("dead", "died", "Last sign of life: 2026-11-28 21:00:00"),
        ("unsure", "running?", "it sends no heartbeats"),
        ("unread", "unreadable", "metadata.json is not a JSON object"),
        ("row only", "complete", "The report has only the row of this run in the table."),
    ],
)
def test_broken_and_empty_runs_say_what_they_are(id: str, status: str, text: str, visits: Visits, report: str) -> None:
    page = opened(visits, report, "run", id)
    assert page.locator(".run-head .state").inner_text() == status
    assert text in page.locator("main").inner_text()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
@pytest.mark.parametrize("parts", [("run", EVIL), ("run", "good/b"), ("compare", "good/a", "good/b"), ("compare",)])
def test_every_text_is_text_and_fits_and_axe_finds_nothing(
    parts: tuple[str, ...], scheme: Scheme, width: int, visits: Visits, report: str
) -> None:
    page = opened(visits, report, *parts, scheme=scheme, width=width)
    assert findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert page.locator("img[src='x']").count() == 0
    assert page.title() != "owned"


def test_a_run_of_5000_files_and_300_parameters_shows_them_in_parts(visits: Visits, report: str) -> None:
    page = opened(visits, report, "run", "huge")
    assert page.locator("table.values tr").count() == 101
    page.get_by_label("Filter: Parameters").fill("p299")
    assert rows(page, "Parameters") == ["p299|299"]
    page.locator(".tree summary").click()
    page.get_by_role("button", name="Show more of the remaining 4800 files").click()
    assert page.locator(".tree-file").count() == 400
    page.get_by_label("Filter files").fill("x4999.")
    assert page.locator(".tree-file").all_inner_texts() == ["data/x4999.npy\n1.0 kB"]


def test_a_run_that_is_not_there_leads_back(visits: Visits, report: str) -> None:
    page = opened(visits, report, "run", "gone")
    assert page.locator("h2").inner_text() == "There is no such run"
    page.get_by_role("link", name="Back to the runs").click()
    page.locator("table.runs").wait_for()


def test_the_next_run_is_the_next_row_of_the_table(visits: Visits, report: str) -> None:
    page = visits.open(f"{report}#/run/good%2Fb?sort=-lr")
    page.get_by_role("link", name="Next →").click()
    page.get_by_role("heading", name="good/a").wait_for()
    page.go_back()
    page.get_by_role("heading", name="good/b").wait_for()
    page.get_by_text("Compare with…").click()
    page.get_by_label("Filter: runs to compare with").fill("od/a")
    page.locator(".run-choices a").click()
    page.get_by_role("heading", name="Compare").wait_for()


def test_two_runs_are_compared_with_their_differences_first(visits: Visits, report: str) -> None:
    page = opened(visits, report, "compare", "good/a", "good/b")
    assert rows(page, "Metrics")[1:] == ["loss|0.01235|0.02469|+100 %", "deep.error|1|\N{EN DASH}\nNone|"]
    assert rows(page, "Parameters")[1:] == ["lr|0.003|0.01"]
    assert rows(page, "Environment")[1:] == ["packages.numpy|2.1|1.26"]
    assert rows(page, "Files")[1:][-1] == "model.pt|1.0 kB|\N{EN DASH}\nNone|Only in A"
    assert "data/u.npy|1.0 kB|1.0 kB|Content differs" in rows(page, "Files")
    assert page.get_by_text("2 equal", exact=True).count() == 2
    assert page.locator(".is-pairs .thumbnail").count() == 4
    page.get_by_role("link", name="Swap").click()
    page.locator(".compare-run a").first.filter(has_text="good/b").wait_for()


def test_the_form_compares_the_selected_runs(visits: Visits, report: str) -> None:
    page = visits.open(f"{report}#/compare?sel=good%252Fb,empty")
    assert page.get_by_label("First run", exact=True).input_value() == "good/b"
    assert page.get_by_label("Second run", exact=True).input_value() == "empty"
    page.get_by_label("Filter: Second run").fill("dea")
    page.get_by_role("button", name="Compare").click()
    page.locator(".compare-run a").last.filter(has_text="dead").wait_for()
