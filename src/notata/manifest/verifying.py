"""Compare the files of a run with its manifest. Nothing is written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from notata._base import keys
from notata._base.display import listed
from notata.errors import BatchError, StorageError
from notata.manifest import trust
from notata.manifest.document import Receipt, is_receipted
from notata.manifest.hashing import hashed
from notata.store import Store
from notata.store.gaps import Gaps
from notata.store.in_flight import Tally

__all__ = ["VerifyReport", "verify"]

_NAMED: Final = 5  # file names per sentence


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
    changed = {
        key for key, receipt in present.items() if not (trust.fits(receipt, listed[key]) or listed[key].size < 0)
    }
    # Of a log that is longer now, only the previous content.
    wanted = [replace(listed[key], size=receipt.size) for key, receipt in present.items() if key not in changed]
    with_md5 = [key for key, receipt in present.items() if not receipt.sha256 and trust.has_md5_version(receipt)]
    read, errors = hashed(store, wanted, with_md5=with_md5, tally=tally)
    missing |= {key for key, error in errors.items() if isinstance(error, FileNotFoundError)}
    if others := [error for key, error in errors.items() if key not in missing]:
        raise BatchError(f"cannot read {len(others)} files in {store.url}", others)
    verdicts = {key: trust.is_unchanged(present[key], listed[key], content) for key, content in read.items()}
    changed |= {key for key, verdict in verdicts.items() if verdict is False}
    unverified = {key for key, verdict in verdicts.items() if verdict is None}
    if trust.are_versions_comparable((present[key], listed[key]) for key, verdict in verdicts.items() if verdict):
        replaced = {key for key in unverified if trust.has_comparable_version(present[key])}
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


def _as_key(name: str) -> str:
    return name.replace(os.sep, "/")


def _folders(names: Iterable[str]) -> Iterator[str]:
    """Yield all folders that contain the files, at any depth."""
    for name in names:
        while name := name.rpartition("/")[0]:
            yield name
