"""Tables as Parquet, by pyarrow, which is imported when needed and supports pandas and polars."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final, cast

from notata._base.display import counted
from notata._base.packages import needed
from notata.errors import ConfigurationError, DecodeError, EncodeError, NotataError
from notata.formats.base import Sink, reading

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["PARQUET", "Parquet", "TableFacts", "table_as"]

_MISSING: Final = "this needs {}, which is not installed"
_FOOTER: Final = 2**24  # bytes of the largest footer to describe
_ROWS: Final = 2**20  # rows of a row group: pyarrow's default for a table in memory


@dataclass(frozen=True, slots=True)
class Parquet:
    """A table as Parquet: a data frame of pandas (its index is kept) or polars, a table, batch or reader of pyarrow.

    Also a dict of columns, a list of dicts, or any object with ``__arrow_c_stream__``, which is streamed. It is read as
    a `pyarrow.Table`; `table_as` converts it to a data frame. Needs pyarrow: ``pip install 'pyarrow>=16'``, or the
    extra ``tables``.

    References:
        The Apache Parquet format; the Arrow PyCapsule interface.

    >>> import io
    >>> file = io.BytesIO()
    >>> PARQUET.write({"t": [0.0, 0.5], "species": ["H2", "O2"]}, file)
    >>> PARQUET.read(io.BytesIO(file.getvalue())).column_names
    ['t', 'species']
    """

    suffix: str = ".parquet"

    def write(self, value: Any, file: IO[bytes]) -> None:
        arrow = _pyarrow()
        sink = Sink(file)
        try:
            _write(arrow, _table(arrow, value), sink)
        except (NotataError, MemoryError):
            sink.check()
            raise
        except Exception as error:  # pyarrow raises several builtin types, and a stream may raise any type
            sink.check(error)
            raise EncodeError(f"parquet cannot hold this {_kind(value)}: {error}") from error

    def read(self, file: IO[bytes]) -> pa.Table:
        _pyarrow()
        from pyarrow import parquet

        with reading("parquet", file) as source:
            return parquet.ParquetFile(source).read()

    def describe(self, file: IO[bytes], *, stats: bool = True, head: int = 6) -> TableFacts:
        """Describe the table of a file; only the end of the file is read."""
        _pyarrow()
        from pyarrow import parquet

        with reading("parquet", file) as source:
            _check_footer(source)
            found = parquet.ParquetFile(source)
            columns = {column.name: str(column.type) for column in found.schema_arrow}
            return TableFacts(found.metadata.num_rows, columns, found.metadata.num_row_groups)


def _check_footer(file: IO[bytes]) -> None:
    """Refuse a file that states a huge size of its footer, which would be read as a whole."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - 8))
    length = int.from_bytes(file.read(4), "little")
    file.seek(0)
    if _FOOTER < length <= size:
        raise DecodeError(f"this Parquet file has a footer of {length:,} bytes; at most {_FOOTER:,} are supported")


@dataclass(frozen=True, slots=True)
class TableFacts:
    """Facts about a table.

    Attributes:
        rows: Number of rows.
        columns: The type of each column, in Arrow's notation.
        row_groups: Number of parts that can be read separately.
    """

    rows: int
    columns: dict[str, str]
    row_groups: int

    def lines(self) -> list[str]:
        """Return the facts as lines of text."""
        rows = f"{self.rows:,} row{'s' * (self.rows != 1)}"
        summary = f"{rows}, {counted(len(self.columns), 'column')}, in {counted(self.row_groups, 'row group')}"
        return [summary, *(f"{name}: {kind}" for name, kind in self.columns.items())]


PARQUET: Final = Parquet()


def table_as(table: pa.Table, library: str) -> Any:
    """Return a table as the data frame of one library.

    Args:
        table: As `PARQUET` reads it.
        library: ``pandas``, ``polars``, or ``arrow`` for the table itself.

    Raises:
        PackageMissingError: The library is not installed.
        ConfigurationError: `library` has another value.

    >>> import pyarrow
    >>> table_as(pyarrow.table({"t": [0.0, 0.5]}), "pandas").t.sum()
    np.float64(0.5)
    """
    if library == "arrow":
        return table
    if library == "pandas":
        with needed(_MISSING.format("pandas"), "pandas>=2.2", "pandas"):
            import pandas as pd  # noqa: F401
        return table.to_pandas()
    if library == "polars":
        with needed(_MISSING.format("polars"), "polars>=1"):
            import polars as pl
        return pl.from_arrow(table)
    raise ConfigurationError(f"library must be 'pandas', 'polars' or 'arrow', not {library!r}")


def _pyarrow() -> Any:
    with needed(_MISSING.format("pyarrow"), "pyarrow>=16", "tables"):
        import pyarrow as pa
    return pa


def _kind(value: object) -> str:
    return type(value).__qualname__


# -- convert values to a table, or to a reader of its batches ----------------------------------------------


def _is_frame(module: Any, value: object) -> bool:
    """Check whether a value is a data frame of a module; while another thread imports that, there is none."""
    return isinstance(value, getattr(module, "DataFrame", ()))


def _table(arrow: Any, value: Any) -> Any:
    pandas, polars = sys.modules.get("pandas"), sys.modules.get("polars")
    if _is_frame(pandas, value):
        return _of_pandas(arrow, value)
    if _is_frame(polars, value):
        return value.to_arrow()  # not its stream, which has view types that older Parquet readers do not support
    if isinstance(value, arrow.Table | arrow.RecordBatchReader):
        return value
    if isinstance(value, arrow.RecordBatch):
        return arrow.Table.from_batches([value])
    if hasattr(value, "__arrow_c_stream__"):
        return arrow.RecordBatchReader.from_stream(value)
    if isinstance(value, Mapping):
        return _of_columns(arrow, value)
    if (
        isinstance(value, Sequence)
        and not isinstance(value, str | bytes)
        and all(isinstance(r, Mapping) for r in value)
    ):
        return _of_columns(arrow, _columns(value))
    more = "; collect() it first" if callable(getattr(value, "collect", None)) else ""
    raise EncodeError(f"parquet takes a data frame, a dict of columns or a list of dicts, not {_kind(value)}{more}")


def _of_pandas(arrow: Any, frame: Any) -> Any:
    try:
        return arrow.Table.from_pandas(frame)
    except Exception as error:
        for place, name in enumerate(frame.columns):
            try:
                arrow.Array.from_pandas(frame.iloc[:, place])
            except Exception as cause:
                raise _refused(str(name), cause) from cause
        raise EncodeError(f"parquet cannot hold this DataFrame: {error}") from error


def _columns(rows: Sequence[Mapping[Any, Any]]) -> dict[Any, list[Any]]:
    """Return all keys of all rows, in order of appearance; pyarrow would use those of the first row only."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _of_columns(arrow: Any, columns: Mapping[Any, Any]) -> Any:
    for name in columns:
        if not isinstance(name, str):
            raise EncodeError(f"the name of a column must be a str, not {name!r}", where=str(name))
    return arrow.table({name: _column(arrow, name, values) for name, values in columns.items()})


def _column(arrow: Any, name: str, values: Any) -> Any:
    try:
        if hasattr(values, "__arrow_c_stream__"):
            return arrow.chunked_array(values)
        return arrow.array(values)
    except Exception as error:
        convert = getattr(values, "__array__", None)
        if callable(convert) and getattr(values, "ndim", None) == 1:  # for example of torch or jax
            from notata.formats.arrays import as_array

            return arrow.array(as_array(values, name))
        raise _refused(name, error) from error


def _refused(name: str, error: Exception) -> EncodeError:
    return EncodeError(f"parquet cannot hold column {name!r}: {error}", where=name)


# -- write to the file -------------------------------------------------------------------------------------


def _write(arrow: Any, table: Any, sink: Sink) -> None:
    from pyarrow import parquet

    with parquet.ParquetWriter(cast("IO[bytes]", sink), table.schema) as writer:
        try:
            for part in [table] if isinstance(table, arrow.Table) else _gathered(arrow, table):
                writer.write_table(part, row_group_size=_ROWS)
        except BaseException:
            sink.stop()
            raise


def _gathered(arrow: Any, batches: Iterable[Any]) -> Iterator[Any]:
    """Yield larger tables: each becomes a row group, and small row groups are slow to read."""
    held: list[Any] = []
    rows = size = 0
    for batch in batches:
        held.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows >= _ROWS or size >= 2**26:
            yield arrow.Table.from_batches(held)
            held, rows, size = [], 0, 0
    if held:
        yield arrow.Table.from_batches(held)
