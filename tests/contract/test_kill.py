"""SIGKILL loses no write that had been confirmed, and the check detects planted losses; see `tests.tools.kill`."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from tests.backends import Place
from tests.contract.conftest import make_place
from tests.tools.kill import CASES, OWN, Tally, kill
from tests.tools.workload import ROWS, RUN, Fate, judged, read, steps

ROUNDS = {"local": 6, "again": 3}  # one for all others


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "name"),
    [
        ("local", "local"),
        ("durable", "local"),
        ("mirror", "local"),
        ("again", "local"),
        ("s3-again", "s3"),
        ("s3", "s3"),
        ("s3-background", "s3"),
        ("gcs", "gcs"),
        pytest.param("s3", "seaweed", marks=pytest.mark.real),
        pytest.param("s3-background", "seaweed", marks=pytest.mark.real),
    ],
)
def test_what_was_promised_is_there_after_a_kill(case: str, name: str, request: pytest.FixtureRequest) -> None:
    tally = Tally()
    for number in range(ROUNDS.get(case, 1)):
        place = make_place(name, request)
        copy = make_place("s3", request) if CASES[case].mirror else None
        kill(CASES[case], place, f"suite/{case}/{number}", tally, copy)
        place.store().clear()
    assert tally.problems == []
    assert tally.resumed == tally.rounds


# -- the check of a run --------------------------------------------------------------------------------------

Spoil = Callable[[dict[str, bytes]], object]


def _last(files: dict[str, bytes], suffix: str) -> str:
    return next(key for key in files if key.endswith(suffix))


def _cut(files: dict[str, bytes], suffix: str) -> None:
    key = _last(files, suffix)
    files[key] = files[key][:-1]


def _swap_lines(files: dict[str, bytes], key: str, what: bytes) -> None:
    lines = files[key].splitlines(keepends=True)
    own = [at for at, line in enumerate(lines) if what in line]
    lines[own[0]], lines[own[1]] = lines[own[1]], lines[own[0]]
    files[key] = b"".join(lines)


def _without(files: dict[str, bytes], key: str, what: bytes) -> None:
    lines = files[key].splitlines(keepends=True)
    files[key] = b"".join(line for line in lines if what not in line)


SPOILT: dict[str, tuple[str, Spoil]] = {
    "a file is gone": ("lost", lambda files: files.pop(_last(files, ".npy"))),
    "a file is cut off": ("changed", lambda files: _cut(files, ".raw")),
    "a file is empty": ("changed", lambda files: files.update({_last(files, ".pkl"): b""})),
    "a piece is gone": ("lost", lambda files: files.update({_last(files, ".csv"): b""})),
    "a piece is there twice": ("changed", lambda files: files.update({(key := _last(files, ".csv")): files[key] * 2})),
    "a file that no attempt wrote": ("debris", lambda files: files.update({"artifacts/half.part": b""})),
    "a line is gone": ("line", lambda files: _without(files, "log.txt", b"INFO step 0 7")),
    "a line of a writer is gone": ("line", lambda files: _without(files, "log.txt", b"INFO Saved array")),
    "lines in another order": ("line", lambda files: _swap_lines(files, "log.txt", b" step 0 ")),
    "a line twice": ("line", lambda files: files.update({"log.txt": files["log.txt"] * 2})),
    "a row is gone": ("line", lambda files: _without(files, ROWS, b'"step": 7,')),
    "all rows are gone": ("line", lambda files: files.pop(ROWS)),
    "rows in another order": ("line", lambda files: _swap_lines(files, ROWS, b'"thread": 0')),
    "a row twice": ("line", lambda files: files.update({ROWS: files[ROWS] * 2})),
    "a row is cut off": ("line", lambda files: _cut(files, ROWS)),
    "a row has another value": ("line", lambda files: files.update({ROWS: files[ROWS].replace(b": 2.0}", b": 2.5}")})),
    "a field is old": ("lost", lambda files: files.update({"metadata.json": b'{"step_0": -1}'})),
    "metadata is no JSON": ("state", lambda files: files.update({"metadata.json": b'{"step_0": '})),
    "parameters are gone": ("lost", lambda files: files.pop("params.yaml")),
}


@pytest.fixture(scope="module")
def recorded() -> tuple[dict[str, bytes], list[Fate]]:
    """Record a complete run and return what is known about it."""
    place = Place("memory", "memory://judged")
    done = list(itertools.islice(steps("judged", 0, large=0), 60))
    with place.logbook(RUN, params={"plan": "judged"}) as log:
        for step in done:
            step.take(log)
    files = read(place)
    place.store().clear()
    return files, [Fate(step, kept=True) for step in done]


def test_the_check_of_a_killed_run_finds_nothing_in_a_whole_run(recorded: tuple[dict[str, bytes], list[Fate]]) -> None:
    files, fates = recorded
    assert {fate.step.how for fate in fates} >= {"text", "json", "pickle", "array", "append", "meta", "params"}
    assert list(judged(files, fates, {0: 59}, torn=False, others=OWN)) == []


@pytest.mark.parametrize("name", SPOILT)
def test_the_check_of_a_killed_run_finds_each_fault(name: str, recorded: tuple[dict[str, bytes], list[Fate]]) -> None:
    files, fates = dict(recorded[0]), recorded[1]
    kind, spoil = SPOILT[name]
    spoil(files)
    assert kind in {problem.kind for problem in judged(files, fates, {0: 59}, torn=False, others=OWN)}


def test_what_was_under_way_may_be_there_or_not(recorded: tuple[dict[str, bytes], list[Fate]]) -> None:
    files, fates = recorded
    begun = [Fate(fate.step, kept=fate.step.number < 40) for fate in fates]
    assert list(judged(files, begun, {0: 39}, torn=False, others=OWN)) == []
    lost = {key: data for key, data in files.items() if any(fate.kept for fate in begun if fate.step.key == key)}
    assert len(lost) < len(files)
    assert (
        list(judged({**lost, **{key: files[key] for key in ("log.txt", ROWS)}}, begun, {0: 39}, torn=False, others=OWN))
        == []
    )
