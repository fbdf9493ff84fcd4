"""A copy of one run that follows it while it is written. It knows when to copy what; how, `RunCopy` knows.

The folder is all that it goes by: it is looked at again and again, so that whatever comes into it is copied, by
whichever road it came, and whoever finds the folder later can finish. The rules:

* a look every `PAUSE` seconds, and less often where it takes long: it may take a 20th of the time;
* files when `notata.mirror.schedule` says so; log.txt, which only grows, is appended to;
* metadata.json last, whenever it changed: that of a run that has ended only with all that it consists of;
* everything at once, when the run ends and on `Mirror.flush`.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple, Protocol

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
from notata.mirror.runs import RunCopy
from notata.mirror.schedule import Schedule
from notata.run.state import ENDED, lease_of, metadata, parsed
from notata.store import Entry, Store
from notata.store.files import PART
from notata.store.gaps import ignore

__all__ = ["Behind", "Clock", "Mirror"]

PAUSE: Final = 3.0  # seconds from one look to the next, at least
LOOKS: Final = 20.0  # times as long as a look takes, at least
LONGEST: Final = 60.0  # seconds from one try to the next where the target fails
SHORTEST: Final = 5.0  # the same at exit
PATIENCE: Final = 2.0  # seconds at exit before it is said what is waited for
AT_ONCE: Final = 4
BYTES_AT_ONCE: Final = PART
BATCH: Final = 4 * PART  # bytes, and
FILES: Final = 200  # that are copied at a time, so that in between
SIGN: Final = 10.0  # seconds after which the log and the sign of life go first
NICE: Final = 5  # not more: who is put aside while they hold the interpreter's lock hold up the run

_EXTENDED: Final = 5 * 2**20  # bytes from which a bucket adds to a file without sending it again: S3 is the last one
_LOOKS_AT_END: Final = 10  # in a row, that may find something new: somebody goes on writing there
_THREAD: Final = "notata-mirror"
_COPIERS: Final = "notata-copy"  # how the threads of `RunCopy` are called

_HOPELESS: Final = (AccessError, ConfigurationError, ContainerMissingError, KeyNameError)
"""What another try some seconds later does not change: not worth waiting for at exit."""


class Behind(NamedTuple):
    """What of a run is not in its copy yet.

    >>> str(Behind(12, 34_000_000))
    '12 files (34.0 MB)'
    """

    files: int
    bytes: int

    def __str__(self) -> str:
        return f"{counted(self.files, 'file')} ({_sized(self.bytes)})"


class Clock:
    """Seconds that pass, and waiting for them."""

    def now(self) -> float:
        """As `time.monotonic`."""
        return time.monotonic()

    def wait(self, changed: Condition, seconds: float) -> None:
        """Wait until notified, at most so long. The condition's lock is held."""
        changed.wait(min(seconds, threading.TIMEOUT_MAX))  # it may be infinite


class Copies(Protocol):
    """What makes the target equal to the source as it is now: `notata.mirror.runs.RunCopy`."""

    def update(self, known: dict[str, str] | None = None, only: Collection[str] | None = None) -> object: ...


class Mirror:
    """The copy of one run that follows it: ``log.mirror``.

    The run never waits for it and never fails by it. Safe to use from many threads; a forked child has no part in it.

    Args:
        source: The run's folder, where a look costs no round trip. It holds the metadata.json of a run that has begun.
        target: What becomes equal to it.
        run_id: For messages.
        replace: Put the copy in place of one of another run of this id.
        timeout: Seconds that the end of the interpreter waits for it.
        tell: Leaves a line in the run's log: a level of `logging`, and the text.
        clock: Seconds that pass.

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
        self._copy: Copies = RunCopy(
            source,
            target.with_bytes_at_once(PART),
            replace=replace,
            at_once=AT_ONCE,
            bytes_at_once=BYTES_AT_ONCE,
            stop=self._stop,
            streams=threading.Semaphore(1),
        )
        self._owner = lease_of(parsed(source.read(keys.METADATA)) or {}).get("owner")
        self._schedule = Schedule()
        self._lengths: dict[str, int] = {}  # of the logs, as they were copied
        self._sure = False  # whether all that the target has is known
        self._pause = PAUSE
        # What several threads share:
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

    # -- what the user asks --------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where the copy lies, without credentials."""
        return self._target.url

    @property
    def error(self) -> Exception | None:
        """Why the last try failed; None if it did not."""
        return self._error

    @property
    def behind(self) -> Behind:
        """What is not copied yet, in files and bytes, by a look at the run's folder.

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
        """Copy what is there now, and wait until that is done.

        Args:
            timeout: Seconds to wait; as long as it takes when not given.

        Raises:
            DeadlineError: It takes longer. It goes on all the same.
            StorageError: The target cannot be written: what it said. It is tried again by and by.
            BatchError: The same, of several files.
            RunExistsError: The target holds another run of this id, or went on with this one.
            RunDisplacedError: The run is another writer's by now, or this is a forked child.

        >>> from notata import Logbook
        >>> log = Logbook("ebb", "memory://outputs", mirror="memory://far/outputs")
        >>> path = log.text("notes", "a first line")
        >>> log.mirror.flush(timeout=60)
        """
        if timeout is not None and not (isinstance(timeout, int | float) and timeout >= 0):
            raise ConfigurationError(f"timeout is a number of seconds, or None for no limit, not {timeout!r}")
        if os.getpid() != self._pid:
            raise RunDisplacedError(f"run {self._run_id!r} is mirrored by its parent process", url=self.url)
        until = None if timeout is None else self._clock.now() + timeout
        with self._changed:
            self._asked += 1
            asked = self._asked
            self._go_on()
            alone = self._thread is None
            while self._answered < asked and self._thread is not None and not self._over:
                left = LONGEST if until is None else until - self._clock.now()
                if left <= 0:
                    raise DeadlineError(f"{self._missing()} are not in {self.url} after {timeout:g} s", url=self.url)
                self._clock.wait(self._changed, left)
        if alone and not self._over:
            self._turn()
        if self._error is not None:
            raise self._error

    # -- what the run says ---------------------------------------------------------------------------------

    def begin(self) -> None:
        """Follow the run, in a thread, until it has ended."""
        self._target.prepare()  # the script may end before the first request
        exits.at_exit(self._at_exit)
        with self._changed:
            self._go_on()

    def finish(self) -> None:
        """The run has ended: copy the rest and be done. Nobody waits for that but the end of the interpreter."""
        with self._changed:
            self._ending, self._not_before = True, float("-inf")
            self._go_on()

    def expect_more(self) -> None:
        """Something is about to be written though the run has ended: copy that soon, and at exit what came later."""
        if os.getpid() != self._pid or self._over:
            return
        exits.at_exit(self._at_exit)
        with self._changed:
            self._late = True
            if self._thread is None:
                self._start(PAUSE)

    def give_up(self) -> None:
        """Copy nothing more."""
        exits.forget(self._at_exit)
        exits.forget(self._wait)
        self._stop.set()
        if os.getpid() == self._pid:
            with self._changed:
                self._over = True
                self._changed.notify_all()

    # -- the thread ----------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Have a thread that copies, and look what is asked of it. Holds the lock."""
        if self._over:
            return
        self._woken = True
        self._changed.notify_all()
        if self._thread is None:
            self._start(0.0)

    def _start(self, after: float) -> None:
        with suppress(RuntimeError):  # the interpreter is ending, and starts none any more: `_wait` does its work
            self._thread = start_thread(partial(self._begin_to_work, after), _THREAD)

    def _begin_to_work(self, after: float) -> None:
        try:
            self._yield_to_others()
            with self._changed:
                if not self._woken:
                    self._clock.wait(self._changed, after)
            self._work()
        finally:
            with self._changed:  # whoever waits for it is to know
                if self._thread is threading.current_thread():
                    self._thread = None
                self._changed.notify_all()

    def _work(self) -> None:
        """Copy, until the run has ended and its copy is equal, or it is given up."""
        looks = 0
        while True:
            pause = self._turn()
            with self._changed:
                if self._is_done(pause):
                    self._thread = None
                    self._changed.notify_all()
                    return
                looks = looks + 1 if pause == 0 else 0
                if not self._woken:
                    self._clock.wait(self._changed, PAUSE if looks > _LOOKS_AT_END else self._at_most(pause or 0.0))

    def _is_done(self, pause: float | None) -> bool:
        """Whether there is nothing more to do. Holds the lock, so that who asks for something later finds no thread."""
        if self._over or self._is_hopeless():
            return True
        if pause is None and not self._woken:
            if self._exit is None and not self._late:
                exits.forget(self._at_exit)
            return True
        return self._exit is not None and self._clock.now() >= self._exit + self._timeout

    def _is_hopeless(self) -> bool:
        """Whether the target refused, at exit, in a way that a few seconds will not change."""
        if self._exit is None or self._tried < self._exit or self._error is None:
            return False
        errors = self._error.exceptions if isinstance(self._error, BatchError) else [self._error]
        return all(isinstance(error, _HOPELESS) for error in errors)

    def _at_most(self, seconds: float) -> float:
        """Seconds to wait, and at exit no longer than may be."""
        return seconds if self._exit is None else min(seconds, self._exit + self._timeout - self._clock.now())

    def _yield_to_others(self) -> None:
        """Have this thread come after those of the run where there are not processors enough for all."""
        if sys.platform.startswith("linux"):  # elsewhere that is the whole process's
            with suppress(Exception):  # what is wrong with the target, the first request says
                self._target.filesystem()  # its own thread is everybody's, and is to be as the others
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)

    def _turn(self) -> float | None:
        """Look once, and copy what is due.

        Returns:
            Seconds to the next time; None if nothing is left to copy of a run that has ended.
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
            news = self._pass(whole)
            if self._has_recovered():  # which leaves a line, and that is to be there too
                news = self._pass(whole)
        except (RunDisplacedError, RunExistsError) as error:
            self._refused(error)
        except Exception as error:
            self._failed(error)
        with self._changed:
            self._answered = asked
            self._changed.notify_all()
            if self._error is not None:
                return self._not_before - now
            if self._ending and whole:
                return 0.0 if news else None
            return self._pause

    # -- one pass ------------------------------------------------------------------------------------------

    def _pass(self, whole: bool) -> bool:
        """Copy what is due, or all that there is; whether there was something, due or not."""
        ended = self._has_ended()  # asked before the listing: what has ended by now has all of it there
        began = self._clock.now()
        changed = self._schedule.changed(self._source.list(skipped=ignore))
        self._pause = max(PAUSE, LOOKS * (self._clock.now() - began))
        if whole or ended or not self._sure:
            if changed:
                self._copy.update(self._schedule.known)
                self._note(changed.values())
            self._sure = True
        else:
            self._copy_some(self._due(changed))
        return bool(changed)

    def _has_ended(self) -> bool:
        """Whether the run has.

        Raises:
            RunDisplacedError: It is another writer's run by now, who may have a mirror of their own.
        """
        found = self._source.fetch(keys.METADATA)
        fields = metadata(found, self._source.url, keys.METADATA)
        if lease_of(fields).get("owner") != self._owner:
            raise RunDisplacedError(
                f"run {self._run_id!r} at {self._source.url} belongs to another writer by now, and is not mirrored for "
                "this one any more",
                url=self._source.url,
                key=keys.METADATA,
            )
        return fields.get("status") in ENDED

    def _due(self, changed: Mapping[str, Entry]) -> dict[str, Entry]:
        """What of it is to be copied now."""
        now = self._clock.now()
        due = self._schedule.due(changed, now)
        whole = (key for key in changed if key == keys.METADATA or keys.is_log(key))  # at any time
        return due | {key: changed[key] for key in whole if self._schedule.is_rested(key, now)}

    def _copy_some(self, due: Mapping[str, Entry]) -> None:
        """Copy these of a run that goes on; where they are many, its logs and its sign of life in between."""
        signs = {key: entry for key, entry in due.items() if key == keys.METADATA or keys.is_log(key)}
        told = self._clock.now()
        for batch in _batches(entry for key, entry in due.items() if key not in signs):
            began = self._clock.now()
            if began - told > SIGN:
                self._copy_signs({keys.METADATA: None, **signs})
                told = began
            self._copy.update(self._schedule.known, only=[entry.key for entry in batch])
            self._schedule.sent(batch, began, self._clock.now())
        if signs:
            self._copy_signs(signs)

    def _copy_signs(self, signs: Mapping[str, Entry | None]) -> None:
        """Copy what tells how the run goes, as far as that may be sent again by now."""
        now = self._clock.now()
        due = {key: entry for key, entry in signs.items() if self._schedule.is_rested(key, now)}
        if not due:
            return
        self._copy.update(self._schedule.known, only=list(due))
        self._note(entry for entry in due.values() if entry is not None)

    def _note(self, copied: Iterable[Entry]) -> None:
        """Take note how much of the logs is there, and what a line of them costs."""
        for entry in copied:
            if keys.is_log(entry.key):
                self._lengths[entry.key] = entry.size
                again = 0 if self._target.is_local or entry.size >= _EXTENDED else entry.size
                self._schedule.sends_again(entry.key, again, self._clock.now())

    # -- how it went ---------------------------------------------------------------------------------------

    def _has_recovered(self) -> bool:
        """Take note that all went well; whether that is news."""
        failed, self._failures, self._tries, self._error = self._failures, 0, 0, None
        self._not_before = float("-inf")
        if failed:
            self._tell(logging.INFO, f"The mirror {self.url} has caught up")
        return failed > 0

    def _failed(self, error: Exception) -> None:
        """Try again later, each time a longer while; what the target holds by now is to be found out anew."""
        self._sure = False
        self._error = error
        self._failures, self._tries = self._failures + 1, self._tries + 1
        pause = min(PAUSE * 2 ** min(self._tries - 1, 10), LONGEST if self._exit is None else SHORTEST)
        self._not_before = self._clock.now() + pause
        if self._failures == 1 and not self._over:
            self._tell(
                logging.WARNING,
                f"The mirror {self.url} is behind, and is tried again: {self._target.redacted(str(error))}",
            )

    def _refused(self, error: Exception) -> None:
        """Nothing will be copied, now or later."""
        self._error, self._over = error, True
        exits.forget(self._at_exit)
        if isinstance(error, RunExistsError):
            self._tell(logging.WARNING, f"Not mirrored: {error}")
            _say(f"notata: run {self._run_id!r} is not mirrored: {error}")

    # -- at exit -------------------------------------------------------------------------------------------

    def _at_exit(self) -> None:
        """The interpreter ends. Wait once all runs have ended, so that one time serves all their mirrors."""
        if os.getpid() != self._pid or self._over:
            return
        with self._changed:
            self._exit, self._tries, self._not_before = self._clock.now(), 0, float("-inf")
            self._ending = True
            self._go_on()
        exits.at_exit(self._wait)

    def _wait(self) -> None:
        """Wait for the rest, as long as that may take; then say what is missing."""
        if os.getpid() != self._pid or self._exit is None:
            return
        try:
            with self._changed:
                alone = self._thread is None and not self._over
            if alone:
                self._work()
            elif not self._thread_ended(self._exit + min(PATIENCE, self._timeout)) and self._timeout > PATIENCE:
                _say(
                    f"notata: {self._missing()} of run {self._run_id!r} are on their way to {self.url}; that is waited "
                    f"for {self._timeout:g} s at most"
                )
                self._thread_ended(self._exit + self._timeout)
        finally:
            refused = self._over
            self.give_up()
            exits.abandon(_COPIERS)
            if not refused and (missing := self._missing()):
                why = f" ({self._target.redacted(str(self._error))})" if self._error else ""
                _say(f"notata: {missing} of run {self._run_id!r} are not mirrored yet{why}; {self._remedy()}")

    def _thread_ended(self, until: float) -> bool:
        """Wait for the thread; whether it has ended."""
        with self._changed:
            while self._thread is not None:
                left = until - self._clock.now()
                if left <= 0:
                    return False
                self._clock.wait(self._changed, left)
        return True

    def _missing(self) -> str:
        """What is not copied, for people; empty if nothing is."""
        try:
            behind = self.behind
        except Exception as error:  # the folder cannot be read any more
            return f"files ({error})"
        return str(behind) if behind.files else ""

    def _remedy(self) -> str:
        if not self._source.shared:
            return "they are gone with this process"
        return f"finish with: notata sync {shlex.quote(self._source.url)} {shlex.quote(self.url)}"


def _batches(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Parts of a list that take about the same time, small files first."""
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


def _say(line: str) -> None:
    with suppress(OSError, ValueError):  # closed
        print(one_line(line, 4000), file=sys.stderr, flush=True)  # noqa: T201


def _sized(size: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
