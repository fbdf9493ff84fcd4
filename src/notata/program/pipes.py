"""Run a program on a system without pseudo-terminals and process groups, such as Windows.

Its output is a pipe. Ctrl-C in the console reaches the program by itself; notata waits for its end. Other signals are
not passed on, the program is not stopped if notata is killed, and neither its memory nor its processor time is known.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from notata._base.threads import Event, start_thread
from notata.program.exit import NOT_EXECUTABLE, Exit
from notata.program.screen import LINGER, Ended, Terminals
from notata.program.start import StartError

__all__ = ["run_program"]

_READ = 2**18


def run_program(
    argv: Sequence[str],
    path: str,
    folder: str,
    environ: Mapping[str, str],
    terminals: Terminals,
    take: Callable[[bytes], object],
    began: Callable[[int], object],
) -> Ended:
    """Run a program to its end; see `notata.program.session.run_program`."""
    try:
        process = subprocess.Popen(
            list(argv), executable=path, cwd=folder, env=dict(environ), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    except OSError as error:
        raise StartError(f"cannot start {argv[0]!r}: {error.strerror}. Check the file", NOT_EXECUTABLE) from error
    began(process.pid)
    output, is_read = process.stdout, Event()

    def read() -> None:
        with suppress(OSError, ValueError):
            while output is not None and (data := output.read1(_READ)):  # type: ignore[attr-defined]
                take(data)
        is_read.set()

    start_thread(read, "notata-output")
    code = _wait(process)
    is_held_open = not is_read.wait(LINGER)
    if output is not None and not is_held_open:
        output.close()
    return Ended(Exit(code if code >= 0 else None, -code if code < 0 else None), is_held_open)


def _wait(process: subprocess.Popen[bytes]) -> int:
    while True:
        with suppress(KeyboardInterrupt):  # the program gets it, too, and decides
            return process.wait()
