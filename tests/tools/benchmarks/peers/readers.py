"""Other ways to read a series: libraries that load files of JSON lines."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from tests.tools.benchmarks.peers.base import Peer
from tests.tools.benchmarks.peers.ours import Notata


class WithoutArrow(Notata):
    """notata, as if pyarrow were not installed."""

    def read_rows(self, path: str) -> float:
        sys.modules["pyarrow"] = None  # type: ignore[assignment]
        return super().read_rows(path)


class Arrow(Peer):
    """pyarrow alone."""

    def read_rows(self, path: str) -> float:
        reader: Any = import_module("pyarrow.json")
        return float(reader.read_json(path)["c"].to_numpy().sum())


class Polars(Peer):
    """polars."""

    def read_rows(self, path: str) -> float:
        polars: Any = import_module("polars")
        return float(polars.read_ndjson(path, infer_schema_length=None)["c"].sum())


class DuckDB(Peer):
    """DuckDB, with all columns loaded into memory."""

    def read_rows(self, path: str) -> float:
        duckdb: Any = import_module("duckdb")
        return float(duckdb.sql(f"from read_json('{path}')").fetchnumpy()["c"].sum())


class Pandas(Peer):
    """pandas."""

    def read_rows(self, path: str) -> float:
        pandas: Any = import_module("pandas")
        return float(pandas.read_json(path, lines=True)["c"].sum())
