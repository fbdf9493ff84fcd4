"""``notata curve``: draw values over time of many runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from notata.cli import output
from notata.cli.frame import FOUND, NOTHING, Command, urls_argument
from notata.cli.picking import Asked, picking_options, print_notes, searching

if TYPE_CHECKING:
    from notata.cli.curve_output import Options

__all__ = ["curve"]


@click.command(
    cls=Command,
    short_help="Plot values over time, for one or many runs, in the terminal.",
    examples=(
        "notata curve outputs/log_pendulum -y loss",
        "notata curve outputs/sweep -y loss --log --sort loss.min -n 5",
        "notata curve -f s3://bucket/outputs --status running -y loss -y val/loss --smooth 0.9",
        "notata curve outputs --series residual -x time -y r --csv > residuals.csv",
    ),
    epilog="Exit codes: 0 success; 1 no curve found, or with -f a run did not end as complete; 2 usage error; 3 "
    "storage error.",
)
@urls_argument
@click.option(
    "-y",
    "y",
    multiple=True,
    metavar="COLUMN",
    help="Column to plot, or a quoted pattern. Repeat the option to show several columns in one plot. Default: a "
    "separate plot for each column.",
)
@click.option(
    "-x",
    "x",
    default="step",
    show_default=True,
    metavar="[step|time|relative|COLUMN]",
    help="Horizontal axis: step, time of day, time since the first row of a run, or a column.",
)
@click.option(
    "--series", default="scalars", show_default=True, metavar="NAME", help="Series that contains the columns."
)
@click.option("--workers", is_flag=True, help="Plot the series of workers too.")
@click.option(
    "--smooth",
    type=click.FloatRange(min=0, max=1, max_open=True),
    default=0.0,
    metavar="WEIGHT",
    help="Smooth with an exponential moving average of this weight, from 0 to less than 1.",
)
@click.option("--log", is_flag=True, help="Use a logarithmic vertical axis.")
@click.option(
    "--width", type=click.IntRange(min=20), metavar="N", help="Width in characters. Default: fit the terminal."
)
@click.option(
    "--height", type=click.IntRange(min=6), metavar="N", help="Height of a plot in lines. Default: fit the terminal."
)
@click.option("-f", "--follow", is_flag=True, help="Redraw when rows are added, until the runs have ended.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Time between polls; up to ten times longer while there are no new rows.  [default: 1 on a local disk, else "
    "2]",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV with a header (RFC 4180), one row per point.")
@searching(picking_options)
def curve(asked: Asked, follow: bool, interval: float | None, as_csv: bool, **given: Any) -> None:
    """Plot columns of a series over the steps of one or many runs, or print them as JSON or CSV.

    On a terminal, each curve has its own colour. In a pipe, or with NO_COLOR, each curve has its own character. The
    legend shows the parameters that differ between the runs, or else their ids, and the last, smallest and largest
    value of each curve.
    """
    if as_csv and asked.as_json:
        raise click.UsageError("--csv and --json cannot be combined")
    if (as_csv or asked.as_json) and (given["log"] or given["width"] or given["height"]):
        raise click.UsageError("--log, --width and --height apply to plots, not to --json and --csv")
    from notata.cli.curve_output import Options

    options = Options(**given)
    if not follow:
        _print(asked, options, as_csv)
    else:
        _follow(asked, options, as_csv, interval)


def _print(asked: Asked, options: Options, as_csv: bool) -> None:
    """Print the curves as they are now; as JSON and CSV, while later ones are being read."""
    from notata.cli.curve_output import printer_for
    from notata.search.curving import curves_in, place_of, runs_having

    runs = runs_having(asked.query, options.series, workers=options.workers, values=True)
    curves = curves_in(
        runs,
        options.y or None,
        options.x,
        series=options.series,
        smooth=options.smooth,
        workers=options.workers,
        place=place_of(asked.query),
        failed=asked.collector,
    )
    found = printer_for(options, runs, as_json=asked.as_json, as_csv=as_csv).show(curves)
    print_notes(runs.notes)
    if runs and not found and asked.collector.code == FOUND:
        output.error_line(f"No points: no row has a number in {_columns(options)}")
    asked.collector.end(found=found)


def _follow(asked: Asked, options: Options, as_csv: bool, interval: float | None) -> None:
    """Print the curves again when rows were added, until all runs have ended; a picture in a pipe only at the end."""
    from notata.cli.curve_output import printer_for
    from notata.search.curving import runs_with
    from notata.search.watching import CurveWatcher

    runs = runs_with(asked.query, values=True)
    print_notes(runs.notes)
    printer = printer_for(options, runs, as_json=asked.as_json, as_csv=as_csv)
    watched = CurveWatcher(
        runs,
        options.y or None,
        options.x,
        series=options.series,
        smooth=options.smooth,
        workers=options.workers,
        interval=interval,
        tell=printer.tell,
    )
    found, last = False, []
    for last in watched:
        if printer.is_live:
            found = printer.show(iter(last)) or found
    if not printer.is_live:
        found = printer.show(iter(last))
    well = set(watched.ends.values()) <= {"complete"}
    click.get_current_context().exit(max(asked.collector.code, FOUND if well and found else NOTHING))


def _columns(options: Options) -> str:
    """Return the columns of a request for a message."""
    x = "" if options.x in ("step", "time", "relative") else f" and in {options.x}"
    return (" or ".join(options.y) or "any column") + x
