"""What the stores over a network share: one connection a process, deadlines, and silence about credentials."""

from __future__ import annotations

import asyncio
import functools
import io
import os
import re
import sys
import threading
import time
import traceback
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import fsspec.asyn

from notata._base import keys, limits
from notata._base.secrets import Values, leaves, shown_url, watch, within
from notata._base.threads import NO_THREADS, Outcome, whole
from notata.errors import ConfigurationError, KeyNameError, NotataError, StorageError
from notata.store.appending import NOTHING, Tail
from notata.store.base import Blob, Store
from notata.store.files import PART
from notata.store.in_flight import BYTES_AT_ONCE, failure_of
from notata.store.options import names as option_names
from notata.store.patience import Patience, current

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["BucketStore", "Connection", "RemoteStore", "without_credentials"]

_CREDENTIALS: Final = (  # of the objects in which botocore and google-auth hold them; a property might renew one
    "access_key", "secret_key", "token", "_access_key", "_secret_key", "_token", "_refresh_token", "_client_secret",
)  # fmt: skip
_FIRST_ANSWER: Final = 10.0  # seconds that a storage which has never answered may take
_NEXT_ANSWER: Final = 2.0  # and once it has let that pass
_AFTER_SILENCE: Final = 5.0  # and one that has answered, but let a request's whole time pass, until it answers again
_SLOWEST: Final = 50e3  # bytes a second: a large request may take this much longer

_RESOLVERS: Final = 4  # threads, for as many connections at a time to hosts by name
_FEW_SECONDS: Final = 2.0  # for what takes a millisecond

_PARTS_AT_ONCE: Final = BYTES_AT_ONCE // PART

T = TypeVar("T")


class Connection:
    """One fsspec file system a process, made when first used, and how long its requests may take.

    fsspec's own instance cache lies below, so many stores of one bucket share one pool of connections.
    """

    def __init__(
        self,
        make: Callable[[dict[str, Any]], AbstractFileSystem],
        options: Mapping[str, Any],
        timeout: float,
        hidden: str = "",
    ) -> None:
        self.options = dict(options)
        self._hidden = hidden  # of the address, what is as secret as an option
        self._make = make
        self._timeout = timeout
        self._fs: AbstractFileSystem | None = None
        self._pid = 0
        self._answered = False
        self._patience = _FIRST_ANSWER
        self.clock: float | None = None  # seconds by which the storage's is ahead of ours; None until it tells
        watch(self)

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        watch(self)

    def __getstate__(self) -> dict[str, Any]:
        fresh = {"_fs": None, "_pid": 0, "_answered": False, "_patience": _FIRST_ANSWER, "clock": None}
        return {name: value for name, value in self.__dict__.items() if name != "secrets"} | fresh

    @functools.cached_property
    def secrets(self) -> Values:
        """What of the options is hidden in a text about this storage: more than what is surely secret."""
        return Values([*leaves(self.options), *self._of_address()])

    def secret_values(self) -> Iterator[str]:
        """Yield the credentials of this connection, which no text of the process may show."""
        yield from within(self.options)
        yield from self._of_address()
        if self._fs is not None:
            yield from _resolved(self._fs)

    def _of_address(self) -> Iterator[str]:
        yield from (part for part in (self._hidden, *re.split("[&=]", self._hidden)) if len(part) >= 8)

    @property
    def fs(self) -> AbstractFileSystem:
        """The file system of this process.

        Raises:
            StorageError: The interpreter is ending, and fsspec's thread with it; or that thread cannot be started.
        """
        if sys.is_finalizing():
            raise StorageError("the interpreter is ending, so the storage cannot be reached any more")
        _start_loop()
        if self._fs is None or self._pid != os.getpid():  # a forked child must not touch its parent's sockets
            self._fs, self._pid = self._make(dict(self.options)), os.getpid()
        return self._fs

    async def ask(self, work: Callable[..., Coroutine[Any, Any, T]], *args: Any, size: int = 0, **kwargs: Any) -> T:
        """Make one request: nothing of its answer may take longer than `limit` of what it sends."""
        try:
            async with asyncio.timeout(self.limit(size)) as bound:  # `wait_for` would make a task of each
                patience = Patience(lambda: self.limit(size), asyncio.get_running_loop().time, self.note_answer, bound)
                before = current.set(patience)
                try:
                    result = await work(*args, **kwargs)
                finally:
                    current.reset(before)
                    patience.release()
        except TimeoutError:
            self.note_silence()
            raise
        except (FileNotFoundError, FileExistsError):
            self.note_answer()
            raise
        self.note_answer()
        return result

    def note_answer(self) -> None:
        """Give the next requests their whole time: the storage has answered."""
        self._answered = True

    def note_silence(self) -> None:
        """Give the next requests less time: the storage let a request's whole time pass."""
        self._patience = _AFTER_SILENCE if self._answered else min(self._patience, _NEXT_ANSWER)
        self._answered = False

    def limit(self, sent: int) -> float:
        """Return the seconds that a request with `sent` bytes may wait for its answer, or for the next piece of it."""
        return (self._timeout if self._answered else min(self._timeout, self._patience)) + sent / _SLOWEST

    def age(self, modified: datetime, headers: Mapping[str, str] | None = None) -> float | None:
        """Seconds since an object was written, by the storage's clock: as `headers` tell it, or told it before."""
        if told := headers and (headers.get("Date") or headers.get("date")):
            self.clock = parsedate_to_datetime(told).timestamp() - time.time()
        return None if self.clock is None else max(0.0, time.time() + self.clock - modified.timestamp())

    def start(self, work: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> _Started[T]:
        """Start a coroutine function on fsspec's loop. To cancel its future cancels it; the future ends when it has."""
        started = _Started(self.fs.loop, functools.partial(work, *args, **kwargs))
        started.begin()
        return started

    def prepare(self) -> None:
        """Have fsspec's loop, and in it the threads that find a host's name: at exit, Python 3.12 starts none."""
        loop = _start_loop()
        together = threading.Barrier(_RESOLVERS)  # so that they are as many threads

        def meet() -> None:
            with suppress(threading.BrokenBarrierError):  # others have work to do
                together.wait(_FEW_SECONDS)

        async def begin() -> None:
            await asyncio.gather(*(loop.run_in_executor(None, meet) for _ in range(_RESOLVERS)))

        if threading.get_ident() != getattr(fsspec.asyn.iothread[0], "ident", None):
            with suppress(RuntimeError, TimeoutError):  # too late, or too busy
                begun = _Started(loop, begin)
                begun.begin()
                begun.result(_FEW_SECONDS)

    def run(
        self,
        work: Callable[..., Coroutine[Any, Any, T]],
        *args: Any,
        undo: Callable[[T], Coroutine[Any, Any, object]] | None = None,
        **kwargs: Any,
    ) -> T:
        """Run a coroutine function on fsspec's loop and wait.

        `fsspec.asyn.sync` would leave it running after a KeyboardInterrupt; this cancels it. With `undo` it is left to
        end, as the storage may have done what was asked already, and what it then tells is undone.
        """
        if threading.get_ident() == getattr(fsspec.asyn.iothread[0], "ident", None):
            raise RuntimeError("the storage cannot be waited for on fsspec's own thread; use another one")
        started = _Started(self.fs.loop, functools.partial(work, *args, **kwargs))
        try:
            started.begin()  # and from here on an interrupt, at whatever instruction, gives it up
            return started.result()
        except BaseException:
            if undo is None:
                started.cancel()
            else:
                started.add_done_callback(lambda ended: failure_of(ended) or self.start(undo, ended.result()))
            raise
        finally:
            del started  # an error holds this frame, and with it what its callers have; the future holds the error


def _start_loop() -> asyncio.AbstractEventLoop:
    """Return fsspec's event loop, in whose thread all requests are made.

    Raises:
        StorageError: The system starts no more threads.
    """
    loop: asyncio.AbstractEventLoop | None = fsspec.asyn.loop[0]
    if loop is not None:
        return loop
    try:
        try:
            return whole(_get_loop)
        except RuntimeError:  # the thread that called it may have been the last one that the system allows
            return _get_loop()
    except RuntimeError as error:
        raise StorageError(f"cannot start the thread that talks to the storage: {NO_THREADS}") from error


def _get_loop() -> asyncio.AbstractEventLoop:
    try:
        loop: asyncio.AbstractEventLoop = fsspec.asyn.get_loop()
    except RuntimeError:
        fsspec.asyn.reset_lock()  # fsspec keeps the loop, and who uses it next would wait for ever
        raise
    return loop


class _Started(Outcome[T]):
    """The outcome of a coroutine on the loop of another thread. Cancelled, it ends when the coroutine has ended.

    Nothing is done before `begin`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Callable[[], Coroutine[Any, Any, T]]) -> None:
        super().__init__()
        self._loop = loop
        self._work = work
        self._task: asyncio.Task[T] | None = None

    def begin(self) -> None:
        self._loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        self._task = self._loop.create_task(self._run())
        self._task.add_done_callback(self._end)

    async def _run(self) -> T:
        return await self._work()

    def _end(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            super().cancel()
            self.set_running_or_notify_cancel()
        elif (error := task.exception()) is not None:
            traceback.clear_frames(error.__traceback__)  # the client libraries' hold the error: see `Connection.run`
            self.set_exception(error)
        else:
            self.set_result(task.result())

    def cancel(self) -> bool:
        self._loop.call_soon_threadsafe(self._give_up)
        return False

    def _give_up(self) -> None:
        if self._task is not None:
            self._task.cancel()


class RemoteStore(Store):
    """A store over an fsspec file system: a bucket and a prefix, or a path."""

    def __init__(self, url: str, connection: Connection) -> None:
        super().__init__(without_credentials(url).rstrip("/"))
        self._connection = connection
        self._bucket, self._prefix = self._split(url)

    def _split(self, url: str) -> tuple[str, str]:
        """Bucket and prefix of a URL; the prefix is a key too, so that it reads back as it was written."""
        bucket, _, prefix = url.partition("://")[2].strip("/").partition("/")
        return bucket, self._checked(prefix, url)

    def _checked(self, prefix: str, url: str) -> str:
        try:
            return prefix and keys.check(prefix)
        except KeyNameError as error:
            raise ConfigurationError(f"{without_credentials(url)} cannot hold runs: {error}") from None

    def _small(self, key: str, tail: Tail) -> Tail:
        """The content of a file that is replaced whole where another one is extended on the server."""
        try:
            old = self._get(key, 0, None, None)
        except FileNotFoundError:
            if tail.size:
                raise
            return NOTHING
        if old.size != tail.size:
            raise self._conflict(key, f"it has {old.size} bytes, not {tail.size}")
        return Tail(old.size, old.version, old.data)

    def _version_at(self, key: str, size: int) -> str:
        now = self._stat(key)
        if now.size != size:
            raise self._conflict(key, f"it has {now.size} bytes, not {size}")
        return now.version

    def _enter(self, folder: str) -> None:
        self._prefix = keys.join(self._prefix, folder)

    def filesystem(self) -> AbstractFileSystem:
        return self._connection.fs

    def prepare(self) -> None:
        self._connection.prepare()

    def _name(self, key: str) -> str:
        """The whole name of a key in its bucket."""
        if key and not keys.is_reserved(key):
            keys.check(key, prefix=f"{self._prefix}/" if self._prefix else "")
        return keys.join(self._prefix, key)

    def _inside(self, folder: str) -> str:
        name = self._name(folder)
        return f"{name}/" if name else ""

    def _exact(self, name: str) -> str:
        """The whole name of a file that was listed, which need not be a legal key; only deletions may use it."""
        return keys.join(self._prefix, name)

    def _key(self, name: str) -> str:
        return name[len(self._prefix) + 1 :] if self._prefix else name

    def _failure(self, error: Exception) -> tuple[type[NotataError], str]:
        if isinstance(error, ImportError):
            return ConfigurationError, f"{error}; install it beside notata"
        if isinstance(error, TypeError):
            return ConfigurationError, f"the storage options do not fit this protocol{self._misfit(error)}"
        return super()._failure(error)

    def _misfit(self, error: TypeError) -> str:
        """Name the options that an error of the library below names; never a value of one."""
        named = sorted({name for name in option_names(self._connection.options) if f"'{name}'" in str(error)})
        return f": it has no {', '.join(named)}" if named else ""

    def redacted(self, text: str) -> str:
        return super().redacted(self._connection.secrets.hide(text, self.url))


class BucketStore(RemoteStore):
    """A store whose requests are coroutines: many are in flight at once without a thread for each."""

    @abstractmethod
    async def _send(self, key: str, data: bytes) -> str:
        """Store at most 8 MiB, whatever is there, in one atomic request. The new version."""

    @abstractmethod
    async def _range(self, key: str, start: int, end: int, version: str | None) -> Blob:
        """Read ``[start, end)`` in one request; with `version` only from that one."""

    def start_write(self, key: str, data: bytes) -> Future[str]:
        return self._connection.start(self._told, "write", keys.check(key), self._send, key, data)

    def start_fetch(self, key: str, start: int = 0, end: int | None = None) -> Future[Blob]:
        limit = limits.limit_of(key) if end is None else None
        return self._connection.start(self._told, "read", keys.check(key), self._fetch, key, start, end, None, limit)

    def _start_read(self, key: str, start: int, end: int, version: str) -> Future[bytes]:
        return self._connection.start(self._told, "read", key, self._part, key, start, end, version)

    async def _told(self, doing: str, key: str, work: Callable[..., Coroutine[Any, Any, T]], *args: Any) -> T:
        """What comes of a request, its errors ours."""
        with self._guard(doing, key):
            return await work(*args)

    def _get(self, key: str, start: int, end: int | None, version: str | None) -> Blob:
        return self._connection.run(self._fetch, key, start, end, version)

    def _get_whole(self, key: str, start: int = 0) -> Blob:
        return self._connection.run(self._fetch, key, start, None, None, limits.limit_of(key))

    async def _fetch(
        self, key: str, start: int, end: int | None, version: str | None = None, limit: int | None = None
    ) -> Blob:
        """Read a range; of one without an end the first part tells the size, and the others come four at a time."""
        if end is not None:
            return await self._range(key, start, end, version)
        first = await self._range(key, start, start + PART, version)
        if limit is not None:
            limits.check_size(self.url, key, first.size - start, limit)
        reached = start + len(first.data)
        if reached >= first.size:
            return first
        whole = io.BytesIO()  # it gives its bytes away without a copy
        whole.write(first.data)
        coming: deque[asyncio.Task[bytes]] = deque()
        try:
            for at in range(reached, first.size, PART):
                part = self._part(key, at, min(at + PART, first.size), first.version)
                coming.append(asyncio.ensure_future(part))
                if len(coming) == _PARTS_AT_ONCE:
                    whole.write(await coming.popleft())
            while coming:
                whole.write(await coming.popleft())
        finally:
            for task in coming:
                task.cancel()
            await asyncio.gather(*coming, return_exceptions=True)
        return Blob(whole.getvalue(), first.size, first.version, first.age)

    async def _part(self, key: str, start: int, end: int, version: str) -> bytes:
        return (await self._range(key, start, end, version)).data


def without_credentials(url: str) -> str:
    """A URL that may be shown; see `notata._base.secrets.shown_url`.

    Raises:
        ConfigurationError: It is no URL.
    """
    try:
        return shown_url(url)
    except ValueError as error:
        raise ConfigurationError(f"base_dir is no URL: {error}") from None


def _resolved(fs: object) -> Iterator[str]:
    """Yield the credentials that botocore or google-auth found for a file system, as far as they have by now."""
    session = getattr(fs, "session", None)
    for holder in (
        getattr(session, "_credentials", None),
        getattr(getattr(fs, "credentials", None), "credentials", None),
    ):
        for name in _CREDENTIALS:
            value = vars(holder).get(name) if hasattr(holder, "__dict__") else None
            if isinstance(value, str):
                yield value
