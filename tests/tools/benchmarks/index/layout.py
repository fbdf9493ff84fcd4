"""Makes the index of an experiment of any number of runs, as its writers leave it in a bucket."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final

import numpy as np

from notata.run.state import ROW
from notata.store import Blob, Entry, Store
from notata.store.appending import Tail
from notata.store.backend import Backend
from notata.store.files import Upload
from notata.store.gaps import Gap
from notata.store.wrapper import Wrapper
from notata.table import Row
from notata.table.compaction import tidy
from notata.table.lines import encoded_row
from notata.table.part_writer import PartWriter
from notata.table.sizes import SIZES

__all__ = ["Bucket", "Counted", "Traffic", "fill", "rows", "size_of", "store_run"]

ARRAY_RUNS: Final = 25
"""Runs of one process of a job array."""

_BEGAN: Final = datetime(2026, 11, 1, tzinfo=UTC)
_METHODS: Final = ("euler", "midpoint", "rk4", "verlet")
_METRICS: Final = (
    "accuracy", "drift", "energy", "error", "loss", "loss.max", "loss.min", "memory", "steps_per_second", "val_loss",
)  # fmt: skip
_AT_ONCE: Final = 10_000
_RUNS_STORED: Final = 2000  # a listing that stops at the first run reads a whole page


def rows(count: int, *, seconds: float = 3600.0, start: int = 0) -> Iterator[Row]:
    """Yield the rows of a sweep: 5 parameters, 10 metrics, status, times, machine and attempt; 1 % of the runs failed.

    Args:
        count: The number of runs.
        seconds: The duration of the whole sweep.
        start: The number of the first run.
    """
    noise = np.random.default_rng(19 + start)
    for first in range(start, start + count, _AT_ONCE):
        numbers = range(first, min(first + _AT_ONCE, start + count))
        metrics = noise.standard_exponential((len(numbers), len(_METRICS))).tolist()
        for number, values in zip(numbers, metrics, strict=True):
            yield _row(number, values, seconds * (number - start) / count)


def _row(number: int, values: list[float], at: float) -> Row:
    depth, method = number % 7 + 2, _METHODS[number % 4]
    params = {
        "depth": depth,
        "dt": (number % 1000 + 1) / 1000,
        "method": method,
        "omega": number % 97 / 8,
        "seed": number,
    }
    began = _BEGAN + timedelta(seconds=at)
    ended = began + timedelta(seconds=60)
    failed = number % 100 == 99
    return Row(
        f"sweep_depth_{depth}_dt_{params['dt']:.5g}_method_{method}_omega_{params['omega']:.5g}_seed_{number}",
        "failed" if failed else "complete",
        params,
        {} if failed else dict(zip(_METRICS, values, strict=True)),
        "ValueError: the step is too long" if failed else "",
        revision=f"{number * 2654435761 % 2**32:08x}",
        started=began.isoformat(timespec="milliseconds"),
        ended=ended.isoformat(timespec="milliseconds"),
        seconds=60.0,
        host=f"node{number % 32:03}",
        time=ended.timestamp(),
    )


def size_of(found: Iterable[Row]) -> int:
    """Return the bytes of rows as lines of an index."""
    return sum(len(encoded_row(row)) for row in found)


@dataclass(slots=True)
class Traffic:
    """Requests and bytes of the index of an experiment.

    Attributes:
        puts: Requests that stored a file, or a part of a large one.
        sent: The bytes in them.
        sent_csv: The part of these bytes that is for index.csv, as long as it is small.
        gets: Requests that read a file.
        received: The bytes that they returned.
        lists: Listings, each of one page.
        deletes: Deleted files.
    """

    puts: int = 0
    sent: int = 0
    sent_csv: int = 0
    gets: int = 0
    received: int = 0
    lists: int = 0
    deletes: int = 0


class Counted(Wrapper):
    """A backend that counts the traffic of the index of an experiment; that of runs does not count."""

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.traffic = Traffic()
        self._lock = threading.Lock()

    def reset(self) -> None:
        """Count from zero."""
        self.traffic = Traffic()

    def add(self, key: str, **counts: int) -> None:
        """Add to the counts of `Traffic` for a request about a key."""
        if f"/{self.full(key)}/".startswith("/runs/"):
            return
        with self._lock:
            for name, count in counts.items():
                setattr(self.traffic, name, getattr(self.traffic, name) + count)

    def _sent(self, key: str, data: bytes) -> None:
        self.add(key, puts=1, sent=len(data), sent_csv=len(data) if key.endswith(".csv") else 0)

    def put(self, key: str, data: bytes, match: str | None) -> str:
        self._sent(key, data)
        return self.inner.put(key, data, match)

    def start_put(self, key: str, data: bytes) -> Future[str]:
        self._sent(key, data)
        return self.inner.start_put(key, data)

    def begin_upload(self, key: str, match: str | None) -> Upload:
        self.add(key, puts=1)
        return _CountedUpload(self, key, self.inner.begin_upload(key, match))

    def append(self, key: str, data: bytes, tail: Tail) -> Tail:
        self._sent(key, data)
        return self.inner.append(key, data, tail)

    def get(self, key: str, start: int, end: int | None, version: str | None = None, limit: int | None = None) -> Blob:
        blob = self.inner.get(key, start, end, version, limit)
        self.add(key, gets=1, received=len(blob.data))
        return blob

    def start_get(
        self, key: str, start: int, end: int | None, version: str | None = None, limit: int | None = None
    ) -> Future[Blob]:
        def count(ended: Future[Blob]) -> None:
            if ended.exception() is None:
                self.add(key, gets=1, received=len(ended.result().data))

        started = self.inner.start_get(key, start, end, version, limit)
        started.add_done_callback(count)
        return started

    def list(self, folder: str, beginning: str = "") -> Iterator[Entry | Gap]:
        self.add(folder, lists=1)
        return self.inner.list(folder, beginning)

    def delete(self, names: dict[str, str | None]) -> dict[str, Exception]:
        for name in names:
            self.add(name, deletes=1)
        return self.inner.delete(names)


class _CountedUpload:
    """A streamed write whose parts are counted."""

    def __init__(self, backend: Counted, key: str, upload: Upload) -> None:
        self._backend, self._key, self._upload = backend, key, upload

    def write(self, part: bytes) -> None:
        self._backend.add(self._key, puts=1, sent=len(part))
        self._upload.write(part)

    def commit(self) -> str:
        return self._upload.commit()

    def abort(self) -> None:
        self._upload.abort()


class Bucket(Counted):
    """A counted backend in which writers behave as in a bucket, whatever it is."""

    is_local = False
    shared = True


def store_run(store: Store, row: Row) -> None:
    """Store the metadata.json of a run with this row."""
    fields = {
        "run_id": row.run_id,
        "status": row.status,
        "start_time": row.started,
        "end_time": row.ended,
        "runtime_sec": row.seconds,
        ROW: {"params": row.params, "metrics": row.metrics, "metrics_version": "0"},
    }
    store.write(f"runs/log_{row.run_id}/metadata.json", json.dumps(fields).encode())


def fill(store: Store, count: int) -> None:
    """Write the index of a sweep: one half by one driver, the other by a job array, merged while they wrote.

    The driver stores 1 MiB at a time, and each process of the job array its `ARRAY_RUNS` rows at its end. Of the runs
    themselves only the first few are there.

    Args:
        store: The store of the experiment, which must be empty.
        count: The number of runs.
    """
    bucket = Store(Bucket(store.backend))
    half = count // 2
    for row in rows(min(count, _RUNS_STORED)):
        store_run(store, row)
    driver = PartWriter(bucket, SIZES.part)
    pending: list[bytes] = []
    held = 0
    for row in rows(half):
        pending.append(encoded_row(row))
        held += len(pending[-1])
        if held >= SIZES.part:
            driver.add(b"".join(pending))
            pending, held = [], 0
            if driver.begun % SIZES.look_every == 0:
                tidy(bucket)
    if pending:
        driver.add(b"".join(pending))
    array = rows(count - half, start=half)
    number = 0
    while own := list(islice(array, ARRAY_RUNS)):
        PartWriter(bucket, SIZES.part).add(b"".join(map(encoded_row, own)))
        number += 1
        if number % SIZES.look_every == 0:  # each process looks with this probability
            tidy(bucket)
