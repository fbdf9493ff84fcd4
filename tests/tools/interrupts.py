"""Runs that are interrupted at random moments: ``python -m tests.tools.interrupts [INTERRUPTS [SEED [CASES]]]``.

In each round a script records a run in its main thread: lines, rows of a series, fields of metadata.json, parameters,
new files, files that replace earlier ones, appends and flushes. Meanwhile this process sends it SIGINT, which raises
KeyboardInterrupt, and SIGUSR1, whose handler writes as well, as jobs do when a batch system warns them: a line, a row,
a checkpoint, a field, and a flush. Each signal is sent a random time after the script has handled the previous one. At
the end the script completes the run, also under signals (in the background only under SIGUSR1, because SIGINT drops
pending writes by design). Then plain fsspec reads everything:

* each file, field, parameter and appended piece whose call returned is stored, and no other value is;
* each line of log.txt, and each row of the series, whose call returned is stored once; one whose call was interrupted
  is stored once or not at all;
* the status is ``complete``, and `LogReader.verify` finds each file as it was stored.

INTERRUPTS are distributed over the cases: ``memory``, ``local``, ``s3`` (moto) and ``gcs`` (fake-gcs-server), and each
with ``-background``. A row of the table shows the rounds, the signals of both kinds, the calls that returned, and the
calls that an interrupt ended. The other columns must be 0: processes that hung (no answer for a minute), lines or rows
lost or doubled, other values lost or wrong, errors of calls, wrong states at the end. Each error is printed with its
round; ``SEED`` repeats the plan of the round, but not the moments of the signals. The exit code is 1 after any error.
"""

from __future__ import annotations

import faulthandler
import itertools
import json
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from notata import Logbook, NotataError
from tests import servers
from tests.backends import Place

__all__ = ["CASES", "Tally", "interrupt"]

SCRIPT: Final = "tests.tools.interrupts"
CASES: Final = [f"{name}{how}" for name in ("memory", "local", "s3", "gcs") for how in ("", "-background")]
_EACH: Final = 100  # signals in a round
_AT_THE_END: Final = 20  # signals at most while a run is completed; otherwise it would never complete
_PATIENCE: Final = 60.0  # seconds until a signal is handled
_WRONG: Final = ("hang", "line", "value", "error", "state")
HEAD: Final = (
    "| case | rounds | SIGINT | SIGUSR1 | calls returned | calls interrupted | hangs | lines or rows lost or doubled "
    "| values lost or wrong | errors | wrong states |\n" + "|---" * 11 + "|"
)


@dataclass
class Tally:
    """The results of the rounds of one case."""

    rounds: int = 0
    sent: Counter[str] = field(default_factory=Counter)
    returned: int = 0
    interrupted: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def row(self, name: str) -> str:
        figures = [self.rounds, self.sent["SIGINT"], self.sent["SIGUSR1"], self.returned, self.interrupted]
        figures += [self.wrong[kind] for kind in _WRONG]
        return f"| {name} | {' | '.join(map(str, figures))} |"


# -- the script ----------------------------------------------------------------------------------------------


class Recording:
    """A run, the writes to it, and which of them were confirmed.

    Attributes:
        begun: By kind, the numbers of the calls that started.
        kept: Those that returned.
        problems: Errors, each with its kind.
        dealt: How many signals have been handled; -1 before the first is requested.
    """

    def __init__(self, place: Place, background: bool, rng: random.Random) -> None:
        self.place, self.background, self.rng = place, background, rng
        self.log = place.logbook(background=background)
        self.begun: dict[str, list[int]] = defaultdict(list)
        self.kept: dict[str, list[int]] = defaultdict(list)
        self.problems: list[tuple[str, str]] = []
        self.dealt = -1
        self._waits = True  # the first signal is requested like the others, where an interrupt is caught
        self._numbers = itertools.count()
        signal.signal(signal.SIGINT, self._interrupt)
        signal.signal(signal.SIGUSR1, self._checkpoint)
        sys.unraisablehook = lambda raised: self.deal()

    def do(self, kind: str) -> None:
        """Make one call of a kind; an error is recorded, an interrupt is ignored."""
        number = next(self._numbers)
        self.begun[kind].append(number)
        try:
            KINDS[kind](self.log, number)
        except Exception as error:
            self.problems.append(("error", f"{kind} {number}: {error!r}"))
        else:
            self.kept[kind].append(number)

    def record(self, count: int) -> None:
        """Make calls until this number of signals has been handled, then complete the run."""
        is_complete = False
        while not is_complete:
            try:
                while self.dealt < count:
                    self.deal()
                    self.do(self.rng.choice(MAIN))
                if self.background:  # in the background, an interrupt of the end drops pending writes and the run fails
                    signal.signal(signal.SIGINT, self._pass)
                self.deal()
                self.log.mark_complete()
                for number in (signal.SIGINT, signal.SIGUSR1):
                    signal.signal(number, signal.SIG_IGN)
                is_complete = True
            except KeyboardInterrupt:
                pass

    def deal(self) -> None:
        """Request the next signal if the previous interrupt has arrived."""
        if self._waits:
            self._waits = False
            self.dealt += 1
            os.write(1, b".\n")

    def _interrupt(self, *_: object) -> None:
        self._waits = True
        raise KeyboardInterrupt

    def _pass(self, *_: object) -> None:
        self._waits = True
        self.deal()

    def _checkpoint(self, *_: object) -> None:
        try:
            for kind in self.rng.choice(HANDLER):
                self.do(kind)
        finally:
            self.dealt += 1
            os.write(1, b".\n")

    def look(self) -> None:
        """Compare the confirmed writes with the stored data."""
        lines = Counter(line for line in self.place.log() if line.startswith("INFO line "))
        self._compare("line", "line", lines, lambda number: f"INFO line {number}")
        rows = map(
            json.loads, self.place.bytes("log_run/series/scalars.jsonl").splitlines() if self.kept["row"] else []
        )
        self._compare("row", "line", Counter(f"{row['step']} {row['half']}" for row in rows), _row)
        fields = json.loads(self.place.bytes("log_run/metadata.json"))
        self._compare(
            "meta", "value", Counter(name for name in fields if name[0] == "m" and name[1:].isdigit()), "m{}".format
        )
        params = yaml.safe_load(self.place.bytes("log_run/params.yaml")) if self.kept["params"] else {}
        self._compare("params", "value", Counter(params.keys() - {"first"}), "p{}".format)
        pieces = self.place.bytes("log_run/artifacts/grows.txt").decode().split() if self.kept["append"] else []
        self._compare("append", "value", Counter(pieces), str)
        names = [name for name in self.place.names() if "/.notata-" not in name]  # hidden names are unfinished writes
        new = Counter(name for name in names if name.startswith("log_run/artifacts/new/"))
        self._compare("json", "value", new, "log_run/artifacts/new/{}.json".format)
        for kind in ("same", "pickle"):
            self._newest(kind)
        for name in new:
            data = self.place.bytes(name)
            if data.strip() != name.rpartition("/")[2].removesuffix(".json").encode():
                self.problems.append(("value", f"{name} holds {data[:200]!r}"))
        if fields["status"] != "complete":
            self.problems.append(("state", f"the status is {fields['status']}"))
        if not (report := self.log.reader.verify()).ok:
            self.problems.append(("state", f"what is stored does not hold: {report}"))

    def _compare(self, kind: str, wrong: str, there: Counter[str], name: Callable[[int], str]) -> None:
        kept, begun = set(map(name, self.kept[kind])), set(map(name, self.begun[kind]))
        for what, found in (
            ("lost", kept - there.keys()),
            ("not written", there.keys() - begun),
            ("doubled", {one for one, count in there.items() if count > 1}),
        ):
            self.problems += [(wrong, f"{kind}: {what}: {one}") for one in sorted(found)]

    def _newest(self, kind: str) -> None:
        """Check that a replaced file has the value of the last call that returned, or of one that started later."""
        if not self.kept[kind]:
            return
        loaded = self.log.reader.load_json("same") if kind == "same" else self.log.reader.load_pickle("checkpoint")
        if loaded not in self.begun[kind] or loaded < self.kept[kind][-1]:
            self.problems.append(("value", f"{kind}: {loaded} is there, after {self.kept[kind][-1]} was stored"))


def _row(number: int) -> str:
    return f"{number} {number / 2}"


def append(log: Logbook, number: int) -> None:
    with log.open("artifacts/grows.txt", "a") as file:
        file.write(f"{number}\n")


KINDS: Final[dict[str, Callable[[Logbook, int], object]]] = {
    "line": lambda log, number: log.info("line %d", number),
    "row": lambda log, number: log.scalars(step=number, half=number / 2),
    "meta": lambda log, number: log.meta(**{f"m{number}": number}),
    "params": lambda log, number: log.params("yaml", **{f"p{number}": number}),
    "json": lambda log, number: log.json(f"new/{number}", number),
    "same": lambda log, number: log.json("same", number),
    "append": append,
    "pickle": lambda log, number: log.pickle("checkpoint", number),
    "flush": lambda log, number: log.flush(),
}
MAIN: Final = ["line", "line", "line", "row", "row", "meta", "params", "json", "same", "append", "flush"]
HANDLER: Final = [
    ["line", "row", "pickle", "flush"], ["pickle", "flush"], ["meta"], ["json", "line"], ["row"], ["params"],
    ["append"],
]  # fmt: skip


def main(arguments: str) -> None:
    """Record one run under signals, and print the results."""
    url, name, options, background, count, plan = json.loads(arguments)
    faulthandler.enable()
    recording = Recording(Place(name, url, options), background, random.Random(plan))
    recording.log.params(first=True)  # finish late imports first: a handler may see a half-imported module
    recording.record(count)
    recording.log.flush()  # a handler may have written after the end: flush adds that to the manifest
    recording.look()
    returned, begun = (sum(map(len, calls.values())) for calls in (recording.kept, recording.begun))
    told = {"problems": recording.problems, "returned": returned, "interrupted": begun - returned}
    os.write(1, (json.dumps(told) + "\n").encode())


# -- the command ---------------------------------------------------------------------------------------------


def interrupt(place: Place, background: bool, count: int, plan: str, tally: Tally) -> None:
    """Run one round with at least this number of signals, in an empty place."""
    rng = random.Random(f"moments/{plan}")
    arguments = json.dumps([place.url, place.name, place.options, background, count, plan])
    command = [sys.executable, "-m", SCRIPT, "--script", arguments]
    longest = -2.0 if place.bucket else -2.7
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as script:
        line = _heard(script)
        left = count + _AT_THE_END
        while line == b".\n":
            if left:
                left -= 1
                time.sleep(10 ** rng.uniform(-4.5, longest))
                number = rng.choice([signal.SIGINT, signal.SIGUSR1])
                script.send_signal(number)
                tally.sent[number.name] += 1
            line = _heard(script)
        hangs = not line and script.poll() is None
        if hangs:
            script.send_signal(signal.SIGABRT)
        errors = script.communicate()[1].decode()
    tally.rounds += 1
    told: dict[str, Any] = (
        json.loads(line)
        if line.startswith(b"{")
        else {"problems": [["hang" if hangs else "state", errors]], "returned": 0, "interrupted": 0}
    )
    tally.returned += told["returned"]
    tally.interrupted += told["interrupted"]
    tally.wrong.update(kind for kind, _ in told["problems"])
    tally.problems += [f"{plan}: {kind}: {what}" for kind, what in told["problems"]]


def _heard(script: subprocess.Popen[bytes]) -> bytes:
    """Return the next line of the script; empty if none comes."""
    assert script.stdout is not None
    if not select.select([script.stdout], [], [], _PATIENCE)[0]:
        return b""
    line = script.stdout.readline()
    if not line:  # it ended by itself
        script.wait()
    return line


def places(stack: ExitStack, backend: str) -> Iterator[Place]:
    """Yield empty places of a backend, clearing each before the next; start the server for them."""
    if backend in ("memory", "local"):
        folder = "memory:/" if backend == "memory" else stack.enter_context(tempfile.TemporaryDirectory())
        found = (Place(backend, f"{folder}/{uuid.uuid4().hex}") for _ in itertools.count())
    else:
        server = stack.enter_context(servers.moto() if backend == "s3" else servers.fake_gcs())
        found = (Place(backend, f"{server.url}/{uuid.uuid4().hex}", server.options) for _ in itertools.count())
    for place in found:
        yield place
        try:
            place.store().clear()
        except NotataError as error:
            print(f"not removed: {error}", file=sys.stderr)


def command(count: int, seed: str, names: list[str]) -> int:
    """Run all rounds of the cases; return the exit code."""
    os.environ.update(servers.CLOUD_ENVIRONMENT)
    print(f"seed {seed}\n\n{HEAD}", flush=True)
    problems = []
    for name in names:
        backend, _, background = name.partition("-")
        tally = Tally()
        with ExitStack() as stack:
            empty = places(stack, backend)
            while (left := -(-count // len(names)) - sum(tally.sent.values())) > 0:
                known = len(tally.problems)
                interrupt(next(empty), bool(background), min(left, _EACH), f"{seed}/{name}/{tally.rounds}", tally)
                print(*tally.problems[known:], sep="\n", end="", file=sys.stderr, flush=True)
        problems += tally.problems
        print(tally.row(name), flush=True)
    print(*["", *problems], sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--script"]:
        main(sys.argv[2])
    else:
        given = [*sys.argv[1:], *["10000", uuid.uuid4().hex[:8], ",".join(CASES)][len(sys.argv) - 1 :]]
        sys.exit(command(int(given[0]), given[1], given[2].split(",")))
