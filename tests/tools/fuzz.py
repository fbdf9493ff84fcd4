"""Damaged and forged run folders through all readers: ``python -m tests.tools.fuzz 200000`` tries that many examples.

Each example changes files of two valid runs in memory and reads them by public functions. Only errors and warnings of
notata may result, within 5 seconds of CPU time and 500 MB. ``--seed`` repeats a run, ``--example`` one example of it.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any, Final, TypeAlias

import fsspec
from click.testing import CliRunner
from fsspec.implementations.memory import MemoryFile

import notata
from notata import Experiment, ExperimentReader, LogReader, NotataError, search
from notata.cli import main as main_command
from tests.tools.fuzz_files import changed

CHUNK: Final = 4000
"""Examples that one process tries."""

SECONDS: Final = 5.0
"""Limit of CPU time of an example."""

MEGABYTES: Final = 500
"""Limit of a process's peak memory."""

_ROOT: Final = "memory://fuzz/sweep"

_PACKAGE: Final = Path(notata.__file__).parent
RUNS: Final = (f"{_ROOT}/runs/log_sweep_dt_0.1", f"{_ROOT}/runs/log_sweep_dt_0.2")
_OURS: Final = (notata.DamagedFileWarning, notata.UnprotectedWarning)


# -- valid runs ----------------------------------------------------------------------------------------------


@cache
def valid() -> dict[str, bytes]:
    """Return the files of an experiment with a complete run and a failed one, by path in the memory file system."""
    import numpy as np

    experiment = Experiment("sweep", "memory://fuzz")
    with experiment.add(dt=0.1) as run:
        run.params(dt=0.1, method="leapfrog", layers=[1, 2, {"a": None}])
        run.json("metrics", {"error": 0.01, "steps": 100, "nested": {"x": [1.5, True]}})
        run.array("energy", np.linspace(0, 1, 5))
        run.array("table", np.zeros(3, dtype=[("a", "<i4"), ("b", "<f8", (2,))]))
        run.arrays("states", x=np.arange(4), y=np.eye(2))
        run.pickle("model", {"weights": [1.0, 2.0], "name": "net", "tags": {"a", "b"}})
        run.save("rows.parquet", {"t": [0.0, 0.5], "species": ["H2", "O2"]})
        run.bytes("pixel.png", _PNG)
        run.text("notes", "converged\nafter 3 steps\n")
        run.warning("step size %g\nis at its minimum", 0.1)
        with run.worker(0) as worker:
            worker.info("one of several")
            worker.text("part", "done")
        run.meta(comment="first")
    try:
        with experiment.add(dt=0.2) as run:
            run.params(ext="json", dt=0.2, omega=2.0)
            with run.catch():
                raise KeyError("caught")
            raise ValueError("no mean flow")
    except ValueError:
        pass
    experiment.write_index()
    found = fsspec.filesystem("memory").store.items()
    return {_steady(path.encode()).decode(): _steady(file.getvalue()) for path, file in found if "/fuzz/" in path}


def _steady(data: bytes) -> bytes:
    """Return a file without values that differ between processes, so that an example can be repeated."""
    data = re.sub(rb"\d{4}-\d\d-\d\dT\d\d([:-])\d\d([:-])\d\d", rb"2026-11-28T12\g<1>00\g<2>00", data)
    data = re.sub(rb"(T12.00.00\.)\d+", rb"\g<1>250", data)
    data = re.sub(rb'("(?:owner|process|host)": ")[^"]*', rb"\g<1>5a1f0c4b", data)
    return re.sub(rb'("(?:pid|runtime_sec)": )[\d.]+', rb"\g<1>12", data)


_PNG: Final = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000049454e44ae426082"
)


def store(files: dict[str, bytes]) -> None:
    memory = fsspec.filesystem("memory")
    for path in [path for path in memory.store if path.startswith("/fuzz/")]:
        del memory.store[path]
    for path, data in files.items():
        memory.store[path] = MemoryFile(memory, path, data)


# -- readers -------------------------------------------------------------------------------------------------


Reader: TypeAlias = Callable[[], object]

_STATE: Final = "metadata.json"
_VALUES: Final = "metadata.json|params.(yaml|json)|metrics.json"
_ROWS: Final = f"{_VALUES}|index.csv"
_SHOWN: Final = f"{_VALUES}|failure.json|traceback.txt|Error.json|log.txt"


def _a_run(run: str) -> Iterator[tuple[str, Reader]]:
    """Yield the readers of one run, each with a pattern of the files that it reads."""

    def reader() -> LogReader:
        return LogReader(run)

    yield _STATE, lambda: (reader().meta, reader().state, reader().run_id)
    yield "params.*", lambda: reader().params
    yield f"{_VALUES}|npz", lambda: str(reader())
    yield _VALUES, lambda: reader()._repr_html_()
    yield "log.txt", lambda: [(line.time, line.level, line.message, str(line)) for line in reader().log]
    yield "log.txt", lambda: reader().log.at("warning")
    yield "log.txt", lambda: reader().log.to_pandas()
    yield "npz", lambda: reader().arrays
    yield "energy.npy", lambda: reader().load_array("energy")
    yield "npz", lambda: reader().load_array("states:x")
    yield "npz", lambda: reader().load_arrays("states")
    yield "metrics.json", lambda: reader().load_json("metrics")
    yield "parquet", lambda: reader().load_table("rows", "arrow").num_rows
    yield "manifest.json|metadata.json", lambda: reader().verify()
    for key in ("data/table.npy", "params.yaml", "params.json", "artifacts/notes.txt"):
        yield key, partial(_loaded, run, key)
    yield _SHOWN, lambda: json.dumps(search.show(run).record(), default=str)
    yield _SHOWN, lambda: search.show(run)._repr_html_()
    yield "log.txt", lambda: [search.tail(run, lines, workers=True) for lines in (1, 10)]
    yield "txt|json|yaml|npy", lambda: [*map(str, search.grep("e", run, files="*", failed=_nothing))]
    yield "txt|yaml", lambda: [*search.grep(search.Patterns("step", invert=True), run, before=1, failed=_nothing)]
    for key in ("data/energy.npy", "data/table.npy", "data/states.npz", "artifacts/model.pkl", "artifacts/rows.parquet",
                "artifacts/pixel.png", "artifacts/notes.txt"):  # fmt: skip
        yield key, partial(_described, run, key)
    yield "yaml|json", lambda: [one.record() for one in search.contents(f"{run}/*", failed=_nothing)]
    yield "np[yz]|pkl|metrics.json", lambda: _command("cat", "--json", f"{run}/*/*")
    yield _SHOWN, lambda: _command("show", run)
    yield "log.txt", lambda: _command("tail", run)


def _many() -> Iterator[tuple[str, Reader]]:
    """Yield the readers of the experiment, each with a pattern of the files that it reads."""
    yield _STATE, lambda: json.dumps([run.record() for run in search.runs(_ROOT, failed=_nothing)], default=str)
    yield _VALUES, lambda: search.runs(_ROOT, where="dt > 0 and error < 1", sort="started", failed=_nothing).counts
    yield _VALUES, lambda: search.runs(_ROOT, where="host == 'a' or seconds > 0 or age > 1", sort="dt", failed=_nothing)
    yield _STATE, lambda: search.runs(_ROOT, failed=_nothing)._repr_html_()
    yield _STATE, lambda: search.runs(_ROOT, failed=_nothing).to_pandas()
    yield _ROWS, lambda: json.dumps(list(search.table(_ROOT, failed=_nothing)), default=str)
    yield _ROWS, lambda: search.table(_ROOT, columns=["*", "started", "host"], failed=_nothing)._repr_html_()
    yield _ROWS, lambda: search.table(_ROOT, failed=_nothing).to_pandas()
    yield f"{_VALUES}|manifest.json", lambda: [*map(str, search.compare(*RUNS, failed=_nothing).differences)]
    yield "manifest.json|metadata.json", lambda: [one.record() for one in search.verdicts(_ROOT)]
    yield _STATE, lambda: [one.record() for one in search.trees(_ROOT, status=True, failed=_nothing)]
    yield _VALUES, lambda: [one.record() for one in search.usage(_ROOT, where="dt > 0", failed=_nothing)]
    yield _SHOWN, lambda: [one.record() for one in search.overviews(_ROOT, every=True, failed=_nothing)]
    yield _STATE, lambda: search.removable(_ROOT, failed=_nothing)
    yield _ROWS, lambda: ExperimentReader(_ROOT).table()
    yield _ROWS, lambda: ExperimentReader(_ROOT).to_pandas()
    yield _ROWS, lambda: (ExperimentReader(_ROOT).params, list(ExperimentReader(_ROOT).index()))
    yield _STATE, lambda: ExperimentReader(_ROOT).meta
    yield _ROWS, lambda: (str(ExperimentReader(_ROOT)), ExperimentReader(_ROOT)._repr_html_())
    yield _ROWS, lambda: Experiment("sweep", "memory://fuzz").to_dataframe()
    yield "metadata.json|manifest.json", lambda: notata.sync(_ROOT, "memory://fuzz/copy")
    yield _STATE, lambda: _command("ls", "-l", _ROOT)
    yield _ROWS, lambda: _command("table", _ROOT)
    yield f"{_VALUES}|manifest.json", lambda: _command("compare", *RUNS)
    yield "manifest.json|metadata.json", lambda: _command("verify", _ROOT)


def _command(*arguments: str) -> None:
    """Run the command in this process."""
    done = CliRunner().invoke(main_command, list(arguments))
    if "bug in notata" in done.output or not isinstance(done.exception, SystemExit | None):
        raise AssertionError(f"notata {arguments[0]}: {done.exception!r} {done.output[-300:]}")


def _loaded(run: str, key: str) -> object:
    return LogReader(run).load(key)


def _described(run: str, key: str) -> object:
    found = search.describe(run, key)
    return str(found), json.dumps(found.record(), default=str)


def _nothing(_error: object) -> None:
    """Ignore unreadable runs and files."""


@cache
def readers() -> list[tuple[str, Reader]]:
    """Return all readers, each with a pattern of the files that it reads; each is called without arguments."""
    pairs = [(run, reader) for run in RUNS for reader in _a_run(run)]
    of_runs = [
        (f"^{re.escape(run.removeprefix('memory:/'))}/(.*[./])?({files})$", read) for run, (files, read) in pairs
    ]
    return of_runs + [(f"[./]({files})$", read) for files, read in _many()]


@cache
def readers_of(path: str) -> list[Reader]:
    """Return the readers of this file, or all readers if there are none."""
    return [read for files, read in readers() if re.search(files, path)] or [read for _, read in readers()]


# -- one example -----------------------------------------------------------------------------------------------


@dataclass
class Finding:
    """A violation that an example showed.

    Attributes:
        example: The number of the example.
        what: The kind of violation.
        detail: The place in the code, or the amount.
    """

    example: int
    what: str
    detail: str

    @property
    def kind(self) -> tuple[str, str]:
        """Return a value that is equal for all findings with one cause."""
        return self.what, self.detail


@dataclass
class Tally:
    """Statistics of many examples.

    Attributes:
        findings: The violations.
        slowest: CPU seconds of the slowest example, and its number.
        peak: Peak memory in megabytes, and the example after which it was measured.
    """

    findings: list[Finding] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, -1)
    peak: tuple[float, int] = (0.0, -1)


def attempt(seed: int, number: int, tally: Tally, *, every: bool = False) -> None:
    """Try one example: change a file or two, and read each with two of its readers, or with every one."""
    random_ = random.Random(f"{seed}:{number}")
    files = dict(valid())
    paths = random_.sample(sorted(files), random_.choice((1, 1, 1, 2)))
    for path in paths:
        files[path] = changed(random_, path, files[path])
    store(files)
    each = [readers_of(path) for path in paths]
    chosen = [read for some in each for read in random_.sample(some, min(2, len(some)))]
    if every:
        chosen = [read for _, read in readers()]
    begun = time.process_time()
    for reader in chosen:
        if (problem := problem_of(reader)) is not None:
            tally.findings.append(Finding(number, *problem))
    took = time.process_time() - begun
    tally.slowest = max(tally.slowest, (took, number))
    if took > SECONDS:
        tally.findings.append(Finding(number, "too slow", f"more than {SECONDS:g} s"))
    if (peak := peak_megabytes()) > tally.peak[0]:
        tally.peak = peak, number
        if peak > MEGABYTES:
            tally.findings.append(Finding(number, "too much memory", f"more than {MEGABYTES} MB"))


def problem_of(reader: Callable[[], object]) -> tuple[str, str] | None:
    """Call a reader; return the kind and place of a violation, or None."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            reader()
        except (NotataError, *_OURS) as error:
            strangers = [one for one in getattr(error, "exceptions", ()) if not isinstance(one, NotataError)]
            return ("a stranger in a BatchError", repr(strangers[0])) if strangers else None
        except Exception as error:
            return f"{type(error).__name__}: {str(error)[:80]!a}", _place(error)
    return None


def _place(error: Exception) -> str:
    """Return the place in notata that raised an error: the last two lines there."""
    frames = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in traceback.extract_tb(error.__traceback__)
              if _PACKAGE in Path(frame.filename).parents]  # fmt: skip
    return " > ".join(frames[-2:])


def peak_megabytes() -> float:
    """Return the peak memory of this process in MB; 0 where the operating system does not report it."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    if sys.platform == "linux":  # there `getrusage` returns the parent's peak if that was larger
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        return int(found[1]) / 1000 if found else 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


# -- the command -----------------------------------------------------------------------------------------------


def _limit_memory() -> None:
    """Make allocations fail beyond 3 GB, so that one example does not exhaust the machine."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_AS, (3 * 10**9, 3 * 10**9))


def _child(seed: int, start: int, end: int) -> None:
    """Try some examples and print the results; print each number first, in case the example kills the process."""
    _limit_memory()
    # No package is installed meanwhile, and the check takes a third of the time.
    metadata.entry_points = cache(metadata.entry_points)  # type: ignore[assignment]
    tally = Tally()
    for number in range(start, end):
        print(number, flush=number % 20 == 0)
        attempt(seed, number, tally)
    found = [vars(finding) for finding in tally.findings]
    print(json.dumps({"findings": found, "slowest": tally.slowest, "peak": tally.peak}), flush=True)


def _chunk(seed: int, start: int, end: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.tools.fuzz", "--child", f"{seed}:{start}:{end}"]
    folder = Path(__file__).parents[2]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60 + 2 * (end - start))
        *_, last = ["", *done.stdout.splitlines()]
        if done.returncode == 0:
            result: dict[str, Any] = json.loads(last)
            return result
        why = f"exit code {done.returncode}: {done.stderr[-500:]}"
    except subprocess.TimeoutExpired as error:
        told = error.stdout.decode() if isinstance(error.stdout, bytes) else error.stdout or ""
        *_, last = ["", *told.splitlines()]
        why = "no end"
    number = int(last or start)
    return {"findings": [vars(Finding(number, "the process ended, or hung", f"at {last} or up to 20 later: {why}"))],
            "slowest": (0.0, -1), "peak": (0.0, -1)}  # fmt: skip


def run(count: int, seed: int) -> int:
    """Try examples in a sequence of processes, and print the findings."""
    kinds: dict[tuple[str, str], list[int]] = {}
    slowest, peak, begun = (0.0, -1), (0.0, -1), time.monotonic()
    for start in range(0, count, CHUNK):
        end = min(count, start + CHUNK)
        result = _chunk(seed, start, end)
        slowest, peak = max(slowest, tuple(result["slowest"])), max(peak, tuple(result["peak"]))
        for one in result["findings"]:
            finding = Finding(**one)
            kinds.setdefault(finding.kind, []).append(finding.example)
            if len(kinds[finding.kind]) == 1:
                print(f"  example {finding.example}: {finding.what} ({finding.detail})", flush=True)
        if end % (2 * CHUNK) == 0 or end == count:
            _report(end, seed, kinds, slowest, peak, time.monotonic() - begun)
    return 1 if kinds else 0


def _report(
    count: int, seed: int, kinds: dict[tuple[str, str], list[int]], slowest: Any, peak: Any, seconds: float
) -> None:
    found = sum(map(len, kinds.values()))
    print(
        f"{count:,} examples, seed {seed}: {found:,} findings of {len(kinds)} kinds; slowest {slowest[0]:.2f} s of CPU "
        f"time (example {slowest[1]}), peak {peak[0]:.0f} MB (example {peak[1]}), {seconds:.0f} s in all",
        flush=True,
    )


def main() -> int:
    """Try examples as given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--example", type=int, help="Try this one alone, by every reader, and show the traceback.")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        _child(*map(int, given.child.split(":")))
        return 0
    if given.example is not None:
        return _show(given.seed, given.example)
    return run(given.count, given.seed)


def _show(seed: int, number: int) -> int:
    tally = Tally()
    attempt(seed, number, tally, every=True)
    for path, data in sorted(valid().items()):
        now = fsspec.filesystem("memory").store.get(path)
        if now is not None and now.getvalue() != data:
            print(path, repr(now.getvalue()[:2000]))
    for number, (_, reader) in enumerate(readers()):
        if problem_of(reader) is not None:
            print(f"reader {number}:")
            try:
                reader()
            except Exception:
                traceback.print_exc()
    print(tally)
    return 1 if tally.findings else 0


if __name__ == "__main__":
    sys.exit(main())
