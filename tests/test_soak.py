"""Memory kept per call of a run, a short version; `tests.tools.soak` makes up to a million calls."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TypeAlias

import pytest

from notata import Logbook
from tests.backends import Place
from tests.forks import forkserver
from tests.tools.soak import Sample, artifact, growth, line, sample, taken, wrong

RUN = "soak"

Kept: TypeAlias = tuple[int, int, int]
"""Bytes, open files, threads."""


@pytest.mark.slow
@pytest.mark.parametrize(("call", "count", "most"), [(artifact, 300, 512.0), (line, 2000, 1.0)])
def test_what_is_kept_for_each_call(
    call: Callable[[Logbook, int], None], count: int, most: float, tmp_path: Path
) -> None:
    """The second half of the calls adds only the record of each file: nothing for a line, no open file, no thread."""
    place = Place("local", str(tmp_path))
    before, after = in_a_process_of_its_own(place, call, count)
    assert (after[0] - before[0]) / count < most
    assert after[1:] == before[1:]
    assert wrong(f"{call.__name__}s", 2 * count, place) == 0


def in_a_process_of_its_own(place: Place, call: Callable[[Logbook, int], None], count: int) -> list[Kept]:
    """Measure each half of the calls in a separate process, because here test servers close connections meanwhile."""
    context = forkserver()
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=halves, args=(place, call, count, theirs))
    process.start()
    theirs.close()
    told: list[Kept] = ours.recv()
    process.join()
    assert process.exitcode == 0
    return told


def halves(place: Place, call: Callable[[Logbook, int], None], count: int, told: Connection) -> None:
    with place.logbook(RUN, heartbeat=0) as log:  # whose thread would begin half a minute later
        tracemalloc.start()
        found = [kept(log, call, range(count)), kept(log, call, range(count, 2 * count))]
        tracemalloc.stop()
    told.send(found)


def kept(log: Logbook, call: Callable[[Logbook, int], None], numbers: range) -> Kept:
    """Return the bytes that Python has allocated after these calls, open files and threads."""
    for number in numbers:
        call(log, number)
    gc.collect()
    now = sample(numbers.stop)
    return tracemalloc.get_traced_memory()[0], now.files, now.threads


def test_what_is_missing_or_there_twice_is_counted(tmp_path: Path) -> None:
    place = Place("local", str(tmp_path))
    with place.logbook(RUN) as log:
        assert [one.calls for one in taken(log, artifact, 4)] == [0, 1, 2, 3, 4]
        line(log, 0)
        line(log, 2)
        line(log, 2)
    assert wrong("artifacts", 4, place) == 0
    assert wrong("artifacts", 6, place) == 2
    assert wrong("lines", 4, place) == 3
    place.put(f"log_{RUN}/artifacts/steps/0/9.json", b"")
    assert wrong("artifacts", 4, place) == 1


def test_growth_is_the_slope_once_it_is_warm() -> None:
    steady = [Sample(calls, 10**6 * min(calls, 20) + 7 * calls, 4, 3) for calls in range(101)]
    assert growth(steady) == pytest.approx(7)
