"""Prefetching of files of runs: many reads in flight, results in order, and bounded memory."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from concurrent.futures import Future
from functools import partial
from typing import IO, TypeVar

from notata._base.threads import Outcome
from notata.errors import KeyNameError, StorageError
from notata.search.places import File
from notata.store import Blob
from notata.store.prefetching import in_order

__all__ = ["open_listed", "prefetched"]

T = TypeVar("T")


def prefetched(wanted: Iterable[tuple[T, File, int, int]]) -> Generator[tuple[T, Future[Blob] | None], None, None]:
    """Prefetch ranges of many files, and yield them in order. At most 32 ranges and 32 MiB are held at a time.

    Args:
        wanted: For each range a label, the file, and the first byte and the end of the range ``[start, end)``.

    Yields:
        The label and the future of the range. The future is None for a range of more than 8 MiB, which the caller reads
        itself, while nothing else is in flight. Closing the generator cancels the reads in flight.
    """
    return in_order((what, end - start, partial(_start_read, file, start, end)) for what, file, start, end in wanted)


def _start_read(file: File, start: int, end: int) -> Future[Blob]:
    """Start a read; an empty range costs no request."""
    known: Future[Blob] = Outcome()
    if start >= end:
        known.set_result(Blob(b"", file.entry.size, file.entry.version))
        return known
    try:
        return file.store.start_fetch(file.entry.key, start, end)
    except KeyNameError as error:
        known.set_exception(_unreadable(file, error))
        return known


def open_listed(file: File) -> IO[bytes]:
    """Open a listed file for reading in pieces.

    Raises:
        StorageError: The file cannot be read.
    """
    try:
        return file.store.open(file.entry.key, "rb")
    except KeyNameError as error:
        raise _unreadable(file, error) from error


def _unreadable(file: File, error: KeyNameError) -> StorageError:
    """Return the error for a listed file whose name cannot be a key: the user did not pass this name."""
    return StorageError(f"cannot read {file.name}: {error}", url=file.store.url, key=file.entry.key)
