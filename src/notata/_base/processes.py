"""Whether a process lives, told apart from every other one, and what a fork leaves behind; it knows nothing of runs.

A process id alone says little: it is used again, and each machine and container counts its own.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import sys
import threading
from contextlib import AbstractContextManager
from typing import Final

from notata.errors import StorageError

__all__ = ["Lock", "alive", "identity", "is_ancestor", "is_running", "tag"]

_UNKNOWN: Final = ""


class Lock:
    """A reentrant lock that a forked child finds free: the thread that held it is not there to release it.

    >>> lock = Lock()
    >>> with lock.held(), lock.held():
    ...     pass
    """

    def __init__(self) -> None:
        self._lock, self._pid = threading.RLock(), os.getpid()

    def held(self) -> AbstractContextManager[object]:
        """Return the context manager that holds it.

        It is the lock of `threading` itself, which an interrupt cannot leave held: Python code that takes and releases
        a lock can be interrupted between the two.

        Raises:
            StorageError: On entry: the interpreter is ending, and another thread holds it.
        """
        if os.getpid() != self._pid:
            self._lock, self._pid = threading.RLock(), os.getpid()
        return _Last(self._lock) if sys.is_finalizing() else self._lock


class _Last:
    """A lock that nobody waits for: while the interpreter ends, a thread that was stopped may hold it for ever."""

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise StorageError("the interpreter is ending while another thread uses this run; nothing was stored")

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def identity(pid: int | None = None) -> str:
    """A name that no other process has: boot of the machine, process namespace, process id and time of start.

    Args:
        pid: Of a process on this machine; this one when not given.

    Returns:
        The name; empty where the system does not tell (everywhere but on Linux).
    """
    pid = os.getpid() if pid is None else pid
    here, start = _machine(), _start(pid)
    return f"{here}/{pid}/{start}" if here and start else _UNKNOWN


def alive(name: str) -> bool | None:
    """Whether the process of this `identity` lives; None if that cannot be seen from here.

    >>> alive(identity()) in (True, None), alive("another machine/1/2")
    (True, None)
    """
    here, _, number = name.rpartition("/")[0].rpartition("/")
    if not here or here != _machine() or not re.fullmatch("[0-9]{1,9}", number):
        return None
    found = identity(int(number))
    if found:
        return found == name
    try:
        os.kill(int(number), 0)
    except PermissionError:  # /proc hides the processes of other users
        return None
    except OSError:
        pass
    return False


def tag() -> str:
    """Return this process's `identity` in a short form that can be part of a file name; empty where it has none.

    >>> not tag() or is_running(tag())
    True
    """
    return _tag(os.getpid())


@functools.lru_cache(1)
def _tag(pid: int) -> str:
    here, _, own = identity(pid).rpartition(f"/{pid}/")
    return f"{_digest(here)}-{pid}-{own}" if own else _UNKNOWN


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tag.cache_clear)  # a child may have the process id of a forebear


def is_running(tag: str) -> bool | None:
    """Check whether the process of a `tag` runs; None if that cannot be seen from here, as on another machine.

    >>> is_running("0123456789ab-1-2") is None
    True
    """
    digest, pid, start = tag.split("-")
    here = _machine()
    return alive(f"{here}/{pid}/{start}") if here and digest == _digest(here) else None


def _digest(machine: str) -> str:
    return hashlib.sha256(machine.encode("utf-8", "replace")).hexdigest()[:12]


def is_ancestor(name: str) -> bool:
    """Check whether the process of this `identity` is alive and an ancestor of this one; False if unknown.

    >>> is_ancestor(identity()), is_ancestor(identity(os.getppid())) or not identity()
    (False, True)
    """
    pid = os.getpid()
    while name and (pid := _parent(pid)):
        if identity(pid) == name:
            return True
    return False


def _machine() -> str:
    if not sys.platform.startswith("linux"):
        return _UNKNOWN
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{platform.node()}/{file.read().strip()}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return _UNKNOWN


def _start(pid: int) -> str:
    """When a process started, in ticks since the boot; empty if there is none, or a dead one that its parent forgot."""
    fields = _stat(pid)
    return _UNKNOWN if not fields or fields[0] in "ZX" else fields[19]


def _parent(pid: int) -> int:
    """The process that started another one; 0 if there is none, or the system does not tell."""
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _stat(pid: int) -> list[str]:
    """The fields of proc(5) after the command's name, which may hold anything: state (3), ppid (4) … starttime (22)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []
