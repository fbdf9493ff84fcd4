"""``notata lineage``: what a run was made from, and which runs were made from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from notata._base import display
from notata.cli import output
from notata.cli.frame import Command, ErrorCollector, complete_url, json_option, storage_option
from notata.cli.picking import print_notes

if TYPE_CHECKING:
    from notata.search.graphs import Lineage, Link

__all__ = ["lineage"]

_FILES: Final = 5  # files of one run that a line names
_INDENT: Final = ("├─ ", "│  ", "└─ ", "   ")


@click.command(
    cls=Command,
    short_help="Show what a run was made from, and what was made from it.",
    examples=(
        "notata lineage outputs/log_fit",
        "notata lineage s3://bucket/outputs/log_fit --up --follow s3://bucket/meshes",
        "notata lineage outputs/log_mesh --down --in outputs --in s3://bucket/archive",
        "notata lineage outputs/log_fit --dot | dot -Tsvg > lineage.svg",
    ),
    epilog="Exit codes: 0 success; 1 no run found, an input has changed, or its run is missing; 2 usage error; 3 "
    "storage error.",
)
@click.argument("url", shell_complete=complete_url)
@click.option("--up", is_flag=True, help="Show only what the run was made from.")
@click.option("--down", is_flag=True, help="Show only the runs that were made from it.")
@click.option(
    "--in",
    "within",
    multiple=True,
    metavar="URL",
    shell_complete=complete_url,
    help="Folder to search for runs that were made from it; may be repeated. Default: the base folder of the run.",
)
@click.option(
    "--follow",
    multiple=True,
    metavar="URL",
    shell_complete=complete_url,
    help="Also read runs below this URL; may be repeated. Runs elsewhere are named, but not read.",
)
@click.option(
    "--moved",
    multiple=True,
    metavar="URL",
    help="Earlier URL of the base folder, if it was moved or copied; may be repeated.",
)
@click.option("--depth", type=click.IntRange(1, 200), default=20, show_default=True, metavar="N", help="Generations.")
@click.option("--dot", is_flag=True, help="Print the graph in the DOT language of Graphviz.")
@storage_option()
@json_option
def lineage(
    url: str,
    up: bool,
    down: bool,
    within: tuple[str, ...],
    follow: tuple[str, ...],
    moved: tuple[str, ...],
    depth: int,
    dot: bool,
    storage_options: dict[str, Any],
    as_json: bool,
) -> None:
    """Show what a run was made from, over several generations, and the runs that used its files.

    A run is made from its parent, the run that it repeats, and the inputs that its script recorded with log.input. If
    an input is a file of another run, it is compared with the current manifest of that run. The command follows an
    address in a run folder only if it is below the base folder, --in or --follow.
    """
    from notata.search.tracing import lineage as find

    if dot and as_json:
        raise click.UsageError("--dot and --json cannot be combined")
    collector = ErrorCollector()
    both = up == down
    found = find(
        url,
        up=up or both,
        down=down or both,
        within=list(within) or None,
        follow=list(follow),
        moved=moved,
        depth=depth,
        storage_options=storage_options or None,
        failed=collector,
    )
    print_notes(found.notes)
    if as_json:
        output.json_line(found.record())
    elif dot:
        for line in found.dot().splitlines():
            output.line(line)
    else:
        _print_trees(found, up=up or both, down=down or both)
    collector.end(found=not found.problems)


def _print_trees(found: Lineage, *, up: bool, down: bool) -> None:
    """Print the run, and the tree of each direction below it."""
    output.line(_node(found, found.url), bold=True)
    for title, wanted in (("made from", up), ("used by", down)):
        if wanted:
            output.line(title)
            lines = list(_tree(found, found.url, up=title == "made from", seen={found.url}))
            for line in lines or ["nothing that is recorded" if title == "made from" else "no run that was found"]:
                output.line(f"  {line}")


def _tree(found: Lineage, url: str, *, up: bool, seen: set[str]) -> Iterator[str]:
    """Yield the lines of a tree; what was shown before is not expanded again, so that circles end."""
    links = found.upstream(url) if up else found.downstream(url)
    grouped: dict[str, list[Link]] = {}
    for link in links:
        grouped.setdefault(link.source if up else link.child, []).append(link)
    for number, (other, some) in enumerate(grouped.items(), 1):
        first, further = _INDENT[2:] if number == len(grouped) else _INDENT[:2]
        again = other in seen
        seen.add(other)
        yield f"{first}{_node(found, other)}{_what(found, some)}{' (see above)' if again else ''}"
        for line in () if again else _tree(found, other, up=up, seen=seen):
            yield f"{further}{line}"


def _node(found: Lineage, url: str) -> str:
    node = found.nodes[url]
    state = node.note or node.status
    return f"{node.name} ({state})" if state else node.name


def _what(found: Lineage, links: list[Link]) -> str:
    """Return what some links between two runs say, or about the file that a run has read."""
    from notata.search.graphs import what_of

    if found.nodes[links[0].source].kind == "file":
        size = links[-1].size
        return "" if size is None else f"  {display.size(size)}"
    shown = [what_of(link) for link in links]
    more = display.more(len(shown), _FILES)
    return f"  {', '.join(shown[:_FILES])}" + f", {more}" * bool(more)
