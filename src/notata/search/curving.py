"""Values over time of many runs: the rows of a series, and curves of its columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from notata._base import keys, svg
from notata._base.display import listed
from notata._base.notebook import pictures
from notata._base.terminal import quoted
from notata._base.thinning import Array, Coordinates, thinned, thinned_rows
from notata.errors import ConfigurationError
from notata.run.state import SUMMARY
from notata.search.choosing import Query, Runs, Status, Wheres
from notata.search.places import Place, Run
from notata.search.record import records
from notata.search.target import Failed, URLs, raise_error
from notata.series.columns import chosen, is_chosen, unknown_columns, unmatched
from notata.series.many import (
    RunSeries,
    SeriesFile,
    gathered,
    read_each,
    series_files,
    unknown_series,
)
from notata.series.numbers import is_text, numbers
from notata.series.reading import SeriesData
from notata.series.summary import SCALARS
from notata.store import Blob

__all__ = [
    "STEP",
    "Coordinates",
    "Curve",
    "curves",
    "curves_in",
    "curves_of",
    "place_of",
    "runs_having",
    "runs_with",
    "series",
    "smoothed",
    "thinned",
    "thinned_rows",
]

STEP: Final = "step"
TIME: Final = "time"
RELATIVE: Final = "relative"  # seconds since the first row of the file


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One column of a series of one run: the rows that have a value, in order.

    Attributes:
        run: The run.
        column: The name of the column.
        x: The coordinate of each value: int64 for steps, which are exact, else float64.
        y: The values, float64; NaN where NaN was stored.
        rank: The rank of the worker that wrote it; empty for the owner of the run.
        time: The time of each value in seconds since 1970 (UTC), float64.
        start: The time of the first row of the file, which may have no value of this column; NaN if there is no row.
    """

    run: Run
    column: str
    x: Coordinates = field(repr=False)
    y: Array = field(repr=False)
    rank: str = ""
    time: Array = field(default_factory=lambda: np.empty(0), repr=False)
    start: float = field(default=np.nan, repr=False)

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.x)

    def _repr_html_(self) -> str:
        """Return the curve as a picture for a notebook. No request."""
        title = f"{self.column} of {self.run.run_id}" + f", worker {self.rank}" * bool(self.rank)
        line = svg.Line("", self.x, self.y)
        return pictures([svg.picture([line], title, below="", y=svg.fitting_kind([line]), has_legend=False)])

    def smoothed(self, weight: float) -> Curve:
        """Return the curve with an exponential moving average of its values, see `smoothed`."""
        return replace(self, y=smoothed(self.y, weight)) if weight else self

    def thinned(self, bins: int) -> Curve:
        """Return the curve with few points that draws the same picture, see `thinned`."""
        return self.at(slice(None) if len(self) <= 6 * bins else thinned_rows(self.x, self.y, bins))

    def at(self, rows: Any) -> Curve:
        """Return some points of the curve: `rows` is a boolean mask, a slice, or indices, as for a numpy array."""
        return replace(self, x=self.x[rows], y=self.y[rows], time=self.time[rows] if len(self.time) else self.time)


def smoothed(values: Array, weight: float) -> Array:
    """Return the exponential moving average of values, without the bias of its start.

    Each new average is ``weight`` times the one before, plus ``1 - weight`` times the value; it is divided by the sum
    of all weights (Kingma and Ba, Adam, 2015, section 3). NaN and infinities stay, and do not change the average.

    Args:
        values: The values.
        weight: From 0, for no smoothing, to less than 1.

    Raises:
        ConfigurationError: The weight is not in this range.

    >>> smoothed(np.array([1.0, 3.0, np.nan, 3.0]), 0.5).round(3)
    array([1.   , 2.333,   nan, 2.714])
    """
    if not 0 <= weight < 1:
        raise ConfigurationError(f"invalid smoothing {weight}: pass a number from 0 to less than 1")
    found = values.tolist()
    average, left = 0.0, 1.0
    for at in np.flatnonzero(np.isfinite(values)).tolist():
        average = weight * average + (1 - weight) * found[at]
        left *= weight
        found[at] = average / (1 - left)
    return np.array(found, np.float64)


# -- runs --------------------------------------------------------------------------------------------------


def runs_with(query: Query, *, values: bool = False, keep: Callable[[Run], bool] | None = None) -> Runs:
    """Return the runs of a query, with parameters and metrics if `values` is true or the query needs them.

    With `keep`, the limit of the query counts only runs for which it is true.
    """

    def of_place(place: Place, read: Mapping[str, Blob]) -> Iterator[Run]:
        return records(place, values=values or query.values, failed=query.failed, read=read)

    return query.runs(of_place, read_all=True, keep=keep)


def runs_having(query: Query, name: str, *, workers: bool, values: bool = False) -> Runs:
    """Return the runs of a query that have a series; the limit of the query counts only these.

    If no run has it, the query reports an error, whose message names the series that exist.

    Raises:
        KeyNameError: The name is no legal name of a series.
    """
    keys.series_file(name)
    having, lacking = set[str](), list[Run]()

    def has_series(run: Run) -> bool:
        if any(True for _ in _files_of([run], name, workers=workers)):
            having.add(run.url)
            return True
        lacking.append(run)
        return False

    runs = runs_with(query, values=values, keep=has_series)
    if lacking and not having:
        query.failed(unknown_series(name, place_of(query), (run.entries for run in lacking)))
    if lacking and having and query.filters and not runs:
        note = f"no run that matches has a series {quoted(name)}"
        return Runs((), total=runs.total, notes=[*runs.notes, note])
    return runs


def _files_of(runs: Iterable[Run], name: str, *, workers: bool) -> Iterator[SeriesFile]:
    """Yield the files of a series of these runs.

    Raises:
        KeyNameError: The name is no legal name of a series.
    """
    for run in runs:
        yield from series_files(run.name, run.store, run.entries, name, workers=workers)


def series(
    urls: URLs | Query | None = None,
    name: str = SCALARS,
    *,
    columns: str | Iterable[str] | None = None,
    workers: bool = False,
    repeated: bool = False,
    status: Status = None,
    where: Wheres | None = None,
    storage_options: Mapping[str, Any] | None = None,
    failed: Failed = raise_error,
) -> RunSeries:
    """Return the rows of a series of all runs at or below some places, which can become one long DataFrame.

    Runs without this series are left out.

    Args:
        urls: One place or several, see `URLs`, or a `Query`; by default the base folder.
        name: The name of the series.
        columns: Keep only these columns; patterns with ``*``, ``?`` and ``[…]`` are allowed. By default, all.
        workers: Include the series of this name of all workers; the column `rank` names the worker.
        repeated: Include rows of earlier attempts that a resumed run repeated.
        status: Only runs with this status or one of several: ``running``, ``complete``, ``failed``, ``died``,
            ``replacing`` or ``unreadable``.
        where: Only runs that match this expression, such as ``"omega > 1 and age < days(2)"`` (see `Where`), or for
            which this function of a `Run` is true.
        storage_options: Options for fsspec.
        failed: Called with the error of each place that cannot be listed or has no run, and of each file that cannot be
            read. By default, the first such error is raised.

    Cost: one listing for each 1000 files, one read for each run, and one request for each 8 MiB of a series; 32 at
    once. At most about 32 MiB are held besides the rows.

    Raises:
        ConfigurationError: The filter is invalid, or the status is unknown.
        RunMissingError: There is no run.
        UnknownNameError: No run has such a series, or such a column; the message names those that exist.
        StorageError: A place cannot be listed, or a file cannot be read.

    >>> from notata import Logbook
    >>> for dt in (0.1, 0.2):
    ...     with Logbook(f"dt_{dt}", "memory://search/series", params={"dt": dt}) as log:
    ...         log.scalars(step=5, error=dt**2)
    >>> series("memory://search/series", where="dt > 0.1").to_pandas()[["run_id", "step", "error"]]
       run_id  step  error
    0  dt_0.2     5   0.04
    """
    query = Query.of(urls, status=status, where=where, storage_options=storage_options, failed=failed)
    runs = runs_having(query, name, workers=workers)
    files = _files_of(runs, name, workers=workers)
    wanted = chosen(columns)
    found = gathered(files, name, columns=wanted, repeated=repeated, failed=query.failed)
    there = {column for data in found.data for column in data}
    missing = unmatched(wanted or (), there) if found.rows else []
    for error in unknown_columns(missing, name, place_of(query), _summaries(runs)):
        query.failed(error)
    return found


def curves(
    urls: URLs | Query | None = None,
    y: str | Iterable[str] | None = None,
    x: str = STEP,
    *,
    series: str = SCALARS,
    smooth: float = 0.0,
    workers: bool = False,
    status: Status = None,
    where: Wheres | None = None,
    storage_options: Mapping[str, Any] | None = None,
    failed: Failed = raise_error,
) -> Iterator[Curve]:
    """Yield curves of many runs: one column of a series over another one, for plots.

    Curves come in the order of the runs, and for each run in the order of `y`, while later files are being read.

    Args:
        urls: One place or several, see `URLs`, or a `Query`; by default the base folder.
        y: The column, or several; patterns with ``*``, ``?`` and ``[…]`` are allowed. By default, all columns of
            numbers.
        x: ``step``, ``time`` (seconds since 1970), ``relative`` (seconds since the first row of the file), or a column.
        series: The name of the series.
        smooth: The weight of an exponential moving average, from 0 to less than 1, as `Curve.smoothed` takes it.
        workers: Include the series of workers, each as a curve of its own.
        status: Only runs with this status or one of several: ``running``, ``complete``, ``failed``, ``died``,
            ``replacing`` or ``unreadable``.
        where: Only runs that match this expression, such as ``"omega > 1 and age < days(2)"`` (see `Where`), or for
            which this function of a `Run` is true.
        storage_options: Options for fsspec.
        failed: Called with the error of each place that cannot be listed or has no run, of each file that cannot be
            read, and of each run in which a column has texts. By default, the first such error is raised.

    Cost: one listing for each 1000 files, one read for each run, and one request for each 8 MiB of a series; 32 at
    once. At most about 32 MiB are held besides the rows of one run.

    Raises:
        ConfigurationError: The filter is invalid, or a column of `y` or `x` has texts instead of numbers in some run.
        RunMissingError: There is no run.
        UnknownNameError: No run has such a series, or such a column; the message names those that exist.
        StorageError: A place cannot be listed, or a file cannot be read.

    >>> from notata import Logbook
    >>> for rate in (0.5, 0.9):
    ...     with Logbook(f"rate_{rate}", "memory://search/curves") as log:
    ...         for step in range(3):
    ...             log.scalars(step=step, loss=rate**step)
    >>> for curve in curves("memory://search/curves", "loss"):
    ...     print(curve.run.run_id, curve.x, curve.y)
    rate_0.5 [0 1 2] [1.   0.5  0.25]
    rate_0.9 [0 1 2] [1.   0.9  0.81]
    """
    query = Query.of(urls, status=status, where=where, storage_options=storage_options, failed=failed)
    if not 0 <= smooth < 1:
        raise ConfigurationError(f"invalid smoothing {smooth}: pass a number from 0 to less than 1")
    return curves_in(
        runs_having(query, series, workers=workers),
        chosen(y),
        x,
        series=series,
        smooth=smooth,
        workers=workers,
        place=place_of(query),
        failed=query.failed,
    )


def curves_in(
    runs: Runs,
    y: Sequence[str] | None,
    x: str = STEP,
    *,
    series: str = SCALARS,
    smooth: float = 0.0,
    workers: bool = False,
    place: str,
    failed: Failed,
) -> Iterator[Curve]:
    """Yield the curves of runs from `runs_having`; the arguments are those of `curves`, and the name of the place."""
    found = {run.url: run for run in runs}
    missing = [*dict.fromkeys([*(y or ()), *_columns_of(x)])]
    columns = None if y is None else missing
    for file, data in read_each(_files_of(runs, series, workers=workers), series, columns=columns, failed=failed):
        missing = unmatched(missing, data)
        for curve in curves_of(found[file.store.url], data, y, x, file.rank, failed=failed):
            yield curve.smoothed(smooth)
    for error in unknown_columns(missing if runs else (), series, place, _summaries(runs)):
        failed(error)


def curves_of(
    run: Run, data: SeriesData, y: Iterable[str] | None, x: str = STEP, rank: str = "", *, failed: Failed
) -> Iterator[Curve]:
    """Yield the curves of the rows of one run; the arguments are those of `curves`.

    A column with texts instead of numbers is skipped, and reported as an error.
    """
    if _columns_of(x) and x not in data:
        return
    if _columns_of(x) and is_text(data, x):
        failed(_texts(run, data, x, rank))
        return
    along, has_x = _coordinates(data, x)
    start = float(data.time[0]) if data.rows else np.nan
    of_numbers = [column for column in data if column != x and not is_text(data, column)]
    found = (
        [of_numbers]
        if y is None
        else ([one] if one in data else [name for name in of_numbers if is_chosen(name, [one])] for one in y)
    )
    for column in dict.fromkeys(chain.from_iterable(found)):
        if is_text(data, column):
            failed(_texts(run, data, column, rank))
            continue
        given = data.given(column) & has_x
        yield Curve(run, column, along[given], numbers(data, column)[given], rank, data.time[given], start)


def _texts(run: Run, data: SeriesData, column: str, rank: str) -> ConfigurationError:
    """Return the error for a column with texts."""
    where = f"{run.name}, worker {rank}," if rank else run.name
    message = f"the column {quoted(column)} of the series {quoted(data.name)} of {where} contains text, not numbers"
    return ConfigurationError(message, url=run.url, key=column)


def _coordinates(data: SeriesData, x: str) -> tuple[Coordinates, npt.NDArray[np.bool_]]:
    """Return the coordinate of each row, and which rows have one."""
    if x == STEP:
        return data.step, np.ones(data.rows, bool)
    if x == TIME:
        return data.time, np.ones(data.rows, bool)
    if x == RELATIVE:
        with np.errstate(over="ignore"):  # forged times
            return data.time - data.time[:1], np.ones(data.rows, bool)
    return numbers(data, x), data.given(x)


def _summaries(runs: Iterable[Run]) -> Iterator[object]:
    return (run.metadata.get(SUMMARY) for run in runs)


def _columns_of(x: str) -> list[str]:
    """Return the columns that a coordinate needs."""
    return [] if x in (STEP, TIME, RELATIVE) else [x]


def place_of(query: Query) -> str:
    """Return the name of the places of a query for an error message."""
    return listed([target.name for target in query.targets], 3)
