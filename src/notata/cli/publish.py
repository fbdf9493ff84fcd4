"""``notata publish``: write runs as an RO-Crate."""

from __future__ import annotations

import dataclasses
from datetime import date
from typing import Any

import click

from notata.cli import output
from notata.cli.frame import (
    USAGE,
    Command,
    json_option,
    print_error,
    progress_option,
    storage_option,
    urls_argument,
    wanted,
)
from notata.cli.picking import filter_options
from notata.errors import ExistsError

__all__ = ["publish"]


def _date(_context: click.Context, _parameter: click.Parameter, text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise click.BadParameter("write it like 2026-03-01") from None


@click.command(
    cls=Command,
    short_help="Write runs as an RO-Crate: files, digests, a page, a citation.",
    examples=(
        "notata publish outputs/log_pendulum -o pendulum.zip --license CC-BY-4.0",
        "notata publish outputs/sweep --author 'Ada Lovelace <0000-0002-1825-0097>'",
        "notata publish s3://bucket/outputs --exclude '*.ckpt' -o s3://bucket/crates/all.zip",
    ),
    epilog="Exit codes: 0 the crate was written; 1 no run found; 2 usage error, a run has not ended, or the output "
    "exists already; 3 a file has changed since its run ended, or a storage cannot be read or written.",
)
@urls_argument
@click.option(
    "-o",
    "--output",
    "target",
    default="crate.zip",
    show_default=True,
    metavar="FILE_OR_URL",
    help="Where to write the crate, as a path or any fsspec URL: a zip file, or a folder if the name does not end "
    "with .zip.",
)
@click.option(
    "--name", metavar="TEXT", help="Title of the crate. Default: the id of the run, or the name of its folder."
)
@click.option(
    "--description", metavar="TEXT", help="Description of the crate. Default: the number and ids of the runs."
)
@click.option(
    "--author",
    "authors",
    multiple=True,
    metavar="'NAME <ORCID>'",
    help="Person who made the runs, with or without an ORCID; may be repeated. Default: no person is named.",
)
@click.option("--license", metavar="LICENSE", help="SPDX identifier, such as CC-BY-4.0, or URL of a license.")
@click.option("--repository", metavar="URL", help="URL of the code repository, for runs that did not record it.")
@click.option(
    "--date", "published", metavar="DATE", callback=_date, help="Date of publication. Default: the end of the last run."
)
@click.option(
    "--include", multiple=True, metavar="PATTERN", help="Publish only these files or folders of runs; may be repeated."
)
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave out these files or folders; may be repeated.")
@click.option("--with-host", is_flag=True, help="Also publish the names of machines and users in metadata.json.")
@click.option("--allow-changed", is_flag=True, help="Also publish files that differ from the manifest of their run.")
@filter_options
@click.option("--force", is_flag=True, help="Also publish runs that are running or died.")
@click.option("--replace", is_flag=True, help="Replace an existing zip file.")
@storage_option("--storage-option", "storage_options")
@storage_option("--output-option", "output_options", of=" for the output only")
@json_option
@progress_option
def publish(
    urls: list[str] | None,
    target: str,
    storage_options: dict[str, Any],
    output_options: dict[str, Any],
    as_json: bool,
    progress: bool | None,
    **arguments: Any,
) -> None:
    """Write the runs at or below each URL as one RO-Crate (1.1, Process Run Crate 0.5), for a data repository.

    The crate contains the files of the runs, ro-crate-metadata.json with the size, type and SHA-256 of each file, an
    HTML page of the runs, and CITATION.cff. The command compares the files with the manifests of their runs. It sends
    nothing to a repository, and names no person or machine unless you ask for it.
    """
    from notata.publish import publish

    try:
        written = publish(
            urls,
            target,
            storage_options=storage_options or None,
            output_options=output_options or None,
            progress=wanted(progress),
            **arguments,
        )
    except ExistsError as error:  # a mistake in the command
        print_error(error)
        click.get_current_context().exit(USAGE)
    for note in written.notes:
        output.error_line(f"Note: {note}")
    if as_json:
        output.json_line(dataclasses.asdict(written))
    else:
        output.line(str(written))
