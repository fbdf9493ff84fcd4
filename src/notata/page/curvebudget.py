"""The curves of a report: as many points of each as fit, read one file at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from notata._base import keys
from notata._base.display import counted
from notata.errors import NotataError
from notata.page.bundle import size_of_block
from notata.page.curves import POINTS, curve_values, few_points
from notata.page.model import curves_key, number_columns
from notata.page.values import encoded, text_of
from notata.run.state import SUMMARY
from notata.search.choosing import Runs
from notata.search.curving import Curve, curves_in
from notata.search.places import Run
from notata.series import loaded_one
from notata.series.columns import is_chosen

__all__ = ["CurveCollector", "is_wanted"]

_POINT: Final = 26  # usual bytes of a point: step, time and value
_CURVE: Final = 160  # bytes of a curve without its points
_FEWEST: Final = 50  # points of a curve; with less room there are fewer curves
_COLUMNS: Final = 1000  # columns of all series

Column = tuple[str, str]
"""A series, and a column of it."""


@dataclass(slots=True)
class _Kept:
    """A thinned curve.

    Attributes:
        id: The id of its run in the page.
        curve: The curve.
        rows: The number of rows of the whole curve.
    """

    id: str
    curve: Curve
    rows: int


@dataclass
class CurveCollector:
    """Collects the curves of a report.

    Attributes:
        left_out: Sentences about curves that are left out.

    Args:
        runs: The runs with their ids in the page, those that matter most first.
        series: Names or patterns of series, columns, or both; None for all.
        failed: Called with the error of each file that cannot be read.
    """

    runs: Sequence[tuple[str, Run]]
    series: Collection[str] | None
    failed: Callable[[NotataError], None]
    left_out: list[str] = field(default_factory=list)
    _found: dict[Column, list[_Kept]] = field(default_factory=dict)

    def collect(self, budget: int, place: str) -> Iterator[tuple[str, bytes]]:
        """Yield the blocks of the curves, after all files were read.

        Args:
            budget: Their bytes at most.
            place: The name of the place, for errors.
        """
        counts = self._counts()
        curves = sum(len(one) for one in counts.values())
        if not curves:
            return
        most = max(1, budget // (_CURVE + _FEWEST * _POINT))
        runs = self.runs[: max(1, most // len(counts))]
        kept = [*counts][: min(most, _COLUMNS)]
        points = _points([count for column in kept for count in counts[column][: len(runs)]], budget)
        for series in dict.fromkeys(name for name, _ in kept):
            self._read(series, [column for name, column in kept if name == series], runs, points, place)
        curves = max(curves, sum(len(one) for one in self._found.values()))  # summaries may lack some
        points = yield from self._encoded(budget, points)
        self._tell(curves, points)

    def series_with_found(self, known: Mapping[str, Any]) -> dict[str, Any]:
        """Return the field ``series`` of the table, with columns that only the files had."""
        found = {name: {**one, "columns": [*one["columns"]]} for name, one in known.items()}
        for (series, column), curves in self._found.items():
            one = found.get(text_of(series, 500))
            if one is not None and curves and text_of(column, 500) not in one["columns"]:
                one["columns"] = sorted([*one["columns"], text_of(column, 500)])
        return {name: one for name, one in found.items() if self.series is None or self._has_wanted(name, one)}

    def _has_wanted(self, name: str, one: Mapping[str, Any]) -> bool:
        one["columns"][:] = [column for column in one["columns"] if is_wanted(name, column, self.series)]
        return bool(one["columns"])

    @property
    def found(self) -> Collection[Column]:
        """The series and columns that were read."""
        return self._found.keys()

    # -- which curves --------------------------------------------------------------------------------------

    def _counts(self) -> dict[Column, list[int]]:
        """Return the number of rows of each curve as far as summaries have it, by column.

        A series of which no run has a summary has the column ``""``.
        """
        counts: dict[Column, list[int]] = {}
        for _, run in self.runs:
            for series in dict.fromkeys(known[1] for key in run.entries if (known := keys.series_name(key))):
                fields = (loaded_one(run.metadata.get(SUMMARY), series) or {}).get("columns", {})
                for column in [*number_columns(run, series)] or [""]:
                    if is_wanted(series, column, self.series):
                        count = fields.get(column, {}).get("count")
                        known_count = count if type(count) is int and count > 0 else POINTS
                        counts.setdefault((series, column), []).append(known_count)
        named = {series for series, column in counts if column}
        kept = {one: rows for one, rows in counts.items() if one[1] or one[0] not in named}
        return dict(sorted(kept.items(), key=lambda pair: -len(pair[1])))

    # -- reading -------------------------------------------------------------------------------------------

    def _read(
        self, series: str, columns: Sequence[str], runs: Sequence[tuple[str, Run]], points: int, place: str
    ) -> None:
        """Read the curves of a series, and keep few points of each."""
        ids = {run.url: name for name, run in runs}
        having = [run for _, run in runs if any(_is_of(key, series) for key in run.entries)]
        has_all = all(SUMMARY in run.metadata for run in having)
        wanted = [*columns] if has_all and all(columns) else None
        found = curves_in(Runs(having), wanted, series=series, workers=True, place=place, failed=self.failed)
        for curve in found:
            one = (series, curve.column)
            is_new = one not in self._found
            if not is_wanted(series, curve.column, self.series) or (is_new and len(self._found) >= _COLUMNS):
                continue
            self._found.setdefault(one, []).append(_Kept(ids[curve.run.url], few_points(curve, points), len(curve)))

    # -- encoding ------------------------------------------------------------------------------------------

    def _encoded(self, budget: int, points: int) -> Generator[tuple[str, bytes], None, int]:
        """Yield the blocks, with fewer points of each curve, or without the last curves, if they are too large.

        Returns:
            The number of points that a curve may have.
        """
        while True:
            texts = {one: [_curve(kept, points) for kept in curves] for one, curves in self._found.items()}
            total = sum(_page_size(*one) + sum(len(text) + 1 for text in found) for one, found in texts.items())
            if total <= budget or points <= _FEWEST:
                break
            points = max(_FEWEST, int(points * 0.95 * budget / total))
        left = budget
        for (series, column), found in texts.items():
            room = left - _page_size(series, column)
            kept = []
            for text in found:
                room -= len(text) + 1
                if room < 0:
                    break
                kept.append(text)
                left = room
            self._found[series, column] = self._found[series, column][: len(kept)]
            if kept:
                yield curves_key(series, column), _page(series, column, kept)
        return points

    def _tell(self, curves: int, points: int) -> None:
        """Say how many curves are left out, and how many have only some of their rows."""
        drawn = sum(len(one) for one in self._found.values())
        if drawn < curves:
            self.left_out.append(f"Curves: the report has {drawn:,} of {curves:,}. `notata curve` draws the others.")
        few = [min(points, len(one.curve)) for found in self._found.values() for one in found if points < one.rows]
        if few:
            self.left_out.append(
                f"Rows: the report has some {min(few):,} points of {counted(len(few), 'curve')} with more rows, the "
                "smallest and largest values included; in `notata view`, a zoom shows every row."
            )


def is_wanted(series: str, column: str, wanted: Collection[str] | None) -> bool:
    """Check whether the user requests a column of a series; an empty column stands for unknown ones.

    >>> is_wanted("scalars", "loss", ["loss"]), is_wanted("scalars", "loss", ["val/*"]), is_wanted("a", "x", ["a"])
    (True, False, True)
    """
    if wanted is None or not column:
        return True
    return any(is_chosen(name, wanted) for name in (series, column, f"{series}/{column}"))


def _is_of(key: str, series: str) -> bool:
    known = keys.series_name(key)
    return known is not None and known[1] == series


def _points(counts: Iterable[int], budget: int) -> int:
    """Return the largest number of points so that curves with these numbers of rows fit.

    >>> _points([10, 100_000], 260_000), _points([100_000] * 100, 260_000), _points([], 100)
    (2000, 93, 2000)
    """
    counts = [*counts]
    left = budget - _CURVE * len(counts)
    low, high = _FEWEST, POINTS
    while low < high:
        middle = (low + high + 1) // 2
        if sum(min(count, middle) for count in counts) * _POINT <= left:
            low = middle
        else:
            high = middle - 1
    return low


def _page_size(series: str, column: str) -> int:
    """Return the bytes of the block of a column without its curves, and of the name of the column in the table."""
    block = size_of_block(curves_key(series, column), _page(series, column, ()))
    return block + len(encoded(text_of(column, 500))) + 1


def _curve(kept: _Kept, points: int) -> bytes:
    return encoded(curve_values(kept.curve, kept.id, points, rows=kept.rows))


def _page(series: str, column: str, curves: Sequence[bytes]) -> bytes:
    """Return the block of a column, from its encoded curves: as `notata.page.curves.curve_page` has it."""
    head = encoded({"series": text_of(series, 500), "column": text_of(column, 500), "problems": []})
    return head[:-1] + b',"curves":[' + b",".join(curves) + b"]}"
