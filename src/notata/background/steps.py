"""Keep the pending steps of streams: those of one stream follow each other, those of several streams run at once."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import Final

from notata.background.writes import Step, Stream

__all__ = ["StreamSteps"]

_AT_ONCE: Final = 3  # steps of different streams


class StreamSteps:
    """The streams that have steps, pending or in progress.

    The caller holds the lock of the queue, except for reads.
    """

    def __init__(self) -> None:
        self._busy: set[Stream] = set()
        self._stepping: set[Stream] = set()  # with a step in progress
        self._ready: deque[Stream] = deque()  # whose next step can start

    def __contains__(self, stream: Stream) -> bool:
        return stream in self._busy

    def __len__(self) -> int:
        return len(self._busy)

    @property
    def in_progress(self) -> int:
        """The number of steps in progress."""
        return len(self._stepping)

    def over(self) -> list[Stream]:
        """Return the streams that have steps, although their writer has ended them or they failed."""
        return [stream for stream in self._busy.copy() if stream.is_over or stream.error is not None]

    def add(self, stream: Stream, step: Step) -> None:
        """Add a step behind the others of its stream."""
        self._busy.add(stream)
        stream.steps.append(step)
        if stream.step is None and len(stream.steps) == 1:
            self._ready.append(stream)

    def can_start(self) -> bool:
        """Check whether a step may be ready to start."""
        return bool(self._ready) and len(self._stepping) < _AT_ONCE

    def start(self) -> Stream | None:
        """Put the next step of a stream in progress, and return the stream; None if none can start."""
        while self.can_start():
            stream = self._ready.popleft()
            if stream.steps:
                stream.step = stream.steps.popleft()
                self._stepping.add(stream)
                return stream
        return None

    def finish(self, stream: Stream) -> int:
        """End the step in progress; the next one of the stream can start. Return its bytes."""
        step, stream.step = stream.step, None
        self._stepping.discard(stream)
        if stream.steps:
            self._ready.append(stream)
        else:
            self._busy.discard(stream)
        return 0 if step is None else step.cost

    def discard(self, stream: Stream) -> int:
        """Discard the pending steps of a stream. Return their bytes."""
        freed = sum(step.cost for step in stream.steps)
        stream.steps.clear()
        with suppress(ValueError):
            self._ready.remove(stream)
        if stream.step is None:
            self._busy.discard(stream)
        return freed

    def mend(self) -> int:
        """Count again after an interrupt. Return the bytes of all steps."""
        self._busy = {stream for stream in self._busy if stream.steps or stream.step is not None}
        self._ready = deque(stream for stream in self._busy if stream.step is None)
        pending = sum(step.cost for stream in self._busy for step in stream.steps)
        return pending + sum(stream.step.cost for stream in self._busy if stream.step is not None)
