"""A day of a new user, as one script: ``python -m tests.users_day BASE_DIR [STORAGE_OPTIONS as JSON]``.

SIGUSR1 warns a training job of its time limit: the job stores a checkpoint in the handler, is killed, and is resumed. A
sweep runs in four kinds of pool. Some of its runs fail, one is killed, and the best ones are removed. Then the table
must find the best run among the existing ones. Each check that fails raises an AssertionError.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import fsspec
import numpy as np

from notata import Experiment, Logbook, LogReader

__all__ = ["day"]

MODULE: Final = "tests.users_day"
STEPS: Final = 60
WARNED: Final = 20  # the step after which the batch system sends its signal
RATES: Final = [0.1, 0.2, 0.3, 0.4]
BEST: Final = 0.3
POOLS: Final = ["fork", "threads", "spawn", "futures"]
FAILS: Final = 0.4  # the rate whose run raises


# -- a training that is killed and resumed -------------------------------------------------------------------


def step_of(weights: np.ndarray[Any, Any], step: int) -> np.ndarray[Any, Any]:
    """Return the state after one step of a training; it depends on all previous steps."""
    return np.asarray(0.9 * weights + 0.1 * np.cos(weights + step))


def train(base_dir: str, options: dict[str, Any], waits: bool) -> None:
    """Train to the end, starting at the checkpoint of an earlier job if there is one."""
    log = Logbook("training", base_dir, {"steps": STEPS}, storage_options=options, resume=True, background=True)
    state: dict[str, Any] = {"step": 0, "weights": np.linspace(0.0, 1.0, 1000)}
    with suppress(FileNotFoundError):
        state = log.reader.load_pickle("checkpoint")
        log.info("Going on from step %d", state["step"])

    def store_checkpoint(*_: object) -> None:
        log.warning("The time is up at step %d", state["step"])
        log.pickle("checkpoint", state)
        log.flush()
        print("checkpoint", state["step"], flush=True)

    signal.signal(signal.SIGUSR1, store_checkpoint)
    while state["step"] < STEPS:
        state = {"step": state["step"] + 1, "weights": step_of(state["weights"], state["step"])}
        log.info("step %d", state["step"])
        log.json("metrics", {"norm": float(np.linalg.norm(state["weights"]))})
        if waits and state["step"] == WARNED:
            print("warn me", flush=True)
            while True:  # the signal may come at any moment: pause() would miss one that comes just before it
                step_of(state["weights"], 0)
    log.array("weights", state["weights"])
    log.mark_complete()


def training(base_dir: str, options: dict[str, Any]) -> None:
    """Run a job with a time limit, and the job that resumes it."""
    url = f"{base_dir}/log_training"
    arguments = [sys.executable, "-m", MODULE, "--train", base_dir, json.dumps(options)]
    with subprocess.Popen([*arguments, "waits"], stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == "warn me\n"
        job.send_signal(signal.SIGUSR1)
        assert job.stdout.readline() == f"checkpoint {WARNED}\n"
        job.kill()
    reader = LogReader(url, storage_options=options)
    assert str(reader.state.status) == "died"
    assert reader.load_pickle("checkpoint")["step"] == WARNED
    subprocess.run(arguments, check=True)
    assert str(reader.state.status) == "complete"
    expected = np.linspace(0.0, 1.0, 1000)
    for step in range(STEPS):
        expected = step_of(expected, step)
    assert np.array_equal(reader.load_array("weights"), expected)
    messages = [
        line.partition("] ")[2] for line in raw(base_dir, options).cat_file(f"{url}/log.txt").decode().split("\n")
    ]
    assert [m for m in messages if m.startswith("INFO step ")] == [f"INFO step {step}" for step in range(1, STEPS + 1)]
    assert f"WARNING The time is up at step {WARNED}" in messages
    assert reader.verify().ok


# -- a sweep -------------------------------------------------------------------------------------------------


def loss_of(pool: str, rate: float) -> float:
    """Return the loss of a run: later pools have a lower loss, so the best run is known."""
    return (rate - BEST) ** 2 + 0.001 * (len(POOLS) - POOLS.index(pool))


def run_one(experiment: Experiment, pool: str, rate: float) -> str:
    """Record one run of the sweep, in any thread or process."""
    log = experiment.add(pool=pool, rate=rate)
    with suppress(ArithmeticError), log:
        log.info("training with %g", rate)
        log.json("metrics", {"loss": loss_of(pool, rate) if rate != FAILS else -1.0})
        if rate == FAILS:
            raise ArithmeticError(f"the loss is NaN with rate {rate}")
    return log.run_id


def be_killed(experiment: Experiment) -> None:
    """Record a run with the best metrics of all, and kill it."""
    log = experiment.add(pool="killed", rate=BEST)
    log.json("metrics", {"loss": -2.0})
    log.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def of_executor(executor: Executor, work: Callable[[float], str]) -> list[str]:
    with executor:
        return list(executor.map(work, RATES))


def of_processes(method: str, work: Callable[[float], str]) -> list[str]:
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(work, RATES)


def sweep(base_dir: str, options: dict[str, Any]) -> None:
    """Run four pools, a run that is killed, runs that fail, and runs that are removed."""
    experiment = Experiment("sweep", base_dir, storage_options=options)
    ways: dict[str, Callable[[Callable[[float], str]], Iterable[str]]] = {
        "fork": partial(of_processes, "fork"),
        "threads": lambda work: of_executor(ThreadPoolExecutor(4), work),
        "spawn": partial(of_processes, "spawn"),
        "futures": lambda work: of_executor(
            ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")), work
        ),
    }
    made = {pool: list(ways[pool](partial(run_one, experiment, pool))) for pool in POOLS}
    killed = multiprocessing.get_context("spawn").Process(target=be_killed, args=(experiment,))
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL

    everything = experiment.to_dataframe()
    assert len(everything) == len(POOLS) * len(RATES) + 1
    assert everything["status"].value_counts().to_dict() == {"complete": 12, "failed": 4, "died": 1}
    complete = everything[everything["status"] == "complete"]
    best = complete.iloc[int(complete["loss"].argmin())]
    assert (best["pool"], best["rate"]) == ("futures", BEST)

    gone = [made["futures"][RATES.index(BEST)], *everything[everything["status"] != "complete"]["run_id"]]
    for run_id in gone:
        raw(base_dir, options).rm(f"{experiment.url}/runs/log_{run_id}", recursive=True)
    for frame in (experiment.to_dataframe(), experiment.select(status="complete")):
        assert set(frame["status"]) == {"complete"}
        assert not set(frame["run_id"]) & set(gone)
        best = frame.iloc[int(frame["loss"].argmin())]
        assert (best["pool"], best["rate"], best["loss"]) == ("spawn", BEST, loss_of("spawn", BEST))
    table = experiment.reader.table()
    assert {row["run_id"] for row in table} == {run_id for runs in made.values() for run_id in runs} - set(gone)


def raw(base_dir: str, options: dict[str, Any]) -> Any:
    """Return plain fsspec, with which a user removes folders."""
    protocol = base_dir.partition("://")[0] if "://" in base_dir else "file"
    return fsspec.filesystem(protocol, use_listings_cache=False, **options)


def day(base_dir: str, options: dict[str, Any]) -> None:
    """Run the whole day."""
    sweep(base_dir, options)  # first, because a pool of forked processes should start without other threads
    training(base_dir, options)


if __name__ == "__main__":
    os.chdir(Path(__file__).parents[1])
    if sys.argv[1] == "--train":
        train(sys.argv[2], json.loads(sys.argv[3]), len(sys.argv) > 4)
    else:
        day(sys.argv[1], json.loads(sys.argv[2]) if len(sys.argv) > 2 else {})
        print("a good day")
