"""Runs over a network that fails: ``python -m tests.tools.network [ROUNDS [CASES [SEED]]]``.

In each round a run is recorded through its own proxy (`tests.faulty_proxy`): values of many kinds and sizes, some above
8 MiB, appends, parameters, fields of metadata.json, log lines, and some flushes. The weather changes from call to call:
clear; one request that fails; gusts, in which two of five requests fail; and outages, in which all do, by one of 15
faults. Connections are reset or closed before the request arrives, before it is executed, or afterwards, so that the
reply is lost; requests and replies are cut off halfway; the server is silent at each of these points; or it replies 500
or 503, though it may have executed the request. Then the run is ended in clear weather, and plain fsspec reads
everything past the proxy:

* everything that a returned call wrote is stored, whole, once; in the background, if a later `flush` returned or the
  run says ``complete``;
* after a call that raised, the previous or the new content is stored, whole;
* each error is one of notata's and names the key, and none says that another writer has the run;
* no call, including `flush`, took longer than eight times the limit of a request of its size, plus ten seconds;
* the log has each line once, in order, although its appends failed too;
* metadata.json agrees with the logbook: ``complete``, or ``failed`` if a background write was lost.

One fault is left out because fake-gcs-server does not support it: on GCS no reply to a part of a large upload is lost.
The part would be sent again, and the emulator, unlike GCS, would store it twice.

Cases, separated by commas: ``s3``, ``s3-background`` on SeaweedFS; ``gcs``, ``gcs-background`` on fake-gcs-server. A
row of the table shows the rounds; the calls; the requests that met a fault; the calls that returned, and that raised;
and the slowest call as a share of its limit. The other columns must be 0: files lost, files that are neither old nor
new, visible debris, lines lost or doubled, wrong errors, calls beyond their limit, and other errors. A request may take
2 seconds here, plus one for each 5 MB; the client libraries pause a twentieth of their usual time between attempts.
Each error is printed with the plan of its round. The exit code is 1 after any error.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import logging
import os
import random
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import pytest

from notata import BatchError, DeadlineError, Logbook, NotataError, RunDisplacedError
from notata.store.backends import gcs, remote
from tests import servers
from tests.backends import Place
from tests.faulty_proxy import DONE, FAULTS, FaultyProxy, Plan, faulty
from tests.tools.workload import ROWS, RUN, Fate, Problem, Step, judged, read, steps

T = TypeVar("T")

__all__ = ["CASES", "TIMEOUT", "Tally", "behind", "hurried", "outing"]

STEPS: Final = 40
FLUSHES: Final = 8  # steps between flushes
AT_ONCE: Final = 8  # concurrent rounds, because they spend most of their time waiting
TIMEOUT: Final = 2.0
CASES: Final = {"s3": False, "s3-background": True, "gcs": False, "gcs-background": True}
DEBUG: Final = {"artifacts/debug/traceback.txt", "artifacts/debug/failure.json"}
OWN: Final = {"metadata.json", "params.yaml", "log.txt", "manifest.json", ROWS}

_REQUESTS: Final = 8  # consecutive requests of a call at most: a multipart upload and its clean-up
_SLACK: Final = 10.0  # seconds
_TRIES: Final = 20  # of the end of a run
_FASTER: Final = 5e6  # expected bytes per second, higher than usual so that tests of large requests are short
_WRONG: Final = ("lost", "changed", "debris", "line", "error", "deadline", "state")


@dataclass
class Tally:
    """The results of the rounds of one case."""

    rounds: int = 0
    faults: int = 0
    returned: int = 0
    raised: int = 0
    slowest: float = 0.0
    problems: list[str] = field(default_factory=list)
    wrong: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)

    def add(self, other: Tally) -> None:
        self.rounds += other.rounds
        self.faults += other.faults
        self.returned += other.returned
        self.raised += other.raised
        self.slowest = max(self.slowest, other.slowest)
        self.problems += other.problems
        self.wrong += other.wrong
        self.kinds += other.kinds

    def row(self, name: str) -> str:
        calls = [self.rounds, self.returned + self.raised, self.faults, self.returned, self.raised]
        wrong = [self.wrong[kind] for kind in _WRONG]
        return f"| {name} | {' | '.join(map(str, calls))} | {self.slowest:.0%} | {' | '.join(map(str, wrong))} |"


HEAD: Final = (
    "| case | rounds | calls | requests that met a fault | returned | raised | slowest | files lost "
    "| neither old nor new | debris | lines lost or twice | wrong errors | over the limit | else wrong |\n"
    + "|---" * 14 + "|"
)  # fmt: skip


# -- weather -------------------------------------------------------------------------------------------------


def weather(rng: random.Random) -> Plan:
    """Choose the faults of the requests of one call."""
    kind, fault = rng.choices(["clear", "one", "gusts", "outage"], [35, 25, 25, 15])[0], rng.choice(list(FAULTS))
    if kind == "clear":
        return lambda request: ""
    if kind == "outage":
        return lambda request: fault
    if kind == "gusts":
        return lambda request: rng.choice(list(FAULTS)) if rng.random() < 0.4 else ""
    coming = iter([fault])
    return lambda request: next(coming, "")


def behind(place: Place, proxy: FaultyProxy) -> Place:
    """Return a place, reached through a proxy."""
    return Place(place.name, place.url, {**place.options, "endpoint_url": f"http://127.0.0.1:{proxy.port}"})


def of_backend(name: str, plan: Plan) -> Plan:
    """Return the plan without faults that make a client repeat a part, which fake-gcs-server would store twice."""

    def chosen(request: str) -> str:
        fault = plan(request)
        return "reset" if name == "gcs" and "upload_id=" in request and fault in DONE else fault

    return chosen


@contextmanager
def hurried(pause: float = 0.05) -> Iterator[None]:
    """Shorten the time limit of large requests, and the pause between attempts to this fraction."""
    endpoint, retry = (importlib.import_module(name) for name in ("aiobotocore.endpoint", "gcsfs.retry"))

    async def endpoint_sleep(self: Any, seconds: float) -> None:
        await asyncio.sleep(pause * seconds)

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(pause * seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote, "SLOWEST", _FASTER)
        patch.setattr(endpoint.AioEndpoint, "_sleep", endpoint_sleep)
        patch.setattr(retry, "asyncio", SimpleNamespace(sleep=sleep))
        patch.setattr(gcs, "asyncio", SimpleNamespace(sleep=sleep))
        yield


# -- a round -------------------------------------------------------------------------------------------------


class Outing:
    """One round: a run that is recorded while requests fail."""

    def __init__(self, place: Place, proxy: FaultyProxy, plan: str, *, background: bool, timeout: float) -> None:
        self.direct, self.place, self.proxy = place, behind(place, proxy), proxy
        self.plan, self.background, self.timeout = plan, background, timeout
        self.rng = random.Random(f"weather/{plan}")
        self.tally = Tally(rounds=1)
        self.taken: list[Step] = []
        self.kept: set[int] = set()
        self.pending: set[int] = set()  # returned, but not confirmed yet

    def log(self) -> Logbook:
        return self.place.logbook(
            RUN, timeout=self.timeout, background=self.background, heartbeat=0, environment=False, overwrite=True
        )

    def run(self, count: int, *, large: float) -> Tally:
        self.proxy.plan = of_backend(self.place.name, weather(self.rng))
        while (log := self.call("metadata.json", 0, self.log)) is None:  # in clear weather it starts eventually
            self.proxy.plan = lambda request: ""
        for step in itertools.islice(steps(self.plan, 0, large=large), count):
            self.proxy.plan = of_backend(self.place.name, weather(self.rng))
            self.taken.append(step)
            self.step(log, step)
            if step.number % FLUSHES == FLUSHES - 1:
                self.flush(log)
        self.proxy.plan = lambda request: ""
        self.end(log)
        self.tally.faults = self.proxy.met.total() - self.proxy.met[""]
        self.tally.problems = [f"{self.place.name}, {self.plan}: {problem}" for problem in self.tally.problems]
        return self.tally

    def step(self, log: Logbook, step: Step) -> None:
        def work() -> bool:
            step.take(log)
            return True

        queued = self.background and step.how not in ("meta", "append")
        if self.call(step.key, len(step.data), work):
            (self.pending if queued else self.kept).add(step.number)

    def flush(self, log: Logbook) -> None:
        def work() -> bool:
            log.flush()
            return True

        size = sum(len(step.data) for step in self.taken if step.number in self.pending)
        if self.call("log.txt", size, work):
            self.kept |= self.pending
            self.pending = set()

    def call(self, key: str, size: int, work: Callable[[], T]) -> T | None:
        """Return the result of a call; None if it raised an error, which is allowed."""
        begun = time.monotonic()
        result: T | None = None
        try:
            result = work()
        except Exception as error:
            self.tally.raised += 1
            self.look_at(error, key)
        else:
            self.tally.returned += 1
        allowed = _REQUESTS * (self.timeout + size / _FASTER) + _SLACK
        share = (time.monotonic() - begun) / allowed
        self.tally.slowest = max(self.tally.slowest, share)
        if share > 1:
            self.wrong(Problem("deadline", f"{key}: {share * allowed:.1f} seconds, of {allowed:.1f}"))
        return result

    def look_at(self, error: Exception, key: str) -> None:
        """Check an error; a write that was lost in the background is no longer pending."""
        self.tally.kinds[type(error).__name__] += 1
        if isinstance(error, BatchError):
            lost = {getattr(one, "key", None) for one in error.exceptions}
            known = {step.key for step in self.taken}
            if not lost <= known:
                self.wrong(Problem("error", f"{key}: a batch of {lost - known}: {error!r}"))
            self.pending -= {step.number for step in self.taken if step.key in lost}
        elif not isinstance(error, NotataError) or not _names(error, key):
            self.wrong(Problem("error", f"{key}: {type(error).__name__} of {getattr(error, 'key', None)}: {error}"))
        if isinstance(error, RunDisplacedError):
            self.wrong(Problem("error", f"{key}: {error}"))

    def end(self, log: Logbook) -> None:
        """End the run in clear weather; then check it."""
        try:
            self._complete(log)
            status, others = "complete", OWN
            self.kept |= self.pending
        except BatchError as error:
            self.look_at(error, "")
            status, others = "failed", OWN | DEBUG
            self.kept |= self.pending
        except Exception as error:
            self.wrong(Problem("state", f"the run could not be ended in clear weather: {error!r}"))
            return
        fates = [Fate(step, step.number in self.kept) for step in self.taken]
        files = read(self.direct)
        for problem in judged(files, fates, {0: self.taken[-1].number}, torn=False, others=others):
            self.wrong(problem)
        if log.status != status or f'"status": "{status}"'.encode() not in files["metadata.json"]:
            self.wrong(Problem("state", f"the run is {log.status}, to be {status}; {files['metadata.json']!r}"))

    @staticmethod
    def _complete(log: Logbook) -> None:
        """Complete the run; on a busy machine, the short time limit may end even some requests in clear weather."""
        for _ in range(_TRIES):
            with suppress(DeadlineError):
                return log.mark_complete()
        return log.mark_complete()

    def wrong(self, problem: Problem) -> None:
        self.tally.wrong[problem.kind] += 1
        self.tally.problems.append(str(problem))


def _names(error: NotataError, key: str) -> bool:
    """Return True if an error is about this file; claiming a run also lists its folder."""
    known = {key, ROWS} if key == "log.txt" else {key}  # a flush stores the lines and the rows
    return (error.key in known and str(error.key) in str(error)) or (error.key is None and key == "metadata.json")


def outing(
    place: Place, plan: str, *, background: bool, timeout: float, count: int = STEPS, large: float = 0.04
) -> Tally:
    """Run one round through its own proxy."""
    with faulty(urlsplit(str(place.options["endpoint_url"])).port or 80) as proxy:
        return Outing(place, proxy, plan, background=background, timeout=timeout).run(count, large=large)


# -- the command ---------------------------------------------------------------------------------------------


def case(name: str, rounds: int, seed: str) -> Tally:
    tally, backend = Tally(), name.partition("-")[0]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(servers.seaweed(folder) if backend == "s3" else servers.fake_gcs())

        def one(number: int) -> Tally:
            place = Place(backend, f"{server.url}/{uuid.uuid4().hex}", server.options)
            plan = f"{seed}/{name}/{number}"
            found = outing(place, plan, background=CASES[name], timeout=TIMEOUT)
            place.store().clear()
            return found

        with ThreadPoolExecutor(AT_ONCE) as pool:
            for found in pool.map(one, range(rounds)):
                tally.add(found)
    return tally


def command(rounds: int, names: list[str], seed: str) -> int:
    """Run all rounds of the cases; return the exit code."""
    os.environ.update(servers.CLOUD_ENVIRONMENT)
    logging.getLogger().addHandler(logging.NullHandler())  # the client libraries log many of the faults
    print(f"seed {seed}\n\n{HEAD}", flush=True)
    tallies = {}
    with hurried():
        for name in names:
            tallies[name] = case(name, rounds, seed)
            print(tallies[name].row(name), flush=True)
    print()
    for name, tally in tallies.items():
        print(f"{name}: raised {', '.join(f'{kind} {count}' for kind, count in tally.kinds.most_common())}")
    problems = [problem for tally in tallies.values() for problem in tally.problems]
    print(*["", *problems], sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    rounds, chosen, seed = [*sys.argv[1:], *["24", ",".join(CASES), uuid.uuid4().hex[:8]][len(sys.argv) - 1 :]]
    sys.exit(command(int(rounds), chosen.split(","), seed))
