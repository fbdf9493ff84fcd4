"""Scripts that capture their output; tests run one as ``python -m tests.capture.scripts NAME FOLDER``."""

from __future__ import annotations

import ctypes
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable

from notata import Capture, Logbook, RunDisplacedError


def every_way(base: str) -> None:
    """Print from Python, from C, from a child process and from a forked child."""
    print("before")
    with Logbook("r", base, capture=Capture(series=[r"it (?P<step>\d+) res = (?P<r>\S+)"])):
        print("it 1 res = 1.5D-3")
        os.write(1, b"a write\n")
        subprocess.run(["echo", "a child"], check=True)
        ctypes.CDLL(None).printf(b"it 2 res = 0.5\n")
        sys.stdout.flush()
        ctypes.CDLL(None).fflush(None)
        if (child := os.fork()) == 0:
            os.write(1, b"a fork\n")
            os._exit(0)
        os.waitpid(child, 0)
        sys.stderr.write("password=hunter2\n")
        sys.stdout.write("no line end")
    print("after")


def killed(base: str) -> None:
    """Die by SIGKILL right after the last words."""
    with Logbook("r", base, capture=True, heartbeat=0):
        for number in range(2000):
            print(f"line {number}")
        os.write(2, b"last words\n")
        os.kill(os.getpid(), signal.SIGKILL)


def resumed(base: str) -> None:
    """Resume the run that was killed."""
    with Logbook("r", base, capture=True, resume="force"):
        print("second attempt")


def replacing(base: str) -> None:
    """Begin a new run in place of the one that was killed."""
    with Logbook("r", base, capture=True, overwrite=True):
        print("new run")


def without_the_lock(base: str) -> None:
    """Write more than a pipe holds while no other thread of Python can run."""
    with Logbook("r", base, capture=True):
        data = b"x" * 99 + b"\n"
        ctypes.PyDLL(None).write(1, data * 50_000, len(data) * 50_000)


def two_runs(base: str) -> None:
    """Capture in two runs at once; the first one ends first."""
    first = Logbook("first", base, capture=True)
    print("one")
    second = Logbook("second", base, capture=True)
    print("two")
    first.mark_complete()
    print("three")
    second.mark_complete()
    print("four")


def taken_over(base: str) -> None:
    """Lose the run to another writer, and fail."""
    before = os.fstat(1)
    try:
        with Logbook("r", base, capture=True) as log:
            print("mine")
            metadata = json.loads(log["metadata.json"].read_text())
            metadata["lease"]["owner"] = "another"
            log["metadata.json"].write_text(json.dumps(metadata))
            log.meta(x=1)
    except RunDisplacedError:
        pass
    same = os.path.samestat(before, os.fstat(1))
    print("restored" if same else "redirected")


def other_streams(base: str) -> None:
    """Print to a stream that is no file descriptor, as in a notebook."""
    sys.stdout = shown = io.StringIO()
    with Logbook("r", base, capture=True):
        print("in a cell")
        os.write(1, b"from C\n")
        print(f"{sys.stdout.getvalue()!r}")
    assert sys.stdout is shown
    sys.stdout = sys.__stdout__
    print(shown.getvalue(), end="")


def bad_pattern(base: str) -> None:
    """Pass a pattern that is invalid."""
    try:
        Logbook("r", base, capture=Capture(series=["res = (?P<r>"]))
    except ValueError as error:
        print(type(error).__name__, os.path.exists(f"{base}/log_r"))


SCRIPTS: dict[str, Callable[[str], None]] = {
    script.__name__: script
    for script in (
        every_way,
        killed,
        replacing,
        resumed,
        without_the_lock,
        two_runs,
        taken_over,
        other_streams,
        bad_pattern,
    )
}

if __name__ == "__main__":
    SCRIPTS[sys.argv[1]](sys.argv[2])
