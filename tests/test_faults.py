"""Fail the n-th storage operation of each call, before and after it takes effect, for every n."""

from __future__ import annotations

import errno
import io
import json
import logging
import pickle
import re
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from matplotlib.figure import Figure

from notata import (
    BatchError,
    Experiment,
    FullError,
    Logbook,
    LogReader,
    NotataError,
    RunDisplacedError,
    RunEndedError,
    StorageError,
)
from notata._base import exits, keys
from notata.store import Store, open_store
from notata.store.files import PART
from notata.testing import FaultyBackend, Operation
from tests import receipts
from tests.backends import Place
from tests.exiting import run_at_exit
from tests.far import faults_in
from tests.series import summarized, values

OLD = b"old" * 1000
NEW = b"new" * 2000
BIG = b"x" * (2 * PART + 5)


def write_big(log: Logbook) -> None:
    with log.open("artifacts/a", "wb") as file:
        file.write(BIG)


def write_new_big(log: Logbook) -> None:
    with log.open("artifacts/fresh", "xb") as file:
        file.write(BIG)


def append(log: Logbook) -> None:
    with log.open("artifacts/a", "ab") as file:
        file.write(NEW)


def local(log: Logbook) -> None:
    with log.local("artifacts/a") as path:
        path.write_bytes(NEW)


def write_exclusively(log: Logbook) -> None:
    with log.open("artifacts/fresh", "x") as file:
        file.write("new")


def read(log: Logbook) -> None:
    with log.open("artifacts/a", "rb") as file:
        assert file.read() == OLD


def catch(log: Logbook) -> None:
    with log.catch():
        raise ValueError("mine")


def log_an_exception(log: Logbook) -> None:
    try:
        raise ValueError("mine")
    except ValueError:
        log.exception("new")


def fail_with_an_exception(log: Logbook) -> None:
    log.mark_failed("new", ValueError("mine"))


def attach(log: Logbook) -> None:
    logger = logging.getLogger(f"tests.{uuid.uuid4().hex}")
    log.attach(logger)
    logger.warning("new")
    log.attach(logger)


def outside() -> str:
    """Return a folder of another program's files, on a storage that does not fail."""
    url = f"memory://{uuid.uuid4().hex}/results"
    open_store(url).write_many({"a": NEW, "deep/b": NEW})
    return url


def add_rows(log: Logbook) -> None:
    for number in range(3):
        log.series("r").add(step=number, r=number / 2)
    log.flush()


def plot(log: Logbook, *formats: str) -> None:
    log.plot("p", Figure(), dpi=10, formats=formats)


def read_back(log: Logbook) -> None:
    assert log.reader.load_bytes("a") == OLD
    assert log.reader.load_array("a").tolist() == [0]
    assert log.reader.arrays == ["a"]
    assert dict(log.reader.params) == {"x": 1}


CALLS: dict[str, Callable[[Logbook], Any]] = {
    "text": lambda log: log.text("t", "new"),
    "json": lambda log: log.json("j", {"new": 1}),
    "pickle": lambda log: log.pickle("p", {"new": 1}),
    "bytes": lambda log: log.bytes("a", NEW),
    "path.write_bytes": lambda log: log["artifacts/a"].write_bytes(NEW),
    "path.touch": lambda log: log["artifacts/a"].touch(),
    "path.unlink": lambda log: log["artifacts/a"].unlink(),
    "open w": write_big,
    "open x": write_exclusively,
    "open x, large": write_new_big,
    "open r": read,
    "open a": append,
    "local": local,
    "meta": lambda log: log.meta(remark="new"),
    "mark_complete": lambda log: log.mark_complete(),
    "mark_failed": lambda log: log.mark_failed("new"),
    "mark_failed with an exception": fail_with_an_exception,
    "note": lambda log: log.note("new"),
    "debug": lambda log: log.debug("new"),
    "info": lambda log: log.info("new"),
    "warning": lambda log: log.warning("new"),
    "error": lambda log: log.error("new"),
    "exception": log_an_exception,
    "attach": attach,
    "catch": catch,
    "flush": lambda log: log.flush(),
    "params": lambda log: log.params(new=1),
    "params, as json": lambda log: log.params("json", new=1),
    "scalars": lambda log: log.scalars(step=1, loss=0.5),
    "series": add_rows,
    "array": lambda log: log.array("a", [1]),
    "arrays": lambda log: log.arrays("b", x=[1], y=[2]),
    "save": lambda log: log.save("j", {"new": 1}, format="json"),
    "plot": lambda log: plot(log, "svg"),
    "plot, several": lambda log: plot(log, "svg", "png"),
    "file": lambda log: log.file(f"{outside()}/a"),
    "input": lambda log: log.input(f"{outside()}/a"),
    "folder": lambda log: log.folder(outside()),
    "reader": read_back,
    "worker": lambda log: log.worker(3),  # tests/test_worker.py makes its writes fail
}
ENDS = {"mark_complete", "mark_failed", "mark_failed with an exception"}
WITHOUT_STORAGE = {"__getitem__", "local", "open", "current"}  # the first three are covered above, under other names
PARAMS = [{"x": 1}, {"new": 1, "x": 1}]

WHOLE = {OLD, NEW, OLD + NEW, BIG, b"new", b'{\n  "new": 1\n}\n', pickle.dumps({"new": 1}, -1), b""}


def prepared(near: bool = True) -> tuple[FaultyBackend, Place, Logbook]:
    place = Place("memory", f"memory://{uuid.uuid4().hex}")
    store = faults_in(open_store(place.url), near)
    log = Logbook("run", store, params={"x": 1}, log_level="DEBUG")
    log.bytes("a", OLD)
    log.array("a", [0])
    return store, place, log


def how_many(call: Callable[[Logbook], Any], near: bool = True) -> int:
    store, _, log = prepared(near)
    before = len(store.operations)
    call(log)
    return len(store.operations) - before


def test_the_sweep_knows_every_public_call() -> None:
    public = {name for name in dir(Logbook) if callable(getattr(Logbook, name)) and not name.startswith("_")}
    assert public - {re.split("[ ,]", name)[0] for name in CALLS} <= WITHOUT_STORAGE


@pytest.mark.parametrize("near", [True, False], ids=["near", "far"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", CALLS)
def test_every_operation_of_a_call_may_fail(name: str, after: bool, near: bool) -> None:
    """On a local store, each log line is appended by itself; on a remote one, lines are collected."""
    for nth in range(1, how_many(CALLS[name], near) + 1):
        store, place, log = prepared(near)
        before = len(store.operations)
        store.fail(nth, after=after)
        failed = None
        try:
            CALLS[name](log)
        except NotataError as error:
            failed = error
        hit = store.operations[before + nth - 1]
        # A log line or a row is tried again; an append may find that it is already done; the artifacts of `catch` are
        # optional.
        grows = keys.is_growing(hit.key)
        quiet = (grows and (near or name.startswith("mark_failed"))) or name in ("open a", "catch")
        # A failed run is failed, with or without a manifest.
        quiet = quiet or (
            name.startswith("mark_failed") and (hit.key == "manifest.json" or hit.verb in ("get", "stat", "list"))
        )
        quiet = quiet and not (hit == Operation("get", "log.txt") and name == "mark_complete")
        if name == "flush" or (grows and not near):
            quiet = quiet or after or name == "reader"
        assert failed is not None or quiet, (name, nth, hit)
        if failed is not None:
            no_key = {"params, as json": "params.yaml", "mark_complete": None}  # for several files
            check_error(failed, hit.key or no_key.get(name, "artifacts/a"))
        check_folder(place, name)
        store.heal()
        if name not in ENDS - {"mark_complete"}:
            log.mark_complete()
            assert json.loads(place.bytes("log_run/metadata.json"))["status"] == "complete"
        log.flush()
        check_log(place, name)
        check_rows(place, name)
        if name not in ENDS - {"mark_complete"} or failed is None:
            receipts.check(place, without=[] if near else [hit.key])


def check_error(failed: NotataError, hit: str | None) -> None:
    """Check that the error names the key, as attribute and in words, and has the storage's own error as cause."""
    if isinstance(failed, BatchError):
        assert len(failed.exceptions) == 1
        failed = cast("NotataError", failed.exceptions[0])
    assert isinstance(failed, StorageError)
    assert failed.key == hit
    assert (failed.key or "list") in str(failed)
    assert isinstance(failed.__cause__, ConnectionError)


def check_folder(place: Place, name: str) -> None:
    """Check that each file is the old or the new one, whole; that the status is correct; and that no debris is left."""
    fields = json.loads(place.bytes("log_run/metadata.json"))
    if fields["status"] == "complete":
        receipts.check(place)
    wanted = {"mark_complete": {"initialized", "complete"}}.get(name, {"initialized"})
    assert fields["status"] in ({"initialized", "failed"} if name.startswith("mark_failed") else wanted)
    for key in place.names():
        assert ".notata-" not in key
        if key == "log_run/artifacts/debug/failure.json" or "/caught/" in key:
            assert json.loads(place.bytes(key))["message"] == "mine"
        elif key == "log_run/artifacts/debug/traceback.txt":
            assert place.bytes(key) == b"ValueError: mine\n"
        elif key.startswith("log_run/artifacts/"):
            assert place.bytes(key) in WHOLE
        elif key.startswith("log_run/data/"):
            with np.load(io.BytesIO(place.bytes(key))) if key.endswith("z") else nullcontext() as bundle:
                array = np.load(io.BytesIO(place.bytes(key))) if bundle is None else bundle["x"]
                assert array.tolist() in ([0], [1])
        elif key.startswith("log_run/plots/"):
            assert b"</svg>" in place.bytes(key) or b"IEND" in place.bytes(key)
    assert LogReader(f"{place.url}/log_run").params in PARAMS


def check_log(place: Place, name: str) -> None:
    """Check that every line is in the log once, in the order of writing."""
    lines = place.bytes("log_run/log.txt").decode().splitlines()
    assert all(re.match(r"\[[0-9T:-]{19}([+-][0-9:]{5})?\] [A-Z]+ |  ", line) for line in lines)
    messages = [line.partition("] ")[2] for line in lines if line.startswith("[")]
    begun = [
        "INFO Logbook initialized",
        "INFO Saved params (yaml) in params.yaml",
        "INFO Saved bytes a in artifacts/a",
        "INFO Saved array a in data/a.npy",
    ]
    assert messages[:4] == begun
    most = {line: 2 if name == line.split()[2] else 1 for line in begun[1:]} | {"INFO Marked complete": 2}
    for message, count in Counter(messages).items():
        assert count <= most.get(message, 1), messages
    messages = [message for message in messages if not message.startswith("WARNING manifest.json was not stored")]
    if messages.count("INFO Marked complete") == 2:
        assert messages[-2].startswith("ERROR Marked complete, but that was not stored")
    assert messages[-1].startswith(("INFO Marked complete", "ERROR Marked failed"))


def check_rows(place: Place, name: str) -> None:
    """Check that every row is in its series once, in the order of writing, and its summary in metadata.json."""
    wanted: dict[str, list[dict[str, Any]]] = {
        "scalars": [{"step": 1, "loss": 0.5}],
        "series": [{"step": number, "r": number / 2} for number in range(3)],
    }
    if name not in wanted:
        return
    series = {"scalars": "scalars", "series": "r"}[name]
    assert values(place, f"series/{series}.jsonl") == wanted[name]
    stored = json.loads(place.bytes("log_run/metadata.json"))["series_summary"]
    steps = [row["step"] for row in wanted[name]]
    columns = [{name: value for name, value in row.items() if name != "step"} for row in wanted[name]]
    assert stored == {series: summarized(steps, columns)}


def test_a_claim_of_unknown_effect_is_looked_up() -> None:
    place = Place("memory", f"memory://{uuid.uuid4().hex}")
    store = FaultyBackend(open_store(place.url))
    store.fail(2, after=True, error=TimeoutError)  # operation 1 checks whether the folder is empty, 2 claims it
    with Logbook("run", store):
        pass
    assert json.loads(place.bytes("log_run/metadata.json"))["status"] == "complete"
    store.fail(2, after=True, error=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        Logbook("interrupted", store)
    assert json.loads(place.bytes("log_interrupted/metadata.json"))["status"] == "failed"
    store.fail(2, error=TimeoutError)
    with pytest.raises(TimeoutError):
        Logbook("not", store)
    assert "log_not/metadata.json" not in place.names()


@pytest.mark.parametrize("mode", ["w", "a"])
def test_an_interrupt_while_text_is_closed_is_not_hidden(mode: str) -> None:
    store, place, _ = prepared()
    run = Store(store).below("log_run")
    for error in (KeyboardInterrupt, lambda: OSError(errno.ENOSPC, "full")):
        file = run.open("artifacts/a", mode)
        file.write("x" * PART)
        file.write("y")
        store.fail(1, error=error)
        with pytest.raises((KeyboardInterrupt, FullError)):
            file.close()
        assert place.bytes("log_run/artifacts/a") == OLD


@pytest.mark.parametrize("near", [True, False], ids=["near", "far"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_every_operation_of_a_start_may_fail(after: bool, overwrite: bool, near: bool) -> None:
    def start(store: FaultyBackend) -> Logbook:
        return Logbook("run", store, params={"x": 2}, overwrite=overwrite)

    def fresh() -> tuple[FaultyBackend, Place]:
        place = Place("memory", f"memory://{uuid.uuid4().hex}")
        if overwrite:
            with Logbook("run", place.url, params={"x": 1}) as old:
                old.text("old", "old")
        return faults_in(open_store(place.url), near), place

    store, _ = fresh()
    start(store)
    for nth in range(1, len(store.operations) + 1):
        store, place = fresh()
        store.fail(nth, after=after)
        try:
            start(store)
        except StorageError:
            pass
        else:  # the log line waits, or the swap took effect
            assert store.operations[nth - 1].key == "log.txt" or (after and overwrite)
        names = place.names()
        if "log_run/metadata.json" in names:
            status = json.loads(place.bytes("log_run/metadata.json"))["status"]
            old_run_stands = overwrite and nth <= 2 and status == "complete"
            ours = {"initialized", "replacing", "failed"} if overwrite else {"initialized", "failed"}
            assert old_run_stands or status in ours
            assert old_run_stands or status == "replacing" or "log_run/artifacts/old.txt" not in names
        # The remedy that the error suggests works, whatever is left:
        with Logbook("run", place.url, overwrite=True) as log:
            log.text("t", "x")
        receipts.check(place)
        assert place.names() == ["log_run/artifacts/t.txt", "log_run/manifest.json", "log_run/metadata.json"]


@pytest.mark.parametrize("near", [True, False], ids=["near", "far"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_every_operation_of_a_resumption_may_fail(after: bool, near: bool) -> None:
    def fresh() -> tuple[FaultyBackend, Place]:
        place = Place("memory", f"memory://{uuid.uuid4().hex}")
        with suppress(ValueError), Logbook("run", place.url, params={"x": 1}) as log:
            log.text("old", "old")
            raise ValueError("the first end")
        return faults_in(open_store(place.url), near), place

    def resume(store: FaultyBackend | str) -> Logbook:
        return Logbook("run", store, params={"x": 1}, resume=True)

    store, _ = fresh()
    resume(store)
    for nth in range(1, len(store.operations) + 1):
        store, place = fresh()
        store.fail(nth, after=after)
        log = None
        with suppress(StorageError):
            log = resume(store)
        fields = json.loads(place.bytes("log_run/metadata.json"))
        assert fields["status"] == ("failed" if log is None else "initialized"), (nth, store.operations[nth - 1])
        assert place.bytes("log_run/artifacts/old.txt") == b"old"
        if log is None:
            log = resume(place.url)
        log.mark_complete()
        fields = json.loads(place.bytes("log_run/metadata.json"))
        assert fields["status"] == "complete"
        assert fields["resumes"][0]["failure_reason"] == "the first end"
        # Memory has no versions that the manifest could record, by which a bucket recognizes unchanged files.
        receipts.check(place, without=[] if near else receipts.manifest(place)["files"])
        assert place.bytes("log_run/params.yaml") == b"x: 1\n"
        lines = place.bytes("log_run/log.txt").decode().splitlines()
        assert sum("Marked failed: the first end" in line for line in lines) == 1
        assert lines[-1].endswith("INFO Marked complete")


@pytest.mark.parametrize("near", [True, False], ids=["near", "far"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_every_operation_of_a_run_of_an_experiment_may_fail(after: bool, near: bool) -> None:
    """After any failure the table agrees with the run, and index.csv agrees with it or has no row."""

    def sweep(store: FaultyBackend) -> None:
        with Experiment("e", store).add(x=1) as log:
            log.json("metrics", {"loss": 0.5})

    def fresh() -> tuple[FaultyBackend, Place]:
        place = Place("memory", f"memory://{uuid.uuid4().hex}")
        Experiment("e", place.url).add(x=0).mark_complete()
        return faults_in(open_store(place.url), near), place

    store, _ = fresh()
    sweep(store)
    for nth in range(1, len(store.operations) + 1):
        store, place = fresh()
        store.fail(nth, after=after)
        with suppress(StorageError):
            sweep(store)
        store.heal()
        folder = "e/runs/log_e_x_1"
        rows = {row["run_id"]: row for row in Experiment("e", place.url).reader.table()}
        if f"{folder}/metadata.json" not in place.names():
            assert set(rows) == {"e_x_0"}
            continue
        status = json.loads(place.bytes(f"{folder}/metadata.json"))["status"]
        hit = store.operations[nth - 1]
        assert rows["e_x_1"]["status"] == {"initialized": "running"}.get(status, status), (nth, hit)
        assert ("loss" in rows["e_x_1"]) == (f"{folder}/artifacts/metrics.json" in place.names()), (nth, hit)
        assert ("x" in rows["e_x_1"]) == (f"{folder}/params.yaml" in place.names()), (nth, hit)
        lines = place.bytes("e/index.csv").decode().splitlines()
        assert all(line.count(",") == lines[0].count(",") for line in lines)
        assert sum(line.startswith("e_x_1,") for line in lines) <= 1
        assert any(line.startswith("e_x_0,0,complete") for line in lines)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("near", [True, False], ids=["near", "far"])
def test_a_storage_failure_never_hides_the_users_own_error(near: bool, after: bool) -> None:
    for nth in range(1, 5):
        store, place, log = prepared(near)
        with pytest.raises(ValueError, match="mine") as caught, log:
            store.fail(nth, after=after)
            raise ValueError("mine")
        notes = "".join(getattr(caught.value, "__notes__", []))
        fields = json.loads(place.bytes("log_run/metadata.json"))
        stored = fields["status"] == "failed"
        assert stored or ("while marking run" in notes and "metadata.json" in notes), nth
        assert not stored or (fields["failure_reason"], fields["failure_type"]) == ("mine", "ValueError")
        store.heal()
        with suppress(RunEndedError):
            log.mark_complete()
        log.flush()
        told = place.bytes("log_run/log.txt").decode()
        assert told.count("ERROR Marked failed: mine") == 1
        assert stored or "Marked failed: mine, but that was not stored" in told


def test_a_lost_reply_of_the_end_is_recovered() -> None:
    store, place, log = prepared()
    seen: list[str] = []
    log.callback = lambda ended: seen.append(ended.status)
    store.fail(2, key="metadata.json", after=True)  # operation 1 checks that the run still belongs to this writer
    with pytest.raises(StorageError):
        log.mark_complete()
    assert (log.status, seen) == ("initialized", [])
    log.mark_complete()
    log.mark_complete()
    assert seen == ["complete"]
    assert json.loads(place.bytes("log_run/metadata.json"))["status"] == log.status == "complete"


def test_a_lost_reply_of_the_end_is_recovered_by_a_later_request() -> None:
    store, place, log = prepared()
    seen: list[str] = []
    log.callback = lambda ended: seen.append(ended.status)
    store.fail(2, key="metadata.json", after=True)  # operation 1 checks that the run still belongs to this writer
    with pytest.raises(StorageError):
        log.mark_complete()
    log.meta(remark="by which the stored status is found")
    assert (log.status, seen) == ("complete", [])
    log.mark_complete()
    log.mark_complete()
    assert seen == ["complete"]
    run_at_exit(log)
    assert json.loads(place.bytes("log_run/metadata.json"))["status"] == "complete"


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_run_that_only_the_storage_kept_from_being_complete_is_so_at_exit(
    after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, place, log = prepared(near=False)
    store.fail(1, key="log.txt", after=after)
    with pytest.raises(StorageError) as caught, log:
        log.info("all went well")
    monkeypatch.setattr(exits, "exit_cause", lambda: caught.value)
    run_at_exit(log)
    assert json.loads(place.bytes("log_run/metadata.json"))["status"] == "complete"
    log.mark_failed("looked again")
    store, place, log = prepared(near=False)
    store.fail(1, key="log.txt", after=after)
    with pytest.raises(StorageError), log:
        pass
    monkeypatch.setattr(exits, "exit_cause", lambda: ValueError("something else"))
    run_at_exit(log)
    assert json.loads(place.bytes("log_run/metadata.json"))["failure_reason"] == "something else"


STALLED = """
import sys
from notata import Logbook
from notata.store import open_store
from notata.testing import FaultyBackend


class Backend(FaultyBackend):
    is_local = sys.argv[2] == "near"


store = Backend(open_store(sys.argv[1]))
try:
    with Logbook("run", store, heartbeat=0, environment=False):
        store.fail(1, key="metadata.json")
        raise ValueError("h = -1")
except ValueError as error:
    print(error.__notes__[0])
"""


@pytest.mark.parametrize("near", ["near", "far"])
def test_the_reason_of_a_failed_block_is_stored_at_exit_if_it_was_refused_before(near: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STALLED, tmp_path, near], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("notata: while marking run 'run' as failed: UnreachableError:")
    assert "notata, at exit" not in done.stderr
    run = tmp_path / "log_run"
    stored = json.loads((run / "metadata.json").read_text())
    assert (stored["status"], stored["failure_reason"], stored["failure_type"]) == ("failed", "h = -1", "ValueError")
    assert "ValueError: h = -1\nnotata: while marking run" in (run / "artifacts/debug/traceback.txt").read_text()
    assert json.loads((run / "artifacts/debug/failure.json").read_text())["message"] == "h = -1"
    assert (run / "log.txt").read_text().endswith("ERROR Marked failed: h = -1\n")


def test_the_reason_of_a_failed_block_is_stored_by_a_flush() -> None:
    store, place, log = prepared()
    seen: list[str] = []
    log.callback = lambda ended: seen.append(ended.status)
    store.fail(1, key="metadata.json")
    with pytest.raises(ValueError, match="h = -1"), log:
        raise ValueError("h = -1")
    assert (log.status, seen) == ("initialized", [])
    log.mark_failed("the first failure stands")
    log.flush()
    stored = json.loads(place.bytes("log_run/metadata.json"))
    assert (stored["status"], stored["failure_reason"], stored["failure_type"]) == ("failed", "h = -1", "ValueError")
    assert b"ValueError: h = -1\n" in place.bytes("log_run/artifacts/debug/traceback.txt")
    assert seen == ["failed"]


def test_the_reason_of_a_failed_block_is_stored_by_the_next_heartbeat() -> None:
    place = Place("memory", f"memory://{uuid.uuid4().hex}")
    store = FaultyBackend(open_store(place.url))
    failed, healed = threading.Event(), threading.Event()

    def fail() -> ConnectionError:
        if not healed.is_set():
            store.fail(1, key="metadata.json", error=fail)
        failed.set()
        return ConnectionError("on purpose")

    others = set(threading.enumerate())
    log = Logbook("run", store, heartbeat=0.01, environment=False)
    (heartbeat,) = (one for one in set(threading.enumerate()) - others if one.name == "notata-heartbeat")
    store.fail(1, key="metadata.json", error=fail)
    with pytest.raises(ValueError, match="h = -1"), log:
        raise ValueError("h = -1")
    failed.clear()
    assert failed.wait(60)  # a heartbeat, which fails too
    healed.set()
    store.heal()
    heartbeat.join(60)
    stored = json.loads(place.bytes("log_run/metadata.json"))
    assert (stored["status"], stored["failure_reason"]) == ("failed", "h = -1")
    assert not place.store().exists("log_run/artifacts/debug/traceback.txt")
    log.flush()
    assert b"ValueError: h = -1\n" in place.bytes("log_run/artifacts/debug/traceback.txt")


def test_a_successor_is_not_mistaken_for_a_lost_reply() -> None:
    _, place, log = prepared()
    Logbook("run", place.url, overwrite=True)
    with pytest.raises(RunDisplacedError):
        log.mark_complete()
    assert json.loads(place.bytes("log_run/metadata.json"))["status"] == "initialized"


def test_the_store_fails_as_configured() -> None:
    store, _, log = prepared()
    store.fail(1, key="artifacts/two.txt", error=lambda: TimeoutError("slow"))
    log.text("one", "1")
    with pytest.raises(TimeoutError):
        log.text("two", "2")
    log.text("three", "3")
    assert store.operations[-2:] == [Operation("put", "artifacts/three.txt"), Operation("append", "log.txt")]
    store.fail(2, error=lambda: TimeoutError("slow"))
    log["artifacts/four"].write_text("4")
    with pytest.raises(TimeoutError):
        log["artifacts/five"].write_text("5")


def test_the_fixture(memory_logbook: Logbook) -> None:
    memory_logbook.text("notes", "x")
    assert memory_logbook.url.startswith("memory://notata-")
