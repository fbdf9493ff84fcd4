"""Own a run: claim its metadata.json, change it by compare-and-swap, and send heartbeats."""

from __future__ import annotations

import functools
import logging
import os
import platform
import secrets
import sys
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from enum import Enum
from types import FrameType
from typing import Any, Final

from notata import formats
from notata._base import keys, limits, processes, times
from notata._base.nesting import is_running
from notata._base.retries import attempts
from notata.errors import (
    AccessError,
    ConfigurationError,
    ConflictError,
    ContainerMissingError,
    EncodeError,
    ExistsError,
    FolderError,
    MissingError,
    RunDisplacedError,
    UnprotectedWarning,
    UnreachableError,
)
from notata.run.heartbeat import Heartbeat
from notata.run.refusals import Refusals, is_written_by_ancestor
from notata.run.state import ENDED, LEASE, RunState, claimable, is_pinned, lease_of, metadata, parsed, state_of
from notata.store import Store
from notata.store.gaps import Gaps

__all__ = ["HEARTBEAT", "Lease", "Ownership"]

MergeFields = Callable[[Mapping[str, Any], Mapping[str, Any], RunState], Mapping[str, Any]]
"""Returns the fields of a resumed run, from those of a new run, the previous fields, and the previous state."""

HEARTBEAT: Final = 30.0
"""Default seconds between two heartbeats, where other processes can see the run."""

_REPLACE_TRIES: Final = 5  # attempts to replace an owner whose heartbeat may come between read and swap
_TRIES: Final = 8  # attempts to change metadata.json, which workers and people change, too; about two seconds

_own = logging.getLogger("notata")

_NOT_CREATED: Final = (
    AccessError,
    ConfigurationError,
    ContainerMissingError,
    EncodeError,
    ExistsError,
    UnprotectedWarning,
    UnreachableError,
)
"""Errors after which a create certainly had no effect. After any other error, this is unknown."""


class Ownership(Enum):
    """The ownership of a run, as far as a writer knows."""

    OWNER = "owner"
    """It owns the run, also once the run has ended."""

    DISPLACED = "displaced"
    """Another writer owns the run."""

    REMOVED = "removed"
    """metadata.json is missing, so the folder of the run was moved or deleted."""


class Lease:
    """The ownership of one run by one writer.

    Safe to use from many threads of the owner's process.

    Attributes:
        fields: The content of metadata.json, as this owner last stored or read it.
        ownership: Whether this writer owns the run, as far as it knows.
        beat_fields: Returns fields of metadata.json to store with each heartbeat.
        unremoved: Entries of the old run that `replace` could not remove: folders that cannot be opened, and files with
            invalid names.
    """

    def __init__(self, store: Store, run_id: str, heartbeat: float | None = None) -> None:
        self._store = store
        self._refusals = Refusals(store, run_id)
        self._token = secrets.token_hex(16)
        self._fork = processes.ForkCheck()
        self._signature = {
            "owner": self._token,
            "host": platform.node(),
            "pid": os.getpid(),
            "process": processes.identity(),
        }
        self._lock = processes.Lock()
        self._version = ""
        self._asked_heartbeat = _checked_heartbeat(heartbeat)
        self.heartbeat = Heartbeat()
        self._changing: FrameType | None = None  # the call that changes fields; see `is_running`
        self._from_handlers: dict[str, Any] = {}  # fields that a signal handler leaves to that call
        self._unstored_end: dict[str, Any] = {}  # the end of a failed run, until it is stored
        self.fields: dict[str, Any] = {}
        self.ownership = Ownership.OWNER
        self.beat_fields: Callable[[], Mapping[str, Any]] = dict
        self.unremoved = Gaps()

    # -- claim ---------------------------------------------------------------------------------------------

    def claim(self, fields: Mapping[str, Any]) -> None:
        """Claim an unused run id. One request on a bucket.

        Raises:
            RunExistsError: The id is in use. On a local disk and in memory, a folder with any file counts as in use.
        """
        if self._store.folders and not self._store.make_folder() and self._store.occupied():
            raise self._refusals.exists()
        try:
            self._create(fields)
        except ExistsError as error:
            raise self._refusals.exists() from error

    def replace(self, fields: Mapping[str, Any]) -> bool:
        """Claim a run id from any owner, and remove all files of the old run.

        metadata.json changes to status ``replacing`` first. A reader therefore never mistakes remaining files of the
        old run for the new run, and if several processes do this at once, one succeeds. Cost: 4 requests on a bucket,
        and the deletions.

        Returns:
            Whether there was an old run.

        Raises:
            RunExistsError: The run is pinned, another writer claimed it at the same time, or a parent of this process
                is writing it.
        """
        try:
            there = self._replace({**fields, "status": "replacing"})
            self._store.clear(keep=[keys.METADATA], skipped=self.unremoved)
            self._swap(fields)
        except (ExistsError, ConflictError) as error:
            raise self._refusals.exists() from error
        return there

    def _replace(self, fields: Mapping[str, Any]) -> bool:
        """Take over metadata.json from its owner; retry if a heartbeat of that owner comes first."""
        owner: object = None
        for last in attempts(_REPLACE_TRIES):
            found = claimable(self._store)
            if found is None:
                self._create(fields)
                return False
            stored = parsed(found.data) or {}
            if stored.get("status") not in ENDED and is_written_by_ancestor(stored):
                raise self._refusals.written_by_ancestor()
            if is_pinned(stored):
                raise self._refusals.pinned(stored.get("status"))
            before, owner = owner, lease_of(stored).get("owner")
            if before not in (None, owner):
                raise ConflictError(f"{self._store.url}: another writer took the run", url=self._store.url)
            self._version = found.version
            try:
                self._take(fields)
                return True
            except ConflictError:
                if owner is None or last:
                    raise
        raise AssertionError("unreachable")

    def resume(
        self, fresh: Mapping[str, Any], merge: MergeFields, *, force: bool, refused: Collection[str] = ()
    ) -> RunState | None:
        """Resume an ended or dead run with all its files, or create the run. 2 requests on a bucket.

        Args:
            fresh: The fields of a new run.
            merge: Returns the fields of a resumed run.
            force: Also resume a run if it is unknown whether it is running, but never one that is known to run.
            refused: The final statuses of runs to refuse.

        Returns:
            The previous state of the run; None if the run is new.

        Raises:
            RunExistsError: The run is running, is being replaced, or has a refused status; or another writer
                claimed it at the same time.
            StorageError: Its metadata.json is damaged.
        """
        try:
            try:
                found = self._store.fetch(keys.METADATA)
            except MissingError:
                self._create(fresh)
                return None
            stored = metadata(found, self._store.url, keys.METADATA)
            state = state_of(stored, found)
            if state.status == "running" and is_written_by_ancestor(stored):
                raise self._refusals.written_by_ancestor()
            if not _can_resume(state, force=force, refused=refused):
                raise self._refusals.not_resumable(state)
            self._version = found.version
            self._take(merge(fresh, stored, state))
            return state
        except (ExistsError, ConflictError) as error:
            raise self._refusals.claimed_meanwhile() from error

    # -- change --------------------------------------------------------------------------------------------

    def update(self, **fields: Any) -> None:
        """Change fields of metadata.json. One request.

        Raises:
            RunDisplacedError: Another writer owns the run; nothing was changed.
        """
        with self._lock.held():
            self._change(fields)

    def end(self, status: str, *, adopted: Callable[[], object] = bool, **fields: Any) -> bool:
        """Set the final status of the run. One request.

        If the status ``failed`` cannot be stored, each heartbeat retries it.

        Args:
            status: ``complete`` or ``failed``.
            adopted: Called before the status is stored, if another process has changed other fields.
            **fields: Fields to store with it.

        Returns:
            Whether the status is new; False if the run already has it.

        Raises:
            RunEndedError: The run has failed, and cannot become complete.
            RunDisplacedError: Another writer owns the run, or this process is not the one that claimed it.
        """
        if not self.is_owner_process:
            raise self._refusals.in_child()
        with self._lock.held():
            ending = {**fields, "status": status}
            self._unstored_end = ending if status == "failed" else {}
            is_new = self._change(ending, adopted)
            self._unstored_end = {}
            return is_new

    @property
    def owner(self) -> str:
        """A short name of this owner for messages: the first characters of its token."""
        return self._token[:8]

    @property
    def version(self) -> str:
        """The version of metadata.json that this owner stored last."""
        return self._version

    @property
    def is_owner_process(self) -> bool:
        """True if this process claimed the run, False in a forked child."""
        return not self._fork.is_forked()

    def is_owner(self) -> bool:
        """Check in the storage whether this owner still owns the run. One request.

        Raises:
            StorageError: metadata.json cannot be read.
        """
        if self.displaced:
            return False
        with self._lock.held():
            if not self._is_unchanged():
                self._reload()
            return not self.displaced

    def _is_unchanged(self) -> bool:
        """Check whether metadata.json has the version that this owner stored last, where that costs no round trip."""
        if not self._store.is_local:
            return False
        with suppress(MissingError, FolderError):
            return self._store.stat(keys.METADATA).version == self._version
        return False

    @property
    def displaced(self) -> bool:
        """True if this owner knows that it does not own the run any more."""
        return self.ownership is not Ownership.OWNER

    def check(self) -> None:
        """Raise an error if another writer is known to own the run. No request.

        Raises:
            RunDisplacedError: Another writer owns the run.
        """
        if self.ownership is not Ownership.OWNER:  # as `displaced`; each row of a series asks
            raise self._displaced_error()

    def _displaced_error(self) -> RunDisplacedError:
        removed = self.ownership is Ownership.REMOVED
        return self._refusals.removed() if removed else self._refusals.displaced()

    def _change(self, fields: Mapping[str, Any], before_retry: Callable[[], object] = bool) -> bool:
        """Store fields, and return whether the status is new.

        In a signal handler that interrupts this method, the interrupted call stores the fields.
        """
        if is_running(self._changing):
            is_new = self.is_new_status(fields.get("status"))
            # A new dictionary, so that the interrupted call detects the change.
            self._from_handlers = {**self._from_handlers, **fields}
            self.fields |= fields
            return is_new
        self._changing = sys._getframe()
        try:
            return self._store_change(fields, before_retry)
        finally:
            try:
                self._store_from_handlers()
            finally:
                self._changing = None  # a frame keeps the objects of its callers alive
            if self._from_handlers:  # a handler ran between the two statements
                self._change({})

    def _store_from_handlers(self) -> None:
        """Store the fields of signal handlers that interrupted a call."""
        while left := self._from_handlers:
            self.check()
            try:
                self._store_change(left, is_from_handler=True)
            except EncodeError:
                self._from_handlers = {}
                raise
            if self._from_handlers is left:  # no handler has added fields since
                self._from_handlers = {}

    def _store_change(
        self, fields: Mapping[str, Any], before_retry: Callable[[], object] = bool, *, is_from_handler: bool = False
    ) -> bool:
        refusals: list[tuple[str, ConflictError]] = []  # each with the expected version
        for _ in attempts(_TRIES):
            # Fields left by a handler are already in self.fields, but not stored yet.
            if (refusals or not is_from_handler) and not self.is_new_status(fields.get("status")):
                return bool(refusals)  # an earlier attempt took effect, although its reply was lost
            try:
                self._swap({**self.fields, **fields})
            except ConflictError as error:
                refusals.append((self._version, error))
                self._adopt(error)
                before_retry()
            else:
                return True
        versions = {version for version, _ in refusals} | {self._version}
        raise self._refusals.refused(len(refusals), versions) from refusals[-1][1]

    def is_new_status(self, status: str | None) -> bool:
        """Check whether the run has a different status than this one, as far as this owner knows. No request.

        Raises:
            RunEndedError: The run has failed, and cannot become complete.
            RunDisplacedError: Another writer owns the run.
        """
        self.check()
        stored = self.fields.get("status")
        if stored == "failed" and status == "complete":
            raise self._refusals.has_failed()
        return status is None or status != stored

    def _adopt(self, conflict: ConflictError) -> None:
        """Adopt the stored version if this owner wrote it: an edit by hand, or a write whose reply was lost."""
        if not self._reload():
            self.heartbeat.stop()
            raise self._displaced_error() from conflict

    def _reload(self) -> bool:
        """Read the stored version, and adopt it if it has this owner's token. Return whether it has."""
        self.ownership = self._read_ownership()
        return self.ownership is Ownership.OWNER

    def _read_ownership(self) -> Ownership:
        try:
            found = self._store.fetch(keys.METADATA)
        except MissingError:
            return Ownership.REMOVED
        stored = parsed(found.data)
        if stored is None or lease_of(stored).get("owner") != self._token:
            return Ownership.DISPLACED
        self.fields, self._version = stored, found.version
        return Ownership.OWNER

    # -- heartbeat -----------------------------------------------------------------------------------------

    def keep_alive(self) -> None:
        """Send a heartbeat every `heartbeat` seconds in a separate thread, until the run ends."""
        if self._interval:
            try:
                self.heartbeat.start(self._interval, self._send_heartbeat)
            except RuntimeError as error:
                raise self._refusals.no_heartbeat() from error

    def release(self) -> None:
        """Stop the heartbeat, and store the fields of signal handlers that interrupted a call."""
        self.heartbeat.stop()
        if self._from_handlers:
            self.update()

    def _send_heartbeat(self) -> None:
        with self._lock.held():
            if self.heartbeat.is_stopped or self.fields.get("status") in ENDED:
                self.heartbeat.stop()
                return
            self.heartbeat.note_change()
            with suppress(Exception):  # the next heartbeat retries; `ownership` shows if another writer took over
                self._change({**self.beat_fields(), **self._unstored_end})
        if self.displaced:
            self.heartbeat.stop()
            _own.warning("notata: %s", self._displaced_error())

    @functools.cached_property
    def _interval(self) -> float | None:
        """Seconds between two heartbeats; None for none.

        The default is None if other processes cannot see the run (memory), and if the storage lacks compare-and-swap,
        as a heartbeat could then overwrite the metadata of a new owner.
        """
        if self._asked_heartbeat is None:
            return HEARTBEAT if self._store.shared and self._store.supports_cas else None
        return self._asked_heartbeat or None

    # -- store ---------------------------------------------------------------------------------------------

    def _create(self, fields: Mapping[str, Any]) -> None:
        document = self._signed(fields)
        try:
            self._version = self._store.create(keys.METADATA, self._encoded(document, formats.JSON))
        except _NOT_CREATED:
            raise
        except BaseException as error:  # after a timeout or an interrupt, the create may have taken effect
            self._resolve_unknown_effect(error)
        else:
            self.fields = document
            self.heartbeat.note_change()

    def _take(self, fields: Mapping[str, Any]) -> None:
        """Replace the metadata of another owner by compare-and-swap."""
        try:
            self._swap(fields)
        except ConflictError:
            raise
        except BaseException as error:
            self._resolve_unknown_effect(error)

    def _resolve_unknown_effect(self, error: BaseException) -> None:
        """Handle a write of unknown effect: continue if this owner owns the run; after an interrupt, mark it failed."""
        try:
            is_owner = self._read_ownership() is Ownership.OWNER
        except Exception:
            is_owner = False
        if not is_owner:
            raise error
        if not isinstance(error, Exception):
            self._change({"status": "failed", "failure_reason": type(error).__name__})
            raise error

    def _swap(self, fields: Mapping[str, Any]) -> None:
        document = self._signed(fields)
        data = self._encoded(document, formats.Json("metadata"))
        self._version = self._store.replace(keys.METADATA, data, self._version)
        self.fields = document | self._from_handlers
        self.heartbeat.note_change()

    def _encoded(self, document: Mapping[str, Any], form: formats.Json) -> bytes:
        return limits.check_stored(formats.encode(form, document), keys.METADATA, self._store.url)

    def _signed(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        lease = {**self._signature, "heartbeat": self._interval, "beat": times.now()}
        return {**fields, LEASE: lease}


def _checked_heartbeat(seconds: float | None) -> float | None:
    """Return the argument `heartbeat` if it is valid."""
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < float("inf"):
        raise ConfigurationError(f"invalid heartbeat {seconds!r}: pass a number of seconds, or 0 for none")
    return float(seconds)


def _can_resume(state: RunState, *, force: bool, refused: Collection[str]) -> bool:
    if state.status in ENDED:
        return state.status not in refused
    if state.status == "running":
        return force and not state.certain
    return state.status != "replacing"
