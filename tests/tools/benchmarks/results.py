"""What was measured: samples by contestant and column, and what they say of the budgets."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

TIMES = "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True)
class Column:
    """One figure of a contestant.

    Attributes:
        name: In the table's head.
        unit: Of it.
        ratio: Whether the table also tells how often the first row's figure it is.
    """

    name: str
    unit: str
    ratio: bool = True


@dataclass(frozen=True)
class Budget:
    """What notata promises, and what it did.

    Attributes:
        what: Is promised.
        limit: Of it.
        measured: The figure; None where it could not be had.
        unit: Of both.
        least: Whether the limit is the least that it may be, not the most.
    """

    what: str
    limit: float
    measured: float | None
    unit: str = ""
    least: bool = False

    @property
    def met(self) -> bool | None:
        """Whether it is kept."""
        if self.measured is None:
            return None
        return self.measured >= self.limit if self.least else self.measured <= self.limit


@dataclass
class Result:
    """One table.

    Attributes:
        letter: Of the measurement.
        title: What was measured, with which sizes.
        columns: In order.
        rows: Samples by contestant, in order, and the column's name.
        notes: What a reader has to know.
        budgets: Those that these figures tell of.
    """

    letter: str
    title: str
    columns: list[Column]
    rows: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    budgets: list[Budget] = field(default_factory=list)

    def add(self, row: str, column: str, samples: Iterable[float]) -> None:
        """More samples of a figure."""
        assert column in {known.name for known in self.columns}
        self.rows.setdefault(row, {}).setdefault(column, []).extend(samples)

    def refuse(self, refused: Mapping[str, str]) -> None:
        """Note who took no part, and why."""
        for name, why in refused.items():
            note = f"{name}: {why}"
            if note not in self.notes:
                self.notes.append(note)

    def median(self, row: str, column: str) -> float | None:
        """The figure that the table shows."""
        samples = self.rows.get(row, {}).get(column)
        return statistics.median(samples) if samples else None

    def best(self, rows: Iterable[str], column: str) -> float | None:
        """The largest of the figures of some rows."""
        return max((found for row in rows if (found := self.median(row, column)) is not None), default=None)
