"""``notata du``: show how much space files take, and where."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

import click

from notata.cli import output
from notata.cli.frame import Command, size_option, urls_argument
from notata.cli.picking import Asked, filter_options, searching

if TYPE_CHECKING:
    from notata.search import Usage
    from notata.search.measuring import By

__all__ = ["du"]


@click.command(
    cls=Command,
    short_help="Show sizes by folder, run or kind of file.",
    examples=(
        "notata du -d 1 s3://bucket/outputs",
        "notata du --by run --sort size gs://bucket/outputs",
        "notata du --by suffix 's3://bucket/outputs/log_*'",
        "notata du -s -c outputs s3://bucket/outputs",
        "notata du --by run s3://bucket/outputs --status failed --where 'age > days(30)'",
    ),
)
@urls_argument
@click.option("-d", "--depth", type=click.IntRange(min=0), help="Show folders up to this depth below URL.")
@click.option("-s", "--summarize", is_flag=True, help="Show only a total for each URL; the same as -d 0.")
@click.option("-a", "--all", "files", is_flag=True, help="Show files too.")
@click.option(
    "--by",
    type=click.Choice(["folder", "run", "suffix"]),
    default="folder",
    help="Group sizes by folder, by run, or by the suffix of file names. Default: folder.",
)
@click.option(
    "--sort", "order", type=click.Choice(["name", "size"]), help="Sort by name, or by size with the largest first."
)
@click.option("-c", "--total", is_flag=True, help="Show the sum of all URLs at the end.")
@size_option
@searching(filter_options)
def du(
    asked: Asked,
    depth: int | None,
    summarize: bool,
    files: bool,
    by: By,
    order: str | None,
    total: bool,
    human: bool | None,
) -> None:
    """Sum up the sizes of files, from one listing of each URL; files are read only if a filter needs them.

    URL is a folder, a run, a file, or a quoted pattern. Each line shows the size and the name of a folder. With
    --status or --where, only files in matching runs count.
    """
    from notata.search import usage

    if by != "folder" and (summarize or files or depth is not None):
        raise click.UsageError("-a, -d and -s need --by folder")
    if summarize and (files or depth is not None):
        raise click.UsageError("-s cannot be combined with -a or -d")
    usages = usage(asked.query, by=by, depth=0 if summarize else depth, files=files)
    if order:
        usages = iter(sorted(usages, key=lambda one: (-one.size if order == "size" else 0, one.name)))
    asked.end(found=_print(usages, total, human, asked.as_json))


def _print(usages: Iterator[Usage], total: bool, human: bool | None, as_json: bool) -> bool:
    """Print all lines, and if `total` is true their sum at the end; return whether there was a line."""
    from notata.search import Usage

    first = next(usages, None)
    sums = Usage("total", "total")

    def each() -> Iterator[Usage]:
        for one in chain([first] if first else [], usages):
            if not one.depth:  # nested entries count once
                sums.add(one)
            yield one
        if total:
            yield sums

    size = output.sizes(human)
    if as_json:
        for one in each():
            output.json_line(one.record())
    elif output.is_terminal():
        rows = ((size(one.size), one.files, _name(one)) for one in each())
        output.rows(("size", "files", "name"), rows, right=("size", "files"))
    else:
        output.rows(("size", "name"), ((size(one.size), _name(one)) for one in each()))
    if not as_json:
        output.print_unfinished(sums.unfinished_files, sums.unfinished)
    return first is not None


def _name(one: Usage) -> str:
    if one.kind == "suffix":
        return one.name or "no suffix"
    return f"{one.name} (in no run)" if one.kind == "others" else one.name
