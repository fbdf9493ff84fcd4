"""``notata doctor``: check whether a storage can hold runs."""

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
    short_help="Check whether a storage can hold runs, and show how to fix problems.",
    examples=(
        "notata doctor",
        "notata doctor s3://bucket/outputs -o endpoint_url=http://127.0.0.1:9000",
        "notata doctor gs://bucket/outputs --read-only --json",
    ),
    epilog="Exit codes: 0 all checks pass; 1 a check is poor, for example because the storage is slow or "
    "unprotected; 2 the URL is wrong; 3 the storage cannot hold runs.",
)
@click.argument("url", required=False, shell_complete=complete_url)
@click.option("--read-only", is_flag=True, help="Write nothing.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="Seconds to wait for each request.",
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
    """Check whether URL can be reached, listed, read and written, and show how to fix each check that fails.

    The command writes a few small files to a hidden folder below URL, .notata-…, and removes them afterwards. It does
    not print secrets.
    """
    from notata.search import diagnose

    checks = diagnose(url, storage_options=storage_options, read_only=read_only, timeout=timeout)
    if as_json:
        for check in checks:
            output.json_line(dataclasses.asdict(check))
    else:
        output.rows(
            ("check", "state", "result"),
            [(check.name, check.state, _result_text(check)) for check in checks],
            colours=_COLOURS,
        )
    if checks[0].state == "no":  # the URL itself is wrong
        context.exit(USAGE)
    context.exit(max(_CODES.get(check.state, FOUND) for check in checks))


def _result_text(check: Check) -> str:
    """Return the result with the advice of the check, which replaces the shorter advice in an error message."""
    result = check.told.partition("; ")[0] if check.state == "no" and check.advice else check.told
    return f"{result}. {check.advice}".strip(". ")
