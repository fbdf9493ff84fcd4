"""The options and limits of a copy, which everything that one sync or one mirror copies has in common."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from notata._base.threads import Condition, Event, Pool
from notata.store.in_flight import AT_ONCE, BYTES_AT_ONCE, Tally

__all__ = ["CopyOptions", "Room"]

_FREE: Final = 64  # smaller parts of a room than one of so many need no place in it
_STREAMS: Final = 2  # large files at once, each with about 80 MiB: parts in flight, and copies in the network library


class Room:
    """Memory for the content of files, which several threads share.

    Small files need no place in it, as the number of threads limits them.

    Args:
        size: Bytes of larger files that are in memory together.

    >>> room = Room(2**20)
    >>> with room.taken(100_000):
    ...     room.free
    948576
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.free = size
        self._changed = Condition()

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Wait for this number of bytes and keep them during the block; a larger file than the room is alone in it."""
        size = min(size, self.size)
        if size <= self.size // _FREE:
            yield
            return
        with self._changed:
            while self.free < size:
                self._changed.wait()
            self.free -= size
        try:
            yield
        finally:
            with self._changed:
                self.free += size
                self._changed.notify_all()


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """The permissions and limits of a copy.

    Attributes:
        delete: Delete files that the source does not have.
        replace: Remove another run with the same id at the target; otherwise that is an error. It is also an error if
            the other run came later, and replaced this one.
        dry_run: Write nothing, and return what would be done.
        at_once: Maximum number of small files of one run in flight.
        room: Limits the bytes of small files in flight.
        pool: The threads that copy files; None if each batch of files starts its own.
        streams: Limits large files in flight.
        stop: Set it to stop soon, without incomplete files.
        tally: Counts the bytes of files that are copied, or found to be equal.
    """

    delete: bool = False
    replace: bool = False
    dry_run: bool = False
    at_once: int = AT_ONCE
    room: Room = field(default_factory=lambda: Room(BYTES_AT_ONCE))
    pool: Pool | None = None
    streams: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_STREAMS))
    stop: Event = field(default_factory=Event)
    tally: Tally = field(default_factory=lambda: Tally(None, 0))

    def check(self) -> None:
        """Raise an error if the copy was stopped.

        Raises:
            InterruptedError: `stop` is set.
        """
        if self.stop.is_set():
            raise InterruptedError("the copy was stopped")
