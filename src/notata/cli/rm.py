"""``notata rm``: remove whole runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from notata._base.display import counted, size
from notata.cli import output
from notata.cli.frame import Command, urls_argument
from notata.cli.picking import Asked, filter_options, print_notes, searching

if TYPE_CHECKING:
    from notata.search import Removal, Run

__all__ = ["rm"]


@click.command(
    cls=Command,
    short_help="Remove whole runs after confirmation; other files stay.",
    examples=(
        "notata rm outputs/log_a",
        "notata rm 's3://bucket/outputs/log_2026-03-*' --dry-run",
        "notata rm -r outputs/sweep --yes",
        "notata rm -r outputs --status failed --where 'age > days(30)'",
    ),
)
@urls_argument
@click.option("-r", "--recursive", is_flag=True, help="Remove all runs at or below URL, if URL itself is not a run.")
@click.option(
    "-y", "--yes", is_flag=True, help="Do not ask for confirmation; required if standard input is not a terminal."
)
@click.option("--force", is_flag=True, help="Remove running runs too.")
@click.option("--dry-run", is_flag=True, help="Remove nothing; list what would be removed.")
@searching(filter_options)
def rm(asked: Asked, recursive: bool, yes: bool, force: bool, dry_run: bool) -> None:
    """Remove runs after confirmation. Other files and folders stay.

    URL is a run, or a quoted pattern that matches runs; with -r also an experiment or a folder of runs. While a run is
    being removed, its status is "replacing"; after an interruption, remove it again. The index.csv of an experiment is
    not changed; no table shows a removed run.
    """
    from notata.search.removing import Removal, removable, removals

    if asked.options["urls"] is None:
        raise click.UsageError("no URL given: name the runs to remove")
    collector = asked.collector
    runs = removable(asked.query, recursive=recursive, force=force)
    print_notes(asked.query.notes())
    if dry_run:
        _list([Removal(run) for run in runs], asked.as_json)
        collector.end()
    if not runs:
        if asked.filters and not collector.code:
            output.error_line("Nothing was removed: no run matches the filter")
        collector.end(found=False)
    if not yes and not _agreed(runs, recursive):
        output.error_line("Nothing was removed")
        click.get_current_context().exit(1)
    done = []
    for removal in removals(runs, force=force, failed=collector):
        done.append(removal)
        for name in removal.remains.left if removal.remains else ():
            output.error_line(f"kept, because it is not a regular file: {removal.run.name}/{name}")
        for name in removal.remains.links if removal.remains else ():
            output.error_line(f"removed the link, but not its target: {removal.run.name}/{name}")
        if asked.as_json:
            output.json_line(removal.record())
    if not asked.as_json:
        output.line(_sum(done))
    collector.end()


def _list(removals: list[Removal], as_json: bool) -> None:
    if as_json:
        for removal in removals:
            output.json_line(removal.record())
        return
    _show([removal.run for removal in removals])
    output.line(f"{_in_all([removal.run for removal in removals])} would be removed")


def _show(runs: list[Run]) -> None:
    shown = output.sizes()
    output.rows(
        ("status", "files", "size", "run"),
        [(run.status, run.files, shown(run.size or 0), run.name) for run in runs],
        right=("files", "size"),
    )


def _agreed(runs: list[Run], recursive: bool) -> bool:
    """Ask on the terminal whether to remove the runs; no answer means no."""
    if not sys.stdin.isatty():
        raise click.UsageError("Not a terminal: pass --yes to confirm.")
    if recursive or len(runs) > 1:
        for run in runs:
            output.error_line(f"{run.status:10} {run.files or 0:>6} files {size(run.size or 0):>10} {run.name}")
    click.echo(f"Remove {_in_all(runs)}? [y/N] ", nl=False, err=True)
    try:
        answer = sys.stdin.readline()
    except (OSError, ValueError):  # the terminal was closed, or the input is not text
        answer = ""
    return answer.strip().lower() in ("y", "yes")


def _sum(done: list[Removal]) -> str:
    gone = [removal.remains.gone for removal in done if removal.remains]
    total = sum(max(0, count) for files in gone for count in files.values())
    runs = counted(sum(removal.removed for removal in done), "run")
    return f"Removed {runs}, {counted(sum(map(len, gone)), 'file')}, {size(total)}"


def _in_all(runs: list[Run]) -> str:
    total = sum(run.size or 0 for run in runs)
    return f"{counted(len(runs), 'run')}, {counted(sum(run.files or 0 for run in runs), 'file')}, {size(total)}"
