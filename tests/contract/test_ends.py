"""Ends of a process: its log is stored and its status is correct. Real processes, observed by a reader."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from notata import LogReader
from notata._base import processes
from notata.store.unfinished import new_name
from tests import ending
from tests.backends import Place
from tests.contract.conftest import REAL, make_place
from tests.nursery import Script

End: TypeAlias = Callable[..., int]

ROOT = Path(__file__).parents[2]
UNENDED = "the process ended without mark_complete() or mark_failed()"


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A place that other processes can reach by *host name*, so that names are resolved again at exit."""
    yield from by_name(request.param, request)


@pytest.fixture(params=["gcs", *REAL])
def other(request: pytest.FixtureRequest) -> Iterator[Place]:
    """The same for the other buckets, where a request at exit or after a fork might behave differently."""
    yield from by_name(request.param, request)


def by_name(name: str, request: pytest.FixtureRequest) -> Iterator[Place]:
    place = make_place(name, request)
    options = {name: str(value).replace("127.0.0.1", "localhost") for name, value in place.options.items()}
    yield Place(place.name, place.url, options)
    place.store().clear()


@pytest.fixture(scope="module")
def end() -> End:
    """Run the script to its end and return its exit code. With `fresh`, it starts as a separate process."""

    def end(
        place: Place,
        how: Any,
        sent: signal.Signals | None = None,
        *,
        cold: bool = False,
        running: bool | None = True,
        fresh: bool = False,
    ) -> int:
        arguments = [how.__name__, place.url, json.dumps(place.options), *(["cold"] if cold else [])]
        process: Any = started(arguments) if fresh else Script("tests.ending", arguments)
        assert process.stdout.readline() == "ready\n", process.communicate()
        assert running is None or (reader(place).state.status == "running") is running
        if sent is not None:
            process.send_signal(sent)
            process.wait()
        _, errors = process.communicate()
        assert "notata, at exit" not in errors, errors
        return int(process.returncode)

    return end


def started(arguments: list[str]) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "tests.ending", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def reader(place: Place) -> LogReader:
    return LogReader(f"{place.url}/log_run", storage_options=place.options)


def metadata(place: Place) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(place.bytes("log_run/metadata.json"))
    return fields


@pytest.mark.parametrize(
    ("how", "code", "reason", "kind"),
    [
        (ending.raise_in_the_block, 1, "h = -1", "ValueError"),
        (ending.raise_without_a_block, 1, "h = -1", "ValueError"),
        (ending.exit_with_3, 3, UNENDED, None),
        (ending.exit_with_3_in_the_block, 3, "sys.exit(3)", "SystemExit"),
        (ending.forget_to_end, 0, UNENDED, None),
    ],
)
def test_a_process_that_does_not_end_its_run_well(
    place: Place, end: End, how: Any, code: int, reason: str, kind: str
) -> None:
    assert end(place, how, cold=True) == code
    fields = metadata(place)
    assert (fields["status"], fields["failure_reason"], fields.get("failure_type")) == ("failed", reason, kind)
    assert "end_time" in fields
    assert place.log()[-1] == f"ERROR Marked failed: {reason}"
    assert "INFO begun" in place.log()
    assert reader(place).state.status == "failed"
    debug = [name.rpartition("/")[2] for name in place.names() if "/debug/" in name]
    assert debug == ([] if kind is None else ["failure.json", "traceback.txt"])


def test_the_exception_that_ended_a_script_is_recorded_with_its_cause(place: Place, end: End) -> None:
    end(place, ending.raise_without_a_block)
    told = json.loads(place.bytes("log_run/artifacts/debug/failure.json"))
    assert (told["type"], told["cause"]["type"]) == ("ValueError", "KeyError")
    assert told["frames"][-1]["code"] == 'raise ValueError("h = -1") from error'
    text = place.bytes("log_run/artifacts/debug/traceback.txt").decode()
    assert text.endswith("ValueError: h = -1\n")
    assert "The above exception was the direct cause" in text


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
def test_a_process_that_ends_its_run_well(place: Place, end: End, cold: bool) -> None:
    assert end(place, ending.end_well, cold=cold, fresh=True) == 0
    assert metadata(place)["status"] == reader(place).state.status == "complete"
    assert place.log()[1:] == ["INFO begun", "INFO Marked complete"]


def test_sys_exit_with_0_leaves_a_block_well(place: Place, end: End) -> None:
    assert end(place, ending.exit_with_0_in_the_block) == 0
    assert metadata(place)["status"] == "complete"
    assert place.log()[-1] == "INFO Marked complete"


def test_sys_exit_with_0_in_a_signal_handler_interrupts_a_block(place: Place, end: End) -> None:
    assert end(place, ending.exit_with_0_in_a_signal_handler, signal.SIGTERM) == 0
    fields = metadata(place)
    assert (fields["status"], fields["failure_reason"]) == ("failed", "sys.exit(0) in a signal handler")


def test_a_function_of_atexit_may_end_a_run_on_a_disk(end: End, tmp_path: Path) -> None:
    place, failing = Place("local", str(tmp_path / "a")), Place("local", str(tmp_path / "b"))
    assert end(place, ending.end_by_atexit, fresh=True) == 0
    assert metadata(place)["status"] == "complete"
    assert place.log()[-2:] == ["INFO from atexit", "INFO Marked complete"]
    assert end(failing, ending.end_by_atexit_after_an_error, fresh=True) == 1
    assert (metadata(failing)["status"], metadata(failing)["failure_reason"]) == ("failed", "h = -1")


@pytest.mark.parametrize("how", [ending.wait_for_sigterm, ending.wait_for_sigterm_in_the_block])
def test_sigterm_when_asked_to_handle_it(place: Place, end: End, how: Any) -> None:
    assert end(place, how, signal.SIGTERM, cold=True) == 143
    fields = metadata(place)
    assert (fields["status"], fields["failure_reason"]) == ("failed", "SIGTERM")
    assert fields["failure_type"] == "notata.errors.Terminated"
    assert place.log()[-1] == "ERROR Marked failed: SIGTERM"
    assert b", in ready\n" in place.bytes("log_run/artifacts/debug/traceback.txt")
    assert reader(place).state.status == "failed"


def test_an_interrupt_without_a_block(place: Place, end: End) -> None:
    assert end(place, ending.wait, signal.SIGINT) == -signal.SIGINT
    assert metadata(place)["failure_type"] == "KeyboardInterrupt"
    assert place.log()[-1] == "ERROR Marked failed: KeyboardInterrupt"


@pytest.mark.parametrize(
    ("how", "sent"), [(ending.wait, signal.SIGKILL), (ending.wait, signal.SIGTERM), (ending.exit_at_once, None)]
)
def test_a_process_that_cannot_say_how_it_ended(
    place: Place, end: End, how: Any, sent: signal.Signals | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert end(place, how, sent) == (0 if sent is None else -sent)
    before = place.bytes("log_run/metadata.json")
    state = reader(place).state
    assert (state.status, state.certain) == ("died", True)
    assert "is gone" in state.why
    monkeypatch.setattr(processes, "machine", lambda: "another machine")
    assert reader(place).state.status == "running"  # from another machine, until heartbeats are missed
    assert place.bytes("log_run/metadata.json") == before
    assert metadata(place)["status"] == "initialized"


def test_a_thread_that_outlives_the_main_one(place: Place, end: End) -> None:
    assert end(place, ending.end_in_another_thread, cold=True, running=None) == 0
    assert metadata(place)["status"] == "complete"
    assert place.bytes("log_run/artifacts/late.txt") == b"by the thread"


def test_a_forked_child_does_not_end_the_run_and_its_line_is_there(place: Place, end: End) -> None:
    assert end(place, ending.fork) == 0
    assert sorted(place.log()) == [
        "INFO Logbook initialized",
        "INFO Marked complete",
        "INFO begun",
        "INFO from the child",
    ]
    assert metadata(place)["status"] == "complete"


def test_a_thread_that_waits_for_the_main_one(place: Place, end: End) -> None:
    assert end(place, ending.join_the_main_thread) == 0
    assert metadata(place)["failure_reason"] == UNENDED


def test_a_thread_that_does_nothing_with_the_run(tmp_path: Path, end: End) -> None:
    place = Place("local", str(tmp_path))
    assert end(place, ending.leave_a_slow_thread) == 0
    assert metadata(place)["failure_reason"] == UNENDED


def test_a_script_without_a_run_does_not_wait_at_exit() -> None:
    script = (
        "import threading, notata\n"
        "from notata._base import exits\n"
        "exits.PATIENCE = 1000\n"
        "threading.Thread(target=threading.main_thread().join).start()"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=50).returncode == 0


def test_a_signal_during_the_work_at_exit(place: Place, end: End) -> None:
    assert end(place, ending.get_sigterm_at_exit, cold=True) == 0
    assert metadata(place)["failure_reason"] == UNENDED
    assert json.loads(place.bytes("log_other/metadata.json"))["failure_reason"] == UNENDED
    assert place.log()[-1] == "INFO from the callback"


def test_a_signal_while_threads_are_waited_for(place: Place, end: End) -> None:
    assert end(place, ending.get_sigterm_while_waiting_for_threads, cold=True) == 0
    assert metadata(place)["failure_reason"] == "SIGTERM"


def test_after_sigterm_the_exit_does_not_wait_for_threads(place: Place, end: End) -> None:
    assert end(place, ending.get_sigterm_beside_a_thread, signal.SIGTERM) == 143
    assert metadata(place)["failure_reason"] == "SIGTERM"


def test_a_second_sigterm_does_not_interrupt_the_end(place: Place, end: End) -> None:
    assert end(place, ending.get_sigterm_in_the_callback, signal.SIGTERM) == 143
    assert metadata(place)["failure_reason"] == "SIGTERM"
    assert place.log()[-2:] == ["ERROR Marked failed: SIGTERM", "INFO after the signal"]
    assert "log_run/manifest.json" in place.names()


def test_sigterm_in_the_last_steps_of_an_end_does_not_change_the_status(place: Place, end: End) -> None:
    assert end(place, ending.get_sigterm_in_the_callback) == 143
    assert metadata(place)["status"] == "complete"
    assert reader(place).verify().ok


def test_logging_may_be_configured_while_lines_wait(place: Place, end: End) -> None:
    assert end(place, ending.configure_logging, running=False) == 0
    assert place.log()[-2:] == ["INFO after that", "INFO Marked complete"]


@pytest.mark.parametrize(
    ("how", "sent", "code", "reason"),
    [
        (ending.end_well, None, 0, None),
        (ending.raise_without_a_block, None, 1, "h = -1"),
        (ending.wait_for_sigterm, signal.SIGTERM, 143, "SIGTERM"),
        (ending.forget_to_end, None, 0, UNENDED),
        (ending.fork, None, 0, None),
    ],
)
def test_other_buckets_too(
    other: Place, end: End, how: Any, sent: signal.Signals | None, code: int, reason: str | None
) -> None:
    assert end(other, how, sent, cold=True) == code
    assert metadata(other).get("failure_reason") == reason
    assert reader(other).state.status == ("complete" if reason is None else "failed")
    assert "INFO begun" in other.log()
    assert other.log()[-1] == ("INFO Marked complete" if reason is None else f"ERROR Marked failed: {reason}")


def test_a_killed_process_leaves_a_dead_run(other: Place, end: End) -> None:
    assert end(other, ending.wait, signal.SIGKILL) == -signal.SIGKILL
    assert reader(other).state.status == "died"


def test_what_a_killed_process_left_there_is_removed_by_who_resumes_its_run(other: Place, end: End) -> None:
    end(other, ending.wait, signal.SIGKILL)
    name = [sys.executable, "-c", "from notata.store.unfinished import new_name; print(new_name())"]
    ended = subprocess.run(name, capture_output=True, text=True, check=True).stdout.strip()
    for left in (ended, new_name()):
        other.put(f"log_run/data/{left}", b"half")
    store = other.store(timeout=10).below("log_run")
    assert store.list("data") == []
    other.logbook(resume=True).mark_complete()
    left_there = [key for key in other.names() if ".notata-" in key]
    assert len(left_there) == (2 if other.is_s3 else 1)  # on S3 writers leave no such objects
    assert not any(ended in key for key in left_there if not other.is_s3)
