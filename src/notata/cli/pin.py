"""``notata pin`` and ``notata unpin``: protect runs from removal, and undo that."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from notata._base.display import counted
from notata.cli import output
from notata.cli.frame import Command, urls_argument
from notata.cli.picking import Asked, filter_options, print_notes, searching

if TYPE_CHECKING:
    from notata.search.pinning import Pinning

__all__ = ["pin", "unpin"]

_recursive = click.option(
    "-r", "--recursive", is_flag=True, help="Include all runs at or below URL, if URL itself is not a run."
)


@click.command(
    cls=Command,
    short_help="Protect runs from removal.",
    examples=(
        "notata pin outputs/log_a",
        "notata pin -r s3://bucket/outputs/sweep --where 'error < 0.01'",
    ),
)
@urls_argument
@_recursive
@searching(filter_options)
def pin(asked: Asked, recursive: bool) -> None:
    """Protect runs from removal: 'notata rm' keeps them, and so does 'notata sync --delete'.

    URL is a run, or a quoted pattern that matches runs; with -r also an experiment or a folder of runs. Running runs
    can be pinned too. A Logbook with overwrite=True does not replace a pinned run. 'notata unpin' undoes it.
    """
    from notata.search.pinning import pin

    _end(asked, "pin", lambda: pin(asked.query, recursive=recursive))


@click.command(
    cls=Command,
    short_help="Allow pinned runs to be removed again.",
    examples=(
        "notata unpin outputs/log_a",
        "notata unpin -r s3://bucket/outputs --where 'age > days(365)'",
    ),
)
@urls_argument
@_recursive
@searching(filter_options)
def unpin(asked: Asked, recursive: bool) -> None:
    """Undo 'notata pin': allow runs to be removed and replaced again.

    URL is a run, or a quoted pattern that matches runs; with -r also an experiment or a folder of runs. 'notata sync'
    unpins the copies of these runs.
    """
    from notata.search.pinning import unpin

    _end(asked, "unpin", lambda: unpin(asked.query, recursive=recursive))


def _end(asked: Asked, verb: str, change: Callable[[], list[Pinning]]) -> None:
    """Change the runs, print the results, and end the command."""
    if asked.options["urls"] is None:
        raise click.UsageError(f"no URL given: name the runs to {verb}")
    found = change()
    print_notes(asked.query.notes())
    if asked.as_json:
        for one in found:
            pinned = one.run.pinned if one.error else verb == "pin"
            output.json_line(
                {
                    "name": one.run.name,
                    "run_id": one.run.run_id,
                    "url": one.run.url,
                    "status": one.run.status,
                    "pinned": pinned,
                    "changed": one.changed,
                }
            )
    elif found:
        changed = sum(one.changed for one in found)
        already = sum(not one.changed and one.error is None for one in found)
        more = f"; {already} {'was' if already == 1 else 'were'} already {verb}ned" * bool(already)
        output.line(f"{verb.capitalize()}ned {counted(changed, 'run')}{more}")
    asked.collector.end(found=bool(found))
