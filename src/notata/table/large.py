"""Large indexes: a listing that meets one ends there, as the index has the runs of its experiment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from notata._base import display, keys
from notata.errors import TooLargeError
from notata.run.listings import name_of
from notata.store import Entry, Store
from notata.store.gaps import Skipped, ignore
from notata.store.outlines import Outline
from notata.table.parts import FOLDER, experiment_of_part
from notata.table.stored import LARGE, Index, read_index

__all__ = ["IndexFinder", "experiments_with_parts", "freshness", "listed_or_index", "scan_without_large"]

_LEAST: Final = 100  # bytes of a row in a part
_LEAST_OF_CSV: Final = 20  # bytes of a row in index.csv

Listed = Callable[[str, str], Iterator[Entry]]
"""Lists a folder, with the beginning of the names in it."""


class IndexFinder:
    """Recognizes large experiments during a listing.

    In a bucket, keys come in order. On a disk, the files of a folder come before its folders, which come in order. So
    the parts of an index come before the first run, and the listing of a large experiment ends before its runs.

    Attributes:
        found: The large indexes, by the folder of their experiment.
        others: Indexes that were read and are not large, by the folder of their experiment.

    Args:
        store: The store that is listed.
        known: The large indexes that an earlier listing found: only what is new in them is read. An index without
            anything new is the same object.
        large: The number of rows beyond which an index is large.
    """

    def __init__(self, store: Store, known: Mapping[str, Index] | None = None, large: int = LARGE) -> None:
        self.found: dict[str, Index] = {}
        self.others: dict[str, Index | None] = {}
        self._store = store
        self._known = known or {}
        self._large = large
        self._refused: set[str] = set()  # folders of indexes that are too large to read
        self._is_run = name_of(store.url).startswith("log_")
        self._rows: dict[str, float] = {}  # the most rows that the files of an index met so far can have

    def large_at(self, entry: Entry) -> str | None:
        """Return the folder of a large experiment if a listed file is a part of its index; else None.

        Cost: that of `read_index`, once for each experiment whose index may be large.
        """
        if not entry.key.endswith(_SIGNS) or self._is_run or "/log_" in f"/{entry.key}":
            return None  # the copy of an experiment in a run is a file of that run
        if (folder := experiment_of_part(entry.key)) is not None:
            self._rows[folder] = self._rows.get(folder, 0) + entry.size / _LEAST
            is_candidate = self._rows[folder] > self._large and not (folder in self.others or folder in self._refused)
            return self._read(folder) if is_candidate else None
        folder, _, name = entry.key.rpartition("/")
        if name == keys.INDEX:
            self._rows[folder] = entry.size / _LEAST_OF_CSV
        return None

    def _read(self, folder: str) -> str | None:
        """Read the index of an experiment; return the folder if the index is large.

        One that is too large to read is none: what needs its rows reads it again, and reports that.
        """
        store = self._store.below(folder) if folder else self._store
        try:
            index = _read_again(store, self._known.get(folder), self._large)
        except TooLargeError:
            self._refused.add(folder)
            return None
        if index is not None and index.is_large:
            self.found[folder] = index
            return folder
        self.others[folder] = index
        return None

    def is_large_root(self) -> bool:
        """Check whether the store itself is a large experiment, by a listing of the names that begin with ``index``."""
        entries = self._store.list(beginning=FOLDER, skipped=ignore)
        return any(self.large_at(entry) is not None for entry in entries)


def _read_again(store: Store, known: Index | None, large: int) -> Index | None:
    """Return the index of an experiment; the known one if nothing has changed since. See `notata.table.read_index`."""
    index = read_index(store, known, large=large)
    is_same = known is not None and index is not None and (known.parts, known.as_of) == (index.parts, index.as_of)
    return known if is_same else index


_SIGNS: Final = (".jsonl", keys.INDEX)


def experiments_with_parts(names: Iterable[str]) -> set[str]:
    """Return the folders of experiments whose index has parts among these files."""
    found = (experiment_of_part(name) for name in names if name.endswith(".jsonl"))
    return {folder for folder in found if folder is not None}


def scan_without_large(
    store: Store, listed: Listed, finder: IndexFinder | None, folder: str = "", beginning: str = ""
) -> Iterator[Entry]:
    """Yield the files below a folder, without the runs of large experiments.

    A listing cannot jump over the runs of a large experiment below the folder. So what comes after them is listed
    folder by folder: that takes one request more for each level, and one for each folder.
    """
    for entry in listed(folder, beginning):
        large = None if finder is None else finder.large_at(entry)
        if large is not None:
            break
        yield entry
    else:
        return
    while large != folder:
        parent, _, name = large.rpartition("/")
        for other in sorted(store.folder_names(parent, skipped=ignore), key=_in_order):
            if _in_order(other) > _in_order(name) and (parent != folder or other.startswith(beginning)):
                yield from scan_without_large(store, listed, finder, keys.join(parent, other))
        large = parent


def listed_or_index(
    store: Store, skipped: Skipped, finder: IndexFinder | None = None, outline: Outline | None = None
) -> tuple[list[Entry], Index | None]:
    """Return the files of an experiment or a folder of runs; or only its index, if that is large.

    Cost: one listing per 1000 files. Of a large experiment, a page of it, and that of `read_index`.

    Args:
        store: The store of the folder.
        skipped: Called with the error of each folder that cannot be opened and of each name that is no legal key.
        finder: Recognizes the index; by default a new one.
        outline: Gets run folders of which only some files are looked at, on a storage where that is cheaper.
    """
    finder = finder or IndexFinder(store)

    def listed(folder: str, beginning: str) -> Iterator[Entry]:
        return store.scan(folder, beginning, skipped=skipped, outline=outline)

    entries = sorted(scan_without_large(store, listed, finder), key=lambda entry: entry.key)
    return entries, finder.found.get("")


def _in_order(name: str) -> str:
    """Return the key by which a bucket sorts a folder."""
    return f"{name}/"


def freshness(index: Index, name: str, *, with_age: bool = True) -> str:
    """Return a note about a large index: how many runs it has, how old it is, and what may be missing.

    Args:
        index: The index.
        name: The name of the experiment for users.
        with_age: State the age, which changes all the time, beside the time.
    """
    age = max(0.0, (datetime.now(UTC) - index.as_of).total_seconds())
    ago = f" ({display.duration(age)} ago)" if with_age else ""
    return (
        f"{name}: {len(index.rows):,} runs from the index as of {index.as_of.astimezone():%Y-%m-%d %H:%M:%S}{ago}. "
        "Runs that are running, and runs whose process was killed before it stored their rows, may be missing. "
        "fresh=True (--fresh) looks at every run"
    )
