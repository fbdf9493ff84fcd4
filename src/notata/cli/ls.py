"""``notata ls``: which runs there are, and how they stand."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from notata.cli import output
from notata.cli.frame import Command, Trouble, json_option, storage_option, urls_argument
from notata.cli.picking import picking_options

if TYPE_CHECKING:
    from notata.search import Run

__all__ = ["ls"]

_COLUMNS = ("run", "status", "age", "duration", "size")
_MORE = ("started", "files", "host", "reason", "url")
_REASON = 80  # characters of a reason that people are shown


@click.command(
    cls=Command,
    short_help="List runs: status, age, duration, size.",
    examples=(
        "notata ls",
        "notata ls s3://bucket/outputs --status failed --status died -l",
        "notata ls outputs --where 'omega > 1 and dt < 0.1' --sort age -n 20",
        "notata ls 's3://bucket/*/runs' --where 'age < days(2) and size > 1e9' --json",
    ),
)
@urls_argument
@click.option("-l", "--long", is_flag=True, help="Also when each began, its files, host, reason of failure and URL.")
@picking_options
@storage_option()
@json_option
def ls(urls: list[str] | None, long: bool, as_json: bool, storage_options: dict[str, Any], **picked: Any) -> None:
    """List the runs at or below each URL, at any depth, by the names to call them by.

    On a terminal ages and sizes are for people, and ``running?`` is a run of which nothing tells whether it still
    does. In a pipe there is a run a line, with tabs: ages and durations in seconds, sizes in bytes, times as ISO 8601.
    """
    from notata.search import runs

    trouble = Trouble()
    found = runs(urls, storage_options=storage_options, failed=trouble, **picked)
    for note in found.notes:
        output.complain(f"Note: {note}")
    if as_json:
        for run in found:
            output.json_line(_fields(run))
    elif found:
        people = output.is_terminal()
        columns = _COLUMNS + (_MORE if long else ())
        cells = _for_people if people else _for_programs
        output.rows(
            columns,
            ((cells(run))[: len(columns)] for run in found),
            right=("age", "duration", "size", "files"),
            colours=output.COLOURS | {"running?": "cyan"},
        )
        if people:
            output.line(found.summary(), dim=True)
    trouble.end(found=bool(found))


def _for_people(run: Run) -> list[str]:
    from notata import display

    age = run.age
    return [
        run.name,
        run.status if run.certain else f"{run.status}?",
        "" if age is None else display.duration(max(0.0, age)),
        "" if run.seconds is None else display.duration(run.seconds),
        display.size(run.size),
        "" if run.started is None else f"{run.started:%Y-%m-%d %H:%M:%S}",
        str(run.files),
        _host(run),
        run.failure if len(run.failure) <= _REASON else f"{run.failure[:_REASON]}…",
        run.url,
    ]


def _for_programs(run: Run) -> list[str]:
    return [
        run.name,
        run.status,
        _seconds(run.age),
        _seconds(run.seconds),
        str(run.size),
        _iso(run.started) or "",
        str(run.files),
        _host(run),
        run.failure,
        run.url,
    ]


def _fields(run: Run) -> dict[str, Any]:
    return {
        "name": run.name,
        "run_id": run.run_id,
        "url": run.url,
        "status": run.status,
        "certain": run.certain,
        "why": run.why,
        "started": run.started,
        "ended": run.ended,
        "age": run.age,
        "seconds": run.seconds,
        "size": run.size,
        "files": run.files,
        "host": _host(run) or None,
        "failure": run.failure,
    }


def _host(run: Run) -> str:
    from notata.search.where import fact

    return str(fact(run, "host") or "")


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.3f}"


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat(timespec="milliseconds")
