"""A stored manifest that several processes may write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from notata._base.retries import attempts
from notata.errors import ConflictError, ExistsError, MissingError, TooLargeError
from notata.manifest.document import Document
from notata.store import Store

__all__ = ["ManifestFile"]

_TRIES: Final = 20


class ManifestFile:
    """A manifest in a store. It is replaced only in the version that this process stored or read last.

    Attributes:
        document: The manifest as this process stored or read it last; None if there was none, or it is damaged.
    """

    def __init__(self, store: Store, key: str) -> None:
        self._store = store
        self._key = key
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

    def write(self, make: Callable[[], tuple[Document, bytes]], on_conflict: Callable[[], object] = bool) -> None:
        """Store a manifest by compare-and-swap. One request, and two more if another process has stored one.

        Args:
            make: Returns the manifest, and its encoded form. It is called again after another process has stored one,
                which is then in `document`.
            on_conflict: Called after another process has stored one, before it is read.

        Raises:
            ConflictError: Other processes kept storing the file.
            ExistsError: The same.
        """
        for last in attempts(_TRIES):
            document, data = make()
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
