"""The cost of an artifact and a log line on a local disk: ``python -m tests.tools.local_speed [ROUNDS [FOLDER]]``.

The calls are interleaved, so that other load on the machine affects all equally. The output has medians and their
ratios to a plain write and rename of the same bytes, the least that is atomic. It also covers durable runs, whose time
is mostly the disk's.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from statistics import median

from notata import Logbook, Storage

_TIMES = 10  # consecutive calls of one kind


def calls(log: Logbook, durable: Logbook) -> dict[str, Callable[[], object]]:
    """Return the measured calls by name; each writes another file of one folder, or one line."""
    numbers = itertools.count()
    content = (json.dumps({"a": 1.0}, indent=2) + "\n").encode()
    folder = str(log.artifactsdir)  # some file systems make new files cheap in one folder and not in another

    def bare() -> None:
        with open(f"{folder}/temporary", "wb") as file:
            file.write(content)
        os.replace(f"{folder}/temporary", f"{folder}/m{next(numbers)}.json")

    def synced() -> None:
        with open(f"{folder}/temporary", "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(f"{folder}/temporary", f"{folder}/m{next(numbers)}.json")
        handle = os.open(folder, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)

    def silent(log: Logbook) -> None:
        log.logger.setLevel(logging.ERROR)
        log.json(f"m{next(numbers)}", {"a": 1.0})
        log.logger.setLevel(logging.INFO)

    return {
        "bare write and rename": bare,
        "json() without its line": lambda: silent(log),
        "json()": lambda: log.json(f"m{next(numbers)}", {"a": 1.0}),
        "one line": lambda: log.info("Saved %s %s in %s", "JSON", "m", "artifacts/m.json"),
        "bare write, fsync, rename, fsync of the folder": synced,
        "durable: json() without its line": lambda: silent(durable),
        "durable: json()": lambda: durable.json(f"m{next(numbers)}", {"a": 1.0}),
        "durable: one line": lambda: durable.info("Saved %s %s in %s", "JSON", "m", "artifacts/m.json"),
    }


def measure(rounds: int, folder: str) -> dict[str, float]:
    """Return the median of each in milliseconds."""
    seconds: dict[str, list[float]] = {}
    with (
        tempfile.TemporaryDirectory(dir=folder) as inside,
        Logbook("speed", inside, heartbeat=0) as log,
        Logbook("durable", Storage(inside, durable=True), heartbeat=0) as durable,
    ):
        log.text("first", "")
        durable.text("first", "")
        measured = calls(log, durable)
        for _ in range(rounds):
            for name, call in measured.items():
                for _ in range(_TIMES):
                    begun = time.perf_counter()
                    call()
                    seconds.setdefault(name, []).append(time.perf_counter() - begun)
    return {name: 1e3 * median(taken) for name, taken in seconds.items()}


def main(rounds: int, folder: str) -> None:
    found = measure(rounds, folder)
    least = next(iter(found.values()))
    for name, taken in found.items():
        print(f"{name:48} {taken:.4f} ms  {taken / least:.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200, sys.argv[2] if len(sys.argv) > 2 else tempfile.gettempdir())
