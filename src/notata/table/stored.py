"""Reading the index of an experiment: its parts, and the rows of an index.csv that the parts do not contain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from notata._base import keys, limits
from notata._base.garbage import paused_collection
from notata._base.retries import attempts
from notata._base.times import moment
from notata.errors import ConflictError, FolderError, MissingError, TooLargeError
from notata.store import Blob, Entry, Store
from notata.store.in_flight import InFlight
from notata.table.columns import parsed_rows
from notata.table.lines import Lines, decoded
from notata.table.names import Names
from notata.table.parts import FOLDER, REWRITTEN, Part, csv_entry, listed_parts
from notata.table.row import Row

__all__ = ["LARGE", "Index", "read_index"]

LARGE: Final = 10_000
"""Runs up to which a table checks each row against a listing of the runs; a larger index is trusted."""

_LISTINGS: Final = 30  # listings while other processes merge the parts that are being read
_EPOCH: Final = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Read:
    """A part, and the number of its bytes that were read.

    Attributes:
        entry: The part as it was listed.
        size: The number of bytes that were read, up to the end of a line.
    """

    entry: Entry
    size: int


@dataclass(frozen=True)
class Index:
    """The rows that an index contains, the latest one of each run.

    Rows of runs that were removed since may be among them, and running runs are not, nor are runs that were killed
    before they stored their rows. Rows with an id that no run can have are left out.

    Attributes:
        rows: The rows by run id.
        as_of: When the index last changed, by the clock of the storage.
        parts: How far each part was read, by key; empty if there is only an index.csv.
        is_large: True if the index has so many rows that a table trusts it.
        removed: The times of tombstones by run id, in Unix seconds.
        covers: The versions of files whose rows the parts contain, with their keys.
        csv: The index.csv of which `csv_rows` were read.
        csv_rows: The rows of index.csv by run id, if the parts do not contain them.
        unread: Why an index.csv was not used, although its rows may be needed; None if it was.
        names: The names that the rows have, and maybe some that only rows had which are left out.
    """

    rows: Mapping[str, Row]
    as_of: datetime
    parts: Mapping[str, Read]
    is_large: bool = False
    removed: Mapping[str, float] = field(default_factory=dict, repr=False)
    covers: frozenset[tuple[str, str]] = field(default=frozenset(), repr=False)
    csv: Entry | None = field(default=None, repr=False)
    csv_rows: Mapping[str, Row] = field(default_factory=dict, repr=False)
    unread: TooLargeError | None = field(default=None, repr=False, compare=False)
    names: Names = field(default_factory=Names, repr=False, compare=False)

    @property
    def own_rows(self) -> dict[str, Row]:
        """The rows of the parts, without those that only index.csv has."""
        return {run_id: row for run_id, row in self.rows.items() if self.csv_rows.get(run_id) is not row}


def read_index(
    store: Store, known: Index | None = None, *, large: int = LARGE, listed: Sequence[Part] | None = None
) -> Index | None:
    """Return the index of an experiment; None if there is none.

    Args:
        store: The store of the experiment.
        known: An index that was read before; only what is new since is read.
        large: The number of rows beyond which an index with parts is large.
        listed: The parts, if they are listed already.

    Cost: one listing for each 1000 parts, one read for each 8 MiB, 32 at once, and one request for the version of
    index.csv, which is read if the parts do not contain its rows. On a storage with folders, one listing more.

    Raises:
        TooLargeError: A part is larger than its limit. Such an index.csv is not used.
        ConflictError: Other processes replaced parts again and again while they were read.
        StorageError: The storage failed.

    >>> from notata.store import open_store
    >>> from notata.table.parts import write_parts
    >>> store = open_store("memory://read-index")
    >>> read_index(store) is None
    True
    >>> keys = write_parts(store, [Row("a", "complete", {"dt": 0.1}, started="2026-11-01T10:00:00+01:00")])
    >>> index = read_index(store)
    >>> index.rows["a"].params, index.is_large, len(index.parts)
    ({'dt': 0.1}, False, 1)
    """
    with paused_collection():
        reading = _Reading(store, known)
        reading.read_parts(listed)
        reading.read_csv(csv_entry(store))
        return reading.index(large)


class _Reading:
    """One reading of an index.

    Attributes:
        rows: The latest row of each run in the parts.
        removed: The times of tombstones by run id.
        covers: The versions of files whose rows the parts contain, with their keys.
        read: How far each part was read, by key.
        csv: The listed index.csv, if its rows are needed.
        csv_rows: Its rows.
        unread: Why index.csv cannot be used.
        names: The names in all lines that were read.
    """

    def __init__(self, store: Store, known: Index | None) -> None:
        self._store = store
        self._known = known
        self.unread: TooLargeError | None = None
        self._begin()

    def _begin(self) -> None:
        known = self._known
        self.rows = known.own_rows if known else {}
        self.removed = dict(known.removed) if known else {}
        self.covers = set(known.covers) if known else set()
        self.read = dict(known.parts) if known else {}
        self.csv = known.csv if known else None
        self.csv_rows: Mapping[str, Row] = known.csv_rows if known else {}
        self.names = Names()
        if known:
            self.names.update(known.names)

    def read_parts(self, listed: Sequence[Part] | None) -> None:
        """Read all parts, and list again until none is new.

        A row is written to a merged part before the part that it comes from is deleted. So it always is in some part,
        though the listing of a folder may miss both if that happens meanwhile.
        """
        may_have_grown = True
        for last in attempts(_LISTINGS, first=0.001, longest=0.05):
            parts = listed_parts(self._store) if listed is None else listed
            listed = None
            if self._was_rewritten(parts):
                self._known = None
                self._begin()
            new = [part for part in parts if self._is_new(part.entry, may_have_grown)]
            all_there = self._read_new([part.entry for part in new])
            may_have_grown = False
            if all_there and not (new and self._store.folders):
                self.read = {part.entry.key: self.read[part.entry.key] for part in parts}
                return
            if last:
                break
        raise ConflictError(
            f"cannot read the index of {self._store.url}: other processes kept replacing its parts; try again",
            url=self._store.url,
        )

    def _was_rewritten(self, parts: Iterable[Part]) -> bool:
        """Check whether the known rows may include those of runs that a new part of the whole index leaves out."""
        if self._known is None:
            return False
        return any(part.level == REWRITTEN and part.entry.key not in self._known.parts for part in parts)

    def _is_new(self, entry: Entry, may_have_grown: bool) -> bool:
        before = self.read.get(entry.key)
        return before is None or (may_have_grown and before.entry.version != entry.version)

    def _read_new(self, entries: Sequence[Entry]) -> bool:
        """Read parts; return False if some do not exist any more."""
        for entry in entries:
            limits.check_size(self._store.url, entry.key, entry.size, limits.INDEX_PART)
        limits.check_size(self._store.url, FOLDER, sum(entry.size for entry in entries), limits.INDEX_PARTS)
        by_key = {entry.key: entry for entry in entries}
        flying = InFlight[str, Blob]()
        with flying.until_landed():
            for key, entry in by_key.items():
                start = self._start_of(entry)
                if start == entry.size:
                    self.read[key] = Read(entry, start)
                    continue
                flying.begin(key, entry.size - start, self._store.start_fetch, key, start, entry.size)
                self._take(flying, by_key)
        self._take(flying, by_key)
        for error in flying.errors.values():
            if not isinstance(error, MissingError | FolderError):
                raise error
        return not flying.errors

    def _start_of(self, entry: Entry) -> int:
        """Return the number of bytes of a part that were read before, if it has only grown since."""
        before = self.read.get(entry.key)
        return before.size if before is not None and before.size <= entry.size else 0

    def _take(self, flying: InFlight[str, Blob], entries: Mapping[str, Entry]) -> None:
        """Add the rows of parts that have arrived, while others are on their way."""
        for key in list(flying.results):
            data = flying.results.pop(key).data
            start = self._start_of(entries[key])
            lines = decoded(data)
            self._add(lines)
            self.read[key] = Read(entries[key], start + lines.complete)

    def _add(self, lines: Lines) -> None:
        self.covers.update(lines.covers)
        self.names.update(lines.names)
        for run_id, time in lines.removed:
            self.removed[run_id] = max(time, self.removed.get(run_id, time))
            if run_id in self.rows and self.rows[run_id].time <= self.removed[run_id]:
                del self.rows[run_id]
        rows, removed = self.rows, self.removed
        for row in lines.rows:
            run_id = row.run_id
            if removed and row.time <= removed.get(run_id, -1.0):
                continue
            if run_id in rows:
                if _order(row) > _order(rows[run_id]):
                    rows[run_id] = row
            elif keys.is_run_id(run_id):
                rows[run_id] = row

    def read_csv(self, found: Entry | None) -> None:
        """Read the rows of index.csv, unless the parts contain them all, or this version was read before."""
        if found is None or (found.key, found.version) in self.covers:
            self.csv, self.csv_rows = None, {}
        elif self.csv is None or self.csv.version != found.version:
            try:
                rows = parsed_rows(self._store.read(keys.INDEX))
            except MissingError:
                rows = []
            except TooLargeError as error:
                self.csv, self.csv_rows, self.unread = None, {}, error
                return
            self.names.add(rows)
            self.csv, self.csv_rows = found, {row.run_id: row for row in rows if keys.is_run_id(row.run_id)}

    def index(self, large: int) -> Index | None:
        """Return what was read; None if there was nothing."""
        if not self.read and self.csv is None:
            return None
        only = {id_: row for id_, row in self.csv_rows.items() if id_ not in self.rows and id_ not in self.removed}
        rows = {**only, **self.rows} if only else self.rows
        changes = [read.entry.modified for read in self.read.values()]
        if self.csv is not None:
            changes.append(self.csv.modified)
        return Index(
            rows,
            max(changes),
            self.read,
            is_large=bool(self.read) and len(rows) > large,
            removed=self.removed,
            covers=frozenset(self.covers),
            csv=self.csv,
            csv_rows=self.csv_rows,
            unread=self.unread,
            names=self.names,
        )


def _order(row: Row) -> tuple[datetime, int, float]:
    """Return what is larger for the row of a later attempt; times of different zones compare as moments."""
    return moment(row.started) or _EPOCH, row.attempt, row.time
