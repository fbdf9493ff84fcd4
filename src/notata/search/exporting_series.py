"""Export the series of many runs: wide, a file for each series with its columns; or long, a row for each value."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby
from typing import IO, Any, Final, Protocol

import numpy as np

from notata.errors import MissingError, NotataError, TooLargeError
from notata.search.target import Failed
from notata.series.many import SeriesFile, read_each
from notata.series.reading import PIECE, SeriesData, kinds_of, read_pieces
from notata.series.rows import as_float
from notata.store import Store
from notata.table.parquet import table_writer

__all__ = ["LongExport", "SeriesExport", "WideExport"]

_GROUP: Final = 100_000  # rows of a row group
_COLUMNS: Final = 10_000
_EXACT: Final = 2**53
_RANK: Final = "rank"


class SeriesExport(Protocol):
    """A file of an export that has values of series.

    Attributes:
        key: The key of the file.
    """

    key: str

    def write(self, form: str, *, repeated: bool, failed: Failed) -> int:
        """Write the file; return the number of its rows."""
        ...


class _Series:
    """The common part of both: the files of series, and their rows."""

    def __init__(self, store: Store, key: str, files: Mapping[str, Sequence[SeriesFile]]) -> None:
        self.key = key
        self._store = store
        self._files = files
        every = [file for some in files.values() for file in some]
        urls = {file.store.url: file.run_id for file in every}
        self._repeats = len({*urls.values()}) < len(urls)
        self._ranked = any(file.rank for file in every)

    def _pieces(self, repeated: bool, failed: Failed) -> Iterator[tuple[str, SeriesFile, SeriesData]]:
        """Yield the rows of all files in pieces."""
        for name, files in self._files.items():
            for is_small, some in groupby(files, lambda file: 0 <= file.size <= PIECE):
                if is_small:  # many at once
                    yield from ((name, *one) for one in read_each(some, name, repeated=repeated, failed=failed))
                    continue
                for file in some:
                    yield from ((name, file, data) for data in _read_large(file, name, repeated, failed))

    def _labels(self, file: SeriesFile, rows: int) -> dict[str, Any]:
        """Return the columns that name the run and the worker."""
        import pyarrow as pa

        values = {"run": file.run} if self._repeats else {}
        values |= {"run_id": file.run_id}
        values |= {_RANK: file.rank} if self._ranked else {}
        return {name: pa.repeat(pa.scalar(value, pa.string()), rows) for name, value in values.items()}


def _read_large(file: SeriesFile, name: str, repeated: bool, failed: Failed) -> Iterator[SeriesData]:
    try:
        yield from read_pieces(file.store, file.key, name, repeated=repeated)
    except MissingError:
        return  # removed meanwhile
    except NotataError as error:
        failed(error)


class LongExport(_Series):
    """One file with a row for each value of all series; see `export`."""

    def write(self, form: str, *, repeated: bool, failed: Failed) -> int:
        """Write the file, piece by piece, as its columns are known; return the number of its rows."""
        import pyarrow as pa

        head = [*self._labels(SeriesFile("", "", self._store, "", 0), 0)]
        fields = [(name, pa.string()) for name in (*head, "series")]
        fields += [("step", pa.int64()), ("time", pa.timestamp("ms", "UTC")), ("name", pa.string())]
        schema = pa.schema([*fields, ("value", pa.float64()), ("text", pa.string())])
        rows = 0
        with self._store.open(self.key, "wb") as file, table_writer(file, schema, form) as writer:
            for table in _grouped(self._tables(schema, repeated, failed)):
                writer.write_table(table)
                rows += table.num_rows
        return rows

    def _tables(self, schema: Any, repeated: bool, failed: Failed) -> Iterator[Any]:
        import pyarrow as pa

        for series, file, data in self._pieces(repeated, failed):
            times = _times(data.time)
            for name in data:
                given = data.given(name)
                rows = int(given.sum())
                numbers, texts = _numbers_and_texts(data[name][given])
                columns = self._labels(file, rows)
                columns |= {"series": pa.repeat(pa.scalar(series), rows), "step": data.step[given]}
                columns |= {"time": times.filter(pa.array(given)), "name": pa.repeat(pa.scalar(name), rows)}
                columns |= {"value": numbers, "text": texts}
                yield pa.table({field.name: columns[field.name] for field in schema}, schema)


class WideExport(_Series):
    """One file with the rows of one series of all runs; see `export`.

    The columns of all runs are known only when all are read. So the rows pass a temporary file on this machine.
    """

    def write(self, form: str, *, repeated: bool, failed: Failed) -> int:
        """Write the file; return the number of its rows."""
        with tempfile.TemporaryFile(prefix="notata-export-") as spool:
            columns = _Types(self.key)
            offsets = self._spool(spool, columns, repeated, failed)
            schema = columns.schema([*self._labels(SeriesFile("", "", self._store, "", 0), 0)])
            rows = 0
            with self._store.open(self.key, "wb") as file, table_writer(file, schema, form) as writer:
                parts = _read_spool(spool, offsets)
                for table in _grouped(_fitted(part, schema, columns.mixed) for part in parts):
                    writer.write_table(table)
                    rows += table.num_rows
        return rows

    def _spool(self, spool: IO[bytes], columns: _Types, repeated: bool, failed: Failed) -> list[int]:
        """Write the rows to the temporary file; return the offsets of the parts."""
        import pyarrow as pa

        offsets = []
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        for _, file, data in self._pieces(repeated, failed):
            table = pa.table({**self._labels(file, data.rows), "step": data.step, "time": _times(data.time)})
            for name in data:
                values = _column(data, name)
                columns.add(name, values)
                table = table.append_column(_own_name(name), values)
            offsets.append(spool.tell())
            with pa.ipc.new_stream(spool, table.schema, options=options) as stream:
                stream.write_table(table)
        return offsets


class _Types:
    """The columns of all runs, and the one type that holds the values of each."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._types: dict[str, set[str]] = {}
        self._is_large: set[str] = set()

    def add(self, name: str, values: Any) -> None:
        """Add the values of a column in some rows."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if name not in self._types and len(self._types) >= _COLUMNS:
            raise TooLargeError(
                f"cannot write {self._key}: it would have more than {_COLUMNS:,} columns. Pass long=True (--long) to "
                "write one row per value, or choose fewer runs",
                key=self._key,
            )
        if values.null_count < len(values):
            self._types.setdefault(name, set()).add(str(values.type))
        else:
            self._types.setdefault(name, set())
        if values.type == pa.int64() and values.null_count < len(values):
            limits = pc.min_max(values).as_py()
            if max(-limits["min"], limits["max"]) > _EXACT:
                self._is_large.add(name)

    @property
    def mixed(self) -> set[str]:
        """The columns of the file that hold JSON, as they have values of several types."""
        import pyarrow as pa

        return {_own_name(name) for name in self._types if self._type(name) == _json_type(pa)}

    def schema(self, labels: Sequence[str]) -> Any:
        """Return the schema of the file."""
        import pyarrow as pa

        fields = [(name, pa.string()) for name in labels]
        fields += [("step", pa.int64()), ("time", pa.timestamp("ms", "UTC"))]
        types = {name: self._type(name) for name in sorted(self._types)}
        fields += [(_own_name(name), pa.string() if kind == _json_type(pa) else kind) for name, kind in types.items()]
        return pa.schema(fields)

    def _type(self, name: str) -> Any:
        """Return the type of a column: that of all runs, floats for integers and floats, else that of JSON."""
        import pyarrow as pa

        known = {"int64": pa.int64(), "double": pa.float64(), "bool": pa.bool_(), "string": pa.string()}
        types = self._types[name]
        if types == {"int64", "double"} and name not in self._is_large:
            return pa.float64()
        if not types:
            return pa.float64()
        return known.get(next(iter(types)), _json_type(pa)) if len(types) == 1 else _json_type(pa)


def _json_type(pa: Any) -> Any:
    """Return the type that distinguishes JSON from texts in the temporary file."""
    return pa.large_string()


def _own_name(name: str) -> str:
    """Return the name of a column of a series in the file; one that names the run or its worker gets an underscore."""
    return f"{name}_" if name == "run" else name


def _column(data: SeriesData, name: str) -> Any:
    """Return a column as an array of pyarrow; gaps are null, and values of several types are JSON."""
    import pyarrow as pa

    values, given = data[name], data.given(name)
    if values.dtype.kind == "O" and len(kinds_of(values)) > 1:
        return pa.array([None if value is None else json.dumps(value) for value in values.tolist()], _json_type(pa))
    if values.dtype.kind == "O" and kinds_of(values) == ["numbers"]:
        return pa.array([None if value is None else as_float(value) for value in values.tolist()], pa.float64())
    if values.dtype.kind == "O":
        return pa.array(values.tolist())
    return pa.array(values, mask=~given)


def _numbers_and_texts(values: Any) -> tuple[Any, Any]:
    """Return values as floats and as texts, one of which is null, or the rounded float for a large integer."""
    import pyarrow as pa

    rows = len(values)
    if values.dtype.kind == "f":
        return pa.array(values), pa.nulls(rows, pa.string())
    if values.dtype.kind == "i":
        large = np.abs(values) > _EXACT
        texts = [str(value) if big else None for value, big in zip(values.tolist(), large.tolist(), strict=True)]
        return pa.array(values.astype(np.float64)), pa.array(texts, pa.string())
    plain = values.tolist()
    is_number = [isinstance(value, int | float) and not isinstance(value, bool) for value in plain]
    numbers = [float(value) if number else None for value, number in zip(plain, is_number, strict=True)]
    texts = [None if number else _text(value) for value, number in zip(plain, is_number, strict=True)]
    return pa.array(numbers, pa.float64()), pa.array(texts, pa.string())


def _text(value: object) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)


def _times(seconds: Any) -> Any:
    """Return times in milliseconds as timestamps; one that is out of range is null."""
    import pyarrow as pa

    with np.errstate(invalid="ignore"):
        is_time = np.abs(seconds) < 1e14
        counts = np.where(is_time, np.round(np.where(is_time, seconds, 0.0) * 1000), 0).astype(np.int64)
    return pa.array(counts, pa.timestamp("ms", "UTC"), mask=~is_time)


def _read_spool(spool: IO[bytes], offsets: Sequence[int]) -> Iterator[Any]:
    import pyarrow as pa

    for offset in offsets:
        spool.seek(offset)
        with pa.ipc.open_stream(spool) as stream:
            yield stream.read_all()


def _fitted(table: Any, schema: Any, mixed: Collection[str]) -> Any:
    """Return rows with the columns and types of the file."""
    import pyarrow as pa

    columns = []
    for field in schema:
        values = table[field.name] if field.name in table.column_names else None
        if values is None or values.null_count == len(values):
            columns.append(pa.nulls(table.num_rows, field.type))
        elif field.name in mixed and values.type != _json_type(pa):
            texts = [None if value is None else json.dumps(value) for value in values.to_pylist()]
            columns.append(pa.array(texts, field.type))
        else:
            columns.append(values.cast(field.type))
    return pa.table(columns, schema)


def _grouped(tables: Iterator[Any]) -> Iterator[Any]:
    """Join small tables to row groups."""
    import pyarrow as pa

    held: list[Any] = []
    rows = 0
    for table in tables:
        held.append(table)
        rows += table.num_rows
        if rows >= _GROUP:
            yield pa.concat_tables(held).combine_chunks()
            held, rows = [], 0
    if held:
        yield pa.concat_tables(held).combine_chunks()
