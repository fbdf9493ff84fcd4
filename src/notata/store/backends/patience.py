"""Time limits of requests, and their pauses when the storage asks for fewer requests.

Each piece of a response restarts the time limit of a request. So a response that stops coming ends the request, but a
slow one does not.

A throttling response (503 SlowDown, 429) comes before the storage has done anything. So the request is repeated until
its time limit, with growing random pauses. The client libraries retry after other failures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

from notata._base.retries import pauses

__all__ = ["Patience", "current", "note_progress", "note_start"]

_FIRST: Final = 0.5  # seconds, upper limit of the first pause
_LONGEST: Final = 5.0

current: ContextVar[Patience | None] = ContextVar("notata-patience", default=None)
"""The `Patience` of this task's request, for handlers that the client library calls during it."""


class Patience:
    """The time limit of one request.

    Args:
        limit: Returns the seconds that the request may take, from its start or the last piece of its response.
        clock: Returns the time in seconds.
        answered: Called when the storage refused, which is a response too.
        bound: The current timeout; it is moved when the storage responds, as `limit` may then allow more.
    """

    def __init__(
        self,
        limit: Callable[[], float],
        clock: Callable[[], float],
        answered: Callable[[], None] = lambda: None,
        bound: asyncio.Timeout | None = None,
    ) -> None:
        self._limit = limit
        self._clock = clock
        self._answered = answered
        self._bound = bound
        self._begun = clock()
        self._pauses = pauses(_FIRST, _LONGEST)
        self._paused = 0.0

    def renew(self) -> None:
        """Restart the time limit: a piece of the response has come."""
        self._answered()
        self.begin()

    def begin(self) -> None:
        """Start the time limit now: what came before was work of this process."""
        self._begun, self._paused = self._clock(), 0.0
        self._extend()

    def release(self) -> None:
        """Drop the timeout, which holds the task: objects that aiohttp made during the request keep this one."""
        self._bound = None

    def pause(self, wanted: float = 0.0) -> float | None:
        """Return the seconds to wait before the request is repeated, or None if the time limit does not allow it.

        Args:
            wanted: The wait that the storage asked for (``Retry-After``).
        """
        self._answered()
        limit, seconds = self._limit(), max(next(self._pauses), wanted)
        if max(self._paused, self._clock() - self._begun) + seconds >= limit:
            return None
        self._paused += seconds
        self._extend()
        return seconds

    def _extend(self) -> None:
        if self._bound is not None and not self._bound.expired():
            self._bound.reschedule(self._begun + self._limit())


def note_progress() -> None:
    """Note that a piece of the response to this task's request has come."""
    if (patience := current.get()) is not None:
        patience.renew()


def note_start() -> None:
    """Note that this task's request is sent now: its preparation does not count towards its time limit."""
    if (patience := current.get()) is not None:
        patience.begin()
