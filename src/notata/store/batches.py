"""Batches of files: reads, writes, copies and deletions of a store, with the error of each key.

This module limits how many operations run at once; the store does each of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import IO, TYPE_CHECKING, Any, Final, TypeVar

from notata._base.threads import Event, Pool
from notata.errors import BatchError
from notata.store.entries import Blob, Entry
from notata.store.files import PART
from notata.store.in_flight import AT_ONCE, InFlight, Tally, started_in_thread, then

if TYPE_CHECKING:
    from fsspec.callbacks import Callback

    from notata.store.store import Store

__all__ = ["copy", "fetch", "remove", "write"]

_SMALL: Final = 2**20  # bytes; the assumed size of a file that was not listed
_STREAMS: Final = 2  # large values at once, each with about 80 MiB: parts in flight and copies in the network library

T = TypeVar("T")


def fetch(
    store: Store,
    ranges: Mapping[str, tuple[int, int | None]],
    *,
    callback: Callback | None = None,
    without: tuple[type[Exception], ...] = (),
) -> dict[str, Blob]:
    """Fetch ranges of many files, as `Store.fetch` does; leave out files that fail with an error in `without`."""
    sizes = {name: _SMALL if end is None else end - start for name, (start, end) in ranges.items()}

    def start(name: str) -> Future[Blob]:
        return store.start_fetch(name, *ranges[name])

    return _each(store, start, sizes, "reads", callback=callback, without=without)


def write(store: Store, files: Mapping[str, memoryview], callback: Callback | None) -> None:
    """Store many values."""
    with _threads(_STREAMS) as streams:

        def start(name: str) -> Future[Any]:
            if files[name].nbytes > PART:
                return streams(store.write, name, files[name])
            return store.start_write(name, bytes(files[name]))

        sizes = {name: view.nbytes for name, view in files.items()}
        _each(store, start, sizes, "writes", callback=callback)


def copy(store: Store, files: Mapping[str, Entry], source: Store, callback: Callback | None) -> None:
    """Copy files of another store to keys of this one."""
    tally = Tally(callback, sum(max(0, entry.size) for entry in files.values()))
    stop = Event()
    if len(files) == 1:
        _stream(store, *next(iter(files.items())), source, stop, tally)
        return
    store.filesystem()  # connected by this thread: another one may be the loop's own
    with _threads(AT_ONCE if store.queues else _STREAMS) as streams:

        def start(name: str) -> Future[Any]:
            if not store.queues and source.sized and files[name].size <= _SMALL:
                return then(source.start_fetch(files[name].key, 0, _SMALL), partial(put, name))
            return streams(_stream, store, name, files[name], source, stop, tally)

        def put(name: str, found: Blob) -> Future[Any]:
            if found.size != len(found.data):  # the file has grown or shrunk since
                return streams(_stream, store, name, files[name], source, stop, tally)
            tally.add(found.size)
            with store.keep_permissions(name, source, files[name].key):
                return store.start_write(name, found.data)

        sizes = {name: min(max(_SMALL, entry.size), PART) for name, entry in files.items()}
        _each(store, start, sizes, "copies", give_up=stop.set)


def _stream(store: Store, name: str, entry: Entry, source: Store, stop: Event, tally: Tally) -> None:
    """Copy one file in pieces, until `stop` is set."""
    guarded = source.guard("read", entry.key)  # the writer's errors are translated already
    kept = store.keep_permissions(name, source, entry.key)
    with guarded, kept, source.stream(entry.key) as reader, store.open(name, "wb") as writer:
        before = _state(reader)
        while part := reader.read(_SMALL):
            if stop.is_set():
                raise InterruptedError("the batch was interrupted in another copy")
            writer.write(part)
            tally.add(len(part))
        after = _state(reader)
        if before is not None and after is not None and _is_torn(before, after, writer.tell()):
            raise source.conflict(entry.key, "it changed while it was read; wait until its writer has ended")


def _state(reader: IO[bytes]) -> os.stat_result | None:
    """Return the disk's state of an open file; None for other storage, where a file is read as one version."""
    try:
        return os.fstat(reader.fileno())
    except (AttributeError, OSError):
        return None


def _is_torn(before: os.stat_result, after: os.stat_result, count: int) -> bool:
    """Check whether the bytes read were never the file's content. A file that only grows is not torn."""
    if after.st_size < max(before.st_size, count):
        return True
    return after.st_size == before.st_size and after.st_mtime_ns != before.st_mtime_ns


def remove(start: Callable[[str], Future[Any]], names: Iterable[str]) -> dict[str, Exception]:
    """Implement `Backend.delete` for backends with one deletion per request. Return failures by name."""
    flying = InFlight[str, Any]()
    with flying.until_landed():
        for name in names:
            flying.begin(name, 0, start, name)
    return {name: error for name, error in flying.errors.items() if not isinstance(error, FileNotFoundError)}


def _each(
    store: Store,
    start: Callable[[str], Future[T]],
    sizes: Mapping[str, int],
    what: str,
    *,
    callback: Callback | None = None,
    without: tuple[type[Exception], ...] = (),
    give_up: Callable[[], object] = bool,
) -> dict[str, T]:
    """Start a call for every name, and return the results in that order.

    Raises:
        BatchError: Some calls failed, with errors that are not in `without`.
    """
    flying = InFlight[str, T](callback=callback)
    if callback is not None:
        callback.set_size(len(sizes))
    with flying.until_landed(give_up):
        for name, size in sizes.items():
            flying.begin(name, size, start, name)
    failed = [flying.errors[name] for name in sizes if name in flying.errors]
    if errors := [error for error in failed if not isinstance(error, without)]:
        raise BatchError(f"{len(errors)} of {len(sizes)} {what} failed in {store.url}", errors)
    return {name: flying.results[name] for name in sizes if name in flying.results}


@contextmanager
def _threads(count: int) -> Iterator[Callable[..., Future[Any]]]:
    """Yield a function that runs long calls in a few threads, or in this thread if no thread can start any more."""
    with Pool(count, "notata-batch") as pool:
        yield partial(started_in_thread, pool=pool)
