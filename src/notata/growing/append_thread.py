"""The thread of a run that appends lines to its growing files in a bucket.

A run has one such thread for all its growing files: log.txt and the series. It runs only while lines are pending.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, Protocol

from notata._base.processes import ForkCheck
from notata._base.threads import Bell, start_thread

__all__ = ["THREAD", "AppendThread", "Growing"]

THREAD: Final = "notata-append"
"""The name of the threads that append lines."""


class Growing(Protocol):
    """The interface of the files; `notata.growing.GrowingFile` implements it."""

    def seconds_left(self) -> float | None:
        """Return the seconds until the next append; None if no lines are pending."""

    def try_append(self) -> None:
        """Append the pending lines, or keep them if that fails."""


class AppendThread:
    """Appends the lines of growing files when they are due. Safe to use from many threads and signal handlers.

    The lock of this object is never held while a file is called: a file calls `wake` while its own lock is held.

    Args:
        start: Starts a thread, as `notata._base.threads.start_thread` does.
    """

    def __init__(self, start: Callable[[Callable[[], object], str], object] = start_thread) -> None:
        self._start = start
        self._fork = ForkCheck()
        self._begin()

    def _begin(self) -> None:
        """Start without files: in a new object, and in a forked child, which has no copy of the thread."""
        self._lock = threading.RLock()
        self._files: dict[Growing, None] = {}  # those with pending lines
        self._bell: Bell | None = None  # wakes the thread; None if there is no thread

    def serves(self, file: Growing) -> bool:
        """Check whether the thread is going to append the lines of a file, if there are any."""
        return self._bell is not None and file in self._files and not self._fork.is_forked()

    def wake(self, file: Growing) -> None:
        """Start the thread for a file with pending lines, or let it check the time of the next append again."""
        self._fork.when_forked(self._begin)
        with self._lock:
            self._files[file] = None
            if self._bell is not None:
                self._bell.ring()
                return
            bell = Bell()
            with suppress(RuntimeError):  # the interpreter is ending, and the lines are stored at exit
                self._start(partial(self._work, bell), THREAD)
                self._bell = bell

    def ring(self) -> None:
        """Let the thread check whether it can end. Acquires no lock."""
        if (bell := self._bell) is not None:
            bell.ring()

    def _work(self, bell: Bell) -> None:
        """Append lines when they are due, until none are pending."""
        while True:
            with self._lock:
                files, self._files = self._files, {}
            left = {file: seconds for file in files if (seconds := file.seconds_left()) is not None}
            with self._lock:
                is_known = self._files.keys() <= left.keys()  # else the bell rang meanwhile for another file
                self._files |= dict.fromkeys(left)
                if not self._files:
                    self._bell = None
                    return
            if not is_known:
                continue
            file = min(left, key=left.__getitem__)
            if left[file] > 0:
                bell.wait(left[file])
            else:
                file.try_append()
