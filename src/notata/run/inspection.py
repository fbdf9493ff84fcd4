"""Find out what an input of a run is: its size, digest and version, and the run of notata that it lies in.

The digest of a file is its SHA-256. The digest of a folder is the SHA-256 of one line for each file, sorted by name:
``<SHA-256 of the file, hexadecimal>  <name in the folder>`` and a newline, as ``sha256sum`` prints it. Its version is
the SHA-256 of the same lines with versions instead of digests.

An input that lies in another run takes its digest from the manifest of that run, if the manifest still holds for the
file by the rule in `notata.manifest.trust`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from notata._base import keys, times
from notata.errors import ConfigurationError, FolderError, MissingError, NotataError, StorageError
from notata.manifest import Document
from notata.manifest.document import is_receipted, mark
from notata.manifest.hashing import hashed
from notata.manifest.trust import holds, whole_digest
from notata.run.inputs import Input
from notata.run.state import LEASE, parsed
from notata.store import Entry, Store, open_around, open_beside, open_store

if TYPE_CHECKING:
    from upath import UPath

    from notata.store.stored_path import StoredPath

__all__ = ["Inspection", "Inspector", "digest_of_lines"]

_AROUND: Final = 3  # folders named like that of a run that an input can lie in
_RUNS: Final = 8  # manifests that are kept, as a script reads many files of few runs


@dataclass(frozen=True, slots=True)
class Inspection:
    """An input, the path object by which the script opens it, and problems to report."""

    found: Input
    path: StoredPath
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Around:
    """The run that an input lies in, its key there, and the manifest of the run."""

    store: Store
    key: str
    document: Document | None

    @property
    def run_id(self) -> str:
        return keys.run_id(self.store.url)

    def digest(self, entry: Entry) -> bytes:
        """Return the SHA-256 of a file of the run by its manifest; empty if the manifest does not prove it."""
        receipt = None if self.document is None else self.document.files.get(entry.key)
        if receipt is None or self.document is None or not holds(receipt, entry, self.document.created):
            return b""
        return whole_digest(receipt, entry)

    def contradicts(self, entry: Entry, digest: bytes) -> bool:
        """Check whether the manifest has another digest for a file."""
        receipt = None if self.document is None else self.document.files.get(entry.key)
        return receipt is not None and receipt.sha256 not in (b"", digest) and not keys.is_growing(entry.key)


class Inspector:
    """Inspects the inputs of one run, and keeps the manifests of the runs that they lie in.

    Args:
        url: The location of the run itself.
        find: Returns where an input is, which may be at another place than the script says.
    """

    def __init__(self, url: str, find: Callable[[Any], Any] = lambda path: path) -> None:
        self._url, self._find = url, find
        self._manifests: dict[str, Document | bool] = {}

    def inspect(
        self, path: str | os.PathLike[str] | UPath, digest: bool | None, options: Mapping[str, Any] | None
    ) -> Inspection:
        """Return what an input is.

        Args:
            path: A file or folder: a local path, any fsspec URL, or a UPath.
            digest: Whether to read the content; None to read it on a local disk and in memory only.
            options: Storage options for fsspec.

        Raises:
            ConfigurationError: `digest` is neither True, False nor None.
            MissingError: There is no such file or folder.
            StorageError: It cannot be read.
        """
        if digest not in (True, False, None):
            raise ConfigurationError(f"invalid digest {digest!r}: pass True, False, or None for the default")
        path = self._find(path)
        folder, name = open_beside(path, options)
        source = folder.following_links()
        around = self._run_around(path, options)
        try:
            entries = [source.locate(name)]
        except FolderError:
            return self._folder(path, options, digest, around)
        except MissingError as error:
            raise MissingError(
                f"cannot record the input {folder.shown(name)}: it does not exist. Check the path or URL",
                url=folder.url,
                key=name,
            ) from error
        entry = entries[0]
        in_run = {} if around is None else {entry.key: replace(entry, key=around.key)}
        digests, claimed, problems = _digests(source, entries, digest, around, in_run)
        found = Input(
            folder.shown(name),
            entry.size if entry.size >= 0 else None,
            digests.get(entry.key, b"").hex(),
            "" if folder.is_local else mark(entry.version),
            around.run_id if around else "",
            times.now(),
            digest_from="manifest" if claimed else "",
        )
        return Inspection(found, folder.path_for(name), tuple(problems))

    def _folder(
        self,
        path: str | os.PathLike[str] | UPath,
        options: Mapping[str, Any] | None,
        digest: bool | None,
        around: _Around | None,
    ) -> Inspection:
        folder, left_out = open_store(path, options), list[StorageError]()
        source = folder.following_links()
        entries = source.list(skipped=left_out.append)
        in_run: dict[str, Entry] = {}
        if around is not None:
            in_run = {entry.key: replace(entry, key=keys.join(around.key, entry.key)) for entry in entries}
            entries = [entry for entry in entries if is_receipted(in_run[entry.key].key)]
        digests, claimed, problems = _digests(source, entries, digest, around, in_run)
        if special := len(source.irregular()) + len(left_out):
            problems.append(
                f"{special} files and folders in {folder.url} were left out: they are links, special "
                "files or unreadable"
            )
        versions = {entry.key: mark(entry.version) for entry in entries}
        contents = {key: value.hex() for key, value in digests.items()}
        found = Input(
            folder.url,
            sum(max(0, entry.size) for entry in entries),
            digest_of_lines(contents) if len(contents) == len(entries) else "",
            "" if folder.is_local or not all(versions.values()) else digest_of_lines(versions),
            around.run_id if around else "",
            times.now(),
            len(entries),
            "manifest" if claimed else "",
        )
        return Inspection(found, folder.path_for(), tuple(problems))

    def _run_around(self, path: str | os.PathLike[str] | UPath, options: Mapping[str, Any] | None) -> _Around | None:
        """Return the other run that a file or folder lies in. Two requests for each run, the first time."""
        for store, key in open_around(path, lambda name: name.startswith("log_"), options)[:_AROUND]:
            if store.url == self._url:
                return None
            if store.url not in self._manifests:
                if len(self._manifests) >= _RUNS:
                    self._manifests.clear()
                self._manifests[store.url] = _manifest(store)
            known = self._manifests[store.url]
            if known is not False:
                return _Around(store, key, known if isinstance(known, Document) else None)
        return None


def _manifest(store: Store) -> Document | bool:
    """Return the manifest of a run; True if it has none that is readable, False if there is no run."""
    with suppress(NotataError):
        found = store.fetch_many((keys.METADATA, keys.MANIFEST))
        if keys.METADATA not in found or LEASE not in (parsed(found[keys.METADATA].data) or {}):
            return False
        manifest = found.get(keys.MANIFEST)
        return True if manifest is None else Document.parse_undamaged(manifest.data) or True
    return False


def _digests(
    source: Store, entries: Sequence[Entry], digest: bool | None, around: _Around | None, in_run: Mapping[str, Entry]
) -> tuple[dict[str, bytes], bool, list[str]]:
    """Return the digests of files by key, whether all come from a manifest, and problems.

    Args:
        source: The store with the files.
        entries: The files.
        digest: Whether to read them; None to read them if that needs no network.
        around: The run that they lie in.
        in_run: Each file as a file of that run, by its key in `source`.
    """
    if digest is False:
        return {}, False, []
    found = {} if around is None else {key: value for key, file in in_run.items() if (value := around.digest(file))}
    if len(found) == len(entries) or not (digest or source.is_local):
        return found, bool(found), []
    contents, errors = hashed(source, [entry for entry in entries if entry.key not in found])
    for key, error in errors.items():
        raise source.translated(error, "read", key)
    if changed := [key for key, content in contents.items() if _is_changed(source, key, entries, content.size)]:
        return {}, False, [f"{source.shown(key)} changed while it was read, so it has no digest" for key in changed]
    problems = [
        f"{source.shown(key)} changed after run {around.run_id!r} had ended"
        for key, content in contents.items()
        if around is not None and around.contradicts(in_run[key], content.sha256)
    ]
    return {**found, **{key: content.sha256 for key, content in contents.items()}}, False, problems


def _is_changed(source: Store, key: str, entries: Sequence[Entry], size: int) -> bool:
    """Check whether a file changed while it was read. On a disk and in memory this costs no request."""
    entry = next(entry for entry in entries if entry.key == key)
    if not source.is_local:  # one version was read
        return entry.size not in (size, -1)
    try:
        return source.locate(entry.key).version != entry.version
    except NotataError:
        return True


def digest_of_lines(lines: Mapping[str, str]) -> str:
    """Return the digest of a folder, see the docstring of this module."""
    text = "".join(f"{value}  {key}\n" for key, value in sorted(lines.items()))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
