"""A slow network: all data arrives half a round trip later, unchanged.

``python -m tests.tools.benchmarks.proxy PORT MILLISECONDS`` listens on a port that the system assigns, prints it, and
ends when its standard input does. A new connection takes one round trip, like TCP's handshake.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections import deque
from collections.abc import Iterator

WINDOW = 16 * 2**20  # bytes in flight in one direction of a connection; with more, the sender has to wait


class End(asyncio.Protocol):
    """One end of a connection: it passes the received data to the other end after the delay."""

    def __init__(self, delay: float, opens: float = 0.0) -> None:
        self.delay, self.opens = delay, opens
        self.other: End | None = None
        self.ready = asyncio.Event()
        self._coming: deque[bytes] = deque()
        self._size = 0
        self.full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        self._size += len(data)
        self._later(data)
        self.pace()

    def eof_received(self) -> bool:
        self._later(b"")
        return True  # the other direction stays open

    def connection_lost(self, exc: Exception | None) -> None:
        self._later(b"")

    def pause_writing(self) -> None:
        if self.other:
            self.other.full = True
            self.other.pace()

    def resume_writing(self) -> None:
        if self.other:
            self.other.full = False
            self.other.pace()

    def _later(self, data: bytes) -> None:
        self._coming.append(data)  # timers of the same time fire in any order: each takes the oldest piece
        self._loop.call_at(max(self._loop.time(), self.opens) + self.delay, self._arrive)

    def _arrive(self) -> None:
        data = self._coming.popleft()
        self._size -= len(data)
        target = self.other.transport if self.other else None
        if target is not None and not target.is_closing():
            if data:
                target.write(data)
            elif self.transport.is_closing():
                target.close()
            else:
                with contextlib.suppress(OSError):  # the connection has been closed meanwhile
                    target.write_eof()
        self.pace()

    def pace(self) -> None:
        if self.transport.is_closing():
            return
        if self.full or self._size > WINDOW:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()


async def serve(target: int, milliseconds: float) -> None:
    """Listen and print the port, until standard input ends."""
    loop = asyncio.get_running_loop()
    rtt = milliseconds / 1000
    tasks: set[asyncio.Task[None]] = set()

    async def connect(near: End) -> None:
        try:
            _, far = await loop.create_connection(lambda: End(rtt / 2), "127.0.0.1", target)
        except OSError:
            near.transport.abort()
            return
        near.other, far.other = far, near
        near.transport.resume_reading()

    class Near(End):
        def __init__(self) -> None:
            super().__init__(rtt / 2, loop.time() + rtt)

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.pause_reading()
            task = loop.create_task(connect(self))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    server = await loop.create_server(Near, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await loop.run_in_executor(None, sys.stdin.read)


@contextlib.contextmanager
def distant(port: int, milliseconds: float) -> Iterator[int]:
    """Return a port that forwards to another local port with this delay; without a delay, return that port itself."""
    if not milliseconds:
        yield port
        return
    command = [sys.executable, "-m", __name__, str(port), str(milliseconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2])))
