"""How a run is removed: it says so first, and its metadata.json goes last; it knows not who wants it, nor other runs.

Nobody takes half a run for a whole one: until its last file is gone it says ``replacing``, and who removes it once more
goes on from there. Who takes the run meanwhile keeps what they write.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from notata._base import keys
from notata.errors import BatchError, ConflictError, DeadlineError, ExistsError, StorageError
from notata.formats import JSON, encode
from notata.run.state import LEASE, parsed, stored
from notata.store import Blob, Entry, Store
from notata.store.gaps import Gaps

__all__ = ["Remains", "remove_run"]

_AT_ONCE: Final = 1000  # deletions of one request of S3, from one look at whose the run is to the next


@dataclass(frozen=True, slots=True)
class Remains:
    """What came of a removal.

    Attributes:
        gone: The files that were removed, with the size of each, by key; of those that it had.
        errors: Why others were not, by key, folders that cannot be opened included; the run says ``replacing`` then.
        left: What is neither a file nor a link, such as a pipe, and so was left.
        links: The links that were removed; what they lead to is as it was.
    """

    gone: Mapping[str, int] = field(default_factory=dict)
    errors: Mapping[str, Exception] = field(default_factory=dict)
    left: tuple[str, ...] = ()
    links: tuple[str, ...] = ()


def remove_run(run: Store, found: Blob | None, entries: Iterable[Entry] | None = None) -> Remains:
    """Remove the run at a store's root. On a bucket: a listing, a swap, the deletions, a look and a last deletion.

    What another owner writes who takes the run meanwhile stays; S3 deletes by name, so there it stays if it comes
    before this looks, which it does once for 1000 files and before metadata.json.

    Args:
        run: Of the run.
        found: Its metadata.json as it was when this was decided; None if it had none.
        entries: What to remove of it, as listed; when not given, all that it has, unfinished writes too.

    Raises:
        ConflictError: metadata.json is another one by now, so nothing was removed; or from then on.
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
    gaps = Gaps()
    listed = run.list_all(skipped=gaps) if entries is None else list(entries)
    last = _announce(run, found)
    gone: dict[str, int] = {}
    errors: dict[str, Exception] = {error.key or "": error for error in gaps.errors(run.url)}
    listed = [entry for entry in listed if entry.key != keys.METADATA]
    for start in range(0, len(listed), _AT_ONCE):
        if start:
            _check(run, last.version)
        some = listed[start : start + _AT_ONCE]
        errors |= _removed(run, some)
        gone |= {entry.key: entry.size for entry in some if entry.key not in errors}
        if any(isinstance(error, DeadlineError) for error in errors.values()):
            break  # each batch would wait as long
    links: list[str] = []
    if not errors:  # else it keeps saying that it goes: what is left is to be found
        _check(run, last.version)
        links = run.remove_links()
        errors |= _removed(run, [last])
        gone |= {} if errors or found is None else {last.key: last.size}
    left = () if errors else tuple(run.irregular())
    run.remove_empty_folders()
    return Remains({key: size for key, size in gone.items() if not keys.is_reserved(key)}, errors, left, tuple(links))


def _announce(run: Store, found: Blob | None) -> Entry:
    """Have metadata.json say that the run goes, and be nobody's: its owner learns so at the next sign of life."""
    fields = {} if found is None else parsed(found.data) or {}
    data = encode(JSON, {**{name: value for name, value in fields.items() if name != LEASE}, "status": "replacing"})
    try:
        version = run.create(keys.METADATA, data) if found is None else run.replace(keys.METADATA, data, found.version)
    except (ConflictError, ExistsError) as error:
        raise _taken(run) from error
    return Entry(keys.METADATA, len(data) if found is None else found.size, datetime.now(UTC), version)


def _check(run: Store, version: str) -> None:
    now = stored(run)
    if now is None or now.version != version:
        raise _taken(run)


def _taken(run: Store) -> ConflictError:
    return ConflictError(
        f"{run.url}: another writer has the run by now; what they write is left", url=run.url, key=keys.METADATA
    )


def _removed(run: Store, entries: Iterable[Entry]) -> dict[str, Exception]:
    """Remove files as they were listed, many at once; why others were not, by key."""
    listed = list(entries)
    try:
        run.remove(listed)
    except BatchError as failed:
        return {str(getattr(error, "key", "")): error for error in failed.exceptions}
    except StorageError as error:
        return {entry.key: error for entry in listed}
    return {}
