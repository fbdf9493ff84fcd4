"""Many processes, one run id: one gets it."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from notata import Logbook, RunExistsError
from tests.backends import Place

PROCESSES = 16
ROUNDS = 20


def _attempt(place: Place, run_id: str, number: int) -> str | None:
    try:
        log = place.logbook(run_id)
    except RunExistsError:
        return None
    log.text("winner", str(number))
    return str(log._lease.fields["lease"]["owner"])


def _racer(place: Place, number: int, start: Any, results: Any) -> None:
    place.store().exists("warm-up")  # connected before the first start
    for round_number in range(ROUNDS):
        start.wait()
        results.put((round_number, number, _attempt(place, f"race{round_number}", number)))


def test_of_many_processes_one_gets_the_run(place: Place) -> None:
    """16 processes, 20 rounds; threads on memory, which processes do not share."""
    outcomes = _race_threads(place) if place.name == "memory" else _race_processes(place)
    assert len(outcomes) == PROCESSES * ROUNDS
    for round_number in range(ROUNDS):
        winners = [(number, owner) for found, number, owner in outcomes if found == round_number and owner]
        assert len(winners) == 1
        number, owner = winners[0]
        folder = f"log_race{round_number}"
        assert json.loads(place.bytes(f"{folder}/metadata.json"))["lease"]["owner"] == owner
        assert place.bytes(f"{folder}/artifacts/winner.txt") == str(number).encode()


def _race_threads(place: Place) -> list[tuple[int, int, str | None]]:
    outcomes = []
    for round_number in range(ROUNDS):
        start = threading.Barrier(PROCESSES)

        def race(number: int, start: threading.Barrier = start, run_id: str = f"race{round_number}") -> str | None:
            start.wait()
            return _attempt(place, run_id, number)

        with ThreadPoolExecutor(PROCESSES) as pool:
            outcomes += [(round_number, number, owner) for number, owner in enumerate(pool.map(race, range(PROCESSES)))]
    return outcomes


def _race_processes(place: Place) -> list[tuple[int, int, str | None]]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["notata.store.s3", "notata.store.gcs", "s3fs", "gcsfs.core", "tests.contract.test_races"]
    )
    start, results = context.Barrier(PROCESSES), context.Queue()
    racers = [context.Process(target=_racer, args=(place, number, start, results)) for number in range(PROCESSES)]
    for racer in racers:
        racer.start()
    outcomes = [results.get(timeout=200) for _ in range(PROCESSES * ROUNDS)]
    for racer in racers:
        racer.join()
    assert [racer.exitcode for racer in racers] == [0] * PROCESSES
    return outcomes


def die(place: Place, run_id: str) -> None:
    """Leave a run that is dead: its process ends without a word. In memory, where that cannot be, it is said so."""
    if place.name != "memory":
        process = multiprocessing.get_context("forkserver").Process(target=_die, args=(place, run_id))
        process.start()
        process.join()
        assert process.exitcode == 7
        return
    place.logbook(run_id).text("kept", "yes")
    fields = json.loads(place.bytes(f"log_{run_id}/metadata.json"))
    fields["lease"]["process"] += "0"  # another time of start: that process is gone
    place.put(f"log_{run_id}/metadata.json", json.dumps(fields).encode())


def _die(place: Place, run_id: str) -> None:
    place.logbook(run_id).text("kept", "yes")
    os._exit(7)


def _take(place: Place, run_id: str, number: int) -> str | None:
    try:
        log = place.logbook(run_id, resume=True)
    except RunExistsError:
        return None
    log.text("winner", str(number))
    return str(log._lease.fields["lease"]["owner"])


def _taker(place: Place, number: int, start: Any, results: Any) -> None:
    place.store().exists("warm-up")
    start.wait()
    results.put((number, _take(place, "dead", number)))
    start.wait()  # nobody ends, and with it the run that it has, before all have tried


def test_of_many_who_take_over_a_dead_run_one_does(place: Place) -> None:
    die(place, "dead")
    if place.name == "memory":
        barrier = threading.Barrier(PROCESSES)

        def take(number: int) -> tuple[int, str | None]:
            barrier.wait()
            return number, _take(place, "dead", number)

        with ThreadPoolExecutor(PROCESSES) as pool:
            outcomes = list(pool.map(take, range(PROCESSES)))
    else:
        context = multiprocessing.get_context("forkserver")
        start, results = context.Barrier(PROCESSES), context.Queue()
        takers = [context.Process(target=_taker, args=(place, number, start, results)) for number in range(PROCESSES)]
        for taker in takers:
            taker.start()
        outcomes = [results.get(timeout=100) for _ in range(PROCESSES)]
        for taker in takers:
            taker.join()
        assert [taker.exitcode for taker in takers] == [0] * PROCESSES
    winners = [(number, owner) for number, owner in outcomes if owner]
    assert len(winners) == 1
    fields = json.loads(place.bytes("log_dead/metadata.json"))
    assert fields["lease"]["owner"] == winners[0][1]
    assert [entry["after"] for entry in fields["resumes"]] == ["died"]
    assert place.bytes("log_dead/artifacts/winner.txt") == str(winners[0][0]).encode()
    assert place.bytes("log_dead/artifacts/kept.txt") == b"yes"


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
    owner = json.loads(place.bytes("log_a/metadata.json"))["lease"]["owner"]
    assert owner in [log._lease.fields["lease"]["owner"] for log in won]
    assert place.names() == ["log_a/metadata.json"]
