"""Values over time: rows of numbers that a run adds while it goes on, as JSON lines in ``series/``.

A row passes through these places: `RowEncoder` (``rows.py``) makes it a line, and `notata.growing.GrowingFile`
collects and appends lines as it does for log.txt. ``summary.py`` keeps last, smallest and largest value of each column
for metadata.json. ``parsing.py`` makes lines numpy arrays again, ``reading.py`` those of a file, ``many.py`` those of
many runs.
"""

from __future__ import annotations

from notata.series.summary import SCALARS, flat_values, loaded, loaded_one
from notata.series.writer import Series, SeriesWriters

__all__ = ["SCALARS", "Series", "SeriesWriters", "flat_values", "loaded", "loaded_one"]
