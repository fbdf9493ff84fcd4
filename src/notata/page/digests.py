"""The SHA-256 of the files of a run, as its manifest has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

from notata._base import keys
from notata.errors import NotataError
from notata.manifest.document import Document, Receipt
from notata.manifest.trust import holds, is_of_run, whole_digest
from notata.run.state import lease_of
from notata.search.places import Run
from notata.search.prefetch import prefetched
from notata.store import Entry

__all__ = ["digests_of"]

_MOST: Final = 4 * 2**20  # bytes of a manifest, for about 25,000 files; the page lists 5000
_ROUNDING: Final = 0.001  # seconds; a manifest has the time of its begin in whole milliseconds


def digests_of(runs: Sequence[Run]) -> Iterator[dict[str, str]]:
    """Yield the SHA-256 of the files of each run by key, as far as its manifest has one that holds for the listed file.

    A file that has changed since has none, nor has any file of a run whose manifest is too large or cannot be read.

    Cost: one read for each run that has a manifest of at most 4 MiB; 32 at once.
    """
    wanted = ((run, run.file(keys.MANIFEST), 0, _size(run)) for run in runs if _size(run))
    found = prefetched(wanted)
    try:
        for run in runs:
            if not _size(run):
                yield {}
                continue
            _, reading = next(found)
            try:
                data = run.store.read(keys.MANIFEST) if reading is None else reading.result().data
            except NotataError:  # removed meanwhile; the page is complete without it
                yield {}
                continue
            yield _digests(run, Document.parse_undamaged(data))
    finally:
        found.close()


def _size(run: Run) -> int:
    """Return the bytes of the manifest of a run; 0 if there is none to read."""
    entry = run.entries.get(keys.MANIFEST)
    return entry.size if entry is not None and 0 < entry.size <= _MOST else 0


def _digests(run: Run, document: Document | None) -> dict[str, str]:
    if document is None:
        return {}
    has_ended = run.status in ("complete", "failed")
    is_own = is_of_run(document, has_ended=has_ended, owner=str(lease_of(run.metadata).get("owner", "")))
    files: Mapping[str, Receipt] = document.files
    return {
        key: whole_digest(files[key], entry).hex()
        for key, entry in run.entries.items()
        if key in files and _is_valid(files[key], entry, document.created, is_own=is_own)
    }


def _is_valid(receipt: Receipt, entry: Entry, created: datetime, *, is_own: bool) -> bool:
    """Check whether a receipt holds for a file.

    For a proof, a file without a version must be older than the manifest by two seconds, and files of short runs are
    not. The page accepts those that were not modified after the manifest was begun, if it is that of the run.
    """
    if not receipt.sha256 or receipt.size != entry.size:
        return False
    return holds(receipt, entry, created) or (
        is_own and not receipt.version and 0 < entry.modified.timestamp() <= created.timestamp() + _ROUNDING
    )
