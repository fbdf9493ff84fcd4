"""Bars in a terminal, and callbacks that are told of bytes."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fsspec.callbacks import Callback

from notata import ConfigurationError, Logbook, LogReader, bars, progress
from notata.store.files import PART
from notata.store.memory import MemoryStore


class Told(Callback):  # type: ignore[misc]
    """Remembers what it was told."""

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


def test_a_callback_hears_of_the_bytes_of_a_file_and_of_a_folder(log: Logbook, mesh: Path) -> None:
    told = Told()
    log.file(mesh, progress=told)
    assert (told.size, told.values[-1], len(told.values), told.closed) == (3 * 2**20, 3 * 2**20, 4, 0)
    (mesh.parent / "small").write_bytes(b"12345")
    told = Told()
    log.folder(mesh.parent, "f", progress=told)
    assert (told.size, told.value) == (3 * 2**20 + 5, 3 * 2**20 + 5)
    assert told.values == sorted(told.values)


def test_what_is_no_callback_is_refused(log: Logbook, mesh: Path) -> None:
    with pytest.raises(ConfigurationError, match="progress is True, False or an fsspec callback, not str"):
        log.file(mesh, progress="yes")


def test_a_bar_is_shown_on_standard_error_and_taken_away(
    log: Logbook, mesh: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    log.file(mesh, progress=True)
    out, err = capsys.readouterr()
    assert (out, "mesh.vtk" in err, "3.1 MB" in err) == ("", True, True)
    assert bars._display is None
    log.file(mesh)
    assert capsys.readouterr() == ("", "")


def test_a_long_name_is_no_markup_and_leaves_room_for_the_bar(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    with progress.bar(f"[red]{'x' * 80}", 10) as shown:
        shown.relative_update(10)
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err).replace("\r", "\n").split("\n")
    assert {line.split()[0] for line in lines if line.strip()} == {f"[red]{'x' * 34}…"}


def test_bars_share_one_display() -> None:
    with progress.bar("a", 10) as first, progress.bar("b") as second:
        first.relative_update(3)
        second.set_size(5)
        display = bars._display
        assert display is not None
        shown = [(task.description, task.completed, task.total) for task in display.tasks]
        assert shown == [("a", 3, 10), ("b", 0, 5)]
        first.close()
        assert [task.description for task in display.tasks] == ["b"]
    assert bars._display is None


def test_large_values_are_told_and_small_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Told] = []

    def bar(label: str, size: int | None = None) -> Callback:
        told.append(Told(label, size))
        return told[-1]

    monkeypatch.setattr("notata.logbook.bar", bar)
    monkeypatch.setattr("notata.reader.run.bar", bar)
    monkeypatch.delattr(MemoryStore, "_open_read")  # read by ranges, as buckets are
    url = f"memory://{uuid.uuid4().hex}"
    with Logbook("a", url, progress=True) as log:
        log.json("small", {})
        values = np.zeros(3 * PART // 8)
        log.array("large", values)
        assert [(one.label, one.value, one.closed) for one in told] == [("large.npy", values.nbytes + 128, 1)]
        with pytest.raises(RuntimeError), log.open("artifacts/given_up", "wb") as file:
            file.write(bytes(2 * PART))
            raise RuntimeError
        assert (told[-1].label, told[-1].closed) == ("given_up", 1)
    told.clear()
    reader = LogReader(f"{url}/log_a", progress=True)
    assert reader.load_json("small") == {}
    assert reader.load_array("large").shape == values.shape
    assert [(one.label, one.size, one.value) for one in told] == [
        ("large.npy", values.nbytes + 128) * 1 + (values.nbytes + 128,)
    ]
    assert told[0].closed
