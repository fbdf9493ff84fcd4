"""Sync of a tree of runs: finds the runs and other files, where they go, and reports what was done.

`runs` copies each run; files outside of runs are copied like any others.
"""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from notata._base import keys
from notata._base.display import counted
from notata._base.progress import Wanted, shown
from notata._base.secrets import redacted, shown_url
from notata._base.terminal import one_line
from notata._base.threads import Event, Pool
from notata.errors import (
    BatchError,
    ConfigurationError,
    ExistsError,
    FolderError,
    KeyNameError,
    MissingError,
    RunMissingError,
    StorageError,
    StoredNameError,
)
from notata.mirror.clashes import clashing
from notata.mirror.evidence import check
from notata.mirror.files import FileCopier, Pair, delete
from notata.mirror.places import check_separate
from notata.mirror.runs import Outcome, RunCopy
from notata.run.listings import inside, name_of, runs_in, split
from notata.run.removal import remove_run
from notata.run.state import MIRROR, parsed
from notata.store import TIMEOUT, Entry, Location, Store, open_store
from notata.store.gaps import Gaps
from notata.store.in_flight import AT_ONCE, BYTES_AT_ONCE, InFlight, Tally, started_in_thread
from notata.store.spelling import aligned

__all__ = ["SyncReport", "sync", "synced"]

_RUNS_AT_ONCE: Final = 4
_LARGE_AT_ONCE: Final = 2
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
    timeout: float = TIMEOUT,
) -> SyncReport:
    """Make one folder of runs equal to another one, on any storage; only the differences are sent.

    Two files are equal if size and content are equal; times are not compared. The content is compared by checksums from
    the buckets, or by reading local files. Of log.txt only the new end is sent if the destination has its beginning.
    Each file appears whole, and many are sent at once in bounded memory. After an interruption, the next sync
    continues. A running run can be synced: the copy is the run at the time of the sync, and is marked complete only
    after all files are there.

    Args:
        source: The folder of a run or an experiment, or any folder of them: an fsspec URL, local path or UPath.
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
        timeout: Maximum seconds for one request, besides the time that its size needs.

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
    report, errors = synced(
        source,
        destination,
        source_options=source_options,
        destination_options=destination_options,
        delete=delete,
        dry_run=dry_run,
        follow_links=follow_links,
        progress=progress,
        timeout=timeout,
    )
    if errors:
        first = "; ".join(str(error) for error in errors[:_SHOWN])
        raise BatchError(f"{counted(len(errors), 'error')}; everything else is copied: {first}. {report}", errors)
    return report


def synced(
    source: Location,
    destination: Location | None = None,
    *,
    source_options: Mapping[str, Any] | None = None,
    destination_options: Mapping[str, Any] | None = None,
    delete: bool = False,
    dry_run: bool = False,
    follow_links: bool = False,
    progress: Wanted = False,
    timeout: float = TIMEOUT,
) -> tuple[SyncReport, list[Exception]]:
    """Sync as `sync` does; return the report and the errors."""
    origin = open_store(source, source_options, timeout=timeout)
    origin = origin.following_links() if follow_links else origin
    if destination is None:
        raise _no_destination(origin)
    single = origin.exists(keys.METADATA)
    target = open_store(destination, destination_options, timeout=timeout)
    if single:
        is_run = name_of(target.url).startswith("log_")
        target = target.strictly() if is_run else target.below(name_of(origin.url))
    check_separate(origin, target)
    with shown(progress, "sync") as callback:
        return _Sync(origin, target, delete=delete, dry_run=dry_run).run(single, callback)


class _Sync:
    """One sync of a tree to another place."""

    def __init__(self, source: Store, target: Store, *, delete: bool, dry_run: bool) -> None:
        self._source = source
        self._target = target
        self._delete = delete
        self._dry = dry_run
        self._stop = Event()
        self._streams = threading.Semaphore(_LARGE_AT_ONCE)
        self._tally = Tally(None, 0)
        self._copied: dict[str, int] = {}
        self._appended: dict[str, int] = {}
        self._deleted: dict[str, int] = {}
        self._equal = 0
        self._errors: list[Exception] = []
        self._clashing = False

    def run(self, single: bool, callback: Any) -> tuple[SyncReport, list[Exception]]:
        extra, missed = Gaps(), Gaps()
        there = {entry.key: entry for entry in self._target.list(skipped=extra)}
        here = _listed(self._source, missed)
        self._tally = Tally(callback, sum(max(0, entry.size) for entry in here.values()))
        runs, others = ({"": here}, {}) if single else runs_in(here)
        if self._target.folds_names(may_write=not self._dry):
            there = aligned(there, here)
            self._leave_out(clashing(self._target, here, there), runs, others)
        self._errors += extra.errors(self._target.url) if self._delete else []  # entries that should be deleted
        self._errors += [error for error in missed.errors(self._source.url) if not _in_run(error, runs)]
        self._copy_runs(runs, split(there, runs))
        if self._delete and not single and not self._clashing:  # with clashes, an extra name may be the same file
            self._clear({key: entry for key, entry in there.items() if key not in here}, runs)
        elif not single:
            others = self._outside_runs(others, runs_in(there)[0].keys() - runs.keys())
        self._copy_files({key: Pair(entry, there.get(key)) for key, entry in others.items()})
        left_out = tuple(name for name in self._source.irregular() if not keys.is_reserved(name.replace(os.sep, "/")))
        done = (self._copied, self._appended, self._deleted)
        report = SyncReport(
            self._source.url, self._target.url, len(runs), *done, self._equal, left_out, dry_run=self._dry
        )
        return report, self._errors

    def _leave_out(
        self, clashes: Mapping[str, StoredNameError], runs: dict[str, dict[str, Entry]], others: dict[str, Entry]
    ) -> None:
        """Skip clashing names, which would overwrite each other: files outside of runs, and folders of runs."""
        self._clashing = bool(clashes)
        for key in clashes.keys() & others.keys():
            self._errors.append(clashes[key])
            del others[key]
        for folder, error in clashing(self._target, [folder for folder in runs if folder], ()).items():
            self._errors.append(error)
            del runs[folder]

    def _copy_runs(self, runs: Mapping[str, object], there: Mapping[str, Mapping[str, Entry]]) -> None:
        """Copy several runs at once, with fewer files of each at once."""
        count = max(1, min(_RUNS_AT_ONCE, len(runs)))
        flying = InFlight[str, Outcome](count, count)
        pool = Pool(count, "notata-sync")
        with pool, flying.until_landed(self._stop.set):
            for folder in runs:
                check(self._stop)
                flying.begin(folder, 1, started_in_thread, self._copy_run, folder, there[folder], count, pool=pool)
        check(self._stop)
        for folder in runs:
            if folder in flying.errors:
                self._failed(flying.errors[folder])
            else:
                self._note(folder, flying.results[folder])

    def _copy_run(self, folder: str, there: Mapping[str, Entry], at_once: int) -> Outcome:
        copy = RunCopy(
            self._source.below(folder) if folder else self._source,
            self._target.below(folder) if folder else self._target,
            delete=self._delete,
            replace=self._delete,
            at_once=AT_ONCE // at_once,
            bytes_at_once=BYTES_AT_ONCE // at_once,
            stop=self._stop,
            tally=self._tally,
            streams=self._streams,
            dry_run=self._dry,
        )
        return copy.update(listed=there)

    def _note(self, folder: str, outcome: Outcome) -> None:
        for all_, some in (
            (self._copied, outcome.copied),
            (self._appended, outcome.appended),
            (self._deleted, outcome.deleted),
        ):
            all_ |= {keys.join(folder, key): size for key, size in some.items()}
        self._equal += outcome.equal

    def _failed(self, error: Exception) -> None:
        self._errors += error.exceptions if isinstance(error, BatchError) else [error]

    def _outside_runs(self, files: Mapping[str, Entry], runs: Iterable[str]) -> dict[str, Entry]:
        """Drop files outside of the source's runs that would be inside a run of the destination, with an error each."""
        mixed = {key: folder for folder in runs for key in files if key.startswith(f"{folder}/")}
        for folder in sorted(set(mixed.values())):
            message = f"{self._target.url}/{folder} is a run, and {self._source.url}/{folder} has no {keys.METADATA}"
            self._errors.append(ExistsError(message, url=self._target.url, key=folder))
        return {key: entry for key, entry in files.items() if key not in mixed}

    def _copy_files(self, pairs: Mapping[str, Pair]) -> None:
        files = FileCopier(
            self._source,
            self._target,
            at_once=AT_ONCE,
            bytes_at_once=BYTES_AT_ONCE,
            streams=self._streams,
            stop=self._stop,
            tally=self._tally,
            dry=self._dry,
        )
        done, errors = files.copy_all(pairs)
        self._copied |= {key: file_result.bytes for key, file_result in done.items() if file_result.verb == "copied"}
        self._equal += sum(file_result.verb == "equal" for file_result in done.values())
        self._errors += errors.values()

    def _clear(self, extra: Mapping[str, Entry], runs: Iterable[str]) -> None:
        """Delete runs and files that the source does not have; `RunCopy` deletes extra files in its runs."""
        gone, others = runs_in({key: entry for key, entry in extra.items() if not inside(key, runs)})
        self._remove(others)
        for folder, entries in gone.items():
            check(self._stop)
            try:
                removed = self._remove_run(folder, entries)
            except (KeyNameError, StorageError) as error:
                self._errors.append(error)
            else:
                self._deleted |= {keys.join(folder, key): size for key, size in removed.items()}

    def _remove_run(self, folder: str, entries: Mapping[str, Entry]) -> Mapping[str, int]:
        """Remove a run that the source does not have; return the files that are gone, or would be."""
        if self._dry:
            return {key: entry.size for key, entry in entries.items()}
        run = self._target.below(folder)
        remains = remove_run(run, run.fetch(keys.METADATA), entries.values())
        self._errors += remains.errors.values()
        return remains.gone

    def _remove(self, entries: Mapping[str, Entry]) -> None:
        errors = {} if self._dry else delete(self._target, entries)
        self._deleted |= {key: entry.size for key, entry in entries.items() if key not in errors}
        self._errors += errors.values()


def _in_run(error: StorageError, runs: Mapping[str, object]) -> bool:
    """Check whether the copy of a run will report this error itself."""
    return error.key is not None and inside(error.key, runs) is not None


def _listed(source: Store, skipped: Gaps) -> dict[str, Entry]:
    """Return the files of the source; a source without any file is an error, as its name may be wrong."""
    here = {entry.key: entry for entry in source.list(skipped=skipped)}
    if not here and not skipped.count:
        raise RunMissingError(f"there is no file at {source.url}", url=source.url)
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
