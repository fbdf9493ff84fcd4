"""Parsing rows of series: blocks of lines become numpy arrays, by pyarrow if it is installed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from notata._base import limits
from notata.formats import without_surrogates
from notata.series.columns import is_chosen
from notata.series.rows import INT64, NONFINITE, RESERVED, STEP, TIME, TRY, as_float

__all__ = ["Array", "BlockParser", "Table", "stacked"]

Array = npt.NDArray[Any]

_BLOCK: Final = 64 * 2**10  # bytes that are parsed at once, so that a forged block of many columns stays small
_PART: Final = 2**20  # bytes of a piece that a thread parses
_INFLATION: Final = 4  # bytes in memory for each byte of a large block, if it is not forged: a value takes 8 of both
_NUMBERS: Final = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}
_NO_BRACKETS: Final = bytes(byte for byte in range(256) if byte not in b"{}[]")
_BRACKETS: Final = 500  # brackets in a block, other than those of rows


@dataclass(frozen=True, slots=True)
class Table:
    """Rows as arrays of equal length."""

    step: npt.NDArray[np.int64]
    time: npt.NDArray[np.float64]
    attempt: npt.NDArray[np.int64]
    columns: dict[str, Array]
    nans: dict[str, npt.NDArray[np.bool_]]  # of columns with a stored NaN: where it is, as gaps are NaN too

    def where(self, chosen: Any) -> Table:
        """Return some rows."""
        columns = {name: column[chosen] for name, column in self.columns.items()}
        nans = {name: mask[chosen] for name, mask in self.nans.items()}
        return Table(self.step[chosen], self.time[chosen], self.attempt[chosen], columns, nans)

    def only(self, patterns: Collection[str]) -> Table:
        """Return the columns that match one of the patterns."""
        columns = {name: column for name, column in self.columns.items() if is_chosen(name, patterns)}
        return replace(self, columns=columns, nans={name: mask for name, mask in self.nans.items() if name in columns})


class BlockParser:
    """Parses pieces of whole lines, in blocks whose size in memory is limited even if the file is forged.

    A small block may have any columns. A large one, which takes half of the time for each row, has no other columns
    than the blocks before it, so that its size in memory is known beforehand.

    Attributes:
        columns: The columns of all blocks so far: the type of each in pyarrow, or None without pyarrow.
    """

    def __init__(self) -> None:
        self.columns: dict[str, Any] = {}
        self._arrow = _imported_arrow()

    def parsed(self, data: bytes) -> Iterator[tuple[Table, int]]:
        """Yield tables of rows, each with the number of lines that are no rows."""
        if data and not self.columns:
            first = next(_blocks(data))
            yield self._parsed_small(data[first])
            data = data[first.stop :]
        if not data:
            return
        if (table := self._parsed_large(data)) is not None:
            yield table, 0
            return
        for at in _blocks(data):
            yield self._parsed_small(data[at])

    def _parsed_large(self, data: bytes) -> Table | None:
        """Parse a block that has no other columns than those before; None if that is not possible."""
        known = self.columns
        if self._arrow is None or not known or data.count(b"\n") * len(known) * 8 > _INFLATION * len(data):
            return None
        if _is_deep(data):
            return None
        pa = self._arrow[0]
        special = pa.struct([(name, pa.string()) for name, kind in known.items() if _is_number(kind, pa)])
        own = {STEP: pa.int64(), TIME: pa.float64(), TRY: pa.int64(), NONFINITE: special}
        return _parsed_by_arrow(data, self._arrow, pa.schema(list((own | known).items())))

    def _parsed_small(self, data: bytes) -> tuple[Table, int]:
        is_safe = len(data) < limits.SERIES_ROW and not _is_deep(data)
        table = _parsed_by_arrow(data, self._arrow) if self._arrow is not None and is_safe else None
        found, invalid = _parsed(data) if table is None else (table, 0)
        for name, values in found.columns.items():
            self.columns[name] = self._type_of(values, self.columns.get(name))
        return found, invalid

    def _type_of(self, values: Array, before: Any) -> Any:
        """Return the type in pyarrow of a column with these values that had a type before."""
        if self._arrow is None:
            return None
        pa = self._arrow[0]
        if _is_empty(values):
            return before or pa.float64()
        if values.dtype == object:
            first = next((value for value in values if value is not None), None)
            return before if first is None else pa.bool_() if isinstance(first, bool) else pa.string()
        own = {"i": pa.int64(), "f": pa.float64()}.get(values.dtype.kind, pa.bool_())
        return pa.float64() if before == pa.float64() and own == pa.int64() else own


def _imported_arrow() -> tuple[Any, Any] | None:
    """Return pyarrow and its reader of JSON, if it is installed."""
    try:
        import pyarrow as pa
        from pyarrow import json as arrow_json
    except ImportError:
        return None
    return pa, arrow_json


def _blocks(data: bytes) -> Iterator[slice]:
    """Yield the places of small blocks of whole lines."""
    start = 0
    while start < len(data):
        end = len(data) if start + _BLOCK >= len(data) else data.find(b"\n", start + _BLOCK) + 1
        yield slice(start, end)
        start = end


# -- one block --------------------------------------------------------------------------------------------


def _parsed_by_arrow(data: bytes, arrow: tuple[Any, Any], schema: Any = None) -> Table | None:
    """Parse a block by pyarrow; None if it has lines or columns that pyarrow or the schema does not accept.

    Without a schema, the block is parsed in this thread.
    """
    pa, arrow_json = arrow
    many = schema is not None
    reading = arrow_json.ReadOptions(use_threads=many, block_size=_PART if many else len(data) + 1)
    parsing = arrow_json.ParseOptions(schema, unexpected_field_behavior="error" if many else "infer")
    try:
        found = arrow_json.read_json(pa.BufferReader(data), reading, parsing)
        names = found.column_names
    except (pa.ArrowException, UnicodeDecodeError):
        return None
    if STEP not in names or TIME not in names or found[STEP].type != pa.int64() or found[STEP].null_count:
        return None
    if found[TIME].type not in (pa.float64(), pa.int64()) or found[TIME].null_count:
        return None
    columns: dict[str, Array] = {}
    for name in names:
        if name in RESERVED:  # a forged file may have columns that readers add
            continue
        if found[name].type not in (pa.int64(), pa.float64(), pa.string(), pa.bool_(), pa.null()):
            return None  # such as a text that looks like a time, which pyarrow converts
        try:
            columns[name] = _of_arrow(found[name], pa)
        except UnicodeDecodeError:  # pyarrow accepts texts that are not UTF-8
            return None
    attempt = np.zeros(len(found), np.int64)
    if TRY in names:
        if found[TRY].type != pa.int64():
            return None
        attempt = np.nan_to_num(_numbers(found[TRY], np.int64)).astype(np.int64, copy=False)
    time = _numbers(found[TIME], np.float64 if found[TIME].type == pa.float64() else np.int64)
    table = Table(_numbers(found[STEP], np.int64), time.astype(np.float64, copy=False), attempt, columns, {})
    if NONFINITE in names:
        _set_nonfinite_of_arrow(table, found[NONFINITE], pa)
    return table


def _is_deep(data: bytes) -> bool:
    """Check whether a block may have deeply nested values, at which pyarrow 26 overflows the stack of the process."""
    brackets = data.translate(None, _NO_BRACKETS)  # of rows {}, and {{}} with numbers that JSON cannot represent
    return len(brackets.replace(b"{{}}", b"").replace(b"{}", b"")) > _BRACKETS


def _is_number(kind: Any, pa: Any) -> bool:
    return kind in (pa.int64(), pa.float64())


def _set_nonfinite_of_arrow(table: Table, special: Any, pa: Any) -> None:
    """Set the values that JSON cannot represent from a column of structures, one text for each of these values."""
    if not pa.types.is_struct(special.type):
        return
    for field, texts in zip(special.type, special.combine_chunks().flatten(), strict=True):
        if field.type == pa.string() and texts.null_count < len(texts):
            rows = np.flatnonzero(_bits(texts, 0)) if texts.null_count else np.arange(len(texts))
            _set_nonfinite(table, field.name, rows, texts.drop_null().to_pylist())


def _of_arrow(column: Any, pa: Any) -> Array:
    if column.type == pa.null():
        return np.full(len(column), np.nan)
    if column.type == pa.bool_() and not column.null_count:
        return np.concatenate([_bits(chunk, 1) for chunk in column.chunks])
    if column.type in (pa.bool_(), pa.string()):
        return np.array(column.to_pylist(), object)
    return _numbers(column, np.int64 if column.type == pa.int64() else np.float64)


def _numbers(column: Any, kind: Any) -> Array:
    """Return a column of numbers of 64 bits; its own conversion imports pandas, which takes half a second."""
    parts: list[Array] = []
    for chunk in column.chunks:
        if chunk.null_count == len(chunk):  # the buffer of the numbers may be missing
            parts.append(np.full(len(chunk), np.nan))
            continue
        numbers = np.frombuffer(chunk.buffers()[1], kind, len(chunk), 8 * chunk.offset)
        if chunk.null_count:
            numbers = np.where(_bits(chunk, 0), numbers, np.nan)
        parts.append(numbers)
    return np.concatenate(parts)


def _bits(chunk: Any, number: int) -> npt.NDArray[np.bool_]:
    """Return a buffer of bits of a pyarrow array: number 0 has 1 where there is a value."""
    bits = np.frombuffer(chunk.buffers()[number], np.uint8)
    return np.unpackbits(bits, count=chunk.offset + len(chunk), bitorder="little")[chunk.offset :].astype(bool)


def _parsed(data: bytes) -> tuple[Table, int]:
    """Parse a block. Return also the number of lines that are no rows."""
    rows, invalid = _rows(data)
    names = dict.fromkeys(chain.from_iterable(rows))
    columns = {
        without_surrogates(name): _column([row.get(name) for row in rows]) for name in names if name not in RESERVED
    }
    step = np.array([row[STEP] for row in rows], np.int64)
    time = np.array([as_float(row[TIME]) for row in rows], np.float64)
    attempt = np.array([row.get(TRY) or 0 for row in rows] if TRY in names else [0] * len(rows), np.int64)
    table = Table(step, time, attempt, columns, {})
    specials: dict[str, dict[int, object]] = defaultdict(dict)
    for at, row in enumerate(rows if NONFINITE in names else ()):
        special = row.get(NONFINITE)
        for name, text in special.items() if isinstance(special, dict) else ():
            specials[name][at] = text
    for name, texts in specials.items():
        _set_nonfinite(table, name, np.array(list(texts)), list(texts.values()))
    return table, invalid


def _rows(data: bytes) -> tuple[list[dict[str, Any]], int]:
    """Return the rows of a block, and the number of lines that are no rows."""
    if len(data) < limits.SERIES_ROW:  # the usual case: it takes half of the time for all lines at once
        with suppress(ValueError, RecursionError):
            rows = json.loads(b"[" + data.rstrip().replace(b"\n", b",") + b"]")
            if len(rows) == data.count(b"\n") and all(map(_is_row, rows)):
                return rows, 0
    rows, invalid = [], 0
    for line in data.split(b"\n"):
        if not line.strip():
            continue
        if len(line) >= limits.SERIES_ROW:  # the limit of rows includes the line end
            invalid += 1
            continue
        row = None
        with suppress(ValueError, RecursionError):
            row = json.loads(line)
        if row is not None and _is_row(row):
            rows.append(row)
        else:
            invalid += 1
    return rows, invalid


def _is_row(row: object) -> bool:
    if not isinstance(row, dict):
        return False
    step, time, attempt = row.get(STEP), row.get(TIME), row.get(TRY, 0)
    if type(step) is not int or type(attempt) is not int or type(time) not in (int, float):
        return False
    return abs(step) < INT64 and abs(attempt) < INT64


def _column(values: list[Any]) -> Array:
    kinds = set(map(type, values))
    if kinds == {bool}:
        return np.array(values, bool)
    if kinds == {int} and min(values) > -INT64 and max(values) < INT64:
        return np.array(values, np.int64)
    if kinds == {float}:
        return np.array(values, np.float64)
    if kinds <= {int, float, type(None)}:
        return np.array([np.nan if value is None else as_float(value) for value in values], np.float64)
    return np.array([_scalar(value) for value in values], object)


def _scalar(value: object) -> object:
    """Return a value of a column that has not only numbers; None for lists and the like."""
    if isinstance(value, str):
        return without_surrogates(value)
    return value if isinstance(value, bool | int | float) else None


def _set_nonfinite(table: Table, name: str, rows: npt.NDArray[np.int64], texts: Sequence[object]) -> None:
    """Set the values of a column that JSON cannot represent, in some rows."""
    column = table.columns.get(name)
    if column is None or column.dtype.kind != "f":
        return
    values = np.array([_NUMBERS.get(text, 0.0) if isinstance(text, str) else 0.0 for text in texts])
    rows, values = rows[values != 0], values[values != 0]
    if not column.flags.writeable:
        column = table.columns[name] = column.copy()
    column[rows] = values
    if len(nans := rows[np.isnan(values)]):
        table.nans.setdefault(name, np.zeros(len(column), bool))[nans] = True


# -- many blocks ----------------------------------------------------------------------------------------


def stacked(tables: Sequence[Table]) -> Table:
    """Return the rows of all tables in one."""
    if len(tables) == 1:
        return tables[0]
    names = dict.fromkeys(name for table in tables for name in table.columns)
    with_nans = dict.fromkeys(name for table in tables for name in table.nans)
    return Table(
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


def _stacked_column(parts: Sequence[Array | None], tables: Sequence[Table]) -> Array:
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
