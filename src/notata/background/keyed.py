"""Keep the pending writes of a queue by key: for each key, one is in flight, and the newest one waits behind it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from notata.background.writes import Item, Value

__all__ = ["FolderCounts", "KeyedWrites"]


class _Slot:
    """The writes of one key: the one in flight, and the newest pending one."""

    __slots__ = ("in_flight", "pending")

    def __init__(self) -> None:
        self.in_flight: Item | None = None
        self.pending: Item | None = None

    @property
    def items(self) -> list[Item]:
        pending = self.pending  # first, as a write goes from here to there, and waiting callers hold no lock
        return [item for item in (self.in_flight, pending) if item is not None]


class FolderCounts:
    """Counts the keys at or below each folder."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def __contains__(self, folder: str) -> bool:
        return folder in self._counts

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, key: str) -> None:
        for name in _at_and_above(key):
            self._set(name, self._counts.get(name, 0) + 1)

    def remove(self, key: str) -> None:
        for name in _at_and_above(key):
            self._set(name, self._counts.get(name, 0) - 1)

    def rebuild(self, keys: Iterable[str]) -> None:
        """Count these keys only."""
        for name in list(self._counts):
            self._set(name, 0)
        for key in keys:
            self.add(key)

    def _set(self, name: str, count: int) -> None:
        if count:
            self._counts[name] = count
        else:
            self._counts.pop(name, None)


class KeyedWrites:
    """The writes that are pending or in flight, by key, the oldest key first.

    The caller holds the lock of the queue, except for reads.

    Args:
        folders: Counts the keys.

    Attributes:
        number: The number of writes that were added so far.
        values_in_flight: How many of the writes in flight are values.
    """

    def __init__(self, folders: FolderCounts) -> None:
        self._folders = folders
        self._slots: dict[str, _Slot] = {}
        self._ready: deque[str] = deque()  # keys whose pending write can start
        self.number = 0
        self.values_in_flight = 0

    def __contains__(self, key: str) -> bool:
        return key in self._slots

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._slots))

    def __len__(self) -> int:
        return len(self._slots)

    def add(self, item: Item) -> Item | None:
        """Make a write the pending one of its key. Return the one that it replaces."""
        self.number += 1
        slot = self._slots.get(item.key)
        if slot is None:
            slot = self._slots[item.key] = _Slot()
            self._folders.add(item.key)
        old = slot.pending
        item.since = self.number if old is None else old.since  # a caller that waits for the old one waits for this one
        slot.pending = item
        if slot.in_flight is None:
            self._ready.append(item.key)
        return old

    def pending_cost(self, key: str) -> int:
        """Return the bytes that a write to this key would free, as it replaces the pending one."""
        slot = self._slots.get(key)
        return 0 if slot is None or slot.pending is None else slot.pending.cost

    def can_start(self) -> bool:
        """Check whether a pending write may be ready to start."""
        return bool(self._ready)

    def start(self) -> Item | None:
        """Put the next pending write in flight, and return it; None if none is ready."""
        while self._ready:
            slot = self._slots.get(self._ready.popleft())
            if slot is not None and slot.in_flight is None and slot.pending is not None:
                item = slot.pending
                item.starter = threading.get_ident()
                slot.in_flight, slot.pending = item, None
                self.values_in_flight += isinstance(item, Value)
                return item
        return None

    def is_in_flight(self, item: Item) -> bool:
        """Check whether this write is the one in flight for its key."""
        slot = self._slots.get(item.key)
        return slot is not None and slot.in_flight is item

    def finish(self, item: Item) -> None:
        """Remove the write in flight; the pending one of its key can start."""
        slot = self._slots[item.key]
        slot.in_flight, item.starter = None, 0
        self.values_in_flight -= isinstance(item, Value)
        if slot.pending is None:
            self._remove(item.key)
        else:
            self._ready.append(item.key)

    def take_back(self, key: str) -> Item | None:
        """Remove and return the pending write of a key, if there is one."""
        slot = self._slots.get(key)
        if slot is None or slot.pending is None:
            return None
        item, slot.pending = slot.pending, None
        if slot.in_flight is None:
            self._remove(key)
        return item

    def _remove(self, key: str) -> None:
        del self._slots[key]
        self._folders.remove(key)

    def is_settled(self, key: str, number: int) -> bool:
        """Check whether the first `number` writes are over, as far as they are writes to this key."""
        slot = self._slots.get(key)
        return slot is None or not (items := slot.items) or items[0].since > number

    def mend(self, was_sent: Callable[[Item], bool]) -> int:
        """Count again after an interrupt of this thread. A write that it kept from starting is pending again.

        Args:
            was_sent: Returns whether a write was sent before the interrupt, so that it stays in flight.

        Returns:
            The bytes of all writes.
        """
        for slot in list(self._slots.values()):
            item = slot.in_flight
            if item is not None and item.starter == threading.get_ident() and not was_sent(item):
                slot.in_flight, item.starter = None, 0
                slot.pending = slot.pending or item
                slot.pending.since = item.since
        self._slots = {key: slot for key, slot in self._slots.items() if slot.items}
        self._ready = deque(key for key, slot in self._slots.items() if slot.in_flight is None)
        self.values_in_flight = sum(isinstance(slot.in_flight, Value) for slot in self._slots.values())
        self._folders.rebuild(self._slots)
        return sum(item.cost for slot in self._slots.values() for item in slot.items)


def _at_and_above(key: str) -> Iterator[str]:
    """Yield the root, a key, and all folders that contain it."""
    yield ""
    yield key
    at = key.rfind("/")
    while at > 0:
        yield key[:at]
        at = key.rfind("/", 0, at)
