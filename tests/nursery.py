"""Scripts that start quickly: a process that has imported their modules, but has no connections, forks them.

They start like ``python -m MODULE ARGUMENTS`` and end like any script; they only save the imports.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Final

__all__ = ["NEEDED", "Forked", "Script"]

ROOT: Final = Path(__file__).parents[1]
NEEDED: Final = [
    "numpy", "yaml", "notata.store.backends.s3", "notata.store.backends.gcs",
    "notata.store.backends.local_paths", "s3fs", "gcsfs.core",
    "upath.extensions", "tests.warm",
]  # fmt: skip
"""Modules that runs import on first use, on any storage, and what S3 clients read."""
_OTHERS: Final = ["click", "rich.console", "pytest"]
_ENVIRONMENT: Final = dict(os.environ)  # before any test changes it: libraries read it when they are imported


class Forked:
    """A process of the nursery, which has one at a time; `ends` are its standard input, output and errors."""

    last: ClassVar[Forked | None] = None

    def __init__(
        self,
        module: str,
        arguments: list[str],
        ends: list[int],
        *,
        folder: Path = ROOT,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        if Forked.last is not None:
            Forked.last.end()
        control = _control()
        told = {"module": module, "arguments": arguments, "folder": str(folder)}
        message = json.dumps({**told, "environment": dict(os.environ if environment is None else environment)})
        socket.send_fds(control, [message.encode()], ends)
        self._told = control.makefile("r")
        self.pid = int(self._told.readline())
        self.returncode: int | None = None
        Forked.last = self

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def end(self) -> None:
        """Kill the process if a failed test left it; otherwise the next one would read its exit code as its own id."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.send_signal(signal.SIGKILL)
            self.wait()

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = int(self._told.readline())
            self._told.close()
        return self.returncode


class Script(Forked):
    """A process of the nursery with the interface of a `subprocess.Popen` with pipes and text."""

    def __init__(self, module: str, arguments: list[str], **options: Any) -> None:
        (theirs_in, stdin), (stdout, theirs_out), (stderr, theirs_err) = os.pipe(), os.pipe(), os.pipe()
        super().__init__(module, arguments, [theirs_in, theirs_out, theirs_err], **options)
        for end in (theirs_in, theirs_out, theirs_err):
            os.close(end)
        self.stdin, self.stdout, self.stderr = open(stdin, "w"), open(stdout), open(stderr)

    def communicate(self) -> tuple[str, str]:
        self.stdin.close()
        with self.stdout, self.stderr, ThreadPoolExecutor(1) as pool:
            errors = pool.submit(self.stderr.read)  # read both at once: a pipe that is not read fills up
            said = self.stdout.read(), errors.result()
        self.wait()
        return said


@functools.cache
def _control() -> socket.socket:
    """Return the connection to the nursery process, which starts at the first call and ends when this process does."""
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-m", "tests.nursery", str(theirs.fileno())]
        process = subprocess.Popen(
            command, cwd=ROOT, env=_ENVIRONMENT, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
        )
    atexit.register(_stop, os.getpid(), ours, process)
    return ours


def _stop(pid: int, control: socket.socket, process: subprocess.Popen[bytes]) -> None:
    """Kill the script that the last test left, which would block the nursery, and then the nursery."""
    if os.getpid() != pid:  # a forked child does not own the nursery
        return
    if Forked.last is not None:
        Forked.last.end()
    control.close()
    process.wait()


def _nurse(control_fd: int) -> dict[str, Any] | None:
    """Fork for each message until there are no more, and return the message in the child.

    The modules imported before are excluded from garbage collection in the children, which would copy all that memory
    at exit. So a process takes 0.1 s instead of 0.4 s.
    """
    for module in [*NEEDED, *_OTHERS]:
        importlib.import_module(module)
    gc.freeze()
    with socket.socket(fileno=control_fd) as control:
        while True:
            message, ends, _, _ = socket.recv_fds(control, 2**16, 3)
            if not message:
                return None
            pid = os.fork()
            if pid == 0:
                break
            for end in ends:
                os.close(end)
            control.sendall(f"{pid}\n".encode())
            _, status = os.waitpid(pid, 0)
            control.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    for standard, end in enumerate(ends):
        os.dup2(end, standard)
        os.close(end)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)
    sys.stderr = open(2, "w", 1, errors="backslashreplace", closefd=False)
    told: dict[str, Any] = json.loads(message)
    return told


def _begin(module: str, arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = folder
    sys.argv[1:] = arguments
    runpy._run_module_as_main(module)  # type: ignore[attr-defined]  # noqa: SLF001 - what -m calls


if __name__ == "__main__":
    asked = _nurse(int(sys.argv[1]))
    if asked is not None:
        _begin(**asked)
