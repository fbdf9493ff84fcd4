"""Parquet: values read back by pyarrow itself, the resulting type of data frame, and values that are refused."""

from __future__ import annotations

import datetime as dt
import io
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from notata import formats
from notata.errors import ConfigurationError, DecodeError, EncodeError, PackageMissingError, StorageError
from notata.formats import PARQUET, table_as
from tests.formats.files import Failing, Stream, binary, through_a_store, written


class Streaming:
    """Like a data frame of polars or another library: it offers only the Arrow stream."""

    def __init__(self, table: Any) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)


class Array:
    """Like a tensor: neither a list nor a series, but convertible to an array."""

    ndim = 1

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.array([1.5, 2.5])


class Query:
    def collect(self) -> None: ...


TABLE = pa.table({"t": [0.0, 0.5], "species": ["H2", None]})
ROWS = [{"t": 0.0, "species": "H2"}, {"t": 0.5, "species": None}]


def loaded(data: bytes) -> Any:
    return parquet.read_table(io.BytesIO(data))


@pytest.mark.parametrize(
    "value",
    [
        TABLE,
        TABLE.to_batches()[0],
        TABLE.to_reader(),
        Streaming(TABLE),
        TABLE.to_pydict(),
        ROWS,
        tuple(ROWS),
        {"t": np.array([0.0, 0.5]), "species": pd.Series(["H2", None])},
        {"t": pa.chunked_array([[0.0], [0.5]]), "species": Streaming(TABLE["species"])},
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_is_a_table_comes_back(value: object) -> None:
    data = written(PARQUET, value)
    assert loaded(data).to_pylist() == ROWS
    assert PARQUET.read(io.BytesIO(data)).to_pylist() == ROWS


@given(
    st.dictionaries(st.text(min_size=1, max_size=5), st.sampled_from(["i", "f", "s", "b", "d"]), max_size=4), st.data()
)
def test_any_columns_come_back(kinds: dict[str, str], data: st.DataObject) -> None:
    values: dict[str, st.SearchStrategy[Any]] = {
        "i": st.integers(-(2**63), 2**63 - 1),
        "f": st.floats(allow_nan=False),
        "s": st.text(max_size=5),
        "b": st.binary(max_size=5),
        "d": st.dates(dt.date(1, 1, 1)),
    }
    size = data.draw(st.integers(0, 3))
    columns = {
        name: data.draw(st.lists(values[kind] | st.none(), min_size=size, max_size=size))
        for name, kind in kinds.items()
    }
    whole = written(PARQUET, columns)
    assert PARQUET.read(io.BytesIO(whole)).to_pydict() == columns == loaded(whole).to_pydict()


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"x": [1, 2]}, index=pd.Index(["a", "b"], name="site")),
        pd.DataFrame({"x": [1.5, None]}, index=pd.date_range("2026-01-01", periods=2, freq="h")),
        pd.DataFrame({"x": pd.Categorical(["a", "b"]), "y": pd.array([1, None], "Int64")}),
        pd.DataFrame({"x": [1]}, index=pd.MultiIndex.from_tuples([("a", 1)], names=["p", "q"])),
        pd.DataFrame(),
    ],
)
def test_a_frame_of_pandas_comes_back_with_its_index(frame: pd.DataFrame) -> None:
    back = table_as(through_a_store(PARQUET, frame), "pandas")
    pd.testing.assert_frame_equal(back, frame, check_freq=False)
    pd.testing.assert_frame_equal(pd.read_parquet(io.BytesIO(written(PARQUET, frame))), frame, check_freq=False)


def test_rows_may_have_different_keys() -> None:
    rows = [{"a": 1}, {"b": "x"}, {"a": 2, "c": None}]
    assert loaded(written(PARQUET, rows)).to_pydict() == {"a": [1, None, 2], "b": [None, "x", None], "c": [None] * 3}
    assert loaded(written(PARQUET, [])).num_rows == 0


def test_a_column_may_be_a_tensor() -> None:
    assert loaded(written(PARQUET, {"x": Array()})).to_pydict() == {"x": [1.5, 2.5]}


def test_a_stream_is_written_as_it_comes() -> None:
    schema = pa.schema([("x", pa.float64())])
    held = []

    def batches() -> Iterator[Any]:
        for _ in range(40):
            yield pa.record_batch({"x": np.random.default_rng(0).random(2**18)})
            held.append(pa.total_allocated_bytes())

    file = Stream()
    PARQUET.write(pa.RecordBatchReader.from_batches(schema, batches()), binary(file))
    read = parquet.ParquetFile(io.BytesIO(file.data))
    assert read.metadata.num_rows == 40 * 2**18
    assert read.metadata.num_row_groups == 10
    assert max(held) - held[0] < 40 * 2**21 / 2


REFUSED: list[tuple[object, str, str]] = [
    (5, "parquet takes a data frame, a dict of columns or a list of dicts, not int", ""),
    ("text", "not str", ""),
    (None, "not NoneType", ""),
    ([1, 2], "not list", ""),
    (Query(), "not Query; collect() it first", ""),
    ({"x": [1, "a"]}, "parquet cannot hold column 'x': ", "x"),
    ({"x": 1}, "parquet cannot hold column 'x': ", "x"),
    ({"x": np.zeros((2, 2))}, "parquet cannot hold column 'x': only handle 1-dimensional arrays", "x"),
    ({"x": [object()]}, "parquet cannot hold column 'x': ", "x"),
    ({"x": [1], "y": [1, 2]}, "parquet cannot hold this dict: Column 1 named y expected length 1 but got length 2", ""),
    ({3: [1]}, "the name of a column must be a str, not 3", "3"),
    ([{"x": 1}, {"x": "a"}], "parquet cannot hold column 'x': ", "x"),
    (pd.DataFrame({"a": [1, 2], "b": [1, "x"]}), "parquet cannot hold column 'b': ", "b"),
    (pd.DataFrame({"a": [1, 2], "b": [object(), 1]}), "parquet cannot hold column 'b': ", "b"),
    (pd.DataFrame([[1, 2]], columns=["a", "a"]), "parquet cannot hold this DataFrame: Duplicate column names", ""),
    (pa.table({"x": pa.array([{}], pa.struct([]))}), "parquet cannot hold this Table: ", ""),
]


@pytest.mark.parametrize(("value", "message", "where"), REFUSED)
def test_what_is_no_table_is_refused(value: object, message: str, where: str) -> None:
    with pytest.raises(EncodeError) as caught:
        written(PARQUET, value)
    assert message in str(caught.value)
    assert caught.value.where == where


@pytest.mark.parametrize("error", [StorageError("down"), OSError("disk"), ValueError("closed")])
@pytest.mark.parametrize("after", [0, 10, 500])
def test_an_error_of_the_file_stays_what_it_is(error: Exception, after: int) -> None:
    with pytest.raises(type(error)) as caught:
        PARQUET.write(TABLE, Failing(error, after=after))
    assert caught.value is error
    with pytest.raises(type(error)) as caught:
        PARQUET.read(Failing(error, written(PARQUET, TABLE), after=after))
    assert caught.value is error


def test_an_error_of_whoever_streams_stays_if_it_is_one_of_notata() -> None:
    def batches() -> Iterator[Any]:
        yield from TABLE.to_batches()
        raise StorageError("gone")

    file = Stream()
    with pytest.raises(StorageError, match="gone"):
        PARQUET.write(pa.RecordBatchReader.from_batches(TABLE.schema, batches()), binary(file))
    assert file.data == b"PAR1"  # the start of a file, without its end


@given(st.data())
def test_a_damaged_file_is_an_error_or_is_read(data: st.DataObject) -> None:
    whole = written(PARQUET, TABLE)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(DecodeError) as caught:
        PARQUET.read(io.BytesIO(whole[:cut]))
    assert caught.value.__cause__ is not None
    with pytest.raises(DecodeError, match=r"^parquet cannot read this file: "):
        PARQUET.read(io.BytesIO(data.draw(st.binary(max_size=50))))


def test_a_table_is_the_data_frame_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert table_as(TABLE, "arrow") is TABLE
    assert table_as(TABLE, "pandas").t.tolist() == [0.0, 0.5]
    with pytest.raises(ConfigurationError, match="library must be 'pandas', 'polars' or 'arrow', not 'dask'"):
        table_as(TABLE, "dask")
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(
        PackageMissingError, match=r"this needs polars, which is not installed: pip install 'polars>=1'"
    ):
        table_as(TABLE, "polars")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(PackageMissingError, match=r"pip install 'pandas>=2.2' \(the extra 'pandas'\)"):
        table_as(TABLE, "pandas")


def test_a_table_becomes_a_frame_of_polars(monkeypatch: pytest.MonkeyPatch) -> None:
    class Polars:
        class DataFrame:
            def to_arrow(self) -> object:
                return TABLE

        from_arrow = staticmethod(lambda table: ("polars", table))

    monkeypatch.setitem(sys.modules, "polars", Polars)  # the package has 55 MB
    assert table_as(TABLE, "polars") == ("polars", TABLE)
    assert loaded(written(PARQUET, Polars.DataFrame())).to_pylist() == ROWS


def test_without_pyarrow_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for call in (lambda: written(PARQUET, ROWS), lambda: PARQUET.read(io.BytesIO())):
        with pytest.raises(PackageMissingError) as caught:
            call()
        assert "pip install 'pyarrow>=16' (the extra 'tables')" in str(caught.value)
        assert isinstance(caught.value, ImportError)
    with pytest.raises(PackageMissingError):
        formats.write(PARQUET, ROWS, io.BytesIO())


def test_importing_the_formats_is_light() -> None:
    code = "import sys, notata.formats as f; f.known(); print([m for m in sys.argv[1:] if m in sys.modules])"
    heavy = ["numpy", "yaml", "pyarrow", "pandas", "polars"]
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
