"""A full or read-only disk: writes are refused, files stay unchanged, and everything continues once there is space."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from notata import AccessError, BatchError, Experiment, FullError, Logbook, LogReader, Storage, StorageError, Worker
from notata._base import exits
from notata.run.recorder import Recorder
from notata.store import open_store
from notata.store.backends import local
from notata.testing import FaultyBackend
from tests import small_disk
from tests.contract.test_life import until
from tests.exiting import run_at_exit
from tests.small_disk import Disk

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a test cannot mount a disk of its own")

LARGE = 64 * 2**10


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The mount point of the disk."""
    disk = tmp_path / "disk"
    disk.mkdir()
    return disk


def quiet_run(disk: Disk, run_id: str = "run", **options: Any) -> Logbook:
    place = Storage(disk.folder / "outputs", durable=options.pop("durable", False))
    return Logbook(run_id, place, environment=False, heartbeat=0, **options)


def metadata(disk: Disk, run_id: str = "run") -> dict[str, Any]:
    fields: dict[str, Any] = json.loads((disk.folder / f"outputs/log_{run_id}/metadata.json").read_text())
    return fields


def messages(path: Any) -> list[str]:
    text = path.read_text()
    assert text.endswith("\n")
    return [line.partition("] ")[2] for line in text.splitlines() if line.startswith("[")]


@contextmanager
def notata_messages() -> Iterator[list[str]]:
    """Collect the messages that notata logs, apart from the log of the run."""
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("notata").addHandler(handler)
    yield told
    logging.getLogger("notata").removeHandler(handler)


# -- every writer ------------------------------------------------------------------------------------------


def by_text(log: Recorder, size: int) -> None:
    log.text("a", "x" * size)


def by_json(log: Recorder, size: int) -> None:
    log.json("a", "x" * size)


def by_pickle(log: Recorder, size: int) -> None:
    log.pickle("a", bytes(size))


def by_bytes(log: Recorder, size: int) -> None:
    log.bytes("a.raw", bytes(size))


def by_many_bytes(log: Recorder, size: int) -> None:
    """Write in parts, none of which fits."""
    log.bytes("a.raw", bytes(size if size < LARGE else 17 * 2**20))


def by_save(log: Recorder, size: int) -> None:
    log.save("a.yaml", ["x" * size])


def by_array(log: Recorder, size: int) -> None:
    import numpy as np

    log.array("a", np.zeros(size, np.int8))


def by_arrays(log: Recorder, size: int) -> None:
    import numpy as np

    log.arrays("a", compressed=False, x=np.zeros(size, np.int8))


def by_plot(log: Recorder, size: int) -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().plot(range(size // 50))
    log.plot("a", figure, dpi=20 if size < LARGE else 100)


def by_file(log: Recorder, size: int) -> None:
    source = Path(str(log.path)).parents[2] / "beside.dat"  # on another disk
    source.write_bytes(bytes(size))
    log.file(source, "a.dat")


def by_folder(log: Recorder, size: int) -> None:
    source = Path(str(log.path)).parents[2] / "beside"
    source.mkdir(exist_ok=True)
    (source / "a.dat").write_bytes(bytes(size))
    log.folder(source, "taken")


def by_open(log: Recorder, size: int) -> None:
    with log.open("artifacts/a.txt", "w") as file:
        file.write("x" * size)


def by_appending(log: Recorder, size: int) -> None:
    with log.open("artifacts/a.txt", "a") as file:
        file.write("x" * size)


def by_path(log: Recorder, size: int) -> None:
    log["artifacts/a.txt"].write_text("x" * size)


def by_parameters(log: Recorder, size: int) -> None:
    assert isinstance(log, Logbook)
    log.params(x="x" * size)


def by_metadata(log: Recorder, size: int) -> None:
    assert isinstance(log, Logbook)
    log.meta(x="x" * size)


WRITERS: dict[str, tuple[Callable[[Any, int], None], str]] = {
    writer.__name__: (writer, key)
    for writer, key in (
        (by_text, "artifacts/a.txt"),
        (by_json, "artifacts/a.json"),
        (by_pickle, "artifacts/a.pkl"),
        (by_bytes, "artifacts/a.raw"),
        (by_many_bytes, "artifacts/a.raw"),
        (by_save, "artifacts/a.yaml"),
        (by_array, "data/a.npy"),
        (by_arrays, "data/a.npz"),
        (by_plot, "plots/a.png"),
        (by_file, "artifacts/a.dat"),
        (by_folder, "artifacts/taken/a.dat"),
        (by_open, "artifacts/a.txt"),
        (by_appending, "artifacts/a.txt"),
        (by_path, "artifacts/a.txt"),
        (by_parameters, "params.yaml"),
        (by_metadata, "metadata.json"),
    )
}


def check_refused(disk: Disk, log: Logbook, name: str, kind: type[StorageError], why: str) -> None:
    """Check that a writer is refused, that the error names key and reason, and that all files stay unchanged."""
    write, key = WRITERS[name]
    before = disk.files()
    with pytest.raises(kind, match=why) as caught:
        write(log, LARGE)
    of_path = write is by_path  # its store is the folder that contains the file
    assert caught.value.key == (key.rpartition("/")[2] if of_path else key)
    assert key in str(caught.value)
    assert disk.files() == before


def refuse_every_writer(disk: Disk, durable: str = "") -> None:
    log = quiet_run(disk, durable=bool(durable))
    for write, _ in WRITERS.values():
        write(log, 100)
    log.logger.setLevel("CRITICAL")
    disk.fill(left=3)
    for name in WRITERS:
        check_refused(
            disk,
            log,
            name,
            FullError,
            "no space left; free some space and write again, the previous content is unchanged",
        )
    disk.make_room()
    for name, (write, key) in WRITERS.items():
        if name != "by_many_bytes":  # it is larger than the disk
            write(log, LARGE if name != "by_metadata" else 100)
            assert log[key].stat().st_size > 0
    log.mark_complete()
    assert metadata(disk)["status"] == "complete"


@pytest.mark.parametrize("durable", ["", "durable"])
def test_a_full_disk_refuses_each_writer_and_keeps_what_was_there(folder: Path, durable: str) -> None:
    small_disk.run(refuse_every_writer, folder, durable, size="2m")


def refuse_where_no_file_can_be_made(disk: Disk) -> None:
    log = quiet_run(disk)
    for write, _ in WRITERS.values():
        write(log, 100)
    log.logger.setLevel("CRITICAL")
    disk.fill_with_files()
    for name in WRITERS:
        if name != "by_appending":  # it creates no file
            check_refused(disk, log, name, FullError, "no space left")
    disk.make_room()
    log.mark_complete()
    assert metadata(disk)["status"] == "complete"


def test_a_disk_that_has_no_room_for_another_file(folder: Path) -> None:
    small_disk.run(refuse_where_no_file_can_be_made, folder, files=100)


def refuse_a_temporary_file(disk: Disk) -> None:
    """Another library writes to a path that it receives: its own error is raised, and nothing of the file stays."""
    log = quiet_run(disk)
    by_text(log, 100)
    disk.fill()
    before = disk.files()
    with pytest.raises(OSError, match="No space left"), log.local("artifacts/a.txt") as path:
        path.write_text("x" * LARGE)
    assert disk.files() == before
    disk.make_room()
    with log.local("artifacts/a.txt") as path:
        path.write_text("x" * LARGE)
    assert log["artifacts/a.txt"].stat().st_size == LARGE


def test_a_temporary_file_on_a_full_disk(folder: Path) -> None:
    small_disk.run(refuse_a_temporary_file, folder)


# -- the log -----------------------------------------------------------------------------------------------


def keep_lines(disk: Disk) -> None:
    log = quiet_run(disk)
    worker = log.worker(0)
    for said in (log, worker):
        said.info("a line of the worker's or the run's own" + "x" * 3000)  # nearly a page
    disk.fill()
    before = disk.files()
    with notata_messages() as told:
        for said in (log, worker):
            for number in range(50):
                said.info("%s %s", number, "y" * 1000)
    assert len([line for line in told if "cannot store log.txt now" in line]) == 2  # once for each
    assert "no space left" in told[0]
    after = disk.files()
    for key in ("outputs/log_run/log.txt", "outputs/log_run/workers/0/log.txt"):
        assert after[key].startswith(before[key])
        assert after[key].endswith(b"\n")  # no partial line
    with pytest.raises(FullError, match=r"cannot append to .*log_run/log\.txt: no space left"):
        log.flush()
    disk.make_room()
    log.flush()
    worker.flush()
    for path in (log.log_path, worker.log_path):
        assert [line.split()[1] for line in messages(path) if line.endswith("y")] == [str(n) for n in range(50)]
    log.mark_complete()
    assert messages(log.log_path)[-1] == "INFO Marked complete"


def test_lines_are_kept_and_stored_once_there_is_room(folder: Path) -> None:
    small_disk.run(keep_lines, folder)


# -- the state ---------------------------------------------------------------------------------------------


def end_on_a_full_disk(disk: Disk) -> None:
    log = quiet_run(disk)
    disk.fill()
    before = metadata(disk)
    with pytest.raises(FullError, match=r"cannot write .*manifest\.json: no space left"):
        log.mark_complete()
    assert log.status == "initialized"
    with pytest.raises(FullError):
        log.mark_failed("no room")
    assert log.status == "initialized"
    assert metadata(disk) == before
    disk.make_room()
    log.mark_complete()
    assert metadata(disk)["status"] == "complete"


def test_a_run_that_cannot_store_its_end_has_not_ended(folder: Path) -> None:
    small_disk.run(end_on_a_full_disk, folder)


def fail_on_a_full_disk(disk: Disk) -> None:
    """The block's own error propagates, with a note on what else failed; the run ends at exit."""
    with pytest.raises(FullError) as caught, quiet_run(disk) as log:
        disk.fill()
        log.text("a", "x" * LARGE)
    assert caught.value.key == "artifacts/a.txt"
    assert "while marking run 'run' as failed: FullError: cannot write" in caught.value.__notes__[0]
    assert metadata(disk)["status"] == "initialized"
    disk.make_room()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exits, "call_late", lambda call: False)  # the `atexit` functions have already run
        run_at_exit(log)
    assert metadata(disk)["status"] == "failed"
    assert LogReader(log.path).state.status == "failed"


def test_a_block_that_a_full_disk_ends(folder: Path) -> None:
    small_disk.run(fail_on_a_full_disk, folder)


def lose_in_the_background(disk: Disk) -> None:
    log = quiet_run(disk, background=True)
    log.text("kept", "x")
    log.flush()
    disk.fill(left=4)
    with pytest.raises(BatchError) as caught:
        for number in range(3):
            log.text(f"lost{number}", "x" * LARGE)
        log.flush()
    assert all(isinstance(error, FullError) for error in caught.value.exceptions)
    keys = [str(getattr(error, "key", None)) for error in caught.value.exceptions]
    assert all(key.startswith("artifacts/lost") for key in keys)
    with suppress(BatchError):  # an earlier call may have raised the first loss while another write was in flight
        log.flush()
    disk.make_room()
    with pytest.raises(BatchError):
        log.mark_complete()
    assert metadata(disk)["status"] == "failed"
    assert "artifacts/lost" not in " ".join(disk.files())


def test_what_is_lost_in_the_background_fails_the_run(folder: Path) -> None:
    small_disk.run(lose_in_the_background, folder)


def begin_on_a_full_disk(disk: Disk) -> None:
    disk.fill()
    with pytest.raises(FullError, match=r"cannot write .*log_run/metadata\.json: no space left"):
        quiet_run(disk)
    with pytest.raises(FullError):
        quiet_run(disk, params={"omega": 2.0})
    assert disk.files() == {}
    disk.make_room()
    with quiet_run(disk, params={"omega": 2.0}) as log:
        by_text(log, LARGE)
    assert metadata(disk)["status"] == "complete"


def test_a_run_that_cannot_begin_leaves_its_id_free(folder: Path) -> None:
    small_disk.run(begin_on_a_full_disk, folder)


def begin_where_parameters_do_not_fit(disk: Disk) -> None:
    disk.fill(left=5)
    with pytest.raises(FullError, match=r"cannot write .*params\.yaml: no space left"):
        quiet_run(disk, params={"x": "x" * LARGE})
    fields = metadata(disk)
    assert fields["status"] == "failed"
    assert "no space left" in fields["failure_reason"]
    assert not [key for key in disk.files() if "params" in key or ".notata" in key]


def test_a_run_whose_parameters_do_not_fit_says_so(folder: Path) -> None:
    small_disk.run(begin_where_parameters_do_not_fit, folder)


def go_on_in_an_experiment(disk: Disk) -> None:
    experiment = Experiment("decay", disk.folder, environment=False, heartbeat=0)
    with experiment.add(rate=1) as log:
        log.json("metrics", {"x": 1})
    second = experiment.add(rate=2)
    disk.fill()
    with pytest.raises(FullError):
        second.mark_complete()
    with pytest.raises(FullError):
        experiment.add(rate=3)
    disk.make_room()
    second.mark_complete()
    with experiment.add(rate=3):
        pass
    assert [row["status"] for row in experiment.reader.table()] == ["complete"] * 3
    assert len((disk.folder / "decay/index.csv").read_text().splitlines()) == 4


def test_the_table_of_an_experiment(folder: Path) -> None:
    small_disk.run(go_on_in_an_experiment, folder)


def continue_heartbeats(disk: Disk) -> None:
    """Heartbeats continue after one that found no space."""
    store = FaultyBackend(open_store(disk.folder / "outputs"))
    log = Logbook("run", store, environment=False, heartbeat=0.01)
    disk.fill()
    before = len(store.operations)
    until(lambda: len(store.operations) > before + 1)  # a heartbeat is attempted
    told = metadata(disk)["lease"]["beat"]
    disk.make_room()
    until(lambda: metadata(disk)["lease"]["beat"] > told)
    log.mark_complete()


def test_heartbeats_continue_once_there_is_space(folder: Path) -> None:
    small_disk.run(continue_heartbeats, folder)


# -- read-only ---------------------------------------------------------------------------------------------

READ_ONLY = "the file system is read-only; choose another base_dir"


def begin_read_only(disk: Disk) -> None:
    quiet_run(disk, "old").mark_complete()
    disk.make_read_only()
    for options in ({}, {"params": {"omega": 2.0}}, {"resume": True}, {"preallocate": True}):
        with pytest.raises(AccessError, match=rf"cannot (make the folder|write) .*log_new.*: {READ_ONLY}"):
            quiet_run(disk, "new", **options)
    for change in ("resume", "overwrite"):
        with pytest.raises(AccessError, match=READ_ONLY):
            quiet_run(disk, "old", **{change: True})
    with pytest.raises(AccessError, match=READ_ONLY):
        Experiment("decay", disk.folder)
    assert LogReader(disk.folder / "outputs/log_old").state.status == "complete"


def test_no_run_starts_in_a_read_only_folder(folder: Path) -> None:
    small_disk.run(begin_read_only, folder)


def turn_read_only(disk: Disk, durable: str = "") -> None:
    local.OPEN_FILES = 0  # type: ignore[misc]  # a disk cannot become read-only while a file is open for writing
    log = quiet_run(disk, durable=bool(durable))
    for write, _ in WRITERS.values():
        write(log, 100)
    worker = log.worker(0)
    worker.info("a")
    other = quiet_run(disk, "other")
    disk.make_read_only()
    with notata_messages() as told:
        log.info("kept")
        worker.info("kept")
    assert [READ_ONLY in line for line in told] == [True, True]
    log.logger.setLevel("CRITICAL")
    for name in WRITERS:
        check_refused(disk, log, name, AccessError, READ_ONLY)
    with pytest.raises(AccessError, match=rf"artifacts/a\.txt: {READ_ONLY}"), log.local("artifacts/a.txt"):
        raise AssertionError("no file can be made")
    with pytest.raises(AccessError, match=READ_ONLY):
        log.mark_complete()
    with pytest.raises(AccessError, match=rf"log_other/metadata\.json: {READ_ONLY}"):
        Worker(other.url, 0)
    assert metadata(disk)["status"] == "initialized"
    disk.make_writable()
    other.mark_complete()
    log.logger.setLevel("INFO")
    log.mark_complete()
    assert metadata(disk)["status"] == "complete"
    assert "INFO kept" in messages(log.log_path)
    assert messages(worker.log_path) == ["INFO a", "INFO kept"]


@pytest.mark.parametrize("durable", ["", "durable"])
def test_a_disk_becomes_read_only_and_writable_again(folder: Path, durable: str) -> None:
    small_disk.run(turn_read_only, folder, durable)
