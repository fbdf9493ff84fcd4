"""The type of a path object of a run, for type checkers alone: the path objects themselves are in `paths`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from upath import UPath

__all__ = ["StoredPath"]

if TYPE_CHECKING:

    class StoredPath(UPath):
        """A `UPath` that `open`, numpy and pandas also take by its name.

        On a local disk it is one. In a bucket it is a `RunPath`, whose `__fspath__` says what to use instead: where a
        run is stored is known when the script runs, and not before.
        """

        def __fspath__(self) -> str: ...

else:
    StoredPath = UPath
