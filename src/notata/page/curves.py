"""The data of curves that the page draws, as JSON values: few points that draw the same picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from notata.page.values import listed_values, rounded, shown_text, text_of
from notata.search.curving import RELATIVE, STEP, TIME, Coordinates, Curve, thinned_rows
from notata.search.places import Run

__all__ = ["POINTS", "curve_page", "curve_values", "few_points"]

POINTS: Final = 2000
"""Maximum number of points of a curve."""

_LEAST: Final = 8  # points of which the picture of a curve can be made
_MILLISECONDS: Final = 3  # digits of a time


def curve_page(
    curves: Iterable[Curve],
    series: str,
    column: str,
    *,
    ids: Mapping[str, Run],
    points: int = POINTS,
    smooth: float = 0.0,
    between: tuple[float | None, float | None] | None = None,
    x: str = STEP,
    problems: Iterable[str] = (),
) -> dict[str, Any]:
    """Return curves of one column of a series: the value of the key ``curves/<series>/<column>``.

    Each curve is thinned when it comes from the iterator, so that one whole curve is in memory at a time.

    Args:
        curves: The curves over steps, from `notata.search.curving.curves_in`; those of other columns are skipped.
        series: The name of the series.
        column: The name of the column.
        ids: The runs by their ids in the page, from `notata.page.model.ids_of`.
        points: Maximum number of points of each curve.
        smooth: The weight of the moving average; the whole curve is smoothed before it is thinned.
        between: Smallest and largest coordinate of the points, None for no limit; with one point on each side.
        x: The coordinate of `between` and of the bins of equal width: ``step``, ``time`` or ``relative``.
        problems: Messages about files that could not be read.
    """
    names = {run.url: name for name, run in ids.items()}
    found = [
        curve_values(curve, names[curve.run.url], points, smooth=smooth, between=between, x=x)
        for curve in curves
        if curve.column == column and curve.run.url in names
    ]
    return {
        "series": text_of(series, 500),
        "column": text_of(column, 500),
        "curves": found,
        "problems": [shown_text(text) for text in problems],
    }


def curve_values(
    curve: Curve,
    id: str,
    points: int = POINTS,
    *,
    smooth: float = 0.0,
    between: tuple[float | None, float | None] | None = None,
    x: str = STEP,
    rows: int | None = None,
) -> dict[str, Any]:
    """Return one curve as JSON values; `rows` is the number of its rows, if it has been thinned before.

    The curve is ``thinned`` if it has fewer points than rows between the coordinates.
    """
    rows = len(curve) if rows is None else rows
    part = curve.smoothed(smooth)
    along = _along(part, x)
    if between is not None:
        part, along = _within(part, along, between)
    few = few_points(part, points, along)
    y = listed_values(rounded(few.y))
    start = curve.start if np.isfinite(curve.start) else 0.0
    with np.errstate(all="ignore"):  # forged times
        seconds = np.round(few.time - start, _MILLISECONDS)
    return {
        "run": id,
        "rank": text_of(curve.rank, 100),
        "rows": rows,
        "start": round(start, _MILLISECONDS),
        "step": few.x.tolist(),
        "time": [value if np.isfinite(value) else None for value in seconds.tolist()],
        "y": y["values"],
        "nonfinite": y["nonfinite"],
        "thinned": len(few) < (rows if between is None else len(part)),
        "smoothed": smooth > 0,
    }


def few_points(curve: Curve, points: int, along: Coordinates | None = None) -> Curve:
    """Return a curve over steps with at most this many points, and its times.

    The rows are thinned in bins of equal width of `along`, by default of the steps.
    """
    along = curve.x if along is None else along
    points = max(points, _LEAST)
    if len(curve) <= points:
        return curve
    rows = thinned_rows(along, curve.y, points // 4)
    if len(rows) > points:  # NaN in many places
        rows = thinned_rows(along, curve.y, points // 6)
    return curve.at(rows[:points])


def _along(curve: Curve, x: str) -> Coordinates:
    if x == TIME:
        return curve.time
    if x == RELATIVE:
        with np.errstate(all="ignore"):
            return curve.time - curve.start
    return curve.x


def _within(
    curve: Curve, along: Coordinates, between: tuple[float | None, float | None]
) -> tuple[Curve, npt.NDArray[Any]]:
    """Return the part of a curve between two coordinates, with the rows beside it, so that lines reach the border."""
    low, high = between
    inside = np.ones(len(along), bool)
    if low is not None:
        inside &= along >= low
    if high is not None:
        inside &= along <= high
    at = np.flatnonzero(inside)
    if not len(at):  # the border may be between two rows
        before = np.flatnonzero(along < low)[-1:] if low is not None else at
        after = np.flatnonzero(along > high)[:1] if high is not None else at
        at = np.sort(np.concatenate([before, after]))
        return curve.at(at), along[at]
    part = slice(max(0, int(at[0]) - 1), int(at[-1]) + 2)
    return curve.at(part), along[part]
