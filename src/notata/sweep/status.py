"""Count the points of a sweep by the state of their runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from notata.run import runids
from notata.table import LARGE, Row, freshness, gather

if TYPE_CHECKING:
    from notata.store import Store
    from notata.sweep.points import Points

__all__ = ["SweepStatus", "sweep_status"]


@dataclass(frozen=True, slots=True)
class SweepStatus:
    """The number of points of a sweep in each state.

    Attributes:
        url: The location of the experiment, without credentials.
        points: The number of points; None if the space is unknown, and all runs of the experiment are counted.
        complete: Points whose run is complete.
        failed: Points whose run has failed.
        running: Points whose run is being written.
        died: Points whose run has not ended, though its process is gone.
        unreadable: Points whose run is damaged.
        not_begun: Points without a run; None if the space is unknown.
        outside: Runs of the experiment that belong to no point.
        note: How fresh the numbers are; empty if they are exact.
    """

    url: str
    points: int | None
    complete: int
    failed: int
    running: int
    died: int
    unreadable: int
    not_begun: int | None
    outside: int
    note: str = ""


def sweep_status(
    store: Store, name: str, space: Points | None = None, *, fresh: bool = False, large: int = LARGE
) -> SweepStatus:
    """Return the numbers of points by the state of their runs.

    Args:
        store: The store of the experiment.
        name: The name of the experiment.
        space: The points; None to count all runs of the experiment.
        fresh: Look at every run instead of the index.
        large: The number of runs beyond which the index is trusted.

    Cost: that of a table. For a large experiment, two listings and one read for each part of its index.

    Raises:
        StorageError: The experiment cannot be listed.
    """
    table = gather(store, fresh=fresh, large=large)
    note = ""
    if table.index is not None and table.index.is_large:
        note = freshness(table.index, store.url) + ". Points whose runs are missing count as not begun" * (
            space is not None
        )
    counts: Counter[str] = Counter()
    outside = 0
    belongs = (lambda _: True) if space is None else _membership(name, space)
    for row in table.rows:
        if belongs(row):
            counts[row.status] += 1
        else:
            outside += 1
    points = None if space is None else len(space)
    return SweepStatus(
        store.url,
        points,
        counts["complete"],
        counts["failed"],
        counts["running"] + counts["replacing"],
        counts["died"],
        counts["unreadable"],
        None if points is None else points - counts.total(),
        outside,
        note,
    )


def _membership(name: str, space: Points) -> Callable[[Row], bool]:
    """Return a function that checks whether a row belongs to a point."""
    last = name.rpartition("/")[2]

    def belongs(row: Row) -> bool:
        if space.find(row.params) is not None:
            return True
        return any(runids.run_id(last, space[number]) == row.run_id for number in space.find_within(row.params))

    return belongs
