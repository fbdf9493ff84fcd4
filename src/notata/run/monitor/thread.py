"""Sample the system in a thread while a run is written."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from notata._base.display import brief
from notata._base.packages import needed
from notata._base.processes import ForkCheck
from notata._base.threads import Event, start_thread
from notata.errors import ConfigurationError, RunDisplacedError

if TYPE_CHECKING:
    from notata.run.monitor.metrics import Metrics

__all__ = ["LAST", "SYSTEM", "THREAD", "Clocks", "Monitor", "interval_of"]

SYSTEM: Final = "system"
"""The name of the series."""

THREAD: Final = "notata-monitor"
"""The name of the threads that sample."""

LAST: Final = 5.0
"""Seconds that the end of a run waits for the last sample, which takes some milliseconds unless a GPU hangs."""

_DEFAULT: Final = 10.0
_SHARE: Final = 0.01  # maximum part of one processor that samples take


def interval_of(monitor: object) -> float | None:
    """Return the seconds between two samples for the argument `monitor`; None for no samples.

    Raises:
        ConfigurationError: The argument is invalid.
        PackageMissingError: psutil is not installed.

    >>> interval_of(False), interval_of(None)
    (None, None)
    """
    if monitor is None or (isinstance(monitor, int | float) and monitor == 0):
        return None
    if not isinstance(monitor, int | float) or not 0 < monitor <= threading.TIMEOUT_MAX:
        raise ConfigurationError(
            f"invalid monitor {brief(monitor)}: pass the seconds between two samples, True for {_DEFAULT:g} seconds, "
            "or False for no samples"
        )
    with needed("monitor= needs psutil", "psutil>=5.9.4", "system"):
        import psutil  # noqa: F401 - here, as a child that is forked during an import in a thread could not import it
    with suppress(Exception):  # the package is missing or broken
        import pynvml  # noqa: F401
    return _DEFAULT if monitor is True else float(monitor)


class Stop(Protocol):
    """A flag that ends a thread, such as `notata._base.threads.Event`."""

    def set(self) -> None:
        """Set the flag."""

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is set, at most some seconds; return whether it is set."""


class Clocks:
    """The clocks of a monitor; a test passes others.

    Attributes:
        now: Returns the time in seconds, as `time.monotonic`.
        used: Returns the processor time of the current thread in seconds.
        stop: The flag that ends the thread, and lets it wait between two samples.
        ended: The flag that the thread sets when it ends.
    """

    def __init__(
        self,
        now: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.thread_time,
        stop: Stop | None = None,
        ended: Stop | None = None,
    ) -> None:
        self.now = now
        self.used = used
        self.stop: Stop = Event() if stop is None else stop
        self.ended: Stop = Event() if ended is None else ended


class Monitor:
    """A thread that adds a row of system metrics to a series every some seconds.

    The first sample is taken at the start, and the last one at the end. The thread never raises an error. If a sample
    is expensive, it waits longer, so that it takes at most 1 % of one processor. A forked child has no such thread.

    Args:
        seconds: Seconds between two samples.
        metrics: Returns the metrics; called in the thread, as GPUs may take seconds to initialize.
        add: Adds a row to the series.
        warn: Logs a warning, with arguments as in `logging`.
        clocks: The clocks.
    """

    def __init__(
        self,
        seconds: float,
        metrics: Callable[[], Metrics],
        *,
        add: Callable[[Mapping[str, Any]], object],
        warn: Callable[..., object],
        clocks: Clocks | None = None,
    ) -> None:
        self._seconds = seconds
        self._metrics = metrics
        self._add = add
        self._warn = warn
        self._clocks = clocks or Clocks()
        self._fork = ForkCheck()
        self._is_started = False
        self._is_over = False  # no more rows
        self._has_failed = False

    @classmethod
    def started(
        cls,
        seconds: float,
        path: object,
        *,
        add: Callable[[Mapping[str, Any]], object],
        warn: Callable[..., object],
    ) -> Self:
        """Start to sample the system.

        Args:
            seconds: Seconds between two samples.
            path: The folder of the run. The free space of its disk is read if it is a `pathlib.Path`.
            add: Adds a row to the series.
            warn: Logs a warning, with arguments as in `logging`.
        """
        from notata.run.monitor.metrics import system_metrics

        folder = str(path) if isinstance(path, Path) else None
        monitor = cls(seconds, lambda: system_metrics(folder, warn), add=add, warn=warn)
        monitor.start()
        return monitor

    def start(self) -> None:
        """Start the thread, or log a warning if the system allows no more threads."""
        try:
            start_thread(self.work, THREAD)
            self._is_started = True
        except RuntimeError as error:
            self._warn("The system is not monitored: %s", error)

    def finish(self) -> None:
        """Take a last sample and end the thread. Waits until the row is added, but not for a sample that hangs."""
        if self._is_started and not self._is_over and not self._fork.is_forked():
            self._clocks.stop.set()
            self._clocks.ended.wait(LAST)
            self._is_over = True

    def stop(self) -> None:
        """End the thread without a last sample and without waiting for it."""
        self._is_over = True
        self._clocks.stop.set()

    def work(self) -> None:
        """Sample until `finish` or `stop`."""
        try:
            metrics = self._metrics()
            try:
                while not self._clocks.stop.wait(self._sample(metrics)):
                    pass
                self._sample(metrics)
            finally:
                metrics.close()
        except RunDisplacedError:  # the run itself reports this
            pass
        except Exception as error:
            self._warn("The system is no longer monitored: %s: %s", type(error).__name__, error)
        finally:
            self._clocks.ended.set()

    def _sample(self, metrics: Metrics) -> float:
        """Add a row, and return the seconds until the next one."""
        if self._is_over:
            return 0.0
        clocks = self._clocks
        began, used_before = clocks.now(), clocks.used()
        values = metrics.sample()
        if values and not self._is_over:
            self._try_add(values)
        return max(0.0, self._seconds - (clocks.now() - began), (clocks.used() - used_before) / _SHARE)

    def _try_add(self, values: Mapping[str, float]) -> None:
        try:
            self._add(values)
        except RunDisplacedError:
            raise
        except Exception as error:
            if not self._has_failed:
                self._has_failed = True
                self._warn("A sample of the system was not stored: %s: %s", type(error).__name__, error)
