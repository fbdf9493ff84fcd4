"""An fsspec file system as the generic store calls it: with a deadline, and one call at a time where it needs that.

It knows calls, threads and connections, and never what is stored.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Final, Self, TypeVar

from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.dirfs import DirFileSystem

from notata.store.client_errors import as_builtin, is_dropped
from notata.store.remote import Connection

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["Client", "ClientConnection", "ClientFile", "class_names", "is_thread_safe"]

_THREAD_SAFE: Final = frozenset({"ArrowFSWrapper", "LocalFileSystem", "MemoryFileSystem", "WebdavFileSystem"})
"""Synchronous file systems that several threads may call at once: their class, or a base of it."""

_TURNS: Final = "_notata_turns"

T = TypeVar("T")


def class_names(thing: object) -> set[str]:
    """The names of an object's class and of that one's bases: packages that may not be installed are known by these."""
    return {kind.__name__ for kind in type(thing).__mro__}


def is_thread_safe(fs: AbstractFileSystem) -> bool:
    """Whether several threads may call a file system at once. Of one that nobody tried, they may not.

    paramiko's SFTP client (``sftp://``) gives one thread the answer that another one waits for, and that one waits for
    ever; ftplib (``ftp://``) has one conversation. A file system of coroutines has one thread, its loop's.
    """
    if isinstance(fs, DirFileSystem):
        return is_thread_safe(fs.fs)
    return (isinstance(fs, AsyncFileSystem) and fs.async_impl) or bool(_THREAD_SAFE & class_names(fs))


class _Turns:
    """Whose turn it is to call one file system; shared by all who have it, as fsspec gives one object to many."""

    def __init__(self, *, one_at_a_time: bool) -> None:
        self._one_at_a_time = one_at_a_time
        self._changed = threading.Condition()
        self._pid = os.getpid()
        self._busy_until: float | None = None
        self.is_lost = False

    @classmethod
    def of(cls, fs: AbstractFileSystem) -> _Turns:
        turns: _Turns | None = vars(fs).get(_TURNS)
        if turns is None or turns._pid != os.getpid():
            turns = vars(fs).setdefault(_TURNS, cls(one_at_a_time=not is_thread_safe(fs)))
            if turns._pid != os.getpid():  # forked while another thread had its turn
                turns = vars(fs)[_TURNS] = cls(one_at_a_time=not is_thread_safe(fs))
        return turns

    def call(self, seconds: float, work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """What `work` returns or raises, in a thread of its own, as a client may wait for ever.

        Raises:
            TimeoutError: It takes longer than `seconds`. It is left to itself, and so is the file system.
            ConnectionAbortedError: It was not tried: an earlier call got no answer.
        """
        self._begin(seconds)
        outcome: Future[T] = Future()
        answer = partial(self._answer, outcome, partial(work, *args, **kwargs))
        try:
            try:
                threading.Thread(target=answer, name="notata-client", daemon=True).start()
            except RuntimeError:  # at exit no thread starts any more
                answer()
            return outcome.result(seconds)
        except TimeoutError:
            self.give_up()
            raise
        finally:
            del outcome, answer  # an error holds this frame, and the future holds the error

    def _answer(self, outcome: Future[T], work: Callable[[], T]) -> None:
        try:
            result = work()
        except BaseException as error:
            self._end()
            outcome.set_exception(error)
        else:
            self._end()
            outcome.set_result(result)

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


class Client:
    """One fsspec file system: each of its methods is called under a deadline, in turn where it is not thread-safe.

    Attributes:
        fs: The file system itself.
    """

    def __init__(self, fs: AbstractFileSystem, connection: ClientConnection) -> None:
        self.fs = fs
        self._connection = connection
        self._turns = _Turns.of(fs)

    def call(self, work: Callable[..., T], *args: Any, size: int = 0, many: int = 1, **kwargs: Any) -> T:
        """Make one call, which moves `size` bytes and makes `many` requests of which each has its time."""
        seconds = self._connection.limit(size, size) * many
        try:
            result = self._turns.call(seconds, work, *args, **kwargs)
        except TimeoutError:
            self._turns.give_up()  # the client's own time limit, after which its state is as unknown
            self._connection.note_silence()
            raise
        except OSError as error:
            told = as_builtin(error)
            if told is error:
                raise
            raise told from error
        self._connection.note_answer()
        return result

    def open(self, *args: Any, **kwargs: Any) -> ClientFile:
        """A file of the file system, each of its methods called in the same way."""
        return ClientFile(self, self.call(self.fs.open, *args, **kwargs))

    def invalidate_cache(self, path: str | None = None) -> None:
        self.fs.invalidate_cache(path)

    @property
    def is_lost(self) -> bool:
        """Whether it is given up, as a call got no answer."""
        return self._turns.is_lost

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self.fs, name)
        return partial(self.call, found) if callable(found) else found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Client) and self.fs is other.fs

    def __hash__(self) -> int:
        return id(self.fs)


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
        return partial(self._client.call, found) if callable(found) else found


class ClientConnection(Connection):
    """A connection through a `Client`, which is made anew once it has been lost."""

    def __init__(
        self,
        make: Callable[[dict[str, Any]], AbstractFileSystem],
        options: Mapping[str, Any],
        timeout: float,
        hidden: str = "",
    ) -> None:
        super().__init__(make, options, timeout, hidden)
        self._client: Client | None = None
        self._lock = threading.Lock()
        self._lock_pid = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        del state["_lock"]
        return state | {"_client": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    @property
    def client(self) -> Client:
        """The present client of this process; to make one may take as long as a request."""
        pid = os.getpid()
        if self._lock_pid != pid:  # forked, perhaps while another thread had it
            self._lock, self._lock_pid = threading.Lock(), pid
        with self._lock:
            if self._client is None or self._pid != pid or self._client.is_lost:
                self._client, self._pid = self._connected(), pid
            return self._client

    def _connected(self) -> Client:
        try:
            fs = self._made()
            if _Turns.of(fs).is_lost:  # fsspec has kept one that was given up
                forget(fs)
                fs = self._made()
        except TimeoutError:
            self.note_silence()
            raise
        except OSError as error:
            told = as_builtin(error)
            raise told from (None if told is error else error)
        return Client(fs, self)

    def _made(self) -> AbstractFileSystem:
        return _Turns(one_at_a_time=False).call(self.limit(0), self._make, dict(self.options))

    def run_with(self, work: Callable[[Client], T], *, repeatable: bool = True) -> T:
        """What `work` returns; where its connection was lost, once more by a new one if it may be done twice."""
        client = self.client
        try:
            return work(client)
        except Exception as error:
            if not is_dropped(error, client.fs):
                raise
            client._turns.give_up()
            if not repeatable:
                raise
        return work(self.client)


def forget(fs: AbstractFileSystem) -> None:
    """Have fsspec make a file system anew for whoever asks next."""
    type(fs).clear_instance_cache()
    inner = getattr(fs, "fs", None)
    with suppress(AttributeError):
        if inner is not None:
            forget(inner)
