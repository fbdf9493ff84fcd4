"""Find a program and start it, with a pseudo-terminal or a pipe for its output.

If notata is killed (SIGKILL), the program must not run on unrecorded. On Linux it then gets SIGTERM
(``PR_SET_PDEATHSIG``), which only its first process gets: a shell, or mpirun, which ends its ranks. On every system its
output is closed, so the next write of any of its processes fails with SIGPIPE, or with SIGHUP on a terminal.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from notata._base.terminal import quoted
from notata.errors import ConfigurationError
from notata.program.exit import NOT_EXECUTABLE, NOT_FOUND

__all__ = ["Child", "StartError", "Streams", "find_program", "start"]

_PIPE: Final = 2**20  # bytes of a pipe on Linux, so that the program seldom waits
_SET_DEATH_SIGNAL: Final = 1  # PR_SET_PDEATHSIG
_NOT_FOUND: Final = (errno.ENOENT, errno.ENOTDIR)


class StartError(ConfigurationError):
    """The program cannot be started.

    Attributes:
        exit_code: 127 if it does not exist, 126 if it cannot be executed, as in shells.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Streams:
    """The streams of a program to be started.

    Attributes:
        theirs: The end for its output: a pipe, or a pseudo-terminal.
        ours: The other end, which notata reads.
        is_terminal: Whether they are a pseudo-terminal.
        is_input: Whether the program also reads from `theirs`, and has it as its controlling terminal. Otherwise it
            inherits the standard input.
    """

    theirs: int
    ours: int
    is_terminal: bool
    is_input: bool

    @classmethod
    def pipe(cls) -> Streams:
        """Return a pipe."""
        ours, theirs = os.pipe()
        if sys.platform == "linux":
            import fcntl

            with suppress(OSError):  # the user has used up the memory for pipes
                fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, _PIPE)
        return cls(theirs, ours, False, False)

    @classmethod
    def terminal(cls, like: int | None, *, is_input: bool) -> Streams:
        """Return a pseudo-terminal with the size of a terminal."""
        from notata.program.terminal import open_pair

        ours, theirs = open_pair(like, is_input=is_input)
        return cls(theirs, ours, True, is_input)


@dataclass(frozen=True, slots=True)
class Child:
    """A started program.

    Attributes:
        pid: Its process id, which is also the id of its process group.
        streams: Its streams. The end for its output is closed here.
        process: The object that started it, which does not wait for it.
    """

    pid: int
    streams: Streams
    process: subprocess.Popen[bytes]

    def signal(self, number: int) -> None:
        """Send a signal to its process group."""
        with suppress(ProcessLookupError, PermissionError):  # it has ended; a setuid program
            os.killpg(self.pid, number)


def find_program(name: str, folder: str, environ: Mapping[str, str]) -> str:
    """Return the path of a program, as a shell finds it.

    Args:
        name: A name to look up in PATH, or a path, relative to `folder`.
        folder: The working folder of the program.
        environ: The environment variables.

    Raises:
        StartError: It does not exist, or cannot be executed.

    >>> os.path.basename(find_program("sh", "/", os.environ))
    'sh'
    """
    if not name:
        raise StartError("cannot start a program without a name: write notata run -- COMMAND", NOT_FOUND)
    is_path = os.sep in name or bool(os.altsep and os.altsep in name)
    path = os.path.join(folder, name) if is_path else shutil.which(name, path=environ.get("PATH", os.defpath))
    if path is None or not os.path.exists(path):
        hint = "Check the path" if is_path else f"Write ./{name} if it is a file in this folder, or check PATH"
        raise StartError(f"cannot start {quoted(name)}: no such program. {hint}", NOT_FOUND)
    if os.path.isdir(path):
        raise StartError(f"cannot start {quoted(name)}: it is a folder. Name the program in it", NOT_EXECUTABLE)
    if not os.access(path, os.X_OK):
        raise StartError(
            f"cannot start {quoted(name)}: the file is not executable. Run chmod +x {name}, or name its interpreter, "
            f"as in notata run -- python {name}",
            NOT_EXECUTABLE,
        )
    return os.path.abspath(path)


def start(argv: Sequence[str], path: str, folder: str, environ: Mapping[str, str], streams: Streams) -> Child:
    """Start a program in a process group of its own, and close the end of its output here.

    With a terminal as its input, it also gets a session of its own, whose terminal this is.

    Args:
        argv: Its arguments, its name included.
        path: Its file.
        folder: Its working folder.
        environ: Its environment variables.
        streams: Its streams.

    Raises:
        StartError: The system cannot execute it.
    """
    try:
        with warnings.catch_warnings():  # Python 3.12 and later: this process has threads. See `_prepared`.
            warnings.simplefilter("ignore", DeprecationWarning)
            process = subprocess.Popen(
                list(argv),
                executable=path,
                cwd=folder,
                env=dict(environ),
                stdin=streams.theirs if streams.is_input else None,
                stdout=streams.theirs,
                stderr=streams.theirs,
                start_new_session=streams.is_input,
                process_group=None if streams.is_input else 0,
                preexec_fn=_prepared(streams),  # noqa: PLW1509
            )
    except OSError as error:
        os.close(streams.ours)
        raise _start_error(argv[0], error) from error
    finally:
        os.close(streams.theirs)
    return Child(process.pid, streams, process)


def _start_error(name: str, error: OSError) -> StartError:
    code = NOT_FOUND if error.errno in _NOT_FOUND else NOT_EXECUTABLE
    if error.errno == errno.ENOEXEC:
        hint = "It is not a program for this system. A script needs a first line such as #!/bin/sh"
    elif error.errno in _NOT_FOUND:
        hint = "Its interpreter, in the first line of the file, does not exist, or the working folder does not"
    else:
        hint = "Check the file and its permissions"
    return StartError(f"cannot start {quoted(name)}: {error.strerror}. {hint}", code)


def _prepared(streams: Streams) -> Callable[[], None]:
    """Return the function that the new process calls before it becomes the program.

    It makes system calls only, and takes no lock that a thread of notata may hold.
    """
    parent, death = os.getpid(), _death_signal()
    control = 0
    if streams.is_input:
        import fcntl
        import termios

        ioctl, control = fcntl.ioctl, termios.TIOCSCTTY

    def prepare() -> None:
        if control:
            ioctl(0, control, 0)
        if death is not None:
            death()
            if os.getppid() != parent:  # notata was killed meanwhile
                os._exit(_SET_DEATH_SIGNAL)

    return prepare


def _death_signal() -> Callable[[], object] | None:
    """Return the call by which a process on Linux asks for SIGTERM when its parent dies."""
    if sys.platform != "linux":
        return None
    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return None
    return lambda: prctl(_SET_DEATH_SIGNAL, int(signal.SIGTERM), 0, 0, 0)
