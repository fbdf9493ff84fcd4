"""The common base of readers of one run and of many: a store, and their representations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from notata._base.warn import warn
from notata.errors import DamagedFileWarning, IncompleteListingWarning, NotataError, StorageError
from notata.store import Store

if TYPE_CHECKING:
    from notata.store.stored_path import StoredPath

__all__ = ["Reader"]


class Reader:
    """A read-only view of a folder."""

    _store: Store

    @classmethod
    def _of(cls, store: Store) -> Self:
        """Return a reader of a folder that is known to exist; no request."""
        self = object.__new__(cls)
        self._store = store
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    @property
    def url(self) -> str:
        """The URL of the folder, without credentials."""
        return self._store.url

    @property
    def path(self) -> StoredPath:
        """The path of the folder."""
        return self._store.path_for()

    def _warn_skipped(self, error: StorageError) -> None:
        """Warn about a name that a listing skips; everything else is returned."""
        warn(str(error), IncompleteListingWarning)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Print the object, or the reason why it cannot be read: displaying an object never raises."""
        try:
            printer.text(repr(self) if cycle else str(self))
        except (NotataError, DamagedFileWarning, IncompleteListingWarning) as error:
            printer.text(f"{self!r}: {error}")
