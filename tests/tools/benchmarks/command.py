"""The command: ``python -m tests.tools.benchmarks [--only a,c] [--quick] [--no-peers] [--json FILE] [--write-docs]``.

Any Python can run it from the root of the repository: it creates its environments and restarts in notata's own one.
Without --only it takes all measurements but those on demand.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from tests.tools.benchmarks import environments, report
from tests.tools.benchmarks.contest import Bench
from tests.tools.benchmarks.environments import CACHE, NOTATA, OPTIONAL, REQUIREMENTS
from tests.tools.benchmarks.measures import MEASURES, ON_DEMAND
from tests.tools.benchmarks.results import Result
from tests.tools.benchmarks.sites import Sites
from tests.tools.benchmarks.sizes import FULL, QUICK

USUAL = [letter for letter in MEASURES if letter not in ON_DEMAND]


def arguments(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m tests.tools.benchmarks",
        description=sys.modules[__name__].__doc__,
        epilog="\n".join(described()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", type=letters, default=USUAL, metavar="a,c", help="measure only these")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that all works; no figures to quote")
    parser.add_argument("--no-peers", action="store_true", help="leave out who needs an environment of its own")
    parser.add_argument("--prepare", action="store_true", help="make the environments, and measure nothing")
    parser.add_argument("--json", type=Path, default=CACHE / "results.json", metavar="FILE", help="where figures go")
    parser.add_argument("--keep", action="store_true", help="keep FILE's other figures, if they are of this commit")
    parser.add_argument("--write-docs", action="store_true", help="measure nothing; put FILE's figures into the docs")
    return parser.parse_args(given)


def described() -> list[str]:
    """Return a line for each measurement: the first one of its docstring."""
    lines = []
    for letter, measure in MEASURES.items():
        first = (sys.modules[measure.__module__].__doc__ or "").partition("\n")[0]
        lines.append(f"{first}{' On demand.' if letter in ON_DEMAND else ''}")
    return lines


def letters(text: str) -> list[str]:
    wanted = text.replace(",", "")
    if unknown := sorted(set(wanted) - set(MEASURES)):
        raise argparse.ArgumentTypeError(f"no such measurement: {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    return [letter for letter in MEASURES if letter in wanted]


def environments_for(chosen: argparse.Namespace) -> dict[str, Path]:
    """Return the interpreters for the chosen measurements."""
    if chosen.no_peers:
        return environments.available([NOTATA])
    on_demand = chosen.prepare or any(letter in ON_DEMAND for letter in chosen.only)
    return environments.available(name for name in REQUIREMENTS if on_demand or name not in OPTIONAL)


def main(given: list[str]) -> int:
    chosen = arguments(given)
    if chosen.write_docs:
        report.write_docs(chosen.json)
        return 0
    pythons = environments_for(chosen)
    if chosen.prepare:
        return 0
    if Path(sys.prefix).resolve() != (CACHE / NOTATA).resolve():
        environments.restart(given)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # servers end with their context managers
    sizes, start, load = QUICK if chosen.quick else FULL, time.monotonic(), os.getloadavg()[0]
    results: list[Result] = []
    versions = {name: environments.versions(python) for name, python in pythons.items()}
    about = report.About(environments.commit(), asdict(sizes), versions, load)
    kept = report.kept(chosen.json, about, chosen.only) if chosen.keep else {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, Sites(Path(folder)) as sites:
        bench = Bench(pythons, sizes, sites)
        for letter in chosen.only:
            results += MEASURES[letter](bench)
            bench.say(f"({letter}) measured after {time.monotonic() - start:.0f} s")
            sites.clear()
            found = report.document(results, about, time.monotonic() - start, kept)
            chosen.json.write_text(json.dumps(found, indent=1) + "\n")
    print(report.tables(results))
    print(f"\nall samples: {chosen.json}")
    return 1 if any(": failed: " in note for result in results for note in result.notes) else 0
