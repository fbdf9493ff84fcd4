"""Write to a run that another process owns: `Worker`, for ranks, pool processes and threads."""

from __future__ import annotations

import os
import pickle
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakValueDictionary

from notata import formats
from notata._base import exits, keys, limits
from notata._base.processes import ForkCheck, Lock
from notata._base.warn import warn
from notata.errors import (
    ConfigurationError,
    MissingError,
    RunDisplacedError,
    RunEndedError,
    RunMissingError,
)
from notata.growing import AppendThread
from notata.manifest import FileRecords, HashingBackend, SharedManifestWriter
from notata.provenance import failures
from notata.reader import LogReader
from notata.run.inherited import RUN, open_options, process_rank
from notata.run.inputs import InputRecords
from notata.run.inspection import Inspector
from notata.run.journal import Journal, RunLogger, level_of
from notata.run.monitor import SYSTEM, Monitor, interval_of
from notata.run.recorder import Recorder
from notata.run.state import ENDED, WORKERS, attempt_of, lease_of, metadata, parsed, state_of
from notata.series import SeriesWriters
from notata.store import Blob, Location, Store, open_store

if TYPE_CHECKING:
    from notata.store.appending import Appender
    from notata.store.stored_path import StoredPath

__all__ = ["Worker", "WorkerConfig"]


_unpickled_workers: WeakValueDictionary[tuple[str, WorkerConfig, bytes], Worker] = WeakValueDictionary()
"""The workers unpickled in this process. Each task of a pool unpickles its worker again, and shares the first one."""

_unpickled_lock = Lock()

_current: dict[tuple[str, str], Worker] = {}
"""The worker of this process in the run of its parent, by URL and rank; see `Worker.current`."""

_current_lock = Lock()


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """Settings of a worker, besides the location of its run.

    Attributes:
        rank: The name of the worker, unique in the run.
        level: The lowest level that is logged.
        manifest: Whether the worker stores a manifest.
        begun: The start time of the run, which distinguishes the run from a later one in the same folder.
        owner: The owner of the run, see `notata.manifest.Document.owner`.
    """

    rank: str
    level: int
    manifest: bool
    begun: str
    owner: str
    attempt: int = 0

    @classmethod
    def at(cls, fields: Mapping[str, Any], rank: str, level: int, manifest: bool) -> Self:
        """Return the settings for a run with these metadata fields."""
        owner = str(lease_of(fields).get("owner", ""))[:8]
        return cls(rank, level, manifest, _start_time(fields), owner, attempt_of(fields))


class Worker(Recorder):
    """A writer of a run that another process owns, such as an MPI rank, a torchrun rank, a pool process or a thread.

    A worker has the writers of a `Logbook`, and its own log ``workers/<rank>/log.txt``. It cannot end the run or keep
    it alive, and its failure does not fail the run. If an exception leaves its ``with`` block, the worker logs the
    traceback, and the exception propagates.

    Create a worker with `Logbook.worker`, or in any process and on any machine from the run's URL. A worker can be
    pickled, including the credentials of its storage, and sent to the processes of a pool. Safe to use from many
    threads.

    Attributes:
        rank: The given rank, as a string.
        run_id: The id of the run.
        url: The location of the run, without credentials.
        path: The run's folder.
        log_path: The path of ``workers/<rank>/log.txt``.
        reader: A reader of the run, for the files stored so far.
        logger: The `logging.Logger` that `info` and the other log methods use. It is in no registry of `logging`.
        handler: The `logging.Handler` that writes the log. Add it to your own loggers.

    Args:
        url: The run's folder, as in `Logbook.url`: any fsspec URL, local path or UPath.
        rank: A name that is unique among the workers of the run, such as the MPI rank: an int or a string, part of a
            folder name. A rank that is used again continues the same log.
        storage_options: Options for fsspec. They never appear in a file, message or repr.
        log_level: The lowest level written to the worker's log: a name or number of `logging`. The default is the
            environment variable NOTATA_LOG_LEVEL, else ``INFO``.
        manifest: Store ``workers/<rank>/manifest.json`` when the worker is closed: each file that it wrote, with its
            size and SHA-256. The run's manifest takes over the entries that are valid at the end.
        monitor: Seconds between two samples of this process and its machine, as for `Logbook`, until the worker is
            closed; True for 10 seconds. For ranks on other machines than the owner: the owner samples its own machine,
            and its child processes.

    Raises:
        RunMissingError: The run does not exist yet. Start its owner first.
        RunEndedError: The run has ended.
        KeyNameError: The rank cannot be part of a folder name on every backend.
        PackageMissingError: `monitor` is used, and psutil is not installed.
        StorageError: The run cannot be read or changed.

    Warns:
        UserWarning: The run is dead, so its owner will not end it.

    Cost: one request, and one more for the first worker of a run, unless `Logbook.worker` already sent it. In a bucket
    each process looks up the end of its log once, and stores its manifest with one request when it is closed.

    >>> from notata import Logbook
    >>> run = Logbook("shared", "memory://workers")
    >>> with Worker("memory://workers/log_shared", rank=3) as worker:
    ...     path = worker.json("metrics/3", {"loss": 0.1})
    ...     worker.info("done")
    >>> print(worker.log_path.read_text().rpartition("] ")[2], end="")
    INFO done
    >>> run.reader.load_json("metrics/3")
    {'loss': 0.1}
    """

    _used_in: ForkCheck | None  # the process that wrote last
    _monitor: Monitor | None

    def __init__(
        self,
        url: Location,
        rank: int | str,
        *,
        storage_options: Mapping[str, Any] | None = None,
        log_level: int | str | None = None,
        manifest: bool = True,
        monitor: bool | float | None = False,
    ) -> None:
        if manifest not in (True, False):
            raise ConfigurationError(f"invalid manifest {manifest!r}: pass True or False")
        name, level, interval = keys.worker(rank), level_of(log_level), interval_of(monitor)
        store = open_store(url, storage_options)
        fields, dead_reason = _register_worker(store)
        self._begin(store, WorkerConfig.at(fields, name, level, manifest))
        self.info("Worker %s attached to the run by process %d on %s", self.rank, os.getpid(), platform.node())
        if dead_reason:
            self.warning("The run is dead, so its owner will not end it: %s", dead_reason)
        if interval is not None:
            self._start_monitor(interval)

    def _start_monitor(self, interval: float) -> None:
        self._used_in = ForkCheck()
        exits.at_exit(self._at_exit)  # also keeps this object alive until it is closed
        self._monitor = Monitor.started(interval, self.path, add=self._series[SYSTEM].add, warn=self.warning)

    def _begin(self, store: Store, config: WorkerConfig) -> None:
        self._plain, self._config = store, config
        self._run = _Run(store, config.begun)
        self._used_in = self._monitor = None

        def used() -> None:
            """Keep this object until it is closed. Pending lines keep it too, as their appender has this function."""
            self._used_in = ForkCheck()
            exits.at_exit(self._at_exit)

        hashing = HashingBackend(store.backend) if config.manifest else None
        if hashing is not None:
            hashing.records.on_change = used
        self._store = store if hashing is None else Store(hashing, store.progress)
        self._manifest = None if hashing is None else self._manifest_writer(hashing.records)
        thread = AppendThread()
        self.handler = Journal(
            _LazyAppender(self._store, keys.worker_file(config.rank, keys.LOG), used),
            at_once=store.is_local,
            level=config.level,
            redact=store.redacted,
            is_owner=self._run.is_there,
            is_displaced=self._run.is_gone,
            thread=thread,
        )
        self.logger = RunLogger("notata", config.level)
        self.logger.addHandler(self.handler)
        own_store = self._store
        self._inputs = InputRecords(own_store, keys.worker_file(config.rank, keys.INPUTS))
        self._inspector = Inspector(store.url)
        self._series = SeriesWriters(
            own_store,
            thread,
            appender=lambda key: _LazyAppender(own_store, key, used),
            rank=config.rank,
            attempt=config.attempt,
            continues=True,
            is_owner=self._run.is_there,
            check=self._run.check,
            warn=self.logger.warning,
        )

    def _manifest_writer(self, records: FileRecords) -> SharedManifestWriter:
        """Return the writer of the manifest."""
        return SharedManifestWriter(
            self._store, records, keys.worker_file(self.rank, keys.MANIFEST), self.run_id, self._config.owner
        )

    @classmethod
    def _of(cls, store: Store, config: WorkerConfig) -> Self:
        """Return a worker with these settings, without a request."""
        self = cls.__new__(cls)
        self._begin(store, config)
        return self

    @classmethod
    def current(cls) -> Worker | None:
        """Return a worker of the run that this process belongs to; None if it belongs to none.

        A process belongs to the run in its environment variable NOTATA_RUN, which ``notata run`` sets for the program
        and its child processes. The rank is that of MPI or Slurm, or else made from the host and the process id. Each
        call in a process returns the same object, which is closed at exit.

        Raises:
            RunEndedError: The run has ended, so the variable is out of date.
            StorageError: The run cannot be read or changed.

        Cost: as `Worker`, for the first call of a process.

        >>> Worker.current() is None
        True
        """
        url = os.environ.get(RUN)
        if not url:
            return None
        key = (url, process_rank())
        with _current_lock.held():
            worker = _current.get(key)
            if worker is None:
                worker = _current[key] = cls(url, key[1], storage_options=open_options(os.environ) or None)
        return worker

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self._plain, self._config)

    def __repr__(self) -> str:
        return f"Worker({self.url!r}, {self.rank!r})"

    def _repr_html_(self) -> str:
        """Return the values over time of this worker as HTML for a notebook.

        Nothing is flushed or waited for. Cost: a look-up and a read of one series, if it has at most 8 MiB.
        """
        from notata.reader.notebook import live_page

        written = self._series.known_summaries()
        return live_page(f"worker {self.rank} of run {self.run_id}", self._plain, {}, written, rank=self.rank)

    @property
    def rank(self) -> str:
        """The name of this worker, unique in the run."""
        return self._config.rank

    @property
    def run_id(self) -> str:
        """The id of the run, from the name of its folder."""
        return keys.run_id(self.url)

    @property
    def log_path(self) -> StoredPath:
        """The path of ``workers/<rank>/log.txt``. In a bucket the file may lag some seconds behind."""
        return self._store.path_for(keys.worker_file(self.rank, keys.LOG))

    @property
    def reader(self) -> LogReader:
        """Return a reader of the run, for all files stored so far, from any writer. No request.

        >>> from notata import Logbook
        >>> worker = Logbook("read", "memory://workers", params={"omega": 2.0}).worker(0)
        >>> worker.reader.params["omega"]
        2.0
        """
        return LogReader._of(self._store)

    def _check(self) -> None:
        self._run.check()

    # -- end -----------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Store the pending log lines. In a bucket, one request for a small log, some for a large one.

        Raises:
            StorageError: The storage refused. The lines stay pending and are retried.

        >>> from notata import Logbook
        >>> worker = Logbook("flushed", "memory://workers").worker(0)
        >>> worker.flush()
        """
        try:
            self._series.flush()
        finally:
            self.handler.flush()

    def close(self) -> None:
        """Store pending lines and the manifest, close the log file, and end `monitor`.

        The end of a ``with`` block and the end of the script close the worker, too. A closed worker can still write;
        close it again afterwards.

        Raises:
            RunDisplacedError: The run was replaced by another run.
            StorageError: The storage refused. Call again.

        >>> from notata import Logbook
        >>> worker = Logbook("closed", "memory://workers").worker(0)
        >>> worker.close()
        """
        if self._monitor is not None:
            self._monitor.finish()
        self._series.flush()
        self.handler.flush()
        self._series.close()
        self.handler.close()
        if self._manifest is not None and self._is_used_here():
            if self._store.is_local and self._manifest.is_outdated:  # the check is free there, and was not made before
                self._run.is_there()
            self._run.check()
            self._manifest.write()
        exits.forget(self._at_exit)

    def _at_exit(self) -> None:
        if self._is_used_here():  # else the parent process does it
            self.close()

    def _is_used_here(self) -> bool:
        """Check whether this process wrote, and not only a parent."""
        return self._used_in is not None and not self._used_in.is_forked()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
            return
        if not isinstance(error, SystemExit) or error.code:
            reason = failures.shortened(self._store.redacted(failures.reason(error)))
            self.error("Worker %s failed: %s", self.rank, reason, exc_info=error)
        try:
            self.close()
        except Exception as failure:
            error.add_note(f"notata: while worker {self.rank} was closed: {type(failure).__name__}: {failure}")


class _Run:
    """The run that a worker writes to; it detects that the run was replaced by another one."""

    __slots__ = ("_gone", "_store", "start")

    def __init__(self, store: Store, start: str) -> None:
        self._store = store
        self._gone = False
        self.start = start

    def is_gone(self) -> bool:
        """Check whether the run is known to be replaced or removed. No request."""
        return self._gone

    def is_there(self) -> bool:
        """Check in the storage whether the run is still the same one. One request."""
        try:
            found = self._store.fetch(keys.METADATA)
        except MissingError:
            self._gone = True
        else:
            self._gone = _start_time(parsed(found.data) or {}) != self.start
        return not self._gone

    def check(self) -> None:
        """Raise an error if the run is known to be replaced or removed."""
        if self._gone:
            raise RunDisplacedError(
                f"cannot write to the run at {self._store.url}: it was removed or replaced by another run. Create a "
                "new worker for that run",
                url=self._store.url,
                key=keys.METADATA,
            )


class _LazyAppender:
    """An appender that looks up the end of its log at the first line, as most copies of a worker never write one.

    Its size counts from that position.
    """

    __slots__ = ("_begun_at", "_end", "_key", "_store", "_used")

    def __init__(self, store: Store, key: str, used: Callable[[], object]) -> None:
        self._store = store
        self._key = key
        self._used = used
        self._end: Appender | None = None
        self._begun_at = 0

    @property
    def size(self) -> int:
        return 0 if self._end is None else self._end.size - self._begun_at

    @property
    def again(self) -> int:
        return 0 if self._end is None else self._end.again

    def append(self, data: bytes) -> None:
        if self._end is None:
            end = self._store.appender(self._key, end=b"\n")
            self._begun_at, self._end = end.size, end
        self._used()
        self._end.append(data)

    def close(self) -> None:
        if self._end is not None:
            self._end.close()


def _unpickled(store: Store, config: WorkerConfig) -> Worker:
    """Return the worker of a pickle: the one unpickled before, if it is still in use."""
    key = (store.url, config, pickle.dumps(store))
    with _unpickled_lock.held():
        worker = _unpickled_workers.get(key)
        if worker is None:
            worker = _unpickled_workers[key] = Worker._of(store, config)
        return worker


def _register_worker(store: Store) -> tuple[dict[str, Any], str]:
    """Set the field `workers` in metadata.json by compare-and-swap; the owner stays the same.

    Returns:
        The fields of metadata.json, and the reason why the run is dead; empty if it is not.
    """
    fields: dict[str, Any] = {}
    dead_reason = ""

    def with_workers(found: Blob | None) -> bytes | None:
        nonlocal fields, dead_reason
        found = _existing(store, found)
        fields = metadata(found, store.url, keys.METADATA)
        dead_reason = _check_alive(store, fields, found)
        if fields.get(WORKERS) is True or not store.supports_cas:
            return None
        fields = {**fields, WORKERS: True}
        return limits.check_stored(formats.encode(formats.Json("metadata"), fields), keys.METADATA, store.url)

    store.modify(keys.METADATA, with_workers)
    return fields, dead_reason


def _existing(store: Store, found: Blob | None) -> Blob:
    if found is None:
        raise RunMissingError(
            f"cannot attach a worker to {store.url}: there is no {keys.METADATA}, so it is not a run. Pass the url of "
            "a Logbook that has started",
            url=store.url,
            key=keys.METADATA,
        )
    return found


def _check_alive(store: Store, fields: Mapping[str, Any], found: Blob) -> str:
    """Return why the run is dead, or an empty string; raise an error if the run has ended."""
    state = state_of(fields, found)
    if state.status in ENDED or state.status == "replacing":
        what = "is being replaced" if state.status == "replacing" else "has ended"
        raise RunEndedError(
            f"cannot attach a worker to the run at {store.url}: it {what} ({state.why}). Resume the run first",
            url=store.url,
            key=keys.METADATA,
        )
    if state.status != "died":
        return ""
    warn(f"the run at {store.url} is dead, so its owner will not end it: {state.why}")
    return state.why


def _start_time(fields: Mapping[str, Any]) -> str:
    """Return the start time, which distinguishes a run from a later one in the same folder."""
    return str(fields.get("start_time", ""))
