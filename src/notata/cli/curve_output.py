"""Output of ``notata curve``: JSON and CSV for programs, pictures for people."""

from __future__ import annotations

import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import click

from notata._base.display import more, shortened
from notata._base.terminal import safe
from notata.cli import output

if TYPE_CHECKING:
    from notata._base.axes import Kind
    from notata.search import Curve, Run, Runs

__all__ = ["Options", "Printer", "printer_for"]

_HIGHEST: Final = 24  # rows of a picture, if the user gave no height
_LOWEST: Final = 8
_LEGEND: Final = 20  # curves in a legend
_SHORTEST: Final = 12  # characters of a label, if the picture is narrow
_PICTURES: Final = 6  # pictures, if the user named no column
_KINDS: Final[Mapping[str, Kind]] = {"time": "time", "relative": "seconds"}


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a picture: the curves and their size.

    Attributes:
        y: The columns; empty for a picture of each column.
        x: The coordinate.
        series: The name of the series.
        smooth: The weight of the moving average.
        workers: Whether to show workers, too.
        log: Whether the vertical axis is logarithmic.
        width: The number of characters of a row; None for that of the terminal.
        height: The number of rows of one picture; None to fit the terminal.
    """

    y: tuple[str, ...] = ()
    x: str = "step"
    series: str = "scalars"
    smooth: float = 0.0
    workers: bool = False
    log: bool = False
    width: int | None = None
    height: int | None = None


class Printer(Protocol):
    """Prints curves; when curves are printed again, JSON and CSV have only the points that were added."""

    is_live: bool

    def show(self, curves: Iterator[Curve]) -> bool:
        """Print curves, and return whether there were any."""

    def tell(self, message: str) -> None:
        """Print a message that is not a curve."""


def printer_for(options: Options, runs: Runs, *, as_json: bool, as_csv: bool) -> Printer:
    """Return the printer of the curves of these runs."""
    if as_json:
        return _Json(options)
    return _Csv(options, runs) if as_csv else _Pictures(options)


# -- for programs ------------------------------------------------------------------------------------------


class _Points(ABC):
    """Prints the points of curves that were not printed before.

    Args:
        options: What to print.
    """

    is_live = True

    def __init__(self, options: Options) -> None:
        self._options = options
        self._printed: dict[tuple[str, str, str], tuple[int, str]] = {}

    def show(self, curves: Iterator[Curve]) -> bool:
        found = False
        for curve in curves:
            found = found or len(curve) > 0
            if points := self._new(curve):
                self._print(curve, points)
        return found

    def tell(self, message: str) -> None:
        output.error_line(message)

    @abstractmethod
    def _print(self, curve: Curve, points: list[tuple[int | float, float]]) -> None:
        """Print points of a curve."""

    def _new(self, curve: Curve) -> list[tuple[int | float, float]]:
        """Return new points; all of them if the last one printed has changed, as after a resumption."""
        name = (curve.run.url, curve.rank, curve.column)
        count, last = self._printed.get(name, (0, ""))
        if count and (len(curve) < count or _point(curve, count - 1) != last):
            count = 0
        if len(curve):
            self._printed[name] = len(curve), _point(curve, -1)
        return list(zip(curve.x[count:].tolist(), curve.y[count:].tolist(), strict=True))


def _point(curve: Curve, at: int) -> str:
    return f"{curve.x[at]!r} {curve.y[at]!r}"  # text, as NaN does not equal NaN


class _Json(_Points):
    """Prints an object for each curve."""

    def _print(self, curve: Curve, points: list[tuple[float, float]]) -> None:
        run = curve.run
        fields = {
            "name": run.name,
            "run_id": run.run_id,
            "url": run.url,
            "status": run.status,
            "rank": curve.rank or None,
        }
        of_curve = {"series": self._options.series, "column": curve.column, "x": self._options.x, "points": points}
        output.json_line(fields | of_curve)


class _Csv(_Points):
    """Prints a row for each point."""

    def __init__(self, options: Options, runs: Runs) -> None:
        super().__init__(options)
        self._names = len({run.run_id for run in runs}) < len(runs)
        self._is_begun = False

    def _print(self, curve: Curve, points: list[tuple[float, float]]) -> None:
        import csv
        import io

        from notata.search.tables import cell

        out = io.StringIO(newline="")
        writer = csv.writer(out)
        ranks = self._options.workers
        if not self._is_begun:
            self._is_begun = True
            names = ["name"] * self._names + ["run_id"] + ["rank"] * ranks
            writer.writerow([*names, "column", self._options.x, "value"])
        first = [curve.run.name] * self._names + [curve.run.run_id] + [curve.rank] * ranks + [curve.column]
        writer.writerows([*first, cell(x), cell(y)] for x, y in points)
        output.content(out.getvalue().encode("utf-8", "backslashreplace"))


# -- for people --------------------------------------------------------------------------------------------


class _Pictures:
    """Draws curves: all columns in one picture, or each in its own if the user named none.

    Args:
        options: What to draw, and how.
    """

    def __init__(self, options: Options) -> None:
        self.is_live = output.is_terminal()
        self._options = options
        self._rows = 0  # rows on the terminal since the beginning of the last picture

    def tell(self, message: str) -> None:
        """Print a message below the picture; the next picture covers it."""
        output.error_line(message)
        if self._rows:
            self._rows += _rows(message, shutil.get_terminal_size().columns)

    def show(self, curves: Iterator[Curve]) -> bool:
        room = shutil.get_terminal_size()
        width = self._options.width or room.columns
        drawn = [thin for curve in curves if len(thin := curve.thinned(2 * width))]
        if not drawn:
            return False
        columns = [*dict.fromkeys(curve.column for curve in drawn)]
        if self._options.y:
            parts = [drawn]
        else:
            parts = [[one for one in drawn if one.column == column] for column in columns[:_PICTURES]]
        height = self._options.height or _height(room.lines, [len(part) for part in parts])
        names = _names([*{one.run.url: one.run for one in drawn}.values()])
        rows = [row for part in parts for row in self._picture(part, names, width, height)]
        if not self._options.y and (rest := more(len(columns), _PICTURES)):
            rows.append(f"{rest} columns; choose some with -y")
        if self._rows and self.is_live:
            click.echo(f"\x1b[{min(self._rows, room.lines - 1)}F\x1b[J", nl=False)
        self._rows = sum(_rows(row, room.columns) for row in rows)
        for row in rows:
            click.echo(row)
        return True

    def _picture(self, curves: Sequence[Curve], names: Mapping[str, str], width: int, height: int) -> Iterator[str]:
        """Yield the rows of one picture and of its legend."""
        import numpy as np

        from notata._base.axes import Axis
        from notata.cli.drawing import Line, picture

        marks = not _has_braille() or (len(curves) > 1 and not _has_colours())
        lines = [Line(one.x.astype(np.float64), one.y, at) for at, one in enumerate(curves)]
        x = Axis.of(_KINDS.get(self._options.x, "number"), [line.x for line in lines])
        y = Axis.of("log" if self._options.log else "number", [line.y for line in lines])
        title = ", ".join(dict.fromkeys(one.column for one in curves))
        below = " ".join(filter(None, (self._options.x, x.date)))
        yield from picture(
            lines,
            width,
            height,
            x=x,
            y=y,
            title=_cut(title, width // 2),
            below=_cut(below, width // 3),
            marks=marks,
        )
        yield from _legend(curves, names, width, marks)
        if self._options.log and any((line.y <= 0).any() for line in lines):
            yield "Note: values of 0 or less are not shown"


def _rows(text: str, columns: int) -> int:
    """Return the number of rows that a text takes on a terminal, which breaks it at its last column."""
    return max(1, -(-output.width_of(click.unstyle(text)) // max(1, columns)))


def _has_colours() -> bool:
    return output.is_terminal() and click.get_current_context().color is not False


def _has_braille() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def _height(lines: int, curves: Sequence[int]) -> int:
    """Return the rows of a picture so that all pictures fit the terminal with their legends, if possible."""
    legends = sum(min(count, _LEGEND) for count in curves)
    return min(_HIGHEST, max(_LOWEST, (lines - legends - 1) // len(curves)))


def _legend(curves: Sequence[Curve], names: Mapping[str, str], width: int, marks: bool) -> Iterator[str]:
    """Yield a row for each curve: its colour or mark, its label, and its last, smallest and largest value."""
    from notata.cli.drawing import COLOURS, MARKS

    labels = _labels(curves, names)[:_LEGEND]
    facts = [_facts(one) for one in curves[:_LEGEND]]
    spans = [max(map(len, column)) for column in zip(*facts, strict=True)]
    signs = len("* " if marks else "━━ ")
    needed = min(_SHORTEST, max(output.width_of(safe(label)) for label in labels))
    while spans and width - signs - sum(spans) - 2 * len(spans) < needed:
        spans.pop()
    room = max(1, width - signs - sum(spans) - 2 * len(spans))
    labels = [_cut(label, room) for label in labels]
    widest = max(map(output.width_of, labels))
    for at, (label, values) in enumerate(zip(labels, facts, strict=True)):
        sign = MARKS[at % len(MARKS)] if marks else click.style("━━", fg=COLOURS[at % len(COLOURS)])
        padded = [text.ljust(span) for text, span in zip(values, spans, strict=False)]
        yield "  ".join([f"{sign} {label}{' ' * (widest - output.width_of(label))}", *padded]).rstrip()
    if rest := more(len(curves), _LEGEND):
        yield f"{rest} curves"


def _cut(text: str, columns: int) -> str:
    """Return an untrusted text, escaped and cut to some columns of a terminal."""
    whole = safe(shortened(text, columns))
    cut = (shortened(whole, length) for length in range(columns, 0, -1))
    return next(text for text in cut if output.width_of(text) <= columns)


def _facts(curve: Curve) -> list[str]:
    """Return the last, smallest and largest value of a curve as texts; NaN has no size."""
    known = curve.y[curve.y == curve.y]
    extremes = [f"min {known.min():.4g}", f"max {known.max():.4g}"] if len(known) else ["", ""]
    return [f"last {curve.y[-1]:.4g}", *extremes]


def _labels(curves: Sequence[Curve], names: Mapping[str, str]) -> list[str]:
    """Return a label for each curve of a picture: column, run and worker, as far as they differ."""
    has_columns = len({one.column for one in curves}) > 1
    has_runs = len(names) > 1 or not has_columns
    return [
        "  ".join(
            [one.column] * has_columns + [names[one.run.url]] * has_runs + [f"worker {one.rank}"] * bool(one.rank)
        )
        for one in curves
    ]


def _names(runs: Sequence[Run]) -> dict[str, str]:
    """Return a name for each run, by URL: the parameters that differ if there are few, else its id or whole name."""
    from notata.series.labels import Named, labels

    texts = labels([Named(run.run_id, run.name, run.params) for run in runs])
    return {run.url: text for run, text in zip(runs, texts, strict=True)}
