"""The command: ``python -m tests.tools.benchmarks [--only a,c] [--quick] [--no-peers] [--json FILE] [--write-docs]``.

Any Python can run it from the root of the repository: it creates its environments and restarts in notata's own one.
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
from tests.tools.benchmarks.environments import CACHE, NOTATA, REQUIREMENTS
from tests.tools.benchmarks.measures import MEASURES
from tests.tools.benchmarks.results import Result
from tests.tools.benchmarks.sites import Sites
from tests.tools.benchmarks.sizes import FULL, QUICK


def arguments(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.tools.benchmarks", description=sys.modules[__name__].__doc__)
    parser.add_argument("--only", type=letters, default=list(MEASURES), metavar="a,c", help="measure only these")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that all works; no figures to quote")
    parser.add_argument("--no-peers", action="store_true", help="leave out who needs an environment of its own")
    parser.add_argument("--json", type=Path, default=CACHE / "results.json", metavar="FILE", help="where figures go")
    parser.add_argument("--write-docs", action="store_true", help="measure nothing; put FILE's figures into the docs")
    return parser.parse_args(given)


def letters(text: str) -> list[str]:
    wanted = text.replace(",", "")
    if unknown := sorted(set(wanted) - set(MEASURES)):
        raise argparse.ArgumentTypeError(f"no such measurement: {', '.join(unknown)}; there are {', '.join(MEASURES)}")
    return [letter for letter in MEASURES if letter in wanted]


def main(given: list[str]) -> int:
    chosen = arguments(given)
    if chosen.write_docs:
        report.write_docs(chosen.json)
        return 0
    pythons = {name: environments.made(name) for name in REQUIREMENTS if name == NOTATA or not chosen.no_peers}
    if Path(sys.prefix).resolve() != (CACHE / NOTATA).resolve():
        for name in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE"):  # compile imported modules once
            os.environ.pop(name, None)
        os.execv(pythons[NOTATA], [str(pythons[NOTATA]), "-m", "tests.tools.benchmarks", *given])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # servers end with their context managers
    sizes, start, load = QUICK if chosen.quick else FULL, time.monotonic(), os.getloadavg()[0]
    results: list[Result] = []
    versions = {name: environments.versions(python) for name, python in pythons.items()}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, Sites(Path(folder)) as sites:
        bench = Bench(pythons, sizes, sites)
        for letter in chosen.only:
            results += MEASURES[letter](bench)
            bench.say(f"({letter}) measured after {time.monotonic() - start:.0f} s")
            sites.clear()
            seconds = time.monotonic() - start
            found = report.document(results, asdict(sizes), versions, seconds=seconds, load=load)
            chosen.json.write_text(json.dumps(found, indent=1) + "\n")
    print(report.tables(results))
    print(f"\nall samples: {chosen.json}")
    return 1 if any(": failed: " in note for result in results for note in result.notes) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
