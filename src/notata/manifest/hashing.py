"""Files read again and hashed, many at once, in bounded memory; it knows nothing of what they should be."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from hashlib import md5, sha256
from typing import Any, Final

from notata._base import keys
from notata._base.threads import Event, Outcome, Pool
from notata.errors import KeyNameError
from notata.store import Blob, Entry, Store
from notata.store.files import PART
from notata.store.in_flight import InFlight, Tally, started_in_thread, then

__all__ = ["Content", "hashed"]

_SMALL: Final = 2**20  # bytes; read whole
_PIECE: Final = 2**20
_STREAMS: Final = 4  # of large files, each with at most 40 MiB on its way


@dataclass(frozen=True, slots=True)
class Content:
    """What was read of a file.

    Attributes:
        size: How many bytes.
        sha256: Of them.
        md5: Of them too, which is the ETag of a small object in S3; empty where it was not asked for.
    """

    size: int
    sha256: bytes
    md5: str = ""


def hashed(
    store: Store, entries: Iterable[Entry], *, with_md5: Collection[str] = (), tally: Tally | None = None
) -> tuple[dict[str, Content], dict[str, Exception]]:
    """Hash the first `Entry.size` bytes of files, or as many as there are.

    Args:
        store: Where they are.
        entries: Which, as they were listed.
        with_md5: Of which the MD5 is wanted too.
        tally: Told of the bytes that are read.

    Returns:
        What was read by key, and by key what kept a file from being read.
    """
    wanted = list(entries)
    tally, stop = tally or Tally(None, 0), Event()
    flying = InFlight[str, Content]()
    if len(wanted) == 1:  # a log, at the end of most runs: to begin a thread takes longer than to read it
        with flying.until_landed():
            flying.begin(wanted[0].key, 0, _at_once, store, wanted[0], wanted[0].key in with_md5, tally, stop)
        return flying.results, flying.errors
    with Pool(_STREAMS, "notata-hash") as pool:

        def start(entry: Entry) -> Future[Content]:
            md = entry.key in with_md5
            if 0 <= entry.size <= _SMALL and _is_legal(entry.key):
                return then(store.start_fetch(entry.key, 0, entry.size), partial(_of_blob, md=md, tally=tally))
            return started_in_thread(_streamed, store, entry, md, tally, stop, pool=pool)

        with flying.until_landed(stop.set):
            for entry in wanted:
                flying.begin(entry.key, min(max(_SMALL // 4, entry.size), PART), start, entry)
    return flying.results, flying.errors


def _at_once(*arguments: Any) -> Future[Content]:
    done: Future[Content] = Outcome()
    done.set_result(_streamed(*arguments))
    return done


def _is_legal(key: str) -> bool:
    """Whether it is a key; another program may have called its file anything."""
    try:
        return bool(keys.check(key))
    except KeyNameError:
        return False


def _of_blob(blob: Blob, md: bool, tally: Tally) -> Future[Content]:
    done: Future[Content] = Outcome()
    tally.add(len(blob.data))
    digest = md5(blob.data, usedforsecurity=False).hexdigest() if md else ""
    done.set_result(Content(len(blob.data), sha256(blob.data).digest(), digest))
    return done


def _streamed(store: Store, entry: Entry, md: bool, tally: Tally, stop: Event) -> Content:
    """Read a file in pieces, until told to stop."""
    states: list[Any] = [sha256()] + [md5(usedforsecurity=False)] * md
    left = entry.size if entry.size >= 0 else None
    size = 0
    with store._guard("read", entry.key), store._stream(entry.key) as file:
        while piece := file.read(_PIECE if left is None else min(_PIECE, left - size)):
            if stop.is_set():
                raise InterruptedError("another file of the batch was interrupted")
            for state in states:
                state.update(piece)
            size += len(piece)
            tally.add(len(piece))
    return Content(size, states[0].digest(), states[1].hexdigest() if md else "")
