"""Write one run: `Logbook`, its start, its status and its end."""

from __future__ import annotations

import logging
import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Never, NoReturn, Self, TypeAlias, cast, overload
from weakref import WeakSet

from notata import formats
from notata._base import exits, keys, times
from notata._base.display import duration
from notata._base.prepared import one_line
from notata._base.secrets import refresh
from notata._base.terminal import safe, show
from notata._base.warn import warn
from notata.errors import (
    BatchError,
    ConfigurationError,
    EncodeError,
    IncompleteListingWarning,
    NotataError,
    RunDisplacedError,
    RunEndedError,
    RunExistsError,
    StorageError,
    Terminated,
)
from notata.growing import AppendThread, GrowingFile, Overflow
from notata.manifest import ManifestWriter
from notata.mirror.places import copy_of, exit_timeout
from notata.provenance import failures
from notata.provenance.code import Extent
from notata.provenance.environment import RunEnvironment, environment_of_run, imported_packages
from notata.provenance.failures import Caught
from notata.reader import LogReader
from notata.run.code_files import CodeFiles, changed_code
from notata.run.ending import End, Ending, EndingPlan, FailureFiles, FinalStatus
from notata.run.inputs import InputRecords
from notata.run.inspection import Inspector
from notata.run.journal import Journal, RunLogger, level_of
from notata.run.lease import Lease
from notata.run.monitor import SYSTEM, Monitor, interval_of
from notata.run.parameters import Parameters, encoded, named
from notata.run.recorder import Recorder
from notata.run.redirection import ORIGIN, redirected
from notata.run.state import (
    ENDED,
    MIRROR,
    OWN_FIELDS,
    PARENT,
    RESUMES,
    ROW,
    SUMMARY,
    WORKERS,
    RunState,
    attempt_of,
    previous_runtime,
    resumed_fields,
)
from notata.run.storage import RunStorage
from notata.run.values import Values, row_field
from notata.series import SeriesWriters
from notata.store import Backend, Location, Storage, Store, open_store
from notata.worker import Worker, WorkerConfig

if TYPE_CHECKING:
    from notata.capture import Capture, Output, SeriesPattern
    from notata.capture.descriptors import Capturing
    from notata.mirror.live import Mirror
    from notata.store.stored_path import StoredPath

__all__ = ["Logbook"]

CODE: Final = "NOTATA_CODE"
"""Environment variable that switches off `code`, if it is ``0``."""

Callback: TypeAlias = Callable[["Logbook"], object]

_REFUSED: Final[Mapping[bool | str, tuple[str, ...]]] = {"unfinished": ("complete",), "died": ENDED}
"""Values of `resume`, and the statuses of runs that they refuse."""

_NAMED: Final = 20  # remaining files of an earlier run that get a warning each


class Logbook(Recorder):
    """The record of one run: a folder ``log_<run_id>`` on any storage.

    Creating the object claims the run id. If several processes request the same id, exactly one succeeds.

    As a context manager, the run ends as ``complete``, or as ``failed`` if an exception leaves the block. That
    includes KeyboardInterrupt and ``sys.exit(3)``. ``sys.exit(0)`` counts as success, unless a signal handler calls
    it. If the interpreter ends before the run does, the run is marked ``failed``; the exception that ended the script
    becomes the reason. Safe to use from many threads.

    Attributes:
        run_id: The given id as a string, or the generated id.
        url: The location of the run, without credentials.
        path: The run's folder, a `pathlib.Path` on a local disk and a `upath.UPath` on any storage.
        log_path: The path of ``log.txt``.
        params: The parameters.
        reader: A reader of this run, for the files written so far.
        logger: The `logging.Logger` that `info` and the other log methods use. It is in no registry of `logging`.
        handler: The `logging.Handler` that writes log.txt. Add it to your own loggers.
        datadir: The folder ``data/``.
        plotdir: The folder ``plots/``.
        artifactsdir: The folder ``artifacts/``.
        callback: The function called after the run has ended.
        mirror: The copy that follows the run; None without ``mirror=``.

    Args:
        run_id: A string or an int without ``/``; it becomes part of a folder name. By default, notata generates an id
            that sorts by time, from the UTC time and a random part: ``2026-11-22T19-50-03.123Z-4f2a9c``.
        base_dir: The folder that contains the runs: any fsspec URL (``s3://bucket/outputs``), local path or UPath. The
            default is the environment variable NOTATA_BASE_DIR, else ``outputs``. For a time limit of requests, fsync
            or progress bars, pass a `Storage`.
        params: Parameters to save as ``params.yaml`` at the start: a mapping, or an object with named values, such as
            the namespace of `argparse`, a dataclass, an attrs class or a pydantic model.
        overwrite: Remove an existing run with this id, including all its files, and start over. A run that a living
            parent process is writing is refused, and so is a pinned one (`notata.search.pin`).
        preallocate: Create ``data/``, ``plots/`` and ``artifacts/`` at the start. A bucket has no folders.
        callback: A function that is called with this object after the final status is stored.
        resume: Resume the run with this id and keep all its files, if it has ended or died; create it if it does not
            exist. A running run is refused. If several processes try at once, exactly one succeeds. A complete run is
            reopened and ends with the status of this attempt; ``"unfinished"`` refuses it instead, and ``"died"``
            refuses a failed run, too. ``"force"`` also resumes a run if it is unknown whether it is running.
        heartbeat: Seconds between two heartbeats, each of which is a small request; 0 for none. The default is 30 if
            other processes can see the run and the storage supports compare-and-swap (local disk, S3, GCS), else none.
        environment: Record interpreter, machine, process, job, packages and git commit in metadata.json. Packages
            imported later are added at the end. Environment variables are never recorded, except for the facts of the
            job from a fixed list, such as SLURM_JOB_ID.
        log_level: The lowest level written to log.txt: a name or number of `logging`. The default is the environment
            variable NOTATA_LOG_LEVEL, else ``INFO``.
        echo: Print the location of the run and each line of log.txt to standard error, too.
        handle_sigterm: Turn SIGTERM into an exception in the main thread, so that the run ends ``failed: SIGTERM``.
        failure_variables: Also record the local variables of each frame of a failure, shortened. They may contain
            secrets.
        background: Return from writers once the value is encoded and queued, and store it in the background. Failed
            writes raise a `BatchError` at the next writer, at `flush` or at the end; the run is then not complete. At
            most 64 MiB are pending, or the number of bytes that is given instead of True. If the queue is full, writers
            wait.
        mirror: A base folder, any fsspec URL, local path or UPath, that a copy of the run is written to; `base_dir`
            must be a local disk or in memory. The run does not wait for the copy or fail because of it; `notata sync`
            completes the copy. For storage options, or another time limit at exit than 60 seconds, pass a
            `MirrorStorage`.
        storage_options: Options for fsspec, such as ``{"endpoint_url": …}``. They never appear in a file, message or
            repr.
        manifest: Store ``manifest.json`` at the end: each file with its size and SHA-256, for `LogReader.verify`.
        monitor: Seconds between two samples of processor, memory, disk, network and GPUs, which a thread adds to
            ``series/system.jsonl``; True for 10 seconds. The first sample is taken at the start, the last one at the
            end. Needs the extra ``system``.
        parent: The run that this one continues, varies or analyses: a `Logbook`, a `LogReader`, its URL or its path.
            metadata.json gets its URL in the field `parent`. notata does not read that run.
        code: Store the changes of the checkout against its commit (``code/diff.patch``), its untracked files
            (``code/untracked.json``) and the installed packages (``code/packages.txt``), with secrets redacted. By
            default True; in an `Experiment`, only changes and untracked files of a checkout with changes. The
            environment variable NOTATA_CODE=0 makes the default False.
        capture: Record what this process, its C libraries and its child processes print in ``output.txt``, and still
            show it; not on Windows. For values that patterns find in it, pass a `Capture`.

    Raises:
        RunExistsError: A run with this id already exists. It is a `FileExistsError`; its `status` and `reader` belong
            to the existing run.
        KeyNameError: The id cannot be part of a folder name on every backend.
        ConfigurationError: `base_dir` cannot contain runs, or an argument is invalid.
        EncodeError: A parameter has no YAML form; nothing was written.
        PackageMissingError: `monitor` is used, and psutil is not installed; nothing was written.
        StorageError: The storage cannot be reached or written. The subclass and message state the reason and the
            solution.

    Cost on a bucket: one request to claim a run, and one for `params`. Outside of Amazon S3, the first run of a process
    in a bucket needs one more, to test conditional writes. Resuming a run takes four requests, and one or two for
    `params`. Overwriting a run takes five, the deletions, and one for `params`.

    >>> with Logbook("oscillator", "memory://outputs", params={"omega": 2.0}) as run:
    ...     path = run.json("metrics", {"energy": 0.5})
    >>> run.status, path.name
    ('complete', 'metrics.json')
    """

    _code_extent: ClassVar[Extent] = "all"

    def __init__(
        self,
        run_id: str | int | None = None,
        base_dir: Location | None = None,
        params: Mapping[str, Any] | object | None = None,
        overwrite: bool = False,
        preallocate: bool = False,
        callback: Callback | None = None,
        *,
        resume: bool | Literal["force", "unfinished", "died"] = False,
        heartbeat: float | None = None,
        environment: bool = True,
        log_level: int | str | None = None,
        echo: bool = False,
        handle_sigterm: bool = False,
        failure_variables: bool = False,
        background: bool | int = False,
        mirror: Location | None = None,
        storage_options: Mapping[str, Any] | None = None,
        manifest: bool = True,
        monitor: bool | float | None = False,
        capture: bool | Capture = False,
        parent: Logbook | LogReader | Location | None = None,
        code: bool | None = None,
    ) -> None:
        _check_arguments(callback, overwrite=overwrite, resume=resume)
        _check_switches(manifest=manifest, echo=echo)
        level, interval = level_of(log_level), interval_of(monitor)
        captured = None if capture is False else _capture_of(capture)
        extent = _extent(code, self._code_extent, environment=environment)
        given = named(params)
        self._origin: Mapping[str, Any] = {}
        self._redirection = redirection = redirected(run_id)
        parent_url = None if parent is None else _url_of(parent if redirection is None else redirection.find(parent))
        if redirection is not None:  # by notata rerun
            run_id, self._origin = redirection.new, redirection.origin
            base_dir, storage_options = redirection.place(base_dir, storage_options)
        self.run_id = _generate_run_id() if run_id is None else str(run_id)
        self.callback = callback
        folder = keys.run_folder(self.run_id)
        storage = RunStorage.of(
            base_dir,
            storage_options,
            folder,
            manifest=manifest,
            background=background,
            check=self._check,
            lost=self._log_lost,
        )
        self._store, self._plain, self._queue = storage.store, storage.plain, storage.queue
        copy = copy_of(storage.plain, mirror, folder)
        self._redact = _redactor_of(storage.plain, copy)
        content = encoded(self._store, given) if given else b""  # refuse invalid values before anything is written
        self._lease = Lease(storage.direct, self.run_id, heartbeat)
        self._start, self._previous_runtime = time.monotonic(), 0.0
        self._ending = Ending()
        self._failure_files = FailureFiles(self._store, self._redact, variables=failure_variables)
        self._append_thread = AppendThread()
        self._attached: list[logging.Logger] = []
        self._workers: WeakSet[Worker] = WeakSet()
        self._sigterm = exits.Sigterm() if handle_sigterm else None
        self._replaced = False
        self._row_before: Mapping[str, Any] = {}  # of the attempt before
        self._code_before: Mapping[str, Any] = {}  # what differs from the attempt before
        self._mirror: Mirror | None = None
        self._monitor: Monitor | None = None
        self._output: Output | None = None
        self._capturing: Capturing | None = None
        try:
            now = self._environment(extent) if environment else None
            before = self._claim(now, overwrite, resume, copy, parent_url)
            self._code = CodeFiles(storage.direct, {} if now is None else now.files, self.info, self.warning)
            self._manifest = self._manifest_writer(storage, before) if manifest else None
            self._begin(before, storage.direct, level, given, content, preallocate=preallocate, echo=echo)
            receipt = storage.records.receipt if self._manifest is None else self._manifest.receipt
            self._values = Values(self._store, storage.records, self._params, self._row_before, receipt)
            if copy is not None:
                self._start_mirror(storage.plain, copy, overwrite, exit_timeout(mirror))
            if interval is not None:
                self._start_monitor(interval)
            if captured is not None:
                self._start_capture(captured, before)
        except BaseException:
            self._stop_capture()
            self._release()
            self._remove_sigterm()
            raise

    def _new_inspector(self) -> Inspector:
        """Return the inspector of the inputs; in a rerun, one that also finds files that only the checkout has."""
        return Inspector(self.url) if self._redirection is None else Inspector(self.url, self._redirection.find)

    def _manifest_writer(self, storage: RunStorage, before: RunState | None) -> ManifestWriter:
        """Return the writer of the manifest."""
        return ManifestWriter(
            storage.direct,
            storage.records,
            self.run_id,
            self._lease.owner,
            check=self._check,
            is_owner=self._lease.is_owner,
            resumed=before is not None,
            workers=lambda: self._lease.fields.get(WORKERS) is True,
            skipped=self._log_skipped,
        )

    def _remove_abandoned(self) -> None:
        """Remove unfinished writes of earlier writers of this run that were killed."""
        try:
            removed = self._plain.remove_abandoned()
        except (BatchError, StorageError) as failure:
            self.warning("Unfinished writes of earlier attempts were not removed: %s", safe(str(failure)))
            return
        if removed:
            size = sum(max(0, entry.size) for entry in removed)
            self.info("Removed unfinished writes of ended processes: %d writes, %d bytes", len(removed), size)

    def _warn_unremoved(self) -> None:
        """Warn about files of the earlier run that could not be removed."""
        for error in self._lease.unremoved.errors(self.url)[-_NAMED:]:
            text = f"a file of the earlier run {self.run_id!r} was not removed: {safe(str(error))}"
            self.warning("%s", text)
            warn(text, IncompleteListingWarning)

    def _log_skipped(self, error: StorageError) -> None:
        self.warning("Not in the manifest: %s", safe(str(error)))
        with suppress(StorageError):  # earlier lines are already stored
            self.handler.flush()

    def _log_lost(self, key: str, error: NotataError) -> None:
        self.error("Lost %s: %s", key, error)

    def _start_mirror(self, source: Store, target: Store, overwrite: bool, timeout: float) -> None:
        """Start copying the run in a thread."""
        from notata.mirror.live import Mirror

        self._mirror = Mirror(source, target, self.run_id, replace=overwrite, timeout=timeout, log_line=self.logger.log)
        self._mirror.begin()

    def _start_monitor(self, interval: float) -> None:
        """Start to sample the system in a thread."""
        self._monitor = Monitor.started(interval, self.path, add=self._series[SYSTEM].add, warn=self.warning)

    def _start_capture(self, options: Capture, before: RunState | None) -> None:
        """Start to record what this process prints. A resumed run first gets what a killed attempt printed last."""
        from notata.capture.descriptors import Capturing
        from notata.capture.spool import forget, recovered

        output = self._open_output(options.patterns)
        if before is None:
            forget(self.url)
        elif count := sum(map(output.take, recovered(self.url))):
            self.info("Recovered %d bytes of output that the previous attempt did not store", count)
        self._capturing = Capturing(output, self.url)
        exits.at_exit(self._stop_capture)

    def _stop_capture(self) -> None:
        """Restore the file descriptors, if no other run captures."""
        if self._capturing is not None:
            self._capturing.stop()
            exits.forget(self._stop_capture)

    def _claim(
        self,
        environment: RunEnvironment | None,
        overwrite: bool,
        resume: bool | str,
        copy: Store | None,
        parent: str | None,
    ) -> RunState | None:
        """Claim, replace or resume the run. Return its previous state if it was resumed."""
        fields: dict[str, Any] = {"run_id": self.run_id, "status": "initialized", "start_time": times.now()}
        if copy is not None:
            fields[MIRROR] = copy.url
        if parent is not None:
            fields[PARENT] = parent
        if self._origin:
            fields[ORIGIN] = self._origin
        if environment is not None:
            fields["environment"] = environment.fields
        fields |= self._first_fields()
        try:
            if overwrite:
                self._replaced = self._lease.replace(fields)
            elif resume:
                return self._lease.resume(
                    fields, self._resumed_fields, force=resume == "force", refused=_REFUSED.get(resume, ())
                )
            else:
                self._lease.claim(fields)
        except RunExistsError as error:
            error.reader = LogReader._of(self._plain)
            raise
        return None

    def _environment(self, extent: Extent) -> RunEnvironment:
        """Return the environment, with so much of the code; a hook for subclasses."""
        return environment_of_run(self._redact, extent)

    def _first_fields(self) -> Mapping[str, Any]:
        """Return more fields for metadata.json, stored with the claim; a hook for subclasses."""
        return {}

    def _resumed_fields(self, fresh: Mapping[str, Any], old: Mapping[str, Any], state: RunState) -> Mapping[str, Any]:
        """Return the metadata of a resumed run, and keep what is removed until the run ends again."""
        self._row_before, self._code_before = row_field(old), changed_code(old, fresh)
        fields = resumed_fields(fresh, old, state)
        if self._code_before:
            fields[RESUMES][-1]["code"] = self._code_before
        return fields

    def _begin(
        self,
        before: RunState | None,
        direct: Store,
        level: int,
        params: Mapping[str, Any],
        content: bytes,
        *,
        preallocate: bool,
        echo: bool,
    ) -> None:
        """Open the log, and write the parameters, with this content of their file, and folders."""
        try:
            self._previous_runtime = previous_runtime(self._lease.fields)
            if echo:
                show(f"notata: run {self.run_id!r} at {self.url}")
            self._open_log(before, direct, level, echo)
            self._open_series(before, direct)
            self._code.begin(self._code_before, attempt_of(self._lease.fields) - 1)
            self._inputs, self._inspector = InputRecords(direct, new=before is None), self._new_inspector()
            self._output_end = partial(direct.appender, keys.OUTPUT, new=before is None, end=b"\n")
            if before is not None and (self._store.is_local or before.status not in ENDED):
                self._remove_abandoned()
            self._params = Parameters(
                self._store, self._check, self.logger.log, self._on_params_stored, new=before is None
            )
            if params:
                self._params.begin(params, content)
            if preallocate:
                self._store.make_folders((keys.DATA, keys.PLOTS, keys.ARTIFACTS))
            self._lease.keep_alive()
            exits.at_exit(self._at_exit)
        except BaseException as error:
            with suppress(Exception):  # no caller gets this run, so mark it failed
                reason = failures.shortened(self._failure_files.reason(error))
                self._lease.end("failed", end_time=times.now(), failure_reason=reason)
            raise

    def _open_series(self, before: RunState | None, direct: Store) -> None:
        self._series = SeriesWriters(
            direct,
            self._append_thread,
            appender=lambda key: direct.appender(key, new=before is None, end=b"\n"),
            attempt=attempt_of(self._lease.fields),
            continues=before is not None,
            is_owner=self._lease.is_owner,
            check=self._check,
            warn=self.warning,
        )
        self._lease.beat_fields = self._summary_field

    def _open_log(self, before: RunState | None, direct: Store, level: int, echo: bool) -> None:
        self.handler = Journal(
            direct.appender(keys.LOG, new=before is None, end=b"\n"),
            at_once=self._store.is_local,
            level=level,
            redact=self._redact,
            is_owner=self._lease.is_owner,
            is_displaced=lambda: self._lease.displaced,
            show=show if echo else bool,
            thread=self._append_thread,
        )
        self.logger = RunLogger("notata", level)
        self.logger.addHandler(self.handler)
        if before is not None:
            self.info("Logbook resumed by owner %s; before: %s (%s)", self._lease.owner, before.status, before.why)
        elif self._replaced:
            self.info("Logbook initialized in place of an earlier run (owner %s)", self._lease.owner)
            self._warn_unremoved()
        else:
            self.info("Logbook initialized")
            return
        # Flush, so that a previous owner that is still writing detects that it has lost the log. The owner's name
        # makes these bytes unique: on S3, equal bytes have the same version.
        self.handler.flush()

    def _open_output(
        self, patterns: Sequence[SeriesPattern] = (), sink: Callable[[bytes], object] | None = None
    ) -> Output:
        """Return the object that takes the output of a program and keeps it in output.txt. The end of the run ends it.

        Args:
            patterns: What to find in the output; each match becomes a row of a series.
            sink: Gets all bytes as they come, such as the terminal.

        Cost: in a resumed run, one request.
        """
        from notata.capture import Output

        file = GrowingFile(
            self._output_end(),
            keys.OUTPUT,
            at_once=self._store.is_local,
            is_owner=self._lease.is_owner,
            overflow=None if self._store.is_local else Overflow(),
            in_pieces=self._store.backend.appends_pieces,
        )  # with a thread of its own, so that a large append does not delay the log

        def add(name: str, values: dict[str, Any], step: int | None) -> None:
            self._series[name].add_row(values, step, {})

        self._output = Output(
            file,
            redact=self._redact,
            patterns=patterns,
            add=add,
            warn=self.warning,
            sink=sink,
            is_displaced=lambda: self._lease.displaced,
        )
        return self._output

    def __repr__(self) -> str:
        return f"Logbook({self.run_id!r}, {self.url!r}, status={self.status!r})"

    def _repr_html_(self) -> str:
        """Return the run as HTML for a notebook: state, parameters, and values over time.

        Nothing is flushed or waited for: the summaries include all rows, the curves only those that are stored. Cost: a
        look-up and a read of one series, if it has at most 8 MiB, and in a resumed run those of the parameters.
        """
        from notata.reader.notebook import live_page

        status = self.status if self.status in ENDED else "running"
        reason = self._lease.fields.get("failure_reason") if status == "failed" else ""
        facts = {"status": (status, reason), "took": duration(self.elapsed)}
        written = self._series.known_summaries()
        return live_page(f"run {self.run_id}", self._plain, facts, written, params=self._params.known)

    # -- locations -----------------------------------------------------------------------------------------

    @property
    def log_path(self) -> StoredPath:
        """The path of ``log.txt``. In a bucket the file may lag some seconds behind; `flush` makes it current."""
        return self._store.path_for(keys.LOG)

    @property
    def datadir(self) -> StoredPath:
        """The folder ``data/`` of the run."""
        return self._store.path_for(keys.DATA)

    @property
    def plotdir(self) -> StoredPath:
        """The folder ``plots/`` of the run."""
        return self._store.path_for(keys.PLOTS)

    @property
    def artifactsdir(self) -> StoredPath:
        """The folder ``artifacts/`` of the run."""
        return self._store.path_for(keys.ARTIFACTS)

    def attach(self, logger: str | logging.Logger | None = None) -> None:
        """Write the records of a logger to log.txt, until the run ends. Then the handler is removed from the logger.

        The logger's own level decides which records are produced. The level of log.txt then filters them.

        Args:
            logger: The logger or its name; by default the root logger, which receives the records of all loggers.

        Raises:
            RunEndedError: The run has ended.

        >>> import logging
        >>> log.attach("solver")
        >>> logging.getLogger("solver").warning("stiff")
        >>> log.log_path.read_text().splitlines()[-1].partition("] ")[2]
        'WARNING solver: stiff'
        """
        target = logger if isinstance(logger, logging.Logger) else logging.getLogger(logger)
        if self.status in ENDED:
            raise RunEndedError(
                f"cannot attach a logger to run {self.run_id!r}: it has ended. Attach loggers before the end, or "
                "resume the run",
                url=self.url,
            )
        if self.handler not in target.handlers:
            target.addHandler(self.handler)
            self._attached.append(target)

    @property
    def reader(self) -> LogReader:
        """Return a reader of this run, for the files written so far. The log is flushed first.

        >>> path = log.json("so_far", {"loss": 0.5})
        >>> log.reader.load_json("so_far")
        {'loss': 0.5}
        """
        with suppress(StorageError):  # the lines stay pending; the stored files can be read
            self.handler.flush()
        with suppress(StorageError):
            self._series.flush()
        return LogReader._of(self._store)

    def flush(self, timeout: float | None = None) -> None:
        """Store all pending data: queued writes in background mode, then the lines of log.txt.

        In a bucket the lines cost one request for a small log, some for a large one. If files were written after the
        run ended, the manifest is updated with one request. If the status ``failed`` could not be stored before, it
        is stored now.

        Args:
            timeout: Seconds to wait for queued writes; no limit by default.

        Raises:
            DeadlineError: The timeout was exceeded. Queued writes continue in the background.
            BatchError: Writes were lost since the last report; it contains one error for each.
            StorageError: The storage refused the lines. They stay pending and are retried.

        >>> log.flush()
        """
        if timeout is not None and not (isinstance(timeout, int | float) and timeout >= 0):
            raise ConfigurationError(f"invalid timeout {timeout!r}: pass a number of seconds, or None for no limit")
        if (failure := self._ending.unstored_failure) is not None:
            self._fail(failure.reason, failure.error)
        if self._queue is not None:
            self._queue.settle(timeout)
        self._code.settle()
        try:
            self._flush_output()
            self._series.flush()
        finally:
            self.handler.flush()
        if self._ending.ended is not None:
            self._store_manifest(look=True)
        if self._queue is not None and (lost := self._queue.lost()) is not None:
            raise lost

    @property
    def mirror(self) -> Mirror | None:
        """The copy that follows the run, with its progress; None without ``mirror=``.

        >>> log.mirror is None
        True
        """
        return self._mirror

    # -- state ---------------------------------------------------------------------------------------------

    @property
    def params(self) -> Parameters:
        """The parameters: ``log.params["omega"]`` reads one, ``log.params(omega=2.0)`` adds one and stores all.

        Reading costs no request, except for the first read in a resumed run. For the arguments and errors of a call see
        `notata.run.parameters.Parameters`.

        >>> log.params(dt=1e-3, scheme="leapfrog")
        >>> log.params["dt"], sorted(log.params)
        (0.001, ['dt', 'scheme'])
        """
        return self._params

    def meta(self, **fields: Any) -> None:
        """Merge fields into metadata.json. One request.

        Args:
            **fields: Values that have a plain form, such as numbers, text, lists, dictionaries, numpy values, dates and
                paths. The names `run_id`, `status`, `lease`, `mirror`, `resumes`, `row`, `series_summary` and
                `workers` are reserved.

        Raises:
            ConfigurationError: A field name is reserved.
            EncodeError: A field has no plain form.
            RunDisplacedError: Another writer has taken over the run; nothing was changed.

        >>> log.meta(machine="node17", temperature_K=300)
        """
        if own := OWN_FIELDS & fields.keys():
            raise ConfigurationError(
                f"cannot set {', '.join(sorted(own))} in metadata.json: notata reserves this name. Choose another "
                "name, and end a run with mark_complete() or mark_failed()",
                url=self.url,
                key=keys.METADATA,
            )
        with self._locating_errors(keys.METADATA):
            plain = formats.plain(fields, "metadata")
        self._lease.update(**plain)

    @property
    def status(self) -> str:
        """The status as this run last stored it: ``initialized``, ``complete`` or ``failed``. No request."""
        return str(self._lease.fields.get("status", "unknown"))

    @property
    def elapsed(self) -> float:
        """Seconds from the start to the end of the run, or until now. Earlier attempts are included, if known."""
        return self._current_runtime() if self._ending.runtime is None else self._ending.runtime

    def _current_runtime(self) -> float:
        return round(self._previous_runtime + time.monotonic() - self._start, 6)

    def mark_complete(self) -> None:
        """End the run as complete: store `status`, `end_time` and `runtime_sec`, then call the callback.

        Pending writes and log lines are stored first, so a complete run has all its files. If a write was lost, the run
        is marked failed instead. A second call does nothing. Cost: at most two requests.

        Raises:
            BatchError: Writes were lost in background mode, and the run has failed; it contains one error for each.
            RunEndedError: The run has already failed, and stays failed.
            RunDisplacedError: Another writer has taken over the run.
            StorageError: The log or the status could not be stored. The run has not ended; call again.

        >>> run = Logbook("by-hand", "memory://ends")
        >>> run.mark_complete()
        >>> run.status
        'complete'
        """
        lost, interrupt = self._finish_queue("complete")
        problem = interrupt or lost
        if problem is None:
            self._end(End("complete"))
            return
        self._fail_after(problem)
        raise problem

    def mark_failed(self, reason: str, error: BaseException | None = None) -> None:
        """End the run as failed: store `status`, `failure_reason`, `end_time` and `runtime_sec`; call the callback.

        For an exception, notata also stores `failure_type`, the traceback with causes and notes in
        ``artifacts/debug/traceback.txt``, and its structure in ``artifacts/debug/failure.json``. A complete run can
        still fail. A failed run keeps its first failure. In background mode, pending writes are stored first, and
        `failure_reason` also names lost writes. Cost: two requests, and two more for an exception.

        Args:
            reason: A short description. Text beyond 4096 characters is cut, and its length is noted; store long output
                with `text`.
            error: The exception. The default is the exception being handled, if there is one.

        Raises:
            BatchError: The run is marked failed, and writes were lost in background mode.
            RunDisplacedError: Another writer has taken over the run.
            StorageError: The status could not be stored, and the run has not ended. It is retried at the next
                heartbeat, by `flush`, and at exit. Or the status is stored, but a part of the exception or the log is
                not.

        >>> run = Logbook("diverged", "memory://ends")
        >>> run.mark_failed("the residual grows")
        >>> run.status, run.reader.meta["failure_reason"]
        ('failed', 'the residual grows')
        """
        self._fail(str(reason), sys.exc_info()[1] if error is None else error)

    @overload
    def catch(self, *kinds: type[BaseException], reraise: Literal[True]) -> Caught[Never]: ...
    @overload
    def catch(self, *kinds: type[BaseException], reraise: bool = False) -> Caught[None]: ...
    def catch(self, *kinds: type[BaseException], reraise: bool = False) -> Caught[Any]:
        """Record a failure that does not end the run, as a context manager or a decorator.

        An exception in the block is suppressed and logged as an ERROR with its traceback. For the first hundred of a
        run, its structure is stored in ``artifacts/debug/caught/``. If that file cannot be stored, a warning is logged.

        Args:
            *kinds: The exception types to catch; by default `Exception`.
            reraise: Raise the exception again after recording it.

        Returns:
            A context manager and decorator. Afterwards its attribute `error` is the exception.

        >>> with log.catch(ArithmeticError) as caught:
        ...     ratio = 1 / 0
        >>> caught.error
        ZeroDivisionError('division by zero')
        """
        return Caught(self._record_caught, kinds or (Exception,), reraise)

    def _record_caught(self, error: BaseException) -> None:
        refresh()
        reason = failures.shortened(self._failure_files.reason(error))
        self.error("Caught %s: %s", failures.kind(error), reason, exc_info=error)
        try:
            self._check()
            self._failure_files.write_caught(error)
        except Exception as failure:  # inspecting a foreign exception can raise anything
            self.warning("Details of that failure were not stored: %s", failure)

    @staticmethod
    def current() -> Worker | None:
        """Return a worker of the run that this process belongs to, as in a program of ``notata run``; None if none.

        So a script records into the run of ``notata run``, and into a run of its own when it is started alone. For
        rank, errors and cost see `Worker.current`.

        >>> log = Logbook.current() or Logbook("alone", "memory://current")
        >>> log.scalars(step=1, loss=0.5)
        """
        return Worker.current()

    def worker(self, rank: int | str) -> Worker:
        """Return another writer of this run, for a process of a pool, a rank, or a thread.

        A worker can be pickled; a Logbook cannot. It has the same writers and its own log, but it cannot end the run.
        Workers used in this process are closed when the run ends. Close workers of other processes before that.

        Args:
            rank: A name that is unique among the workers of the run: an int or a string, part of a folder name.

        Raises:
            KeyNameError: The rank cannot be part of a folder name on every backend.
            RunEndedError: The run has ended.
            RunDisplacedError: Another writer has taken over the run.
            StorageError: metadata.json could not be updated.

        Cost: one request for the first worker of a run, which sets the field `workers` in metadata.json.

        >>> with log.worker(3) as worker:
        ...     path = worker.text("parts/3", "a quarter of it")
        >>> worker.log_path.name, path.name
        ('log.txt', '3.txt')
        """
        name = keys.worker(rank)
        self._check()
        if self.status in ENDED:
            raise RunEndedError(
                f"cannot create a worker of run {self.run_id!r}: it has ended. Create workers before the end, or "
                "resume the run",
                url=self.url,
            )
        if self._lease.fields.get(WORKERS) is not True:
            self._lease.update(**{WORKERS: True})
        config = WorkerConfig.at(self._lease.fields, name, self.logger.level, manifest=self._manifest is not None)
        worker = Worker._of(self._plain, config)
        self._workers.add(worker)
        return worker

    # -- end -----------------------------------------------------------------------------------------------

    def _fail(self, reason: str, error: BaseException | None) -> None:
        """End the run as failed. Raise an interrupt that came meanwhile, or the lost writes."""
        if (first := self._ending.unstored_failure) is not None:
            reason, error = first.reason, first.error
        refresh()
        lost, interrupt = self._finish_queue("failed")
        if lost is not None and lost.message in reason:  # the lost writes are the reason
            lost = None
        reason = failures.shortened(self._redact(reason))
        if lost is not None:
            known = isinstance(error, BatchError) and {*map(id, error.exceptions)} <= {*map(id, lost.exceptions)}
            reason = lost.message if known else f"{reason}; {lost.message}"
        try:
            self._end(End("failed", reason, error))
        except Exception as failure:
            if lost is not None:
                failure.add_note(f"notata: {lost.message}")
            raise
        if interrupt is not None:
            raise interrupt
        if lost is not None:
            raise lost

    def _fail_after(self, error: BaseException, how: str = "") -> None:
        """End the run as failed because of an exception, which gets a note if that fails."""
        try:
            self._fail(self._failure_files.reason(error) + how, error)
        except Exception as failure:
            text = "; ".join([f"{type(failure).__name__}: {failure}", *getattr(failure, "__notes__", ())])
            error.add_note(f"notata: while marking run {self.run_id!r} as failed: {text}")

    def _finish_queue(self, status: FinalStatus) -> tuple[BatchError | None, BaseException | None]:
        """Finish the queue. Return the lost writes, and an interrupt that came while waiting."""
        if self._queue is None or not (self._changes_status(status) or not self._ending.has_ended_as(status)):
            return None, None
        interrupt: BaseException | None = None
        try:
            self._queue.finish()
        except (KeyboardInterrupt, SystemExit) as error:
            interrupt = error
        return self._queue.lost(again=True), interrupt

    def _changes_status(self, status: str) -> bool:
        """Check whether this status differs from the current one; raise an error if the change is not allowed."""
        return self._lease.is_new_status(status) if self._lease.is_owner_process else self._lease.end(status)

    def _end(self, end: End) -> None:
        self._changes_status(end.status)  # a forked child must not wait for a lock that its parent held
        self._ending.apply(end, self._plan_end, self.error)

    def _plan_end(self, end: End) -> EndingPlan | None:
        """Return the steps of an end; None if the run has already ended like this.

        A complete run stores its status last, after all other data. A failed run stores it first, before the traceback.
        The log line follows the status where that costs nothing. For a complete run in a bucket it comes first, in the
        same request as the rest of the log.
        """
        # The status may already be stored by a request whose reply was lost, or before an interrupt.
        is_new, runtime = self._changes_status(end.status), self._current_runtime()
        if not is_new and self._ending.has_ended_as(end.status):
            return None
        note = partial(self.note, end.line, end.level)
        is_line_first = end.status == "complete" and not self._store.is_local
        before: list[Callable[[], object]] = []
        if is_new:
            if self._monitor is not None:
                self._monitor.finish()  # before the summaries
            self._stop_capture()
            if self._output is not None:
                self._output.end()
            fields = {**end.fields, **self._late_imports(), **self._summary_field()}
            before.append(self._code.settle)  # first, as it can log warnings
            if is_line_first:
                before.append(note)
            if end.status == "complete":
                before += [
                    self._close_workers,
                    self._flush_output,
                    self._series.flush,
                    self.handler.flush,
                    self._store_manifest,
                ]
            before.append(partial(self._store_status, end.status, runtime, fields))
        after: list[Callable[[], object]] = [] if is_line_first else [note]
        after.append(self.handler.close)
        if end.status == "failed":
            after.append(partial(self._store_failure, end.error))
        after += [self._call_back, self._store_manifest_late]
        if self._mirror is not None:
            after.append(self._mirror.finish)
        after.append(self._remove_sigterm)  # last, so that SIGTERM does not interrupt these steps
        return EndingPlan(before, [self._release, self._series.close, self._close_output], after, runtime)

    def _late_imports(self) -> Mapping[str, Any]:
        """Return the environment with packages imported since the start; empty if there are none."""
        environment = self._lease.fields.get("environment")
        if not isinstance(environment, dict):
            return {}
        late: dict[str, Any] = {**self._code.late_packages(environment.get("installed"))}
        known, found = environment.get("packages"), imported_packages()
        if isinstance(known, dict) and not found.items() <= known.items():
            late["packages"] = dict(sorted({**known, **found}.items()))
        return {"environment": {**environment, **late}} if late else {}

    def _store_status(self, status: FinalStatus, runtime: float, fields: Mapping[str, Any]) -> None:
        """Store the status. The manifest of a complete run includes a worker that was added at the same time."""
        fields = {**fields, **self._end_fields(fields.get(SUMMARY) or self._lease.fields.get(SUMMARY))}
        adopted = self._store_manifest if status == "complete" else bool
        end = partial(self._lease.end, status, adopted=adopted, end_time=times.now(), runtime_sec=runtime)
        try:
            end(**fields)
        except EncodeError:  # with these values, metadata.json would be too large
            if ROW not in fields:
                raise
            end(**{name: value for name, value in fields.items() if name != ROW})

    def _store_manifest(self, *, look: bool = False) -> None:
        """Update manifest.json; with `look`, also for files stored by other processes."""
        if self._manifest is not None and self._lease.is_owner_process:
            exits.forget(self._store_manifest)
            self._manifest.write(look=look)

    def _store_manifest_late(self) -> None:
        """Update manifest.json after the end of the run, and again at exit. A failure does not change the status."""
        if self._manifest is None:
            return
        self._manifest.when_outdated(lambda: exits.at_exit(self._store_manifest))
        try:
            self._store_manifest()
        except RunDisplacedError as failure:  # a failed run can be resumed at once, and has a new manifest then
            exits.forget(self._store_manifest)
            self.warning("%s was not stored: %s", keys.MANIFEST, failure)
        except NotataError as failure:
            exits.at_exit(self._store_manifest)
            self.warning("%s was not stored: %s", keys.MANIFEST, failure)

    def _summary_field(self) -> Mapping[str, Any]:
        """Return the summaries of the series; those that were not continued keep the summary of earlier attempts."""
        found = self._series.summaries()
        before = self._lease.fields.get(SUMMARY)
        return {SUMMARY: {**(before if isinstance(before, dict) else {}), **found}} if found else {}

    def _on_params_stored(self) -> None:
        """Handle added parameters; a hook for subclasses."""

    def _end_fields(self, summary: object) -> Mapping[str, Any]:
        """Return the field of metadata.json with parameters and metrics for tables; empty if there are none.

        Args:
            summary: The field `SUMMARY`.
        """
        row = self._values.known(summary)
        try:
            return {ROW: one_line(row)} if row else {}
        except RecursionError:  # forged values of an earlier attempt, nested too deeply
            return {}

    def _flush_output(self) -> None:
        if self._output is not None:
            self._output.flush()

    def _close_output(self) -> None:
        if self._output is not None:
            self._output.close()

    def _close_workers(self) -> None:
        """Close the workers that are used in this process."""
        for worker in list(self._workers):
            worker.close()

    def _store_failure(self, error: BaseException | None) -> None:
        """Store the details of a failure: the exception and the log, and the logs of workers."""
        problem = None if error is None else self._failure_files.write(error)
        try:
            self._flush_output()
        finally:
            try:
                self._series.flush()
            finally:
                self.handler.flush()
        self._close_workers()
        if problem is not None:
            raise problem

    def _call_back(self) -> None:
        if self.callback is not None:
            self.callback(self)

    def _check(self) -> None:
        self._lease.check()
        if self._mirror is not None and self._ending.ended is not None:  # files written after the end are copied, too
            self._mirror.expect_more()

    def _release(self) -> None:
        """Release the run, and remove its handlers for logging and exit from the process."""
        if self._monitor is not None:
            self._monitor.stop()
        self._lease.release()
        while self._attached:
            self._attached.pop().removeHandler(self.handler)
        exits.forget(self._at_exit)

    def _remove_sigterm(self) -> None:
        if self._sigterm is not None:
            self._sigterm.remove()

    def _at_exit(self) -> None:
        """End the run when the interpreter ends; an exception that ended the script becomes the reason."""
        if not self._lease.is_owner_process or self._lease.displaced or self._ending.ended is not None:
            return
        if (failure := self._ending.unstored_failure) is not None:
            self._fail(failure.reason, failure.error)
            return
        if self.status in ENDED:  # an interrupt came after the status was stored, before the rest
            self._end(End(cast("FinalStatus", self.status)))
            return
        error = exits.exit_cause()
        if error is None and self._can_end_late() and exits.call_late(self._at_exit):
            return
        unstored = self._ending.unstored
        if unstored is not None and error in (None, unstored.failure):  # only the storage failed
            self.mark_complete()
        elif error is None:
            self._fail("the process ended without mark_complete() or mark_failed()", None)
        else:
            self._fail(self._failure_files.reason(error), error)

    def _can_end_late(self) -> bool:
        """Check whether the run can end in the last step of the interpreter, without network and threads.

        Until then, functions of `atexit` can end it.
        """
        return self._store.is_local and self._queue is None and self._mirror is None

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"cannot pickle the Logbook of run {self.run_id!r}: only one process writes a run. Pass a worker, "
            "log.worker(rank), to the other process, or a URL and a different run id"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._lease.is_owner_process:  # a forked child leaves the block, too, but the run belongs to its parent
            return
        is_success = error is None or (isinstance(error, SystemExit) and error.code in (None, 0))
        by_signal = is_success and error is not None and self.status != "complete" and exits.is_from_handler(error)
        is_late = isinstance(error, Terminated) and self._ending.has_ended_as("complete")  # SIGTERM came after the end
        try:
            if error is None or is_late or (is_success and not by_signal and self.status != "failed"):
                if self._ending.ended is None:
                    self.mark_complete()
            else:
                self._fail_after(error, " in a signal handler" if by_signal else "")
        finally:
            self._stop_capture()  # if the run has not ended, for example as another writer took it over


def _check_arguments(callback: object, *, overwrite: bool, resume: object) -> None:
    """Refuse invalid arguments before anything is done."""
    if callback is not None and not callable(callback):
        raise ConfigurationError(
            f"invalid callback of type {type(callback).__name__}: pass a function that takes the logbook"
        )
    if resume and overwrite:
        raise ConfigurationError("resume keeps an existing run, and overwrite removes it: pass only one of them")
    if resume not in (True, False, "force", *_REFUSED):
        raise ConfigurationError(f"invalid resume {resume!r}: pass True, False, 'force', 'unfinished' or 'died'")


def _extent(code: bool | None, default: Extent, *, environment: bool) -> Extent:
    """Return how much of the code to record."""
    if code not in (True, False, None):
        raise ConfigurationError(f"invalid code {code!r}: pass True, False, or None for the default")
    if code and not environment:
        raise ConfigurationError("code=True needs environment=True, which records the commit that the code belongs to")
    if code is None:
        return default if environment and os.environ.get(CODE) != "0" else "none"
    return "all" if code else "none"


def _url_of(run: object) -> str:
    """Return the URL of another run, without credentials. No request.

    Raises:
        ConfigurationError: It is neither a run nor a location.
    """
    if isinstance(run, Recorder | LogReader):
        return run.url
    if not isinstance(run, str | os.PathLike | Store | Backend | Storage):
        raise ConfigurationError(
            f"invalid parent of type {type(run).__name__}: pass a Logbook, a LogReader, or the URL or path of a run"
        )
    return open_store(run).url


def _redactor_of(store: Store, copy: Store | None) -> Callable[[str], str]:
    """Return a function that redacts the secrets of the run's storage and of the copy's storage in a text."""
    return store.backend.redacted if copy is None else lambda text: copy.redacted(store.redacted(text))


def _capture_of(given: object) -> Capture | None:
    from notata.capture.options import capture_of

    return capture_of(given)


def _check_switches(**switches: object) -> None:
    for name, value in switches.items():
        if value not in (True, False):
            raise ConfigurationError(f"invalid {name} {value!r}: pass True or False")


def _generate_run_id() -> str:
    """Return a readable, sortable, unique run id: ``2026-11-22T19-50-03.123Z-4f2a9c``."""
    now = datetime.now(UTC)
    return f"{now:%Y-%m-%dT%H-%M-%S}.{now.microsecond // 1000:03d}Z-{secrets.token_hex(3)}"
