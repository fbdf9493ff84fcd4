"""The options and limits of a copy, which everything that one sync or one mirror copies has in common."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import Final

from notata._base.threads import Event
from notata.store.in_flight import AT_ONCE, BYTES_AT_ONCE, Tally

__all__ = ["CopyOptions"]

_STREAMS: Final = 2  # large files at once, each with about 80 MiB: parts in flight, and copies in the network library


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """The permissions and limits of a copy.

    Attributes:
        delete: Delete files that the source does not have.
        replace: Remove another run with the same id at the target; otherwise that is an error. It is also an error if
            the other run came later, and replaced this one.
        dry_run: Write nothing, and return what would be done.
        at_once: Maximum number of small files in flight.
        bytes_at_once: Maximum bytes of small files in flight.
        streams: Limits large files in flight.
        stop: Set it to stop soon, without incomplete files.
        tally: Counts the bytes of files that are copied, or found to be equal.
    """

    delete: bool = False
    replace: bool = False
    dry_run: bool = False
    at_once: int = AT_ONCE
    bytes_at_once: int = BYTES_AT_ONCE
    streams: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_STREAMS))
    stop: Event = field(default_factory=Event)
    tally: Tally = field(default_factory=lambda: Tally(None, 0))

    def shared_by(self, count: int) -> CopyOptions:
        """Return the options of each of several copies at once, which share the limits."""
        return replace(self, at_once=self.at_once // count, bytes_at_once=self.bytes_at_once // count)

    def check(self) -> None:
        """Raise an error if the copy was stopped.

        Raises:
            InterruptedError: `stop` is set.
        """
        if self.stop.is_set():
            raise InterruptedError("the copy was stopped")
