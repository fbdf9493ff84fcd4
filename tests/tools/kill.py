"""Runs that are killed, and what is left of them: ``python -m tests.tools.kill [ROUNDS [CASES [SEED]]]``.

In each round a script records a run, from one thread or several: values of many kinds and sizes, some beyond 8 MiB,
most in place of earlier ones; appends, parameters, fields of metadata.json, lines of the log. It tells each call before
it makes it, and each that returned. At a random moment it gets SIGKILL. Then everything that lies there is read by
plain fsspec, and compared with what was told:

* each file is there whole, as the last call that returned left it, or one that had begun since; a call returned when
  its promise says so (in the background: when a `flush` returned that came after it);
* nothing else is visible, but names that begin with ``.notata-``, and those not in a listing of `LogReader`;
* metadata.json and params.yaml can be read, the status is ``initialized``, and `LogReader` says ``died``;
* the log has every line that was promised, once, in order: on a local disk when the call returned, else when a `flush`
  did. On a local disk the last line, and the last piece of a file that was appended to, may be there in part.

Last the run is resumed and completed by this process; all of that must hold then too, and so must its manifest, by
`LogReader.verify`.

A run that is mirrored is looked at twice: its folder as above, and its copy in a bucket. There each file is whole, as
some call left it; what was there when `mirror.flush` returned is not lost; and the log is the beginning of the run's
own. Then `notata.sync` makes the copy equal to the folder, byte by byte; and so does the mirror of the run that is
resumed, whose copy says ``complete``.

In the cases of ``again`` the script begins its run over and over, with ``overwrite=True``, stores a few files, and
completes it. There ``complete`` is to mean all files of one run, and of none before the last that was completed;
``initialized`` nothing of an earlier one; and while old files are removed it says ``replacing``. This process begins it
once more.

Cases, some of them by commas: ``local``; ``durable``, the same with fsync; ``s3`` and ``s3-background`` on
SeaweedFS; ``gcs`` and ``gcs-background`` on fake-gcs-server; ``mirror``, from a local disk to SeaweedFS; ``again`` on a
local disk, ``s3-again`` on SeaweedFS, in the background.

A row of the table has the rounds; those killed before the run was claimed; the calls whose effect was promised; those
that had begun and were not promised (any of their bytes, or none, may be there); then what must be 0: files lost, files
that are neither old nor new, visible debris, log lines lost, and other things wrong; and, for information, hidden
leftovers (temporary files of a disk, open multipart uploads of S3), and runs that were resumed and completed. Each
thing wrong is printed with its round, which ``SEED`` repeats up to the moment; the exit code is 1 then.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from notata import Logbook, LogReader, MirrorStorage, RunMissingError, Storage, sync
from tests import servers
from tests.backends import Place
from tests.nursery import Script
from tests.tools.workload import RUN, Fate, Problem, judged, read, steps

__all__ = ["CASES", "Case", "Tally", "kill"]


SCRIPT: Final = "tests.tools.kill"
OWN: Final = {"metadata.json", "params.yaml", "log.txt", "manifest.json"}
_PARTS: Final = 5  # files of a run that is begun over and over, besides one whose name is the same in each
_WRONG: Final = ("lost", "changed", "debris", "line", "state")


@dataclass(frozen=True)
class Case:
    """How the runs of a case are kept.

    Attributes:
        name: Of the case.
        backend: ``local``, ``s3`` or ``gcs``.
        arguments: Of `Logbook`.
        flushes: A flush comes after so many steps.
        again: Whether a run begins over and over.
        mirror: Of which backend the place is that it is mirrored to, if it is.
    """

    name: str
    backend: str
    arguments: dict[str, Any] = field(default_factory=dict)
    flushes: int = 8
    again: bool = False
    mirror: str = ""

    @property
    def background(self) -> bool:
        return bool(self.arguments.get("background"))


CASES: Final = {
    case.name: case
    for case in (
        Case("local", "local"),
        Case("durable", "local", {"durable": True}),
        Case("mirror", "local", flushes=3, mirror="s3"),
        Case("again", "local", again=True),
        Case("s3", "s3"),
        Case("s3-background", "s3", {"background": True}, 3),
        Case("s3-again", "s3", {"background": True}, again=True),
        Case("gcs", "gcs"),
        Case("gcs-background", "gcs", {"background": True}, 3),
    )
}


@dataclass
class Tally:
    """What came of the rounds of one case."""

    rounds: int = 0
    unclaimed: int = 0
    promised: int = 0
    begun: int = 0
    aside: int = 0
    resumed: int = 0
    problems: list[str] = field(default_factory=list)
    wrong: Counter[str] = field(default_factory=Counter)

    def row(self, name: str) -> str:
        wrong = [self.wrong[kind] for kind in _WRONG]
        figures = [self.rounds, self.unclaimed, self.promised, self.begun, *wrong, self.aside, self.resumed]
        return f"| {name} | {' | '.join(str(figure) for figure in figures)} |"


HEAD: Final = (
    "| case | rounds | killed before the claim | calls promised | under way | files lost | neither old nor new "
    "| debris | lines lost | else wrong | hidden leftovers | resumed and completed |\n" + "|---" * 12 + "|"
)


# -- the script ----------------------------------------------------------------------------------------------


def tell(what: str, *numbers: int) -> None:
    """One line, whole or not at all."""
    os.write(1, (" ".join([what, *map(str, numbers)]) + "\n").encode())


def main(url: str, options: str, arguments: str, plan: str = "", threads: str = "", flushes: str = "") -> None:
    """Record a run until the end, which comes from outside; without a plan, one run after the other."""
    tell("starting")
    if not plan:
        again(url, options, arguments)
    base, given = place_of(url, options, arguments)
    log = Logbook(RUN, base, {"plan": plan}, **given)
    tell("claimed")
    for thread in range(1, int(threads)):
        threading.Thread(target=work, args=(log, plan, thread, int(flushes)), daemon=True).start()
    work(log, plan, 0, int(flushes))


def place_of(url: str, options: str, arguments: str) -> tuple[Storage, dict[str, Any]]:
    """The base folder of the script's runs, and the other arguments of `Logbook`."""
    given = json.loads(arguments)
    base = Storage(url, json.loads(options), durable=given.pop("durable", False))
    if "mirror" in given:
        given["mirror"] = MirrorStorage(*given["mirror"])
    return base, given


def again(url: str, options: str, arguments: str) -> None:
    """Begin a run, complete it, and begin it over, until the end."""
    for number in itertools.count():
        tell("begun", 0, number)
        params = {"generation": number}
        base, given = place_of(url, options, arguments)
        with Logbook(RUN, base, params, overwrite=True, **given) as log:
            log.text("same", str(number))
            for part in range(_PARTS):
                log.text(f"{number}/{part}", str(number))
                tell("stored", part, number)
            log.info("generation %d", number)
        tell("returned", 0, number)


def work(log: Logbook, plan: str, thread: int, flushes: int) -> None:
    for step in itertools.islice(steps(plan, thread), 1000):
        tell("begun", thread, step.number)
        step.take(log)
        tell("returned", thread, step.number)
        if step.number % flushes == flushes - 1:
            log.flush()
            if log.mirror is not None:
                log.mirror.flush()
            tell("flushed", thread, step.number)


# -- a round -------------------------------------------------------------------------------------------------


@dataclass
class Told:
    """What a script told before it was killed: by thread, the last step of each kind."""

    claimed: bool = False
    last: dict[str, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))

    def hear(self, line: str) -> None:
        what, *numbers = line.split()
        if what == "claimed":
            self.claimed = True
        elif what != "starting":
            self.last[what][int(numbers[0])] = int(numbers[1])

    def fates(self, plan: str, case: Case) -> list[Fate]:
        """What is known of each step: in the background, parameters and files are kept once they are flushed."""
        found = []
        for thread, last in sorted(self.last["begun"].items()):
            for step in itertools.islice(steps(plan, thread), last + 1):
                promised = "flushed" if case.background and step.how not in ("meta", "append") else "returned"
                found.append(Fate(step, step.number <= self.last[promised].get(thread, -1)))
        return found

    def lines(self, case: Case) -> dict[int, int]:
        return self.last["returned" if case.backend == "local" else "flushed"]


def kill(case: Case, place: Place, plan: str, tally: Tally, copy: Place | None = None) -> None:
    """One round, in an empty place, and one for the copy where there is to be one."""
    rng = random.Random(f"moment/{plan}")
    threads = rng.choice([1, 1, 3])
    arguments = {**case.arguments, **_mirroring(copy)}
    given = [place.url, json.dumps(place.options), json.dumps(arguments)]
    script = Script(SCRIPT, ["--script", *given, *([] if case.again else [plan, str(threads), str(case.flushes)])])
    events = 1 if rng.random() < 0.15 else int(10 ** rng.uniform(0.3, 2.1))  # it is killed after so many, and a while
    heard = [script.stdout.readline() for _ in range(events)]
    time.sleep(10 ** rng.uniform(-5, -1.5 if events > 1 else -1))
    script.send_signal(signal.SIGKILL)
    rest, errors = script.communicate()
    told = Told()
    for line in [*heard, *rest.splitlines(keepends=True)]:
        if line.endswith("\n"):
            told.hear(line)
    tally.rounds += 1
    tally.unclaimed += not (told.claimed or told.last["stored"])
    look = _looked_at_again(place, told, tally) if case.again else _looked_at(case, place, copy, told, plan, tally)
    problems = list(look)
    if script.returncode != -signal.SIGKILL:
        problems.append(Problem("state", f"the script ended by itself, with {script.returncode}: {errors}"))
    tally.wrong.update(problem.kind for problem in problems)
    tally.problems += [f"{case.name}, {plan}, after {events} events: {problem}" for problem in problems]


def _mirroring(copy: Place | None) -> dict[str, Any]:
    return {} if copy is None else {"mirror": [copy.url, copy.options]}


def _looked_at(case: Case, place: Place, copy: Place | None, told: Told, plan: str, tally: Tally) -> Iterator[Problem]:
    fates, lines = told.fates(plan, case), told.lines(case)
    tally.promised += sum(fate.kept for fate in fates)
    tally.begun += sum(not fate.kept for fate in fates)
    torn = case.backend == "local"
    files = read(place)
    tally.aside += sum(_hidden(key) for key in files) + _open_uploads(place)
    yield from judged(files, fates, lines, torn=torn, others=OWN)
    yield from _state(case, place, files, told)
    if copy is not None and "metadata.json" in files:  # else there is no run yet
        yield from _copied(place, copy, files, fates, told)
    yield from _resumed(place, copy, tally)
    after = read(place)
    yield from judged(after, fates, lines, torn=torn, others=OWN | {"artifacts/resumed.txt"})
    yield from _completed(after)
    if copy is not None:
        yield from _equal(after, read(copy), "the mirror of the run that was resumed")


def _copied(place: Place, copy: Place, files: dict[str, bytes], fates: list[Fate], told: Told) -> Iterator[Problem]:
    """The copy as the mirror left it, and as `sync` makes it."""
    there = read(copy)
    flushed = told.last["flushed"]
    kept = [Fate(fate.step, fate.step.number <= flushed.get(fate.step.thread, -1)) for fate in fates]
    for problem in judged(there, kept, flushed, torn=True, others=OWN):
        yield Problem(problem.kind, f"in the copy: {problem.what}")
    if not files.get("log.txt", b"").startswith(there.get("log.txt", b"")):
        yield Problem("line", "the copy's log is not the beginning of the run's own")
    sync(f"{place.url}/log_{RUN}", f"{copy.url}/log_{RUN}", destination_options=copy.options)
    yield from _equal(files, read(copy), "sync")


def _equal(files: dict[str, bytes], there: dict[str, bytes], what: str) -> Iterator[Problem]:
    """Every file that is not hidden is the same on both sides."""
    for key in files.keys() | there.keys():
        if not _hidden(key) and files.get(key) != there.get(key):
            sizes = [None if (data := side.get(key)) is None else len(data) for side in (files, there)]
            yield Problem("lost", f"{key} in the copy is not as in the run after {what}: bytes {sizes}")


def _looked_at_again(place: Place, told: Told, tally: Tally) -> Iterator[Problem]:
    """Whose files are there, and whether the run says so."""
    returned, begun = told.last["returned"].get(0, -1), told.last["begun"].get(0, -1)
    tally.promised += returned + 1
    tally.begun += begun - returned
    files = read(place)
    tally.aside += sum(_hidden(key) for key in files) + _open_uploads(place)
    yield from _one_of_them(files, returned, begun)
    try:
        with place.logbook(RUN, overwrite=True) as log:
            log.text("last", "")
        tally.resumed += 1
    except Exception as error:
        yield Problem("state", f"it could not be begun over: {error!r}")
    left = read(place).keys() - {"artifacts/last.txt", "log.txt", "metadata.json", "manifest.json"}
    if left:
        yield Problem("debris", f"there is more than the run that was begun over: {sorted(left)}")


def _one_of_them(files: dict[str, bytes], returned: int, begun: int) -> Iterator[Problem]:
    if "metadata.json" not in files:
        if returned >= 0 or any(not _hidden(key) for key in files):
            yield Problem("lost", f"metadata.json is not there, beside {sorted(files)}")
        return
    status = json.loads(files["metadata.json"])["status"]
    of_each = {key: int(data) for key, data in files.items() if key.startswith("artifacts/") and not _hidden(key)}
    if "params.yaml" in files:
        of_each["params.yaml"] = yaml.safe_load(files["params.yaml"])["generation"]
    if b"] INFO generation " in files.get("log.txt", b""):
        of_each["log.txt"] = int(files["log.txt"].rpartition(b"] INFO generation ")[2].split(b"\n")[0])
    whose = set(of_each.values())
    if status == "complete":
        if len(whose) != 1 or len(of_each) != _PARTS + 3 or min(whose) < returned:
            yield Problem("lost", f"the run is complete, after {returned} were, and has {of_each}")
    elif status == "initialized":
        if not whose <= {begun}:
            yield Problem("changed", f"run {begun} has begun, and there is {of_each}")
    elif status != "replacing" or begun == returned:
        yield Problem("state", f"the status is {status}, and {begun} had begun, {returned} returned")


def _hidden(key: str) -> bool:
    return any(part.startswith(".notata-") for part in key.split("/"))


def _open_uploads(place: Place) -> int:
    if not place.url.startswith("s3://"):
        return 0
    bucket, _, prefix = place.url.removeprefix("s3://").partition("/")
    found = place.raw().call_s3("list_multipart_uploads", Bucket=bucket, Prefix=f"{prefix}/")
    return len(found.get("Uploads", ()))


def _reader(place: Place) -> LogReader:
    return LogReader(f"{place.url}/log_{RUN}", storage_options=place.options)


def _state(case: Case, place: Place, files: dict[str, bytes], told: Told) -> Iterator[Problem]:
    """What the run says of itself, and what a reader says of it."""
    if "metadata.json" not in files:
        if told.claimed:
            yield Problem("lost", "metadata.json is not there, and the run was claimed")
        try:
            yield Problem("state", f"there is a run without metadata.json: {_reader(place)}")
        except RunMissingError:
            return
    try:
        fields = json.loads(files["metadata.json"])
    except ValueError as error:
        yield Problem("state", f"metadata.json cannot be read: {error} in {files['metadata.json'][:200]!r}")
        return
    if fields["status"] != "initialized":
        yield Problem("state", f"the status is {fields['status']}")
    if told.claimed and not case.background and b"plan:" not in files.get("params.yaml", b""):
        yield Problem("lost", "the parameters that the run began with")
    reader = _reader(place)
    if reader.state.status != "died":
        yield Problem("state", f"a reader says {reader.state}")
    if aside := [key for key in reader.files if _hidden(key)]:
        yield Problem("debris", f"a reader lists {aside}")


def _resumed(place: Place, copy: Place | None, tally: Tally) -> Iterator[Problem]:
    try:
        with place.logbook(RUN, resume=True, mirror=copy and MirrorStorage(copy.url, copy.options)) as log:
            log.text("resumed", "and completed")
        if log.mirror is not None:
            log.mirror.flush(60.0)
    except Exception as error:
        yield Problem("state", f"it could not be resumed and completed: {error!r}")
        return
    tally.resumed += 1
    if not (report := _reader(place).verify()).ok:
        yield Problem("state", f"what was resumed and completed does not hold: {report}")


def _completed(files: dict[str, bytes]) -> Iterator[Problem]:
    fields = json.loads(files["metadata.json"])
    if fields["status"] != "complete":
        yield Problem("state", f"after it was resumed and completed, the status is {fields['status']}")
    if files.get("artifacts/resumed.txt") != b"and completed":
        yield Problem("lost", "artifacts/resumed.txt, written after it was resumed")
    if not (log := files.get("log.txt", b"")).endswith(b"INFO Marked complete\n"):
        yield Problem("line", f"the log of the run that was completed ends in {log[-100:]!r}")


# -- the command ---------------------------------------------------------------------------------------------


def places(stack: ExitStack, backend: str) -> Iterator[Place]:
    """Empty places of a backend, each cleared once the next is taken; the server is started for them."""
    if backend == "local":
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        found = (Place("local", f"{folder}/{uuid.uuid4().hex}") for _ in itertools.count())
    else:
        at = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(servers.seaweed(at) if backend == "s3" else servers.fake_gcs())
        found = (Place(backend, f"{server.url}/{uuid.uuid4().hex}", server.options) for _ in itertools.count())
    for place in found:
        yield place
        place.store().clear()


def command(rounds: int, names: list[str], seed: str) -> int:
    """All rounds of the cases; the exit code."""
    os.environ.update(servers.CLOUD_ENVIRONMENT)
    print(f"seed {seed}\n\n{HEAD}", flush=True)
    problems = []
    for name in names:
        tally, case = Tally(), CASES[name]
        with ExitStack() as stack:
            empty = places(stack, case.backend)
            copies = places(stack, case.mirror) if case.mirror else itertools.repeat(None)
            for number, copy in zip(range(rounds), copies, strict=False):
                kill(case, next(empty), f"{seed}/{name}/{number}", tally, copy)
        problems += tally.problems
        print(tally.row(name), flush=True)
    print(*["", *problems], sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--script"]:
        main(*sys.argv[2:])
    else:
        rounds, cases, seed = [*sys.argv[1:], *["200", ",".join(CASES), uuid.uuid4().hex[:8]][len(sys.argv) - 1 :]]
        sys.exit(command(int(rounds), cases.split(","), seed))
