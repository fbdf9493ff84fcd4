"""Output of ``notata curve``: JSON and CSV for programs, pictures for people."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

import click

from notata._base.display import more, shortened
from notata._base.terminal import safe
from notata.cli import output

if TYPE_CHECKING:
    from notata.cli.drawing import Kind
    from notata.search import Curve, Run, Runs

__all__ = ["Options", "Printer", "printer_for"]

_HIGHEST: Final = 24  # rows of a picture, if the user gave no height
_LOWEST: Final = 8
_LEGEND: Final = 20  # curves in a legend
_LABEL: Final = 48  # characters of a label
_PICTURES: Final = 6  # pictures, if the user named no column
_PARAMS: Final = 3  # parameters in a label


@dataclass(frozen=True, slots=True)
class Options:
    """What to draw, and how.

    Attributes:
        y: The columns; empty for a picture of each column.
        x: The coordinate.
        series: The name of the series.
        smooth: The weight of the moving average.
        workers: Whether to show workers, too.
        log: Whether the vertical axis is logarithmic.
        log_x: Whether the horizontal axis is logarithmic.
        width: The number of characters of a row; None for that of the terminal.
        height: The number of rows of one picture; None to fit the terminal.
    """

    y: tuple[str, ...] = ()
    x: str = "step"
    series: str = "scalars"
    smooth: float = 0.0
    workers: bool = False
    log: bool = False
    log_x: bool = False
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


class _Points:
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

    def _print(self, curve: Curve, points: list[tuple[float, float]]) -> None:
        raise NotImplementedError

    def _new(self, curve: Curve) -> list[tuple[float, float]]:
        """Return new points; all of them if the last one printed has changed, as after a resumption."""
        name = (curve.run.url, curve.rank, curve.column)
        count, last = self._printed.get(name, (0, ""))
        if count and (len(curve) < count or _point(curve, count - 1) != last):
            count = 0
        if len(curve):
            self._printed[name] = len(curve), _point(curve, -1)
        x = curve.x[count:].astype(int) if self._options.x == "step" else curve.x[count:]
        return list(zip(x.tolist(), curve.y[count:].tolist(), strict=True))


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
        self._rows += bool(self._rows)

    def show(self, curves: Iterator[Curve]) -> bool:
        room = shutil.get_terminal_size()
        width = self._options.width or room.columns
        drawn = [thin for curve in curves if len(thin := self._thinned(curve, 2 * width))]
        if not drawn:
            return False
        columns = [*dict.fromkeys(curve.column for curve in drawn)]
        groups = [columns] if self._options.y else [[column] for column in columns[:_PICTURES]]
        labels = _labels(drawn)
        parts = [[(at, one) for at, one in enumerate(drawn) if one.column in group] for group in groups]
        height = self._options.height or _height(room.lines, [len(part) for part in parts])
        rows = [
            row
            for group, part in zip(groups, parts, strict=True)
            for row in self._picture(group, [one for _, one in part], [labels[at] for at, _ in part], width, height)
        ]
        if not self._options.y and (rest := more(len(columns), _PICTURES)):
            rows.append(f"{rest} columns; choose some with -y")
        if self._rows and self.is_live:
            click.echo(f"\x1b[{min(self._rows, room.lines - 1)}F\x1b[J", nl=False)
        self._rows = len(rows)
        for row in rows:
            click.echo(row)
        return True

    def _thinned(self, curve: Curve, bins: int) -> Curve:
        """Return the curve with as many points as can be seen."""
        import numpy as np

        if not self._options.log_x:
            return curve.thinned(bins)
        is_shown = curve.x > 0
        logarithms = replace(curve, x=np.log10(curve.x[is_shown]), y=curve.y[is_shown]).thinned(bins)
        return replace(logarithms, x=10.0**logarithms.x)

    def _picture(
        self, columns: Sequence[str], curves: Sequence[Curve], labels: Sequence[str], width: int, height: int
    ) -> Iterator[str]:
        """Yield the rows of one picture and of its legend."""
        from notata.cli.drawing import Axis, Line, picture

        marks = not _has_braille() or (len(curves) > 1 and not _has_colours())
        lines = [Line(one.x, one.y, at if len(curves) > 1 else 0) for at, one in enumerate(curves)]
        x = Axis.of(self._kind(), [line.x for line in lines])
        y = Axis.of("log" if self._options.log else "number", [line.y for line in lines])
        title, below = safe(", ".join(columns)), safe(self._options.x)
        yield from picture(lines, width, height, x=x, y=y, title=title, below=below, marks=marks)
        yield from _legend(curves, labels, marks)
        if self._options.log and any((line.y <= 0).any() for line in lines):
            yield "Note: values of 0 or less are not shown"

    def _kind(self) -> Kind:
        if self._options.log_x:
            return "log"
        kinds: dict[str, Kind] = {"time": "time", "relative": "seconds"}
        return kinds.get(self._options.x, "number")


def _has_colours() -> bool:
    return output.is_terminal() and click.get_current_context().color is not False


def _has_braille() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def _height(lines: int, curves: Sequence[int]) -> int:
    """Return the rows of a picture so that all pictures fit the terminal with their legends, if possible."""
    legends = sum(min(count, _LEGEND) for count in curves)
    return min(_HIGHEST, max(_LOWEST, (lines - legends - 1) // len(curves)))


def _legend(curves: Sequence[Curve], labels: Sequence[str], marks: bool) -> Iterator[str]:
    """Yield a row for each curve: its colour or mark, label, and last, smallest and largest value."""
    from notata.cli.drawing import COLOURS, MARKS

    width = max(map(output.width_of, labels[:_LEGEND]))
    for at, (one, label) in enumerate(zip(curves[:_LEGEND], labels, strict=False)):
        sign = MARKS[at % len(MARKS)] if marks else click.style("━━", fg=COLOURS[at % len(COLOURS)])
        known = one.y[one.y == one.y]  # without NaN
        facts = f"last {one.y[-1]:.4g}" + (f"  min {known.min():.4g}  max {known.max():.4g}" if len(known) else "")
        yield f"{sign} {label}{' ' * (width - output.width_of(label))}  {facts}"
    if rest := more(len(curves), _LEGEND):
        yield f"{rest} curves"


def _labels(curves: Sequence[Curve]) -> list[str]:
    """Return a label for each curve: column, run and worker, as far as they differ."""
    runs = {one.run.url: one.run for one in curves}
    names = dict(zip(runs, _names([*runs.values()]), strict=True))
    has_columns = len({one.column for one in curves}) > 1
    labels = []
    for one in curves:
        parts = [one.column] * has_columns
        parts += [names[one.run.url]] * (len(runs) > 1 or not has_columns)
        parts += [f"worker {one.rank}"] * bool(one.rank)
        labels.append(safe(shortened("  ".join(parts), _LABEL)))
    return labels


def _names(runs: Sequence[Run]) -> list[str]:
    """Return a name for each run: the parameters that differ if there are few, else its id, or its whole name."""
    from notata.formats import flattened

    params = [flattened(run.params) for run in runs]
    names = [*dict.fromkeys(name for one in params for name in one)]
    texts = [{name: _value(one[name]) for name in one} for one in params]
    differing = [name for name in names if len({one.get(name) for one in texts}) > 1]
    if len(runs) > 1 and 0 < len(differing) <= _PARAMS:
        found = [" ".join(f"{name}={one[name]}" for name in differing if name in one) for one in texts]
        if all(found) and len({*found}) == len(found):
            return found
    ids = [run.run_id for run in runs]
    return ids if len({*ids}) == len(ids) else [run.name for run in runs]


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
