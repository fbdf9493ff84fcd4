"""Files read ahead of who looks at them: many on their way at once, given in their order, bounded in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import IO, TypeVar

from notata._base.threads import Outcome
from notata.errors import KeyNameError, StorageError
from notata.search.finding import File
from notata.store import Blob
from notata.store.files import PART
from notata.store.in_flight import AT_ONCE, BYTES_AT_ONCE

__all__ = ["opened", "read_ahead"]

T = TypeVar("T")


def read_ahead(wanted: Iterable[tuple[T, File, int, int]]) -> Generator[tuple[T, Future[Blob] | None], None, None]:
    """Ranges of many files, in the order in which they are wanted. At most 32 and 32 MiB are held at a time.

    Args:
        wanted: What each is wanted for, its file, and the range ``[start, end)`` of it.

    Yields:
        What it is wanted for, and what comes of the range; None for one of more than 8 MiB, which is left to who wants
        it, while nothing else is on its way. Who closes this gives up what is.
    """
    held: deque[tuple[T, int, Future[Blob] | None]] = deque()
    count = 0
    try:
        for what, file, start, end in wanted:
            small = end - start <= PART
            size = end - start if small else BYTES_AT_ONCE
            while held and (len(held) >= AT_ONCE or count + size > BYTES_AT_ONCE):
                yield held[0][0], held[0][2]
                count -= held.popleft()[1]
            held.append((what, size, _begun(file, start, end) if small else None))
            count += size
        while held:
            yield held[0][0], held[0][2]
            held.popleft()
    finally:
        for future in [future for _, _, future in held if future is not None and not future.cancel()]:
            with suppress(Exception, CancelledError):
                future.result()


def _begun(file: File, start: int, end: int) -> Future[Blob]:
    """A read that has begun; an empty range costs no request."""
    known: Future[Blob] = Outcome()
    if start >= end:
        known.set_result(Blob(b"", file.entry.size, file.entry.version))
        return known
    try:
        return file.store.start_fetch(file.entry.key, start, end)
    except KeyNameError as error:
        known.set_exception(_unknown(file, error))
        return known


def opened(file: File) -> IO[bytes]:
    """A file that was listed, to be read piece by piece.

    Raises:
        StorageError: It cannot be read.
    """
    try:
        return file.store.open(file.entry.key, "rb")
    except KeyNameError as error:
        raise _unknown(file, error) from error


def _unknown(file: File, error: KeyNameError) -> StorageError:
    """Why a file is not read whose name no storage but its own takes: it was listed, so nobody gave a wrong one."""
    return StorageError(f"cannot read {file.name}: {error}", url=file.store.url, key=file.entry.key)
