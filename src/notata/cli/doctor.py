"""``notata doctor``: whether runs can be kept at a place."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from notata.cli import output
from notata.cli.frame import FOUND, NOTHING, STORAGE, USAGE, Command, complete_url, json_option, storage_option

if TYPE_CHECKING:
    from notata.search import Check

__all__ = ["doctor"]

_COLOURS = {"yes": "green", "no": "red", "poor": "yellow", "skipped": "dim", "info": "dim"}
_CODES = {"no": STORAGE, "poor": NOTHING}


@click.command(
    cls=Command,
    short_help="Find out whether runs can be kept at a place, and what to do if not.",
    examples=(
        "notata doctor",
        "notata doctor s3://bucket/outputs -o endpoint_url=http://127.0.0.1:9000",
        "notata doctor gs://bucket/outputs --read-only --json",
    ),
    epilog="Exit code: 0 all is well; 1 something is poor, as slow or unprotected; 2 the URL makes no sense; 3 runs "
    "cannot be kept there.",
)
@click.argument("url", required=False, shell_complete=complete_url)
@click.option("--read-only", is_flag=True, help="Write nothing.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="Seconds for one request.",
)
@storage_option()
@json_option
@click.pass_context
def doctor(
    context: click.Context,
    url: str | None,
    read_only: bool,
    timeout: float,
    storage_options: dict[str, Any],
    as_json: bool,
) -> None:
    """Find out whether URL can be reached, listed, read and written, and what each no needs.

    It writes some small files into a hidden folder below URL, .notata-…, and removes them. No secret is shown.
    """
    from notata.search import diagnose

    checks = diagnose(url, storage_options=storage_options, read_only=read_only, timeout=timeout)
    if as_json:
        for check in checks:
            output.json_line(dataclasses.asdict(check))
    else:
        output.rows(
            ("check", "state", "what was found"),
            [(check.name, check.state, _told(check)) for check in checks],
            colours=_COLOURS,
        )
    if checks[0].state == "no":  # the URL itself
        context.exit(USAGE)
    context.exit(max(_CODES.get(check.state, FOUND) for check in checks))


def _told(check: Check) -> str:
    """What was found, and what to do: the advice of the check, in place of the shorter one that an error carries."""
    told = check.told.partition("; ")[0] if check.state == "no" and check.advice else check.told
    return f"{told}. {check.advice}".strip(". ")
