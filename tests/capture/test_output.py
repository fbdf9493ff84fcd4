"""The output of a program in output.txt: `Output` on its own, and as part of a run."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notata import Capture, ConflictError, Experiment, Logbook, StorageError
from notata.capture import Output, SeriesPattern
from notata.growing import GrowingFile


class File:
    """A file in memory; while `error` is set, appends fail with it."""

    again = 0

    def __init__(self) -> None:
        self.data = b""
        self.error: Exception | None = None

    @property
    def size(self) -> int:
        return len(self.data)

    def append(self, data: bytes) -> None:
        if self.error is not None:
            raise self.error
        self.data += data

    def close(self) -> None:
        pass


class Program:
    """A program that prints to an output on a disk (`at_once`) or in a bucket, with a clock that calls advance."""

    def __init__(self, *, at_once: bool = True, tick: float = 0.0, **options: object) -> None:
        self.file = File()
        self.warnings: list[str] = []
        self.shown = b""
        self.now, self.tick = 0.0, tick
        growing = GrowingFile(self.file, "output.txt", at_once=at_once, is_owner=self.is_owner, clock=self.clock)
        self.output = Output(
            growing, redact=str, warn=self.warn, sink=self.show, clock=self.clock, **options  # type: ignore[arg-type]
        )  # fmt: skip

    def clock(self) -> float:
        self.now += self.tick
        return self.now

    def is_owner(self) -> bool:
        return False

    def warn(self, text: str, *args: object) -> None:
        self.warnings.append(text % args)

    def show(self, data: bytes) -> None:
        self.shown += data

    def finish(self) -> bytes:
        self.output.finish()
        return self.file.data


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_the_same_bytes_in_any_pieces_give_the_same_file(parts: list[bytes]) -> None:
    whole, pieces = Program(), Program()
    whole.output.feed(b"".join(parts))
    for part in parts:
        pieces.output.feed(part)
    assert whole.finish() == pieces.finish()
    assert pieces.shown == b"".join(parts)


def test_lines_are_stored_as_they_come_on_a_disk() -> None:
    program = Program()
    program.output.feed(b"step 1\nstep")
    assert program.file.data == b"step 1\n"
    assert program.finish() == b"step 1\nstep"


def test_a_full_disk_loses_counted_bytes_and_the_program_goes_on() -> None:
    program = Program(tick=0.5, pending=100, patience=5.0)
    program.file.error = StorageError("disk full")
    for number in range(100):
        program.output.feed(b"line %2d\n" % number)
    assert program.output.lost == 800 - 96  # 12 lines wait
    program.file.error = None
    program.now += 10
    program.output.feed(b"later\n")
    lost = program.output.lost
    text = program.finish().decode()
    assert text.endswith(f"[notata: {lost} bytes are missing here; they could not be stored]\nlater\n")
    assert text.startswith("line  0\nline  1\n")
    assert len(program.warnings) == 2
    assert f"{lost} bytes" in program.warnings[1]


def test_the_program_waits_for_a_slow_bucket_and_loses_nothing() -> None:
    program = Program(at_once=False, pending=1000)
    begun, free = threading.Event(), threading.Event()
    append = program.file.append

    def slow(data: bytes) -> None:
        begun.set()
        assert free.wait(60)
        append(data)

    program.file.append = slow  # type: ignore[method-assign]
    program.output.feed((b"x" * 69 + b"\n") * 1000)  # more than is collected
    assert begun.wait(60)
    waiting = threading.Thread(target=program.output.feed, args=(b"y" * 999 + b"\n",))
    waiting.start()
    free.set()
    waiting.join(60)
    assert not waiting.is_alive()
    assert program.finish() == (b"x" * 69 + b"\n") * 1000 + b"y" * 999 + b"\n"


def test_an_output_of_a_displaced_run_stores_nothing_more() -> None:
    program = Program()
    program.file.error = ConflictError("another writer")
    program.output.feed(b"lost\n")
    program.file.error = None
    program.output.feed(b"ignored\n")
    assert program.finish() == b""
    assert program.shown == b"lost\nignored\n"


def test_a_bar_that_runs_for_long_is_shown_ever_less_often() -> None:
    program = Program()
    for second in range(2000):
        program.now = float(second)
        program.output.feed(b"\r%4d s" % second)
    lines = program.finish().split(b"\n")
    assert [int(line[:-2]) for line in lines] == [10, 30, 70, 150, 310, 630, 1230, 1830, 1999]


def test_a_terminal_that_is_closed_is_not_written_to_again() -> None:
    program = Program()
    calls: list[bytes] = []

    def closed(data: bytes) -> None:
        calls.append(data)
        raise OSError(errno.EIO, "closed")

    program.output = Output(
        GrowingFile(program.file, "output.txt", at_once=True), redact=str, sink=closed
    )  # fmt: skip
    program.output.feed(b"a\n")
    program.output.feed(b"b\n")
    assert calls == [b"a\n"]
    assert program.finish() == b"a\nb\n"


def run(base: Path, feed: Callable[[Output], None], *patterns: str) -> Path:
    log = Logbook("r", base)
    output = log._open_output([SeriesPattern.parse(text) for text in patterns])  # noqa: SLF001 - as `notata run` does
    feed(output)
    log.mark_complete()
    return base / "log_r"


def test_a_run_keeps_output_and_values(tmp_path: Path) -> None:
    def feed(output: Output) -> None:
        output.feed(b"it 1 res = 1.5D-3\nit 2 re")
        output.feed(b"s = 0.5\npassword=hunter2\nit 3 res = 0.25")

    folder = run(tmp_path, feed, r"it (?P<step>\d+) res = (?P<r>\S+)", r"solver:: res = (?P<r>0\.\d+)")
    assert (folder / "output.txt").read_bytes() == (
        b"it 1 res = 1.5D-3\nit 2 res = 0.5\npassword=***\nit 3 res = 0.25"
    )  # fmt: skip
    rows = [json.loads(line) for line in (folder / "series/output.jsonl").read_text().splitlines()]
    assert [(row["step"], row["r"]) for row in rows] == [(1, 0.0015), (2, 0.5), (3, 0.25)]
    assert len((folder / "series/solver.jsonl").read_text().splitlines()) == 2
    files = json.loads((folder / "manifest.json").read_text())["files"]
    assert files["output.txt"]["size"] == (folder / "output.txt").stat().st_size
    assert json.loads((folder / "metadata.json").read_text())["series_summary"]["output"]["rows"] == 3


def test_a_resumed_run_continues_its_output_on_a_new_line(tmp_path: Path) -> None:
    run(tmp_path, lambda output: output.feed(b"first"))
    log = Logbook("r", tmp_path, resume=True)
    log._open_output().feed(b"second\n")  # noqa: SLF001
    log.mark_complete()
    assert (tmp_path / "log_r/output.txt").read_bytes() == b"first\nsecond\n"


def test_a_failed_run_has_its_output(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Logbook("r", tmp_path) as log:
        log._open_output().feed(b"before\nit fails")  # noqa: SLF001
        _ = 1 / 0
    assert (tmp_path / "log_r/output.txt").read_bytes() == b"before\nit fails"


def test_runs_of_an_experiment_and_of_a_sweep_capture(tmp_path: Path) -> None:
    experiment = Experiment("loud", tmp_path, capture=Capture(series=[r"dt (?P<dt>\S+)"]))
    experiment.sweep(_loud, [{"dt": 0.1}, {"dt": 0.2}])
    for dt in (0.1, 0.2):
        folder = tmp_path / "loud/runs" / f"log_{experiment.run_id(dt=dt)}"
        assert (folder / "output.txt").read_text() == f"dt {dt}\n"
        assert (folder / "series/output.jsonl").exists()


def _loud(log: Logbook, dt: float) -> None:
    os.write(1, b"dt %.1f\n" % dt)
