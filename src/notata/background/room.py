"""Bound the bytes of a queue; callers wait for space in the order in which they came."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

__all__ = ["Admission", "Entry", "Room"]


class Admission(Enum):
    """The state of a caller that wants to add a write."""

    WAITING = "waiting"
    ADDED = "added"
    REFUSED = "refused"  # the queue accepts no more writes: the caller writes directly


@dataclass(eq=False, slots=True)
class Entry:
    """A write that a caller wants to add.

    Attributes:
        cost: Its bytes.
        add: Adds the write.
        freed: Returns the bytes of an older write that this one replaces.
        state: Whether it was added.
    """

    cost: int
    add: Callable[[], None]
    freed: Callable[[], int]
    state: Admission = Admission.WAITING


class Room:
    """The bytes that a queue may hold. The caller holds the lock of the queue, except for reads.

    Args:
        most: The maximum number of bytes.

    Attributes:
        used: The bytes of all writes in the queue.
        is_closed: Whether the queue accepts no more writes.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.used = 0
        self.is_closed = False
        self._waiting: deque[Entry] = deque()

    @property
    def waiting(self) -> int:
        """The number of callers that wait."""
        return len(self._waiting)

    def enter(self, entry: Entry) -> None:
        """Add a write, or have its caller wait behind the others."""
        self._waiting.append(entry)
        self.admit()

    def leave(self, entry: Entry) -> None:
        """Remove a caller that waits no longer."""
        if entry in self._waiting:
            self._waiting.remove(entry)
        self.admit()

    def admit(self) -> None:
        """Add the writes of waiting callers while there is space."""
        while self._waiting and (self.is_closed or self._has_space(self._waiting[0])):
            entry = self._waiting.popleft()
            if not self.is_closed:
                entry.add()
            entry.state = Admission.REFUSED if self.is_closed else Admission.ADDED

    def _has_space(self, entry: Entry) -> bool:
        return self.used - entry.freed() + entry.cost <= self.most
