"""Bounds of the connections of the server: how many there are, and how long each may take to send a request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

__all__ = ["bounded"]

_PATIENCE: Final = 10  # seconds in which the head of a request must arrive
_MOST: Final = 512  # connections; a page has up to six


def bounded(protocol: Callable[..., Any]) -> Callable[..., asyncio.Protocol]:
    """Return a protocol of uvicorn that also ends slow connections, and those that are too many.

    Args:
        protocol: The protocol of HTTP.
    """

    def made(*, _loop: asyncio.AbstractEventLoop | None = None, **options: Any) -> asyncio.Protocol:
        loop = _loop or asyncio.get_running_loop()
        return _Bounded(protocol(_loop=loop, **options), loop)

    return made


class _Bounded(asyncio.Protocol):
    """One connection."""

    def __init__(self, inner: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._inner = inner
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._inner.connection_made(transport)
        if len(self._inner.connections) > _MOST:
            transport.abort()
        else:
            self._wait()

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        self._inner.connection_lost(exc)

    def eof_received(self) -> None:
        self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def _wait(self) -> None:
        """Begin to wait for the head of a request, unless one has come; more bytes of it do not give more time."""
        cycle = self._inner.cycle
        if cycle is not None and not cycle.response_complete:
            self._stop()
        elif self._timer is None:
            self._timer = self._loop.call_later(_PATIENCE, self._give_up)

    def _give_up(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
