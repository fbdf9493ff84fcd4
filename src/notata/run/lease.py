"""Who owns a run: its metadata.json, claimed once, changed only by compare and swap, and kept alive by a heartbeat.

It knows the fields that say whose a run is; what else a run writes, it does not know.
"""

from __future__ import annotations

import functools
import logging
import os
import platform
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any, Final, NoReturn

from notata import formats
from notata._base import keys, limits, processes, times
from notata._base.nesting import is_running
from notata._base.retries import attempts
from notata._base.terminal import one_line
from notata._base.threads import NO_THREADS, Event, start_thread
from notata.errors import (
    AccessError,
    ConfigurationError,
    ConflictError,
    ContainerMissingError,
    EncodeError,
    ExistsError,
    MissingError,
    RunDisplacedError,
    RunEndedError,
    RunExistsError,
    StorageError,
    UnprotectedWarning,
    UnreachableError,
)
from notata.run.state import ENDED, LEASE, RunState, claimable, judge, lease_of, look, metadata, parsed
from notata.store import Store
from notata.store.gaps import Gaps

__all__ = ["HEARTBEAT", "Lease"]

Continue = Callable[[Mapping[str, Any], Mapping[str, Any], RunState], Mapping[str, Any]]
"""Makes the fields of a run that goes on: of those of a new one, those that it had, and how it stood."""

HEARTBEAT: Final = 30.0
"""Seconds from one sign of life to the next where others can see it, when nothing else is asked for."""

_BEATS: Final = 5  # of an owner, that may come between a look and a swap
_TRIES: Final = 8  # to change metadata.json, which workers and people change too; with pauses, two seconds

_GUARD: Final = (
    'If the script starts processes, put its code below `if __name__ == "__main__":`, as each child imports it again; '
    "for a child's own files use log.worker(rank)."
)

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
"""What says of a create that it had no effect; anything else leaves that open."""


class Lease:
    """One writer's hold on one run.

    Safe to use from many threads of the owner's process.

    Attributes:
        fields: What metadata.json holds, as far as this owner knows.
        displaced: Whether this owner has learnt that another one has the run.
        left: What `replace` could not remove of the old run: folders that cannot be opened, and odd names.
    """

    def __init__(self, store: Store, run_id: str, heartbeat: float | None = None) -> None:
        self._store = store
        self._run_id = run_id
        self._token = secrets.token_hex(16)
        self._pid = os.getpid()
        self._process = processes.identity()
        self._lock = processes.Lock()
        self._version = ""
        self._asked_heartbeat = _checked(heartbeat)
        self._last = time.monotonic()
        self._over = Event()
        self._changing: FrameType | None = None  # the call that changes fields; see `is_running`
        self._left: dict[str, Any] = {}  # what a signal handler has left to it
        self._owed: dict[str, Any] = {}  # the end of a failed run, until the storage has it
        self._removed = False  # metadata.json was gone when it was looked for
        self.fields: dict[str, Any] = {}
        self.displaced = False
        self.left = Gaps()

    # -- take ----------------------------------------------------------------------------------------------

    def claim(self, fields: Mapping[str, Any]) -> None:
        """Take a run id that nobody has. One request on a bucket.

        Raises:
            RunExistsError: Somebody has it. On local and memory a folder with any file in it counts.
        """
        if self._store.folders and self._store.occupied():
            self._taken(None)
        try:
            self._create(fields)
        except ExistsError as error:
            self._taken(error)

    def replace(self, fields: Mapping[str, Any]) -> bool:
        """Take a run id whoever has it, and remove all that its old run left.

        metadata.json is switched first, to status ``replacing``: a reader never takes the rest of the old run for
        the new one, and of several who do this at once one succeeds. 4 requests on a bucket, and the deletions.

        Returns:
            Whether there was one.

        Raises:
            RunExistsError: Another one took it meanwhile; or a parent of this process is writing it.
        """
        try:
            there = self._replace({**fields, "status": "replacing"})
            self._store.clear(keep=[keys.METADATA], skipped=self.left)
            self._swap(fields)
        except (ExistsError, ConflictError) as error:
            self._taken(error)
        return there

    def _replace(self, fields: Mapping[str, Any]) -> bool:
        """Take metadata.json from whoever has it; a sign of life that they give meanwhile does not keep it theirs."""
        owner: object = None
        for last in attempts(_BEATS):
            found = claimable(self._store)
            if found is None:
                self._create(fields)
                return False
            stored = parsed(found.data) or {}
            if stored.get("status") not in ENDED and _is_of_parent(stored):
                self._refuse_child()
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
        self, fresh: Mapping[str, Any], again: Continue, *, force: bool, unfinished: bool = False
    ) -> RunState | None:
        """Take a run that ended or died, with all that it has, or begin it if there is none. 2 requests on a bucket.

        Args:
            fresh: The fields of a run that begins.
            again: Makes those of one that goes on.
            force: Also take a run of which it is unknown whether it is running, but never a running one.
            unfinished: Leave a run that is complete.

        Returns:
            How the run stood; None if there was none.

        Raises:
            RunExistsError: It lives, or is being replaced, or is to be left; or another one took it meanwhile.
            StorageError: Its metadata.json is damaged.
        """
        try:
            try:
                found = self._store.fetch(keys.METADATA)
            except MissingError:
                self._create(fresh)
                return None
            stored = metadata(found, self._store.url, keys.METADATA)
            state = judge(stored, found)
            if state.status == "running" and _is_of_parent(stored):
                self._refuse_child()
            if not _free(state, force=force, unfinished=unfinished):
                self._alive(state)
            self._version = found.version
            self._take(again(fresh, stored, state))
            return state
        except (ExistsError, ConflictError) as error:
            raise RunExistsError(
                f"run {self._run_id!r} at {self._store.url} was taken by another writer just now, and cannot be "
                "resumed before that one has ended.",
                url=self._store.url,
                key=keys.METADATA,
            ) from error

    # -- change --------------------------------------------------------------------------------------------

    def update(self, **fields: Any) -> None:
        """Change fields of metadata.json. One request.

        Raises:
            RunDisplacedError: Another owner has the run by now; nothing was changed.
        """
        with self._lock.held():
            self._change(fields)

    def end(self, status: str, *, adopted: Callable[[], object] = bool, **fields: Any) -> bool:
        """Set the status with which the run ends. One request.

        If the storage refuses that a run has failed, each sign of life tries again.

        Args:
            status: ``complete`` or ``failed``.
            adopted: Called where somebody changed other fields meanwhile, before the status is stored.
            **fields: What is stored with it.

        Returns:
            Whether that was news; False where the run has this status already.

        Raises:
            RunEndedError: It has failed, and that stands.
            RunDisplacedError: Another owner has the run by now, or this process is not the one that claimed it.
        """
        if not self.here:
            raise RunDisplacedError(
                f"run {self._run_id!r} at {self._store.url} is its parent process's; a forked child cannot end it",
                url=self._store.url,
                key=keys.METADATA,
            )
        with self._lock.held():
            ending = {**fields, "status": status}
            self._owed = ending if status == "failed" else {}
            news = self._change(ending, adopted)
            self._owed = {}
            return news

    @property
    def owner(self) -> str:
        """A name for this owner in messages: the beginning of its token."""
        return self._token[:8]

    @property
    def version(self) -> str:
        """The version of metadata.json that this owner stored last."""
        return self._version

    @property
    def here(self) -> bool:
        """Whether this is the process that took the run, not one forked from it."""
        return os.getpid() == self._pid

    def mine(self) -> bool:
        """Whether the run is this owner's still. One request.

        Raises:
            StorageError: The storage does not tell.
        """
        if self.displaced:
            return False
        with self._lock.held():
            self.displaced = not self._found_mine()
            return not self.displaced

    def check(self) -> None:
        """Refuse what a displaced owner wants to write. No request: it tells what is known.

        Raises:
            RunDisplacedError: Another owner has the run.
        """
        if self.displaced:
            raise self._gone()

    def _change(self, fields: Mapping[str, Any], tell: Callable[[], object] = bool) -> bool:
        """Store fields, and whether that was news. A signal handler leaves its own to the call that it interrupts."""
        if is_running(self._changing):
            news = self.is_news(fields.get("status"))
            self._left = {**self._left, **fields}  # another dictionary, by which the other call knows
            self.fields |= fields
            return news
        self._changing = sys._getframe()
        try:
            return self._store_change(fields, tell)
        finally:
            try:
                self._store_left()
            finally:
                self._changing = None  # it would keep alive whatever the caller has
            if self._left:  # a handler came between the two
                self._change({})

    def _store_left(self) -> None:
        """Store what signal handlers left to the call that they interrupted."""
        while left := self._left:
            self.check()
            try:
                self._store_change(left, is_left=True)
            except EncodeError:
                self._left = {}
                raise
            if self._left is left:  # no handler has added to it meanwhile
                self._left = {}

    def _store_change(
        self, fields: Mapping[str, Any], tell: Callable[[], object] = bool, *, is_left: bool = False
    ) -> bool:
        refusals: list[tuple[str, ConflictError]] = []  # each with the version that was to be replaced
        for _ in attempts(_TRIES):
            # What a handler left is among the fields that this owner knows, and not stored yet.
            if (refusals or not is_left) and not self.is_news(fields.get("status")):
                return bool(refusals)  # an earlier try took effect after all, and only now is that known
            try:
                self._swap({**self.fields, **fields})
            except ConflictError as error:
                refusals.append((self._version, error))
                self._adopt(error)
                tell()
            else:
                return True
        raise self._refused(refusals) from refusals[-1][1]

    def _refused(self, refusals: list[tuple[str, ConflictError]]) -> StorageError:
        """The error of a change that the storage refused each time, though the run is this owner's."""
        versions = {version for version, _ in refusals} | {self._version}
        if len(versions) == 1:
            why = (
                "the storage refuses each replacement of the file, though nobody changed it: it does not carry out "
                "conditional writes (If-Match) as it should. Run `notata doctor` on the base folder"
            )
        else:
            why = f"others changed the file {len(versions) - 1} times meanwhile. Try again"
        return StorageError(
            f"cannot change the state of run {self._run_id!r} at {self._store.url} after {len(refusals)} attempts: "
            f"{why}",
            url=self._store.url,
            key=keys.METADATA,
        )

    def is_news(self, status: str | None) -> bool:
        """Whether the run has another status than this one, as far as this owner knows. No request.

        Raises:
            RunEndedError: It has failed, and cannot become complete.
            RunDisplacedError: Another owner has the run.
        """
        self.check()
        stored = self.fields.get("status")
        if stored == "failed" and status == "complete":
            raise RunEndedError(
                f"run {self._run_id!r} has failed already and cannot become complete; a new run can, or this one once "
                "it is resumed",
                url=self._store.url,
                key=keys.METADATA,
            )
        return status is None or status != stored

    def _adopt(self, conflict: ConflictError) -> None:
        """Take over what is there if it is this owner's: an edit by hand, or a write whose reply was lost."""
        if not self._found_mine():
            self.displaced = True
            self._over.set()
            raise self._gone() from conflict

    def _gone(self) -> RunDisplacedError:
        what = (
            f"is gone: its {keys.METADATA} is not there any more, as if its folder was moved or deleted. What this "
            "writer still saves would lie in a folder that is no run; end it"
            if self._removed
            else "belongs to another writer by now; this one cannot change its state any more"
        )
        return RunDisplacedError(
            f"run {self._run_id!r} at {self._store.url} {what}",
            url=self._store.url,
            key=keys.METADATA,
        )

    def _found_mine(self) -> bool:
        """Read what is stored, and take it over if it bears this owner's token."""
        try:
            found = self._store.fetch(keys.METADATA)
        except MissingError:
            self._removed = True
            return False
        self._removed = False
        stored = parsed(found.data)
        if stored is None or lease_of(stored).get("owner") != self._token:
            return False
        self.fields, self._version = stored, found.version
        return True

    # -- live ----------------------------------------------------------------------------------------------

    def keep_alive(self) -> None:
        """Give a sign of life every `heartbeat` seconds, in a thread of its own, until the run ends."""
        if self._heartbeat:
            try:
                start_thread(partial(self._live, self._heartbeat), "notata-heartbeat")
            except RuntimeError as error:
                told = f"cannot start the thread that shows that run {self._run_id!r} is alive: {NO_THREADS}"
                raise StorageError(told, url=self._store.url) from error

    def let_go(self) -> None:
        """Give no more signs of life, and store what a signal handler left to a call that was interrupted."""
        self._over.set()
        if self._left:
            self.update()

    def _live(self, seconds: float) -> None:
        while not self._over.wait(max(0.0, self._last + seconds - time.monotonic())):
            if time.monotonic() < self._last + seconds:  # something else was written meanwhile, and is a sign too
                continue
            with self._lock.held():
                if self._over.is_set() or self.fields.get("status") in ENDED:
                    return
                self._last = time.monotonic()
                with suppress(Exception):  # not stored: the next one is due soon; displaced: that is noted
                    self._change(self._owed)
            if self.displaced:
                _own.warning("notata: %s", self._gone())

    @functools.cached_property
    def _heartbeat(self) -> float | None:
        """Seconds between two signs of life, None for none.

        None unless asked for where nobody else sees the run (memory), and where a swap may write over a successor's.
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
        except BaseException as error:  # a deadline, an interrupt: it may have taken effect
            self._settle(error)
        else:
            self.fields = document
            self._last = time.monotonic()

    def _take(self, fields: Mapping[str, Any]) -> None:
        """Swap what another owner wrote for what this one does."""
        try:
            self._swap(fields)
        except ConflictError:
            raise
        except BaseException as error:
            self._settle(error)

    def _settle(self, error: BaseException) -> None:
        """After a write of unknown effect: go on if the run is ours; if the user wants to stop, say so in it."""
        try:
            mine = self._found_mine()
        except Exception:
            mine = False
        if not mine:
            raise error
        if not isinstance(error, Exception):
            self._change({"status": "failed", "failure_reason": type(error).__name__})
            raise error

    def _swap(self, fields: Mapping[str, Any]) -> None:
        document = self._signed(fields)
        data = self._encoded(document, formats.Json("metadata"))
        self._version = self._store.replace(keys.METADATA, data, self._version)
        self.fields = document | self._left
        self._last = time.monotonic()

    def _encoded(self, document: Mapping[str, Any], form: formats.Json) -> bytes:
        return limits.check_stored(formats.encode(form, document), keys.METADATA, self._store.url)

    def _signed(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        lease = {
            "owner": self._token,
            "host": platform.node(),
            "pid": self._pid,
            "process": self._process,
            "heartbeat": self._heartbeat,
            "beat": times.now(),
        }
        return {**fields, LEASE: lease}

    # -- refuse --------------------------------------------------------------------------------------------

    def _taken(self, cause: Exception | None) -> NoReturn:
        status, told = self._state()
        error = RunExistsError(
            f"run {self._run_id!r} exists already at {self._store.url}{told}. Choose another run_id, leave it "
            "out to have one made, or pass resume=True to go on with a run that ended or died, or overwrite=True to "
            "remove that run and start over.",
            url=self._store.url,
            key=keys.METADATA,
        )
        error.status = status
        raise error from cause

    def _refuse_child(self) -> NoReturn:
        """The script of a parent that writes this run was imported again, as `multiprocessing` does it in a child."""
        refused = RunExistsError(
            f"run {self._run_id!r} at {self._store.url} is being written by a parent of this process, and a child "
            f"cannot take it. {_GUARD}",
            url=self._store.url,
            key=keys.METADATA,
        )
        refused.status = "running"
        raise refused

    def _state(self) -> tuple[str | None, str]:
        """The status of the present run, and what it says of itself, as far as that can be read."""
        try:
            fields, state = look(self._store)
            hint = f". Its writer is a parent of this process. {_GUARD}" if _is_of_parent(fields) else ""
            return state.status, f" (status {state.status}, started {one_line(fields['start_time'], 50)}){hint}"
        except Exception:
            return None, ""

    def _alive(self, state: RunState) -> NoReturn:
        if state.status == "complete":
            what, then = "is complete", "Pass resume=True to go on with it all the same."
        elif state.status == "replacing":
            what, then = "is being replaced", "Only overwrite=True goes on from there."
        elif not state.certain:
            what, then = "may be running", "If you know that nobody writes it any more, pass resume='force'."
        else:
            what, then = "is running", "Wait until it has ended, or end it."
        error = RunExistsError(
            f"run {self._run_id!r} at {self._store.url} {what} and cannot be resumed: {state.why}. {then}",
            url=self._store.url,
            key=keys.METADATA,
        )
        error.status = state.status
        raise error


def _is_of_parent(fields: Mapping[str, Any]) -> bool:
    """Whether the owner of a run lives and is a parent of this process: on Linux any, elsewhere the nearest one."""
    lease = lease_of(fields)
    if isinstance(name := lease.get("process"), str) and name:
        return processes.is_ancestor(name)
    return lease.get("host") == platform.node() and lease.get("pid") == os.getppid()


def _checked(seconds: float | None) -> float | None:
    """A `heartbeat=` as it was given, if it can be one."""
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < float("inf"):
        raise ConfigurationError(f"heartbeat is a number of seconds, or 0 for none; not {seconds!r}")
    return float(seconds)


def _free(state: RunState, *, force: bool, unfinished: bool) -> bool:
    if state.status == "complete":
        return not unfinished
    if state.status == "running":
        return force and not state.certain
    return state.status != "replacing"
