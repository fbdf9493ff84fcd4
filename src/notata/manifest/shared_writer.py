"""Store a manifest that several processes write together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from notata._base.processes import Lock
from notata.errors import NotataError
from notata.manifest.document import Receipt
from notata.manifest.file import ManifestFile
from notata.manifest.hashing import hashed
from notata.manifest.recording import FileRecords
from notata.manifest.trust import valid_receipts
from notata.store import Entry, Store

__all__ = ["SharedManifestWriter"]


class SharedManifestWriter:
    """Writes the manifest of a worker, together with other processes of the same rank.

    Args:
        store: The store of the run, which records what this process stores.
        key: The key of the manifest.
        run_id: The id of the run.
        owner: The owner of the run, see `Document.owner`.
    """

    def __init__(self, store: Store, records: FileRecords, key: str, run_id: str, owner: str) -> None:
        self._store = store
        self._records = records
        self._file = ManifestFile(store, key, run_id, owner)
        self._lock = Lock()
        self._written: dict[str, Receipt] = {}

    @property
    def is_outdated(self) -> bool:
        """True if files were stored that are not in the manifest yet. No request."""
        return self._records.receipts() != self._written

    def write(self) -> None:
        """Store the manifest, unless it is current. One request, and two more if another process has stored one.

        Raises:
            StorageError: The storage refused. Call again.
        """
        with self._lock.held():
            own = self._records.receipts()
            if own == self._written:
                return
            self._file.write(lambda: self._files(own))
            self._written = own

    def _files(self, own: Mapping[str, Receipt]) -> Mapping[str, Receipt]:
        others = [] if self._file.document is None else [self._file.document]
        before = others[0].files if others else {}
        if not self._store.is_local:  # receipts have versions there, which show whether they are valid
            changes = {key: receipt for key, receipt in own.items() if self._written.get(key) != receipt}
            return {**own, **before, **changes}
        known, unknown = valid_receipts(self._present({*before, *own}), own, others)
        found, _ = hashed(self._store, unknown)  # files just written by another process
        looked_at = ((entry, found[entry.key]) for entry in unknown if entry.key in found)
        return known | {entry.key: Receipt(read.size, read.sha256, entry.version) for entry, read in looked_at}

    def _present(self, names: Iterable[str]) -> Iterator[Entry]:
        for name in names:
            with suppress(NotataError):
                yield self._store.stat(name)
