"""``notata table``: parameters, status and metrics of many runs side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from notata.cli import output
from notata.cli.frame import Command, urls_argument
from notata.cli.picking import Asked, picking_options, print_notes, searching

if TYPE_CHECKING:
    from notata.search import RunTable

__all__ = ["names_option", "table"]

_WIDEST: Final = 40  # characters of a cell shown to people
_KEPT: Final = ("name", "run_id", "status")


def _names(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> list[str] | None:
    return [name.strip() for part in given for name in part.split(",") if name.strip()] or None


names_option = click.option(
    "--columns",
    multiple=True,
    metavar="NAMES",
    callback=_names,
    help="Columns, separated by commas: names as for --sort, parameters, metrics, or patterns such as 'optimizer.*'.",
)
"""Add ``--columns``: a list of names, or None."""


@click.command(
    cls=Command,
    short_help="Compare parameters, status and metrics of runs side by side.",
    examples=(
        "notata table outputs/sweep",
        "notata table s3://bucket/outputs --columns 'run_id,omega,metrics.*' --sort error",
        "notata table outputs --where 'solver.order >= 4' --csv > table.csv",
        "notata table outputs --json | jq .metrics.error",
    ),
)
@urls_argument
@names_option
@click.option("--fresh", is_flag=True, help="Read every run; do not use index.csv or an index.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with a header (RFC 4180).")
@searching(picking_options)
def table(asked: Asked, columns: list[str] | None, fresh: bool, as_csv: bool) -> None:
    """Show the parameters, status and metrics of the runs at or below each URL in one table.

    For a finished experiment, the command reads index.csv instead of the runs. For an experiment with more than 10,000
    runs, it reads the index, and a note shows how old the index is. Pass --fresh if you do not trust every writer of
    these files. On a terminal, columns that do not fit are omitted. In a pipe, the command prints a header and one line
    per run, with tabs between the columns.
    """
    from notata import search

    if as_csv and asked.as_json:
        raise click.UsageError("--csv and --json cannot be combined")
    found = search.table(asked.query, columns=columns, fresh=fresh)
    print_notes(found.notes)
    if asked.as_json:
        _print_json(found, bool(columns))
    elif as_csv:
        _print_csv(found)
    elif len(found):
        _print_rows(found, bool(columns))
    elif found.runs.total and output.is_terminal():
        output.line(found.runs.summary(), dim=True)
    asked.collector.end(found=len(found) > 0)


def _print_json(found: RunTable, chosen: bool) -> None:
    for row, run in zip(found, found.runs, strict=True):
        if chosen:
            output.json_line(row)
            continue
        fields = {"name": run.name, "run_id": run.run_id, "url": run.url, "status": run.status}
        fields |= {"failure_reason": run.failure_reason, "metrics_error": run.metrics_error}
        output.json_line(fields | {"params": run.params, "metrics": run.metrics})


def _print_csv(found: RunTable) -> None:
    """Print all values unchanged as CSV in UTF-8; bytes that are not UTF-8 are escaped."""
    import csv
    import io

    from notata.search.tables import cell

    if not len(found):
        return
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(found.columns)
    writer.writerows([cell(row[name]) if name in row else "" for name in found.columns] for row in found)
    output.content(out.getvalue().encode("utf-8", "backslashreplace"))


def _print_rows(found: RunTable, chosen: bool) -> None:
    """Print a line for each run; on a terminal that is too narrow, shorten long ids and prefer columns that differ.

    Run ids of an experiment repeat parameters, and would leave no room for a metric.
    """
    from notata._base.display import counted, shortened
    from notata.search.tables import cell

    people = output.is_terminal()

    def shown(name: str, row: dict[str, Any]) -> str:
        if name not in row:
            return ""
        value = row[name]
        text = f"{value:.6g}" if people and isinstance(value, float) else cell(value)
        return f"{text[:_WIDEST]}…" if people and len(text) > _WIDEST and name not in _KEPT else text

    records = list(found)
    rows = [[shown(name, record) for name in found.columns] for record in records]
    if not people:
        output.rows((), [found.columns, *rows])
        return
    numbers = {name for name in found.columns if all(isinstance(one.get(name, 0), int | float) for one in records)}
    if not chosen and not output.fits(found.columns, rows):
        at = [place for place, name in enumerate(found.columns) if name in ("name", "run_id")]
        rows = [[shortened(cell, _WIDEST) if place in at else cell for place, cell in enumerate(row)] for row in rows]
    kept = [name for name in _KEPT if name in found.columns]
    same = [
        name for place, name in enumerate(found.columns) if len(rows) > 1 and len({row[place] for row in rows}) == 1
    ]
    left_out = output.rows(found.columns, rows, right=numbers, fit=kept, spare=same)
    if left_out:
        count = counted(len(left_out), "more column")
        output.line(f"{count} did not fit: {', '.join(left_out)}; choose columns with --columns", dim=True)
    output.line(found.runs.summary(), dim=True)
