"""Store a manifest that several processes write together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Final

from notata._base.processes import Lock
from notata._base.retries import attempts
from notata.errors import ConflictError, ExistsError, MissingError, NotataError
from notata.manifest.document import Document, Receipt, merge
from notata.manifest.hashing import hashed
from notata.manifest.recording import FileRecords
from notata.store import Entry, Store

__all__ = ["SharedManifestWriter"]

_TRIES: Final = 20  # attempts to write a manifest that other processes write, too


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
        self._key = key
        self._run_id = run_id
        self._owner = owner
        self._lock = Lock()
        self._version = ""
        self._previous: Document | None = None
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
            for last in attempts(_TRIES):
                created = datetime.now().astimezone()
                document = Document(self._run_id, self._owner, created, self._files(own))
                try:
                    self._put(document.encode(self._store.url))
                    break
                except (ExistsError, ConflictError):
                    if last:
                        raise
                    self._fetch()
            self._previous, self._written = document, own

    def _put(self, data: bytes) -> None:
        if self._version:
            self._version = self._store.replace(self._key, data, self._version)
        else:
            self._version = self._store.create(self._key, data)

    def _fetch(self) -> None:
        """Read the manifest that another process with this rank has stored."""
        self._version, self._previous = "", None
        with suppress(MissingError, ValueError):
            found = self._store.fetch(self._key)
            self._version = found.version
            self._previous = Document.parse(found.data)

    def _files(self, own: Mapping[str, Receipt]) -> Mapping[str, Receipt]:
        before = {} if self._previous is None else self._previous.files
        if not self._store.is_local:  # receipts have versions there, which show whether they are valid
            changes = {key: receipt for key, receipt in own.items() if self._written.get(key) != receipt}
            return {**own, **before, **changes}
        known, unknown = merge(self._present({*before, *own}), own, [] if self._previous is None else [self._previous])
        found, _ = hashed(self._store, unknown)  # files just written by another process
        looked_at = ((entry, found[entry.key]) for entry in unknown if entry.key in found)
        return known | {entry.key: Receipt(read.size, read.sha256, entry.version) for entry, read in looked_at}

    def _present(self, names: Iterable[str]) -> Iterator[Entry]:
        for name in names:
            with suppress(NotataError):
                yield self._store.stat(name)
