"""Define the items of a queue: `Value`, a write in one request, and `Stream`, an upload in parts.

A write of up to 8 MiB is one item. A larger write is a stream; its parts and its end are separate items.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Final

from notata._base.processes import ForkCheck
from notata.errors import NotataError, StorageError
from notata.store import Store

if TYPE_CHECKING:
    from notata.background.queue import Queue
    from notata.store.files import Upload

__all__ = ["OVERHEAD", "Item", "Step", "StepKind", "Stream", "Value"]

OVERHEAD: Final = 1024
"""Bytes that an item counts in addition to its data."""


class Item(ABC):
    """A write to one key.

    Attributes:
        store: The wrapped store. `name` is the key relative to this store.
        key: The key relative to the store of the queue.
        cost: Bytes that the item counts in the queue.
        since: The number of the oldest write that this item stands for: its own, or that of a write it replaced.
        starter: The id of the thread that is starting it.
    """

    cost = OVERHEAD

    def __init__(self, store: Store, name: str, key: str) -> None:
        self.store, self.name, self.key = store, name, key
        self.since = self.starter = 0

    @abstractmethod
    def begin(self, queue: Queue) -> None:
        """Start the write, and call `finished` of the queue at its end."""

    def was_sent(self, queue: Queue) -> bool:
        """Check whether the write was sent before an interrupt came, so that it is not sent again."""
        return False

    def failed(self, error: BaseException) -> NotataError:
        """Return a notata error with the reason why the item was not stored."""
        if isinstance(error, Exception):
            ours = self.store._translated(error, "write", self.name)
            if ours.key == self.name:
                return ours
        shown = self.store._shown(self.name)
        ours = StorageError(f"cannot write {shown}: {str(error) or repr(error)}", url=self.store.url, key=self.name)
        ours.__cause__ = error
        return ours


class Value(Item):
    """A write in one request."""

    def __init__(self, store: Store, name: str, key: str, data: bytes) -> None:
        super().__init__(store, name, key)
        self.data = data
        self.cost = len(data) + OVERHEAD
        self._sent: Future[str] | None = None

    def begin(self, queue: Queue) -> None:
        queue.check()
        self._sent = self.store.start_write(self.name, self.data)
        self._sent.add_done_callback(partial(self._done, queue))

    def was_sent(self, queue: Queue) -> bool:
        if self._sent is None:
            return False
        self.starter = 0
        self._sent.add_done_callback(partial(self._done, queue))  # again, as the interrupt may have come before it
        return True

    def _done(self, queue: Queue, future: Future[str]) -> None:
        try:
            error = future.exception()
        except CancelledError as cancelled:
            error = cancelled
        queue.finished(self, error)


class StepKind(Enum):
    """A request of an upload."""

    PART = "part"
    COMMIT = "commit"
    ABORT = "abort"


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a stream: its kind, the part to send, and the bytes that it counts in the queue."""

    kind: StepKind
    part: bytes = b""
    cost: int = 0


class Stream(Item):
    """An upload in parts, which the threads of the queue send one after the other.

    Attributes:
        steps: The pending steps.
        step: The step in progress; None if there is none.
        is_over: Whether the writer has finished or aborted it.
        error: The error that made it fail.
    """

    def __init__(self, queue: Queue, store: Store, name: str, key: str) -> None:
        super().__init__(store, name, key)
        self._queue = queue
        self._fork = ForkCheck()
        self.upload: Upload | None = None
        self.steps: deque[Step] = deque()
        self.step: Step | None = None
        self.is_over = False
        self.error: NotataError | None = None

    def write(self, part: bytes) -> None:
        self._check()
        self._queue.give(self, part)

    def commit(self) -> str:
        self._check()
        self._queue.commit(self)
        return ""

    def abort(self) -> None:
        if not self._fork.is_forked():
            self._queue.abort(self)

    def _check(self) -> None:
        """Raise the error of a failed stream."""
        if self._fork.is_forked():
            raise StorageError(
                f"cannot write {self.store._shown(self.name)} in a forked child: the parent process opened it. Open it "
                "in the child",
                key=self.name,
            )
        if self.error is not None:
            self._queue.lose(self, self.error)
            raise self.error

    def begin(self, queue: Queue) -> None:
        """Queue the last step, as no other write to the key is in progress."""
        if self.error is not None:
            queue.finished(self, self.error)
        else:
            queue.finish_stream(self)

    def take(self, step: Step) -> None:
        """Do one step of the upload."""
        if step.kind is StepKind.ABORT:
            upload, self.upload = self.upload, None
            if upload is not None:
                upload.abort()
            return
        if self.upload is None:
            self._queue.check()
            self.upload = self.store._begin(self.name, None)
        if step.kind is StepKind.PART:
            self.upload.write(step.part)
        else:
            self.upload.commit()
