"""The time of the command at a distance: ``python -m tests.tools.shell_speed [RUNS [ROUNDS [MILLISECONDS]]]``.

A bucket of ``rclone serve s3``, at a round trip of 20 ms, contains RUNS (1000) runs of ten files; a tenth of a percent
of the lines of their logs, 20 kB each, contain the word ERROR. Each command is measured as a process from start to end,
with s3fs and with the engine obstore. So is the minimal equivalent with s3fs alone: one listing and one `cat` of the
same files, with its 10 connections and with 64. They take turns for ROUNDS (5) rounds. One more process each counts
requests and bytes in the client library, which does not see those of obstore. The table is Markdown.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from notata import Logbook
from tests import children
from tests.servers import CLOUD_ENVIRONMENT, rclone
from tests.tools.benchmarks.proxy import distant

_TEMPLATE = "template"
_LINES = 300
_ENGINE = "--storage-option=engine=obstore"


def fill(folder: Path, runs: int) -> None:
    """Write `runs` runs: copies of one with their own ids, and a parameter each."""
    with tempfile.TemporaryDirectory() as inside:
        with Logbook(_TEMPLATE, inside, params={"omega": 7.25, "dt": 0.01, "solver": {"order": 4}}) as log:
            for step in range(_LINES):
                log.info("step %d of %d: residual %.3e, energy drift %.3e", step, _LINES, 1 / (step + 1), 1e-9 * step)
            log.json("metrics", {"error": 1e-3, "steps": 1000})
            log.text("notes", "converged\n" * 10)
            log.json("config", {"grid": [64, 64], "scheme": "upwind"})
            for name in ("t", "x", "v"):
                log.array(name, np.linspace(0.0, 1.0, 200))
        files = {
            path.relative_to(Path(inside) / f"log_{_TEMPLATE}"): path.read_bytes()
            for path in Path(inside).rglob("*")
            if path.is_file()
        }
    for number in range(runs):
        name = f"run-{number:05d}"
        for key, data in files.items():
            path = folder / f"log_{name}" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            own = data.replace(_TEMPLATE.encode(), name.encode()).replace(b"7.25", f"{number}.5".encode())
            if key.name == "log.txt" and number % 3 == 0:
                own = own.replace(b"INFO step 200", b"ERROR step 200")
            path.write_bytes(own)


_BARE = """
import re, sys, json, s3fs
url, options, name, found = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3], sys.argv[4]
fs = s3fs.S3FileSystem(use_listings_cache=False, **options)
files = [path for path in fs.find(url) if path.endswith("/" + name)]
pattern = re.compile(found.encode())
for path, data in fs.cat(files).items():
    for line in data.splitlines():
        if pattern.search(line):
            sys.stdout.buffer.write(path.encode() + b":" + line + b"\\n")
"""


def commands(url: str, storage: dict[str, Any]) -> dict[str, list[str]]:
    """Return the measured commands by name: the arguments of Python."""
    from notata.cli import main

    options = [f"--storage-option={name}={value}" for name, value in storage.items()]
    measured = {
        "`notata ls`": ["ls", url],
        "`notata ls --where 'omega > 500'`": ["ls", url, "--where", "omega > 500"],
        "`notata table`": ["table", url],
        "`notata grep --logs ERROR`": ["grep", "--logs", "ERROR", url],
    }
    measured |= {f"{name}, engine obstore": [*measured[name], _ENGINE] for name in list(measured)}
    told = {
        name: ["-m", "notata", *arguments, *options]
        for name, arguments in measured.items()
        if arguments[0] in main.commands
    }
    few = json.dumps(storage)
    many = json.dumps(storage | {"config_kwargs": {"max_pool_connections": 64}})
    return told | {
        "s3fs alone: list, cat of metadata.json": ["-c", _BARE, url, few, "metadata.json", '"status"'],
        "the same, 64 connections": ["-c", _BARE, url, many, "metadata.json", '"status"'],
        "s3fs alone: list, cat of log.txt": ["-c", _BARE, url, few, "log.txt", "ERROR"],
        "the same, 64 connections, logs": ["-c", _BARE, url, many, "log.txt", "ERROR"],
    }


def measure(runs: int, rounds: int, milliseconds: float) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder) / "test-bucket/outputs", runs)  # before rclone starts, because it caches listings
        with rclone(Path(folder)) as server, distant(urlsplit(server.endpoint).port or 0, milliseconds) as port:
            options = server.options | {"endpoint_url": f"http://127.0.0.1:{port}"}
            told = compare(commands(f"{server.url}/outputs", options), rounds)
    print(f"{runs} runs, {milliseconds:g} ms round trip, {rounds} rounds")
    print("| what | seconds | fastest, slowest | of these CPU | requests | bytes received | lines |")
    print("|---|---|---|---|---|---|---|")
    print(*told, sep="\n")


def compare(measured: dict[str, list[str]], rounds: int) -> list[str]:
    """Return the lines of the table."""
    lines = {name: _timed(arguments)[2] for name, arguments in measured.items()}  # this also warms the server's cache
    samples: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in measured}
    for _ in range(rounds):
        for name, arguments in measured.items():
            for kept, sample in zip(samples[name], _timed(arguments), strict=False):
                kept.append(sample)
    told = []
    for name, arguments in measured.items():
        taken, used = samples[name]
        requests, received = ("-", "-") if _ENGINE in arguments else _counted(arguments)
        told.append(
            f"| {name} | {median(taken):.2f} | {min(taken):.2f}, {max(taken):.2f} | {median(used):.2f} "
            f"| {requests} | {received} | {lines[name]} |"
        )
    return told


def _environment() -> dict[str, str]:
    return {**os.environ, **CLOUD_ENVIRONMENT}


def _timed(arguments: list[str]) -> tuple[float, float, int]:
    """Return wall-clock seconds and CPU seconds of a process, and its number of output lines."""
    before, begun = os.times(), time.perf_counter()
    done = children.run([sys.executable, *arguments], env=_environment())
    taken, after = time.perf_counter() - begun, os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return taken, used, done.stdout.count("\n")


def _counted(arguments: list[str]) -> tuple[int, int]:
    command = [sys.executable, "-m", "tests.tools.shell_speed", "--counted", *arguments]
    done = children.run(command, env=_environment())
    requests, received = json.loads(done.stderr.splitlines()[-1])
    return int(requests), int(received)


def count(arguments: list[str]) -> None:
    """Run Python code with these arguments, and print its requests and the bytes of the replies."""
    from tests.counting import counted

    with counted() as sent, _received() as received:
        sys.argv = arguments[1:]
        if arguments[0] == "-c":
            sys.argv = ["-c", *arguments[2:]]
            exec(arguments[1], {})
        else:
            from notata.cli import main

            main(arguments[2:], standalone_mode=False)
    print(json.dumps([len(sent), sum(received)]), file=sys.stderr)


@contextmanager
def _received() -> Iterator[list[int]]:
    """Count the bytes in bodies of replies during the block."""
    import aiohttp

    sizes: list[int] = []
    original: Any = aiohttp.StreamReader.feed_data

    def feed_data(self: aiohttp.StreamReader, data: bytes, *rest: Any) -> Any:
        sizes.append(len(data))
        return original(self, data, *rest)

    setattr(aiohttp.StreamReader, "feed_data", feed_data)  # noqa: B010
    try:
        yield sizes
    finally:
        setattr(aiohttp.StreamReader, "feed_data", original)  # noqa: B010


if __name__ == "__main__":
    if sys.argv[1:2] == ["--counted"]:
        count(sys.argv[2:])
    else:
        given = [float(argument) for argument in sys.argv[1:]]
        runs, rounds, distance = [*given, *(1000.0, 5.0, 20.0)[len(given) :]]
        measure(int(runs), int(rounds), distance)
