"""Read and hash many files concurrently, with bounded memory."""

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

_SMALL: Final = 2**20  # bytes; files up to this size are read whole
_PIECE: Final = 2**20
_STREAMS: Final = 4  # concurrent large files, each with at most 40 MiB in flight


@dataclass(frozen=True, slots=True)
class Content:
    """The size and hash of the content of a file.

    Attributes:
        size: The number of bytes.
        sha256: The SHA-256 digest.
        md5: The MD5 digest, which is the ETag of a small object in S3; empty if it was not requested.
    """

    size: int
    sha256: bytes
    md5: str = ""


def hashed(
    store: Store, entries: Iterable[Entry], *, with_md5: Collection[str] = (), tally: Tally | None = None
) -> tuple[dict[str, Content], dict[str, Exception]]:
    """Hash the first `Entry.size` bytes of each file, or the whole file if it is shorter.

    Args:
        store: The store with the files.
        entries: The files, as listed.
        with_md5: Keys of files that also need the MD5.
        tally: Counts the bytes that are read.

    Returns:
        The contents by key, and the errors of files that could not be read, by key.
    """
    wanted = list(entries)
    tally, stop = tally or Tally(None, 0), Event()
    flying = InFlight[str, Content]()
    if len(wanted) == 1:  # usually the log at the end of a run: starting a thread takes longer than reading it
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
    """Check whether a name is a valid key, as a file of another program can have any name."""
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
    """Read and hash a file in pieces, until `stop` is set."""
    states: list[Any] = [sha256()] + [md5(usedforsecurity=False)] * md
    left = entry.size if entry.size >= 0 else None
    size = 0
    with store.guard("read", entry.key), store.stream(entry.key) as file:
        while piece := file.read(_PIECE if left is None else min(_PIECE, left - size)):
            if stop.is_set():
                raise InterruptedError("another file of the batch was interrupted")
            for state in states:
                state.update(piece)
            size += len(piece)
            tally.add(len(piece))
    return Content(size, states[0].digest(), states[1].hexdigest() if md else "")
