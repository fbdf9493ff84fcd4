"""Bounded repetition with growing random pauses; it knows nothing of what is repeated."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Final

__all__ = ["attempts", "pauses"]

_FIRST: Final = 0.02  # seconds
_LONGEST: Final = 1.0


def pauses(first: float = _FIRST, longest: float = _LONGEST) -> Iterator[float]:
    """Yield pauses in seconds: each is random, between a half and all of a bound that doubles up to `longest`.

    Callers that failed at the same moment do not meet again at the same moment.

    >>> [0.5 <= pause / bound <= 1 for pause, bound in zip(pauses(1, 5), (1, 2, 4, 5, 5))]
    [True, True, True, True, True]
    """
    bound = min(first, longest)
    while True:
        yield bound * random.uniform(0.5, 1)
        bound = min(2 * bound, longest)


def attempts(
    count: int,
    *,
    first: float = _FIRST,
    longest: float = _LONGEST,
    sleep: Callable[[float], object] = time.sleep,
) -> Iterator[bool]:
    """Yield `count` times, and pause before each repetition: for a loop that ends by itself when it succeeds.

    Args:
        count: How often.
        first: The longest that the first pause may be, in seconds; later ones double.
        longest: The longest that any pause may be.
        sleep: Waits for this many seconds.

    Yields:
        Whether this attempt is the last one.

    >>> list(attempts(3, sleep=lambda seconds: None))
    [False, False, True]
    """
    between = pauses(first, longest)
    for left in range(count - 1, -1, -1):
        yield left == 0
        if left:
            sleep(next(between))
