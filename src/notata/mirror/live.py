"""The mirror of a run: a copy that is kept current while the run is written. It decides when `Follower` copies.

The mirror looks for changes every `POLL_INTERVAL` seconds, and less often if that takes long: at most a 20th of the
time. It copies everything at once when the run has ended, and on `Mirror.flush`.
"""

from __future__ import annotations

import logging
import math
import os
import shlex
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum
from typing import Final

from notata._base import exits
from notata._base.processes import ForkCheck
from notata._base.terminal import one_line
from notata._base.threads import Event
from notata.errors import (
    AccessError,
    BatchError,
    ConfigurationError,
    ContainerMissingError,
    DeadlineError,
    KeyNameError,
    RunDisplacedError,
    RunExistsError,
)
from notata.mirror.following import Behind, Follower
from notata.mirror.thread import Clock, StepThread
from notata.store import Store

__all__ = ["Behind", "Clock", "Mirror", "Retries"]

POLL_INTERVAL: Final = 3.0  # minimum seconds between two polls
POLL_FACTOR: Final = 20.0  # minimum pause between two polls, as a multiple of the time a poll takes
RETRY_LIMIT: Final = 60.0  # maximum seconds between two tries after an error of the target
RETRY_LIMIT_AT_EXIT: Final = 5.0
SILENT_WAIT: Final = 2.0  # seconds at exit before a message says that the process waits
NICENESS: Final = 5  # not more: a descheduled thread that holds the interpreter's lock blocks the run

_HOPELESS: Final = (AccessError, ConfigurationError, ContainerMissingError, KeyNameError)
"""Errors that do not go away within seconds: at exit the mirror does not wait for another try."""


class State(IntEnum):
    """The state of a mirror, which only moves forward."""

    FOLLOWING = 0  # the run is being written: files are copied when they are due
    FINISHING = 1  # the run has ended: everything is copied, and then nothing is left to do
    AMENDING = 2  # the run is changed after its end: as before, and the mirror looks again at exit
    EXITING = 3  # the interpreter is ending: everything is copied, within the time limit
    OVER = 4  # nothing is copied any more: the mirror gave up, or the target is not for this run


class Retries:
    """The error of the last try, and the pause before the next one, which doubles with each error.

    Attributes:
        error: The error of the last try; None if it succeeded.
        not_before: The earliest time of the next try.

    >>> retries = Retries()
    >>> for now in (0.0, 3.0):
    ...     retries.failed(OSError(), now, limit=60.0)
    ...     print(retries.not_before)
    3.0
    9.0
    """

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.not_before = -math.inf
        self._pause = POLL_INTERVAL

    def failed(self, error: Exception, now: float, limit: float) -> None:
        """Record the error of a try."""
        pause = min(self._pause, limit)
        self.error, self.not_before, self._pause = error, now + pause, 2 * pause

    def succeeded(self) -> None:
        """Record that a try had no error."""
        self.error = None
        self.try_now()

    def try_now(self) -> None:
        """Allow a try at once, and begin with short pauses after it."""
        self.not_before, self._pause = -math.inf, POLL_INTERVAL


class Mirror:
    """A copy of one run that follows it: ``log.mirror``.

    The run never waits for its mirror, and never fails because of it. Safe to use from many threads; a forked child
    does not use it.

    Args:
        source: The run's folder, on a local disk or in memory. It contains metadata.json, as the run has begun.
        target: The folder of the copy.
        run_id: The run id, for messages.
        replace: Replace the copy of another run with this id.
        timeout: Maximum seconds that the exit of the interpreter waits for the copy.
        log_line: Called to write a line to the run's log, with a level of `logging` and the text.
        clock: The clock.

    >>> from notata import Logbook
    >>> with Logbook("waves", "memory://outputs", mirror="memory://far/outputs") as log:
    ...     path = log.text("notes", "small angles only")
    ...     log.mirror.flush()
    >>> log.mirror.url
    'memory://far/outputs/log_waves'
    """

    def __init__(
        self,
        source: Store,
        target: Store,
        run_id: str,
        *,
        replace: bool = False,
        timeout: float = 60.0,
        log_line: Callable[[int, str], object] = lambda level, line: None,
        clock: Clock | None = None,
    ) -> None:
        self._source = source
        self._target = target
        self._run_id = run_id
        self._timeout = timeout
        self._log = log_line
        self._clock = clock or Clock()
        self._fork = ForkCheck()
        self._stop = Event()
        self._follower = Follower(source, target, replace=replace, stop=self._stop, clock=self._clock)
        self._thread = StepThread(self.poll, self._lower_priority, self._clock)
        # Shared by several threads, under the lock of `_thread`:
        self._state = State.FOLLOWING
        self._retries = Retries()
        self._requests: set[object] = set()  # one for each `flush` that is not answered yet
        self._exit_began = math.inf

    def __repr__(self) -> str:
        return f"Mirror({self._source.url!r}, {self.url!r})"

    # -- for users -----------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The URL of the copy, without credentials."""
        return self._target.url

    @property
    def error(self) -> Exception | None:
        """The error of the last try; None if it succeeded."""
        return self._retries.error

    @property
    def behind(self) -> Behind:
        """The number of files and bytes that are not copied yet, from a listing of the run's folder.

        >>> from notata import Logbook
        >>> log = Logbook("tides", "memory://outputs", mirror="memory://far/outputs")
        >>> log.mirror.flush()
        >>> log.mirror.behind
        Behind(files=0, bytes=0)
        """
        return self._follower.behind()

    def flush(self, timeout: float | None = None) -> None:
        """Copy all current files, and wait until they are copied.

        Args:
            timeout: Maximum seconds to wait; by default no limit.

        Raises:
            DeadlineError: The copy takes longer. It continues in the background.
            StorageError: The target cannot be written; the error is that of the target. The mirror retries later.
            BatchError: The same, for several files.
            RunExistsError: The target has another run with this id, or a later state of this run.
            RunDisplacedError: Another writer has taken over the run, or this is a forked child.

        >>> from notata import Logbook
        >>> log = Logbook("ebb", "memory://outputs", mirror="memory://far/outputs")
        >>> path = log.text("notes", "a first line")
        >>> log.mirror.flush(timeout=60)
        """
        if timeout is not None and not (isinstance(timeout, int | float) and timeout >= 0):
            raise ConfigurationError(f"timeout must be a number of seconds, or None for no limit, not {timeout!r}")
        if self._fork.is_forked():
            raise RunDisplacedError(f"run {self._run_id!r} is mirrored by its parent process", url=self.url)
        until = math.inf if timeout is None else self._clock.now() + timeout
        request = object()
        with self._thread.changed:
            self._requests.add(request)
            self._wake()
            has_thread = self._thread.is_running
            while request in self._requests and self._thread.is_running and self._state is not State.OVER:
                left = until - self._clock.now()
                if left <= 0:
                    what = self._missing() or "files are"
                    raise DeadlineError(f"{what} not in {self.url} after {timeout:g} s", url=self.url)
                self._clock.wait(self._thread.changed, min(left, RETRY_LIMIT))
        if not has_thread:
            self.poll()
        if self.error is not None:
            raise self.error

    @property
    def thread(self) -> threading.Thread | None:
        """The thread that follows the run; None if it has ended, or has not started."""
        return self._thread.thread

    # -- for the run ---------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start to follow the run in a thread, until it has ended."""
        self._target.prepare()  # before the first request, as the script may end before it
        exits.at_exit(self._at_exit)
        with self._thread.changed:
            self._wake()

    def finish(self) -> None:
        """Copy the rest of an ended run, and stop. Only the exit of the interpreter waits for this."""
        with self._thread.changed:
            self._advance(State.FINISHING)
            self._wake()

    def expect_more(self) -> None:
        """Copy again soon, and at exit, because the run is about to be changed after its end."""
        if self._fork.is_forked() or self._state is State.OVER:
            return
        with self._thread.changed:
            exits.at_exit(self._at_exit)
            self._advance(State.AMENDING)
            self._thread.start(POLL_INTERVAL)

    def give_up(self) -> None:
        """Stop copying."""
        exits.forget(self._at_exit)
        exits.forget(self._wait_at_exit)
        self._stop.set()
        if not self._fork.is_forked():
            with self._thread.changed:
                self._advance(State.OVER)
                self._thread.changed.notify_all()

    def _advance(self, state: State) -> None:
        """Move forward to a state, and try at once. The caller holds the lock."""
        if state > self._state:
            self._state = state
            self._retries.try_now()

    def _wake(self) -> None:
        if self._state is not State.OVER:
            self._thread.wake()

    # -- in the thread -------------------------------------------------------------------------------------

    def _lower_priority(self) -> None:
        """Lower the priority of this thread, so that threads of the run come first if processors are scarce."""
        if sys.platform.startswith("linux"):  # elsewhere the priority is that of the whole process
            with suppress(Exception):  # the first request reports errors of the target
                self._target.filesystem()  # starts a thread that all storages share, which must keep its priority
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)

    def poll(self) -> float | None:
        """List the run's files once, and copy those that are due.

        Returns:
            Seconds until the next poll; None if no work is left.
        """
        with self._thread.changed:
            state, requests = self._state, frozenset(self._requests)
            if state is State.OVER:
                self._requests.clear()
                return None
            if not requests and (left := self._retries.not_before - self._clock.now()) > 0:
                return self._limited(left)
        whole = state is not State.FOLLOWING or bool(requests)
        changed = self._try(whole=whole)
        with self._thread.changed:
            self._requests -= requests
            self._thread.changed.notify_all()
            return self._next(state, whole=whole, changed=changed)

    def _try(self, *, whole: bool) -> bool:
        """Copy the files that are due, and record errors; return whether there were changed files."""
        try:
            changed = self._follower.copy(whole=whole)
            if self.error is not None:
                self._retries.succeeded()
                self._log(logging.INFO, f"The mirror {self.url} has caught up")
                changed = self._follower.copy(whole=whole)  # with the line in the log
        except (RunDisplacedError, RunExistsError) as error:
            self._refuse(error)
        except Exception as error:
            if State.FOLLOWING < self._state < State.OVER and self._follower.is_source_gone():
                self._stop_without_source(error)
            else:
                self._retry_later(error)
        else:
            return changed
        return True

    def _next(self, began_in: State, *, whole: bool, changed: bool) -> float | None:
        """Return the result of a step that began in a state. The caller holds the lock."""
        if self._state is State.OVER or self._clock.now() >= self._exit_began + self._timeout:
            return None
        if self.error is not None:
            hopeless = began_in is State.EXITING and _is_hopeless(self.error)
            return None if hopeless else self._limited(self._retries.not_before - self._clock.now())
        if self._state is State.FOLLOWING or not whole:
            return self._limited(max(POLL_INTERVAL, POLL_FACTOR * self._follower.listing_seconds))
        if changed:
            return 0.0
        if self._state is State.FINISHING and not self._thread.is_woken:
            exits.forget(self._at_exit)
        return None

    def _limited(self, seconds: float) -> float:
        """Return the seconds to wait, which at exit are limited by the timeout."""
        return min(seconds, self._exit_began + self._timeout - self._clock.now())

    def _retry_later(self, error: Exception) -> None:
        first = self.error is None and self._state is not State.OVER
        limit = RETRY_LIMIT if self._state is not State.EXITING else RETRY_LIMIT_AT_EXIT
        self._retries.failed(error, self._clock.now(), limit)
        if first:
            why = self._target.redacted(str(error))
            self._log(logging.WARNING, f"The mirror {self.url} is behind, and notata will try again: {why}")

    def _refuse(self, error: Exception) -> None:
        """Stop for good after an error that a retry cannot solve."""
        self._retries.error = error
        with self._thread.changed:
            self._advance(State.OVER)
        exits.forget(self._at_exit)
        if isinstance(error, RunExistsError):
            self._log(logging.WARNING, f"Not mirrored: {error}")
            _print_stderr(f"notata: run {self._run_id!r} is not mirrored: {error}")

    def _stop_without_source(self, error: Exception) -> None:
        """Stop for good, as the folder of the ended run was moved or removed. A line in its log would make it again."""
        self._refuse(error)
        if self._source.shared:  # files in memory were removed on purpose
            _print_stderr(
                f"notata: run {self._run_id!r} is not mirrored completely, because its folder {self._source.url} is "
                f"gone. If it was moved, finish with: notata sync FOLDER {shlex.quote(self.url)}"
            )

    # -- at exit -------------------------------------------------------------------------------------------

    def _at_exit(self) -> None:
        """Start to wait at exit. The wait begins after all runs have ended, so that their mirrors share one timeout."""
        if self._fork.is_forked() or self._state is State.OVER:
            return
        with self._thread.changed:
            self._advance(State.EXITING)
            self._exit_began = self._clock.now()
            self._wake()
        exits.at_exit(self._wait_at_exit)

    def _wait_at_exit(self) -> None:
        """Wait for the rest, at most until the timeout; then report missing files."""
        if self._fork.is_forked():
            return
        of_run = f" of run {self._run_id!r}"
        try:
            with self._thread.changed:
                has_thread = self._thread.is_running
            if not has_thread:
                self._thread.run()
            elif not self._thread.has_ended(self._exit_began + min(SILENT_WAIT, self._timeout)):
                if self._timeout > SILENT_WAIT:
                    _print_stderr(
                        f"notata: {self._missing(of_run) or 'files are'} being copied to {self.url}; waiting at most "
                        f"{self._timeout:g} s"
                    )
                self._thread.has_ended(self._exit_began + self._timeout)
        finally:
            refused = self._state is State.OVER
            self.give_up()
            if not refused and (missing := self._missing(of_run)):
                why = f" ({self._target.redacted(str(self.error))})" if self.error else ""
                _print_stderr(f"notata: {missing} not mirrored yet{why}; {self._remedy()}")

    def _missing(self, of: str = "") -> str:
        """Return the files that are not copied, as a subject with its verb; empty if there are none."""
        try:
            behind = self.behind
        except Exception as error:  # the folder cannot be read
            return f"files ({error}){of} are"
        return f"{behind}{of} {'is' if behind.files == 1 else 'are'}" if behind.files else ""

    def _remedy(self) -> str:
        if not self._source.shared:
            return "they are lost with this process"
        return f"finish with: notata sync {shlex.quote(self._source.url)} {shlex.quote(self.url)}"


def _is_hopeless(error: Exception) -> bool:
    """Check whether no error goes away within seconds."""
    errors = error.exceptions if isinstance(error, BatchError) else [error]
    return all(isinstance(error, _HOPELESS) for error in errors)


def _print_stderr(line: str) -> None:
    with suppress(OSError, ValueError):  # stderr is closed
        print(one_line(line, 4000), file=sys.stderr, flush=True)  # noqa: T201
