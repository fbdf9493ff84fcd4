"""Scripts that begin at once: each is forked from a process that has imported what they need and connected to nothing.

They end as any script does, as the fork returns from the main module: only the start is spared.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

__all__ = ["NEEDED", "Script", "nurse", "nursery"]

NEEDED: Final = [
    "numpy", "yaml", "notata.store.s3", "notata.store.gcs", "notata.store.local_paths", "s3fs", "gcsfs.core",
    "upath.extensions",
]  # fmt: skip
"""What runs on any storage import when they first need it."""


class Script:
    """A process of a nursery, as a `subprocess.Popen` with pipes and text would be."""

    def __init__(self, control: socket.socket, arguments: list[str]) -> None:
        (theirs_in, stdin), (stdout, theirs_out), (stderr, theirs_err) = os.pipe(), os.pipe(), os.pipe()
        socket.send_fds(control, [json.dumps(arguments).encode()], [theirs_in, theirs_out, theirs_err])
        for end in (theirs_in, theirs_out, theirs_err):
            os.close(end)
        self.stdin, self.stdout, self.stderr = open(stdin, "w"), open(stdout), open(stderr)
        self._told = control.makefile("r")
        self.pid = int(self._told.readline())
        self.returncode: int | None = None

    def send_signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        if self.returncode is None:
            self.returncode = int(self._told.readline())
            self._told.close()
        return self.returncode

    def communicate(self) -> tuple[str, str]:
        self.stdin.close()
        with self.stdout, self.stderr:
            said = self.stdout.read(), self.stderr.read()
        self.wait()
        return said


@contextmanager
def nursery(module: str) -> Iterator[Callable[[list[str]], Script]]:
    """What begins a script with arguments, one at a time; the module hands its `main` to `nurse`."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            command = [sys.executable, "-m", module, "--nurse", str(theirs.fileno())]
            root = Path(__file__).parents[1]
            process = subprocess.Popen(command, cwd=root, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
        yield lambda arguments: Script(ours, arguments)
    process.wait()


def nurse(main: Callable[..., Any], control_fd: int) -> None:
    """Fork a script for each message until there are no more; returns in each fork too, when `main` does.

    What has been imported by then is no garbage of theirs: each would copy all of it at its end, to look at it, in 0.3 s.
    """
    for module in NEEDED:
        importlib.import_module(module)
    gc.freeze()
    with socket.socket(fileno=control_fd) as control:
        while True:
            message, ends, _, _ = socket.recv_fds(control, 2**16, 3)
            if not message:
                return
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
    main(*json.loads(message))
