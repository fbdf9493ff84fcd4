"""``notata verify``: check the files of runs against their manifests."""

from __future__ import annotations

import click

from notata.cli import output
from notata.cli.frame import FOUND, NOTHING, STORAGE, Command, progress_option, urls_argument, wanted
from notata.cli.picking import Asked, filter_options, print_notes, searching

__all__ = ["verify"]

_GRAVITY = (FOUND, STORAGE, NOTHING)
"""From least to most severe: known damage counts more than an incomplete check."""


@click.command(
    cls=Command,
    short_help="Check the files of runs against their manifests.",
    examples=(
        "notata verify outputs/log_pendulum",
        "notata verify s3://bucket/outputs -o endpoint_url=http://127.0.0.1:9000",
        "notata verify outputs --status complete --where 'age < days(7)'",
    ),
    epilog="Exit codes: 0 all files match; 1 a file is missing or changed; 2 usage error; 3 no damage was found, but "
    "a run could not be checked completely, or there is no run.",
)
@urls_argument
@searching(filter_options)
@progress_option
def verify(asked: Asked, progress: bool | None) -> None:
    """Read the files of runs again and compare them with the manifests that were stored when the runs ended.

    URL is a run, an experiment, any folder with runs below it, or a quoted pattern. The command prints one line per
    run.
    """
    from notata.search import verdicts

    codes: list[int] = []
    for verdict in verdicts(asked.query, progress=wanted(progress)):
        if asked.as_json:
            output.json_line(verdict.record())
        else:
            output.line(str(verdict))
        codes.append(verdict.code)
    print_notes(asked.query.notes())
    if not codes:
        output.error_line("Nothing was verified: no run matches")
    click.get_current_context().exit(max(codes, default=STORAGE, key=_GRAVITY.index))
