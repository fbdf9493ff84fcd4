"""The links in a source, which importers leave out: they can lead to any file of this machine."""

from __future__ import annotations

import os
from typing import Final

from notata.store import Store

__all__ = ["Links"]

_MOST: Final = 20  # names of links of one run


class Links:
    """The names of links, pipes and other special files of a source. Only local disks have them."""

    def __init__(self, store: Store) -> None:
        self._names = sorted(name.replace(os.sep, "/") for name in store.irregular())

    def below(self, folder: str) -> list[str]:
        """Return the first names in a folder."""
        start = f"{folder}/" if folder else ""
        return [name for name in self._names if name.startswith(start)][:_MOST]
