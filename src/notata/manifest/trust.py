"""The rule of when a manifest is trusted, and what each receipt in it proves. The rule stands only here.

A receipt says that a file had this size and this SHA-256 when it was written. A file can change afterwards: a user
overwrites it, another program appends to it, another attempt of the run replaces it. So there are three questions.

**Is this the manifest of the run?** (`is_of_run`) The run stores its manifest at its end. It is trusted if the run has
ended, and the writer of the manifest is the owner of the run in metadata.json. Otherwise it is of an earlier attempt: a
run that was resumed, and died or ended without a manifest. Single receipts in it may still hold.

**Does a receipt hold for a file in a listing?** (`holds`) Nothing is read, so only facts of the listing count:

* A receipt without digest proves nothing.
* A log only grows. Its receipt holds for its beginning if the log is at least as long.
* Any other file must have the size of the receipt, and must be unchanged since:

  * on S3 and GCS, its version (ETag or generation) is that of the receipt;
  * on other storage, a manifest stores no versions; the file was modified before the manifest was begun, by at least
    the 2 seconds that the coarsest file system rounds to. Receipts of this process have versions everywhere.

  There the manifest of a worker can have receipts that do not hold any more: the owner checks them when it
  merges the manifests (`valid_receipts`).

**Is the content of a file unchanged?** (`is_unchanged`) The file was read. Its size and SHA-256 decide. If the receipt
has no digest, the same version proves that the file is unchanged, and so does an ETag that is the MD5 of the content.
If neither can be compared, as in a copy, the answer is unknown, unless versions of this place are known to be
comparable (`are_versions_comparable`): then another version means another content.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from notata._base import keys
from notata.manifest.document import Document, Receipt, is_receipted, mark
from notata.manifest.hashing import Content
from notata.store import Entry

__all__ = [
    "are_versions_comparable",
    "fits",
    "has_comparable_version",
    "has_md5_version",
    "holds",
    "is_of_run",
    "is_unchanged",
    "valid_receipts",
    "whole_digest",
]

_TICK: Final = 2.0  # seconds; the resolution of times on FAT, the coarsest file system
_MD5: Final = re.compile(r"[0-9a-f]{32}")
_GENERATION: Final = re.compile(r"[0-9]+")


def is_of_run(document: Document, *, has_ended: bool, owner: str) -> bool:
    """Check whether a manifest is that of a run, and not of an earlier attempt.

    Args:
        document: The manifest.
        has_ended: Whether metadata.json says that the run has ended.
        owner: The owner of the run in metadata.json; the manifest has its first characters.
    """
    return has_ended and owner.startswith(document.owner)


def fits(receipt: Receipt, entry: Entry) -> bool:
    """Check whether the size of a file allows that it has the content of a receipt; a log can be longer."""
    return entry.size == receipt.size or (keys.is_growing(entry.key) and entry.size > receipt.size)


def holds(receipt: Receipt, entry: Entry, created: datetime | None) -> bool:
    """Check whether a receipt is known to hold for a listed file; see the rule in the docstring of this module.

    Args:
        receipt: The receipt.
        entry: The file as listed.
        created: The time when the manifest of the receipt was begun; None for a receipt of this process.
    """
    if not receipt.sha256 or not fits(receipt, entry):
        return False
    if keys.is_growing(entry.key):
        return True
    if receipt.version:
        return _is_same_version(receipt, entry)
    return created is not None and 0 < entry.modified.timestamp() < created.timestamp() - _TICK


def whole_digest(receipt: Receipt | None, entry: Entry) -> bytes:
    """Return the SHA-256 of a whole listed file, if a receipt that holds has it; else nothing, as for a longer log."""
    return receipt.sha256 if receipt is not None and receipt.size == entry.size else b""


def valid_receipts(
    listing: Iterable[Entry], own: Mapping[str, Receipt], others: Iterable[Document] = ()
) -> tuple[dict[str, Receipt], list[Entry]]:
    """Find the receipt that holds for each existing file; of a log, the longest one.

    Args:
        listing: All files of the run.
        own: Receipts recorded during writes, with the versions of this storage.
        others: Manifests stored before, the most trusted first: of an earlier end of the run, and of workers.

    Returns:
        The receipts that hold by key, with the versions of the listing, and the files without one.

    >>> entry = Entry("a", 1, datetime.fromisoformat("2026-03-01T09:30:00Z"), "v2")
    >>> [len(valid_receipts([entry], {"a": Receipt(1, bytes(32), version)})[1]) for version in ("v2", "v1")]
    [0, 1]
    """
    known: dict[str, Receipt] = {}
    unknown: list[Entry] = []
    sources = [(own, None), *((document.files, document.created) for document in others)]
    for entry in listing:
        if not is_receipted(entry.key):
            continue
        found = ((files.get(entry.key), created) for files, created in sources)
        held = (receipt for receipt, created in found if receipt is not None and holds(receipt, entry, created))
        receipt = max(held, key=lambda receipt: receipt.size, default=None)
        if receipt is None:
            unknown.append(entry)
        else:
            version = "" if keys.is_growing(entry.key) else entry.version
            known[entry.key] = Receipt(receipt.size, receipt.sha256, version)
    return known, unknown


def is_unchanged(receipt: Receipt, entry: Entry, content: Content) -> bool | None:
    """Check whether the content that was read is that of a receipt; None if that is unknown."""
    if content.size != receipt.size:
        return False
    if receipt.sha256:
        return content.sha256 == receipt.sha256
    has_md5 = content.md5 != "" and content.md5 == mark(receipt.version)
    return True if has_md5 or _is_same_version(receipt, entry) else None


def has_md5_version(receipt: Receipt) -> bool:
    """Check whether the version can be the MD5 of the content, as for S3 objects that were written in one request."""
    return _MD5.fullmatch(mark(receipt.version)) is not None


def has_comparable_version(receipt: Receipt) -> bool:
    """Check whether equal content can have only this version here: an MD5, or a generation of an original object.

    The ETag of a multipart upload depends on the parts.
    """
    return has_md5_version(receipt) or _GENERATION.fullmatch(mark(receipt.version)) is not None


def are_versions_comparable(pairs: Iterable[tuple[Receipt, Entry]]) -> bool:
    """Check whether versions of a manifest can be compared with those of this place.

    They can if they are equal for at least one unchanged file. Then this is the original place, or a copy in which
    equal content has equal ETags.

    Args:
        pairs: The receipts and the listed files that are unchanged.
    """
    return any(_is_same_version(receipt, entry) for receipt, entry in pairs)


def _is_same_version(receipt: Receipt, entry: Entry) -> bool:
    return receipt.version != "" and mark(entry.version) == mark(receipt.version)
