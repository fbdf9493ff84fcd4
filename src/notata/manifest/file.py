"""A stored manifest that several processes may write."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from notata._base import keys, limits
from notata._base.retries import attempts
from notata.errors import ConflictError, ExistsError, MissingError, TooLargeError
from notata.manifest.document import Document, Receipt
from notata.store import Store

__all__ = ["ManifestFile"]

_own = logging.getLogger("notata")

_TRIES: Final = 20


class ManifestFile:
    """A manifest in a store. It is replaced only in the version that this process stored or read last.

    Attributes:
        document: The manifest as this process stored or read it last; None if there was none, or it is damaged.

    Args:
        store: The store of the run.
        key: The key of the manifest.
        run_id: See `Document`.
        owner: See `Document`.
        most_files: Maximum number of files. With more, no manifest is stored and a warning is logged.
    """

    def __init__(
        self, store: Store, key: str, run_id: str, owner: str, most_files: int = limits.MANIFEST_FILES
    ) -> None:
        self._store = store
        self._key = key
        self._run_id = run_id
        self._owner = owner
        self._most_files = most_files
        self._version = ""
        self.document: Document | None = None

    @property
    def is_known(self) -> bool:
        """True if this process has stored or read the file."""
        return self._version != ""

    def read(self) -> None:
        """Read the file, if there is one. One request."""
        self._version, self.document = "", None
        try:
            found = self._store.fetch(self._key)
        except MissingError:
            return
        except TooLargeError:  # not written by notata: overwrite it
            self._version = self._store.stat(self._key).version
            return
        self._version, self.document = found.version, Document.parse_undamaged(found.data)

    def write(
        self, files: Callable[[], Mapping[str, Receipt]], on_conflict: Callable[[], object] = lambda: None
    ) -> None:
        """Store a manifest by compare-and-swap. One request, and two more if another process has stored one.

        Args:
            files: Finds the receipts. It is called again after another process has stored a manifest, which is then in
                `document`.
            on_conflict: Called after another process has stored a manifest, before that is read.

        Raises:
            ConflictError: Other processes kept storing the file.
            ExistsError: The same.
        """
        for last in attempts(_TRIES):
            created = datetime.now().astimezone()  # before the files are looked at, see `notata.manifest.trust`
            document = Document(self._run_id, self._owner, created, files())
            data = document.encode(self._store.backend.version_name)
            if len(data) > limits.MANIFEST or len(document.files) > self._most_files:
                _own.warning(
                    "notata: cannot store the manifest of run %s: %s files exceed the size limit of %s, so the run "
                    "cannot be verified", self._run_id, f"{len(document.files):,}", keys.MANIFEST
                )  # fmt: skip
                return
            try:
                if self.is_known:
                    self._version = self._store.replace(self._key, data, self._version)
                else:
                    self._version = self._store.create(self._key, data)
                self.document = document
                return
            except (ExistsError, ConflictError):  # also from a request whose reply was lost
                on_conflict()
                if last:
                    raise
                self.read()
