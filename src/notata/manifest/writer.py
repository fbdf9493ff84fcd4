"""Store the manifest of a run, and update it after later writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from notata._base import keys, limits
from notata._base.processes import Lock
from notata.errors import BatchError
from notata.manifest.document import Document, Receipt
from notata.manifest.file import ManifestFile
from notata.manifest.hashing import hashed
from notata.manifest.recording import FileRecords
from notata.manifest.trust import valid_receipts
from notata.store import Entry, Store
from notata.store.gaps import Gaps, Skipped, ignore

__all__ = ["ManifestWriter"]


class ManifestWriter:
    """Writes ``manifest.json`` of one run.

    Cost on a bucket: one request. For a run that was resumed, has workers, or had a failed write, also a listing and
    one request for each existing manifest. On storage without round trips, the folder is always listed, and files that
    were not written through this store are read.

    Args:
        store: The store of the run, which records what is stored.
        run_id: The id of the run.
        owner: The owner of the run, see `Document.owner`.
        check: Raises an error if another writer is known to own the run.
        is_owner: Checks in the storage whether this writer still owns the run.
        resumed: Whether files of earlier attempts can exist.
        workers: Returns whether other processes are known to write files of the run.
        skipped: Called once for each entry that cannot be listed and is therefore not in the manifest.
        most_files: Maximum number of files. For a run with more, no manifest is stored and a warning is logged.
    """

    def __init__(
        self,
        store: Store,
        records: FileRecords,
        run_id: str,
        owner: str,
        *,
        check: Callable[[], None] = lambda: None,
        is_owner: Callable[[], bool] = lambda: True,
        resumed: bool = False,
        workers: Callable[[], bool] = lambda: False,
        skipped: Skipped = ignore,
        most_files: int = limits.MANIFEST_FILES,
    ) -> None:
        self._store = store
        self._records = records
        self._file = ManifestFile(store, keys.MANIFEST, run_id, owner, most_files)
        self._check = check
        self._is_owner = is_owner
        self._resumed = resumed
        self._workers = workers
        self._skipped = skipped
        self._closed: set[str] = set()
        self._lock = Lock()
        self._written = (-1, False)

    @property
    def is_current(self) -> bool:
        """True if the manifest includes all known writes and writers. No request."""
        return self._written == (self._records.changes, self._workers())

    def receipt(self, key: str) -> Receipt | None:
        """Return what the stored manifest, or else the records, say about a file. No request."""
        document = self._file.document
        found = None if document is None else document.files.get(key)
        return found or self._records.receipt(key)

    def when_outdated(self, call: Callable[[], object]) -> None:
        """Call `call` after each change from now on."""
        self._records.on_change = call

    def write(self, *, look: bool = False) -> None:
        """Store the manifest, unless it is current.

        Args:
            look: Check again for files of other processes, if these can exist: on a disk, in memory, and in a run that
                has workers.

        Raises:
            RunDisplacedError: Another writer owns the run.
            StorageError: The storage refused. Call again.
        """
        with self._lock.held():
            if self.is_current and not (look and (self._store.is_local or self._workers())):
                return
            written = self._records.changes, self._workers()
            if self._store.is_local:  # the check is free there, and was not made before
                self._check_in_storage()
            else:
                self._check()
            if self._resumed and not self._file.is_known:
                self._file.read()
            self._file.write(self._files, self._check_in_storage)
            self._written = written

    def _check_in_storage(self) -> None:
        """Check in the storage that this writer still owns the run."""
        self._is_owner()
        self._check()

    # -- receipts ------------------------------------------------------------------------------------------

    def _files(self) -> dict[str, Receipt]:
        records, near = self._records, self._store.is_local
        if not (near or self._resumed or records.incomplete or self._workers()):
            return records.receipts()
        closed = Gaps()
        listing = self._store.list(skipped=closed)
        known, unknown = valid_receipts(listing, records.receipts(), self._others(listing))
        known |= self._unlisted(closed)
        if not near:
            return known | {entry.key: _listed(entry) for entry in unknown}
        grown = [entry for entry in listing if entry.key in known and known[entry.key].size < entry.size]
        return known | self._read_files([*unknown, *grown])

    def _unlisted(self, closed: Gaps) -> dict[str, Receipt]:
        """Report folders that cannot be listed; return the receipts of files stored there through this store."""
        errors = closed.errors(self._store.url)
        for error in errors:
            if error.key is None or error.key not in self._closed:
                self._skipped(error)
        folders = {error.key for error in errors if error.key is not None}
        self._closed |= folders
        own = self._records.receipts() if folders else {}
        return {key: receipt for key, receipt in own.items() if any(key.startswith(f"{one}/") for one in folders)}

    def _others(self, listing: list[Entry]) -> list[Document]:
        """Return the manifests of an earlier attempt and of workers."""
        earlier = self._file.document
        names = [entry.key for entry in listing if keys.is_manifest(entry.key) and entry.key != keys.MANIFEST]
        stored = self._store.fetch_many(names) if self._workers() else {}
        found = [earlier, *(Document.parse_undamaged(blob.data) for blob in stored.values())]
        return [document for document in found if document is not None]

    def _read_files(self, entries: list[Entry]) -> dict[str, Receipt]:
        """Read files that were not stored through this store. Files that no longer exist are omitted."""
        contents, errors = hashed(self._store, entries)
        listed = {entry.key: _listed(entry) for entry in entries}
        found = {key: replace(listed[key], size=read.size, sha256=read.sha256) for key, read in contents.items()}
        for key, error in errors.items():
            if isinstance(error, PermissionError):  # a file of another user: only its size is known
                found[key] = listed[key]
            elif not isinstance(error, FileNotFoundError):
                if len(errors) == 1:
                    raise error
                raise BatchError(f"{len(errors)} files in {self._store.url} could not be read", [*errors.values()])
        return found


def _listed(entry: Entry) -> Receipt:
    return Receipt(entry.size, b"", entry.version)
