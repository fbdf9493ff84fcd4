"""``notata sync``: make a copy of runs equal to the source."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import click

from notata.cli import output
from notata.cli.frame import Command, end_with, json_option, progress_option, storage_option, wanted

if TYPE_CHECKING:
    from notata.mirror.tree import SyncReport

__all__ = ["sync"]


@click.command(
    cls=Command,
    short_help="Make a copy of runs equal to the source; send only differences.",
    examples=(
        "notata sync outputs/log_a s3://bucket/outputs",
        "notata sync gs://bucket/outputs/sweep outputs/sweep --dry-run",
    ),
)
@click.argument("source")
@click.argument("destination", required=False)
@click.option("--dry-run", is_flag=True, help="Write nothing; list the planned changes.")
@click.option(
    "--delete",
    is_flag=True,
    help="Delete files at the destination that the source does not have, and replace other runs with the same id.",
)
@click.option(
    "--follow-links",
    is_flag=True,
    help="Copy the files that links of SOURCE point to. Default: skip links and list them.",
)
@storage_option()
@storage_option("--source-option", of=", of the source alone")
@storage_option("--destination-option", of=", of the destination alone")
@json_option
@progress_option
def sync(
    source: str,
    destination: str | None,
    dry_run: bool,
    delete: bool,
    follow_links: bool,
    storage_options: dict[str, Any],
    source_option: dict[str, Any],
    destination_option: dict[str, Any],
    as_json: bool,
    progress: bool | None,
) -> None:
    """Make DESTINATION equal to SOURCE, a run, an experiment or a folder of them; send only the differences.

    A run goes below DESTINATION, under its own name, unless DESTINATION is called log_… itself. Without DESTINATION
    the command sends nothing: it shows the mirror that the run records, and how to sync to it. Start the command again
    after an interruption: it continues. Errors are listed for what cannot be copied; everything else is copied.
    """
    from notata.mirror.tree import sync

    errors: list[Exception] = []
    report = sync(
        source,
        destination,
        source_options=storage_options | source_option,
        destination_options=storage_options | destination_option,
        delete=delete,
        dry_run=dry_run,
        follow_links=follow_links,
        progress=wanted(progress),
        failed=errors.append,
    )
    if as_json:
        messages = [str(error) for error in errors]
        output.json_line({**dataclasses.asdict(report), "bytes": report.bytes, "errors": messages})
    else:
        _list(report)
    end_with(errors)


def _list(report: SyncReport) -> None:
    """Print each file of a dry run, the skipped names, and the sum."""
    listed = (("copy", report.copied), ("append", report.appended), ("delete", report.deleted))
    for verb, files in listed if report.dry_run else ():
        for key, size in sorted(files.items()):
            output.line(f"{verb:6} {size:>12} {key}")
    for name in report.left_out:
        output.error_line(f"skipped, because it is not a regular file: {name}")
    output.line(str(report))
