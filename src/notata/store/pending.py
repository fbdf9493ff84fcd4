"""Backends that queue writes, by their root: path objects of a local disk find here which writes they must wait for.

A path does not know the run that writes its file: a reader, a copy of a path or an unpickled one names the same file.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from notata.store.backend import Backend

__all__ = ["arrive", "note_queue"]

_queues: Final[WeakValueDictionary[str, Backend]] = WeakValueDictionary()


def note_queue(backend: Backend) -> None:
    """Note a backend that queues writes. It is forgotten when nothing uses it any more."""
    _queues[backend.url] = backend


def arrive(file: str) -> None:
    """Wait for the pending writes to a local file, or below a local folder."""
    if not _queues:
        return
    path = os.path.abspath(file)
    for root, backend in list(_queues.items()):
        if path == root:
            backend.arrive("")
        elif path.startswith(os.path.join(root, "")):
            backend.arrive(path[len(root) :].lstrip(os.sep).replace(os.sep, "/"))
