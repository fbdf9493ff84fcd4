"""The names of unfinished writes: each says which process writes it, so that what a killed one leaves can be removed.

It knows names and times, and no storage.
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
    """Return a name that no other write has, that listings hide, and that says which process writes it.

    >>> new_name().startswith(".notata-"), is_unfinished(f"data/{new_name()}")
    (True, True)
    """
    return "-".join(filter(None, (keys.RESERVED.rstrip("-"), processes.tag(), os.urandom(8).hex())))


def is_unfinished(key: str) -> bool:
    """Check whether a stored file is an unfinished write, or lies in the folder of one.

    >>> is_unfinished("artifacts/.notata-0123456789abcdef"), is_unfinished("artifacts/.notata-lock")
    (True, False)
    """
    return _found(key) is not None


def is_abandoned(entry: Entry, now: datetime) -> bool:
    """Check whether an unfinished write is of a process that has ended.

    If that cannot be seen from this machine, the write is abandoned a day after its last change.
    """
    found = _found(entry.key)
    if found is None:
        return False
    running = processes.is_running(found[1]) if found[1] else None
    return not running if running is not None else now - entry.modified > _PATIENCE


def _found(key: str) -> re.Match[str] | None:
    """The outermost segment of a key that is the name of an unfinished write."""
    if not keys.is_reserved(key):
        return None
    return next(filter(None, map(_NAME.fullmatch, key.split("/"))), None)
