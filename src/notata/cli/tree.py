"""``notata tree``: show folders and files as a tree."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from notata._base.display import counted
from notata._base.terminal import safe
from notata.cli import output
from notata.cli.frame import Command, size_option, urls_argument
from notata.cli.picking import Asked, searching

if TYPE_CHECKING:
    from notata.search import Usage

__all__ = ["tree"]


@click.command(
    cls=Command,
    short_help="Show folders and files as a tree, with their sizes.",
    examples=(
        "notata tree outputs/log_a",
        "notata tree -L 2 --status s3://bucket/outputs",
        "notata tree 'gs://bucket/outputs/log_*/artifacts'",
    ),
)
@urls_argument
@click.option("-L", "--level", type=click.IntRange(min=1), help="Show entries up to this depth below URL.")
@click.option("-d", "--directories", is_flag=True, help="Show folders only.")
@click.option("--status", is_flag=True, help="Show the status of each run. This costs one request per run.")
@size_option
@searching()
def tree(asked: Asked, level: int | None, directories: bool, status: bool, human: bool | None) -> None:
    """Show the files and folders at and below URL, from one listing; no file is read.

    URL is a folder, a run, a file, or a quoted pattern; each match of a pattern gets its own tree. Empty folders on a
    disk are omitted, because a bucket has none.
    """
    from notata.search import Usage, trees

    folders, sums = 0, Usage("total", "total")
    show = output.sizes(human)
    for root in trees(asked.query, status=status):
        for branch, one in _walk(root, level, directories):
            if asked.as_json:
                output.json_line(one.record() | ({"status": one.status or None} if status else {}))
            else:
                _print(branch, one, show)
        folders += sum(one.is_folder for _, one in _walk(root, None, True))
        sums.add(root)
    found = bool(folders or sums.files)
    if not asked.as_json and found:
        size = f"{show(sums.size)}{' bytes' * (show is str)}"
        output.line()
        output.line(f"{counted(folders, 'folder')}, {counted(sums.files, 'file')}, {size}")
    if not asked.as_json:
        output.print_unfinished(sums.unfinished_files, sums.unfinished)
    asked.end(found=found)


def _walk(root: Usage, level: int | None, directories: bool) -> Iterator[tuple[str, Usage]]:
    """Yield all entries to show, each with its tree lines; without recursion, so that depth is not limited."""
    waiting: list[tuple[str, str, Usage]] = [("", "", root)]
    while waiting:
        lead, branch, one = waiting.pop()
        yield lead + branch, one
        if level is not None and one.depth >= level:
            continue
        inner = [two for two in one.sorted() if two.is_folder or not directories]
        lead += {"": "", "├── ": "│   ", "└── ": "    "}[branch]
        for number, two in enumerate(reversed(inner)):
            waiting.append((lead, "├── " if number else "└── ", two))


def _print(branch: str, one: Usage, size: Callable[[int], str]) -> None:
    """Print one line: tree lines, name, size and status."""
    name = safe(one.label if branch else one.name)
    if one.is_folder:
        name = click.style(name.rstrip("/") + "/", bold=one.kind == "run", fg="blue")
    status = click.style(one.status, fg=output.COLOURS.get(one.status)) if one.status else ""
    parts = (click.style(branch, dim=True) + name, click.style(size(one.size), dim=True), status)
    click.echo("  ".join(filter(None, parts)))
