"""``notata tail``: print and follow the ends of logs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from notata.cli import output
from notata.cli.frame import FOUND, NOTHING, Command, urls_argument
from notata.cli.picking import Asked, filter_options, print_notes, searching

if TYPE_CHECKING:
    from notata.search.tailing import News

__all__ = ["tail"]


@click.command(
    cls=Command,
    count="-n",
    short_help="Print the last lines of logs, and with -f follow them.",
    examples=(
        "notata tail outputs/log_pendulum",
        "notata tail -f s3://bucket/outputs/log_pendulum",
        "notata tail -f outputs --status running",
        "notata tail -n 1 -q 's3://bucket/sweep/runs/log_*'",
        "notata tail -f --series scalars outputs/log_pendulum | jq .loss",
        "notata tail -f --output outputs/log_pendulum",
        "notata tail -f --json outputs/log_pendulum | jq -r 'select(.level == \"ERROR\") | .message'",
    ),
    epilog="Exit codes: 0 success; 1 no log found, or with -f a run did not end as complete; 2 usage error; 3 "
    "storage error.",
)
@urls_argument
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    metavar="N",
    help="Number of lines to print from each log.",
)
@click.option("-f", "--follow", is_flag=True, help="Print new lines as they arrive, until the runs have ended.")
@click.option("-F", "--forever", is_flag=True, help="Like -f, but continue after the runs have ended.")
@click.option("--series", metavar="NAME", help="Print the rows of this series instead of the log.")
@click.option("--output", "printed", is_flag=True, help="Print the output of the program instead of the log.")
@click.option("--workers", is_flag=True, help="Print the logs or series of workers too.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Time between polls; up to ten times longer for a quiet log.  [default: 0.2 on a local disk, else 1]",
)
@click.option("-q", "--quiet", is_flag=True, help="Do not print the names of logs.")
@searching(filter_options)
def tail(
    asked: Asked,
    lines: int,
    follow: bool,
    forever: bool,
    series: str | None,
    printed: bool,
    workers: bool,
    interval: float | None,
    quiet: bool,
) -> None:
    """Print the last lines of the logs or series of runs, or of other files; only the ends of files are read.

    URL is a run, an experiment, any folder with runs below it, a file, or a quoted pattern.
    """
    from notata.search.following import Following
    from notata.search.tailing import logs_at, outputs_at, series_at, tails

    collector = asked.collector
    follow = follow or forever
    if printed and series is not None:
        raise click.UsageError("Pass either --output or --series.")
    if series is not None and not follow:
        logs = series_at(asked.query, series, workers=workers)
    elif printed and not follow:
        logs = outputs_at(asked.query, workers=workers)
    else:
        logs = list(logs_at(asked.query, workers=workers, series=series, output=printed))
    print_notes(asked.query.notes())
    show = _Printer(names=not quiet and (len(logs) > 1 or (workers and follow)), as_json=asked.as_json)
    if not follow:
        for news in tails(logs, lines, failed=collector):
            show(news)
        collector.end(found=bool(logs))
    watched = Following(logs, lines, workers=workers, forever=forever, interval=interval, tell=output.error_line)
    for news in watched:
        show(news)
    well = set(watched.ends.values()) <= {"complete"}
    click.get_current_context().exit(max(collector.code, FOUND if well and logs else NOTHING))


class _Printer:
    """Prints news of logs, each under its name if there are several logs."""

    def __init__(self, *, names: bool, as_json: bool) -> None:
        self._names = names
        self._json = as_json
        self._last: str | None = None

    def __call__(self, news: News) -> None:
        """Print news of one log."""
        name = news.log.name
        if self._json:
            _objects(news)
            return
        if self._names and name != self._last:
            if self._last is not None:
                output.line()
            output.line(f"==> {name} <==")
            self._last = name
        output.content(news.text.encode("utf-8", "surrogateescape"))


def _objects(news: News) -> None:
    from notata._base import keys
    from notata.run.runlog import RunLog

    fields = {"name": news.log.name, "run_id": news.log.run_id, "key": news.log.key}
    if keys.series_name(news.log.key) is not None:
        for row in news.lines:
            output.json_line({**fields, "row": _row(row)})
        return
    if keys.is_output(news.log.key):
        for text in news.lines:
            output.json_line({**fields, "line": text})
        return
    for line in RunLog(news.text):
        output.json_line({**fields, "time": line.time, "level": line.level, "message": line.message})


def _row(line: str) -> object:
    """Return a row of a series; a line that is no row as text."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return line
