"""``notata watch``: report runs that have newly failed, died, ended or stalled."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Final

import click

from notata._base.display import counted
from notata.cli import output
from notata.cli.frame import STORAGE, Command, urls_argument
from notata.cli.picking import Asked, fresh_option, print_notes, searching, where_option

if TYPE_CHECKING:
    from notata.search.alerts import Look, Watcher

__all__ = ["watch"]

_ON: Final = ("died", "failed", "complete", "stalled")
"""The values of `notata.search.alerts.ON`, repeated here because that module is imported only on use."""


def _states(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> list[str]:
    words = [word.strip() for one in given for word in one.split(",")]
    if strange := [word for word in words if word not in _ON]:
        raise click.BadParameter(f"{strange[0]!r} is not one of {', '.join(map(repr, _ON))}")
    return words or ["died", "failed"]


@click.command(
    cls=Command,
    short_help="Report runs that have newly failed or died, for use in cron.",
    examples=(
        "notata watch s3://bucket/outputs",
        "notata watch outputs --on died,failed --notify https://hooks.example.org/services/…",
        "notata watch outputs --on failed,complete --notify 'mail -s notata ada' --older 10m",
        "notata watch outputs --on stalled --stalled 2h --every 5m",
    ),
    epilog="Exit codes: 0 success; 1 no run found; 2 usage error; 3 storage error, or a notification failed.",
)
@urls_argument
@click.option(
    "--on",
    multiple=True,
    metavar=f"[{'|'.join(_ON)}]",
    callback=_states,
    help="States to report, separated by commas. Default: died,failed.",
)
@click.option(
    "--notify",
    metavar="COMMAND|URL",
    help="Web address that receives JSON in a POST request, or command that receives it on standard input. Default: "
    "print one line per state.",
)
@click.option("--older", metavar="AGE", help="Report a state only when it is at least this old, such as 10m.")
@click.option(
    "--stalled",
    default="2h",
    show_default=True,
    metavar="AGE",
    help="Consider a run stalled if it has written no new files for this long.",
)
@click.option("--all", "report_all", is_flag=True, help="At the first look, also report states that are already there.")
@click.option(
    "--every", metavar="AGE", help="Keep running, and look again after this time, such as 60s or 5m. Stop with Ctrl-C."
)
@click.option(
    "--state",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="File in which to remember what was reported. Default: a file in the user's state folder.",
)
@fresh_option
@searching(where_option)
def watch(asked: Asked, on: list[str], notify: str | None, every: str | None, **options: Any) -> None:
    """Look at the runs at or below each URL once, and report those that have newly failed or died.

    Each state of a run is reported once, and again only if the run was resumed or replaced. The first look reports
    nothing that is already there. If a notification fails, the next look tries again.

    The command of --notify runs without a shell; NOTATA_RUN_ID, NOTATA_STATUS, NOTATA_WHY, NOTATA_NAME, NOTATA_URL,
    NOTATA_HOST, NOTATA_STARTED, NOTATA_ENDED and NOTATA_TEXT say what has happened.
    """
    from notata._base.times import span
    from notata.search.alerts import Watcher

    pause = None if every is None else span(every)
    if pause == 0:
        raise click.UsageError(f"--every {every} looks without a pause: pass a longer time, such as 60s")
    watcher = Watcher(asked.query, on=on, notify=notify, **options)
    shows = notify is None or output.is_terminal()
    while True:
        code = _print(watcher.look(), watcher, asked, shows=shows)
        if pause is None:
            break
        time.sleep(pause)
    asked.collector.code = max(asked.collector.code, code)
    asked.collector.end()


def _print(look: Look, watcher: Watcher, asked: Asked, *, shows: bool) -> int:
    """Print the result of one look, and return its exit code."""
    if sys.stderr.isatty():  # cron would send them by mail at each look
        print_notes(look.notes)
    if look.is_busy:
        output.error_line(f"Note: another process is looking ({watcher.state_file}); nothing was done")
    if look.more_errors:
        output.error_line(f"Error: {counted(look.more_errors, 'more error')} at the same places")
    if look.old:
        states = "state is" if look.old == 1 else "states are"
        output.error_line(f"Note: first look: {look.old} {states} not new; pass --all to report them")
    for alert in look.alerts:
        if asked.as_json:
            output.json_line(alert.record())
        elif shows:
            output.line(alert.text)
    for one in look.undelivered:
        output.error_line(f"Error: not notified of {one.alert.name} ({one.alert.status}): {one.why}")
    if look.waiting:
        output.error_line(f"Note: {counted(look.waiting, 'more state')} will be reported by the next look")
    return STORAGE if look.undelivered else 0
