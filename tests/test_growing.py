"""A growing file without `logging`: it receives lines as bytes and appends them, and each line is stored once."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notata.errors import ConflictError, DeadlineError, StorageError
from notata.growing import AppendThread, Overflow
from notata.growing.growing_file import (
    FEW,
    HELD,
    IN_MEMORY,
    LARGEST,
    MANY,
    SECONDS,
    SOON,
    Chunk,
    GrowingFile,
    Schedule,
    State,
)


class File:
    """A file in memory. The errors in `failing` are raised before an append, or after it with `after`."""

    def __init__(self, *failing: Exception, after: bool = False) -> None:
        self.failing, self.after = list(failing), after
        self.data = b""
        self.closed = 0
        self.again = 0

    @property
    def size(self) -> int:
        return len(self.data)

    def append(self, data: bytes) -> None:
        error = self.failing.pop(0) if self.failing else None
        if error is None or self.after:
            self.data += data
        if error is not None:
            raise error

    def close(self) -> None:
        self.closed += 1


def no_thread(work: Callable[[], object], name: str) -> NoReturn:
    raise RuntimeError("can't start new thread")


def growing(file: File, *, at_once: bool = False, **options: object) -> GrowingFile:
    return GrowingFile(file, "series.jsonl", at_once=at_once, thread=AppendThread(no_thread), **options)  # type: ignore[arg-type]


def test_lines_are_stored_at_once_or_at_a_flush() -> None:
    near, far = File(), File()
    growing(near, at_once=True).write(b'{"step": 1}\n')
    collected = growing(far)
    collected.write(b'{"step": 1}\n')
    assert (near.data, far.data) == (b'{"step": 1}\n', b"")
    assert collected.pending_bytes == 12
    collected.flush()
    assert far.data == near.data
    assert collected.seconds_left() is None


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("after", [True, False], ids=["after", "before"])
def test_a_failed_append_is_repeated_and_each_line_is_there_once(at_once: bool, after: bool) -> None:
    file = File(DeadlineError("no answer"), after=after)
    own = growing(file, at_once=at_once)
    own.write(b"a\n")
    own.try_append()
    own.write(b"b\n")
    own.flush()
    assert file.data == b"a\nb\n"
    assert not own.is_in_flight


def test_a_chunk_whose_append_took_effect_is_not_sent_again() -> None:
    file, chunk = File(DeadlineError("no answer"), after=True), Chunk(b"a\n")
    with pytest.raises(DeadlineError):
        chunk.send(file)
    chunk.send(file)
    assert file.data == b"a\n"


@pytest.mark.parametrize("at_once", [True, False])
def test_a_displaced_file_ignores_lines_and_is_closed(at_once: bool) -> None:
    file = File(ConflictError("changed"))
    own = growing(file, at_once=at_once, is_owner=lambda: False)
    own.write(b"a\n")
    own.flush()
    own.write(b"b\n")
    own.flush()
    assert (own.state, file.data, own.pending_bytes) == (State.DISPLACED, b"", 0)
    assert file.closed


def test_a_closed_file_takes_lines_and_is_closed_after_each_append() -> None:
    file = File()
    own = growing(file, at_once=True)
    own.write(b"a\n")
    assert (own.state, file.closed) == (State.OPEN, 0)
    own.close()
    own.write(b"b\n")
    assert (own.state, file.data, file.closed) == (State.CLOSED, b"a\nb\n", 2)


def test_dropped_lines_are_counted_in_a_line_of_the_caller_s_form() -> None:
    file = File()
    own = growing(file, missing=lambda count: b'{"missing": %d}\n' % count)
    own.write(bytes(HELD))
    own.write(b"lost\n")
    own.write(b"urgent\n", urgent=True)
    own.write(b"lost\n")
    own.flush()
    own.flush()
    assert file.data[HELD:] == b'{"missing": 1}\nurgent\n{"missing": 1}\n'


def test_the_schedule_needs_no_clock_and_no_file() -> None:
    schedule = Schedule()
    assert not schedule.add(100.0, pending=0, size=10)
    assert schedule.next_append(10, again=0, size=0) == 100.0 + SECONDS
    assert schedule.add(101.0, pending=10, size=10, urgent=True)
    assert schedule.next_append(20, again=0, size=0) == 101.0 + SOON
    assert schedule.add(101.5, pending=20, size=FEW)
    assert schedule.next_append(20 + FEW, again=0, size=0) < 0
    assert schedule.take()
    assert not schedule.take()
    schedule.appended(102.0, urgent=True, again=10 * MANY, size=10 * MANY)
    assert not schedule.add(103.0, pending=0, size=FEW)
    assert schedule.add(103.0, pending=FEW, size=MANY)


def test_the_schedule_waits_longer_after_each_failure() -> None:
    schedule = Schedule()
    assert schedule.failed(100.0, DeadlineError("no answer"))
    assert schedule.is_stalled(101.0)
    assert not schedule.failed(100.0, OSError())
    assert not schedule.is_stalled(101.0)
    assert schedule.next_append(MANY, again=0, size=0) == 100.0 + 2 * SECONDS
    schedule.recovered()
    assert schedule.next_append(MANY, again=0, size=0) < 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows cannot fork")
def test_threads_of_a_forked_child_that_write_first_at_once_lose_no_line(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.touch()

    class OnDisk(File):
        def append(self, data: bytes) -> None:
            with path.open("ab") as file:
                file.write(data)

    log = growing(OnDisk())
    for number in range(40):
        child = os.fork()
        if child == 0:
            write_from_threads(log, number)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    lines = path.read_text().split()
    assert sorted(lines) == sorted(f"{a}-{b}-{c}" for a in range(40) for b in range(6) for c in range(4))


def write_from_threads(log: GrowingFile, number: int) -> None:
    """Write four lines from each of six threads that start together."""
    sys.setswitchinterval(1e-6)
    together = threading.Barrier(6)

    def work(name: int) -> None:
        together.wait()
        for each in range(4):
            log.write(f"{number}-{name}-{each}\n".encode())

    threads = [threading.Thread(target=work, args=(name,)) for name in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.flush()


class Asked:
    """A file that a thread asks for its time while another thread holds its lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.asked = threading.Event()

    def seconds_left(self) -> float | None:
        self.asked.set()
        with self.lock:
            return None

    def try_append(self) -> None: ...


def test_a_file_wakes_the_thread_while_the_thread_asks_it() -> None:
    """A warning about lost rows is a line of the log, which wakes the thread, while the lock of the series is held."""
    thread, file = AppendThread(), Asked()
    with file.lock:
        thread.wake(file)
        assert file.asked.wait(60)
        waking = threading.Thread(target=lambda: thread.wake(file), daemon=True)
        waking.start()
        waking.join(60)
        assert not waking.is_alive()


# -- an overflow -------------------------------------------------------------------------------------------------------


def test_lines_beyond_the_memory_wait_on_a_disk_and_keep_their_order() -> None:
    file = File()
    collected = growing(file, overflow=Overflow())
    line = b"x" * (IN_MEMORY // 4 - 1) + b"\n"
    lines = [b"%d" % number + line for number in range(60)]
    for one in lines[:30]:
        collected.write(one)
    assert collected.pending_bytes == len(b"".join(lines[:30])) < HELD
    collected.flush()
    for one in lines[30:]:
        collected.write(one)
    assert collected.pending_bytes > 0
    collected.flush()
    assert file.data == b"".join(lines)
    assert collected.pending_bytes == 0


def test_an_overflow_drops_nothing_and_appends_bounded_chunks() -> None:
    sizes: list[int] = []

    class Counting(File):
        def append(self, data: bytes) -> None:
            sizes.append(len(data))
            super().append(data)

    file = Counting(StorageError("away"))
    collected = growing(file, overflow=Overflow())
    block = b"y" * (MANY - 1) + b"\n"
    for _ in range(10):
        collected.write(block)
    collected.try_append()
    for _ in range(3):
        collected.write(block)
    collected.flush()
    assert file.data == block * 13
    assert max(sizes) <= LARGEST


def test_a_full_disk_keeps_the_overflow_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> NoReturn:
        raise OSError(28, "no space left")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    overflow = Overflow()
    overflow.add(b"abc")
    overflow.add(b"def")
    assert overflow.is_crammed
    assert (overflow.take(4), overflow.take(4), overflow.size) == (b"abcd", b"ef", 0)


def test_all_that_waits_on_the_disk_is_appended_at_once_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notata.growing.growing_file.LARGEST", 2 * IN_MEMORY)
    slices: list[int] = []

    class Sliced(File):
        def append(self, data: bytes) -> None:
            parts = [data[start : start + 2**20] for start in range(0, len(data), 2**20)]
            slices.append(max(map(len, parts)))
            super().append(b"".join(parts))

    file = Sliced()
    file.data = b"x" * MANY
    collected = growing(file, overflow=Overflow(), in_pieces=True)
    line = b"z" * (IN_MEMORY // 8 - 1) + b"\n"
    lines = [b"%d" % number + line for number in range(60)]
    for one in lines:
        collected.write(one)
    file.failing = [StorageError("away")]
    collected.try_append()
    collected.write(b"later\n")
    collected.flush()
    assert file.data == b"x" * MANY + b"".join(lines) + b"later\n"
    assert slices == [2**20, 2**20, 6]


@given(st.binary(max_size=9), st.binary(max_size=9), st.integers(-12, 12), st.integers(-12, 12))
def test_slices_of_pieces_are_those_of_their_bytes(head: bytes, rest: bytes, start: int, end: int) -> None:
    overflow = Overflow()
    overflow.add(b"ab" + rest)
    assert overflow.take(1) == b"a"
    pieces = b"before" + overflow.take_all(head)
    whole = b"before" + head + b"b" + rest
    assert (len(pieces), pieces[start:end], pieces[:], pieces[end:]) == (
        len(whole),
        whole[start:end],
        whole,
        whole[end:],
    )
    pieces.close()
