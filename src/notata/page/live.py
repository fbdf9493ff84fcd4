"""Changes since the last poll: new rows and lines on the screen, new runs, and outages of the storage.

Nothing is polled unless a page is open. Only the series, logs and outputs that a page shows are read, and only their
new bytes.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from notata.errors import (
    AccessError,
    ConfigurationError,
    DeadlineError,
    KeyNameError,
    MissingError,
    NotataError,
    StorageError,
    UnreachableError,
)
from notata.page.catalog import Catalog, Snapshot
from notata.page.model import TEXTS
from notata.page.rows import RowCache, RowFile, files_of

__all__ = ["EVER", "Event", "Item", "Live", "items_of"]

EVER: Final = float("inf")
"""Seconds to wait for something that does not come."""

WATCHED: Final = 500
"""Series, logs and outputs that one page may watch."""

_NAMED: Final = 200  # ids in one event; more are left out, as after a change of all runs
_SHARE: Final = 0.15  # of the time since the last change, until the next poll
_LISTING_SHARE: Final = 0.1  # of the time, for listings
_ROWS: Final = {True: (1.0, 1.5), False: (2.0, 4.0)}  # shortest and longest seconds between two polls; is it a disk?
_LISTINGS: Final = {True: (5.0, 20.0), False: (15.0, 60.0)}


@dataclass(frozen=True, slots=True)
class Item:
    """Something that a page shows and that may grow: a series of a run, or one of its texts if `series` is None.

    Attributes:
        run_id: The id of the run.
        series: The name of the series.
        text: The name of the text, see `notata.page.model.TEXTS`.
    """

    run_id: str
    series: str | None = None
    text: str = "log"

    @property
    def kind(self) -> str:
        """The kind of an event about it."""
        return self.text if self.series is None else "rows"


@dataclass(frozen=True, slots=True)
class Event:
    """A message for a page.

    Attributes:
        kind: ``runs``, ``rows``, ``log``, ``output``, ``problem``, ``recovered``, or ``ended`` if the server ends.
        ids: The runs concerned; none means that any may be.
        text: The message of a problem.
    """

    kind: str
    ids: tuple[str, ...] = ()
    text: str = ""

    def record(self) -> dict[str, Any]:
        """Return its fields as a JSON value."""
        ids = [*self.ids] if len(self.ids) <= _NAMED else []
        return {"kind": self.kind, "ids": ids} | ({"text": self.text} if self.text else {})


def items_of(watch: str) -> frozenset[Item]:
    """Return what a page watches, from ``watch`` in its request.

    Args:
        watch: JSON such as ``{"series": {"scalars": ["log_a"]}, "logs": ["log_a"], "outputs": ["log_a"]}``, with ids
            of runs.

    Raises:
        ConfigurationError: It has another form, or names too much.

    >>> [*items_of('{"series": {"val/loss": ["log_b"]}}')], [*items_of('{"logs": ["sweep/log_a"]}')]
    ([Item(run_id='log_b', series='val/loss', text='log')], [Item(run_id='sweep/log_a', series=None, text='log')])
    """
    invalid = ConfigurationError('invalid watch: write JSON such as {"series": {"scalars": ["log_a"]}, "logs": []}')
    try:
        wanted = json.loads(watch or "{}")
        series = wanted.get("series") or {}
        found = {Item(run_id, text=name) for name in TEXTS for run_id in wanted.get(f"{name}s") or []}
        found |= {Item(run_id, name) for name, ids in series.items() for run_id in ids}
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise invalid from None
    if not all(isinstance(item.run_id, str) for item in found):
        raise invalid
    if len(found) > WATCHED:
        raise ConfigurationError(
            f"a page can watch at most {WATCHED} series, logs and outputs at once, not {len(found)}"
        )
    return frozenset(found)


@dataclass(slots=True)
class _Pace:
    """The time of the next poll: soon after a change, later while nothing changes."""

    changed: float
    due: float

    def next(self, now: float, limits: tuple[float, float], *, is_new: bool, least: float = 0.0) -> None:
        """Plan the next poll, between two limits in seconds, and after `least` seconds at the earliest."""
        if is_new:
            self.changed = now
        shortest, longest = limits
        self.due = now + max(least, min(longest, max(shortest, _SHARE * (now - self.changed))))


@dataclass(slots=True)
class _Outages:
    """Failures of the storage that have not ended, by the part that polls it; each is reported once."""

    tell: Callable[[str], object]
    texts: dict[str, str] = field(default_factory=dict)

    def begin(self, source: str, error: NotataError) -> list[Event]:
        was_well = not self.texts
        self.texts[source] = str(error)
        if not was_well:
            return []
        self.tell(f"Error: {error}; the page is waiting for the storage")
        return [Event("problem", (), str(error))]

    def end(self, *sources: str) -> list[Event]:
        ended = [source for source in sources if self.texts.pop(source, None) is not None]
        if not ended or self.texts:
            return []
        self.tell("The storage is available again")
        return [Event("recovered")]

    @property
    def now(self) -> list[Event]:
        return [Event("problem", (), text) for text in [*self.texts.values()][:1]]


class Live:
    """Looks for changes. `poll` and `list_again` can each be called from one thread at a time, all else from many.

    Args:
        catalog: The runs.
        rows: The rows that were read.
        interval: Seconds between two polls of rows and texts, and up to ten times as many without new ones; by
            default 1 to 1.5 on a local disk, else 2 to 4.
        tell: Called with messages for the terminal.
        clock: Returns the time in seconds.
    """

    def __init__(
        self,
        catalog: Catalog,
        rows: RowCache,
        *,
        interval: float | None = None,
        tell: Callable[[str], object] = bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalog = catalog
        self._rows = rows
        self._clock = clock
        self._interval = interval
        self._paces: dict[Item, _Pace] = {}
        self._positions: dict[Item, object] = {}  # how far the page has read, or the last poll
        self._outages = _Outages(tell)
        self._tell = tell
        self._has_warned = False
        self._lock = threading.Lock()
        self._is_near = all(store.is_local for store in catalog.stores)
        self._answered = 0  # files that polls have looked at
        self._listing = _Pace(clock(), clock())
        self._glance = clock()

    # -- rows and texts ------------------------------------------------------------------------------------

    def known(self, items: Collection[Item]) -> dict[Item, object]:
        """Return the positions up to which items were read before, to compare with those of the next poll."""
        found = {item: self._position(item, self._files(item)) for item in items if item.series is not None}
        with self._lock:
            texts = {item: self._positions[item] for item in items if item in self._positions}
        return {item: position for item, position in (found | texts).items() if position is not None}

    def note_text(self, item: Item, end: int) -> None:
        """Note up to which byte the page has the log or the output of a run."""
        with self._lock:
            if len(self._positions) > 10 * WATCHED:
                self._positions.clear()
            self._positions[item] = end

    def poll(self, items: Collection[Item]) -> tuple[dict[Item, object], list[Event]]:
        """Read what was added to items whose time has come; return their positions, and events about outages.

        Cost: for each run that has not ended one request a file of the series; one a log or an output. 32 at once.
        """
        now = self._clock()
        self._paces = {item: self._paces.get(item) or _Pace(now, now) for item in items}
        due = [item for item in items if self._paces[item].due <= now]
        errors: list[NotataError] = []
        before = self._answered
        found = {**self._poll_rows(due, errors), **self._poll_texts(due, errors)}
        for item in due:
            position = found.get(item)
            with self._lock:
                is_new = position is not None and self._positions.get(item) != position
                if position is not None and item.series is not None:
                    self._positions[item] = position
            self._paces[item].next(self._clock(), self._limits(item), is_new=is_new)
        outage = next((error for error in errors if _is_outage(error)), None)
        events = [] if outage is None else self._outages.begin("rows", outage)
        if outage is None and self._answered > before:
            events = self._outages.end("rows", "answers")
        return found, events + self._outages.end("slow")

    def note_slow(self) -> list[Event]:
        """Note that a poll takes long; return the events that tell all pages."""
        return self._outages.begin("slow", DeadlineError("the storage does not answer"))

    def wait(self, items: Collection[Item]) -> float:
        """Return the seconds until the next poll of one of these items; infinite if there is none."""
        now = self._clock()
        waits = (max(0.0, self._paces[item].due - now) if item in self._paces else 0.0 for item in items)
        return min(waits, default=EVER)

    def _poll_rows(self, due: Iterable[Item], errors: list[NotataError]) -> dict[Item, object]:
        found: dict[Item, object] = {}
        by_series: dict[str, list[tuple[Item, list[RowFile]]]] = {}
        for item in due:
            if item.series is not None:
                by_series.setdefault(item.series, []).append((item, self._files(item)))
        for items in by_series.values():
            growing = [file for _, files in items for file in files if not self._rows.is_whole(file)]
            for _ in self._rows.read(growing, errors.append, polls=True):
                self._answered += 1
            found |= {item: self._position(item, files) for item, files in items}
        return {item: position for item, position in found.items() if position is not None}

    def _poll_texts(self, due: Iterable[Item], errors: list[NotataError]) -> dict[Item, object]:
        found: dict[Item, object] = {}
        for item in due:
            if item.series is not None:
                continue
            try:
                found[item] = self._catalog.find(item.run_id).store.stat(TEXTS[item.text]).size
                self._answered += 1
            except MissingError:
                continue
            except NotataError as error:
                errors.append(error)
        return found

    def _files(self, item: Item) -> list[RowFile]:
        """Return the files of a watched series; none if the page names a run or series that does not exist."""
        try:
            return files_of(self._catalog.find(item.run_id), item.series or "")
        except (MissingError, KeyNameError):
            return []

    def _position(self, item: Item, files: Iterable[RowFile]) -> object:
        """Return up to where the files of a watched series were read; None if none was."""
        ends = {file.key: end for file in files if (end := self._rows.end(file)) is not None}
        return tuple(ends.items()) or None

    def _limits(self, item: Item) -> tuple[float, float]:
        shortest, longest = _ROWS[self._is_near_run(item)]
        return (shortest, longest) if self._interval is None else (self._interval, self._interval * 10)

    def _is_near_run(self, item: Item) -> bool:
        try:
            return self._catalog.find(item.run_id).store.is_local
        except MissingError:
            return False

    # -- runs ----------------------------------------------------------------------------------------------

    @property
    def listing_wait(self) -> float:
        """The seconds until `list_again` should be called."""
        due = min(self._listing.due, self._glance if self._catalog.may_change else EVER)
        return max(0.0, due - self._clock())

    def list_again(self) -> list[Event]:
        """List the places, and return events about runs that changed, and about outages.

        Until it is time for a listing, only the state of running runs is read.
        """
        began = self._clock()
        before = self._catalog.snapshot
        is_listing = self._listing.due <= began
        snapshot = self._catalog.refresh() if is_listing else self._catalog.glance()
        now = self._clock()
        least = (now - began) * (1 / _LISTING_SHARE - 1) if snapshot.outage is None else 0.0
        events = _run_events(before, snapshot)
        outage = snapshot.outage
        limits = _LISTINGS[self._is_near]
        if is_listing:
            self._listing.next(now, limits, is_new=bool(events) or outage is not None, least=least)
        self._glance = now + (limits[0] if is_listing else max(limits[0], least))
        return events + (
            self._outages.end("places", "answers") if outage is None else self._outages.begin("places", outage)
        )

    def note_opened(self, snapshot: Snapshot) -> None:
        """Note that the storage failed when the page was opened, or that there was no run."""
        if snapshot.outage is not None:
            self._outages.begin("places", snapshot.outage)
        elif not (snapshot.is_stale or snapshot.runs.total):
            with self._lock:  # also around the message: it is printed when the page gets its answer
                if not self._has_warned:
                    self._has_warned = True
                    why = "; ".join(snapshot.problems[:3]) or "there is no run"
                    self._tell(f"Warning: {why}. The page will show runs as soon as there are any")

    def note_failed(self, error: NotataError) -> list[Event]:
        """Note that an answer to a page failed; return the events that tell all pages of an outage, if it is one."""
        if not isinstance(error, UnreachableError | DeadlineError):
            return []
        self._listing.due = self._glance = self._clock()
        return self._outages.begin("answers", error)

    @property
    def outage(self) -> list[Event]:
        """The events that tell a new page of an outage."""
        return self._outages.now


def _is_outage(error: NotataError) -> bool:
    """Check whether an error concerns the storage, and not one file."""
    return isinstance(error, UnreachableError | DeadlineError | AccessError) or type(error) is StorageError


def _run_events(before: Snapshot, now: Snapshot) -> list[Event]:
    if now.changed or (before.is_stale and not now.is_stale) or before.problems != now.problems:
        return [Event("runs", now.changed)]
    return []
