"""Engines of packages that need more than their `concurrent.futures.Executor`: Dask, Ray, submitit and loky.

None of these packages is imported before its executor is passed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, InvalidStateError
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from types import ModuleType
from typing import Any, Final, TypeAlias

from notata._base.threads import Bell, Outcome, Pool, make_call, start_thread
from notata.errors import ConfigurationError
from notata.sweep.engines import Engine

__all__ = ["Dask", "Loky", "Ray", "Submitit", "adapted"]


class _Call(Outcome[Any]):
    """A call in a cluster. `Engine.stop` cancels it there; cancelling this object cannot do so."""

    def cancel(self) -> bool:
        return self.cancelled()

    def drop(self) -> None:
        """Mark the call as cancelled, and tell those that wait for it."""
        with suppress(InvalidStateError):  # another thread was first
            if not self.done() and super().cancel():
                self.set_running_or_notify_cancel()


# -- Dask --------------------------------------------------------------------------------------------------


_WATCH: Final = 1.0  # seconds between two looks whether the client is closed


class Dask(Engine):
    """Runs calls in a Dask cluster, through its `distributed.Client`, which stays open.

    Dask itself runs a call again if its worker is killed, on four workers at most. All calls are of one group, so Dask
    keeps them at the scheduler until a worker is free.

    The executor of `Client.get_executor` is replaced by its client: it leaves a future pending forever if the scheduler
    dies while a result is transferred (seen with distributed 2026.8).

    Args:
        client: The client.
        **options: Options of `Client.submit`, such as ``resources``.

    References:
        https://distributed.dask.org/en/stable/killed.html
    """

    def __init__(self, client: Any, **options: Any) -> None:
        if client.asynchronous:
            raise ConfigurationError(
                f"cannot use {client!r} as executor: it is asynchronous. Pass a client made without asynchronous=True"
            )
        self._client = client
        self._options = {**options, "pure": False}
        self._futures: dict[_Call, Any] = {}
        self._bell: Bell | None = None

    @classmethod
    def of_executor(cls, executor: Any) -> Dask:
        """Return the engine for the client of a `Client.get_executor`."""
        return cls(executor._client, **executor._kwargs)

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        future = self._client.submit(function, *arguments, **self._options)
        call = _Call()
        self._futures[call] = future
        if self._bell is None:
            self._bell = Bell()
            start_thread(partial(self._watch, self._bell), "notata-dask")
        self._client.loop.add_callback(self._deliver, future, call)
        return call

    def _watch(self, bell: Bell) -> None:
        """Drop the calls once the client is closed, as its event loop may have ended without a word about them."""
        while not bell.wait(_WATCH):
            if self._client.status == "closed":
                for call in list(self._futures):
                    self._futures.pop(call, None)
                    call.drop()

    def close(self) -> None:
        if self._bell is not None:
            self._bell.ring()
            self._bell = None

    async def _deliver(self, future: Any, call: _Call) -> None:
        """Wait in the thread of the client, and pass on the result. Dask fetches several results in one request."""
        try:
            result = await self._client.gather(future, asynchronous=True)
        except Exception as error:
            if future.cancelled() or isinstance(error, CancelledError):
                call.drop()
            elif future.status == "error":
                call.set_exception(error)
            else:
                lost = BrokenExecutor(f"the result could not be fetched: {type(error).__name__}: {error}")
                lost.__cause__ = error
                call.set_exception(lost)
        except BaseException:  # the loop of the client ends
            call.drop()
            raise
        else:
            call.set_result(result)
        finally:
            self._futures.pop(call, None)

    def is_loss(self, error: BaseException) -> bool:
        return super().is_loss(error) or type(error).__name__ == "KilledWorker"

    def stop(self) -> None:
        with suppress(Exception):  # without a scheduler, Dask has cancelled all calls
            at_workers = {key for keys in self._client.processing().values() for key in keys}
            waiting = [future for future in list(self._futures.values()) if future.key not in at_workers]
            self._client.cancel(waiting)


# -- Ray ---------------------------------------------------------------------------------------------------


class Ray(Engine):
    """Runs calls as tasks of Ray.

    Ray itself runs a call again if its worker is killed, three times at most.

    Args:
        module: The module ``ray``. Without `ray.init`, Ray begins with the first call.
        **options: Options of `ray.remote`, such as ``num_cpus`` and ``max_retries``.
    """

    def __init__(self, module: Any, **options: Any) -> None:
        self._ray = module
        remote = module.remote(_undisturbed) if not options else module.remote(**options)(_undisturbed)
        self._remote = remote.remote
        self._references: dict[_Call, Any] = {}

    def share(self, job: bytes) -> Any:
        return self._ray.put(job)

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        reference = self._remote(function, *arguments)
        call = _Call()
        self._references[call] = reference
        reference.future().add_done_callback(partial(self._deliver, call))
        return call

    def _deliver(self, call: _Call, future: Future[Any]) -> None:
        self._references.pop(call, None)
        make_call(future.result, call)

    def is_loss(self, error: BaseException) -> bool:
        errors = self._ray.exceptions
        if isinstance(error, errors.TaskCancelledError):
            return True
        return super().is_loss(error) or (
            isinstance(error, errors.RayError) and not isinstance(error, errors.RayTaskError)
        )

    def stop(self) -> None:
        for reference in list(self._references.values()):
            with suppress(Exception):
                self._ray.cancel(reference)


def _undisturbed(function: Callable[..., Any], *arguments: Any) -> Any:
    """Make a call, without interrupts: `ray.cancel` interrupts a call that has begun."""
    if threading.current_thread() is not threading.main_thread():
        return function(*arguments)
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        return function(*arguments)
    finally:
        signal.signal(signal.SIGINT, before)


# -- submitit ----------------------------------------------------------------------------------------------

_ARRAY: Final = 500  # jobs in one array; the default limit of Slurm is 1000
_INTERVAL: Final = 1.0  # seconds between two looks at the jobs


_Waiting: TypeAlias = tuple[_Call, Callable[..., Any], tuple[Any, ...]]


class Submitit(Engine):
    """Submits calls as jobs of submitit: each call is a job, and those that are submitted together are one job array.

    A thread looks at the jobs each second; submitit asks Slurm once a minute. A job that gets the signal of a
    preemption or of the time limit is queued again, and resumes its run.

    Args:
        executor: An `AutoExecutor` or another executor of submitit, with its parameters set.
        interval: Seconds between two looks at the jobs.
    """

    def __init__(self, executor: Any, *, interval: float = _INTERVAL) -> None:
        self._executor = executor
        self._interval = interval
        if getattr(executor, "cluster", "") in ("local", "debug"):  # submitit starts each local job at once
            self.most = os.cpu_count() or 1
        self._waiting: SimpleQueue[_Waiting] = SimpleQueue()
        self._jobs: dict[_Call, Any] = {}
        self._bell = Bell()
        self._fetching = Pool(4, "notata-submitit")  # submitit waits 15 seconds for the file of a lost result
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        call = _Call()
        self._waiting.put((call, _Resumable(function), arguments))
        if self._thread is None:
            self._thread = start_thread(self._follow, "notata-submitit")
        return call

    def _follow(self) -> None:
        while not self._closed:
            self._begin_waiting()
            for call, job in list(self._jobs.items()):
                if job.done():
                    del self._jobs[call]
                    self._fetching.submit(partial(_fetch, job, call))
            self._bell.wait(self._interval)

    def _begin_waiting(self) -> None:
        """Submit the waiting calls as one job array."""
        while calls := self._taken():
            try:
                with self._executor.batch():
                    jobs = [self._executor.submit(function, *arguments) for _, function, arguments in calls]
            except Exception as error:
                for call, *_ in calls:
                    call.set_exception(BrokenExecutor(f"the job could not be submitted: {error}"))
            else:
                self._jobs.update(zip((call for call, *_ in calls), jobs, strict=True))

    def _taken(self) -> list[_Waiting]:
        """Remove and return the waiting calls that fit into one job array."""
        calls: list[_Waiting] = []
        with suppress(Empty):
            while len(calls) < _ARRAY:
                calls.append(self._waiting.get_nowait())
        return calls

    def is_loss(self, error: BaseException) -> bool:
        """Check whether a job ended without a result, and not by an exception."""
        return super().is_loss(error) or type(error).__name__ == "UncompletedJobError"

    def stop(self) -> None:
        while calls := self._taken():
            for call, *_ in calls:
                call.drop()
        jobs = list(self._jobs.items())
        if jobs and hasattr(jobs[0][1].watcher, "update"):
            with suppress(Exception):
                jobs[0][1].watcher.update()  # one question for the states of all jobs
        for call, job in jobs:
            if job.state == "PENDING" and self._jobs.pop(call, None) is not None:
                with suppress(Exception):
                    job.cancel(check=False)
                call.drop()

    def close(self) -> None:
        self._closed = True
        self._bell.ring()


class _Resumable:
    """A function that submitit queues again if its job is preempted, or reaches the time limit."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def checkpoint(self, *arguments: Any) -> Any:
        """Return what is to be queued; submitit calls this method in the job."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *arguments)


def _fetch(job: Any, call: _Call) -> None:
    make_call(job.result, call)


# -- loky --------------------------------------------------------------------------------------------------


class Loky(Engine):
    """Runs calls in the reusable executor of loky or joblib, and gets a new one after a process was killed.

    Args:
        executor: The result of ``loky.get_reusable_executor()``.
    """

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._module = sys.modules[type(executor).__module__]

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        try:
            return self._executor.submit(function, *arguments)
        except BrokenExecutor:
            self._executor = self._module.get_reusable_executor(reuse=True)  # with as many processes as before
            return self._executor.submit(function, *arguments)


_CLASSES: Final[Mapping[tuple[str, str], Callable[[Any], Engine]]] = {
    ("distributed.client", "Client"): Dask,
    ("distributed.cfexecutor", "ClientExecutor"): Dask.of_executor,
    ("submitit.core.core", "Executor"): Submitit,
    ("loky.reusable_executor", "_ReusablePoolExecutor"): Loky,
    ("joblib.externals.loky.reusable_executor", "_ReusablePoolExecutor"): Loky,
}


def adapted(executor: object) -> Engine | None:
    """Return the engine for an executor of Dask, Ray, submitit or loky; None if it is none of these."""
    if isinstance(executor, ModuleType):
        return Ray(executor) if executor.__name__ == "ray" else None
    for cls in type(executor).__mro__:
        if (adapter := _CLASSES.get((cls.__module__, cls.__qualname__))) is not None:
            return adapter(executor)
    return None
