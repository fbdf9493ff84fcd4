"""The cost of a row in calls, system calls and memory, and that of reading many rows. No test measures a time."""

from __future__ import annotations

import gc
import sys
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any, cast

import pytest

from notata import Logbook, LogReader
from notata.growing import AppendThread
from notata.series import SeriesWriters, reading
from notata.store import Store
from notata.store.backends import local
from tests import series
from tests.series import parsers, read_with
from tests.tools.benchmarks.peers.base import row
from tests.tools.benchmarks.peers.long_series import Dropping, into_bucket

ROWS = 100


class Calls(Counter[str]):
    """The functions that this thread called in a block: those of Python, and those of C with their module."""

    @property
    def python(self) -> int:
        """The number of calls of functions in Python."""
        return sum(count for name, count in self.items() if ":" not in name)


@contextmanager
def called() -> Iterator[Calls]:
    """Count the calls of a block in this thread."""
    calls = Calls()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            calls[frame.f_code.co_qualname] += 1
        elif event == "c_call":
            calls[f"{argument.__module__ or ''}:{argument.__name__}"] += 1

    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)


class Waiting(Dropping):
    """A file in a bucket whose appends wait until `go` is set; it keeps the bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go = threading.Event(), threading.Event()
        self.data = b""

    def append(self, data: bytes) -> None:
        self.begun.set()
        self.go.wait()
        super().append(data)
        self.data += data


def bucket_series(file: Dropping, thread: AppendThread | None = None) -> Any:
    """Return a series in a bucket, without a server."""
    store = cast("Store", SimpleNamespace(is_local=False))
    return SeriesWriters(store, thread or AppendThread(), appender=lambda key: file)["scalars"]


def collected(work: Callable[[], object], name: str) -> None:
    """Start no thread, so that the rows stay pending."""


def add(to: Callable[..., object], count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        to(step=number, **row(number))


# -- writing -------------------------------------------------------------------------------------------------


def test_a_row_on_a_disk_is_one_write_and_few_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "OPEN_FILES", 10_000)  # other tests in this process may have left files open
    with Logbook("run", tmp_path, heartbeat=0) as log:
        add(log.scalars, 3)  # creates the file, and opens it
        with called() as calls:
            add(log.scalars, ROWS, 3)
    assert calls["posix:write"] in (ROWS, 0)  # 0 on Windows
    assert calls["posix:getpid"] == calls["posix:open"] == calls["posix:fsync"] == 0
    assert calls["fcntl:flock"] <= 2 * ROWS
    assert calls["posix:stat"] + calls["posix:fstat"] <= 2 * ROWS
    assert calls.python <= 56 * ROWS
    steps = [found["step"] for found in series.rows((tmp_path / "log_run/series/scalars.jsonl").read_bytes())]
    assert steps == list(range(3 + ROWS))


def test_a_row_in_a_bucket_is_few_calls_and_no_system_call() -> None:
    file = Dropping()
    added = bucket_series(file, AppendThread(collected))
    add(added.add, 3)
    with called() as calls:
        add(added.add, ROWS, 3)
    assert file.appends == 0
    assert not [name for name in calls if name.startswith(("posix:", "fcntl:", "_ssl:", "_socket:"))]
    assert calls.python <= 24 * ROWS


def test_a_row_in_a_bucket_does_not_wait_for_an_append() -> None:
    file = Waiting()
    added = bucket_series(file)
    add(added.add, 1000)  # 100 kB, so that the thread appends them
    assert file.begun.wait(60)
    add(added.add, 1000, 1000)
    assert file.data == b""
    file.go.set()
    added.flush()
    assert [found["step"] for found in series.rows(file.data)] == list(range(2000))


@pytest.mark.parametrize("where", ["disk", "bucket"])
def test_rows_leave_nothing_in_memory(where: str, tmp_path: Path) -> None:
    file = Dropping()
    with Logbook("run", tmp_path, heartbeat=0) as log:
        added = log.series("scalars") if where == "disk" else bucket_series(file)
        add(added.add, 200)
        added.flush()
        gc.collect()
        tracemalloc.start()
        try:
            add(added.add, 2000, 200)  # 200 kB
            added.flush()
            gc.collect()
            assert tracemalloc.get_traced_memory()[0] < 32 * 2**10
        finally:
            tracemalloc.stop()


def test_fast_rows_into_a_bucket_send_at_most_three_times_the_file() -> None:
    _, file = into_bucket(10_000)
    assert file.sent <= 3 * file.size
    assert file.appends < 20


# -- reading -------------------------------------------------------------------------------------------------

COUNT = 20_000


@pytest.fixture
def many_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with a series of `COUNT` rows, which is read in three pieces."""
    Logbook("run", tmp_path, heartbeat=0, manifest=False).mark_complete()
    lines = [
        f'{{"step": {number}, "time": {1764323 + number / 8:.3f}, "a": 0.1, "b": {1 / (number + 1)!r}, "c": {number}, '
        f'"d": {0.37 * number!r}, "e": {2.5e-7 * number!r}}}\n'
        for number in range(COUNT)
    ]
    folder = tmp_path / "log_run" / "series"
    folder.mkdir()
    size = (folder / "scalars.jsonl").write_bytes("".join(lines).encode())
    monkeypatch.setattr(reading, "PIECE", size // 3 + 1)
    return tmp_path / "log_run"


def test_many_rows_are_parsed_by_one_call_of_pyarrow_for_each_piece(
    many_rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = series.parsed_by_arrow(monkeypatch)
    reader = LogReader(many_rows)
    reader.series()  # imports modules
    parsed.clear()
    with called() as calls:
        found = reader.series()
    assert found["c"].tolist() == list(range(COUNT))
    assert sum(parsed) == (many_rows / "series" / "scalars.jsonl").stat().st_size
    assert len(parsed) == 1 + 3  # the columns are those of a small first block
    assert calls.total() < COUNT // 8  # those of the blocks


@parsers
def test_reading_takes_memory_for_the_arrays_and_one_piece(many_rows: Path, parser: str) -> None:
    with read_with(parser):
        reader = LogReader(many_rows)
        reader.series()
        gc.collect()
        tracemalloc.start()
        try:
            found = reader.series()
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    arrays = sum(values.nbytes for values in (found.step, found.time, found.attempt, *found.values()))
    assert arrays == 8 * 8 * COUNT
    assert most < 2 * arrays + 4 * reading.PIECE
