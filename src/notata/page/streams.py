"""Event streams of open pages, and the threads that read for them without blocking the event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar

from notata._base.threads import Outcome, Pool, make_call
from notata.page.live import EVER, Event, Item, Live

__all__ = ["BusyError", "Readers", "Stream", "Streams"]

T = TypeVar("T")

_QUIET: Final = 15.0  # seconds after which a comment keeps an idle stream open, and shows whether the page is there
_SLOW: Final = 10.0  # seconds after which a poll without an answer is reported
_RETRY: Final = 2000  # milliseconds after which a browser connects again
_STREAMS: Final = 32
_THREADS: Final = 8
_WAITING: Final = 64


class BusyError(Exception):
    """There are too many requests or open pages at once."""


class Readers:
    """Threads that make blocking calls. They do not keep the process alive, so that a slow storage delays no end.

    Args:
        threads: The maximum number of threads.
        waiting: The maximum number of calls that are made or wait for a thread.
    """

    def __init__(self, threads: int = _THREADS, waiting: int = _WAITING) -> None:
        self._pool = Pool(threads, "notata-view")
        self._room = waiting

    async def run(self, call: Callable[[], T]) -> T:
        """Make a call in a thread, and return its result.

        Raises:
            BusyError: Too many calls wait already.
        """
        if not self._room:
            raise BusyError("the server is busy; try again in a moment")
        loop, outcome = asyncio.get_running_loop(), Outcome[T]()
        done = loop.create_future()

        def finish() -> None:
            self._room += 1
            if not done.done():
                done.set_result(None)

        def tell(_: object) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(finish)

        self._room -= 1
        outcome.add_done_callback(tell)
        self._pool.submit(lambda: make_call(call, outcome))
        await done
        return outcome.result()


class Stream:
    """The events for one page that have not been sent yet. Those of one kind are joined, so that they stay few.

    Args:
        items: What the page watches.
        known: Up to where the page has read each item.
    """

    def __init__(self, items: frozenset[Item], known: Mapping[Item, object]) -> None:
        self.items = items
        self._known = dict(known)
        self._pending: dict[str, Event] = {}
        self._ready = asyncio.Event()
        self._is_closed = False

    def put(self, event: Event) -> None:
        """Add an event."""
        before = self._pending.pop(event.kind, None)
        if event.kind in ("problem", "recovered"):  # only the last one counts
            self._pending = {kind: one for kind, one in self._pending.items() if kind not in ("problem", "recovered")}
        elif before is not None:
            ids = dict.fromkeys([*before.ids, *event.ids]) if before.ids and event.ids else ()
            event = Event(event.kind, tuple(ids))
        self._pending[event.kind] = event
        self._ready.set()

    def compare(self, positions: Mapping[Item, object]) -> None:
        """Add events about items that have grown, or were replaced, since the last event about them."""
        grown: dict[str, list[str]] = {}
        for item, position in positions.items():
            if item in self.items:
                if item in self._known and self._known[item] != position:
                    grown.setdefault(item.kind, []).append(item.run_id)
                self._known[item] = position
        for kind, ids in grown.items():
            self.put(Event(kind, tuple(dict.fromkeys(ids))))

    def close(self) -> None:
        """End the stream."""
        self._is_closed = True
        self._ready.set()

    async def texts(self) -> AsyncIterator[str]:
        """Yield the events as server-sent events, and comments while there are none."""
        yield f"retry: {_RETRY}\n\n"
        while not self._is_closed:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ready.wait(), _QUIET)
            self._ready.clear()
            events, self._pending = [*self._pending.values()], {}
            for event in events:
                yield f"data: {json.dumps(event.record())}\n\n"
            if not events and not self._is_closed:
                yield ": quiet\n\n"


class Streams:
    """All open pages. While there is one, two tasks poll what the pages show, and list the places.

    Args:
        live: Looks for changes.
        most: The maximum number of open pages.
        failed: Called with an error that is a bug of notata.
    """

    def __init__(self, live: Live, most: int = _STREAMS, failed: Callable[[Exception], object] = bool) -> None:
        self._live = live
        self._most = most
        self._failed = failed
        self._streams: set[Stream] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        self._polling = Readers(2)

    def __len__(self) -> int:
        return len(self._streams)

    def open(self, items: frozenset[Item]) -> Stream:
        """Return a new stream, and begin to poll.

        Raises:
            BusyError: There are too many.
        """
        if len(self._streams) >= self._most:
            raise BusyError(f"{self._most} pages are open already; close one")
        stream = Stream(items, self._live.known(items))
        for event in self._live.outage:
            stream.put(event)
        self._streams.add(stream)
        self._changed.set()
        if not self._tasks:
            self._tasks = [asyncio.create_task(work()) for work in (self._poll, self._list)]
        return stream

    def close(self, stream: Stream) -> None:
        """End a stream; polling ends with the last one."""
        stream.close()
        self._streams.discard(stream)
        if not self._streams:
            for task in self._tasks:
                task.cancel()
            self._tasks = []

    def close_all(self) -> None:
        """End all streams, and tell their pages that the server ends."""
        self.put(Event("ended"))
        for stream in [*self._streams]:
            self.close(stream)

    def put(self, event: Event) -> None:
        """Send an event to all pages."""
        for stream in self._streams:
            stream.put(event)

    async def _poll(self) -> None:
        while True:
            items = frozenset[Item]().union(*(stream.items for stream in self._streams))
            wait = self._live.wait(items)
            if wait > 0:
                self._changed.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), None if wait == EVER else wait)
                continue
            polled = asyncio.ensure_future(self._safe(partial(self._live.poll, items)))
            if not (await asyncio.wait({polled}, timeout=_SLOW))[0]:
                for event in self._live.note_slow():
                    self.put(event)
            positions, events = await polled or ({}, [])
            for stream in self._streams:
                stream.compare(positions)
            for event in events:
                self.put(event)

    async def _list(self) -> None:
        while True:
            await asyncio.sleep(self._live.listing_wait)
            for event in await self._safe(self._live.list_again) or []:
                self.put(event)

    async def _safe(self, call: Callable[[], T]) -> T | None:
        """Make a call that must not end the polling."""
        try:
            return await self._polling.run(call)
        except Exception as error:
            self._failed(error)
            await asyncio.sleep(1)
            return None
