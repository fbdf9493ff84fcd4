"""Copies of many files from one store to another; files that are equal already stay.

Each file appears whole or not at all, and a small one overwrites only the version that was seen. Of runs, this module
knows only which of their files are logs that grow.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal, TypeAlias, cast

from notata._base import keys
from notata._base.retries import attempts
from notata._base.threads import Event, Pool
from notata.errors import (
    ConflictError,
    ContainerMissingError,
    DeadlineError,
    ExistsError,
    FullError,
    KeyNameError,
    MissingError,
    StoredNameError,
    UnreachableError,
)
from notata.mirror.evidence import comparable, continues_copy, digest_of, same
from notata.mirror.options import CopyOptions
from notata.run.removal import errors_by_key
from notata.store import Blob, Entry, Store
from notata.store.files import PART
from notata.store.in_flight import InFlight, started_in_thread

__all__ = ["HOPELESS", "CopyResult", "FileCopier", "Pair", "Verb", "delete", "look_up"]

Verb: TypeAlias = Literal["equal", "copied", "appended", "deleted", "gone"]

_TRIES: Final = 8
_APPENDED: Final = 2**20  # bytes; in a bucket an append to a smaller log replaces it as a whole anyway
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
    """The result of copying or deleting one file.

    Attributes:
        verb: ``equal``: no copy was needed; ``copied``, ``appended`` or ``deleted``; ``gone``: the source no longer has
            the file.
        bytes: The number of bytes sent, or deleted.
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
    """Copies files from one store to another, under the same keys."""

    def __init__(self, source: Store, target: Store, options: CopyOptions) -> None:
        self.source = source
        self.target = target
        self.options = options

    def copy_all(self, pairs: Mapping[str, Pair]) -> tuple[dict[str, CopyResult], dict[str, Exception]]:
        """Make the target's files equal to the source's; return the results and the errors, by key.

        Small files come first, so that they and the streams of large ones do not take memory at the same time. If the
        storage is unreachable or full, files that have not begun are left out.

        Raises:
            InterruptedError: The copy was stopped.
        """
        given_up = Event()
        if len(pairs) == 1:
            return self._in_this_thread(*next(iter(pairs.items())), given_up)
        flying = InFlight[str, CopyResult](self.options.at_once, sys.maxsize)  # each file takes its own room
        with self._threads() as pool, flying.until_landed(self.options.stop.set):
            for key, pair in sorted(pairs.items(), key=lambda item: item[1].here.size > PART):
                self.options.check()
                if given_up.is_set():
                    break
                flying.begin(key, 0, started_in_thread, self._one, key, pair, given_up, pool=pool)
        self.options.check()
        return flying.results, flying.errors

    def _threads(self) -> AbstractContextManager[Pool]:
        """Return the shared threads, or new ones that end with the block."""
        shared = self.options.pool
        return Pool(self.options.at_once, "notata-copy") if shared is None else nullcontext(shared)

    def _in_this_thread(
        self, key: str, pair: Pair, given_up: Event
    ) -> tuple[dict[str, CopyResult], dict[str, Exception]]:
        """Copy one file, for which no other thread is needed."""
        try:
            return {key: self._one(key, pair, given_up)}, {}
        except Exception as error:
            self.options.check()
            return {}, {key: error}

    def _one(self, key: str, pair: Pair, given_up: Event) -> CopyResult:
        try:
            return self._copy_file(keys.check(key), pair)
        except HOPELESS:
            given_up.set()
            raise
        except StoredNameError:
            raise
        except KeyNameError as error:
            raise StoredNameError(f"{self.source.url}: {error}", url=self.source.url, key=key) from None

    def _copy_file(self, key: str, pair: Pair) -> CopyResult:
        """Copy one file; if it changes on either side meanwhile, retry with the new version."""
        here = pair.here
        there = look_up(self.target, key) if pair.look else pair.there
        for last in attempts(_TRIES):
            self.options.check()
            try:
                return self._step(key, here, there)
            except ContainerMissingError:
                raise
            except (ConflictError, ExistsError, MissingError):
                if last:
                    raise
            there = look_up(self.target, key)
            now = look_up(self.source, key)
            if now is None:
                return CopyResult("gone")
            here = now
        raise AssertionError("unreachable")

    def _step(self, key: str, here: Entry, there: Entry | None) -> CopyResult:
        """Compare a file, and copy it if it differs."""
        result = None
        if there is not None and same(self.source, here, self.target, there, self.options):
            result = CopyResult("equal", 0, here.version)
        if result is None:
            result = self._on_server(key, here, there)
        if result is None and there is not None and keys.is_growing(key):
            result = self._grown(key, here, there)
        if result is None and 0 <= here.size <= PART:
            result = self._small(key, here, there)
        if result is None and self.options.dry_run:
            result = CopyResult("copied", max(0, here.size), here.version)
        if result is None:
            return self._stream(key, here)
        self.options.tally.add(max(0, here.size))
        return result

    def _on_server(self, key: str, here: Entry, there: Entry | None) -> CopyResult | None:
        """Let the storage copy the file, if it has both sides; return None if it cannot."""
        if self.options.dry_run or here.size <= 0 or not self.target.copies_from(self.source):
            return None
        if there is not None and there.size == here.size and not _are_different(here, there):
            return None
        match = self._match(there.version if there is not None else "")
        version = self.target.copy_on_server(key, self.source, here, match)
        return None if version is None else CopyResult("copied", here.size, here.version, version, here.size)

    def _grown(self, key: str, here: Entry, there: Entry) -> CopyResult | None:
        """Append the rest of a log, if the target has its beginning.

        Return None if it has not, or if the storage would send the whole log anyway.
        """
        if not continues_copy(self.source, here, self.target, there, self.options):
            return None
        if here.size == there.size:
            return CopyResult("equal", 0, here.version)
        if not self.target.is_local and there.size <= _APPENDED:
            return None
        if not self.options.dry_run:
            step = max(PART, self.options.room.size)
            for start in range(there.size, here.size, step):
                end = min(start + step, here.size)
                with self.options.room.taken(end - start):
                    self.options.check()
                    self.target.append(key, self.source.read(key, start, end), start)
        return CopyResult("appended", here.size - there.size, here.version, size=here.size)

    def _small(self, key: str, here: Entry, there: Entry | None) -> CopyResult | None:
        """Copy in one read and one write, or only one read if the content has the target's digest.

        Returns:
            The result; None if the file has grown meanwhile, and is not small any more.
        """
        like = there.digest if there is not None and there.size == here.size and not self.source.is_local else ""
        if self.options.dry_run and not like:
            return CopyResult("copied", here.size, here.version)
        with self.options.room.taken(here.size):
            return self._copy_small(key, here, there, like)

    def _copy_small(self, key: str, here: Entry, there: Entry | None, like: str) -> CopyResult | None:
        found = self.source.fetch(key, 0, PART) if here.size else Blob(b"", 0, here.version)
        if found.size > len(found.data):
            return None
        if like and digest_of(iter([found.data]), like) == like:
            return CopyResult("equal", 0, found.version)
        if self.options.dry_run:
            return CopyResult("copied", found.size, found.version)
        self.options.check()
        with self.target.keep_permissions(key, self.source, key):
            version = self.store(key, found.data, there.version if there is not None else "")
        return CopyResult("copied", found.size, found.version, version, found.size)

    def store(self, key: str, data: bytes, version: str) -> str:
        """Store at most 8 MiB over this version, or over no file if it is empty; return the new version, if known.

        Raises:
            ConflictError: The target has another version.
            ExistsError: The target has a file.
        """
        return self.target.put(key, data, self._match(version))

    def _match(self, version: str) -> str | None:
        """Return the condition of a write, as `Store.put` takes it; None if the target does not support it."""
        supported = self.target.supports_cas if version else self.target.supports_exclusive_create
        return version if supported else None

    def _stream(self, key: str, here: Entry) -> CopyResult:
        """Copy a file in parts, and count its bytes as they are read."""
        callback = _CountingCallback(self.options)
        with self.options.streams:
            self.options.check()
            self.target.copy_from({key: here}, self.source, callback=cast("Any", callback))
        return CopyResult("copied", callback.bytes, here.version, size=callback.bytes)


class _CountingCallback:
    """A progress callback that counts the bytes of one stream, and aborts the stream if the copy is stopped."""

    def __init__(self, options: CopyOptions) -> None:
        self._options = options
        self.bytes = 0

    def set_size(self, size: int) -> None:
        """Ignore the size, which is known already."""

    def relative_update(self, count: int) -> None:
        """Count bytes that were read."""
        self._options.check()
        self.bytes += count
        self._options.tally.add(count)


def _are_different(here: Entry, there: Entry) -> bool:
    """Check whether two files of the same size, which are not known to be equal, cannot be equal."""
    is_grown = keys.is_growing(here.key) and here.digest.startswith("md5-parts:")  # appends make parts of any size
    return comparable(here, there) and not is_grown


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
    return errors | errors_by_key(partial(store.delete, legal), legal)
