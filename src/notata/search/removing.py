"""Removal of runs: which runs match, whether they may be removed, and the results."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from notata import table
from notata._base import keys
from notata._base.display import counted
from notata._base.threads import Pool
from notata._base.warn import warn
from notata.errors import ConfigurationError, ConflictError, NotataError, RunExistsError, RunMissingError
from notata.run.listings import inside, name_of
from notata.run.removal import RemovalResult, remove_run
from notata.run.state import claimable, lease_of, parsed, state_of
from notata.search.choosing import Query, Status, Wheres
from notata.search.finding import look_up
from notata.search.places import Place, Run
from notata.search.record import records
from notata.search.target import Failed, Target, URLs, raise_error
from notata.store import Blob, Store
from notata.store.in_flight import mapped

__all__ = ["Removal", "removable", "removals", "remove"]

_AT_ONCE: Final = 16  # runs, each with six requests, most of them one after the other
_TOGETHER: Final = 1000  # removed runs that one part of an index names


@dataclass(frozen=True, slots=True)
class Removal:
    """The result of removing one run.

    Attributes:
        run: The run before the removal.
        remains: The removed files, and those that stayed; None if nothing was removed.
        error: Why nothing was removed.
    """

    run: Run
    remains: RemovalResult | None = None
    error: NotataError | None = None

    @property
    def removed(self) -> bool:
        """True if the run was removed completely."""
        return self.remains is not None and not self.remains.errors

    def record(self) -> dict[str, Any]:
        """Return its fields by name."""
        gone = self.remains.gone if self.remains else {}
        return {
            **{name: getattr(self.run, name) for name in ("name", "run_id", "url", "status", "files", "size")},
            "removed": self.removed,
            "removed_files": len(gone),
            "removed_size": sum(max(0, size) for size in gone.values()),
        }


def remove(
    urls: URLs | Query,
    *,
    recursive: bool = False,
    force: bool = False,
    status: Status = None,
    where: Wheres | None = None,
    storage_options: Mapping[str, Any] | None = None,
    failed: Failed = raise_error,
) -> list[Removal]:
    """Remove whole runs, without confirmation. No other file is changed.

    The status of a run is ``replacing`` from the first step on, and its metadata.json is removed last. After an
    interruption, call this function again. It does not change the index.csv of an experiment. No table shows the row of
    a removed run, and the row is dropped when index.csv is next written. If the experiment has an index of parts, a new
    part hides the rows of the removed runs; it is written after all removals, and after each 1000. A process that is
    killed before that leaves them in the tables that trust the index, until `Experiment.write_index` is called.

    Args:
        urls: Runs, or patterns that match runs, see `URLs`, or a `Query` of those.
        recursive: Also remove all runs at or below each place that is not a run itself.
        force: Also remove running runs. The writer notices the removal; files that it writes until then stay.
        status: Only runs with this status or one of several: ``running``, ``complete``, ``failed``, ``died``,
            ``replacing`` or ``unreadable``.
        where: Only runs that match this expression, such as ``"omega > 1 and age < days(2)"`` (see `Where`), or for
            which this function of a `Run` is true. It costs one read a run, 32 at once, and up to two more for one that
            has not ended, or whose parameters or metrics have changed since. Runs for which the filter cannot be
            evaluated are kept.
        storage_options: Options for fsspec.
        failed: Called with the error of each place and run that cannot be removed; the others are removed. By default,
            the first such error is raised.

    Cost: one listing a place, one read a run, the reads of a filter, and about six requests for each removed run, 16
    runs at once. For each experiment, one or two more.

    Returns:
        The result for each run.

    Raises:
        RunMissingError: There is no run at a place.
        ConfigurationError: A place is not a run, but has runs below it.
        RunExistsError: A run is running.
        ConflictError: Another process took over a run meanwhile.

    >>> from notata import Logbook
    >>> for name in ("a", "b"):
    ...     Logbook(name, "memory://removing").mark_complete()
    >>> [(done.run.run_id, done.removed) for done in remove("memory://removing/log_a")]
    [('a', True)]
    """
    options: dict[str, Any] = {"storage_options": storage_options, "failed": failed}
    query = Query.of(urls, status=status, where=where, **options)
    runs = removable(query, recursive=recursive, force=force)
    return list(removals(runs, force=force, failed=query.failed))


def removable(
    urls: URLs | Query,
    *,
    recursive: bool = False,
    force: bool = False,
    status: Status = None,
    where: Wheres | None = None,
    storage_options: Mapping[str, Any] | None = None,
    failed: Failed = raise_error,
) -> list[Run]:
    """Return the runs that `remove` would remove. Nothing is written.

    Args:
        urls: Runs, or patterns that match runs, see `URLs`, or a `Query` of those.
        recursive: Also return all runs at or below each place that is not a run itself.
        force: Also return running runs.
        status: Only runs with this status or one of several: ``running``, ``complete``, ``failed``, ``died``,
            ``replacing`` or ``unreadable``.
        where: Only runs that match this expression, such as ``"omega > 1 and age < days(2)"`` (see `Where`), or for
            which this function of a `Run` is true. It costs one read a run, 32 at once, and up to two more for one that
            has not ended, or whose parameters or metrics have changed since. Runs for which the filter cannot be
            evaluated are left out.
        storage_options: Options for fsspec.
        failed: Called with the error of each place and run that cannot be removed; the others are returned. By default,
            the first such error is raised.

    Cost: one listing a place and one read a run, and the reads of a filter.

    Raises:
        RunMissingError: There is no run at a place.
        ConfigurationError: A place is not a run, but has runs below it; or the filter is invalid.
        RunExistsError: A run is running.

    >>> from notata import Logbook
    >>> log = Logbook("a", "memory://removable")
    >>> [run.run_id for run in removable("memory://removable", recursive=True, failed=print)]
    memory://removable/log_a is running (process ... is alive); end it, or remove it by force
    []
    """
    options: dict[str, Any] = {"storage_options": storage_options, "failed": failed}
    query = Query.of(urls, status=status, where=where, **options)
    chosen: dict[str, Run] = {}
    for run in query.each(lambda target: _selected(target, query, recursive)):
        if force or run.status != "running":
            chosen.setdefault(run.url, run)
        else:
            query.failed(_running_error(run.name, run.why, certain=run.certain))
    return list(chosen.values())


def _selected(target: Target, query: Query, recursive: bool) -> Iterator[Run]:
    """Yield the runs that the user named and that match the query."""
    skipped: list[NotataError] = []
    place = look_up(target, failed=skipped.append, by_id=True)
    for error in skipped:
        if error.key is None or inside(error.key, place.runs) is None:  # its removal reports errors in a run
            query.failed(error)
    _check_names_runs(place, recursive=recursive)
    found = records(place, values=query.values, failed=query.failed if query.filters else None)
    for run in query.select(found, len(place.runs)):
        if run.is_orphan and not place.means(run.folder):
            warn(f"{run.name} has no {keys.METADATA}, and is kept; name it to remove it")
        else:
            yield replace(run, _experiment=_experiment_of(target, place, run.folder))


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


def removals(runs: Sequence[Run], *, force: bool = False, failed: Failed = raise_error) -> Iterator[Removal]:
    """Remove these runs, 16 at once, and yield the results in order.

    Args:
        runs: The runs, from `removable`.
        force: Also remove runs that are running by now.
        failed: Called with the reason why a run, or a file of one, was not removed. By default, the first such error is
            raised.

    Cost: about six requests for each run.

    >>> from notata import Logbook
    >>> Logbook("a", "memory://removals").mark_complete()
    >>> [(done.run.run_id, done.removed) for done in removals(removable("memory://removals/log_a"))]
    [('a', True)]
    """
    removed = _Removed()
    removing = partial(_removal, force=force, removed=removed)
    try:
        with Pool(_AT_ONCE, "notata-remove") as pool, closing(mapped(removing, runs, pool)) as ended:
            for done in ended:
                errors = [done.error] if done.error else list(done.remains.errors.values()) if done.remains else []
                for error in errors:
                    if not isinstance(error, NotataError):
                        raise error
                    failed(error)
                removed.record(failed, at_least=_TOGETHER)
                yield done
    finally:  # also after an interruption
        removed.record(failed)


def _removal(run: Run, *, force: bool, removed: _Removed) -> Removal:
    try:
        store = run.store
        blob = claimable(store)
        _check_unchanged(run, blob, force=force)
        done = Removal(run, remove_run(store, blob))
    except NotataError as error:
        return Removal(run, error=error)
    if done.removed:
        removed.add(run)
    return done


class _Removed:
    """Removed runs that the indexes of their experiments may still contain. Safe to use from many threads."""

    def __init__(self) -> None:
        self._runs: deque[tuple[Store, str]] = deque()

    def add(self, run: Run) -> None:
        """Add a run that was removed completely."""
        if run._experiment is not None:
            self._runs.append((run._experiment, keys.run_id(run.url)))

    def record(self, failed: Failed, *, at_least: int = 1) -> None:
        """Hide the runs in the indexes, if there are at least so many."""
        if len(self._runs) < at_least:
            return
        experiments: dict[str, tuple[Store, list[str]]] = {}
        while self._runs:
            store, run_id = self._runs.popleft()
            experiments.setdefault(store.url, (store, []))[1].append(run_id)
        for store, run_ids in experiments.values():
            try:
                table.record_removed(store, run_ids)
            except NotataError as error:
                failed(error)


def _check_unchanged(run: Run, blob: Blob | None, *, force: bool) -> None:
    """Check the run again: during the confirmation it may have been resumed or replaced."""
    fields = parsed(blob.data) or {} if blob else {}
    going = fields.get("status") == "replacing" and not lease_of(fields)  # another process removes it too
    if _identity(fields)[: 1 if going else 2] != _identity(run.metadata)[: 1 if going else 2]:
        raise ConflictError(f"{run.name} is another run by now, and was kept", url=run.url, key=keys.METADATA)
    if blob is not None and fields and not force:
        begun = fields.get("status") == "replacing"
        state = state_of({**fields, "status": "initialized"}, blob) if begun else state_of(fields, blob)
        if state.status == "running" and (state.certain or not begun):
            raise _running_error(run.name, state.why, certain=state.certain)


def _identity(fields: Mapping[str, Any]) -> tuple[object, object]:
    """Return the identity of the run and of its attempt."""
    return fields.get("start_time"), lease_of(fields).get("owner")


def _running_error(name: str, why: str, *, certain: bool) -> RunExistsError:
    return RunExistsError(f"{name} {'is' if certain else 'may be'} running ({why}); end it, or remove it by force")


def _check_names_runs(place: Place, *, recursive: bool) -> None:
    """Check that a place names whole runs, and each directly unless `recursive` is set."""
    if not place.runs:
        raise RunMissingError(f"there is no run at {place.given}; only runs are removed", url=place.store.url)
    if "" in place.runs and os.path.islink(place.store.url):
        raise ConfigurationError(f"{place.given} is a link to a run; name that, or remove the link itself")
    for folder, run in place.runs.items():
        if not place.covers(folder):
            raise ConfigurationError(f"{place.given} matches files of {run.name}; only whole runs can be removed")
        if folder == "" and not _is_run(place, run):
            raise RunMissingError(f"{place.given} has a {keys.METADATA}, but is not a run", url=place.store.url)
    below = [folder for folder in place.runs if not place.means(folder)]
    if below and not recursive:
        count = counted(len(below), "run")
        raise ConfigurationError(f"{place.given} is not a run, but has {count} below it; -r removes them")


def _is_run(place: Place, run: Run) -> bool:
    """Check whether a folder is a run: one that is not named log_… may have another program's metadata.json."""
    if name_of(place.store.url).startswith("log_"):
        return True
    blob = claimable(run.store)
    return blob is not None and {"run_id", "status"} <= (parsed(blob.data) or {}).keys()
