"""A slow network: all data arrives half a round trip later, unchanged.

``python -m tests.tools.benchmarks.proxy PORT MILLISECONDS`` listens on a port that the system assigns, prints it, and
ends when its standard input does. A new connection takes one round trip, like TCP's handshake. For each line of its
input the proxy prints a line with what has passed until then: HTTP requests, and the bytes in both directions.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

WINDOW = 16 * 2**20  # bytes in flight in one direction of a connection; with more, the sender has to wait


@dataclass
class Passed:
    """Counts of what has passed a proxy.

    Attributes:
        requests: HTTP requests.
        sent: Bytes from clients, with the headers.
        received: Bytes from the server, with the headers.
    """

    requests: int = 0
    sent: int = 0
    received: int = 0

    def __sub__(self, earlier: Passed) -> Passed:
        return Passed(self.requests - earlier.requests, self.sent - earlier.sent, self.received - earlier.received)


class RequestCounter:
    """Counts the requests of one connection. It skips their bodies by the length that the headers say."""

    def __init__(self, passed: Passed) -> None:
        self._passed = passed
        self._head = b""
        self._body = 0

    def __call__(self, data: bytes) -> None:
        self._passed.sent += len(data)
        while data:
            skipped = min(self._body, len(data))
            self._body -= skipped
            head, ended, data = (self._head + data[skipped:]).partition(b"\r\n\r\n")
            if not ended:
                self._head = head
                return
            self._head = b""
            if re.search(rb"^[A-Z]+ [^\r\n]+ HTTP/1", head, re.MULTILINE):  # not the end of a body in chunks
                self._passed.requests += 1
                found = re.search(rb"^content-length: *(\d+)", head, re.MULTILINE | re.IGNORECASE)
                self._body = int(found[1]) if found else 0


class End(asyncio.Protocol):
    """One end of a connection: it passes the received data to the other end after the delay."""

    def __init__(self, delay: float, saw: Callable[[bytes], object], opens: float = 0.0) -> None:
        self.delay, self.saw, self.opens = delay, saw, opens
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
        self.saw(data)
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
    """Listen and print the port, then the counts for each line, until standard input ends."""
    loop = asyncio.get_running_loop()
    rtt = milliseconds / 1000
    tasks: set[asyncio.Task[None]] = set()
    passed = Passed()

    def received(data: bytes) -> None:
        passed.received += len(data)

    async def connect(near: End) -> None:
        try:
            _, far = await loop.create_connection(lambda: End(rtt / 2, received), "127.0.0.1", target)
        except OSError:
            near.transport.abort()
            return
        near.other, far.other = far, near
        near.transport.resume_reading()

    class Near(End):
        def __init__(self) -> None:
            super().__init__(rtt / 2, RequestCounter(passed), loop.time() + rtt)

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.pause_reading()
            task = loop.create_task(connect(self))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    server = await loop.create_server(Near, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        while await loop.run_in_executor(None, sys.stdin.readline):
            print(json.dumps(asdict(passed)), flush=True)


class Proxy:
    """A running proxy.

    Attributes:
        port: The port that it listens on.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.port = int(self._line())

    def passed(self) -> Passed:
        """Return what has passed until now."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return Passed(**json.loads(self._line()))

    def _line(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline()


@contextlib.contextmanager
def proxied(port: int, milliseconds: float) -> Iterator[Proxy]:
    """Start a proxy that forwards to another local port with this delay."""
    command = [sys.executable, "-m", __name__, str(port), str(milliseconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        try:
            yield Proxy(process)
        finally:
            process.stdin.close()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


@contextlib.contextmanager
def distant(port: int, milliseconds: float) -> Iterator[int]:
    """Return a port that forwards to another local port with this delay; without a delay, return that port itself."""
    if not milliseconds:
        yield port
        return
    with proxied(port, milliseconds) as proxy:
        yield proxy.port


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2])))
