"""Tables of runs for other programs: index.parquet, and files with one typed column for each column of a table."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from operator import attrgetter
from typing import IO, Any, Final, TypeAlias

from notata.formats import without_surrogates
from notata.store import Store
from notata.table.columns import Columns
from notata.table.row import ID, STATUS, Row, flat

__all__ = ["PARQUET", "Values", "table_writer", "write_columns", "write_parquet"]

PARQUET: Final = "index.parquet"

_AT_ONCE: Final = 20_000  # rows that are in memory as columns
_COLUMNS: Final = 10_000
_OF_RUN: Final = ("started", "ended", "seconds", "host", "attempt")
_INT64: Final = 2**63
_EXACT: Final = 2**53  # beyond it, a float does not have each integer
Values: TypeAlias = Callable[[int, int], list[Any]]
"""Returns the values of a column in a range of rows; None stands for a missing one."""


def write_parquet(store: Store, rows: Sequence[Row]) -> bool:
    """Write rows as index.parquet, if pyarrow is installed and there are not too many columns; return whether it was.

    The columns are those of the table, from left to right, then ``started``, ``ended``, ``seconds``, ``host`` and
    ``attempt``; each begins with ``run.`` if the table has a column of this name. A column has one type; one with
    values of several types, with lists, or with integers beyond 64 bits holds them as JSON. Missing values are null.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        return False
    columns = _columns(rows)
    if len(columns) > _COLUMNS:
        return False
    with store.open(PARQUET, "wb") as file:
        write_columns(file, columns, len(rows))
    return True


def write_columns(file: IO[bytes], columns: Sequence[tuple[str, Values]], rows: int, form: str = "parquet") -> None:
    """Write columns, each with the one type that its values have; 20,000 rows at a time.

    Numbers, booleans, texts and times keep their types. A column with values of several types, with lists, or with
    integers beyond 64 bits holds them as JSON. So does one with integers beyond 2⁵³ beside fractions.

    Args:
        file: The open file.
        columns: The name of each column, and its values.
        rows: The number of rows.
        form: ``parquet`` or ``csv``.
    """
    import pyarrow as pa

    kinds = [_kind(values(0, rows)) for _, values in columns]
    types = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "time": pa.timestamp("us", "UTC")}
    fields = [
        (without_surrogates(name), types.get(kind, pa.string())) for (name, _), kind in zip(columns, kinds, strict=True)
    ]
    schema = pa.schema(fields)
    with table_writer(file, schema, form) as writer:
        for start in range(0, rows, _AT_ONCE):
            arrays = [
                pa.array(_fitting(values(start, start + _AT_ONCE), kind), field.type)
                for (_, values), kind, field in zip(columns, kinds, schema, strict=True)
            ]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))


@contextmanager
def table_writer(file: IO[bytes], schema: Any, form: str = "parquet") -> Iterator[Any]:
    """Yield a writer of batches of pyarrow to an open file: of Parquet, compressed, or of CSV with a header."""
    if form == "csv":
        from pyarrow.csv import CSVWriter

        with CSVWriter(file, schema) as writer:
            yield writer
        return
    from pyarrow.parquet import ParquetWriter

    with ParquetWriter(file, schema, compression="zstd") as writer:
        yield writer


def _columns(rows: Sequence[Row]) -> list[tuple[str, Values]]:
    """Return the columns from left to right, each with a function for its values in a range of rows."""
    params, metrics = [flat(row.params) for row in rows], [flat(row.metrics) for row in rows]
    columns = Columns.of(
        Row(row.run_id, row.status, some, others, row.failure_reason, row.metrics_error)
        for row, some, others in zip(rows, params, metrics, strict=True)
    )
    found = [(ID, _of_rows(rows, ID))]
    found += [(column, _of_values(params, name)) for name, column in columns.params.items()]
    found += [(name, _of_rows(rows, name)) for name in (STATUS, *columns.optional)]
    found += [(column, _of_values(metrics, name)) for name, column in columns.metrics.items()]
    taken = {name for name, _ in found}
    return [*found, *((f"run.{name}" if name in taken else name, _of_rows(rows, name)) for name in _OF_RUN)]


def _of_rows(rows: Sequence[Row], name: str) -> Values:
    value = attrgetter(name)
    return lambda start, end: [None if (found := value(row)) == "" else found for row in rows[start:end]]


def _of_values(values: Sequence[Mapping[str, Any]], name: str) -> Values:
    return lambda start, end: [one.get(name) for one in values[start:end]]


def _kind(values: list[Any]) -> str:
    """Return the type of a column: ``str``, ``int``, ``float``, ``bool``, ``time`` or ``json``."""
    types = {*map(type, values)} - {type(None)}
    largest = _EXACT if float in types else _INT64
    if int in types and not all(-largest <= value < largest for value in values if type(value) is int):
        return "json"
    if types == {int, float}:
        return "float"
    kind = next(iter(types)) if len(types) == 1 else object
    known = {int: "int", float: "float", bool: "bool", str: "str", datetime: "time"}
    return known.get(kind, "json" if types else "str")


def _fitting(values: list[Any], kind: str) -> list[Any]:
    """Return values as those of the column's type."""
    if kind == "float":
        return [None if value is None else float(value) for value in values]
    if kind == "json":
        values = [None if value is None else json.dumps(value, ensure_ascii=False) for value in values]
    if kind in ("json", "str"):
        return [value if value is None or value.isascii() else without_surrogates(value) for value in values]
    return values
