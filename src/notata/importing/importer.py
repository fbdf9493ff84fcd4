"""Import the runs of a source: find out which are new, write many at once, and say what was done with each."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from notata import formats, table
from notata._base import keys, processes
from notata._base.display import counted
from notata._base.progress import Wanted, shown
from notata._base.terminal import one_line, quoted
from notata._base.threads import Pool
from notata.errors import (
    BatchError,
    ConfigurationError,
    ConflictError,
    ExistsError,
    MissingError,
    NotataError,
    RunExistsError,
    StorageError,
    TooLargeError,
)
from notata.importing.kinds import KINDS, open_source
from notata.importing.naming import is_legal
from notata.importing.source import Failed, FoundRun
from notata.importing.writer import FIELD, OWN_FIELDS, RunWriter
from notata.manifest import Document
from notata.mirror.places import check_separate
from notata.run.state import COPIED, ENDED, LEASE, RESUMES, lease_of, parsed
from notata.store import Blob, Location, Store, open_base
from notata.store.in_flight import InFlight, started_in_thread

__all__ = ["ImportReport", "import_runs"]

_AT_ONCE: Final = 8  # runs that are written at once
_TOGETHER: Final = 500  # runs whose state at the destination is read together
_LARGE: Final = 8 * 2**20  # bytes of files to copy from which a run is written alone, to bound the memory
_SHOWN: Final = 3

Verb: TypeAlias = Literal["new", "updated", "finished", "equal", "changed"]


@dataclass(frozen=True)
class ImportReport:
    """The result of an import, or of a dry run.

    Attributes:
        source: Where the runs came from, without credentials.
        destination: Where they are now.
        new: URLs of runs that were imported, sorted.
        updated: URLs of runs that had changed in the source, and were imported again.
        finished: URLs of runs whose import had been interrupted.
        equal: URLs of runs that were imported before, and have not changed.
        changed: URLs of runs that have changed in the source since, and were left as they are.
        failed: The number of runs that could not be imported.
        left_out: What could not be imported of runs, by URL.
        dry_run: Whether nothing was written.
    """

    source: str
    destination: str
    new: Sequence[str] = ()
    updated: Sequence[str] = ()
    finished: Sequence[str] = ()
    equal: Sequence[str] = ()
    changed: Sequence[str] = ()
    failed: int = 0
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)
    dry_run: bool = False

    def __str__(self) -> str:
        would = "would be " if self.dry_run else ""
        parts = [f"{counted(len(self.new), 'run')} {would}imported"]
        parts += [f"{len(self.finished)} {would}finished"] * bool(self.finished)
        parts += [f"{len(self.updated)} {would}updated"] * bool(self.updated)
        parts += [f"{len(self.equal)} already there"] * bool(self.equal)
        parts += [f"{len(self.changed)} changed in the source (pass --update to import them again)"] * bool(
            self.changed
        )
        parts += [f"{self.failed} failed"] * bool(self.failed)
        return f"{', '.join(parts)}: from {self.source} to {self.destination}"


def import_runs(
    kind: str,
    source: Location,
    destination: Location | None = None,
    *,
    update: bool = False,
    deleted: bool = False,
    dry_run: bool = False,
    source_options: Mapping[str, Any] | None = None,
    destination_options: Mapping[str, Any] | None = None,
    progress: Wanted = False,
    failed: Failed | None = None,
) -> ImportReport:
    """Make runs of notata from what another tool left on a disk or in a bucket. The source is only read.

    A run keeps its id, its times, and the step and time of each value. It has parameters, metrics, the series
    ``scalars``, and copies of its files. The field ``imported`` of its metadata.json says where it comes from. The runs
    of an experiment go to ``<destination>/<experiment>/runs``, those of a tool without experiments to
    ``<destination>/runs``.

    A run that was imported before and has not changed is skipped, and an interrupted import is finished. So the same
    call again does what is left.

    Args:
        kind: The format: ``mlruns``, ``tensorboard``, ``sacred``, ``dvclive`` or ``wandb``.
        source: The folder that the tool wrote: a local path, or any fsspec URL. For ``mlruns`` also a database,
            ``mlflow.db``, on a local disk.
        destination: The folder for the runs: any fsspec URL, local path, UPath or `Storage`. The default is the
            environment variable NOTATA_BASE_DIR, else ``outputs``.
        update: Import runs again that have changed in the source. Otherwise they are only counted.
        deleted: Also import runs that were deleted in MLflow.
        dry_run: Write nothing, and return what would be done.
        source_options: Storage options of the source, for fsspec.
        destination_options: Storage options of the destination.
        progress: Show a progress bar of runs, or call an fsspec callback.
        failed: Called with the error of each run that cannot be imported; by default a `BatchError` is raised at the
            end. The others are imported in any case.

    Raises:
        ConfigurationError: The kind is unknown, or one place contains the other.
        MissingError: The source has no run of this kind.
        PackageMissingError: The format needs a package that is not installed.
        BatchError: Some runs could not be imported: their files are damaged, or the destination has other runs with
            their ids. All others are imported.
        StorageError: A storage cannot be reached.

    Cost: one listing of the source, one of each experiment at the destination, and one read for each run that is there.
    To write a run takes five requests, one for each series, and one for each of its other files; then two for the index
    of an experiment. To read one takes as many requests as it has files.

    >>> from notata import ExperimentReader
    >>> from notata.store import open_store
    >>> files = {
    ...     "1/run.json": b'{"status": "COMPLETED", "experiment": {"name": "decay"}}',
    ...     "1/config.json": b'{"rate": 0.5}',
    ... }
    >>> open_store("memory://sacred").write_many(files)
    >>> print(import_runs("sacred", "memory://sacred", "memory://from-sacred"))
    1 run imported: from memory://sacred to memory://from-sacred
    >>> ExperimentReader("memory://from-sacred/decay").table()[0]["rate"]
    0.5
    """
    if kind not in KINDS:
        raise ConfigurationError(f"unknown kind {quoted(str(kind))} of source; choose from {', '.join(KINDS)}")
    target = open_base(destination, destination_options)
    origin = open_source(kind, source, source_options, deleted=deleted, runs_url=target.url)
    for place in origin.places:
        check_separate(place, target)
    errors: list[Exception] = []
    work = _Import(kind, target, errors.append, update=update, dry_run=dry_run)
    with shown(progress, "import") as callback:
        work.run(origin.find(errors.append), callback)
    report = work.report(origin.url, len(errors))
    if failed is not None:
        for error in errors:
            failed(error)
    elif errors:
        first = "; ".join(str(error) for error in errors[:_SHOWN])
        raise BatchError(f"{counted(len(errors), 'run')} could not be imported: {first}. {report}", errors)
    return report


@dataclass(frozen=True, slots=True)
class _Task:
    """One run to write.

    Attributes:
        run: The run.
        verb: Why it is written.
        there: The metadata.json at the destination, if there is one.
    """

    run: FoundRun
    verb: Verb
    there: Blob | None


class _Import:
    """Writes the runs that are new, and collects what was done."""

    def __init__(self, kind: str, target: Store, failed: Failed, *, update: bool, dry_run: bool) -> None:
        self._kind = kind
        self._target = target
        self._failed = failed
        self._update = update
        self._dry_run = dry_run
        self._done: dict[Verb, list[str]] = {}
        self._left_out: dict[str, list[str]] = {}
        self._large = threading.Lock()
        self._seen: dict[str, str] = {}
        self._experiments: dict[str, _Experiment] = {}

    def report(self, source: str, failed: int) -> ImportReport:
        """Return what was done."""
        done = {verb: sorted(urls) for verb, urls in self._done.items()}
        left_out = dict(sorted(self._left_out.items()))
        return ImportReport(source, self._target.url, **done, failed=failed, left_out=left_out, dry_run=self._dry_run)

    def run(self, found: Iterable[FoundRun], callback: Any) -> None:
        """Import all runs, some hundred after the other."""
        part: list[FoundRun] = []
        try:
            for one in found:
                if self._is_first(one):
                    part.append(one)
                if len(part) == _TOGETHER:
                    self._import(part, callback)
                    part = []
            self._import(part, callback)
        finally:
            self._write_indexes()

    def _is_first(self, run: FoundRun) -> bool:
        """Check that no other run of the source has the same place at the destination."""
        folder = _folder(run)
        before = self._seen.setdefault(folder, run.path)
        if before != run.path:
            message = f"cannot import {quoted(run.path)}: {quoted(before)} has the same run id {quoted(run.run_id)}"
            self._failed(
                ExistsError(f"{message}. Import them to different destinations", url=self._target.url, key=folder)
            )
        return before == run.path

    def _import(self, runs: Sequence[FoundRun], callback: Any) -> None:
        if callback is not None and runs:
            callback.set_size((callback.size or 0) + len(runs))
        tasks = self._tasks(runs)
        if callback is not None:
            callback.relative_update(len(runs) - len(tasks))
        if self._dry_run:
            for task in tasks:
                self._note(task)
            return
        if tasks:
            _ = self._target.supports_cas  # asked once, before threads need to know it
        flying = InFlight[str, list[str]](_AT_ONCE, callback=callback)
        with Pool(min(_AT_ONCE, max(1, len(tasks))), "notata-import") as pool, flying.until_landed():
            for task in tasks:
                flying.begin(_folder(task.run), 0, started_in_thread, self._write, task, pool=pool)
        for task in tasks:
            error = flying.errors.get(_folder(task.run))
            if error is None:
                self._note(task, flying.results[_folder(task.run)])
            else:
                self._failed(_named(error, task.run))

    def _note(self, task: _Task, left_out: list[str] | None = None) -> None:
        url = self._target.shown(_folder(task.run))
        self._done.setdefault(task.verb, []).append(url)
        if left_out:
            self._left_out[url] = left_out

    # -- what is there -------------------------------------------------------------------------------------

    def _tasks(self, runs: Sequence[FoundRun]) -> list[_Task]:
        """Return the runs to write, after a look at the destination."""
        there = self._read_states([run for run in runs if self._exists(run)])
        tasks = []
        for run in runs:
            found = there.get(_folder(run))
            if isinstance(found, Exception):
                self._failed(_named(found, run))
                continue
            try:
                verb = _verb(run, self._kind, found, self._target)
            except RunExistsError as error:
                self._failed(error)
                continue
            task = _Task(run, "updated" if verb == "changed" and self._update else verb, found)
            if task.verb in ("equal", "changed"):
                self._note(task)
            else:
                tasks.append(task)
        return tasks

    def _experiment(self, folder: str) -> _Experiment:
        if folder not in self._experiments:
            self._experiments[folder] = _Experiment(self._target.below(folder) if folder else self._target)
        return self._experiments[folder]

    def _exists(self, run: FoundRun) -> bool:
        return keys.run_folder(run.run_id) in self._experiment(run.experiment).folders

    def _read_states(self, runs: Sequence[FoundRun]) -> dict[str, Blob | Exception]:
        """Return the metadata.json of runs at the destination, by folder. 32 reads at once."""
        flying = InFlight[str, Blob]()
        with flying.until_landed():
            for run in runs:
                key = keys.join(_folder(run), keys.METADATA)
                flying.begin(_folder(run), 10_000, self._target.start_fetch, key)
        errors = {folder: error for folder, error in flying.errors.items() if not isinstance(error, FileNotFoundError)}
        return {**flying.results, **errors}

    # -- write ---------------------------------------------------------------------------------------------

    def _write(self, task: _Task) -> list[str]:
        """Write one run; return what was left out."""
        run, store = task.run, self._target.below(_folder(task.run))
        before = (parsed(task.there.data) if task.there else None) or {}
        imported = {"from": self._kind, "id": run.source_id, "path": run.path, "mark": run.mark}
        kept = {name: value for name, value in before.items() if name not in OWN_FIELDS}
        writer = RunWriter(store, run.run_id)
        claim = {**before, "run_id": run.run_id, "status": "replacing", COPIED: "new", FIELD: imported}
        claim[LEASE] = writer.lease
        files_before = _files_before(store, task.there)
        version = _claim(store, formats.encode(formats.Json("metadata"), claim), task.there)
        try:
            facts = run.read(writer)
            if facts.package_version:
                imported["package_version"] = facts.package_version[:100]
            with self._large if writer.copied > _LARGE else nullcontext():
                fields, data = writer.finish(facts, imported, kept)
        except BaseException:
            writer.discard()
            raise
        version = store.replace(keys.METADATA, data, version)
        store.delete(key for key in files_before if not writer.has_written(key))
        self._experiment(run.experiment).index.put(table.of_ended(run.run_id, fields, version))
        return writer.left_out

    def _write_indexes(self) -> None:
        """Store the rows of the index that are pending, as in a bucket."""
        for experiment in self._experiments.values():
            try:
                experiment.index.flush()
            except (BatchError, StorageError) as error:
                self._failed(error)


class _Experiment:
    """The folder of an experiment at the destination.

    Attributes:
        folders: The folders of runs that are there.
        index: Writes its index.
    """

    def __init__(self, store: Store) -> None:
        self.folders = frozenset(_run_folders(store))
        self.index = table.IndexWriter(store)


def _run_folders(store: Store) -> Iterable[str]:
    try:
        return store.folder_names(keys.RUNS, "log_", skipped=lambda _: None)
    except FileNotFoundError:
        return ()


def _folder(run: FoundRun) -> str:
    """Return the folder of a run below the destination."""
    return keys.join(run.experiment, f"{keys.RUNS}/{keys.run_folder(run.run_id)}")


def _verb(run: FoundRun, kind: str, there: Blob | None, target: Store) -> Verb:
    """Return what is to be done with a run.

    Raises:
        RunExistsError: The destination has another run with this id, or one that was resumed there.
    """
    if there is None:
        return "new"
    fields = parsed(there.data) or {}
    imported = fields.get(FIELD)
    ours = isinstance(imported, dict) and (imported.get("from"), imported.get("id")) == (kind, run.source_id)
    if not ours or not isinstance(imported, dict):
        raise _refused(run, target, "the destination has a different run with this id. Import to another destination")
    if COPIED in fields:
        lease = lease_of(fields)
        if lease.get("pid") != os.getpid() and processes.alive(str(lease.get("process", ""))):
            raise _refused(
                run, target, f"process {one_line(lease.get('pid'), 20)} is importing it. Wait until it has ended"
            )
        return "finished"
    if imported.get("mark") == run.mark and fields.get("status") in ENDED:
        return "equal"
    if fields.get(RESUMES) or fields.get("status") not in ENDED:
        raise _refused(run, target, "it was resumed at the destination. Import to another destination")
    return "changed"


def _refused(run: FoundRun, target: Store, why: str) -> RunExistsError:
    url = target.shown(_folder(run))
    return RunExistsError(f"cannot import {quoted(run.path)} to {url}: {why}", url=url, key=keys.METADATA)


def _claim(store: Store, data: bytes, there: Blob | None) -> str:
    """Claim the folder of a run; return the version of its metadata.json.

    Raises:
        ConflictError: Another process is importing the run.
    """
    try:
        if there is None:
            return store.create(keys.METADATA, data)
        return store.replace(keys.METADATA, data, there.version)
    except (ConflictError, ExistsError) as error:
        message = f"cannot write {store.url}: another process wrote it at the same time. Import again"
        raise ConflictError(message, url=store.url, key=keys.METADATA) from error


def _files_before(store: Store, there: Blob | None) -> list[str]:
    """Return the files of an earlier import, as its manifest names them; needed only if there was one."""
    if there is None:
        return []
    try:
        document = Document.parse_undamaged(store.read(keys.MANIFEST))
    except (MissingError, TooLargeError):
        return []
    return [] if document is None else [key for key in document.files if is_legal(key)]


def _named(error: Exception, run: FoundRun) -> Exception:
    """Return the error of one run with its name."""
    if isinstance(error, BatchError):
        return BatchError(f"cannot import {quoted(run.path)}: {error}", list(error.exceptions))
    kind = type(error) if isinstance(error, NotataError) else StorageError
    if kind is TooLargeError or issubclass(kind, RunExistsError):
        return error
    try:
        named = kind(f"cannot import {quoted(run.path)}: {error}")
    except TypeError:
        return error
    named.__cause__ = error
    return named
