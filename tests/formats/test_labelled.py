"""CSV and netCDF: values come back unchanged, and the libraries themselves can read them."""

from __future__ import annotations

import csv
import io
import math
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from notata import DecodeError, EncodeError, Logbook, PackageMissingError
from notata.formats import CSV, NETCDF, decode, encode

FRAME = pd.DataFrame({"t_s": [0.0, 0.1, 1e-300], "species": ["H2", 'a "b", c\nd', "é"], "count": [1, 2, 3]})


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_numbers_come_back_exactly(values: list[float]) -> None:
    assert decode(CSV, encode(CSV, {"x": values}))["x"].tolist() == values


def test_a_data_frame_comes_back_and_other_programs_read_it() -> None:
    data = encode(CSV, FRAME)
    pd.testing.assert_frame_equal(decode(CSV, data), FRAME)
    rows = list(csv.reader(io.StringIO(data.decode(), newline="")))
    assert rows[0] == ["t_s", "species", "count"]
    assert rows[2] == ["0.1", 'a "b", c\nd', "2"]


def test_an_index_becomes_columns_unless_it_counts_the_rows() -> None:
    named = FRAME.set_index("species")
    assert list(decode(CSV, encode(CSV, named)).columns) == ["species", "t_s", "count"]
    filtered = FRAME[FRAME["count"] > 1]
    assert decode(CSV, encode(CSV, filtered)).iloc[:, 0].tolist() == [1, 2]
    assert encode(CSV, FRAME["count"]) == b"count\n1\n2\n3\n"


@pytest.mark.parametrize("value", [{"a": [1, 2], "b": [0.5, math.nan]}, [{"a": 1, "b": 0.5}, {"a": 2}]])
def test_columns_and_rows_are_tables(value: Any) -> None:
    assert encode(CSV, value) == b"a,b\n1,0.5\n2,\n"


@pytest.mark.parametrize("value", ["text", 3, [1, 2], b"bytes"])
def test_what_is_no_table_is_refused(value: object) -> None:
    with pytest.raises(EncodeError, match="csv takes a data frame, a dict of columns or a list of dicts, not"):
        encode(CSV, value)
    with pytest.raises(EncodeError, match="netcdf takes a Dataset or a DataArray of xarray, not"):
        encode(NETCDF, value)


def test_a_file_of_another_format_is_a_decode_error() -> None:
    for form in (CSV, NETCDF):
        with pytest.raises(DecodeError):
            decode(form, b"")


def test_a_dataset_comes_back_and_xarray_reads_the_file_by_its_name(tmp_path: Path) -> None:
    fields = xr.Dataset({"T_K": (("t", "x"), np.arange(6.0).reshape(2, 3))}, {"t": [0.0, 0.5]}, {"title": "é"})
    with Logbook("a", tmp_path) as log:
        path = log.save("fields.nc", fields)
        log.save("temperature", fields["T_K"], format="netcdf")
    xr.testing.assert_identical(log.reader.load("fields.nc"), fields)
    xr.testing.assert_equal(log.reader.load("temperature.nc")["T_K"], fields["T_K"])
    with xr.open_dataset(path) as read:
        xr.testing.assert_identical(read.load(), fields)


def test_both_go_by_their_suffix_and_in_memory() -> None:
    with Logbook("a", f"memory://{uuid.uuid4().hex}") as log:
        assert log.save("frame.csv", FRAME).name == "frame.csv"
        assert log.save("frame", FRAME, format="csv").name == "frame.csv"
        log.save("fields.nc", xr.Dataset({"x": ("i", [1.0])}))
    pd.testing.assert_frame_equal(log.reader.load("frame.csv"), FRAME)
    assert log.reader.load("fields.nc")["x"].item() == 1.0


@pytest.mark.parametrize("missing", ["pandas", "xarray", "h5netcdf", "h5py"])
def test_without_their_packages_the_error_says_what_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    value, form = (FRAME, CSV) if missing == "pandas" else (xr.Dataset(), NETCDF)
    with pytest.raises(PackageMissingError, match=rf"needs {missing}: pip install '{missing}>=.*\(the extra '"):
        encode(form, value)


def test_no_package_is_imported_before_it_is_needed() -> None:
    code = "import sys, notata.formats as f; f.known(); print([m for m in ('pandas', 'xarray') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
