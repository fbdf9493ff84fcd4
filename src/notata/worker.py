"""One of several processes that write one run; it knows not how the run ends, and changes nothing of its state."""

from __future__ import annotations

import os
import pickle
import platform
import warnings
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self
from weakref import WeakValueDictionary

from notata import formats
from notata._base import exits, keys, limits
from notata._base.processes import Lock
from notata._base.retries import attempts
from notata.errors import (
    ConfigurationError,
    ConflictError,
    MissingError,
    RunDisplacedError,
    RunEndedError,
    RunMissingError,
)
from notata.manifest import LedgerStore, SharedKeeper
from notata.provenance import failures
from notata.reader import LogReader
from notata.run.journal import Journal, RunLogger, level_of
from notata.run.recorder import Recorder
from notata.run.state import ENDED, WORKERS, judge, lease_of, metadata, parsed, stored
from notata.store import TIMEOUT, Blob, Store, open_store

if TYPE_CHECKING:
    from upath import UPath

    from notata.store.appending import Appender
    from notata.store.stored_path import StoredPath

__all__ = ["Post", "Worker"]

_TRIES: Final = 20  # at metadata.json, which the owner and other workers change as well

_here: WeakValueDictionary[tuple[str, Post, bytes], Worker] = WeakValueDictionary()
"""The workers that came to this process in a pickle: with each task comes another, and it is to be the same."""

_here_lock = Lock()


@dataclass(frozen=True, slots=True)
class Post:
    """What a worker is told besides where its run lies.

    Attributes:
        rank: Which of the run's workers it is.
        level: From which on lines are logged.
        manifest: Whether it leaves a manifest.
        begun: What tells the run from another one that is put in its place.
        owner: Whose the run is, see `notata.manifest.Document.owner`.
    """

    rank: str
    level: int
    manifest: bool
    begun: str
    owner: str

    @classmethod
    def at(cls, fields: Mapping[str, Any], rank: str, level: int, manifest: bool) -> Self:
        """At a run with these fields in its metadata."""
        return cls(rank, level, manifest, _begun(fields), str(lease_of(fields).get("owner", ""))[:8])


class Worker(Recorder):
    """A writer of a run that somebody else owns: a rank of an MPI job or of torchrun, a process of a pool, a thread.

    It has the writers of a `Logbook`, and a log of its own, ``workers/<rank>/log.txt``. It has no part in the run's
    life: it neither ends the run nor keeps it alive, and its failure is not the run's. An exception that leaves its
    ``with`` block is logged, with its traceback, and goes on.

    Made by `Logbook.worker`, or from any process and machine by the run's URL. It pickles, with the credentials of its
    storage, so it can be sent to the processes of a pool; they find out of themselves whatever else they need. Safe to
    use from many threads.

    Attributes:
        rank: As given, as a string.
        run_id: Of the run.
        url: Where the run lies, without credentials.
        path: The run's folder.
        log_path: ``workers/<rank>/log.txt`` in it.
        reader: The run, to read what is stored so far.
        logger: What `info` and the others log to: a `logging.Logger` that no registry holds.
        handler: The `logging.Handler` that writes the log, for loggers of your own.

    Args:
        url: The run's folder, as `Logbook.url` has it: any fsspec URL, local path or UPath.
        rank: What tells this worker from the others of the run, such as the rank of an MPI process: an int or a
            string, part of a folder name. A rank that is used again goes on with the same log.
        storage_options: For fsspec. They reach no file, no message and no repr.
        timeout: As for `Logbook`.
        log_level: As for `Logbook`.
        durable: As for `Logbook`.
        manifest: Store ``workers/<rank>/manifest.json`` when it is closed: each file that it wrote, with its size and
            SHA-256, from which the run's own manifest takes what is true at the end.

    Raises:
        RunMissingError: There is no run yet. Let its owner begin first.
        RunEndedError: The run has ended.
        KeyNameError: The rank cannot be part of a folder name on every backend.
        StorageError: The run cannot be read or changed.

    Warns:
        UserWarning: The run has died: nobody will end it.

    Cost: one request, and another one for the first worker of a run, unless `Logbook.worker` has announced it. In a
    bucket each process looks once for the end of its log, and stores a manifest when it is closed, in one request.

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

    def __init__(
        self,
        url: str | os.PathLike[str] | UPath | Store,
        rank: int | str,
        *,
        storage_options: Mapping[str, Any] | None = None,
        timeout: float = TIMEOUT,
        log_level: int | str | None = None,
        durable: bool = False,
        manifest: bool = True,
    ) -> None:
        for name, value in (("durable", durable), ("manifest", manifest)):
            if value not in (True, False):
                raise ConfigurationError(f"{name} is True or False, not {value!r}")
        name, level = keys.worker(rank), level_of(log_level)
        store = open_store(url, storage_options, timeout=timeout)
        if durable:
            store = store.durably()
        fields, died = _announced(store)
        self._begin(store, Post.at(fields, name, level, manifest))
        self.info("Worker %s attached to the run by process %d on %s", self.rank, os.getpid(), platform.node())
        if died:
            self.warning("The run has died, so nobody will end it: %s", died)

    def _begin(self, store: Store, post: Post) -> None:
        self._plain, self._post = store, post
        self._run = _Run(store, post.begun)
        self._pid = 0  # of the process that wrote last
        itself = weakref.ref(self)  # a worker that is forgotten goes at once, but not while something waits

        def used() -> None:
            if (worker := itself()) is not None:
                worker._pid = os.getpid()
                exits.at_exit(worker._at_exit)

        noting = LedgerStore(store) if post.manifest else None
        if noting is not None:
            noting.ledger.on_change = used
        self._store = store if noting is None else noting
        self._keeper = None if noting is None else self._kept(noting)
        self.handler = Journal(
            _LateEnd(self._store, keys.worker_file(post.rank, keys.LOG), used),
            at_once=store.is_local,
            level=post.level,
            redact=store.redacted,
            mine=self._run.is_there,
            lost=self._run.is_gone,
        )
        self.logger = RunLogger("notata", post.level)
        self.logger.addHandler(self.handler)

    def _kept(self, store: LedgerStore) -> SharedKeeper:
        """What stores the manifest."""
        return SharedKeeper(store, keys.worker_file(self.rank, keys.MANIFEST), self.run_id, self._post.owner)

    @classmethod
    def _of(cls, store: Store, post: Post) -> Self:
        """The worker of a run that is known; no request."""
        self = cls.__new__(cls)
        self._begin(store, post)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self._plain, self._post)

    def __repr__(self) -> str:
        return f"Worker({self.url!r}, {self.rank!r})"

    @property
    def rank(self) -> str:
        """What tells this worker from the others of the run."""
        return self._post.rank

    @property
    def run_id(self) -> str:
        """The id of the run, from the name of its folder."""
        return keys.run_id(self.url)

    @property
    def log_path(self) -> StoredPath:
        """``workers/<rank>/log.txt`` in the run's folder. In a bucket it may be some seconds behind."""
        return self._store.path_for(keys.worker_file(self.rank, keys.LOG))

    @property
    def reader(self) -> LogReader:
        """The run as it is stored so far, whoever wrote it. No request.

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
        """Store what of the log is not stored yet. In a bucket one request for a small log, some for a large one.

        Raises:
            StorageError: The storage refused. The lines are kept, and tried again.

        >>> from notata import Logbook
        >>> worker = Logbook("flushed", "memory://workers").worker(0)
        >>> worker.flush()
        """
        self.handler.flush()

    def close(self) -> None:
        """Store what waits, and the manifest, and keep no file open. So do the ends of a ``with`` block and the script.

        What is written afterwards is stored all the same: close again.

        Raises:
            RunDisplacedError: Another run was put in the place of this one.
            StorageError: The storage refused. Call again.

        >>> from notata import Logbook
        >>> worker = Logbook("closed", "memory://workers").worker(0)
        >>> worker.close()
        """
        self.handler.flush()
        self.handler.close()
        if self._keeper is not None and self._pid == os.getpid():
            if self._store.is_local and self._keeper.has_news:  # it costs nothing there, and nothing else has told
                self._run.is_there()
            self._run.check()
            self._keeper.write()
        exits.forget(self._at_exit)

    def _at_exit(self) -> None:
        if self._pid == os.getpid():  # else it is for the parent process to do
            self.close()

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
    """The run that a worker writes to, and whether another one was put in its place."""

    __slots__ = ("_gone", "_store", "start")

    def __init__(self, store: Store, start: str) -> None:
        self._store = store
        self._gone = False
        self.start = start

    def is_gone(self) -> bool:
        """As far as is known. No request."""
        return self._gone

    def is_there(self) -> bool:
        """Ask the storage."""
        try:
            found = self._store.fetch(keys.METADATA)
        except MissingError:
            self._gone = True
        else:
            self._gone = _begun(parsed(found.data) or {}) != self.start
        return not self._gone

    def check(self) -> None:
        """Refuse to write where the run is known to be another one."""
        if self._gone:
            raise RunDisplacedError(
                f"the run at {self._store.url} was replaced by another one, to which this worker does not belong",
                url=self._store.url,
                key=keys.METADATA,
            )


class _LateEnd:
    """The end of a log that is looked for when the first line comes: most copies of a worker never write one.

    Its size counts from there.
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


def _arrived(store: Store, post: Post) -> Worker:
    """The worker that a pickle brings: the one that came before, if it is in use still."""
    key = (store.url, post, pickle.dumps(store))
    with _here_lock.held():
        worker = _here.get(key)
        if worker is None:
            worker = _here[key] = Worker._of(store, post)
        return worker


def _announced(store: Store) -> tuple[dict[str, Any], str]:
    """Have metadata.json say that the run has workers, by compare and swap: whose the run is stays as it is.

    Returns:
        Its fields, and why the run is dead, if it is.
    """
    for last in attempts(_TRIES):
        found = _look(store)
        fields = metadata(found, store.url, keys.METADATA)
        died = _life(store, fields, found)
        if fields.get(WORKERS) is True or not store.supports_cas:
            break
        fields = {**fields, WORKERS: True}
        try:
            data = limits.check_stored(formats.encode(formats.Json("metadata"), fields), keys.METADATA, store.url)
            store.replace(keys.METADATA, data, found.version)
        except ConflictError:
            if last:
                raise
        else:
            break
    return fields, died


def _look(store: Store) -> Blob:
    found = stored(store)
    if found is None:
        raise RunMissingError(
            f"there is no run at {store.url} to work for: it has no {keys.METADATA}. Give the worker the url of a "
            "Logbook, once that has begun",
            url=store.url,
            key=keys.METADATA,
        )
    return found


def _life(store: Store, fields: Mapping[str, Any], found: Blob) -> str:
    """Why the run is dead, if it is; refused where it takes no workers any more."""
    state = judge(fields, found)
    if state.status in ENDED or state.status == "replacing":
        what = "is being replaced" if state.status == "replacing" else "has ended"
        raise RunEndedError(
            f"the run at {store.url} {what} and takes no worker ({state.why}); a run that is resumed takes them again",
            url=store.url,
            key=keys.METADATA,
        )
    if state.status != "died":
        return ""
    warnings.warn(f"the run at {store.url} has died, so nobody will end it: {state.why}", UserWarning, stacklevel=4)
    return state.why


def _begun(fields: Mapping[str, Any]) -> str:
    """What tells a run from another one that is put in its place."""
    return str(fields.get("start_time", ""))
