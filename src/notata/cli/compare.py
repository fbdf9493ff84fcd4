"""``notata compare``: show the differences between two runs."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from notata._base.display import counted, shortened, size
from notata.cli import output
from notata.cli.frame import NOTHING, STORAGE, Command, ErrorCollector, complete_url, json_option, storage_option

if TYPE_CHECKING:
    from notata.search import Comparison, Difference

__all__ = ["compare"]

_WORDS = {"equal": "equal", "changed": "changed", "only_a": "only in A", "only_b": "only in B", "unknown": "unknown"}
_SHOWN_ABOVE = {("run", "run_id"), ("run", "url")}  # printed above the table on a terminal
_WIDEST, _NARROWEST = 40, 12  # characters of a value
_COLOURS = {"changed": "yellow", "only in A": "red", "only in B": "green", "unknown": "magenta", "equal": "dim"}


def _parts(_context: click.Context, _parameter: click.Parameter, value: str | None) -> list[str]:
    from notata.search.comparing import PARTS

    given = [part.strip() for part in value.split(",")] if value else list(PARTS)
    if strange := [part for part in given if part not in PARTS]:
        raise click.BadParameter(f"unknown part {strange[0]!r}; choose from {', '.join(PARTS)}")
    return given


@click.command(
    cls=Command,
    short_help="Show the differences between two runs.",
    examples=(
        "notata compare outputs/log_a outputs/log_b",
        "notata compare outputs/log_a s3://bucket/outputs/log_a --only files --content",
        "notata compare log_a log_b --only params,metrics --tolerance 1e-6 --json",
    ),
    epilog="Exit codes: 0 no relevant difference; 1 the runs differ, or one does not exist; 2 usage error; 3 some "
    "files need --content to be compared, or a storage failed.",
)
@click.argument("a", metavar="A", shell_complete=complete_url)
@click.argument("b", metavar="B", shell_complete=complete_url)
@click.option(
    "--only",
    callback=_parts,
    metavar="PARTS",
    help="Compare only these parts, some of run,params,metrics,environment,files.",
)
@click.option("--all", "everything", is_flag=True, help="Show equal values too.")
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=0.0,
    help="Treat numbers as equal if they differ by at most this fraction of the larger one.",
)
@click.option(
    "--content", is_flag=True, help="Download files if their sizes and checksums do not show whether they are equal."
)
@storage_option()
@storage_option("--a-option", of=", of A alone")
@storage_option("--b-option", of=", of B alone")
@json_option
def compare(
    a: str,
    b: str,
    only: list[str],
    everything: bool,
    tolerance: float,
    content: bool,
    storage_options: dict[str, Any],
    a_option: dict[str, Any],
    b_option: dict[str, Any],
    as_json: bool,
) -> None:
    """Show the differences between the runs A and B: parameters, metrics, environment, files.

    The command reads listings, metadata and manifests, and as few files as possible. Values that differ between any two
    runs (ids, times, logs) are shown in brackets and do not count as differences.
    """
    from notata import Storage
    from notata.search import compare as compared

    collector = ErrorCollector()
    sides = Storage(a, storage_options | a_option), Storage(b, storage_options | b_option)
    found = compared(*sides, only=only, tolerance=tolerance, content=content, failed=collector)
    items = found.items if everything else found.differences
    if as_json:
        for item in items:
            output.json_line(dataclasses.asdict(item))
    elif output.is_terminal():
        _show(found, items)
    else:
        output.rows((), map(_cells, items))
    collector.code = max(collector.code, NOTHING if found.differs else STORAGE if found.unknown else 0)
    collector.end()


def _cells(item: Difference) -> tuple[str, ...]:
    """Return the cells of a line for programs."""
    relative = "" if item.relative is None else f"{item.relative:.6g}"
    return (item.part, item.change, item.name, *_sides(item), relative, "counts" if item.counts else "")


def _sides(item: Difference) -> tuple[str, str]:
    return (
        "" if item.change == "only_b" else _text(item.a),
        "" if item.change == "only_a" else _text(item.b),
    )


def _show(found: Comparison, items: Sequence[Difference]) -> None:
    """Print the runs side by side for people, with long values shortened in the middle."""
    for side, run in (("A", found.a), ("B", found.b)):
        output.line(f"{side}  {run.name}")
    rows = []
    for item in items:
        if (item.part, item.name) in _SHOWN_ABOVE:
            continue
        word = _WORDS[item.change]
        if item.relative and item.change == "changed":
            word = f"{item.relative:+.3g}" if abs(item.relative) >= 10 else f"{item.relative:+.2%}"
        values = (_size(item.a), _size(item.b)) if item.part == "files" else _sides(item)
        rows.append((item.part, item.name, *values, word if item.counts else f"({word})"))
    room = _room(rows)
    rows = [(part, name, shortened(a, room), shortened(b, room), word) for part, name, a, b, word in rows]
    colours = {**_COLOURS, **{row[-1]: "dim" for row in rows if row[-1].startswith("(")}}
    colours |= {row[-1]: "yellow" for row in rows if row[-1][0] in "+-"}
    output.rows(("part", "name", "A", "B", ""), rows, colours=colours)
    count = sum(item.counts and item.change not in ("equal", "unknown") for item in found.items)
    unknown = sum(item.counts and item.change == "unknown" for item in found.items)
    summary = counted(count, "difference") if count else "no relevant difference"
    if found.code == "changed":
        summary += ", and the code differs"
    output.line(summary + (f", {unknown} unknown without --content" if unknown else ""))


def _room(rows: Sequence[Sequence[str]]) -> int:
    """Return how many characters a value of either side may take on this terminal."""
    others = sum(max((len(row[place]) for row in rows), default=0) for place in (0, 1, -1))
    return min(_WIDEST, max(_NARROWEST, (shutil.get_terminal_size().columns - others - 8) // 2))


def _text(value: object) -> str:
    """Return a value as text: a string unchanged, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def _size(value: int | None) -> str:
    return "" if value is None else size(value)
