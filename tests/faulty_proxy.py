"""A network that fails on demand: a proxy in front of one HTTP server, with a planned fault for each request.

The proxy reads a whole request, calls `FaultyProxy.plan` for the fault, and applies it. Apart from the ends of requests
and replies it knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

__all__ = ["DONE", "FAULTS", "LIE", "SILENT", "SLOW", "UNDONE", "FaultyProxy", "Plan", "faulty"]

UNDONE: Final = {
    "refused": "the connection is reset when the request begins",
    "closed": "the connection is closed when the request has come",
    "reset": "the same, by a reset",
    "cut": "half of the request reaches the server",
    "deaf": "the body of the request is not read, and nothing is said",
    "silent": "the request is read, and nothing is said",
    "500": "the proxy says that the server failed",
    "503": "the proxy says that there are too many requests",
}
"""Faults after which the server has not executed the request."""

DONE: Final = {
    "lost": "the server has done it, and the connection is reset",
    "lost-closed": "the server has done it, and the connection is closed",
    "lost-silent": "the server has done it, and nothing is said",
    "lost-500": "the server has done it, and the proxy says that it failed",
    "half": "the server has done it, and after half of its reply the connection is closed",
    "half-reset": "the same, by a reset",
    "half-silent": "the same, and then nothing is said",
}
"""Faults after which the server has executed the request, or may have, if half of it was enough."""

LIE: Final = "200"
"""Not a network fault: the proxy confirms a request that was not executed. A check that misses this is useless."""

FAULTS: Final = {**UNDONE, **DONE}
SILENT: Final = {"deaf", "silent", "lost-silent", "half-silent"}
"""Faults that only a time limit ends."""

Plan: TypeAlias = Callable[[str], str]
"""Return one of `FAULTS` for the first line of a request; empty for none. Called in the proxy's thread."""

SLOW: Final = "slow"
"""Not a fault either: the reply comes in pieces, with a pause before each; see `FaultyProxy.pause`."""

_PIECES: Final = 20

_ANSWERS: Final = {
    LIE: (b'200 OK\r\nETag: "0"', b""),
    "400": (b"400 Bad Request", b"<Error><Code>InvalidRequest</Code></Error>"),
    "403": (b"403 Forbidden", b"<Error><Code>AccessDenied</Code></Error>"),
    "429": (b"429 Too Many Requests", b"<Error><Code>TooManyRequests</Code></Error>"),
    "500": (b"500 Internal Server Error", b"<Error><Code>InternalError</Code></Error>"),
    "503": (b"503 Service Unavailable", b"<Error><Code>SlowDown</Code></Error>"),
}
_END: Final = b"\r\n\r\n"


class FaultyProxy:
    """A running proxy.

    Attributes:
        port: The port on which it listens.
        plan: Returns the fault of a request; may be changed at any time.
        met: How often each fault occurred, with ``""`` for requests that passed unchanged.
        pause: Seconds before each piece of a slow reply.
        done: The first lines of the requests that the server has answered, for tests that wait for one.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._gone, self._never = asyncio.Event(), asyncio.Event()
        self.port = 0
        self.plan: Plan = lambda request: ""
        self.met: Counter[str] = Counter()
        self.pause = 0.0
        self.done: queue.SimpleQueue[str] = queue.SimpleQueue()

    async def run(self, ready: Callable[[asyncio.AbstractEventLoop], None]) -> None:
        """Serve until `stop`."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**20)
        self.port = server.sockets[0].getsockname()[1]
        ready(asyncio.get_running_loop())
        await self._gone.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await asyncio.sleep(0)  # connections are closed in the next turn of the loop

    def stop(self) -> None:
        self._gone.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            server = await asyncio.open_connection("127.0.0.1", self._target, limit=2**20)
            try:
                while await self._hand_on(reader, writer, *server):
                    pass
            finally:
                server[1].close()
        writer.close()

    async def _hand_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
    ) -> bool:
        """Handle one request; return True if the connection stays open."""
        head = await reader.readuntil(_END)
        first = head.partition(b"\r\n")[0].decode()
        fault = self.plan(first)
        self.met[fault] += 1
        if fault == "refused":
            _reset(writer)
            return False
        if fault == "deaf":
            await self._never.wait()  # until the proxy stops
        body = await _body(reader, head)
        if fault in UNDONE or fault in _ANSWERS:
            if fault == "cut":
                server_writer.write((head + body)[: (len(head) + len(body)) // 2])
                await server_writer.drain()
            return await self._fail(fault, first, reader, writer)
        server_writer.write(head + body)
        await server_writer.drain()
        answer_head, answer = await _answer(server_reader, method=first.partition(" ")[0])
        self.done.put(first)
        answer_head = answer_head.replace(b":%d/" % self._target, b":%d/" % self.port)  # where an upload continues
        whole = answer_head + answer
        if fault.startswith("half"):
            writer.write(whole[: len(answer_head) + len(answer) // 2] if answer else whole[: len(whole) // 2])
            await writer.drain()
        if fault == SLOW:
            await self._drip(writer, whole)
        elif fault:
            return await self._fail(fault.removeprefix("lost-").removeprefix("half-"), first, reader, writer)
        else:
            writer.write(whole)
            await writer.drain()
        return b"connection: close" not in answer_head.lower()

    async def _drip(self, writer: asyncio.StreamWriter, whole: bytes) -> None:
        size = -(-len(whole) // _PIECES)
        for start in range(0, len(whole), size):
            await asyncio.sleep(self.pause)
            writer.write(whole[start : start + size])
            await writer.drain()

    async def _fail(self, fault: str, first: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if fault in _ANSWERS:
            status, text = _ANSWERS[fault]
            body = b"" if first.startswith("HEAD ") else text
            writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d%s%s" % (status, len(text), _END, body))
            await writer.drain()
            return True
        if fault == "silent":
            await reader.read()  # until the client gives up
        elif fault in ("reset", "lost"):
            _reset(writer)
        return False


def _reset(writer: asyncio.StreamWriter) -> None:
    """Reset a connection, as a machine does that does not know it."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _header(head: bytes, name: bytes) -> bytes:
    for line in head.split(b"\r\n")[1:]:
        found, _, value = line.partition(b":")
        if found.strip().lower() == name:
            return value.strip()
    return b""


async def _body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    if _header(head, b"transfer-encoding") == b"chunked":
        parts = []
        while True:
            line = await reader.readuntil(b"\r\n")
            parts += [line, await reader.readexactly(int(line.partition(b";")[0], 16) + 2)]
            if int(line.partition(b";")[0], 16) == 0:
                return b"".join(parts)
    return await reader.readexactly(int(_header(head, b"content-length") or 0))


async def _answer(reader: asyncio.StreamReader, method: str) -> tuple[bytes, bytes]:
    head = await reader.readuntil(_END)
    status = int(head.split(b" ", 2)[1])
    if status == 100:
        return await _answer(reader, method)
    if method == "HEAD" or status in (204, 304):
        return head, b""
    if not _header(head, b"content-length") and not _header(head, b"transfer-encoding"):
        return head, await reader.read()
    return head, await _body(reader, head)


@contextlib.contextmanager
def faulty(target: int) -> Iterator[FaultyProxy]:
    """Run a proxy in front of a local port, in a separate thread."""
    proxy, ready = FaultyProxy(target), threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    def begun(loop: asyncio.AbstractEventLoop) -> None:
        loops.append(loop)
        ready.set()

    thread = threading.Thread(target=lambda: asyncio.run(proxy.run(begun)), name="faulty-proxy", daemon=True)
    thread.start()
    ready.wait()
    try:
        yield proxy
    finally:
        loops[0].call_soon_threadsafe(proxy.stop)
        thread.join()
