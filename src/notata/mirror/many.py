"""Copies of many runs at once, with the fewest requests.

A run that both listings show to be equal is done. Of a source in a bucket, the metadata.json of all other runs are
read, and then all runs are listed together. So the files of each run are listed after its metadata.json was read, as a
copy requires, without a listing for each run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from notata._base import keys
from notata._base.threads import Pool
from notata.errors import BatchError, NotataError, StorageError
from notata.mirror.evidence import same
from notata.mirror.files import CopyResult
from notata.mirror.options import CopyOptions
from notata.mirror.plans import Metadata
from notata.mirror.runs import RunCopy, Seen
from notata.run.listings import inside, split
from notata.store import Entry, Store
from notata.store.gaps import Gaps
from notata.store.in_flight import AT_ONCE, InFlight, started_in_thread

__all__ = ["RunCopies", "RunFiles", "gapped_runs"]

_RUNS_AT_ONCE: Final = 32  # a new run of few files waits for about six requests, one after the other
_SEEN_TOGETHER: Final = 5000  # runs whose metadata.json is in memory at the same time: some 10 MiB
_PAGE: Final = 1000  # files in one request of a listing

Results: TypeAlias = dict[str, CopyResult]


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The files of a run as both sides were listed, by key in the run.

    Attributes:
        here: Those of the source.
        there: Those of the target.
        whole: Whether all files of the source could be listed.
    """

    here: Mapping[str, Entry]
    there: Mapping[str, Entry]
    whole: bool = True


class RunCopies:
    """Makes the copies of many runs equal to them, and keeps the results and errors.

    Args:
        source: The folder that contains the runs.
        target: The folder that contains their copies.
        options: The options and limits, which all copies share.

    Attributes:
        results: What was done with each file, by key.
        errors: The errors of runs and files that could not be copied.
    """

    def __init__(self, source: Store, target: Store, options: CopyOptions) -> None:
        self._source = source
        self._target = target
        self._options = options
        self._asked = threading.Lock()
        self._is_asked = False
        self.results: Results = {}
        self.errors: list[Exception] = []

    def copy(self, runs: Mapping[str, RunFiles]) -> None:
        """Copy runs, by folder.

        Raises:
            InterruptedError: The copy was stopped.
        """
        pages = 1 + sum(len(run.here) for run in runs.values()) // _PAGE
        with Pool(AT_ONCE, "notata-copy") as pool:
            self._options = replace(self._options, pool=pool)
            if self._source.is_local:
                self._each(runs, lambda folder: self._equal(folder, runs[folder]) or self._copied(folder, runs[folder]))
                return
            done = self._each(
                [folder for folder, run in runs.items() if self._may_be_equal(run)],
                lambda folder: self._equal(folder, runs[folder]),
            )
            left = [folder for folder in runs if folder not in done]
            for start in range(0, len(left), _SEEN_TOGETHER):
                part = {folder: runs[folder] for folder in left[start : start + _SEEN_TOGETHER]}
                self._copy_part(part, self._seen(part) if len(part) > pages else {})

    def _copy_part(self, runs: Mapping[str, RunFiles], seen: Mapping[str, Seen]) -> None:
        self._each(runs, lambda folder: self._copied(folder, runs[folder], seen.get(folder)))

    def _each(self, folders: Collection[str], work: Callable[[str], Results | None]) -> set[str]:
        """Call a function for many runs at once; return the folders of those with results or an error."""
        flying = InFlight[str, "Results | None"](_RUNS_AT_ONCE)
        pool = Pool(min(_RUNS_AT_ONCE, len(folders)), "notata-sync")
        with pool, flying.until_landed(self._options.stop.set):
            for folder in folders:
                self._options.check()
                flying.begin(folder, 0, started_in_thread, work, folder, pool=pool)
        self._options.check()
        done = set(flying.errors)
        for folder in folders:
            if (error := flying.errors.get(folder)) is not None:
                self.errors += error.exceptions if isinstance(error, BatchError) else [error]
            elif (results := flying.results[folder]) is not None:
                done.add(folder)
                self.results |= {keys.join(folder, key): result for key, result in results.items()}
        return done

    def _below(self, folder: str) -> tuple[Store, Store]:
        source, target = (store.below(folder) if folder else store for store in (self._source, self._target))
        return source, target

    def _copied(self, folder: str, run: RunFiles, seen: Seen | None = None) -> Results:
        self._ask_target()
        source, target = self._below(folder)
        return RunCopy(source, target, self._options).update(listed=run.there, seen=seen)

    def _ask_target(self) -> None:
        """Let one thread find out what the target supports, before all of them need to know it."""
        with self._asked:
            if not self._is_asked and not self._options.dry_run:
                _ = self._target.supports_cas, self._target.copies_from(self._source)
                self._is_asked = True

    # -- without a request for the run ---------------------------------------------------------------------

    def _may_be_equal(self, run: RunFiles) -> bool:
        """Check whether the target has the same files, as far as names and sizes tell."""
        extra = self._options.delete and len(run.there) > len(run.here)
        return (
            run.whole
            and not extra
            and all(key in run.there and run.there[key].size == entry.size for key, entry in run.here.items())
        )

    def _equal(self, folder: str, run: RunFiles) -> Results | None:
        """Return the results of a run whose copy needs no change; None if it may need one. Reads local files."""
        if not self._may_be_equal(run):
            return None
        source, target = self._below(folder)
        first = sorted(run.here, key=lambda key: (key != keys.METADATA, run.here[key].size))
        try:
            if not all(same(source, run.here[key], target, run.there[key], self._options) for key in first):
                return None
        except NotataError:  # the copy of the run reports it, unless it has passed by then
            return None
        for key, entry in run.here.items():
            if key != keys.METADATA:
                self._options.tally.add(max(0, entry.size))
        return {key: CopyResult("equal", 0, entry.version) for key, entry in run.here.items()}

    # -- without a listing of the run ----------------------------------------------------------------------

    def _seen(self, runs: Mapping[str, RunFiles]) -> dict[str, Seen]:
        """Read the metadata.json of runs, and then list the source. Runs for which that fails are left out."""
        gaps = Gaps()
        try:
            read = self._source.fetch_many([keys.join(folder, keys.METADATA) for folder in runs])
            listed = {entry.key: entry for entry in self._source.list(skipped=gaps)}
        except (BatchError, StorageError):
            return {}  # each run is read and listed separately, and reports its own error
        seen = {}
        gapped = gapped_runs(gaps.errors(self._source.url), runs)
        for folder, entries in split(listed, [folder for folder in runs if folder not in gapped]).items():
            found = read.get(keys.join(folder, keys.METADATA))
            if found is not None:
                seen[folder] = Seen(Metadata.of(found), entries, same_before=runs[folder].here == entries)
        return seen


def gapped_runs(errors: Collection[StorageError], runs: Mapping[str, object]) -> set[str]:
    """Return the folders of runs of which a listing lacks something; all of them if that is unknown."""
    found = {None if error.key is None else inside(error.key, runs) for error in errors}
    if any(error.key is None for error in errors):
        return set(runs)
    return {folder for folder in found if folder is not None}
