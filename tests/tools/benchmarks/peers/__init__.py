"""The contestants: each is a class with the same methods, by its name in the tables."""

from __future__ import annotations

from tests.tools.benchmarks.peers.bare import Adapter, AdapterFiles, Bare, BareFiles, Renamed
from tests.tools.benchmarks.peers.base import Peer, UnavailableError
from tests.tools.benchmarks.peers.others import MLflow, Old, Port
from tests.tools.benchmarks.peers.ours import InBackground, ManyAtOnce, Notata, Obstore, ObstoreInBackground

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
}
"""The contestants by name."""
