"""Record scientific runs as plain files, on a disk or in a bucket.

A run is a folder ``log_<run_id>`` on any storage that fsspec supports: a local disk, an S3 or GCS bucket, memory. The
same script writes the same folder on each of them::

    from notata import Logbook

    with Logbook("oscillator", "s3://bucket/outputs", params={"omega": 2.0}) as log:
        log.text("notes", "converged")           # artifacts/notes.txt
        log.json("metrics", {"energy": 0.5})     # artifacts/metrics.json
        log.pickle("model", model)               # artifacts/model.pkl
        log.bytes("weights.raw", b"...")         # artifacts/weights.raw
        log.scalars(step=120, loss=0.31)         # series/scalars.jsonl
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
    SweepError,
    TooLargeError,
    UnknownNameError,
    UnprotectedWarning,
    UnreachableError,
)
from notata.experiment import Experiment
from notata.logbook import Logbook
from notata.manifest import VerifyReport
from notata.mirror.places import MirrorStorage
from notata.provenance.failures import Caught
from notata.reader import ExperimentReader, LogReader
from notata.run.runlog import LogLine, RunLog
from notata.run.state import RunState
from notata.series import Series
from notata.store import Storage
from notata.worker import Worker

if TYPE_CHECKING:
    from notata import search as search
    from notata.capture.options import Capture
    from notata.mirror.tree import SyncReport, sync
    from notata.series.reading import SeriesData

__version__ = "1.0.0.dev0"

__all__ = [
    "AccessError",
    "BatchError",
    "Capture",
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
    "Series",
    "SeriesData",
    "Storage",
    "StorageError",
    "StoredNameError",
    "SweepError",
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


_LATE = {
    "Capture": "notata.capture.options",
    "SeriesData": "notata.series.reading",
    "SyncReport": "notata.mirror.tree",
    "search": "notata.search",
    "sync": "notata.mirror.tree",
}
"""Names that are imported on first use, as writing a run does not need them."""


def __getattr__(name: str) -> object:
    """Import a name of `_LATE`."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _importlib.import_module(_LATE[name])
    return module if name == "search" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})
