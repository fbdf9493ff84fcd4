"""``notata grep``: print matching lines of many runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import click

from notata._base.terminal import safe_lines
from notata.cli import output
from notata.cli.frame import FOUND, NOTHING, Command, ErrorCollector
from notata.cli.picking import Asked, filter_options, searching
from notata.errors import NotataError

if TYPE_CHECKING:
    from notata.search.grepping import Match, Searched

__all__ = ["grep"]

_NAME: Final = "magenta"
_NUMBER: Final = "green"
_SIGN: Final = "cyan"

_COUNT: Final = click.IntRange(min=0)


@click.command(
    cls=Command,
    short_help="Search logs and text files of runs for a pattern.",
    examples=(
        "notata grep -i 'error|nan' s3://bucket/sweep",
        "notata grep -l --logs diverged outputs",
        "notata grep -n --include '*.json' '\"solver\"' 'outputs/log_*'",
        "notata grep Traceback outputs --status failed --where 'dt < 0.1'",
        "notata grep -c WARNING outputs | sort -t: -k2 -n",
    ),
    epilog="Exit codes: 0 a line matches; 1 no line matches; 2 usage error; 3 storage error.",
)
@click.argument("arguments", metavar="PATTERN [URL]...", nargs=-1)
@click.option(
    "-e",
    "--regexp",
    "patterns",
    multiple=True,
    metavar="PATTERN",
    help="Search for this pattern; all arguments are then URLs.",
)
@click.option("-i", "--ignore-case", is_flag=True, help="Do not distinguish upper and lower case.")
@click.option("-F", "--fixed-strings", "fixed", is_flag=True, help="Treat patterns as plain text.")
@click.option("-w", "--word-regexp", "words", is_flag=True, help="Match whole words only.")
@click.option("-x", "--line-regexp", "whole", is_flag=True, help="Match whole lines only.")
@click.option("-v", "--invert-match", "invert", is_flag=True, help="Print the lines that do not match.")
@click.option("-n", "--line-number", "numbers", is_flag=True, help="Print the number of each line.")
@click.option("-l", "--files-with-matches", "names_only", is_flag=True, help="Print only the names of matching files.")
@click.option("-c", "--count", "counts", is_flag=True, help="Print only the number of matching lines of each file.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing; stop at the first match.")
@click.option("-m", "--max-count", "most", type=_COUNT, metavar="N", help="Stop after N matches in each file.")
@click.option("-A", "--after-context", "after", type=_COUNT, metavar="N", help="Print N lines after a match.")
@click.option("-B", "--before-context", "before", type=_COUNT, metavar="N", help="Print N lines before a match.")
@click.option("-C", "--context", "around", type=_COUNT, metavar="N", help="Print N lines before and after a match.")
@click.option(
    "-H",
    "--with-filename/--no-filename",
    "names",
    default=None,
    help="Print the name of the file with each line, or never.",
)
@click.option(
    "--include",
    multiple=True,
    metavar="GLOB",
    help="Search only files with a matching name, or path if GLOB has a slash.",
)
@click.option(
    "--exclude", multiple=True, metavar="GLOB", help="Skip files with a matching name, or path if GLOB has a slash."
)
@click.option("--logs", is_flag=True, help="Search only logs and output.txt, including those of workers.")
@click.option("-r", "-R", "--recursive", is_flag=True, hidden=True, expose_value=False)  # accepted by habit from grep
@searching(filter_options)
def grep(
    asked: Asked,
    /,
    arguments: tuple[str, ...],
    patterns: tuple[str, ...],
    names_only: bool,
    counts: bool,
    quiet: bool,
    numbers: bool,
    names: bool | None,
    before: int | None,
    after: int | None,
    around: int | None,
    most: int | None,
    **options: Any,
) -> None:
    """Print the lines of runs that match PATTERN, a Python regular expression.

    URL is a run, an experiment, any folder with runs below it, a file, or a quoted pattern. The command searches the
    logs of runs, and files that are text according to their suffix; with --include, files of any kind.
    """
    if not patterns and not arguments:
        raise click.UsageError("Missing argument 'PATTERN'.")
    from notata.search.grepping import Files, Searched, searched
    from notata.search.patterns import Patterns

    urls = arguments if patterns else arguments[1:]
    asked.options["urls"] = list(urls) or None
    which = Files(*(options.pop(name) for name in ("include", "exclude", "logs")))
    looked_for = Patterns(patterns or arguments[:1], **options)
    context, collector = click.get_current_context(), asked.collector
    if most == 0:
        context.exit(NOTHING)
    near = [around if said is None else said for said in (before, after)]
    files = searched(asked.query, looked_for, which, before=near[0] or 0, after=near[1] or 0, most=most)
    with closing(files):
        if quiet:
            if any(_results(files, Searched.any, collector)):
                context.exit(FOUND)
            collector.end(found=False)
        printer = _Printer(
            numbers=numbers,
            names=names,
            single=len(urls) == 1,
            grouped=near != [None, None],
            as_json=asked.as_json,
        )
        show: Callable[[Searched], bool] = printer.name if names_only else printer.count if counts else printer.lines
        found = sum(_results(files, show, collector))
    asked.end(found=bool(found))


def _results(files: Iterator[Searched], tell: Callable[[Searched], bool], collector: ErrorCollector) -> Iterator[bool]:
    """Yield the result of each file; print an error and continue with the next file."""
    for file in files:
        try:
            yield tell(file)
        except NotataError as error:
            collector(error)


class _Printer:
    """Prints matches, formatted for people on a terminal; for programs, with the bytes of a line unchanged.

    Args:
        numbers: Print line numbers.
        names: Print names of files; None prints them unless the search was for one file.
        single: One URL was given.
        grouped: Context lines are printed; a line of ``--`` separates groups.
        as_json: Print objects.
    """

    def __init__(self, *, numbers: bool, names: bool | None, single: bool, grouped: bool, as_json: bool) -> None:
        self._numbers = numbers
        self._names = names
        self._single = single
        self._grouped = grouped
        self._json = as_json
        self._last: tuple[str, int] | None = None
        self._shown = output.is_terminal()
        self._stream = sys.stdout.buffer

    def name(self, file: Searched) -> bool:
        """Print the name of a file that matches."""
        found = file.any()
        if found and self._json:
            output.json_line(_file_fields(file))
        elif found:
            self._end(self._part(file.file.name, _NAME))
        return found

    def count(self, file: Searched) -> bool:
        """Print how many lines of a file match."""
        count = file.count()
        if self._json:
            output.json_line({**_file_fields(file), "count": count})
        else:
            self._end((self._head(file.file.name, ":") if self._named(file) else "") + str(count))
        return count > 0

    def lines(self, file: Searched) -> bool:
        """Print the matching lines of a file, and the lines around them."""
        found, named = False, self._named(file)
        with closing(file.matches()) as matches:
            for match in matches:
                found = found or match.matches
                if self._json:
                    output.json_line(_record(match))
                else:
                    self._line(match, named)
        if found:
            self._stream.flush()
        return found

    def _named(self, file: Searched) -> bool:
        return not (self._single and file.alone) if self._names is None else self._names

    def _line(self, match: Match, named: bool) -> None:
        if match.binary:
            self._stream.flush()
            output.error_line(f"Binary file {match.name} matches")
            return
        if self._grouped and self._last not in (None, (match.name, match.number - 1)):
            self._end(self._part("--", _SIGN))
        self._last = match.name, match.number
        sign = ":" if match.matches else "-"
        name = self._head(match.name, sign) if named else ""
        number = self._part(str(match.number), _NUMBER) + self._part(sign, _SIGN) if self._numbers else ""
        self._end(name + number + self._text(match))

    def _head(self, name: str, sign: str) -> str:
        return self._part(name, _NAME) + self._part(sign, _SIGN)

    def _text(self, match: Match) -> str:
        if not self._shown:
            return match.line
        parts, at = [], 0
        for start, end in match.spans:
            parts += [self._part(match.line[at:start]), self._part(match.line[start:end], "red", bold=True)]
            at = end
        return "".join((*parts, self._part(match.line[at:].removesuffix("\r"))))

    def _part(self, text: str, colour: str | None = None, *, bold: bool | None = None) -> str:
        """Return a part of a line: unchanged, or styled for a terminal."""
        if not self._shown or not text:
            return text
        text = safe_lines(text)
        return click.style(text, fg=colour, bold=bold) if colour else text

    def _end(self, line: str) -> None:
        """Print a line."""
        if self._shown:
            click.echo(line)
        else:
            self._stream.write(line.encode("utf-8", "surrogateescape") + b"\n")


def _file_fields(file: Searched) -> dict[str, Any]:
    return {"name": file.file.name, "run_id": file.file.run_id, "key": file.file.key}


def _record(match: Match) -> dict[str, Any]:
    """Return a line as an object; for a binary file, without number and text."""
    fields = {"name": match.name, "run_id": match.run_id, "key": match.key}
    text = {"number": None, "line": None} if match.binary else {"number": match.number, "line": match.line}
    return {**fields, **text, "matches": match.matches}
