"""The memory of a writer and of a reader of a very long series; 10⁶ rows take 130 MB of disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from tests.tools.benchmarks.peers.base import Peer, row
from tests.tools.memory import peak, resident

__all__ = ["Dropping", "LongSeries", "into_bucket"]

_TENTHS = 10
MIB = 2**20


class Dropping:
    """A file in a bucket, as S3 replaces it: whole up to 5 MiB, then by its parts. It drops the bytes.

    Attributes:
        size: The bytes that were appended.
        appends: How often.
        sent: The bytes that a bucket would have received.
    """

    def __init__(self) -> None:
        self.size = self.appends = self.sent = 0

    @property
    def again(self) -> int:
        return self.size if self.size < 5 * MIB else 0

    def append(self, data: bytes) -> None:
        self.sent += self.again + len(data)
        self.size += len(data)
        self.appends += 1

    def close(self) -> None:
        """Hold nothing."""


def added(add: Callable[..., object], count: int) -> list[float]:
    """Add rows, and return the memory in MiB after each tenth of them."""
    found = []
    for number in range(count):
        add(step=number, **row(number))
        if (number + 1) % max(1, count // _TENTHS) == 0:
            found.append(resident())
    return found


def into_bucket(count: int) -> tuple[list[float], Dropping]:
    """Add rows to a series in a bucket that drops them."""
    from notata.growing import AppendThread
    from notata.series import SeriesWriters

    bucket = Dropping()
    lost: list[object] = []
    writers = SeriesWriters(
        cast("Any", SimpleNamespace(is_local=False)),
        AppendThread(),
        appender=lambda key: bucket,
        warn=lambda *text: lost.append(text),
    )
    found = added(writers["scalars"].add, count)
    writers.flush()
    assert not lost, lost
    return found, bucket


class LongSeries(Peer):
    """notata: rows of five values."""

    def write_long(self, count: int) -> dict[str, Any]:
        """Add rows on a disk."""
        from notata import Logbook

        with Logbook("long", self.site.url, heartbeat=0) as log:
            memory = added(log.scalars, count)
            size = Path(str(log.path), "series", "scalars.jsonl").stat().st_size
        return {"memory": memory, "peak": peak(), "size": size}

    def send_long(self, count: int) -> dict[str, Any]:
        """Add rows into a bucket that drops them."""
        memory, bucket = into_bucket(count)
        return {"memory": memory, "peak": peak(), "size": bucket.size}

    def read_long(self, count: int) -> dict[str, Any]:
        """Read the rows of the disk; return the size of the arrays, and the memory besides that before."""
        from notata import LogReader

        before = resident()
        data = LogReader(f"{self.site.url}/log_long").series("scalars")
        assert data.rows == count
        arrays = sum(values.nbytes for values in (data.step, data.time, data.attempt, *data.values()))
        return {"arrays": arrays / MIB, "more": peak() - before}
