"""Ten thousand runs, and curves of a thousand: the page holds what is on the screen, within a stated memory."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

from notata.page.bundle import html_of
from notata.page.values import encoded
from tests.browser.synthetic import column
from tests.browser.visits import Visits, count

pytestmark = pytest.mark.browser


def table(runs: int, drawn: int, columns: list[str]) -> dict[str, Any]:
    ids = [f"log_{number:05}" for number in range(runs)]
    return {
        "title": "Many", "version": "1", "made": "2026-11-29T12:00:00+00:00", "live": False, "places": ["here"],
        "total": runs, "count": runs, "group": [], "problems": [], "left_out": [], "stale": False,
        "columns": [
            *(column(name, "fact", ids) for name in ("id", "name", "run_id")),
            column("status", "fact", ["complete"] * runs),
            column("lr", "param", [number % 97 / 10 for number in range(runs)]),
            column("seed", "param", list(range(runs))),
            *(column(f"m{place}", "metric", [number * place % 1009 / 8 for number in range(runs)])
              for place in range(1, 11)),
        ],
        "series": {"scalars": {"columns": columns, "runs": list(range(drawn))}} if drawn else {},
    }  # fmt: skip


def curves(runs: int, name: str, rows: int = 200) -> dict[str, Any]:
    step = list(range(rows))
    facts = {"rank": "", "rows": rows, "start": 0, "thinned": False, "smoothed": False, "nonfinite": {}}
    made = [
        {
            "run": f"log_{number:05}",
            "step": step,
            "time": step,
            "y": [round(math.exp(-at / (number + 1)), 4) for at in step],
        }
        for number in range(runs)
    ]
    return {"series": "scalars", "column": name, "problems": [], "curves": [one | facts for one in made]}


def opened(visits: Visits, folder: Path, blocks: dict[str, Any]) -> Any:
    file = folder / "report.html"
    file.write_bytes(b"".join(html_of("Many", [(key, encoded(value)) for key, value in blocks.items()])))
    return visits.open(file.as_uri())


def memory(page: Any) -> tuple[int, float]:
    """Return the number of elements, and the megabytes of objects after a garbage collection."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    used = session.send("Runtime.getHeapUsage")["usedSize"]
    return int(page.evaluate("document.querySelectorAll('*').length")), used / 1e6


def test_ten_thousand_runs_scroll_sort_and_filter(visits: Visits, tmp_path: Path) -> None:
    page = opened(visits, tmp_path, {"runs": table(10_000, 0, [])})
    page.get_by_text(re.compile(r"10\W?000 runs")).first.wait_for()
    page.locator(".runs-scroll").evaluate("(box) => box.scrollTo(0, box.scrollHeight)")
    page.get_by_role("link", name="09999").first.wait_for()
    page.get_by_role("searchbox", name="Filter", exact=True).fill("seed % 1000 == 7 and m1 ** 2 >= 0 or missing == 1")
    count(page.locator("table.runs tr[data-row]"), 10)
    page.get_by_role("searchbox", name="Filter", exact=True).fill("")
    page.get_by_role("button", name=re.compile("^lr")).first.click()
    page.locator("th[aria-sort=ascending]").wait_for()
    elements, megabytes = memory(page)
    assert elements < 1000
    assert megabytes < 50


def test_curves_of_a_thousand_runs(visits: Visits, tmp_path: Path) -> None:
    names = [f"loss{number}" for number in range(5)]
    data = {f"curves/scalars/{name}": curves(1000, name) for name in names}
    page = opened(visits, tmp_path, {"runs": table(1000, 1000, names), **data})
    page.get_by_role("checkbox", name="Select all runs").check()
    for name in names:
        picture = page.get_by_role("img", name=re.compile(rf"^{name}: 1\W?000 curves"))
        picture.scroll_into_view_if_needed()
        picture.wait_for()
    elements, megabytes = memory(page)
    assert elements < 10_000
    assert megabytes < 100
