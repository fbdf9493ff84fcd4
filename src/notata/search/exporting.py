"""Export runs as tables for other programs: one file for the runs, and one for each series."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from notata._base import keys
from notata._base.display import counted, listed
from notata._base.packages import needed
from notata._base.terminal import quoted
from notata.errors import ConfigurationError, NotataError, TooLargeError, UnknownNameError
from notata.search.choosing import Query, Runs, Status, Wheres
from notata.search.places import Run
from notata.search.record import listed_runs
from notata.search.tables import RunTable, table
from notata.search.target import Failed, URLs, raise_error
from notata.search.where import MISSING, finder
from notata.series.many import SeriesFile, series_files
from notata.store import Location, Store, open_beside, open_store
from notata.table.parquet import Values, write_columns

if TYPE_CHECKING:
    from notata.search.exporting_series import SeriesExport

__all__ = ["Export", "export"]

_FACTS: Final = ("name", "run_id", "url", "status", "started", "ended", "seconds", "host", "failure_reason")
_TIMES: Final = ("started", "ended")
_FORMS: Final = ("parquet", "csv")
_RUNS: Final = "runs"
_COLUMNS: Final = 10_000  # columns of a file


@dataclass(frozen=True)
class Export:
    """The files of an export.

    Attributes:
        url: The folder that has them, without credentials.
        rows: The number of rows of each file, by key; empty if nothing was written.
        notes: Notes about the request, such as a name in a filter that no run has.
    """

    url: str
    rows: Mapping[str, int]
    notes: Sequence[str] = field(default=(), repr=False)

    def __str__(self) -> str:
        files = [f"{key} ({counted(rows, 'row')})" for key, rows in self.rows.items()]
        return f"{self.url}: {listed(files, 20)}"


def export(
    urls: URLs | Query | None,
    target: Location,
    *,
    form: str = "parquet",
    series: str | Iterable[str] | None = None,
    long: bool = False,
    columns: Iterable[str] | None = None,
    workers: bool = False,
    repeated: bool = False,
    status: Status = None,
    where: Wheres | None = None,
    sort: str | None = None,
    reverse: bool = False,
    limit: int | None = None,
    fresh: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    target_options: Mapping[str, Any] | None = None,
    failed: Failed = raise_error,
) -> Export:
    """Write the runs at or below some places as Parquet or CSV: a table of runs, and their series.

    ``runs.parquet`` has a row for each run: its name, id, URL, status, times, machine and failure, then parameters and
    metrics. A parameter or metric whose name another column has is ``params.<name>`` or ``metrics.<name>``. Each value
    in a dictionary is a column. ``series/<name>.parquet`` has the rows of one series of all runs: ``run_id``, ``step``,
    ``time`` and its columns. With `long`, ``series.parquet`` has one row for each value instead.

    A column has one type. Times are timestamps in UTC. Columns with values of several types, with lists, or with
    integers that no other type has hold JSON. Missing values are null, and NaN is NaN. Existing files of these names
    are replaced; each appears whole.

    Args:
        urls: One place or several, see `URLs`, or a `Query`; None for the base folder.
        target: The folder for the files: any fsspec URL, local path, UPath or `Storage`. With a name that ends in
            ``.parquet`` or ``.csv``, a file with the table of runs alone.
        form: ``parquet`` or ``csv``.
        series: Names of series, or patterns such as ``val/*``; by default all; an empty list for none.
        long: Write one file of all series, with the columns ``run_id``, ``series``, ``step``, ``time``, ``name``,
            ``value`` (a float) and ``text`` (of texts and booleans, and of integers that no float is equal to).
        columns: Columns of the table of runs, as for `table`; by default those above.
        workers: Include the series of workers; the column ``rank`` names the worker.
        repeated: Include rows of earlier attempts that a resumed run repeated.
        status: Only runs with this status or one of several.
        where: Only runs that match this expression, see `Where`, or for which this function of a `Run` is true.
        sort: The key to order by, as for `table`.
        reverse: Reverse the order.
        limit: Maximum number of runs.
        fresh: Read each run instead of its row in an index.
        storage_options: Options for fsspec, of the places.
        target_options: Options for fsspec, of the target.
        failed: Called with each error that does not end the export, such as a series that cannot be read. By default,
            the first such error is raised. If there are errors and no run, nothing is written.

    Cost: that of `table` with times; one request for each 8 MiB of a series, 32 at once; what is written takes one
    request for each file and one for each 8 MiB. Memory: the table of runs; of series some 200 MiB. Series of wide
    files pass a temporary file on this machine, as their columns are known only at the end.

    Raises:
        PackageMissingError: pyarrow is not installed.
        ConfigurationError: The form is unknown, the filter is invalid, or series should go to a single file.
        UnknownNameError: No run has a series of these names.
        TooLargeError: A file would have more than 10,000 columns.
        RunMissingError: There is no run.
        StorageError: A storage refused or failed.

    >>> from notata import Logbook
    >>> for dt in (0.1, 0.2):
    ...     with Logbook(f"dt_{dt}", "memory://search/export", params={"dt": dt}) as log:
    ...         log.scalars(step=5, error=dt**2)
    >>> print(export("memory://search/export", "memory://exported"))
    memory://exported: runs.parquet (2 rows), series/scalars.parquet (2 rows)
    """
    with needed("an export needs pyarrow", "pyarrow>=16", "tables"):
        import pyarrow.csv
        import pyarrow.parquet  # noqa: F401
    if form not in _FORMS:
        raise ConfigurationError(f"unknown form {form!r}; choose from {', '.join(_FORMS)}")
    query = Query.of(
        urls, status=status, where=where, sort=sort, reverse=reverse, limit=limit,
        storage_options=storage_options, failed=failed,
    )  # fmt: skip
    store, file = _target(target, target_options)
    patterns = [series] if isinstance(series, str) else None if series is None else list(series)
    if file and not file.endswith(f".{form}"):
        raise ConfigurationError(f"cannot write {form} to {file!r}: end the name with .{form}, or name a folder")
    if file and patterns:
        raise ConfigurationError(
            f"cannot write series to the single file {quoted(file)}: pass a folder, in which each series becomes a file"
        )
    names = [*_FACTS, "params.*", "metrics.*"] if columns is None else list(columns)
    errors: list[NotataError] = []
    found = table(query.noting(errors), columns=names, fresh=fresh)
    if errors and not len(found):  # a misspelt URL, or a storage that is down, is no empty table
        return Export(store.url, {})
    rows = {_write_runs(found, store, file or f"{_RUNS}.{form}", form): len(found)}
    if not file and (patterns is None or patterns):
        rows |= _write_series(found.runs, store, patterns, query.failed, long, form, workers, repeated)
    return Export(store.url, rows, [note for note in found.notes if columns is not None or ".*" not in note])


def _target(target: Location, options: Mapping[str, Any] | None) -> tuple[Store, str]:
    """Return the store of the target folder; or that of a file's folder, and its name."""
    text = target if isinstance(target, str) else getattr(target, "name", "")
    if isinstance(text, str) and text.endswith(tuple(f".{form}" for form in _FORMS)):
        store, name = open_beside(target, options)  # type: ignore[arg-type]
        return store, keys.check(name)
    return open_store(target, options), ""


# -- the table of runs -------------------------------------------------------------------------------------


def _write_runs(found: RunTable, store: Store, key: str, form: str) -> str:
    if len(found.columns) > _COLUMNS:
        raise TooLargeError(
            f"cannot write {store.shown(key)}: it would have {len(found.columns):,} columns, and the limit is "
            f"{_COLUMNS:,}. Choose columns",
            url=store.url,
            key=key,
        )
    columns = [(name, _values(found.runs, name, found._paths.get(name, name))) for name in found.columns]
    with store.open(key, "wb") as file:
        write_columns(file, columns, len(found), form)
    return key


def _values(runs: Runs, name: str, path: str) -> Values:
    """Return the function for the values of one column."""
    if path in _TIMES:
        return lambda start, end: [getattr(run, path) for run in runs[start:end]]
    find = finder(path)
    return lambda start, end: [None if (value := find(run)) is MISSING else value for run in runs[start:end]]


# -- series ------------------------------------------------------------------------------------------------


def _write_series(
    runs: Runs,
    store: Store,
    patterns: Sequence[str] | None,
    failed: Failed,
    long: bool,
    form: str,
    workers: bool,
    repeated: bool,
) -> dict[str, int]:
    """Write the series; return the number of rows of each file."""
    from notata.search.exporting_series import LongExport, WideExport

    files = _files_by_series(runs, failed, workers=workers)
    if patterns is None:
        chosen = sorted(files)
    else:
        chosen = sorted(name for name in files if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns))
        if not chosen:
            there = listed(sorted(map(quoted, files)), 20) or "none"
            failed(UnknownNameError(f"no run has a series {listed(list(map(quoted, patterns)), 5)}; they have {there}"))
    exports: list[SeriesExport] = []
    if long and chosen:
        exports.append(LongExport(store, f"series.{form}", {name: files[name] for name in chosen}))
    elif not long:
        exports += [WideExport(store, keys.check(f"series/{name}.{form}"), {name: files[name]}) for name in chosen]
    return {one.key: one.write(form, repeated=repeated, failed=failed) for one in exports}


def _files_by_series(runs: Runs, failed: Failed, *, workers: bool) -> dict[str, list[SeriesFile]]:
    """Return the files of all series of the runs, by the name of the series."""
    found: dict[str, list[SeriesFile]] = {}
    for run in _with_entries(runs, failed):
        names = {known for key in run.entries if (known := keys.series_name(key)) is not None}
        for name in sorted({name for rank, name in names if rank is None or workers}):
            try:
                files = list(series_files(run.name, run.store, run.entries, name, workers=workers))
            except NotataError as error:  # a file whose name is no series
                failed(error)
                continue
            found.setdefault(name, []).extend(files)
    return found


def _with_entries(runs: Runs, failed: Failed) -> Iterable[Run]:
    """Return the runs with their files; those from an index have to be listed."""
    if any(run.is_indexed for run in runs):
        return listed_runs(runs, failed)
    return runs
