"""The file objects of a store: writers that publish a file completely or not at all, and a reader by ranges.

This module handles parts and ranges of a key's bytes, never where they are stored.
"""

from __future__ import annotations

import io
import operator
import sys
import warnings
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol

from notata._base.buffers import flat
from notata._base.processes import ForkCheck
from notata.errors import StorageError

if TYPE_CHECKING:
    from fsspec.callbacks import Callback
    from typing_extensions import Buffer

    from notata.store.entries import Blob

__all__ = ["PART", "AtomicWriter", "Body", "RangeReader", "TextWriter", "Upload", "part_size"]

PART: Final = 8 * 2**20
"""Bytes; values up to this size are one request, larger ones go in parts of about this size."""

_PREFETCHED: Final = 4  # parts that a reader prefetches: 32 MiB

_PARTS_A_STEP: Final = 1000  # S3 allows 10,000 parts; growing them every 1000 reaches 430 GiB at 80 MiB a part


def part_size(number: int) -> int:
    """Return the size in bytes of a part by its number, from 0; the last part may be shorter.

    >>> part_size(0), part_size(1000)
    (8388608, 16777216)
    """
    return PART * (1 + number // _PARTS_A_STEP)


class Upload(Protocol):
    """One streamed write of a backend: parts in order, then one commit or one abort."""

    def write(self, part: bytes) -> None: ...
    def commit(self) -> str: ...
    def abort(self) -> None: ...


class Body(Protocol):
    """The target of a writer's bytes: one `put` if they are few, else an upload."""

    def put(self, data: bytes) -> object: ...
    def begin(self) -> Upload: ...


class AtomicWriter(io.BufferedIOBase):
    """A binary file object whose content becomes visible only when it closes without an error.

    If its ``with`` block raises, a `write` fails, or it is never closed, the previous content is unchanged. It cannot
    seek. Memory: at most two parts, of 8 MiB (growing to 80 MiB beyond 8 GiB), and what the storage has in flight: up
    to four parts on S3, one on GCS, and as much in the network library.
    """

    def __init__(self, body: Body, name: str) -> None:
        self._body = body
        self.name = name
        self._buffer = bytearray()
        self._upload: Upload | None = None
        self._parts = 0
        self._written = 0
        self._broken: BaseException | None = None
        self.shows_start = False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        # It cannot seek, but TextIOWrapper writes a UTF-16 mark only if it can ask for the position.
        return self.shows_start

    def tell(self) -> int:
        self._check_open()
        return self._written

    def write(self, data: Buffer, /) -> int:
        self._check_open()
        try:
            view = flat(data)
            self._take(view)
        except BaseException as error:
            self.spoil(error)
            raise
        self._written += view.nbytes
        return view.nbytes

    def spoil(self, error: BaseException) -> None:
        """Record that a write failed: the content is incomplete and must not be published."""
        self._broken = error

    def _take(self, view: memoryview) -> None:
        while view.nbytes:
            size = part_size(self._parts)
            if len(self._buffer) == size:  # more follows, so this is not the last part
                self._send()
            if not self._buffer and self._upload is not None and view.nbytes > size:
                self._upload.write(bytes(view[:size]))
                self._parts += 1
                view = view[size:]
                continue
            room = size - len(self._buffer)
            self._buffer += view[:room]
            view = view[room:]

    def _send(self) -> None:
        if self._upload is None:
            self._upload = self._body.begin()
        self._upload.write(bytes(self._buffer))
        self._buffer.clear()
        self._parts += 1

    def close(self) -> None:
        if self.closed:
            return
        if self._broken is not None:
            broken = self._broken
            _give_up(self, broken)
            raise StorageError(
                f"{self.name}: nothing was stored because an earlier write failed; write the file again"
            ) from broken
        try:
            self._commit()
        except BaseException as error:
            _give_up(self, error)
            raise
        super().close()

    def _commit(self) -> None:
        if self._upload is None:
            self._body.put(bytes(self._buffer))
            return
        if self._buffer:
            self._send()
        self._upload.commit()
        self._upload = None

    def abort(self) -> None:
        """Discard the write; the previous content is unchanged."""
        if self.closed:
            return
        upload, self._upload = self._upload, None
        self._buffer, self._broken = bytearray(), None
        super().close()
        if upload is not None:
            upload.abort()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _leave(self, error)

    def __del__(self) -> None:
        _abort_unclosed(self)

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")


class TextWriter(io.TextIOWrapper):
    """Text over an `AtomicWriter`, with the same promise."""

    def __init__(
        self, body: AtomicWriter, *, encoding: str, errors: str | None, newline: str | None, from_start: bool
    ) -> None:
        self._body = body
        body.shows_start = from_start
        super().__init__(body, encoding=encoding, errors=errors, newline=newline)
        body.shows_start = False

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except BaseException as error:
            self._body.spoil(error)
            raise

    def close(self) -> None:
        if not self.closed:
            try:
                self.flush()
            except BaseException as error:  # else the body's own close would replace this error
                _give_up(self, error)
                raise
        super().close()

    def abort(self) -> None:
        """Discard the write; the previous content is unchanged."""
        self._body.abort()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _leave(self, error)

    def __del__(self) -> None:
        _abort_unclosed(self)


def _leave(writer: AtomicWriter | TextWriter, error: BaseException | None) -> None:
    """Close or abort a writer at the end of its ``with`` block."""
    if error is None:
        writer.close()
        return
    _give_up(writer, error)


def _give_up(writer: AtomicWriter | TextWriter, error: BaseException) -> None:
    """Abort. If that fails, add a note to the original error, never replace it."""
    try:
        writer.abort()
    except Exception as failure:
        error.add_note(f"notata: could not clean up after {writer.name}: {failure}")


def _abort_unclosed(writer: AtomicWriter | TextWriter) -> None:
    """Abort and warn when a writer is garbage-collected unclosed; `io` would close and so publish it."""
    try:
        unfinished = not writer.closed
    except (AttributeError, ValueError):  # its constructor failed, or its buffer is gone already
        return
    if unfinished and not sys.is_finalizing():  # at exit nothing replies any more, and abort would wait for ever
        with suppress(Exception):
            writer.abort()
        warnings.warn(
            f"{writer.name} was never closed, so nothing was stored; use a with block", ResourceWarning, stacklevel=3
        )


class RangeReader(io.RawIOBase):
    """A seekable binary file over ``begin(start, end)``; its first part came with the open.

    One request for a file of up to 8 MiB, then one for each part of up to 8 MiB. A large read requests up to four
    parts at a time. Sequential reads prefetch the next parts: one more with each read, up to four.
    """

    def __init__(
        self,
        first: bytes,
        size: int,
        begin: Callable[[int, int], Future[Blob]],
        name: str,
        callback: Callback | None = None,
    ) -> None:
        self._first = first
        self._callback = callback
        self._size = size
        self._begin = begin
        self._at = 0
        self._pending: deque[tuple[int, Future[Blob]]] = deque()  # parts that follow each other, by their starts
        self._requested = self._prefetch = 0
        self._held, self._held_at = b"", 0
        self._next_start = -1  # where the last part ended
        self._fork = ForkCheck()
        self.name = name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._check_open()
        bases = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}
        if whence not in bases:
            raise ValueError(f"whence must be 0, 1 or 2, not {whence!r}")
        goal = bases[whence] + operator.index(offset)
        if goal < 0:
            raise ValueError(f"negative seek position {goal}")
        self._at = goal
        return goal

    def tell(self) -> int:
        self._check_open()
        return self._at

    def close(self) -> None:
        self._forget()
        self._first = b""
        if self._callback is not None:
            self._callback.close()
        super().close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def readall(self) -> bytes:
        self._check_open()
        whole, begun = io.BytesIO(), self._at  # getvalue() makes no copy
        try:
            while part := self._next(self._size):
                whole.write(part)
                self._at += len(part)
        except BaseException:
            self._at = begun
            raise
        return whole.getvalue()

    def readinto(self, target: Buffer, /) -> int:
        self._check_open()
        view = flat(target)
        begun, end = self._at, min(self._at + view.nbytes, self._size)
        try:
            while self._at < end:
                part = self._next(end)
                view[self._at - begun : self._at - begun + len(part)] = part
                self._at += len(part)
        except BaseException:
            self._at = begun
            raise
        return max(0, self._at - begun)

    def _next(self, end: int) -> memoryview:
        """Return at least one byte from the current position, none beyond `end`, and prefetch what follows."""
        if self._at >= end:
            return memoryview(b"")
        for held, at in ((self._first, 0), (self._held, self._held_at)):
            if at <= self._at < at + len(held):
                return memoryview(held)[self._at - at : end - at]
        self._request(end)
        start, future = self._pending.popleft()
        try:
            self._held, self._held_at = future.result().data, start
        except BaseException:  # the next read starts again here
            self._forget()
            raise
        self._next_start = start + len(self._held)
        if self._callback is not None:
            self._callback.absolute_update(self._next_start)
        return memoryview(self._held)[: end - self._at]

    def _request(self, end: int) -> None:
        """Request the part that starts here, and prefetch the following ones as needed."""
        if self._at != self._next_start or self._fork.is_forked():  # not sequential, or forked
            self._forget()
            self._prefetch, self._requested = 0, self._at
        goal = min(self._size, max(end, self._at + self._prefetch * PART))
        self._prefetch = min(_PREFETCHED, self._prefetch + 1)
        while self._requested < goal and len(self._pending) < _PREFETCHED:
            start, self._requested = self._requested, min(self._requested + PART, goal)
            self._pending.append((start, self._begin(start, self._requested)))

    def _forget(self) -> None:
        """Drop the requested parts and the current one."""
        if self._fork.is_forked():  # the requested parts arrive in the parent process
            self._pending.clear()
            self._fork.adopt()
        while self._pending:
            self._pending.popleft()[1].cancel()
        self._held, self._next_start = b"", -1
