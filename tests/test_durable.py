"""``Storage(…, durable=True)``: state after a power cut, by a model of a disk that keeps only synced data."""

from __future__ import annotations

import builtins
import errno
import os
import pickle
import shutil
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from notata import ConfigurationError, Experiment, Logbook, LogReader, Storage, StorageError
from notata.store import open_store
from notata.store.backends import local, local_folders, local_locks, local_staged
from tests.test_local import alone  # noqa: F401
from tests.watched import Watched

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere other calls sync, and the order is the same")

fcntl = pytest.importorskip("fcntl", reason="the systems without it are skipped above")


class Disk:
    """A model of a folder on disk: file contents at their last sync, and folder entries at their last sync."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._root = root
        self._content: dict[int, bytes] = {}
        self._names: dict[int, list[tuple[str, int, bool]]] = {}
        self.syncs: list[str] = []
        self.failing: Callable[[os.stat_result], int] = lambda state: 0
        self._lock = threading.Lock()  # of two syncs of a folder, the later one has the newer names
        monkeypatch.setattr(os, "fsync", self._syncing("fsync"))
        monkeypatch.setattr(os, "fdatasync", self._syncing("fdatasync"))

    def _syncing(self, name: str) -> Callable[[int], None]:
        def sync(handle: int) -> None:
            state = os.fstat(handle)
            self.syncs.append(f"{name} {'folder' if stat.S_ISDIR(state.st_mode) else 'file'}")
            if number := self.failing(state):
                raise OSError(number, os.strerror(number))
            with self._lock:
                self._keep(f"/proc/self/fd/{handle}", state)

        return sync

    def _keep(self, place: str, state: os.stat_result) -> None:
        if stat.S_ISDIR(state.st_mode):
            self._names[state.st_ino] = [(entry.name, entry.inode(), entry.is_dir()) for entry in os.scandir(place)]
        else:
            with builtins.open(place, "rb") as file:
                self._content[state.st_ino] = file.read()

    def after_a_power_cut(self) -> dict[str, bytes]:
        """Return the files found after a power cut, with their bytes; files whose bytes were never synced are empty."""
        return dict(self._found(self._root.stat().st_ino, ""))

    def _found(self, folder: int, above: str) -> Iterator[tuple[str, bytes]]:
        for name, inode, is_folder in self._names.get(folder, []):
            if is_folder:
                yield from self._found(inode, f"{above}{name}/")
            elif not name.startswith(".notata-"):
                yield f"{above}{name}", self._content.get(inode, b"")


def on_the_disk(root: Path) -> dict[str, bytes]:
    """Return the files that processes see now."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(tmp_path, monkeypatch)


def durable_run(folder: Path, run_id: str = "run", **options: Any) -> Logbook:
    return Logbook(run_id, Storage(folder / "outputs", durable=True), environment=False, heartbeat=0, **options)


# -- order and number of the calls -------------------------------------------------------------------------


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the system calls of the local store, including syncs."""
    from notata.store.backends import durability

    found: list[str] = []
    watched = Watched(os, found)
    for module in (local, local_folders, local_locks, local_staged, durability):
        monkeypatch.setattr(module, "os", watched)
    monkeypatch.setattr(local_locks, "fcntl", Watched(fcntl, found))
    return found


def test_a_file_is_synced_before_it_has_its_name_and_its_folder_after(tmp_path: Path, calls: list[str]) -> None:
    log = durable_run(tmp_path)
    log.json("first", {})
    log.logger.setLevel("ERROR")
    calls.clear()
    log.json("m", {"a": 1.0})
    folders, file = ["open", "open", "close"], ["open", "write", "fstat", "fsync", "close"]
    assert calls == [*folders, *file, "replace", "open", "fsync", "close", "close"]


def test_a_line_is_one_sync(tmp_path: Path, calls: list[str]) -> None:
    log = durable_run(tmp_path)
    log.info("the first opens the file")
    calls.clear()
    log.info("a")
    assert calls == ["flock", "stat", "fstat", "write", "fdatasync", "flock"]


def test_without_it_nothing_is_synced(tmp_path: Path, disk: Disk) -> None:
    with Logbook("run", tmp_path / "outputs") as log:
        log.text("notes", "x")
        with log.local("artifacts/a") as path:
            path.write_text("x")
        log.info("a line")
    assert disk.syncs == []
    assert disk.after_a_power_cut() == {}


# -- what is left ------------------------------------------------------------------------------------------


def by_text(log: Logbook) -> None:
    log.text("deep/in/folders/notes", "first")
    log.text("deep/in/folders/notes", "second")


def by_large_bytes(log: Logbook) -> None:
    log.bytes("large.raw", bytes(9 * 2**20))


def by_array(log: Logbook) -> None:
    log.array("t", [0.0, 0.5])


def by_open(log: Logbook) -> None:
    with log.open("artifacts/a.txt", "w") as file:
        file.write("a")
    with log.open("artifacts/b.txt", "x") as file:
        file.write("b")
    for _ in range(2):
        with log.open("artifacts/b.txt", "a") as file:
            file.write("b")


def by_local(log: Logbook) -> None:
    with log.local("artifacts/mesh/a.vtk") as path:
        path.write_text("# vtk")


def by_path(log: Logbook) -> None:
    path = log["artifacts/settings/a.ini"]
    path.write_text("a")
    path.with_name("b.ini").write_bytes(b"b")
    (path.parent / "more" / "c.ini").write_text("c")
    with path.open("a") as file:
        file.write("more")
    pickle.loads(pickle.dumps(path)).with_suffix(".txt").write_text("d")
    log.path.joinpath("data", "d.txt").touch()


def by_folder(log: Logbook) -> None:
    with log.local("artifacts/beside") as path:
        path.write_text("x")
        path.with_name("y").write_text("y")
        log.folder(path.parent, "taken")
        log.file(path, "one")


def by_plot(log: Logbook) -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="it is in the test extra")
    matplotlib.use("agg")
    from matplotlib.figure import Figure

    log.plot("empty", Figure(), formats=("png", "svg"))


def by_parameters(log: Logbook) -> None:
    log.params(omega=2.0)
    log.meta(machine="node17")


def by_deleting(log: Logbook) -> None:
    log.text("only/one", "x")
    delete(log, "artifacts/only/one.txt")
    log.text("only/two", "y")
    log.text("several/one", "x")
    log.text("several/two", "y")
    delete(log, "artifacts/several/one.txt", "artifacts/only/two.txt")


def delete(log: Logbook, *names: str) -> None:
    log.flush()
    open_store(log.url).durably().delete(names)


@pytest.mark.parametrize(
    "write",
    [by_text, by_large_bytes, by_array, by_open, by_local, by_path, by_folder, by_plot, by_parameters, by_deleting],
)
@pytest.mark.parametrize("background", [False, True], ids=["direct", "background"])
def test_all_files_of_a_call_survive_a_power_cut(
    write: Callable[[Logbook], None], background: bool, tmp_path: Path, disk: Disk
) -> None:
    log = durable_run(tmp_path, background=background)
    if not background:
        assert disk.after_a_power_cut() == on_the_disk(tmp_path)
    write(log)
    log.flush()
    assert len(on_the_disk(tmp_path)) > 2
    assert disk.after_a_power_cut() == on_the_disk(tmp_path)
    log.mark_complete()
    assert disk.after_a_power_cut() == on_the_disk(tmp_path)


def test_a_folder_that_another_process_has_just_made_is_synced_too(tmp_path: Path, disk: Disk) -> None:
    """Another process that writes there may not have synced the folder yet."""
    (tmp_path / "outputs").mkdir()
    log = durable_run(tmp_path)
    (tmp_path / "outputs/log_run/artifacts/steps").mkdir(parents=True)
    log.text("steps/1", "x")
    assert disk.after_a_power_cut() == on_the_disk(tmp_path)


def test_a_folder_that_was_removed_and_made_anew_is_kept(tmp_path: Path, disk: Disk) -> None:
    log = durable_run(tmp_path)
    log.text("steps/1", "x")
    shutil.rmtree(tmp_path / "outputs/log_run/artifacts")
    log.text("steps/2", "x")
    assert disk.after_a_power_cut() == on_the_disk(tmp_path)


def test_once_a_folder_is_known_a_file_takes_two_syncs(tmp_path: Path, disk: Disk) -> None:
    log = durable_run(tmp_path)
    log.text("deep/in/folders/first", "x")
    log.logger.setLevel("ERROR")
    disk.syncs.clear()
    for step in range(5):
        log.text(f"deep/in/folders/{step}", "x")
    assert disk.syncs == ["fsync file", "fsync folder"] * 5


def test_no_file_of_a_replaced_run_reappears_after_a_power_cut(tmp_path: Path, disk: Disk) -> None:
    old = durable_run(tmp_path)
    old.text("old/notes", "old")
    old.mark_complete()
    durable_run(tmp_path, overwrite=True).mark_complete()
    left = disk.after_a_power_cut()
    assert sorted(left) == [f"outputs/log_run/{name}" for name in ("log.txt", "manifest.json", "metadata.json")]
    assert left == on_the_disk(tmp_path)


def test_a_durable_run_is_resumed(tmp_path: Path, disk: Disk) -> None:
    durable_run(tmp_path).mark_failed("preempted")
    with durable_run(tmp_path, resume=True) as log:
        log.text("notes", "x")
    assert disk.after_a_power_cut() == on_the_disk(tmp_path)
    assert LogReader(log.path).state.status == "complete"


def test_a_disk_without_hard_links(tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(source: str, target: str, **_: Any) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    durable_run(tmp_path)
    assert disk.after_a_power_cut() == on_the_disk(tmp_path)


def test_a_disk_without_locks(tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(handle: int, operation: int) -> None:
        raise OSError(errno.ENOSYS, "no locks here")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with durable_run(tmp_path) as log:
        log.info("a line")
    assert disk.after_a_power_cut() == on_the_disk(tmp_path)


def test_an_experiment_and_its_table(tmp_path: Path, disk: Disk) -> None:
    experiment = Experiment("decay", Storage(tmp_path / "outputs", durable=True), environment=False, heartbeat=0)
    for rate in (0.5, 2.0):
        with experiment.add(rate=rate) as log:
            log.json("metrics", {"half_life": 0.693 / rate})
    assert "outputs/decay/index.csv" in disk.after_a_power_cut()
    assert disk.after_a_power_cut() == on_the_disk(tmp_path)


# -- when a sync fails -------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_synced_is_not_published(tmp_path: Path, disk: Disk) -> None:
    log = durable_run(tmp_path)
    log.text("notes", "old")
    disk.failing = lambda state: 0 if stat.S_ISDIR(state.st_mode) else errno.EIO
    with pytest.raises(StorageError, match=r"cannot write .*notes\.txt: .* input/output error"):
        log.text("notes", "new")
    disk.failing = lambda state: 0
    assert log["artifacts/notes.txt"].read_text() == "old"
    assert [path.name for path in log.artifactsdir.iterdir()] == ["notes.txt"]
    log.text("notes", "new")
    assert disk.after_a_power_cut() == on_the_disk(tmp_path)


def test_a_line_that_cannot_be_synced_is_taken_back_and_stored_later(
    tmp_path: Path, disk: Disk, caplog: pytest.LogCaptureFixture
) -> None:
    log = durable_run(tmp_path)
    log.info("a")
    disk.failing = lambda state: errno.EIO
    log.info("b")
    assert "cannot store log.txt now" in caplog.text
    disk.failing = lambda state: 0
    log.info("c")
    log.flush()
    said = [line.partition("] ")[2] for line in log.log_path.read_text().splitlines()]
    assert said == ["INFO Logbook initialized", "INFO a", "INFO b", "INFO c"]
    assert disk.after_a_power_cut() == on_the_disk(tmp_path)


def test_where_folders_cannot_be_synced_files_are(tmp_path: Path, disk: Disk) -> None:
    """Some network shares refuse to sync folders."""
    disk.failing = lambda state: errno.EINVAL if stat.S_ISDIR(state.st_mode) else 0
    with durable_run(tmp_path) as log:
        log.text("notes", "x")
    assert log.status == "complete"


# -- elsewhere ---------------------------------------------------------------------------------------------


def test_in_memory_it_changes_nothing(disk: Disk) -> None:
    store = open_store("memory://durable")
    assert store.durably() is store
    with Logbook("run", Storage("memory://durable", durable=True)) as log:
        log.text("notes", "x")
    assert disk.syncs == []


def test_durability_is_inherited_by_derived_stores(tmp_path: Path, disk: Disk) -> None:
    store = open_store(tmp_path).durably()
    assert store.durably() is store
    other = pickle.loads(pickle.dumps(store.below("a")))
    other.write("b/c.txt", b"1")
    assert disk.after_a_power_cut() == {"a/b/c.txt": b"1"}


def test_it_is_true_or_false(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="invalid durable 'always': pass True or False"):
        Logbook("run", Storage(tmp_path, durable="always"))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
