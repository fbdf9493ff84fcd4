"""Folders that cannot be opened: no permission, I/O errors, or nested too deeply. Others are listed, read and removed.

Root may open any folder, so these tests start processes without that right (with ``setpriv`` of util-linux).
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest

from notata import (
    AccessError,
    BatchError,
    ExperimentReader,
    IncompleteListingWarning,
    Logbook,
    LogReader,
    MirrorStorage,
    RunExistsError,
    StorageError,
    search,
    sync,
)
from notata.errors import NotataError
from notata.store import Store, open_store
from notata.testing import FaultyBackend
from tests.command import notata

CLOSED = "closed\x1b[31m"
"""A folder of another user, with an escape sequence in its name."""

_ORDINARY = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []


def ordinary(*command: str) -> subprocess.CompletedProcess[str]:
    """Run Python as a user without the right to open other users' folders."""
    return subprocess.run(
        [*_ORDINARY, sys.executable, *command], capture_output=True, text=True, timeout=120, check=False
    )


def shell(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return ordinary("-m", "notata", *map(str, arguments))


@pytest.fixture
def base(tmp_path: Path) -> Iterator[Path]:
    """Create two runs, a closed folder beside them and one in run a, and a file in each folder."""
    base = tmp_path / "outputs"
    for run_id in ("a", "b"):
        with Logbook(run_id, base) as log:
            log.text("notes", "converged")
    closed = [base / CLOSED, base / "log_a/artifacts" / CLOSED]
    for folder in closed:
        folder.mkdir()
        (folder / "theirs.txt").write_text("theirs")
        folder.chmod(0)
    yield base
    for folder in closed:
        if folder.exists():
            folder.chmod(0o700)


def deepen(folder: Path, levels: int, name: str = "d") -> None:
    """Nest folders and put a file into the last one; its path may be too long for the system."""
    with chdir(folder):
        for _ in range(levels):
            os.mkdir(name)
            os.chdir(name)
        Path("file").write_text("deep")


def flatten(folder: Path, name: str = "d") -> None:
    """Remove the folders of `deepen` by short paths, because pytest's own clean-up would recurse."""
    subprocess.run(["rm", "-rf", str(folder / name)], check=True)


def test_ls_names_it_and_lists_all_runs(base: Path) -> None:
    done = shell("ls", base)
    assert [line.split("\t")[:2] for line in done.stdout.splitlines()] == [
        [f"{base}/log_{run_id}", "complete"] for run_id in ("a", "b")
    ]
    assert done.returncode == 3
    assert "\x1b" not in done.stderr
    told = done.stderr.splitlines()
    assert len(told) == 2
    assert all("cannot list" in line and "permission denied" in line for line in told)


@pytest.mark.parametrize("command", [["du"], ["tree"], ["table"], ["grep", "converged"], ["show", "--all"], ["tail"]])
def test_other_commands_report_closed_folders_too(base: Path, command: list[str]) -> None:
    done = shell(*command, base)
    assert done.returncode == 3
    assert done.stdout
    assert done.stderr.count("cannot list") == 2


def test_a_table_of_an_experiment_reports_the_closed_folders_that_it_must_open(base: Path) -> None:
    (base / "sweep").mkdir()
    (base / CLOSED).rename(base / "sweep" / CLOSED)
    (base / "sweep/runs").mkdir()
    for name in ("log_a", "log_b"):
        (base / name).rename(base / "sweep/runs" / name)
    inside = base / "sweep/runs/log_a/artifacts"
    try:
        done = shell("table", base / "sweep")
        assert (done.returncode, done.stderr.count("cannot list")) == (3, 1)  # no file that it looks at is in the other
        assert len(done.stdout.splitlines()) == 3
        assert shell("table", "--columns", "run_id,size", base / "sweep").stderr.count("cannot list") == 2
        inside.chmod(0)
        assert shell("table", base / "sweep").stderr.count("cannot list") == 2
    finally:
        inside.chmod(0o700)
        (inside / CLOSED).chmod(0o700)
        (base / "sweep" / CLOSED).chmod(0o700)


def test_verify_checks_what_it_can(base: Path) -> None:
    done = shell("verify", base)
    assert done.returncode == 3
    assert f"{base}/log_a: ok; 2 files unchanged" in done.stdout
    assert f"{base}/log_b: ok; 2 files unchanged" in done.stdout
    assert done.stdout.count("cannot list") == 2


def test_files_of_the_manifest_in_it_are_not_ok_and_not_missing(base: Path) -> None:
    with Logbook("c", base) as log:
        log.text("sub/x", "x")
    (base / "log_c/artifacts/sub").chmod(0)
    done = shell("verify", base / "log_c")
    (base / "log_c/artifacts/sub").chmod(0o700)
    assert done.returncode == 3
    assert "NOT ok" in done.stdout
    assert "1 in folders that cannot be opened: artifacts/sub/x.txt" in done.stdout
    assert "missing" not in done.stdout


def test_rm_removes_the_rest_and_the_run_is_marked(base: Path) -> None:
    done = shell("rm", "-r", "--yes", base)
    assert done.returncode == 3
    assert "Removed 1 run" in done.stdout
    assert not (base / "log_b").exists()
    assert sorted(path.name for path in (base / "log_a").iterdir()) == ["artifacts", "metadata.json"]
    assert LogReader(base / "log_a").state.status == "replacing"
    assert done.stderr.count("cannot list") == 2


def test_overwrite_starts_over_and_names_the_remaining_files(base: Path) -> None:
    script = """
import sys, warnings
from notata import Logbook, MirrorStorage
warnings.simplefilter("always")
with Logbook("a", sys.argv[1], overwrite=True) as log:
    log.text("new", "y")
"""
    done = ordinary("-c", script, str(base))
    assert done.returncode == 0, done.stderr
    assert "a file of the earlier run 'a' was not removed: cannot list" in done.stderr
    assert LogReader(base / "log_a").state.status == "complete"
    assert not (base / "log_a/artifacts/notes.txt").exists()
    assert (base / "log_a/artifacts/new.txt").read_text() == "y"
    assert "a file of the earlier run" in (base / "log_a/log.txt").read_text()
    assert (base / "log_a/artifacts" / CLOSED / "theirs.txt").read_text() == "theirs"


def test_a_run_ends_beside_it_and_its_log_says_what_is_not_in_the_manifest(base: Path) -> None:
    script = """
import sys
from notata import Logbook
with Logbook("a", sys.argv[1], resume=True) as log:
    log.text("more", "y")
"""
    done = ordinary("-c", script, str(base))
    assert done.returncode == 0, done.stderr
    reader = LogReader(base / "log_a")
    assert reader.state.status == "complete"
    assert "Not in the manifest: cannot list" in str(reader.log)
    assert "artifacts/more.txt" in (base / "log_a/manifest.json").read_text()


def test_sync_copies_the_rest_and_the_copy_does_not_say_complete(base: Path, tmp_path: Path) -> None:
    done = shell("sync", base, tmp_path / "copy")
    assert done.returncode == 3
    assert LogReader(tmp_path / "copy/log_b").state.status == "complete"
    assert LogReader(tmp_path / "copy/log_a").state.status == "replacing"
    assert (tmp_path / "copy/log_a/artifacts/notes.txt").read_text() == "converged"
    assert done.stderr.count("cannot list") == 2


def test_a_run_id_with_only_a_closed_folder_is_in_use(tmp_path: Path) -> None:
    store = FaultyBackend(open_store(tmp_path))
    Store(store).below("log_a").write("closed/x", b"1")
    store.close_folder("log_a/closed")
    with pytest.raises(RunExistsError):
        Logbook("a", store)


# -- folders that cannot be read, by a store that fails ------------------------------------------------------


def with_failing_folder(tmp_path: Path, number: int) -> FaultyBackend:
    """Create two runs; reading a folder of one of them raises this error."""
    store = FaultyBackend(open_store(tmp_path))
    for run_id in ("a", "b"):
        with Logbook(run_id, store) as log:
            log.text("sub/notes", "converged")
    store.close_folder("log_a/artifacts/sub", lambda: OSError(number, os.strerror(number)))
    return store


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EIO, "input/output error"),
        (errno.ESTALE, "mount it again"),
        (errno.ENOTCONN, "the mount is gone"),
        (errno.ENAMETOOLONG, "too long for the file system"),
    ],
)
def test_a_folder_that_cannot_be_listed_is_named_with_the_reason(tmp_path: Path, number: int, advice: str) -> None:
    store = with_failing_folder(tmp_path, number)
    errors: list[NotataError] = []
    assert [run.run_id for run in search.runs(Store(store), failed=errors.append)] == ["a", "b"]
    assert [error.key for error in errors] == ["log_a/artifacts/sub"]
    assert isinstance(errors[0], StorageError)
    assert advice in str(errors[0])
    with pytest.raises(StorageError, match=advice):
        search.runs(Store(store))


def test_what_is_no_file_is_found_at_any_depth(tmp_path: Path) -> None:
    deepen(tmp_path, 1200)
    try:
        (tmp_path / "d/loop").symlink_to("loop")
        (tmp_path / "d/nowhere").symlink_to("nothing")
        os.mkfifo(tmp_path / "d/pipe")
        assert open_store(tmp_path).irregular() == ["d/loop", "d/nowhere", "d/pipe"]
    finally:
        flatten(tmp_path)


def test_readers_warn_and_return_the_rest(tmp_path: Path) -> None:
    store = with_failing_folder(tmp_path, errno.EIO)
    with pytest.warns(IncompleteListingWarning, match="input/output error"):
        assert LogReader(store.below("log_a")).artifacts == []
    with pytest.warns(IncompleteListingWarning):
        assert len(ExperimentReader(store)) == 2
    with pytest.warns(IncompleteListingWarning):
        assert [row["status"] for row in ExperimentReader(store).table()] == ["complete", "complete"]
    assert "log.txt" in LogReader(store.below("log_a"))._repr_html_()


def test_a_folder_that_is_stored_into_a_run_is_stored_whole_or_not_at_all(tmp_path: Path) -> None:
    source = FaultyBackend(open_store(tmp_path / "source"))
    Store(source).write_many({"a.txt": b"1", "sub/b.txt": b"2"})
    source.close_folder("sub")
    log = Logbook("run", tmp_path / "outputs")
    with pytest.raises(AccessError, match="permission denied"):
        log.folder(source)  # type: ignore[arg-type]
    assert LogReader(log.url).artifacts == []


def test_what_a_run_stored_in_it_stays_in_its_manifest(tmp_path: Path) -> None:
    store = FaultyBackend(open_store(tmp_path))
    log = Logbook("a", store)
    log.text("sub/notes", "converged")
    store.close_folder("log_a/artifacts/sub")
    log.mark_complete()
    log.flush()
    store.heal()
    report = LogReader(log.url).verify()
    assert (report.ok, report.checked, report.extra) == (True, 2, ())
    assert str(LogReader(log.url).log).count("Not in the manifest") == 1


def test_a_mirror_copies_the_rest_and_reports_missing_files(tmp_path: Path) -> None:
    with Logbook("a", tmp_path / "here", mirror=MirrorStorage(str(tmp_path / "there"), exit_timeout=0)) as log:
        log.text("notes", "converged")
        (tmp_path / "here/log_a/artifacts/odd\\name").write_text("x")
    assert log.mirror is not None
    with pytest.raises(BatchError):
        log.mirror.flush()
    assert (tmp_path / "there/log_a/artifacts/notes.txt").read_text() == "converged"
    assert LogReader(tmp_path / "there/log_a").state.status != "complete"


# -- depth -------------------------------------------------------------------------------------------------


def test_folders_deeper_than_pythons_stack_are_listed_verified_and_removed(tmp_path: Path) -> None:
    assert len(str(tmp_path)) < 500
    with Logbook("a", tmp_path) as log:
        log.text("notes", "converged")
    deepen(tmp_path / "log_a/artifacts", 1010)
    try:
        assert notata("ls", str(tmp_path), folder=tmp_path).returncode == 0
        report = LogReader(tmp_path / "log_a").verify()
        assert (report.ok, report.skipped, len(report.extra)) == (True, (), 1)
        done = notata("rm", "--yes", str(tmp_path / "log_a"), folder=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert not (tmp_path / "log_a").exists()
    finally:
        flatten(tmp_path / "log_a/artifacts")


def test_folders_deeper_than_the_systems_paths_are_named_and_skipped(tmp_path: Path) -> None:
    with Logbook("a", tmp_path) as log:
        log.text("notes", "converged")
    deepen(tmp_path / "log_a/artifacts", 30, "d" * 200)
    try:
        done = notata("ls", str(tmp_path), folder=tmp_path)
        assert done.returncode == 3
        assert done.stdout.startswith(f"{tmp_path}/log_a\tcomplete")
        assert "too long for the file system" in done.stderr
        assert len(done.stderr) < 1000
        assert notata("verify", str(tmp_path), folder=tmp_path).returncode == 3
        with pytest.warns(IncompleteListingWarning, match="a file of the earlier run"):
            Logbook("a", tmp_path, overwrite=True).mark_complete()
        done = notata("rm", "--yes", str(tmp_path / "log_a"), folder=tmp_path)
        assert done.returncode == 3
        assert "too long for the file system" in done.stderr
        copied = notata("sync", str(tmp_path / "log_a"), str(tmp_path / "copy"), folder=tmp_path)
        assert copied.returncode == 3
    finally:
        flatten(tmp_path / "log_a/artifacts", "d" * 200)


def test_a_closed_folder_has_a_name_and_gives_none(tmp_path: Path) -> None:
    store = FaultyBackend(open_store(tmp_path))
    Store(store).write_many({"open/x/1": b"1", "closed/y/2": b"2"})
    store.close_folder("closed")
    assert Store(store).folder_names() == ["closed", "open"]
    for folder in ("closed", "closed/y"):
        with pytest.raises(AccessError):
            Store(store).folder_names(folder)


def test_sync_of_what_lies_beside_runs_names_a_closed_folder(tmp_path: Path) -> None:
    source = FaultyBackend(open_store(tmp_path / "here"))
    Store(source).write_many({"README": b"1", "closed/x": b"2"})
    source.close_folder("closed")
    with pytest.raises(BatchError, match="permission denied"):
        sync(source, tmp_path / "there")
    assert (tmp_path / "there/README").read_bytes() == b"1"


def test_a_link_that_cannot_be_removed_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "sub"
    folder.mkdir()
    (folder / "link").symlink_to("nothing")
    folder.chmod(0o500)
    done = ordinary("-c", f"from notata.store import open_store; open_store({str(tmp_path)!r}).remove_links()")
    folder.chmod(0o700)
    assert f"cannot delete {folder}/link: permission denied" in done.stderr
