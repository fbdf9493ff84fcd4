"""``notata verify``: receipts against bytes."""

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
from notata.cli.picking import filter_of, filter_options, tell_oddities

__all__ = ["verify"]

_GRAVITY = (FOUND, STORAGE, NOTHING)
"""The gravest last: damage that is known, before what cannot be told."""


@click.command(
    cls=Command,
    short_help="Check the files of runs against their manifests.",
    examples=(
        "notata verify outputs/log_pendulum",
        "notata verify s3://bucket/outputs -o endpoint_url=http://127.0.0.1:9000",
        "notata verify outputs --status complete --where 'age < days(7)'",
    ),
    epilog="Exit code: 0 all is as it was; 1 a file is missing or changed; 2 usage; 3 none is known to be, but of some "
    "run not everything can be told, or there is none.",
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
    """Read the files of runs again and compare them with the manifests that their ends left.

    URL is a run, an experiment, or any folder with runs below it, or a pattern. A line for each run.
    """
    from notata.search import verdicts

    told: list[int] = []
    holds = filter_of(where)
    for verdict in verdicts(
        urls, status=status, where=holds, storage_options=storage_options, progress=wanted(progress)
    ):
        if as_json:
            output.json_line(verdict.record())
        else:
            output.line(str(verdict))
        told.append(verdict.code)
    tell_oddities(holds)
    if not told:
        output.complain("Nothing was verified: no run there is of this kind")
    context.exit(max(told, default=STORAGE, key=_GRAVITY.index))
