"""Record size, SHA-256 and version of each file during writes, in a wrapper around a backend. No more requests."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from notata._base import keys, limits
from notata.errors import ConflictError
from notata.manifest.document import Receipt, is_receipted
from notata.store.backend import Backend
from notata.store.files import PART
from notata.store.in_flight import failure_of, started_in_thread
from notata.store.wrapper import Wrapper

if TYPE_CHECKING:
    from notata.store.appending import Tail
    from notata.store.backend import Staging
    from notata.store.files import Upload

__all__ = ["FileRecords", "HashingBackend", "RecordStats"]

_DIGEST: Final = 32  # bytes of a SHA-256
_SIZE: Final = 8  # bytes of an encoded size
_GROWING: Final = 64  # maximum number of stored hash states, some 500 bytes each
_PARALLEL: Final = 2**20  # bytes from which another thread hashes a part during its write
_KEPT: Final = frozenset((keys.PARAMS_YAML, keys.PARAMS_JSON, keys.METRICS))
"""Files whose content is kept in memory if it is small, as the end of the run repeats it in metadata.json."""

_REFUSED: Final = (ConflictError, FileExistsError, FileNotFoundError)
"""Errors after which a write certainly had no effect. After any other error, this is unknown."""

_forks = 0
"""Number of forks of this process, as a child can write files of its parent's run."""


def _count_fork() -> None:
    global _forks  # noqa: PLW0603
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_parent=_count_fork)


class RecordStats(NamedTuple):
    """Numbers of hashing states and of writes at one moment.

    Attributes:
        growing: Number of files whose hash can be continued by an append.
        in_progress: Number of keys with a write in progress.
    """

    growing: int
    in_progress: int


class FileRecords:
    """The size, hash and version of each stored file, in some 250 bytes per file.

    Safe to use from many threads. A forked child continues with a separate copy. There is no lock: each change is one
    operation of a dictionary or a list, so neither a signal handler nor another thread waits for an interrupted call.

    Attributes:
        changes: Number of files stored or removed so far, without lines of logs.
        on_change: Called after each change.
    """

    def __init__(self) -> None:
        self._noted: dict[str, bytes] = {}  # size, SHA-256 and version
        self._growing: dict[str, tuple[Any, int, str]] = {}  # hash state, size and version
        self._in_progress: dict[str, list[None]] = {}  # one element for each write in progress
        self._kept: dict[str, tuple[bytes, str]] = {}  # content and version
        self._others: set[str] = set()  # files of `_KEPT` that other code may have written
        self._forks = _forks
        self._is_incomplete = False
        self.changes = 0
        self.on_change: Callable[[], object] = bool

    def stats(self) -> RecordStats:
        """Return how many files and writes the records follow."""
        return RecordStats(len(self._growing), len(self._in_progress))

    @property
    def incomplete(self) -> bool:
        """True if files can differ from the records: after a failed write, or if other processes can have written."""
        return self._is_incomplete or self._forks != _forks

    def mark_incomplete(self) -> None:
        """Record that stored files can differ from the records."""
        self._is_incomplete = True
        self.changed()

    def receipts(self) -> dict[str, Receipt]:
        """Return the current receipts."""
        growing = self._growing.copy()  # first, as `_finish_growing` moves files from here to `_noted`
        found = {key: _unpacked(packed) for key, packed in self._noted.copy().items()}
        for key, (state, size, version) in growing.items():
            found[key] = Receipt(size, state.digest(), "" if keys.is_growing(key) else version)
        return found

    def content(self, key: str) -> tuple[bytes, str] | None:
        """Return content and version of a file as this store wrote it last; None if it is unknown, or was not kept."""
        return self._kept.get(key)

    def is_by_others(self, key: str) -> bool:
        """Check whether other code in this process may have written a file whose content would be kept."""
        return key in self._others

    def receipt(self, key: str) -> Receipt | None:
        """Return the current receipt of one file."""
        grown = self._growing.get(key)
        if grown is not None:
            state, size, version = grown
            return Receipt(size, state.digest(), "" if keys.is_growing(key) else version)
        packed = self._noted.get(key)
        return None if packed is None else _unpacked(packed)

    def change_token(self, key: str) -> object:
        """Return an object that changes with each write to the key, to detect changes; None if there is no file."""
        return self._noted.get(key) or self._growing.get(key)

    # -- write ---------------------------------------------------------------------------------------------

    def begin(self, key: str) -> None:
        """Record the start of a write. If two writes to a file overlap, it is unknown which one came last."""
        in_progress = self._in_progress.setdefault(key, [])
        in_progress.append(None)
        if len(in_progress) > 1 or self._in_progress.get(key) is not in_progress:  # another write has just ended
            self._is_incomplete = True

    def end(self, key: str, error: BaseException | None = None) -> None:
        """Record the end of a write, successful or not."""
        with suppress(KeyError, IndexError):
            (in_progress := self._in_progress[key]).pop()
            if not in_progress and self._in_progress.pop(key):  # another write has just started
                self._is_incomplete = True
        if error is not None and not isinstance(error, _REFUSED):
            self.mark_incomplete()

    def note(self, key: str, size: int, digest: bytes, version: str, data: bytes | None = None) -> None:
        """Record a file that was stored as a whole; its content is `data`, if it is in memory."""
        if key in _KEPT:
            self._keep(key, data, version)
        self._noted[key] = size.to_bytes(_SIZE, "big") + digest + version.encode()
        self._growing.pop(key, None)
        self.changed()

    def _keep(self, key: str, data: bytes | None, version: str) -> None:
        """Keep a small content, or note that another one is there."""
        self._others.discard(key)
        if data is not None and len(data) <= limits.ROW_PARAMS:
            self._kept[key] = data, version
        else:
            self._kept.pop(key, None)

    def lose_content(self, key: str) -> None:
        """Record that the content of a file is unknown: other code can write it from now on, or it grew."""
        if key in _KEPT:
            self._kept.pop(key, None)
            self._others.add(key)
        self.changed()

    def forget(self, key: str) -> None:
        """Remove the record of a file that was deleted, or written without this store."""
        self._noted.pop(key, None)
        self._growing.pop(key, None)
        self._kept.pop(key, None)
        self.changed()

    def grow(self, key: str, data: bytes, before: Tail, after: Tail) -> None:
        """Record an append. If the hash of the previous bytes is unknown, the file has no hash."""
        known = self._growing.get(key)
        state = known[0].copy() if known is not None and known[1] == before.size else _hash_of(before)
        if state is not None:
            for start in range(0, len(data), PART):  # a slice, as the data may be on a disk
                state.update(data[start : start + PART])
        else:
            state = _hash_of(after)
        if state is not None:
            self._noted.pop(key, None)
            self._growing[key] = state, after.size, after.version or ""
            if len(growing := list(self._growing)) > _GROWING:
                self._finish_growing(growing[0])
        elif not keys.is_growing(key):
            self.forget(key)
            self._is_incomplete = True
        else:  # the beginning of a log never changes
            self._finish_growing(key)
        if not keys.is_growing(key):
            self.lose_content(key)

    def grow_failed(self, key: str, error: BaseException) -> None:
        """Record a failed append to a log or a series: if it took effect, a file without a record may exist."""
        if not isinstance(error, _REFUSED) and self.change_token(key) is None:
            self.mark_incomplete()

    def _finish_growing(self, key: str) -> None:
        """Keep only the digest of a file that grew, without the hash state to continue it."""
        if (grown := self._growing.get(key)) is not None:
            state, size, version = grown
            mark = b"" if keys.is_growing(key) else version.encode()
            self._noted[key] = size.to_bytes(_SIZE, "big") + state.digest() + mark
            self._growing.pop(key, None)

    def changed(self) -> None:
        """Count a change, and call `on_change`."""
        self.changes += 1
        self.on_change()


def _is_described(key: str) -> bool:
    """Check whether metadata.json describes a file at the end of the run: parameters, metrics and series."""
    rank, series = keys.series_name(key) or (None, "")
    return key in _KEPT or (rank is None and series != "")


def _unpacked(packed: bytes) -> Receipt:
    digest = packed[_SIZE : _SIZE + _DIGEST]
    return Receipt(int.from_bytes(packed[:_SIZE], "big"), digest, packed[_SIZE + _DIGEST :].decode())


def _hash_of(tail: Tail) -> Any:
    """Return the hash of a file whose whole content is known, else None."""
    if tail.size == 0:
        return sha256()
    if tail.content is None or len(tail.content) != tail.size:
        return None
    return sha256(tail.content)


class HashingBackend(Wrapper):
    """A wrapper around a backend that records size and hash of each stored file, without additional requests.

    Bytes are hashed before a write, large parts during the write. On storage without round trips, appends are not
    recorded, as the file can be read again.

    A forked child has a separate copy. Pickling returns the wrapped backend. `FileRecords.incomplete` is then True, as
    other processes can write.

    Attributes:
        records: The records of the stored files.

    Args:
        inner: The wrapped backend.
        every: Record every file; else only those that metadata.json describes at the end of the run.

    >>> from notata.store import Store, open_store
    >>> hashing = HashingBackend(open_store("memory://hashing").backend)
    >>> Store(hashing).write("a.txt", b"abc")
    >>> receipt = hashing.records.receipts()["a.txt"]
    >>> receipt.size, receipt.sha256.hex()[:8]
    (3, 'ba7816bf')
    """

    def __init__(self, inner: Backend, *, every: bool = True) -> None:
        super().__init__(inner)
        self.records = FileRecords()
        self._is_recorded: Callable[[str], bool] = is_receipted if every else _is_described

    def __reduce__(self) -> tuple[Any, ...]:
        self.records.mark_incomplete()
        return super().__reduce__()

    # -- write ---------------------------------------------------------------------------------------------

    def put(self, key: str, data: bytes, match: str | None) -> str:
        full = self.full(key)
        if not self._is_recorded(full):
            return self.inner.put(key, data, match)
        digest = sha256(data).digest()
        self.records.begin(full)
        try:
            version = self.inner.put(key, data, match)
            self.records.note(full, len(data), digest, version, data)
        except BaseException as error:  # an interrupt can come after the write
            self.records.end(full, error)
            raise
        self.records.end(full)
        return version

    def start_put(self, key: str, data: bytes) -> Future[str]:
        full = self.full(key)
        if not self._is_recorded(full):
            return self.inner.start_put(key, data)
        records, size, digest = self.records, len(data), sha256(data).digest()

        def stored(future: Future[str]) -> None:
            failed = failure_of(future)
            if failed is None:
                records.note(full, size, digest, future.result(), data)
            records.end(full, failed)

        records.begin(full)
        try:
            future = self.inner.start_put(key, data)
        except BaseException as error:
            records.end(full, error)
            raise
        future.add_done_callback(stored)  # the first callback, so that waiting callers see the record
        return future

    def begin_upload(self, key: str, match: str | None) -> Upload:
        upload, full = self.inner.begin_upload(key, match), self.full(key)
        return _HashedUpload(self.records, full, upload) if self._is_recorded(full) else upload

    def append(self, key: str, data: bytes, tail: Tail) -> Tail:
        full = self.full(key)
        if self.is_local:
            if not keys.is_growing(full) and self._is_recorded(full):
                self.records.forget(full)
                self.records.lose_content(full)
            return self.inner.append(key, data, tail)
        if not self._is_recorded(full):
            return self.inner.append(key, data, tail)
        if keys.is_growing(full):  # a log has one writer
            try:
                after = self.inner.append(key, data, tail)
                self.records.grow(full, data, tail, after)
            except BaseException as error:
                self.records.grow_failed(full, error)
                raise
            return after
        self.records.begin(full)
        try:
            after = self.inner.append(key, data, tail)
            self.records.grow(full, data, tail, after)
        except BaseException as error:
            self.records.end(full, error)
            raise
        self.records.end(full)
        return after

    def copies_from(self, source: Backend) -> bool:
        return False  # the bytes must pass this process to be hashed

    def delete(self, names: dict[str, str | None]) -> dict[str, Exception]:
        before = {name: self.records.change_token(self.full(name)) for name in names}
        try:
            failures = self.inner.delete(names)
        except BaseException:
            self.records.mark_incomplete()
            raise
        if failures or any(version and before[name] for name, version in names.items()):  # files may still exist
            self.records.mark_incomplete()
        for name in names.keys() - failures.keys():
            if self.records.change_token(self.full(name)) is before[name]:  # no write to this key since
                self.records.forget(self.full(name))
        return failures

    def stage(self, key: str) -> Staging | None:
        staging = self.inner.stage(key)
        return None if staging is None else _Unhashed(self.records, self.full(key), staging)

    def make_parents(self, key: str) -> None:
        self.inner.make_parents(key)
        if self.is_local:
            self.records.lose_content(self.full(key))  # other code writes to this path


class _Unhashed:
    """A file that another program writes on the disk. Its hash is not known, and is computed at the end."""

    def __init__(self, records: FileRecords, key: str, staging: Staging) -> None:
        self._records, self._key, self._staging = records, key, staging
        self.path, self.close = staging.path, staging.close

    def publish(self) -> None:
        self._staging.publish()
        self._records.forget(self._key)
        self._records.lose_content(self._key)


class _HashedUpload:
    """A streamed write whose parts are hashed."""

    __slots__ = ("_hash", "_key", "_open", "_records", "_size", "_upload")

    def __init__(self, records: FileRecords, key: str, upload: Upload) -> None:
        self._records, self._key, self._upload = records, key, upload
        self._hash, self._size = sha256(), 0
        self._open = True
        records.begin(key)

    def write(self, part: bytes) -> None:
        self._size += len(part)
        if len(part) < _PARALLEL:
            self._hash.update(part)
            self._upload.write(part)
            return
        hashed = started_in_thread(self._hash.update, part)
        try:
            self._upload.write(part)
        finally:
            hashed.result()

    def commit(self) -> str:
        try:
            version = self._upload.commit()
            self._records.note(self._key, self._size, self._hash.digest(), version)
        except BaseException as error:
            self._end(error)
            raise
        self._end()
        return version

    def abort(self) -> None:
        self._end()
        self._upload.abort()

    def _end(self, error: BaseException | None = None) -> None:
        if self._open:
            self._open = False
            self._records.end(self._key, error)
