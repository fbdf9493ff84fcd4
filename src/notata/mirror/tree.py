"""Sync of a tree of runs: finds the runs and other files, where they go, and reports what was done.

`runs` copies each run; files outside of runs are copied like any others, except for the parts of an index: the copy of
an experiment gets its own, see `indexes`.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, get_args

from notata._base import keys
from notata._base.display import counted
from notata._base.progress import Wanted, shown
from notata._base.secrets import redacted, shown_url
from notata._base.terminal import one_line
from notata.errors import (
    BatchError,
    ConfigurationError,
    ExistsError,
    FolderError,
    KeyNameError,
    MissingError,
    RunExistsError,
    RunMissingError,
    StorageError,
    StoredNameError,
)
from notata.mirror.clashes import clashing
from notata.mirror.files import CopyResult, FileCopier, Pair, Verb, delete
from notata.mirror.indexes import indexed_runs, update_index
from notata.mirror.many import RunCopies, RunFiles, gapped_runs
from notata.mirror.options import CopyOptions
from notata.mirror.places import check_separate
from notata.run.listings import inside, name_of, runs_in, split
from notata.run.removal import pinned_error, remove_run
from notata.run.state import MIRROR, is_pinned, parsed
from notata.store import Entry, Location, Store, open_store
from notata.store.backends.spelling import aligned
from notata.store.gaps import Gaps
from notata.store.in_flight import Tally
from notata.table import experiment_of_index_file

__all__ = ["SyncReport", "sync"]

_SHOWN: Final = 3
_ASKED: Final = 20  # maximum number of runs whose recorded mirrors an error shows


@dataclass(frozen=True, slots=True)
class SyncReport:
    """The result of a sync, or with ``dry_run=True`` the planned changes. Keys are relative to `destination`.

    Attributes:
        source: The URL of the source, without credentials.
        destination: The URL of the copy, without credentials.
        runs: The number of runs in the source.
        copied: Files that were copied whole, with the bytes of each.
        appended: Logs that were appended to, with the added bytes.
        deleted: Files that were deleted, with the size of each.
        equal: The number of files that were equal already.
        left_out: Entries that are not regular files, such as links or pipes, and were not copied.
        dry_run: Whether nothing was written.
    """

    source: str
    destination: str
    runs: int = 0
    copied: Mapping[str, int] = field(default_factory=dict)
    appended: Mapping[str, int] = field(default_factory=dict)
    deleted: Mapping[str, int] = field(default_factory=dict)
    equal: int = 0
    left_out: tuple[str, ...] = ()
    dry_run: bool = False

    @property
    def bytes(self) -> int:
        """The number of bytes that were sent, or would be."""
        return sum(self.copied.values()) + sum(self.appended.values())

    def __str__(self) -> str:
        would = "would be " if self.dry_run else ""
        done = f"{counted(len(self.copied), 'file')} {would}copied, {len(self.appended)} {would}appended to"
        done += f", {self.bytes} bytes {would}sent; {self.equal} equal"
        done += f", {len(self.deleted)} {would}deleted" if self.deleted else ""
        done += f", {len(self.left_out)} left out" if self.left_out else ""
        return f"{counted(self.runs, 'run')} from {self.source} to {self.destination}: {done}"


def sync(
    source: Location,
    destination: Location | None = None,
    *,
    source_options: Mapping[str, Any] | None = None,
    destination_options: Mapping[str, Any] | None = None,
    delete: bool = False,
    dry_run: bool = False,
    follow_links: bool = False,
    progress: Wanted = False,
    failed: Callable[[Exception], object] | None = None,
) -> SyncReport:
    """Make one folder of runs equal to another one, on any storage; only the differences are sent.

    Two files are equal if size and content are equal; times are not compared. The content is compared by checksums from
    the buckets, or by reading local files. Of log.txt only the new end is sent if the destination has its beginning.
    Each file appears whole, and many are sent at once in bounded memory. After an interruption, the next sync
    continues. A running run can be synced: the copy is the run at the time of the sync, and is marked complete only
    after all files are there. If an experiment has an index of parts, its copy gets parts of its own at the end, with
    the rows of the runs that are there; that costs one read for each copied run.

    Args:
        source: The folder of a run or an experiment, or any folder of them: an fsspec URL, local path, UPath or
            `Storage`.
        destination: The folder that becomes equal to `source`. A run goes below it, under its own name, unless the
            folder is named ``log_…`` itself. It is required: the field ``mirror`` of a run's metadata.json is only
            shown in the error, because the writer of the folder chose it.
        source_options: Storage options of the source, for fsspec.
        destination_options: Storage options of the destination, for fsspec.
        delete: Delete files at the destination that the source does not have, and replace other runs with the same id.
        dry_run: Write nothing; the report lists the planned changes.
        follow_links: Copy the content of files that links in the source point to. By default links are skipped, and the
            report lists them. Links to folders are always skipped.
        progress: Show a progress bar of bytes that are compared or sent, or call an fsspec callback.
        failed: Called with the error of each run or file that could not be copied; by default a `BatchError` is raised.

    Raises:
        RunMissingError: The source contains no file.
        ConfigurationError: One folder contains the other one, or `destination` is missing. In that case the message
            shows the mirrors that the runs record.
        FolderError: The destination is named as the folder of a run, ``log_…``, and is a link.
        BatchError: Some runs or files could not be copied, each with its error, such as a `RunExistsError` if the
            destination has another run with that id, or is ahead of the source. All others were copied.
        StorageError: A storage could not be reached or listed.

    >>> from notata import Logbook, sync
    >>> with Logbook("synced", "memory://here") as log:
    ...     path = log.text("notes", "converged")
    >>> print(sync("memory://here/log_synced", "memory://there"))
    1 run from memory://here/log_synced to memory://there/log_synced: 4 files copied, 0 appended to, ...
    """
    origin = open_store(source, source_options)
    origin = origin.following_links() if follow_links else origin
    if destination is None:
        raise _no_destination(origin)
    is_run = origin.exists(keys.METADATA)
    target = open_store(destination, destination_options)
    if is_run:
        target = target.strictly() if name_of(target.url).startswith("log_") else target.below(name_of(origin.url))
    check_separate(origin, target)
    options = CopyOptions(delete=delete, replace=delete, dry_run=dry_run)
    with shown(progress, "sync") as callback:
        plan = _plan(origin, target, options, is_run=is_run)
        work = _Sync(origin, target, replace(options, tally=Tally(callback, plan.size)))
        work.apply(plan)
    done: dict[str, dict[str, int]] = {verb: {} for verb in get_args(Verb)}
    for key, result in work.results.items():
        done[result.verb][key] = result.bytes
    left_out = tuple(name for name in origin.irregular() if not keys.is_reserved(name.replace(os.sep, "/")))
    changes = (done["copied"], done["appended"], done["deleted"], len(done["equal"]))
    report = SyncReport(origin.url, target.url, len(plan.runs), *changes, left_out, dry_run)
    errors = [*plan.errors, *work.errors]
    if failed is not None:
        for error in errors:
            failed(error)
    elif errors:
        first = "; ".join(str(error) for error in errors[:_SHOWN])
        raise BatchError(f"{counted(len(errors), 'error')}; everything else is copied: {first}. {report}", errors)
    return report


@dataclass(frozen=True, slots=True)
class _Plan:
    """The files and runs that a sync copies and deletes.

    Attributes:
        runs: The runs to copy, by folder, with the files of both sides.
        files: The files to copy that belong to no run.
        gone_runs: The runs to remove, by folder, with their files.
        gone_files: The files to delete that belong to no run.
        indexes: The ids of all runs of each experiment whose copy has an index, by folder.
        size: The bytes of all files of the source.
        errors: The reasons why anything is left out.
    """

    runs: Mapping[str, RunFiles]
    files: Mapping[str, Pair]
    gone_runs: Mapping[str, Mapping[str, Entry]]
    gone_files: Mapping[str, Entry]
    indexes: Mapping[str, Collection[str]]
    size: int
    errors: list[Exception]


def _plan(source: Store, target: Store, options: CopyOptions, *, is_run: bool) -> _Plan:
    """Compare the listings of both sides."""
    extra, missed = Gaps(), Gaps()
    there = {entry.key: entry for entry in target.list(skipped=extra)}
    here = _listed(source, missed)
    runs, others = ({"": here}, {}) if is_run else runs_in(here)
    indexed = {folder for key in others if (folder := experiment_of_index_file(key)) is not None}
    others = {key: entry for key, entry in others.items() if experiment_of_index_file(key) is None}
    errors: list[Exception] = []
    clashes: dict[str, StoredNameError] = {}
    if target.folds_names(may_write=not options.dry_run):
        there = aligned(there, here)
        clashes = clashing(target, here, there)
        errors += [*_leave_out(clashes, others), *_leave_out(clashing(target, filter(None, runs), ()), runs)]
    errors += extra.errors(target.url) if options.delete else []  # entries that should be deleted
    errors += [error for error in missed.errors(source.url) if not _in_run(error, runs)]
    gone_runs, gone_files = dict[str, dict[str, Entry]](), dict[str, Entry]()
    if options.delete and not is_run and not clashes:  # with clashes, an extra name may be the same file
        gone = {key: entry for key, entry in there.items() if key not in here and not inside(key, runs)}
        gone_runs, gone_files = runs_in(gone)
        gone_files = {key: entry for key, entry in gone_files.items() if experiment_of_index_file(key) not in indexed}
    elif not is_run:  # files that would be inside a run of the destination
        other_runs = runs_in(there)[0].keys() - runs.keys()
        mixed = {key: folder for key in others if (folder := inside(key, other_runs))}
        for folder in sorted(set(mixed.values())):
            message = f"{target.url}/{folder} is a run, and {source.url}/{folder} has no {keys.METADATA}"
            errors.append(ExistsError(message, url=target.url, key=folder))
        others = {key: entry for key, entry in others.items() if key not in mixed}
    files = {key: Pair(entry, there.get(key)) for key, entry in others.items()}
    size = sum(max(0, entry.size) for entry in here.values())
    indexes = {} if is_run else indexed_runs(indexed, runs, there, gone_files)
    gapped, theirs = gapped_runs(missed.errors(source.url), runs), split(there, runs)
    sides = {folder: RunFiles(files, theirs[folder], folder not in gapped) for folder, files in runs.items()}
    return _Plan(sides, files, gone_runs, gone_files, indexes, size, errors)


def _leave_out(clashes: Mapping[str, StoredNameError], named: dict[str, Any]) -> list[Exception]:
    """Drop clashing names, which would overwrite each other; return an error for each."""
    left_out = [name for name in clashes if name in named]
    for name in left_out:
        del named[name]
    return [clashes[name] for name in left_out]


class _Sync:
    """Makes the changes of a plan at the target, and keeps the results and errors of all files."""

    def __init__(self, source: Store, target: Store, options: CopyOptions) -> None:
        self._source = source
        self._target = target
        self._options = options
        self.results: dict[str, CopyResult] = {}
        self.errors: list[Exception] = []

    def apply(self, plan: _Plan) -> None:
        """Copy and delete."""
        copies = RunCopies(self._source, self._target, self._options)
        copies.copy(plan.runs)
        self.results |= copies.results
        self.errors += copies.errors
        self._delete_files(plan.gone_files)
        for folder, entries in plan.gone_runs.items():
            self._options.check()
            self._remove_run(folder, entries)
        results, errors = FileCopier(self._source, self._target, self._options).copy_all(plan.files)
        self.results |= results
        self.errors += errors.values()
        if not self._options.dry_run:
            self._update_indexes(plan)

    def _update_indexes(self, plan: _Plan) -> None:
        """Let the index of each copied experiment contain the runs that are there now."""
        for experiment, run_ids in plan.indexes.items():
            self._options.check()
            target = self._target.below(experiment) if experiment else self._target
            try:
                written = update_index(target, experiment, run_ids, [*plan.runs, *plan.gone_runs], self.results)
            except (BatchError, StorageError) as error:
                self.errors += error.exceptions if isinstance(error, BatchError) else [error]
            else:
                self.results |= written

    def _remove_run(self, folder: str, entries: Mapping[str, Entry]) -> None:
        """Remove a run that the source does not have."""
        gone: Mapping[str, int] = {key: entry.size for key, entry in entries.items()}
        try:
            run = self._target.below(folder)
            found = run.fetch(keys.METADATA)
            if is_pinned(parsed(found.data) or {}):
                raise pinned_error(run.url)
            if not self._options.dry_run:
                removed = remove_run(run, found, entries.values())
                self.errors += removed.errors.values()
                gone = removed.gone
        except (KeyNameError, RunExistsError, StorageError) as error:
            self.errors.append(error)
        else:
            self.results |= {keys.join(folder, key): CopyResult("deleted", size) for key, size in gone.items()}

    def _delete_files(self, entries: Mapping[str, Entry]) -> None:
        errors = {} if self._options.dry_run else delete(self._target, entries)
        self.results |= {key: CopyResult("deleted", entry.size) for key, entry in entries.items() if key not in errors}
        self.errors += errors.values()


def _in_run(error: StorageError, runs: Mapping[str, object]) -> bool:
    """Check whether the copy of a run will report this error itself."""
    return error.key is not None and inside(error.key, runs) is not None


def _listed(source: Store, skipped: Gaps) -> dict[str, Entry]:
    """Return the files of the source; a source without any file is an error, as its name may be wrong."""
    here = {entry.key: entry for entry in source.list(skipped=skipped)}
    if not here and not skipped.count:
        raise RunMissingError(
            f"there is no folder with files at {source.url}; name the folder of a run, or one with runs below it",
            url=source.url,
        )
    return here


def _no_destination(source: Store) -> ConfigurationError:
    """Return the error for a missing destination, which shows the mirrors that the runs record.

    notata never syncs to a recorded mirror: the creator of the run folder would choose where the user's data and
    credentials go, and with ``delete=True`` what is deleted there.
    """
    runs = [""] if source.exists(keys.METADATA) else list(runs_in(_listed(source, Gaps()))[0])
    roots = sorted({_root(source, folder) for folder in runs[:_ASKED]} - {""})
    if not roots:
        reason = f"no destination was given, and {keys.METADATA} records no mirror. Name a destination"
    elif len(roots) > 1 or len(runs) > _ASKED:
        names = ", ".join(one_line(root) for root in roots[:_SHOWN])
        reason = f"no destination was given. The runs record these mirrors: {names}. Name the destination you want"
    else:
        reason = _confirmation(source, roots[0])
    return ConfigurationError(f"cannot sync {source.url}: {reason}", url=source.url)


def _confirmation(source: Store, root: str) -> str:
    """Return the part of the error about the recorded mirror: its address, and the command that syncs to it."""
    reason = (
        f"no destination was given. {keys.METADATA} records the mirror {one_line(root)}; notata sends nothing to an "
        "address that only a run folder names"
    )
    if not _is_plain(root):
        return f"{reason}, and this one is not a plain address"
    command = f"notata sync {shlex.quote(source.url)} {shlex.quote(root)}"
    return f"{reason}. If you trust it, run: {command}"


def _is_plain(url: str) -> bool:
    """Check whether a user can copy an address from a message: no control characters or credentials, not an option."""
    if url.startswith("-"):
        return False
    try:
        return redacted(one_line(shown_url(url))) == url
    except ValueError:
        return False


def _root(source: Store, folder: str) -> str:
    """Return the place of the whole source if this run is where it is mirrored; empty if the run records no mirror."""
    try:
        url = (parsed(source.read(keys.join(folder, keys.METADATA))) or {}).get(MIRROR)
    except (MissingError, FolderError):
        return ""
    if not isinstance(url, str) or not url:
        return ""
    if not name_of(url).startswith("log_"):
        url = f"{url.rstrip('/')}/{name_of(folder or source.url)}"
    return url.removesuffix(f"/{folder}") if folder and url.endswith(f"/{folder}") else "" if folder else url
