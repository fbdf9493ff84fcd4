"""Removal of runs: which runs match, whether they may be removed, and the results."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from notata import table
from notata._base import keys
from notata._base.threads import Pool
from notata._base.warn import warn
from notata.errors import ConfigurationError, ConflictError, NotataError, RunExistsError
from notata.run.removal import RemovalResult, pinned_error, remove_run
from notata.run.state import claimable, lease_of, parsed, state_of
from notata.search.choosing import Query, Status, Wheres
from notata.search.places import Run
from notata.search.retention import Decision, Retention, orphaned
from notata.search.selecting import select_runs
from notata.search.sources import parents_of, sources_of
from notata.search.target import Failed, URLs, raise_error
from notata.store import Blob, Store
from notata.store.in_flight import mapped

__all__ = ["Removal", "decisions", "removable", "removals", "remove"]

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
    retention: Retention | None = None,
    pinned: bool = False,
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
        retention: Which runs are kept, such as the best ones, and those that are not old enough, see `Retention`. It
            costs the reads of parameters and metrics. Pinned and running runs are then kept without an error, and so
            are the parents of runs that stay.
        pinned: Also remove pinned runs.
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
        RunExistsError: A run is running or pinned.
        ConflictError: Another process took over a run meanwhile.

    >>> from notata import Logbook
    >>> for name in ("a", "b"):
    ...     Logbook(name, "memory://removing").mark_complete()
    >>> [(done.run.run_id, done.removed) for done in remove("memory://removing/log_a")]
    [('a', True)]
    """
    options: dict[str, Any] = {"storage_options": storage_options, "failed": failed}
    query = Query.of(urls, status=status, where=where, **options)
    runs = removable(query, recursive=recursive, force=force, retention=retention, pinned=pinned)
    return list(removals(runs, force=force, pinned=pinned, failed=query.failed))


def removable(
    urls: URLs | Query,
    *,
    recursive: bool = False,
    force: bool = False,
    retention: Retention | None = None,
    pinned: bool = False,
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
        retention: Which runs are kept, such as the best ones, and those that are not old enough, see `Retention`. It
            costs the reads of parameters and metrics. Pinned and running runs are then kept without an error, and so
            are the parents of runs that stay.
        pinned: Also return pinned runs.
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
        RunExistsError: A run is running or pinned.

    >>> from notata import Logbook
    >>> log = Logbook("a", "memory://removable")
    >>> [run.run_id for run in removable("memory://removable", recursive=True, failed=print)]
    memory://removable/log_a is running (process ... is alive); stop it, or pass --force (force=True) to remove it
    []
    """
    options: dict[str, Any] = {"storage_options": storage_options, "failed": failed}
    query = Query.of(urls, status=status, where=where, **options)
    found = decisions(query, recursive=recursive, force=force, retention=retention, pinned=pinned)
    for decision in found:
        if decision.error is not None:
            query.failed(decision.error)
    return [decision.run for decision in found if decision.removes]


def decisions(
    urls: URLs | Query,
    *,
    recursive: bool = False,
    force: bool = False,
    retention: Retention | None = None,
    pinned: bool = False,
    status: Status = None,
    where: Wheres | None = None,
    storage_options: Mapping[str, Any] | None = None,
    failed: Failed = raise_error,
) -> list[Decision]:
    """Return for each run whether `remove` would remove it, and why. Nothing is written.

    Arguments and cost are those of `removable`. Without `retention`, a running or pinned run has an `error`, and
    a warning names runs that are the parents of others which stay.

    Raises:
        RunMissingError: There is no run at a place.
        ConfigurationError: A place is not a run, but has runs below it; or the filter or the retention is invalid.

    >>> from notata import Logbook
    >>> for error in (0.3, 0.1, 0.2):
    ...     with Logbook(f"e{error:g}", "memory://decisions") as log:
    ...         path = log.json("metrics", {"error": error})
    >>> found = decisions("memory://decisions", recursive=True, retention=Retention(keep_best="1:error"))
    >>> [(decision.run.run_id, decision.removes, decision.reason) for decision in found]
    [('e0.1', False, 'best by error'), ('e0.2', True, 'not kept'), ('e0.3', True, 'not kept')]
    """
    options: dict[str, Any] = {"storage_options": storage_options, "failed": failed}
    query = Query.of(urls, status=status, where=where, **options)
    if retention is not None and not retention:
        raise ConfigurationError("the retention keeps no runs: pass keep_best, keep_last or older, or omit retention")
    runs: dict[str, Run] = {}
    others: dict[str, Run] = {}
    values = retention is not None and retention.values
    for some in query.each(
        lambda target: [select_runs(target, query, verb="remove", recursive=recursive, values=values)]
    ):
        runs |= {run.url: run for run in some.runs if run.url not in runs}
        others |= {run.url: run for run in some.others}
    others = {url: run for url, run in others.items() if url not in runs}
    if retention is not None:
        sources = partial(sources_of, failed=query.failed) if retention.keep_inputs else parents_of
        return retention.decisions([*runs.values()], [*others.values()], force=force, pinned=pinned, sources=sources)
    found = [_decision(run, force=force, pinned=pinned) for run in runs.values()]
    _warn_of_parents(found, [*others.values()])
    return found


def _decision(run: Run, *, force: bool, pinned: bool) -> Decision:
    """Return the decision about a run that the user named, without a rule."""
    if run.pinned and not pinned:
        return Decision(run, False, "pinned", "it is pinned", pinned_error(run.name))
    if run.status == "running" and not force:
        return Decision(run, False, "running", run.why, _running_error(run.name, run.why, certain=run.certain))
    return Decision(run, True)


def _warn_of_parents(found: Sequence[Decision], others: Sequence[Run]) -> None:
    """Warn about runs to be removed that are the parents of others, which stay."""
    stay = [*others, *(decision.run for decision in found if not decision.removes)]
    for parent, child, _ in orphaned(found, parents_of(stay)):
        warn(f"{parent.name} is the parent of {child.name}, which is kept")


def removals(
    runs: Sequence[Run], *, force: bool = False, pinned: bool = False, failed: Failed = raise_error
) -> Iterator[Removal]:
    """Remove these runs, 16 at once, and yield the results in order.

    Args:
        runs: The runs, from `removable`.
        force: Also remove runs that are running by now.
        pinned: Also remove pinned runs.
        failed: Called with the reason why a run, or a file of one, was not removed. By default, the first such error is
            raised.

    Cost: about six requests for each run.

    >>> from notata import Logbook
    >>> Logbook("a", "memory://removals").mark_complete()
    >>> [(done.run.run_id, done.removed) for done in removals(removable("memory://removals/log_a"))]
    [('a', True)]
    """
    removed = _Removed()
    removing = partial(_removal, force=force, pinned=pinned, removed=removed)
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


def _removal(run: Run, *, force: bool, pinned: bool, removed: _Removed) -> Removal:
    try:
        store = run.store
        blob = claimable(store)
        _check_unchanged(run, blob, force=force)
        done = Removal(run, remove_run(store, blob, pinned=pinned))
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
        raise ConflictError(f"{run.name} is a different run by now, and was kept", url=run.url, key=keys.METADATA)
    if blob is not None and fields and not force:
        begun = fields.get("status") == "replacing"
        state = state_of({**fields, "status": "initialized"}, blob) if begun else state_of(fields, blob)
        if state.status == "running" and (state.certain or not begun):
            raise _running_error(run.name, state.why, certain=state.certain)


def _identity(fields: Mapping[str, Any]) -> tuple[object, object]:
    """Return the identity of the run and of its attempt."""
    return fields.get("start_time"), lease_of(fields).get("owner")


def _running_error(name: str, why: str, *, certain: bool) -> RunExistsError:
    return RunExistsError(
        f"{name} {'is' if certain else 'may be'} running ({why}); stop it, or pass --force (force=True) to remove it"
    )
