"""Values over time of many runs: the rows of a series, and curves of its columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from notata._base import keys
from notata._base.display import listed
from notata._base.terminal import quoted
from notata.errors import ConfigurationError
from notata.run.state import SUMMARY
from notata.search.choosing import Query, Runs, Status, Wheres
from notata.search.places import Place, Run
from notata.search.record import records
from notata.search.target import Failed, URLs, raise_error
from notata.series.columns import chosen, is_chosen, unknown_column, unmatched
from notata.series.many import (
    RunSeries,
    SeriesFile,
    gathered,
    read_each,
    series_files,
    unknown_series,
)
from notata.series.reading import SeriesData
from notata.series.summary import SCALARS
from notata.store import Blob

__all__ = [
    "STEP",
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
]

Array: TypeAlias = npt.NDArray[np.float64]
Coordinates: TypeAlias = npt.NDArray[np.float64] | npt.NDArray[np.int64]

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
    """

    run: Run
    column: str
    x: Coordinates = field(repr=False)
    y: Array = field(repr=False)
    rank: str = ""

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.x)

    def smoothed(self, weight: float) -> Curve:
        """Return the curve with an exponential moving average of its values, see `smoothed`."""
        return replace(self, y=smoothed(self.y, weight)) if weight else self

    def thinned(self, bins: int) -> Curve:
        """Return the curve with few points that draws the same picture, see `thinned`."""
        x, y = thinned(self.x, self.y, bins)
        return replace(self, x=x, y=y)


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


def thinned(x: Coordinates, y: Array, bins: int) -> tuple[Coordinates, Array]:
    """Return few points that draw the same picture: of each bin the first, smallest, largest and last value.

    Bins are ranges of `x` of equal width; if `x` does not ascend, ranges of rows. NaN breaks a line, so that a bin with
    NaN also keeps the first and the last one.

    Args:
        x: The coordinates.
        y: The values.
        bins: The number of bins, such as the number of columns of pixels.

    Returns:
        At most six points for each bin, in their order.

    >>> x = np.arange(1000.0)
    >>> y = np.zeros(1000)
    >>> y[500] = 7
    >>> few = thinned(x, y, 10)[1]
    >>> len(few), int(few.argmax()), float(few.max())
    (21, 10, 7.0)
    """
    if len(x) <= 6 * bins:
        return x, y
    bin_of = _bins(x, bins)
    is_number = np.isfinite(y)
    numbers, others = np.flatnonzero(is_number), np.flatnonzero(~is_number)
    by_value = numbers[np.lexsort((y[numbers], bin_of[numbers]))]
    at = np.unique(np.concatenate([_ends(rows, bin_of) for rows in (numbers, by_value, others)]))
    return x[at], y[at]


def _ends(rows: npt.NDArray[np.int64], bin_of: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the first and the last row of each bin, in the order of `rows`."""
    edges = np.flatnonzero(np.diff(bin_of[rows])) + 1
    return np.concatenate([rows[:1], rows[edges], rows[edges - 1], rows[-1:]])


def _bins(x: Coordinates, bins: int) -> npt.NDArray[np.int64]:
    """Return the number of the bin of each row; the numbers ascend."""
    low, high = float(x[0]), float(x[-1])
    if high > low and np.isfinite(high - low) and bool((x[1:] >= x[:-1]).all()):
        return np.minimum((x - low) / (high - low) * bins, bins - 1).astype(np.int64)
    return np.arange(len(x), dtype=np.int64) * bins // len(x)


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
    for pattern in unmatched(wanted or (), there) if found.rows else ():
        query.failed(unknown_column(pattern, name, place_of(query), _summaries(runs)))
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
    for pattern in missing if runs else ():
        failed(unknown_column(pattern, series, place, _summaries(runs)))


def curves_of(
    run: Run, data: SeriesData, y: Iterable[str] | None, x: str = STEP, rank: str = "", *, failed: Failed
) -> Iterator[Curve]:
    """Yield the curves of the rows of one run; the arguments are those of `curves`.

    A column with texts instead of numbers is skipped, and reported as an error.
    """
    if _columns_of(x) and x not in data:
        return
    if _columns_of(x) and _is_text(data, x):
        failed(_texts(run, data, x, rank))
        return
    along, has_x = _coordinates(data, x)
    numbers = [column for column in data if column != x and not _is_text(data, column)]
    found = (
        [numbers]
        if y is None
        else ([one] if one in data else [name for name in numbers if is_chosen(name, [one])] for one in y)
    )
    for column in dict.fromkeys(chain.from_iterable(found)):
        if _is_text(data, column):
            failed(_texts(run, data, column, rank))
            continue
        given = data.given(column) & has_x
        yield Curve(run, column, along[given], _numbers(data, column)[given], rank)


def _texts(run: Run, data: SeriesData, column: str, rank: str) -> ConfigurationError:
    """Return the error for a column with texts."""
    where = f"{run.name}, worker {rank}," if rank else run.name
    message = f"the column {quoted(column)} of the series {quoted(data.name)} of {where} has texts, not numbers"
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
    return _numbers(data, x), data.given(x)


def _summaries(runs: Iterable[Run]) -> Iterator[object]:
    return (run.metadata.get(SUMMARY) for run in runs)


def _columns_of(x: str) -> list[str]:
    """Return the columns that a coordinate needs."""
    return [] if x in (STEP, TIME, RELATIVE) else [x]


def _is_text(data: SeriesData, column: str) -> bool:
    return data[column].dtype.kind == "O" and not all(isinstance(one, bool | None) for one in data[column].tolist())


def _numbers(data: SeriesData, column: str) -> Array:
    """Return a column of numbers or booleans as float64; gaps are NaN."""
    values = data[column]
    if values.dtype.kind != "O":
        return values.astype(np.float64)
    return np.array([np.nan if value is None else float(value) for value in values.tolist()], np.float64)


def place_of(query: Query) -> str:
    """Return the name of the places of a query for an error message."""
    return listed([target.name for target in query.targets], 3)
