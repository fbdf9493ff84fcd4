"""Read series into numpy arrays: from JSON lines, through pyarrow if it is installed."""

from __future__ import annotations

import fnmatch
import json
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from notata._base import limits
from notata._base.packages import needed
from notata.errors import DamagedFileWarning, MissingError, TooLargeError
from notata.series.rows import NONFINITE, STEP, TIME, TRY
from notata.series.summary import Column, summary_of

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from notata.store import Blob, Store

__all__ = ["PIECE", "SeriesData", "is_chosen", "joined", "read_series", "summary_of_file"]

Array = npt.NDArray[Any]

PIECE: Final = 8 * 2**20
"""Bytes of one request."""

_BLOCK: Final = 64 * 2**10  # bytes that are parsed at once, so that a forged block of many columns stays small
_NUMBERS: Final = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}
_FIELDS: Final = (STEP, TIME, TRY, NONFINITE)


@dataclass(frozen=True, slots=True)
class _Table:
    """Rows as arrays of equal length."""

    step: npt.NDArray[np.int64]
    time: npt.NDArray[np.float64]
    attempt: npt.NDArray[np.int64]
    columns: dict[str, Array]
    nans: dict[str, npt.NDArray[np.bool_]]  # of columns with a stored NaN: where it is, as gaps are NaN too

    def where(self, chosen: Any) -> _Table:
        columns = {name: column[chosen] for name, column in self.columns.items()}
        nans = {name: mask[chosen] for name, mask in self.nans.items()}
        return _Table(self.step[chosen], self.time[chosen], self.attempt[chosen], columns, nans)

    def only(self, patterns: Collection[str]) -> _Table:
        columns = {name: column for name, column in self.columns.items() if is_chosen(name, patterns)}
        return replace(self, columns=columns, nans={name: mask for name, mask in self.nans.items() if name in columns})


def is_chosen(name: str, patterns: Collection[str]) -> bool:
    """Check whether a column has one of these names, or matches one of them as a pattern with ``*``, ``?``, ``[…]``."""
    return name in patterns or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


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

    def __init__(self, name: str, table: _Table, end: int = 0) -> None:
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
        return self.where((self.attempt >= attempt) | (self.step < step))

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

        return pa.table({STEP: self.step, TIME: self.time, **self})


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
    tables: list[_Table] = []
    invalid, end, values = 0, start, 0
    for data in _lines(store, key, start, missing_ok, first):
        end += len(data)
        for at in _blocks(data):
            table, bad = _parsed_block(data[at])
            invalid += bad
            if columns is not None:
                table = table.only(columns)
            if len(table.step):
                tables.append(table)
                values += len(table.step) * len(table.columns)
        if values > limits.SERIES_VALUES:
            raise TooLargeError(
                f"cannot read {store.url}/{key} at once: it has more than {limits.SERIES_VALUES:,} values. Read the "
                "file with pyarrow, polars or DuckDB",
                url=store.url,
                key=key,
            )
    if invalid:
        lines = "1 line that is" if invalid == 1 else f"{invalid} lines that are"
        warnings.warn(f"{store.url}/{key} has {lines} not a row; it was skipped", DamagedFileWarning, stacklevel=4)
    found = SeriesData(name, _stacked(tables), end)
    return found if repeated else found.without_repeated()


def summary_of_file(data: bytes) -> dict[str, Any]:
    """Return the summary of a series from the bytes of its file, as `SeriesData.summary` does."""
    whole = data[: data.rfind(b"\n") + 1]
    tables = [_parsed_block(whole[at])[0] for at in _blocks(whole)]
    return SeriesData("", _stacked([table for table in tables if len(table.step)])).without_repeated().summary()


def _lines(store: Store, key: str, start: int, missing_ok: bool, first: Blob | None) -> Iterator[bytes]:
    """Yield the file from `start` in pieces of whole lines; an incomplete last line is omitted."""
    rest = b""
    size: int | None = None
    while size is None or start < size:
        try:
            found = first or store.fetch(key, start, start + PIECE)
        except MissingError:
            if size is None and missing_ok:
                return
            raise
        first = None
        if size is None:
            size = found.size
            limits.check_size(store.url, key, size - start, limits.SERIES)
        if not found.data:
            return
        start += len(found.data)
        head, newline, tail = found.data.rpartition(b"\n")
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


def _blocks(data: bytes) -> Iterator[slice]:
    """Yield the places of blocks of whole lines."""
    start = 0
    while start < len(data):
        end = len(data) if start + _BLOCK >= len(data) else data.find(b"\n", start + _BLOCK) + 1
        yield slice(start, end)
        start = end


# -- one block --------------------------------------------------------------------------------------------


def _parsed_block(data: bytes) -> tuple[_Table, int]:
    """Parse a block. Return also the number of lines that are no rows."""
    table = _parsed_by_arrow(data)
    return _parsed(data) if table is None else (table, 0)


def _parsed_by_arrow(data: bytes) -> _Table | None:
    """Parse a block by pyarrow; None if it is not installed, or if the block has lines that it does not accept."""
    try:
        import pyarrow as pa
        from pyarrow import json as arrow_json
    except ImportError:
        return None
    options = arrow_json.ReadOptions(use_threads=False, block_size=len(data) + 1)
    try:
        found = arrow_json.read_json(pa.BufferReader(data), options)
    except pa.ArrowException:
        return None
    names = found.column_names
    if STEP not in names or TIME not in names or found[STEP].type != pa.int64() or found[STEP].null_count:
        return None
    if found[TIME].type not in (pa.float64(), pa.int64()) or found[TIME].null_count:
        return None
    columns: dict[str, Array] = {}
    for name in names:
        if name in _FIELDS:
            continue
        if found[name].type not in (pa.int64(), pa.float64(), pa.string(), pa.bool_(), pa.null()):
            return None  # such as a text that looks like a time, which pyarrow converts
        columns[name] = _of_arrow(found[name], pa)
    attempt = np.zeros(len(found), np.int64)
    if TRY in names:
        if found[TRY].type != pa.int64():
            return None
        attempt = found[TRY].fill_null(0).to_numpy()
    table = _Table(found[STEP].to_numpy(), found[TIME].to_numpy().astype(np.float64, copy=False), attempt, columns, {})
    if NONFINITE in names:
        for row, special in enumerate(found[NONFINITE].to_pylist()):
            _set_nonfinite(table, row, special)
    return table


def _of_arrow(column: Any, pa: Any) -> Array:
    if column.type == pa.null():
        return np.full(len(column), np.nan)
    if column.type == pa.bool_() and not column.null_count:
        found: Array = column.to_numpy()
        return found.astype(bool)
    if column.type in (pa.bool_(), pa.string()):
        return np.array(column.to_pylist(), object)
    numbers: Array = column.to_numpy()
    return numbers


def _parsed(data: bytes) -> tuple[_Table, int]:
    """Parse a block. Return also the number of lines that are no rows."""
    rows: list[dict[str, Any]] = []
    invalid = 0
    for line in data.split(b"\n"):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            invalid += 1
            continue
        if _is_row(row):
            rows.append(row)
        else:
            invalid += 1
    names = dict.fromkeys(name for row in rows for name in row if name not in _FIELDS)
    columns = {name: _column([row.get(name) for row in rows]) for name in names}
    step = np.array([row[STEP] for row in rows], np.int64)
    time = np.array([row[TIME] for row in rows], np.float64)
    attempt = np.array([row.get(TRY) or 0 for row in rows], np.int64)
    table = _Table(step, time, attempt, columns, {})
    for at, row in enumerate(rows):
        _set_nonfinite(table, at, row.get(NONFINITE))
    return table, invalid


def _is_row(row: object) -> bool:
    if not isinstance(row, dict):
        return False
    step, time, attempt = row.get(STEP), row.get(TIME), row.get(TRY, 0)
    integers = all(type(value) is int and abs(value) < 2**63 for value in (step, attempt))
    return integers and type(time) in (int, float)


def _column(values: list[Any]) -> Array:
    kinds = {type(value) for value in values}
    if kinds == {bool}:
        return np.array(values, bool)
    if kinds == {int} and all(abs(value) < 2**63 for value in values):
        return np.array(values, np.int64)
    if kinds <= {int, float, type(None)}:
        return np.array([np.nan if value is None else float(value) for value in values], np.float64)
    return np.array([value if isinstance(value, str | bool | int | float) else None for value in values], object)


def _set_nonfinite(table: _Table, row: int, special: object) -> None:
    """Set the values of a row that JSON cannot represent."""
    for name, text in special.items() if isinstance(special, dict) else ():
        value = _NUMBERS.get(text) if isinstance(text, str) else None
        column = table.columns.get(name)
        if value is None or column is None or column.dtype.kind != "f":
            continue
        if not column.flags.writeable:
            column = table.columns[name] = column.copy()
        column[row] = value
        if np.isnan(value):
            table.nans.setdefault(name, np.zeros(len(column), bool))[row] = True


# -- many blocks ------------------------------------------------------------------------------------------


def joined(parts: Sequence[SeriesData]) -> SeriesData:
    """Return the rows of all parts, one part after the other."""
    return SeriesData(parts[0].name if parts else "", _stacked([part._table for part in parts]))


def _stacked(tables: Sequence[_Table]) -> _Table:
    """Return the rows of all tables in one."""
    if len(tables) == 1:
        return tables[0]
    names = dict.fromkeys(name for table in tables for name in table.columns)
    with_nans = dict.fromkeys(name for table in tables for name in table.nans)
    return _Table(
        _joined([table.step for table in tables], np.int64),
        _joined([table.time for table in tables], np.float64),
        _joined([table.attempt for table in tables], np.int64),
        {name: _stacked_column([table.columns.get(name) for table in tables], tables) for name in names},
        {
            name: np.concatenate([table.nans.get(name, np.zeros(len(table.step), bool)) for table in tables])
            for name in with_nans
        },
    )


def _joined(parts: Sequence[Array], kind: Any) -> Array:
    return np.concatenate(parts).astype(kind, copy=False) if parts else np.empty(0, kind)


def _stacked_column(parts: Sequence[Array | None], tables: Sequence[_Table]) -> Array:
    """Return a column of all tables: of numbers, of booleans without gaps, else of objects."""
    given = [None if part is None or _is_empty(part) else part for part in parts]
    kinds = {part.dtype.kind for part in given if part is not None}
    if kinds <= {"i", "f"}:
        gap: Any = np.nan
    elif kinds == {"b"} and all(part is not None for part in given):
        return np.concatenate([part for part in given if part is not None])
    else:
        gap, given = None, [None if part is None else part.astype(object) for part in given]
    kind = float if gap is not None else object
    return np.concatenate(
        [
            np.full(len(table.step), gap, kind) if part is None else part
            for part, table in zip(given, tables, strict=True)
        ]
    )


def _is_empty(part: Array) -> bool:
    """Check whether a column has no value."""
    return part.dtype.kind == "f" and bool(np.isnan(part).all())


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
    column = Column(name, kind=bool if texts and isinstance(texts[0], bool) else str)
    column.count, column.last = len(texts), texts[-1] if texts else None
    return column
