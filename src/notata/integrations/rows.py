"""Add the metrics of a framework to a series, whatever their values: a training does not fail by what it reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from notata._base.warn import warn
from notata.errors import EncodeError
from notata.run.recorder import Recorder
from notata.series.rows import RESERVED

__all__ = ["Rows"]


class Rows:
    """Adds rows to the series of a run, and leaves out values that a row cannot store.

    The first time that a name is left out, the log and a Python warning say why. A name that rows reserve gets an
    underscore: ``time`` becomes ``time_``.

    Args:
        log: An open run, or a worker of one. None records nothing.

    >>> rows = Rows(log)
    >>> rows.add({"loss": 0.5, "time": 2.0}, step=7)
    >>> print(log.series("scalars").path.read_text().splitlines()[-1].partition('"loss"')[2])
    : 0.5, "time_": 2.0}
    """

    def __init__(self, log: Recorder | None) -> None:
        self.log = log
        self._left_out: set[str] = set()

    def add(self, values: Mapping[Any, Any], step: Any = None, series: str = "scalars") -> None:
        """Add a row, of which nothing is stored if no value is left.

        Raises:
            RunDisplacedError: Another writer has taken over the run.
            StorageError: The rows of an earlier attempt cannot be read.
        """
        if self.log is None:
            return
        row = {f"{name}_" if name in RESERVED else str(name): value for name, value in values.items()}
        if isinstance(step, float) and step.is_integer():
            step = int(step)
        while row:
            try:
                self.log.series(series).add(row, step=step)
                return
            except EncodeError as error:
                name = error.where if error.where in row else ""
                self._leave_out(name, series, error)
                if not name:  # the step, or the size of the row
                    return
                del row[name]

    def _leave_out(self, name: str, series: str, error: EncodeError) -> None:
        if self.log is not None and name not in self._left_out:
            self._left_out.add(name)
            what = f"{name!r:.200}" if name else "A row"
            self.log.warning("%s was not added to the series %s: %s", what, series, error)
            warn(f"{what} was not added to the series {series!r} of {self.log.url}: {error}")
