"""Compare the files of a run with its manifest. Nothing is written."""

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

_NAMED: Final = 5  # file names per sentence
_COMPARABLE: Final = re.compile(r"[0-9a-f]{32}|[0-9]+")
"""An ETag of an object written in one request, or a generation. The ETag of a multipart upload depends on the parts."""
_MD5: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The result of `LogReader.verify`.

    Attributes:
        ok: Whether every file of the manifest exists, and none is known to have changed. This includes files in
            `unverified`: they have the right size, and nothing else can be compared.
        checked: Number of files that were read and are unchanged.
        bytes: Number of bytes that were read.
        missing: Keys of files that do not exist.
        changed: Keys of files with different content; without a digest in the manifest, keys of objects that were
            replaced after the run ended.
        unverified: Keys of files of which only the size could be checked: the manifest has no digest, and the objects
            are not the original ones, for example in a copy.
        grown: Keys of logs that have become longer. This is no damage: the previous content is unchanged.
        extra: Keys of files that are not in the manifest. This is no damage.
        clashes: Keys of files that are also folders of other files. A bucket can contain both, a disk cannot.
        irregular: Names of links, pipes and the like. notata does not follow links, so their targets are not checked. A
            file of the manifest that is now a link is missing.
        unread: Keys of files of the manifest in folders that could not be opened. `ok` is then False.
        skipped: Reasons why folders could not be opened, or why files cannot be used because of their names; at most
            100, and the number of further ones.
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
        what = "file unchanged" if self.checked == 1 else "files unchanged"
        parts = [f"{self.checked} {what}, {self.bytes} bytes read"]
        if self.unverified:
            count = f"{len(self.unverified)} file{'s' * (len(self.unverified) > 1)}"
            parts.append(f"{count} checked by size only: {listed(self.unverified, _NAMED)}")
        for name, word in _WORDS.items():
            if found := getattr(self, name):
                parts.append(f"{len(found)} {word}: {listed(found, _NAMED)}")
        return f"{'ok' if self.ok else 'NOT ok'}; {'; '.join(parts)}"


_WORDS: Final = {  # without `grown`, which is normal
    "missing": "missing",
    "changed": "changed",
    "unread": "in folders that cannot be opened",
    "extra": "not in the manifest",
    "clashes": "a file and a folder at once",
    "irregular": "not regular files (links, pipes or the like), not checked",
    "skipped": "skipped",
}


def verify(store: Store, files: Mapping[str, Receipt], tally: Tally | None = None) -> VerifyReport:
    """Read every file of a run again, and compare it with its receipt. Cost: one listing, and reading the files.

    Args:
        store: The store of the run.
        files: The receipts of its manifest.
        tally: Counts the bytes that are read.

    Raises:
        BatchError: Files could not be read; it contains one error for each.
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
    changed = {key for key, receipt in present.items() if not _size_matches(listed[key], receipt)}
    wanted = [_with_previous_size(listed[key], receipt) for key, receipt in present.items() if key not in changed]
    read, errors = hashed(store, wanted, with_md5=_with_md5_etag(present), tally=tally)
    missing |= {key for key, error in errors.items() if isinstance(error, FileNotFoundError)}
    if others := [error for key, error in errors.items() if key not in missing]:
        raise BatchError(f"cannot read {len(others)} files in {store.url}", others)
    verdicts = {key: _is_unchanged(content, present[key], listed[key]) for key, content in read.items()}
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


def _size_matches(entry: Entry, receipt: Receipt) -> bool:
    """Check whether the size allows unchanged content; a log can be longer."""
    return entry.size == receipt.size or (keys.is_log(entry.key) and entry.size > receipt.size) or entry.size < 0


def _with_previous_size(entry: Entry, receipt: Receipt) -> Entry:
    """Return the entry with the previous size, as a log can be longer now."""
    return replace(entry, size=receipt.size)


def _with_md5_etag(files: Mapping[str, Receipt]) -> list[str]:
    """Return the files without digest whose ETag is the MD5 of the content, as for S3 objects written at once."""
    return [key for key, receipt in files.items() if not receipt.sha256 and _MD5.fullmatch(mark(receipt.version))]


def _is_unchanged(content: Content, receipt: Receipt, entry: Entry) -> bool | None:
    """Check whether the content is unchanged; None if that is unknown."""
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

    They can if they are equal for at least one unchanged file. Then this is the original location, or a copy in which
    equal content has equal ETags.
    """
    known = ((key, receipt) for key, receipt in files.items() if receipt.version)
    return any(verdicts.get(key) and mark(listed[key].version) == mark(receipt.version) for key, receipt in known)


def _folders(names: Iterable[str]) -> Iterator[str]:
    """Yield all folders that contain the files, at any depth."""
    for name in names:
        while name := name.rpartition("/")[0]:
            yield name
