"""A sweep of a task that does nothing: by notata, and by executors that record nothing."""

from __future__ import annotations

import resource
import time
import uuid
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, ClassVar

from tests.tools.benchmarks.peers.base import Peer

_WARM = 20  # points, after which processes have started


def task(log: Any, x: int) -> dict[str, int]:
    """Return a metric."""
    return {"y": x}


def bare_task(x: int) -> dict[str, int]:
    """Return a metric."""
    return {"y": x}


def processor_seconds() -> float:
    """Return the processor time of this process and of its children that have ended."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in both)


class OneByOne(Peer):
    """Runs of an experiment, one after another, without a sweep.

    Attributes:
        workers: Processes of the sweep, 0 for this thread.
        before: The processor time before what is measured.
        options: Options of each run.
    """

    workers: ClassVar[int] = 0
    options: ClassVar[dict[str, Any]] = {}
    before: float

    def sweep(self, count: int) -> dict[str, float]:
        """Sweep; return seconds without the start of processes, and their processor time with start and end."""
        self.before = processor_seconds()
        seconds = self.measured(count)
        return {"seconds": seconds, "processor": processor_seconds() - self.before}

    def measured(self, count: int) -> float:
        """Sweep some points, then `count`; return the seconds of these."""
        self.points(range(min(_WARM, count)))
        if not self.workers:
            self.before = processor_seconds()
        begun = time.perf_counter()
        self.points(range(count))
        return time.perf_counter() - begun

    def experiment(self) -> Any:
        """Return a new experiment."""
        from notata import Experiment

        return Experiment(uuid.uuid4().hex, self.site.url, **self.options)

    def points(self, values: Iterable[int]) -> None:
        """Calculate these points."""
        experiment = self.experiment()
        for x in values:
            with experiment.add(x=x) as log:
                log.json("metrics", task(log, x))


class Swept(OneByOne):
    """`Experiment.sweep` in this thread."""

    def points(self, values: Iterable[int]) -> None:
        from notata.sweep import grid

        self.experiment().sweep(task, grid(x=values))


class SweptLightly(Swept):
    """The same without the environment in each run."""

    options: ClassVar[dict[str, Any]] = {"environment": False}


class SweptAgain(Swept):
    """`Experiment.sweep` of points that are complete."""

    def measured(self, count: int) -> float:
        from notata.sweep import grid

        experiment = self.experiment()
        experiment.sweep(task, grid(x=range(count)))
        self.before = processor_seconds()
        begun = time.perf_counter()
        experiment.sweep(task, grid(x=range(count)))
        return time.perf_counter() - begun


class SweptByProcesses(Swept):
    """`Experiment.sweep` in two processes, which stay open."""

    workers: ClassVar[int] = 2

    def measured(self, count: int) -> float:
        from notata.sweep.processes import Processes

        self.engine = _kept(Processes(self.workers))
        try:
            return super().measured(count)
        finally:
            self.engine.inner.close()

    def points(self, values: Iterable[int]) -> None:
        from notata.sweep import grid
        from notata.sweep.driver import Driver
        from notata.sweep.options import Options

        Driver(self.experiment(), task, self.engine, Options()).sweep(grid(x=values))


def _kept(inner: Any) -> Any:
    """Return an engine that stays open at the end of a sweep."""
    from notata.sweep.engines import Engine

    class Kept(Engine):
        most = inner.most
        imports_main = inner.imports_main

        def __init__(self) -> None:
            self.inner = inner

        def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Any:
            return inner.submit(function, *arguments)

    return Kept()


class Futures(OneByOne):
    """`concurrent.futures.ProcessPoolExecutor` with two new interpreters."""

    workers: ClassVar[int] = 2

    def measured(self, count: int) -> float:
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as self.pool:
            return super().measured(count)

    def points(self, values: Iterable[int]) -> None:
        assert all("y" in found for found in self.pool.map(bare_task, values))


class Joblib(OneByOne):
    """joblib with two processes."""

    workers: ClassVar[int] = 2

    def measured(self, count: int) -> float:
        joblib: Any = import_module("joblib")
        executor: Any = import_module("joblib.externals.loky")
        with joblib.Parallel(n_jobs=2) as self.pool:
            seconds = super().measured(count)
        executor.get_reusable_executor().shutdown(wait=True)
        return seconds

    def points(self, values: Iterable[int]) -> None:
        delayed: Any = import_module("joblib").delayed
        assert all("y" in found for found in self.pool(delayed(bare_task)(x) for x in values))
