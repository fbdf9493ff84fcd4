"""The runs of experiments with a large index, which are not listed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from operator import attrgetter
from typing import Final

from notata._base import keys
from notata.errors import NotataError
from notata.search.places import Origin, Place, Run
from notata.search.target import Target, below, matched_by
from notata.table import Index, IndexFinder, Row, experiments_with_parts, freshness

__all__ = ["PARENT", "experiment_of", "experiment_of_index", "index_notes", "of_parent", "runs_of_indexes"]

PARENT: Final = ".."
"""Stands for the folder of the experiment if the place is its folder ``runs``."""

_WHY: Final = "from the index of its experiment"


def experiment_of(parent: str) -> str:
    """Return the folder of the experiment whose runs are in a folder.

    >>> experiment_of("sweep/runs"), experiment_of("runs"), experiment_of("sweep")
    ('sweep', '', 'sweep')
    """
    return "" if parent == keys.RUNS else parent.removesuffix(f"/{keys.RUNS}")


def experiment_of_index(key: str) -> str | None:
    """Return the folder of the experiment whose index.csv, or part of an index, a file is; None for other files.

    >>> experiment_of_index("sweep/index.csv"), experiment_of_index("sweep/index/0-3f9a-000001.jsonl")
    ('sweep', 'sweep')
    >>> experiment_of_index("runs/log_a/series/scalars.jsonl") is None
    True
    """
    if key.endswith(keys.INDEX):
        folder, _, name = key.rpartition("/")
        return folder if name == keys.INDEX else None
    return next(iter(experiments_with_parts([key])), None)


def of_parent(target: Target, known: Mapping[str, Index] | None = None) -> Index | None:
    """Return the large index of an experiment whose folder ``runs`` is a target; None for other targets.

    Cost: one listing of the names that begin with ``index``, if the name of the target is ``runs``; if the index may be
    large, also that of `notata.table.read_index`.

    Args:
        target: The target.
        known: The indexes that an earlier look-up found.
    """
    if target.pattern or not target.store.url.rstrip("/").endswith(f"/{keys.RUNS}"):
        return None
    with suppress(NotataError):
        store, key = target.beside()
        if key != keys.RUNS:  # the target is a store
            return None
        known_here = {"": known[PARENT]} if known and PARENT in known else {}
        finder = IndexFinder(store, known_here)
        return finder.found[""] if finder.is_large_root() else None
    return None


def runs_of_indexes(place: Place) -> list[Run]:
    """Return the runs of the large indexes of a place, those of each sorted by id. No request; 10⁶ take two seconds."""
    matched = matched_by(place.pattern) if place.pattern else None
    return [run for folder, index in place.indexes.items() for run in _runs_of(index, place, folder, matched)]


def _runs_of(index: Index, place: Place, folder: str, matched: Callable[[str], str | None] | None) -> list[Run]:
    """Return the runs of the index of the experiment in a folder of a place, or in its `PARENT`."""
    inside = "" if folder == PARENT else keys.join(folder, keys.RUNS)
    rows: Iterable[Row] = index.rows.values()
    if matched is not None:
        rows = [row for row in rows if matched(keys.join(inside, f"log_{row.run_id}/{keys.METADATA}")) is not None]
    origin = Origin(below(place.name, inside), place.store, inside, _WHY, index.names)
    runs = Run.of_rows(rows, origin)  # in the order of the rows, as neighbours in memory are read faster
    runs.sort(key=attrgetter("run_id"))
    return runs


def index_notes(place: Place, *, with_age: bool = True) -> list[str]:
    """Return a note for each large index of a place: how many runs it has, how old it is, and what may be missing.

    Args:
        place: The place.
        with_age: State the age, which changes all the time, beside the time.
    """
    named = {place.named("" if folder == PARENT else folder): index for folder, index in place.indexes.items()}
    return [freshness(index, name, with_age=with_age) for name, index in named.items()]
