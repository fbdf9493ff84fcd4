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
    short_help="Check whether a storage can hold runs, and how to fix it if not.",
    examples=(
        "notata doctor",
        "notata doctor s3://bucket/outputs -o endpoint_url=http://127.0.0.1:9000",
        "notata doctor gs://bucket/outputs --read-only --json",
    ),
    epilog="Exit code: 0 all checks pass; 1 a check is poor, such as a slow or unprotected storage; 2 the URL is "
    "wrong; 3 runs cannot be kept there.",
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
    """Check whether URL can be reached, listed, read and written, and how to fix each check that fails.

    The command writes some small files into a hidden folder below URL, .notata-…, and removes them. It shows no secret.
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
