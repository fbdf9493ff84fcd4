"""Sweep on Dask while workers are killed: ``python -m tests.tools.sweep_chaos [POINTS] [local|seaweed] [EVERY]``.

Two workers calculate the points (10 000) on a disk, then in SeaweedFS. One of a hundred points fails. After some 200
points (EVERY) a worker is killed with SIGKILL and replaced, and once the scheduler is restarted. Then plain fsspec
reads all runs, and the csv module reads index.csv: each point has one run, none is lost or dead, and the values are
right. A quiet sweep before that measures the time of the processor for each run in the driver and in the workers.
"""

from __future__ import annotations

import collections
import csv
import io
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from notata import Experiment
from notata.sweep import SweepResult, grid
from tests import servers
from tests.backends import Place
from tests.clusters import DaskCluster, dask_cluster

if TYPE_CHECKING:
    from notata import Logbook

QUIET = 1000  # points of the sweep that measures
IN_FLIGHT = 200  # points ahead of the last that ended
FAILING = 100  # one of so many points fails


def task(log: Logbook, number: int, group: str) -> dict[str, Any]:
    if number % FAILING == 7:
        raise ArithmeticError(f"no solution for {number}")
    return {"square": number**2, "group_size": len(group)}


def space(points: int) -> Any:
    return grid(number=range(points // 2), group=["a", "bb"])


def disturbed(points: int, cluster: DaskCluster, every: int) -> Iterator[dict[str, Any]]:
    """Yield the points. Kill a worker about each `every` points, and the scheduler once."""
    draw = random.Random(1)
    for number, params in enumerate(space(points)):
        if number == points // 2:
            cluster.restart_scheduler()
        elif draw.random() < 1 / every:
            cluster.kill_worker(draw.randrange(len(cluster.workers)))
        yield params


def quiet(place: Place, cluster: DaskCluster) -> str:
    """Return the milliseconds that one run takes when nothing is killed."""
    experiment = Experiment("quiet", place.url, storage_options=place.options)
    with cluster.client() as client:
        experiment.sweep(task, space(100), client)  # the workers import, and connect
        workers = [psutil.Process(worker.pid) for worker in cluster.workers]
        before = time.monotonic(), time.process_time(), *map(processor_seconds, workers)
        result = experiment.sweep(task, space(QUIET + 100)[100:], client, retries=0)
        after = time.monotonic(), time.process_time(), *map(processor_seconds, workers)
    done = result.complete + result.failed
    wall, driver, *rest = ((b - a) / done * 1000 for a, b in zip(before, after, strict=True))
    return f"{wall:.1f} ms a run; processor time: driver {driver:.1f} ms, workers {sum(rest):.1f} ms"


def processor_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def chaotic(place: Place, cluster: DaskCluster, points: int, every: int) -> SweepResult:
    """Sweep while workers are killed."""
    experiment = Experiment("chaos", place.url, storage_options=place.options)
    with cluster.client() as client, watched(cluster):
        result = experiment.sweep(task, disturbed(points, cluster, every), client, max_in_flight=IN_FLIGHT)
    experiment.write_index()
    return result


@contextmanager
def watched(cluster: DaskCluster) -> Iterator[None]:
    """Replace workers that end by themselves, as those of a killed scheduler do."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(1):
            cluster.replace_ended()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def problems(place: Place, points: int) -> Iterator[str]:
    """Yield each difference between what is stored and the plan."""
    planned = {(params["number"], params["group"]): params for params in space(points)}
    fields = metadata(place)
    found = collections.Counter((one["row"]["params"]["number"], one["row"]["params"]["group"]) for one in fields)
    yield from (f"point {point} has {number} runs" for point, number in found.items() if number != 1)
    yield from (f"point {point} has no run" for point in planned.keys() - found.keys())
    yield from (problem for one in fields for problem in problems_of_run(one))
    rows = list(csv.DictReader(io.StringIO(place.bytes("chaos/index.csv").decode(), newline=""), strict=True))
    if (listed := collections.Counter((int(row["number"]), row["group"]) for row in rows)) != found:
        yield f"index.csv has {len(listed)} points in {len(rows)} rows"
    for row in rows:
        number = int(row["number"])
        wanted = ("failed", "") if number % FAILING == 7 else ("complete", str(number**2))
        if (row["status"], row["square"]) != wanted:
            yield f"row {row} should have {wanted}"


def problems_of_run(fields: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong in a metadata.json."""
    number = fields["row"]["params"]["number"]
    status, metrics = fields["status"], fields["row"].get("metrics", {})
    if status != ("failed" if number % FAILING == 7 else "complete"):
        yield f"run {fields['run_id']} is {status}"
    if status == "complete" and metrics.get("square") != number**2:
        yield f"run {fields['run_id']} has the metrics {metrics}"
    if any(resume["after"] not in ("died", "failed") for resume in fields.get("resumes", [])):
        yield f"run {fields['run_id']} was calculated again: {fields['resumes']}"


def metadata(place: Place) -> list[dict[str, Any]]:
    """Read metadata.json of each run with plain fsspec."""
    fs = place.raw()
    paths = [path for path in fs.find(f"{place.url}/chaos/runs") if path.endswith("/metadata.json")]
    return [json.loads(data) for data in fs.cat(paths).values()]


def report(place: Place, folder: Path, points: int, every: int) -> int:
    """Run both sweeps, print what they took, and return the number of problems."""
    with dask_cluster(folder) as cluster:
        print(f"{place.name}: quiet: {quiet(place, cluster)}", flush=True)
        result = chaotic(place, cluster, points, every)
    print(f"{place.name}: {points} points in {result.seconds:.0f} s ({result.seconds / points * 1000:.1f} ms a run)")
    print(f"  {cluster.kills} workers killed, the scheduler restarted once")
    print(f"  {result.counts}")
    after = collections.Counter(resume["after"] for fields in metadata(place) for resume in fields.get("resumes", []))
    print(f"  runs resumed after {dict(after)}")
    wrong = list(problems(place, points))
    for problem in wrong[:20]:
        print(f"  WRONG: {problem}")
    print(f"  problems: {len(wrong)}", flush=True)
    return len(wrong)


def main(points: int, where: str, every: int) -> int:
    os.environ.update(servers.CLOUD_ENVIRONMENT)
    wrong = 0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in (where,) if where else ("local", "seaweed"):
            own = folder / name
            own.mkdir()
            if name == "local":
                place = Place(name, str(own / "outputs"))
            else:
                server = stack.enter_context(servers.seaweed(own))
                place = Place(name, f"{server.url}/chaos", server.options)
            wrong += report(place, own, points, every)
    return wrong


if __name__ == "__main__":
    given = [*sys.argv[1:], "", "", ""]
    sys.exit(bool(main(int(given[0] or 10_000), given[1], int(given[2] or 200))))
