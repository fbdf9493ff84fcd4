"""``notata du``: show how much space files take, and where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from notata.cli import output
from notata.cli.frame import Command, ErrorCollector, json_option, size_option, storage_option, urls_argument
from notata.cli.picking import filter_of, filter_options, print_filter_notes

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
@click.option("-s", "--summarize", is_flag=True, help="Show only a total for each URL, as -d 0.")
@click.option("-a", "--all", "files", is_flag=True, help="Show files too.")
@click.option(
    "--by",
    type=click.Choice(["folder", "run", "suffix"]),
    default="folder",
    help="Group sizes by folder, by run, or by the suffix of file names. Default: folder.",
)
@click.option("--sort", type=click.Choice(["name", "size"]), help="Order by name, or by size, the largest first.")
@click.option("-c", "--total", is_flag=True, help="Show the sum of all URLs at the end.")
@size_option
@filter_options
@storage_option()
@json_option
def du(
    urls: list[str] | None,
    depth: int | None,
    summarize: bool,
    files: bool,
    by: By,
    sort: str | None,
    total: bool,
    human: bool | None,
    status: list[str] | None,
    where: str | None,
    storage_options: dict[str, Any],
    as_json: bool,
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
    collector = ErrorCollector()
    holds = filter_of(where)
    usages = usage(
        urls,
        by=by,
        depth=0 if summarize else depth,
        files=files,
        status=status,
        where=holds,
        storage_options=storage_options,
        failed=collector,
    )
    found = _print(_summed(_sorted(usages, sort), total), human, as_json)
    print_filter_notes(holds)
    collector.end(found=found)


def _sorted(usages: Iterable[Usage], sort: str | None) -> Iterable[Usage]:
    if sort is None:
        return usages
    return sorted(usages, key=lambda one: (-one.size if sort == "size" else 0, one.name))


def _summed(usages: Iterable[Usage], total: bool) -> Iterator[Usage]:
    """Yield all lines, and at the end their sum; nested entries count once."""
    from notata.search import Usage

    whole = Usage("total", "total")
    for one in usages:
        if not one.depth:
            whole.size += one.size
            whole.files += one.files
            whole.unfinished += one.unfinished
            whole.unfinished_files += one.unfinished_files
        yield one
    if total:
        yield whole


def _print(usages: Iterable[Usage], human: bool | None, as_json: bool) -> bool:
    """Print all lines, and return whether there was one."""
    found = False
    unfinished = unfinished_files = 0

    def each() -> Iterator[Usage]:
        nonlocal found, unfinished, unfinished_files
        for one in usages:
            found = found or one.kind != "total"
            if one.kind != "total" and not one.depth:
                unfinished += one.unfinished
                unfinished_files += one.unfinished_files
            yield one

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
        output.print_unfinished(unfinished_files, unfinished)
    return found


def _name(one: Usage) -> str:
    if one.kind == "suffix":
        return one.name or "no suffix"
    return f"{one.name} (in no run)" if one.kind == "others" else one.name
