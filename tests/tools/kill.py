"""Runs that are killed, and the files they leave: ``python -m tests.tools.kill [ROUNDS [CASES [SEED]]]``.

In each round a script records a run, from one thread or several: values of many kinds and sizes, some above 8 MiB, most
of which replace earlier ones; appends, parameters, fields of metadata.json, log lines, rows of a series. It reports
each call before making it, and again when it returned. At a random moment it receives SIGKILL. Then plain fsspec reads
everything that is stored, which is compared with the reports:

* each file is whole, as the last confirmed call left it, or one that started later. A call is confirmed when it
  returned; in the background, when a later `flush` returned;
* nothing else is visible except names that begin with ``.notata-``, which `LogReader` does not list;
* metadata.json and params.yaml can be read, the status is ``initialized``, and `LogReader` says ``died``;
* the log has every confirmed line, and the series every confirmed row, once and in order. On a local disk a line or
  row is confirmed when its call returned, elsewhere when a `flush` did. On a local disk the last line, the last row,
  and the last piece appended to a file may be incomplete.

Then this process resumes the run, adds rows at an earlier step, and completes it. All of that must still hold; the
series must be one curve for `LogReader.series`, and in the summary of metadata.json; and the manifest must be correct
by `LogReader.verify`.

A mirrored run is checked twice: its folder as above, and its copy in a bucket. In the copy each file is whole, as some
call left it; everything stored when `mirror.flush` returned is there; and the log and the series are the beginnings of
the run's own. Then `notata.sync` makes the copy equal to the folder, byte by byte; and so does the mirror of the
resumed run, whose copy says ``complete``.

In the cases ``again`` the script starts its run over and over with ``overwrite=True``, stores a few files and a row,
and completes it. There ``complete`` must mean all files of a single run, not older than the last completed one;
``initialized`` means no files of earlier runs; and the status is ``replacing`` while old files are removed. This
process then starts the run once more.

Cases, separated by commas: ``local``; ``durable``, the same with fsync; ``s3`` and ``s3-background`` on SeaweedFS;
``gcs`` and ``gcs-background`` on fake-gcs-server; ``mirror``, from a local disk to SeaweedFS; ``again`` on a local
disk, ``s3-again`` on SeaweedFS, in the background.

A row of the table shows the rounds; those killed before the run was claimed; the confirmed calls; and those that
started and were not confirmed (any or none of their bytes may be stored). The next columns must be 0: files lost, files
that are neither old nor new, visible debris, log lines or rows lost, and other errors. The last ones are for
information: hidden leftovers (temporary files of a disk, open multipart uploads of S3), and runs that were resumed and
completed.
Each error is printed with its round, which ``SEED`` repeats except for the moment of the kill. The exit code is 1 after
any error.
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
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from notata import DamagedFileWarning, Logbook, LogReader, MirrorStorage, RunMissingError, Storage, sync
from tests import servers
from tests.backends import Place
from tests.nursery import Script
from tests.tools.workload import ROWS, RUN, Fate, Problem, judged, parsed, read, steps

__all__ = ["CASES", "Case", "Tally", "kill"]


SCRIPT: Final = "tests.tools.kill"
OWN: Final = {"metadata.json", "params.yaml", "log.txt", "manifest.json", ROWS}
_PARTS: Final = 5  # files of a run that starts over and over, besides one with a fixed name
_WRONG: Final = ("lost", "changed", "debris", "line", "state")


@dataclass(frozen=True)
class Case:
    """The options of a case.

    Attributes:
        name: The name of the case.
        backend: ``local``, ``s3`` or ``gcs``.
        arguments: Arguments of `Logbook`.
        flushes: The number of steps between flushes.
        again: Whether a run starts over and over.
        mirror: The backend of the mirror, if there is one.
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
    """The results of the rounds of one case."""

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
    "| debris | lines or rows lost | else wrong | hidden leftovers | resumed and completed |\n" + "|---" * 12 + "|"
)


# -- the script ----------------------------------------------------------------------------------------------


def tell(what: str, *numbers: int) -> None:
    """Write one line atomically."""
    os.write(1, (" ".join([what, *map(str, numbers)]) + "\n").encode())


def main(url: str, options: str, arguments: str, plan: str = "", threads: str = "", flushes: str = "") -> None:
    """Record a run until the process is killed; without a plan, record one run after another."""
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
    """Return the base folder of the script's runs and the other arguments of `Logbook`."""
    given = json.loads(arguments)
    base = Storage(url, json.loads(options), durable=given.pop("durable", False))
    if "mirror" in given:
        given["mirror"] = MirrorStorage(*given["mirror"])
    return base, given


def again(url: str, options: str, arguments: str) -> None:
    """Start a run, complete it, and start it over, until the process is killed."""
    for number in itertools.count():
        tell("begun", 0, number)
        params = {"generation": number}
        base, given = place_of(url, options, arguments)
        with Logbook(RUN, base, params, overwrite=True, **given) as log:
            log.text("same", str(number))
            for part in range(_PARTS):
                log.text(f"{number}/{part}", str(number))
                tell("stored", part, number)
            log.scalars(step=number, generation=number)
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
    """The reports of a script before it was killed: by kind and thread, the last step."""

    claimed: bool = False
    last: dict[str, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))

    def hear(self, line: str) -> None:
        what, *numbers = line.split()
        if what == "claimed":
            self.claimed = True
        elif what != "starting":
            self.last[what][int(numbers[0])] = int(numbers[1])

    def fates(self, plan: str, case: Case) -> list[Fate]:
        """Return for each step whether it was confirmed: by its return, or for background writes by a flush."""
        found = []
        for thread, last in sorted(self.last["begun"].items()):
            for step in itertools.islice(steps(plan, thread), last + 1):
                promised = "flushed" if case.background and step.how not in ("meta", "append") else "returned"
                found.append(Fate(step, step.number <= self.last[promised].get(thread, -1)))
        return found

    def lines(self, case: Case) -> dict[int, int]:
        return self.last["returned" if case.backend == "local" else "flushed"]


def kill(case: Case, place: Place, plan: str, tally: Tally, copy: Place | None = None) -> None:
    """Run one round in an empty place; `copy` is the place of the mirror, if any."""
    rng = random.Random(f"moment/{plan}")
    threads = rng.choice([1, 1, 3])
    arguments = {**case.arguments, **_mirroring(copy)}
    given = [place.url, json.dumps(place.options), json.dumps(arguments)]
    script = Script(SCRIPT, ["--script", *given, *([] if case.again else [plan, str(threads), str(case.flushes)])])
    events = 1 if rng.random() < 0.15 else int(10 ** rng.uniform(0.3, 2.1))  # reports before the kill
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
    if copy is not None and "metadata.json" in files:  # otherwise the run does not exist yet
        yield from _copied(place, copy, files, fates, told)
    yield from _resumed(place, copy, tally)
    after = read(place)
    yield from judged(after, fates, lines, torn=torn, others=OWN | {"artifacts/resumed.txt"})
    yield from _completed(after)
    yield from _curve(place, files, after)
    if copy is not None:
        yield from _equal(after, read(copy), "the mirror of the run that was resumed")


def _copied(place: Place, copy: Place, files: dict[str, bytes], fates: list[Fate], told: Told) -> Iterator[Problem]:
    """Check the copy as the mirror left it, and after `sync`."""
    there = read(copy)
    flushed = told.last["flushed"]
    kept = [Fate(fate.step, fate.step.number <= flushed.get(fate.step.thread, -1)) for fate in fates]
    for problem in judged(there, kept, flushed, torn=True, others=OWN):
        yield Problem(problem.kind, f"in the copy: {problem.what}")
    for key in ("log.txt", ROWS):
        if not files.get(key, b"").startswith(there.get(key, b"")):
            yield Problem("line", f"{key} of the copy is not the beginning of the run's own")
    sync(f"{place.url}/log_{RUN}", f"{copy.url}/log_{RUN}", destination_options=copy.options)
    yield from _equal(files, read(copy), "sync")


def _equal(files: dict[str, bytes], there: dict[str, bytes], what: str) -> Iterator[Problem]:
    """Check that all visible files are equal on both sides."""
    for key in files.keys() | there.keys():
        if not _hidden(key) and files.get(key) != there.get(key):
            sizes = [None if (data := side.get(key)) is None else len(data) for side in (files, there)]
            yield Problem("lost", f"{key} in the copy is not as in the run after {what}: bytes {sizes}")


def _looked_at_again(place: Place, told: Told, tally: Tally) -> Iterator[Problem]:
    """Check which run the files belong to, and the status."""
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
    rows, _ = parsed(files.get(ROWS, b""))
    if rows:
        of_each[ROWS] = rows[0]["generation"]
    whose = set(of_each.values())
    if len(rows) > 1:
        yield Problem("changed", f"there is one row in each run, and now {rows}")
    if status == "complete":
        if len(whose) != 1 or len(of_each) != _PARTS + 4 or min(whose) < returned:
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
    """Check the status in the metadata and the status that a reader reports."""
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
        step = _earlier_step(read(place))
        with place.logbook(RUN, resume=True, mirror=copy and MirrorStorage(copy.url, copy.options)) as log:
            log.text("resumed", "and completed")
            log.scalars(step=step, resumed=True)
            log.scalars(resumed=True)
        if log.mirror is not None:
            log.mirror.flush(60.0)
    except Exception as error:
        yield Problem("state", f"it could not be resumed and completed: {error!r}")
        return
    tally.resumed += 1
    if not (report := _reader(place).verify()).ok:
        yield Problem("state", f"what was resumed and completed does not hold: {report}")


def _earlier_step(files: dict[str, bytes]) -> int:
    """Return the step at which the series is continued: two before its last row."""
    rows, _ = parsed(files.get(ROWS, b""))
    return max(0, rows[-1]["step"] - 2) if rows else 0


def _curve(place: Place, before: dict[str, bytes], after: dict[str, bytes]) -> Iterator[Problem]:
    """Check that the series was continued as one curve, for a reader and in the summary."""
    step = _earlier_step(before)
    old = [(row["step"], row["thread"]) for row in parsed(before.get(ROWS, b""))[0]]
    added = [{name: value for name, value in row.items() if name != "time"} for row in parsed(after[ROWS])[0]]
    fresh = [row for row in added if "try" in row] if "metadata.json" in before else added
    attempt = {"try": 1} if "metadata.json" in before else {}
    if fresh != [{"step": at, **attempt, "resumed": True} for at in (step, step + 1)]:
        yield Problem("line", f"the rows that were added at step {step} are {fresh}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DamagedFileWarning)  # the row that was cut
        data = _reader(place).series()
    kept = [one for one in old if one[0] < step]
    if data.step.tolist() != [*(at for at, _ in kept), step, step + 1]:
        yield Problem("line", f"the curve continued at step {step} has the steps {data.step.tolist()}")
    if kept and data["thread"].tolist()[:-2] != [thread for _, thread in kept]:
        yield Problem("line", f"the curve continued at step {step} has rows of {data['thread'].tolist()}")
    summary = json.loads(after["metadata.json"])["series_summary"]["scalars"]
    last = {"last": True, "count": 2}
    if (summary["rows"], summary["step"], summary["columns"]["resumed"]) != (len(kept) + 2, step + 1, last):
        yield Problem("state", f"the summary of the curve continued at step {step} is {summary}")


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
    """Yield empty places of a backend, clearing each before the next; start the server for them."""
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
    """Run all rounds of the cases; return the exit code."""
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
