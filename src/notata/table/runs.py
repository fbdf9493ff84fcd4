"""Reading of the rows of all runs below a folder: current rows from index.csv, the others from the runs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from notata import formats
from notata._base import keys, limits
from notata._base.packages import needed
from notata.errors import DamagedFileWarning, DecodeError, EncodeError, MissingError, TooLargeError
from notata.run import parameters
from notata.run.state import ENDED, SUMMARY, parsed, state_of
from notata.series import flat_values
from notata.store import Blob, Entry, Store
from notata.store.gaps import Skipped, ignore
from notata.table.columns import Columns, parsed_rows
from notata.table.row import (
    ERROR,
    FILE,
    REVISION,
    VERSION,
    Row,
    crc,
    metrics_of,
    named_values,
    of_run,
    revision_of,
    row_field,
    sealed,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Table",
    "current_rows",
    "found_index",
    "frame_of",
    "gather",
    "row_now",
    "rows_of",
    "runs_below",
    "to_pandas",
]

_SERIES = 8  # series of a run that are read for a table, if it has no summary of them
_SERIES_BYTES = 2**20  # of each


@dataclass(frozen=True, slots=True)
class Table:
    """Rows, and the index.csv that was found with them.

    Attributes:
        rows: One row for each existing run: first in the order of index.csv, then the others by start.
        found: The stored index.csv; None if there is none.
        runs: The folder of each run, by run id.
        unread: Why an existing index.csv was not used; None if it was.
    """

    rows: Sequence[Row]
    found: Blob | None = None
    runs: Mapping[str, str] = field(default_factory=dict)
    unread: TooLargeError | None = None

    def columns(self) -> list[str]:
        """Return the names of the columns, as in index.csv without the revision, but one for each dictionary item."""
        return [name for name in Columns.of(self._flat()).header if name != REVISION]

    def records(self) -> list[dict[str, Any]]:
        """Return each row by column; missing values are left out."""
        rows = self._flat()
        columns = Columns.of(rows)
        return [{name: value for name, value in columns.record(row) if name != REVISION} for row in rows]

    def _flat(self) -> list[Row]:
        flat = formats.flattened
        return [replace(row, params=flat(row.params), metrics=flat(row.metrics)) for row in self.rows]


def frame_of(records: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """Return records as a pandas DataFrame; missing values are NaN, and lone surrogates, which it cannot hold, escaped.

    Args:
        records: The rows by column.
        columns: The columns from left to right.

    Raises:
        PackageMissingError: pandas is not installed.
    """
    with needed("a DataFrame needs pandas", "pandas", "pandas"):
        import pandas as pd

    def holdable(value: Any) -> Any:
        return formats.without_surrogates(value) if isinstance(value, str) else value

    rows = [{holdable(name): holdable(value) for name, value in record.items()} for record in records]
    return pd.DataFrame.from_records(rows, columns=[*map(holdable, columns)] or None)


def to_pandas(table: Table) -> pd.DataFrame:
    """Return the table as a pandas DataFrame; missing values are NaN.

    Raises:
        PackageMissingError: pandas is not installed.
    """
    return frame_of(table.records(), table.columns() if table.rows else [])


def gather(
    store: Store,
    entries: Iterable[Entry] | None = None,
    *,
    skipped: Skipped = ignore,
    fresh: bool = False,
) -> Table:
    """Return the rows of all runs below a store's root.

    Args:
        store: The store of the folder.
        entries: The files there, if they are listed already.
        skipped: Called with the error of each folder that cannot be opened and of each name that is no legal key.
        fresh: Read every run; use only the order of index.csv, not its rows.

    Cost: one listing per 1000 files, one read for index.csv, and one for each ended run without a current row; up to
    three for a run that has not ended, or was written by notata 0.3.0. 32 reads at once.
    """
    listed = store.list(skipped=skipped) if entries is None else list(entries)
    runs = {keys.run_id(folder): (folder, files) for folder, files in runs_below(listed).items()}
    found, indexed, unread = _indexed(store) if any(entry.key == keys.INDEX for entry in listed) else (None, {}, None)
    current = {} if fresh else current_rows(indexed.values(), {id_: files for id_, (_, files) in runs.items()})
    read = _read(store, {id_: run for id_, run in runs.items() if id_ not in current})
    rows = {id_: read.get(id_, row) for id_, row in indexed.items() if id_ in runs}
    later = sorted((row for id_, row in read.items() if id_ not in rows), key=lambda row: (row.started, row.run_id))
    return Table([*rows.values(), *later], found, {id_: folder for id_, (folder, _) in runs.items()}, unread)


def _indexed(store: Store) -> tuple[Blob | None, dict[str, Row], TooLargeError | None]:
    """Return index.csv and its rows by run id. If it is too large, warn and do not use it."""
    try:
        found = found_index(store)
        return found, {row.run_id: row for row in parsed_rows(found.data)} if found else {}, None
    except TooLargeError as error:
        message = f"{error}; the table is read from the runs instead, which takes longer"
        warnings.warn(message, DamagedFileWarning, stacklevel=5)
        return None, {}, error


def runs_below(entries: Iterable[Entry]) -> dict[str, dict[str, Entry]]:
    """Return the files of each run in a listing, by folder: ``log_<run_id>``, or the same in ``runs/``. Sorted.

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
    return row.revision == revision_of(row, files[keys.METADATA].version, _metrics_version(files))


def _metrics_version(files: Mapping[str, Entry]) -> str:
    return crc(files[keys.METRICS].version) if keys.METRICS in files else ""


def found_index(store: Store) -> Blob | None:
    """Return index.csv, or None if there is none. One request."""
    try:
        return store.fetch(keys.INDEX)
    except MissingError:
        return None


def _read(store: Store, runs: Mapping[str, tuple[str, Mapping[str, Entry]]]) -> dict[str, Row]:
    """Return rows read from the runs themselves."""
    names = {f"{folder}/{keys.METADATA}": run_id for run_id, (folder, _) in runs.items()}
    return rows_of(store, runs, {names[key]: blob for key, blob in store.fetch_many(names).items()})


def rows_of(
    store: Store,
    runs: Mapping[str, tuple[str, Mapping[str, Entry]]],
    blobs: Mapping[str, Blob],
    fetch: Callable[[Iterable[str]], Mapping[str, Blob]] | None = None,
) -> dict[str, Row]:
    """Return rows of runs whose metadata.json was read. Up to two reads for each run that has not ended.

    Another read for each small series of such a run whose metadata.json has no summary yet.

    Args:
        store: The store that contains the runs.
        runs: The folder of each run in the store, and its files by key; by run id, or any other name.
        blobs: The metadata.json of runs, by the same names; runs without one are left out.
        fetch: Reads files of `store`; by default `Store.fetch_many`.
    """
    rows = {run_id: _of_metadata(run_id, blob) for run_id, blob in blobs.items()}
    described = {run_id: row_field(parsed(blob.data) or {}) for run_id, blob in blobs.items()}
    for run_id, row in rows.items():
        if (size := _size_of_metrics(runs[run_id][1])) > limits.METRICS:
            rows[run_id] = replace(row, metrics_error=f"{keys.METRICS} has {size} bytes, which is too much for a table")
    wanted = {
        keys.join(runs[run_id][0], name): (run_id, name)
        for run_id, row in rows.items()
        for name in _needed_files(row, described[run_id], runs[run_id][1])
    }
    files = (fetch or store.fetch_many)(wanted)
    metrics = {run_id: str(row.get(VERSION) or "") for run_id, row in described.items()}
    for key, (run_id, name) in wanted.items():
        if key in files:
            rows[run_id] = _completed(rows[run_id], name, files[key].data)
            if name == keys.METRICS:
                metrics[run_id] = crc(files[key].version)
            if rows[run_id].revision:
                rows[run_id] = sealed(rows[run_id], blobs[run_id].version, metrics[run_id])
    return rows


def _of_metadata(run_id: str, blob: Blob) -> Row:
    fields = parsed(blob.data)
    if fields is None:
        return Row(run_id, "unreadable", failure_reason=f"{keys.METADATA} is not a JSON object")
    state = state_of(fields, blob)
    if state.status in ENDED:
        return of_run(run_id, fields, blob.version)
    reason = state.why if state.status == "died" else ""
    series = flat_values(fields.get(SUMMARY))
    began = str(fields.get("start_time") or "")
    return Row(run_id, state.status, metrics=series, failure_reason=reason, started=began, series=series)


def _size_of_metrics(files: Mapping[str, Entry]) -> int:
    return files[keys.METRICS].size if keys.METRICS in files else 0


def _needed_files(row: Row, described: Mapping[str, Any], files: Mapping[str, Entry]) -> Iterator[str]:
    """Yield the keys of files that are needed to complete a row."""
    ended = row.status in ENDED
    if not (ended and "params" in described):
        yield from [key for key in parameters.FILES if key in files][:1]
    elsewhere = FILE in described and ("metrics" in described or ERROR in described)
    known = ended and (elsewhere or described.get(VERSION) == _metrics_version(files))
    if keys.METRICS in files and not known and _size_of_metrics(files) <= limits.METRICS:
        yield keys.METRICS
    if not (ended or row.series):  # no heartbeat has stored a summary yet
        yield from [key for key in files if _is_small_series(key, files[key])][:_SERIES]


def _is_small_series(key: str, entry: Entry) -> bool:
    """Check whether a file is a series of the owner of the run that is read for a table."""
    rank, name = keys.series_name(key) or (None, "")
    return rank is None and bool(name) and 0 < entry.size <= _SERIES_BYTES


def _completed(row: Row, name: str, data: bytes) -> Row:
    if (series := keys.series_name(name)) is not None:
        from notata.series.reading import summary_of_file  # imports numpy

        try:
            found = flat_values({series[1]: summary_of_file(data)})
        except TooLargeError as too_large:
            return replace(row, metrics_error="; ".join(filter(None, (row.metrics_error, f"{name}: {too_large}"))))
        return replace(row, metrics={**found, **row.metrics}, series={**row.series, **found})
    if name == keys.METRICS:
        metrics, error = metrics_of(data, keys.METRICS)
        damaged = row.metrics_error if row.metrics_error.startswith(parameters.FILES) else ""
        metrics = {**row.series, **metrics}
        return replace(row, metrics=metrics, metrics_error="; ".join(filter(None, (damaged, error))))
    try:
        values = parameters.decoded(data, "json" if name == keys.PARAMS_JSON else "yaml")
        return replace(row, params=named_values(formats.plain(values)))
    except (DecodeError, EncodeError) as error:
        return replace(row, metrics_error=f"{name}: {error}")
