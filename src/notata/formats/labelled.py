"""Tables as CSV (by pandas) and labelled arrays as netCDF (by xarray); both are imported when needed."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import IO, TYPE_CHECKING, Any, Final, cast

from notata._base.packages import needed
from notata.errors import EncodeError
from notata.formats.paths import PathFormat

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["CSV", "NETCDF", "Csv"]


@dataclass(frozen=True, slots=True)
class Csv:
    r"""A table as CSV in UTF-8, with a header: a data frame of pandas or polars, a dict of columns, a list of dicts.

    Numbers are preserved exactly. An index of pandas becomes the first columns, unless it just counts the rows. A
    missing value is an empty cell. CSV stores no types: dates come back as text, and the text ``007`` as the number 7.
    It is read as a `pandas.DataFrame`. Needs pandas: ``pip install pandas``, or the extra ``pandas``.

    >>> import io
    >>> file = io.BytesIO()
    >>> CSV.write({"t": [0.0, 0.1], "species": ["H2", "O2"]}, file)
    >>> file.getvalue()
    b't,species\n0.0,H2\n0.1,O2\n'
    >>> CSV.read(io.BytesIO(file.getvalue()))["t"].tolist()
    [0.0, 0.1]
    """

    suffix: str = ".csv"

    def write(self, value: Any, file: IO[bytes]) -> None:
        frame = _frame(value)
        counts = frame.index.names == [None] and frame.index.equals(_pandas().RangeIndex(len(frame)))
        text = io.TextIOWrapper(cast("Any", _Unclosed(file)), encoding="utf-8", newline="", write_through=True)
        frame.to_csv(text, index=not counts, lineterminator="\n")
        text.flush()

    def read(self, file: IO[bytes]) -> pd.DataFrame:
        pandas = _pandas()
        version = tuple(int(part) for part in pandas.__version__.split(".")[:2])
        exact = {} if version >= (3, 1) else {"float_precision": "round_trip"}  # the default since pandas 3.1
        frame: pd.DataFrame = pandas.read_csv(file, **exact)
        return frame


class _Unclosed(io.RawIOBase):
    """A binary file that stays open when the text file over it is garbage-collected."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._file.write(data)
        return len(data)


def _pandas() -> Any:
    with needed("CSV needs pandas", "pandas>=2.2", "pandas"):
        import pandas as pd
    return pd


def _frame(value: Any) -> pd.DataFrame:
    pandas = _pandas()
    frame: pd.DataFrame
    if isinstance(value, pandas.DataFrame):
        frame = value
    elif callable(convert := getattr(value, "to_pandas", None)):  # of polars and pyarrow
        frame = convert()
    elif isinstance(value, Mapping | pandas.Series) or _are_rows(value):
        frame = pandas.DataFrame(value)
    else:
        kind = type(value).__qualname__
        raise EncodeError(f"csv takes a data frame, a dict of columns or a list of dicts, not {kind}")
    return frame


def _are_rows(value: Any) -> bool:
    listed = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    return listed and all(isinstance(row, Mapping) for row in value)


def _xarray() -> Any:
    with needed("netCDF needs xarray", "xarray>=2024.7", "netcdf"):
        import xarray as xr
    for package, requirement in (("h5netcdf", "h5netcdf>=1.3"), ("h5py", "h5py>=3.11")):
        with needed(f"netCDF needs {package}", requirement, "netcdf"):
            import_module(package)
    return xr


def write_netcdf(value: Any, path: str) -> None:
    """Write a Dataset or a DataArray as netCDF 4."""
    xarray = _xarray()
    if not isinstance(value, xarray.Dataset | xarray.DataArray):
        raise EncodeError(f"netcdf takes a Dataset or a DataArray of xarray, not {type(value).__qualname__}")
    value.to_netcdf(path, engine="h5netcdf")


def read_netcdf(path: str) -> Any:
    """Read a Dataset completely into memory."""
    return _xarray().load_dataset(path, engine="h5netcdf")


CSV: Final = Csv()
NETCDF: Final = PathFormat(".nc", write_netcdf, read_netcdf)
"""A Dataset or DataArray of xarray as netCDF 4, read as a Dataset. Needs xarray and h5netcdf, the extra ``netcdf``."""
