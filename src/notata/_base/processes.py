"""Identify processes uniquely, check whether they are alive, and lock safely across forks.

A process id alone is ambiguous: the system reuses it, and each machine and container has its own ids.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from notata.errors import StorageError

__all__ = ["ForkCheck", "Lock", "alive", "identity", "is_ancestor", "is_running", "tag"]

_UNKNOWN: Final = ""


_adopting: Final = [threading.RLock()]
"""The lock of `ForkCheck.when_forked`; a forked child gets a new one, as no thread of it holds the parent's."""

_pid: Final = [os.getpid()]
"""The id of this process, known without a system call: each log line and each row of a series asks several times."""


def _begin_child() -> None:
    _adopting[0], _pid[0] = threading.RLock(), os.getpid()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_child)


class ForkCheck:
    """A check whether an object is used in a forked child of the process that made it.

    A child has a copy of each object, but none of the threads, and it must not end or unlock what is its parent's.

    >>> check = ForkCheck()
    >>> check.is_forked()
    False
    """

    __slots__ = ("_pid",)

    def __init__(self) -> None:
        self._pid = _pid[0]

    def is_forked(self) -> bool:
        """Return True in a child that was forked after this object was made, or after its last `adopt`."""
        return _pid[0] != self._pid

    def when_forked(self, begin: Callable[[], object]) -> None:
        """Call `begin` in a forked child, once though several threads come first, and make the child the owner."""
        if _pid[0] != self._pid:
            with _adopting[0]:
                if self.is_forked():
                    begin()
                    self.adopt()  # last, as an interrupt may come in between

    def adopt(self) -> None:
        """Make this process the owner."""
        self._pid = _pid[0]


class Lock:
    """A reentrant lock that is free in a forked child, where the thread that held it does not exist.

    >>> lock = Lock()
    >>> with lock.held(), lock.held():
    ...     pass
    """

    def __init__(self) -> None:
        self._lock, self._fork = threading.RLock(), ForkCheck()

    def _renew(self) -> None:
        self._lock = threading.RLock()

    def held(self) -> AbstractContextManager[object]:
        """Return a context manager that holds the lock.

        It is the lock of `threading` itself, which an interrupt cannot leave locked. Python code that acquires and
        releases a lock can be interrupted in between.

        Raises:
            StorageError: On entry, if the interpreter is ending and another thread holds the lock.
        """
        self._fork.when_forked(self._renew)
        return _Last(self._lock) if sys.is_finalizing() else self._lock


class _Last:
    """A lock without waiting, as a thread that was stopped at exit can hold the lock forever."""

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise StorageError(
                "cannot store this: the interpreter is shutting down while another thread uses the run. Join all "
                "threads before the script ends"
            )

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def identity(pid: int | None = None) -> str:
    """Return a unique name of a process: boot of the machine, process namespace, process id and start time.

    Args:
        pid: The id of a process on this machine; by default, this process.

    Returns:
        The name; empty if the system does not support this (everywhere except Linux).
    """
    return _own_identity() if pid is None else _identity_of(pid)


def _identity_of(pid: int) -> str:
    here, start = machine(), _start(pid)
    return f"{here}/{pid}/{start}" if here and start else _UNKNOWN


@functools.lru_cache(1)
def _own_identity() -> str:
    return _identity_of(os.getpid())


def alive(name: str) -> bool | None:
    """Check whether the process with this `identity` is alive; None if unknown, as on another machine.

    >>> alive(identity()) in (True, None), alive("another machine/1/2")
    (True, None)
    """
    here, _, number = name.rpartition("/")[0].rpartition("/")
    if not here or here != machine() or not re.fullmatch("[0-9]{1,9}", number):
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
    """Return the `identity` of this process in a short form for file names; empty if it has none.

    >>> not tag() or is_running(tag())
    True
    """
    return _tag(os.getpid())


@functools.lru_cache(1)
def _tag(pid: int) -> str:
    here, _, own = identity(pid).rpartition(f"/{pid}/")
    return f"{_digest(here)}-{pid}-{own}" if own else _UNKNOWN


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tag.cache_clear)  # a child can have the process id of a former ancestor
    os.register_at_fork(after_in_child=_own_identity.cache_clear)


def is_running(tag: str) -> bool | None:
    """Check whether the process with this `tag` is running; None if unknown, as on another machine.

    >>> is_running("0123456789ab-1-2") is None
    True
    """
    digest, pid, start = tag.split("-")
    here = machine()
    return alive(f"{here}/{pid}/{start}") if here and digest == _digest(here) else None


def _digest(machine: str) -> str:
    return hashlib.sha256(machine.encode("utf-8", "replace")).hexdigest()[:12]


def is_ancestor(name: str) -> bool:
    """Check whether the process with this `identity` is alive and an ancestor of this process; False if unknown.

    >>> is_ancestor(identity()), is_ancestor(identity(os.getppid())) or not identity()
    (False, True)
    """
    pid = os.getpid()
    while name and (pid := _parent(pid)):
        if identity(pid) == name:
            return True
    return False


def machine() -> str:
    if not sys.platform.startswith("linux"):
        return _UNKNOWN
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{platform.node()}/{file.read().strip()}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return _UNKNOWN


def _start(pid: int) -> str:
    """Return the start time of a process in ticks since the boot; empty if it does not exist or is a zombie."""
    fields = _stat(pid)
    return _UNKNOWN if not fields or fields[0] in "ZX" else fields[19]


def _parent(pid: int) -> int:
    """Return the id of the parent of a process; 0 if it is unknown."""
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def _stat(pid: int) -> list[str]:
    """Return the fields of proc(5) after the command name, which can be any text: state (3), ppid (4) … start (22)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []
