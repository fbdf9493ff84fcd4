"""A terminal with a user: a pseudo-terminal that controls a session, as the window of a terminal emulator does."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

__all__ = ["PROMPT", "Window", "shell_window"]

_PATIENCE: Final = 120.0  # seconds until a text must appear, or a program must end


class Window:
    """A window in which a program runs, and what it shows. Leaving the block closes the window (SIGHUP).

    Attributes:
        shown: All bytes that were shown so far.
        process: The program.
        theirs: The end of the terminal that the program has.
        before: The settings of the terminal before the program started.
    """

    def __init__(
        self, argv: Sequence[str], *, folder: Path, environment: Mapping[str, str] | None = None, columns: int = 200
    ) -> None:
        self._ours, self.theirs = pty.openpty()
        self.resize(columns, 24)
        self.shown = b""
        self._seen = 0
        self._is_open = True
        self.before = self.settings()

        def control() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            argv,
            stdin=self.theirs,
            stdout=self.theirs,
            stderr=self.theirs,
            cwd=folder,
            env=dict(os.environ if environment is None else environment),
            start_new_session=True,
            preexec_fn=control,
        )

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, text: str) -> None:
        """Press keys."""
        os.write(self._ours, text.encode())

    def until(self, text: str, times: int = 1) -> str:
        """Wait until a text was shown so many times since the last call, and return what was shown up to it."""
        begin, wanted = self._seen, text.encode()
        end = time.monotonic() + _PATIENCE
        while self.shown.count(wanted, begin) < times:
            left = end - time.monotonic()
            assert left > 0, f"no {text!r} in {self.shown[begin:]!r}"
            assert self._read(left), f"the window is closed without {text!r}: {self.shown[begin:]!r}"
        for _ in range(times):
            self._seen = self.shown.index(wanted, self._seen) + len(wanted)
        return self.shown[begin : self._seen].decode("utf-8", "replace")

    def wait(self) -> int:
        """Wait until the program ends, and return its exit code."""
        while self.process.poll() is None:
            self._read(0.02)
        while self._read(0):
            pass
        return self.process.returncode

    def settings(self) -> list[object]:
        """Return the settings of the terminal."""
        return termios.tcgetattr(self.theirs)

    def _read(self, seconds: float) -> bool:
        if not select.select([self._ours], [], [], seconds)[0]:
            return False
        with contextlib.suppress(OSError):  # Linux reports a closed other end this way
            piece = os.read(self._ours, 65536)
            self.shown += piece
            return bool(piece)
        return False

    def close(self) -> None:
        """Close the window, and kill the program if it does not end."""
        if self._is_open:
            os.close(self._ours)
            os.close(self.theirs)
            self._is_open = False
        try:
            self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


PROMPT: Final = "PROMPT> "


@contextlib.contextmanager
def shell_window(folder: Path) -> Iterator[Window]:
    """Open a window with a shell that has job control and shows `PROMPT`."""
    environment = {**os.environ, "PS1": PROMPT, "INPUTRC": os.devnull, "TERM": "dumb", "HISTFILE": os.devnull}
    with Window(["bash", "--norc", "--noprofile", "-i"], folder=folder, environment=environment) as window:
        window.until(PROMPT)
        yield window
