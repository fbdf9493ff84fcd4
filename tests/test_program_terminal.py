"""`notata run` in the window of a terminal: keys, job control, size, and the mode of the terminal afterwards."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from notata import LogReader
from tests.children import WAKES
from tests.terminals import PROMPT, Window, shell_window

NOTATA = f"{sys.executable} -m notata run -d outputs"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Window]:
    with shell_window(tmp_path) as window:
        yield window


def output(folder: Path, run_id: str) -> str:
    return LogReader(folder / "outputs" / f"log_{run_id}")["output.txt"].read_text()


def test_the_program_has_a_terminal_of_the_same_size_and_gets_each_key(shell: Window, tmp_path: Path) -> None:
    before = shell.settings()
    (tmp_path / "program.py").write_text(
        f"{WAKES}import sys\n"
        "def show(*_): os.write(1, b'%d %d\\n' % (*reversed(os.get_terminal_size()),))\n"
        "def resized(*_): show(); sys.exit(4)\n"
        "show() if all(os.isatty(number) for number in (0, 1, 2)) else print('no terminal')\n"
        "signal.signal(signal.SIGWINCH, resized)\n"
        "print(f'<{input()}>')\n"
        "while True: os.read(woken, 1)\n"
    )
    shell.press(f"{NOTATA} --id a -- {sys.executable} -IS program.py\r")
    shell.until("24 200\r\n")
    shell.press("any text\r")
    shell.until("<any text>")
    shell.resize(120, 30)
    shell.until("30 120\r\n")
    shell.until(PROMPT)
    assert shell.settings() == before
    shell.press("echo code $?\r")
    shell.until("code 4\r\n")
    assert output(tmp_path, "a") == "24 200\nany text\n<any text>\n30 120\n"


def test_ctrl_c_interrupts_the_program_once_and_ends_the_loop_of_the_shell(shell: Window, tmp_path: Path) -> None:
    before = shell.settings()
    program = (
        f"{WAKES}import sys\n"
        "def handle(*_): signal.signal(signal.SIGINT, signal.SIG_DFL); os.write(1, b'interrupted\\n')\n"
        "signal.signal(signal.SIGINT, handle)\n"
        "os.write(1, b'ready\\n')\n"  # `print` cannot be interrupted by another one
        "while True: os.read(woken, 1)\n"
    )
    (tmp_path / "program.py").write_text(program)
    shell.press(f"for n in 1 2 3; do {NOTATA} --id $n -- {sys.executable} -IS program.py; done; echo after\r")
    shell.until("ready\r\n")
    shell.press("\x03")
    shell.until("interrupted\r\n")
    shell.press("\x03")
    shell.until("failed: interrupted (SIGINT)")
    shell.until(PROMPT)
    assert shell.settings() == before
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["log_1"]
    assert output(tmp_path, "1").count("interrupted") == 1
