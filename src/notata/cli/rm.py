"""``notata rm``: remove whole runs."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from notata._base.display import counted, size
from notata.cli import output
from notata.cli.frame import Command, urls_argument
from notata.cli.picking import Asked, filter_options, print_notes, searching

if TYPE_CHECKING:
    from notata.search import Decision, Removal, Retention, Run

__all__ = ["rm"]


@click.command(
    cls=Command,
    short_help="Remove whole runs after confirmation; keep other files.",
    examples=(
        "notata rm outputs/log_a",
        "notata rm 's3://bucket/outputs/log_2026-03-*' --dry-run",
        "notata rm -r outputs/sweep --yes",
        "notata rm -r outputs --status failed --where 'age > days(30)'",
        "notata rm -r outputs --keep-best 5:error --older 90d --dry-run",
    ),
)
@urls_argument
@click.option("-r", "--recursive", is_flag=True, help="Remove all runs at or below URL, if URL itself is not a run.")
@click.option(
    "-y", "--yes", is_flag=True, help="Do not ask for confirmation; required if standard input is not a terminal."
)
@click.option("--force", is_flag=True, help="Remove running runs too.")
@click.option("--pinned", is_flag=True, help="Remove pinned runs too.")
@click.option(
    "--keep-best",
    multiple=True,
    metavar="N:NAME[:max]",
    help="Keep the N runs with the smallest value of NAME, or with ':max' the largest. NAME is as in 'notata ls "
    "--sort'. Runs without this number are kept. May be repeated.",
)
@click.option("--keep-last", type=click.IntRange(min=1), metavar="N", help="Keep the N runs that ended last.")
@click.option(
    "--older", metavar="AGE", help="Remove only runs that ended longer ago than AGE, such as 30m, 12h, 90d or 2w."
)
@click.option(
    "--per",
    type=click.Choice(["all", "experiment"]),
    default="all",
    help="Apply --keep-best and --keep-last to all runs together (default), or to each folder of runs.",
)
@click.option("--without-value", is_flag=True, help="Also remove runs that lack the number for --keep-best.")
@click.option(
    "--keep-inputs",
    is_flag=True,
    help="With --keep-best, --keep-last or --older, also keep runs whose files a kept run has read.",
)
@click.option("--dry-run", is_flag=True, help="Remove nothing; list what would be removed, and why runs are kept.")
@searching(filter_options)
def rm(asked: Asked, recursive: bool, yes: bool, force: bool, pinned: bool, dry_run: bool, **rule: Any) -> None:
    """Remove runs after confirmation. Other files and folders are kept.

    URL is a run, or a quoted pattern that matches runs; with -r also an experiment or a folder of runs. While a run is
    being removed, its status is "replacing"; after an interruption, remove it again. The index.csv of an experiment is
    not changed, but tables do not show removed runs.

    --keep-best, --keep-last and --older select the runs to keep; the others are removed. Running and pinned runs are
    kept, and so is the parent of a run that is kept.
    """
    from notata.search.removing import Removal, decisions, removals

    if asked.options["urls"] is None:
        raise click.UsageError("no URL given: name the runs to remove")
    collector = asked.collector
    retention = _retention(**rule)
    found = decisions(asked.query, recursive=recursive, force=force, pinned=pinned, retention=retention)
    runs = [decision.run for decision in found if decision.removes]
    _print_errors(found, asked, retention)
    if dry_run:
        if retention is None:
            _list([Removal(run) for run in runs], asked.as_json)
        else:
            _list_decisions(found, asked.as_json)
        collector.end()
    if retention is not None and found and not asked.as_json:
        output.error_line(_kept(found))
    if not runs:
        if asked.filters and not collector.code and not found:
            output.error_line("Nothing was removed: no run matches the filter")
        collector.end(found=retention is not None and bool(found))
    if not yes and not _agreed(runs, recursive):
        output.error_line("Nothing was removed")
        click.get_current_context().exit(1)
    done = []
    for removal in removals(runs, force=force, pinned=pinned, failed=collector):
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


def _retention(**rule: Any) -> Retention | None:
    """Return the rule of the options; None if they give none."""
    from notata.search import Retention

    retention = Retention(**{**rule, "keep_last": rule["keep_last"] or 0})
    if not retention and (rule["per"] != "all" or rule["without_value"] or rule["keep_inputs"]):
        raise click.UsageError("--per, --without-value and --keep-inputs need --keep-best, --keep-last or --older")
    return retention or None


def _print_errors(found: list[Decision], asked: Asked, retention: Retention | None) -> None:
    """Print the errors of runs that are not removed, and notes about the filter and the rule."""
    for decision in found:
        if decision.error is not None:
            asked.collector(decision.error)
    print_notes(asked.query.notes())
    if retention is not None:
        print_notes(retention.notes([decision.run for decision in found]))


def _kept(found: list[Decision]) -> str:
    """Return how many runs are kept, and why."""
    reasons = Counter(decision.reason for decision in found if not decision.removes)
    count = sum(reasons.values())
    return f"Kept {counted(count, 'run')}" + ": " * bool(count) + ", ".join(f"{n} {why}" for why, n in reasons.items())


def _list_decisions(found: list[Decision], as_json: bool) -> None:
    """List each run with what would be done with it, and why."""
    if as_json:
        for decision in found:
            output.json_line(decision.record())
        return
    shown = output.sizes()
    cells = [(one.run.status, one.run.files, shown(one.run.size or 0), one.run.name, one.why) for one in found]
    output.rows(
        ("action", "status", "files", "size", "run", "why"),
        [("remove" if one.removes else "keep", *row) for one, row in zip(found, cells, strict=True)],
        right=("files", "size"),
    )
    output.line(f"{_in_all([decision.run for decision in found if decision.removes])} would be removed")
    output.line(_kept(found))


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
