"""A relay in front of a TCP server that drops connections, loses a reply or goes silent on request."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from typing import Final

__all__ = ["Relay"]

_PIECE: Final = 2**16
_LOOK: Final = 0.05  # seconds between checks of `stalled`


class Relay:
    """Accepts connections at its own port and forwards their bytes to another port of 127.0.0.1.

    Attributes:
        port: The port on which it listens.
        stalled: Whether it forwards nothing.
        loses_reply: Whether it drops the next connection on which the server replies, instead of forwarding the reply.
            It becomes False again afterwards.
    """

    def __init__(self, goal: int) -> None:
        self._goal = goal
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.stalled = False
        self.loses_reply = False
        threading.Thread(target=self._accept, daemon=True).start()

    def drop(self) -> None:
        """Close every connection."""
        for pair in list(self._pairs):
            self._shut(pair)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                pair = near, socket.create_connection(("127.0.0.1", self._goal))
            except OSError:
                near.close()
                continue
            self._pairs.add(pair)
            threading.Thread(target=self._carry, args=(pair,), daemon=True).start()

    def _carry(self, pair: tuple[socket.socket, socket.socket]) -> None:
        other = dict(zip(pair, reversed(pair), strict=True))
        far = pair[1]
        with contextlib.suppress(OSError, ValueError):
            while True:
                for ready in select.select(pair, [], [], _LOOK)[0] if not self.stalled else ():
                    piece = ready.recv(_PIECE)
                    if ready is far and self.loses_reply:
                        self.loses_reply = False
                        raise ConnectionAbortedError
                    if not piece:
                        raise ConnectionAbortedError
                    other[ready].sendall(piece)
                if self.stalled:
                    threading.Event().wait(_LOOK)
        self._shut(pair)

    def _shut(self, pair: tuple[socket.socket, socket.socket]) -> None:
        self._pairs.discard(pair)
        for one in pair:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
