"""Append to a file: the known state of its end, and an `Appender` for its single writer.

This module handles sizes and versions of one key, never the meaning of the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Protocol

from notata._base.processes import ForkCheck
from notata.errors import ConflictError, MissingError

if TYPE_CHECKING:
    from notata.store.store import Store

_COMPARED: Final = 32 * 2**20  # bytes that are compared at once
_TRIES: Final = 1000  # attempts to append to a local file that others append to as well

__all__ = ["NOTHING", "Appender", "Closing", "Held", "Tail"]


class Closing(Protocol):
    """An object with `close`: an open file."""

    def close(self) -> None: ...


class Held:
    """Holds an open file of a backend between two appends, if that saves work; only the backend uses it."""

    __slots__ = ("file",)

    def __init__(self) -> None:
        self.file: Closing | None = None

    def hold(self, file: Closing | None) -> None:
        """Hold `file` instead of the previous object, which is closed."""
        before, self.file = self.file, file
        if before is not None and before is not file:
            before.close()


@dataclass(frozen=True, slots=True)
class Tail:
    """An appender's knowledge of its file.

    Attributes:
        size: In bytes.
        version: The stored version, so that an append needs no lookup; empty if there is no file, None if unknown.
        content: The whole file, if that saves reading it before the next append.
        again: Number of bytes that the next append sends besides its own: all of a small file that is replaced whole.
        held: Where a backend may keep an open file until the next append; None if no further append will come.
    """

    size: int
    version: str | None = None
    content: bytes | None = None
    again: int = 0
    held: Held | None = field(default=None, compare=False, repr=False)


NOTHING: Final = Tail(0, "", b"")
"""The tail of a missing file."""


class Appender:
    """The single writer of a growing file. It remembers its end, so that an append is one request with a known result.

    Not thread-safe. In a forked child it acts as a separate writer.

    Attributes:
        key: The file.
    """

    def __init__(self, store: Store, key: str, tail: Tail, end: bytes = b"") -> None:
        self._store = store
        self._tail = replace(tail, held=Held())
        self._end = end
        self._open = _cut(tail.content or b"", end)
        self._in_doubt = False
        self._fork = ForkCheck()
        self.key = key

    @property
    def size(self) -> int:
        """Size of the file in bytes, as far as this writer knows."""
        return self._tail.size

    @property
    def again(self) -> int:
        """Bytes that the next append sends besides its own: all of a small file, which a bucket replaces whole."""
        return self._tail.again

    def append(self, data: bytes) -> None:
        """Append `data`. A repeated call with the same bytes after an error does not write them twice.

        On a local disk and in memory, it appends at the current end, as O_APPEND does, even if others append too. In a
        bucket it takes one request while the file is small (below 5 MiB on S3, up to 1 MiB on GCS), then 4 and 3.

        Raises:
            ConflictError: Another writer changed the file. Nothing was added; the next call appends at the current end.
        """
        if self._fork.is_forked():
            self._in_doubt = False
            self._fork.adopt()
        repeated, self._in_doubt = self._in_doubt, True  # an interrupted call may have written
        for last in range(_TRIES, 0, -1):
            whole = self._end + data if self._open else data
            try:
                self._tail = self._store.append_once(self.key, whole, self._tail)
            except ConflictError:
                if repeated and self._found(whole):
                    break
                repeated = False
                self._go_to_end()
                if not self._store.is_local or last == 1:
                    self._in_doubt = False
                    raise
            else:
                break
        self._open = self._in_doubt = False

    def close(self) -> None:
        """Release what is held between appends. Later appends still work, but hold nothing."""
        held = self._tail.held
        if held is not None:
            self._tail = replace(self._tail, held=None)
            held.hold(None)

    def _found(self, data: bytes) -> bool:
        """Check whether an earlier attempt wrote `data`, although its reply was lost; if so, move behind it."""
        meant = self._tail
        for start in range(0, max(1, len(data)), _COMPARED):
            piece = data[start : start + _COMPARED]
            try:
                there = self._store.fetch(self.key, meant.size + start, meant.size + start + len(piece))
            except MissingError:
                return False
            if there.data != piece:
                return False
        if there.size > meant.size + len(data):  # another writer has appended since
            self._go_to_end()
        else:
            content = None if meant.content is None else meant.content + data
            self._tail = Tail(there.size, there.version, content, len(content or b""), meant.held)
        return True

    def _go_to_end(self) -> None:
        """Move to the current end of the file."""
        try:
            size = self._store.fetch(self.key, self._tail.size, self._tail.size).size
            last = self._store.fetch(self.key, max(0, size - len(self._end)), size).data if self._end else b""
        except MissingError:
            self._tail, self._open = replace(NOTHING, held=self._tail.held), False
            return
        self._tail, self._open = Tail(size, held=self._tail.held), _cut(last, self._end)


def _cut(content: bytes, end: bytes) -> bool:
    """Check whether the content does not end with `end`: its writer died, or wrote it otherwise."""
    return bool(content) and not content.endswith(end)
