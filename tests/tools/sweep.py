"""Fill one experiment from many processes: ``python -m tests.tools.sweep [PROCESSES] [RUNS] [URL]``.

Without a URL it uses a local disk and starts two servers: fake-gcs-server and SeaweedFS. Each process adds its runs,
some with further parameters and metrics, and some of which fail. Then plain fsspec reads the runs, the csv module reads
index.csv, and both are compared with the plan. The requests of `ExperimentReader.table` are counted with the index.csv
that the processes left, with the one of `write_index`, and without any.
"""

from __future__ import annotations

import collections
import csv
import io
import json
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

from notata import Experiment
from notata.experiment import LogbookOptions
from tests import servers
from tests.backends import Place
from tests.counting import counted
from tests.forks import forkserver

NAME = "sweep"
REASON = "residual grows, step 3\nof the outer loop"
STRAGGLER = 300.0  # seconds without any message from a process

Plan = tuple[dict[str, Any], dict[str, Any], bool]
"""Parameters of a run, its metrics, and whether it fails."""


@dataclass(frozen=True)
class Outcome:
    """The result of a sweep.

    Attributes:
        rows: Rows of index.csv.
        lost: Planned runs that are missing, as a run or as a row.
        duplicate: Surplus rows of a run.
        wrong: Cells, and values in the files of runs, that differ from the plan.
        seconds: From the start of the processes to the end of the last one.
        requests: Average number per run, without those at the end of a process; 0 without a network.
        tables: Requests of a table of all runs: with index.csv as the processes left it, after `write_index`, without
            it.
    """

    rows: int
    lost: int
    duplicate: int
    wrong: list[str]
    seconds: float
    requests: float
    tables: tuple[int, int, int]


def plan(process: int, run: int) -> Plan:
    """Return the plan of a run of a process: columns differ from run to run."""
    params: dict[str, Any] = {"process": process, "dt": (run + 1) / 8, "method": ("rk4", "2nd, order", "a_b")[run % 3]}
    metrics: dict[str, Any] = {"error": process + run / 1000, "steps": run}
    if run % 4 == 1:
        params["wind"] = -run
    if process % 5 == 2:
        params[f"only_{process}"] = None
    if run % 7 == 3:
        metrics[f"rare_{run}"] = [run, "x"]
    if run % 10 == 9:
        metrics = {}
    return params, metrics, run % 6 == 5


def plans(processes: int, runs: int) -> dict[str, Plan]:
    """Return all plans of a sweep by run."""
    return {f"{process}/{(run + 1) / 8}": plan(process, run) for process in range(processes) for run in range(runs)}


def work(place: Place, process: int, runs: int, start: Any, results: Any, options: LogbookOptions) -> None:
    """Run one process of the sweep."""
    experiment = Experiment(NAME, place.url, storage_options=place.options, **options)
    place.store().exists("warm-up")  # connect before the start
    start.wait()
    with counted() as sent:
        for number in range(runs):
            params, metrics, fails = plan(process, number)
            log = experiment.add(**params)
            assert log is not None
            if metrics:
                log.json("metrics", metrics)
            if fails:
                log.mark_failed(REASON)
            else:
                log.mark_complete()
    results.put(len(sent))


def sweep(place: Place, processes: int, runs: int, **options: Unpack[LogbookOptions]) -> Outcome:
    """Fill an experiment whose runs have these options, and check the result."""
    context = forkserver()
    start, results = context.Barrier(processes + 1), context.Queue()
    given = [(place, number, runs, start, results, options) for number in range(processes)]
    workers = [context.Process(target=work, args=arguments) for arguments in given]
    for worker in workers:
        worker.start()
    start.wait(STRAGGLER)
    begun = time.monotonic()
    requests = sum(results.get(timeout=STRAGGLER) for _ in workers)
    for worker in workers:
        worker.join()
    seconds = time.monotonic() - begun
    assert [worker.exitcode for worker in workers] == [0] * processes
    return judged(place, plans(processes, runs), seconds, requests)


def judged(place: Place, planned: dict[str, Plan], seconds: float, requests: int) -> Outcome:
    experiment = Experiment(NAME, place.url, storage_options=place.options)
    as_left = requests_of_table(experiment)
    experiment.write_index()
    after = requests_of_table(experiment)
    lines = index(place)
    rows = collections.Counter(f"{line['process']}/{line['dt']}" for line in lines)
    files = dict(runs(place))
    wrong = [problem for line in lines for problem in problems_of_row(line, planned)]
    wrong += [problem for name, found in files.items() for problem in problems_of_run(name, found, planned)]
    lost = (planned.keys() - rows.keys()) | (planned.keys() - files.keys())
    place.raw().rm_file(f"{place.url}/{NAME}/index.csv")
    tables = as_left, after, requests_of_table(experiment)
    return Outcome(len(lines), len(lost), rows.total() - len(rows), wrong, seconds, requests / len(planned), tables)


def requests_of_table(experiment: Experiment) -> int:
    with counted() as sent:
        experiment.reader.table()
    return len(sent)


def index(place: Place) -> list[dict[str, str]]:
    text = place.bytes(f"{NAME}/index.csv").decode()
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def runs(place: Place) -> Iterator[tuple[str, tuple[dict[str, Any], dict[str, Any]]]]:
    """Read metadata.json and metrics.json of each run with plain fsspec."""
    fs = place.raw()
    found = fs.cat([path for path in fs.find(f"{place.url}/{NAME}/runs") if path.endswith(".json")])
    by_run: dict[str, dict[str, Any]] = collections.defaultdict(dict)
    for path, data in found.items():
        folder, _, name = path.partition("/runs/")[2].partition("/")
        by_run[folder][name] = json.loads(data)
    for files in by_run.values():
        params = files["metadata.json"]["row"]["params"]
        metrics = files.get("artifacts/metrics.json", {})
        yield f"{params['process']}/{params['dt']}", (files["metadata.json"], metrics)


def problems_of_row(line: dict[str, str], planned: dict[str, Plan]) -> Iterator[str]:
    name = f"{line['process']}/{line['dt']}"
    if name not in planned:
        yield f"row {name} was not planned"
        return
    params, metrics, fails = planned[name]
    wanted = {column: cell(value) for column, value in {**params, **metrics}.items()}
    wanted |= {"status": "failed", "failure_reason": json.dumps(REASON)} if fails else {"status": "complete"}
    told = {column: text for column, text in line.items() if text and column not in ("run_id", "revision")}
    if told != wanted:
        yield f"row {name}: {told} is not {wanted}"


def cell(value: Any) -> str:
    return json.dumps(value) if isinstance(value, list) or value is None else str(value)


def problems_of_run(name: str, found: tuple[dict[str, Any], dict[str, Any]], planned: dict[str, Plan]) -> Iterator[str]:
    fields, stored = found
    params, metrics, fails = planned[name]
    told = fields["row"]["params"], fields["row"].get("metrics", {}), stored, fields["status"] == "failed"
    if told != (params, metrics, metrics, fails):
        yield f"run {name}: {told} is not {(params, metrics, fails)}"


def main(processes: int, count: int, url: str) -> None:
    os.environ.update(servers.CLOUD_ENVIRONMENT)
    print(
        f"| {processes} processes of {count} runs | rows | lost | duplicate | wrong | seconds | requests a run "
        "| of a table, index.csv as left | after write_index | without |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    with ExitStack() as stack:
        for place in [Place(url.partition(":")[0], f"{url}/{uuid.uuid4().hex}")] if url else started(stack):
            done = sweep(place, processes, count)
            figures = f"{done.rows} | {done.lost} | {done.duplicate} | {len(done.wrong)} | {done.seconds:.1f}"
            tables = " | ".join(str(requests) for requests in done.tables)
            print(f"| {place.name} | {figures} | {done.requests:.1f} | {tables} |", flush=True)


def started(stack: ExitStack) -> Iterator[Place]:
    """Yield a local disk and the servers, each started when needed."""
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    yield Place("local", f"{folder}/disk")
    with servers.fake_gcs() as gcs:
        yield Place("gcs", f"{gcs.url}/{uuid.uuid4().hex}", gcs.options)
    Path(folder, "weed").mkdir()
    with servers.seaweed(Path(folder, "weed")) as s3:
        yield Place("seaweed", f"{s3.url}/{uuid.uuid4().hex}", s3.options)


if __name__ == "__main__":
    given = [*sys.argv[1:], *["32", "50", ""][len(sys.argv) - 1 :]]
    main(int(given[0]), int(given[1]), given[2])
