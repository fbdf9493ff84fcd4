"""Copy the files of runs into a crate, and hash them on the way.

A file that is in the manifest of its run must have the recorded size and SHA-256; of a log or series, the recorded
beginning. Small files are prefetched, large ones are read in pieces, so memory is bounded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from notata._base import keys
from notata._base.display import listed
from notata.errors import StorageError
from notata.manifest.document import Receipt
from notata.publish.chosen import ChosenRun
from notata.search.places import File
from notata.search.prefetch import open_listed, prefetched
from notata.store import Blob, Entry
from notata.store.files import PART

__all__ = ["Packed", "Sink", "pack", "packed"]

_PIECE: Final = 2**20
_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class Packed:
    """A file in a crate.

    Attributes:
        size: Its size in bytes.
        sha256: Its digest, hexadecimal.
    """

    size: int
    sha256: str


class Sink(Protocol):
    """The files of a crate that is being written."""

    def add(self, name: str, size: int, pieces: Iterator[bytes]) -> None:
        """Write one file; an error of `pieces` gives up the whole crate.

        Args:
            name: The path in the crate.
            size: Its size as listed; negative if unknown.
            pieces: Its content.
        """
        ...


def packed(sink: Sink, name: str, data: bytes) -> Packed:
    """Write a small file; return its size and digest."""
    sink.add(name, len(data), iter([data]))
    return Packed(len(data), hashlib.sha256(data).hexdigest())


def pack(
    sink: Sink,
    runs: Sequence[ChosenRun],
    changed: Callable[[StorageError], object],
    count: Callable[[int], object] = bool,
) -> dict[str, Packed]:
    """Write the files of runs to a crate; return them by their path in the crate.

    Args:
        sink: The crate.
        runs: The runs.
        changed: Called with an error for each file that differs from the manifest of its run, or is missing. It may
            raise it.
        count: Called with each number of bytes that was copied.

    Raises:
        StorageError: A file cannot be read, or changed while it was read.
    """
    done: dict[str, Packed] = {}
    for one in runs:
        if one.missing:
            changed(_missing(one))
    labels = ((one, one.origin.file(key)) for one in runs for key in one.entries if _is_copied(one, key))
    wanted = (((one, file), file, 0, _end(file.entry)) for one, file in labels)
    found = prefetched(wanted)
    try:
        for (one, file), reading in found:
            name = f"{one.folder}/{file.key}"
            check = _Check(one, file, changed, count)
            pieces = _pieces(file) if reading is None else _small(file, reading.result())
            sink.add(name, file.entry.size, check.passing(pieces))
            done[name] = Packed(check.size, check.hexdigest())
    finally:
        found.close()
    for one in runs:
        if one.metadata is not None:
            name = f"{one.folder}/{keys.METADATA}"
            done[name] = packed(sink, name, one.metadata)
    return done


def _is_copied(one: ChosenRun, key: str) -> bool:
    return one.metadata is None or key != keys.METADATA


def _end(entry: Entry) -> int:
    """Return the end of the range to prefetch; a file of unknown size is read in pieces."""
    return entry.size if entry.size >= 0 else PART + 1


def _small(file: File, blob: Blob) -> Iterator[bytes]:
    """Yield the content of a small file."""
    if blob.size != file.entry.size and not keys.is_growing(file.key):
        raise _moving(file, blob.size)
    yield blob.data


def _pieces(file: File) -> Iterator[bytes]:
    """Yield a large file in pieces; of a log or series that has grown since, its size as listed."""
    left = file.entry.size if file.entry.size >= 0 else None
    with open_listed(file) as stream:
        while piece := stream.read(_PIECE if left is None else min(_PIECE, left)):
            left = None if left is None else left - len(piece)
            yield piece


class _Check:
    """Hashes a file while it passes, and compares it with its receipt at the end.

    Attributes:
        size: The number of bytes that have passed.
    """

    def __init__(
        self,
        one: ChosenRun,
        file: File,
        changed: Callable[[StorageError], object],
        count: Callable[[int], object],
    ) -> None:
        self._one = one
        self._file = file
        self._changed = changed
        self._count = count
        self._receipt: Receipt | None = one.receipts.get(file.key)
        self._hash = hashlib.sha256()
        self._recorded: Any = None  # the hash of the beginning that the receipt is about
        self.size = 0

    def passing(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the pieces."""
        for piece in pieces:
            self._add(piece)
            yield piece
            self._count(len(piece))
        expected = self._file.entry.size
        if 0 <= expected != self.size:
            raise _moving(self._file, self.size)
        self._compare()

    def _add(self, piece: bytes) -> None:
        at = -1 if self._receipt is None else self._receipt.size - self.size
        if 0 <= at <= len(piece):
            self._hash.update(piece[:at])
            self._recorded = self._hash.copy()
            piece, self.size = piece[at:], self.size + at
        self._hash.update(piece)
        self.size += len(piece)

    def _compare(self) -> None:
        receipt = self._receipt
        if receipt is None:
            return
        recorded = self._recorded or self._hash  # an empty file has no piece
        is_longer = self.size > receipt.size and not keys.is_growing(self._file.key)
        if self.size < receipt.size or is_longer:
            self._changed(_changed(self._one, self._file, f"its size is {self.size} bytes instead of {receipt.size}"))
        elif receipt.sha256 and recorded.digest() != receipt.sha256:
            was = f"its SHA-256 is {recorded.hexdigest()} instead of {receipt.sha256.hex()}"
            self._changed(_changed(self._one, self._file, was))

    def hexdigest(self) -> str:
        """Return the digest of all bytes that have passed."""
        return self._hash.hexdigest()


def _moving(file: File, size: int) -> StorageError:
    return StorageError(
        f"cannot publish {file.name}: it changed from {file.entry.size} to {size} bytes while it was being read. "
        "Publish the run when nothing is writing to it",
        url=file.store.url,
        key=file.entry.key,
    )


def _changed(one: ChosenRun, file: File, why: str) -> StorageError:
    return StorageError(f"{file.name} has changed since the end of the run: {why}", url=one.origin.url, key=file.key)


def _missing(one: ChosenRun) -> StorageError:
    names = listed(one.missing, _NAMED)
    return StorageError(f"{one.origin.name} lacks files that its manifest lists: {names}", url=one.origin.url)
