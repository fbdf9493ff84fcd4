"""`notata run` in the window of a terminal: job control, pipelines, and the end of the window."""

from __future__ import annotations

import os
import signal
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from notata import LogReader
from tests.terminals import PROMPT, Window, shell_window

NOTATA = f"{sys.executable} -m notata run -d outputs"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Window]:
    with shell_window(tmp_path) as window:
        yield window


def output(folder: Path, run_id: str) -> str:
    return LogReader(folder / "outputs" / f"log_{run_id}")["output.txt"].read_text()


def test_ctrl_z_stops_both_and_fg_continues(shell: Window, tmp_path: Path) -> None:
    before = shell.settings()
    for arguments in ("--id own", "--id shared --no-terminal"):
        script = "echo pid $$; read line; echo got $line; read line; echo got $line"
        shell.press(f"{NOTATA} {arguments} -- sh -c '{script}'\r")
        shell.until("pid $$")
        shell.until("pid ")
        pid = int(shell.until("\r\n"))
        shell.press("first\r")
        shell.until("got first\r\n")
        shell.press("\x1a")
        shell.until("Stopped")
        shell.until(PROMPT)
        assert shell.settings() == before
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
            os.sched_yield()  # it has its signal, but not yet a processor
        shell.press("fg\r")
        shell.until("got $line'\r\n")
        shell.press("second\r")
        shell.until("got second\r\n")
        shell.until(PROMPT)
        assert shell.settings() == before


def test_a_pipeline_gets_keys_and_signals_of_the_terminal(shell: Window, tmp_path: Path) -> None:
    shell.press(f"{NOTATA} --id a -- sh -c 'echo ready; read line; echo got $line; read line' | cat\r")
    shell.until("ready\r\n")
    shell.press("text\r")
    shell.until("got text\r\n")
    shell.press("\x03")
    shell.until(PROMPT)
    assert output(tmp_path, "a") == "ready\ngot text\n"
    assert LogReader(tmp_path / "outputs/log_a").meta["failure_reason"] == "interrupted (SIGINT)"


def test_a_closed_window_ends_the_program_and_its_run_is_recorded(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "line")
    command = [sys.executable, "-m", "notata", "run", "-d", "outputs", "--id", "a", "--"]
    with Window([*command, "sh", "-c", "exec 3> line; echo ready; read line"], folder=tmp_path) as window:
        with open(tmp_path / "line") as line:
            window.until("ready\r\n")
            settings: list[object] = window.settings()
            assert not int(str(settings[3])) & termios.ICANON
            window.close()
            assert line.read() == ""  # until the program has ended
        window.process.wait(120)
    assert LogReader(tmp_path / "outputs/log_a").meta["exit"]["signal"] == "SIGHUP"


def test_the_mode_of_the_terminal_is_restored_after_each_end(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "notata", "run", "-q", "-d", "outputs", "--"]
    for script, number in (("kill -KILL $$", None), ("stty raw -echo; kill -TERM $PPID; read line", signal.SIGTERM)):
        with Window([*command, "sh", "-c", script], folder=tmp_path) as window:
            assert window.wait() == 128 + (number or signal.SIGKILL)
            assert window.settings() == window.before
