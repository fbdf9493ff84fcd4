"""Count the cost of a log in a bucket: ``python -m tests.tools.lines [LINES]``.

It starts SeaweedFS and fake-gcs-server. Bytes and requests are counted at the client library, below notata; plain
fsspec reads the lines back.
"""

from __future__ import annotations

import os
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


def wanted(count: int) -> list[str]:
    """Return the lines that `measure` logs."""
    return [f"INFO step {number:7d} residual {1.0 / (number + 1):.6e}" for number in range(count)]


def main(count: int) -> None:
    os.environ.update(servers.CLOUD_ENVIRONMENT)
    print(f"| {count:,} lines | size of log.txt | bytes sent | ratio | requests | every line once, in order |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder, servers.seaweed(Path(folder)) as s3, servers.fake_gcs() as gcs:
        for name, server in (("S3 (SeaweedFS)", s3), ("GCS (fake-gcs-server)", gcs)):
            cost = measure(Place("bucket", f"{server.url}/lines", server.options), count)
            whole = "yes" if cost.lines == wanted(count) else "NO"
            size, sent = f"{cost.size / 1e6:.2f} MB", f"{cost.sent / 1e6:.2f} MB"
            print(f"| {name} | {size} | {sent} | {cost.sent / cost.size:.2f} | {cost.requests} | {whole} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)


__all__ = ["Cost", "Sent", "measure", "wanted"]
