"""Conversion of tables to pandas, column by column: 10⁶ rows take seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from notata import formats
from notata._base.packages import needed

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["frame_of"]


_NO_TEXTS: Final = frozenset({bool, float, int, type(None)})


def frame_of(columns: Mapping[str, Sequence[Any]], rows: int) -> pd.DataFrame:
    """Return columns as a pandas DataFrame, with lone surrogates, which it cannot hold, escaped.

    Args:
        columns: The values by column, from left to right; missing values are NaN.
        rows: The length of each column.

    Raises:
        PackageMissingError: pandas is not installed.
    """
    with needed("a DataFrame needs pandas", "pandas", "pandas"):
        import pandas as pd

    records = list(zip(*map(_holdable, columns.values()), strict=True)) if columns else [()] * rows
    return pd.DataFrame.from_records(records, columns=[*_holdable([*columns])] or None)


def _holdable(values: Sequence[Any]) -> Iterable[Any]:
    """Return values that pandas can hold."""
    if _NO_TEXTS.issuperset(map(type, values)):
        return values
    escaped = formats.without_surrogates
    return [escaped(value) if isinstance(value, str) and not value.isascii() else value for value in values]
