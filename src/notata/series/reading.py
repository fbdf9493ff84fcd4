"""Read series into numpy arrays: from JSON lines, through pyarrow if it is installed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from notata._base import limits
from notata._base.packages import needed
from notata._base.warn import warn
from notata.errors import DamagedFileWarning, MissingError, TooLargeError
from notata.series.parsing import Array, BlockParser, Table, is_chosen, stacked
from notata.series.rows import STEP, TIME
from notata.series.summary import Column, summary_of

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from notata.store import Blob, Store

__all__ = ["PIECE", "SeriesData", "is_chosen", "joined", "read_last", "read_series", "summary_of_file"]

PIECE: Final = 8 * 2**20
"""Bytes of one request."""


class SeriesData(Mapping[str, Array]):
    """Rows of a series: a mapping of column names to numpy arrays of equal length.

    Numbers are float64, with NaN where a row has no value; columns of integers without gaps are int64. Booleans without
    gaps are bool. Texts, and booleans with gaps, are objects, with None where a row has no value.

    Attributes:
        name: The name of the series.
        step: The step of each row, int64.
        time: The time of each row in seconds since 1970 (UTC), float64.
        attempt: The attempt that wrote each row, int64: 0, and 1, 2, … after resumptions.
        rows: The number of rows.
        end: The size of the file up to the last complete row, in bytes: `start` of a later read.

    >>> for step in range(3):
    ...     log.scalars(step=step, loss=1 / (step + 1))
    >>> data = log.reader.series("scalars")
    >>> data.step, data["loss"].round(2)
    (array([0, 1, 2]), array([1.  , 0.5 , 0.33]))
    """

    def __init__(self, name: str, table: Table, end: int = 0) -> None:
        self.name = name
        self.end = end
        self._table = table

    @property
    def step(self) -> npt.NDArray[np.int64]:
        """The step of each row."""
        return self._table.step

    @property
    def time(self) -> npt.NDArray[np.float64]:
        """The time of each row in seconds since 1970 (UTC)."""
        return self._table.time

    @property
    def attempt(self) -> npt.NDArray[np.int64]:
        """The number of the attempt that wrote each row."""
        return self._table.attempt

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self._table.step)

    def __getitem__(self, name: str) -> Array:
        return self._table.columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table.columns)

    def __len__(self) -> int:
        """Return the number of columns, as for any mapping; `rows` is the number of rows."""
        return len(self._table.columns)

    def __repr__(self) -> str:
        return f"SeriesData({self.name!r}, {self.rows} rows of {', '.join(self) or 'no columns'})"

    def given(self, name: str) -> npt.NDArray[np.bool_]:
        """Return which rows have a value of a column, as a boolean mask; a stored NaN is a value.

        >>> for step, values in enumerate([{"loss": 0.5}, {"error": 0.1}, {"loss": float("nan")}]):
        ...     log.series("given").add(values, step=step)
        >>> log.reader.series("given").given("loss")
        array([ True, False,  True])
        """
        values = self[name]
        if values.dtype.kind == "f":
            stored = self._table.nans.get(name)
            return ~np.isnan(values) if stored is None else ~np.isnan(values) | stored
        if values.dtype.kind == "O":
            return np.array([value is not None for value in values.tolist()], bool)
        return np.ones(self.rows, bool)

    def where(self, chosen: Any) -> SeriesData:
        """Return some rows: `chosen` is a boolean mask, a slice, or indices, as for a numpy array."""
        return SeriesData(self.name, self._table.where(chosen), self.end)

    def with_column(self, name: str, value: str) -> SeriesData:
        """Return the rows with another column before the others, which has this text in each row."""
        column = np.full(self.rows, value, object)
        return SeriesData(self.name, replace(self._table, columns={name: column, **self._table.columns}), self.end)

    def continued_at(self, step: int, attempt: int) -> SeriesData:
        """Return the rows that still belong to the curve when an attempt continues it at a step."""
        is_continued = bool((self.attempt >= attempt).any())  # it has rows, whose first one has the step that counts
        return self if is_continued else self.where(self.step < step)

    def without_repeated(self) -> SeriesData:
        """Return the curve of the last attempts: without rows of earlier ones from the first step of a later one on."""
        attempts, first = np.unique(self.attempt, return_index=True)
        if len(attempts) < 2:
            return self
        keep = np.ones(self.rows, bool)
        for attempt, at in zip(attempts.tolist(), first.tolist(), strict=True):
            keep &= (self.attempt >= attempt) | (self.step < self.step[at])
        return self.where(keep)

    def summary(self) -> dict[str, Any]:
        """Return number of rows, last step, and for each column `last`, `min`, `max`, `min_step`, `max_step`, `count`.

        >>> log.series("energy").add(step=3, kinetic=0.5)
        >>> log.reader.series("energy").summary()["columns"]["kinetic"]["max_step"]
        3
        """
        last = int(self.step[-1]) if self.rows else None
        return summary_of(self.rows, last, self.summary_columns())

    def summary_columns(self) -> Iterator[Column]:
        """Yield the summary of each column."""
        for name, values in self.items():
            yield _summarized(name, values, self.step, self._table.nans.get(name))

    def to_pandas(self) -> pd.DataFrame:
        """Return a DataFrame with the columns `step`, `time` and those of the series, one row for each row.

        Raises:
            PackageMissingError: pandas is not installed.

        >>> log.series("residual").add(step=4, r=1e-3)
        >>> log.reader.series("residual").to_pandas()[["step", "r"]]
           step      r
        0     4  0.001
        """
        with needed("a DataFrame needs pandas", "pandas", "pandas"):
            import pandas as pd

        return pd.DataFrame({STEP: self.step, TIME: self.time, **self})

    def to_arrow(self) -> pa.Table:
        """Return a `pyarrow.Table` with the columns `step`, `time` and those of the series; gaps are null.

        Raises:
            PackageMissingError: pyarrow is not installed.

        >>> log.series("flow").add(step=0, u=1.5)
        >>> log.reader.series("flow").to_arrow().column_names
        ['step', 'time', 'u']
        """
        with needed("a pyarrow.Table needs pyarrow", "pyarrow", "pyarrow"):
            import pyarrow as pa

        columns = {name: pa.array(values, mask=~self.given(name)) for name, values in self.items()}
        return pa.table({STEP: self.step, TIME: self.time, **columns})


def read_series(
    store: Store,
    key: str,
    name: str = "",
    *,
    start: int = 0,
    repeated: bool = False,
    missing_ok: bool = False,
    columns: Collection[str] | None = None,
    first: Blob | None = None,
) -> SeriesData:
    """Read the rows of one file.

    Args:
        store: The store of the run.
        key: The file.
        name: The name of the series.
        start: The first byte, which begins a row: `SeriesData.end` of an earlier read.
        repeated: Include rows of earlier attempts that a later attempt repeated.
        missing_ok: Return no rows if there is no file.
        columns: Keep only columns that match one of these patterns; by default all.
        first: The first bytes from `start` on, if they are read already: at most `PIECE`.

    Raises:
        MissingError: There is no file.
        StorageError: The file cannot be read.
        TooLargeError: The file is larger than `limits.SERIES`.

    Warns:
        DamagedFileWarning: Lines are no rows.

    Cost: one request for each 8 MiB.
    """
    tables: list[Table] = []
    parser = BlockParser()
    names: set[str] = set()
    invalid, end, rows = 0, start, 0
    for data in _lines(store, key, start, missing_ok, first):
        end += len(data)
        for parsed, bad in parser.parsed(data):
            invalid += bad
            table = parsed if columns is None else parsed.only(columns)
            if len(table.step):
                tables.append(table)
                rows += len(table.step)
                names |= table.columns.keys()
                _check_count(store, key, rows, len(names))
    if invalid:
        lines = "1 line that is no row; it was" if invalid == 1 else f"{invalid:,} lines that are no rows; they were"
        warn(f"{store.url}/{key} has {lines} skipped", DamagedFileWarning)
    found = SeriesData(name, stacked(tables), end)
    return found if repeated else found.without_repeated()


def read_last(store: Store, key: str, name: str) -> SeriesData:
    """Return the last rows of a file that is too large for `read_series`: those of its last 8 MiB.

    Cost: two requests.
    """
    size = store.fetch(key, 0, 1).size
    tail = store.fetch(key, size - PIECE, size).data
    whole = tail[tail.find(b"\n") + 1 : tail.rfind(b"\n") + 1]
    tables = [table for table, _ in BlockParser().parsed(whole) if len(table.step)]
    return SeriesData(name, stacked(tables), size).without_repeated()


def summary_of_file(data: bytes) -> dict[str, Any]:
    """Return the summary of a series from the bytes of its file, as `SeriesData.summary` does."""
    whole = data[: data.rfind(b"\n") + 1]
    tables = [table for table, _ in BlockParser().parsed(whole) if len(table.step)]
    return SeriesData("", stacked(tables)).without_repeated().summary()


def _check_count(store: Store, key: str, rows: int, columns: int) -> None:
    """Raise an error if a series has too many columns, or rows times columns.

    Raises:
        TooLargeError: It has.
    """
    if columns > limits.SERIES_COLUMNS:
        problem = f"{limits.SERIES_COLUMNS:,} columns"
    elif rows * columns > limits.SERIES_VALUES:
        problem = f"{limits.SERIES_VALUES:,} values"
    else:
        return
    raise TooLargeError(
        f"cannot read {store.url}/{key} at once: it has more than {problem}. Read the file with pyarrow, polars or "
        "DuckDB",
        url=store.url,
        key=key,
    )


def _lines(store: Store, key: str, start: int, missing_ok: bool, first: Blob | None) -> Iterator[bytes]:
    """Yield the file from `start` in pieces of whole lines; an incomplete last line is omitted."""
    rest = b""
    size: int | None = None
    while size is None or start < size:
        known = 1 if size is None and start and first is None else 0  # a range without any byte would be refused
        try:
            found = first or store.fetch(key, start - known, start + PIECE)
        except MissingError:
            if size is None and missing_ok:
                return
            raise
        first = None
        if size is None:
            size = found.size
            limits.check_size(store.url, key, size - start, limits.SERIES)
        data = found.data[known:]
        if not data:
            return
        start += len(data)
        head, newline, tail = data.rpartition(b"\n")
        if newline:
            yield rest + head + newline
            rest = tail
        else:
            rest += tail
        if len(rest) > limits.LINE:
            raise TooLargeError(
                f"cannot read {store.url}/{key}: it has a line of more than {limits.LINE:,} bytes",
                url=store.url,
                key=key,
            )


def joined(parts: Sequence[SeriesData]) -> SeriesData:
    """Return the rows of all parts, one part after the other."""
    return SeriesData(parts[0].name if parts else "", stacked([part._table for part in parts]))


def _summarized(
    name: str, values: Array, step: npt.NDArray[np.int64], nans: npt.NDArray[np.bool_] | None = None
) -> Column:
    """Return the summary of a column; `nans` are the places of NaN that are values and not gaps."""
    if values.dtype.kind in "if":
        column = Column(name, kind=float)
        numbers = ~np.isnan(values) if values.dtype.kind == "f" else np.ones(len(values), bool)
        given = np.flatnonzero(numbers if nans is None else numbers | nans)
        column.count = len(given)
        if len(given):
            column.last = values[given[-1]].item()
        if len(at := np.flatnonzero(numbers)):
            low, high = at[values[at].argmin()], at[values[at].argmax()]
            column.min, column.min_step = values[low].item(), int(step[low])
            column.max, column.max_step = values[high].item(), int(step[high])
        return column
    texts = [value for value in values.tolist() if value is not None]
    is_boolean = values.dtype.kind == "b" or (bool(texts) and isinstance(texts[0], bool))
    column = Column(name, kind=bool if is_boolean else str)
    column.count, column.last = len(texts), texts[-1] if texts else None
    return column
