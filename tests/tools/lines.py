"""Count the cost of a log in a bucket: ``python -m tests.tools.lines [COUNT] [--rows]``, or of a series' rows.

It starts SeaweedFS and fake-gcs-server. Bytes and requests are counted at the client library, below notata; plain
fsspec reads the lines back.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from notata import Logbook
from tests import servers
from tests.backends import Place
from tests.counting import Sent, counted
from tests.tools.benchmarks.peers.base import row


@dataclass(frozen=True)
class Cost:
    """The cost of one run's log.

    Attributes:
        size: Size of log.txt in bytes.
        sent: Bytes in bodies of requests for log.txt.
        requests: Requests for log.txt.
        lines: The run's lines as stored in the bucket.
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


@dataclass(frozen=True)
class RowCost:
    """The cost of one run's series.

    Attributes:
        size: Size of the file in bytes.
        sent: Bytes in bodies of requests for the file.
        requests: Requests for the file.
        is_whole: Whether each row is in the file once, in order.
    """

    size: int
    sent: int
    requests: int
    is_whole: bool


def measure_rows(place: Place, count: int) -> RowCost:
    """Add `count` rows of five values as fast as possible, and count their cost from the first to the last."""
    run_id = uuid.uuid4().hex
    log = place.logbook(run_id, heartbeat=0)
    with counted() as sent:
        for number in range(count):
            log.scalars(step=number, **row(number))
        log.flush()
    log.mark_complete()
    data = place.bytes(f"log_{run_id}/series/scalars.jsonl")
    found = [json.loads(line) for line in data.splitlines()]
    rows = [{name: value for name, value in each.items() if name != "time"} for each in found]
    is_whole = rows == [{"step": number} | row(number) for number in range(count)]
    return RowCost(len(data), sent.bytes, len(sent), is_whole)


def wanted(count: int) -> list[str]:
    """Return the lines that `measure` logs."""
    return [f"INFO step {number:7d} residual {1.0 / (number + 1):.6e}" for number in range(count)]


def main(count: int, of_series: bool) -> None:
    os.environ.update(servers.CLOUD_ENVIRONMENT)
    what = "rows | size of scalars.jsonl" if of_series else "lines | size of log.txt"
    print(f"| {count:,} {what} | bytes sent | ratio | requests | every line once, in order |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, servers.seaweed(Path(folder)) as s3, servers.fake_gcs() as gcs:
        for name, server in (("S3 (SeaweedFS)", s3), ("GCS (fake-gcs-server)", gcs)):
            place = Place("bucket", f"{server.url}/lines", server.options)
            cost: Cost | RowCost
            if of_series:
                cost = measure_rows(place, count)
                is_whole = cost.is_whole
            else:
                cost = measure(place, count)
                is_whole = cost.lines == wanted(count)
            whole = "yes" if is_whole else "NO"
            size, sent = f"{cost.size / 1e6:.2f} MB", f"{cost.sent / 1e6:.2f} MB"
            print(f"| {name} | {size} | {sent} | {cost.sent / cost.size:.2f} | {cost.requests} | {whole} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m tests.tools.lines", description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=100_000)
    parser.add_argument("--rows", action="store_true", help="rows of a series instead of lines of the log")
    chosen = parser.parse_args()
    main(chosen.count, chosen.rows)


__all__ = ["Cost", "RowCost", "Sent", "measure", "measure_rows", "wanted"]
