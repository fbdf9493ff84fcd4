"""Few points of a curve that draw the same picture."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "Coordinates", "thinned", "thinned_rows"]

Array: TypeAlias = npt.NDArray[np.float64]
Coordinates: TypeAlias = npt.NDArray[np.float64] | npt.NDArray[np.int64]


def thinned(x: Coordinates, y: Array, bins: int) -> tuple[Coordinates, Array]:
    """Return few points that draw the same picture: of each bin the first, smallest, largest and last value.

    Bins are ranges of `x` of equal width; if `x` does not ascend, ranges of rows. NaN breaks a line, so that a bin with
    NaN also keeps the first and the last one.

    Args:
        x: The coordinates.
        y: The values.
        bins: The number of bins, such as the number of columns of pixels.

    Returns:
        At most six points for each bin, in their order.

    >>> x = np.arange(1000.0)
    >>> y = np.zeros(1000)
    >>> y[500] = 7
    >>> few = thinned(x, y, 10)[1]
    >>> len(few), int(few.argmax()), float(few.max())
    (21, 10, 7.0)
    """
    if len(x) <= 6 * bins:
        return x, y
    at = thinned_rows(x, y, bins)
    return x[at], y[at]


def thinned_rows(x: Coordinates, y: Array, bins: int) -> npt.NDArray[np.int64]:
    """Return the indices of the points that `thinned` keeps, in order: at most four for each bin, six with NaN in it.

    >>> thinned_rows(np.arange(8), np.array([0.0, 3, 1, 2, 0, 0, 0, 0]), 2)
    array([0, 1, 3, 4, 7])
    """
    bin_of = _bins(x, bins)
    is_number = np.isfinite(y)
    numbers, others = np.flatnonzero(is_number), np.flatnonzero(~is_number)
    by_value = numbers[np.lexsort((y[numbers], bin_of[numbers]))]
    return np.unique(np.concatenate([_ends(rows, bin_of) for rows in (numbers, by_value, others)]))


def _ends(rows: npt.NDArray[np.int64], bin_of: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the first and the last row of each bin, in the order of `rows`."""
    edges = np.flatnonzero(np.diff(bin_of[rows])) + 1
    return np.concatenate([rows[:1], rows[edges], rows[edges - 1], rows[-1:]])


def _bins(x: Coordinates, bins: int) -> npt.NDArray[np.int64]:
    """Return the number of the bin of each row; the numbers ascend."""
    low, high = float(x[0]), float(x[-1])
    if high > low and np.isfinite(high - low) and bool((x[1:] >= x[:-1]).all()):
        return np.minimum((x - low) / (high - low) * bins, bins - 1).astype(np.int64)
    return np.arange(len(x), dtype=np.int64) * bins // len(x)
