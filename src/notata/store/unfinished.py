"""Names of unfinished writes. Each contains its process, so that the remains of a killed one can be removed.

This module handles names and times, not storage.
"""

from __future__ import annotations

import os
import re
from datetime import datetime, timedelta
from typing import Final

from notata._base import keys, processes
from notata.store.entries import Entry

__all__ = ["is_abandoned", "is_unfinished", "new_name"]

_NAME: Final = re.compile(
    rf"{re.escape(keys.RESERVED)}(?:([0-9a-f]+-[0-9]+-[0-9]+)-)?[0-9a-f]{{16}}(?![0-9a-f]).*", re.DOTALL
)
_PATIENCE: Final = timedelta(days=1)  # after the last change of a file whose process cannot be seen from here


def new_name() -> str:
    """Return a unique name that listings hide and that contains the process of the write.

    >>> new_name().startswith(".notata-"), is_unfinished(f"data/{new_name()}")
    (True, True)
    """
    return "-".join(filter(None, (keys.RESERVED.rstrip("-"), processes.tag(), os.urandom(8).hex())))


def is_unfinished(key: str) -> bool:
    """Check whether a stored file is an unfinished write, or is in the folder of one.

    >>> is_unfinished("artifacts/.notata-0123456789abcdef"), is_unfinished("artifacts/.notata-lock")
    (True, False)
    """
    return _found(key) is not None


def is_abandoned(entry: Entry, now: datetime) -> bool:
    """Check whether an unfinished write belongs to a process that has ended.

    If this machine cannot find that out, the write counts as abandoned a day after its last change.
    """
    found = _found(entry.key)
    if found is None:
        return False
    running = processes.is_running(found[1]) if found[1] else None
    return not running if running is not None else now - entry.modified > _PATIENCE


def _found(key: str) -> re.Match[str] | None:
    """Match the outermost segment of a key that is the name of an unfinished write."""
    if not keys.is_reserved(key):
        return None
    return next(filter(None, map(_NAME.fullmatch, key.split("/"))), None)
