"""File formats: each writes a value to a binary file object and reads it back, wherever the file is stored.

Each format writes a stream, never the whole value at once, so memory use is bounded for values of any size. If a
format cannot hold a value, it raises an `EncodeError` that names the part, and the store publishes nothing. If it
cannot read a file, it raises a `DecodeError`.
"""

from __future__ import annotations

from notata.formats.arrays import NPY, NPZ, Npy, Npz
from notata.formats.base import Format, WriteFormat, decode, encode, kind_of, read, write
from notata.formats.basic import BYTES, JSON, TEXT, YAML, Json, Yaml
from notata.formats.describing import Describers
from notata.formats.figures import Drawing, current_figure
from notata.formats.labelled import CSV, NETCDF, Csv
from notata.formats.named import as_format, known, named, of_file
from notata.formats.paths import PathFormat
from notata.formats.pickles import PICKLE, Pickle
from notata.formats.plain import equal, flattened, members, plain, utf8, without_surrogates
from notata.formats.tables import PARQUET, Parquet, table_as

__all__ = [
    "BYTES",
    "CSV",
    "JSON",
    "NETCDF",
    "NPY",
    "NPZ",
    "PARQUET",
    "PICKLE",
    "TEXT",
    "YAML",
    "Csv",
    "Describers",
    "Drawing",
    "Format",
    "Json",
    "Npy",
    "Npz",
    "Parquet",
    "PathFormat",
    "Pickle",
    "WriteFormat",
    "Yaml",
    "as_format",
    "current_figure",
    "decode",
    "encode",
    "equal",
    "flattened",
    "kind_of",
    "known",
    "members",
    "named",
    "of_file",
    "plain",
    "read",
    "table_as",
    "utf8",
    "without_surrogates",
    "write",
]
