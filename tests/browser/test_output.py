"""The output of a program on the live page: as it is printed, however much and however long its lines."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.backends import Place
from tests.browser.test_storages import live, origin
from tests.browser.visits import Visits, findings
from tests.test_hostile_text import plant

if TYPE_CHECKING:
    from playwright.sync_api import Locator

pytestmark = pytest.mark.browser

PROGRAM = "printf '  step  1\\n'; while ! test -e go; do sleep 0.05; done; printf '  step  2\\nno end'"
KEPT = 2**22 + 2**20
"""Characters that the page keeps of a text, and those of one answer."""
LINES = 40_000 + 2**18
"""Lines that it keeps, and those of one answer."""


def opened(visits: Visits, address: str, run: str) -> Locator:
    """Return the section with the output of a run."""
    page = visits.open(f"{address}#/run/{run}", origin=origin(address))
    page.get_by_role("heading", name=run, exact=True).wait_for()
    return page.locator("section.is-output")


def test_the_page_follows_a_program_that_runs(visits: Visits, tmp_path: Path) -> None:
    run = [sys.executable, "-m", "notata", "run", "-q", "-d", "outputs", "--id", "solver"]
    program = subprocess.Popen([*run, "--", "sh", "-c", PROGRAM], cwd=tmp_path)
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "outputs/log_solver/output.txt").exists():
            assert program.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with live(Place("local", str(tmp_path / "outputs")), visits, tmp_path, "--interval", "0.2") as view:
            output = opened(visits, view.address, "log_solver")
            output.get_by_text("step  1").wait_for()
            (tmp_path / "go").touch()
            output.get_by_text("step  2").wait_for()
            output.get_by_text("no end").wait_for()  # with the end of the run
            assert output.locator(".log-line").all_text_contents() == ["  step  1", "  step  2", "no end"]
            with output.page.expect_download() as waited:
                output.get_by_role("link", name="Download").click()
            assert Path(waited.value.path()).read_bytes() == b"  step  1\n  step  2\nno end"
            assert findings(output.page) == []
    finally:
        program.terminate()
        program.wait()


def test_output_of_any_size_and_form_leaves_the_page_small_and_alive(visits: Visits, tmp_path: Path) -> None:
    folder = plant(tmp_path / "outputs", "vast", status="running", lease={"host": "far", "pid": 7, "heartbeat": 1e9})
    file = folder / "output.txt"
    file.write_bytes(b"")
    os.truncate(file, 10**9)  # of which the disk stores nothing
    with file.open("ab") as end:
        end.write(b"\nthe last line\n")
    with live(Place("local", str(tmp_path / "outputs")), visits, tmp_path, "--interval", "0.2") as view:
        output = opened(visits, view.address, "log_vast")
        box = output.get_by_role("region", name="Output")

        def letters() -> int:
            return int(box.evaluate("(box) => box.textContent.length"))

        def append(data: bytes) -> None:
            with file.open("ab") as end:
                end.write(data)

        box.get_by_text("the last line").wait_for()
        assert letters() <= 2**16
        append(b"x" * 100_000_000 + b"the end of it\n")  # one line, of which the page may see any part first
        box.get_by_text("the end of it").wait_for()
        assert letters() <= KEPT
        append(b"\n" * 3_000_000 + b"after the blanks\n")
        box.get_by_text("after the blanks").wait_for()
        assert box.locator(".log-line").count() <= LINES
        append(b"\xff\x1b[31m\r" * 1_000_000 + b"\nnot UTF-8\n")
        box.get_by_text("not UTF-8").wait_for()
        assert letters() <= KEPT
        file.write_bytes(b"replaced by less\n")
        box.get_by_text("replaced by less").wait_for()
        assert letters() == len("replaced by less")
        append(b"a line\n" * 5000)
        output.get_by_text("5001 lines").wait_for()
        box.evaluate("(box) => { box.scrollTop = 0; }")
        append(b"more\n" * 2_000_000 + b"the very last line\n")
        output.get_by_text("There is more, 10.0 MB in all.").wait_for()
        assert letters() <= KEPT
        output.get_by_role("button", name="To the end").click()
        box.get_by_text("the very last line").wait_for()
        assert letters() <= 2**18


def test_earlier_output_is_loaded_on_request_until_all_is_there(visits: Visits, tmp_path: Path) -> None:
    lines = [f"{number:6d}   é   {'x' * (number % 50)}" for number in range(8000)]
    (plant(tmp_path / "outputs", "long") / "output.txt").write_text("\r\n".join(lines))
    with live(Place("local", str(tmp_path / "outputs")), visits, tmp_path) as view:
        output = opened(visits, view.address, "log_long")
        output.get_by_text(lines[-1]).wait_for()
        earlier, shown = output.get_by_role("button", name="Load earlier"), output.locator(".log-line")
        while earlier.is_visible():
            before = shown.count()
            earlier.click()
            shown.nth(before).wait_for()
        assert shown.all_text_contents() == lines
        output.get_by_text(re.compile("^[0-9.]+ kB, 8000 lines$")).wait_for()
