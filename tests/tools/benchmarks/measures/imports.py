"""(g) The time of ``import notata``, and the modules that it loads later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests import children
from tests.tools.benchmarks.contest import Bench
from tests.tools.benchmarks.environments import MLFLOW, NOTATA, OLD
from tests.tools.benchmarks.results import TIMES, Budget, Column, Result

OURS, FLOOR = "import notata", "import fsspec, upath"
STATEMENTS = (
    (OURS, NOTATA, OURS),
    (FLOOR, NOTATA, FLOOR),
    ("import notata (0.3.0)", OLD, OURS),
    ("import mlflow", MLFLOW, "import mlflow"),
)
LATER = ("numpy", "yaml", "matplotlib", "pandas", "s3fs", "gcsfs")
TIME = "time"

PROGRAM = """
import sys, time
start = time.perf_counter()
{statement}
seconds = time.perf_counter() - start
import json
print(json.dumps([seconds, [name for name in {later!r} if name in sys.modules]]))
"""


def measure(bench: Bench) -> list[Result]:
    """Measure milliseconds of an import in a new interpreter."""
    times = bench.sizes.imports
    result = Result("g", f"Importing, in a new interpreter each time; median of {times}", [Column(TIME, "ms")])
    there = [statement for statement in STATEMENTS if statement[1] in bench.pythons]
    loaded: set[str] = set()
    for name, *_ in there:
        result.rows[name] = {}
    for turn in range(-1, times):  # the first import compiles, and fills the system's file cache
        first = turn % len(there)
        for name, environment, statement in there[first:] + there[:first]:
            seconds, heavy = _run(bench.pythons[environment], statement)
            if turn >= 0:
                result.add(name, TIME, [seconds * 1e3])
            if name == OURS:
                loaded |= set(heavy)
    ours, floor = result.median(OURS, TIME), result.median(FLOOR, TIME)
    ratio = ours / floor if ours and floor else None
    result.budgets.append(Budget(f"{OURS}, relative to {FLOOR}", 1.5, ratio, TIMES))
    result.budgets.append(Budget(f"modules that {OURS} loads, of {', '.join(LATER)}", 0, len(loaded)))
    result.notes.append(f"Modules that {OURS} loads, of {', '.join(LATER)}: {', '.join(sorted(loaded)) or 'none'}.")
    return [result]


def _run(python: Path, statement: str) -> Any:
    program = PROGRAM.format(statement=statement, later=LATER)
    ran = children.run([python, "-c", program], timeout=60)
    return json.loads(ran.stdout.splitlines()[-1])
