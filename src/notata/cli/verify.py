"""``notata verify``: check the files of runs against their manifests."""

from __future__ import annotations

from typing import Any

import click

from notata.cli import output
from notata.cli.frame import (
    FOUND,
    NOTHING,
    STORAGE,
    Command,
    json_option,
    progress_option,
    storage_option,
    urls_argument,
    wanted,
)
from notata.cli.picking import filter_of, filter_options, print_filter_notes

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
    epilog="Exit code: 0 all files match; 1 a file is missing or changed; 2 usage; 3 no damage is known, but a run "
    "could not be checked completely, or there is no run.",
)
@urls_argument
@filter_options
@storage_option()
@json_option
@progress_option
@click.pass_context
def verify(
    context: click.Context,
    urls: list[str] | None,
    status: list[str] | None,
    where: str | None,
    storage_options: dict[str, Any],
    as_json: bool,
    progress: bool | None,
) -> None:
    """Read the files of runs again and compare them with the manifests that the runs stored at their end.

    URL is a run, an experiment, any folder with runs below it, or a quoted pattern. Prints a line for each run.
    """
    from notata.search import verdicts

    codes: list[int] = []
    holds = filter_of(where)
    for verdict in verdicts(
        urls, status=status, where=holds, storage_options=storage_options, progress=wanted(progress)
    ):
        if as_json:
            output.json_line(verdict.record())
        else:
            output.line(str(verdict))
        codes.append(verdict.code)
    print_filter_notes(holds)
    if not codes:
        output.error_line("Nothing was verified: no run matches")
    context.exit(max(codes, default=STORAGE, key=_GRAVITY.index))
