"""The columns of a table of a large index: found without a look at every row, and the same as with one."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from notata import search
from notata.search.places import Origin, Run
from notata.search.tables import extreme_columns, usual_columns
from notata.store import Store, open_store
from notata.table import Names, Row, flat_names, own_names, read_index, record_removed, write_parts
from notata.table.lines import encoded_row

LARGE = 10_001
"""The least number of rows of a large index."""

NAMES = st.sampled_from(["a", "b", "a.b", "loss", "loss.min", "loss.min.min", "{"])
VALUES = st.recursive(
    st.none() | st.integers(0, 3) | st.sampled_from(["x", "{", "{{{"]) | st.just(float("nan")),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=4,
)
NAMED = st.dictionaries(NAMES, VALUES, max_size=3)
ROWS = st.builds(
    lambda **fields: Row(**fields),
    run_id=st.sampled_from("abcdef"),
    status=st.just("complete"),
    params=NAMED,
    metrics=NAMED,
    failure_reason=st.sampled_from(["", "{"]),
    metrics_error=st.sampled_from(["", "odd"]),
    started=st.just("2026-11-01T10:00:00Z"),
    time=st.floats(1, 9),
)


def new_store() -> Store:
    return open_store(f"memory://index-names-{uuid.uuid4()}")


def listed(rows: dict[str, Row]) -> list[Run]:
    """Return runs with the values of these rows, as if they were read one by one."""
    return [
        Run(
            one.run_id,
            one.run_id,
            f"memory://{one.run_id}",
            one.status,
            params=one.params,
            metrics=one.metrics,
            failure_reason=one.failure_reason,
            metrics_error=one.metrics_error,
        )
        for one in rows.values()
    ]


@settings(max_examples=150)
@given(st.lists(ROWS, max_size=8), st.sets(st.sampled_from("abc")))
@example([Row("a", "complete", {"x": {}, "y": 1}), Row("a", "complete", {"z": 2}, time=5.0)], set())
@example([Row("a", "complete", {}, {"loss": 1}), Row("b", "complete", {}, {"loss": {"min": 1}})], set())
@example([Row("a", "complete", {"x": {"y": {}}})], {"b"})
def test_the_columns_are_those_that_a_look_at_every_row_finds(rows: list[Row], gone: set[str]) -> None:
    store = new_store()
    half = len(rows) // 2
    write_parts(store, rows[:half])
    known = read_index(store)
    if rows[half:]:
        store.write("index/0-ab-000001.jsonl", b"".join(map(encoded_row, rows[half:])))
    record_removed(store, gone, now=4.0)
    for index in (read_index(store, large=-1), read_index(store, known, large=-1)):
        assert index is not None
        runs = Run.of_rows(index.rows.values(), Origin("sweep/runs", store, "runs", "", index.names))
        expected = listed(dict(index.rows))
        assert usual_columns(runs) == usual_columns(expected)
        assert extreme_columns(runs) == extreme_columns(expected)
        assert index.names.params >= flat_names([run.params for run in expected])
        assert index.names.metrics >= flat_names([run.metrics for run in expected])
        assert index.names.own_metrics >= own_names([run.metrics for run in expected])


def test_the_search_for_names_ends_when_all_are_found() -> None:
    def endless() -> Iterator[dict[str, int]]:
        yield {"a": 1}
        yield {"b": 1}
        raise AssertionError

    assert flat_names(endless(), {"a", "b"}) == own_names(endless(), {"a", "b"}) == {"a", "b"}
    assert flat_names([{"a": 1}], {"a", "b"}) == own_names([{"a": 1}], {"a", "b"}) == {"a"}


def test_names_are_added_up() -> None:
    names = Names()
    names.add([Row("a", "failed", {"n": {"x": 1}}, {"m": {"y": 1}}, "boom")])
    other = Names()
    other.add([Row("b", "complete", {"p": 1}, {"m": 1}, metrics_error="odd")], are_flat=True)
    names.update(other)
    assert (names.params, names.metrics) == ({"n.x", "p"}, {"m.y", "m"})
    assert (names.own_metrics, names.facts) == ({"m"}, {"failure_reason", "metrics_error"})


@contextmanager
def calls() -> Iterator[list[int]]:
    """Count the calls of Python functions in a block."""
    count = [0]

    def note(_frame: Any, event: str, _value: Any) -> None:
        count[0] += event == "call"

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield count
    finally:
        sys.setprofile(before)


@pytest.mark.parametrize(
    ("params", "most"), [(lambda n: {"lr": n, "seed": n}, 1.1), (lambda n: {"net": {"depth": n}, "seed": n}, 3.1)]
)
def test_a_table_of_a_large_index_takes_one_call_of_python_a_row(params: Callable[[int], Any], most: float) -> None:
    store = new_store()
    rows = [
        Row(f"run-{n}", "complete", params(n), {"loss": n / 7, "loss.min": 0.0}, "", "", "0f", "2026", {}, "2026", 1.0)
        for n in range(LARGE)
    ]
    write_parts(store, rows, time=1.5)
    search.table(store)  # imports
    with calls() as count:
        found = search.table(store)
    assert len(found) == LARGE
    assert count[0] <= most * LARGE + 2000
    assert found.columns == ["run_id", *sorted(flat_names([rows[0].params])), "status", "loss"]


AGING = """
import gc
from notata._base.garbage import paused_collection

visited = []
gc.callbacks.append(lambda phase, _: phase == "start" and visited.append(len(gc.get_objects(generation=0)) > 100_000))
for _ in range(3):
    with paused_collection():
        made = [[number] for number in range(200_000)]
    more = [[number] for number in range(2000)]
    print(any(visited), end=" ")
    del made
    visited.clear()
gc.collect()
visited.clear()
with paused_collection():
    made = [[number] for number in range(200_000)]
more = [[number] for number in range(2000)]
print(any(visited), end=" ")
del made
gc.collect()
gc.freeze()
frozen = gc.get_freeze_count()
with paused_collection():
    made = [[number] for number in range(200_000)]
print(gc.get_freeze_count() - frozen)
"""


def test_many_new_objects_count_as_old_ones_once_between_two_full_collections() -> None:
    done = subprocess.run([sys.executable, "-c", AGING], capture_output=True, text=True, check=True)
    assert done.stdout == "False True True False 0\n"  # was a collection of new objects slow?; objects of a user
