"""(s) Sync at a distance: many runs of few small files, from the disk to S3, again, back, and within the bucket."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from notata import Logbook
from tests.tools.benchmarks.contest import MISSING, Bench
from tests.tools.benchmarks.environments import AWS, NOTATA, S5CMD
from tests.tools.benchmarks.processes import Command, take_turns
from tests.tools.benchmarks.proxy import Proxy
from tests.tools.benchmarks.results import TIMES, Budget, Column, Result, median_of
from tests.tools.benchmarks.runs import copy_runs
from tests.tools.benchmarks.sites import BUCKET, Site, serving

SYNC, RCLONE, S5, AWSCLI = "`notata sync`", "rclone, 32 transfers", "s5cmd", "AWS CLI"
FIRST, AGAIN, BACK, BESIDE = "disk to bucket", "again", "bucket to disk", "bucket to bucket"
PROCESSOR, REQUESTS = f"{FIRST}, processor", f"{FIRST}, requests"
FILES = 5  # of each run
DISTANCE = 20

Copy = Callable[[str, str], Command]
"""Returns the command that makes the second folder equal to the first one."""


def measure(bench: Bench) -> list[Result]:
    """Measure each command from its start to its end, and count its requests."""
    sizes, folder = bench.sizes, bench.sites.folder()
    source, bucket = folder / "runs", folder / BUCKET
    bucket.mkdir()
    what = f"Copying {sizes.synced_runs} runs of {FILES} small files, {DISTANCE} ms round trip"
    title = f"{what}; {median_of(sizes.sync_rounds)}"
    seconds = [Column(step, "s") for step in (FIRST, AGAIN, BACK, BESIDE, PROCESSOR)]
    result = Result("s", title, [*seconds, Column(REQUESTS, "", ratio=False)])
    _fill(source, sizes.synced_runs)
    with serving(folder, DISTANCE) as (site, proxy):
        copies = _copies(bench, site)
        _round(result, copies, source, site, proxy)  # its times do not count: modules are compiled
        for row in result.rows.values():
            row |= {column.name: [] for column in seconds}
        for turn in range(sizes.sync_rounds):
            names = list(copies)
            first = turn % len(names)
            _round(result, {name: copies[name] for name in names[first:] + names[:first]}, source, site)
    result.refuse({name: MISSING for name in (RCLONE, S5, AWSCLI) if name not in copies})
    result.notes.append("notata and rclone compare content; s5cmd and the AWS CLI compare sizes and times.")
    _judge(result, sizes.synced_runs)
    return [result]


def _fill(folder: Path, runs: int) -> None:
    """Write runs of metadata.json, log.txt, params.yaml, manifest.json and one artifact."""
    for number in range(min(runs, 20)):
        with Logbook(f"r{number:02}", folder, {"number": number, "omega": 2.0}, heartbeat=0, code=False) as log:
            log.info("begun")
            log.json("metrics", {"error": 1 / (number + 1)})
    copy_runs(folder, runs)


def _round(result: Result, copies: Mapping[str, Copy], source: Path, site: Site, proxy: Proxy | None = None) -> None:
    """Take each step with each command, in new folders; with a proxy, count the requests of the first step."""
    new = uuid.uuid4().hex
    for name, copy in copies.items():
        there, back = f"{site.url}/{new}/{len(name)}", f"{source.parent}/{new}-{len(name)}"
        steps = {
            FIRST: copy(str(source), there),
            AGAIN: copy(str(source), there),
            BACK: copy(there, back),
            BESIDE: copy(there, f"{there}-2"),
        }
        for step, command in steps.items():
            before = proxy.passed() if proxy else None
            samples, failed = take_turns({name: command}, 1, warm=0)
            result.refuse(failed)
            if failed:
                break
            result.add(name, step, [samples[name][0].seconds])
            if step == FIRST:
                result.add(name, PROCESSOR, [samples[name][0].processor])
                if proxy and before:
                    result.add(name, REQUESTS, [(proxy.passed() - before).requests])


def _copies(bench: Bench, site: Site) -> dict[str, Copy]:
    """Return what copies, by name: notata, and the other programs that are installed."""
    endpoint, key, secret = (str(site.options[name]) for name in ("endpoint_url", "key", "secret"))
    keys = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_ENDPOINT_URL": endpoint}
    remote = f":s3,provider=Other,endpoint='{endpoint}',env_auth,no_check_bucket:"

    def notata(engine: str) -> Copy:
        def command(source: str, target: str) -> Command:
            words = [sys.executable, "-m", "notata", "sync", source, target]
            for option, url in (("--source-option", source), ("--destination-option", target)):
                words += [option, f"engine={engine}"] if url.startswith("s3://") else []
            return Command(words, keys)

        return command

    def rclone(source: str, target: str) -> list[str]:
        options = ["--checksum", "--transfers", "32", "--checkers", "32", "--config", os.devnull]
        return ["sync", *options, *(place.replace("s3://", remote) for place in (source, target))]

    def s5cmd(source: str, target: str) -> list[str]:
        return ["--endpoint-url", endpoint, "--log", "error", "sync", f"{source}/*", f"{target}/"]

    def aws(source: str, target: str) -> list[str]:
        return ["--endpoint-url", endpoint, "s3", "sync", "--only-show-errors", source, target]

    found = {SYNC: notata("s3fs"), f"{SYNC}, engine obstore": notata("obstore")}
    others = ((RCLONE, NOTATA, "rclone", rclone), (S5, S5CMD, "s5cmd", s5cmd), (AWSCLI, AWS, "aws", aws))
    for name, environment, program, arguments in others:
        path = bench.program(environment, program)
        if path:
            found[name] = _program(path, arguments, keys)
    return found


def _program(path: Path, arguments: Callable[[str, str], list[str]], keys: Mapping[str, str]) -> Copy:
    return lambda source, target: Command([path, *arguments(source, target)], keys)


def _judge(result: Result, runs: int) -> None:
    first, other = (result.median(name, FIRST) for name in (SYNC, RCLONE))
    share = first / other if first and other else None
    what = f"{SYNC} of {runs} runs to S3, {DISTANCE} ms round trip"
    result.budgets.append(Budget(f"{what}: time relative to rclone", 1.5, share, TIMES))
    result.budgets.append(Budget(f"{what}, nothing to do", 1, result.median(SYNC, AGAIN), "s"))
    requests = result.median(SYNC, REQUESTS)
    more = None if requests is None else (requests - FILES * runs) / runs
    result.budgets.append(Budget(f"{what}: requests per run beyond its files", 2, more))
