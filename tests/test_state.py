"""Process liveness, the status of a run by its metadata, and the fields that a resumed run keeps."""

from __future__ import annotations

import json
import math
import os
import pickle
import platform
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from notata import Experiment, ExperimentReader, Logbook, RunExistsError, StorageError, search
from notata._base import processes
from notata.run import state
from notata.run.state import RunState
from notata.store import Blob, Store, open_store
from notata.table.runs import read_runs
from notata.testing import FaultyBackend, Operation
from tests.backends import Place

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
HERE, OWN_PID = processes.identity().rpartition("/")[0].rpartition("/")[0], os.getpid()


@contextmanager
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs until its input is closed."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as found:
        try:
            yield found
        finally:
            found.kill()


def wait_for_death(pid: int) -> None:
    """Wait until the process is dead, but leave it as a zombie."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def blob(fields: object = None, age: float | None = None) -> Blob:
    data = json.dumps(fields).encode()
    return Blob(data, len(data), "1", age)


def judged(fields: dict[str, Any], age: float | None = None) -> RunState:
    return state.state_of(fields, blob(fields, age))


def ago(seconds: float) -> str:
    return (datetime.now().astimezone() - timedelta(seconds=seconds)).isoformat(timespec="milliseconds")


def seen_ago(found: RunState) -> float:
    assert found.last_seen.tzinfo is not None
    return (datetime.now(UTC) - found.last_seen).total_seconds()


class Stopped(datetime):
    """A clock that stands still."""

    moment = datetime.now(UTC)

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return cls.fromtimestamp(cls.moment.timestamp(), tz)


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the clock of notata and of this module: a busy machine may let seconds pass between two lines."""
    monkeypatch.setattr(state, "datetime", Stopped)
    monkeypatch.setitem(globals(), "datetime", Stopped)


# -- processes ---------------------------------------------------------------------------------------------


@linux
def test_a_process_is_alive_until_it_ends() -> None:
    with process() as other:
        name = processes.identity(other.pid)
        assert processes.alive(name) is True
        other.kill()
        wait_for_death(other.pid)
        assert Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        assert processes.alive(name) is False
        assert processes.identity(other.pid) == ""
        other.wait()
        assert not Path(f"/proc/{other.pid}").exists()
        assert processes.alive(name) is False


@linux
def test_a_stopped_process_is_alive() -> None:
    with process() as other:
        name = processes.identity(other.pid)
        os.kill(other.pid, 19)
        os.waitid(os.P_PID, other.pid, os.WSTOPPED | os.WNOWAIT)
        assert processes.alive(name) is True


@linux
def test_an_identity_is_one_process_s_and_stays() -> None:
    with process() as first, process() as second:
        names = [processes.identity(), processes.identity(first.pid), processes.identity(second.pid)]
        assert len(set(names)) == 3
        assert names == [processes.identity(pid) for pid in (os.getpid(), first.pid, second.pid)]
        script = "from notata._base import processes; import sys; print(processes.identity(int(sys.argv[1])))"
        command = [sys.executable, "-c", script, str(first.pid)]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == names[1]


@linux
def test_an_identity_holds_what_the_system_says() -> None:
    start = Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19]
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    namespace = str(Path("/proc/self/ns/pid").readlink())
    assert processes.identity() == f"{platform.node()}/{boot}/{namespace}/{os.getpid()}/{start}"


@linux
def test_a_process_id_that_is_used_again_is_another_process() -> None:
    with process() as other:
        begin, _, start = processes.identity(other.pid).rpartition("/")
        assert processes.alive(f"{begin}/{int(start) - 1}") is False
        assert processes.alive(f"{begin}/{start}") is True


@linux
def test_a_command_s_name_may_hold_anything(tmp_path: Path) -> None:
    odd = tmp_path / "a ) Z (b"
    odd.symlink_to("/bin/cat")
    with subprocess.Popen([str(odd)], stdin=subprocess.PIPE) as other:
        name = processes.identity(other.pid)
        assert processes.alive(name) is True
        assert name.rpartition("/")[2].isdigit()


@pytest.mark.parametrize("change", ["other host", "other boot", "other namespace"])
@linux
def test_a_process_of_another_machine_cannot_be_seen(change: str) -> None:
    host, boot, namespace, pid, start = processes.identity().rsplit("/", 4)
    if change == "other host":
        host = "elsewhere"
    if change == "other boot":
        boot = str(uuid.uuid4())
    if change == "other namespace":
        namespace = "pid:[1]"
    assert processes.alive("/".join([host, boot, namespace, pid, start])) is None


@given(st.text(max_size=20), st.text(max_size=10), st.booleans())
@example("²", "1", True)
@example("9" * 30, "1", True)
@example("9" * 5000, "1", True)
@example("0", "0", True)
@example("-1", "1", True)
@example("1/2", "x", True)
@example("\x00", "1", True)
def test_any_name_of_a_process_is_answered(pid: str, start: str, here: bool) -> None:
    found = processes.alive(f"{HERE if here else 'x'}/{pid}/{start}")
    assert found in (False, None)


def test_where_the_system_has_no_identity_the_state_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    name = processes.identity()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert processes.identity(os.getpid()) == ""
    assert processes.alive(name) is None
    assert processes.alive("") is None


# -- how a run stands --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("stopped")
@pytest.mark.parametrize("status", ["complete", "failed", "replacing"])
def test_the_stored_end_of_a_run_is_final(status: str) -> None:
    fields = {"status": status, "lease": {"process": processes.identity(), "heartbeat": 1.0, "beat": ago(1000)}}
    found = judged(fields, 7.0)
    assert (found.status, found.certain) == (status, True)
    assert seen_ago(found) == 7
    assert judged({"status": status}).status == status


def test_a_failure_has_its_reason_in_one_line() -> None:
    assert judged({"status": "failed", "failure_reason": "h = -1\nat step 7"}).why.endswith(": h = -1")
    assert judged({"status": "failed"}).why


@linux
@pytest.mark.usefixtures("stopped")
def test_a_run_whose_process_is_alive_is_running_without_heartbeats() -> None:
    with process() as other:
        lease = {"process": processes.identity(other.pid), "pid": other.pid, "host": "h", "heartbeat": 1.0}
        fields = {"status": "initialized", "lease": {**lease, "beat": ago(1e6)}}
        found = judged(fields, 1e6)
        assert (found.status, found.certain) == ("running", True)
        assert seen_ago(found) == 0
        other.kill()
        wait_for_death(other.pid)
        found = judged(fields, 1e6)
        assert (found.status, found.certain) == ("died", True)
        assert str(other.pid) in found.why
        assert seen_ago(found) == 1e6


@pytest.mark.usefixtures("stopped")
@pytest.mark.parametrize(
    ("silent", "heartbeat", "status", "certain"),
    [
        (0.0, 30.0, "running", True),
        (119.0, 30.0, "running", True),
        (125.0, 30.0, "died", True),
        (1e9, 30.0, "died", True),
        (1.0, 0.1, "running", True),
        (2.5, 0.1, "died", True),
        (1e6, None, "running", False),
        (1e6, 0, "running", False),
        (1e6, "30", "running", False),
    ],
)
@pytest.mark.parametrize("clock", ["storage", "owner"])
def test_a_run_of_another_machine_is_running_while_it_sends_heartbeats(
    silent: float, heartbeat: object, status: str, certain: bool, clock: str
) -> None:
    lease = {"process": "elsewhere/boot/pid:[1]/7/8", "pid": 7, "host": "elsewhere", "heartbeat": heartbeat}
    beat = ago(silent if clock == "owner" else 0 if silent > 100 else 1e5)  # a wrong clock is ignored
    found = judged({"status": "initialized", "lease": {**lease, "beat": beat}}, silent if clock == "storage" else None)
    assert (found.status, found.certain) == (status, certain)
    assert seen_ago(found) == pytest.approx(silent, abs=0.001)  # `ago` is in milliseconds


@pytest.mark.usefixtures("stopped")
@pytest.mark.parametrize("beat", ["2026-01-02T03:04:05", "", "now", None, 5, [], "2126-01-02T03:04:05+00:00"])
def test_an_invalid_beat_is_no_evidence_of_a_dead_run(beat: object) -> None:
    lease = {"process": "elsewhere/boot/pid:[1]/7/8", "heartbeat": 1.0, "beat": beat}
    found = judged({"status": "initialized", "lease": lease})
    assert found.status == "running"
    assert seen_ago(found) == 0


def test_a_run_of_an_earlier_version_may_be_running() -> None:
    fields = {"run_id": "a", "status": "initialized", "start_time": "2026-01-02T03:04:05.678901"}
    for age in (None, 1e6):
        found = judged(fields, age)
        assert (found.status, found.certain) == ("running", False)
    assert judged({**fields, "status": "complete"}).status == "complete"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-(10**400), 10**400) | st.floats() | st.text(max_size=8),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=5), parts, max_size=3),
    max_leaves=8,
)
TIMES = st.sampled_from(
    [
        "0001-01-01T00:00:00+23:59",
        "0001-01-01T00:00:00",
        "9999-12-31T23:59:59-23:59",
        "9999-12-31T23:59:59",
        "2026-01-02T03:04:05",
        "2026-01-02",
        "2026-01-02T03:04:05.123+05:45",
    ]
)
NAMES = st.sampled_from(["", "a/1/2", f"{HERE}/{'9' * 30}/1", f"{HERE}/²/1", f"{HERE}/1/1"])
LEASES = JSON | st.fixed_dictionaries(
    {}, optional={"process": JSON | NAMES, "pid": JSON, "host": JSON, "heartbeat": JSON, "beat": JSON | TIMES}
)
ENTRIES = JSON | st.lists(
    JSON | st.fixed_dictionaries({}, optional={"time": JSON | TIMES, "runtime_sec": JSON}), max_size=3
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "status": JSON | st.sampled_from(["initialized", "complete", "failed", "replacing"]),
        "failure_reason": JSON,
        "start_time": JSON | TIMES,
        "end_time": JSON,
        "runtime_sec": JSON,
        "lease": LEASES,
        "resumes": ENTRIES,
        "other": JSON,
    },
)
FRESH = {"run_id": "run", "status": "initialized", "start_time": "2026-11-22T10:00:00.000+01:00"}
FAR = RunState("died", datetime(2026, 11, 22, 8, tzinfo=UTC), "it is gone")


@settings(max_examples=300)
@given(FIELDS, st.none() | st.floats(0, 1e9))
@example({"lease": {"beat": "0001-01-01T00:00:00+23:59"}}, None)
@example({"lease": {"heartbeat": 10**400}}, 1.0)
@example({"lease": {"heartbeat": math.nan}}, 1e6)
@example({"lease": {"process": f"{HERE}/²/1"}}, None)
@example({"lease": {"process": f"{HERE}/{'9' * 30}/1"}}, None)
@example({"status": [], "lease": []}, None)
@example({"status": "failed", "failure_reason": {"a": 1}}, None)
def test_any_metadata_is_judged(fields: dict[str, Any], age: float | None) -> None:
    read = state.parsed(json.dumps(fields).encode())
    assert read is not None
    found = state.state_of(read, blob(fields, age))
    assert found.status in ("running", "complete", "failed", "replacing", "died")
    assert found.last_seen.tzinfo is not None
    assert isinstance(found.why, str)


@settings(max_examples=300)
@given(FIELDS)
@example({"runtime_sec": 10**400})
@example({"resumes": [{"runtime_sec": 10**400}]})
@example({"resumes": [{}, {"time": "0001-01-01T00:00:00"}]})
@example({"start_time": "0001-01-01T00:00:00+23:59"})
@example({"start_time": "9999-12-31T23:59:59-23:59"})
def test_a_run_with_any_metadata_can_be_resumed(fields: dict[str, Any]) -> None:
    seconds = state.previous_runtime(fields)
    assert isinstance(seconds, float)
    after = state.resumed_fields(FRESH, fields, FAR)
    assert after["status"] == "initialized"
    assert after["run_id"] == "run"
    assert isinstance(state.previous_runtime(after), float)
    assert after["resumes"][-1]["after"] == "died"
    json.dumps(after)


@pytest.mark.parametrize("heartbeat", [math.nan, math.inf])
def test_a_heartbeat_that_is_no_time_is_ignored(heartbeat: float) -> None:
    lease = {"process": "elsewhere/boot/pid:[1]/7/8", "heartbeat": heartbeat}
    assert judged({"status": "initialized", "lease": lease}, 1e6).certain is False


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"5", b"null", b'"text"', b"\xff", b"\x00", b"9" * 5000, b"[" * 100_000],
    ids=lambda data: str(data[:8]),
)
def test_what_is_no_object_is_no_metadata(data: bytes) -> None:
    assert state.parsed(data) is None
    place = Place("memory", f"memory://{uuid.uuid4().hex}")
    place.put("metadata.json", data)
    with pytest.raises(StorageError, match="it is not a JSON object") as caught:
        state.read_state(place.store())
    assert caught.value.key == "metadata.json"


def test_an_invalid_lease_is_ignored() -> None:
    for garbage in (None, 5, "x", [], [1], True):
        assert state.lease_of({"lease": garbage}) == {}
    assert state.lease_of({}) == {}


def test_a_look_is_one_read_and_changes_nothing() -> None:
    place = Place("memory", f"memory://{uuid.uuid4().hex}")
    log = place.logbook()
    log.text("notes", "x")
    before = place.files(logs=False)
    store = FaultyBackend(open_store(f"{place.url}/log_run"))
    fields, found = state.read_state(Store(store))
    assert store.operations == [Operation("get", "metadata.json")]
    assert place.files(logs=False) == before
    assert fields == json.loads(before["log_run/metadata.json"])
    assert found.status == "running"
    log.mark_failed("why")
    found = state.read_state(Store(store))[1]
    assert (found.status, found.why.partition(": ")[2]) == ("failed", "why")


def test_judge_and_resume_do_not_change_their_arguments() -> None:
    old = {"status": "failed", "start_time": FRESH["start_time"], "resumes": [{"time": "x"}], "runtime_sec": 3}
    copy, fresh = json.loads(json.dumps(old)), dict(FRESH)
    after = state.resumed_fields(fresh, old, FAR)
    after["resumes"].append({})
    assert (old, fresh) == (copy, FRESH)


# -- going on ----------------------------------------------------------------------------------------------


def test_a_resumed_run_keeps_its_fields_except_those_of_the_end() -> None:
    old = {
        "run_id": "run",
        "status": "failed",
        "start_time": "2026-11-22T08:00:00.000+01:00",
        "end_time": "2026-11-22T09:00:00.000+01:00",
        "runtime_sec": 3600.0,
        "failure_reason": "node lost",
        "failure_type": "OSError",
        "machine": "node17",
        "environment": {"host": "old"},
    }
    after = state.resumed_fields({**FRESH, "environment": {"host": "new"}}, old, RunState("failed", FAR.last_seen, ""))
    assert {name: after[name] for name in after if name != "resumes"} == {
        "run_id": "run",
        "status": "initialized",
        "start_time": "2026-11-22T08:00:00.000+01:00",
        "machine": "node17",
        "environment": {"host": "new"},
    }
    (entry,) = after["resumes"]
    assert (entry["time"], entry["after"], entry["failure_reason"]) == (FRESH["start_time"], "failed", "node lost")
    assert datetime.fromisoformat(entry["last_seen"]) == FAR.last_seen
    assert state.previous_runtime(after) == 3600.0


def test_the_time_of_several_resumptions_adds_up() -> None:
    """10 s and a death, 20 s and a death, then an end after 100 s in total, then a death after 5 s."""
    begun = datetime(2026, 11, 22, 8, tzinfo=UTC)

    def fresh(seconds: float) -> dict[str, Any]:
        return {**FRESH, "start_time": (begun + timedelta(seconds=seconds)).astimezone().isoformat()}

    def died(seconds: float) -> RunState:
        return RunState("died", begun + timedelta(seconds=seconds), "it is gone")

    fields = state.resumed_fields(fresh(1000), fresh(0), died(10))
    assert state.previous_runtime(fields) == pytest.approx(10)
    fields = state.resumed_fields(fresh(2000), fields, died(1020))
    assert state.previous_runtime(fields) == pytest.approx(30)
    ended = {**fields, "status": "complete", "end_time": "x", "runtime_sec": 100.0}
    fields = state.resumed_fields(fresh(3000), ended, RunState("complete", begun + timedelta(seconds=2070), ""))
    assert state.previous_runtime(fields) == pytest.approx(100)
    assert "runtime_sec" not in fields
    fields = state.resumed_fields(fresh(4000), fields, died(3005))
    assert state.previous_runtime(fields) == pytest.approx(105)
    assert [entry["after"] for entry in fields["resumes"]] == ["died", "died", "complete", "died"]
    assert fields["start_time"] == fresh(0)["start_time"]


@pytest.mark.parametrize("begun", ["2026-11-22T07:59:50", "2026-11-22T08:00:10+00:00", "soon", None, 7])
def test_an_invalid_start_gives_no_negative_duration(begun: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert state.previous_runtime(state.resumed_fields(FRESH, {"start_time": begun}, FAR)) >= 0
    assert state.previous_runtime(state.resumed_fields(FRESH, {}, FAR)) == 0.0


def test_a_run_without_a_resumption_has_spent_nothing() -> None:
    assert state.previous_runtime({}) == 0.0
    assert state.previous_runtime({"runtime_sec": 5.0}) == 0.0


def test_a_run_that_is_resumed_in_fact_says_all_of_it(tmp_path: Path) -> None:
    place = Place("local", str(tmp_path))
    for number in range(3):
        with Logbook("run", place.url, resume=True) as log:
            log.meta(**{f"part_{number}": number})
    fields = json.loads((tmp_path / "log_run" / "metadata.json").read_text())
    assert [entry["after"] for entry in fields["resumes"]] == ["complete", "complete"]
    assert {f"part_{n}": fields[f"part_{n}"] for n in range(3)} == {"part_0": 0, "part_1": 1, "part_2": 2}
    assert fields["runtime_sec"] >= fields["resumes"][1]["runtime_sec"] >= fields["resumes"][0]["runtime_sec"] > 0
    times = [fields["start_time"], *(entry["time"] for entry in fields["resumes"]), fields["end_time"]]
    assert times == sorted(times)


# -- what a refusal says of the run that is there ----------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "options", "status"),
    [
        (Logbook.mark_complete, {"resume": "unfinished"}, "complete"),
        (Logbook.mark_complete, {}, "complete"),
        (lambda log: log.mark_failed("h = -1"), {}, "failed"),
        (lambda log: log.meta(still="here"), {"resume": True}, "running"),
    ],
)
def test_a_refusal_has_the_status_and_the_reader_of_the_run_that_is_there(
    end: Callable[[Logbook], None], options: dict[str, Any], status: str, tmp_path: Path
) -> None:
    log = Logbook("once", tmp_path, environment=False, heartbeat=0)
    log.text("result", "computed once")
    end(log)
    before = (tmp_path / "log_once/metadata.json").read_bytes()
    with pytest.raises(RunExistsError) as caught:
        Logbook("once", tmp_path, environment=False, heartbeat=0, **options)
    assert caught.value.status == status
    assert caught.value.reader is not None
    assert caught.value.reader.load_text("result") == "computed once"
    assert (tmp_path / "log_once/metadata.json").read_bytes() == before


def test_an_experiment_hands_both_on(tmp_path: Path) -> None:
    experiment = Experiment("decay", tmp_path, environment=False, heartbeat=0)
    experiment.add(dt=0.1).mark_complete()
    with pytest.raises(RunExistsError) as caught:
        experiment.add(dt=0.1)
    assert caught.value.status == "complete"
    assert caught.value.reader is not None
    assert caught.value.reader.params == {"dt": 0.1}


def test_a_refusal_that_is_pickled_leaves_the_storage_options_behind() -> None:
    url, options = f"memory://{uuid.uuid4().hex}", {"token": "not-to-be-told"}
    Logbook("once", url, storage_options=options).mark_complete()
    with pytest.raises(RunExistsError) as caught:
        Logbook("once", url, storage_options=options)
    data = pickle.dumps(caught.value)
    assert b"not-to-be-told" not in data
    copy = pickle.loads(data)
    assert (type(copy), str(copy), copy.status, copy.url) == (
        RunExistsError,
        str(caught.value),
        "complete",
        caught.value.url,
    )
    assert copy.reader is None


def test_a_complete_run_that_is_opened_again_says_that_it_was_complete(tmp_path: Path) -> None:
    Logbook("once", tmp_path, environment=False, heartbeat=0).mark_complete()
    with pytest.raises(ValueError), Logbook("once", tmp_path, resume=True, environment=False, heartbeat=0):
        raise ValueError("h = -1")
    stored = json.loads((tmp_path / "log_once/metadata.json").read_text())
    assert (stored["status"], [entry["after"] for entry in stored["resumes"]]) == ("failed", ["complete"])


# -- a run that ends while it is looked at -----------------------------------------------------------------


def _followed_end(url: str) -> str:
    said: list[str] = []
    for _ in search.follow(url, tell=said.append, interval=0):
        pass
    return said[-1].rpartition(": ")[2]


def _status_in_experiment(url: str) -> str:
    return str(ExperimentReader(url.rpartition("/runs/")[0]).table()[0]["status"])


LOOKS: dict[str, Callable[[str], str]] = {
    "read_state": lambda url: state.read_state(open_store(url))[1].status,
    "search.follow": _followed_end,
    "search.runs": lambda url: next(iter(search.runs(url))).status,
    "search.table": lambda url: search.table(url)[0]["status"],
    "ExperimentReader.table": _status_in_experiment,
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=list(LOOKS))
def test_a_run_that_ends_between_the_read_and_the_check_of_its_process_is_not_dead(
    look: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Experiment("sweep", tmp_path).add(n=1)

    def alive(_: str) -> bool:
        run.mark_complete()  # and the process exits
        return False

    monkeypatch.setattr(processes, "alive", alive)
    assert look(str(run.url)) == "complete"


def test_of_a_dead_run_only_the_metadata_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Experiment("sweep", tmp_path).add(n=1).info("running")
    monkeypatch.setattr(processes, "alive", lambda _: False)
    backend = FaultyBackend(open_store(tmp_path / "sweep").backend)
    (row,) = read_runs(Store(backend), ["sweep_n_1"])
    assert (row.status, row.params) == ("died", {"n": 1})
    read = [step.key.rpartition("/")[2] for step in backend.operations if step.verb == "get"]
    assert (read.count("metadata.json"), read.count("params.yaml")) == (3, 1)  # before its listing, after it, and again
