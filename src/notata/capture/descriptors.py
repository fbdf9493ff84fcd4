"""Capture what this process, its C libraries and its child processes write to file descriptors 1 and 2.

The descriptors append to a spool file instead (``spool.py`` says why). A thread reads the spool and gives the bytes to
the `Output` of each run that captures; a process copies them to where they went before (``display.py``).

If both descriptors lead to the same place, as in a terminal, they share a spool, and the order of their bytes is kept.
Otherwise each has its own. If ``sys.stdout`` or ``sys.stderr`` does not write to its descriptor, as in a notebook and
under pytest, it is replaced by an object that also writes to a spool of its own.

All runs of a process that capture at the same time share the spools; each gets what is written while it is open.
"""

from __future__ import annotations

import ctypes
import io
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from notata._base.processes import ForkCheck, Lock
from notata._base.threads import Bell, start_thread
from notata.capture import display
from notata.capture.output import Output
from notata.capture.spool import Spool
from notata.errors import ConfigurationError

__all__ = ["THREAD", "Capturing"]

THREAD: Final = "notata-output"
"""The name of the thread that reads the spools."""

_OUT: Final = 1
_ERR: Final = 2
_PAUSE: Final = 0.02  # seconds between two looks while output comes,
_LONGEST: Final = 0.25  # and at most if none comes
_ENDING: Final = 10.0  # seconds that the end of a capture waits for the terminal


class Capturing:
    """One run that captures the output of this process, from its creation to `stop`.

    Args:
        output: Takes the output.
        url: The URL of the run.

    Raises:
        ConfigurationError: This is Windows, or there is no place for a temporary file.
    """

    def __init__(self, output: Output, url: str) -> None:
        if sys.platform == "win32":
            raise ConfigurationError(
                "cannot capture output: Windows has no file descriptors that child processes share. Use 'notata run', "
                "or write to the log"
            )
        self._output = output
        self._fork = ForkCheck()
        with _lock.held():
            if not _open or _open[0].is_forked:
                _open[:] = [_Redirection(url)]
            self._redirection = _open[0]
            self._redirection.attach(output)

    def stop(self) -> None:
        """Take what was written so far, and restore the descriptors if no other run captures. Does nothing twice."""
        if self._fork.is_forked():
            return
        with _lock.held():
            if self._redirection.detach(self._output) and _open[:1] == [self._redirection]:
                _open.clear()


_lock = Lock()
_open: list[_Redirection] = []  # at most one, as a process has one file descriptor 1


class _Source:
    """A spool and what leads to it.

    Attributes:
        numbers: The descriptors that it replaces.
        saved: Copies of those, to restore them.
        marks: Pairs of a position in the spool and the bytes that the first output had got by then.
    """

    def __init__(self, url: str, numbers: tuple[int, ...]) -> None:
        self.numbers = numbers
        self.saved = [os.dup(number) for number in numbers]
        self.spool = Spool(url, is_shown=bool(numbers))
        self.marks: deque[tuple[int, int]] = deque()

    def redirect(self) -> None:
        for number in self.numbers:
            os.dup2(self.spool.writing, number)

    def restore(self) -> None:
        for number, saved in zip(self.numbers, self.saved, strict=True):
            with suppress(OSError):
                os.dup2(saved, number)

    def close(self) -> None:
        self.spool.close(remove=True)
        for saved in self.saved:
            os.close(saved)


class _Tee(io.TextIOBase):
    """A text stream that also writes to a spool. Everything else is that of the stream."""

    def __init__(self, stream: Any, written: Callable[[bytes], object]) -> None:
        self._stream, self._written = stream, written

    def write(self, text: str) -> int:
        count: int = self._stream.write(text)
        with suppress(Exception):
            self._written(text.encode("utf-8", "backslashreplace"))
        return count

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        number: int = self._stream.fileno()
        return number

    def isatty(self) -> bool:
        return bool(self._stream.isatty())

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        """Leave the stream open, as it belongs to the script."""

    def __getattribute__(self, name: str) -> Any:
        if name in _OWN:
            return object.__getattribute__(self, name)
        return getattr(object.__getattribute__(self, "_stream"), name)


_OWN: Final = frozenset(
    {"_stream", "_written", "write", "writelines", "flush", "fileno", "isatty", "writable", "close", "__class__"}
)


class _Redirection:
    """The redirected descriptors of this process, their spools, and who gets their bytes."""

    def __init__(self, url: str) -> None:
        self._fork = ForkCheck()
        self._lock = threading.RLock()  # for reading the spools
        self._outputs: list[Output] = []
        self._bell: Bell | None = None
        self._sources: list[_Source] = []
        self._replaced: dict[str, tuple[Any, _Tee]] = {}
        self._buffered: list[Any] = []
        self._order: deque[list[int]] = deque()  # sizes of the spools after each write to a stream
        self._display: subprocess.Popen[bytes] | None = None
        _flush_all()
        try:
            for numbers in _same_places():
                self._sources.append(_Source(url, numbers))
            self._start_display()
            for source in self._sources:
                source.redirect()
            for name, number in (("stdout", _OUT), ("stderr", _ERR)):
                self._follow_stream(name, number, url)
        except OSError as error:
            self._restore()
            self._close()
            raise ConfigurationError(
                f"cannot capture output: {error}. Make room in the temporary folder, or set TMPDIR to another one"
            ) from error

    @property
    def is_forked(self) -> bool:
        return self._fork.is_forked()

    def _follow_stream(self, name: str, number: int, url: str) -> None:
        """Let a Python stream store each line at once, or replace it if it does not write to its descriptor."""
        stream = getattr(sys, name)
        if stream is None:
            return
        if _writes_to(stream, number):
            if type(stream) is io.TextIOWrapper and not stream.line_buffering:
                stream.reconfigure(line_buffering=True)  # a crash would lose what is in the buffer
                self._buffered.append(stream)
            return
        source = _Source(url, ())
        self._sources.append(source)
        tee = _Tee(stream, partial(self._write, len(self._sources) - 1))
        self._replaced[name] = stream, tee
        setattr(sys, name, tee)

    def _write(self, number: int, data: bytes) -> None:
        """Write to the spool of a stream, and note how much the other ones had by then, as the order counts."""
        sizes = [source.spool.size for source in self._sources]
        count = 0
        while count < len(data):
            count += os.write(self._sources[number].spool.writing, data[count:])
        sizes[number] += count
        self._order.append(sizes)

    def _start_display(self) -> None:
        """Start the process that shows the output; without one, the thread does it."""
        pairs = [(source.spool.reading, source.saved[0]) for source in self._sources]
        numbers = [number for pair in pairs for number in pair]
        command = [sys.executable, "-I", "-S", display.__file__, *map(str, numbers)]
        with suppress(OSError, ValueError):
            self._display = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, pass_fds=numbers
            )

    # -- who gets the bytes --------------------------------------------------------------------------------

    def attach(self, output: Output) -> None:
        """Give an output what is written from now on."""
        _flush_all()
        with self._lock:
            self._drain()
            self._outputs.append(output)
        if self._bell is None:
            self._bell = Bell()
            bell = self._bell
            with suppress(RuntimeError):  # no more threads: the bytes are read at the end
                start_thread(lambda: self._work(bell), THREAD)

    def detach(self, output: Output) -> bool:
        """Give an output what was written so far, and no more. Restore the descriptors after the last one."""
        with self._lock:
            if output not in self._outputs:
                return False
            is_last = len(self._outputs) == 1
            _flush_all()
            try:
                if is_last:
                    self._restore()
                self._drain()
            finally:
                self._outputs.remove(output)
                if is_last:
                    self._close()
            return is_last

    def _work(self, bell: Bell) -> None:
        pause = _PAUSE
        while not bell.wait(pause):
            if self._fork.is_forked():
                return
            with self._lock:
                if not self._outputs:
                    return
                pause = _PAUSE if self._drain() else min(_LONGEST, 1.5 * pause)

    def _drain(self) -> bool:
        """Read the spools to their end, and return whether there was anything."""
        for source in self._sources:
            if source.numbers and (self._display is None or self._display.poll() is not None):
                self._show(source)
        found = False
        while self._order:
            found |= self._read_to(self._order.popleft())
        found |= self._read_to([source.spool.size for source in self._sources])
        for number, source in enumerate(self._sources):
            self._feed(number, b"")  # what is due
            self._mark(source)
        return found

    def _read_to(self, sizes: Sequence[int]) -> bool:
        return sum(self._read(number, size) for number, size in enumerate(sizes)) > 0  # each one, unlike `any`

    def _read(self, number: int, end: int) -> bool:
        """Read a spool up to a position, and return whether there was anything."""
        source, found = self._sources[number], False
        while data := source.spool.read(end):
            found = True
            whole = data.rfind(b"\n") + 1
            if whole:
                self._feed(number, data[:whole])
                if self._outputs and (given := self._outputs[0].given(number)) is not None:
                    source.marks.append((source.spool.position - len(data) + whole, given))
            if whole < len(data):
                self._feed(number, data[whole:])
            self._mark(source)
        return found

    def _feed(self, number: int, data: bytes) -> None:
        for output in self._outputs:
            with suppress(Exception):
                output.feed(data, number)

    def _show(self, source: _Source) -> None:
        """Show new output in this thread, as there is no process that does."""
        with suppress(OSError, ValueError):
            display.copy(source.spool.reading, source.saved[0], source.spool.shown)

    def _mark(self, source: _Source) -> None:
        """Note up to where the output is stored, for a process that is killed."""
        position = None
        stored = self._outputs[0].stored if self._outputs else 0
        while source.marks and source.marks[0][1] <= stored:
            position = source.marks.popleft()[0]
        if position is not None:
            with suppress(OSError, ValueError):
                source.spool.mark_stored(position)

    # -- end -----------------------------------------------------------------------------------------------

    def _restore(self) -> None:
        for source in self._sources:
            source.restore()
        for name, (stream, tee) in self._replaced.items():
            if getattr(sys, name) is tee:
                setattr(sys, name, stream)
        for stream in self._buffered:
            with suppress(Exception):
                stream.reconfigure(line_buffering=False)
        self._buffered.clear()
        self._replaced.clear()

    def _close(self) -> None:
        if self._bell is not None:
            self._bell.ring()
        if (shown := self._display) is not None:
            self._display = None
            with suppress(OSError, subprocess.TimeoutExpired):
                assert shown.stdin is not None
                with shown.stdin:  # a forked child may hold the pipe open, so the end of the pipe is no signal
                    shown.stdin.write(b"\n")
                shown.wait(_ENDING)
        for source in self._sources:
            with suppress(OSError):
                source.close()
        self._sources = []


def _same_places() -> list[tuple[int, ...]]:
    """Return the open ones of descriptors 1 and 2, together if both lead to the same place."""
    places: dict[tuple[int, int, int], tuple[int, ...]] = {}
    for number in (_OUT, _ERR):
        with suppress(OSError):
            facts = os.fstat(number)
            place = facts.st_dev, facts.st_ino, facts.st_rdev
            places[place] = (*places.get(place, ()), number)
    return list(places.values())


def _writes_to(stream: Any, number: int) -> bool:
    """Check whether a stream of Python writes to a file descriptor."""
    try:
        return type(stream) is io.TextIOWrapper and stream.fileno() == number
    except (OSError, ValueError):
        return False


def _flush_all() -> None:
    """Write what Python and the C library buffered for standard output and standard error."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    with suppress(Exception):  # only this stream: another one may be locked by a thread that waits for input
        library = ctypes.CDLL(None)
        library.fflush(ctypes.c_void_p.in_dll(library, _STDOUT))


_STDOUT: Final = "__stdoutp" if sys.platform == "darwin" else "stdout"
