"""Files that `log.file` and `log.folder` copy from a disk: complete, and with their private permissions."""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from fsspec.callbacks import Callback
from upath import UPath

from notata import ConflictError, Logbook
from notata.mirror.tree import sync

SIZE = 3 * 2**20


class Meanwhile(Callback):  # type: ignore[misc]
    """A file that runs an action after its first part has been read."""

    def __init__(self, change: Callable[[Path], object], path: Path) -> None:
        super().__init__()
        self._change = change
        self._path = path
        self._done = False

    def call(self, hook_name: str | None = None, **_: object) -> None:
        if self.value and not self._done:
            self._done = True
            self._change(self._path)


def rewrite(path: Path) -> None:
    """Write other content of the same size, a second later."""
    time = path.stat().st_mtime_ns
    with path.open("r+b") as file:
        file.write(b"new")
    os.utime(path, ns=(time, time + 10**9))


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "of a solver" / "field.dat"
    path.parent.mkdir()
    path.write_bytes(bytes(SIZE))
    return path


@pytest.mark.parametrize("change", [lambda path: os.truncate(path, 2**20), lambda path: os.truncate(path, 0), rewrite])
def test_a_file_that_changes_while_it_is_read_is_not_stored(change: Callable[[Path], object], source: Path) -> None:
    with Logbook("a", f"memory://{uuid.uuid4().hex}") as log:
        log.bytes("field.dat", b"before")
        with pytest.raises(ConflictError, match=r"field\.dat: it changed while it was read; wait until its writer"):
            log.file(source, progress=Meanwhile(change, source))
        assert log["artifacts/field.dat"].read_bytes() == b"before"


def test_a_file_that_grows_is_stored_up_to_some_end(source: Path) -> None:
    with Logbook("a", f"memory://{uuid.uuid4().hex}") as log:
        log.file(source, progress=Meanwhile(grow, source))
        assert log["artifacts/field.dat"].read_bytes() in (bytes(SIZE), bytes(SIZE) + b"more")


def mode(path: Path | UPath) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("size", [0, 100, 10 * 2**20])
def test_a_private_file_stays_private(background: bool, size: int, tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    for name, bits in (("private", 0o600), ("group", 0o640), ("public", 0o666)):
        (folder / name).write_bytes(bytes(size))
        (folder / name).chmod(bits)
    (folder / "read-only").write_bytes(b"")
    (folder / "read-only").chmod(0o400)
    with Logbook("a", tmp_path / "runs", background=background) as log:
        log.file(folder / "private")
        log.folder(folder)
        usual = mode(log.text("usual", "x"))
    artifacts = tmp_path / "runs" / "log_a" / "artifacts"
    assert mode(artifacts / "private") == mode(artifacts / "keys" / "private") == 0o600
    assert mode(artifacts / "keys" / "group") == usual & 0o640
    assert mode(artifacts / "keys" / "public") == usual
    assert mode(artifacts / "keys" / "read-only") == 0o600
    sync(tmp_path / "runs", tmp_path / "copy")
    assert mode(tmp_path / "copy" / "log_a" / "artifacts" / "private") == 0o600
    assert mode(tmp_path / "copy" / "log_a" / "artifacts" / "usual.txt") == usual


def test_a_private_file_that_is_not_stored_leaves_later_files_of_its_name_public(source: Path, tmp_path: Path) -> None:
    source.chmod(0o600)
    with Logbook("a", tmp_path / "runs") as log:
        usual = mode(log.text("usual", "x"))
        with pytest.raises(ConflictError):
            log.file(source, progress=Meanwhile(rewrite, source))
        assert mode(log.bytes("field.dat", b"public")) == usual
