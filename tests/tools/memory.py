"""The memory cost of a large pickle: ``python -m tests.tools.memory 1024`` logs 1 GiB to a disk, SeaweedFS and GCS.

Each runs in a separate process. The operating system reports its peak before and after the call.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests import children, servers


def measure(mib: int, url: str, options: dict[str, Any]) -> tuple[float, int]:
    """Log an array of `mib` MiB in a separate process; return the growth of its peak in MiB and the bytes stored."""
    arguments = [sys.executable, "-m", "tests.tools.memory", str(mib), url, json.dumps(options)]
    folder = Path(__file__).parents[2]
    done = children.run(arguments, cwd=folder, timeout=600)
    grown, size = json.loads(done.stdout)
    return float(grown), int(size)


def _log(mib: int, url: str, options: dict[str, Any]) -> None:
    import numpy as np

    from notata import Logbook

    log = Logbook("memory", url, storage_options=options, overwrite=True)
    log.bytes("warm", b"x" * 2**24)  # the first multipart upload imports modules and connects
    log.pickle("warm", np.zeros(2**21))
    value = np.ones(mib * 2**17)
    before = peak()
    log.pickle("model", value)
    grown = peak() - before
    print(json.dumps([grown, log["artifacts/model.pkl"].stat().st_size]))


def resident() -> float:
    """Return the memory of this program in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


def peak() -> float:
    """Return the peak memory of this program in MiB; on Linux `getrusage` returns the parent's if that was larger."""
    if sys.platform != "linux":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


def _all(mib: int) -> None:
    os.environ.update(servers.CLOUD_ENVIRONMENT)
    with tempfile.TemporaryDirectory() as folder:
        print(f"disk: {measure(mib, folder, {})[0]:.0f} MiB more")
    with tempfile.TemporaryDirectory() as folder, servers.seaweed(Path(folder)) as s3:
        print(f"S3:   {measure(mib, s3.url, s3.options)[0]:.0f} MiB more")
    with servers.fake_gcs() as gcs:
        print(f"GCS:  {measure(mib, gcs.url, gcs.options)[0]:.0f} MiB more")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        _log(int(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]))
    else:
        _all(int(sys.argv[1]))
