"""Many processes compete for one run id: exactly one gets it."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from notata import Logbook, RunDisplacedError, RunExistsError
from tests.backends import Place
from tests.contract.conftest import CEPH, EVERYWHERE, emptied
from tests.forks import forkserver

PROCESSES = 16
NEW = [f"race{number}" for number in range(20)]
DEAD = [f"dead{number}" for number in range(3)]


def raced(place: Place) -> list[str]:
    """Return the run ids of a race; only few new ones in a bucket, where every request takes time."""
    return (NEW[:3] if place.bucket else NEW) + DEAD


Outcome = tuple[str, int, str | None]


@pytest.fixture(params=[*EVERYWHERE, CEPH])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    yield from emptied(request)


def _attempt(place: Place, run_id: str, number: int) -> str | None:
    """Request a run, resuming it if it is dead; return what the owner wrote if this attempt succeeds."""
    try:
        log = place.logbook(run_id, resume=run_id in DEAD)
    except RunExistsError:
        return None
    log.text("winner", str(number))
    log.meta(winner=number)
    return str(number)


def _racer(place: Place, number: int, start: Any, results: Any) -> None:
    place.store().exists("warm-up")  # connect before the first race
    for run_id in raced(place):
        start.wait()
        results.put((run_id, number, _attempt(place, run_id, number)))
    start.wait()  # keep all processes, and so their runs, alive until each has tried


@pytest.mark.slow
def test_of_many_processes_one_gets_the_run_or_takes_over_a_dead_one(place: Place) -> None:
    """16 processes, 20 new runs (3 in a bucket) and 3 dead ones; threads in memory, which processes do not share."""
    for run_id in DEAD:
        die(place, run_id)
    outcomes = _race_threads(place) if place.name == "memory" else _race_processes(place)
    assert len(outcomes) == PROCESSES * len(raced(place))
    for run_id in raced(place):
        winners = [(number, owner) for raced, number, owner in outcomes if raced == run_id and owner]
        assert len(winners) == 1
        [(number, _)] = winners
        fields = json.loads(place.bytes(f"log_{run_id}/metadata.json"))
        assert fields["winner"] == number
        assert [entry["after"] for entry in fields.get("resumes", [])] == (["died"] if run_id in DEAD else [])
        assert place.bytes(f"log_{run_id}/artifacts/winner.txt") == str(number).encode()
    assert all(place.bytes(f"log_{run_id}/artifacts/kept.txt") == b"yes" for run_id in DEAD)


def _race_threads(place: Place) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for run_id in raced(place):
        start = threading.Barrier(PROCESSES)

        def race(number: int, start: threading.Barrier = start, run_id: str = run_id) -> str | None:
            start.wait()
            return _attempt(place, run_id, number)

        with ThreadPoolExecutor(PROCESSES) as pool:
            outcomes += [(run_id, number, owner) for number, owner in enumerate(pool.map(race, range(PROCESSES)))]
    return outcomes


def _race_processes(place: Place) -> list[Outcome]:
    context = forkserver()
    start, results = context.Barrier(PROCESSES), context.Queue()
    racers = [context.Process(target=_racer, args=(place, number, start, results)) for number in range(PROCESSES)]
    for racer in racers:
        racer.start()
    outcomes: list[Outcome] = [results.get(timeout=200) for _ in range(PROCESSES * len(raced(place)))]
    for racer in racers:
        racer.join()
    assert [racer.exitcode for racer in racers] == [0] * PROCESSES
    return outcomes


def keep(log: Logbook) -> None:
    log.text("kept", "yes")


def die(place: Place, run_id: str, work: Callable[[Logbook], object] = keep) -> None:
    """Leave a dead run by killing its process. Memory has no other process, so there metadata.json names a dead one.

    Args:
        place: The place of the run.
        run_id: Its id.
        work: Writes to the run before its process ends.
    """
    if place.name != "memory":
        process = forkserver().Process(target=_die, args=(place, run_id, work))
        process.start()
        process.join()
        assert process.exitcode == 7
        return
    work(place.logbook(run_id))
    fields = json.loads(place.bytes(f"log_{run_id}/metadata.json"))
    fields["lease"]["process"] += "0"  # a different start time: that process is gone
    place.put(f"log_{run_id}/metadata.json", json.dumps(fields).encode())


def _die(place: Place, run_id: str, work: Callable[[Logbook], object]) -> None:
    work(place.logbook(run_id))
    os._exit(7)


def test_of_many_who_overwrite_the_run_has_one_owner(place: Place) -> None:
    place.logbook("a").text("old", "old")
    start = threading.Barrier(4)

    def race(number: int) -> Logbook | None:
        start.wait()
        try:
            return place.logbook("a", overwrite=True)
        except RunExistsError:
            return None

    with ThreadPoolExecutor(4) as pool:
        won = [log for log in pool.map(race, range(4)) if log is not None]
    owners = 0
    for log in won:
        with suppress(RunDisplacedError):
            log.meta(mine=True)
            owners += 1
    assert owners == 1
    assert place.names() == ["log_a/metadata.json"]
