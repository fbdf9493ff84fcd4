"""Parameters, status and metrics of many runs side by side, from current rows of index.csv, else from the runs."""

from __future__ import annotations

import fnmatch
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from notata._base import keys
from notata._base.garbage import paused_collection
from notata._base.notebook import grid, note, page, state
from notata.errors import StorageError, TooLargeError
from notata.search.choosing import Query, Runs, Status, Wheres
from notata.search.indexes import experiment_of
from notata.search.places import Place, Run
from notata.search.record import read_at, records
from notata.search.target import Failed, URLs, raise_error
from notata.search.where import FACTS, MISSING, close_to, column, finder, indexed_alone, listed_alone
from notata.store import Blob
from notata.table import (
    Row,
    current_rows,
    experiments_with_parts,
    flat_names,
    frame_of,
    own_names,
    parsed_rows,
    read_index,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RunTable", "cell", "extreme_columns", "indexed", "table", "usual_columns"]

_PARTS: Final = ("params", "metrics")
_MAGIC: Final = frozenset("*?[")


@dataclass(frozen=True)
class RunTable:
    """A table of runs: a sequence of rows, each a dictionary by column, without columns that the run lacks.

    Attributes:
        columns: The names from left to right. A parameter or metric whose name another column has already is
            ``params.<name>`` or ``metrics.<name>``.
        runs: The run of each row.
        notes: Notes about the request, such as a column that no run has.
    """

    columns: Sequence[str]
    runs: Runs
    notes: Sequence[str] = field(default=(), repr=False)
    _paths: Mapping[str, str] = field(default_factory=dict, repr=False)  # full names of columns with another name

    def __len__(self) -> int:
        return len(self.runs)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        finders = self._finders()
        return (_row(run, finders) for run in self.runs)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return _row(self.runs[number], self._finders())

    def _finders(self) -> dict[str, Callable[[Run], Any]]:
        return {name: finder(self._paths.get(name, name)) for name in self.columns}

    def to_pandas(self) -> pd.DataFrame:
        """Return the table as a pandas DataFrame; missing values are NaN.

        Raises:
            PackageMissingError: pandas is not installed.
        """
        with paused_collection():
            columns = {name: column(self._paths.get(name, name), self.runs, math.nan) for name in self.columns}
            return frame_of(columns, len(self))

    def _repr_html_(self) -> str:
        """Return the first rows as HTML for a notebook. No request."""
        rows = (
            {**row, "status": state(run.status, run.shown_status)} for row, run in zip(self, self.runs, strict=True)
        )
        table = grid("", self.columns, rows, total=len(self))
        return page(self.runs.summary(), table, *map(note, self.notes))


def _row(run: Run, finders: Mapping[str, Callable[[Run], Any]]) -> dict[str, Any]:
    return {name: value for name, find in finders.items() if (value := find(run)) is not MISSING}


def table(
    urls: URLs | Query | None = None,
    *,
    columns: Iterable[str] | None = None,
    status: Status = None,
    where: Wheres | None = None,
    sort: str | None = None,
    reverse: bool = False,
    limit: int | None = None,
    fresh: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    failed: Failed = raise_error,
) -> RunTable:
    """Return parameters, status and metrics of all runs at or below some places, of several experiments too.

    The rows of an experiment with more than 10,000 runs come from its index, and its runs are not listed:
    `RunTable.notes` says so and how old the index is. Runs that are running are missing, and so may be runs of killed
    processes. Columns, filters and orders that need sizes, files or metadata look at every run, and so does a filter
    function.

    Args:
        urls: One place or several, see `URLs`, or a `Query`; by default the base folder.
        columns: Columns, in this order: `notata.search.FACTS`, parameters and metrics, parts of them
            (``solver.order``), or patterns (``metrics.*``, ``optimizer.*``). By default the run id, the parameters, the
            status, the metrics, and the failure reason; first the name of the run if several runs have the same id.
            Each value in a dictionary is a column. Of a series they have the last value of each column, such as
            ``loss``, and ``loss.min`` and ``loss.max`` only if they are asked for.
        status: Only runs with this status or one of several: ``running``, ``complete``, ``failed``, ``died``,
            ``replacing`` or ``unreadable``.
        where: Only runs that match this expression, such as ``"omega > 1 and age < days(2)"`` (see `Where`), or for
            which this function of a `Run` is true.
        sort: The key to order by: one of `FACTS`, a parameter or a metric. Runs without it come last. By default places
            stay in the given order, and runs are ordered by folder.
        reverse: Reverse the order.
        limit: Maximum number of rows to return.
        fresh: Read each run instead of its row in index.csv or the index. Checksums in index.csv detect changes, but
            not forgery: pass True if you do not trust every writer of these files.
        storage_options: Options for fsspec.
        failed: Called with the error of each place that cannot be listed or has no run, and of each file that the
            storage refused. The search continues with the others. By default, the first such error is raised.

    Cost: on a disk, three calls of the system for each run with a current row in index.csv. In a bucket, one listing
    per 1000 files. One read for each index.csv, and one for each run without a current row, 32 at once; up to two more
    for a run that has not ended, whose files have changed since, or that an earlier version wrote. Columns, orders and
    filters that need times, hosts or metadata read each run. A large index takes two listings and one read for each of
    its parts, however many runs there are; it has times and hosts, too.

    Raises:
        ConfigurationError: The filter is invalid, or the status is unknown.
        RunMissingError: There is no run.
        StorageError: A place cannot be listed.

    >>> from notata import Experiment
    >>> experiment = Experiment("sweep", "memory://search/table")
    >>> for dt in (0.1, 0.2):
    ...     with experiment.add(dt=dt) as run:
    ...         path = run.json("metrics", {"error": dt * 10})
    >>> found = table("memory://search/table", columns=["dt", "metrics.*"], sort="error", reverse=True)
    >>> found.columns, list(found)
    (['dt', 'error'], [{'dt': 0.2, 'error': 2.0}, {'dt': 0.1, 'error': 1.0}])
    """
    query = Query.of(
        urls,
        status=status,
        where=where,
        sort=sort,
        reverse=reverse,
        limit=limit,
        storage_options=storage_options,
        failed=failed,
    )
    asked = None if columns is None else [columns] if isinstance(columns, str) else list(columns)
    roots = [name for column in asked or () for name in (column, column.partition(".")[0])]
    read_all = fresh or query.metadata or not listed_alone(roots)
    trusts_index = not fresh and indexed_alone(roots)

    def of_place(place: Place, read: Mapping[str, Blob]) -> Iterator[Run]:
        if not read_all:
            return _rows(place, query.failed, read)
        return records(place, values=True, failed=query.failed, read=read)

    with paused_collection():
        found = query.runs(of_place, read_all=read_all, trusts_index=trusts_index, outlined=indexed_alone(roots))
        paths, notes = _columns(found, asked)
        return RunTable([*paths], found, [*found.notes, *notes], paths)


# -- rows --------------------------------------------------------------------------------------------------


def _rows(place: Place, failed: Failed, read: Mapping[str, Blob]) -> Iterator[Run]:
    """Yield the runs of a place with parameters and metrics, sorted by folder; some may be read already."""
    known = indexed(place, failed)
    others = replace(place, runs={folder: run for folder, run in place.runs.items() if folder not in known})
    others_now = {run.url: run for run in records(others, values=True, failed=failed, read=read)}
    for folder, run in place.runs.items():
        yield known[folder] if folder in known else others_now[run.url]


def indexed(place: Place, failed: Failed) -> dict[str, Run]:
    """Return the runs, by folder, that have a current row in the index.csv, or in the index, of their experiment."""
    siblings: dict[str, dict[str, Run]] = {}
    for folder, run in place.runs.items():
        siblings.setdefault(folder.rpartition("/")[0], {})[run.run_id] = run
    found = _stored_rows(
        place, {experiment_of(parent) for parent, inside in siblings.items() if len(inside) > 1}, failed
    )
    known: dict[str, Run] = {}
    for parent, inside in siblings.items():
        rows = found.get(experiment_of(parent), ())
        current = current_rows(rows, {run_id: run.known_entries for run_id, run in inside.items()})
        known |= {inside[run_id].folder: _of_row(inside[run_id], row) for run_id, row in current.items()}
    return known


def _stored_rows(place: Place, experiments: Iterable[str], failed: Failed) -> dict[str, list[Row]]:
    """Return the rows in index.csv and in the parts of the index, by the folder of the experiment."""
    parts = experiments_with_parts(place.entries)
    csv = {keys.join(folder, keys.INDEX): folder for folder in experiments if folder not in parts}
    found: dict[str, list[Row]] = {}
    for key, blob in read_at(place.store, sorted(csv.keys() & place.entries.keys()), failed).items():
        try:
            found[csv[key]] = parsed_rows(blob.data)
        except TooLargeError as error:  # read the runs instead
            failed(error)
    for folder in parts.intersection(experiments):
        store = place.store.below(folder) if folder else place.store
        try:
            index = place.others[folder] if folder in place.others else read_index(store)
        except StorageError as error:  # read the runs instead
            failed(error)
            continue
        if index is not None and index.unread is not None:
            failed(index.unread)
        found[folder] = [] if index is None else list(index.rows.values())
    return found


def _of_row(run: Run, row: Row) -> Run:
    why = f"from {keys.INDEX}, whose row is current"
    return run.with_row(row, why)


# -- columns -----------------------------------------------------------------------------------------------


def _columns(runs: Runs, asked: Sequence[str] | None) -> tuple[dict[str, str], list[str]]:
    """Return the columns with the names to look up, and notes about requested columns."""
    usual = dict(usual_columns(runs))
    if asked is None:
        extremes = extreme_columns(runs)
        return {name: path for name, path in usual.items() if path not in extremes}, []
    chosen: dict[str, str] = {}
    notes = []
    for wanted in asked:
        found = finder(wanted)
        there = wanted in FACTS or any(found(run) is not MISSING for run in runs)
        if there or not _MAGIC & set(wanted):
            fitting = {wanted: wanted}
        else:
            fitting = {
                name: path
                for name, path in usual.items()
                if fnmatch.fnmatchcase(name, wanted) or fnmatch.fnmatchcase(path, wanted)
            }
        if runs and not there and (wanted in fitting or not fitting):
            notes.append(f"no run has {wanted}{close_to(wanted, runs)}")
        chosen |= {name: path for name, path in fitting.items() if name not in chosen}
    return chosen, notes


def usual_columns(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Return the default columns, each with its full name, such as ``("lr", "params.lr")``; with those of extremes."""
    origin = Run.origin_of(runs)
    found = flat_names((run.params for run in runs), None if origin is None else origin.names.params)
    params = {name: f"params.{name}" for name in sorted(found)}
    found = flat_names((run.metrics for run in runs), None if origin is None else origin.names.metrics)
    metrics = {name: f"metrics.{name}" for name in sorted(found)}
    facts = [
        name for name in ("failure_reason", "metrics_error", "pinned") if origin is None or name in origin.names.facts
    ]
    taken = {*FACTS, *_PARTS, "metadata"}
    columns = [("name", "name")] * (origin is None and len({run.run_id for run in runs}) < len(runs))
    columns += [("run_id", "run_id")]
    columns += [(_free(name, path, taken), path) for name, path in params.items()]
    columns += [("status", "status")]
    columns += [(_free(name, path, {*taken, *params}), path) for name, path in metrics.items()]
    return columns + [(name, name) for name in facts if any(getattr(run, name) for run in runs)]


def extreme_columns(runs: Sequence[Run]) -> set[str]:
    """Return the full names of the smallest and largest values of series: ``loss.min`` beside ``loss``.

    A column of numbers that a user named ``loss.min`` is none: it has a ``loss.min.min`` itself.
    """
    origin = Run.origin_of(runs)
    names = own_names((run.metrics for run in runs), None if origin is None else origin.names.own_metrics)
    extremes = {name for name in names if name.endswith((".min", ".max")) and name[:-4] in names}
    return {f"metrics.{name}" for name in extremes if f"{name}.min" not in names}


def _free(name: str, path: str, taken: Iterable[str]) -> str:
    return path if name in taken or name.startswith(tuple(f"{part}." for part in _PARTS)) else name


def cell(value: Any) -> str:
    """Return a value as the text of a cell: strings unchanged, numbers as Python writes them, all else as JSON.

    >>> [cell(value) for value in ("1 s", 0.1, True, None, {"order": 4}, float("nan"))]
    ['1 s', '0.1', 'true', 'null', '{"order": 4}', 'nan']
    """
    if isinstance(value, str):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    return json.dumps(value, ensure_ascii=False, default=str)
