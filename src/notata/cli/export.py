"""``notata export``: write runs and their series as Parquet or CSV."""

from __future__ import annotations

from typing import Any

import click

from notata.cli import output
from notata.cli.frame import Command, complete_url, storage_option, urls_argument
from notata.cli.picking import Asked, picking_options, print_notes, searching
from notata.cli.table import names_option

__all__ = ["export"]


@click.command(
    cls=Command,
    short_help="Write runs and their series as Parquet or CSV.",
    examples=(
        "notata export outputs/sweep --parquet sweep",
        "notata export outputs --where 'age < days(7)' --series 'val/*' --long --parquet s3://bucket/week",
        "notata export outputs/sweep --csv sweep.csv",
    ),
    epilog="Exit codes: 0 success; 1 no run found, or no such series; 2 usage error; 3 storage error.",
)
@urls_argument
@click.option(
    "--parquet",
    metavar="FOLDER_OR_FILE",
    shell_complete=complete_url,
    help="Folder to write to, as a path or any fsspec URL; or a file name.parquet, for the table of runs only.",
)
@click.option("--csv", metavar="FOLDER_OR_FILE", shell_complete=complete_url, help="The same, but as CSV.")
@click.option(
    "--series",
    multiple=True,
    metavar="NAME",
    help="Series to export, or a quoted pattern; may be repeated. Default: all.",
)
@click.option("--no-series", is_flag=True, help="Write only the table of runs.")
@click.option("--long", is_flag=True, help="Write all series to one file, with one row per value.")
@click.option("--workers", is_flag=True, help="Include the series of workers.")
@click.option("--repeated", is_flag=True, help="Include rows of earlier attempts that a resumed run repeated.")
@names_option
@click.option("--fresh", is_flag=True, help="Read every run; do not use index.csv or an index.")
@storage_option("--output-option", "output_options", of=" for the output only")
@searching(picking_options)
def export(
    asked: Asked,
    parquet: str | None,
    csv: str | None,
    series: tuple[str, ...],
    no_series: bool,
    output_options: dict[str, Any],
    **options: Any,
) -> None:
    """Write the runs at or below each URL as tables for other programs: one table of the runs, and one for each series.

    The command writes runs.parquet, with parameters, status, times and metrics, and for each series a file
    series/NAME.parquet with run_id, step, time and the columns of the series. With --long, it writes one file
    series.parquet instead. Existing files with these names are replaced. Times, integers and NaN keep their types;
    nested values become JSON. The command needs the extra 'tables' (pyarrow).
    """
    from notata import search

    if (parquet is None) == (csv is None):
        raise click.UsageError("pass either --parquet or --csv, with the folder or file to write")
    if no_series and series:
        raise click.UsageError("--series and --no-series cannot be combined")
    done = search.export(
        asked.query,
        parquet or csv or "",
        form="csv" if parquet is None else "parquet",
        series=[] if no_series else list(series) or None,
        target_options=asked.options["storage_options"] | output_options,
        **options,
    )
    print_notes(done.notes)
    if asked.as_json:
        output.json_line({"url": done.url, "rows": dict(done.rows)})
    elif done.rows:
        output.line(str(done))
    asked.collector.end()
