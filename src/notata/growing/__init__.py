"""Files that grow line by line while a run goes on: log.txt and the series.

`GrowingFile` (``growing_file.py``) collects the lines of one file and appends them when they are due; in a bucket the
`AppendThread` of the run (``append_thread.py``) does it for all its files. Nothing here knows what a line means.
"""

from __future__ import annotations

from notata.growing.append_thread import THREAD, AppendThread
from notata.growing.growing_file import Appender, GrowingFile, State
from notata.growing.overflow import Overflow

__all__ = ["THREAD", "AppendThread", "Appender", "GrowingFile", "Overflow", "State"]
