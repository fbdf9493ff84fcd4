"""The memory of long series: ``python -m tests.tools.series_memory [ROWS [FOLDER]]``; 10⁷ rows take 1 GB of disk.

Two processes add rows of five values: on a disk, and into a bucket that counts the bytes and drops them. Their memory
should be that of the first tenth. A third process reads the file; its memory beyond the arrays should not grow with it.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from notata import Logbook, LogReader
from notata.growing import AppendThread
from notata.series import SeriesWriters
from notata.store import Store
from tests import children
from tests.tools.benchmarks.peers.base import row

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


def memory(field: str = "VmRSS") -> float:
    """Return the memory of this process in MiB; ``VmHWM`` is the most that it had."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


def added(add: Callable[..., object], count: int) -> list[float]:
    """Add rows, and return the memory in MiB after each tenth of them."""
    found = []
    for number in range(count):
        add(step=number, **row(number))
        if (number + 1) % (count // _TENTHS) == 0:
            found.append(memory())
    return found


def into_bucket(count: int) -> tuple[list[float], Dropping]:
    """Add rows to a series in a bucket that drops them."""
    bucket = Dropping()
    lost: list[object] = []
    writers = SeriesWriters(
        cast("Store", SimpleNamespace(is_local=False)),
        AppendThread(),
        appender=lambda key: bucket,
        warn=lambda *text: lost.append(text),
    )
    found = added(writers["scalars"].add, count)
    writers.flush()
    assert not lost, lost
    return found, bucket


def _write(count: int, folder: str) -> dict[str, Any]:
    with Logbook("long", folder, heartbeat=0, overwrite=True) as log:
        return {"memory": added(log.scalars, count), "peak": memory("VmHWM")}


def _send(count: int, folder: str) -> dict[str, Any]:
    found, bucket = into_bucket(count)
    cost = {"size": bucket.size, "sent": bucket.sent, "appends": bucket.appends}
    return {"memory": found, "peak": memory("VmHWM"), **cost}


def _read(count: int, folder: str) -> dict[str, Any]:
    reader = LogReader(f"{folder}/log_long")
    before = memory()
    data = reader.series("scalars")
    assert data.rows == count
    arrays = sum(values.nbytes for values in (data.step, data.time, data.attempt, *data.values()))
    return {"before": before, "arrays": arrays / MIB, "peak": memory("VmHWM")}


_PARTS = {"write": _write, "send": _send, "read": _read}


def _in_process(part: str, count: int, folder: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.tools.series_memory", str(count), folder, part]
    found: dict[str, Any] = json.loads(children.run(command, cwd=Path(__file__).parents[2]).stdout)
    return found


def main(count: int, base: str | None) -> None:
    with tempfile.TemporaryDirectory(dir=base) as folder:
        sending: list[dict[str, Any]] = []
        other = threading.Thread(target=lambda: sending.append(_in_process("send", count, folder)))
        other.start()
        wrote = _in_process("write", count, folder)
        size = Path(folder, "log_long", "series", "scalars.jsonl").stat().st_size
        other.join()
        read = _in_process("read", count, folder)
    print(f"{count:,} rows of five values; a file of {size / 1e6:.0f} MB")
    for name, found in (("disk", wrote), ("bucket", sending[0])):
        tenths = " ".join(f"{each:.1f}" for each in found["memory"])
        print(f"{name}: MiB after each tenth: {tenths}; at most {found['peak']:.1f}")
    cost = sending[0]
    print(f"bucket: {cost['sent'] / cost['size']:.2f} times the file sent in {cost['appends']} appends")
    more = read["peak"] - read["before"]
    print(f"reading: {read['arrays']:.0f} MiB of arrays, at most {more:.0f} MiB more than before")


if __name__ == "__main__":
    if len(sys.argv) > 3:
        print(json.dumps(_PARTS[sys.argv[3]](int(sys.argv[1]), sys.argv[2])))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 10**7, sys.argv[2] if len(sys.argv) > 2 else None)
