"""Workers of a run: the content of a pickle, log messages, and the files that they leave alone."""

from __future__ import annotations

import gc
import json
import logging
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import uuid
import weakref
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.callbacks import Callback

from notata import (
    ConfigurationError,
    Experiment,
    FullError,
    KeyNameError,
    Logbook,
    LogReader,
    Storage,
    StorageError,
    Worker,
    formats,
)
from notata._base import times
from notata.errors import EncodeError
from notata.store import open_store
from notata.testing import FaultyBackend
from tests.exiting import calls_at_exit
from tests.far import FarBackend
from tests.servers import Server
from tests.test_generic import Plain


def messages(path: Any) -> list[str]:
    return [line.partition("] ")[2] if line.startswith("[") else line for line in path.read_text().splitlines()]


@pytest.fixture
def log(tmp_path: Path) -> Logbook:
    return Logbook("run", tmp_path, environment=False, heartbeat=0)


# -- who it is ---------------------------------------------------------------------------------------------


def test_the_attributes_of_a_worker(log: Logbook) -> None:
    worker = log.worker(3)
    assert (worker.rank, worker.run_id, worker.url, worker.path) == ("3", "run", log.url, log.path)
    assert worker.log_path == log.path / "workers" / "3" / "log.txt"
    assert repr(worker) == f"Worker({log.url!r}, '3')"
    assert worker.reader.params == {}
    assert log.worker("node17-0").rank == "node17-0"
    assert Worker(log.path, 4).rank == "4"
    assert Worker(log.path, "5").run_id == "run"


@pytest.mark.parametrize("rank", ["", "a/b", "..", "a\\b", "\n", ".notata-x", "x" * 256, True, 1.0, None])
def test_a_rank_is_a_legal_name(log: Logbook, rank: Any) -> None:
    before = (log.path / "metadata.json").read_bytes()
    with pytest.raises(KeyNameError):
        log.worker(rank)
    with pytest.raises(KeyNameError):
        Worker(log.path, rank)
    assert (log.path / "metadata.json").read_bytes() == before


def test_arguments_that_make_no_sense(log: Logbook) -> None:
    with pytest.raises(ConfigurationError, match="invalid durable 'always': pass True or False"):
        Worker(Storage(log.path, durable="always"), 0)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="invalid log level"):
        Worker(log.path, 0, log_level="loud")
    with pytest.raises(ConfigurationError, match=r"cannot set workers in metadata\.json"):
        log.meta(workers=8)
    assert "workers" not in json.loads((log.path / "metadata.json").read_text())


def test_damaged_metadata_is_reported_by_the_worker(log: Logbook) -> None:
    (log.path / "metadata.json").write_text("{")
    with pytest.raises(StorageError, match="so it is not the metadata of a run"):
        Worker(log.path, 0)


def test_a_run_in_an_experiment_has_workers(tmp_path: Path) -> None:
    experiment = Experiment("decay", tmp_path, environment=False, heartbeat=0)
    with experiment.add(rate=2.0) as run, run.worker(0) as worker:
        worker.json("metrics", {"half_life": 0.3})
    assert [row["half_life"] for row in experiment.reader.table()] == [0.3]


# -- pickles -----------------------------------------------------------------------------------------------


def test_a_pickle_carries_the_store_and_little_else(log: Logbook) -> None:
    worker = log.worker(3)
    worker.info("it has a lock, a thread, an open file")
    data = pickle.dumps(worker)
    assert len(data) < 450 + 4 * len(log.url)  # the store contains its folder four times
    other = pickle.loads(data)
    assert (other.rank, other.url, other.logger.level) == ("3", log.url, logging.INFO)
    assert pickle.dumps(other) == data
    other.info("and the other one too")
    other.close()
    assert messages(worker.log_path) == ["INFO it has a lock, a thread, an open file", "INFO and the other one too"]


def test_unpickled_copies_are_one_worker_while_it_is_in_use(log: Logbook) -> None:
    data = pickle.dumps(log.worker(3))
    first = pickle.loads(data)
    assert pickle.loads(data) is first
    assert pickle.loads(pickle.dumps(log.worker(4))) is not first
    again = pickle.dumps(first)
    gone = weakref.ref(first)
    del first
    gc.collect()
    assert gone() is None
    assert pickle.loads(again).rank == "3"


def test_pending_lines_and_rows_of_a_worker_without_references_are_stored_before_the_run_is_complete() -> None:
    store = FarBackend(open_store(f"memory://{uuid.uuid4().hex}"))
    with Logbook("run", store, environment=False, heartbeat=0) as log:
        log.worker(0).info("begun")
        log.worker(1).scalars(loss=0.5)
        gc.collect()
    assert messages(log["workers/0/log.txt"]) == ["INFO begun"]
    assert json.loads(log["workers/1/series/scalars.jsonl"].read_text())["loss"] == 0.5
    assert {"workers/0/log.txt", "workers/1/series/scalars.jsonl"} <= set(log.reader.files)
    assert log.reader.verify().ok


def test_another_run_of_that_id_has_workers_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data: list[bytes] = []
    for second in range(2):
        monkeypatch.setattr(times, "now", partial("2026-03-01T09:30:0{}+01:00".format, second))
        log = Logbook("run", tmp_path, environment=False, heartbeat=0, overwrite=True)
        data.append(pickle.dumps(log.worker(0)))
    first, second = map(pickle.loads, data)
    assert first is not second


SECRETS = {"key": "AKIAKEY12345", "secret": "SECRET-of-ours"}


def test_a_pickle_in_a_file_holds_no_credentials(moto_server: Server) -> None:
    options = {**moto_server.options, **SECRETS}
    worker = Logbook(None, moto_server.url, storage_options=options, environment=False, heartbeat=0).worker(3)
    assert b"SECRET-of-ours" in pickle.dumps(worker)  # another process must be able to reach the bucket
    kept = formats.encode(formats.PICKLE, {"worker": worker})
    assert b"SECRET-of-ours" not in kept
    assert b"AKIAKEY12345" not in kept
    assert "SECRET" not in repr(worker)


def test_a_logbook_cannot_be_pickled(log: Logbook) -> None:
    with pytest.raises(TypeError, match=r"Pass a worker, log\.worker\(rank\)"):
        pickle.dumps(log)


def test_of_a_run_in_background_mode_it_stores_at_once(tmp_path: Path) -> None:
    with Logbook("run", tmp_path, environment=False, heartbeat=0, background=True) as log:
        worker = log.worker(0)
        other = pickle.loads(pickle.dumps(worker))
        other.text("notes", "x")
        assert (tmp_path / "log_run/artifacts/notes.txt").read_text() == "x"
        assert log.reader.load_text("notes") == "x"


def test_of_a_durable_run_it_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    log = Logbook("run", Storage(tmp_path, durable=True), environment=False, heartbeat=0)
    workers = [log.worker(0), pickle.loads(pickle.dumps(log.worker(1))), Worker(Storage(log.url, durable=True), 2)]
    monkeypatch.setattr(os, "fsync", synced.append)
    for count, worker in enumerate(workers, 1):
        synced.clear()
        worker.text(f"notes/{count}", "x")
        assert len(synced) >= 2
    synced.clear()
    Worker(log.url, 3).text("notes/4", "x")
    assert synced == []


# -- its log -----------------------------------------------------------------------------------------------


def test_a_line_is_in_its_own_log_at_once_on_a_disk(log: Logbook) -> None:
    worker = log.worker(0)
    assert not worker.log_path.exists()
    worker.debug("not at this level")
    worker.info("step %d", 1)
    worker.note("x")
    assert messages(worker.log_path) == ["INFO step 1", "INFO x"]
    logging.getLogger("solver of a rank").addHandler(worker.handler)
    logging.getLogger("solver of a rank").warning("stiff")
    logging.getLogger("solver of a rank").removeHandler(worker.handler)
    assert messages(worker.log_path)[2:] == ["WARNING solver of a rank: stiff"]
    assert messages(log.log_path) == ["INFO Logbook initialized"]


def test_levels(tmp_path: Path) -> None:
    log = Logbook("run", tmp_path, environment=False, heartbeat=0, log_level="ERROR")
    for worker in (log.worker(0), pickle.loads(pickle.dumps(log.worker(1))), Worker(log.url, 2, log_level="ERROR")):
        worker.warning("no")
        worker.error("yes")
        assert messages(worker.log_path) == ["ERROR yes"]


def test_threads_may_share_it(log: Logbook) -> None:
    worker = log.worker(0)

    def work(number: int) -> None:
        for step in range(20):
            worker.info("%d %d", number, step)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(messages(worker.log_path)) == sorted(
        f"INFO {number} {step}" for number in range(4) for step in range(20)
    )


def test_a_line_that_cannot_be_stored_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = FaultyBackend(open_store(tmp_path))
    log = Logbook("run", store, environment=False, heartbeat=0)
    worker = log.worker(0)
    for _ in range(2):  # the first attempt reads the end of the log
        store.fail(1, key="workers/0/log.txt", error=lambda: OSError(28, "No space left on device"))
        worker.info("a")
        assert "cannot store log.txt now" in caplog.text
        store.heal()
    with pytest.raises(FullError):
        store.fail(1, key="workers/0/log.txt", error=lambda: OSError(28, "No space left on device"))
        worker.info("b")
        store.fail(1, key="workers/0/log.txt", error=lambda: OSError(28, "No space left on device"))
        worker.close()
    store.heal()
    worker.close()
    assert messages(worker.log_path) == ["INFO a", "INFO a", "INFO b"]
    assert calls_at_exit(worker.handler) == []


def test_a_run_is_not_complete_before_the_lines_of_its_workers_are_stored(tmp_path: Path) -> None:
    store = FaultyBackend(open_store(tmp_path))
    log = Logbook("run", store, environment=False, heartbeat=0)
    worker = log.worker(0)
    store.fail(1, key="workers/0/log.txt", error=lambda: OSError(28, "No space left on device"))
    worker.info("a")
    store.fail(1, key="workers/0/log.txt", error=lambda: OSError(28, "No space left on device"))
    with pytest.raises(FullError):
        log.mark_complete()
    assert log.status == "initialized"
    store.heal()
    log.mark_complete()
    assert messages(worker.log_path) == ["INFO a"]


# -- its block ---------------------------------------------------------------------------------------------


def test_an_exit_without_an_error_is_no_failure(log: Logbook) -> None:
    with pytest.raises(SystemExit), log.worker(0) as worker:
        worker.info("a")
        raise SystemExit(0)
    with pytest.raises(SystemExit), log.worker(1) as other:
        raise SystemExit("no mesh")
    with pytest.raises(KeyboardInterrupt), log.worker(2) as third:
        raise KeyboardInterrupt
    assert messages(worker.log_path) == ["INFO a"]
    assert messages(other.log_path)[0] == "ERROR Worker 1 failed: sys.exit('no mesh')"
    assert messages(third.log_path)[0] == "ERROR Worker 2 failed: KeyboardInterrupt"
    log.mark_complete()


def test_a_second_failure_is_a_note_of_the_error(log: Logbook) -> None:
    worker = log.worker(0)
    worker.log_path.mkdir(parents=True)
    with pytest.raises(ArithmeticError) as caught, worker:
        raise ArithmeticError("h")
    assert "while worker 0 was closed: FolderError: cannot " in caught.value.__notes__[0]
    worker.log_path.rmdir()
    worker.close()
    assert messages(worker.log_path)[0] == "ERROR Worker 0 failed: h"


def test_a_secret_in_an_error_reaches_no_log(moto_server: Server) -> None:
    options = {**moto_server.options, **SECRETS}
    log = Logbook(None, moto_server.url, storage_options=options, environment=False, heartbeat=0)
    worker = log.worker(0)
    with pytest.raises(ValueError), worker:
        raise ValueError("SECRET-of-ours")
    assert "SECRET" not in worker.log_path.read_text()
    assert messages(worker.log_path)[0] == "ERROR Worker 0 failed: ***"


def test_the_end_of_the_interpreter_closes_it(log: Logbook) -> None:
    """Lines wait in a bucket, and likewise on a disk that was full for a while."""
    script = """
import sys
from notata import Storage, Worker
from notata.store import open_store
from notata.testing import FaultyBackend
store = FaultyBackend(open_store(sys.argv[1]))
worker = Worker(store, 0)
store.fail(1, key="workers/0/log.txt")
worker.info("kept for the end")
assert "kept" not in worker.log_path.read_text()
store.heal()
"""
    subprocess.run([sys.executable, "-c", script, str(log.path)], check=True, capture_output=True)
    assert messages(log.path / "workers/0/log.txt")[1:] == ["INFO kept for the end"]


# -- the state of the run ----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*exclusive writes are not supported:notata.UnprotectedWarning")
@pytest.mark.filterwarnings("ignore:UPath:UserWarning")
def test_where_swaps_are_not_safe_the_state_is_left_alone(tmp_path: Path) -> None:
    """A swap by check and write could undo the end of a run."""
    fsspec.register_implementation("plain", Plain, clobber=True)
    log = Logbook("run", f"plain://{tmp_path}", environment=False, heartbeat=0)
    path = tmp_path / "log_run" / "metadata.json"
    before = path.read_bytes()
    with Worker(log.url, 0) as worker:
        worker.text("notes", "x")
    assert path.read_bytes() == before
    log.worker(1)
    assert json.loads(path.read_text())["workers"] is True
    log.mark_complete()


def test_an_edit_by_hand_stays_when_a_worker_is_announced(log: Logbook) -> None:
    path = log.path / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"operator": "Lovelace"}))
    Worker(log.url, 0)
    log.mark_complete()
    fields = json.loads(path.read_text())
    assert (fields["operator"], fields["workers"], fields["status"]) == ("Lovelace", True, "complete")


@pytest.mark.slow
def test_a_worker_gives_up_after_repeated_conflicts(log: Logbook) -> None:
    store = open_store(log.url)
    path = log.path / "metadata.json"
    fetch, count = store.fetch, 0

    def fetched(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        found = fetch(*arguments)
        path.write_text(json.dumps(json.loads(path.read_text()) | {"count": count}))
        return found

    store.fetch = fetched  # type: ignore[method-assign, assignment]
    with pytest.raises(StorageError, match="another writer changed it"):
        Worker(store, 0)
    assert count == 20


def in_a_child(log: Logbook, results: Any) -> None:
    worker = log.worker("child")
    worker.text("from_the_child", "x")
    results.put(worker.rank)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_can_create_a_worker(log: Logbook) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=in_a_child, args=(log, results))
    child.start()
    assert results.get(timeout=60) == "child"
    child.join()
    assert log["artifacts/from_the_child.txt"].read_text() == "x"
    log.mark_complete()
    assert LogReader(log.path).state.status == "complete"
    assert json.loads((log.path / "metadata.json").read_text())["workers"] is True


def test_a_value_that_has_no_form_is_reported_with_its_key(log: Logbook) -> None:
    with pytest.raises(EncodeError) as caught:
        log.worker(0).json("metrics", {"a": object()})
    assert (caught.value.url, caught.value.key) == (log.url, "artifacts/metrics.json")


@pytest.mark.parametrize("manifest", [False, True])
def test_a_worker_shows_progress_if_its_storage_does(
    log: Logbook, manifest: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []

    def bar(label: str, size: int | None = None) -> Callback:
        shown.append(label)
        return Callback()

    monkeypatch.setattr("notata.store.bar", bar)
    Worker(Storage(log.url, progress=True), 5, manifest=manifest).bytes("large", bytes(17 * 2**20))
    assert shown == ["large"]
