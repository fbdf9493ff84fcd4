"""``notata show``: show a summary of one run."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import click

from notata._base import display, keys
from notata._base.display import counted
from notata._base.terminal import one_line, safe
from notata.cli import output
from notata.cli.frame import Command, urls_argument
from notata.cli.picking import Asked, searching

if TYPE_CHECKING:
    from notata.search import Overview, Run
    from notata.search.overview import Failure

__all__ = ["show"]

_FILES: Final = 20  # files shown of a folder
_COLUMNS: Final = 50  # columns shown of a series
_LONGEST: Final = 1000  # characters shown of a failure reason
_WIDTH: Final = 200  # characters shown of a value
_NAMES: Final = 60  # characters of the widest column of names; a longer name is not aligned
_FRAMES: Final = 3
_LEVELS: Final = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red", "DEBUG": "dim"}
_LEVEL: Final = re.compile(r"\[[^\]]*\] (\w+) ")


@dataclass(frozen=True, slots=True)
class _Part:
    """A heading, rows of one or two cells, and styles for the last cells of the rows, if any."""

    title: str
    rows: Sequence[tuple[str, ...]]
    styles: Sequence[str] = ()


@click.command(
    cls=Command,
    count="-n",
    short_help="Show a summary of a run: status, parameters, failure, files, end of the log and output.",
    examples=(
        "notata show outputs/log_a",
        "notata show -n 30 s3://bucket/outputs/log_a",
        "notata show 'gs://bucket/outputs/sweep/runs/log_*' --json | jq -r .failure.message",
    ),
)
@urls_argument
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(min=0),
    default=10,
    help="Number of last lines to show of the log and of the output. Default: 10.",
)
@click.option("--all", "every", is_flag=True, help="Show every run if URL is a folder with several runs.")
@searching()
def show(asked: Asked, lines: int, every: bool) -> None:
    """Show the status of a run, its failure, host, environment and content, and the end of its log and output.

    URL is a run, a folder with one run below it, or a quoted pattern, which may match many runs. The command reads
    little: no artifacts, and only the end of the log and of the output.
    """
    from notata.search import overviews

    found = False
    for overview in overviews(asked.query, lines=lines, every=every):
        if asked.as_json:
            output.json_line(overview.record())
        else:
            if found:
                output.line()
            _print(list(_parts(overview)), overview.run.status)
        found = True
    asked.end(found=found)


# -- content -----------------------------------------------------------------------------------------------


def _parts(one: Overview) -> Iterator[_Part]:
    run = one.run
    yield _Part(f"{run.run_id}  {run.shown_status}", list(_facts(one)))
    for title, values in (("params", run.params), ("metrics", _metrics(one)), ("metadata", one.fields)):
        yield _Part(title, [(str(name), _value(value)) for name, value in values.items()])
    for name, summary in one.series.items():
        yield _Part(f"series {one_line(name, _WIDTH)}, {_extent(summary)}", list(_columns(summary)))
    yield _files("series of workers (notata curve --workers)", _series_of_workers(one))
    yield _inputs(one)
    if one.failure is not None:
        yield _Part("failure", list(_failure(one.failure)))
    if one.caught_in_all:
        more = f", the last {len(one.caught)}" if one.caught_in_all > len(one.caught) else ""
        rows = [row for failure in one.caught for row in list(_failure(failure))]
        yield _Part(f"caught, {one.caught_in_all} in all{more}", rows)
    for title, folder in (("artifacts", "artifacts"), ("arrays", "data"), ("plots", "plots")):
        yield _files(title, one.below(folder))
    if one.log:
        yield _Part(
            f"log, {display.size(one.log_size)}", [(line,) for line in one.log], [_level(line) for line in one.log]
        )
    if one.output:
        yield _Part(f"output, {display.size(one.output_size)}", [(line,) for line in one.output])
    yield _Part("cannot be read", [(problem,) for problem in one.problems])


def _facts(one: Overview) -> Iterator[tuple[str, str]]:
    """Yield the facts about a run, each with its name."""
    run = one.run
    if run.status != "complete":
        yield "why", one_line(run.failure_reason or run.why, _LONGEST)
    yield "place", run.name
    yield from _times(run)
    yield from _surroundings(one.environment)
    if one.exit:
        yield "exit", ", ".join(_exit(one))
    if one.workers:
        yield "workers", ", ".join(one.workers)
    if one.mirror:
        yield "mirror", one_line(one.mirror)
    if one.parent:
        yield "parent", one_line(one.parent)
    if one.resumes:
        last = one.resumes[-1]
        yield (
            "resumed",
            f"{_times_of(len(one.resumes))}, last {one_line(last.get('time'))} (before: {one_line(last.get('after'))})",
        )
    if one.output_size:
        yield "output", f"{display.size(one.output_size)}, see notata tail --output"
    yield "size", f"{display.size(run.size or 0)} in {counted(run.files or 0, 'file')}"
    if run.unfinished_files:
        yield "unfinished", f"{counted(run.unfinished_files, 'write')}, {display.size(run.unfinished or 0)}"


def _times(run: Run) -> Iterator[tuple[str, str]]:
    if run.started is not None:
        yield "started", f"{_time(run.started)}, {display.duration(run.age)} ago"
    if run.ended is not None:
        yield "ended", _time(run.ended)
    if run.seconds is not None:
        until = {"running": " so far", "died": " up to its last sign of life"}
        yield "took", display.duration(run.seconds) + until.get(run.status, "")


def _exit(one: Overview) -> Iterator[str]:
    """Yield how a program ended, its processor time, and the memory of its processes."""
    name, code = one.exit.get("signal"), one.exit.get("code")
    yield one_line(name) if name else f"code {one_line(code)}"
    if (seconds := one.run.cpu_seconds) is not None:
        yield f"{one_line(display.duration(seconds), 40)} of processor time"  # it may be forged
    if (peak := one.run.peak_memory) is not None:
        yield f"peak memory {one_line(display.size(peak), 40)}"
    if isinstance(count := one.exit.get("processes"), int) and count > 1:
        yield f"{count} processes"


def _surroundings(environment: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    where = [("", "host"), ("process ", "pid"), ("user ", "user")]
    if any(environment.get(name) is not None for _, name in where):
        yield (
            "host",
            ", ".join(
                f"{what}{one_line(environment[name])}" for what, name in where if environment.get(name) is not None
            ),
        )
    if isinstance(python := environment.get("python"), dict):
        name = " ".join(str(part) for part in (python.get("implementation"), python.get("version")) if part)
        yield "python", ", ".join(one_line(part) for part in (name, environment.get("platform")) if part)
    if isinstance(git := environment.get("git"), dict):
        parts = (str(git.get("commit") or "")[:12], git.get("branch"), _changes(git))
        yield "git", ", ".join(one_line(part) for part in parts if part)
    if isinstance(job := environment.get("scheduler"), dict):
        yield "job", ", ".join(f"{one_line(name, 100)}={one_line(value)}" for name, value in job.items())
    if isinstance(argv := environment.get("argv"), list):
        import shlex

        yield "command", shlex.join(map(str, argv))
    if environment.get("cwd"):
        yield "folder", str(environment["cwd"])


def _changes(git: Mapping[str, Any]) -> str:
    """Return what is known of the changes of a checkout: whether there are some, and the patch."""
    patch = git.get("patch")
    if not isinstance(patch, dict) or not isinstance(patch.get("size"), int):
        return "with changes" if git.get("dirty") else ""
    left_out = patch.get("omitted")
    parts = (
        f"patch of {display.size(max(0, patch['size']))}",
        "secrets redacted" if patch.get("redacted") else "",
        "incomplete" if isinstance(left_out, list) and left_out else "",
    )
    return f"with changes ({', '.join(filter(None, parts))})"


def _failure(failure: Failure) -> Iterator[tuple[str]]:
    for relation, one in failure.chain():
        text = f"{one.type}: {one.message}" if one.type else one.message
        yield (f"{relation} {text}".lstrip(),)
        for frame in one.frames[-_FRAMES:]:
            yield (f"  {frame}",)
            if frame.code:
                yield (f"    {frame.code}",)
    for line in failure.text.splitlines()[-3 * _FRAMES :]:
        yield (f"  {line}",)


def _inputs(one: Overview) -> _Part:
    """Return the inputs with size, digest, and the run that they lie in."""
    rows = [
        (
            one_line(found.url, _WIDTH),
            "unknown" if found.size is None else display.size(found.size),
            ", ".join(filter(None, [found.sha256[:12], found.run_id and f"of run {one_line(found.run_id, _WIDTH)}"])),
        )
        for found in one.inputs[:_FILES]
    ]
    rest = display.more(len(one.inputs), _FILES)
    return _Part("inputs", [*rows, *([(f"… {rest}", "", "")] if rest else [])])


def _files(title: str, sizes: Mapping[str, int]) -> _Part:
    rows = [(key, display.size(size)) for key, size in sorted(sizes.items())]
    rest = display.more(len(rows), _FILES)
    whole = f"{title}, {len(rows)} files of {display.size(sum(sizes.values()))}" if rest else title
    return _Part(whole, [*rows[:_FILES], *([(f"… {rest}",)] if rest else ())])


def _metrics(one: Overview) -> dict[str, Any]:
    """Return the metrics without the values that are shown with their series."""
    from notata.series import flat_values

    of_series = flat_values(one.series)
    return {
        name: value
        for name, value in one.run.metrics.items()
        if name not in of_series or repr(value) != repr(of_series[name])  # NaN does not equal NaN
    }


def _series_of_workers(one: Overview) -> dict[str, int]:
    """Return the sizes of the series of workers, by rank and name."""
    found = {found: size for key, size in one.sizes.items() if (found := keys.series_name(key)) is not None}
    return {f"{rank}: {name}": size for (rank, name), size in found.items() if rank is not None}


def _extent(summary: Mapping[str, Any]) -> str:
    """Return the number of rows of a series, and its last step."""
    rows = summary.get("rows")
    return f"{counted(rows, 'row')} up to step {_value(summary.get('step'))}" if isinstance(rows, int) else "unknown"


def _columns(summary: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the last value of each column of a series, with the smallest and the largest one."""
    columns = summary["columns"]
    for name, fields in islice(columns.items(), _COLUMNS):
        extremes = [
            f"{part} {_value(fields[part])} at {_value(fields.get(f'{part}_step'))}"
            for part in ("min", "max")
            if part in fields
        ]
        yield one_line(name, _WIDTH), _value(fields.get("last")), *([", ".join(extremes)] if extremes else [])
    if rest := display.more(len(columns), _COLUMNS):
        yield (f"… {rest}", "")


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _WIDTH else f"{text[:_WIDTH]}…"


def _time(time: datetime) -> str:
    return time.isoformat(" ", "seconds")


def _times_of(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _level(line: str) -> str:
    found = _LEVEL.match(line)
    return _LEVELS.get(found[1], "") if found else ""


# -- printing ----------------------------------------------------------------------------------------------


def _print(parts: Sequence[_Part], status: str) -> None:
    """Print a heading and indented columns for each part with rows; the first heading has the colour of the status."""
    if output.is_terminal():
        _print_rich(parts, status)
        return
    for number, part in enumerate(parts):
        if not part.rows:
            continue
        if number:
            output.line()
        output.line(part.title)
        lengths = [len(safe(row[0])) for row in part.rows if len(row) > 1]
        width = max((length for length in lengths if length <= _NAMES), default=0)
        for first, *others in part.rows:
            output.line("  ".join(["", f"{safe(first):{width}}" if others else first, *others]))


def _print_rich(parts: Sequence[_Part], status: str) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console = Console(
        highlight=False, markup=False, emoji=False, color_system=None if "NO_COLOR" in os.environ else "auto"
    )
    for number, part in enumerate(parts):
        if not part.rows:
            continue
        if number:
            console.print()
        console.print(Text(safe(part.title), style="bold" if number else f"bold {output.COLOURS.get(status, '')}"))
        columns = max(map(len, part.rows))
        table = Table.grid(padding=(0, 2))
        for column in range(columns):
            table.add_column(overflow="fold", style="cyan" if columns > 1 and not column else "")
        styles = part.styles or [""] * len(part.rows)
        for row, style in zip(part.rows, styles, strict=True):
            table.add_row(*(Text(safe(cell), style=style) for cell in row))
        console.print(Padding(table, (0, 0, 0, 2), expand=False))
