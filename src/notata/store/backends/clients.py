"""An fsspec file system for the generic store: every call has a deadline, and calls take turns if needed.

This module handles calls, threads and connections, never the stored content.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Final, Self, TypeVar
from weakref import WeakValueDictionary

from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.utils import tokenize

from notata._base.threads import Condition, Outcome, start_thread
from notata.store.backends.client_errors import as_builtin, class_names, is_dropped
from notata.store.backends.remote import Connection

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["Client", "ClientConnection", "ClientFile", "is_thread_safe"]

_THREAD_SAFE: Final = frozenset({"ArrowFSWrapper", "LocalFileSystem", "MemoryFileSystem", "WebdavFileSystem"})
"""Synchronous file systems that several threads may call at once, by their class or a base of it."""

_connecting: Final[dict[tuple[int, str], threading.Lock]] = {}
_sessions: Final[WeakValueDictionary[tuple[int, str], Session]] = WeakValueDictionary()
"""By process and by connection: a forked child must not use its parent's."""

T = TypeVar("T")


def is_thread_safe(fs: AbstractFileSystem) -> bool:
    """Check whether several threads may call a file system at once. An untested one is assumed not to be safe.

    paramiko's SFTP client (``sftp://``) can give one thread the reply for another, which then waits for ever. ftplib
    (``ftp://``) has one conversation. An asynchronous file system has one thread, that of its event loop.
    """
    if isinstance(fs, DirFileSystem):
        return is_thread_safe(fs.fs)
    return (isinstance(fs, AsyncFileSystem) and fs.async_impl) or bool(_THREAD_SAFE & class_names(fs))


class Session:
    """One fsspec file system of this process, and the turns of the threads that call it.

    Attributes:
        fs: The file system.
        is_lost: Whether the file system must not be called any more.
    """

    def __init__(self, fs: AbstractFileSystem) -> None:
        self.fs = fs
        self.is_lost = False
        self._one_at_a_time = not is_thread_safe(fs)
        self._changed = Condition()
        self._busy_until: float | None = None

    def call(self, seconds: float, work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Return or raise what `work` does. It runs in its own thread, since a client may wait for ever.

        Raises:
            TimeoutError: It takes longer than `seconds`. The call and the file system are abandoned.
            ConnectionAbortedError: It was not tried: an earlier call got no response.
        """
        self._begin(seconds)
        try:
            return _within(seconds, partial(self._run, partial(work, *args, **kwargs)))
        except TimeoutError:  # also the client's own timeout, which leaves its state unknown too
            self.give_up()
            raise

    def _run(self, work: Callable[[], T]) -> T:
        try:
            return work()
        finally:
            self._end()

    def give_up(self) -> None:
        """Allow no more calls of this file system: a late reply could be taken for that of another call."""
        with self._changed:
            self.is_lost = True
            self._changed.notify_all()

    def _begin(self, seconds: float) -> None:
        with self._changed:
            while self._one_at_a_time and self._busy_until is not None and not self.is_lost:
                left = self._busy_until - time.monotonic()
                if left <= 0:  # the thread that waited for that call was interrupted
                    self.is_lost = True
                    self._changed.notify_all()
                else:
                    self._changed.wait(left)
            if self.is_lost:
                raise ConnectionAbortedError("the connection was closed because an earlier call got no response")
            self._busy_until = time.monotonic() + seconds

    def _end(self) -> None:
        with self._changed:
            self._busy_until = None
            self._changed.notify_all()


def _within(seconds: float, work: Callable[[], T]) -> T:
    """Return or raise what `work` does in another thread; abandon it if it takes longer than `seconds`."""
    outcome: Future[T] = Outcome()
    answer = partial(_answer, outcome, work)
    try:
        try:
            start_thread(answer, "notata-client")
        except RuntimeError:  # at exit, no thread can start any more
            answer()
        return outcome.result(seconds)
    finally:
        del outcome, answer  # else a cycle: an error holds this frame, and the future holds the error


def _answer(outcome: Future[T], work: Callable[[], T]) -> None:
    try:
        result = work()
    except BaseException as error:
        outcome.set_exception(error)
    else:
        outcome.set_result(result)


class Client:
    """A wrapper of an fsspec file system that calls each method with a deadline, and in turn if needed.

    Attributes:
        fs: The file system itself.
        session: Takes care of the turns.
    """

    def __init__(self, session: Session, connection: ClientConnection) -> None:
        self.session = session
        self.fs = session.fs
        self._connection = connection

    @property  # type: ignore[misc]
    def __class__(self) -> type[Any]:  # libraries check it with isinstance; wrapt's proxies do the same
        return type(self.fs)

    def call(self, work: Callable[..., T], *args: Any, size: int = 0, many: int = 1, **kwargs: Any) -> T:
        """Make one call that moves `size` bytes and makes `many` requests, each with its own time."""
        seconds = self._connection.limit(2 * size) * many
        try:
            result = self.session.call(seconds, work, *args, **kwargs)
        except TimeoutError:
            self._connection.note_silence()
            raise
        except Exception as error:
            translated = as_builtin(error)
            if translated is error:
                raise
            raise translated from error
        self._connection.note_answer()
        return result

    def open(self, *args: Any, **kwargs: Any) -> ClientFile:
        """Open a file of the file system, with a deadline for each of its methods."""
        return ClientFile(self, self._bound(self.fs.open)(*args, **kwargs))

    def _bound(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Return a method with a deadline. All arguments go to the method, even those that `call` knows."""
        return lambda *args, **kwargs: self.call(partial(method, *args, **kwargs))

    def invalidate_cache(self, path: str | None = None) -> None:
        self.fs.invalidate_cache(path)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self.fs, name)
        return self._bound(found) if callable(found) else found

    def __eq__(self, other: object) -> bool:
        return type(other) is Client and self.session is other.session

    def __hash__(self) -> int:
        return id(self.session)


class ClientFile:
    """An open file of a `Client`."""

    def __init__(self, client: Client, file: IO[bytes]) -> None:
        self._client = client
        self._file = file

    def read(self, size: int = -1) -> bytes:
        return self._client.call(self._file.read, size, size=max(size, 0))

    def write(self, data: bytes) -> int:
        return self._client.call(self._file.write, data, size=len(data))

    def close(self) -> None:
        self._client.call(self._file.close)

    def abandon(self) -> None:
        """Close the file without storing its content, if the file system can do so."""
        with suppress(Exception):
            self._client.call(getattr(self._file, "discard", bool))
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self._file, name)
        return self._client._bound(found) if callable(found) else found


class ClientConnection(Connection):
    """A connection through a `Client`, which is replaced once it is lost.

    Attributes:
        has_exchanged: Whether the server has refused a rename over an existing file.
    """

    has_exchanged = False

    def __init__(
        self,
        make: Callable[[dict[str, Any]], AbstractFileSystem],
        options: Mapping[str, Any],
        timeout: float,
        hidden: str = "",
        *,
        host: str = "",
    ) -> None:
        super().__init__(make, options, timeout, hidden)
        self._host = host
        self._client: Client | None = None

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_client": None}

    @property
    def client(self) -> Client:
        """The current client of this process; making one may take as long as a request."""
        pid = os.getpid()
        key = pid, self._token
        # One thread connects at a time, and the others then share its session. smbprotocol identifies a session by its
        # host alone and mixes up two that start at once.
        with _connecting.setdefault(key, threading.Lock()):
            if self._client is None or self._pid != pid or self._client.session.is_lost:
                session = _sessions.get(key)
                if session is None or session.is_lost:
                    session = _sessions[key] = Session(self._connected())
                self._client, self._pid = Client(session, self), pid
            return self._client

    @functools.cached_property
    def _token(self) -> str:
        """Identify equal sessions: fsspec's own cache has one session per thread."""
        return str(tokenize(self._host, self.options))

    def _connected(self) -> AbstractFileSystem:
        options = {**self.options, "skip_instance_cache": True}
        try:
            return _within(self.limit(0), partial(self._make, options))
        except TimeoutError:
            self.note_silence()
            raise
        except OSError as error:
            translated = as_builtin(error)
            if translated is error:
                raise
            raise translated from error

    def run_with(self, work: Callable[[Client], T], *, repeatable: bool = True) -> T:
        """Return what `work` does; if the connection was lost and `work` is repeatable, try again with a new one."""
        client = self.client
        try:
            return work(client)
        except Exception as error:
            if not is_dropped(error, client.fs):
                raise
            client.session.give_up()
            if not repeatable:
                raise
        return work(self.client)
