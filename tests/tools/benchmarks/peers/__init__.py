"""The contestants: each is a class with the same methods, by its name in the tables."""

from __future__ import annotations

from tests.tools.benchmarks.peers.bare import Adapter, AdapterFiles, Bare, BareFiles, Hash, Renamed, Synced
from tests.tools.benchmarks.peers.base import Peer, UnavailableError
from tests.tools.benchmarks.peers.long_series import LongSeries
from tests.tools.benchmarks.peers.others import MLflow, Old, Port
from tests.tools.benchmarks.peers.ours import (
    Durable,
    InBackground,
    ManyAtOnce,
    Notata,
    Obstore,
    ObstoreInBackground,
    WithoutCode,
    WithoutEnvironment,
    WithoutManifest,
)
from tests.tools.benchmarks.peers.readers import Arrow, DuckDB, Pandas, Polars, WithoutArrow
from tests.tools.benchmarks.peers.sweeping import (
    Futures,
    Joblib,
    OneByOne,
    Swept,
    SweptAgain,
    SweptByProcesses,
    SweptLightly,
)
from tests.tools.benchmarks.peers.tables import MLflowTable, SignacTable, Tables
from tests.tools.benchmarks.peers.trackers import DVCLive, Sacred, Signac, TensorBoard, Trackio

__all__ = ["PEERS", "Peer", "UnavailableError"]

OURS = "notata"
ENGINE = "notata, engine obstore"
BACKGROUND = "notata, background"
ENGINE_BACKGROUND = "notata, background, engine obstore"
WRITE_MANY = "notata, write_many"
DURABLE = "notata, durable"
NO_MANIFEST, NO_CODE, NO_ENVIRONMENT = "notata, manifest=False", "notata, code=False", "notata, environment=False"
PORT = "0.3.0 ported to UPath"
S3FS, S3FS_FILES = "s3fs", "s3fs, put_file"
GCSFS = "gcsfs"
OBSTORE, OBSTORE_FILES = "obstore", "obstore, put_file"
MLFLOW = "MLflow"
OLD = "notata 0.3.0"
RENAMED, SYNCED = "write and rename", "write, fsync, rename, fsync of the folder"
HASH = "SHA-256 alone"
TENSORBOARD, DVCLIVE, TRACKIO = "TensorBoard (tensorboardX)", "DVCLive", "trackio"
SACRED, SIGNAC = "sacred", "signac"
WITHOUT_ARROW = "notata, without pyarrow"
ARROW, POLARS, DUCKDB, PANDAS = "pyarrow", "polars", "DuckDB", "pandas"
TABLES, MLFLOW_TABLE, SIGNAC_TABLE = "notata, tables", "MLflow, `search_runs` (SQLite)", "signac, `to_dataframe`"
ONE_BY_ONE, SWEPT, SWEPT_LIGHTLY = "`Experiment.add`", "`Experiment.sweep`", "the same, environment=False"
SWEPT_AGAIN, SWEPT_BY_PROCESSES = "the same again: all points are complete", "`Experiment.sweep`, two processes"
FUTURES, JOBLIB = "concurrent.futures, two processes", "joblib, two processes"
LONG_SERIES = "notata, long series"

PEERS: dict[str, type[Peer]] = {
    OURS: Notata,
    ENGINE: Obstore,
    BACKGROUND: InBackground,
    ENGINE_BACKGROUND: ObstoreInBackground,
    WRITE_MANY: ManyAtOnce,
    DURABLE: Durable,
    NO_MANIFEST: WithoutManifest,
    NO_CODE: WithoutCode,
    NO_ENVIRONMENT: WithoutEnvironment,
    PORT: Port,
    S3FS: Bare,
    S3FS_FILES: BareFiles,
    GCSFS: Bare,
    OBSTORE: Adapter,
    OBSTORE_FILES: AdapterFiles,
    MLFLOW: MLflow,
    OLD: Old,
    RENAMED: Renamed,
    SYNCED: Synced,
    HASH: Hash,
    TENSORBOARD: TensorBoard,
    DVCLIVE: DVCLive,
    TRACKIO: Trackio,
    SACRED: Sacred,
    SIGNAC: Signac,
    WITHOUT_ARROW: WithoutArrow,
    ARROW: Arrow,
    POLARS: Polars,
    DUCKDB: DuckDB,
    PANDAS: Pandas,
    TABLES: Tables,
    MLFLOW_TABLE: MLflowTable,
    SIGNAC_TABLE: SignacTable,
    ONE_BY_ONE: OneByOne,
    SWEPT: Swept,
    SWEPT_LIGHTLY: SweptLightly,
    SWEPT_AGAIN: SweptAgain,
    SWEPT_BY_PROCESSES: SweptByProcesses,
    FUTURES: Futures,
    JOBLIB: Joblib,
    LONG_SERIES: LongSeries,
}
"""The contestants by name."""
