"""(o) The start of a command: without a storage, on a disk and on S3."""

from __future__ import annotations

import json
import os
import sys
import warnings

from notata import Logbook, UnprotectedWarning
from tests.tools.benchmarks.contest import MISSING, Bench
from tests.tools.benchmarks.environments import AWS, MLFLOW, NOTATA, S5CMD
from tests.tools.benchmarks.processes import Command, take_turns
from tests.tools.benchmarks.results import Budget, Column, Result
from tests.tools.benchmarks.sites import LOCAL, QUICK, Site

HELP, DISK, CLOUD = "`notata --help`", "`notata ls` of a disk", "`notata ls` of S3"
FLOOR = "`python -c pass`"
TIME, PROCESSOR = "time", "processor"
LIMITS = ((HELP, 0.3), (DISK, 0.3), (CLOUD, 0.5))
BARE = "import sys, json, s3fs; print(s3fs.S3FileSystem(**json.loads(sys.argv[2])).find(sys.argv[1]))"


def measure(bench: Bench) -> list[Result]:
    """Measure commands for a folder with one run."""
    times = bench.sizes.starts
    title = f"The start of a command, in a folder with one run; median of {times}"
    result = Result("o", title, [Column(PROCESSOR, "s", ratio=False), Column(TIME, "s", ratio=False)])
    disk, cloud = bench.sites.at(LOCAL), bench.sites.at(QUICK)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnprotectedWarning)  # accept the fast server, which is measured and not chosen
        for site in (disk, cloud):
            Logbook("one", site.url, storage_options=site.options or None, heartbeat=0).mark_complete()
    samples, failed = take_turns(_ours(disk, cloud) | _others(bench, cloud), times)
    for name, found in samples.items():
        result.add(name, PROCESSOR, (sample.processor for sample in found))
        result.add(name, TIME, (sample.seconds for sample in found))
    result.refuse(failed)
    missing = {"s5cmd": S5CMD, "aws": AWS, "MLflow": MLFLOW}
    result.refuse({name: MISSING for name, environment in missing.items() if environment not in bench.pythons})
    for name, limit in LIMITS:
        result.budgets.append(Budget(f"{name}, processor time", limit, result.median(name, PROCESSOR), "s"))
    return [result]


def _ours(disk: Site, cloud: Site) -> dict[str, Command]:
    notata = [sys.executable, "-m", "notata"]
    storage = [f"--storage-option={name}={value}" for name, value in cloud.options.items()]
    return {
        FLOOR: Command([sys.executable, "-c", "pass"]),
        HELP: Command([*notata, "--help"]),
        DISK: Command([*notata, "ls", disk.url]),
        CLOUD: Command([*notata, "ls", cloud.url, *storage]),
        f"{CLOUD}, engine obstore": Command([*notata, "ls", cloud.url, *storage, "--storage-option=engine=obstore"]),
        "s3fs alone: `find`": Command([sys.executable, "-c", BARE, cloud.url, json.dumps(cloud.options)]),
    }


def _others(bench: Bench, cloud: Site) -> dict[str, Command]:
    """Return other commands that list the same folder, and one that only shows its help."""
    endpoint, key, secret = (cloud.options[name] for name in ("endpoint_url", "key", "secret"))
    keys = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}
    rclone = ["lsf", f":s3,provider=Other,endpoint='{endpoint}',env_auth:{cloud.url.partition('://')[2]}"]
    programs = {
        "s5cmd `ls`": (S5CMD, "s5cmd", ["--endpoint-url", endpoint, "ls", f"{cloud.url}/*"]),
        "rclone `lsf`": (NOTATA, "rclone", [*rclone, "--recursive", "--config", os.devnull]),
        "aws `s3 ls`": (AWS, "aws", ["--endpoint-url", endpoint, "s3", "ls", "--recursive", f"{cloud.url}/"]),
        "`mlflow --help`": (MLFLOW, "mlflow", ["--help"]),
    }
    found = {}
    for name, (environment, program, arguments) in programs.items():
        path = bench.program(environment, program)
        if path:
            found[name] = Command([path, *arguments], keys)
    return found
