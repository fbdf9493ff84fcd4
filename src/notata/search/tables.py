"""Parameters, status and metrics of many runs side by side, from current rows of index.csv, else from the runs."""

from __future__ import annotations

import fnmatch
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from notata._base import display, keys
from notata.errors import TooLargeError
from notata.formats import flattened
from notata.search.choosing import Query, Runs, Status, Wheres
from notata.search.places import Place, Run
from notata.search.record import read_at, records, with_row
from notata.search.target import Failed, URLs, raise_error
from notata.search.where import FACTS, close_to, find, listed_alone
from notata.store import Blob
from notata.table import Row, current_rows, frame_of, parsed_rows

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RunTable", "cell", "table"]

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
        return (self._row(run) for run in self.runs)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return self._row(self.runs[number])

    def _row(self, run: Run) -> dict[str, Any]:
        values = ((name, find(run, self._paths.get(name, name))) for name in self.columns)
        return {name: found[0] for name, found in values if found}

    def to_pandas(self) -> pd.DataFrame:
        """Return the table as a pandas DataFrame; missing values are NaN.

        Raises:
            PackageMissingError: pandas is not installed.
        """
        return frame_of(self, self.columns)

    def _repr_html_(self) -> str:
        return display.rows(self.runs.summary(), self.columns, self)


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
        fresh: Read each run instead of index.csv. Checksums in index.csv detect changes, but not forgery: pass True if
            you do not trust every writer of that file.
        storage_options: Options for fsspec.
        failed: Called with the error of each place that cannot be listed or has no run, and of each file that the
            storage refused. The search continues with the others. By default, the first such error is raised.

    Cost: one listing per 1000 files, one read for each index.csv, and up to three for each run without a current row;
    32 reads at once. Columns, orders and filters that need times, hosts or metadata read each run.

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

    def of_place(place: Place, read: Mapping[str, Blob]) -> Iterator[Run]:
        return records(place, values=True, failed=query.failed, read=read) if read_all else _rows(place, query.failed)

    found = query.runs(of_place, read_all=read_all)
    paths, notes = _columns(found, asked)
    return RunTable([*paths], found, [*found.notes, *notes], paths)


# -- rows --------------------------------------------------------------------------------------------------


def _rows(place: Place, failed: Failed) -> Iterator[Run]:
    """Yield the runs of a place with parameters and metrics, sorted by folder."""
    known = _indexed(place, failed)
    others = replace(place, runs={folder: run for folder, run in place.runs.items() if folder not in known})
    read = {run.url: run for run in records(others, values=True, failed=failed)}
    for folder, run in place.runs.items():
        yield known[folder] if folder in known else read[run.url]


def _indexed(place: Place, failed: Failed) -> dict[str, Run]:
    """Return the runs, by folder, that have a current row in the index.csv of their experiment."""
    siblings: dict[str, dict[str, Run]] = {}
    for folder, run in place.runs.items():
        siblings.setdefault(folder.rpartition("/")[0], {})[run.run_id] = run
    indexes = {parent: _index_of(parent) for parent, inside in siblings.items() if len(inside) > 1}
    there = sorted({index for index in indexes.values() if index in place.entries})
    found: dict[str, list[Row]] = {}
    for index, blob in read_at(place.store, there, failed).items():
        try:
            found[index] = parsed_rows(blob.data)
        except TooLargeError as error:  # read the runs instead
            failed(error)
    known: dict[str, Run] = {}
    for parent, index in indexes.items():
        inside = siblings[parent]
        rows = current_rows(found.get(index, ()), {run_id: run.entries for run_id, run in inside.items()})
        known |= {inside[run_id].folder: _of_row(inside[run_id], row) for run_id, row in rows.items()}
    return known


def _index_of(parent: str) -> str:
    """Return the key of the index.csv of the runs in a folder."""
    if parent == keys.RUNS:
        return keys.INDEX
    return keys.join(parent.removesuffix(f"/{keys.RUNS}"), keys.INDEX)


def _of_row(run: Run, row: Row) -> Run:
    why = f"from {keys.INDEX}, whose row is current"
    return with_row(replace(run, status=row.status, why=why, failure_reason=row.failure_reason), row)


# -- columns -----------------------------------------------------------------------------------------------


def _columns(runs: Runs, asked: Sequence[str] | None) -> tuple[dict[str, str], list[str]]:
    """Return the columns with the names to look up, and notes about requested columns."""
    usual = dict(_usual(runs))
    if asked is None:
        extremes = _extremes(runs)
        return {name: path for name, path in usual.items() if path not in extremes}, []
    chosen: dict[str, str] = {}
    notes = []
    for column in asked:
        there = column in FACTS or any(find(run, column) for run in runs)
        if there or not _MAGIC & set(column):
            fitting = {column: column}
        else:
            fitting = {
                name: path
                for name, path in usual.items()
                if fnmatch.fnmatchcase(name, column) or fnmatch.fnmatchcase(path, column)
            }
        if runs and not there and (column in fitting or not fitting):
            notes.append(f"no run has {column}{close_to(column, runs)}")
        chosen |= {name: path for name, path in fitting.items() if name not in chosen}
    return chosen, notes


def _usual(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Return the default columns, each with its full name."""
    params = {name: f"params.{name}" for name in sorted({name for run in runs for name in flattened(run.params)})}
    metrics = {name: f"metrics.{name}" for name in sorted({name for run in runs for name in flattened(run.metrics)})}
    taken = {*FACTS, *_PARTS, "metadata"}
    columns = [("name", "name")] * (len({run.run_id for run in runs}) < len(runs))
    columns += [("run_id", "run_id")]
    columns += [(_free(name, path, taken), path) for name, path in params.items()]
    columns += [("status", "status")]
    columns += [(_free(name, path, {*taken, *params}), path) for name, path in metrics.items()]
    return columns + [
        (name, name) for name in ("failure_reason", "metrics_error") if any(getattr(run, name) for run in runs)
    ]


def _extremes(runs: Iterable[Run]) -> set[str]:
    """Return the full names of the smallest and largest values of series: ``loss.min`` beside ``loss``.

    A column of numbers that a user named ``loss.min`` is none: it has a ``loss.min.min`` itself.
    """
    names = {name for run in runs for name in run.metrics}
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
