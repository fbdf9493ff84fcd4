"""Sync of many runs from a source that is listed once for all: operations, and what a copy says at each moment.

Sources and targets are in memory, and count as remote.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from notata import BatchError, NotataError, sync
from notata.store.files import PART
from notata.testing import FaultyBackend
from tests.backends import Place
from tests.far import FarBackend

START = "2026-01-01T00:00:00.000+00:00"
COUNT = 6

Files = dict[str, bytes]


def run(name: str, **fields: object) -> Files:
    """Return the files of a run that has ended."""
    metadata = {"run_id": name, "status": "complete", "start_time": START, "lease": {"owner": "first"}, **fields}
    return {
        f"log_{name}/artifacts/notes.txt": f"notes of {name}".encode(),
        f"log_{name}/log.txt": f"[{START}] INFO {name}\n".encode(),
        f"log_{name}/manifest.json": b"{}",
        f"log_{name}/metadata.json": json.dumps(metadata).encode(),
        f"log_{name}/params.yaml": b"omega: 2.0\n",
    }


def runs(count: int = COUNT) -> Files:
    return {key: data for number in range(count) for key, data in run(f"r{number}").items()}


@pytest.fixture
def here() -> Place:
    return Place("memory", f"memory://{uuid.uuid4().hex}/here")


@pytest.fixture
def there(here: Place) -> Place:
    return Place("memory", here.url.replace("/here", "/there"))


def verbs(backend: FaultyBackend) -> dict[str, int]:
    return dict(Counter(step.verb for step in backend.operations))


class Watched(FarBackend):
    """A remote place that calls a function before and after each step."""

    def __init__(self, place: Place, look: Callable[[], None]) -> None:
        super().__init__(place.store())
        self._look = look

    @contextmanager
    def _step(self, verb: str, key: str = "") -> Iterator[None]:
        self._look()
        try:
            with super()._step(verb, key):
                yield
        finally:
            self._look()


# -- operations ----------------------------------------------------------------------------------------------


def test_new_runs_cost_their_files_and_one_claim_each(here: Place, there: Place) -> None:
    """Runs of a remote source cost a read of each file there, and two listings for all of them together."""
    here.fill(runs())
    source, target = FarBackend(here.store()), FarBackend(there.store())
    assert sync(source, target).runs == COUNT
    assert there.files() == runs()
    assert verbs(source) == {"stat": 1, "list": 2, "get": 5 * COUNT}
    assert verbs(target) == {"list": 1, "put": 5 * COUNT + COUNT}


def test_one_run_that_changed_is_listed_on_its_own(here: Place, there: Place) -> None:
    here.fill(runs())
    sync(here.url, there.url)
    here.fill(run("r3", resumes=[1]) | {"log_r3/artifacts/later": b"later"})
    source = FaultyBackend(here.store())
    assert set(sync(source, there.url).copied) == {"log_r3/metadata.json", "log_r3/artifacts/later"}
    assert there.files() == here.files()
    assert verbs(source)["list"] == 2


def test_a_file_of_several_parts_costs_one_more_look(here: Place, there: Place) -> None:
    """Its bytes come in several requests, so the run is read again before its copy says that it has ended."""
    files = runs() | {"log_r0/artifacts/large": bytes(PART + 1)}
    here.fill(files)
    source = FarBackend(here.store())
    sync(source, there.url)
    assert there.files() == files
    reads = Counter(step.key for step in source.operations if step.verb == "get")
    assert sum(count for key, count in reads.items() if key.endswith("metadata.json")) == COUNT + 1


def test_a_file_that_cannot_be_read_for_a_moment_is_compared_again(here: Place, there: Place) -> None:
    here.fill(runs(2))
    sync(here.url, there.url)
    source = FaultyBackend(here.store())
    source.fail(1, key="log.txt")
    assert sync(source, there.url).equal == len(runs(2))
    assert verbs(source)["list"] == 2  # one run was compared again


# -- what is never said too early ----------------------------------------------------------------------------


def check_complete_runs(there: Place, *states: Files) -> Callable[[], None]:
    """Check that each run that says complete has exactly the files of one of the states."""
    lock = threading.Lock()

    def look() -> None:
        with lock:
            store = there.raw().store
            root = there.url.removeprefix("memory:/") + "/"
            now = {key[len(root) :]: file.getvalue() for key, file in tuple(store.items()) if key.startswith(root)}
            for folder in {key.partition("/")[0] for key in now}:
                metadata = now.get(f"{folder}/metadata.json")
                if metadata is None or json.loads(metadata)["status"] != "complete":
                    continue
                found = {key: data for key, data in now.items() if key.startswith(f"{folder}/")}
                wanted = [
                    {key: data for key, data in state.items() if key.startswith(f"{folder}/")} for state in states
                ]
                assert found in wanted, folder

    return look


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("side", ["source", "target"])
def test_a_sync_that_fails_at_any_point_claims_nothing_and_the_next_one_finishes(side: str, after: bool) -> None:
    new = runs(2)
    for nth in range(1, 100):
        root = f"memory://{uuid.uuid4().hex}"
        here, there = Place("memory", f"{root}/here"), Place("memory", f"{root}/there")
        here.fill(new)
        source, target = FarBackend(here.store()), Watched(there, check_complete_runs(there, new))
        failing = source if side == "source" else target
        failing.fail(nth, after=after)
        with suppress(NotataError):
            sync(source, target)
        steps = len(failing.operations)
        failing.heal()
        sync(source, target)
        assert there.files() == new
        if nth > steps:
            return
    raise AssertionError("it never ran out of steps to fail")


METADATA = "log_r1/metadata.json"
AGAIN: Any = {"resumes": [{"time": START}], "lease": {"owner": "second"}}
RESUMED = run("r1", **AGAIN) | {
    "log_r1/artifacts/notes.txt": b"other notes",
    "log_r1/artifacts/later": b"later",
    "log_r1/series/later.jsonl": b"{}\n",
}
OLD = run("r1")
NEW = RESUMED | {METADATA: OLD[METADATA]}
RUNNING = {METADATA: run("r1", status="initialized")[METADATA]}
AGAIN_RUNNING = {METADATA: run("r1", status="initialized", **AGAIN)[METADATA]}
MOMENTS: dict[str, list[Files]] = {
    "it is resumed and ends": [OLD, AGAIN_RUNNING, RESUMED],
    "it is resumed": [OLD, AGAIN_RUNNING, RESUMED | AGAIN_RUNNING],
    "it ends": [OLD | RUNNING, NEW | RUNNING, NEW],
}
"""What a run consists of at first, and what its writer stores then, one after the other; metadata.json last."""


@pytest.mark.parametrize("case", MOMENTS)
def test_a_run_that_changes_at_any_moment_is_copied_as_it_was_or_not_as_complete(case: str) -> None:
    """Its writer continues, or its next attempt begins and perhaps ends, between any two steps of the sync."""
    first, *changes = MOMENTS[case]
    others = {key: data for key, data in runs(3).items() if not key.startswith("log_r1/")}
    for nth in range(1, 100):
        root = f"memory://{uuid.uuid4().hex}"
        here, there = Place("memory", f"{root}/here"), Place("memory", f"{root}/there")
        here.fill(others | first)
        coming, lock = iter([*[None] * (nth - 1), *changes]), threading.Lock()

        def change(here: Place = here, coming: Iterator[Files | None] = coming, lock: Any = lock) -> None:
            with lock:
                files = next(coming, None)
                if files is not None:
                    now = here.files()
                    new = {key: data for key, data in files.items() if now.get(key) != data}
                    here.fill({key: data for key, data in new.items() if key != METADATA})
                    here.fill({key: data for key, data in new.items() if key == METADATA})

        complete = check_complete_runs(there, *(others | files for files in MOMENTS[case]))
        source, target = Watched(here, change), Watched(there, complete)
        sync(source, target)
        complete()
        if next(coming, "none left") != "none left":
            return
        sync(here.url, there.url)
        assert there.files() == here.files()
    raise AssertionError("it never ran out of moments")


def test_a_copy_that_gets_ahead_meanwhile_is_no_error(here: Place, there: Place) -> None:
    """Another sync copies the next attempt of a run after this one has read its metadata.json."""
    here.fill(runs(3))
    there.fill({key: data.replace(b"complete", b"initialized") for key, data in runs(3).items()})
    copied: list[str] = []

    class Late(FarBackend):
        @contextmanager
        def _step(self, verb: str, key: str = "") -> Iterator[None]:
            with super()._step(verb, key):
                yield
            if (verb, key) == ("get", METADATA) and not copied:
                copied.append(key)
                here.fill(RESUMED)
                sync(f"{here.url}/log_r1", there.url)

    sync(Late(here.store()), there.url)
    assert copied
    assert there.files() == here.files()


def test_a_run_that_vanishes_meanwhile_is_reported_and_the_others_are_copied(here: Place, there: Place) -> None:
    here.fill(runs())

    class Vanishing(FarBackend):
        @contextmanager
        def _step(self, verb: str, key: str = "") -> Iterator[None]:
            with super()._step(verb, key):
                yield
            if verb == "list":
                here.store().delete([name for name in here.names(logs=True) if name.startswith("log_r2/")])

    with pytest.raises(BatchError, match=r"no run at .*log_r2"):
        sync(Vanishing(here.store()), there.url)
    assert there.files() == {key: data for key, data in runs().items() if not key.startswith("log_r2/")}
