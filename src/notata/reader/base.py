"""What readers of one run and of many have in common: a store, and how they show themselves. It reads nothing."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Self

from notata.errors import DamagedFileWarning, IncompleteListingWarning, NotataError, StorageError
from notata.store import Store

if TYPE_CHECKING:
    from notata.store.stored_path import StoredPath

__all__ = ["Reader"]


class Reader:
    """Somebody who looks at a folder and never writes."""

    _store: Store

    @classmethod
    def _of(cls, store: Store) -> Self:
        """Of what is known to be there: nothing is asked."""
        self = object.__new__(cls)
        self._store = store
        return self

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    @property
    def url(self) -> str:
        """Where it lies, without credentials."""
        return self._store.url

    @property
    def path(self) -> StoredPath:
        """The folder."""
        return self._store.path_for()

    def _warn_skipped(self, error: StorageError) -> None:
        """Say what a listing skips: what can be read is returned."""
        warnings.warn(str(error), IncompleteListingWarning, stacklevel=6)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """What it says of itself, or why it cannot: nothing that is only shown raises."""
        try:
            printer.text(repr(self) if cycle else str(self))
        except (NotataError, DamagedFileWarning, IncompleteListingWarning) as error:
            printer.text(f"{self!r}: {error}")
