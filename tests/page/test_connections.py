"""Connections to the live page that send no request, or are too many, are ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from notata.page.connections import bounded

uvicorn = pytest.importorskip("uvicorn")


class Timer:
    """A timer that a test lets run out."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.call = call
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Loop:
    """A loop that only keeps timers and tasks."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []

    def call_later(self, _: float, call: Callable[[], object]) -> Timer:
        self.timers.append(Timer(call))
        return self.timers[-1]

    def create_task(self, task: Any) -> Any:
        return asyncio.get_running_loop().create_task(task)

    def run_out(self) -> None:
        for timer in self.timers:
            if not timer.is_cancelled:
                timer.call()


class Transport(asyncio.Transport):
    is_ended = False

    def abort(self) -> None:
        self.is_ended = True

    def close(self) -> None:
        self.is_ended = True

    def write(self, data: Any) -> None:
        pass


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Begin an answer, which never ends."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while (await receive())["type"] != "http.disconnect":
        pass


def connections(count: int) -> tuple[Loop, list[Transport], list[asyncio.Protocol]]:
    from uvicorn.protocols.http.h11_impl import H11Protocol
    from uvicorn.server import ServerState

    loop, state = Loop(), ServerState()
    config = uvicorn.Config(app, ws="none", log_config=None, lifespan="off")
    made = [bounded(H11Protocol)(config=config, server_state=state, app_state={}, _loop=loop) for _ in range(count)]
    transports = [Transport() for _ in made]
    for one, transport in zip(made, transports, strict=True):
        one.connection_made(transport)
    return loop, transports, made


def test_a_request_that_does_not_arrive_in_time_is_ended() -> None:
    async def visit() -> None:
        loop, transports, (silent, slow, whole, gone) = connections(4)
        for byte in b"GET / HTTP/1.1\r\nhost: x":
            slow.data_received(bytes([byte]))
        whole.data_received(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        gone.connection_lost(ConnectionResetError())
        assert len(loop.timers) == 4
        loop.run_out()
        assert [one.is_ended for one in transports] == [True, True, False, False]
        for one in (silent, slow, whole):
            one.connection_lost(None)
        await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})

    asyncio.run(visit())


def test_too_many_connections_are_ended() -> None:
    async def visit() -> None:
        _, transports, _ = connections(514)
        assert [place for place, one in enumerate(transports) if one.is_ended] == [512, 513]

    asyncio.run(visit())
