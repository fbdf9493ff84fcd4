"""The engine for each kind of executor that a user can pass."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, ThreadPoolExecutor
from concurrent.futures import Future as StandardFuture
from typing import Any

from notata.errors import ConfigurationError
from notata.sweep.adapters import adapted
from notata.sweep.engines import Engine, Future
from notata.sweep.processes import Processes

__all__ = ["OfExecutor", "ThisThread", "engine_of"]


def engine_of(executor: object) -> Engine:
    """Return the engine for an executor.

    Args:
        executor: None: this thread. A number: that many processes. A Dask `Client`, the module ``ray``, an executor
            of submitit, or any `concurrent.futures.Executor`. An engine is returned as it is.

    Raises:
        ConfigurationError: It is none of these.
    """
    if executor is None:
        return ThisThread()
    if isinstance(executor, int) and not isinstance(executor, bool) and executor > 0:
        return Processes(executor)
    if isinstance(executor, Engine):
        return executor
    if (engine := adapted(executor)) is not None:
        return engine
    if isinstance(executor, Executor):
        return OfExecutor(executor)
    raise ConfigurationError(
        f"invalid executor {executor!r}: pass None for this thread, a number of processes, a Dask Client, the module "
        "ray, an executor of submitit, or an object with the interface of concurrent.futures.Executor"
    )


class ThisThread(Engine):
    """Makes each call at once, in the thread of the caller."""

    in_process = True
    most = 1

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future:
        future: StandardFuture[Any] = StandardFuture()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


class OfExecutor(Engine):
    """Uses an executor of the user, which stays open.

    Besides the errors of `concurrent.futures`, those that the package of the executor defines are losses, such as
    ``WorkerLost`` of parsl.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._package = _package(executor)
        self.in_process = isinstance(executor, ThreadPoolExecutor)
        self.imports_main = self._package in ("concurrent", "mpi4py")

    def is_loss(self, error: BaseException) -> bool:
        return super().is_loss(error) or _package(error) == self._package

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future:
        try:
            return self._executor.submit(function, *arguments)
        except BrokenExecutor as error:
            raise BrokenExecutor(
                f"{error}. Sweep again with a new executor; with a number, such as executor=4, killed processes are "
                "replaced"
            ) from error


def _package(value: object) -> str:
    return type(value).__module__.partition(".")[0]
