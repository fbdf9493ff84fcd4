"""Selection of whole runs that are to be changed: each is named itself, or by ``-r``, and matches the filter."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Final

from notata._base import keys
from notata._base.display import counted
from notata._base.warn import warn
from notata.errors import ConfigurationError, NotataError, RunMissingError
from notata.run.listings import inside, name_of
from notata.run.state import claimable, parsed
from notata.search.choosing import Query
from notata.search.finding import look_up
from notata.search.places import Place, Run
from notata.search.record import records
from notata.search.target import Target
from notata.store import Store

__all__ = ["Selection", "select_runs"]

_PARTICIPLES: Final = {"remove": "removed", "pin": "pinned", "unpin": "unpinned"}


@dataclass(frozen=True, slots=True)
class Selection:
    """The runs at one target.

    Attributes:
        runs: The runs that match the query, in its order.
        others: All other runs at the target.
    """

    runs: list[Run]
    others: list[Run]


def select_runs(target: Target, query: Query, *, verb: str, recursive: bool = False, values: bool = False) -> Selection:
    """Return the runs that the user named and that match the query.

    Args:
        target: A run, or a pattern that matches runs.
        query: The filter and the order.
        verb: What is done with the runs, for messages: ``remove``, ``pin`` or ``unpin``.
        recursive: Also select all runs at or below a target that is not a run itself.
        values: Also read parameters and metrics if the query does not need them.

    Cost: one listing, one read a run, and those of the filter and the values.

    Raises:
        RunMissingError: There is no run.
        ConfigurationError: The target is not a run, but has runs below it; or it matches files of a run.
    """
    skipped: list[NotataError] = []
    place = look_up(target, failed=skipped.append, by_id=True)
    for error in skipped:
        if error.key is None or inside(error.key, place.runs) is None:  # its change reports errors in a run
            query.failed(error)
    _check_names_runs(place, verb, recursive=recursive)
    values = values or query.values
    errors: list[NotataError] = []
    found = [_with_error(run, place, errors) for run in records(place, values=values, failed=errors.append)]
    for error in errors if query.filters or values else ():
        query.failed(error)
    chosen = query.select(found, len(place.runs))
    runs = []
    for run in chosen:
        if run.is_orphan and not place.means(run.folder):
            warn(f"{run.name} has no {keys.METADATA}, and is kept; name it explicitly to {verb} it")
        else:
            runs.append(replace(run, _experiment=_experiment_of(target, place, run.folder)))
    urls = {run.url for run in chosen}
    return Selection(runs, [run for run in found if run.url not in urls])


def _with_error(run: Run, place: Place, errors: list[NotataError]) -> Run:
    """Return a run that says so if a file with its values could not be read."""
    mine = [error for error in errors if error.key is not None and inside(error.key, place.runs) == run.folder]
    return replace(run, metrics_error=str(mine[0])) if mine and not run.metrics_error else run


def _experiment_of(target: Target, place: Place, folder: str) -> Store | None:
    """Return the store of the experiment that has a run in its folder ``runs/``; None if the run is in none."""
    above = folder.rpartition("/")[0]
    if above:
        parent, _, name = above.rpartition("/")
        return None if name != keys.RUNS else place.store.below(parent) if parent else place.store
    runs = place.store if folder else target.above(1)
    if runs is None or name_of(runs.url) != keys.RUNS:
        return None
    return target.above(1 if folder else 2)


def _check_names_runs(place: Place, verb: str, *, recursive: bool) -> None:
    """Check that a place names whole runs, and each directly unless `recursive` is set."""
    if not place.runs:
        raise RunMissingError(
            f"there is no run at {place.given}; only runs can be {_PARTICIPLES[verb]}", url=place.store.url
        )
    if "" in place.runs and os.path.islink(place.store.url):
        raise ConfigurationError(f"{place.given} is a link to a run; name the run itself, or remove the link yourself")
    for folder, run in place.runs.items():
        if not place.covers(folder):
            raise ConfigurationError(
                f"{place.given} matches files of {run.name}; only whole runs can be {_PARTICIPLES[verb]}"
            )
        if folder == "" and not _is_run(place, run):
            raise RunMissingError(f"{place.given} has a {keys.METADATA}, but is not a run", url=place.store.url)
    below = [folder for folder in place.runs if not place.means(folder)]
    if below and not recursive:
        count = counted(len(below), "run")
        raise ConfigurationError(f"{place.given} is not a run, but has {count} below it; pass -r to {verb} them")


def _is_run(place: Place, run: Run) -> bool:
    """Check whether a folder is a run: one that is not named log_… may have another program's metadata.json."""
    if name_of(place.store.url).startswith("log_"):
        return True
    blob = claimable(run.store)
    return blob is not None and {"run_id", "status"} <= (parsed(blob.data) or {}).keys()
