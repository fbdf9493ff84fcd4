"""Values over time of many runs: the rows of a series, and curves of its columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from notata._base.display import listed
from notata._base.terminal import quoted
from notata.errors import ConfigurationError, NotataError, UnknownNameError
from notata.run.state import SUMMARY
from notata.search.choosing import Query, Runs, Status, Wheres
from notata.search.places import Place, Run
from notata.search.record import records
from notata.search.target import Failed, URLs, raise_error
from notata.series.many import (
    RunSeries,
    SeriesFile,
    chosen,
    gathered,
    read_each,
    series_files,
    unknown_series,
)
from notata.series.reading import SeriesData, is_chosen
from notata.series.summary import SCALARS, loaded
from notata.store import Blob

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "RELATIVE",
    "Curve",
    "curves",
    "curves_in",
    "curves_of",
    "files_of",
    "place_of",
    "runs_with",
    "series",
    "smoothed",
    "thinned",
    "unknown_column",
]

Array = npt.NDArray[np.float64]

STEP: Final = "step"
TIME: Final = "time"
RELATIVE: Final = "relative"
"""The name of the seconds since the first row of a run."""


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One column of a series of one run: the rows that have a value, in order.

    Attributes:
        run: The run.
        column: The name of the column.
        x: The coordinate of each value, float64.
        y: The values, float64; NaN where NaN was stored.
        rank: The rank of the worker that wrote it; empty for the owner of the run.
    """

    run: Run
    column: str
    x: Array = field(repr=False)
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

    def to_pandas(self) -> pd.Series[float]:
        """Return a pandas Series: the values, with the coordinates as its index.

        Raises:
            PackageMissingError: pandas is not installed.
        """
        from notata._base.packages import needed

        with needed("a Series needs pandas", "pandas", "pandas"):
            import pandas as pd

        return pd.Series(self.y, self.x, name=self.column)


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


def thinned(x: Array, y: Array, bins: int) -> tuple[Array, Array]:
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
    (21, 11, 7.0)
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


def _bins(x: Array, bins: int) -> npt.NDArray[np.int64]:
    """Return the number of the bin of each row; the numbers ascend."""
    low, high = float(x[0]), float(x[-1])
    if high > low and np.isfinite(high - low) and bool((np.diff(x) >= 0).all()):
        return np.minimum((x - low) / (high - low) * bins, bins - 1).astype(np.int64)
    return np.arange(len(x), dtype=np.int64) * bins // len(x)


# -- runs --------------------------------------------------------------------------------------------------


def runs_with(query: Query, *, values: bool = False) -> Runs:
    """Return the runs of a query, with parameters and metrics if `values` is true or the query needs them."""

    def of_place(place: Place, read: Mapping[str, Blob]) -> Iterator[Run]:
        return records(place, values=values or query.values, failed=query.failed, read=read)

    return query.runs(of_place, read_all=True)


def files_of(runs: Iterable[Run], name: str, *, workers: bool = False) -> Iterator[SeriesFile]:
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
        columns: Keep only these columns; patterns with ``*``, ``?`` and ``[…]`` are allowed.
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
        UnknownNameError: No run has such a series; the message names those that exist.
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
    runs = runs_with(query)
    files = [*files_of(runs, name, workers=workers)]
    if runs and not files:
        query.failed(unknown_series(name, place_of(query), (run.entries for run in runs)))
    return gathered(files, name, columns=chosen(columns), repeated=repeated, failed=query.failed)


def curves(
    urls: URLs | Query | None = None,
    y: str | Iterable[str] = "*",
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
        x: ``step``, ``time`` (seconds since 1970), ``relative`` (seconds since the first row of the run), or a column.
        series: The name of the series.
        smooth: The weight of an exponential moving average, from 0 to less than 1, as `Curve.smoothed` takes it.
        workers: Include the series of workers, each as a curve of its own.
        status: Only runs with this status or one of several: ``running``, ``complete``, ``failed``, ``died``,
            ``replacing`` or ``unreadable``.
        where: Only runs that match this expression, such as ``"omega > 1 and age < days(2)"`` (see `Where`), or for
            which this function of a `Run` is true.
        storage_options: Options for fsspec.
        failed: Called with the error of each place that cannot be listed or has no run, and of each file that cannot be
            read. By default, the first such error is raised.

    Cost: one listing for each 1000 files, one read for each run, and one request for each 8 MiB of a series; 32 at
    once. At most about 32 MiB are held besides the rows of one run.

    Raises:
        ConfigurationError: The filter is invalid, or a column has texts instead of numbers.
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
    rate_0.5 [0. 1. 2.] [1.   0.5  0.25]
    rate_0.9 [0. 1. 2.] [1.   0.9  0.81]
    """
    query = Query.of(urls, status=status, where=where, storage_options=storage_options, failed=failed)
    if not 0 <= smooth < 1:
        raise ConfigurationError(f"invalid smoothing {smooth}: pass a number from 0 to less than 1")
    wanted = [y] if isinstance(y, str) else list(y)
    return curves_in(
        runs_with(query),
        wanted,
        x,
        series=series,
        smooth=smooth,
        workers=workers,
        place=place_of(query),
        failed=query.failed,
    )


def curves_in(
    runs: Runs,
    y: Sequence[str],
    x: str = STEP,
    *,
    series: str = SCALARS,
    smooth: float = 0.0,
    workers: bool = False,
    place: str,
    failed: Failed,
) -> Iterator[Curve]:
    """Yield the curves of runs that were listed; the arguments are those of `curves`, and the name of the place."""
    found = {run.url: run for run in runs}
    files = [*files_of(runs, series, workers=workers)]
    if runs and not files:
        failed(unknown_series(series, place, (run.entries for run in runs)))
    columns = missing = [*dict.fromkeys([*y, *_columns_of(x)])]
    for file, data in read_each(files, series, columns=columns, failed=failed):
        missing = [pattern for pattern in missing if not any(is_chosen(column, [pattern]) for column in data)]
        try:
            for curve in curves_of(found[file.store.url], data, y, x, file.rank):
                yield curve.smoothed(smooth)
        except NotataError as error:
            failed(error)
    for pattern in missing if files else ():
        failed(unknown_column(pattern, series, place, runs))


def curves_of(run: Run, data: SeriesData, y: Iterable[str], x: str = STEP, rank: str = "") -> Iterator[Curve]:
    """Yield the curves of the rows of one run; the arguments are those of `curves`.

    Raises:
        ConfigurationError: A column has texts instead of numbers.
    """
    if x in (STEP, TIME, RELATIVE):
        along = (
            data.step.astype(np.float64) if x == STEP else data.time - (x == RELATIVE and data.rows and data.time[0])
        )
        has_x = np.ones(data.rows, bool)
    elif x in data:
        along, has_x = _numbers(data, x), data.given(x)
    else:
        return
    for pattern in dict.fromkeys(y):
        for column in data:
            is_pattern = column != pattern
            if not is_chosen(column, [pattern]) or (is_pattern and (_is_text(data, column) or column == x)):
                continue
            given = data.given(column) & has_x
            yield Curve(run, column, along[given], _numbers(data, column)[given], rank)


def unknown_column(column: str, name: str, url: str, runs: Iterable[Run]) -> UnknownNameError:
    """Return the error for a column that none of the runs has; the message names those in their summaries."""
    summaries = [loaded(run.metadata.get(SUMMARY)) for run in runs]
    known = sorted({quoted(one) for found in summaries if name in found for one in found[name]["columns"]})
    there = f"; it has {listed(known, 20)}" if known else ""
    message = f"the series {quoted(name)} of the runs at {url} has no column {quoted(column)}{there}"
    return UnknownNameError(message, url=url, key=column)


def _columns_of(x: str) -> list[str]:
    """Return the columns that a coordinate needs."""
    return [] if x in (STEP, TIME, RELATIVE) else [x]


def _is_text(data: SeriesData, column: str) -> bool:
    return data[column].dtype.kind == "O" and not all(isinstance(one, bool | None) for one in data[column].tolist())


def _numbers(data: SeriesData, column: str) -> Array:
    """Return a column of numbers or booleans as float64; gaps are NaN.

    Raises:
        ConfigurationError: It has texts.
    """
    values = data[column]
    if values.dtype.kind != "O":
        return values.astype(np.float64)
    if _is_text(data, column):
        raise ConfigurationError(
            f"the column {quoted(column)} of the series {quoted(data.name)} has texts, not numbers"
        )
    return np.array([np.nan if value is None else float(value) for value in values.tolist()], np.float64)


def place_of(query: Query) -> str:
    """Return the name of the places of a query for an error message."""
    return listed([target.name for target in query.targets], 3)
