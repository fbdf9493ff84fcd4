"""Comparison of two stored files, as far as possible without moving either.

Sizes and digests decide, never times. If a listing provides a digest of one file, it is computed for the other one if
that is local: a file on a disk is read, one in a bucket is not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from notata.errors import ConflictError
from notata.mirror.options import CopyOptions
from notata.store import Entry, Store
from notata.store.files import part_size

__all__ = ["END", "TRUSTED", "comparable", "continues_copy", "digest_of", "same"]

END: Final = 64 * 2**10
"""Bytes at the end of a log that are compared to decide whether another one continues it."""

TRUSTED: Final = "trusted:"
"""A digest that marks a file which the caller copied itself."""

_PIECE: Final = 2**20


def same(source: Store, here: Entry, target: Store, there: Entry, options: CopyOptions) -> bool:
    """Check whether two files are known to have the same content. No request; a local file is read.

    Raises:
        ConflictError: A file changed while it was read.
        InterruptedError: The copy was stopped.
    """
    if here.size != there.size or here.size < 0:  # negative: the server does not report the size
        return False
    if here.size == 0:
        return True
    if comparable(here, there):
        return here.digest == there.digest
    if source.is_local and target.is_local:
        return all(
            a == b for a, b in zip(_pieces(source, here, options), _pieces(target, there, options), strict=False)
        )
    if source.is_local and there.digest:
        return digest_of(_pieces(source, here, options), there.digest) == there.digest
    if target.is_local and here.digest:
        return digest_of(_pieces(target, there, options), here.digest) == here.digest
    return False


def comparable(here: Entry, there: Entry) -> bool:
    """Check whether the digests of two files are of the same kind."""
    return bool(_kind(here)) and _kind(here) == _kind(there)


def continues_copy(source: Store, here: Entry, target: Store, there: Entry, options: CopyOptions) -> bool:
    """Check whether a log continues the target's copy: whether the end of the copy is the same in the log.

    A copy that is `TRUSTED` needs no check. If the source is local, an MD5 of the target is conclusive. Otherwise one
    request on each side, of 64 KiB.
    """
    if not 0 < there.size <= here.size:
        return False
    if there.digest == TRUSTED:
        return True
    if source.is_local and _kind(there) == "md5":
        return digest_of(_pieces(source, here, options, there.size), there.digest) == there.digest
    start = max(0, there.size - END)
    end = target.fetch(there.key, start, there.size)
    if end.size != there.size:
        raise ConflictError(f"{target.url}/{there.key}: another writer changed it", url=target.url, key=there.key)
    return source.read(here.key, start, there.size) == end.data


def digest_of(pieces: Iterator[bytes], like: str) -> str:
    """Return the digest of a content, of the same kind as another digest; empty if that kind cannot be computed.

    >>> digest_of(iter([b"ab", b"c"]), "md5:")
    'md5:900150983cd24fb0d6963f7d28e17f72'
    """
    kind = like.partition(":")[0]
    if kind == "md5-parts":
        return _of_parts(pieces)
    value = _new(kind)
    if value is None:
        return ""
    for piece in pieces:
        value.update(piece)
    return f"{kind}:{value.digest().hex()}"


def _kind(entry: Entry) -> str:
    return entry.digest.partition(":")[0]


def _new(kind: str) -> Any:
    """Return a hash without any content; None if this kind cannot be computed here."""
    if kind == "md5":
        return hashlib.md5(usedforsecurity=False)
    with suppress(ImportError):
        if kind == "crc32c":
            from google_crc32c import Checksum

            return Checksum()  # type: ignore[no-untyped-call]
    return None


def _of_parts(pieces: Iterator[bytes]) -> str:
    """Return the MD5 of the MD5s of parts, as notata and most programs send files up to 8 GiB to S3."""
    whole, part = hashlib.md5(usedforsecurity=False), hashlib.md5(usedforsecurity=False)
    count, room = 0, part_size(0)
    for piece in pieces:
        view = memoryview(piece)
        while view.nbytes:
            part.update(view[:room])
            taken = min(room, view.nbytes)
            view, room = view[taken:], room - taken
            if not room:
                whole.update(part.digest())
                count, part = count + 1, hashlib.md5(usedforsecurity=False)
                room = part_size(count)
    if room < part_size(count):
        whole.update(part.digest())
        count += 1
    return f"md5-parts:{whole.hexdigest()}-{count}"


def _pieces(store: Store, entry: Entry, options: CopyOptions, size: int | None = None) -> Iterator[bytes]:
    """Yield a file's content, or the beginning of it, in pieces of equal size."""
    left = entry.size if size is None else size
    with store.open(entry.key, "rb") as file:
        while left and (piece := file.read(min(_PIECE, left))):
            options.check()
            left -= len(piece)
            yield piece
    if left:
        raise ConflictError(f"{store.url}/{entry.key}: it changed while it was read", url=store.url, key=entry.key)
