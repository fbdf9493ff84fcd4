"""The copy of one run: its metadata.json says that it is complete only after all other files are copied."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from notata._base import keys
from notata._base.retries import attempts
from notata.errors import BatchError, ConflictError, ExistsError, RunExistsError, RunMissingError
from notata.mirror import plans
from notata.mirror.clashes import clashing
from notata.mirror.evidence import TRUSTED, digest_of
from notata.mirror.files import HOPELESS, CopyResult, FileCopier, Pair, delete, look_up
from notata.mirror.options import CopyOptions
from notata.mirror.plans import Metadata
from notata.run.state import find_metadata, parsed
from notata.store import Entry, Store
from notata.store.backends.spelling import aligned
from notata.store.files import PART
from notata.store.gaps import Gaps, ignore

__all__ = ["RunCopy", "Seen"]

_TRIES: Final = 8


@dataclass(slots=True)
class _Memory:
    """The knowledge of a copy that is updated repeatedly, which saves requests.

    Attributes:
        known: The source's versions of copied files.
        repeats: Whether the copy is updated repeatedly. Otherwise nothing is known.
        compared: Whether the whole target was compared, so that only new files need a comparison.
        logs: The target's logs, as this copy left them.
        target: The target's metadata.json, as this copy stored it last.
        source: The source's metadata.json at that time.
    """

    known: dict[str, str]
    repeats: bool
    compared: bool = False
    logs: dict[str, Entry] = field(default_factory=dict)
    target: Metadata | None = None
    source: Metadata | None = None

    def forget_run(self) -> None:
        """Forget the files of the previous run, as the source has another one."""
        self.known.clear()
        self.logs.clear()
        self.compared = False

    def had_run(self, run: Metadata) -> bool:
        """Check whether this copy has put this run at the target before."""
        if run.fields is None or self.source is None:
            return False
        return bool(self.source.get("start_time") == run.get("start_time"))

    def add(self, pairs: Mapping[str, Pair], results: Mapping[str, CopyResult]) -> None:
        """Remember copied files."""
        if not self.repeats:
            return
        for key, result in results.items():
            if result.verb == "gone":
                self.known.pop(key, None)
                continue
            self.known[key] = result.source
            if keys.is_growing(key) and result.verb != "equal":
                self.logs[key] = Entry(key, result.size, pairs[key].here.modified, result.target, TRUSTED)


@dataclass(frozen=True, slots=True)
class Seen:
    """A run of the source, as listings of many runs and one read have shown it.

    Attributes:
        metadata: Its metadata.json.
        entries: Its files by key, as listed after that read.
        same_before: Whether a listing before the read shows the same files, in the same versions. Then these were its
            files when its metadata.json was read.
    """

    metadata: Metadata
    entries: Mapping[str, Entry]
    same_before: bool


class RunCopy:
    """Makes the copy of one run equal to it.

    The copy's metadata.json is claimed first, so that no other run is mixed with this one. It says that the run has
    ended only after all files are copied. It is changed by compare-and-swap, so that two copies at once are safe.

    Args:
        source: The run's folder.
        target: The folder of the copy.
        options: The options and limits.
        known: For a copy that is updated repeatedly: the source's versions (`Entry.version`) of copied files, which are
            skipped. Each update adds the files that it copies, including metadata.json.

    >>> from notata import Logbook
    >>> from notata.store import open_store
    >>> with Logbook("copied", "memory://mirror-here") as log:
    ...     path = log.text("notes", "converged")
    >>> source, target = open_store("memory://mirror-here/log_copied"), open_store("memory://mirror-there/log_copied")
    >>> RunCopy(source, target).update()["artifacts/notes.txt"].verb
    'copied'
    >>> RunCopy(source, target).update()["artifacts/notes.txt"].verb
    'equal'
    """

    def __init__(
        self,
        source: Store,
        target: Store,
        options: CopyOptions | None = None,
        *,
        known: dict[str, str] | None = None,
    ) -> None:
        self._files = FileCopier(source, target, options or CopyOptions())
        self._memory = _Memory({} if known is None else known, repeats=known is not None)

    def update(
        self,
        only: Collection[str] | None = None,
        *,
        listed: Mapping[str, Entry] | None = None,
        seen: Seen | None = None,
    ) -> dict[str, CopyResult]:
        """Make the target equal to the source as it is now. Safe to call again, also after an error.

        Args:
            only: Copy only these files. metadata.json is copied if it is among them and does not say that the run has
                ended: that of an ended run is copied by a call without `only`.
            listed: A current listing of the target, by key; by default the target is listed.
            seen: The source, listed after the target; by default it is read and listed.

        Returns:
            What was done with each file, by key.

        Raises:
            RunExistsError: The target has another run with this id, or is ahead of the source.
            RunMissingError: The source is not a run.
            BatchError: Files could not be copied; it contains their errors, and the other files are copied.
                metadata.json is unchanged, or says ``replacing``.
            ConflictError: Other processes kept changing the target's metadata.json.
            StorageError: A storage refused or failed.
            InterruptedError: The copy was stopped.
        """
        for last in attempts(_TRIES):
            self._files.options.check()
            try:
                return _Update(self._files, self._memory, only, seen).run(listed)
            except RunExistsError:  # if the source was seen before, the target may have got a later state since
                if seen is None:
                    raise
                self._memory.target = listed = seen = None
            except (ConflictError, ExistsError):
                self._memory.target = listed = seen = None
                if last:
                    raise
        raise AssertionError("unreachable")


class _Update:
    """One comparison of both sides, and the changes that follow from it."""

    def __init__(
        self, files: FileCopier, memory: _Memory, only: Collection[str] | None, seen: Seen | None = None
    ) -> None:
        self._files = files
        self._source = files.source
        self._target = files.target
        self._options = files.options
        self._memory = memory
        self._only = only
        self._seen = seen
        self._results: dict[str, CopyResult] = {}
        self._errors: dict[str, Exception] = {}

    def run(self, found: Mapping[str, Entry] | None) -> dict[str, CopyResult]:
        # The target is listed before the source: so a file that only the target has was deleted at the source, and not
        # added meanwhile, and a later state at the target did not come from the source meanwhile.
        listed = self._list_target() if found is None else found
        self._there, here = self._read_metadata(found)
        self._here = plans.with_pin(here, self._there)
        replaces = self._there is not None and self._replaces(self._there)
        if replaces and (self._memory.known or self._memory.compared or self._only is not None):
            self._memory.forget_run()  # what is known belongs to the previous run
            return _Update(self._files, self._memory, None).run(None)
        entries = self._list_source() if self._seen is None else _but_metadata(self._seen.entries.values())
        listed = self._without_clashes(entries, listed)
        pairs = self._pairs(entries, listed)
        if pairs and self._memory.target is not None:
            self._check_target()
        first = plans.first_metadata(self._here, self._there, replaces=replaces, copies=bool(pairs))
        if first is not None:
            self._set_metadata(first)
        if replaces:
            self._delete(plans.only_there(listed, entries))
        entries = self._copy_files(entries, pairs, listed)
        deletes = self._options.delete and not replaces and self._only is None and not self._errors
        extra = plans.only_there(listed, entries) if deletes else {}
        if not self._options.dry_run and (extra or self._changes_files() or not self._is_current()):
            self._check_source(entries)
        if deletes:
            self._delete(extra)
        if self._errors:
            some, all_ = len(self._errors), len(self._errors) + len(self._results)
            raise BatchError(
                f"{some} of {all_} files could not be copied to, or deleted from, {self._target.url}",
                [*self._errors.values()],
            )
        self._publish()
        self._memory.compared |= self._memory.repeats and self._only is None
        return self._results

    # -- compare -------------------------------------------------------------------------------------------

    def _list_target(self) -> dict[str, Entry]:
        if self._memory.compared or self._only is not None:
            return {}
        return {entry.key: entry for entry in self._target.list(skipped=ignore)}

    def _read_metadata(self, found: Mapping[str, Entry] | None) -> tuple[Metadata | None, Metadata]:
        """Return the target's and the source's metadata.json; that of a listed target is read only if it differs."""
        if self._memory.target is not None:
            return self._memory.target, self._read_source()
        entry = None if found is None else found.get(keys.METADATA)
        if found is not None and (entry is None or entry.digest):
            here = self._read_source()
            if entry is None:
                return None, here
            if entry.size == len(here.data) and digest_of(iter([here.data]), entry.digest) == entry.digest:
                return replace(here, version=entry.version), here
        there = find_metadata(self._target)
        return None if there is None else Metadata.of(there), self._read_source()

    def _read_source(self) -> Metadata:
        return _metadata(self._source) if self._seen is None else self._seen.metadata

    def _list_source(self) -> dict[str, Entry]:
        """Return the files of the source, or those of `only`."""
        self._seen = None
        if self._only is None:
            gaps = Gaps()
            listed = self._source.list(skipped=gaps)
            self._errors |= {error.key or "": error for error in gaps.errors(self._source.url)}
            return _but_metadata(listed)
        found = {key: look_up(self._source, key) for key in self._only if key != keys.METADATA}
        return {key: entry for key, entry in found.items() if entry is not None}

    def _without_clashes(self, entries: dict[str, Entry], listed: Mapping[str, Entry]) -> dict[str, Entry]:
        """Drop files whose names clash on the target's disk, with an error each; return the target's, by our names."""
        if not self._target.folds_names(may_write=not self._options.dry_run):
            return dict(listed)
        there = aligned(listed, entries)
        clashes = clashing(self._target, entries, there)
        self._errors |= clashes
        for key in clashes:
            del entries[key]
        return there

    def _pairs(self, entries: Mapping[str, Entry], listed: Mapping[str, Entry]) -> dict[str, Pair]:
        """Return the files to copy with the target's entries, as far as these are known without a request."""
        known, logs, compared = self._memory.known, self._memory.logs, self._memory.compared
        new = {key: entry for key, entry in entries.items() if known.get(key) != entry.version}
        if self._only is None and not compared:
            return {key: Pair(entry, listed.get(key)) for key, entry in new.items()}
        look = {key: key not in logs and (not compared or key in known) for key in new}
        return {key: Pair(entry, logs.get(key), look=look[key]) for key, entry in new.items()}

    def _replaces(self, there: Metadata) -> bool:
        """Check whether another run is to be replaced; raise an error if that is not allowed."""
        if self._is_current():
            return False
        if plans.is_another_run(self._here, there):
            if self._options.replace and not self._memory.had_run(self._here):
                if not there.is_pinned:
                    return True
                raise RunExistsError(
                    f"{self._target.url} contains a different run with this id, which is pinned; copy to another "
                    "place, or unpin that run with notata unpin",
                    url=self._target.url,
                    key=keys.METADATA,
                )
            what = (
                "a run whose metadata.json cannot be read" if there.fields is None else "a different run with this id"
            )
            why = f"contains {what}; copy to another place, or pass --delete to notata sync to replace it"
        elif ahead := plans.why_ahead(self._here, there):
            why = f"is ahead of {self._source.url}: {ahead}; sync in the other direction"
        else:
            return plans.is_being_replaced(there)
        raise RunExistsError(f"{self._target.url} {why}", url=self._target.url, key=keys.METADATA)

    def _is_current(self) -> bool:
        """Check whether the target has the metadata.json of the source."""
        return self._there is not None and self._there.data == self._here.data

    def _changes_files(self) -> bool:
        return any(result.verb in ("copied", "appended") for result in self._results.values())

    def _check_target(self) -> None:
        """Check that no other run's mirror has taken over the target since. One request.

        Raises:
            ConflictError: The target has another metadata.json than this copy stored.
        """
        found = find_metadata(self._target)
        if found is None or self._there is None or found.data != self._there.data:
            raise ConflictError(f"{self._target.url}: another process put a copy there", url=self._target.url)

    def _check_source(self, entries: Mapping[str, Entry]) -> None:
        """Check that no other run or attempt has begun in the source's folder: its files may be among the copied ones.

        At most one request; none if the copy has exactly the files that the source had when its metadata.json was read.

        Raises:
            ConflictError: One has begun. If the target said that the run has ended, it now says ``replacing``.
        """
        if self._is_as_seen(entries):
            return
        if _metadata(self._source).attempt == self._here.attempt:
            return
        if self._there is not None and self._there.has_ended and self._changes_files():
            self._set_metadata(plans.being_copied(self._there, "new"))
        raise ConflictError(f"{self._source.url}: another run or attempt has started there", url=self._source.url)

    def _is_as_seen(self, entries: Mapping[str, Entry]) -> bool:
        """Check whether each file is known to have been copied in the version that was seen."""
        if self._seen is None or not self._seen.same_before or self._errors:
            return False
        copied = ((entries[key], result) for key, result in self._results.items() if key in entries)
        return all(
            result.verb in ("equal", "copied") and result.source == entry.version and 0 <= entry.size <= PART
            for entry, result in copied
        )

    # -- change the target ---------------------------------------------------------------------------------

    def _set_metadata(self, data: bytes) -> None:
        """Replace the target's metadata.json, unless it changed since it was read."""
        if self._options.dry_run:
            return
        version = self._files.store(keys.METADATA, data, self._there.version if self._there else "")
        self._there = self._memory.target = Metadata(data, version, parsed(data))
        self._memory.source = self._here

    def _copy_files(
        self, entries: dict[str, Entry], pairs: dict[str, Pair], listed: Mapping[str, Entry]
    ) -> dict[str, Entry]:
        """Copy what differs; return the current files of the source.

        Files that vanished may have been renamed, and a newer manifest lists new files. Both need a new listing.
        """
        for last in range(_TRIES, 0, -1):
            look = False
            for phase in plans.phases(pairs):
                results, errors = self._files.copy_all(phase)
                self._memory.add(phase, results)
                self._results |= results
                self._errors |= errors
                look |= any(_needs_new_listing(phase[key].here, result) for key, result in results.items())
                if any(isinstance(error, HOPELESS) for error in errors.values()):
                    return entries
            if not look or self._only is not None or last == 1:
                break
            before, entries = entries, self._list_source()
            listed = self._without_clashes(entries, listed)
            fresh = {key: entry for key, entry in entries.items() if before.get(key) != entry}
            pairs = {key: replace(pair, look=key in self._results) for key, pair in self._pairs(fresh, listed).items()}
        return entries

    def _delete(self, extra: Mapping[str, int]) -> None:
        """Delete files that the source does not have."""
        self._options.check()
        errors = {} if self._options.dry_run else delete(self._target, extra)
        self._results |= {key: CopyResult("deleted", size) for key, size in extra.items() if key not in errors}
        self._errors |= errors

    def _publish(self) -> None:
        """Store the source's first metadata.json at the target, as all other files are there."""
        ended = self._here.fields is None or self._here.has_ended
        if self._only is not None and (ended or keys.METADATA not in self._only):
            return
        result = CopyResult("equal") if self._is_current() else CopyResult("copied", len(self._here.data))
        if result.verb == "copied":
            self._options.check()
            self._set_metadata(self._here.data)
        self._results[keys.METADATA] = result
        if self._memory.repeats:
            self._memory.known[keys.METADATA] = self._here.version


def _needs_new_listing(here: Entry, result: CopyResult) -> bool:
    """Check whether the source must be listed again, because its files have changed."""
    newer = keys.is_manifest(here.key) and result.source != here.version
    return result.verb == "gone" or newer


def _but_metadata(listed: Iterable[Entry]) -> dict[str, Entry]:
    return {entry.key: entry for entry in listed if entry.key != keys.METADATA}


def _metadata(store: Store) -> Metadata:
    found = find_metadata(store)
    if found is None:
        raise RunMissingError(
            f"there is no run at {store.url}: it has no {keys.METADATA}", url=store.url, key=keys.METADATA
        )
    return Metadata.of(found)
