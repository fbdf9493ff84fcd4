"""How long one request may take, and how long it waits where the storage asks for fewer requests.

The time of a request begins anew with each piece of its answer: an answer that stops coming ends the request, a slow
one does not.

A refusal that says so (503 SlowDown, 429) comes before anything was done, so the request is repeated until its time
limit, with growing random pauses. Other failures are left to the retries of the client libraries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

from notata._base.retries import pauses

__all__ = ["Patience", "current", "note_progress"]

_FIRST: Final = 0.5  # seconds, of the first pause at most
_LONGEST: Final = 5.0

current: ContextVar[Patience | None] = ContextVar("notata-patience", default=None)
"""That of the request which this task makes, for handlers that the client library calls within it."""


class Patience:
    """The time of one request.

    Args:
        limit: Returns the seconds that the request may take, from its beginning or the last piece of its answer.
        clock: Returns the time in seconds.
        answered: Called when the storage refused, which is an answer too.
        bound: The time limit that holds; it is moved when the storage answers, as `limit` may allow more then.
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
        """Give the request its time anew: a piece of the answer has come."""
        self._answered()
        self._begun, self._paused = self._clock(), 0.0
        self._extend()

    def release(self) -> None:
        """Let go of the time limit, which holds the task: what aiohttp began within the request keeps this object."""
        self._bound = None

    def pause(self, wanted: float = 0.0) -> float | None:
        """Return the seconds to wait before the request is made again; None if the time limit does not allow it.

        Args:
            wanted: What the storage asked for (``Retry-After``).
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
    """Note that a piece of the answer to this task's request has come."""
    if (patience := current.get()) is not None:
        patience.renew()
