"""Which files of a folder are due to be copied, by what was seen of them and when; it knows times, and no storage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from notata.store import Entry

__all__ = ["QUIET", "RATE", "REST", "Schedule"]

QUIET: Final = 2.0
"""Seconds that a file looks the same before it is copied: one that is being written is left alone."""

REST: Final = 9.0
"""Times as long as its sending took, before a file that changed is sent again: that takes a tenth of the time."""

RATE: Final = 100e3
"""Bytes a second that may be sent again where an append sends what is there already."""

_OVERHEAD: Final = 2**16  # bytes that a file counts besides its own, when the time of a batch is shared out


class Schedule:
    """What is copied of a folder, and what is to be copied now. Times are seconds of any one clock.

    Not safe to use from two threads at once.

    Attributes:
        known: The version that is copied of each file, by its key.

    >>> from datetime import UTC, datetime
    >>> old, new = (Entry("a", 1, datetime.now(UTC), version) for version in ("1", "2"))
    >>> schedule = Schedule()
    >>> [list(schedule.due({"a": entry}, now)) for entry, now in ((old, 0.0), (new, 2.0), (new, 4.0))]
    [[], [], ['a']]
    """

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self._seen: dict[str, tuple[str, float]] = {}
        self._rests: dict[str, float] = {}

    def changed(self, entries: Iterable[Entry]) -> dict[str, Entry]:
        """Those of a whole listing that are not copied as they are now. What is gone is forgotten."""
        listed = {entry.key: entry for entry in entries}
        for key in self.known.keys() - listed.keys():
            del self.known[key]
        return {key: entry for key, entry in listed.items() if self.known.get(key) != entry.version}

    def due(self, changed: Mapping[str, Entry], now: float) -> dict[str, Entry]:
        """Those of what changed that have been quiet, and are not at rest after they were sent."""
        seen, self._seen = self._seen, {}
        self._rests = {key: until for key, until in self._rests.items() if until > now}
        due = {}
        for key, entry in changed.items():
            version, since = seen.get(key, ("", now))
            self._seen[key] = (entry.version, since if version == entry.version else now)
            if now - self._seen[key][1] >= QUIET and self.is_rested(key, now):
                due[key] = entry
        return due

    def is_rested(self, key: str, now: float) -> bool:
        """Whether a file may be sent again."""
        return self._rests.get(key, now) <= now

    def sent(self, entries: Iterable[Entry], began: float, now: float) -> None:
        """Take note that these were sent together, so that each rests in proportion to the time that it took."""
        sizes = {entry.key: entry.size + _OVERHEAD for entry in entries}
        share = REST * (now - began) / (sum(sizes.values()) or 1)
        self._rests |= {key: now + share * size for key, size in sizes.items()}

    def sends_again(self, key: str, size: int, now: float) -> None:
        """Take note that the next append to a file sends so many bytes again."""
        self._rests[key] = max(self._rests.get(key, now), now + size / RATE)
