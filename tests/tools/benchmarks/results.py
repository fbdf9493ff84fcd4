"""Results: samples by contestant and column, compared with the budgets."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

TIMES = "\N{MULTIPLICATION SIGN}"


def median_of(times: int) -> str:
    """Return how many samples a figure has, for a title."""
    return f"median of {times}" if times > 1 else "once"


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: Its heading.
        unit: Its unit.
        ratio: Whether the table also shows the ratio to the first row.
    """

    name: str
    unit: str
    ratio: bool = True


@dataclass(frozen=True)
class Budget:
    """A limit that notata promises, and the measured value.

    Attributes:
        what: Description.
        limit: The limit.
        measured: The measured value; None if it could not be measured.
        unit: The unit of both.
        least: Whether the limit is a minimum, not a maximum.
    """

    what: str
    limit: float
    measured: float | None
    unit: str = ""
    least: bool = False

    @property
    def met(self) -> bool | None:
        """Return True if the limit is met."""
        if self.measured is None:
            return None
        return self.measured >= self.limit if self.least else self.measured <= self.limit


@dataclass
class Result:
    """One table.

    Attributes:
        letter: The letter of the measurement.
        title: The measurement with its sizes.
        columns: Columns in order.
        rows: Samples by contestant, in order, and column name.
        notes: Remarks for the reader.
        budgets: The budgets that these figures test.
    """

    letter: str
    title: str
    columns: list[Column]
    rows: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    budgets: list[Budget] = field(default_factory=list)

    def add(self, row: str, column: str, samples: Iterable[float]) -> None:
        """Add samples of a figure."""
        assert column in {known.name for known in self.columns}
        self.rows.setdefault(row, {}).setdefault(column, []).extend(samples)

    def refuse(self, refused: Mapping[str, str]) -> None:
        """Record a contestant that took no part, and the reason."""
        for name, why in refused.items():
            note = f"{name}: {why}"
            if note not in self.notes:
                self.notes.append(note)

    def median(self, row: str, column: str) -> float | None:
        """Return the figure that the table shows."""
        samples = self.rows.get(row, {}).get(column)
        return statistics.median(samples) if samples else None

    def best(self, rows: Iterable[str], column: str) -> float | None:
        """Return the largest figure of some rows."""
        return max((found for row in rows if (found := self.median(row, column)) is not None), default=None)
