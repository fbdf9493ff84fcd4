"""Calls in flight: bounded, each result kept under its name, and nothing left behind when they are cancelled."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import CancelledError, Future
from typing import Any

import pytest
from fsspec.callbacks import Callback
from hypothesis import given
from hypothesis import strategies as st

from notata._base.threads import Pool
from notata.store.in_flight import InFlight, started_in_thread, then

MIB = 2**20


class Calls:
    """Calls that end when the test releases them, or when nothing else can continue."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.flying: dict[int, tuple[int, Future[int]]] = {}
        self.most = self.most_bytes = 0

    def start(self, number: int, size: int) -> Future[int]:
        future: Future[int] = Future()
        future.set_running_or_notify_cancel()
        with self.lock:
            self.flying[number] = size, future
            self.most = max(self.most, len(self.flying))
            self.most_bytes = max(self.most_bytes, sum(size for size, _ in self.flying.values()))
        started_in_thread(self.end, number)
        return future

    def end(self, number: int) -> None:
        with self.lock:
            _, future = self.flying.pop(number)
        if number % 7 == 3:
            future.set_exception(OSError(f"no {number}"))
        else:
            future.set_result(number)


@given(st.lists(st.integers(0, 20), max_size=60), st.integers(1, 5), st.integers(1, 30))
def test_they_are_bounded_and_none_is_lost(sizes: list[int], at_once: int, bytes_at_once: int) -> None:
    calls = Calls()
    flying = InFlight[int, int](at_once, bytes_at_once)
    with flying.until_landed():
        for number, size in enumerate(sizes):
            flying.begin(number, size, calls.start, number, size)
    assert calls.most <= at_once
    assert calls.most_bytes <= max([bytes_at_once, *sizes])
    assert flying.bytes == 0
    assert flying.results == {number: number for number in range(len(sizes)) if number % 7 != 3}
    assert sorted(flying.errors) == [number for number in range(len(sizes)) if number % 7 == 3]
    if flying.errors:
        with pytest.raises(OSError, match="no 3"):
            InFlight.check(flying)


def test_two_calls_of_one_name_are_counted_apart() -> None:
    """The list of a store may contain a name twice."""
    flying, futures = InFlight[str, int](), [Future[int](), Future[int]()]
    for future in futures:
        flying.begin("log_a", 5, lambda one: one, future)
    futures[0].set_result(1)
    assert flying.bytes == 5
    futures[1].set_result(2)
    with flying.until_landed():
        assert flying.bytes == 0
    assert flying.results == {"log_a": 2}


class Held:
    """A large object of the caller."""


def failed() -> Future[int]:
    """Return a call that failed before anyone could wait for it."""
    future: Future[int] = Future()
    future.set_exception(OSError("no"))
    return future


def begun() -> weakref.ref[Held]:
    held = Held()
    flying = InFlight[str, int]()
    flying.begin("one", 1, failed)
    flying.begin("two", 1, lambda: then(failed(), lambda result: failed()))
    flying.begin("three", 1, lambda: then(started(1), lambda result: failed()))
    flying.land()
    assert len(flying.errors) == 3
    return weakref.ref(held)


def started(result: int) -> Future[int]:
    future: Future[int] = Future()
    future.set_result(result)
    return future


def test_a_call_that_failed_at_once_holds_nothing_of_its_callers() -> None:
    """The future completes in the caller's own thread. An error raised there would keep the caller's frames alive."""
    gc.collect()
    gc.disable()
    try:
        assert begun()() is None
    finally:
        gc.enable()


def test_a_call_that_cannot_be_started_has_failed() -> None:
    def start() -> Future[int]:
        raise OSError("no way")

    flying = InFlight[str, int]()
    with flying.until_landed():
        flying.begin("a", 10, start)
    assert (str(flying.errors["a"]), flying.bytes) == ("no way", 0)


def test_an_interrupt_gives_up_what_is_in_flight() -> None:
    flying, given_up, future = InFlight[str, int](), [], Future[int]()
    with pytest.raises(KeyboardInterrupt), flying.until_landed(lambda: given_up.append(True)):
        flying.begin("a", 1, lambda: future)
        raise KeyboardInterrupt
    assert (given_up, future.cancelled(), flying.results, flying.bytes) == ([True], True, {}, 0)
    assert isinstance(flying.errors["a"], CancelledError)


def test_the_callback_gets_each_ended_call() -> None:
    told: list[int] = []

    class Told(Callback):  # type: ignore[misc]
        def absolute_update(self, value: int) -> None:
            told.append(value)

    flying = InFlight[int, int](1, callback=Told())
    with flying.until_landed():
        for number in range(5):
            flying.begin(number, 1, started_in_thread, abs, number)
    assert told == sorted(told)
    assert told[-1] == 5


def test_one_call_after_another() -> None:
    assert then(started_in_thread(len, "four"), lambda size: started_in_thread(str, size)).result() == "4"
    with pytest.raises(ZeroDivisionError):
        then(started_in_thread(divmod, 1, 0), lambda _: started_in_thread(str, 1)).result()
    with pytest.raises(TypeError):
        then(started_in_thread(len, "four"), lambda size: started_in_thread(len, size)).result()

    def refused(_: object) -> Future[Any]:
        raise OSError("no way")

    with pytest.raises(OSError, match="no way"):
        then(started_in_thread(len, "four"), refused).result()


def test_a_cancelled_chain_makes_no_further_call() -> None:
    first, begun = Future[int](), []
    flying = InFlight[str, int]()

    def go_on(value: int) -> Future[int]:
        begun.append(value)
        return Future()

    with pytest.raises(KeyboardInterrupt), flying.until_landed():
        flying.begin("a", 1, lambda: then(first, go_on))
        raise KeyboardInterrupt
    assert (first.cancelled(), begun, flying.bytes) == (True, [], 0)


def test_a_call_is_made_here_where_no_thread_starts_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def refused(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread at interpreter shutdown")

    def call() -> str:
        made.append(threading.current_thread().name)
        return "done"

    with Pool(2, "test") as pool:
        release = threading.Event()
        busy = started_in_thread(release.wait, pool=pool)  # a thread that later takes the call that the pool has queued
        monkeypatch.setattr(threading.Thread, "start", refused)
        assert started_in_thread(call, pool=pool).result() == "done"
        monkeypatch.undo()
        release.set()
        assert busy.result()
    assert made == [threading.current_thread().name]


def test_a_call_that_was_cancelled_before_a_thread_took_it_is_not_made() -> None:
    made: list[int] = []
    release = threading.Event()
    with Pool(1, "test") as pool:
        pool.submit(release.wait)
        waiting = started_in_thread(made.append, 1, pool=pool)
        assert waiting.cancel()
        release.set()
    assert made == []
