"""Rows on their way into the file: memory, failing storage, interrupts, forks and threads."""

from __future__ import annotations

import itertools
import json
import threading
import tracemalloc
import uuid
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from notata import EncodeError, Logbook, NotataError, StorageError
from notata._base import limits
from notata.growing import growing_file
from notata.series import reading
from notata.store import open_store
from tests.at_instruction import At
from tests.backends import Place
from tests.far import FarBackend, faults_in
from tests.series import parsers, read_with, rows, stored_summaries, summarized, values
from tests.test_interrupts import HELD

MANY = 10_000


@pytest.fixture
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are stored when there are many, or at a flush, however slow the machine is."""
    defaults = growing_file.GrowingFile.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "clock", lambda: 0.0)


def place() -> Place:
    return Place("memory", f"memory://{uuid.uuid4().hex}")


# -- memory ------------------------------------------------------------------------------------------------


def most_memory(log: Logbook, count: int) -> int:
    """Return the most memory that is in use while many rows are added, in bytes."""
    tracemalloc.start()
    for step in range(count):
        log.scalars(step=step, loss=1 / (step + 1), text="x" * 900)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


@pytest.mark.usefixtures("stopped_clock")
def test_many_rows_need_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk plays the bucket, as a memory file system would hold the file itself."""
    monkeypatch.setattr(growing_file, "MANY", 2**18)
    log = Logbook("run", FarBackend(open_store(str(tmp_path))), environment=False, heartbeat=0)
    most_memory(log, 10)  # imports
    assert most_memory(log, MANY) < 4e6
    log.mark_complete()
    data = (tmp_path / "log_run/series/scalars.jsonl").read_bytes()
    assert len(data) > 9e6
    assert len(rows(data)) == MANY + 10


def test_rows_on_a_disk_leave_nothing_in_memory(tmp_path: Path) -> None:
    log = Logbook("run", str(tmp_path), environment=False, heartbeat=0)
    most_memory(log, 10)
    assert most_memory(log, 3000) < 100e3
    log.mark_complete()


@pytest.mark.usefixtures("stopped_clock")
def test_rows_that_cannot_be_stored_are_bounded_and_the_missing_ones_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(growing_file, "HELD", 20_000)
    there = place()
    store = FarBackend(open_store(there.url))
    with Logbook("run", store, environment=False, heartbeat=0) as log:
        for step in range(1000):
            log.scalars(step=step, loss=step / 2)
        log.flush()
        log.scalars(loss=0.5)
    steps = [row["step"] for row in values(there)]
    assert steps == [*range(len(steps) - 1), 1000]
    lost = 1001 - len(steps)
    assert lost > 100
    assert [line for line in there.log() if line.startswith("WARNING")] == [
        f"WARNING {lost} rows of series/scalars.jsonl could not be stored and are missing"
    ]


# -- failing storage ---------------------------------------------------------------------------------------

FAULTS = st.lists(st.none() | st.tuples(st.integers(1, 3), st.booleans()), min_size=1, max_size=8)


@settings(max_examples=60)
@given(FAULTS, st.booleans(), st.booleans())
@example([(1, True), (1, True), (2, False), None], False, True)
@example([(1, False), None], True, False)
def test_each_row_is_there_once_and_in_order_whatever_fails(
    faults: list[tuple[int, bool] | None], near: bool, flushing: bool
) -> None:
    there = place()
    store = faults_in(open_store(there.url), near)
    log = Logbook("run", store, environment=False, heartbeat=0)
    for number, fault in enumerate(faults):
        store.heal()
        if fault is not None:
            store.fail(fault[0], key="series/scalars.jsonl", after=fault[1])
        log.scalars(loss=0.5)
        log.scalars(n=number)
        if flushing:
            with suppress(NotataError):
                log.flush()
    store.heal()
    log.mark_complete()
    expected = [{"loss": 0.5} if step % 2 == 0 else {"n": step // 2} for step in range(2 * len(faults))]
    assert values(there) == [{"step": step, **row} for step, row in enumerate(expected)]
    assert log.series("scalars").summary() == summarized(range(len(expected)), expected)


def test_a_flush_reports_a_series_that_could_not_be_stored_and_stores_the_others() -> None:
    there = place()
    store = faults_in(open_store(there.url), near=False)
    log = Logbook("run", store, environment=False, heartbeat=0)
    log.series("a").add(x=1)
    log.series("b").add(x=2)
    store.fail(1, key="series/a.jsonl")
    with pytest.raises(StorageError, match=r"series/a\.jsonl") as caught:
        log.flush()
    assert caught.value.key == "series/a.jsonl"
    assert values(there, "series/b.jsonl") == [{"step": 0, "x": 2}]
    log.flush()
    assert values(there, "series/a.jsonl") == [{"step": 0, "x": 1}]
    log.mark_complete()


# -- interrupts and threads --------------------------------------------------------------------------------

OWN = (*HELD, "rows.py", "summary.py")


def interrupt() -> NoReturn:
    raise KeyboardInterrupt


@pytest.mark.parametrize("near", [True, False], ids=["near", "far"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_row_that_is_interrupted_anywhere(near: bool) -> None:
    there = place()
    log = Logbook("run", faults_in(open_store(there.url), near), environment=False, heartbeat=0)
    for number in itertools.count():
        at = At(number, interrupt, OWN)
        with suppress(KeyboardInterrupt):
            at.call(lambda: log.scalars(step=number, first=number))  # noqa: B023  called at once
        log.scalars(step=number, then=number)
        if not at.came:
            break
    log.mark_complete()
    assert number > 20
    found = values(there)
    assert [row["step"] for row in found if "then" in row] == [*range(number + 1)]
    assert [row["then"] for row in found if "then" in row] == [*range(number + 1)]
    first = [row["first"] for row in found if "first" in row]
    assert first == sorted(set(first))
    columns = [{name: value for name, value in row.items() if name != "step"} for row in found]
    assert stored_summaries(there) == {"scalars": summarized([row["step"] for row in found], columns)}
    assert log.reader.verify().ok


def test_a_summary_stays_if_the_rows_cannot_be_read_after_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    there = place()
    store = faults_in(open_store(there.url), near=True)
    log = Logbook("run", store, environment=False, heartbeat=0)
    log.scalars(loss=0.5)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(growing_file.GrowingFile, "write", lambda *line: interrupt())
        log.scalars(loss=0.25)
    store.fail(1, key="series/scalars.jsonl")
    log.mark_complete()
    assert stored_summaries(there)["scalars"]["columns"]["loss"]["last"] == 0.5


@pytest.mark.parametrize("near", [True, False], ids=["near", "far"])
def test_a_handler_adds_a_row_within_any_row(near: bool) -> None:
    there = place()
    log = Logbook("run", faults_in(open_store(there.url), near), environment=False, heartbeat=0)
    add: Callable[[int], None] = lambda step: log.scalars(step=step, n=step)  # noqa: E731
    for number in itertools.count():
        inside = At(number, lambda: add(2 * number + 1), OWN)  # noqa: B023  called at once
        inside.call(lambda: add(2 * number))  # noqa: B023
        if not inside.came:
            break
    log.mark_complete()
    found = values(there)
    assert sorted(row["step"] for row in found) == [*range(2 * number + 1)]
    assert all(row["n"] == row["step"] for row in found)
    column = log.series("scalars").summary()["columns"]["n"]
    assert (column["count"], column["min"], column["max"]) == (2 * number + 1, 0, 2 * number)


def test_threads_add_rows_to_one_series() -> None:
    there = place()

    def work(thread: int) -> None:
        for number in range(200):
            log.scalars(thread=thread, number=number)

    with Logbook("run", FarBackend(open_store(there.url)), environment=False, heartbeat=0) as log:
        threads = [threading.Thread(target=work, args=(thread,)) for thread in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = values(there)
    assert [row["step"] for row in found] == [*range(800)]
    for number in range(4):
        assert [row["number"] for row in found if row["thread"] == number] == [*range(200)]


# -- several attempts --------------------------------------------------------------------------------------

ATTEMPTS = st.lists(st.lists(st.none() | st.integers(-2, 8), max_size=4), min_size=1, max_size=4)


@parsers
@settings(max_examples=40)
@given(ATTEMPTS)
@example([[0, 1, 2, 3], [2, None], [None], [1]])
@example([[0, 5, 1], [3]])
@example([[4], [], [2]])
def test_each_attempt_continues_the_curve_at_its_first_step(parser: str, attempts: list[list[int | None]]) -> None:
    there = place()
    curve: list[tuple[int, int, float]] = []  # step, attempt, value
    for attempt, steps in enumerate(attempts):
        log = Logbook("run", there.url, resume=True, environment=False, heartbeat=0)
        for number, given_step in enumerate(steps):
            step = given_step if given_step is not None else curve[-1][0] + 1 if curve else 0
            if number == 0:
                curve = [row for row in curve if row[0] < step]
            curve.append((step, attempt, step / 7 + attempt))
            log.scalars(step=given_step, loss=curve[-1][2])
        log.mark_failed("on purpose")
        if not curve:
            continue
        steps_, of, losses = map(list, zip(*curve, strict=True))
        with read_with(parser):
            data = log.reader.series()
        assert (data.step.tolist(), data.attempt.tolist(), data["loss"].tolist()) == (steps_, of, losses)
        stored = json.loads(there.bytes("log_run/metadata.json"))["series_summary"]["scalars"]
        assert stored == data.summary() == summarized(steps_, [{"loss": loss} for loss in losses])
    if curve:
        assert log.reader.series(repeated=True).rows == sum(map(len, attempts))


def test_a_last_line_that_was_cut_is_ended_before_the_next_row() -> None:
    there = place()
    log = Logbook("run", there.url, environment=False, heartbeat=0)
    log.scalars(step=0, loss=0.5)
    log.mark_failed("on purpose")
    key = "log_run/series/scalars.jsonl"
    there.put(key, there.bytes(key) + b'{"step": 1, "time": 17')
    with Logbook("run", there.url, resume=True, environment=False) as log:
        log.scalars(loss=0.25)
    whole, cut, last = there.bytes(key).splitlines()
    assert (cut, b'"loss": 0.5}' in whole, last.endswith(b'"try": 1, "loss": 0.25}')) == (
        b'{"step": 1, "time": 17', True, True,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert log.reader.series().step.tolist() == [0, 1]


@pytest.mark.parametrize("value", [True, "text", 0.5], ids=str)
def test_a_column_keeps_its_type_although_no_row_of_earlier_attempts_stays(value: object) -> None:
    there = place()
    for _ in range(3):
        with Logbook("run", there.url, environment=False, resume=True) as log:
            log.scalars(step=0, a=value, b=None)
    assert [row["a"] for row in values(there)] == [value] * 3
    with Logbook("run", there.url, environment=False, resume=True) as log:
        with pytest.raises(EncodeError, match="A column has one type"):
            log.scalars(step=0, a=1 if value == "text" else "text")
        log.scalars(step=0, b="any")  # it had no value before


def test_a_series_that_is_too_large_to_be_read_is_continued(monkeypatch: pytest.MonkeyPatch) -> None:
    there = place()
    with Logbook("run", there.url, environment=False) as log:
        for number in range(100):
            log.scalars(step=10 * number, n=number, phase="warm-up")
    monkeypatch.setattr(limits, "SERIES", 2000)
    monkeypatch.setattr(reading, "PIECE", 1000)
    with Logbook("run", there.url, environment=False, resume=True) as log:
        with pytest.raises(EncodeError, match="A column has one type"):
            log.scalars(n="text")
        log.scalars(n=100)
    assert values(there)[-1] == {"step": 991, "try": 1, "n": 100}
    assert "WARNING series/scalars.jsonl is too large to read again: its summary covers only its last rows" in (
        there.log()
    )
    column = stored_summaries(there)["scalars"]["columns"]["n"]
    assert (column["last"], column["max"]) == (100, 100)
    assert 80 < column["min"] < 99
