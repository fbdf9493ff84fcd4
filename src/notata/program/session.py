r"""Run a program to its end: read its output, pass on signals and input, and handle the job control of a terminal.

The program has a process group of its own. There are two arrangements:

* *Own terminal*: standard input and output of notata are a terminal. The program gets a pseudo-terminal, in a session
  of its own, for input and output. The terminal of the user is in raw mode, so each key goes to the program: its
  terminal turns Ctrl-C and Ctrl-\ into signals. Ctrl-Z stops the program (SIGSTOP) and then notata with its group, as
  the system ignores SIGTSTP in such a session. If the program itself is a shell with a job in the foreground, Ctrl-Z
  goes to that job.
* *Shared terminal*, or none: the program inherits the standard input. Its output is a pipe, or a pseudo-terminal. Its
  group is in the background of the terminal until it reads from it (SIGTTIN); then it gets the foreground. So keys send
  their signals either to notata, which passes them on, or to the program.

In both, a stopped program stops notata, and `fg` continues both.
"""

from __future__ import annotations

import errno
import os
import selectors
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from notata.program.exit import Exit
from notata.program.screen import LINGER, Ended, Terminals, find_terminal
from notata.program.signals import Signals
from notata.program.start import Child, Streams, start
from notata.program.terminal import Foreground, RawMode, copy_size, typed
from notata.program.usage import TreeUsage, max_rss_bytes

__all__ = ["Session", "run_program"]

_READ: Final = 2**18
_PIPE: Final = 2**20  # bytes that a pipe or a terminal can hold, unless root has made it larger
_KEYS: Final = 4096
_LONGEST: Final = (
    1.0  # seconds until the loop looks for the end of the program itself: SIGCHLD wakes the main thread only
)


class Session:
    """One program that runs.

    Attributes:
        is_interrupted: Whether the user has typed Ctrl-C in the terminal that controls this process, and it reached the
            program only.
        is_held_open: Whether another process held the output open after the program had ended.

    Args:
        child: The program.
        take: Takes its output.
        usage: Measures its memory.
        signals: The handlers of signals.
        terminal: The terminal of the user; None if there is none.
        linger: As `notata.program.screen.LINGER`.
        clock: Returns seconds, as `time.monotonic`.
    """

    def __init__(
        self,
        child: Child,
        take: Callable[[bytes], object],
        usage: TreeUsage,
        signals: Signals,
        terminal: int | None,
        *,
        linger: float = LINGER,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._child = child
        self._take = take
        self._usage = usage
        self._signals = signals
        self._terminal = terminal
        self._linger = linger
        self._clock = clock
        self._own = child.streams.is_input  # the program has its own terminal
        self._raw = RawMode(terminal) if self._own and terminal is not None else None
        self._foreground = Foreground(terminal)
        self._selector = selectors.DefaultSelector()
        self._pending = b""  # input that the program's terminal has no room for
        self._status: int | None = None
        self._used: Any = None
        self._ended_at = 0.0
        self._is_open = True
        self.is_interrupted = False
        self.is_held_open = False

    def _handlers(self) -> dict[int, Callable[[], object]]:
        return {
            signal.SIGCHLD: bool,  # it only wakes the loop
            signal.SIGWINCH: self._resize,
            signal.SIGTSTP: self._suspend,
            signal.SIGCONT: self._resume,
        }

    def run(self) -> tuple[int, Any]:
        """Run the program to its end, and return its wait status and its resource usage."""
        ours = self._child.streams.ours
        os.set_blocking(ours, False)
        self._selector.register(ours, selectors.EVENT_READ, self._on_output)
        self._selector.register(self._signals.wakeup, selectors.EVENT_READ, self._on_signal)
        self._signals.begin(self._child.signal, self._handlers())
        try:
            self._usage.sample_if_due()
            self._resume()
            while self._is_running():
                ready = self._selector.select(self._seconds_left())
                for key, events in ready:
                    key.data(events)
                if not ready:
                    self._take(b"")
                self._reap()
                self._usage.sample_if_due()
        finally:
            self._signals.end()
            self.is_interrupted |= self._foreground.is_handed_over
            self._leave()
            self._selector.close()
            with suppress(OSError):
                os.close(ours)
        return self._status or 0, self._used

    def _is_running(self) -> bool:
        if self._status is None:
            return True
        if self._is_open and self._clock() - self._ended_at >= self._linger:
            self._read_rest()
            self.is_held_open = self._is_open
            return False
        return self._is_open

    def _seconds_left(self) -> float | None:
        if self._status is not None:
            return max(0.0, self._ended_at + self._linger - self._clock())
        left = self._usage.seconds_left()
        return _LONGEST if left is None else min(_LONGEST, left)

    # -- output and input ----------------------------------------------------------------------------------

    def _on_output(self, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._write_input()
        if events & selectors.EVENT_READ:
            self._read_output()

    def _read_output(self) -> int:
        """Read and take output, as far as it is there; return its size."""
        try:
            data = os.read(self._child.streams.ours, _READ)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno != errno.EIO:  # Linux reports the closed other end of a terminal this way
                raise
            data = b""
        if data:
            self._take(data)
        else:
            self._is_open = False
            self._selector.unregister(self._child.streams.ours)
        return len(data)

    def _read_rest(self) -> None:
        """Read what the program printed before its end, even if notata comes to it late, as on a busy machine.

        Another process may print for ever, so this reads no more than a pipe can hold.
        """
        left = _PIPE
        while left > 0 and self._is_open and (size := self._read_output()):
            left -= size

    def _on_input(self, _events: int) -> None:
        """Pass keys on to the program's terminal."""
        terminal, ours = self._terminal, self._child.streams.ours
        try:
            data = b"" if terminal is None else os.read(terminal, _KEYS)
        except OSError:
            data = b""
        if not data:  # the terminal is gone
            self._listen(False)
            return
        while data:
            keys = typed(ours, data)
            self.is_interrupted |= keys.is_interrupt and self._foreground.is_own
            if keys.is_suspend and not self._has_jobs():
                self._pending += keys.before
                self._write_input()
                self._suspend(by_key=True)
                data = keys.after
            else:
                self._pending += data
                data = b""
        self._write_input()

    def _has_jobs(self) -> bool:
        """Check whether the program is a shell with a job in the foreground, which Ctrl-Z stops."""
        try:
            return os.tcgetpgrp(self._child.streams.ours) not in (0, self._child.pid)
        except OSError:
            return False

    def _write_input(self) -> None:
        """Write pending input, as far as the program's terminal has room; then read no more keys for a while."""
        ours = self._child.streams.ours
        with suppress(BlockingIOError):
            try:
                while self._pending:
                    self._pending = self._pending[os.write(ours, self._pending) :]
            except OSError as error:
                if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK):
                    raise
                self._pending = b""
        if self._is_open:
            more = selectors.EVENT_WRITE if self._pending else 0
            self._selector.modify(ours, selectors.EVENT_READ | more, self._on_output)
        if self._raw is not None:
            self._listen(self._raw.is_on and not self._pending)

    def _listen(self, wanted: bool) -> None:
        """Begin or stop to read keys."""
        if self._terminal is None:
            return
        is_listening = self._terminal in self._selector.get_map()
        if wanted and not is_listening:
            self._selector.register(self._terminal, selectors.EVENT_READ, self._on_input)
        elif is_listening and not wanted:
            self._selector.unregister(self._terminal)

    # -- the program ---------------------------------------------------------------------------------------

    def _on_signal(self, _events: int) -> None:
        self._signals.drain()

    def _reap(self) -> None:
        """Find out whether the program has ended or was stopped."""
        while self._status is None:
            pid, status, used = os.wait4(self._child.pid, os.WNOHANG | os.WUNTRACED)
            if not pid:
                return
            if os.WIFSTOPPED(status):
                self._on_stop(os.WSTOPSIG(status))
                continue
            self._status, self._used, self._ended_at = status, used, self._clock()
            self._child.process.returncode = os.waitstatus_to_exitcode(status)  # so that it does not wait, too

    def _on_stop(self, number: int) -> None:
        """Handle that a signal has stopped the program."""
        if self._own:
            return  # notata did that, or a user who will continue it
        if number in (signal.SIGTTIN, signal.SIGTTOU):
            if self._foreground.hand_over(self._child.pid):
                self._child.signal(signal.SIGCONT)
            else:
                self._stop(number, whole_group=False)
        elif self._foreground.is_handed_over:
            self._stop(signal.SIGTSTP, whole_group=True)

    def _suspend(self, *, by_key: bool = False) -> None:
        """Stop the program and notata, until SIGCONT."""
        self._child.signal(signal.SIGSTOP if self._own else signal.SIGTSTP)
        self._stop(signal.SIGTSTP, whole_group=by_key)

    def _stop(self, number: int, *, whole_group: bool) -> None:
        """Stop this process, for a key of the terminal with its whole group, until SIGCONT."""
        if threading.current_thread() is not threading.main_thread():  # it cannot change handlers
            return
        had_foreground = self._foreground.is_handed_over
        self._leave()
        before = signal.getsignal(number)
        signal.signal(number, signal.SIG_DFL)
        if whole_group:
            os.killpg(os.getpgrp(), number)
        else:
            os.kill(os.getpid(), number)
        signal.signal(number, before)
        if had_foreground:
            self._foreground.hand_over(self._child.pid)
        self._resume()

    def _resume(self) -> None:
        """Continue the program after SIGCONT, and take the terminal."""
        if self._raw is not None:
            self._raw.enter()
            self._listen(self._raw.is_on and not self._pending)
            self._resize()
        self._child.signal(signal.SIGCONT)

    def _leave(self) -> None:
        """Give the terminal back to the shell."""
        if self._raw is not None:
            self._raw.leave()
            self._listen(False)
        self._foreground.take_back()

    def _resize(self) -> None:
        """Give the program's terminal the size of the user's."""
        streams = self._child.streams
        if streams.is_terminal:
            copy_size(self._terminal if self._own else find_terminal(sys.__stdout__), streams.ours)
        if not self._own:  # it is not the terminal that controls the program
            self._child.signal(signal.SIGWINCH)


def run_program(
    argv: Sequence[str],
    path: str,
    folder: str,
    environ: Mapping[str, str],
    terminals: Terminals,
    take: Callable[[bytes], object],
    began: Callable[[int], object],
) -> Ended:
    """Run a program to its end.

    Args:
        argv: Its arguments, its name included.
        path: Its file.
        folder: Its working folder.
        environ: Its environment variables.
        terminals: The terminals of this process, and whether it gets one.
        take: Takes its output, and nothing about once a second.
        began: Called with its process id.

    Raises:
        StartError: The system cannot execute it.
    """
    with Signals() as signals:
        like = terminals.output if terminals.output is not None else terminals.input
        streams = Streams.terminal(like, is_input=terminals.is_input) if terminals.is_terminal else Streams.pipe()
        child = start(argv, path, folder, environ, streams)
        usage = TreeUsage(child.pid)
        began(child.pid)
        session = Session(child, take, usage, signals, terminals.input)
        status, used = session.run()
    code = os.waitstatus_to_exitcode(status)
    end = Exit(
        code if code >= 0 else None,
        -code if code < 0 else None,
        cpu_seconds=used.ru_utime + used.ru_stime,
        peak_memory_bytes=usage.peak(max_rss_bytes(used.ru_maxrss)),
        processes=usage.processes or None,
        by_key=session.is_interrupted,
    )
    return Ended(end, session.is_held_open)
