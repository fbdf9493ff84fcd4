"""Progress bars on a terminal, and callbacks that receive byte counts."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from fsspec.callbacks import Callback

from notata import ConfigurationError, Logbook, LogReader, Storage
from notata._base import progress
from notata.store.backends.memory import MemoryBackend
from notata.store.files import PART


class Told(Callback):  # type: ignore[misc]
    """A callback that records its calls."""

    def __init__(self, label: str = "", size: int | None = None) -> None:
        super().__init__(size)
        self.label = label
        self.values: list[int] = []
        self.closed = 0

    def call(self, hook_name: str | None = None, **_: object) -> None:
        self.values.append(self.value)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def log() -> Iterator[Logbook]:
    with Logbook("a", f"memory://{uuid.uuid4().hex}") as log:
        yield log


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    (tmp_path / "mesh.vtk").write_bytes(bytes(3 * 2**20))
    return tmp_path / "mesh.vtk"


def test_a_callback_gets_the_bytes_of_a_file_and_of_a_folder(log: Logbook, mesh: Path) -> None:
    told = Told()
    log.file(mesh, progress=told)
    assert (told.size, told.values[-1], len(told.values), told.closed) == (3 * 2**20, 3 * 2**20, 4, 0)
    (mesh.parent / "small").write_bytes(b"12345")
    told = Told()
    log.folder(mesh.parent, "f", progress=told)
    assert (told.size, told.value) == (3 * 2**20 + 5, 3 * 2**20 + 5)
    assert told.values == sorted(told.values)


def test_what_is_no_callback_is_refused(log: Logbook, mesh: Path) -> None:
    with pytest.raises(
        ConfigurationError, match="invalid progress of type str: pass True, False or an fsspec callback"
    ):
        log.file(mesh, progress="yes")


class Screen:
    """A terminal as the standard error of this process, and the text written to it."""

    def __init__(self) -> None:
        self._master, slave = pty.openpty()
        os.set_blocking(self._master, False)
        self.stderr = open(slave, "w", encoding="utf-8")

    def text(self) -> str:
        """Return all text ever shown, without control sequences."""
        self.stderr.flush()
        data = b""
        with suppress(BlockingIOError):
            while part := os.read(self._master, 2**16):
                data += part
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", data.decode()).replace("\r", "\n")

    def lose(self) -> None:
        """Close the connection: from now on each write fails (EIO)."""
        if self._master >= 0:
            os.close(self._master)
            self._master = -1


@contextmanager
def terminal() -> Iterator[Screen]:
    """A context manager and not a fixture, because pytest replaces standard error at the start of each phase."""
    screen = Screen()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", screen.stderr)
        patch.setenv("TERM", "xterm")
        patch.setenv("COLUMNS", "100")
        yield screen
    screen.lose()
    with suppress(OSError):
        screen.stderr.close()


def test_a_bar_is_shown_on_the_terminal_and_taken_away(
    log: Logbook, mesh: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with terminal() as screen:
        log.file(mesh, progress=True)
        shown = screen.text()
        assert ("mesh.vtk" in shown, "3.1 MB" in shown, capsys.readouterr().out) == (True, True, "")
        log.file(mesh)
        assert screen.text() == ""


def test_a_long_name_is_no_markup_and_leaves_room_for_the_bar() -> None:
    with terminal() as screen:
        with progress.bar(f"[red]{'x' * 80}", 10) as shown:
            shown.relative_update(10)
        lines = screen.text().split("\n")
    assert {line.split()[0] for line in lines if line.strip()} == {f"[red]{'x' * 34}…"}


def test_bars_share_one_display() -> None:
    with terminal() as screen, progress.bar("first", 10) as first:
        with progress.bar("second") as second:
            second.set_size(5)
        first.close()
        lines = [line.split()[0] for line in screen.text().split("\n") if line.strip()]
    assert ["first", "second"] in [lines[at : at + 2] for at in range(len(lines))]
    assert lines[-1] == "first"


def test_no_bar_is_drawn_where_standard_error_is_no_terminal(
    log: Logbook, mesh: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    log.file(mesh, progress=True)
    assert capfd.readouterr() == ("", "")


def test_a_lost_terminal_disturbs_no_writer(log: Logbook, mesh: Path) -> None:
    with terminal() as screen, progress.bar("first", 10) as first:
        screen.lose()
        first.relative_update(1)
        log.file(mesh, progress=True)
    log.file(mesh, "again.vtk", progress=True)
    assert log["artifacts/again.vtk"].read_bytes() == mesh.read_bytes()


class Broken:
    """A standard error, replaced by another program, that fails."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        raise RuntimeError("captured")

    def flush(self) -> None:
        raise RuntimeError("captured")

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stderr", [None, Broken(), object()], ids=["none", "raising", "object"])
def test_a_standard_error_that_cannot_be_written_disturbs_no_writer(
    log: Logbook, mesh: Path, stderr: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)
    path = log.file(mesh, progress=True)
    monkeypatch.undo()
    assert path.read_bytes() == mesh.read_bytes()


_SCRIPT = """
import os, sys
from notata._base import progress
with progress.bar("mesh.vtk", 10) as bar:
    print("to a file", flush=True)
    if os.fork() == 0:
        print("of a child", flush=True)
        bar.relative_update(1)
        with progress.bar("of a child"):
            pass
        os._exit(0)
    os.wait()
    sys.stdin.readline()
    bar.relative_update(10)
    print("after that", flush=True)
"""


def test_what_a_script_prints_to_a_file_stays_there_and_a_lost_terminal_keeps_its_exit_code(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    with open(tmp_path / "out", "wb") as out:
        script = subprocess.Popen([sys.executable, "-c", _SCRIPT], stdin=subprocess.PIPE, stdout=out, stderr=slave)
    os.close(slave)
    shown = b""
    while b"mesh.vtk" not in shown:
        shown += os.read(master, 2**16)
    os.close(master)
    script.communicate(b"\n", timeout=120)
    assert script.returncode == 0
    assert (tmp_path / "out").read_text() == "to a file\nof a child\nafter that\n"


def test_large_values_are_reported_and_small_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Told] = []

    def bar(label: str, size: int | None = None) -> Callback:
        told.append(Told(label, size))
        return told[-1]

    monkeypatch.setattr("notata.store.bar", bar)
    monkeypatch.delattr(MemoryBackend, "open_read")  # force reads by ranges, as for buckets
    url = f"memory://{uuid.uuid4().hex}"
    with Logbook("a", Storage(url, progress=True)) as log:
        log.json("small", {})
        values = np.zeros(3 * PART // 8)
        log.array("large", values)
        assert [(one.label, one.value, one.closed) for one in told] == [("large.npy", values.nbytes + 128, 1)]
        with pytest.raises(RuntimeError), log.open("artifacts/given_up", "wb") as file:
            file.write(bytes(2 * PART))
            raise RuntimeError
        assert (told[-1].label, told[-1].closed) == ("given_up", 1)
    told.clear()
    reader = LogReader(Storage(f"{url}/log_a", progress=True))
    assert reader.load_json("small") == {}
    assert reader.load_array("large").shape == values.shape
    assert [(one.label, one.size, one.value) for one in told] == [
        ("large.npy", values.nbytes + 128) * 1 + (values.nbytes + 128,)
    ]
    assert told[0].closed
