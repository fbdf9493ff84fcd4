"""An interrupt or a signal handler may come before any instruction: the run continues, and no write is lost."""

from __future__ import annotations

import asyncio
import itertools
import json
import pickle
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
from fsspec.asyn import AsyncFileSystem

from notata import ConflictError, Logbook
from notata.store.backends.remote import Connection
from tests.at_instruction import At
from tests.backends import Place

HELD = (
    "journal.py", "growing_file.py", "processes.py", "appending.py", "lines.py", "lease.py", "memory.py", "local.py",
    "local_locks.py", "recording.py", "writer.py", "parameters.py", "queue.py", "keyed.py", "room.py", "steps.py",
    "losses.py", "helper_thread.py", "writes.py", "in_flight.py", "threads.py", "threading.py",
)  # fmt: skip
"""Files whose code holds a lock, or state that calls share."""

Op = Callable[[Logbook, int], object]


@pytest.fixture(params=["memory", "local"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place("memory", "memory://interrupts") if request.param == "memory" else Place("local", str(tmp_path))


def interrupt() -> NoReturn:
    raise KeyboardInterrupt


# Python drops an interrupt that arrives inside __del__ and reports it with this warning.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_line_that_is_interrupted_anywhere(place: Place) -> None:
    log = place.logbook()
    for number in itertools.count():
        at = At(number, interrupt, HELD)
        with suppress(KeyboardInterrupt):
            at.call(lambda: log.info("line %d", number))  # noqa: B023  called at once
        log.info("after %d", number)
        if not at.came:
            break
    log.mark_complete()
    assert number > 40
    messages = [line.partition(" ")[2] for line in place.log()]
    after = [message for message in messages if message.startswith("after")]
    assert after == [f"after {count}" for count in range(number + 1)]
    lines = [message for message in messages if message.startswith("line")]
    assert len(lines) == len(set(lines))
    assert log.reader.verify().ok


def append(log: Logbook, number: int) -> None:
    with log.open("artifacts/grows.txt", "a") as file:
        file.write(f"{number}\n")


OPS: dict[str, Op] = {
    "info": lambda log, number: log.info("line %d", number),
    "meta": lambda log, number: log.meta(**{f"step{number}": number}),
    "json": lambda log, number: log.json("value", {"number": number}),
    "params": lambda log, number: log.params("yaml", **{f"p{number % 5}": number}),
    "append": append,
    "open x": lambda log, number: log.open(f"artifacts/new/{number}", "x").close(),
    "flush": lambda log, number: log.flush(),
}


@pytest.mark.slow
@pytest.mark.parametrize("inner", OPS)
@pytest.mark.parametrize("outer", OPS)
def test_a_handler_writes_within_any_write(place: Place, outer: str, inner: str) -> None:
    """Make each call inside each other call, at places where a signal may arrive: every second, on disk every sixth.

    The pairs begin at different places, so that together they have all.
    """
    log = place.logbook()
    made: dict[str, list[int]] = {name: [] for name in OPS}

    def make(name: str, number: int) -> None:
        OPS[name](log, number)
        made[name].append(number)

    step, names = 6 if place.name == "local" else 2, list(OPS)
    for position in itertools.count((names.index(outer) + names.index(inner)) % step, step):
        inside = At(position, partial(make, inner, 2 * position + 1), HELD)
        inside.call(partial(make, outer, 2 * position))
        if not inside.came:
            break
    log.flush()
    messages = [line.partition(" ")[2] for line in place.log()]
    assert sorted(m for m in messages if m.startswith("line")) == sorted(f"line {number}" for number in made["info"])
    fields: dict[str, Any] = json.loads(place.bytes("log_run/metadata.json"))
    assert {name for name in fields if name.startswith("step")} == {f"step{number}" for number in made["meta"]}
    if made["append"]:
        assert sorted(map(int, place.bytes("log_run/artifacts/grows.txt").split())) == sorted(made["append"])
    log.mark_complete()
    assert log.reader.verify().ok


def test_a_handler_replaces_a_file_that_is_being_replaced() -> None:
    """The handler writes the same file; the outer replacement must still detect that write."""
    place = Place("memory", "memory://interrupts")
    store = place.store()
    for position in itertools.count():
        version = store.create("a", b"old")
        done: list[bytes] = []

        def handle(done: list[bytes] = done) -> None:
            store.write("a", b"written")
            with suppress(ConflictError):
                store.replace("a", b"inner", store.stat("a").version)
                done.append(b"inner")

        def replace(version: str = version, done: list[bytes] = done) -> None:
            with suppress(ConflictError):
                store.replace("a", b"outer", version)
                done.append(b"outer")

        inside = At(position, handle, ("memory.py",))
        inside.call(replace)
        assert done
        if len(done) == 2:
            assert place.bytes("a") == b"inner"
        store.delete(["a"])
        if not inside.came:
            break


def checkpoint(log: Logbook, number: int) -> None:
    """Do what a job does when its batch system warns it."""
    log.pickle("checkpoint", number)
    log.flush()


WRITES: dict[str, Op] = {
    "pickle": lambda log, number: log.pickle("checkpoint", number),
    "json": lambda log, number: log.json("value", number),
    "bytes": lambda log, number: log.bytes("large", bytes(10)),
    "flush": lambda log, number: log.flush(),
    "info": lambda log, number: log.info("line %d", number),
    "meta": lambda log, number: log.meta(step=number),
    "append": append,
}


@pytest.mark.parametrize("outer", WRITES)
def test_a_handler_stores_a_checkpoint_within_any_write_in_the_background(place: Place, outer: str) -> None:
    log = place.logbook(background=True)
    for position in itertools.count(1):
        log.json("waits", position)  # keep a write pending
        inside = At(position, partial(checkpoint, log, position), HELD)
        inside.call(partial(WRITES[outer], log, 0))
        if not inside.came:
            break
        if outer != "pickle":  # the outer call stores its own value afterwards
            assert pickle.loads(place.bytes("log_run/artifacts/checkpoint.pkl")) == position
    assert position > 5
    log.mark_complete()
    assert json.loads(place.bytes("log_run/artifacts/waits.json")) == position
    assert log.reader.verify().ok


CALLS: dict[str, Op] = {
    "meta": lambda log, number: log.meta(step=number),
    "json": lambda log, number: log.json("value", number),
    "params": lambda log, number: log.params(step=number),
    "flush": lambda log, number: log.flush(),
}


# Python drops an interrupt that arrives inside __del__ and reports it with this warning.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_is_interrupted_anywhere_can_be_made_again(place: Place, name: str, background: bool) -> None:
    log = place.logbook(background=background)
    call = CALLS[name]
    for position in itertools.count():
        log.json("waits", position)
        at = At(position, interrupt, HELD)
        with suppress(KeyboardInterrupt):
            at.call(partial(call, log, 2 * position))
        call(log, 2 * position + 1)
        if not at.came:
            break
    assert position > 5
    log.mark_complete()
    last = 2 * position + 1
    reads: dict[str, Callable[[], object]] = {
        "meta": lambda: log.reader.meta["step"],
        "json": lambda: json.loads(place.bytes("log_run/artifacts/value.json")),
        "params": lambda: log.reader.params["step"],
        "flush": lambda: last,
    }
    found = reads[name]()
    assert found == last
    assert json.loads(place.bytes("log_run/artifacts/waits.json")) == position
    assert log.reader.verify().ok


# Python drops an interrupt that arrives inside __del__ and reports it with this warning.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_end_that_is_interrupted_can_be_made_again(place: Place) -> None:
    """The end has hundreds of places for an interrupt; this test uses every seventh."""
    for position in itertools.count(step=7):
        log = place.logbook(position, environment=False)
        log.json("value", position)
        at = At(position, interrupt, HELD)
        with suppress(KeyboardInterrupt):
            at.call(log.mark_complete)
        log.mark_complete()
        assert json.loads(place.bytes(f"log_{position}/metadata.json"))["status"] == "complete"
        assert log.reader.verify().ok
        place.store().clear()  # a listing in memory visits each file of all runs
        if not at.came:
            break
    assert position > 200


class Ended:
    """End a run, run a handler that stores a field meanwhile, send SIGINT some places later, and end the run again."""

    def __init__(self, place: Place, handler: int, interrupted: int, again: int | None = None) -> None:
        self.log = place.logbook(environment=False)
        self.stored = False
        first = At(handler, lambda: self._handle(interrupted), ("lease.py",))
        with suppress(KeyboardInterrupt):
            first.call(self.log.mark_complete)
        self.is_late = self.stored and "late" not in self._fields(place)  # the next call must store it
        self.came = first.came
        if again is not None:
            second = At(again, interrupt, ("lease.py",))
            with suppress(KeyboardInterrupt):
                second.call(self.log.mark_complete)
            self.came = second.came
        self.log.mark_complete()
        fields = self._fields(place)
        assert (fields["status"], "late" in fields) == ("complete", self.stored), (handler, interrupted, again)
        place.store().clear()

    def _handle(self, again: int) -> int:
        if self.stored:
            interrupt()
        self.log.meta(late=True)
        self.stored = True
        return again

    @staticmethod
    def _fields(place: Place) -> dict[str, object]:
        return dict(json.loads(place.bytes("log_run/metadata.json")))


@pytest.mark.slow
def test_what_a_handler_stores_within_an_end_that_is_interrupted_is_kept() -> None:
    """Combine every third place of a state change with every third place of a later interrupt, once with another."""
    place, late = Place("memory", "memory://interrupts"), set[int]()
    for handler in itertools.count(step=3):
        for interrupted in itertools.count(step=3):
            ended = Ended(place, handler, interrupted)
            if ended.is_late and handler not in late:
                late.add(handler)
                for again in itertools.count():
                    if not Ended(place, handler, interrupted, again).came:
                        break
            if not ended.came:
                break
        if not ended.stored:
            break
    assert handler > 20
    assert len(late) > 3


def test_a_handler_that_fails_the_run_within_any_change_of_its_state(place: Place) -> None:
    for position in itertools.count():
        log = place.logbook(f"run-{position}")
        inside = At(position, partial(log.mark_failed, "preempted"), ("lease.py", "memory.py"))
        inside.call(partial(log.meta, step=1))
        fields = json.loads(place.bytes(f"log_run-{position}/metadata.json"))
        assert fields["step"] == 1
        if not inside.came:
            log.mark_complete()
            break
        assert (fields["status"], fields["failure_reason"]) == ("failed", "preempted"), position
    assert position > 20


def test_a_request_that_is_interrupted_anywhere_is_given_up() -> None:
    connection = Connection(lambda options: AsyncFileSystem(skip_instance_cache=True), {}, 30.0)
    under_way: set[int] = set()

    async def long(number: int) -> None:
        under_way.add(number)
        try:
            await asyncio.sleep(1)  # only requests that are interrupted after they ended wait this long
        finally:
            under_way.remove(number)

    async def settle() -> None:
        for _ in range(5):  # turns of the loop, in which cancelled tasks end
            await asyncio.sleep(0)

    for position in itertools.count():
        at = At(position, interrupt, ("remote.py",))
        with suppress(KeyboardInterrupt):
            at.call(partial(connection.run, long, position))
        connection.run(settle)
        assert not under_way, position
        if not at.came:
            break
    assert position > 10
