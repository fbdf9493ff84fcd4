"""Record scientific runs as plain files, on a disk or in a bucket.

A run is a folder ``log_<run_id>`` on any storage that fsspec supports: a local disk, an S3 or GCS bucket, memory. The
same script writes the same folder on each of them::

    from notata import Logbook

    with Logbook("oscillator", "s3://bucket/outputs", params={"omega": 2.0}) as log:
        log.text("notes", "converged")           # artifacts/notes.txt
        log.json("metrics", {"energy": 0.5})     # artifacts/metrics.json
        log.pickle("model", model)               # artifacts/model.pkl
        log.bytes("weights.raw", b"...")         # artifacts/weights.raw
        log["artifacts/debug/dump.txt"].write_text("...")
        log.info("energy drift %.1e", 3e-9)      # log.txt
"""

import importlib as _importlib
from typing import TYPE_CHECKING

from notata.errors import (
    AccessError,
    BatchError,
    ConfigurationError,
    ConflictError,
    ContainerMissingError,
    DamagedFileWarning,
    DeadlineError,
    DecodeError,
    EncodeError,
    ExistsError,
    FolderError,
    FullError,
    IncompleteListingWarning,
    KeyNameError,
    LinkError,
    MissingError,
    NotataError,
    PackageMissingError,
    RunDisplacedError,
    RunEndedError,
    RunExistsError,
    RunMissingError,
    StorageError,
    StoredNameError,
    TooLargeError,
    UnknownNameError,
    UnprotectedWarning,
    UnreachableError,
)
from notata.experiment import Experiment
from notata.logbook import Logbook
from notata.manifest import VerifyReport
from notata.mirror import MirrorStorage, SyncReport, sync
from notata.provenance.failures import Caught
from notata.reader import ExperimentReader, LogReader
from notata.run.runlog import LogLine, RunLog
from notata.run.state import RunState
from notata.store import Storage
from notata.worker import Worker

if TYPE_CHECKING:
    from notata import search as search

__version__ = "1.0.0.dev0"

__all__ = [
    "AccessError",
    "BatchError",
    "Caught",
    "ConfigurationError",
    "ConflictError",
    "ContainerMissingError",
    "DamagedFileWarning",
    "DeadlineError",
    "DecodeError",
    "EncodeError",
    "ExistsError",
    "Experiment",
    "ExperimentReader",
    "FolderError",
    "FullError",
    "IncompleteListingWarning",
    "KeyNameError",
    "LinkError",
    "LogLine",
    "LogReader",
    "Logbook",
    "MirrorStorage",
    "MissingError",
    "NotataError",
    "PackageMissingError",
    "RunDisplacedError",
    "RunEndedError",
    "RunExistsError",
    "RunLog",
    "RunMissingError",
    "RunState",
    "Storage",
    "StorageError",
    "StoredNameError",
    "SyncReport",
    "TooLargeError",
    "UnknownNameError",
    "UnprotectedWarning",
    "UnreachableError",
    "VerifyReport",
    "Worker",
    "__version__",
    "sync",
]


def __getattr__(name: str) -> object:
    """Import `notata.search` on first use; writing a run does not need it."""
    if name == "search":
        return _importlib.import_module("notata.search")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
