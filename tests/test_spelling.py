"""Disks that treat two names as one: two keys that would become one file are an error, and no copy says complete.

The disk is a fake that ignores case. ``python -m tests.tools.folding_disk`` runs the same tests on a real exFAT, which
needs root and Debian's ``exfat-fuse`` and ``exfatprogs``.
"""

from __future__ import annotations

import json
import os
import pickle
import unicodedata
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from notata import BatchError, Logbook, LogReader, RunExistsError, StoredNameError, sync
from notata._base import processes
from notata.search import diagnose
from notata.store import Store, open_store
from notata.store.backends.local import LocalBackend
from notata.store.backends.spelling import Spelling, collisions
from tests.tools.folding_disk import DISK

NFC, NFD = "caf\u00e9", "cafe\u0301"


def test_the_file_that_tries_a_disk_says_whose_it_is(tmp_path: Path) -> None:
    """If its process is killed, the next writer removes it."""
    tried: list[str] = []

    def exists(path: str) -> bool:
        tried.extend(os.listdir(tmp_path))
        return os.path.lexists(path)

    Spelling(exists).folds(str(tmp_path), may_write=True)
    assert tried
    assert all(name.startswith(f".notata-{processes.tag()}-") for name in tried)
    assert os.listdir(tmp_path) == []


def spelled(path: str) -> str:
    """Return the path as a case-insensitive disk stores it: each part with the spelling it was created with."""
    folder, name = os.path.split(path)
    if folder == path:
        return path
    folder = spelled(folder)
    if os.path.isdir(folder):
        for other in os.listdir(folder):
            if other.lower() == name.lower():
                return os.path.join(folder, other)
    return os.path.join(folder, name)


def exists(path: str) -> bool:
    return os.path.lexists(spelled(path))


class FoldingBackend(LocalBackend):
    """A case-insensitive local disk."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self._spelling = Spelling(exists)

    def _file(self, key: str) -> str:
        return spelled(super()._file(key))

    def _there(self, key: str) -> str:
        """Return a key in the disk's spelling."""
        return os.path.relpath(self._file(key), self._folder).replace(os.sep, "/") if key else key

    def _parent(self, key: str) -> Any:
        return super()._parent(self._there(key))

    def make_parents(self, key: str) -> None:
        super().make_parents(self._there(key))

    def enter(self, folder: str) -> None:
        super().enter(self._there(folder))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty folder on the disk."""
    if not DISK:
        return tmp_path / "disk"
    folder = Path(DISK, uuid.uuid4().hex)
    folder.mkdir()
    return folder


@pytest.fixture
def disk(root: Path) -> Store:
    """The disk: the real one, or the fake."""
    return open_store(root) if DISK else Store(FoldingBackend(str(root)))


def refused(call: Callable[[], object], key: str) -> None:
    with pytest.raises(StoredNameError, match="this disk does not distinguish its name from") as caught:
        call()
    assert caught.value.key == key


def test_a_name_that_would_replace_another_file_is_refused(disk: Store, root: Path) -> None:
    log = Logbook("run", disk)
    log.text("A", "first")
    refused(lambda: log.text("a", "second"), "artifacts/a.txt")
    refused(lambda: log.json("Debug/x", 1) and log.json("debug/y", 2), "artifacts/debug/y.json")
    with pytest.raises(StoredNameError), log.local("artifacts/A.TXT") as path:
        path.write_text("third")
    with pytest.raises(StoredNameError), log.open("artifacts/A.txT", "a") as file:
        file.write("fourth")
    log.text("A", "again")
    log.mark_complete()
    assert (root / "log_run/artifacts/A.txt").read_text() == "again"
    assert sorted(os.listdir(root / "log_run/artifacts")) == ["A.txt", "Debug"]
    report = LogReader(root / "log_run").verify()
    assert (report.ok, report.extra) == (True, ())


def test_so_is_one_that_an_earlier_process_wrote(disk: Store, root: Path) -> None:
    with Logbook("run", disk) as log:
        log.text("A", "first")
    fresh = open_store(root) if DISK else Store(FoldingBackend(str(root)))
    with Logbook("run", fresh, resume=True) as log:
        refused(lambda: log.text("a", "second"), "artifacts/a.txt")
        log.text("A", "third")
    assert (root / "log_run/artifacts/A.txt").read_text() == "third"


def test_a_name_is_free_again_once_the_other_is_removed(disk: Store, root: Path) -> None:
    log = Logbook("run", disk)
    log.text("A", "first")
    os.unlink(root / "log_run/artifacts/A.txt")
    log.text("a", "second")
    assert os.listdir(root / "log_run/artifacts") == ["a.txt"]


def test_of_two_threads_one_is_refused(disk: Store, root: Path) -> None:
    disk.write("made.txt", b"")
    names = ["A.txt", "a.txt"] * 8

    def write(name: str) -> str:
        try:
            disk.write(name, name.encode())
        except StoredNameError:
            return ""
        return name

    with ThreadPoolExecutor(8) as pool:
        written = set(pool.map(write, names)) - {""}
    [name] = [name for name in os.listdir(root) if name.lower() == "a.txt"]
    assert written == {name}
    assert (root / name).read_text() == name


def test_run_ids_that_differ_in_case_are_one(disk: Store) -> None:
    Logbook("Night", disk).mark_complete()
    with pytest.raises(RunExistsError):
        Logbook("night", disk)


def put(folder: Path, *names: str) -> Path:
    """Create a run with these artifacts on a case-sensitive disk."""
    with Logbook("run", folder) as log:
        for name in names:
            log.bytes(name, name.encode())
    return folder


@pytest.mark.parametrize("names", [("A.txt", "a.txt"), ("Deep/x", "deep/y"), ("Straße", "STRASSE")])
def test_sync_refuses_both_and_the_copy_does_not_say_complete(
    disk: Store, root: Path, tmp_path: Path, names: tuple[str, str]
) -> None:
    here = put(tmp_path / "here", *names, "other")
    with pytest.raises(BatchError) as caught:
        sync(here, disk)
    errors = caught.value.exceptions
    assert [type(error) for error in errors] == [StoredNameError, StoredNameError]
    assert sorted(str(getattr(error, "key", "")) for error in errors) == sorted(f"artifacts/{name}" for name in names)
    assert json.loads((root / "log_run/metadata.json").read_text())["status"] == "replacing"
    assert os.listdir(root / "log_run/artifacts") == ["other"]
    for delete in (False, True):
        with pytest.raises(BatchError):
            sync(here, disk, delete=delete)
    (here / "log_run/artifacts" / names[0]).unlink()
    sync(here, disk)
    assert json.loads((root / "log_run/metadata.json").read_text())["status"] == "complete"
    assert (root / "log_run/artifacts" / names[1]).read_text() == names[1]


def test_sync_refuses_a_name_that_the_copy_has_in_another_case(disk: Store, root: Path, tmp_path: Path) -> None:
    here = put(tmp_path / "here", "A.txt")
    sync(here, disk)
    artifacts = here / "log_run/artifacts"
    (artifacts / "A.txt").rename(artifacts / "a.txt")
    for delete in (False, True):
        with pytest.raises(BatchError) as caught:
            sync(here, disk, delete=delete)
        assert [getattr(error, "key", "") for error in caught.value.exceptions] == ["artifacts/a.txt"]
        assert (root / "log_run/artifacts/A.txt").read_text() == "A.txt"


def test_sync_of_runs_and_files_that_differ_in_case(disk: Store, root: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    for run_id in ("Night", "night", "day"):
        Logbook(run_id, here).mark_complete()
    for name in ("README", "readme", "plan"):
        (here / name).write_text(name)
    with pytest.raises(BatchError) as caught:
        sync(here, disk, delete=True)
    assert sorted(str(getattr(error, "key", "")) for error in caught.value.exceptions) == [
        "README", "log_Night", "log_night", "readme",
    ]  # fmt: skip
    assert sorted(os.listdir(root)) == ["log_day", "plan"]


def test_a_dry_run_says_so_too_and_writes_nothing(disk: Store, root: Path, tmp_path: Path) -> None:
    sync(put(tmp_path / "first", "other"), disk)
    before = sorted(str(path) for path in root.rglob("*"))
    here = put(tmp_path / "here", "A.txt", "a.txt")
    with pytest.raises(BatchError) as caught:
        sync(here, disk, dry_run=True, delete=True)
    assert len(caught.value.exceptions) == 2
    assert sorted(str(path) for path in root.rglob("*")) == before


def test_doctor_says_so(disk: Store) -> None:
    [check] = [check for check in diagnose(disk) if check.name == "names"]
    assert check.state == "poor"
    assert "upper and lower case" in check.told


def test_unicode_forms_of_one_name(disk: Store, root: Path) -> None:
    """A disk that keeps both Unicode forms apart, as exFAT and Linux do, has two files."""
    disk.write(NFC, b"composed")
    disk.write(NFD, b"decomposed")
    disk.write(NFC, b"again")
    assert sorted(os.listdir(root)) == sorted([NFC, NFD])
    assert (root / NFC).read_bytes() == b"again"


# -- disks that fold Unicode forms, as fakes: no such disk can be mounted here ------------------------------


def as_form(form: str) -> type[LocalBackend]:
    """Create a fake disk that looks up names by one Unicode form and stores that form, or the given name if empty."""

    class Normalizing(LocalBackend):
        def __init__(self, folder: str) -> None:
            super().__init__(folder)
            self._spelling = Spelling(lambda path: os.path.lexists(find(path)))

        def _file(self, key: str) -> str:
            return find(super()._file(key))

    def find(path: str) -> str:
        folder, name = os.path.split(path)
        for other in os.listdir(folder) if os.path.isdir(folder) else ():
            if unicodedata.normalize("NFC", other) == unicodedata.normalize("NFC", name):
                return os.path.join(folder, other)
        return os.path.join(folder, name)

    return Normalizing


def test_a_disk_that_keeps_the_form_and_finds_both(tmp_path: Path) -> None:
    """As on APFS."""
    store = Store(as_form("")(str(tmp_path)))
    store.write(NFC, b"composed")
    with pytest.raises(StoredNameError):
        store.write(NFD, b"decomposed")
    store.write(NFC, b"again")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(NFC, b"again")]


# -- disks that tell all names apart -----------------------------------------------------------------------


def test_elsewhere_case_makes_another_file(tmp_path: Path) -> None:
    with Logbook("run", tmp_path / "here") as log:
        log.text("A", "first")
        log.text("a", "second")
        log.text(NFC, "composed")
        log.text(NFD, "decomposed")
        log.text(NFD, "again")
    sync(tmp_path / "here", tmp_path / "there")
    assert LogReader(tmp_path / "there/log_run").verify().ok
    assert len(os.listdir(tmp_path / "there/log_run/artifacts")) == 4


def test_collisions_are_of_files_and_of_folders() -> None:
    assert collisions(["a/x", "A/y", "b/c", "B", "d", "e/f", "e/g"]) == {
        "a/x": "A/y",
        "A/y": "a/x",
        "b/c": "B",
        "B": "b/c",
    }
    assert collisions([NFC, NFD]) == {NFC: NFD, NFD: NFC}
    assert collisions([]) == {}


def test_a_store_that_knows_names_is_sent_to_another_process(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.write("a.txt", b"1")
    assert pickle.loads(pickle.dumps(store)).read("a.txt") == b"1"
