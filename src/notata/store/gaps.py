"""Entries of a listing that it cannot return as files: unreadable folders, and names that are no legal key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from notata._base import keys
from notata.errors import StorageError
from notata.store.entries import Entry

__all__ = ["Gap", "Gaps", "Skipped", "folder_or_gap", "gap_or", "ignore"]

_KEPT: Final = 100  # errors of one listing; a bucket may hold millions of illegal names

Skipped: TypeAlias = Callable[[StorageError], object]
"""Called with the error of each thing that a listing skips."""


def ignore(error: Exception) -> None:
    """Ignore skipped entries, for callers that need only the files that can be listed."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that a backend's listing skips.

    Attributes:
        key: The name below the store's root, as the storage reports it; it need not be a legal key.
        why: The error of the storage, or the reason why the name is no legal key.
        entry: The file, if the storage can delete it by exactly this name; None for a folder.
    """

    key: str
    why: Exception | str
    entry: Entry | None = None


def gap_or(entry: Entry, *, removable: bool = True) -> Entry | Gap:
    """Return a listed file, or a gap if its name is no legal key.

    Args:
        entry: The file.
        removable: Whether the storage deletes files by exactly the given name. Even then, a name with ``..`` that leads
            out of the store's folder is never deleted.
    """
    problem = keys.problem_of_stored(entry.key)
    if problem is None:
        return entry
    return Gap(entry.key, problem, entry if removable and keys.stays_below(entry.key) else None)


def folder_or_gap(inside: str, name: str) -> str | Gap:
    """Return the name of a listed folder, or a gap if its path is no legal key.

    Args:
        inside: The folder that contains it, as a key; empty for the root.
        name: Its name there, as the storage reports it.

    >>> folder_or_gap("runs", "log_a"), folder_or_gap("runs", "..").why
    ('log_a', "it has the segment '..', which could leave the run's folder")
    """
    key = f"{inside}/{name}" if inside else name
    problem = keys.problem_of_stored(key)
    return name if problem is None else Gap(key, problem)


class Gaps:
    """Collects the errors of skipped entries: the first ones, and the total number.

    Args:
        kept: Number of errors to keep.

    >>> gaps = Gaps()
    >>> for number in range(102):
    ...     gaps(StorageError(f"cannot list {number}"))
    >>> [str(error) for error in gaps.errors("/runs")][-1]
    '2 more files or folders in /runs were skipped'
    """

    def __init__(self, kept: int = _KEPT) -> None:
        self.count = 0
        self._most = kept
        self._kept: list[StorageError] = []

    def __call__(self, error: StorageError) -> None:
        """Add one error."""
        self.count += 1
        if len(self._kept) < self._most:
            self._kept.append(error)

    def errors(self, url: str) -> list[StorageError]:
        """Return the errors; the last one counts those that were not kept."""
        more = self.count - len(self._kept)
        if not more:
            return list(self._kept)
        return [*self._kept, StorageError(f"{more} more files or folders in {url} were skipped", url=url)]
