"""Pinning of runs: the field ``pinned`` of metadata.json, which protects a run from removal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from notata import table
from notata._base import keys, limits
from notata._base.threads import Pool
from notata.errors import ConflictError, NotataError, RunMissingError, StorageError
from notata.formats import Json, encode
from notata.run.state import ENDED, PINNED, is_pinned, lease_of, metadata, state_of
from notata.search.choosing import Query, Status, Wheres
from notata.search.places import Run
from notata.search.selecting import select_runs
from notata.search.target import Failed, URLs, raise_error
from notata.store import Blob, Store
from notata.store.in_flight import mapped

__all__ = ["Pinning", "pin", "unpin"]

_AT_ONCE: Final = 16  # runs, each with two requests


@dataclass(frozen=True, slots=True)
class Pinning:
    """The result of pinning or unpinning one run.

    Attributes:
        run: The run before the change.
        changed: Whether the run was changed; False if it was pinned, or unpinned, already.
        error: Why it was not changed.
    """

    run: Run
    changed: bool = False
    error: NotataError | None = None


def pin(
    urls: URLs | Query,
    *,
    recursive: bool = False,
    status: Status = None,
    where: Wheres | None = None,
    storage_options: Mapping[str, Any] | None = None,
    failed: Failed = raise_error,
) -> list[Pinning]:
    """Protect runs from removal: store ``"pinned": true`` in metadata.json by compare-and-swap.

    Running runs can be pinned, too: their writer adopts the change. `remove` and `notata rm` then keep the run, a
    `Logbook` with ``overwrite=True`` and this run id is refused, and so is a `notata.sync` that would remove it.
    Nothing else is protected: files can still be added, and replaced one by one.

    Args:
        urls: Runs, or patterns that match runs, see `URLs`, or a `Query` of those.
        recursive: Also pin all runs at or below each place that is not a run itself.
        status: Only runs with this status or one of several.
        where: Only runs that match this expression, such as ``"error < 0.01"`` (see `Where`), or for which this
            function of a `Run` is true.
        storage_options: Options for fsspec.
        failed: Called with the error of each place and run that cannot be pinned. By default, the first such error is
            raised.

    Cost: one listing a place, one read a run, the reads of a filter, and two requests for each run that is changed, 16
    runs at once. If its experiment has an index of parts, two more for all of its runs.

    Raises:
        RunMissingError: There is no run at a place.
        ConfigurationError: A place is not a run, but has runs below it.
        ConflictError: A run is being removed or replaced.
        StorageError: The storage failed, or has no compare-and-swap and the run is running.

    >>> from notata import Logbook, search
    >>> Logbook("best", "memory://pinning").mark_complete()
    >>> [done.changed for done in pin("memory://pinning/log_best")]
    [True]
    >>> [run.pinned for run in search.runs("memory://pinning")]
    [True]
    """
    return _changed(urls, True, recursive, failed, status=status, where=where, storage_options=storage_options)


def unpin(
    urls: URLs | Query,
    *,
    recursive: bool = False,
    status: Status = None,
    where: Wheres | None = None,
    storage_options: Mapping[str, Any] | None = None,
    failed: Failed = raise_error,
) -> list[Pinning]:
    """Undo `pin`: store ``"pinned": false`` in metadata.json, which `notata.sync` carries to copies.

    Arguments, cost and errors are those of `pin`. A run that is not pinned is not changed.

    >>> from notata import Logbook
    >>> Logbook("a", "memory://unpinning").mark_complete()
    >>> _ = pin("memory://unpinning/log_a")
    >>> [done.changed for done in unpin("memory://unpinning/log_a")]
    [True]
    """
    return _changed(urls, False, recursive, failed, status=status, where=where, storage_options=storage_options)


def _changed(urls: URLs | Query, pinned: bool, recursive: bool, failed: Failed, **options: Any) -> list[Pinning]:
    query = Query.of(urls, failed=failed, **options)
    verb = "pin" if pinned else "unpin"
    runs: dict[str, Run] = {}
    for some in query.each(lambda target: [select_runs(target, query, verb=verb, recursive=recursive)]):
        runs |= {run.url: run for run in some.runs if run.url not in runs}
    done = [*_each(list(runs.values()), pinned, verb, query.failed)]
    _update_indexes([one.run for one in done if one.changed], query.failed)
    return done


def _each(runs: Sequence[Run], pinned: bool, verb: str, failed: Failed) -> Iterator[Pinning]:
    changing = partial(_change, pinned=pinned, verb=verb)
    with Pool(_AT_ONCE, "notata-pin") as pool, closing(mapped(changing, runs, pool)) as ended:
        for done in ended:
            if done.error is not None:
                failed(done.error)
            yield done


def _change(run: Run, *, pinned: bool, verb: str) -> Pinning:
    if run.status != "unreadable" and run.pinned == pinned and not _begun_to_be_removed(run.metadata):
        return Pinning(run)
    try:
        return Pinning(run, _store_pin(run.store.strictly(), pinned, run.name, verb))
    except NotataError as error:
        return Pinning(run, error=error)


def _store_pin(store: Store, pinned: bool, name: str, verb: str) -> bool:
    """Store the field, and return whether that changed it."""
    changed = False

    def with_pin(found: Blob | None) -> bytes | None:
        nonlocal changed
        changed = False
        if found is None:
            raise RunMissingError(
                f"cannot {verb} {name}: there is no {keys.METADATA}", url=store.url, key=keys.METADATA
            )
        fields = metadata(found, store.url, keys.METADATA)
        if fields.get("status") == "replacing":
            raise ConflictError(
                f"cannot {verb} {name}: it is being removed, replaced or copied. Try again when that is done",
                url=store.url,
                key=keys.METADATA,
            )
        if is_pinned(fields) == pinned:
            return None
        _check_swappable(store, fields, found, name, verb)
        changed = True
        data = encode(Json("metadata"), {**fields, PINNED: pinned})
        return limits.check_stored(data, keys.METADATA, store.url)

    store.modify(keys.METADATA, with_pin)
    return changed


def _check_swappable(store: Store, fields: Mapping[str, Any], found: Blob, name: str, verb: str) -> None:
    """Check that no writer can be disturbed: without compare-and-swap, only a run that has ended is changed."""
    if not store.supports_cas and fields.get("status") not in ENDED and state_of(fields, found).status == "running":
        raise StorageError(
            f"cannot {verb} {name}: it is running, and its storage has no compare-and-swap. Wait until it has ended, "
            f"or call log.meta({PINNED}={verb == 'pin'}) in its script",
            url=store.url,
            key=keys.METADATA,
        )


def _begun_to_be_removed(fields: Mapping[str, Any]) -> bool:
    return fields.get("status") == "replacing" and not lease_of(fields)


def _update_indexes(runs: Sequence[Run], failed: Failed) -> None:
    """Add the rows of changed runs to the indexes of experiments that have parts: a large index is trusted."""
    experiments: dict[str, tuple[Store, list[str]]] = {}
    for run in runs:
        if run._experiment is not None and run.status in ENDED:
            store = run._experiment
            experiments.setdefault(store.url, (store, []))[1].append(keys.run_id(run.url))
    for store, run_ids in experiments.values():
        try:
            table.record_changed(store, run_ids)
        except NotataError as error:
            failed(error)
