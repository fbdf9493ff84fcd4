"""A file that grows by appends: what is known of its end, and the one writer who holds that end.

It knows sizes and versions of one key, never what the bytes mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from notata.errors import ConflictError, MissingError

if TYPE_CHECKING:
    from notata.store.base import Store

__all__ = ["NOTHING", "Appender", "Tail"]


@dataclass(frozen=True, slots=True)
class Tail:
    """What an appender knows of the file.

    Attributes:
        size: In bytes.
        version: What is stored now, so that an append need not look; empty where nothing is, None if not known.
        content: The whole file, where that saves reading it before the next append.
        again: How many bytes the next append sends besides its own: all of a small file, where it is replaced whole.
    """

    size: int
    version: str | None = None
    content: bytes | None = None
    again: int = 0


NOTHING: Final = Tail(0, "", b"")
"""No file is there."""


class Appender:
    """The one writer of a file that grows: it remembers what makes an append one request, and known to be done or not.

    Not safe to use from two threads at once.

    Attributes:
        key: The file.
    """

    def __init__(self, store: Store, key: str, tail: Tail) -> None:
        self._store = store
        self._tail = tail
        self._in_doubt = False
        self.key = key

    @property
    def size(self) -> int:
        """Of the file in bytes, as far as this writer knows."""
        return self._tail.size

    @property
    def last(self) -> bytes:
        """The last byte, if it is known: of a file up to 8 MiB that was there already."""
        return (self._tail.content or b"")[-1:]

    @property
    def again(self) -> int:
        """How many bytes the next append sends besides its own: all of a small file, as a bucket replaces it whole."""
        return self._tail.again

    def append(self, data: bytes) -> None:
        """Add to the end. Calling again with the same bytes after an error does not write them twice.

        On a local disk and in memory at the end of the moment, as O_APPEND does, whoever else appends. In a bucket one
        request while the file is small (below 5 MiB on S3, up to 1 MiB on GCS), 4 and 3 beyond.

        Raises:
            ConflictError: Somebody else changed the file. Nothing was added; the next call adds to its present end.
        """
        repeated, self._in_doubt = self._in_doubt, True  # who is interrupted here may have written
        try:
            self._tail = self._store._append_once(self.key, data, self._tail)
        except ConflictError:
            looked = repeated or not self._store.near  # nearby no reply is lost: equal bytes there are another's
            if not (looked and self._found(data)):
                if not self._store.near:
                    self._in_doubt = False
                    raise
                self._tail = Tail(self._store.append(self.key, data))
        self._in_doubt = False

    def _found(self, data: bytes) -> bool:
        """Move to the present end; whether `data` lies where it was to go, by an earlier try whose reply was lost."""
        meant = self._tail
        try:
            there = self._store.fetch(self.key, meant.size, meant.size + len(data))
        except MissingError:
            self._tail = NOTHING
            return False
        self._tail = Tail(there.size)
        done = there.data == data
        if done and there.size == meant.size + len(data):
            content = None if meant.content is None else meant.content + data
            self._tail = Tail(there.size, there.version, content, len(content or b""))
        return done
