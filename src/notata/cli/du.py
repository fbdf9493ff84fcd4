"""``notata du``: how many bytes there are, and where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from notata.cli import output
from notata.cli.frame import Command, Trouble, json_option, size_option, storage_option, urls_argument
from notata.cli.picking import filter_of, filter_options, tell_oddities

if TYPE_CHECKING:
    from notata.search import Usage
    from notata.search.measuring import By

__all__ = ["du"]


@click.command(
    cls=Command,
    short_help="Tell how many bytes there are, by folder, run or kind of file.",
    examples=(
        "notata du -d 1 s3://bucket/outputs",
        "notata du --by run --sort size gs://bucket/outputs",
        "notata du --by suffix 's3://bucket/outputs/log_*'",
        "notata du -s -c outputs s3://bucket/outputs",
        "notata du --by run s3://bucket/outputs --status failed --where 'age > days(30)'",
    ),
)
@urls_argument
@click.option("-d", "--depth", type=click.IntRange(min=0), help="Tell folders that lie at most so deep below URL.")
@click.option("-s", "--summarize", is_flag=True, help="Tell each URL only, as -d 0.")
@click.option("-a", "--all", "files", is_flag=True, help="Tell files too.")
@click.option(
    "--by",
    type=click.Choice(["folder", "run", "suffix"]),
    default="folder",
    help="What a line is for: a folder, a run, or all files that end alike. Default: folder.",
)
@click.option("--sort", type=click.Choice(["name", "size"]), help="By name, or the largest first.")
@click.option("-c", "--total", is_flag=True, help="Tell the sum of all URLs at the end.")
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
    """Sum up the sizes of files, in one listing of each URL; nothing is read unless a filter asks for it.

    URL is a folder, a run, a file, or a pattern in quotes. A line for each folder: its size and its name. With
    --status or --where only what lies in such runs counts.
    """
    from notata.search import usage

    if by != "folder" and (summarize or files or depth is not None):
        raise click.UsageError("-a, -d and -s go with --by folder")
    if summarize and (files or depth is not None):
        raise click.UsageError("-s goes without -a and -d")
    trouble = Trouble()
    holds = filter_of(where)
    told = usage(
        urls,
        by=by,
        depth=0 if summarize else depth,
        files=files,
        status=status,
        where=holds,
        storage_options=storage_options,
        failed=trouble,
    )
    found = _print(_summed(_sorted(told, sort), total), human, as_json)
    tell_oddities(holds)
    trouble.end(found=found)


def _sorted(told: Iterable[Usage], sort: str | None) -> Iterable[Usage]:
    if sort is None:
        return told
    return sorted(told, key=lambda one: (-one.size if sort == "size" else 0, one.name))


def _summed(told: Iterable[Usage], total: bool) -> Iterator[Usage]:
    """What is told, and at the end the sum of what lies in nothing else that is told."""
    from notata.search import Usage

    whole = Usage("total", "total")
    for one in told:
        if not one.depth:
            whole.size += one.size
            whole.files += one.files
            whole.unfinished += one.unfinished
            whole.unfinished_files += one.unfinished_files
        yield one
    if total:
        yield whole


def _print(told: Iterable[Usage], human: bool | None, as_json: bool) -> bool:
    """Print it; whether there was something."""
    found = False
    unfinished = unfinished_files = 0

    def each() -> Iterator[Usage]:
        nonlocal found, unfinished, unfinished_files
        for one in told:
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
        output.tell_unfinished(unfinished_files, unfinished)
    return found


def _name(one: Usage) -> str:
    if one.kind == "suffix":
        return one.name or "no suffix"
    return f"{one.name} (in no run)" if one.kind == "others" else one.name
