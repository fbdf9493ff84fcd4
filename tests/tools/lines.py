"""Count the cost of a log and of a series in a bucket: ``python -m tests.tools.lines [LINES]``.

It starts SeaweedFS and fake-gcs-server. Bytes and requests are counted at the client library, below notata; plain
fsspec reads the lines back.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from notata import Logbook
from tests import servers
from tests.backends import Place
from tests.counting import Sent, counted

_TIME = re.compile(r', "time": [0-9.]+')


@dataclass(frozen=True)
class Cost:
    """The cost of one run's log or series.

    Attributes:
        size: Size of the file in bytes.
        sent: Bytes in bodies of requests for it.
        requests: Requests for it.
        lines: The run's lines as stored in the bucket; those of a series without their times.
    """

    size: int
    sent: int
    requests: int
    lines: list[str]


def measure(place: Place, count: int, pace: Callable[[Logbook, int], None] = lambda log, number: None) -> Cost:
    """Log `count` numbered lines as fast as possible, and count their cost from the first to the last."""
    run_id = uuid.uuid4().hex
    log = place.logbook(run_id, heartbeat=0)
    with counted() as sent:
        for number in range(count):
            log.info("step %7d residual %.6e", number, 1.0 / (number + 1))
            pace(log, number)
        log.flush()
    log.mark_complete()
    lines = place.log(run_id)
    size = len(place.bytes(f"log_{run_id}/log.txt"))
    return Cost(size, sent.bytes, len(sent), [line for line in lines if line.startswith("INFO step")])


def wanted(count: int) -> list[str]:
    """Return the lines that `measure` logs."""
    return [f"INFO step {number:7d} residual {1.0 / (number + 1):.6e}" for number in range(count)]


def measure_rows(place: Place, count: int) -> Cost:
    """Add `count` rows to a series as fast as possible, and count their cost from the first to the last."""
    run_id = uuid.uuid4().hex
    log = place.logbook(run_id, heartbeat=0)
    log.flush()  # otherwise the first lines of the log would count
    with counted() as sent:
        for number in range(count):
            log.scalars(step=number, loss=1.0 / (number + 1))
        log.flush()
    log.mark_complete()
    data = place.bytes(f"log_{run_id}/series/scalars.jsonl")
    return Cost(len(data), sent.bytes, len(sent), [_TIME.sub("", line) for line in data.decode().splitlines()])


def wanted_rows(count: int) -> list[str]:
    """Return the rows that `measure_rows` adds."""
    return [f'{{"step": {number}, "loss": {1.0 / (number + 1)!r}}}' for number in range(count)]


def main(count: int) -> None:
    os.environ.update(servers.CLOUD_ENVIRONMENT)
    print(f"| {count:,} lines | file | size | bytes sent | ratio | requests | every line once, in order |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, servers.seaweed(Path(folder)) as s3, servers.fake_gcs() as gcs:
        for name, server in (("S3 (SeaweedFS)", s3), ("GCS (fake-gcs-server)", gcs)):
            place = Place("bucket", f"{server.url}/lines", server.options)
            for key, measured, expected in (("log.txt", measure, wanted), ("a series", measure_rows, wanted_rows)):
                cost = measured(place, count)
                whole = "yes" if cost.lines == expected(count) else "NO"
                size, sent = f"{cost.size / 1e6:.2f} MB", f"{cost.sent / 1e6:.2f} MB"
                print(f"| {name} | {key} | {size} | {sent} | {cost.sent / cost.size:.2f} | {cost.requests} | {whole} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)


__all__ = ["Cost", "Sent", "measure", "measure_rows", "wanted", "wanted_rows"]
