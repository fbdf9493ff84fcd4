"""``notata ls``: list runs and their status."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from notata.cli import output
from notata.cli.frame import Command, urls_argument
from notata.cli.picking import Asked, fresh_option, picking_options, print_notes, searching

if TYPE_CHECKING:
    from notata.search import Run

__all__ = ["ls"]

_COLUMNS = ("run", "status", "age", "duration", "size")
_MORE = ("started", "files", "host", "reason", "url")
_PINNED = "pinned"  # the last column, if a run is pinned
_UNKNOWN = "\N{EN DASH}"  # the size of a run that was not listed
_REASON = 80  # characters of a failure reason shown to people


@click.command(
    cls=Command,
    short_help="List runs: status, age, duration, size.",
    examples=(
        "notata ls",
        "notata ls s3://bucket/outputs --status failed,died -l",
        "notata ls outputs --where 'omega > 1 and dt < 0.1' --sort age -n 20",
        "notata ls 's3://bucket/*/runs' --where 'age < days(2) and size > 1e9' --json",
    ),
)
@urls_argument
@click.option("-l", "--long", is_flag=True, help="Also show start, number of files, host, failure reason and URL.")
@fresh_option
@searching(picking_options)
def ls(asked: Asked, long: bool, fresh: bool) -> None:
    """List the runs at or below each URL, at any depth.

    On a terminal, ages and sizes are human-readable, and 'running?' marks a run whose state is unknown. In a pipe, each
    run is one line with tabs between its columns: ages and durations in seconds, sizes in bytes, and times as ISO 8601.
    The last column marks pinned runs.

    If an experiment has more than 10,000 runs, the command lists them from its index, without their sizes. A note shows
    how old the index is.
    """
    from notata.search import runs

    found = runs(asked.query, fresh=fresh)
    print_notes(found.notes)
    if asked.as_json:
        for run in found:
            output.json_line(run.record())
    elif found:
        people = output.is_terminal()
        columns = _COLUMNS + (_MORE if long else ())
        if people and all(run.url == run.name for run in found):
            columns = tuple(name for name in columns if name != "url")
        cells = _for_people if people else _for_programs
        pinned = [_PINNED] if any(run.pinned for run in found) else []
        output.rows(
            [*columns, *pinned],
            ([*cells(run)[: len(columns)], *(_PINNED if run.pinned else "" for _ in pinned)] for run in found),
            right=("age", "duration", "size", "files"),
            colours=output.COLOURS | {"running?": "cyan"},
            last="run",
        )
        if people:
            output.line(found.summary(), dim=True)
    elif found.total and output.is_terminal():
        output.line(found.summary(), dim=True)
    asked.collector.end(found=bool(found))


def _for_people(run: Run) -> list[str]:
    from notata._base import display

    return [
        run.name,
        run.shown_status,
        display.duration(run.age),
        display.duration(run.seconds),
        _UNKNOWN if run.size is None else display.size(run.size),
        "" if run.started is None else f"{run.started:%Y-%m-%d %H:%M:%S}",
        _UNKNOWN if run.files is None else str(run.files),
        run.host,
        run.failure_reason if len(run.failure_reason) <= _REASON else f"{run.failure_reason[:_REASON]}…",
        run.url,
    ]


def _for_programs(run: Run) -> list[str]:
    from notata.search.where import fact

    return [
        run.name,
        run.status,
        _seconds(run.age),
        _seconds(run.seconds),
        "" if run.size is None else str(run.size),
        str(fact(run, "started") or ""),
        "" if run.files is None else str(run.files),
        run.host,
        run.failure_reason,
        run.url,
    ]


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.3f}"
