"""The contestants: each is a class with the same methods, by its name in the tables."""

from __future__ import annotations

from tests.tools.benchmarks.peers.bare import Adapter, AdapterFiles, Bare, BareFiles, Renamed
from tests.tools.benchmarks.peers.base import Peer, UnavailableError
from tests.tools.benchmarks.peers.others import DVCLive, MLflow, Old, Port, TensorBoard, Trackio
from tests.tools.benchmarks.peers.ours import InBackground, ManyAtOnce, Notata, Obstore, ObstoreInBackground
from tests.tools.benchmarks.peers.readers import Arrow, DuckDB, Pandas, Polars, WithoutArrow

__all__ = ["PEERS", "Peer", "UnavailableError"]

OURS = "notata"
ENGINE = "notata, engine obstore"
BACKGROUND = "notata, background"
ENGINE_BACKGROUND = "notata, background, engine obstore"
WRITE_MANY = "notata, write_many"
PORT = "0.3.0 ported to UPath"
S3FS, S3FS_FILES = "s3fs", "s3fs, put_file"
GCSFS = "gcsfs"
OBSTORE, OBSTORE_FILES = "obstore", "obstore, put_file"
MLFLOW = "MLflow"
OLD = "notata 0.3.0"
RENAMED = "write and rename"
TENSORBOARD, DVCLIVE, TRACKIO = "TensorBoard (tensorboardX)", "DVCLive", "trackio"
WITHOUT_ARROW = "notata, without pyarrow"
ARROW, POLARS, DUCKDB, PANDAS = "pyarrow", "polars", "DuckDB", "pandas"

PEERS: dict[str, type[Peer]] = {
    OURS: Notata,
    ENGINE: Obstore,
    BACKGROUND: InBackground,
    ENGINE_BACKGROUND: ObstoreInBackground,
    WRITE_MANY: ManyAtOnce,
    PORT: Port,
    S3FS: Bare,
    S3FS_FILES: BareFiles,
    GCSFS: Bare,
    OBSTORE: Adapter,
    OBSTORE_FILES: AdapterFiles,
    MLFLOW: MLflow,
    OLD: Old,
    RENAMED: Renamed,
    TENSORBOARD: TensorBoard,
    DVCLIVE: DVCLive,
    TRACKIO: Trackio,
    WITHOUT_ARROW: WithoutArrow,
    ARROW: Arrow,
    POLARS: Polars,
    DUCKDB: DuckDB,
    PANDAS: Pandas,
}
"""The contestants by name."""
