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
    short_help="Copy runs to another place; send only the differences.",
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
    help="Delete files at the destination that the source does not have, and replace different runs that have the "
    "same id.",
)
@click.option(
    "--follow-links",
    is_flag=True,
    help="Copy the files that links in SOURCE point to. Default: skip links and list them.",
)
@storage_option()
@storage_option("--source-option", of=" for the source only")
@storage_option("--destination-option", of=" for the destination only")
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
    """Copy SOURCE, a run, an experiment or a folder of runs, to DESTINATION, and send only the differences.

    A run is copied to a folder of the same name below DESTINATION, unless DESTINATION itself is called log_…. Without
    DESTINATION, the command sends nothing: it shows the mirror that the run recorded, and how to sync to it. After an
    interruption, start the command again, and it continues. If some files cannot be copied, the command lists the
    errors and copies all others.
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
