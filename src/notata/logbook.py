"""One run being written; it knows nothing of other runs, nor where and how its bytes are stored."""

from __future__ import annotations

import builtins
import logging
import os
import re
import secrets
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Never, NoReturn, Self, TypeAlias, cast, overload
from weakref import WeakSet

from notata import formats
from notata._base import exits, keys, times
from notata._base.progress import bar
from notata._base.secrets import refresh
from notata._base.terminal import safe, show
from notata.errors import (
    BatchError,
    ConfigurationError,
    IncompleteListingWarning,
    NotataError,
    RunEndedError,
    RunExistsError,
    StorageError,
)
from notata.manifest import Keeper, LedgerStore
from notata.mirror.places import base_of_copies, check_separate
from notata.provenance import failures
from notata.provenance.environment import capture, imported_packages
from notata.provenance.failures import Caught
from notata.reader import LogReader
from notata.run.journal import Journal, RunLogger, level_of
from notata.run.lease import Lease
from notata.run.parameters import Parameters, encoded, named
from notata.run.recorder import Recorder
from notata.run.state import ENDED, LEASE, MIRROR, RESUMES, ROW, WORKERS, RunState, continued, spent
from notata.store import TIMEOUT, Store, open_base
from notata.worker import Post, Worker

if TYPE_CHECKING:
    from upath import UPath

    from notata.background import BackgroundStore
    from notata.mirror.live import Mirror
    from notata.store.stored_path import StoredPath

__all__ = ["Logbook"]

Status: TypeAlias = Literal["initialized", "complete", "failed"]
Callback: TypeAlias = Callable[["Logbook"], object]

_NAMED: Final = 20  # leftovers of an earlier run, each by a warning
_OWN_FIELDS: Final = {"run_id", "status", LEASE, MIRROR, RESUMES, ROW, WORKERS}
_MOST_CAUGHT: Final = 100  # failures that get a file each; what catches more, catches them in a loop


class Logbook(Recorder):
    """The record of one run: a folder ``log_<run_id>`` on any storage.

    The run is claimed when the object is made: of any number of processes that ask for one id, one gets it. As a
    context manager it ends ``complete``, or ``failed`` when an exception leaves the block, KeyboardInterrupt and
    ``sys.exit(3)`` included; ``sys.exit(0)`` says that all went well, unless a signal handler calls it. A run that has
    not ended when the interpreter does is marked ``failed`` then, with the
    exception that ended the script if one did. Safe to use from many threads.

    Attributes:
        run_id: As given, as a string; or the one that was made.
        url: Where the run lies, without credentials.
        path: The run's folder, a `pathlib.Path` on a local disk and a `upath.UPath` anywhere.
        log_path: ``log.txt`` in it.
        params: The parameters.
        reader: This run, to read back what it has written.
        logger: What `info` and the others log to: a `logging.Logger` that no registry holds.
        handler: The `logging.Handler` that writes log.txt, for loggers of your own.
        datadir: ``data/`` below it.
        plotdir: ``plots/`` below it.
        artifactsdir: ``artifacts/`` below it.
        callback: What runs when the run has ended.
        mirror: The copy that follows the run; None unless one was asked for.

    Args:
        run_id: A string or an int; part of a folder name, so without ``/``. When not given, one is made of the
            time in UTC and a random part, such as ``2026-11-22T19-50-03.123Z-4f2a9c``: it sorts by time.
        base_dir: Where runs are kept: any fsspec URL (``s3://bucket/outputs``), local path or UPath. When not given,
            the environment variable NOTATA_BASE_DIR, else ``outputs``.
        params: Saved as ``params.yaml`` at once: a mapping, or an object with named values, such as the namespace of
            `argparse`, a dataclass, an attrs class or a pydantic model.
        overwrite: Remove a run that has this id, every file of it, and start over. A run that a living parent process
            is writing is refused.
        preallocate: Make ``data/``, ``plots/`` and ``artifacts/`` at once. A bucket has no folders.
        callback: Called with this object once the final status is stored.
        resume: Resume the run with this id and keep all its files, if it has ended or died; create it if there is
            none. A running run is refused. If several processes try at once, one of them gets it. A complete run is
            reopened, and ends with the status of this attempt; ``"unfinished"`` refuses it instead. ``"force"`` also
            takes a run of which it is unknown whether it is running.
        heartbeat: Seconds from one sign of life to the next, a small request each; 0 for none. When not given, 30
            where others can see the run and changes are safe (local disk, S3, GCS), else none.
        environment: Record interpreter, machine, process, packages and git commit in metadata.json; at the end also
            the packages that were imported since. Environment variables never.
        log_level: What goes to log.txt: a name or number of `logging`. When not given, the environment variable
            NOTATA_LOG_LEVEL, else ``INFO``.
        echo: Show the lines of log.txt on standard error too, as they are written, and at the start where the run lies.
        handle_sigterm: Turn SIGTERM into an exception in the main thread, so that the run ends ``failed: SIGTERM``.
        failure_variables: Record the local variables of a failure's frames too, shortened. They may hold secrets.
        background: Have writers return as soon as their value is encoded and queued, and store it meanwhile. Failed
            writes raise a `BatchError` at the next writer, at `flush` or at the end, and the run is not complete then.
        max_pending: Bytes that may be on their way in the background; with a full queue a writer waits.
        durable: Have what is written outlast a power cut, not only the process: on a local disk each file is fsynced
            before a call returns, and each line of the log, which takes the time that the disk takes. A bucket keeps
            what it has acknowledged anyway.
        mirror: Where a copy of the run is to follow it: any base folder as for `base_dir`, which is a local disk or in
            memory then. The run neither waits for it nor fails by it; `notata sync` finishes what is missing.
        mirror_options: `storage_options` of `mirror`.
        mirror_timeout: Seconds that the end of the interpreter waits for the copy.
        storage_options: For fsspec, such as ``{"endpoint_url": …}``. They reach no file, no message and no repr.
        timeout: Seconds that one request may take, besides the time its size needs. A storage that has never
            answered gets at most 10.
        progress: Show a bar in the terminal for whatever takes more than one part of 8 MiB, written or read back.
        manifest: Store ``manifest.json`` at the end: each file with its size and SHA-256, for `LogReader.verify`.

    Raises:
        RunExistsError: The id is taken. It is a `FileExistsError`; its `status` and `reader` are those of the run that
            has the id.
        KeyNameError: The id cannot be part of a folder name on every backend.
        ConfigurationError: `base_dir` cannot hold runs, or an argument makes no sense.
        EncodeError: A parameter has no YAML form; nothing was written.
        StorageError: The storage cannot be reached or written; which error says why, and what to do.

    Cost: one request to claim a run on a bucket (one more for the first run of a process in a bucket that is not
    Amazon's, to prove that claims hold there), and one for `params`. To go on with a run: four, and one or two for
    `params`. To overwrite one: five, the deletions, and one for `params`.

    >>> with Logbook("oscillator", "memory://outputs", params={"omega": 2.0}) as run:
    ...     path = run.json("metrics", {"energy": 0.5})
    >>> run.status, path.name
    ('complete', 'metrics.json')
    """

    def __init__(
        self,
        run_id: str | int | None = None,
        base_dir: str | os.PathLike[str] | UPath | Store | None = None,
        params: Mapping[str, Any] | object | None = None,
        overwrite: bool = False,
        preallocate: bool = False,
        callback: Callback | None = None,
        *,
        resume: bool | Literal["force", "unfinished"] = False,
        heartbeat: float | None = None,
        environment: bool = True,
        log_level: int | str | None = None,
        echo: bool = False,
        handle_sigterm: bool = False,
        failure_variables: bool = False,
        background: bool = False,
        max_pending: int = 64 * 2**20,
        durable: bool = False,
        mirror: str | os.PathLike[str] | UPath | Store | None = None,
        mirror_options: Mapping[str, Any] | None = None,
        mirror_timeout: float = 60.0,
        storage_options: Mapping[str, Any] | None = None,
        timeout: float = TIMEOUT,
        progress: bool = False,
        manifest: bool = True,
    ) -> None:
        _check_arguments(callback, overwrite=overwrite, resume=resume, mirror_timeout=mirror_timeout)
        _check_switches(background=background, manifest=manifest, durable=durable, echo=echo)
        level = level_of(log_level)
        given = named(params)
        self.run_id = _made_run_id() if run_id is None else str(run_id)
        self.callback = callback
        folder = keys.run_folder(self.run_id)
        base = open_base(base_dir, storage_options, timeout=timeout)
        self._store = self._plain = plain = (base.durably() if durable else base).below(folder)
        copy = base_of_copies(plain, mirror, mirror_options, timeout)
        if copy is not None:
            copy = copy.below(folder)
            check_separate(plain, copy)
        self._redacted = _without_secrets_of(plain, copy)
        if progress:
            self._store = self._store.watched(bar)
        noting = self._store = LedgerStore(self._store) if manifest else self._store
        self._queue = self._in_background(max_pending) if background else None
        if given:
            encoded(self._store, given)  # what cannot be stored is refused before anything is
        self._lease = Lease(self._store, self.run_id, heartbeat)
        self._start, self._earlier = time.monotonic(), 0.0
        self._runtime: float | None = None
        self._ending = threading.RLock()
        self._variables = failure_variables
        self._caught = 0
        self._told: str = "initialized"
        self._unstored: _Unstored | None = None
        self._attached: list[logging.Logger] = []
        self._workers: WeakSet[Worker] = WeakSet()
        self._sigterm = exits.Sigterm() if handle_sigterm else None
        self._replaced = False
        self._mirror: Mirror | None = None
        try:
            before = self._claim(environment, overwrite, resume, copy)
            self._keeper = self._kept(noting, before) if isinstance(noting, LedgerStore) else None
            self._begin(before, level, params=given, preallocate=preallocate, echo=echo)
            if copy is not None:
                self._follow(plain, copy, overwrite, mirror_timeout)
        except BaseException:
            self._let_go()
            raise

    def _in_background(self, max_pending: int) -> BackgroundStore:
        """Put a queue in front of the store."""
        from notata.background import BackgroundStore

        queue = BackgroundStore(self._store, max_pending, check=self._check, lost=self._say_lost)
        self._store = queue
        return queue

    def _kept(self, store: LedgerStore, before: RunState | None) -> Keeper:
        """What stores the manifest."""
        return Keeper(
            store,
            self.run_id,
            self._lease.owner,
            check=self._check,
            mine=self._lease.mine,
            resumed=before is not None,
            workers=lambda: self._lease.fields.get(WORKERS) is True,
            skipped=self._say_skipped,
        )

    def _remove_abandoned(self) -> None:
        """Remove what earlier writers of this run, which were killed, had not finished."""
        try:
            removed = self._plain.remove_abandoned()
        except (BatchError, StorageError) as failure:
            self.warning("Unfinished writes of earlier attempts were not removed: %s", safe(str(failure)))
            return
        if removed:
            size = sum(max(0, entry.size) for entry in removed)
            self.info("Removed what ended processes left unfinished: %d writes, %d bytes", len(removed), size)

    def _say_left(self) -> None:
        """Name what could not be removed of the earlier run."""
        for error in self._lease.left.errors(self.url)[-_NAMED:]:
            told = f"not removed of the earlier run {self.run_id!r}: {safe(str(error))}"
            self.warning("%s", told)
            warnings.warn(told, IncompleteListingWarning, stacklevel=5)

    def _say_skipped(self, error: StorageError) -> None:
        self.warning("Not in the manifest: %s", safe(str(error)))
        with suppress(StorageError):  # the lines before it are stored already
            self.handler.flush()

    def _say_lost(self, key: str, error: NotataError) -> None:
        self.error("Lost %s: %s", key, error)

    def _follow(self, source: Store, target: Store, overwrite: bool, timeout: float) -> None:
        """Have the run copied, in a thread."""
        from notata.mirror.live import Mirror

        self._mirror = Mirror(source, target, self.run_id, replace=overwrite, timeout=timeout, tell=self.logger.log)
        self._mirror.begin()

    def _claim(self, environment: bool, overwrite: bool, resume: bool | str, copy: Store | None) -> RunState | None:
        """Have the run; how it stood, if it goes on."""
        fields: dict[str, Any] = {"run_id": self.run_id, "status": "initialized", "start_time": times.now()}
        if copy is not None:
            fields[MIRROR] = copy.url
        if environment:
            fields["environment"] = capture(self._redacted)
        try:
            if overwrite:
                self._replaced = self._lease.replace(fields)
            elif resume:
                return self._lease.resume(fields, continued, force=resume == "force", unfinished=resume == "unfinished")
            else:
                self._lease.claim(fields)
        except RunExistsError as error:
            error.reader = LogReader._of(self._plain)
            raise
        return None

    def _begin(
        self,
        before: RunState | None,
        level: int,
        *,
        params: Mapping[str, Any] | None,
        preallocate: bool,
        echo: bool,
    ) -> None:
        """Open the log and write what is known at the start."""
        try:
            self._earlier = spent(self._lease.fields)
            if echo:
                show(f"notata: run {self.run_id!r} at {self.url}")
            self._open_log(before, level, echo)
            if before is not None and (self._store.near or before.status not in ENDED):
                self._remove_abandoned()
            self._params = Parameters(
                self._store, self._check, self.logger.log, self._params_stored, new=before is None
            )
            if params:
                self._params.begin(params)
            if preallocate:
                for folder in (keys.DATA, keys.PLOTS, keys.ARTIFACTS):
                    self._store.make_folder(folder)
            self._lease.keep_alive()
            exits.at_exit(self._at_exit)
        except BaseException as error:
            with suppress(Exception):  # nobody will hold this run: let it say so
                self._lease.end("failed", end_time=times.now(), failure_reason=failures.shortened(self._reason(error)))
            raise

    def _open_log(self, before: RunState | None, level: int, echo: bool) -> None:
        self.handler = Journal(
            self._store.appender(keys.LOG, new=before is None, end=b"\n"),
            at_once=self._store.near,
            level=level,
            redact=self._redacted,
            mine=self._lease.mine,
            lost=lambda: self._lease.displaced,
            show=show if echo else bool,
        )
        self.logger = RunLogger("notata", level)
        self.logger.addHandler(self.handler)
        if before is not None:
            self.info("Logbook resumed by owner %s; before: %s (%s)", self._lease.owner, before.status, before.why)
        elif self._replaced:
            self.info("Logbook initialized in place of an earlier run (owner %s)", self._lease.owner)
            self._say_left()
        else:
            self.info("Logbook initialized")
            return
        # An old owner that still writes is to find that the log is not its own any more. The name makes these bytes
        # differ from any that it may have written in this second: on S3 equal bytes are one version.
        self.handler.flush()

    def __repr__(self) -> str:
        return f"Logbook({self.run_id!r}, {self.url!r}, status={self.status!r})"

    # -- where ---------------------------------------------------------------------------------------------

    @property
    def log_path(self) -> StoredPath:
        """``log.txt`` in the run's folder. In a bucket it may be some seconds behind; `flush` makes it current."""
        return self._store.place(keys.LOG)

    @property
    def datadir(self) -> StoredPath:
        """``data/`` below the run's folder."""
        return self._store.place(keys.DATA)

    @property
    def plotdir(self) -> StoredPath:
        """``plots/`` below the run's folder."""
        return self._store.place(keys.PLOTS)

    @property
    def artifactsdir(self) -> StoredPath:
        """``artifacts/`` below the run's folder."""
        return self._store.place(keys.ARTIFACTS)

    def attach(self, logger: str | logging.Logger | None = None) -> None:
        """Have a logger's records in log.txt too, until the run ends; then nothing of it is left in `logging`.

        Which records there are, the logger's own level decides, and after it the level of log.txt.

        Args:
            logger: It or its name; the root logger, which hears all others, when not given.

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
            raise RunEndedError(f"run {self.run_id!r} has ended and hears no logger any more", url=self.url)
        if self.handler not in target.handlers:
            target.addHandler(self.handler)
            self._attached.append(target)

    @property
    def reader(self) -> LogReader:
        """This run as others see it, to read back what it has written so far; its log is flushed first.

        >>> path = log.json("so_far", {"loss": 0.5})
        >>> log.reader.load_json("so_far")
        {'loss': 0.5}
        """
        with suppress(StorageError):  # its lines are kept; what there is can be read
            self.handler.flush()
        return LogReader._of(self._store)

    def flush(self, timeout: float | None = None) -> None:
        """Store what is not stored yet: what writers queued in background mode, then the lines of log.txt.

        In a bucket the lines cost one request for a small log, some for a large one. If something was stored after the
        run ended, its manifest is brought up to date: one request. If the run has failed and that could not be stored,
        it is stored now.

        Args:
            timeout: Seconds to wait for what is queued; as long as it takes when not given.

        Raises:
            DeadlineError: It takes longer. What is queued goes on being stored.
            BatchError: Writes were lost since this was last told; it holds each one's error.
            StorageError: The storage refused the lines. They are kept, and tried again.

        >>> log.flush()
        """
        if timeout is not None and not (isinstance(timeout, int | float) and timeout >= 0):
            raise ConfigurationError(f"timeout is a number of seconds, or None for no limit, not {timeout!r}")
        if self._unstored is not None and self._unstored.status == "failed":
            self._fail(self._unstored.reason, self._unstored.error)
        if self._queue is not None:
            self._queue.settle(timeout)
        self.handler.flush()
        if self._told in ENDED:
            self._store_manifest(look=True)
        if self._queue is not None and (lost := self._queue.lost()) is not None:
            raise lost

    @property
    def mirror(self) -> Mirror | None:
        """The copy that follows the run, to ask how far it is; None without ``mirror=``.

        >>> log.mirror is None
        True
        """
        return self._mirror

    # -- state ---------------------------------------------------------------------------------------------

    @property
    def params(self) -> Parameters:
        """The parameters: ``log.params["omega"]`` reads one, ``log.params(omega=2.0)`` adds to them and stores them.

        Reading costs no request, but the first time in a run that was resumed. What a call takes and raises:
        `notata.run.parameters.Parameters`.

        >>> log.params(dt=1e-3, scheme="leapfrog")
        >>> log.params["dt"], sorted(log.params)
        (0.001, ['dt', 'scheme'])
        """
        return self._params

    def meta(self, **fields: Any) -> None:
        """Merge fields into metadata.json. One request.

        Args:
            **fields: As for `json`. `run_id`, `status`, `lease`, `mirror`, `resumes`, `row` and `workers` are notata's
                own.

        Raises:
            ConfigurationError: A field is notata's own.
            EncodeError: A field has no plain form.
            RunDisplacedError: Another writer has the run by now; nothing was changed.

        >>> log.meta(machine="node17", temperature_K=300)
        """
        if own := _OWN_FIELDS & fields.keys():
            raise ConfigurationError(
                f"{', '.join(sorted(own))} in metadata.json is notata's own; choose another name, and end a run with "
                "mark_complete() or mark_failed()",
                url=self.url,
                key=keys.METADATA,
            )
        with self._telling(keys.METADATA):
            plain = formats.plain(fields, "metadata")
        self._lease.update(**plain)

    @property
    def status(self) -> str:
        """``initialized``, ``complete`` or ``failed``, as this run last stored it. No request."""
        return str(self._lease.fields.get("status", "unknown"))

    @property
    def elapsed(self) -> float:
        """Seconds that the run has taken, until it ended; with those before it went on, as far as is known."""
        return self._so_far() if self._runtime is None else self._runtime

    def _so_far(self) -> float:
        return round(self._earlier + time.monotonic() - self._start, 6)

    def mark_complete(self) -> None:
        """End the run: ``status: complete``, `end_time`, `runtime_sec`; then the callback. At most two requests.

        What is queued in background mode, and what of the log is not stored, is stored first: a run is complete only
        when all that it wrote is there. If a write was lost, it is marked failed instead. A second call does nothing.

        Raises:
            BatchError: Writes were lost in background mode, and the run has failed; it holds each one's error.
            RunEndedError: It has failed already, and that stands.
            RunDisplacedError: Another writer has the run by now.
            StorageError: The log or the status could not be stored. The run has not ended; call again.
        """
        lost, interrupt = self._settled("complete")
        problem = interrupt or lost
        if problem is None:
            self._end("complete", "Marked complete")
            return
        try:
            self._fail(self._reason(problem), problem)
        except Exception as failure:
            self._note(problem, failure)
        raise problem

    def mark_failed(self, reason: str, error: BaseException | None = None) -> None:
        """End the run: ``status: failed``, `failure_reason`, `end_time`, `runtime_sec`; then the callback.

        With an exception also `failure_type`, the traceback with causes and notes in ``artifacts/debug/traceback.txt``,
        and its structure in ``artifacts/debug/failure.json``. A run that was complete can still fail; of one that has
        failed, the first failure stands. Two requests, and two for an exception.

        Args:
            reason: In a few words. Beyond 4096 characters it is cut, and says how long it was; store long output by
                `text`.
            error: What failed. When not given, the exception that is being handled, if one is.

        In background mode what is queued is stored first; what is lost is named in `failure_reason` too.

        Raises:
            BatchError: The run has failed as it should; besides, writes were lost in background mode.
            RunDisplacedError: Another writer has the run by now.
            StorageError: The status could not be stored, and the run has not ended. It is stored with the next sign of
                life, by `flush`, or at exit. Or the status is stored, and something of the exception or the log is not.
        """
        self._fail(str(reason), sys.exc_info()[1] if error is None else error)

    @overload
    def catch(self, *kinds: type[BaseException], reraise: Literal[True]) -> Caught[Never]: ...
    @overload
    def catch(self, *kinds: type[BaseException], reraise: bool = False) -> Caught[None]: ...
    def catch(self, *kinds: type[BaseException], reraise: bool = False) -> Caught[Any]:
        """Record a failure that does not end the run, as a context manager or a decorator.

        An exception of the block becomes an ERROR with its traceback in the log, and a file of its structure in
        ``artifacts/debug/caught/`` (the first hundred of a run), and goes no further. No storage failure does either.

        Args:
            *kinds: Which exceptions; `Exception` when none is given.
            reraise: Let it go on to the caller.

        Returns:
            A context manager and decorator, whose `error` is the exception afterwards.

        >>> with log.catch(ArithmeticError) as caught:
        ...     ratio = 1 / 0
        >>> caught.error
        ZeroDivisionError('division by zero')
        """
        return Caught(self._record_caught, kinds or (Exception,), reraise)

    def _record_caught(self, error: BaseException) -> None:
        refresh()
        self.error("Caught %s: %s", failures.kind(error), failures.shortened(self._reason(error)), exc_info=error)
        self._caught += 1
        if self._caught > _MOST_CAUGHT:
            return
        try:
            name = re.sub(r"\W", "_", type(error).__name__)[:80]
            self._store.write(self._allowed(f"{keys.CAUGHT}/{_stamp()}-{name}.json"), self._described(error))
        except Exception as failure:  # whatever an exception of somebody else's does when it is looked at
            self.warning("The structure of that failure was not stored: %s", failure)

    def worker(self, rank: int | str) -> Worker:
        """Another writer of this run, for a process of a pool, a rank, or a thread: it pickles, this object does not.

        It has the writers and a log of its own, and no part in the run's life. Those that are used in this process are
        closed when the run ends; others should be closed by then.

        Args:
            rank: What tells it from the others of the run: an int or a string, part of a folder name.

        Raises:
            KeyNameError: The rank cannot be part of a folder name on every backend.
            RunEndedError: The run has ended.
            RunDisplacedError: Another writer has the run by now.
            StorageError: That the run has workers could not be stored.

        Cost: one request for the first worker of a run, to say in metadata.json that it has some.

        >>> with log.worker(3) as worker:
        ...     path = worker.text("parts/3", "a quarter of it")
        >>> worker.log_path.name, path.name
        ('log.txt', '3.txt')
        """
        name = keys.worker(rank)
        self._check()
        if self.status in ENDED:
            raise RunEndedError(f"run {self.run_id!r} has ended and takes no worker any more", url=self.url)
        if self._lease.fields.get(WORKERS) is not True:
            self._lease.update(**{WORKERS: True})
        post = Post.at(self._lease.fields, name, self.logger.level, manifest=self._keeper is not None)
        worker = Worker._of(self._plain, post)
        self._workers.add(worker)
        return worker

    # -- end -----------------------------------------------------------------------------------------------

    def _fail(self, reason: str, error: BaseException | None) -> None:
        if self._unstored is not None and self._unstored.status == "failed":  # the first failure stands
            reason, error = self._unstored.reason, self._unstored.error
        refresh()
        lost, interrupt = self._settled("failed")
        if lost is not None and lost.message in reason:  # that is what failed
            lost = None
        reason = failures.shortened(self._redacted(reason))
        if lost is not None:
            known = isinstance(error, BatchError) and {*map(id, error.exceptions)} <= {*map(id, lost.exceptions)}
            reason = lost.message if known else f"{reason}; {lost.message}"
        fields = {"failure_reason": reason}
        if error is not None:
            fields["failure_type"] = failures.kind(error)
        try:
            self._end("failed", f"Marked failed: {fields['failure_reason']}", error, **fields)
        except Exception as failure:
            if lost is not None:
                failure.add_note(f"notata: {lost.message}")
            raise
        if interrupt is not None:
            raise interrupt
        if lost is not None:
            raise lost

    def _settled(self, status: Status) -> tuple[BatchError | None, BaseException | None]:
        """What is lost, and which interrupt came, until all that was queued is stored or lost; then nothing is."""
        if self._queue is None or not (self._ends(status) or self._told != status):
            return None, None
        interrupt: BaseException | None = None
        try:
            self._queue.finish()
        except (KeyboardInterrupt, SystemExit) as error:
            interrupt = error
        return self._queue.lost(again=True), interrupt

    def _note(self, error: BaseException, failure: Exception) -> None:
        """Tell in an error what else went wrong while the run was marked failed."""
        told = "; ".join([f"{type(failure).__name__}: {failure}", *getattr(failure, "__notes__", ())])
        error.add_note(f"notata: while run {self.run_id!r} was marked failed: {told}")

    def _reason(self, error: BaseException) -> str:
        return self._redacted(failures.reason(error))

    def _described(self, error: BaseException) -> builtins.bytes:
        told = failures.describe(error, self._redacted, variables=self._variables)
        return formats.encode(formats.Json("failure"), told)

    def _ends(self, status: Status) -> bool:
        """Whether this status would be news; refused where it cannot be."""
        return self._lease.is_news(status) if self._lease.here else self._lease.end(status)

    def _end(self, status: Status, line: str, error: BaseException | None = None, **fields: Any) -> None:
        """Store the end: of a complete run once all else is stored, of a failed one before what else is to be told.

        The line of the log follows the status where it costs nothing; in a bucket that of a complete run goes first,
        in the one request that stores the rest of the log.
        """
        if not self._ends(status) and self._told == status:
            return
        with self._ending:
            news = self._ends(status)
            if not news and self._told == status:
                return
            line_first = status == "complete" and not self._store.near
            runtime = self._so_far()
            if news:
                fields |= {**self._late_imports(), **self._last_fields()}
            try:
                if news and line_first:
                    self.info(line)
                if news and status == "complete":
                    self._close_workers()
                    self.handler.flush()
                    self._store_manifest()
                # What was stored by a request whose reply was lost, or before an interrupt, is no news: the rest is.
                if news:
                    self._store_end(status, runtime, fields)
            except Exception as failure:
                self._unstored = _Unstored(status, failure, str(fields.get("failure_reason", "")), error)
                self.error("%s, but that was not stored: %s", line, failure)
                raise
            self._let_go()
            self.handler.close()
            self._told, self._runtime, self._unstored = status, runtime, None
            if not line_first:
                self.note(line, logging.ERROR if status == "failed" else logging.INFO)
        try:
            if status == "failed":
                self._tell(error)
        finally:
            try:
                if self.callback is not None:
                    self.callback(self)
            finally:
                self._store_manifest_late()
                if self._mirror is not None:
                    self._mirror.finish()

    def _late_imports(self) -> Mapping[str, Any]:
        """Return the environment with packages that were imported since; nothing where it is not recorded."""
        told = self._lease.fields.get("environment")
        known = told.get("packages") if isinstance(told, dict) else None
        if not isinstance(told, dict) or not isinstance(known, dict):
            return {}
        return {"environment": {**told, "packages": dict(sorted({**known, **imported_packages()}.items()))}}

    def _store_end(self, status: Status, runtime: float, fields: Mapping[str, Any]) -> None:
        """Store the status. A worker that has come meanwhile is in the manifest of a complete run."""
        adopted = self._store_manifest if status == "complete" else bool
        self._lease.end(status, adopted=adopted, end_time=times.now(), runtime_sec=runtime, **fields)

    def _store_manifest(self, *, look: bool = False) -> None:
        """Have manifest.json tell what is stored by now; with `look`, also by others."""
        if self._keeper is not None and self._lease.here:
            exits.forget(self._store_manifest)
            self._keeper.write(look=look)

    def _store_manifest_late(self) -> None:
        """As `_store_manifest`, once the run has ended, and from now on at exit too; the end stands if that fails."""
        if self._keeper is None:
            return
        self._keeper.when_outdated(lambda: exits.at_exit(self._store_manifest))
        try:
            self._store_manifest()
        except NotataError as failure:
            exits.at_exit(self._store_manifest)
            self.warning("%s was not stored: %s", keys.MANIFEST, failure)

    def _params_stored(self) -> None:
        """Parameters were added: for those who keep many runs."""

    def _last_fields(self) -> Mapping[str, Any]:
        """What is stored with the end, besides: for those who keep many runs."""
        return {}

    def _close_workers(self) -> None:
        """Store what is left of those that are used in this process."""
        for worker in list(self._workers):
            worker.close()

    def _tell(self, error: BaseException | None) -> None:
        """Store what there is to know of a failure: the exception, and the log up to it, those of workers too."""
        problem: StorageError | None = None
        if error is not None:
            text = formats.encode(formats.TEXT, failures.text(error, self._redacted))
            # One by one: at exit, some Pythons start no thread any more.
            for key, data in ((keys.TRACEBACK, text), (keys.FAILURE, self._described(error))):
                try:
                    self._store.write(key, data)
                except StorageError as failure:
                    problem = problem or failure
        self.handler.flush()
        self._close_workers()
        if problem is not None:
            raise problem

    def _check(self) -> None:
        self._lease.check()
        if self._mirror is not None and self._told in ENDED:  # what comes after the end is copied too
            self._mirror.expect_more()

    def _let_go(self) -> None:
        """Leave nothing behind in the process: no handler in `logging`, no signal handler, nothing to do at exit."""
        self._lease.let_go()
        while self._attached:
            self._attached.pop().removeHandler(self.handler)
        if self._sigterm is not None:
            self._sigterm.remove()
        exits.forget(self._at_exit)

    def _at_exit(self) -> None:
        """The interpreter ends and the run has not: say so, with the exception that ended the script if one did."""
        if not self._lease.here or self._lease.displaced or self._told in ENDED:
            return
        unstored = self._unstored
        if unstored is not None and unstored.status == "failed":
            self._fail(unstored.reason, unstored.error)
            return
        if self.status in ENDED:  # an interrupt came between the end and what follows it
            self._end(cast("Status", self.status), f"Marked {self.status}")
            return
        error = exits.cause()
        if error is None and self._can_wait() and exits.later(self._at_exit):
            return
        if unstored is not None and error in (None, unstored.failure):  # all went well but the storage
            self.mark_complete()
            return
        reason = "the process ended without mark_complete() or mark_failed()" if error is None else self._reason(error)
        self._fail(reason, error)

    def _can_wait(self) -> bool:
        """Whether the run can be ended by the last step of the interpreter, without a network and without threads.

        Until then functions of `atexit` may end it.
        """
        return self._store.near and self._queue is None and self._mirror is None

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"run {self.run_id!r} is written by this process; give another process a worker of it, "
            "log.worker(rank), or the URL and a run id of its own"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._lease.here:  # a forked child leaves the block too, but the run is its parent's
            return
        if error is None:
            if self._told not in ENDED:
                self.mark_complete()
            return
        well = isinstance(error, SystemExit) and error.code in (None, 0)
        asked = well and self.status != "complete" and exits.is_of_handler(error)
        if well and not asked and self.status != "failed":
            if self._told not in ENDED:
                self.mark_complete()
            return
        try:
            self._fail(self._reason(error) + (" in a signal handler" if asked else ""), error)
        except Exception as failure:
            self._note(error, failure)


@dataclass(frozen=True, slots=True)
class _Unstored:
    """The end of a run that the storage did not take.

    Attributes:
        status: How the run was to end.
        failure: The error of the storage.
        reason: Why the run failed, if it did.
        error: The exception that it failed with, if there is one.
    """

    status: Status
    failure: Exception
    reason: str
    error: BaseException | None


def _check_arguments(callback: object, *, overwrite: bool, resume: object, mirror_timeout: object) -> None:
    """Refuse what makes no sense, before anything is done."""
    if callback is not None and not callable(callback):
        raise ConfigurationError(f"callback is a function of the logbook, not {type(callback).__name__}")
    if resume and overwrite:
        raise ConfigurationError("resume goes on with the old run and overwrite removes it: choose one")
    if isinstance(mirror_timeout, bool) or not isinstance(mirror_timeout, int | float) or not mirror_timeout >= 0:
        raise ConfigurationError(f"mirror_timeout is a number of seconds, not {mirror_timeout!r}")
    if resume not in (True, False, "force", "unfinished"):
        raise ConfigurationError(f"resume is True, False, 'force' or 'unfinished', not {resume!r}")


def _without_secrets_of(store: Store, copy: Store | None) -> Callable[[str], str]:
    """What takes the secrets of a run's storage, and of that of its copy, out of a text."""
    return store.redacted if copy is None else lambda text: copy.redacted(store.redacted(text))


def _check_switches(**switches: object) -> None:
    for name, value in switches.items():
        if value not in (True, False):
            raise ConfigurationError(f"{name} is True or False, not {value!r}")


def _stamp() -> str:
    """The time in UTC to the microsecond, as part of a file name."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%S.%fZ}"


def _made_run_id() -> str:
    """Legible, sortable, unique: ``2026-11-22T19-50-03.123Z-4f2a9c``."""
    now = datetime.now(UTC)
    return f"{now:%Y-%m-%dT%H-%M-%S}.{now.microsecond // 1000:03d}Z-{secrets.token_hex(3)}"
