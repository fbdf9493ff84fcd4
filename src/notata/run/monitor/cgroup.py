"""Read what Linux control groups say of this process: limits of its memory and processors, and ends by lack of memory.

References:
    The kernel's documentation: ``admin-guide/cgroup-v2.rst`` (``memory.max``, ``memory.events``,
    ``cpu.max``),
    ``admin-guide/cgroup-v1/memory.rst`` (``memory.limit_in_bytes``), and ``scheduler/sched-bwc.rst``
    (``cpu.cfs_quota_us``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Final

__all__ = ["cpu_limit", "memory_available", "memory_limit", "oom_kills"]

_ROOT: Final = "/sys/fs/cgroup"
_OWN: Final = "/proc/self/cgroup"


def memory_limit(root: str = _ROOT, own: str = _OWN) -> int | None:
    """Return the lowest memory limit in bytes of this process's group and of those above it; None if there is none.

    The limit of version 1 without a limit is some 2⁶³ bytes, so compare the result with the memory of the machine.

    Args:
        root: The folder where the control groups are mounted.
        own: The file that names the groups of this process.
    """
    limits = []
    for folder in _folders("memory", root, own):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with suppress(OSError, ValueError):  # no such file, or "max"
                limits.append(int(_text(folder, name)))
    return min(limits, default=None)


def cpu_limit(root: str = _ROOT, own: str = _OWN) -> float | None:
    """Return the lowest limit in processors of this process's group and of those above it; None if there is none."""
    limits = []
    for folder in _folders("cpu", root, own):
        with suppress(OSError, ValueError, ZeroDivisionError):  # no such file, or "max 100000"
            quota, period = _text(folder, "cpu.max").split()
            limits.append(int(quota) / int(period))
        with suppress(OSError, ValueError, ZeroDivisionError):
            quota, period = _text(folder, "cpu.cfs_quota_us"), _text(folder, "cpu.cfs_period_us")
            limits.append(int(quota) / int(period))
    return min((limit for limit in limits if limit > 0), default=None)  # -1 in version 1: no limit


def memory_available(root: str = _ROOT, own: str = _OWN) -> int | None:
    """Return the memory that this process may use: the limit of its group, or that of the machine; None if unknown."""
    known = [memory_limit(root, own)]
    with suppress(OSError, ValueError, AttributeError):
        known.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min((limit for limit in known if limit is not None), default=None)


def oom_kills(root: str = _ROOT, own: str = _OWN) -> int | None:
    """Return how many processes of this process's group were killed for lack of memory; None if that is unknown."""
    for folder in _folders("memory", root, own):
        for name in ("memory.events", "memory.oom_control"):
            with suppress(OSError, ValueError):
                fields = dict(line.split() for line in _text(folder, name).splitlines())
                if "oom_kill" in fields:
                    return int(fields["oom_kill"])
    return None


def _text(folder: str, name: str) -> str:
    with open(os.path.join(folder, name), encoding="ascii") as file:
        return file.read()


def _folders(controller: str, root: str, own: str) -> Iterator[str]:
    """Return the folder of this process's group and those above it, of version 2, and of a controller in version 1.

    A container may see the path of its group on the host, but not its folder. The limits are then in the root.
    """
    with suppress(OSError), open(own, encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            number, _, rest = line.rstrip("\n").partition(":")
            controllers, _, path = rest.partition(":")
            if not controllers and number == "0":
                mounts = [root, os.path.join(root, "unified")]
            elif controller in controllers.split(","):
                mounts = [os.path.join(root, controller), os.path.join(root, controllers)]
            else:
                continue
            group = PurePosixPath(path.lstrip("/"))
            if ".." in group.parts:  # the process is outside of the groups that it can see
                group = PurePosixPath()
            for mount in dict.fromkeys(mounts):
                for folder in (group, *group.parents):
                    yield os.path.join(mount, folder)
