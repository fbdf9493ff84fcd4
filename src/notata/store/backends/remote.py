"""Base classes of network backends: one connection per process, deadlines, and redacted credentials."""

from __future__ import annotations

import asyncio
import copy
import functools
import io
import os
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
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import fsspec.asyn

from notata._base import keys, limits
from notata._base.secrets import Values, leaves, shown_url, watch, within
from notata._base.threads import NO_THREADS, Outcome, whole
from notata.errors import ConfigurationError, KeyNameError, NotataError, StorageError
from notata.store.appending import NOTHING, Tail
from notata.store.backend import Backend
from notata.store.backends.content_types import content_type
from notata.store.backends.patience import Patience, current
from notata.store.entries import Blob
from notata.store.files import PART
from notata.store.in_flight import BYTES_AT_ONCE, failure_of
from notata.store.options import names as option_names

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["BucketBackend", "Connection", "RemoteBackend", "without_credentials"]

_CREDENTIALS: Final = (  # attributes of botocore's and google-auth's credentials; a property might renew them
    "access_key", "secret_key", "token", "_access_key", "_secret_key", "_token", "_refresh_token", "_client_secret",
)  # fmt: skip
_FIRST_ANSWER: Final = 10.0  # seconds for a storage that has never responded
_NEXT_ANSWER: Final = 2.0  # seconds, once it has exceeded that
_AFTER_SILENCE: Final = 5.0  # seconds for one that responded before, but exceeded a whole time limit, until it responds
SLOWEST: Final = 50e3  # bytes a second: a large request may take this much longer

_RESOLVERS: Final = 4  # threads, for as many host name look-ups at a time
_FEW_SECONDS: Final = 2.0  # time limit for steps of about a millisecond

_PARTS_AT_ONCE: Final = BYTES_AT_ONCE // PART

T = TypeVar("T")


class Connection:
    """One fsspec file system per process, made at first use, and the time limits of its requests.

    It uses fsspec's own instance cache, so many stores of one bucket share one pool of connections.
    """

    def __init__(
        self,
        make: Callable[[dict[str, Any]], AbstractFileSystem],
        options: Mapping[str, Any],
        timeout: float,
        hidden: str = "",
    ) -> None:
        self.options = dict(options)
        self._hidden = hidden  # the part of the address that is as secret as an option
        self._make = make
        self._timeout = timeout
        self._fs: AbstractFileSystem | None = None
        self._pid = 0
        self._answered = False
        self._patience = _FIRST_ANSWER
        self.clock: float | None = None  # seconds from our clock to the storage's; None until it reports its time
        watch(self)

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        watch(self)

    def __getstate__(self) -> dict[str, Any]:
        fresh = {"_fs": None, "_pid": 0, "_answered": False, "_patience": _FIRST_ANSWER, "clock": None}
        return {name: value for name, value in self.__dict__.items() if name != "secrets"} | fresh

    @functools.cached_property
    def secrets(self) -> Values:
        """Option values to redact in texts about this storage: more than those that are certainly secret."""
        return Values([*leaves(self.options), *self._of_address()])

    def secret_values(self) -> Iterator[str]:
        """Yield the credentials of this connection, which are redacted in every text of the process."""
        yield from within(self.options)
        yield from self._of_address()
        if self._fs is not None:
            yield from _resolved(self._fs)

    def _of_address(self) -> Iterator[str]:
        values = [part.partition("=")[2] or part for part in self._hidden.split("&")]  # names are no secrets
        yield from (part for part in (self._hidden, *values) if len(part) >= 8)

    @property
    def fs(self) -> AbstractFileSystem:
        """The file system of this process.

        Raises:
            StorageError: The interpreter is ending, and fsspec's thread with it; or that thread cannot start.
        """
        if sys.is_finalizing():
            raise StorageError("cannot reach the storage: the interpreter is shutting down; make the call earlier")
        _start_loop()
        if self._fs is None or self._pid != os.getpid():  # a forked child must not touch its parent's sockets
            self._fs, self._pid = self._make(dict(self.options)), os.getpid()
        return self._fs

    async def ask(self, work: Callable[..., Coroutine[Any, Any, T]], *args: Any, size: int = 0, **kwargs: Any) -> T:
        """Make one request. No piece of its response may take longer than `limit` of the bytes that it sends."""
        try:
            async with asyncio.timeout(self.limit(size)) as bound:  # `wait_for` would create a task for each
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
        """Restore the whole time limit of requests: the storage has responded."""
        self._answered = True

    def note_silence(self) -> None:
        """Shorten the time limit of the next requests: the storage exceeded that of one."""
        self._patience = _AFTER_SILENCE if self._answered else min(self._patience, _NEXT_ANSWER)
        self._answered = False

    def limit(self, sent: int) -> float:
        """Return the seconds that a request with `sent` bytes may wait for its response, or for the next piece."""
        return (self._timeout if self._answered else min(self._timeout, self._patience)) + sent / SLOWEST

    def age(self, modified: datetime, headers: Mapping[str, str] | None = None) -> float | None:
        """Return the seconds since an object was written, by the storage's clock from `headers` or an earlier reply."""
        if date := headers and (headers.get("Date") or headers.get("date")):
            self.clock = parsedate_to_datetime(date).timestamp() - time.time()
        return None if self.clock is None else max(0.0, time.time() + self.clock - modified.timestamp())

    def start(self, work: Callable[..., Coroutine[Any, Any, T]], *args: Any, **kwargs: Any) -> _Started[T]:
        """Start a coroutine function on fsspec's loop. Cancelling the future cancels it; both then end together."""
        started = _Started(self.fs.loop, functools.partial(work, *args, **kwargs))
        started.begin()
        return started

    def prepare(self) -> None:
        """Start fsspec's loop and its threads for host name look-ups: at exit, Python 3.12 starts none."""
        loop = _start_loop()
        together = threading.Barrier(_RESOLVERS)  # makes the executor start as many threads

        def meet() -> None:
            with suppress(threading.BrokenBarrierError):  # the other threads are busy
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
        """Run a coroutine function on fsspec's loop and wait for it.

        After a KeyboardInterrupt, `fsspec.asyn.sync` would leave it running; this cancels it. With `undo` it runs to
        its end instead, as the storage may have completed the request already, and `undo` is called with its result.
        """
        if threading.get_ident() == getattr(fsspec.asyn.iothread[0], "ident", None):
            raise RuntimeError("cannot wait for the storage on fsspec's own thread; use another thread")
        started = _Started(self.fs.loop, functools.partial(work, *args, **kwargs))
        try:
            started.begin()  # from here on, an interrupt cancels it
            return started.result()
        except BaseException:
            if undo is None:
                started.cancel()
            else:
                started.add_done_callback(lambda ended: failure_of(ended) or self.start(undo, ended.result()))
            raise
        finally:
            del started  # else a cycle: an error holds this frame and its callers', and the future holds the error


def _start_loop() -> asyncio.AbstractEventLoop:
    """Return fsspec's event loop, whose thread makes all requests.

    Raises:
        StorageError: The system cannot start more threads.
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
        fsspec.asyn.reset_lock()  # fsspec keeps a loop without a thread, and its next user would wait for ever
        raise
    return loop


class _Started(Outcome[T]):
    """The outcome of a coroutine on another thread's loop. After a cancel, it ends when the coroutine has ended.

    It does nothing before `begin`.
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
            traceback.clear_frames(
                error.__traceback__
            )  # frames of client libraries hold the error: see `Connection.run`
            self.set_exception(error)
        else:
            self.set_result(task.result())

    def cancel(self) -> bool:
        self._loop.call_soon_threadsafe(self._give_up)
        return False

    def _give_up(self) -> None:
        if self._task is not None:
            self._task.cancel()


class RemoteBackend(Backend):
    """A store over an fsspec file system: a bucket and a prefix, or a path."""

    _pages = False  # HTML files are shown by browsers
    _download = "application/octet-stream"  # the content type of files that browsers save

    def __init__(self, url: str, connection: Connection) -> None:
        super().__init__(without_credentials(url).rstrip("/"))
        self._connection = connection
        self._bucket, self._prefix = self._split(url)

    def _split(self, url: str) -> tuple[str, str]:
        """Return bucket and prefix of a URL. The prefix must be a legal key, so that it reads back unchanged."""
        bucket, _, prefix = url.partition("://")[2].strip("/").partition("/")
        return bucket, self._checked(prefix, url)

    def _checked(self, prefix: str, url: str) -> str:
        try:
            return prefix and keys.check(prefix)
        except KeyNameError as error:
            raise ConfigurationError(f"{without_credentials(url)} cannot hold runs: {error}") from None

    def _small(self, key: str, tail: Tail) -> Tail:
        """Return the content of a small file, which an append replaces as a whole."""
        try:
            old = self.get(key, 0, None, None)
        except FileNotFoundError:
            if tail.size:
                raise
            return NOTHING
        if old.size != tail.size:
            raise self.conflict(key, f"its size is {old.size} bytes, not {tail.size}")
        return Tail(old.size, old.version, old.data)

    def _version_at(self, key: str, size: int) -> str:
        now = self.stat(key)
        if now.size != size:
            raise self.conflict(key, f"its size is {now.size} bytes, not {size}")
        return now.version

    def enter(self, folder: str) -> None:
        self._prefix = keys.join(self._prefix, folder)

    def serving_pages(self) -> Self:
        other = copy.copy(self)
        other._pages = True
        return other

    def _content_type(self, key: str) -> str:
        """Return the content type of a file that is written."""
        return content_type(key, self._download, pages=self._pages)

    def filesystem(self) -> AbstractFileSystem:
        return self._connection.fs

    def prepare(self) -> None:
        self._connection.prepare()

    def _name(self, key: str) -> str:
        """Return the full name of a key in its bucket."""
        if key and not keys.is_reserved(key):
            keys.check(key, prefix=f"{self._prefix}/" if self._prefix else "")
        return keys.join(self._prefix, key)

    def _inside(self, folder: str) -> str:
        name = self._name(folder)
        return f"{name}/" if name else ""

    def _exact(self, name: str) -> str:
        """Return the full name of a listed file, which need not be a legal key; only deletions may use it."""
        return keys.join(self._prefix, name)

    def _key(self, name: str) -> str:
        return name[len(self._prefix) + 1 :] if self._prefix else name

    def failure(self, error: Exception) -> tuple[type[NotataError], str]:
        if isinstance(error, ImportError):
            return ConfigurationError, f"{error}; install it in the same environment as notata"
        if isinstance(error, TypeError):
            return ConfigurationError, (
                f"these storage options do not match this protocol{self._misfit(error)}; check their names"
            )
        return super().failure(error)

    def _misfit(self, error: TypeError) -> str:
        """Return the names of options that an error mentions, but never a value."""
        named = sorted({name for name in option_names(self._connection.options) if f"'{name}'" in str(error)})
        return f": it has no {', '.join(named)}" if named else ""

    def redacted(self, text: str) -> str:
        return super().redacted(self._connection.secrets.hide(text, self.url))


class BucketBackend(RemoteBackend):
    """A store with asynchronous requests: many can be in flight without a thread for each."""

    @abstractmethod
    async def _send(self, key: str, data: bytes) -> str:
        """Store at most 8 MiB in one atomic request, replacing a previous file. Return the new version."""

    @abstractmethod
    async def _range(self, key: str, start: int, end: int, version: str | None) -> Blob:
        """Read ``[start, end)`` in one request; with `version`, only of that version."""

    def start_put(self, key: str, data: bytes) -> Future[str]:
        return self._connection.start(self._send, key, data)

    def start_get(
        self, key: str, start: int, end: int | None, version: str | None = None, limit: int | None = None
    ) -> Future[Blob]:
        return self._connection.start(self._fetch, key, start, end, version, limit)

    def get(self, key: str, start: int, end: int | None, version: str | None = None, limit: int | None = None) -> Blob:
        return self._connection.run(self._fetch, key, start, end, version, limit)

    async def _fetch(
        self, key: str, start: int, end: int | None, version: str | None = None, limit: int | None = None
    ) -> Blob:
        """Read a range. Without an end, the first part reports the size, and the others are read four at a time."""
        if end is not None:
            return await self._range(key, start, end, version)
        first = await self._range(key, start, start + PART, version)
        if limit is not None:
            limits.check_size(self.url, key, first.size - start, limit)
        reached = start + len(first.data)
        if reached >= first.size:
            return first
        whole = io.BytesIO()  # getvalue() makes no copy
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
    """Return a URL with its credentials redacted, as `notata._base.secrets.shown_url` does.

    Raises:
        ConfigurationError: The URL is invalid.
    """
    try:
        return shown_url(url)
    except ValueError as error:
        raise ConfigurationError(f"base_dir is not a valid URL: {error}") from None


def _resolved(fs: object) -> Iterator[str]:
    """Yield the credentials that botocore or google-auth have found for a file system so far."""
    session = getattr(fs, "session", None)
    for holder in (
        getattr(session, "_credentials", None),
        getattr(getattr(fs, "credentials", None), "credentials", None),
    ):
        for name in _CREDENTIALS:
            value = vars(holder).get(name) if hasattr(holder, "__dict__") else None
            if isinstance(value, str):
                yield value
