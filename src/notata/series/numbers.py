"""Columns of a series as numbers, for curves."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Columns", "is_text", "numbers"]


class Columns(Protocol):
    """Columns by their names."""

    def __getitem__(self, name: str, /) -> npt.NDArray[Any]: ...


def is_text(data: Columns, column: str) -> bool:
    """Check whether a column has values that are neither numbers nor booleans."""
    return data[column].dtype.kind == "O" and not all(isinstance(one, bool | None) for one in data[column].tolist())


def numbers(data: Columns, column: str) -> npt.NDArray[np.float64]:
    """Return a column of numbers or booleans as float64; gaps are NaN."""
    values = data[column]
    if values.dtype.kind != "O":
        return values.astype(np.float64)
    return np.array([np.nan if value is None else float(value) for value in values.tolist()], np.float64)
