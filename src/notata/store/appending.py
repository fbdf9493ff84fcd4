"""A file that grows by appends: what is known of its end, and the one writer who holds that end.

It knows sizes and versions of one key, never what the bytes mean.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from notata.errors import ConflictError, MissingError

_TRIES: Final = 1000  # at the end of a file nearby, to which others append as well

__all__ = ["NOTHING", "Appender", "Closing", "Held", "Tail"]


class Closing(Protocol):
    """What is to be closed: an open file."""

    def close(self) -> None: ...


class Held:
    """What a backend leaves with an appender for its next append, if that saves it work; nobody else looks into it."""

    __slots__ = ("what",)

    def __init__(self) -> None:
        self.what: Closing | None = None

    def hold(self, what: Closing | None) -> None:
        """Have this in place of what was held, which is closed."""
        before, self.what = self.what, what
        if before is not None and before is not what:
            before.close()


@dataclass(frozen=True, slots=True)
class Tail:
    """What an appender knows of the file.

    Attributes:
        size: In bytes.
        version: What is stored now, so that an append need not look; empty where nothing is, None if not known.
        content: The whole file, where that saves reading it before the next append.
        again: How many bytes the next append sends besides its own: all of a small file, where it is replaced whole.
        held: Where a backend may leave an open file until the next append; None if no other append will come.
    """

    size: int
    version: str | None = None
    content: bytes | None = None
    again: int = 0
    held: Held | None = field(default=None, compare=False, repr=False)


NOTHING: Final = Tail(0, "", b"")
"""No file is there."""


class Read(Protocol):
    """What was read: `notata.store.Blob`."""

    @property
    def data(self) -> bytes: ...
    @property
    def size(self) -> int: ...
    @property
    def version(self) -> str: ...


class Appendable(Protocol):
    """Where the file lies: `notata.store.Store`."""

    @property
    def near(self) -> bool: ...
    def fetch(self, key: str, start: int = 0, end: int | None = None) -> Read: ...
    def _append_once(self, key: str, data: bytes, tail: Tail) -> Tail: ...


class Appender:
    """The one writer of a file that grows: it remembers what makes an append one request, and known to be done or not.

    Not safe to use from two threads at once. In a forked child it goes on as another writer.

    Attributes:
        key: The file.
    """

    def __init__(self, store: Appendable, key: str, tail: Tail, end: bytes = b"") -> None:
        self._store = store
        self._tail = replace(tail, held=Held())
        self._end = end
        self._open = _cut(tail.content or b"", end)
        self._in_doubt = False
        self._pid = os.getpid()
        self.key = key

    @property
    def size(self) -> int:
        """Of the file in bytes, as far as this writer knows."""
        return self._tail.size

    @property
    def again(self) -> int:
        """How many bytes the next append sends besides its own: all of a small file, as a bucket replaces it whole."""
        return self._tail.again

    def append(self, data: bytes) -> None:
        """Add to the end. Calling again with the same bytes after an error does not write them twice.

        On a local disk and in memory it adds at the end of the moment, as O_APPEND does, whoever else appends. In a
        bucket it takes one request while the file is small (below 5 MiB on S3, up to 1 MiB on GCS), 4 and 3 beyond.

        Raises:
            ConflictError: Somebody else changed the file. Nothing was added; the next call adds to its present end.
        """
        if os.getpid() != self._pid:
            self._pid, self._in_doubt = os.getpid(), False
        repeated, self._in_doubt = self._in_doubt, True  # who is interrupted here may have written
        for last in range(_TRIES, 0, -1):
            whole = self._end + data if self._open else data
            try:
                self._tail = self._store._append_once(self.key, whole, self._tail)
            except ConflictError:
                if repeated and self._found(whole):
                    break
                repeated = False
                self._go_to_end()
                if not self._store.near or last == 1:
                    self._in_doubt = False
                    raise
            else:
                break
        self._open = self._in_doubt = False

    def close(self) -> None:
        """Let go of what is held between appends. One that still comes is made all the same, and nothing held after."""
        held = self._tail.held
        if held is not None:
            self._tail = replace(self._tail, held=None)
            held.hold(None)

    def _found(self, data: bytes) -> bool:
        """Whether `data` lies where it was to go, by an earlier try whose reply was lost; then the end is behind it."""
        meant = self._tail
        try:
            there = self._store.fetch(self.key, meant.size, meant.size + len(data))
        except MissingError:
            return False
        if there.data != data:
            return False
        if there.size > meant.size + len(data):  # and somebody added to it since
            self._go_to_end()
        else:
            content = None if meant.content is None else meant.content + data
            self._tail = Tail(there.size, there.version, content, len(content or b""), meant.held)
        return True

    def _go_to_end(self) -> None:
        """Move to where the file ends now."""
        try:
            size = self._store.fetch(self.key, self._tail.size, self._tail.size).size
            last = self._store.fetch(self.key, max(0, size - len(self._end)), size).data if self._end else b""
        except MissingError:
            self._tail, self._open = replace(NOTHING, held=self._tail.held), False
            return
        self._tail, self._open = Tail(size, held=self._tail.held), _cut(last, self._end)


def _cut(content: bytes, end: bytes) -> bool:
    """Whether something is there that does not end as it should: its writer died, or did not care."""
    return bool(content) and not content.endswith(end)
