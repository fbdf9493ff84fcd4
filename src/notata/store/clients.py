"""An fsspec file system as the generic store calls it: with a deadline, and one call at a time where it needs that.

It knows calls, threads and connections, and never what is stored.
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
from notata.store.client_errors import as_builtin, class_names, is_dropped
from notata.store.remote import Connection

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["Client", "ClientConnection", "ClientFile", "is_thread_safe"]

_THREAD_SAFE: Final = frozenset({"ArrowFSWrapper", "LocalFileSystem", "MemoryFileSystem", "WebdavFileSystem"})
"""Synchronous file systems that several threads may call at once: their class, or a base of it."""

_connecting: Final[dict[tuple[int, str], threading.Lock]] = {}
_sessions: Final[WeakValueDictionary[tuple[int, str], Session]] = WeakValueDictionary()
"""By process, as a forked child must not touch its parent's, and by what they reach."""

T = TypeVar("T")


def is_thread_safe(fs: AbstractFileSystem) -> bool:
    """Whether several threads may call a file system at once. Of one that nobody tried, they may not.

    paramiko's SFTP client (``sftp://``) gives one thread the answer that another one waits for, and that one waits for
    ever; ftplib (``ftp://``) has one conversation. A file system of coroutines has one thread, its loop's.
    """
    if isinstance(fs, DirFileSystem):
        return is_thread_safe(fs.fs)
    return (isinstance(fs, AsyncFileSystem) and fs.async_impl) or bool(_THREAD_SAFE & class_names(fs))


class Session:
    """One fsspec file system of this process, and whose turn it is to call it.

    Attributes:
        fs: The file system.
        is_lost: Whether nobody may call it any more.
    """

    def __init__(self, fs: AbstractFileSystem) -> None:
        self.fs = fs
        self.is_lost = False
        self._one_at_a_time = not is_thread_safe(fs)
        self._changed = Condition()
        self._busy_until: float | None = None

    def call(self, seconds: float, work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """What `work` returns or raises, in a thread of its own, as a client may wait for ever.

        Raises:
            TimeoutError: It takes longer than `seconds`. It is left to itself, and so is the file system.
            ConnectionAbortedError: It was not tried: an earlier call got no answer.
        """
        self._begin(seconds)
        try:
            return _within(seconds, partial(self._run, partial(work, *args, **kwargs)))
        except TimeoutError:  # or the client's own time limit, after which its state is as unknown
            self.give_up()
            raise

    def _run(self, work: Callable[[], T]) -> T:
        try:
            return work()
        finally:
            self._end()

    def give_up(self) -> None:
        """Let nobody call this file system any more: an answer may still come, and be taken for another one's."""
        with self._changed:
            self.is_lost = True
            self._changed.notify_all()

    def _begin(self, seconds: float) -> None:
        with self._changed:
            while self._one_at_a_time and self._busy_until is not None and not self.is_lost:
                left = self._busy_until - time.monotonic()
                if left <= 0:  # who waited for that call was interrupted
                    self.is_lost = True
                    self._changed.notify_all()
                else:
                    self._changed.wait(left)
            if self.is_lost:
                raise ConnectionAbortedError("the connection was given up, as an earlier call got no answer")
            self._busy_until = time.monotonic() + seconds

    def _end(self) -> None:
        with self._changed:
            self._busy_until = None
            self._changed.notify_all()


def _within(seconds: float, work: Callable[[], T]) -> T:
    """What `work` returns or raises in another thread; it is left to itself if it takes longer than `seconds`."""
    outcome: Future[T] = Outcome()
    answer = partial(_answer, outcome, work)
    try:
        try:
            start_thread(answer, "notata-client")
        except RuntimeError:  # at exit no thread starts any more
            answer()
        return outcome.result(seconds)
    finally:
        del outcome, answer  # an error holds this frame, and the future holds the error


def _answer(outcome: Future[T], work: Callable[[], T]) -> None:
    try:
        result = work()
    except BaseException as error:
        outcome.set_exception(error)
    else:
        outcome.set_result(result)


class Client:
    """One fsspec file system: each of its methods is called under a deadline, in turn where it is not thread-safe.

    Attributes:
        fs: The file system itself.
        session: Whose turn it is to call it.
    """

    def __init__(self, session: Session, connection: ClientConnection) -> None:
        self.session = session
        self.fs = session.fs
        self._connection = connection

    @property  # type: ignore[misc]
    def __class__(self) -> type[Any]:  # libraries that are given it ask by isinstance; wrapt's proxies do so too
        return type(self.fs)

    def call(self, work: Callable[..., T], *args: Any, size: int = 0, many: int = 1, **kwargs: Any) -> T:
        """Make one call, which moves `size` bytes and makes `many` requests of which each has its time."""
        seconds = self._connection.limit(2 * size) * many
        try:
            result = self.session.call(seconds, work, *args, **kwargs)
        except TimeoutError:
            self._connection.note_silence()
            raise
        except Exception as error:
            told = as_builtin(error)
            if told is error:
                raise
            raise told from error
        self._connection.note_answer()
        return result

    def open(self, *args: Any, **kwargs: Any) -> ClientFile:
        """A file of the file system, each of its methods called in the same way."""
        return ClientFile(self, self._bound(self.fs.open)(*args, **kwargs))

    def _bound(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """A method that is called under a deadline; all arguments are its own, also those that `call` has."""
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
        """Close it without storing what was written, where the file system can do so."""
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
    """A connection through a `Client`, which is made anew once it has been lost.

    Attributes:
        has_exchanged: Whether the server was seen to refuse a rename over a file.
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
        """The present client of this process; to make one may take as long as a request."""
        pid = os.getpid()
        key = pid, self._token
        # One thread at a time connects, and the others have the same session then; smbprotocol, which knows a session
        # by its host alone, mixes up two that begin at once.
        with _connecting.setdefault(key, threading.Lock()):
            if self._client is None or self._pid != pid or self._client.session.is_lost:
                session = _sessions.get(key)
                if session is None or session.is_lost:
                    session = _sessions[key] = Session(self._connected())
                self._client, self._pid = Client(session, self), pid
            return self._client

    @functools.cached_property
    def _token(self) -> str:
        """What sessions have in common that are one: fsspec's own cache has a session for each thread."""
        return str(tokenize(self._host, self.options))

    def _connected(self) -> AbstractFileSystem:
        options = {**self.options, "skip_instance_cache": True}
        try:
            return _within(self.limit(0), partial(self._make, options))
        except TimeoutError:
            self.note_silence()
            raise
        except OSError as error:
            told = as_builtin(error)
            if told is error:
                raise
            raise told from error

    def run_with(self, work: Callable[[Client], T], *, repeatable: bool = True) -> T:
        """What `work` returns; where its connection was lost, once more by a new one if it may be done twice."""
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
