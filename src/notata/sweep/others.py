"""Wait for the runs of a sweep that other processes are writing."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from notata._base import keys
from notata.errors import BatchError, MissingError, NotataError
from notata.store import Store
from notata.sweep.point import Outcome, outcome_of

__all__ = ["Others", "Point"]

_SHORTEST: Final = 0.05  # seconds between two looks; they double each time
_LONGEST: Final = 10.0
_AT_ONCE: Final = 256  # runs in one look


@dataclass(slots=True)
class Point:
    """One point on its way.

    Attributes:
        params: The parameters.
        run_id: The id of its run; empty if the parameters have none.
        failures: How often its task has failed in this sweep, or its run could not begin.
        lost: How often its call was lost.
        died: How often its run died then.
        last_dead: The attempt in which it was dead most recently; -1 if in none.
        number: The number of its last submission, among those of all points.
        reason: Why it failed, or what is known of the other process.
    """

    params: Mapping[str, Any]
    run_id: str
    failures: int = 0
    lost: int = 0
    died: int = 0
    last_dead: int = -1
    number: int = 0
    reason: str = ""


class Others:
    """The points whose runs other processes are writing.

    Args:
        runs: The store of the folder ``runs/``.
        wait: Whether to wait for them; a number: the seconds.
    """

    def __init__(self, runs: Store, wait: bool | float) -> None:
        self._runs = runs
        self._seconds = math.inf if wait is True else float(wait)
        self._until: float | None = None
        self._pause = _SHORTEST
        self._points: dict[str, Point] = {}

    def __len__(self) -> int:
        return len(self._points)

    def add(self, point: Point) -> None:
        """Add a point."""
        self._points[point.run_id] = point

    def take_all(self) -> list[Point]:
        """Return the points, and forget them."""
        points, self._points = list(self._points.values()), {}
        return points

    def is_over(self) -> bool:
        """Check whether the time to wait is over; it begins with the first call."""
        now = time.monotonic()
        if self._until is None:
            self._until = now + self._seconds
        return now >= self._until

    def next_pause(self) -> float:
        """Return the seconds until the next look."""
        pause, self._pause = self._pause, min(2 * self._pause, _LONGEST)
        return pause if self._until is None else max(0.0, min(pause, self._until - time.monotonic()))

    def look(self) -> Iterator[tuple[Point, Outcome | None]]:
        """Yield points and what is stored of them; None without a run. One request each, 32 at once."""
        points = list(islice(self._points.values(), _AT_ONCE))
        folders = {keys.join(keys.run_folder(point.run_id), keys.METADATA): point for point in points}
        try:
            found = self._runs.fetch_many(folders)
        except (BatchError, NotataError):
            return  # the next look may succeed
        for key, point in folders.items():
            del self._points[point.run_id]  # it comes to the end again, if it is still being written
            yield point, outcome_of(point.run_id, found[key], self._runs.url) if key in found else None

    def state_of(self, point: Point) -> Outcome | None:
        """Return what is stored of one point; None if it has no run. One request."""
        store = self._runs.below(keys.run_folder(point.run_id))
        try:
            return outcome_of(point.run_id, store.fetch(keys.METADATA), store.url)
        except MissingError:
            return None
        except NotataError as error:
            return Outcome(point.run_id, "busy", str(error))
