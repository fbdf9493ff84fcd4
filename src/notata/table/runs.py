"""Reading of the rows of all runs below a folder: current rows from index.csv, the others from the runs."""

from __future__ import annotations

import itertools
import sys
import time
import warnings
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import nan
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, TypeVar

from notata._base import keys
from notata.errors import DamagedFileWarning, MissingError, TooLargeError
from notata.run.listings import outline_of_runs
from notata.run.state import ENDED, SUMMARY, is_gone, is_pinned, parsed, state_of
from notata.run.values import row_field
from notata.series import flat_values
from notata.store import Blob, Entry, Store
from notata.store.gaps import Skipped, ignore
from notata.table.columns import Columns, parsed_rows
from notata.table.completing import RowBuilder, metrics_version
from notata.table.frames import frame_of
from notata.table.large import IndexFinder, listed_or_index
from notata.table.parts import Part, parts_of
from notata.table.row import ID, REVISION, STATUS, Row, flat, of_run, origin_of, revision_of
from notata.table.stored import LARGE, Index, read_index

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Table",
    "current_rows",
    "found_index",
    "gather",
    "read_runs",
    "row_now",
    "row_order",
    "rows_now",
    "rows_of",
    "runs_below",
    "to_pandas",
]

_AT_ONCE = 1000  # runs whose metadata.json is in memory at once

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Table:
    """Rows, and the index.csv that was found with them.

    Attributes:
        rows: One row for each existing run: first in the order of index.csv, then the others by start.
        found: The stored index.csv; None if there is none.
        runs: The folder of each run, by run id.
        unread: Why an existing index.csv was not used; None if it was.
        index: The index, if it has parts. If it is large, the rows are those of the index, and no run was looked at.
    """

    rows: Sequence[Row]
    found: Blob | None = None
    runs: Mapping[str, str] = field(default_factory=dict)
    unread: TooLargeError | None = None
    index: Index | None = None

    def columns(self) -> list[str]:
        """Return the names of the columns, as in index.csv without the revision, but one for each dictionary item."""
        return [name for name in Columns.of(self._flat()).header if name != REVISION]

    def records(self) -> list[dict[str, Any]]:
        """Return each row by column; missing values are left out."""
        rows = self._flat()
        columns = Columns.of(rows)
        return [{name: value for name, value in columns.record(row) if name != REVISION} for row in rows]

    def values(self) -> dict[str, list[Any]]:
        """Return the values of each column; missing values are NaN."""
        rows = self._flat()
        columns = Columns.of(rows)
        found: dict[str, list[Any]] = {ID: [row.run_id for row in rows]} if rows else {}
        for name, column in columns.params.items():
            found[column] = [row.params.get(name, nan) for row in rows]
        if rows:
            found[STATUS] = [row.status or nan for row in rows]
        for name in columns.optional:
            found[name] = [getattr(row, name) or nan for row in rows]
        for name, column in columns.metrics.items():
            found[column] = [row.metrics.get(name, nan) for row in rows]
        return found

    def _flat(self) -> Sequence[Row]:
        """Return the rows with a name for each item of a dictionary."""
        return [row if _is_flat(row) else _flattened(row) for row in self.rows]


def _is_flat(row: Row) -> bool:
    return dict not in map(type, row.params.values()) and dict not in map(type, row.metrics.values())


def _flattened(row: Row) -> Row:
    return row._replace(params=flat(row.params), metrics=flat(row.metrics))


def to_pandas(table: Table) -> pd.DataFrame:
    """Return the table as a pandas DataFrame; missing values are NaN.

    Raises:
        PackageMissingError: pandas is not installed.
    """
    return frame_of(table.values(), len(table.rows))


def gather(
    store: Store,
    entries: Iterable[Entry] | None = None,
    *,
    skipped: Skipped = ignore,
    fresh: bool = False,
    known: Index | None = None,
    large: int | None = LARGE,
) -> Table:
    """Return the rows of all runs below a store's root.

    The rows of a large index are returned as they are, without a look at the runs; others are checked against a
    listing.

    Args:
        store: The store of the folder.
        entries: The files there, if they are listed already; then rows are always checked.
        skipped: Called with the error of each folder that cannot be opened and of each name that is no legal key.
        fresh: Read every run; use only the order of index.csv, not its rows.
        known: The index as it was read before.
        large: The number of rows beyond which an index with parts is large; None if none is.

    Cost: one listing per 1000 files, one read for index.csv, one for each part, and one for each ended run without a
    current row; up to three for a run that has not ended, or was written by notata 0.3.0. 32 reads at once. For a large
    index, two listings and one read for each 8 MiB.
    """
    outline = outline_of_runs()
    if entries is not None:
        listed = list(entries)
    elif fresh:
        listed = store.list(skipped=skipped)
    else:
        finder = IndexFinder(store, {"": known} if known else None, sys.maxsize if large is None else large)
        listed, trusted = listed_or_index(store, skipped, finder, outline)
        if trusted is not None:
            if trusted.unread is not None:
                warnings.warn(f"{trusted.unread}; only rows of the parts are used", DamagedFileWarning, stacklevel=4)
            return _trusted(trusted)
        known = finder.others.get("", known)
    runs = {keys.run_id(folder): (folder, files) for folder, files in runs_below(listed, outline.found).items()}
    index = None if fresh else _index_of(store, parts_of(listed), known)
    found, indexed, unread = _indexed(store) if any(entry.key == keys.INDEX for entry in listed) else (None, {}, None)
    current: dict[str, Row] = {}
    if not fresh:
        files = {id_: files for id_, (_, files) in runs.items()}
        own = index.own_rows if index is not None else {}
        current = current_rows(indexed.values(), files) | current_rows(own.values(), files)
    read = _read(store, _listed({id_: run for id_, run in runs.items() if id_ not in current}, store, outline.found))
    rows = {id_: read.get(id_) or current[id_] for id_ in indexed if id_ in runs and (id_ in read or id_ in current)}
    later = sorted((row for id_, row in (current | read).items() if id_ not in rows), key=row_order)
    folders = {id_: folder for id_, (folder, _) in runs.items()}
    return Table([*rows.values(), *later], found, folders, unread, index)


def _listed(
    runs: Mapping[str, tuple[str, Mapping[str, Entry]]], store: Store, outlined: Container[str]
) -> dict[str, tuple[str, Mapping[str, Entry]]]:
    """Return runs with all their files: those of which only some are listed are listed now."""
    return {
        run_id: (folder, _files_in(store.below(folder)) if folder in outlined else files)
        for run_id, (folder, files) in runs.items()
    }


def _files_in(store: Store) -> dict[str, Entry]:
    return {entry.key: entry for entry in store.list(skipped=ignore)}


def _index_of(store: Store, listed: Sequence[Part], known: Index | None) -> Index | None:
    """Return a small index that has parts; if it cannot be read, warn and return None."""
    if not listed:
        return None
    try:
        index = read_index(store, known, large=sys.maxsize, listed=listed)
    except TooLargeError as error:
        message = f"{error}; the table is read from the runs instead, which takes longer"
        warnings.warn(message, DamagedFileWarning, stacklevel=5)
        return None
    return index if index is not None and index.parts else None


def _indexed(store: Store) -> tuple[Blob | None, dict[str, Row], TooLargeError | None]:
    """Return index.csv and its rows by run id. If it is too large, warn and do not use it."""
    try:
        found = found_index(store)
        return found, {row.run_id: row for row in parsed_rows(found.data)} if found else {}, None
    except TooLargeError as error:
        message = f"{error}; the table is read from the runs instead, which takes longer"
        warnings.warn(message, DamagedFileWarning, stacklevel=5)
        return None, {}, error


def _trusted(index: Index) -> Table:
    rows = sorted(index.rows.values(), key=row_order)
    return Table(rows, None, {row.run_id: f"{keys.RUNS}/log_{row.run_id}" for row in rows}, None, index)


row_order: Final[Callable[[Row], tuple[str, str]]] = attrgetter("started", "run_id")
"""Returns the key by which rows are sorted: by start, then by run id."""


def runs_below(
    entries: Iterable[Entry], outlined: Mapping[str, dict[str, Entry]] | None = None
) -> dict[str, dict[str, Entry]]:
    """Return the files of each run in a listing, by folder: ``log_<run_id>``, or the same in ``runs/``. Sorted.

    Args:
        entries: The listed files.
        outlined: Folders that are not among them, each with some of its files.

    >>> from notata.store import open_store
    >>> store = open_store("memory://runs-below")
    >>> store.write("runs/log_a/metadata.json", b"{}")
    >>> {folder: list(files) for folder, files in runs_below(store.list()).items()}
    {'runs/log_a': ['metadata.json']}
    """
    runs: dict[str, dict[str, Entry]] = {}
    for entry in entries:
        depth = 2 if entry.key.startswith(f"{keys.RUNS}/log_") else 1
        parts = entry.key.split("/", depth)
        if len(parts) > depth and parts[depth - 1].startswith("log_"):
            runs.setdefault("/".join(parts[:depth]), {})[parts[depth]] = entry
    for folder, files in (outlined or {}).items():
        if folder.rpartition("/")[0] in ("", keys.RUNS):
            runs[folder] = files
    legal = (folder for folder in sorted(runs) if not keys.problem_of_stored(folder))
    return {folder: runs[folder] for folder in legal if keys.METADATA in runs[folder]}


def row_now(store: Store, row: Row) -> Row | None:
    """Return the current row of a run from its metadata.json; None if the run has not ended, or was removed.

    One request.
    """
    try:
        found = store.fetch(f"{keys.RUNS}/{keys.run_folder(row.run_id)}/{keys.METADATA}")
    except MissingError:
        return None
    now = _of_metadata(row.run_id, found)
    return now if now.status in ENDED else None


def rows_now(store: Store, rows: Iterable[Row]) -> Iterator[Row]:
    """Yield the rows that runs have in their metadata.json now, with their times; removed runs are left out.

    A row of a run that has not ended is yielded as given. One request each, 32 at once.
    """
    now = time.time()
    for some in _batches(rows, _AT_ONCE):
        given = {row.run_id: row for row in some}
        for run_id, blob in _metadata_of(store, given).items():
            found = _of_metadata(run_id, blob)
            yield (found if found.status in ENDED else given[run_id])._replace(time=now)


def read_runs(store: Store, run_ids: Iterable[str]) -> Iterator[Row]:
    """Yield the rows of runs of an experiment from the runs themselves; missing runs are left out.

    One request for each run, 32 at once, and a listing and up to four more for one that has not ended.
    """
    for some in _batches(run_ids, _AT_ONCE):
        blobs = _metadata_of(store, some)
        rows = rows_of(store, {run_id: (_folder(run_id), {}) for run_id in blobs}, blobs, partial=blobs)
        for run_id, row in rows.items():
            if row.status in ENDED:
                yield row
            else:
                files = _files_in(store.below(_folder(run_id)))
                yield from _read(store, {run_id: (_folder(run_id), files)}).values()


def _metadata_of(store: Store, run_ids: Iterable[str]) -> dict[str, Blob]:
    return _fetched(store, {run_id: f"{_folder(run_id)}/{keys.METADATA}" for run_id in run_ids})


def _folder(run_id: str) -> str:
    return f"{keys.RUNS}/log_{run_id}"


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while some := list(itertools.islice(iterator, size)):
        yield some


def current_rows(rows: Iterable[Row], runs: Mapping[str, Mapping[str, Entry]]) -> dict[str, Row]:
    """Return the rows of an index.csv that are current according to a listing of the runs' files, by run id.

    A listing shows nothing about metrics recorded from another file: such a row is read from the run each time.

    Args:
        rows: The rows of index.csv.
        runs: The files of each run, by run id.
    """
    return {row.run_id: row for row in rows if row.run_id in runs and _is_current(row, runs[row.run_id])}


def _is_current(row: Row, files: Mapping[str, Entry]) -> bool:
    if keys.METADATA not in files:
        return False
    return row.revision == revision_of(row, files[keys.METADATA].version, metrics_version(files))


def found_index(store: Store) -> Blob | None:
    """Return index.csv, or None if there is none. One request."""
    try:
        return store.fetch(keys.INDEX)
    except MissingError:
        return None


def _read(store: Store, runs: Mapping[str, tuple[str, Mapping[str, Entry]]]) -> dict[str, Row]:
    """Return rows read from the runs themselves. The metadata of a run whose process is gone is read again."""
    names = {run_id: f"{folder}/{keys.METADATA}" for run_id, (folder, _) in runs.items()}
    blobs = _fetched(store, names)
    rows = rows_of(store, runs, blobs)
    dead = [run_id for run_id, row in rows.items() if row.status == "died"]
    gone = {run_id: names[run_id] for run_id in dead if is_gone(parsed(blobs[run_id].data) or {})}
    again = _fetched(store, gone).items()
    return rows | rows_of(store, runs, {run_id: now for run_id, now in again if now.version != blobs[run_id].version})


def _fetched(store: Store, names: Mapping[str, str]) -> dict[str, Blob]:
    """Read files by key, and return them by run id; missing ones are left out."""
    found = store.fetch_many(names.values()) if names else {}
    return {run_id: found[key] for run_id, key in names.items() if key in found}


def rows_of(
    store: Store,
    runs: Mapping[str, tuple[str, Mapping[str, Entry]]],
    blobs: Mapping[str, Blob],
    fetch: Callable[[Iterable[str]], Mapping[str, Blob]] | None = None,
    *,
    partial: Container[str] = (),
) -> dict[str, Row]:
    """Return rows of runs whose metadata.json was read.

    Up to two reads for each run that has not ended, or whose files have changed since, see `notata.run.values`; and one
    for each small series of a run that has not ended, if its metadata.json has no summary yet.

    Args:
        store: The store that contains the runs.
        runs: The folder of each run in the store, and its files by key; by run id, or any other name.
        blobs: The metadata.json of runs, by the same names; runs without one are left out.
        fetch: Reads files of `store`; by default `Store.fetch_many`.
        partial: The runs of which not all files are given.
    """
    builders = {
        run_id: _builder(run_id, blob, runs[run_id][1], run_id not in partial) for run_id, blob in blobs.items()
    }
    wanted = {
        keys.join(runs[run_id][0], name): (builder, name)
        for run_id, builder in builders.items()
        for name in builder.needed()
    }
    files = (fetch or store.fetch_many)(wanted)
    for key, (builder, name) in wanted.items():
        if key in files:
            builder.add(name, files[key])
    return {run_id: builder.row for run_id, builder in builders.items()}


def _builder(run_id: str, blob: Blob, files: Mapping[str, Entry], is_whole: bool) -> RowBuilder:
    fields = parsed(blob.data)
    row, fields = _of_fields(run_id, fields, blob), fields or {}
    return RowBuilder(row, row_field(fields), fields.get(SUMMARY), files, is_whole, blob.version)


def _of_metadata(run_id: str, blob: Blob) -> Row:
    return _of_fields(run_id, parsed(blob.data), blob)


def _of_fields(run_id: str, fields: dict[str, Any] | None, blob: Blob) -> Row:
    if fields is None:
        return Row(run_id, "unreadable", failure_reason=f"{keys.METADATA} is not a JSON object")
    state = state_of(fields, blob)
    if state.status in ENDED:
        return of_run(run_id, fields, blob.version)
    reason = state.why if state.status == "died" else ""
    series = flat_values(fields.get(SUMMARY))
    began = str(fields.get("start_time") or "")
    return Row(
        run_id,
        state.status,
        metrics=series,
        failure_reason=reason,
        started=began,
        series=series,
        pinned=is_pinned(fields),
        **origin_of(fields),
    )
