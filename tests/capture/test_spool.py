"""The file that captured output waits in, and what is recovered from it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from notata._base import processes
from notata.capture.spool import HEADER, Spool, forget, recovered

URL = "memory://runs/log_r"
DEAD = "-4194304-1"  # no process has so large an id


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def killed(spool: Spool, data: bytes) -> Path:
    """Write to a spool, and give it the name that it would have if its process had died."""
    os.write(spool.writing, data)
    spool.close(remove=False)
    own, name = processes.tag(), spool.path.name
    machine = own.partition("-")[0]
    return spool.path.rename(spool.path.with_name(name.replace(own, machine + DEAD)))


@pytest.mark.skipif(not processes.tag(), reason="this system has no lasting names of processes")
class TestRecovery:
    """Recovery of output by a run that is resumed."""

    def test_what_was_not_stored_is_returned_once(self, folder: Path) -> None:
        spool = Spool(URL, is_shown=True)
        os.write(spool.writing, b"stored\n")
        spool.mark_stored(HEADER + 7)
        killed(spool, b"rest")
        assert b"".join(recovered(URL)) == b"rest"
        assert list(folder.iterdir()) == []

    def test_other_runs_and_living_processes_are_left_alone(self, folder: Path) -> None:
        living = Spool(URL, is_shown=True)
        os.write(living.writing, b"mine")
        killed(Spool("memory://runs/log_other", is_shown=True), b"other")
        assert list(recovered(URL)) == []
        assert len(list(folder.iterdir())) == 2
        living.close(remove=True)

    def test_a_new_run_forgets_what_its_predecessor_left(self, folder: Path) -> None:
        killed(Spool(URL, is_shown=True), b"mine")
        other = killed(Spool("memory://runs/log_other", is_shown=True), b"other")
        forget(URL)
        assert list(folder.iterdir()) == [other]

    def test_a_spool_of_another_run_is_removed_after_a_week(self, folder: Path) -> None:
        path = killed(Spool("memory://runs/log_other", is_shown=True), b"other")
        os.utime(path, (0, 0))
        assert list(recovered(URL)) == []
        assert list(folder.iterdir()) == []

    @pytest.mark.parametrize("how", ["symlink", "hard link", "other content", "folder", "fifo"])
    def test_a_file_that_is_no_spool_of_this_user_is_not_read(self, folder: Path, how: str) -> None:
        path = killed(Spool(URL, is_shown=True), b"x")
        secret = folder / "secret"
        path.rename(secret)
        if how == "symlink":
            path.symlink_to(secret)
        elif how == "hard link":
            os.link(secret, path)
        elif how == "other content":
            path.write_bytes(b"root:x:0:0" * 100)
        elif how == "folder":
            path.mkdir()
        else:
            os.mkfifo(path)
        assert list(recovered(URL)) == []
        assert secret.read_bytes().endswith(b"x")


def test_the_spool_is_private() -> None:
    spool = Spool(URL, is_shown=True)
    assert stat.S_IMODE(spool.path.stat().st_mode) == 0o600
    spool.close(remove=True)
    assert not spool.path.exists()


def test_space_that_is_stored_and_shown_is_given_back() -> None:
    spool = Spool(URL, is_shown=False)
    block = b"x" * 2**20
    for _ in range(32):
        os.write(spool.writing, block)
        spool.read(spool.size)
        spool.mark_stored(spool.position)
    os.write(spool.writing, b"last")
    assert spool.size == HEADER + 32 * 2**20 + 4
    assert spool.path.stat().st_blocks * 512 <= 16 * 2**20
    assert spool.read(spool.size) == b"last"
    spool.close(remove=True)
