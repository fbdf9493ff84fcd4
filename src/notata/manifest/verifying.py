"""The files of a run beside what its manifest says of them; it reads, and never writes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from notata._base import keys
from notata._base.display import listed
from notata.errors import BatchError, StorageError
from notata.manifest.document import Receipt, is_receipted, mark
from notata.manifest.hashing import Content, hashed
from notata.store import Entry, Store
from notata.store.gaps import Gaps
from notata.store.in_flight import Tally

__all__ = ["VerifyReport", "verify"]

_NAMED: Final = 5  # files that a sentence names
_COMPARABLE: Final = re.compile(r"[0-9a-f]{32}|[0-9]+")
"""An ETag of an object that S3 got at once, or a generation; that of an upload in parts depends on the parts."""
_MD5: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `LogReader.verify` found.

    Attributes:
        ok: Whether every file of the manifest is there, and none is known to have changed. Files in `unverified` count
            as there: they have the right size, and there is nothing else to compare.
        checked: How many files were read, and are as they were.
        bytes: How many bytes were read.
        missing: Keys of files that are not there.
        changed: Keys of files that have another content; without a digest in the manifest, of objects that were
            replaced after the run ended.
        unverified: Keys of files of which only the size could be checked: the manifest has no digest of them, and they
            are not the very objects that it saw, as in a copy.
        grown: Keys of logs that have become longer, which is no damage: what they had then is as it was.
        extra: Keys of files that the manifest does not know, which is no damage either.
        clashes: Keys of files that are also folders of others, as a bucket can have them: a disk cannot hold both.
        irregular: Names of links, pipes and the like. notata does not follow links, so nothing is known of what they
            lead to; a file of the manifest that is a link by now is missing.
        unread: Keys of files of the manifest in folders that could not be opened, so that `ok` is False.
        skipped: Why folders could not be opened, or files not be used because of their names; at most 100, and how many
            more there are.
    """

    ok: bool
    checked: int
    bytes: int
    missing: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()
    grown: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    clashes: tuple[str, ...] = ()
    irregular: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    def __str__(self) -> str:
        what = "file as it was" if self.checked == 1 else "files as they were"
        told = [f"{self.checked} {what}, {self.bytes} bytes read"]
        if self.unverified:
            count = f"{len(self.unverified)} file{'s' * (len(self.unverified) > 1)}"
            told.append(f"{count} could be checked by size only: {listed(self.unverified, _NAMED)}")
        for name, word in _WORDS.items():
            if found := getattr(self, name):
                told.append(f"{len(found)} {word}: {listed(found, _NAMED)}")
        return f"{'ok' if self.ok else 'NOT ok'}; {'; '.join(told)}"


_WORDS: Final = {  # nobody need be told of logs that have grown
    "missing": "missing",
    "changed": "changed",
    "unread": "in folders that cannot be opened",
    "extra": "not in the manifest",
    "clashes": "a file and a folder at once",
    "irregular": "no files (links, pipes or the like), not checked",
    "skipped": "skipped",
}


def verify(store: Store, files: Mapping[str, Receipt], tally: Tally | None = None) -> VerifyReport:
    """Read every file of a run again, and compare it with its receipt. One listing, and what reading costs.

    Args:
        store: The run's.
        files: Of its manifest.
        tally: Told of the bytes that are read.

    Raises:
        BatchError: Files could not be read; it holds each one's error.
    """
    gaps = Gaps()
    closed: set[str] = set()

    def skip(error: StorageError) -> None:
        gaps(error)
        closed.add(error.key or "")

    listed = {entry.key: entry for entry in store.list(skipped=skip)}
    unread = {key for key in files.keys() - listed.keys() if key in closed or closed & set(_folders([key]))}
    missing = set(files.keys() - listed.keys() - unread)
    present = {key: receipt for key, receipt in files.items() if key in listed}
    changed = {key for key, receipt in present.items() if not _may_hold(listed[key], receipt)}
    wanted = [_as_then(listed[key], receipt) for key, receipt in present.items() if key not in changed]
    read, errors = hashed(store, wanted, with_md5=_undigested(present), tally=tally)
    missing |= {key for key, error in errors.items() if isinstance(error, FileNotFoundError)}
    if others := [error for key, error in errors.items() if key not in missing]:
        raise BatchError(f"{len(others)} files could not be read in {store.url}", others)
    verdicts = {key: _holds(content, present[key], listed[key]) for key, content in read.items()}
    changed |= {key for key, verdict in verdicts.items() if verdict is False}
    unverified = {key for key, verdict in verdicts.items() if verdict is None}
    if _comparable(present, listed, verdicts):
        replaced = {key for key in unverified if _COMPARABLE.fullmatch(mark(present[key].version))}
        changed |= replaced
        unverified -= replaced
    grown = {key for key, receipt in present.items() if key not in changed and listed[key].size > receipt.size}
    return VerifyReport(
        ok=not (missing or changed or unread),
        checked=sum(verdict is True for verdict in verdicts.values()),
        bytes=sum(content.size for content in read.values()),
        missing=tuple(sorted(missing)),
        changed=tuple(sorted(changed)),
        unverified=tuple(sorted(unverified)),
        grown=tuple(sorted(grown)),
        extra=tuple(sorted(key for key in listed if key not in files and is_receipted(key))),
        clashes=tuple(sorted(set(_folders(listed)) & listed.keys())),
        irregular=tuple(name for name in map(_as_key, store.irregular()) if not keys.is_reserved(name)),
        unread=tuple(sorted(unread)),
        skipped=tuple(str(error) for error in gaps.errors(store.url)),
    )


def _may_hold(entry: Entry, receipt: Receipt) -> bool:
    """Whether the size alone does not tell that it is another content; that of a log grows."""
    return entry.size == receipt.size or (keys.is_log(entry.key) and entry.size > receipt.size) or entry.size < 0


def _as_then(entry: Entry, receipt: Receipt) -> Entry:
    """A log as long as it was."""
    return replace(entry, size=receipt.size)


def _undigested(files: Mapping[str, Receipt]) -> list[str]:
    """The files whose ETag, that of an object which S3 got at once, is the MD5 of its content."""
    return [key for key, receipt in files.items() if not receipt.sha256 and _MD5.fullmatch(mark(receipt.version))]


def _holds(content: Content, receipt: Receipt, entry: Entry) -> bool | None:
    """Whether the content is what it was; None if nothing tells."""
    if content.size != receipt.size:
        return False
    if receipt.sha256:
        return content.sha256 == receipt.sha256
    the_same = receipt.version != "" and mark(entry.version) == mark(receipt.version)
    return True if the_same or (content.md5 and content.md5 == mark(receipt.version)) else None


def _as_key(name: str) -> str:
    return name.replace(os.sep, "/")


def _comparable(files: Mapping[str, Receipt], listed: Mapping[str, Entry], verdicts: Mapping[str, bool | None]) -> bool:
    """Check whether versions of the manifest can be compared with those of this storage.

    They can if they are the same for one unchanged file: then this is where the run was written, or a copy that gives
    the same content the same ETag.
    """
    known = ((key, receipt) for key, receipt in files.items() if receipt.version)
    return any(verdicts.get(key) and mark(listed[key].version) == mark(receipt.version) for key, receipt in known)


def _folders(names: Iterable[str]) -> Iterator[str]:
    """The folders that files are in, at any depth."""
    for name in names:
        while name := name.rpartition("/")[0]:
            yield name
