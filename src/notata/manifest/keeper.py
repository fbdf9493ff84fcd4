"""Stores a run's manifest, and keeps it true of what is stored afterwards; it knows not when a run ends."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Final

from notata._base import keys, limits
from notata._base.processes import Lock
from notata._base.retries import attempts
from notata.errors import BatchError, ConflictError, ExistsError, MissingError, TooLargeError
from notata.manifest.document import Document, Receipt, merge
from notata.manifest.hashing import hashed
from notata.manifest.ledger import LedgerStore
from notata.store import Entry
from notata.store.gaps import Gaps, Skipped, ignore

__all__ = ["Keeper"]

_own = logging.getLogger("notata")

_TRIES: Final = 5  # at a manifest that others write as well


class Keeper:
    """Stores ``manifest.json`` of one run, for its one writer.

    Cost on a bucket: one request. For a run that was resumed, has workers, or of which a write failed, also a listing,
    and one for each manifest that is there already. Where that costs no round trip, the folder is listed always, and
    what came there by another road is read.

    Args:
        store: The run's, which notes what is stored.
        run_id: Of the run.
        owner: Whose the run is, see `Document.owner`.
        check: Refuses what a displaced owner wants to write.
        mine: Asks the storage whether the run is this owner's still.
        resumed: Whether files of earlier attempts may be there.
        workers: Whether other processes are known to write files of the run.
        skipped: Called once for each thing that cannot be listed and so is not in the manifest.
        most_files: Files in a manifest; of a run with more none is stored, and a warning says so.
    """

    def __init__(
        self,
        store: LedgerStore,
        run_id: str,
        owner: str,
        *,
        check: Callable[[], None] = lambda: None,
        mine: Callable[[], bool] = lambda: True,
        resumed: bool = False,
        workers: Callable[[], bool] = lambda: False,
        skipped: Skipped = ignore,
        most_files: int = limits.MANIFEST_FILES,
    ) -> None:
        self._store = store
        self._run_id = run_id
        self._owner = owner
        self._check = check
        self._mine = mine
        self._resumed = resumed
        self._workers = workers
        self._skipped = skipped
        self._closed: set[str] = set()
        self._most_files = most_files
        self._lock = Lock()
        self._version = ""
        self._before: Document | None = None
        self._told = (-1, False)

    @property
    def is_current(self) -> bool:
        """Whether the manifest tells of all that is known to be stored, and of all who write. No request."""
        return self._told == (self._store.ledger.changes, self._workers())

    def when_outdated(self, call: Callable[[], object]) -> None:
        """Have `call` made after each change from now on."""
        self._store.ledger.on_change = call

    def write(self, *, look: bool = False) -> None:
        """Store the manifest, if it does not tell all already.

        Args:
            look: Look again at what others may have stored, where that is known to happen: on a disk, in memory, and
                in a run that has workers.

        Raises:
            RunDisplacedError: Another writer has the run.
            StorageError: The storage refused. Call again.
        """
        with self._lock.held():
            if self.is_current and not (look and (self._store.is_local or self._workers())):
                return
            told = self._store.ledger.changes, self._workers()
            if self._store.is_local:  # it costs nothing there, and nothing else has told whether the run is another's
                self._mine()
            self._check()
            created = datetime.now().astimezone()
            if self._resumed and not self._version:
                self._before = self._fetch()
            document = Document(self._run_id, self._owner, created, self._files())
            data = document.encode(self._store.url)
            if len(data) > limits.MANIFEST or len(document.files) > self._most_files:
                _own.warning(
                    "notata: run %s has %s files, which is too many for a %s that can be read again; it cannot be "
                    "verified", self._run_id, f"{len(document.files):,}", keys.MANIFEST
                )  # fmt: skip
                self._told = told
                return
            self._put(data)
            self._before = document
            self._told = told

    def _fetch(self) -> Document | None:
        """What an earlier attempt stored, if that can be used."""
        try:
            found = self._store.fetch(keys.MANIFEST)
        except MissingError:
            return None
        except TooLargeError:  # no manifest of ours: a new one replaces it
            self._version = self._store.stat(keys.MANIFEST).version
            return None
        self._version = found.version
        try:
            return Document.parse(found.data)
        except ValueError:
            return None

    def _put(self, data: bytes) -> None:
        for last in attempts(_TRIES):
            try:
                if self._version:
                    self._version = self._store.replace(keys.MANIFEST, data, self._version)
                else:
                    self._version = self._store.create(keys.MANIFEST, data)
                return
            except (ExistsError, ConflictError):  # ours, by a request whose reply was lost, or a displaced writer's
                self._mine()
                self._check()
                if last:
                    raise
                self._fetch()

    # -- what is there -------------------------------------------------------------------------------------

    def _files(self) -> dict[str, Receipt]:
        ledger, near = self._store.ledger, self._store.is_local
        if not (near or self._resumed or ledger.incomplete or self._workers()):
            return ledger.receipts()
        closed = Gaps()
        listing = self._store.list(skipped=closed)
        known, unknown = merge(listing, ledger.receipts(), self._others(listing))
        known |= self._unseen(closed)
        if not near:
            return known | {entry.key: _listed(entry) for entry in unknown}
        grown = [entry for entry in listing if entry.key in known and known[entry.key].size < entry.size]
        return known | self._looked_at([*unknown, *grown])

    def _unseen(self, closed: Gaps) -> dict[str, Receipt]:
        """Report what cannot be listed; return the receipts of files in there that were stored through here."""
        errors = closed.errors(self._store.url)
        for error in errors:
            if error.key is None or error.key not in self._closed:
                self._skipped(error)
        folders = {error.key for error in errors if error.key is not None}
        self._closed |= folders
        own = self._store.ledger.receipts() if folders else {}
        return {key: receipt for key, receipt in own.items() if any(key.startswith(f"{one}/") for one in folders)}

    def _others(self, listing: list[Entry]) -> list[Document]:
        """The manifests of an earlier attempt, and of workers."""
        documents = [] if self._before is None else [self._before]
        if not self._workers():
            return documents
        names = [entry.key for entry in listing if keys.is_manifest(entry.key) and entry.key != keys.MANIFEST]
        for found in self._store.fetch_many(names).values():
            try:
                documents.append(Document.parse(found.data))
            except ValueError:  # damaged: its files are looked at, or listed
                continue
        return documents

    def _looked_at(self, entries: list[Entry]) -> dict[str, Receipt]:
        """Read files that were not stored through here. One that is gone by now is none."""
        contents, errors = hashed(self._store, entries)
        listed = {entry.key: _listed(entry) for entry in entries}
        found = {key: replace(listed[key], size=read.size, sha256=read.sha256) for key, read in contents.items()}
        for key, error in errors.items():
            if isinstance(error, PermissionError):  # of another user: it is there, and that is all
                found[key] = listed[key]
            elif not isinstance(error, FileNotFoundError):
                raise (
                    error
                    if len(errors) == 1
                    else BatchError(
                        f"{len(errors)} files in {self._store.url} could not be read", list(errors.values())
                    )
                )
        return found


def _listed(entry: Entry) -> Receipt:
    return Receipt(entry.size, b"", entry.version)
