"""``notata import``: make runs from what another tool left on a disk or in a bucket."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

import click

from notata.cli import output
from notata.cli.frame import Command, complete_url, end_with, json_option, progress_option, storage_option, wanted

if TYPE_CHECKING:
    from notata.importing import ImportReport

__all__ = ["import_command"]

_KINDS: Final = ("dvclive", "mlruns", "sacred", "tensorboard", "wandb")
"""The names in `notata.importing.KINDS`, repeated here because that package is imported only on use."""

_LISTED: Final = 20  # runs with parts that were left out


@click.command(
    "import",
    cls=Command,
    short_help="Import runs from MLflow, TensorBoard, Sacred, DVCLive or W&B.",
    examples=(
        "notata import mlruns mlruns outputs",
        "notata import tensorboard lightning_logs s3://bucket/outputs --dry-run",
        "notata import sacred my_runs outputs --update",
    ),
    epilog="Exit codes: 0 success; 1 there is no run at SOURCE; 2 usage error; 3 storage error, or some runs could "
    "not be imported.",
)
@click.argument("kind", type=click.Choice(_KINDS), metavar="mlruns|tensorboard|sacred|dvclive|wandb")
@click.argument("source", shell_complete=complete_url)
@click.argument("destination", required=False, shell_complete=complete_url)
@click.option("--update", is_flag=True, help="Import runs again if they have changed in the source.")
@click.option("--deleted", is_flag=True, help="Also import runs that were deleted in MLflow.")
@click.option("--dry-run", is_flag=True, help="Write nothing; list the runs that would be imported.")
@storage_option()
@storage_option("--source-option", of=" for the source only")
@storage_option("--destination-option", of=" for the destination only")
@json_option
@progress_option
def import_command(
    kind: str,
    source: str,
    destination: str | None,
    update: bool,
    deleted: bool,
    dry_run: bool,
    storage_options: dict[str, Any],
    source_option: dict[str, Any],
    destination_option: dict[str, Any],
    as_json: bool,
    progress: bool | None,
) -> None:
    """Import the runs of another tool from SOURCE to DESTINATION; nothing at SOURCE is changed.

    Runs keep their ids and times. Runs of an experiment go to DESTINATION/<experiment>/runs, others to
    DESTINATION/runs. To continue after an interruption, or to import new runs, start the command again: it skips runs
    that are already there. If some runs cannot be imported, the command lists the errors and imports all others.
    """
    from notata.importing import import_runs

    errors: list[Exception] = []
    report = import_runs(
        kind,
        source,
        destination,
        update=update,
        deleted=deleted,
        dry_run=dry_run,
        source_options=storage_options | source_option,
        destination_options=storage_options | destination_option,
        progress=wanted(progress),
        failed=errors.append,
    )
    if as_json:
        output.json_line({**dataclasses.asdict(report), "errors": [str(error) for error in errors]})
    else:
        _list(report)
    end_with(errors)


def _list(report: ImportReport) -> None:
    """Print each run of a dry run, what was left out, and the sum."""
    listed = (("import", report.new), ("finish", report.finished), ("update", report.updated))
    for verb, urls in listed if report.dry_run else ():
        for url in urls:
            output.line(f"{verb} {url}")
    for url in report.changed:
        output.error_line(f"changed in the source, not updated: {url}")
    for url, parts in list(report.left_out.items())[:_LISTED]:
        output.error_line(f"left out of {url}: {'; '.join(parts)}")
    if len(report.left_out) > _LISTED:
        output.error_line(f"left out of {len(report.left_out) - _LISTED} more runs: see the field imported.left_out")
    output.line(str(report))
