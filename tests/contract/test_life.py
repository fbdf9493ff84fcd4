"""Heartbeats, resuming, takeovers and displaced owners, on every backend."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from notata import ConfigurationError, Logbook, LogReader, RunDisplacedError, RunExistsError
from notata._base import processes
from notata.store import open_store
from tests import receipts
from tests.backends import Place
from tests.contract.test_races import die


def metadata(place: Place, run_id: str = "run") -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(place.bytes(f"log_{run_id}/metadata.json"))
    return fields


def reader(place: Place, run_id: str = "run") -> LogReader:
    return LogReader(f"{place.url}/log_{run_id}", storage_options=place.options)


def until(true: Callable[[], object], seconds: float = 120.0) -> None:
    """Poll until the condition is true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "timed out"


def is_displaced(log: Logbook) -> bool:
    """Return True if a run knows that another writer owns it."""
    try:
        log["artifacts"]
    except RunDisplacedError:
        return True
    return False


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Act as another machine, which sees no process of this one."""
    return lambda: monkeypatch.setattr(processes, "machine", lambda: "another machine")


# -- heartbeats --------------------------------------------------------------------------------------------


def test_a_run_sends_heartbeats_until_it_ends(place: Place, elsewhere: Callable[[], None]) -> None:
    others = set(threading.enumerate())
    log = place.logbook(heartbeat=0.05)
    first = metadata(place)["lease"]["beat"]
    until(lambda: metadata(place)["lease"]["beat"] > first)
    elsewhere()
    until(lambda: reader(place).state.status == "running")  # not while a busy machine delays a heartbeat by a second
    state = reader(place).state
    assert state.certain
    assert "one was due every 0.05 s" in state.why or "one is due every 0.05 s" in state.why
    assert abs((state.last_seen - datetime.now(UTC)).total_seconds()) < 60
    log.mark_complete()
    last = place.bytes("log_run/metadata.json")
    until(lambda: "notata-heartbeat" not in {thread.name for thread in set(threading.enumerate()) - others})
    assert place.bytes("log_run/metadata.json") == last
    assert reader(place).state.status == "complete"


def test_the_default_heartbeat_and_invalid_ones(place: Place) -> None:
    lease = metadata(place, place.logbook("a").run_id)["lease"]
    assert lease["heartbeat"] == (None if place.name == "memory" else 30.0)
    assert metadata(place, place.logbook("b", heartbeat=0).run_id)["lease"]["heartbeat"] is None
    for wrong in (-1, float("inf"), float("nan"), True, "30"):
        with pytest.raises(ConfigurationError, match="heartbeat"):
            place.logbook("c", heartbeat=wrong)
    assert sorted(place.names()) == ["log_a/metadata.json", "log_b/metadata.json"]


def test_a_run_of_another_machine_without_heartbeats_is_dead(place: Place, elsewhere: Callable[[], None]) -> None:
    """The storage reports the age of a file; the test stores a lease with a very short heartbeat interval."""
    place.logbook(heartbeat=0)
    fields = metadata(place)
    fields["lease"]["heartbeat"] = 1e-9
    place.put("log_run/metadata.json", json.dumps(fields).encode())
    assert reader(place).state.status == "running"  # its process is running, whatever its lease says
    elsewhere()
    until(lambda: reader(place).state.status == "died")
    state = reader(place).state
    assert "no heartbeat from" in state.why
    assert metadata(place) == fields
    fields["lease"]["heartbeat"] = None
    place.put("log_run/metadata.json", json.dumps(fields).encode())
    state = reader(place).state
    assert (state.status, state.certain) == ("running", False)


def test_the_age_of_a_file_comes_from_the_storage(place: Place) -> None:
    store = place.store()
    store.write("a", b"1")
    age = store.fetch("a").age
    assert age is not None
    assert 0 <= age < 30
    until(lambda: (store.fetch("a").age or 0) > age)


def test_a_run_that_is_being_replaced_is_refused(place: Place) -> None:
    place.logbook()
    fields = metadata(place) | {"status": "replacing"}
    place.put("log_run/metadata.json", json.dumps(fields).encode())
    assert reader(place).state.status == "replacing"
    with pytest.raises(RunExistsError, match="Pass overwrite=True to continue"):
        place.logbook(resume=True)


def test_a_reader_needs_a_run(place: Place) -> None:
    with pytest.raises(FileNotFoundError, match="there is no run at"):
        reader(place, "none")
    place.logbook("a_log_b")
    found = reader(place, "a_log_b")
    assert (found.run_id, found.meta["run_id"]) == ("a_log_b", "a_log_b")
    assert found.path.name == "log_a_log_b"
    assert "127.0.0.1" not in repr(found)


# -- going on ----------------------------------------------------------------------------------------------


def test_a_failed_run_is_resumed(place: Place) -> None:
    with pytest.raises(ValueError, match="h = -1"), place.logbook(params={"x": 1}) as log:
        log.text("kept", "yes")
        log.meta(machine="node17")
        raise ValueError("h = -1")
    before = metadata(place)
    again = place.logbook(resume=True)
    fields = metadata(place)
    assert (fields["status"], fields["machine"], fields["start_time"]) == (
        "initialized",
        "node17",
        before["start_time"],
    )
    assert not {"end_time", "failure_reason", "failure_type", "runtime_sec"} & fields.keys()
    assert reader(place).state.status == "running"
    again.text("new", "too")
    again.mark_complete()
    fields = metadata(place)
    assert fields["status"] == "complete"
    assert fields["runtime_sec"] >= before["runtime_sec"]
    [entry] = fields["resumes"]
    assert (entry["after"], entry["failure_reason"]) == ("failed", "h = -1")
    assert datetime.fromisoformat(entry["time"]) >= datetime.fromisoformat(before["end_time"])
    assert [name.rpartition("/")[2] for name in place.names()] == [
        "failure.json", "traceback.txt", "kept.txt", "new.txt", "manifest.json", "metadata.json", "params.yaml",
    ]  # fmt: skip
    log_lines = place.log()
    assert log_lines[0] == "INFO Logbook initialized"
    assert "ERROR Marked failed: h = -1" in log_lines
    assert re.fullmatch(
        r"INFO Logbook resumed by owner [0-9a-f]{8}; before: failed \(status in its metadata: h = -1\)", log_lines[-3]
    )
    assert log_lines[-1] == "INFO Marked complete"


def test_a_dead_run_is_resumed_and_a_running_one_is_refused(place: Place) -> None:
    die(place, "run")
    assert reader(place).state.status == "died"
    log = place.logbook(resume=True)
    with pytest.raises(RunExistsError, match="it is running \\(process"):
        place.logbook(resume=True)
    with pytest.raises(RunExistsError, match="is running"):
        place.logbook(resume="force")
    log.mark_complete()
    [entry] = metadata(place)["resumes"]
    assert entry["after"] == "died"
    assert place.bytes("log_run/artifacts/kept.txt") == b"yes"


def test_a_run_of_unknown_state_is_resumed_by_force(place: Place, elsewhere: Callable[[], None]) -> None:
    old = place.logbook(heartbeat=0)
    old.info("by the old owner")
    old.flush()
    elsewhere()
    with pytest.raises(RunExistsError, match=r"may be running .* resume='force'"):
        place.logbook(resume=True)
    new = place.logbook(resume="force")
    new.info("by the new one")
    old.info("too late")
    with pytest.raises(RunDisplacedError):
        old.mark_complete()
    new.mark_complete()
    assert metadata(place)["status"] == "complete"
    assert "INFO by the old owner" in place.log()
    if place.bucket:  # on a disk each line is written immediately, without a check of the owner
        assert not {"INFO too late", "INFO Marked complete"} & set(place.log()[:-1])


def test_resume_creates_a_missing_run(place: Place) -> None:
    with place.logbook(resume=True, params={"x": 1}):
        pass
    assert "resumes" not in metadata(place)
    assert place.log() == [
        "INFO Logbook initialized",
        "INFO Saved params (yaml) in params.yaml",
        "INFO Marked complete",
    ]
    with pytest.raises(ConfigurationError, match="pass only one"):
        place.logbook(resume=True, overwrite=True)


def test_the_number_and_duration_of_attempts_are_recorded(place: Place) -> None:
    spent = 0.0
    for attempt in range(4):
        log = place.logbook(resume=True)
        assert len(metadata(place).get("resumes", [])) == attempt
        assert log.elapsed >= spent
        log.mark_failed(f"attempt {attempt}")
        assert metadata(place)["runtime_sec"] == log.elapsed
        spent = log.elapsed
    reasons = [entry["failure_reason"] for entry in metadata(place)["resumes"]]
    assert reasons == ["attempt 0", "attempt 1", "attempt 2"]


def test_changed_parameters_are_reported(place: Place) -> None:
    place.logbook(params={"x": 1}).mark_failed("no")
    place.logbook(params={"x": 1}, resume=True).mark_failed("no")
    assert not [line for line in place.log() if "parameters" in line]
    place.logbook(params={"x": 2}, resume=True).mark_complete()
    assert [line for line in place.log() if line.startswith("WARNING The parameters differ from the previous ones")]
    assert place.bytes("log_run/params.yaml") == b"x: 2\n"


def test_a_log_that_ends_within_a_line_is_resumed_on_a_new_one(place: Place) -> None:
    place.logbook().mark_failed("no")
    torn = place.bytes("log_run/log.txt") + b"[2026-01-01T00:00:00] INFO tor"
    place.put("log_run/log.txt", torn)
    place.logbook(resume=True).mark_complete()
    assert place.bytes("log_run/log.txt").startswith(torn + b"\n[")


def test_a_folder_without_metadata_is_resumed(place: Place) -> None:
    place.put("log_run/artifacts/kept.txt", b"yes")
    place.logbook(resume=True).mark_complete()
    assert metadata(place)["status"] == "complete"
    assert place.bytes("log_run/artifacts/kept.txt") == b"yes"


def test_a_run_of_0_3_0_is_resumed(place: Place) -> None:
    """0.3.0 wrote no lease, and times without an offset."""
    old = {"run_id": "run", "status": "failed", "start_time": "2026-01-01T00:00:00", "end_time": "2026-01-01T00:01:00",
           "runtime_sec": 60.0, "failure_reason": "old"}  # fmt: skip
    place.put("log_run/metadata.json", json.dumps(old).encode())
    log = place.logbook(resume=True)
    assert log.elapsed >= 60
    log.mark_complete()
    assert metadata(place)["resumes"][0]["failure_reason"] == "old"
    place.put("log_run/metadata.json", json.dumps(old | {"status": "initialized"}).encode())
    state = reader(place).state
    assert (state.status, state.certain) == ("running", False)
    with pytest.raises(RunExistsError, match="may be running"):
        place.logbook(resume=True)


@pytest.mark.parametrize("garbage", [b"", b"[]", b"{", b"\xff", b'"x"'])
def test_metadata_that_is_none_is_neither_read_nor_taken(place: Place, garbage: bytes) -> None:
    place.put("log_run/metadata.json", garbage)
    with pytest.raises(OSError, match="not the metadata of a run"):
        reader(place)
    with pytest.raises(OSError, match="not the metadata of a run"):
        place.logbook(resume=True)
    assert place.bytes("log_run/metadata.json") == garbage


# -- displaced ---------------------------------------------------------------------------------------------


def test_a_displaced_owner_detects_it_by_its_heartbeat_and_stops_writing(place: Place) -> None:
    old = place.logbook(heartbeat=0.05)
    old.text("t", "old")
    with place.logbook(overwrite=True) as new:
        until(lambda: is_displaced(old))
        for call in (
            lambda: old.text("t", "late"),
            lambda: old["artifacts/t.txt"],
            lambda: old.open("artifacts/t.txt", "w"),
            lambda: old.local("artifacts/t.txt"),
            lambda: old.meta(x=1),
            old.mark_complete,
            lambda: old.mark_failed("late"),
        ):
            with pytest.raises(RunDisplacedError, match="another writer"):
                call()
        new.text("new", "new")
    assert place.names() == ["log_run/artifacts/new.txt", "log_run/manifest.json", "log_run/metadata.json"]
    assert list(receipts.check(place)) == ["artifacts/new.txt", "log.txt"]
    assert metadata(place)["status"] == "complete"


def test_a_displaced_owner_stops_logging(bucket: Place) -> None:
    for before in (lambda log: None, Logbook.flush):
        old = bucket.logbook(overwrite=True)
        before(old)
        new = bucket.logbook(overwrite=True)
        old.info("too late")
        old.flush()
        new.mark_complete()
        first, last = bucket.log()
        owner = metadata(bucket)["lease"]["owner"][:8]
        assert first == f"INFO Logbook initialized in place of an earlier run (owner {owner})"
        assert last == "INFO Marked complete"


def test_an_edit_of_the_log_by_hand_is_kept(place: Place) -> None:
    log = place.logbook()
    log.info("one")
    log.flush()
    place.put("log_run/log.txt", place.bytes("log_run/log.txt") + b"[2026-01-01T00:00:00] INFO by hand\n")
    log.info("two")
    log.mark_complete()
    assert place.log() == [
        "INFO Logbook initialized",
        "INFO one",
        "INFO by hand",
        "INFO two",
        "INFO Marked complete",
    ]


def test_the_time_of_a_run_that_died_counts(place: Place) -> None:
    die(place, "run")
    fields = metadata(place)
    begun = datetime.fromisoformat(fields["start_time"]) - timedelta(hours=1)
    place.put("log_run/metadata.json", json.dumps(fields | {"start_time": begun.isoformat()}).encode())
    log = place.logbook(resume=True)
    assert 3599 < log.elapsed < 3720
    store = open_store(place.url, place.options)
    assert json.loads(store.read("log_run/metadata.json"))["resumes"][0]["runtime_sec"] > 3599
