"""The writes of a queue: one that is a single request, and one in parts; they know one key and its store.

A write of up to 8 MiB is one item of the queue; a larger one is a stream, whose parts are items, and whose end is one.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import deque
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from notata.errors import NotataError, StorageError
from notata.store import Store

if TYPE_CHECKING:
    from notata.store.files import Upload

__all__ = ["ABORT", "COMMIT", "OVERHEAD", "PART", "Item", "Stream", "Value"]

OVERHEAD: Final = 1024
"""Bytes that an item costs besides its data."""


class Line(Protocol):
    """What a write asks of the queue that it is in: `notata.background.queue.Queue`."""

    def check(self) -> None: ...
    def give(self, stream: Stream, part: bytes) -> None: ...
    def step(self, stream: Stream, kind: str) -> None: ...
    def commit(self, stream: Stream) -> None: ...
    def abort(self, stream: Stream) -> None: ...
    def lose(self, item: Item, error: NotataError) -> None: ...
    def finished(self, item: Item, error: BaseException | None) -> None: ...


class Item(ABC):
    """A write to one key.

    Attributes:
        store: The store behind, and `name` what it calls the key.
        key: Relative to the store that the queue belongs to.
        cost: Bytes that it takes of the queue.
        since: The number of the oldest write that it stands for, itself or one that it took the place of.
        by: The thread that is about to begin it.
    """

    cost = OVERHEAD

    def __init__(self, store: Store, name: str, key: str) -> None:
        self.store, self.name, self.key = store, name, key
        self.since = self.by = 0

    @abstractmethod
    def begin(self, queue: Line) -> None:
        """Have it go to the storage, and tell the queue when it is `finished`."""

    def resumed(self, queue: Line) -> bool:
        """Whether it went to the storage already, before an interrupt came; then it is not sent again."""
        return False

    def failed(self, error: BaseException) -> NotataError:
        """An error of ours that says why it was not stored."""
        if isinstance(error, Exception):
            ours = self.store._translated(error, "write", self.name)
            if ours.key == self.name:
                return ours
        shown = self.store._shown(self.name)
        ours = StorageError(f"cannot write {shown}: {str(error) or repr(error)}", url=self.store.url, key=self.name)
        ours.__cause__ = error
        return ours


class Value(Item):
    """A write that is one request."""

    def __init__(self, store: Store, name: str, key: str, data: bytes) -> None:
        super().__init__(store, name, key)
        self.data = data
        self.cost = len(data) + OVERHEAD
        self._sent: Future[str] | None = None

    def begin(self, queue: Line) -> None:
        queue.check()
        self._sent = self.store.start_write(self.name, self.data)
        self._sent.add_done_callback(partial(self._done, queue))

    def resumed(self, queue: Line) -> bool:
        if self._sent is None:
            return False
        self.by = 0
        self._sent.add_done_callback(partial(self._done, queue))  # once more, as it may not have come to that
        return True

    def _done(self, queue: Line, future: Future[str]) -> None:
        try:
            error = future.exception()
        except CancelledError as cancelled:
            error = cancelled
        queue.finished(self, error)


PART, COMMIT, ABORT = "part", "commit", "abort"


class Stream(Item):
    """An upload in parts, which the queue's threads take to the storage one after the other.

    Attributes:
        steps: What they are to do: a kind, a part, what it costs.
        at_work: What the step that one of them is doing costs; None while none is.
        over: Whether its writer is through with it.
        error: Why it failed.
    """

    def __init__(self, queue: Line, store: Store, name: str, key: str) -> None:
        super().__init__(store, name, key)
        self._queue = queue
        self._pid = os.getpid()
        self.upload: Upload | None = None
        self.steps: deque[tuple[str, bytes, int]] = deque()
        self.at_work: int | None = None
        self.over = False
        self.error: NotataError | None = None

    def write(self, part: bytes) -> None:
        self._check()
        self._queue.give(self, part)

    def commit(self) -> str:
        self._check()
        self._queue.commit(self)
        return ""

    def abort(self) -> None:
        if os.getpid() == self._pid:
            self._queue.abort(self)

    def _check(self) -> None:
        """Tell the writer of a failure."""
        if os.getpid() != self._pid:
            raise StorageError(f"{self.store._shown(self.name)} was begun by the parent process", key=self.name)
        if self.error is not None:
            self._queue.lose(self, self.error)
            raise self.error

    def begin(self, queue: Line) -> None:
        """Its turn has come: its last step may be done."""
        if self.error is not None:
            queue.finished(self, self.error)
        else:
            queue.step(self, COMMIT)

    def take(self, kind: str, part: bytes) -> None:
        """Do a step."""
        if kind == ABORT:
            upload, self.upload = self.upload, None
            if upload is not None:
                upload.abort()
            return
        if self.upload is None:
            self._queue.check()
            self.upload = self.store._begin(self.name, None)
        if kind == PART:
            self.upload.write(part)
        else:
            self.upload.commit()
