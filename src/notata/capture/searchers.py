"""Search lines of output for a regular expression, in this process or in one that can be killed."""

from __future__ import annotations

import importlib
import json
import os
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

from notata._base.processes import ForkCheck
from notata.capture import searching

__all__ = ["ProcessSearcher", "Searcher", "SlowSearchError", "ThreadSearcher", "can_explode", "searcher_of"]

Groups = dict[str, str | None]

_SLOW: Final = 1.0  # seconds that the search of one line may take in this process
_PATIENCE: Final = 10.0  # seconds that an answer of the other process may take
_BATCH: Final = 500  # lines that it gets at once
_REPEATS: Final = 2  # unbounded repetitions, one after the other, that take at most a second or so for a line


class SlowSearchError(Exception):
    """The search of a line takes too long."""


class Searcher(Protocol):
    """The interface of both classes."""

    def search(self, lines: Iterable[str]) -> Iterable[Groups]:
        """Yield the named groups of each match in each line.

        Raises:
            SlowSearchError: The search takes too long.
        """

    def close(self) -> None:
        """End the process, if there is one."""


class ThreadSearcher:
    """Searches in the calling thread."""

    def __init__(self, expression: str, clock: Callable[[], float] = time.perf_counter) -> None:
        self._find = re.compile(expression).finditer
        self._clock = clock

    def search(self, lines: Iterable[str]) -> Iterable[Groups]:
        for line in lines:
            started = self._clock()
            for found in self._find(line):
                yield found.groupdict()
            if self._clock() - started > _SLOW:
                raise SlowSearchError(f"the search of a line took more than {_SLOW:g} s")

    def close(self) -> None:
        pass


class ProcessSearcher:
    """Searches in a process, which is killed if it does not answer in time."""

    def __init__(self, expression: str, patience: float = _PATIENCE) -> None:
        self._expression, self._patience = expression, patience
        self._process: subprocess.Popen[bytes] | None = None
        self._fork = ForkCheck()

    def search(self, lines: Iterable[str]) -> Iterable[Groups]:
        batch: list[str] = []
        for line in lines:
            batch.append(line)
            if len(batch) == _BATCH:
                yield from self._answer(batch)
                batch = []
        if batch:
            yield from self._answer(batch)

    def _answer(self, batch: Sequence[str]) -> list[Groups]:
        try:
            process = self._running()
            assert process.stdin is not None
            process.stdin.write(json.dumps(batch).encode() + b"\n")
            process.stdin.flush()
            answer: list[Groups] = json.loads(self._line(process))
        except (OSError, ValueError) as error:
            self.close()
            raise SlowSearchError("the process that searches did not answer") from error
        return answer

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._fork.is_forked():
            command = [sys.executable, "-I", "-S", searching.__file__]
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            self._fork.adopt()
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(self._expression).encode() + b"\n")
        return self._process

    def _line(self, process: subprocess.Popen[bytes]) -> bytes:
        assert process.stdout is not None
        end, line = time.monotonic() + self._patience, b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([process.stdout], [], [], max(0.0, end - time.monotonic()))
            data = os.read(process.stdout.fileno(), 1 << 16) if ready else b""
            if not data:
                raise OSError("no answer in time")
            line += data
        return line

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None and not self._fork.is_forked():
            process.kill()
            for stream in (process.stdin, process.stdout):
                assert stream is not None
                with suppress(OSError):
                    stream.close()
            process.wait()


def searcher_of(expression: str) -> Searcher:
    """Return the searcher for an expression: one that can be killed if the expression may take very long."""
    is_possible = bool(sys.executable) and sys.platform != "win32"  # Windows cannot wait for a pipe
    return ProcessSearcher(expression) if is_possible and can_explode(expression) else ThreadSearcher(expression)


def can_explode(expression: str) -> bool:
    r"""Check whether the search of a line of a thousand characters may take minutes, or forever.

    This is so for a repetition within a repetition, and for more than two repetitions in a row. The answer may be True
    for an expression that is always quick.

    >>> can_explode(r"res = (?P<r>\S+)"), can_explode(r"(a+)+b"), can_explode(r"(?P<x>.*),(.*),(.*)")
    (False, True, True)
    """
    try:
        parser: Any = importlib.import_module("re._parser")
        count, is_nested = _repeats(parser.parse(expression), parser.MAXREPEAT)
    except Exception:  # another version of Python
        return True
    return is_nested or count > _REPEATS


def _repeats(pattern: Any, unbounded: Any) -> tuple[int, bool]:
    """Return the number of unbounded repetitions, and whether one is within another one."""
    count, is_nested = 0, False
    for name, given in pattern:
        repeats = str(name) in ("MAX_REPEAT", "MIN_REPEAT") and given[1] is unbounded
        inside, nested_inside = 0, False
        for part in _parts(given):
            found, nested = _repeats(part, unbounded)
            inside, nested_inside = inside + found, nested_inside or nested
        is_nested |= nested_inside or (repeats and inside > 0)
        count += inside + repeats
    return count, is_nested


def _parts(given: Any) -> list[Any]:
    """Return the patterns in the arguments of an operation, in any depth of lists."""
    if hasattr(given, "data") and hasattr(given, "getwidth"):
        return [given]
    if isinstance(given, list | tuple):
        return [part for one in given for part in _parts(one)]
    return []
