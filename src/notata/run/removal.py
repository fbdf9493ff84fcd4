"""Remove a run: mark it as ``replacing`` first, and delete its metadata.json last.

A reader never mistakes a partly removed run for a complete one, and another removal continues where the first one
stopped. If a new writer claims the run during the removal, its files are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Final

from notata._base import keys
from notata.errors import BatchError, ConflictError, DeadlineError, ExistsError, RunExistsError, StorageError
from notata.formats import JSON, encode
from notata.run.state import LEASE, PINNED, find_metadata, is_pinned, parsed
from notata.store import ABSENT, Blob, Entry, Store
from notata.store.gaps import Gaps

__all__ = ["RemovalResult", "errors_by_key", "pinned_error", "remove_run"]

AT_ONCE: Final = 1000  # files per deletion request of S3; the owner of the run is checked before each request


@dataclass(frozen=True, slots=True)
class RemovalResult:
    """The result of a removal.

    Attributes:
        gone: The size of each removed file, by key.
        errors: The errors of files that were not removed, by key, including folders that cannot be opened. With errors,
            the run keeps the status ``replacing``.
        left: Entries that are neither files nor links, such as pipes. They are not removed.
        links: The removed links. Their targets are unchanged.
    """

    gone: Mapping[str, int] = field(default_factory=dict)
    errors: Mapping[str, Exception] = field(default_factory=dict)
    left: tuple[str, ...] = ()
    links: tuple[str, ...] = ()


def remove_run(
    run: Store, found: Blob | None, entries: Iterable[Entry] | None = None, *, pinned: bool = False
) -> RemovalResult:
    """Remove the run in a store.

    If another writer claims the run during the removal, its files are kept. S3 deletes by name, so there a file is kept
    only if it is written before the next check. There is one check for every 1000 files, and one before metadata.json.
    Cost on a bucket: a listing, a compare-and-swap, the deletions, a check and a last deletion.

    Args:
        run: The store of the run.
        found: The metadata.json when the removal was decided; None if there was none.
        entries: The files to remove, as listed; by default all files of the run, including unfinished writes.
        pinned: Also remove a pinned run.

    Raises:
        RunExistsError: The run is pinned; nothing was removed.
        ConflictError: metadata.json has changed, so nothing was removed, or nothing more from then on.
        FolderError: The run's folder is a link; nothing was removed.
        StorageError: The storage failed.

    >>> from notata import Logbook
    >>> from notata.store import open_store
    >>> Logbook("a", "memory://removal").mark_complete()
    >>> run = open_store("memory://removal/log_a")
    >>> sorted(remove_run(run, run.fetch("metadata.json")).gone), run.list()
    (['log.txt', 'manifest.json', 'metadata.json'], [])
    """
    run = run.strictly()
    if found is not None and not pinned and is_pinned(parsed(found.data) or {}):
        raise pinned_error(run.url)
    gaps = Gaps()
    listed = run.list_all(skipped=gaps) if entries is None else list(entries)
    last = _mark_replacing(run, found)
    gone: dict[str, int] = {}
    errors: dict[str, Exception] = {error.key or "": error for error in gaps.errors(run.url)}
    listed = [entry for entry in listed if entry.key != keys.METADATA]
    for start in range(0, len(listed), AT_ONCE):
        if start:
            _check(run, last.version)
        some = listed[start : start + AT_ONCE]
        errors |= errors_by_key(partial(run.remove, some), (entry.key for entry in some))
        gone |= {entry.key: entry.size for entry in some if entry.key not in errors}
        if any(isinstance(error, DeadlineError) for error in errors.values()):
            break  # each further batch would wait as long
    links: list[str] = []
    if not errors:  # with errors, metadata.json stays, so that the remaining files can be found
        _check(run, last.version)
        links = run.remove_links()
        errors |= errors_by_key(partial(run.remove, [last]), [last.key])
        gone |= {} if errors or found is None else {last.key: last.size}
    left = () if errors else tuple(run.irregular())
    run.remove_empty_folders()
    return RemovalResult(
        {key: size for key, size in gone.items() if not keys.is_reserved(key)}, errors, left, tuple(links)
    )


def _mark_replacing(run: Store, found: Blob | None) -> Entry:
    """Set the status ``replacing`` and remove the owner in metadata.json; its next heartbeat detects that.

    The pin goes too: the user decided to remove the run, and another removal continues without a new decision.
    """
    fields = {} if found is None else parsed(found.data) or {}
    data = encode(
        JSON, {**{name: value for name, value in fields.items() if name not in (LEASE, PINNED)}, "status": "replacing"}
    )
    try:
        version = run.put(keys.METADATA, data, ABSENT if found is None else found.version)
    except (ConflictError, ExistsError) as error:
        raise _claimed_error(run) from error
    return Entry(keys.METADATA, len(data) if found is None else found.size, datetime.now(UTC), version)


def _check(run: Store, version: str) -> None:
    now = find_metadata(run)
    if now is None or now.version != version:
        raise _claimed_error(run)


def pinned_error(name: str) -> RunExistsError:
    """Return the error for a pinned run that is not removed."""
    return RunExistsError(
        f"{name} is pinned, and was kept; unpin it with notata unpin, or remove it with notata rm --pinned"
    )


def _claimed_error(run: Store) -> ConflictError:
    return ConflictError(
        f"cannot remove {run.url}: another writer has claimed the run, and its files were kept. Wait for the run to "
        "end",
        url=run.url,
        key=keys.METADATA,
    )


def errors_by_key(remove: Callable[[], object], names: Iterable[str]) -> dict[str, Exception]:
    """Remove several files; return the errors by key.

    Args:
        remove: Removes the files.
        names: Their keys.
    """
    try:
        remove()
    except BatchError as failed:
        return {str(getattr(error, "key", "")): error for error in failed.exceptions}
    except StorageError as error:
        return dict.fromkeys(names, error)
    return {}
