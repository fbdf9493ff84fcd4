"""A store in front of another one that takes writes in the background, with the same verbs; it knows nothing of runs.

It is bounded, keeps the order of each key, and reads what it wrote. A write of up to 8 MiB is one item of the queue; a
larger one is a stream, whose parts are items, and whose end is one. Of each key at most one write is with the storage,
and at most one waits: a newer one takes its place. What is done to a key otherwise (reading, creating, appending,
deleting) waits for its writes first, and is done at once.
"""

from __future__ import annotations

import copy
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, cast

from notata import exits, keys
from notata.errors import BatchError, ConfigurationError, DeadlineError, NotataError, StorageError, UnreachableError
from notata.store import Blob, Entry, Store
from notata.store.local import UNSTORED
from notata.store.paths import RunPath

if TYPE_CHECKING:
    import io

    from typing_extensions import Buffer
    from upath import UPath

    from notata.store.appending import Appender, Tail
    from notata.store.files import Upload

__all__ = ["BackgroundStore"]

_OVERHEAD: Final = 1024  # bytes that an item costs besides its data
_AT_ONCE: Final = 32  # items with the storage; 64 connections are there (store/s3.py)
_STREAMS: Final = 3  # parts of streams with the storage
_NAMED: Final = 5  # lost keys that a message names
_THREAD: Final = "notata-background"
_STORAGE_THREAD: Final = "fsspecIO"
_own = logging.getLogger("notata")

Lost = Callable[[str, NotataError], None]
"""Told of each write that failed, in any thread; it must not wait for the storage."""


class BackgroundStore(Store):
    """A store whose writes are queued.

    `write`, ``open("w")`` and what is made of them return once the value is in the queue; when it is full, once there
    is room. A value that fits into no queue is written at once. Everything else waits for the writes of its keys.

    A write that fails is *lost* until its key is stored after all. The next write raises what is lost, once.

    Safe to use from many threads; a forked child begins with an empty queue. It pickles as the store behind it.

    Args:
        real: The store behind it.
        max_pending: Bytes that may be on their way, 1 KiB for each item included.
        check: Called before a write is begun; what it raises is why the write fails.
        lost: Told of each write that failed.

    >>> from notata.store import open_store
    >>> store = BackgroundStore(open_store("memory://background"), 2**20)
    >>> store.write("a.txt", b"1")
    >>> store.read("a.txt")
    b'1'
    """

    def __init__(
        self,
        real: Store,
        max_pending: int,
        *,
        check: Callable[[], None] = lambda: None,
        lost: Lost = lambda key, error: None,
    ) -> None:
        if isinstance(max_pending, bool) or not isinstance(max_pending, int) or max_pending <= 0:
            raise ConfigurationError(f"max_pending is a number of bytes, not {max_pending!r}")
        super().__init__(real.url)
        self._real = real
        self._folder = ""  # below the store that the queue belongs to
        self._queue = _Queue(real, max_pending, check, lost)
        self.folders, self.near, self.shared = real.folders, real.near, real.shared
        self.swaps, self.sized = real.swaps, real.sized
        self.queues, self.progress = True, real.progress

    def __copy__(self) -> BackgroundStore:
        other = object.__new__(type(self))
        other.__dict__ = copy.copy(self.__dict__)
        return other

    def __reduce__(self) -> tuple[Any, ...]:
        return _itself, (self._real,)

    def _enter(self, folder: str) -> None:
        self._real = self._real.below(folder)
        self._folder = keys.join(self._folder, folder)

    def _full(self, key: str) -> str:
        return keys.join(self._folder, key)

    # -- what waits ----------------------------------------------------------------------------------------

    def settle(self, timeout: float | None = None) -> None:
        """Wait until what is pending by now is stored or lost.

        Raises:
            DeadlineError: It takes longer than `timeout` seconds. What waits goes on waiting.
        """
        self._queue.settle(timeout)

    def write_through(self) -> None:
        """From now on have every write be stored when its call returns."""
        self._queue.write_through()

    def lost(self, *, again: bool = False) -> BatchError | None:
        """What is lost and was not told yet, or with `again` all that is; it counts as told then.

        Returns:
            One error for each key; None if nothing is.
        """
        return self._queue.lost(again=again)

    def arrive(self, key: str) -> None:
        """Wait for the writes to a key and to all keys below it."""
        self._queue.wait_below(self._full(key))

    # -- write ---------------------------------------------------------------------------------------------

    def _put(self, key: str, data: bytes, match: str | None) -> str:
        full = self._full(key)
        if match is None:
            self._queue.tell()
            if self._queue.put(_Value(self._real, key, full, data)):
                return ""  # who writes without a version to match does not ask for the new one
        self._queue.wait(full)
        version = self._real._put(key, data, match)
        self._queue.stored(full)
        return version

    def _begin(self, key: str, match: str | None) -> Upload:
        full = self._full(key)
        if match is None:
            self._queue.tell()
            return _Stream(self._queue, self._real, key, full)
        self._queue.wait(full)
        return self._real._begin(key, match)

    def _append(self, key: str, data: bytes, tail: Tail) -> Tail:
        self._queue.wait(self._full(key))
        return self._real._append(key, data, tail)

    def appender(self, key: str, *, new: bool = False, end: bytes = b"") -> Appender:
        self._queue.wait(self._full(key))
        return self._real.appender(key, new=new, end=end)

    def start_write(self, key: str, data: bytes) -> Future[str]:
        self._queue.wait(self._full(key))
        return self._real.start_write(key, data)

    def write_many(self, files: Mapping[str, Buffer], *, callback: Any = None) -> None:
        if self._queue.is_through:
            super().write_many(files, callback=callback)
            return
        for key, data in files.items():
            self.write(key, data)
            if callback is not None:
                callback.relative_update(1)

    def _delete(self, names: dict[str, str | None]) -> dict[str, Exception]:
        for name, version in names.items():
            full = self._full(name)
            if version is None:
                self._queue.cancel(full)
            self._queue.wait(full)
        failures = self._real._delete(names)
        for name in names.keys() - failures.keys():
            self._queue.stored(self._full(name))
        return failures

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        if not isinstance(self._real.place(), Path):
            with super().local(key) as path:
                yield path
            return
        with self._real.local(key) as path:  # on a disk it is a rename
            yield path
            self._queue.wait(self._full(key))
        self._queue.stored(self._full(key))

    # -- read ----------------------------------------------------------------------------------------------

    def _get(self, key: str, start: int, end: int | None, version: str | None) -> Blob:
        self._queue.wait(self._full(key))
        return self._real._get(key, start, end, version)

    def start_fetch(self, key: str, start: int = 0, end: int | None = None) -> Future[Blob]:
        self._queue.wait(self._full(key))
        return self._real.start_fetch(key, start, end)

    def _open_read(self, key: str) -> io.BufferedReader | io.BytesIO:
        self._queue.wait(self._full(key))
        return self._real._open_read(key)

    def _stream(self, key: str) -> IO[bytes]:
        self._queue.wait(self._full(key))
        return self._real._stream(key)

    def _stat(self, key: str) -> Entry:
        self._queue.wait(self._full(key))
        return self._real._stat(key)

    def _list(self, folder: str) -> Iterator[Entry]:
        self.arrive(folder)
        yield from self._real._list(folder)

    def irregular(self) -> list[str]:
        self.arrive("")
        return self._real.irregular()

    # -- paths and errors are the real store's -------------------------------------------------------------

    def _path(self, key: str) -> UPath:
        path = self._real._path(key)
        return cast("UPath", _WaitingPath.before(self, path)) if isinstance(path, RunPath) else path

    def _make_parents(self, key: str) -> None:
        self._real._make_parents(key)

    def filesystem(self) -> Any:
        return self._real.filesystem()

    def redacted(self, text: str) -> str:
        return self._real.redacted(text)

    def _failure(self, error: Exception) -> tuple[type[NotataError], str]:
        return self._real._failure(error)

    def _cause(self, error: Exception) -> Exception | None:
        return self._real._cause(error)


def _itself(store: Store) -> Store:
    return store


class _Item:
    """A write to one key.

    Attributes:
        store: The store behind, and `name` what it calls the key.
        key: Relative to the store that the queue belongs to.
        cost: Bytes that it takes of the queue.
        since: The number of the oldest write that it stands for, itself or one that it took the place of.
        by: The thread that is about to begin it.
    """

    cost = _OVERHEAD

    def __init__(self, store: Store, name: str, key: str) -> None:
        self.store, self.name, self.key = store, name, key
        self.since = self.by = 0

    def begin(self, queue: _Queue) -> None:
        raise NotImplementedError

    def failed(self, error: BaseException) -> NotataError:
        """An error of ours that says why it was not stored."""
        if isinstance(error, Exception):
            ours = self.store._translated(error, "write", self.name)
            if ours.key == self.name:
                return ours
        shown = self.store._shown(self.name)
        ours = StorageError(f"cannot write {shown}: {str(error) or repr(error)}", url=self.store.url, key=self.name)
        ours.__cause__ = error
        return ours


class _Value(_Item):
    """A write that is one request."""

    def __init__(self, store: Store, name: str, key: str, data: bytes) -> None:
        super().__init__(store, name, key)
        self.data = data
        self.cost = len(data) + _OVERHEAD

    def begin(self, queue: _Queue) -> None:
        queue.check()
        self.store.start_write(self.name, self.data).add_done_callback(partial(self._done, queue))

    def _done(self, queue: _Queue, future: Future[str]) -> None:
        try:
            error = future.exception()
        except CancelledError as cancelled:
            error = cancelled
        queue.finished(self, error)


_PART, _COMMIT, _ABORT = "part", "commit", "abort"


class _Stream(_Item):
    """An upload in parts, which the queue's threads take to the storage one after the other.

    Attributes:
        steps: What they are to do: a kind, a part, what it costs.
        at_work: What the step that one of them is doing costs; None while none is.
        over: Whether its writer is through with it.
        error: Why it failed.
    """

    def __init__(self, queue: _Queue, store: Store, name: str, key: str) -> None:
        super().__init__(store, name, key)
        self._queue = queue
        self._pid = os.getpid()
        self.upload: Upload | None = None
        self.steps: deque[tuple[str, bytes, int]] = deque()
        self.at_work: int | None = None
        self.over = False
        self.error: NotataError | None = None

    def write(self, part: bytes) -> None:
        self._check()
        self._queue.give(self, part)

    def commit(self) -> str:
        self._check()
        self._queue.commit(self)
        return ""

    def abort(self) -> None:
        if os.getpid() == self._pid:
            self._queue.abort(self)

    def _check(self) -> None:
        """Tell the writer of a failure."""
        if os.getpid() != self._pid:
            raise StorageError(f"{self.store._shown(self.name)} was begun by the parent process", key=self.name)
        if self.error is not None:
            self._queue.lose(self, self.error)
            raise self.error

    def begin(self, queue: _Queue) -> None:
        """Its turn has come: its last step may be done."""
        if self.error is not None:
            queue.finished(self, self.error)
        else:
            queue.step(self, _COMMIT)

    def take(self, kind: str, part: bytes) -> None:
        """Do a step."""
        if kind == _ABORT:
            upload, self.upload = self.upload, None
            if upload is not None:
                upload.abort()
            return
        if self.upload is None:
            self._queue.check()
            self.upload = self.store._begin(self.name, None)
        if kind == _PART:
            self.upload.write(part)
        else:
            self.upload.commit()


class _Slot:
    """The writes of one key: one with the storage, and the newest."""

    __slots__ = ("next", "running")

    def __init__(self) -> None:
        self.running: _Item | None = None
        self.next: _Item | None = None

    @property
    def items(self) -> list[_Item]:
        return [item for item in (self.running, self.next) if item is not None]


class _Queue:
    """What is pending, in which order it goes, and what is lost.

    Its lock is held for bookkeeping only, never while the storage is asked. It is reentrant: a signal handler or a
    collected file object may come in between.
    """

    def __init__(self, store: Store, most: int, check: Callable[[], None], lost: Lost) -> None:
        self._url = store.url
        self._near = store.near
        root = store.place() if store.folders else None
        self._root = str(root) if isinstance(root, Path) else None
        self._most = most
        self._say = lost
        self.check = check
        self._lost: dict[str, tuple[NotataError, bool]] = {}
        self.is_through = False
        self._begin()

    def _begin(self) -> None:
        """Start with nothing: at first, and in a forked child, whose parent keeps what waits."""
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._here = threading.local()
        self._slots: dict[str, _Slot] = {}
        self._within: dict[str, int] = {}  # how many slots there are at or below a key
        self._ready: deque[str] = deque()  # keys of which one may begin
        self._busy: set[_Stream] = set()  # that have steps
        self._stepping: set[_Stream] = set()  # of which one is being done
        self._streams: deque[_Stream] = deque()  # of which one may be done
        self._line: list[int] = []  # threads that wait for room
        self._count = 0
        self._bytes = 0
        self._in_flight = 0
        self._unanswered = 0  # writes in a row

    def _mine(self) -> None:
        if os.getpid() != self._pid:
            self._begin()
            self._lost = {}

    # -- in ------------------------------------------------------------------------------------------------

    def put(self, value: _Value) -> bool:
        """Queue a value, as soon as there is room. False if it is to be written at once."""
        self._mine()
        if self.is_through or value.cost > self._most:
            return False
        self._enter(value.cost, value.key, partial(self._add, value))
        self._pump()
        return True

    def give(self, stream: _Stream, part: bytes) -> None:
        """Queue a part, as soon as there is room."""
        cost = len(part) + _OVERHEAD
        if self.is_through or cost > self._most:
            self._at_once(stream, _PART, part)
        else:
            self._enter(cost, None, partial(self._add_step, stream, _PART, part, cost))
            self._launch()

    def commit(self, stream: _Stream) -> None:
        """Queue the end of a stream: it is the newest write to its key from now on."""
        if self.is_through or stream.cost > self._most:
            self._at_once(stream, _COMMIT)
            self.stored(stream.key)
            stream.over = True
        else:
            self._enter(stream.cost, stream.key, partial(self._add, stream))
            self._pump()

    def abort(self, stream: _Stream) -> None:
        """Give a stream up, unless its end is queued. It does not wait."""
        with self._changed:
            if not stream.over:
                self._give_up(stream)
        self._launch()

    def step(self, stream: _Stream, kind: str) -> None:
        with self._changed:
            self._add_step(stream, kind)
        self._launch()

    def _at_once(self, stream: _Stream, kind: str, part: bytes = b"") -> None:
        """Do a step in the caller's thread, after those that wait."""
        self._wait_for(lambda: not stream.steps and stream.at_work is None)
        if stream.error is not None:
            self.lose(stream, stream.error)
            raise stream.error
        if kind == _COMMIT:
            self.wait(stream.key)
        stream.take(kind, part)

    def _enter(self, cost: int, key: str | None, add: Callable[[], None]) -> None:
        """Add something when there is room for so many bytes, after those who came before."""
        me = threading.get_ident()
        with self._changed:
            if not self._line and self._fits(cost, key):
                add()
                return
        self._may_wait()
        try:
            self._line.append(me)  # twice where a signal handler writes while this very thread waits
            while True:
                self._pump()
                with self._changed:
                    if self._line[0] == me and self._fits(cost, key):
                        add()
                        return
                    self._changed.wait()
        finally:
            with self._changed:
                if me in self._line:
                    self._line.remove(me)
                self._changed.notify_all()

    def _fits(self, cost: int, key: str | None) -> bool:
        slot = self._slots.get(key) if key is not None else None
        replaced = slot.next.cost if slot is not None and slot.next is not None else 0
        return self._bytes - replaced + cost <= self._most

    def _add(self, item: _Item) -> None:
        """Make it the newest write of its key. Holds the lock."""
        old: _Item | None = None
        try:
            self._awake()
            self._count += 1
            item.since = self._count
            slot = self._slots.get(item.key)
            if slot is None:
                slot = self._slots[item.key] = _Slot()
                self._note(item.key, 1)
            old = slot.next
            if old is not None:
                item.since = old.since  # who waits for the old one waits for this
            slot.next = item
            more = item.cost - (old.cost if old is not None else 0)
            self._bytes += more
            if slot.running is None:
                self._ready.append(item.key)
            if isinstance(item, _Stream):
                item.over = True
        except BaseException:  # an interrupt came between two steps
            self._mend()
            raise
        if isinstance(old, _Stream):
            self._give_up(old)

    def _add_step(self, stream: _Stream, kind: str, part: bytes = b"", cost: int = 0) -> None:
        """Queue a step of a stream. Holds the lock."""
        if stream.error is not None and kind == _PART:
            return  # it is told at its next call
        try:
            self._awake()
            self._busy.add(stream)
            stream.steps.append((kind, part, cost))
            self._bytes += cost
            if stream.at_work is None and len(stream.steps) == 1:
                self._streams.append(stream)
        except BaseException:
            self._mend()
            raise

    def _give_up(self, stream: _Stream) -> None:
        """Have nothing stay of a stream. Holds the lock."""
        stream.over = True
        self._clear(stream)
        if stream.upload is not None or stream.at_work is not None:
            self._add_step(stream, _ABORT)
        elif stream in self._busy:
            self._busy.discard(stream)
        self._changed.notify_all()

    def _clear(self, stream: _Stream) -> None:
        freed = sum(cost for _, _, cost in stream.steps)
        stream.steps.clear()
        self._bytes -= freed
        with suppress(ValueError):
            self._streams.remove(stream)

    def _awake(self) -> None:
        exits.at_exit(self._finish)
        exits.used()

    def _mend(self) -> None:
        """Count anew what an interrupt may have left half counted, and take back what it kept from beginning."""
        me = threading.get_ident()
        for key, slot in list(self._slots.items()):
            late = slot.running
            if late is not None and late.by == me:
                slot.running, late.by = None, 0
                slot.next = slot.next or late
                slot.next.since = late.since
            if not slot.items:
                del self._slots[key]
        running = [slot.running for slot in self._slots.values()]
        self._in_flight = sum(isinstance(item, _Value) for item in running)
        self._ready = deque(key for key, slot in self._slots.items() if slot.running is None)
        self._busy = {stream for stream in self._busy if stream.steps or stream.at_work is not None}
        self._streams = deque(stream for stream in self._busy if stream.at_work is None)
        self._bytes = sum(item.cost for slot in self._slots.values() for item in slot.items)
        self._bytes += sum(cost for stream in self._busy for _, _, cost in stream.steps)
        self._bytes += sum(stream.at_work or 0 for stream in self._busy)
        for key in list(self._within):
            self._note(key, -self._within[key], alone=True)
        for key in self._slots:
            self._note(key, 1)
        self._changed.notify_all()

    def _note(self, key: str, more: int, *, alone: bool = False) -> None:
        """Count a key in the folders that it is in; on a disk, for path objects too."""
        names = [key] if alone else ["", key, *_folders(key)]
        for name in names:
            count = self._within.get(name, 0) + more
            path = None if self._root is None else os.path.join(self._root, *name.split("/")) if name else self._root
            if count:
                self._within[name] = count
                if path is not None:
                    UNSTORED[path] = partial(self.wait_below, name)
            else:
                self._within.pop(name, None)
                if path is not None:
                    UNSTORED.pop(path, None)

    # -- out -----------------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Begin what may begin."""
        try:
            while (item := self._next()) is not None:
                self._start(item)
        except BaseException:
            with self._changed:
                self._mend()
            raise
        self._launch()

    def _next(self) -> _Item | None:
        with self._changed:
            while self._ready and self._in_flight < _AT_ONCE:
                slot = self._slots.get(self._ready.popleft())
                if slot is None or slot.running is not None or slot.next is None:
                    continue
                item = slot.next
                item.by = threading.get_ident()
                slot.running = item
                slot.next = None
                self._in_flight += isinstance(item, _Value)
                return item
        return None

    def _start(self, item: _Item) -> None:
        before = getattr(self._here, "starting", False)
        self._here.starting = True
        try:
            if self.is_through and self._unanswered >= _AT_ONCE:
                raise UnreachableError(
                    f"cannot write {item.store._shown(item.name)}: not tried any more, as the storage did not answer",
                    url=item.store.url,
                    key=item.name,
                )
            item.begin(self)
            item.by = 0
        except Exception as error:
            self.finished(item, error)
        finally:
            self._here.starting = before

    def finished(self, item: _Item, error: BaseException | None) -> None:
        """A write is stored or lost. Called in any thread, and never waits."""
        slot = self._slots.get(item.key)
        if slot is None or slot.running is not item:
            return
        failure = None if error is None else item.failed(error)
        if failure is not None:
            self._tell(item.key, failure)
        with self._changed:
            if slot.running is not item:
                return
            slot.running, item.by = None, 0
            self._in_flight -= isinstance(item, _Value)
            self._bytes -= item.cost
            if failure is None:
                self._lost.pop(item.key, None)
                self._unanswered = 0
            else:
                self._lost[item.key] = (failure, False)
                self._unanswered += isinstance(failure, UnreachableError | DeadlineError)
            if slot.next is not None:
                self._ready.append(item.key)
            else:
                del self._slots[item.key]
                self._note(item.key, -1)
            self._rest()
        if not getattr(self._here, "starting", False):  # else who begins goes on with the next one
            self._pump()

    def _rest(self) -> None:
        """Tell those who wait. Holds the lock."""
        if not (self._slots or self._busy):
            exits.forget(self._finish)
        self._changed.notify_all()

    def _tell(self, key: str, failure: NotataError) -> None:
        with suppress(Exception):  # a handler of somebody else's must not end this thread
            self._say(key, failure)

    # -- streams -------------------------------------------------------------------------------------------

    def _launch(self) -> None:
        """Have a thread do steps, if some can be done."""
        while self._streams and len(self._stepping) < _STREAMS:
            try:
                threading.Thread(target=self._work, name=_THREAD, daemon=True).start()
            except RuntimeError:  # the interpreter is ending, and starts none
                if _in_storage_thread() and not self._near:
                    with self._changed:  # who waits does it
                        self._changed.notify_all()
                    return
                self._work()
            else:
                return

    def _work(self) -> None:
        """Do steps of streams, until none can be done or enough others do."""
        while True:
            with self._changed:
                if not self._streams or len(self._stepping) >= _STREAMS:
                    return
                stream = self._streams.popleft()
                if not stream.steps:
                    continue
                kind, part, stream.at_work = stream.steps.popleft()
                self._stepping.add(stream)
            error: BaseException | None = None
            try:
                stream.take(kind, part)
            except BaseException as raised:
                error = raised
            del part
            self._taken(stream, kind, error)
            if error is not None and not isinstance(error, Exception) and _in_main_thread():
                raise error

    def _taken(self, stream: _Stream, kind: str, error: BaseException | None) -> None:
        """A step is done."""
        if error is not None and kind == _ABORT:
            _own.warning("notata: could not clean up after %s: %s", stream.key, stream.failed(error))
        with self._changed:
            self._stepping.discard(stream)
            self._bytes -= stream.at_work or 0
            stream.at_work = None
            if error is not None and kind != _ABORT:
                stream.error = stream.failed(error)
                self._clear(stream)
                if stream.upload is not None:
                    self._add_step(stream, _ABORT)
            elif stream.steps:
                self._streams.append(stream)
            if not stream.steps:
                self._busy.discard(stream)
            slot = self._slots.get(stream.key)
            ended = slot is not None and slot.running is stream and (kind == _COMMIT or stream.error is not None)
            self._rest()
        if ended:
            self.finished(stream, stream.error)

    # -- wait ----------------------------------------------------------------------------------------------

    def wait(self, key: str) -> None:
        """Wait until the writes to a key that are pending by now are stored or lost."""
        if key in self._slots:
            self._mine()
            self._wait_for(partial(self._settled, key, self._count))

    def wait_below(self, folder: str) -> None:
        """As `wait`, for a key and all below it."""
        if folder in self._within:
            self._mine()
            self._wait_below(folder)

    def _wait_below(self, folder: str, until: float | None = None) -> None:
        with self._changed:
            upto = self._count
            names = [key for key in self._slots if not folder or f"{key}/".startswith(f"{folder}/")]
        for key in names:
            self._wait_for(partial(self._settled, key, upto), until)

    def settle(self, timeout: float | None = None) -> None:
        self._mine()
        until = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            given_up = [stream for stream in self._busy if stream.over or stream.error is not None]
        try:
            self._wait_below("", until)
            for stream in given_up:
                self._wait_for(partial(self._left, stream), until)
        except TimeoutError:
            raise DeadlineError(
                f"{len(self._slots)} writes to {self._url} were not stored within {timeout} s; they go on waiting",
                url=self._url,
            ) from None

    def _settled(self, key: str, upto: int) -> bool:
        slot = self._slots.get(key)
        return slot is None or not (items := slot.items) or items[0].since > upto

    def _left(self, stream: _Stream) -> bool:
        return stream not in self._busy

    def _wait_for(self, done: Callable[[], bool], until: float | None = None) -> None:
        with self._changed:  # not before who has just finished has told what is lost
            if done():
                return
        self._may_wait()
        while True:
            self._pump()
            with self._changed:
                if done():
                    return
                left = None if until is None else until - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError
                self._changed.wait(left)

    def _may_wait(self) -> None:
        """Refuse to wait in the thread that is waited for."""
        if _in_storage_thread() and not self._near:
            raise StorageError(
                "the storage cannot be waited for on fsspec's own thread; use another one, or a larger max_pending",
                url=self._url,
            )

    def cancel(self, key: str) -> None:
        """Forget what is pending for a key and has not begun."""
        self._mine()
        with self._changed:
            slot = self._slots.get(key)
            item = None if slot is None else slot.next
            if slot is None or item is None:
                return
            slot.next = None
            self._bytes -= item.cost
            if slot.running is None:
                del self._slots[key]
                self._note(key, -1)
            if isinstance(item, _Stream):
                self._give_up(item)
            self._rest()
        self._launch()

    def write_through(self) -> None:
        self._mine()
        if not self.is_through:
            self.is_through, self._unanswered = True, 0

    def _finish(self) -> None:
        """At exit."""
        if os.getpid() == self._pid:
            self.write_through()
            self.settle()
            self.tell()

    # -- what is lost --------------------------------------------------------------------------------------

    def lose(self, item: _Item, error: NotataError) -> None:
        """A write failed, and its writer is told so just now."""
        with self._changed:
            known = self._lost.get(item.key)
            self._lost[item.key] = (error, True)
        if known is None or known[0] is not error:
            self._tell(item.key, error)

    def stored(self, key: str) -> None:
        """A key is as was wanted, however it came to be."""
        self._mine()
        if self._lost:
            with self._changed:
                self._lost.pop(key, None)

    def tell(self) -> None:
        """Raise what is lost and was not told yet."""
        self._mine()
        if self._lost and (group := self.lost()) is not None:
            raise group

    def lost(self, *, again: bool = False) -> BatchError | None:
        self._mine()
        with self._changed:
            chosen = {key: error for key, (error, told) in self._lost.items() if again or not told}
            self._lost |= {key: (error, True) for key, error in chosen.items()}
        if not chosen:
            return None
        named = ", ".join(list(chosen)[:_NAMED]) + (f" and {len(chosen) - _NAMED} more" if len(chosen) > _NAMED else "")
        what = "1 write was" if len(chosen) == 1 else f"{len(chosen)} writes were"
        return BatchError(f"{what} lost in {self._url}: {named}", list(chosen.values()))


def _folders(key: str) -> Iterator[str]:
    """The folders that a key is in."""
    at = key.rfind("/")
    while at > 0:
        yield key[:at]
        at = key.rfind("/", 0, at)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _in_storage_thread() -> bool:
    return threading.current_thread().name == _STORAGE_THREAD


class _WaitingPath(RunPath):
    """A path in memory or in a bucket whose looks at the storage wait for what is pending at or below it."""

    __slots__ = ()

    @classmethod
    def before(cls, store: BackgroundStore, path: RunPath) -> _WaitingPath:
        return cls._bound(store, path._where, path._made)

    def _arrive(self) -> None:
        cast("BackgroundStore", self._store).arrive(self._key)

    @property
    def fs(self) -> Any:
        self._arrive()
        return super().fs

    @property
    def storage_options(self) -> Mapping[str, Any]:
        self._arrive()  # who asks for them goes to the storage by another road
        return super().storage_options

    @property
    def info(self) -> Any:
        self._arrive()
        return super().info


def _looking(name: str) -> Callable[..., Any]:
    """The method of a `RunPath`, after a wait."""
    method = getattr(RunPath, name)

    def look(self: _WaitingPath, *arguments: Any, **options: Any) -> Any:
        self._arrive()
        return method(self, *arguments, **options)

    look.__name__, look.__doc__ = name, method.__doc__
    return look


_LOOKS: Final[Iterable[str]] = (
    *("copy", "copy_into", "exists", "is_dir", "is_file", "iterdir", "lstat", "move", "move_into", "rmdir", "samefile"),
    *("stat", "walk"),
)
for _name in _LOOKS:
    setattr(_WaitingPath, _name, _looking(_name))
