"""Read series into numpy arrays: from JSON lines, through pyarrow if it is installed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from notata._base import display, limits
from notata._base.notebook import page
from notata._base.packages import needed
from notata._base.terminal import quoted
from notata._base.warn import warn
from notata.errors import (
    ConfigurationError,
    DamagedFileWarning,
    EncodeError,
    MissingError,
    TooLargeError,
    UnknownNameError,
)
from notata.series.parsing import Array, BlockParser, Table, stacked
from notata.series.rows import INT64, STEP, TIME, as_float
from notata.series.summary import Column, summary_of

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from notata.store import Blob, Store

__all__ = [
    "PIECE",
    "SeriesData",
    "check_joined",
    "joined",
    "kinds_of",
    "read_last",
    "read_pieces",
    "read_series",
    "rows_of_bytes",
    "summary_of_file",
]

PIECE: Final = 8 * 2**20
"""Bytes of one request."""

_SUMMARIZED: Final = 2_000_000  # rows times columns of a small file that is read for its summary
_SHOWN: Final = 20  # names that an error message lists
_ATTRIBUTES: Final = (STEP, TIME, "attempt")


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
        """Return a column.

        Raises:
            UnknownNameError: There is no such column; the message lists those that exist. It is a `KeyError`.
        """
        found = self._table.columns.get(name)
        if found is None:
            raise self._unknown(name)
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._table.columns

    def _unknown(self, name: object) -> UnknownNameError:
        if name in _ATTRIBUTES:
            problem = f"{name!r} is an attribute of the series, not a column: use data.{name}"
        else:
            there = display.listed(map(quoted, self), _SHOWN) or "none"
            problem = f"the series {quoted(self.name)} has no column {display.brief(name)}; its columns: {there}"
        return UnknownNameError(problem, key=self.name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._table.columns)

    def __len__(self) -> int:
        """Return the number of columns, as for any mapping; `rows` is the number of rows."""
        return len(self._table.columns)

    def __repr__(self) -> str:
        return f"SeriesData({self.name!r}, {self.rows} rows of {', '.join(self) or 'no columns'})"

    def _repr_html_(self) -> str:
        """Return the summary of the columns and curves of the first ones, as HTML for a notebook. No request."""
        from notata.series.pictures import series_pictures, summary_table, title

        fields = self.summary()
        return page(title(self.name, fields), summary_table("", fields), series_pictures(self.name, [("", self)]))

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
        """Return the rows with another column before the others, which has this text in each row.

        It replaces a column of this name.
        """
        others = {known: column for known, column in self._table.columns.items() if known != name}
        columns = {name: np.full(self.rows, value, object), **others}
        return SeriesData(self.name, replace(self._table, columns=columns), self.end)

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
            EncodeError: A column has values of several types, such as texts and numbers.
            PackageMissingError: pyarrow is not installed.

        >>> log.series("flow").add(step=0, u=1.5)
        >>> log.reader.series("flow").to_arrow().column_names
        ['step', 'time', 'u']
        """
        with needed("a pyarrow.Table needs pyarrow", "pyarrow", "pyarrow"):
            import pyarrow as pa

        columns = {name: pa.array(self._of_one_type(name), mask=~self.given(name)) for name in self}
        return pa.table({STEP: self.step, TIME: self.time, **columns})

    def _of_one_type(self, name: str) -> Array:
        """Return a column whose values have one type.

        Raises:
            EncodeError: They have several.
        """
        values = self[name]
        kinds = kinds_of(values)
        if len(kinds) > 1:
            raise EncodeError(
                f"cannot make a pyarrow.Table: the column {quoted(name)} has {' and '.join(kinds)}, but a column of a "
                "table has one type. Use to_pandas(), or read the other columns only",
                where=name,
            )
        if values.dtype.kind == "O" and kinds == ["numbers"]:
            return np.array([np.nan if value is None else as_float(value) for value in values.tolist()], np.float64)
        return values


class _Rows:
    """Tables of rows that are being read, and their size when they are stacked.

    Attributes:
        tables: The tables that have rows.
        rows: The number of rows.
        names: The columns.
    """

    def __init__(self) -> None:
        self.tables: list[Table] = []
        self.rows = 0
        self.names: set[str] = set()

    def add(self, table: Table) -> None:
        """Add a table; one without rows has no effect."""
        if len(table.step):
            self.tables.append(table)
            self.rows += len(table.step)
            self.names |= table.columns.keys()


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
    before: int = 0,
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
        first: The first bytes from `start` on, if they are read already: at most `PIECE`. Then `start` is not checked.
        before: The number of values of other files that are kept.

    Raises:
        ConfigurationError: `start` is invalid, or no row of the file ends there.
        MissingError: There is no file.
        StorageError: The file cannot be read.
        TooLargeError: The file is larger than `limits.SERIES`, or has too many values together with those of `before`.

    Warns:
        DamagedFileWarning: Lines are no rows.

    Cost: one request for each 8 MiB.
    """
    if isinstance(start, bool) or not isinstance(start, int | np.integer) or not 0 <= start < INT64:
        raise ConfigurationError(f"invalid start {display.brief(start)}: pass 0, or `end` of an earlier read")
    start = int(start)
    parser, found = BlockParser(), _Rows()
    invalid, end = 0, start
    for data in _lines(store, key, start, missing_ok, first):
        end += len(data)
        for table, bad in parser.parsed(data):
            invalid += bad
            found.add(table if columns is None else table.only(columns))
            _check_count(store, key, name, found.rows, len(found.names), before)
    if invalid:
        _warn_invalid(store, key, invalid)
    whole = SeriesData(name, stacked(found.tables), end)
    return whole if repeated else whole.without_repeated()


def read_pieces(store: Store, key: str, name: str = "", *, repeated: bool = False) -> Iterator[SeriesData]:
    """Yield the rows of one file in pieces of at most 8 MiB, so that a file of any size takes little memory.

    Without `repeated` the file is read twice: first to find where later attempts begin.

    Args:
        store: The store of the run.
        key: The file.
        name: The name of the series.
        repeated: Include rows of earlier attempts that a later attempt repeated.

    Raises:
        MissingError: There is no file.
        StorageError: The file cannot be read.
        TooLargeError: A piece has too many values.

    Warns:
        DamagedFileWarning: Lines are no rows.
    """
    begins = {} if repeated else _begins(store, key)
    invalid = 0
    for table, bad in _each_table(store, key):
        invalid += bad
        data = SeriesData(name, table)
        keep = np.ones(data.rows, bool)
        for attempt, step in begins.items():
            keep &= (data.attempt >= attempt) | (data.step < step)
        if keep.any():
            yield data if keep.all() else data.where(keep)
    if invalid:
        _warn_invalid(store, key, invalid)


def _warn_invalid(store: Store, key: str, count: int) -> None:
    lines = "1 line that is not a row; it was" if count == 1 else f"{count:,} lines that are not rows; they were"
    warn(f"{store.url}/{key} has {lines} skipped", DamagedFileWarning)


def _begins(store: Store, key: str) -> dict[int, int]:
    """Return the step of the first row of each attempt; empty if there is only one."""
    begins: dict[int, int] = {}
    for table, _ in _each_table(store, key):
        for attempt in np.unique(table.attempt).tolist():
            if attempt not in begins:
                begins[attempt] = int(table.step[(table.attempt == attempt).argmax()])
    return begins if len(begins) > 1 else {}


def _each_table(store: Store, key: str) -> Iterator[tuple[Table, int]]:
    """Yield the rows of a file, with the number of lines that are no rows, a piece at a time."""
    parser = BlockParser()
    for data in _lines(store, key, 0, False, None):
        found, invalid = _Rows(), 0
        for table, bad in parser.parsed(data):
            invalid += bad
            found.add(table)
            _check_count(store, key, "", found.rows, len(found.names), 0)
        yield stacked(found.tables), invalid


def read_last(store: Store, key: str, name: str) -> SeriesData:
    """Return the last rows of a file that is too large for `read_series`: those of its last 8 MiB.

    They are omitted if they have too many values, as only forged ones do.

    Cost: two requests.
    """
    size = store.fetch(key, 0, 1).size
    tail = store.fetch(key, size - PIECE, size).data
    tables: list[Table] = []
    with suppress(TooLargeError):
        tables = _tables(tail[tail.find(b"\n") + 1 :])
    return SeriesData(name, stacked(tables), size).without_repeated()


def rows_of_bytes(data: bytes, name: str = "") -> SeriesData:
    """Return the rows of a small file of a series, from its bytes; lines that are no rows are skipped.

    Raises:
        TooLargeError: It has more than 2 million values, rows times columns; a forged file of 1 MiB may have billions.
    """
    return SeriesData(name, stacked(_tables(data)), len(data)).without_repeated()


def summary_of_file(data: bytes) -> dict[str, Any]:
    """Return the summary of a series from the bytes of its file, as `SeriesData.summary` does.

    Raises:
        TooLargeError: It has too many values, see `rows_of_bytes`.
    """
    try:
        return rows_of_bytes(data).summary()
    except TooLargeError as error:
        raise TooLargeError(f"{error}, which is too much for a table") from error


def _tables(data: bytes) -> list[Table]:
    """Parse the whole lines of a small part of a file, or raise a `TooLargeError` if it has too many values."""
    found = _Rows()
    for table, _ in BlockParser().parsed(data[: data.rfind(b"\n") + 1]):
        found.add(table)
        if found.rows * len(found.names) > _SUMMARIZED:
            raise TooLargeError(f"it has more than {_SUMMARIZED:,} values")
    return found.tables


def kinds_of(values: Array) -> list[str]:
    """Return the types of the values of a column in words, each once.

    >>> kinds_of(np.array(["warm-up", None, 3], object))
    ['texts', 'numbers']
    """
    if values.dtype.kind != "O":
        return ["booleans"] if values.dtype.kind == "b" else ["numbers"]
    words = {str: "texts", bool: "booleans", int: "numbers", float: "numbers"}
    found = dict.fromkeys(map(type, values.tolist()))
    return [*dict.fromkeys(words[kind] for kind in found if kind in words)]


def _check_count(store: Store, key: str, name: str, rows: int, columns: int, before: int) -> None:
    """Raise an error if a series has too many columns, or rows times columns, also those of the files before.

    Raises:
        TooLargeError: It has.
    """
    where, values = f"{store.url}/{key}", f"{limits.SERIES_VALUES:,} values"
    if columns > limits.SERIES_COLUMNS:
        problem = f"cannot read {where} at once: it has more than {limits.SERIES_COLUMNS:,} columns. Read the file"
    elif rows * columns > limits.SERIES_VALUES:
        problem = f"cannot read {where} at once: it has more than {values}. Read the file"
    elif before + rows * max(1, columns) > limits.SERIES_VALUES:
        problem = (
            f"cannot read the series {quoted(name)} of these runs at once: up to {where} they have more than "
            f"{values}. Name columns or fewer runs, or read the files"
        )
    else:
        return
    raise TooLargeError(f"{problem} with pyarrow, polars or DuckDB", url=store.url, key=key)


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
            if known and found.data[:1] != b"\n":
                raise _no_row_ends(store, key, start, size)
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


def _no_row_ends(store: Store, key: str, start: int, size: int) -> ConfigurationError:
    problem = f"the file has only {size:,} bytes" if start > size else "no row ends there"
    return ConfigurationError(
        f"cannot read {store.url}/{key} from byte {start:,} on: {problem}. Pass `end` of an earlier read of this file; "
        "if the run was overwritten since, read it again with start=0",
        url=store.url,
        key=key,
    )


def check_joined(name: str, parts: Sequence[SeriesData]) -> None:
    """Raise an error if `joined` would return too many values, as each part may have other columns.

    Raises:
        TooLargeError: It would.
    """
    rows, columns = sum(part.rows for part in parts), len({column for part in parts for column in part})
    if rows * columns > limits.SERIES_VALUES:
        raise TooLargeError(
            f"cannot join the rows of {len(parts):,} files of the series {quoted(name)}: {rows:,} rows of {columns:,} "
            f"columns are more than {limits.SERIES_VALUES:,} values. Read fewer columns or files at once",
            key=name,
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
