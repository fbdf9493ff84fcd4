"""``notata report``: write a page of many runs as one file."""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Any

import click

from notata.cli import output
from notata.cli.frame import USAGE, Command, complete_url, json_option, print_error, storage_option, urls_argument
from notata.cli.picking import Asked, fresh_option, picking_options, print_notes
from notata.errors import ExistsError, NotataError

if TYPE_CHECKING:
    from notata.page.output import Output
    from notata.page.report import Report, ReportWriter

__all__ = ["report"]


@click.command(
    cls=Command,
    short_help="Write a report of many runs as one HTML file.",
    examples=(
        "notata report outputs/sweep",
        "notata report outputs/sweep -o sweep.html --sort loss --group seed",
        "notata report s3://bucket/outputs --where 'age < days(7)' --series 'val/*' --max-size 5MB",
        "notata report outputs -o s3://bucket/report.html --watch 60",
        "notata report outputs -o - | gzip > report.html.gz",
    ),
    epilog="Exit codes: 0 success; 1 no run found, so nothing is written; 2 usage error; 3 storage error; 130 after "
    "Ctrl-C.",
)
@urls_argument
@click.option(
    "-o",
    "--output",
    "target",
    default="report.html",
    show_default=True,
    metavar="FILE_OR_URL",
    shell_complete=complete_url,
    help="File to write, as a path or any fsspec URL; - for standard output. The command replaces an earlier report, "
    "but no other file.",
)
@picking_options
@click.option(
    "--series",
    multiple=True,
    metavar="NAME",
    help="Series or columns to plot, or a quoted pattern; may be repeated. Default: all.",
)
@click.option("--group", multiple=True, metavar="NAME", help="Average the curves over this parameter, such as seed.")
@click.option("--max-size", default="20 MB", show_default=True, metavar="SIZE", help="Maximum size of the file.")
@click.option("--title", metavar="TEXT", help="Title of the page. Default: the name in URL.")
@click.option(
    "--watch",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Look for changes at this interval, and write the report again after each change. Stop with Ctrl-C.",
)
@fresh_option
@click.option("--force", is_flag=True, help="Replace the file even if it is not a report.")
@click.option("--open", "opens", is_flag=True, help="Open the report in a browser.")
@storage_option("--storage-option", "storage_options")
@storage_option("--output-option", "output_options", of=" for the output only")
@json_option
def report(
    urls: list[str] | None,
    target: str,
    watch: float | None,
    force: bool,
    opens: bool,
    storage_options: dict[str, Any],
    output_options: dict[str, Any],
    series: tuple[str, ...],
    group: tuple[str, ...],
    max_size: str,
    title: str | None,
    fresh: bool,
    as_json: bool,
    **choice: Any,
) -> None:
    """Write one HTML file about the runs at or below each URL: table, curves, parameters, failures, logs, pictures.

    The file is self-contained and loads nothing from the network: open it in any browser, send it to others, or put it
    in a bucket. Its table has all runs. It contains as much of the rest as fits, and lists what is left out. If an
    experiment has more than 10,000 runs, the table is made from its index. For a live page, use notata view.
    """
    if target == "-" and (watch is not None or opens or as_json):
        raise click.UsageError("--watch, --open and --json need a file: name it with -o")
    from notata.page.report import ReportWriter, output_of

    asked = Asked({"urls": urls, "storage_options": storage_options or None, **choice}, as_json)
    to = output_of(sys.stdout.buffer if target == "-" else target, output_options or None, force=force)
    _check(to)
    writer = ReportWriter(asked.query, to, title=title, series=series, group=group, max_size=max_size, fresh=fresh)
    if watch is not None:
        try:
            _watch(writer, watch, opens, as_json)
        except NotataError as error:
            asked.collector(error)
        asked.collector.end()
    try:
        written = writer.write()
    except NotataError as error:  # the collector may have printed it
        asked.collector(error)
        asked.collector.end(found=False)
    print_notes(written.notes)
    if target != "-":
        _tell(written, as_json)
    if opens:
        _open(written)
    asked.collector.end(found=written.runs > 0)


def _check(to: Output) -> None:
    """End the command if the output is no place for a report; a file that is none is a mistake in the command."""
    try:
        to.check()
    except ExistsError as error:
        print_error(error)
        click.get_current_context().exit(USAGE)


def _watch(writer: ReportWriter, seconds: float, opens: bool, as_json: bool) -> None:
    """Write the report again whenever something has changed, until an interrupt."""
    from notata.page.report import ReportWatcher

    noted: set[str] = set()
    for written in ReportWatcher(writer, seconds, tell=output.error_line):
        print_notes(note for note in written.notes if note not in noted)
        noted.update(written.notes)
        _tell(written, as_json)
        if opens:
            _open(written)
            opens = False


def _tell(written: Report, as_json: bool) -> None:
    """Print what was written, and what is left out."""
    if as_json:
        output.json_line(dataclasses.asdict(written))
        return
    output.line(str(written))
    for sentence in written.left_out:
        output.error_line(f"Not in the report: {sentence}")


def _open(written: Report) -> None:
    """Open a report on this disk in a browser."""
    import webbrowser
    from pathlib import Path

    if "://" in written.url:
        output.error_line(f"--open needs a file on this disk; open {written.url} yourself")
        click.get_current_context().exit(USAGE)
    if not webbrowser.open(Path(written.url).absolute().as_uri()):
        output.error_line(f"There is no browser; open {written.url} yourself")
