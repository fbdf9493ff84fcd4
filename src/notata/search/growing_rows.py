"""Rows of a growing file of a series: read once, and then only what was added."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Final

from notata.search.places import File
from notata.series.reading import PIECE, SeriesData, joined, read_series
from notata.store import Blob

__all__ = ["GrowingRows"]

_NEW: Final = 256 * 2**10  # bytes requested in a poll; more are read at once if there are more
_MARK: Final = 64  # known bytes compared at each poll to detect a replaced file: the time of a row is among them
_TEXT: Final = 80  # bytes of a Python object in a column of texts


@dataclass(slots=True)
class GrowingRows:
    """The rows of one file that were read so far, those of earlier attempts included.

    Attributes:
        file: The file, as listed.
        series: The name of the series.
        rank: The rank of the worker that writes it; empty for the owner of the run.
        data: The rows; None before the first read.
        mark: The last known bytes; empty if they are unknown.
    """

    file: File
    series: str
    rank: str = ""
    data: SeriesData | None = None
    mark: bytes = b""

    @property
    def end(self) -> int:
        """The size of the part of the file that was read, in bytes."""
        return 0 if self.data is None else self.data.end

    @property
    def size(self) -> int:
        """The memory that the rows take, in bytes; texts are estimated."""
        if self.data is None:
            return 0
        columns = [self.data.step, self.data.time, self.data.attempt, *self.data.values()]
        return sum(one.nbytes + (_TEXT * len(one) if one.dtype.kind == "O" else 0) for one in columns)

    @property
    def range(self) -> tuple[File, int, int]:
        """The file, first byte and end of the next read: the last known bytes, and those that may have been added."""
        start = self.end - len(self.mark)
        room = max(_NEW, self.file.entry.size - self.end)
        return self.file, start, min(start + PIECE, self.end + room)

    def take(
        self,
        blob: Blob,
        *,
        columns: Collection[str] | None = None,
        replaced: Callable[[str], object] = bool,
    ) -> bool:
        """Add the rows of the bytes at `range`, and read more if there are more; return whether there were any.

        Cost: none for the bytes at `range`; for more, one request for each 8 MiB, and a small one.

        Args:
            blob: The bytes.
            columns: Keep only columns that match one of these patterns.
            replaced: Called with a message if another file has replaced this one, which is then read from its start.

        Raises:
            StorageError: The file cannot be read.
            TooLargeError: It has too many values.
        """
        first: Blob | None = blob
        if blob.size < self.end or not blob.data.startswith(self.mark):
            replaced(f"{self.file.name} was replaced by another file, which begins here")
            self.data, self.mark, first = None, b"", None
        elif self.mark:
            first = replace(blob, data=blob.data[len(self.mark) :])
        start = self.end
        new = read_series(
            self.file.store,
            self.file.entry.key,
            self.series,
            start=start,
            repeated=True,
            columns=columns,
            first=first,
        )
        if new.end > start:
            is_known = first is not None and new.end - start <= len(first.data)
            self.mark = (
                (self.mark + first.data[: new.end - start])[-_MARK:] if first and is_known else self._last(new.end)
            )
        return self._add(new)

    def _last(self, end: int) -> bytes:
        """Return the last bytes of a part that was read without keeping its bytes."""
        return self.file.store.fetch(self.file.entry.key, max(0, end - _MARK), end).data

    def _add(self, new: SeriesData) -> bool:
        if self.data is None or not self.data.rows:
            self.data = new
        elif new.rows:
            self.data = joined([self.data, new])
        self.data.end = new.end
        return new.rows > 0
