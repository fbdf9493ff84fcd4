"""The type of a run's path objects, for type checkers only; the path objects themselves are in `paths`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from upath import UPath

__all__ = ["StoredPath"]

if TYPE_CHECKING:

    class StoredPath(UPath):
        """A `UPath` that `open`, numpy and pandas also accept as a file name.

        On a local disk it is one. In a bucket it is a `RunPath`, whose `__fspath__` raises an error that says what to
        use instead: where a run is stored is known only when the script runs.
        """

        def __fspath__(self) -> str: ...

else:
    StoredPath = UPath
