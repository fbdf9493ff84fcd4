"""A Dask cluster of separate processes on 127.0.0.1: scheduler and workers that a test can kill and start again."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tests.servers import free_port

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["DaskCluster", "dask_cluster"]

_LONG = 120.0  # seconds until the processes must be there, also on a busy machine


class DaskCluster:
    """A scheduler and workers, each a process. There are no nannies, so this object replaces workers that ended.

    Attributes:
        address: The address of the scheduler; it stays the same after a restart.
        workers: The processes of the workers.
        kills: The number of workers that were killed.
    """

    def __init__(self, folder: Path, workers: int = 2, threads: int = 1) -> None:
        self._folder = folder
        self._port = free_port()
        self._threads = threads
        self._log: IO[bytes] = (folder / "cluster.log").open("ab")
        self._lock = threading.Lock()
        self.address = f"tcp://127.0.0.1:{self._port}"
        self.kills = 0
        self._scheduler = self._started_scheduler()
        self.workers = [self._started_worker() for _ in range(workers)]

    def _started(self, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", module, *arguments, "--host", "127.0.0.1", "--no-dashboard"]
        # In Python before 3.11.9, the profiler can lock up a worker: https://github.com/dask/distributed/issues/8616
        environment = {**os.environ, "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False"}
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, env=environment)

    def _started_scheduler(self) -> subprocess.Popen[bytes]:
        return self._started("distributed.cli.dask_scheduler", "--port", str(self._port))

    def _started_worker(self) -> subprocess.Popen[bytes]:
        threads = ["--nthreads", str(self._threads), "--no-nanny", "--local-directory", str(self._folder)]
        return self._started("distributed.cli.dask_worker", self.address, *threads)

    def add_worker(self) -> None:
        """Start one more worker."""
        self.workers.append(self._started_worker())

    def kill_worker(self, number: int) -> None:
        """Kill a worker with SIGKILL, and start another one in its place."""
        with self._lock:
            self.workers[number].kill()
            self.workers[number].wait()
            self.workers[number] = self._started_worker()
            self.kills += 1

    def replace_ended(self) -> None:
        """Start a worker in place of each one that has ended by itself."""
        with self._lock:
            self.workers = [self._started_worker() if one.poll() is not None else one for one in self.workers]

    def restart_scheduler(self) -> None:
        """Kill the scheduler, and start another one with the same address, which knows nothing of the first one.

        The workers of the first one end by themselves within some seconds; `replace_ended` starts others.
        """
        self._scheduler.kill()
        self._scheduler.wait()
        self._scheduler = self._started_scheduler()

    def client(self, timeout: float = _LONG) -> Client:
        """Return a new client, once all workers are there.

        Args:
            timeout: Seconds until it gives up connecting, also after it has lost the scheduler.
        """
        from distributed import Client

        client = Client(self.address, set_as_default=False, timeout=timeout)
        client.wait_for_workers(len(self.workers), timeout=_LONG)
        return client

    def close(self) -> None:
        for process in (*self.workers, self._scheduler):
            process.kill()
            process.wait()
        self._log.close()


@contextmanager
def dask_cluster(folder: Path, workers: int = 2, threads: int = 1) -> Iterator[DaskCluster]:
    """Start a cluster, and end it with the block."""
    cluster = DaskCluster(folder, workers, threads)
    try:
        yield cluster
    finally:
        cluster.close()
