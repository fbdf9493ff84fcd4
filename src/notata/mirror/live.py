"""A mirror of one run: a copy that follows the run while it is written. It decides when to copy; `RunCopy` copies.

The mirror polls the folder of the run. So it copies every file there, by whatever means it was written, and another
program that finds the folder later can finish the copy. The rules:

* a poll every `PAUSE` seconds, and less often if it takes long: polls take at most a 20th of the time;
* files when `notata.mirror.schedule` says that they are due; log.txt, which only grows, is appended to;
* metadata.json last, whenever it changed: that of an ended run only after all other files;
* everything at once, when the run ends and on `Mirror.flush`.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple

from notata._base import exits, keys
from notata._base.display import counted
from notata._base.terminal import one_line
from notata._base.threads import Condition, Event, start_thread
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
from notata.mirror.options import CopyOptions
from notata.mirror.runs import RunCopy
from notata.mirror.schedule import Schedule
from notata.run.state import ENDED, lease_of, metadata, parsed
from notata.store import Entry, Store
from notata.store.files import PART
from notata.store.gaps import ignore

__all__ = ["Behind", "Clock", "Mirror"]

PAUSE: Final = 3.0  # minimum seconds between two polls
LOOKS: Final = 20.0  # minimum pause between two polls, as a multiple of the time a poll takes
LONGEST: Final = 60.0  # maximum seconds between two tries after an error of the target
SHORTEST: Final = 5.0  # the same maximum at exit
PATIENCE: Final = 2.0  # seconds at exit before a message says that the process waits
AT_ONCE: Final = 4
BYTES_AT_ONCE: Final = PART
BATCH: Final = 4 * PART  # maximum bytes of a batch, and
FILES: Final = 200  # maximum files of a batch, between which
SIGN: Final = 10.0  # seconds after which logs and metadata.json are copied first
NICE: Final = 5  # not more: a descheduled thread that holds the interpreter's lock blocks the run

_EXTENDED: Final = 5 * 2**20  # bytes from which all buckets append without sending a file again; S3 has this limit
_LOOKS_AT_END: Final = 10  # polls in a row without a pause, as long as each finds changes
_THREAD: Final = "notata-mirror"
_COPIERS: Final = "notata-copy"  # the name of the threads of `RunCopy`

_HOPELESS: Final = (AccessError, ConfigurationError, ContainerMissingError, KeyNameError)
"""Errors that do not go away within seconds: at exit the mirror does not wait for another try."""


class Behind(NamedTuple):
    """The files and bytes of a run that are not copied yet.

    >>> str(Behind(12, 34_000_000))
    '12 files (34.0 MB)'
    """

    files: int
    bytes: int

    def __str__(self) -> str:
        return f"{counted(self.files, 'file')} ({_sized(self.bytes)})"


class Clock:
    """Monotonic time, and waiting."""

    def now(self) -> float:
        """Return seconds, as `time.monotonic`."""
        return time.monotonic()

    def wait(self, changed: Condition, seconds: float) -> None:
        """Wait until notified, at most this many seconds. The caller holds the condition's lock."""
        changed.wait(min(seconds, threading.TIMEOUT_MAX))  # seconds may be infinite


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
        tell: Called to write a line to the run's log, with a level of `logging` and the text.
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
        tell: Callable[[int, str], object] = lambda level, line: None,
        clock: Clock | None = None,
    ) -> None:
        self._source = source
        self._target = target
        self._run_id = run_id
        self._replace = replace
        self._timeout = timeout
        self._tell = tell
        self._clock = clock or Clock()
        self._pid = os.getpid()
        self._stop = Event()
        self._schedule = Schedule()
        options = CopyOptions(
            replace=replace,
            at_once=AT_ONCE,
            bytes_at_once=BYTES_AT_ONCE,
            stop=self._stop,
            streams=threading.Semaphore(1),
        )
        self._copy = RunCopy(source, target.with_bytes_at_once(PART), options, known=self._schedule.known)
        self._owner = lease_of(parsed(source.read(keys.METADATA)) or {}).get("owner")
        self._lengths: dict[str, int] = {}  # copied bytes of each log
        self._target_is_known = False  # whether the content of the target is known completely
        self._pause = PAUSE
        # Shared by several threads:
        self._changed = Condition()
        self._thread: threading.Thread | None = None
        self._asked = self._answered = 0
        self._ending = self._late = self._over = self._woken = False
        self._error: Exception | None = None
        self._failures = 0
        self._tries = 0
        self._not_before = self._tried = float("-inf")
        self._exit: float | None = None

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
        return self._error

    @property
    def behind(self) -> Behind:
        """The number of files and bytes that are not copied yet, from a listing of the run's folder.

        >>> from notata import Logbook
        >>> log = Logbook("tides", "memory://outputs", mirror="memory://far/outputs")
        >>> log.mirror.flush()
        >>> log.mirror.behind
        Behind(files=0, bytes=0)
        """
        known, files, size = self._schedule.known, 0, 0
        for entry in self._source.list(skipped=ignore):
            if known.get(entry.key) != entry.version:
                files, size = files + 1, size + max(0, entry.size - self._lengths.get(entry.key, 0))
        return Behind(files, size)

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
        if os.getpid() != self._pid:
            raise RunDisplacedError(f"run {self._run_id!r} is mirrored by its parent process", url=self.url)
        until = None if timeout is None else self._clock.now() + timeout
        with self._changed:
            self._asked += 1
            asked = self._asked
            self._wake_thread()
            alone = self._thread is None
            while self._answered < asked and self._thread is not None and not self._over:
                left = LONGEST if until is None else until - self._clock.now()
                if left <= 0:
                    raise DeadlineError(f"{self._missing()} are not in {self.url} after {timeout:g} s", url=self.url)
                self._clock.wait(self._changed, left)
        if alone and not self._over:
            self._poll()
        if self._error is not None:
            raise self._error

    # -- for the run ---------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start to follow the run in a thread, until it has ended."""
        self._target.prepare()  # before the first request, as the script may end before it
        exits.at_exit(self._at_exit)
        with self._changed:
            self._wake_thread()

    def finish(self) -> None:
        """Copy the rest of an ended run, and stop. Only the exit of the interpreter waits for this."""
        with self._changed:
            self._ending, self._not_before = True, float("-inf")
            self._wake_thread()

    def expect_more(self) -> None:
        """Copy again soon, and at exit, because the run is about to be changed after its end."""
        if os.getpid() != self._pid or self._over:
            return
        exits.at_exit(self._at_exit)
        with self._changed:
            self._late = True
            if self._thread is None:
                self._start(PAUSE)

    def give_up(self) -> None:
        """Stop copying."""
        exits.forget(self._at_exit)
        exits.forget(self._wait)
        self._stop.set()
        if os.getpid() == self._pid:
            with self._changed:
                self._over = True
                self._changed.notify_all()

    # -- the thread ----------------------------------------------------------------------------------------

    def _wake_thread(self) -> None:
        """Wake the thread that copies, or start one. The caller holds the lock."""
        if self._over:
            return
        self._woken = True
        self._changed.notify_all()
        if self._thread is None:
            self._start(0.0)

    def _start(self, after: float) -> None:
        with suppress(RuntimeError):  # the interpreter is exiting, and starts no threads: `_wait` does the work
            self._thread = start_thread(partial(self._run_thread, after), _THREAD)

    def _run_thread(self, after: float) -> None:
        try:
            self._lower_priority()
            with self._changed:
                if not self._woken:
                    self._clock.wait(self._changed, after)
            self._work()
        finally:
            with self._changed:  # notify all threads that wait for this one
                if self._thread is threading.current_thread():
                    self._thread = None
                self._changed.notify_all()

    def _work(self) -> None:
        """Copy until the run has ended and its copy is equal, or until the mirror gives up."""
        looks = 0
        while True:
            pause = self._poll()
            with self._changed:
                if self._is_done(pause):
                    self._thread = None
                    self._changed.notify_all()
                    return
                looks = looks + 1 if pause == 0 else 0
                if not self._woken:
                    self._clock.wait(self._changed, PAUSE if looks > _LOOKS_AT_END else self._at_most(pause or 0.0))

    def _is_done(self, pause: float | None) -> bool:
        """Check whether no work is left. The caller holds the lock, so that later requests start a new thread."""
        if self._over or self._is_hopeless():
            return True
        if pause is None and not self._woken:
            if self._exit is None and not self._late:
                exits.forget(self._at_exit)
            return True
        return self._exit is not None and self._clock.now() >= self._exit + self._timeout

    def _is_hopeless(self) -> bool:
        """Check whether the target refused, at exit, with errors that do not go away within seconds."""
        if self._exit is None or self._tried < self._exit or self._error is None:
            return False
        errors = self._error.exceptions if isinstance(self._error, BatchError) else [self._error]
        return all(isinstance(error, _HOPELESS) for error in errors)

    def _at_most(self, seconds: float) -> float:
        """Return the seconds to wait, which at exit are limited by the timeout."""
        return seconds if self._exit is None else min(seconds, self._exit + self._timeout - self._clock.now())

    def _lower_priority(self) -> None:
        """Lower the priority of this thread, so that threads of the run come first if processors are scarce."""
        if sys.platform.startswith("linux"):  # elsewhere the priority is that of the whole process
            with suppress(Exception):  # the first request reports errors of the target
                self._target.filesystem()  # starts a thread that all storages share, which must keep its priority
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)

    def _poll(self) -> float | None:
        """Poll once, and copy the files that are due.

        Returns:
            Seconds until the next poll; None if an ended run is copied completely.
        """
        with self._changed:
            self._woken = False
            asked, now = self._asked, self._clock.now()
            whole = self._ending or asked > self._answered
            if asked == self._answered and now < self._not_before:
                return self._not_before - now
            self._tried = now
        news = True
        try:
            news = self._copy_due(whole)
            if self._has_recovered():  # which logs a line that must be copied too
                news = self._copy_due(whole)
        except (RunDisplacedError, RunExistsError) as error:
            self._stop_for_good(error)
        except Exception as error:
            self._retry_later(error)
        with self._changed:
            self._answered = asked
            self._changed.notify_all()
            if self._error is not None:
                return self._not_before - now
            if self._ending and whole:
                return 0.0 if news else None
            return self._pause

    # -- one pass ------------------------------------------------------------------------------------------

    def _copy_due(self, whole: bool) -> bool:
        """Copy due files, or with `whole` all changed ones; return whether there were changed files, due or not."""
        ended = self._has_ended()  # before the listing: if the run has ended by now, the listing is complete
        began = self._clock.now()
        changed = self._schedule.changed(self._source.list(skipped=ignore))
        self._pause = max(PAUSE, LOOKS * (self._clock.now() - began))
        if whole or ended or not self._target_is_known:
            if changed:
                self._copy.update()
                self._record_copied(changed.values())
            self._target_is_known = True
        else:
            self._copy_some(self._due(changed))
        return bool(changed)

    def _has_ended(self) -> bool:
        """Check whether the run has ended.

        Raises:
            RunDisplacedError: Another writer has taken over the run, and may have a mirror of its own.
        """
        found = self._source.fetch(keys.METADATA)
        fields = metadata(found, self._source.url, keys.METADATA)
        if lease_of(fields).get("owner") != self._owner:
            raise RunDisplacedError(
                f"run {self._run_id!r} at {self._source.url} belongs to another writer by now, so this mirror has "
                "stopped",
                url=self._source.url,
                key=keys.METADATA,
            )
        return fields.get("status") in ENDED

    def _due(self, changed: Mapping[str, Entry]) -> dict[str, Entry]:
        """Return the changed files that are to be copied now."""
        now = self._clock.now()
        due = self._schedule.due(changed, now)
        whole = (key for key in changed if key == keys.METADATA or keys.is_log(key))  # due without being quiet
        return due | {key: changed[key] for key in whole if self._schedule.is_rested(key, now)}

    def _copy_some(self, due: Mapping[str, Entry]) -> None:
        """Copy these files of a running run; between large batches, copy logs and metadata.json."""
        signs = {key: entry for key, entry in due.items() if key == keys.METADATA or keys.is_log(key)}
        last_signs = self._clock.now()
        for batch in _batches(entry for key, entry in due.items() if key not in signs):
            began = self._clock.now()
            if began - last_signs > SIGN:
                self._copy_signs({keys.METADATA: None, **signs})
                last_signs = began
            self._copy.update(only=[entry.key for entry in batch])
            self._schedule.sent(batch, began, self._clock.now())
        if signs:
            self._copy_signs(signs)

    def _copy_signs(self, signs: Mapping[str, Entry | None]) -> None:
        """Copy the logs and metadata.json, except those that may not be sent again yet."""
        now = self._clock.now()
        due = {key: entry for key, entry in signs.items() if self._schedule.is_rested(key, now)}
        if not due:
            return
        self._copy.update(only=list(due))
        self._record_copied(entry for entry in due.values() if entry is not None)

    def _record_copied(self, copied: Iterable[Entry]) -> None:
        """Record the copied length of logs, and how many bytes the next append sends again."""
        for entry in copied:
            if keys.is_log(entry.key):
                self._lengths[entry.key] = entry.size
                again = 0 if self._target.is_local or entry.size >= _EXTENDED else entry.size
                self._schedule.sends_again(entry.key, again, self._clock.now())

    # -- results of a try ----------------------------------------------------------------------------------

    def _has_recovered(self) -> bool:
        """Record a success; return whether it follows an error."""
        failed, self._failures, self._tries, self._error = self._failures, 0, 0, None
        self._not_before = float("-inf")
        if failed:
            self._tell(logging.INFO, f"The mirror {self.url} has caught up")
        return failed > 0

    def _retry_later(self, error: Exception) -> None:
        """Record an error, and retry after a pause that grows; the content of the target is then unknown."""
        self._target_is_known = False
        self._error = error
        self._failures, self._tries = self._failures + 1, self._tries + 1
        pause = min(PAUSE * 2 ** min(self._tries - 1, 10), LONGEST if self._exit is None else SHORTEST)
        self._not_before = self._clock.now() + pause
        if self._failures == 1 and not self._over:
            self._tell(
                logging.WARNING,
                f"The mirror {self.url} is behind, and notata retries: {self._target.redacted(str(error))}",
            )

    def _stop_for_good(self, error: Exception) -> None:
        """Stop for good after an error that a retry cannot solve."""
        self._error, self._over = error, True
        exits.forget(self._at_exit)
        if isinstance(error, RunExistsError):
            self._tell(logging.WARNING, f"Not mirrored: {error}")
            _print_stderr(f"notata: run {self._run_id!r} is not mirrored: {error}")

    # -- at exit -------------------------------------------------------------------------------------------

    def _at_exit(self) -> None:
        """Start to wait at exit. The wait begins after all runs have ended, so that their mirrors share one timeout."""
        if os.getpid() != self._pid or self._over:
            return
        with self._changed:
            self._exit, self._tries, self._not_before = self._clock.now(), 0, float("-inf")
            self._ending = True
            self._wake_thread()
        exits.at_exit(self._wait)

    def _wait(self) -> None:
        """Wait for the rest, at most until the timeout; then report missing files."""
        if os.getpid() != self._pid or self._exit is None:
            return
        try:
            with self._changed:
                alone = self._thread is None and not self._over
            if alone:
                self._work()
            elif not self._thread_ended(self._exit + min(PATIENCE, self._timeout)) and self._timeout > PATIENCE:
                _print_stderr(
                    f"notata: {self._missing()} of run {self._run_id!r} are being copied to {self.url}; waiting at "
                    f"most {self._timeout:g} s"
                )
                self._thread_ended(self._exit + self._timeout)
        finally:
            refused = self._over
            self.give_up()
            exits.abandon(_COPIERS)
            if not refused and (missing := self._missing()):
                why = f" ({self._target.redacted(str(self._error))})" if self._error else ""
                _print_stderr(f"notata: {missing} of run {self._run_id!r} are not mirrored yet{why}; {self._remedy()}")

    def _thread_ended(self, until: float) -> bool:
        """Wait for the thread; return whether it has ended."""
        with self._changed:
            while self._thread is not None:
                left = until - self._clock.now()
                if left <= 0:
                    return False
                self._clock.wait(self._changed, left)
        return True

    def _missing(self) -> str:
        """Return the files that are not copied, for people; empty if there are none."""
        try:
            behind = self.behind
        except Exception as error:  # the folder cannot be read
            return f"files ({error})"
        return str(behind) if behind.files else ""

    def _remedy(self) -> str:
        if not self._source.shared:
            return "they are lost with this process"
        return f"finish with: notata sync {shlex.quote(self._source.url)} {shlex.quote(self.url)}"


def _batches(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Yield batches of files that take about the same time, small files first."""
    batch: list[Entry] = []
    size = 0
    for entry in sorted(entries, key=lambda entry: entry.size):
        if batch and (size + entry.size > BATCH or len(batch) == FILES):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += entry.size
    if batch:
        yield batch


def _print_stderr(line: str) -> None:
    with suppress(OSError, ValueError):  # stderr is closed
        print(one_line(line, 4000), file=sys.stderr, flush=True)  # noqa: T201


def _sized(size: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
