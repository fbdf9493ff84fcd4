"""Bytes that a sweep sends for its index to a bucket, with a simulated clock: an hour takes as long as its work."""

from __future__ import annotations

import threading
import uuid
from dataclasses import dataclass
from typing import Final

from notata.store import Store, open_store
from notata.table import IndexWriter
from notata.table.compaction import tidy
from notata.table.index import EVERY
from notata.table.sizes import SIZES
from tests.tools.benchmarks.index.layout import Bucket, Traffic, rows, size_of, store_run

__all__ = ["SweepTraffic", "measure"]

_RUNS_STORED: Final = 3_000
"""The first runs, which have a metadata.json: the process that fills index.csv reads those of its rows."""


@dataclass(frozen=True, slots=True)
class SweepTraffic:
    """The traffic of the index of one sweep.

    Attributes:
        runs: The number of runs.
        writers: The number of processes that add rows.
        hours: The simulated duration.
        size: The bytes of the rows, each once.
        parts: The number of parts at the end.
        traffic: What was sent, read, listed and deleted.
    """

    runs: int
    writers: int
    hours: float
    size: int
    parts: int
    traffic: Traffic

    @property
    def ratio(self) -> float:
        """The bytes sent for each byte of the index."""
        return self.traffic.sent / self.size


def measure(runs: int, writers: int, hours: float = 1.0) -> SweepTraffic:
    """Let processes add rows at an even pace; each writes its pending rows every `EVERY` seconds.

    All writers are in this process and take turns, so that none is in conflict with another one about index.csv.
    """
    bucket = Bucket(open_store(f"memory://index-speed-{uuid.uuid4().hex}").backend)
    store = Store(bucket)
    own = [IndexWriter(store, chance=lambda: 1.0) for _ in range(writers)]  # never looks at its end: see below
    ticks = max(1, round(hours * 3600 / EVERY))
    coming, done, size = rows(runs, seconds=hours * 3600), 0, 0
    for tick in range(1, ticks + 1):
        due = [next(coming) for _ in range(runs * tick // ticks - done)]
        for number, row in enumerate(due, start=done):
            if number < _RUNS_STORED:
                store_run(store, row)
            own[number % writers].put(row)
        done += len(due)
        size += size_of(due)
        for writer in own:
            writer.flush()
        _wait_for_merges()
    if store.has_folder("index"):
        for _ in range(max(1, writers // SIZES.look_every)):  # at its end, each process looks with this probability
            tidy(store)
    traffic = bucket.traffic
    parts = len(store.list("index"))
    store.clear()
    return SweepTraffic(runs, writers, hours, size, parts, traffic)


def _wait_for_merges() -> None:
    for thread in threading.enumerate():
        if thread.name == "notata-index":
            thread.join()
