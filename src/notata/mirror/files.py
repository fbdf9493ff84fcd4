"""Copies of many files from one store to another; files that are equal already stay.

Each file appears whole or not at all, and a small one overwrites only the version that was seen. Of runs, this module
knows only which of their files are logs that grow.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, cast

from notata._base import keys
from notata._base.retries import attempts
from notata._base.threads import Event, Pool
from notata.errors import (
    BatchError,
    ConflictError,
    ContainerMissingError,
    DeadlineError,
    ExistsError,
    FullError,
    KeyNameError,
    MissingError,
    StorageError,
    StoredNameError,
    UnreachableError,
)
from notata.mirror.evidence import check, continues_copy, digest_of, same
from notata.store import Blob, Entry, Store
from notata.store.files import PART
from notata.store.in_flight import InFlight, Tally, started_in_thread

__all__ = ["HOPELESS", "CopyResult", "FileCopier", "Pair", "Verb", "delete", "look_up"]

Verb: TypeAlias = Literal["equal", "copied", "appended", "gone"]

_SMALL: Final = 64 * 2**10
_TRIES: Final = 8
_APPENDED: Final = 2**20  # bytes; in a bucket an append to a smaller log replaces it as a whole anyway
_STREAMS: Final = 2  # large files at once, each with about 80 MiB: parts in flight, and copies in the network library
HOPELESS: Final = (ContainerMissingError, DeadlineError, FullError, UnreachableError)
"""Errors that all other files would cause too."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A file on both sides.

    Attributes:
        here: The entry of the source.
        there: The entry of the target, if it has the file.
        look: Whether to look up the target's entry first.
    """

    here: Entry
    there: Entry | None
    look: bool = False


@dataclass(frozen=True, slots=True)
class CopyResult:
    """The result of copying one file.

    Attributes:
        verb: ``equal``: no copy was needed; ``copied`` or ``appended``; ``gone``: the source no longer has the file.
        bytes: The number of bytes sent.
        source: The source's version that the target has now; an older one if the file changed meanwhile.
        target: The target's version, if known.
        size: The size of the file, if it was sent.
    """

    verb: Verb
    bytes: int = 0
    source: str = ""
    target: str = ""
    size: int = 0


class FileCopier:
    """Copies files from one store to another.

    Args:
        source: The store that has the files.
        target: The store that gets them, under the same keys.
        at_once: Maximum number of small files in flight.
        bytes_at_once: Maximum bytes of small files in flight.
        streams: Limits large files in flight; shared by all copies in this process.
        stop: Set it to stop.
        tally: Counts the bytes of files that are copied, or found to be equal.
        dry: Write nothing, and return what would be done.
    """

    def __init__(
        self,
        source: Store,
        target: Store,
        *,
        at_once: int,
        bytes_at_once: int,
        streams: threading.Semaphore | None = None,
        stop: Event | None = None,
        tally: Tally | None = None,
        dry: bool = False,
    ) -> None:
        self._source = source
        self._target = target
        self._at_once = at_once
        self._bytes_at_once = bytes_at_once
        self._streams = streams or threading.Semaphore(_STREAMS)
        self._stop = stop or Event()
        self._tally = tally or Tally(None, 0)
        self._dry = dry

    def copy_all(self, pairs: Mapping[str, Pair]) -> tuple[dict[str, CopyResult], dict[str, Exception]]:
        """Make the target's files equal to the source's; return the results and the errors, by key.

        Small files come first, so that they and the streams of large ones do not take memory at the same time. If the
        storage is unreachable or full, files that have not begun are left out.

        Raises:
            InterruptedError: `stop` was set.
        """
        flying = InFlight[str, CopyResult](self._at_once, self._bytes_at_once)
        given_up = Event()
        pool = Pool(self._at_once, "notata-copy")
        with pool, flying.until_landed(self._stop.set):
            for key, pair in sorted(pairs.items(), key=lambda item: item[1].here.size > PART):
                check(self._stop)
                if given_up.is_set():
                    break
                size = min(max(_SMALL, pair.here.size), PART)
                flying.begin(key, size, started_in_thread, self._one, key, pair, given_up, pool=pool)
        check(self._stop)
        return flying.results, flying.errors

    def _one(self, key: str, pair: Pair, given_up: Event) -> CopyResult:
        try:
            return self._copy_file(keys.check(key), pair)
        except HOPELESS:
            given_up.set()
            raise
        except StoredNameError:
            raise
        except KeyNameError as error:
            raise StoredNameError(f"{self._source.url}: {error}", url=self._source.url, key=key) from None

    def _copy_file(self, key: str, pair: Pair) -> CopyResult:
        """Copy one file; if it changes on either side meanwhile, retry with the new version."""
        here = pair.here
        there = look_up(self._target, key) if pair.look else pair.there
        for last in attempts(_TRIES):
            check(self._stop)
            try:
                return self._step(key, here, there)
            except ContainerMissingError:
                raise
            except (ConflictError, ExistsError, MissingError):
                if last:
                    raise
            there = look_up(self._target, key)
            now = look_up(self._source, key)
            if now is None:
                return CopyResult("gone")
            here = now
        raise AssertionError("unreachable")

    def _step(self, key: str, here: Entry, there: Entry | None) -> CopyResult:
        if there is not None:
            if same(self._source, here, self._target, there, self._stop):
                self._tally.add(here.size)
                return CopyResult("equal", 0, here.version)
            if keys.is_log(key) and continues_copy(self._source, here, self._target, there, self._stop):
                if here.size == there.size:
                    self._tally.add(here.size)
                    return CopyResult("equal", 0, here.version)
                if self._target.is_local or there.size > _APPENDED:
                    return self._append(key, here, there)
        if 0 <= here.size <= PART:
            return self._small(key, here, there)
        return self._large(key, here)

    def _append(self, key: str, here: Entry, there: Entry) -> CopyResult:
        if not self._dry:
            step = max(PART, self._bytes_at_once)
            for start in range(there.size, here.size, step):
                check(self._stop)
                end = min(start + step, here.size)
                self._target.append(key, self._source.read(key, start, end), start)
        self._tally.add(here.size)
        return CopyResult("appended", here.size - there.size, here.version, size=here.size)

    def _small(self, key: str, here: Entry, there: Entry | None) -> CopyResult:
        """Copy in one read and one write; skip the write if the digest of the content shows that the target has it."""
        if there is None or there.size != here.size or not there.digest or self._source.is_local:
            there_like = ""
        else:
            there_like = there.digest
        if self._dry and not there_like:
            self._tally.add(here.size)
            return CopyResult("copied", here.size, here.version)
        found = self._source.fetch(key, 0, PART) if here.size else Blob(b"", 0, here.version)
        if found.size > len(found.data):  # the file has grown meanwhile
            return self._large(key, here)
        equal = there_like != "" and digest_of(iter([found.data]), there_like) == there_like
        if not equal and not self._dry:
            check(self._stop)
            with self._target.keep_permissions(key, self._source, key):
                version = self.store(key, found.data, there.version if there is not None else "")
            self._tally.add(here.size)
            return CopyResult("copied", found.size, found.version, version, found.size)
        self._tally.add(here.size)
        return CopyResult("equal", 0, found.version) if equal else CopyResult("copied", found.size, found.version)

    def store(self, key: str, data: bytes, version: str) -> str:
        """Store at most 8 MiB over this version, or over no file if it is empty; return the new version, if known.

        Raises:
            ConflictError: The target has another version.
            ExistsError: The target has a file.
        """
        if version and self._target.supports_cas:
            return self._target.replace(key, data, version)
        if not version and self._target.supports_exclusive_create:
            return self._target.create(key, data)
        self._target.write(key, data)
        return ""

    def _large(self, key: str, here: Entry) -> CopyResult:
        if self._dry:
            self._tally.add(max(0, here.size))
            return CopyResult("copied", max(0, here.size), here.version)
        callback = _CountingCallback(self._stop, self._tally)
        with self._streams:
            check(self._stop)
            self._target.copy_from({key: here}, self._source, callback=cast("Any", callback))
        return CopyResult("copied", callback.bytes, here.version, size=callback.bytes)


class _CountingCallback:
    """A progress callback that counts the bytes of one stream, and aborts the stream on `stop`."""

    def __init__(self, stop: Event, tally: Tally) -> None:
        self._stop = stop
        self._tally = tally
        self.bytes = 0

    def set_size(self, size: int) -> None:
        """Ignore the size, which is known already."""

    def relative_update(self, count: int) -> None:
        """Count bytes that were read."""
        check(self._stop)
        self.bytes += count
        self._tally.add(count)


def look_up(store: Store, key: str) -> Entry | None:
    """Return a store's entry for a key, or None. One request."""
    try:
        return store.stat(key)
    except ContainerMissingError:
        raise
    except MissingError:
        return None


def delete(store: Store, names: Iterable[str]) -> dict[str, Exception]:
    """Delete files of a store, many at once; return the errors by name."""
    errors: dict[str, Exception] = {}
    legal = []
    for name in names:
        try:
            legal.append(keys.check(name))
        except KeyNameError as error:
            errors[name] = StoredNameError(f"{store.url}: {error}", url=store.url, key=name)
    try:
        store.delete(legal)
    except BatchError as failed:
        errors |= {str(getattr(error, "key", "")): error for error in failed.exceptions}
    except StorageError as error:
        errors |= dict.fromkeys(legal, error)
    return errors
