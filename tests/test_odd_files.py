"""What other programs leave on a disk or in an archive, and where a path that a user gives leads."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
from upath import UPath

from notata import FolderError, Logbook, LogReader, MissingError, StorageError
from notata.store import open_beside, open_store


def test_a_pipe_is_refused_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    log = Logbook("run", tmp_path)
    os.mkfifo(str(log.path / "artifacts_pipe"))
    log["artifacts/x"]
    os.mkfifo(str(log.path / "artifacts/pipe"))
    reader = LogReader(tmp_path / "log_run")
    with pytest.raises(StorageError, match=r"artifacts/pipe: .*it is no regular file"):
        reader.load_bytes("pipe")
    with pytest.raises(StorageError, match="no regular file"):
        log.open("artifacts_pipe").read()
    assert reader.files == ["log.txt", "metadata.json"]


def test_a_folder_that_is_none_is_told_from_one_without_files(tmp_path: Path) -> None:
    log = Logbook("run", tmp_path)
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "empty").mkdir()
    memory = open_store("memory://odd-files")
    memory.write("a.txt", b"a")
    for path in (tmp_path / "a.txt", "memory://odd-files/a.txt"):
        with pytest.raises(FolderError, match=r"a\.txt is a file, which file\(\) stores"):
            log.folder(path)
    for path in (tmp_path / "empty", tmp_path / "none", "memory://odd-files/none"):
        with pytest.raises(MissingError, match="there is no file in"):
            log.folder(path)


def test_links_to_nothing_and_to_themselves_are_not_listed(tmp_path: Path) -> None:
    log = Logbook("run", tmp_path)
    log.text("here", "yes")
    (log.artifactsdir / "loop").symlink_to("loop")
    (log.artifactsdir / "nowhere").symlink_to("gone")
    (log.artifactsdir / "there.txt").symlink_to("here.txt")
    assert LogReader(tmp_path / "log_run").artifacts == ["here.txt", "there.txt"]


def test_an_archive_is_a_source_like_any_other(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("in/a.txt", "a")
        archive.writestr("b.txt", "b")
    log = Logbook("run", tmp_path)
    whole = f"zip://::file://{tmp_path}/z.zip"
    assert [entry.key for entry in open_store(whole).list()] == ["b.txt", "in/a.txt"]
    log.folder(UPath("zip://", fo=str(tmp_path / "z.zip")), "unpacked")
    assert (log.path / "artifacts/unpacked/in/a.txt").read_text() == "a"
    assert log.file(f"zip://in/a.txt::file://{tmp_path}/z.zip").read_text() == "a"
    assert log.file(f"zip://b.txt::file://{tmp_path}/z.zip", "renamed").read_text() == "b"


@pytest.mark.parametrize(
    ("given", "folder", "name"),
    [
        ("~/a.txt", "{home}", "a.txt"),
        ("/a.txt", "/", "a.txt"),
        ("file:///tmp/x/a.txt", "/tmp/x", "a.txt"),
        ("file:///a.txt", "/", "a.txt"),
        ("memory://a.txt", "memory://", "a.txt"),
        ("memory://x/a.txt", "memory://x", "a.txt"),
        ("s3://bucket/a.txt", "s3://bucket", "a.txt"),
        ("s3://bucket/x/a.txt", "s3://bucket/x", "a.txt"),
    ],
)
def test_a_file_is_found_in_its_folder(given: str, folder: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    store, found = open_beside(given)
    assert (store.url, found) == (folder.format(home="/somewhere"), name)


def test_urls_are_shown_as_they_can_be_written() -> None:
    assert open_store("memory://").below("log_a").url == "memory://log_a"
    assert open_store("s3://bucket/runs/").below("log_a").url == "s3://bucket/runs/log_a"
    assert LogReader(Logbook("root", "memory://").url).run_id == "root"
