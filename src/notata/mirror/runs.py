"""The copy of one run: its metadata.json says that it is complete only after all other files are copied."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from notata._base import keys
from notata._base.retries import attempts
from notata._base.threads import Event
from notata._base.times import moment
from notata.errors import (
    BatchError,
    ConflictError,
    ExistsError,
    RunExistsError,
    RunMissingError,
)
from notata.mirror.clashes import clashing
from notata.mirror.evidence import TRUSTED, check, digest_of
from notata.mirror.files import HOPELESS, CopyResult, FileCopier, Pair, delete, look_up
from notata.run.state import COPIED, ENDED, RESUMES, find_metadata, lease_of, parsed
from notata.store import Blob, Entry, Store
from notata.store.gaps import Gaps, ignore
from notata.store.in_flight import AT_ONCE, BYTES_AT_ONCE, Tally
from notata.store.spelling import aligned

__all__ = ["Outcome", "RunCopy"]

_TRIES: Final = 8


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of copying one run.

    Attributes:
        copied: The bytes of each file that was copied whole, by key.
        appended: The bytes that were appended to each log.
        deleted: The deleted files, with their sizes.
        equal: The number of files that were equal already.
        whole: Whether the target's metadata.json equals that of the source at the beginning of the copy. Then the
            target has all files that the source had at that moment.
    """

    copied: Mapping[str, int] = field(default_factory=dict)
    appended: Mapping[str, int] = field(default_factory=dict)
    deleted: Mapping[str, int] = field(default_factory=dict)
    equal: int = 0
    whole: bool = False

    @property
    def bytes(self) -> int:
        """The number of bytes that were sent, or would be."""
        return sum(self.copied.values()) + sum(self.appended.values())


class RunCopy:
    """Makes the copy of one run equal to it; may be used repeatedly.

    The copy's metadata.json is claimed first, so that no other run is mixed with this one. It says that the run has
    ended only after all files are copied. It is changed by compare-and-swap, so that two copies at once are safe.

    Args:
        source: The run's folder.
        target: The folder of the copy.
        delete: Delete files that the source does not have.
        replace: Remove another run with this id at the target; otherwise that is an error. It is also an error if the
            other run came later, and replaced this one.
        at_once: Maximum number of small files in flight.
        bytes_at_once: Maximum bytes of small files in flight.
        stop: Set it to make `update` stop soon, without incomplete files.
        tally: Counts the bytes of files that are copied, or found to be equal.
        streams: Limits large files in flight, if several runs are copied.
        dry_run: Write nothing, and return what would be done.

    >>> from notata import Logbook
    >>> from notata.store import open_store
    >>> with Logbook("copied", "memory://mirror-here") as log:
    ...     path = log.text("notes", "converged")
    >>> source, target = open_store("memory://mirror-here/log_copied"), open_store("memory://mirror-there/log_copied")
    >>> RunCopy(source, target).update().whole
    True
    >>> target.read("artifacts/notes.txt"), RunCopy(source, target).update().bytes
    (b'converged', 0)
    """

    def __init__(
        self,
        source: Store,
        target: Store,
        *,
        delete: bool = False,
        replace: bool = False,
        at_once: int = AT_ONCE,
        bytes_at_once: int = BYTES_AT_ONCE,
        stop: Event | None = None,
        tally: Tally | None = None,
        streams: threading.Semaphore | None = None,
        dry_run: bool = False,
    ) -> None:
        self._source = source
        self._target = target
        self._delete = delete
        self._replace = replace
        self._dry = dry_run
        self._stop = stop or Event()
        self._files = FileCopier(
            source,
            target,
            at_once=at_once,
            bytes_at_once=bytes_at_once,
            streams=streams,
            stop=self._stop,
            tally=tally,
            dry=dry_run,
        )
        self._there: Blob | None = None  # the target's metadata.json, as this copy stored it last
        self._begun: object = self  # the start time of the run it is from
        self._compared = False  # whether the target was listed, so that only new files need a comparison
        self._logs: dict[str, Entry] = {}  # the target's logs, as this copy left them

    def update(
        self,
        known: dict[str, str] | None = None,
        only: Collection[str] | None = None,
        *,
        listed: Mapping[str, Entry] | None = None,
    ) -> Outcome:
        """Make the target equal to the source as it is now. Safe to call again, also after an error.

        Args:
            known: The source's versions (`Entry.version`) of copied files, which are skipped. The call adds the files
                that it copies, including metadata.json. Pass the same dictionary each time to the same `RunCopy`.
            only: Copy only these files. metadata.json is copied if it is among them and does not say that the run has
                ended: that of an ended run is copied by a call without `only`.
            listed: A current listing of the target, by key; by default the target is listed.

        Raises:
            RunExistsError: The target has another run with this id, or is ahead of the source.
            RunMissingError: The source is not a run.
            BatchError: Files could not be copied; it contains their errors, and the other files are copied.
                metadata.json is unchanged, or says ``replacing``.
            ConflictError: Other processes kept changing the target's metadata.json.
            StorageError: A storage refused or failed.
            InterruptedError: `stop` was set.
        """
        copied: dict[str, str] = {} if known is None else known
        for last in attempts(_TRIES):
            check(self._stop)
            try:
                return _Pass(self, copied, only, again=known is not None).run(listed)
            except _AnotherRun:  # what is known belongs to the previous run
                self._logs.clear()
                copied.clear()
                self._compared, only, listed = False, None, None
            except (ConflictError, ExistsError):
                self._there = listed = None
                if last:
                    raise
        raise AssertionError("unreachable")


class _AnotherRun(Exception):
    """The target has another run than before, which is to be replaced."""


class _Pass:
    """One comparison of both sides, and the changes that follow from it."""

    def __init__(self, copy: RunCopy, known: dict[str, str], only: Collection[str] | None, *, again: bool) -> None:
        self._copy = copy
        self._source = copy._source
        self._target = copy._target
        self._known = known
        self._only = only
        self._again = again and copy._compared
        self._remembers = again
        self._done: dict[str, CopyResult] = {}
        self._errors: dict[str, Exception] = {}
        self._deleted: dict[str, int] = {}

    def run(self, found: Mapping[str, Entry] | None) -> Outcome:
        # The target is listed before the source: so a file that only the target has was deleted at the source, and not
        # added meanwhile, and a later state at the target did not come from the source meanwhile.
        listed = self._listed() if found is None else found
        self._there, self._here = self._metadata(found)
        fields, there = parsed(self._here.data), parsed(self._there.data) if self._there else None
        over = self._is_replaced(fields, there)
        if over and (self._known or self._again or self._only is not None):
            raise _AnotherRun
        entries = self._entries()
        listed = self._without_clashes(entries, listed)
        pairs = self._pairs(entries, listed)
        if pairs and self._copy._there is not None:
            self._check_target()
        if over or (fields is not None and (self._there is None or (pairs and self._claims_wrong_end(there)))):
            self._claim(fields or {}, over=over)
        if over:
            self._clear(listed, entries)
        entries = self._copy_files(entries, pairs, listed)
        clear = self._copy._delete and not over and self._only is None and not self._errors
        if not self._copy._dry and self._changes_target(entries, listed if clear else {}):
            self._check_source(fields)
        if clear:
            self._clear(listed, entries)
        if self._errors:
            some, all_ = len(self._errors), len(self._errors) + len(self._done)
            raise BatchError(
                f"{some} of {all_} files could not be copied to {self._target.url}, or deleted there",
                [*self._errors.values()],
            )
        whole = self._publish(fields)
        self._copy._compared |= self._remembers and self._only is None
        return self._outcome(whole=whole)

    def _listed(self) -> dict[str, Entry]:
        if self._again or self._only is not None:
            return {}
        return {entry.key: entry for entry in self._target.list(skipped=ignore)}

    def _metadata(self, found: Mapping[str, Entry] | None) -> tuple[Blob | None, Blob]:
        """Return the target's and the source's metadata.json; that of a listed target is read only if it differs."""
        if self._copy._there is not None:
            return self._copy._there, _metadata(self._source)
        entry = None if found is None else found.get(keys.METADATA)
        if found is not None and (entry is None or entry.digest):
            here = _metadata(self._source)
            if entry is None:
                return None, here
            if entry.size == here.size and digest_of(iter([here.data]), entry.digest) == entry.digest:
                return Blob(here.data, here.size, entry.version), here
        return find_metadata(self._target), _metadata(self._source)

    def _entries(self) -> dict[str, Entry]:
        """Return the files of the source, or those of `only`."""
        if self._only is None:
            gaps = Gaps()
            listed = self._source.list(skipped=gaps)
            self._errors |= {error.key or "": error for error in gaps.errors(self._source.url)}
            return {entry.key: entry for entry in listed if entry.key != keys.METADATA}
        found = {key: look_up(self._source, key) for key in self._only if key != keys.METADATA}
        return {key: entry for key, entry in found.items() if entry is not None}

    def _without_clashes(self, entries: dict[str, Entry], listed: Mapping[str, Entry]) -> dict[str, Entry]:
        """Drop files whose names clash on the target's disk, with an error each; return the target's, by our names."""
        if not self._target.folds_names(may_write=not self._copy._dry):
            return dict(listed)
        there = aligned(listed, entries)
        clashes = clashing(self._target, entries, there)
        self._errors |= clashes
        for key in clashes:
            del entries[key]
        return there

    def _pairs(self, entries: Mapping[str, Entry], listed: Mapping[str, Entry]) -> dict[str, Pair]:
        """Return the files to copy with the target's entries, as far as these are known without a request."""
        new = {key: entry for key, entry in entries.items() if self._known.get(key) != entry.version}
        if self._only is None and not self._again:
            return {key: Pair(entry, listed.get(key)) for key, entry in new.items()}
        logs = self._copy._logs
        look = {key: key not in logs and (not self._again or key in self._known) for key in new}
        return {key: Pair(entry, logs.get(key), look=look[key]) for key, entry in new.items()}

    def _is_replaced(self, here: Mapping[str, Any] | None, there: Mapping[str, Any] | None) -> bool:
        """Check whether another run is to be replaced; raise an error if that is not allowed."""
        if self._there is None or self._there.data == self._here.data:
            return False
        if here is None or there is None or here.get("start_time") != there.get("start_time"):
            was_there = here is not None and self._copy._begun == here.get("start_time")
            if self._copy._replace and not was_there:
                return True
            what = "a run whose metadata.json cannot be read" if there is None else "another run of this id"
            raise RunExistsError(
                f"{self._target.url} holds {what}; copy to another place, or replace it by notata sync --delete",
                url=self._target.url,
                key=keys.METADATA,
            )
        if why := _why_ahead(here, there):
            raise RunExistsError(
                f"{self._target.url} is ahead of {self._source.url}: {why}; sync the other way",
                url=self._target.url,
                key=keys.METADATA,
            )
        return there.get("status") == "replacing" and there.get(COPIED) == "over"

    def _claims_wrong_end(self, there: Mapping[str, Any] | None) -> bool:
        """Check whether the target claims an end that is not the source's, while its files are about to change."""
        assert self._there is not None
        return self._there.data != self._here.data and (there or {}).get("status") in ENDED

    def _claim(self, fields: Mapping[str, Any], *, over: bool) -> None:
        """Claim the target for the run, without its end; mark a run that is being replaced."""
        data = self._here.data
        if over or fields.get("status") in ENDED:
            data = _being_copied(fields, "over" if over else "new")
        self._set_metadata(data)

    def _set_metadata(self, data: bytes) -> None:
        """Replace the target's metadata.json, unless it changed since it was read."""
        if self._copy._dry:
            return
        version = self._copy._files.store(keys.METADATA, data, self._there.version if self._there else "")
        self._there = self._copy._there = Blob(data, len(data), version)
        self._copy._begun = (parsed(self._here.data) or {}).get("start_time")

    def _copy_files(
        self, entries: dict[str, Entry], pairs: dict[str, Pair], listed: Mapping[str, Entry]
    ) -> dict[str, Entry]:
        """Copy what differs; return the current files of the source.

        Files that vanished may have been renamed, and a newer manifest lists new files. Both need a new listing.
        """
        for last in range(_TRIES, 0, -1):
            look = False
            for _, phase in sorted(_phases(pairs).items()):
                done, errors = self._copy._files.copy_all(phase)
                self._note(phase, done)
                self._errors |= errors
                look |= any(_needs_new_listing(phase[key].here, file_result) for key, file_result in done.items())
                if any(isinstance(error, HOPELESS) for error in errors.values()):
                    return entries
            if not look or self._only is not None or last == 1:
                break
            before, entries = entries, self._entries()
            listed = self._without_clashes(entries, listed)
            fresh = {key: entry for key, entry in entries.items() if before.get(key) != entry}
            pairs = {key: replace(pair, look=key in self._done) for key, pair in self._pairs(fresh, listed).items()}
        return entries

    def _check_target(self) -> None:
        """Check that no other run's mirror has taken over the target since. One request.

        Raises:
            ConflictError: The target has another metadata.json than this copy stored.
        """
        found = find_metadata(self._target)
        if found is None or self._there is None or found.data != self._there.data:
            raise ConflictError(f"{self._target.url}: another copy was put there", url=self._target.url)

    def _changes_target(self, entries: Mapping[str, Entry], listed: Mapping[str, Entry]) -> bool:
        """Check whether anything changes at the target."""
        there = None if self._there is None else self._there.data
        gone = listed.keys() - entries.keys() - {keys.METADATA}
        return bool(gone) or there != self._here.data or any(map(_sent, self._done.values()))

    def _check_source(self, fields: Mapping[str, Any] | None) -> None:
        """Check that no other run or attempt has begun in the source's folder: its files may be among the copied ones.

        Raises:
            ConflictError: One has begun. If the target said that the run has ended, it now says ``replacing``.
        """
        if _identity(parsed(_metadata(self._source).data)) == _identity(fields):
            return
        there = None if self._there is None else parsed(self._there.data)
        if there is not None and there.get("status") in ENDED and any(map(_sent, self._done.values())):
            self._set_metadata(_being_copied(there, "new"))
        raise ConflictError(f"{self._source.url}: another run or attempt began there", url=self._source.url)

    def _note(self, pairs: Mapping[str, Pair], done: Mapping[str, CopyResult]) -> None:
        self._done |= done
        if not self._remembers:
            return
        for key, file_result in done.items():
            if file_result.verb == "gone":
                self._known.pop(key, None)
                continue
            self._known[key] = file_result.source
            if keys.is_log(key) and file_result.verb != "equal":
                here = pairs[key].here
                self._copy._logs[key] = Entry(key, file_result.size, here.modified, file_result.target, TRUSTED)

    def _clear(self, listed: Mapping[str, Entry], entries: Mapping[str, Entry]) -> None:
        """Delete files that the source does not have."""
        extra = {key: entry.size for key, entry in listed.items() if key not in entries and key != keys.METADATA}
        check(self._copy._stop)
        errors = {} if self._copy._dry else delete(self._target, extra)
        self._deleted |= {key: size for key, size in extra.items() if key not in errors}
        self._errors |= errors

    def _publish(self, fields: Mapping[str, Any] | None) -> bool:
        """Store the source's first metadata.json at the target, if all other files are there."""
        ended = fields is None or fields.get("status") in ENDED
        if self._only is not None and (ended or keys.METADATA not in self._only):
            return False
        if self._there is None or self._there.data != self._here.data:
            check(self._copy._stop)
            self._set_metadata(self._here.data)
            self._done[keys.METADATA] = CopyResult("copied", len(self._here.data))
        else:
            self._done[keys.METADATA] = CopyResult("equal")
        if self._remembers:
            self._known[keys.METADATA] = self._here.version
        return self._only is None and not self._copy._dry

    def _outcome(self, *, whole: bool) -> Outcome:
        copied = {key: done.bytes for key, done in self._done.items() if done.verb == "copied"}
        appended = {key: done.bytes for key, done in self._done.items() if done.verb == "appended"}
        equal = sum(done.verb == "equal" for done in self._done.values())
        return Outcome(copied, appended, self._deleted, equal, whole)


def _phases(pairs: Mapping[str, Pair]) -> dict[int, dict[str, Pair]]:
    """Group files by the order of copying: logs after files that they mention, and manifests last."""
    phases: dict[int, dict[str, Pair]] = {}
    for key, pair in pairs.items():
        rank = 1 if key in (keys.PARAMS_JSON, keys.PARAMS_YAML) else 0
        rank = 2 if keys.is_log(key) else rank
        rank = 3 if keys.is_manifest(key) else rank
        phases.setdefault(rank, {})[key] = pair
    return phases


def _being_copied(fields: Mapping[str, Any], how: str) -> bytes:
    """Return a metadata.json that says that the run is being copied."""
    return json.dumps({**fields, "status": "replacing", COPIED: how}, indent=2).encode()


def _needs_new_listing(here: Entry, file_result: CopyResult) -> bool:
    """Check whether the source must be listed again, because its files have changed."""
    newer = keys.is_manifest(here.key) and file_result.source != here.version
    return file_result.verb == "gone" or newer


def _sent(file_result: CopyResult) -> bool:
    return file_result.verb in ("copied", "appended")


def _identity(fields: Mapping[str, Any] | None) -> tuple[object, object]:
    """Return the identity of a run and of its attempt."""
    return (None, None) if fields is None else (fields.get("start_time"), lease_of(fields).get("owner"))


def _why_ahead(here: Mapping[str, Any], there: Mapping[str, Any]) -> str:
    """Return why a copy is ahead of its run; empty if it is not."""
    times, copied = _times(here), _times(there)
    if copied > times:
        return f"the run was resumed there ({copied} times, and {times} here)"
    if copied < times or there.get("status") == "replacing":
        return ""
    if there.get("status") in ENDED and here.get("status") not in ENDED:
        return f"the run is {there['status']} there, and {here.get('status')} here"
    mine, theirs = lease_of(here), lease_of(there)
    if mine.get("owner") == theirs.get("owner"):
        begun, later = moment(mine.get("beat")), moment(theirs.get("beat"))
        if begun is not None and later is not None and later > begun:
            return f"it has a later sign of life ({theirs['beat']}, and {mine['beat']} here)"
    return ""


def _times(fields: Mapping[str, Any]) -> int:
    resumes = fields.get(RESUMES)
    return len(resumes) if isinstance(resumes, list) else 0


def _metadata(store: Store) -> Blob:
    found = find_metadata(store)
    if found is None:
        raise RunMissingError(
            f"there is no run at {store.url}: it has no {keys.METADATA}", url=store.url, key=keys.METADATA
        )
    return found
