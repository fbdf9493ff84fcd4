"""The schedule of a mirror: which files of a folder are due to be copied, by their changes and times."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from notata.store import Entry

__all__ = ["QUIET", "RATE", "REST", "Schedule"]

QUIET: Final = 2.0
"""Seconds that a file must stay unchanged before it is copied, so that half-written files are skipped."""

REST: Final = 9.0
"""Pause before a changed file is sent again, as a multiple of the time it took: sending takes at most a tenth."""

RATE: Final = 100e3
"""Bytes a second that may be sent again for an append to a storage that rewrites the file."""

_OVERHEAD: Final = 2**16  # bytes added to the size of each file to share out the time of a batch


class Schedule:
    """The copied versions of a folder's files, and the files due now. Times are seconds of any one clock.

    Not safe to use from two threads at once.

    Attributes:
        known: The copied version of each file, by its key.

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
        """Return the files of a full listing whose current version is not copied. Forget deleted files."""
        listed = {entry.key: entry for entry in entries}
        for key in self.known.keys() - listed.keys():
            del self.known[key]
        return {key: entry for key, entry in listed.items() if self.known.get(key) != entry.version}

    def due(self, changed: Mapping[str, Entry], now: float) -> dict[str, Entry]:
        """Return the changed files that have been quiet long enough, and whose pause after sending is over."""
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
        """Check whether a file may be sent again."""
        return self._rests.get(key, now) <= now

    def sent(self, entries: Iterable[Entry], began: float, now: float) -> None:
        """Record that these files were sent together, so that each pauses in proportion to the time it took."""
        sizes = {entry.key: entry.size + _OVERHEAD for entry in entries}
        share = REST * (now - began) / (sum(sizes.values()) or 1)
        self._rests |= {key: now + share * size for key, size in sizes.items()}

    def sends_again(self, key: str, size: int, now: float) -> None:
        """Record that the next append to a file sends this many bytes again."""
        self._rests[key] = max(self._rests.get(key, now), now + size / RATE)
