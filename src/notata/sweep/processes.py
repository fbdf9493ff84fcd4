"""Processes for a sweep: started when they are needed, again after they were killed, and ended with the driver."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, ProcessPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, Final

from notata.sweep.engines import Engine, Future

__all__ = ["Processes"]

_QUEUED: Final = 2  # calls submitted to each process, so that it need not wait for the next one
_STARTS: Final = 3  # processes in a row that ended before they could work


class Processes(Engine):
    """A number of processes, each a pool of its own: one that is killed loses only the calls that it was given.

    They begin as new interpreters (``spawn``), and end with this process, even if it is killed. Ctrl-C in a terminal
    does not reach them, nor the programs that their tasks start.

    Args:
        number: The number of processes.
    """

    imports_main = True

    def __init__(self, number: int) -> None:
        self._starts = _Starts()
        self._processes = [_Process(self._starts) for _ in range(number)]
        self.most = number * _QUEUED

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future:
        return min(self._processes, key=lambda process: process.pending).submit(function, *arguments)

    def halt(self) -> None:
        for process in self._processes:
            process.halt()

    def close(self) -> None:
        closing = [threading.Thread(target=process.close) for process in self._processes]
        for thread in closing:  # at once, as each interpreter takes a moment to end
            thread.start()
        for thread in closing:
            thread.join()

    def abandon(self) -> None:
        for process in self._processes:
            process.abandon()


class _Starts:
    """Counts the processes in a row that ended before they could work."""

    def __init__(self) -> None:
        self._failed = 0

    def count(self, *, was_ready: bool) -> None:
        """Count a process that was killed.

        Raises:
            BrokenExecutor: Too many ended at their start.
        """
        self._failed = 0 if was_ready else self._failed + 1
        if self._failed >= _STARTS:
            raise BrokenExecutor(
                "the processes end while they start; see their output for the reason. If a script starts the sweep, "
                'put that below `if __name__ == "__main__":`, because each process imports the script'
            )


class _Process:
    """One process, and the next one after it was killed.

    Attributes:
        pending: The number of submitted calls that have not ended.
    """

    def __init__(self, starts: _Starts) -> None:
        self._starts = starts
        self._lock = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None
        self._line: Connection | None = None
        self.pending = 0

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future:
        """Submit a call; start the process if there is none.

        Raises:
            BrokenExecutor: No process can be started.
        """
        while True:
            try:
                future = self._started().submit(_unless_stopped, function, *arguments)
            except BrokenExecutor:
                self._starts.count(was_ready=self._is_ready())
                self.abandon()
                continue
            with self._lock:
                self.pending += 1
            future.add_done_callback(self._count_end)
            return future

    def _count_end(self, _: object) -> None:
        with self._lock:
            self.pending -= 1

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._line, far = context.Pipe()
            self._pool = ProcessPoolExecutor(1, context, initializer=_begin_process, initargs=(far,))
        return self._pool

    def _is_ready(self) -> bool:
        """Check whether the process got as far as its first call."""
        try:
            return self._line is not None and self._line.poll() and bool(self._line.recv())
        except (OSError, EOFError):
            return False

    def halt(self) -> None:
        """Begin none of the queued calls."""
        with suppress(OSError):
            if self._line is not None:
                self._line.send("stop")

    def close(self) -> None:
        """End the process once its calls have ended, and wait for that."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self.abandon()

    def abandon(self) -> None:
        """End the process at once."""
        line, pool, self._line, self._pool = self._line, self._pool, None, None
        if line is not None:
            line.close()
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)


# -- in the process ----------------------------------------------------------------------------------------

_driver: _Driver | None = None


class _Driver:
    """The driver, as seen from a process that works for it.

    Args:
        line: The connection to it. It says when no queued call is to begin any more, and its end is the driver's end.
    """

    def __init__(self, line: Connection) -> None:
        self._line = line
        self._lock = threading.Lock()  # between receiving a message and knowing it, the line says nothing
        self._has_stopped = False

    def greet(self) -> None:
        """Say that this process works."""
        with suppress(OSError):
            self._line.send("ready")

    def has_stopped(self) -> bool:
        """Check whether the driver has said that no call is to begin, even if that was a moment ago."""
        with self._lock:
            return self._has_stopped or self._line.poll()

    def follow(self) -> None:
        """Wait for the end of the driver, and end at once: the next driver resumes the run."""
        with suppress(OSError, EOFError):
            while self._line.poll(None):
                with self._lock:
                    self._line.recv()
                    self._has_stopped = True
        if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)  # with the programs that a task started
        os._exit(1)


def _begin_process(line: Connection) -> None:
    """Prepare a process: no Ctrl-C from the terminal, and an end together with the driver."""
    global _driver  # noqa: PLW0603
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setpgrp"):  # so that the programs that a task starts get no Ctrl-C either
        os.setpgrp()
    _driver = _Driver(line)
    _driver.greet()
    threading.Thread(target=_driver.follow, name="notata-driver", daemon=True).start()


def _unless_stopped(function: Callable[..., Any], *arguments: Any) -> Any:
    if _driver is not None and _driver.has_stopped():
        raise CancelledError("the sweep was interrupted")
    return function(*arguments)
