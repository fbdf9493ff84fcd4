"""Calls at later times, in one thread of the process; and the first heartbeat of a run, which waits there."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from notata._base.alarms import Alarms
from notata.run.heartbeat import Heartbeat

SECONDS = 60
LATER = 1e6


class Clock:
    """A clock that a test moves. An alarm at 0 then wakes the thread, which makes all calls that are due."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def names() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


def test_a_call_is_made_when_it_is_due() -> None:
    made = threading.Event()
    Alarms().set(made.set, time.monotonic() + 0.001)
    assert made.wait(SECONDS)


def test_an_earlier_call_does_not_wait_for_a_later_one() -> None:
    alarms, made = Alarms(), threading.Event()
    alarms.set(bool, time.monotonic() + LATER)
    alarms.set(made.set, time.monotonic())
    assert made.wait(SECONDS)
    alarms.cancel(bool)


def test_a_cancelled_call_is_not_made() -> None:
    clock, made = Clock(), threading.Event()
    alarms, calls = Alarms(clock), list[str]()

    def call() -> None:
        calls.append("cancelled")

    alarms.set(call, 1.0)
    alarms.cancel(call)
    alarms.cancel(call)
    clock.now = 2.0
    alarms.set(made.set, 0.0)
    assert made.wait(SECONDS)
    assert calls == []


def test_a_call_that_is_set_again_is_made_once_at_the_new_time() -> None:
    clock, made = Clock(), threading.Event()
    alarms, calls = Alarms(clock), list[float]()

    def call() -> None:
        calls.append(clock.now)

    alarms.set(call, 1.0)
    alarms.set(call, 5.0)
    for now in (2.0, 5.0):
        clock.now, made = now, threading.Event()
        alarms.set(made.set, 0.0)
        assert made.wait(SECONDS)
    done = threading.Event()
    alarms.set(done.set, 0.0)
    assert done.wait(SECONDS)
    assert calls == [5.0]


def test_a_call_that_raises_does_not_end_the_others() -> None:
    alarms, made = Alarms(), threading.Event()

    def fail() -> None:
        raise ValueError("on purpose")

    alarms.set(fail, 0.0)
    alarms.set(made.set, 0.0)
    assert made.wait(SECONDS)


def test_all_calls_share_one_thread_that_ends_when_none_is_left() -> None:
    clock, threads = Clock(), list[threading.Thread]()
    alarms, made = Alarms(clock), threading.Event()

    def call() -> None:
        threads.append(threading.current_thread())

    for _ in range(10):
        alarms.set(lambda: call(), 1.0)
    clock.now = 2.0
    alarms.set(made.set, 0.0)
    assert made.wait(SECONDS)
    assert len(threads) == 10
    assert len(set(threads)) == 1
    threads[0].join(SECONDS)
    assert not threads[0].is_alive()
    again = threading.Event()
    alarms.set(again.set, 0.0)
    assert again.wait(SECONDS)


def test_a_refused_thread_is_an_error_and_the_next_call_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    alarms, made = Alarms(), threading.Event()

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            alarms.set(lambda: made.set(), 0.0)
    assert not made.is_set()
    alarms.set(lambda: made.set(), 0.0)
    assert made.wait(SECONDS)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_makes_no_calls_of_its_parent() -> None:
    script = """
import os, threading
from notata._base.alarms import Alarms

now, calls = [0.0], []
alarms, made = Alarms(lambda: now[0]), threading.Event()
alarms.set(lambda: calls.append("of the parent"), 1.0)
child = os.fork()
now[0] = 2.0
if child:
    os.waitpid(child, 0)
else:
    alarms.set(made.set, 2.0)
    print(made.wait(60), calls, flush=True)
    os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "True []\n"


# -- heartbeats --------------------------------------------------------------------------------------------


class Waiting(Alarms):
    """Alarms that a test rings by hand."""

    def __init__(self) -> None:
        self.calls: dict[Callable[[], object], float] = {}

    def set(self, call: Callable[[], object], at: float) -> None:
        self.calls[call] = at

    def cancel(self, call: Callable[[], object]) -> None:
        self.calls.pop(call, None)

    def ring(self) -> None:
        calls, self.calls = self.calls, {}
        for call in calls:
            call()


def test_a_run_that_stored_something_meanwhile_waits_again() -> None:
    waiting, beats = Waiting(), list[str]()
    heartbeat = Heartbeat(waiting)
    heartbeat.start(30.0, lambda: beats.append("beat"))
    heartbeat.note_change()
    waiting.ring()
    assert [*waiting.calls.values()] == [heartbeat.last + 30.0]
    assert beats == []
    heartbeat.stop()
    assert waiting.calls == {}


def test_the_thread_starts_with_the_first_heartbeat_that_is_due() -> None:
    waiting, beaten = Waiting(), threading.Event()
    heartbeat = Heartbeat(waiting)
    heartbeat.start(30.0, beaten.set)
    heartbeat.last -= 31.0
    waiting.ring()
    assert beaten.wait(SECONDS)
    assert waiting.calls == {}
    heartbeat.stop()


def test_a_heartbeat_is_sent_although_no_thread_can_start(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting, beats = Waiting(), list[str]()
    heartbeat = Heartbeat(waiting)
    heartbeat.start(30.0, lambda: beats.append("beat"))
    heartbeat.last -= 31.0

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    waiting.ring()
    assert beats == ["beat"]
    assert len(waiting.calls) == 1  # the next one


def test_a_stopped_heartbeat_stays_stopped() -> None:
    waiting, beats = Waiting(), list[str]()
    heartbeat = Heartbeat(waiting)
    heartbeat.start(30.0, lambda: beats.append("beat"))
    heartbeat.last -= 31.0
    call = next(iter(waiting.calls))
    heartbeat.stop()
    call()
    assert beats == []
    assert waiting.calls == {}
