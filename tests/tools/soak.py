"""Long runs: ``python -m tests.tools.soak [ARTIFACTS [LINES [CASES]]]`` measures a run of very many calls.

Each case is a run in a separate process that stores ARTIFACTS JSON artifacts, each with a line, or LINES lines; to S3
(SeaweedFS, in the background) a twentieth of the artifacts and a fifth of the lines. The process reports its resident
memory, open files and threads two hundred times from the first call to the last; then plain fsspec counts what is
stored.

Cases, separated by commas: ``artifacts``, ``lines``, ``s3-artifacts``, ``s3-lines``. A row of the table shows the
calls; the seconds they took; resident memory after a fifth of them, and after the last; its growth in between, in bytes
per call, by least squares; the most open files and threads from then on, beside those after that fifth; the number
missing or stored twice, which must be 0; and whether `LogReader.verify` agrees with the manifest, if there is one. In a
bucket a run keeps up to 5 MiB of its log in memory, to append to it with one request.

The exit code is 1 if anything is missing, doubled or different from the manifest; if memory grows by more than 1 KiB
per artifact or 16 bytes per line (2 KiB and 256 bytes to S3, which has many connections); or if open files or threads
grow at all (to S3, by more than the connections of a burst). With few calls the memory says little, because a page has
4 KiB.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from notata import Logbook, LogReader
from tests import servers
from tests.backends import Place

__all__ = ["Sample", "artifact", "growth", "line", "sample", "taken"]

SAMPLES: Final = 200
WARM: Final = 0.2  # share of the calls after which lasting buffers exist
LIMITS: Final = {"artifacts": 1024.0, "lines": 16.0, "s3-artifacts": 2048.0, "s3-lines": 256.0}  # bytes per call
BURST: Final = 70  # connections in s3fs's pool, and some threads
RUN: Final = "soak"

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_LINE: Final = re.compile(r"\[[-+0-9T:]{19,25}\] INFO step (\d+)")


@dataclass(frozen=True)
class Sample:
    """The resources of a process after some calls.

    Attributes:
        calls: Calls made so far.
        memory: Resident memory in bytes.
        files: Open files, including sockets.
        threads: Threads of the operating system.
    """

    calls: int
    memory: int
    files: int
    threads: int


def sample(calls: int) -> Sample:
    """Measure this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Sample(calls, pages * _PAGE, len(os.listdir("/proc/self/fd")) - 1, len(os.listdir("/proc/self/task")))


def artifact(log: Logbook, number: int) -> None:
    log.json(f"steps/{number // 1000}/{number % 1000}", {"step": number, "loss": 1 / (number + 1)})


def line(log: Logbook, number: int) -> None:
    log.info("step %d", number)


def taken(log: Logbook, call: Callable[[Logbook, int], None], count: int) -> list[Sample]:
    """Make `count` calls, and measure this process in between."""
    step = max(1, count // SAMPLES)
    found = [sample(0)]
    for number in range(count):
        call(log, number)
        if number % step == step - 1:
            found.append(sample(number + 1))
    return found


def growth(samples: list[Sample]) -> float:
    """Return the growth of memory in bytes per call after warm-up: the slope of a line through the samples."""
    warm = [one for one in samples if one.calls >= WARM * samples[-1].calls]
    slope, _ = np.polyfit([one.calls for one in warm], [one.memory for one in warm], 1)
    return float(slope)


# -- a case --------------------------------------------------------------------------------------------------


def main(what: str, count: str, url: str, options: str) -> None:
    """Record the run in a separate process, and report its samples."""
    call = artifact if what.endswith("artifacts") else line
    given = json.loads(options)
    with Logbook(RUN, url, storage_options=given, background=bool(given)) as log:
        begun = time.monotonic()
        samples = taken(log, call, int(count))
        log.flush()
        seconds = time.monotonic() - begun
    print(json.dumps({"seconds": seconds, "samples": [asdict(one) for one in samples]}))


def measured(what: str, count: int, place: Place) -> tuple[float, list[Sample]]:
    """Run a case; return its seconds and samples."""
    command = [
        sys.executable,
        "-m",
        "tests.tools.soak",
        "--case",
        what,
        str(count),
        place.url,
        json.dumps(place.options),
    ]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, check=True)
    told = json.loads(done.stdout)
    return float(told["seconds"]), [Sample(**one) for one in told["samples"]]


def wrong(what: str, count: int, place: Place) -> int:
    """Return how many artifacts and lines are missing or doubled, by plain fsspec."""
    text = place.bytes(f"log_{RUN}/log.txt").decode()
    if what.endswith("lines"):
        numbers = Counter(int(found[1]) for found in map(_LINE.fullmatch, text.splitlines()) if found)
        return sum(numbers[number] != 1 for number in range(count)) + len(numbers.keys() - range(count))
    names = Counter(name for name in place.names() if "/artifacts/" in name)
    lines = Counter(one.rpartition(" in ")[2] for one in text.splitlines() if "] INFO Saved " in one)
    wanted = [f"artifacts/steps/{number // 1000}/{number % 1000}.json" for number in range(count)]
    others = names.keys() - {f"log_{RUN}/{key}" for key in wanted}
    return sum((names[f"log_{RUN}/{key}"], lines[key]) != (1, 1) for key in wanted) + len(others)


def verified(place: Place) -> str:
    """Return the result of verifying the run; a dash if there is no manifest."""
    verify: Any = getattr(LogReader(f"{place.url}/log_{RUN}", storage_options=place.options), "verify", None)
    if verify is None:
        return "-"
    return "yes" if verify().ok else "NO"


def row(what: str, count: int, place: Place) -> tuple[str, bool]:
    """Return a row of the table, and whether the case passed."""
    seconds, samples = measured(what, count, place)
    warm = [one for one in samples if one.calls >= WARM * count]
    first, slope, missing, holds = warm[0], growth(samples), wrong(what, count, place), verified(place)
    files, threads = max(one.files for one in warm), max(one.threads for one in warm)
    cells = [
        what, f"{count:,}", f"{seconds:.0f}", f"{first.memory / 1e6:.1f} MB", f"{samples[-1].memory / 1e6:.1f} MB",
        f"{slope:.1f}", f"{files} ({first.files})", f"{threads} ({first.threads})", missing, holds,
    ]  # fmt: skip
    steady = max(files - first.files, threads - first.threads) <= (BURST if place.bucket else 0)
    well = steady and not missing and holds != "NO" and slope <= LIMITS[what]
    return f"| {' | '.join(map(str, cells))} |", well


def command(artifacts: int, lines: int, names: list[str]) -> int:
    """Run all cases; return the exit code."""
    os.environ.update(servers.CLOUD_ENVIRONMENT)
    counts = {"artifacts": artifacts, "lines": lines, "s3-artifacts": artifacts // 20, "s3-lines": lines // 5}
    print("| case | calls | seconds | memory, warm | at the end | bytes a call | most open files | threads ", end="")
    print(f"| missing or twice | verified |\n{'|---' * 10}|", flush=True)
    all_well = True
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if any(name.startswith("s3") for name in names):
            (folder / "weed").mkdir()
            server = stack.enter_context(servers.seaweed(folder / "weed"))
        for name in names:
            bucket = name.startswith("s3")
            place = (
                Place("s3", f"{server.url}/{name}", server.options) if bucket else Place("local", f"{folder}/{name}")
            )
            text, well = row(name, counts[name], place)
            all_well &= well
            print(text, flush=True)
    return 0 if all_well else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--case"]:
        main(*sys.argv[2:])
    else:
        defaults = ["100000", "1000000", "artifacts,lines,s3-artifacts,s3-lines"]
        given = [*sys.argv[1:], *defaults[len(sys.argv) - 1 :]]
        sys.exit(command(int(given[0]), int(given[1]), given[2].split(",")))
