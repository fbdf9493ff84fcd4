"""Find out whether a disk takes two spellings of a name for one, as macOS, Windows and exFAT do.

This module handles names, never content. A case-insensitive disk takes ``A.txt`` and ``a.txt`` for one file, and some
disks take two Unicode forms of ``é`` for one. There, a write to the second name would replace the first file.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from threading import RLock
from typing import Final, TypeVar

from notata._base import keys
from notata.store.unfinished import new_name

__all__ = ["Spelling", "aligned", "collisions", "folded"]

T = TypeVar("T")

_COMPOSED, _DECOMPOSED = "\u00e9", "e\u0301"
_NEW: Final = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_CLOEXEC", 0)


class Spelling:
    """The way in which one disk distinguishes names. The stores of its folders and subfolders share it.

    On a disk that distinguishes all names this costs one lookup, at the first write.

    Args:
        exists: Checks whether a path exists; tests pass their own.
    """

    def __init__(self, exists: Callable[[str], bool] = os.path.lexists) -> None:
        self._exists = exists
        self._lock = RLock()
        self._folds: bool | None = None
        self._exact: set[str] = set()  # folders whose spelling on disk was seen to match the key

    def __reduce__(self) -> tuple[type[Spelling], tuple[object]]:
        return Spelling, (self._exists,)

    def folds(self, folder: str, *, may_write: bool) -> bool:
        """Check whether names in a folder that differ only in case are one file.

        Args:
            folder: An existing folder.
            may_write: Create and remove a file there, for a reliable result. Otherwise use the name of the folder.
        """
        if self._folds is not None:
            return self._folds
        if not may_write:
            return _is_folded(folder, self._exists)
        with suppress(OSError), _made(folder, "Aa") as name:
            self._folds = self._exists(os.path.join(folder, name.swapcase()))
        return bool(self._folds)

    def learn(self, temporary: str) -> None:
        """Find out the same as `folds`, from a file that already exists under a unique name with letters."""
        if self._folds is None:
            folder, name = os.path.split(temporary)
            self._folds = self._exists(os.path.join(folder, name.swapcase()))

    def keeps(self, key: str) -> bool:
        """Check whether the disk is known to take this key for no other."""
        return self._folds is False and key.isascii()

    def held(self, key: str) -> AbstractContextManager[object]:
        """Return a lock for the check and use of a name, if names may clash."""
        return self._lock if self._folds or not key.isascii() else nullcontext()

    def clash(self, root: str, key: str, *, once: bool = False) -> str | None:
        """Return the key of another file that the disk takes for this key, or None.

        Args:
            root: A folder whose spelling is correct.
            key: Of a file below it.
            once: Trust earlier results.
        """
        if not self._folds and key.isascii():
            return None
        with self._lock:
            folder = ""
            for name in key.split("/"):
                below = keys.join(folder, name)
                path = os.path.join(root, *below.split("/"))
                if path not in self._exact and self._exists(path):
                    other = self._spelled(os.path.dirname(path), name)
                    if other is not None:
                        return keys.join(folder, other)
                    if below != key or once:
                        self._exact.add(path)
                folder = below
        return None

    def _spelled(self, folder: str, name: str) -> str | None:
        """Return the name in a folder that the disk takes for this one; None if the folder has this very name."""
        with os.scandir(folder) as children:
            names = {child.name for child in children}
        if name in names:
            return None
        close = [other for other in names if folded(other) == folded(name)]
        for other in close:
            if unicodedata.normalize("NFC", other) != unicodedata.normalize("NFC", name):
                return other
        if close and not _transforms(folder):
            return close[0]
        return None  # the disk changes the spelling of all names


class _made:  # noqa: N801
    """A temporary file with a unique name in a folder."""

    def __init__(self, folder: str, end: str) -> None:
        self._folder = folder
        self._name = new_name() + end

    def __enter__(self) -> str:
        os.close(os.open(os.path.join(self._folder, self._name), _NEW, 0o666))
        return self._name

    def __exit__(self, *_: object) -> None:
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(self._folder, self._name))


def _is_folded(folder: str, exists: Callable[[str], bool]) -> bool:
    """Check whether a folder also exists under another spelling that no listing has."""
    parent, name = os.path.split(folder)
    other = name.swapcase()
    if other == name or os.path.ismount(folder) or not exists(os.path.join(parent, other)):
        return False
    with suppress(OSError), os.scandir(parent) as children:
        return all(child.name != other for child in children)
    return False


def _transforms(folder: str) -> bool:
    """Check whether a disk lists a name in another Unicode form than the given one, as HFS+ does."""
    for end in (_COMPOSED, _DECOMPOSED):
        with _made(folder, end) as name, os.scandir(folder) as children:
            if all(child.name != name for child in children):
                return True
    return False


def folded(name: str) -> str:
    r"""Return the same text for all names that some disk takes for one.

    >>> folded("A/é.TXT") == folded("a/e\u0301.txt")
    True
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def collisions(names: Iterable[str]) -> dict[str, str]:
    """Return the keys whose folded form is shared by another key, or by a parent folder of another one.

    Returns:
        For each such key, one of the keys that it collides with.

    >>> collisions(["a/x", "A/y", "b", "B", "c"])
    {'a/x': 'A/y', 'A/y': 'a/x', 'b': 'B', 'B': 'b'}
    """
    spelled: dict[str, dict[str, str]] = {}  # by folded file or folder: its spellings, each with a key
    listed = list(names)
    for key in listed:
        for part in _parts(key):
            spelled.setdefault(folded(part), {}).setdefault(part, key)
    found = {}
    for key in listed:
        others = ((part, spelled[folded(part)]) for part in _parts(key))
        other = next((one for part, alike in others for other, one in alike.items() if other != part), None)
        if other is not None:
            found[key] = other
    return found


def aligned(entries: Mapping[str, T], names: Iterable[str]) -> dict[str, T]:
    """Return files of a disk by the names that they have elsewhere, if the two differ only in their Unicode form."""
    ours = {unicodedata.normalize("NFC", name): name for name in names}
    return {ours.get(unicodedata.normalize("NFC", key), key): entry for key, entry in entries.items()}


def _parts(key: str) -> Iterator[str]:
    """Yield the parent folders of a file, and the file itself."""
    at = key.find("/")
    while at > 0:
        yield key[:at]
        at = key.find("/", at + 1)
    yield key
