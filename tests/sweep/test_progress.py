"""The progress of a sweep: a bar in a terminal, a line in a notebook, lines in a file, else nothing."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from notata import Experiment, Logbook
from notata.sweep import grid
from notata.sweep.progress import Progress
from notata.sweep.result import SweepResult


def fail_for_one(log: Logbook, x: int) -> None:
    if x == 1:
        raise ValueError("one")


def sweep(progress: bool | None = None) -> None:
    Experiment("shown", "memory://progress").sweep(fail_for_one, grid(x=range(4)), progress=progress)


def test_nothing_outside_of_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    sweep()
    assert capfd.readouterr() == ("", "")


def test_lines_in_a_file_on_request(capfd: pytest.CaptureFixture[str]) -> None:
    sweep(progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert re.fullmatch(
        r"(sweep shown: \d+% of 4 in .* \(.*\)\n)+sweep shown: 100% of 4 in [\d.]+ m?s "
        r"\(3 complete, 1 failed\)\n",
        err,
    ), err


def test_the_line_says_how_long_it_takes(capfd: pytest.CaptureFixture[str]) -> None:
    progress = Progress("sweep a", 1000, wanted=True)
    result = SweepResult("memory://a", complete=200, skipped=50)
    progress.update(result, 12, 3)
    line = capfd.readouterr().err
    assert "sweep a: 25% of 1,000 in " in line
    assert " left (200 complete, 50 skipped, 12 submitted, 3 of other processes)" in line
    progress.update(result, 12, 3)  # not again within half a minute
    assert capfd.readouterr().err == ""


def test_skipped_points_do_not_shorten_the_estimate(capfd: pytest.CaptureFixture[str]) -> None:
    Progress("sweep a", 1000, wanted=True).update(SweepResult("memory://a", skipped=900), 1, 0)
    assert re.fullmatch(r"sweep a: 90% of 1,000 in \S+ \S+ \(900 skipped, 1 submitted\)\n", capfd.readouterr().err)


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (SweepResult("memory://a", complete=2, cancelled=2), r"33% of 6 in \S+ \S+ \(2 complete, 2 cancelled\)"),
        (SweepResult("memory://a"), r"0% of 6 in \S+ \S+ \(no points\)"),
    ],
)
def test_the_last_line_of_an_interrupted_sweep(
    result: SweepResult, line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    Progress("sweep a", 6, wanted=True).close(result)
    assert re.fullmatch(f"sweep a: {line}\n", capfd.readouterr().err)


def test_a_line_in_a_notebook(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    shown: list[str] = []

    class Handle:
        def update(self, data: dict[str, str], *, raw: bool) -> None:
            shown.append(data["text/plain"])

    def display(data: dict[str, str], *, raw: bool, display_id: bool) -> Handle:
        assert display_id
        shown.append(data["text/plain"])
        return Handle()

    shell = type("ZMQInteractiveShell", (), {})
    fake: Any = types.ModuleType("IPython")
    fake.get_ipython = shell
    fake.display = types.ModuleType("IPython.display")
    fake.display.display = display
    monkeypatch.setitem(sys.modules, "IPython", fake)
    monkeypatch.setitem(sys.modules, "IPython.display", fake.display)
    sweep()
    assert shown[0] == "sweep shown: 0% of 4 in 0 ms (starting)"
    assert shown[-1].startswith("sweep shown: 100% of 4 in ")
    assert shown[-1].endswith("(3 complete, 1 failed)")
    assert capfd.readouterr().err == ""


def test_errors_of_the_display_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def write(self, text: str) -> int:
            raise OSError("closed")

        flush = isatty = lambda self: False

    monkeypatch.setattr(sys, "stderr", Closed())
    sweep(progress=True)


SCRIPT = """
from notata import Experiment
from notata.sweep import grid
from tests.sweep.test_progress import fail_for_one
Experiment("shown", ".").sweep(fail_for_one, grid(x=range(30)))
"""


def test_a_bar_in_a_terminal(tmp_path: Path) -> None:
    main, child = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "160", "LINES": "40"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stderr=child, stdout=subprocess.DEVNULL, cwd=tmp_path, env=environment
    )
    os.close(child)
    shown = b""
    while select.select([main], [], [], 60)[0]:
        try:
            part = os.read(main, 4096)
        except OSError:  # Linux reports the end of the other side like this
            break
        if not part:
            break
        shown += part
    os.close(main)
    assert process.wait(60) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert "sweep shown: " in text
    assert "30 runs of 30 runs" in text
