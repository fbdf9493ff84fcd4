"""Retry with a maximum number of attempts and growing random pauses."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Final

__all__ = ["attempts", "pauses"]

_FIRST: Final = 0.02  # seconds
_LONGEST: Final = 1.0


def pauses(first: float = _FIRST, longest: float = _LONGEST) -> Iterator[float]:
    """Yield random pauses in seconds, between half and all of a bound that doubles up to `longest`.

    The random part separates callers that failed at the same time.

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
    """Yield `count` times, with a pause before each retry. The loop should break when it succeeds.

    Args:
        count: The number of attempts.
        first: Maximum of the first pause in seconds; it doubles for each further pause.
        longest: Maximum of all pauses in seconds.
        sleep: A function that waits for a number of seconds.

    Yields:
        True for the last attempt, else False.

    >>> list(attempts(3, sleep=lambda seconds: None))
    [False, False, True]
    """
    between = pauses(first, longest)
    for left in range(count - 1, -1, -1):
        yield left == 0
        if left:
            sleep(next(between))
