"""Files of one store brought to another one: what is there already stays, the rest is copied, many at once.

Each file appears whole or not at all, and a small one only over what was looked at. It knows nothing of runs but which
of their files only grow.
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
from notata.mirror.evidence import begins_with, check, digest_of, same
from notata.store import Blob, Entry, Store
from notata.store.files import PART
from notata.store.in_flight import InFlight, Tally, started_in_thread

__all__ = ["HOPELESS", "Brought", "Files", "Pair", "Verb", "delete", "look_up"]

Verb: TypeAlias = Literal["equal", "copied", "appended", "gone"]

_SMALL: Final = 64 * 2**10
_TRIES: Final = 8
_APPENDED: Final = 2**20  # bytes; a smaller log in a bucket is replaced whole by an append as well
_STREAMS: Final = 2  # of large files, each with some 80 MiB: parts under way, and copies in the network library
HOPELESS: Final = (ContainerMissingError, DeadlineError, FullError, UnreachableError)
"""What other files would fail by too."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A file on both sides.

    Attributes:
        here: As the source lists it.
        there: As the target does, if it has it.
        look: Whether the target has to be asked first.
    """

    here: Entry
    there: Entry | None
    look: bool = False


@dataclass(frozen=True, slots=True)
class Brought:
    """What became of one file.

    Attributes:
        verb: ``equal``: it was there; ``copied`` or ``appended``; ``gone``: the source has it no more.
        bytes: That were sent.
        source: Which version the target has now; if it changed meanwhile, perhaps one before that.
        target: The target's version, where it is known.
        size: Of the file, where it was sent.
    """

    verb: Verb
    bytes: int = 0
    source: str = ""
    target: str = ""
    size: int = 0


class Files:
    """Brings files from one store to another.

    Args:
        source: Where they are.
        target: Where they are to be, under the same keys.
        at_once: Small files under way.
        bytes_at_once: Bytes of them.
        streams: Lets few of the large ones go at once; shared by all who copy in this process.
        stop: To give up.
        tally: Told of the bytes of files that are done, or found to be there.
        dry: Write nothing, and tell what would be done.
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

    def bring(self, pairs: Mapping[str, Pair]) -> tuple[dict[str, Brought], dict[str, Exception]]:
        """Make the target have these files as the source has them; what became of each, and what failed.

        Small ones first, so that they and the streams of the large ones do not take memory at the same time. Where the
        storage cannot be reached, or is full, those that have not begun are left out.

        Raises:
            InterruptedError: It was told to stop.
        """
        flying = InFlight[str, Brought](self._at_once, self._bytes_at_once)
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

    def _one(self, key: str, pair: Pair, given_up: Event) -> Brought:
        try:
            return self._brought(keys.check(key), pair)
        except HOPELESS:
            given_up.set()
            raise
        except StoredNameError:
            raise
        except KeyNameError as error:
            raise StoredNameError(f"{self._source.url}: {error}", url=self._source.url, key=key) from None

    def _brought(self, key: str, pair: Pair) -> Brought:
        """Bring one file; where it changes on either side meanwhile, look again."""
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
                return Brought("gone")
            here = now
        raise AssertionError("unreachable")

    def _step(self, key: str, here: Entry, there: Entry | None) -> Brought:
        if there is not None:
            if same(self._source, here, self._target, there, self._stop):
                self._tally.add(here.size)
                return Brought("equal", 0, here.version)
            if keys.is_log(key) and begins_with(self._source, here, self._target, there, self._stop):
                if here.size == there.size:
                    self._tally.add(here.size)
                    return Brought("equal", 0, here.version)
                if self._target.is_local or there.size > _APPENDED:
                    return self._append(key, here, there)
        if 0 <= here.size <= PART:
            return self._small(key, here, there)
        return self._large(key, here)

    def _append(self, key: str, here: Entry, there: Entry) -> Brought:
        if not self._dry:
            step = max(PART, self._bytes_at_once)
            for start in range(there.size, here.size, step):
                check(self._stop)
                end = min(start + step, here.size)
                self._target.append(key, self._source.read(key, start, end), start)
        self._tally.add(here.size)
        return Brought("appended", here.size - there.size, here.version, size=here.size)

    def _small(self, key: str, here: Entry, there: Entry | None) -> Brought:
        """In one read and one write, and none where the target has it and only its content could tell."""
        if there is None or there.size != here.size or not there.digest or self._source.is_local:
            there_like = ""
        else:
            there_like = there.digest
        if self._dry and not there_like:
            self._tally.add(here.size)
            return Brought("copied", here.size, here.version)
        found = self._source.fetch(key, 0, PART) if here.size else Blob(b"", 0, here.version)
        if found.size > len(found.data):  # it has grown meanwhile
            return self._large(key, here)
        equal = there_like != "" and digest_of(iter([found.data]), there_like) == there_like
        if not equal and not self._dry:
            check(self._stop)
            with self._target.keep_permissions(key, self._source, key):
                version = self.store(key, found.data, there.version if there is not None else "")
            self._tally.add(here.size)
            return Brought("copied", found.size, found.version, version, found.size)
        self._tally.add(here.size)
        return Brought("equal", 0, found.version) if equal else Brought("copied", found.size, found.version)

    def store(self, key: str, data: bytes, version: str) -> str:
        """Store at most 8 MiB, only over that version, or where nothing is without one. The new version, if known.

        Raises:
            ConflictError: Another one is there.
            ExistsError: One is there.
        """
        if version and self._target.supports_cas:
            return self._target.replace(key, data, version)
        if not version and self._target.supports_exclusive_create:
            return self._target.create(key, data)
        self._target.write(key, data)
        return ""

    def _large(self, key: str, here: Entry) -> Brought:
        if self._dry:
            self._tally.add(max(0, here.size))
            return Brought("copied", max(0, here.size), here.version)
        told = _Told(self._stop, self._tally)
        with self._streams:
            check(self._stop)
            self._target.copy_from({key: here}, self._source, callback=cast("Any", told))
        return Brought("copied", told.bytes, here.version, size=told.bytes)


class _Told:
    """What is told of the bytes of one stream, and ends it once it is to stop."""

    def __init__(self, stop: Event, tally: Tally) -> None:
        self._stop = stop
        self._tally = tally
        self.bytes = 0

    def set_size(self, size: int) -> None:
        """Known already."""

    def relative_update(self, count: int) -> None:
        """Some more have been read."""
        check(self._stop)
        self.bytes += count
        self._tally.add(count)


def look_up(store: Store, key: str) -> Entry | None:
    """What a store has under a key, if it has anything. One request."""
    try:
        return store.stat(key)
    except ContainerMissingError:
        raise
    except MissingError:
        return None


def delete(store: Store, names: Iterable[str]) -> dict[str, Exception]:
    """Delete files of a store, many at once; what failed, by name."""
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
