"""``notata cat``: print files of runs."""

from __future__ import annotations

import codecs
from contextlib import closing
from itertools import chain
from typing import TYPE_CHECKING

import click

from notata._base.terminal import safe_lines
from notata.cli import output
from notata.cli.frame import Command
from notata.cli.picking import Asked, filter_options, searching

if TYPE_CHECKING:
    from notata.search import Content

__all__ = ["cat"]

_LOOKED_AT = 8192  # bytes that decide whether a file is shown as text


@click.command(
    cls=Command,
    short_help="Print files; describe arrays, pickles, tables and images.",
    examples=(
        "notata cat outputs/log_a/log.txt",
        "notata cat s3://bucket/outputs/log_a/data/energy.npy",
        "notata cat --json 's3://bucket/outputs/log_*/artifacts/metrics.json' | jq .content.error",
        "notata cat 's3://bucket/sweep/log_*/artifacts/debug/traceback.txt' --status failed",
        "notata cat --raw gs://bucket/outputs/log_a/plots/energy.png > energy.png",
    ),
    epilog="Exit codes: 0 success; 1 a file is missing or is a folder, or no run matches; 2 usage error; 3 storage "
    "error, or a file is damaged.",
)
@click.argument("urls", metavar="URL...", nargs=-1, required=True)
@click.option("--raw", is_flag=True, help="Print every file unchanged, including npy, npz, pickle, parquet and png.")
@click.option(
    "--stats/--no-stats", default=True, help="Compute statistics of arrays. This reads each array completely."
)
@click.option(
    "--head",
    type=click.IntRange(min=0),
    default=6,
    help="Number of values to show from the start of an array. Default: 6.",
)
@searching(filter_options)
def cat(asked: Asked, raw: bool, stats: bool, head: int) -> None:
    """Print files, one after the other.

    URL is any file, or a quoted pattern. Text and files of unknown formats are printed unchanged. An npy or npz file
    is shown as shape, dtype, statistics and first values. A pickle is never loaded: the command shows which functions
    it would call and which objects it would create. A parquet file is shown as its columns, a png file as its size in
    pixels. With --status or --where, URL must be a pattern that matches files in runs.
    """
    from notata.errors import NotataError
    from notata.search import contents

    found = not asked.filters
    for content in contents(asked.query, raw=raw, stats=stats, head=head):
        found = True
        try:
            if asked.as_json:
                output.json_line(content.record())
            elif content.is_described:
                _show(str(content.description()))
            elif output.is_terminal():
                _show_text(content)
            else:
                for piece in content.pieces():
                    click.echo(piece, nl=False)
        except NotataError as error:
            asked.collector(error)
    asked.end(found=found)


def _show(text: str) -> None:
    for line in text.splitlines():
        output.line(line)


def _show_text(content: Content) -> None:
    """Print a file on a terminal without control sequences; of a binary file, print the beginning."""
    from notata.search.describing import is_text

    with closing(content.pieces()) as pieces:
        first = next(pieces, b"")
        if is_text(first[:_LOOKED_AT]):
            decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
            for piece in chain([first], pieces):
                click.echo(safe_lines(decoder.decode(piece)), nl=False)
            click.echo(safe_lines(decoder.decode(b"", final=True)), nl=False)
            return
    _show(str(content.unknown(first)))
    output.error_line("Binary file: only its beginning is shown on a terminal. Redirect the output to get all of it.")
