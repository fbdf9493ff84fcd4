"""An interrupt at any instruction leaves nothing locked, in notata's classes and in those of the standard library."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from notata._base.threads import Bell, Condition, Event, Outcome, Pool, start_thread, whole
from notata.store.in_flight import InFlight, started_in_thread, then
from tests.at_instruction import At

FILES = ("threads.py", "in_flight.py", "threading.py", "_base.py", "thread.py")
SECONDS = 120  # until something hangs


def interrupted(call: Callable[[], object], after: Callable[[], object], least: int = 3) -> None:
    """Interrupt a call at each of its places; each time another call in a thread must still end."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    for position in itertools.count():
        at = At(position, interrupt, FILES)
        with suppress(KeyboardInterrupt):
            at.call(call)
        ended = started_in_thread(after, pool=Pool(1, "after"))
        assert ended.exception(SECONDS) is None, position
        if not at.came:
            break
    assert position >= least


@pytest.mark.parametrize("timeout", [None, 0.001])
def test_a_condition_can_be_taken_by_others(timeout: float | None) -> None:
    changed = Condition()

    def notify() -> None:
        with changed:
            changed.notify_all()

    def wait() -> None:
        with changed:
            if timeout is None:
                start_thread(notify, "notify")
            changed.wait(timeout or SECONDS)

    interrupted(wait, notify)


def set_result(outcome: Outcome[int]) -> None:
    with suppress(InvalidStateError):  # it has already completed
        outcome.set_result(1)


@pytest.mark.parametrize("name", ["result", "exception", "done", "cancelled", "cancel", "running"])
def test_a_future_can_be_ended_by_others(name: str) -> None:
    made: list[Outcome[int]] = []

    def use() -> None:
        outcome = Outcome[int]()
        made.append(outcome)
        if name in {"result", "exception"}:
            start_thread(partial(set_result, outcome), "end")
        getattr(outcome, name)()

    def end() -> None:
        for outcome in made:
            set_result(outcome)
            assert outcome.done()

    interrupted(use, end)


def test_an_event_can_be_set_and_waited_for() -> None:
    made: list[Event] = []

    def use() -> None:
        event = Event()
        made.append(event)
        start_thread(event.set, "set")
        assert event.wait(SECONDS)
        event.set()

    def after() -> None:
        for event in made:
            event.set()
            assert event.wait(SECONDS)

    interrupted(use, after)


def test_a_pool_makes_the_calls_that_come_later() -> None:
    pool, done = Pool(2, "test"), Bell()

    def later() -> None:
        pool.submit(done.ring)
        assert done.wait(SECONDS)

    interrupted(lambda: pool.submit(int), later)


def test_a_thread_that_was_started_runs() -> None:
    def use() -> None:
        ran = Bell()
        start_thread(ran.ring, "one")
        assert ran.wait(SECONDS)

    interrupted(use, use)


@pytest.mark.parametrize("pool", [None, Pool(2, "test")])
def test_calls_in_flight_end(pool: Pool | None) -> None:
    begun: list[Future[Any]] = []

    def start(number: int) -> Future[int]:
        future = started_in_thread(abs, number, pool=pool)
        begun.append(future)
        return then(future, lambda result: started_in_thread(abs, result, pool=pool)) if number % 2 else future

    def use() -> None:
        flying = InFlight[int, int](at_once=2)
        with flying.until_landed():
            for number in range(4):
                flying.begin(number, 1, start, number)

    def after() -> None:
        for future in begun:
            with suppress(Exception):
                future.result()

    interrupted(use, after, 100)


def test_a_pool_that_ends_with_its_block_has_made_all_calls() -> None:
    made: list[int] = []
    with Pool(3, "ending") as pool:
        for number in range(50):
            pool.submit(lambda number=number: made.append(number))  # type: ignore[misc]
    assert sorted(made) == list(range(50))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ending_")]


def test_what_a_whole_call_raises_is_raised() -> None:
    def fail() -> None:
        raise OSError("no more threads")

    with pytest.raises(OSError, match="no more threads"):
        whole(fail)


def test_there_is_no_outcome_yet() -> None:
    with pytest.raises(TimeoutError, match="no result after 0 s"):
        Outcome[int]().result(0)


COLLECTING = """
import gc, threading
from notata._base.nesting import thread_frames

over = threading.Event()

def start_threads():
    while not over.is_set():
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()

for _ in range(4):
    threading.Thread(target=start_threads, daemon=True).start()
gc.set_threshold(3)
for _ in range(1000):
    cycle = [threading.local()]  # to free it, the interpreter needs the lock that it holds for the frames
    cycle[0].value = 1
    cycle.append(cycle)
    del cycle
    thread_frames()
over.set()
"""


def test_the_frames_of_all_threads_are_read_without_a_garbage_collection() -> None:
    done = subprocess.run([sys.executable, "-c", COLLECTING], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(sys.platform != "linux", reason="it looks whether the main thread sleeps in /proc")
def test_an_interrupt_ends_a_wait_although_a_package_has_its_own_handler_of_sigint() -> None:
    """polars installs one that restarts interrupted system calls, so that a wait without timeout goes on."""
    bell, main = Bell(), threading.main_thread()
    state = Path(f"/proc/self/task/{main.native_id}/stat")

    def sleeps() -> bool:
        frame = sys._current_frames()[main.ident or 0]  # noqa: SLF001
        return frame.f_code is Bell.wait.__code__ and state.read_text().rpartition(")")[2].split()[0] == "S"

    def interrupt() -> None:
        while not all(sleeps() for _ in range(50)):
            pass
        signal.pthread_kill(main.ident or 0, signal.SIGINT)
        late = not over.wait(SECONDS)
        outcome.set_result(late)
        bell.ring()

    over, outcome = threading.Event(), Future[bool]()
    signal.siginterrupt(signal.SIGINT, False)
    try:
        with pytest.raises(KeyboardInterrupt):
            start_thread(interrupt, "interrupts")
            bell.wait()
            pytest.fail("the bell rang first")
    finally:
        signal.siginterrupt(signal.SIGINT, True)
        over.set()
    assert not outcome.result()
