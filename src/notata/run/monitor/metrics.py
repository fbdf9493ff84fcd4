"""Read the metrics of a process tree and of its machine with psutil."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeAlias

from notata.run.monitor import cgroup, gpus

__all__ = ["Growth", "Machine", "Metrics", "ProcessTree", "system_metrics"]

Values: TypeAlias = Mapping[str, float | None]
Probe: TypeAlias = Callable[[], Values]

_SHORTEST: Final = 0.1  # seconds for a percentage: the system counts processor time in steps of 10 ms
_SYS_NET: Final = "/sys/class/net"


class Metrics:
    """Metrics, each read by a function. A metric that cannot be read is left out, with one warning.

    Args:
        probes: The functions by the name of the metric. They are called in this order.
        warn: Logs a warning, with arguments as in `logging`.
        close: Called by `close`.

    >>> Metrics({"load": lambda: {"load": 0.5}}, warn=print).sample()
    {'load': 0.5}
    """

    def __init__(
        self, probes: Mapping[str, Probe], warn: Callable[..., object], close: Callable[[], object] = bool
    ) -> None:
        self._probes = probes
        self._warn = warn
        self._close = close
        self._failed: set[str] = set()

    def sample(self) -> dict[str, float]:
        """Return the values that can be read now, by the name of their column."""
        values: dict[str, float] = {}
        for name, probe in self._probes.items():
            try:
                found = probe()
            except Exception as error:
                if name not in self._failed:
                    self._failed.add(name)
                    self._warn("The metric %s cannot be read: %s: %s", name, type(error).__name__, error)
            else:
                values |= {column: value for column, value in found.items() if value is not None}
        return values

    def close(self) -> None:
        """Release what the functions use."""
        with suppress(Exception):
            self._close()


def system_metrics(folder: str | None, warn: Callable[..., object]) -> Metrics:
    """Return all metrics of this process tree and machine. Needs psutil.

    Args:
        folder: A folder on the disk whose free space is read; None for none.
        warn: Logs a warning, with arguments as in `logging`.
    """
    import psutil

    tree, machine = ProcessTree(psutil), Machine(psutil)
    probes: dict[str, Probe] = {
        "processes": tree.find,
        "cpu_percent": tree.cpu,
        "machine_cpu_percent": machine.cpu,
        "cpu_limit_percent": _cpu_limit,
        "memory_bytes": tree.memory,
        "memory_limit_bytes": partial(_memory_limit, psutil),
        "machine_memory_percent": machine.memory,
    }
    if hasattr(psutil.Process, "num_fds"):  # not on Windows
        probes["open_files"] = tree.open_files
    if hasattr(psutil.Process, "io_counters"):  # not on macOS
        probes["disk_bytes"] = tree.disk
    if folder is not None:
        probes["disk_free_bytes"] = lambda: {"disk_free_bytes": shutil.disk_usage(folder).free}
    probes["network_bytes"] = machine.network
    if hasattr(os, "getloadavg"):  # not on Windows
        probes["load"] = lambda: {"load": round(os.getloadavg()[0], 2)}
    close: Callable[[], object] = bool
    if (nvml := sys.modules.get("pynvml")) is not None:
        try:
            found = gpus.gpu_probes(nvml, os.environ.get("CUDA_VISIBLE_DEVICES"))
        except Exception as error:
            warn("The GPUs cannot be read: %s: %s", type(error).__name__, error)
        else:
            probes |= found
            close = nvml.nvmlShutdown if found else bool
    return Metrics(probes, warn, close)


class Growth:
    """The growth of a counter since the first reading.

    A fall is followed if it lasts for two readings, as when a process has left the tree. A fall in one reading is
    ignored: a process that ends while the tree is read is neither found, nor in the times of its parent yet.

    >>> growth = Growth()
    >>> [growth.add(counter) for counter in (100, 130, 50, 131, 20, 20, 25)]
    [0, 30, 30, 31, 31, 31, 36]
    """

    def __init__(self) -> None:
        self._total: float = 0
        self._top: float | None = None
        self._has_fallen = False

    def add(self, counter: float) -> float:
        """Return the growth, up to this reading."""
        if self._top is None or (counter < self._top and self._has_fallen):
            self._top, self._has_fallen = counter, False
        elif counter < self._top:
            self._has_fallen = True
        else:
            self._total += counter - self._top
            self._top, self._has_fallen = counter, False
        return self._total


class ProcessTree:
    """This process and its descendants. A descendant that ends between two readings is left out.

    Args:
        psutil: The module.
        clock: Returns seconds, as `time.monotonic`.
    """

    def __init__(self, psutil: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._errors = (psutil.Error, OSError)
        self._own = psutil.Process()
        self._descendants: list[Any] = []
        self._clock = clock
        self._cpu, self._read, self._written = Growth(), Growth(), Growth()
        self._before: tuple[float, float] | None = None  # time, and processor time until then

    def find(self) -> Values:
        """Find the processes for the other readings, and return their number."""
        self._descendants = self._own.children(recursive=True)
        return {"processes": 1 + len(self._descendants)}

    def _readings(self, read: Callable[[Any], Any]) -> list[Any]:
        """Return a reading of each process, parents first: so a child that ends meanwhile never counts twice."""
        readings = [read(self._own)]
        for process in self._descendants:
            with suppress(*self._errors):
                readings.append(read(process))
        return readings

    def cpu(self) -> Values:
        """Return the processor time since the last reading, in percent of one processor; none if that is too short.

        The time of a process includes that of its ended children, so none is lost.
        """
        times = self._readings(lambda process: sum(process.cpu_times()[:4]))
        now, used = self._clock(), self._cpu.add(sum(times))
        if self._before is None:
            self._before = now, used
        seconds = now - self._before[0]
        if seconds < _SHORTEST:
            return {}
        percent = 100 * (used - self._before[1]) / seconds
        self._before = now, used
        return {"cpu_percent": round(percent, 1)}

    def memory(self) -> Values:
        """Return the memory (resident set size) of all processes. Memory that they share counts several times."""
        return {"memory_bytes": sum(self._readings(lambda process: process.memory_info().rss))}

    def open_files(self) -> Values:
        """Return the number of file descriptors of all processes."""
        return {"open_files": sum(self._readings(lambda process: process.num_fds()))}

    def disk(self) -> Values:
        """Return the bytes that all processes read from disks and wrote to disks since the first reading."""
        counters = self._readings(lambda process: process.io_counters())
        return {
            "disk_read_bytes": self._read.add(sum(counter.read_bytes for counter in counters)),
            "disk_written_bytes": self._written.add(sum(counter.write_bytes for counter in counters)),
        }


class Machine:
    """Processors, memory and network of the machine.

    Args:
        psutil: The module.
        sys_net: The folder in which Linux describes network interfaces.
    """

    def __init__(self, psutil: Any, sys_net: str = _SYS_NET) -> None:
        self._psutil = psutil
        self._sys_net = sys_net
        self._received, self._sent = Growth(), Growth()
        self._before: tuple[float, float] | None = None  # processor time, and the part of it that was busy

    def cpu(self) -> Values:
        """Return the part of the time of all processors that was busy since the last reading, in percent."""
        times = self._psutil.cpu_times()._asdict()
        total = sum(times.values()) - times.get("guest", 0) - times.get("guest_nice", 0)  # `user` has these, too
        busy = total - times["idle"] - times.get("iowait", 0)
        if self._before is None:
            self._before = total, busy
        passed = total - self._before[0]
        if passed < _SHORTEST:
            return {}
        percent = 100 * (busy - self._before[1]) / passed
        self._before = total, busy
        return {"machine_cpu_percent": round(min(max(percent, 0.0), 100.0), 1)}

    def memory(self) -> Values:
        """Return the part of the memory that is in use, without what the system can free at once, in percent."""
        return {"machine_memory_percent": self._psutil.virtual_memory().percent}

    def network(self) -> Values:
        """Return the bytes that the machine received and sent since the first reading.

        Bytes to the machine itself do not count. Where the system names the physical interfaces, only these count, as
        bytes also pass through bridges and other virtual ones.
        """
        # nowrap=True would use a lock that a forked child may inherit in the locked state.
        found = self._psutil.net_io_counters(pernic=True, nowrap=False)
        physical = [name for name in found if os.path.exists(os.path.join(self._sys_net, name, "device"))]
        counted = [found[name] for name in physical or found if not name.startswith("lo")]
        return {
            "network_received_bytes": self._received.add(sum(counter.bytes_recv for counter in counted)),
            "network_sent_bytes": self._sent.add(sum(counter.bytes_sent for counter in counted)),
        }


def _cpu_limit() -> Values:
    """Return the processors that this process may use, in percent of one processor."""
    affinity = getattr(os, "sched_getaffinity", None)
    count = float((len(affinity(0)) if affinity else os.cpu_count()) or 1)
    limit = cgroup.cpu_limit()
    return {"cpu_limit_percent": round(100 * (count if limit is None else min(count, limit)), 1)}


def _memory_limit(psutil: Any) -> Values:
    """Return the memory that this process may use: the limit of its control group, or the memory of the machine."""
    total, limit = psutil.virtual_memory().total, cgroup.memory_limit()
    return {"memory_limit_bytes": total if limit is None else min(total, limit)}
