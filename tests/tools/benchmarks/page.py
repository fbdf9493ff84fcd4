"""The page in a browser; `measures.page` runs this module in the environment that has Playwright.

``python -m tests.tools.benchmarks.page report RUNS ROWS``, ``… view RUNS MILLISECONDS`` or ``… live TIMES`` prints a
line of JSON. It needs the system's Chromium, and some GB of temporary files.
"""

from __future__ import annotations

import io
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import fsspec
import numpy as np

from notata import Experiment, Logbook
from tests.browser.visits import chromium
from tests.servers import CLOUD_ENVIRONMENT, seaweed
from tests.tools.benchmarks.proxy import distant
from tests.tools.benchmarks.runs import copy_runs

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_MIB: Final = 2**20
_COLUMNS: Final = ("loss", "val/loss", "accuracy", "grad_norm", "rate")
_ROW: Final = "tbody tr[data-row]"
_CHART: Final = "main canvas, main svg.chart"


# -- a report ----------------------------------------------------------------------------------------------


def fill_series(folder: Path, runs: int, rows: int) -> None:
    """Write runs with long series: copies of one, whose values are shifted."""
    with tempfile.TemporaryDirectory() as inside:
        with Logbook("template", inside, params={"rate": 0.25, "depth": 4}) as log:
            for step in range(rows):  # for a summary with as many
                log.scalars(step=step, **dict.fromkeys(_COLUMNS, 1.0))
        template = Path(inside, "log_template")
        files = {path.relative_to(template): path.read_bytes() for path in template.rglob("*") if path.is_file()}
    series = next(key for key in files if key.suffix == ".jsonl")
    noise = np.random.default_rng(1)
    for number in range(runs):
        name = f"run-{number:05d}"
        for key, data in files.items():
            path = folder / f"log_{name}" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            own = data.replace(b"template", name.encode()).replace(b"0.25", f"0.{number:05d}5".encode())
            path.write_bytes(_rows(noise, number, rows) if key == series else own)


def _rows(noise: np.random.Generator, number: int, rows: int) -> bytes:
    fall = np.exp(-np.arange(rows) * (1 + number % 7) / rows)
    values = fall[:, None] * (1 + 0.05 * noise.standard_normal((rows, len(_COLUMNS))))
    out = io.StringIO()
    for step, row in enumerate(values.tolist()):
        columns = ", ".join(f'"{name}": {value!r}' for name, value in zip(_COLUMNS, row, strict=True))
        out.write(f'{{"step": {step}, "time": {1.79e9 + step * 0.5}, {columns}}}\n')
    return out.getvalue().encode()


def measure_report(browser: Browser, runs: int, rows: int) -> dict[str, Any]:
    """Write a report of long series, and open it."""
    with tempfile.TemporaryDirectory() as inside:
        folder, report = Path(inside, "outputs"), Path(inside, "report.html")
        fill_series(folder, runs, rows)
        begun = time.perf_counter()
        command = [sys.executable, "-m", "notata", "report", str(folder), "-o", str(report), "--sort", "rate"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found = {"command": time.perf_counter() - begun}
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        found |= {"processor": used.ru_utime + used.ru_stime, "file": report.stat().st_size / 1e6}
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        begun = time.perf_counter()
        page.goto(report.as_uri())
        page.locator(_ROW).first.wait_for()
        found["rows"] = time.perf_counter() - begun
        page.locator(_CHART).first.wait_for()
        found["chart"] = time.perf_counter() - begun
        begun = time.perf_counter()
        page.evaluate("() => { location.hash = '#/curve/scalars/loss?sel=*' }")
        page.locator(".curve-table tbody tr").first.wait_for()
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        found |= {"curves": time.perf_counter() - begun, "heap": _heap(page) / _MIB}
        page.close()
    return found


def _heap(page: Any) -> float:
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    return float(session.send("Runtime.getHeapUsage")["usedSize"])


# -- many runs ---------------------------------------------------------------------------------------------


@contextmanager
def viewing(*arguments: str) -> Iterator[tuple[str, float]]:
    """Run ``notata view``; yield the address, and the time at which the command began."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "notata", "view", *arguments, "--no-browser", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if found := re.search(r"http://\S+", line):
                yield found[0], begun
                break
        else:
            raise SystemExit("notata view printed no address")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def measure_view(browser: Browser, runs: int, milliseconds: float) -> dict[str, Any]:
    """Open an experiment of many runs in a distant bucket."""
    with tempfile.TemporaryDirectory() as inside:
        folder = Path(inside, "outputs")
        experiment = Experiment("sweep", folder, environment=False, manifest=False)
        for number in range(20):
            with experiment.add(rate=0.001 * number, depth=number % 8) as log:
                log.json("metrics", {"loss": 1 / (1 + number), "accuracy": 0.5 + number / 40})
        copy_runs(folder / "sweep" / "runs", runs)
        data = Path(inside, "server")
        data.mkdir()
        with seaweed(data) as server:
            url = f"{server.url}/sweep"
            fsspec.filesystem("s3", **server.options).put(str(folder / "sweep"), url, recursive=True)
            Experiment("sweep", server.url, storage_options=server.options).write_index()
            with distant(urlsplit(server.endpoint).port or 0, milliseconds) as port:
                options = server.options | {"endpoint_url": f"http://127.0.0.1:{port}"}
                given = [f"--storage-option={name}={value}" for name, value in options.items()]
                with viewing(url, *given) as (address, begun):
                    printed = time.perf_counter()
                    page = browser.new_page(viewport={"width": 1400, "height": 900})
                    page.goto(address)
                    page.locator(_ROW).first.wait_for()
                    shown = time.perf_counter()
                    page.get_by_text("Live", exact=True).wait_for(timeout=120_000)
                    confirmed = time.perf_counter()
                    page.close()
    return {"address": printed - begun, "rows": shown - printed, "confirmed": confirmed - begun}


# -- new rows ----------------------------------------------------------------------------------------------


def measure_live(browser: Browser, times: int) -> dict[str, list[float]]:
    """Measure the time from a new row to the page, on a disk and in a bucket."""
    with tempfile.TemporaryDirectory() as inside, seaweed(Path(inside)) as server:
        return {
            "disk": _measure_rows(browser, f"{inside}/outputs", {}, times),
            "S3": _measure_rows(browser, f"{server.url}/outputs", server.options, times),
        }


def _measure_rows(browser: Browser, url: str, options: dict[str, Any], times: int) -> list[float]:
    log = Logbook("live", url, params={"rate": 0.1}, storage_options=options or None)
    log.scalars(step=0, loss=5.0)
    log.flush()
    given = [f"--storage-option={name}={value}" for name, value in options.items()]
    after_call = []
    with viewing(url, *given) as (address, _):
        page = browser.new_page(viewport={"width": 1200, "height": 800})
        page.goto(f"{address}#/curve/scalars/loss")
        page.get_by_text("live").first.wait_for()
        for number in range(1, times + 1):
            page.wait_for_timeout(700 + 613 * number % 1700)  # another moment of a poll each time
            value = f"{number + 100}.37"
            called = time.perf_counter()
            log.scalars(step=number, loss=float(value))
            log.flush()
            page.get_by_text(value).first.wait_for(timeout=60_000)
            after_call.append(time.perf_counter() - called)
        page.close()
    log.mark_complete()
    return after_call


def main(part: str, *given: str) -> None:
    """Measure one part."""
    from playwright.sync_api import sync_playwright

    os.environ |= CLOUD_ENVIRONMENT
    measure: Any = {"report": measure_report, "view": measure_view, "live": measure_live}[part]
    with sync_playwright() as playwright:
        browser = chromium(playwright)
        found = measure(browser, *map(int, given))
        browser.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
