"""The cost of the manifest on a local disk: ``python -m tests.tools.manifest_speed [ROUNDS [MIB [FOLDER]]]``.

Runs with and without a manifest take turns, so that other load on the machine affects both equally. The output has
medians and their ratio. The last lines are for one large value: the speed of hashing it alone, of storing it with and
without a manifest, and of verifying it.
"""

from __future__ import annotations

import hashlib
import itertools
import sys
import tempfile
import time
from collections.abc import Callable
from statistics import median

from notata import Logbook, LogReader

_TIMES = 10  # consecutive calls of one kind
_FILES = 100  # artifacts of a run whose end is measured


def timed(call: Callable[[], object]) -> float:
    """Return the seconds that a call takes."""
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def calls(folder: str, rounds: int) -> dict[str, tuple[float, float]]:
    """Return medians in milliseconds of a run's operations, without and with a manifest."""
    numbers = itertools.count()
    seconds: dict[str, tuple[list[float], list[float]]] = {}
    logs = [Logbook(f"calls-{kind}", folder, heartbeat=0, manifest=kind) for kind in (False, True)]
    for _ in range(rounds):
        for kind, log in enumerate(logs):
            for _ in range(_TIMES):
                name = f"m{next(numbers)}"
                taken = timed(lambda: log.json(name, {"a": 1.0}))  # noqa: B023  called at once
                seconds.setdefault("json()", ([], []))[kind].append(taken)
                taken = timed(lambda: log.info("Saved %s %s in %s", "JSON", "m", "artifacts/m.json"))  # noqa: B023
                seconds.setdefault("one line", ([], []))[kind].append(taken)
    for log in logs:
        log.mark_complete()
    for number in range(max(3, rounds // 10)):
        for kind in (False, True):
            log = Logbook(f"end-{number}-{kind}", folder, heartbeat=0, manifest=kind)
            for file in range(_FILES):
                log[f"artifacts/{file}"].write_bytes(b"x" * 1000)
            seconds.setdefault(f"end of a run of {_FILES} files", ([], []))[kind].append(timed(log.mark_complete))
    return {name: (1e3 * median(plain), 1e3 * median(noted)) for name, (plain, noted) in seconds.items()}


def large(folder: str, mib: int) -> dict[str, float]:
    """Return milliseconds for one value of `mib` MiB, the least of three."""
    data = bytes(2**20) * mib
    found: dict[str, list[float]] = {}
    for number in range(3):
        found.setdefault("sha256 alone", []).append(timed(lambda: hashlib.sha256(data)))
        for kind in (False, True):
            log = Logbook(f"large-{number}-{kind}", folder, heartbeat=0, manifest=kind)
            name = "bytes(), with a manifest" if kind else "bytes(), without"
            found.setdefault(name, []).append(timed(lambda: log.bytes("large", data)))  # noqa: B023  called at once
            log.mark_complete()
        reader = LogReader(f"{folder}/log_large-{number}-True")
        found.setdefault("verify()", []).append(timed(reader.verify))
        for kind in (False, True):
            Logbook(f"large-{number}-{kind}", folder, heartbeat=0, overwrite=True).mark_complete()
    return {name: 1e3 * min(taken) for name, taken in found.items()}


def main(rounds: int, mib: int, folder: str) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as inside:
        for name, (plain, noted) in calls(inside, rounds).items():
            print(f"{name:28} {plain:9.4f} ms  with a manifest {noted:9.4f} ms  {noted / plain:.2f}")
        for name, taken in large(inside, mib).items():
            print(f"{mib} MiB, {name:24} {taken:9.1f} ms")


if __name__ == "__main__":
    given = [*sys.argv[1:], *["200", "256", tempfile.gettempdir()][len(sys.argv) - 1 :]]
    main(int(given[0]), int(given[1]), given[2])
