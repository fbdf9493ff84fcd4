"""Prefetching of ranges of files: many reads in flight, results in order, and bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import TypeVar

from notata.store.entries import Blob
from notata.store.files import PART
from notata.store.in_flight import AT_ONCE, BYTES_AT_ONCE

__all__ = ["in_order"]

T = TypeVar("T")


def in_order(
    wanted: Iterable[tuple[T, int, Callable[[], Future[Blob]]]],
) -> Generator[tuple[T, Future[Blob] | None], None, None]:
    """Start many reads, and yield them in order. At most 32 reads and 32 MiB are held at a time.

    Args:
        wanted: For each read a label, the number of bytes, and the function that starts it.

    Yields:
        The label and the future of the bytes. The future is None for more than 8 MiB, which the caller reads itself,
        while nothing else is in flight. Closing the generator cancels the reads in flight.
    """
    held: deque[tuple[T, int, Future[Blob] | None]] = deque()
    count = 0
    try:
        for what, length, start in wanted:
            is_small = length <= PART
            size = length if is_small else BYTES_AT_ONCE
            while held and (len(held) >= AT_ONCE or count + size > BYTES_AT_ONCE):
                yield held[0][0], held[0][2]
                count -= held.popleft()[1]
            held.append((what, size, start() if is_small else None))
            count += size
        while held:
            yield held[0][0], held[0][2]
            held.popleft()
    finally:
        for future in [future for _, _, future in held if future is not None and not future.cancel()]:
            with suppress(Exception, CancelledError):
                future.result()
