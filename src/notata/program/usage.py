"""Measure the memory and the processes of a program and its descendants while it runs.

On Linux the process tree is read from ``/proc``: soon after the start, then less and less often, up to once a second,
and never for more than 1 % of one processor. The peak is the largest of:

* the sum of the resident set sizes of all processes, at any sample. Memory that processes share counts several times;
* the high-water mark of each process (``VmHWM``), at any sample;
* the high-water mark that the kernel reports at the end (``ru_maxrss``), unless it can be that of notata itself: a
  child begins with the high-water mark of its parent, and keeps it.

The first sample, right after the start, can come before the program has got its memory. So the peak of a program that
ends within milliseconds, before the second one, is unknown. On other systems only the last value is known. The peak of
a control group (``memory.peak``) is not used, as it includes the files that the system has cached.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

__all__ = ["TreeUsage", "max_rss_bytes"]

_FIRST: Final = 0.01  # seconds from the first sample to the second
_LONGEST: Final = 1.0
_SHARE: Final = 0.01  # maximum part of one processor that samples take
_MOST: Final = 10_000  # processes of a tree that are read


class TreeUsage:
    """The highest memory and number of processes of a process tree so far.

    Attributes:
        peak_bytes: The highest memory at any sample; 0 before the first one.
        processes: The highest number of processes at any sample; 0 before the first one.

    Args:
        pid: The root of the tree.
        proc: The folder of procfs.
        clock: Returns seconds, as `time.monotonic`.
        cost: Returns the seconds of processor time that this thread has used. On a busy machine a sample takes longer,
            but costs no more.

    >>> usage = TreeUsage(os.getpid())
    >>> usage.sample()
    >>> usage.peak_bytes > 0 or not os.path.isdir("/proc/self")
    True
    """

    def __init__(
        self,
        pid: int,
        proc: str = "/proc",
        clock: Callable[[], float] = time.monotonic,
        cost: Callable[[], float] = time.thread_time,
    ) -> None:
        self._pid = pid
        self._proc = proc
        self._clock = clock
        self._cost = cost
        self._own_peak = _high_water(proc, "self")
        self._wait = _FIRST
        self._due = clock()
        self._is_known = os.path.isdir(os.path.join(proc, "self"))
        self._samples = 0
        self.peak_bytes = 0
        self.processes = 0

    def seconds_left(self) -> float | None:
        """Return the seconds until the next sample; None if there is none."""
        return max(0.0, self._due - self._clock()) if self._is_known else None

    def sample_if_due(self) -> None:
        """Take a sample if it is time."""
        if self._is_known and self._clock() >= self._due:
            began, before = self._clock(), self._cost()
            self.sample()
            self._due = began + max(self._wait, (self._cost() - before) / _SHARE)
            self._wait = min(_LONGEST, 2 * self._wait)

    def sample(self) -> None:
        """Read the memory of all processes of the tree."""
        self._samples += 1
        whole = count = 0
        for pid in self._tree():
            memory = _memory(self._proc, str(pid))
            if memory:
                count += 1
                whole += memory[0]
                self.peak_bytes = max(self.peak_bytes, memory[1])
        self.peak_bytes, self.processes = max(self.peak_bytes, whole), max(self.processes, count)

    def peak(self, max_rss: int) -> int | None:
        """Return the peak at the end, in bytes; None if it is unknown.

        Args:
            max_rss: The high-water mark of the largest process, from the kernel, in bytes.
        """
        known = max_rss if max_rss > self._own_peak or not self._is_known else 0
        return max(self.peak_bytes if self._samples > 1 else 0, known) or None

    def _tree(self) -> Iterator[int]:
        """Yield the process and its descendants."""
        waiting, seen = [self._pid], {self._pid}
        while waiting and len(seen) < _MOST:
            pid = waiting.pop()
            yield pid
            new = [child for child in _children(self._proc, pid) if child not in seen]
            seen.update(new)
            waiting += new


def _children(proc: str, pid: int) -> list[int]:
    """Return the children of a process, by the thread that started them: without reading all processes."""
    found: list[int] = []
    with suppress(OSError, ValueError):
        folder = os.path.join(proc, str(pid), "task")
        for thread in os.listdir(folder):
            with suppress(OSError), open(os.path.join(folder, thread, "children"), encoding="ascii") as file:
                found += [int(child) for child in file.read().split()]
    return found


def _memory(proc: str, pid: str) -> tuple[int, int] | None:
    """Return the memory of a process now, and its highest one; None for a process that has ended."""
    fields: dict[str, int] = {}
    with suppress(OSError, ValueError, IndexError), open(os.path.join(proc, pid, "status"), "rb") as file:
        for line in file:
            name, _, value = line.partition(b":")
            if name in (b"VmRSS", b"VmHWM"):
                fields[name.decode()] = int(value.split()[0]) * 1024
    return (fields["VmRSS"], fields.get("VmHWM", 0)) if "VmRSS" in fields else None


def _high_water(proc: str, pid: str) -> int:
    memory = _memory(proc, pid)
    return 0 if memory is None else max(memory)


def max_rss_bytes(max_rss: int) -> int:
    """Return `ru_maxrss` in bytes: it is in KiB, and on macOS in bytes."""
    return max_rss if sys.platform == "darwin" else 1024 * max_rss
