"""Lookup of URLs that a user names: a run, a folder with runs below it, a pattern or a file, with one listing each.

Results keep the name by which the user asked for them, as with `grep` and `ls`, so that the user can pass it again.
"""

from __future__ import annotations

import fnmatch
import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from notata._base import keys
from notata._base.secrets import shown_url
from notata._base.terminal import quoted
from notata.errors import (
    ContainerMissingError,
    FolderError,
    MissingError,
    NotataError,
    RunMissingError,
    StorageError,
    StoredNameError,
)
from notata.reader import LogReader
from notata.run.listings import inside, name_of, orphans_in, runs_in, split
from notata.store import TIMEOUT, Entry, Store, default_base, open_beside, open_store

if TYPE_CHECKING:
    from upath import UPath

__all__ = [
    "File",
    "Found",
    "Place",
    "URLs",
    "each",
    "file_at",
    "given",
    "is_bucket",
    "is_pattern",
    "look_up",
    "no_run",
    "raise_error",
]

_ERRORS_SHOWN: Final = 20  # names skipped in one listing that are reported one by one
_MAGIC: Final = re.compile(r"[*?\[]")
_BUCKET: Final = re.compile(r"(?!memory:|file:|local:)[A-Za-z][A-Za-z0-9+.-]*://(?!.*::)[^/?]+")

URLs: TypeAlias = "str | os.PathLike[str] | UPath | Store | Iterable[str | os.PathLike[str] | UPath | Store]"
"""One place or several: runs, experiments or folders of them. Names may be patterns with ``*``, ``?``, ``[…]`` and
``**``, which matches folders at any depth. A file or folder with exactly this name takes precedence."""


@dataclass(frozen=True, slots=True)
class Found:
    """A run at or below a place that a user named.

    Attributes:
        name: The place as it was given, and the path below it.
        store: The store of the run's folder.
        files: The files of the run, by key.
        folder: The path of the run in the place; empty if it is the place itself.
        unfinished: Files that are still being written, or that a killed process left, by key; not part of `files`.
    """

    name: str
    store: Store
    files: Mapping[str, Entry]
    folder: str
    unfinished: Mapping[str, Entry] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        """The id that was given when the run began."""
        return keys.run_id(self.store.url)

    @property
    def size(self) -> int:
        """The size of all files, in bytes."""
        return sum(max(0, entry.size) for entry in self.files.values())

    @property
    def unfinished_size(self) -> int:
        """The size of all unfinished writes, in bytes."""
        return sum(max(0, entry.size) for entry in self.unfinished.values())

    @property
    def is_orphan(self) -> bool:
        """True if the run has neither metadata nor a manifest: only its name and files show that it is a run."""
        return keys.METADATA not in self.files and keys.MANIFEST not in self.files

    @property
    def reader(self) -> LogReader:
        """A reader of the run; creating it costs no request."""
        return LogReader._of(self.store)


@dataclass(frozen=True, slots=True)
class File:
    """A file at or below a place that a user named.

    Attributes:
        name: The place as it was given, and the path below it.
        store: The store of the place.
        entry: The entry of the file; its key is relative to `store`.
        run: The folder of its run in `store`; None if it is in no run, or its run is unknown.
    """

    name: str
    store: Store
    entry: Entry
    run: str | None = None

    @property
    def key(self) -> str:
        """The key in its run, or in the place if the file is in no run."""
        return self.entry.key[len(self.run) + 1 :] if self.run else self.entry.key


@dataclass(frozen=True, slots=True)
class Place:
    """The result of looking up one URL.

    Attributes:
        given: The URL as it was given, without credentials.
        name: The listed folder: the same URL, or the part before a pattern.
        store: The store of that folder.
        entries: The files at or below it, by key; with a pattern, only matching files.
        runs: The runs among them, with all their files, by folder. They include runs that lost their metadata.json, and
            files that a writer stored after its run was moved or deleted.
        pattern: The part of the URL after `name`, if that is a pattern.
        unfinished: Files at or below it that are still being written, or that a killed process left, by key.
    """

    given: str
    name: str
    store: Store
    entries: Mapping[str, Entry]
    runs: Mapping[str, Found]
    pattern: str = ""
    unfinished: Mapping[str, Entry] = field(default_factory=dict)

    def means(self, key: str) -> bool:
        """Check whether the URL names a file or folder itself, and not merely a folder above it."""
        if not self.pattern or not key:
            return not (self.pattern or key)
        return key == self.pattern or _matches(tuple(self.pattern.split("/")), tuple(key.split("/")))

    def covers(self, folder: str) -> bool:
        """Check whether the URL names all of a folder, and not only files in it."""
        return not self.pattern or (folder != "" and _meant(self.pattern)(folder) is not None)

    def named(self, key: str) -> str:
        """Return the name of a file or folder below the place, for users."""
        return _below(self.name, key)

    @property
    def files(self) -> Iterator[File]:
        """All files, sorted by key."""
        for key, entry in sorted(self.entries.items()):
            yield File(self.named(key), self.store, entry, inside(key, self.runs))

    def parts(self) -> dict[str, dict[str, Entry]]:
        """Return the files and folders that match a pattern, as in a shell, each with its files by key.

        Without a pattern the place itself is the only part, as ``""``.
        """
        return self._parts(self.entries)

    def unfinished_parts(self) -> dict[str, dict[str, Entry]]:
        """Return the same as `parts`, for unfinished writes."""
        return self._parts(self.unfinished)

    def _parts(self, entries: Mapping[str, Entry]) -> dict[str, dict[str, Entry]]:
        if not self.pattern:
            return {"": dict(entries)}
        meant = _meant(self.pattern)
        found: dict[str, dict[str, Entry]] = {}
        for key, entry in sorted(entries.items()):
            found.setdefault(meant(key) or key, {})[key] = entry
        return found


def raise_error(error: NotataError) -> None:
    """Raise an error that ends the whole search."""
    raise error


def no_run(place: Place) -> RunMissingError:
    """Return the error for a place without any run."""
    return RunMissingError(f"there is no run at {place.given}, or below it", url=place.store.url)


def each(urls: URLs | None) -> list[str | os.PathLike[str] | UPath | Store]:
    """Return the places of an argument; by default the base folder of this machine."""
    if urls is None:
        return [default_base()]
    if isinstance(urls, str | bytes | os.PathLike | Store) or not isinstance(urls, Iterable):
        return [urls]  # a UPath of a bucket is none of these types; look_up rejects invalid places
    return list(urls)


def file_at(
    url: str | os.PathLike[str] | UPath | Store, options: Mapping[str, Any] | None = None, *, timeout: float = TIMEOUT
) -> File:
    """Return the file that a URL names. Cost: one request.

    Raises:
        MissingError: There is no file of this name, or it is a folder.
        ContainerMissingError: There is no such bucket.
    """
    if isinstance(url, str) and is_bucket(url):  # a bucket has no parent
        url = f"{url.rstrip('/')}/"
    store, name = (url, "") if isinstance(url, Store) else open_beside(url, options, timeout=timeout)
    missing = MissingError(f"there is nothing at {_called(url, _below(store.url, name))}", url=store.url, key=name)
    if not name:
        raise missing
    try:
        return File(_called(url, _below(store.url, name)), store, store.locate(name))
    except ContainerMissingError:
        raise
    except (MissingError, FolderError) as error:
        raise missing from error


def look_up(
    url: str | os.PathLike[str] | UPath | Store,
    options: Mapping[str, Any] | None = None,
    *,
    timeout: float = TIMEOUT,
    met: Callable[[Store, str, Entry], None] | None = None,
    failed: Callable[[NotataError], None] = raise_error,
    by_id: bool = False,
) -> Place:
    """Look up one URL. Cost: one listing of the keys that begin with its part before the first ``*``, ``?`` or ``[``.

    Args:
        url: The URL.
        options: Options for fsspec.
        timeout: As for `notata.Logbook`.
        met: Called during the listing with the store, folder and entry of the metadata.json of a run. It is called for
            most runs, because some can be recognized only at the end of the listing.
        failed: Called with the error of each folder below that cannot be opened, and of each file or run whose name
            cannot be used; at most 20, then once with the number of the others. By default, the first one is raised.
        by_id: If the listing is empty, look for a run with this id: ``outputs/a`` then means ``outputs/log_a``. This
            takes one more listing, also for a URL of a file.

    Raises:
        ConfigurationError: The URL is invalid, or of an unknown kind of storage.
        StorageError: The storage cannot be listed.
    """
    root, pattern = _parted(url)
    store = open_store(root or ".", options, timeout=timeout)
    meant = _meant(pattern) if pattern else None
    skips = _Skips(failed)
    unfinished: dict[str, Entry] = {}
    entries = _listed(store, _MAGIC.split(pattern, maxsplit=1)[0], meant, met, skips, unfinished)
    if by_id and not entries and not pattern and (other := _folder_of_id(url)):
        place = look_up(other, options, timeout=timeout, met=met, failed=failed)
        if place.runs:
            return place
    name = _called(root, store.url)
    runs, _ = runs_in(entries, root=name_of(store.url), lost=True)
    if not runs and keys.METADATA in entries:  # a run whose folder is not named log_…
        runs = {"": entries}
    if _may_have_orphans(store.url, pattern):
        runs = dict(sorted((runs | orphans_in(entries, runs, root=name_of(store.url))).items()))
    if meant:
        own = {key: entry for key, entry in entries.items() if key == pattern or key.startswith(f"{pattern}/")}
        entries = own or {key: entry for key, entry in entries.items() if meant(key)}
        unfinished = {key: entry for key, entry in unfinished.items() if meant(key)}
        meeting = {inside(key, runs) for key in entries}
        runs = {folder: files for folder, files in runs.items() if folder in meeting}
    possible = _possible(runs, store, skips)
    left = split(unfinished, possible)
    found = {
        folder: Found(_below(name, folder), store.below(folder) if folder else store, files, folder, left[folder])
        for folder, files in possible.items()
    }
    skips.end(store.url)
    return Place(_below(name, pattern), name, store, entries, found, pattern, unfinished)


class _Skips:
    """Reports names that a listing skips, and counts those beyond the limit."""

    def __init__(self, failed: Callable[[NotataError], None]) -> None:
        self._failed = failed
        self._count = 0

    def __call__(self, error: NotataError) -> None:
        self._count += 1
        if self._count <= _ERRORS_SHOWN:
            self._failed(error)

    def end(self, url: str) -> None:
        """Report the number of errors beyond the limit."""
        if self._count > _ERRORS_SHOWN:
            self._failed(
                StorageError(f"{self._count - _ERRORS_SHOWN} more files or folders in {url} were skipped", url=url)
            )


def _folder_of_id(url: str | os.PathLike[str] | UPath | Store) -> str:
    """Return the URL of the run whose id a URL ends with; empty if no run can have it."""
    if not isinstance(url, str) or "::" in url or is_bucket(url):
        return ""
    parent, slash, name = url.rstrip("/").rpartition("/")
    return f"{parent}{slash}log_{name}" if name.strip(".") and not name.startswith("log_") else ""


def _may_have_orphans(url: str, pattern: str) -> bool:
    """Check whether a listing can contain runs that lost their metadata.json; a listing of a part of a run cannot."""
    above, _, name = url.rstrip("/").rpartition("/")
    return "/log_" not in f"/{above}" and not (pattern and name.startswith("log_"))


def _possible(
    runs: Mapping[str, Mapping[str, Entry]], store: Store, failed: Callable[[NotataError], object]
) -> dict[str, Mapping[str, Entry]]:
    """Return the runs that can be opened. Other programs may create folders with names that no key can have."""
    found = {}
    for folder, files in runs.items():
        problem = _problem(folder)
        if problem is None:
            found[folder] = files
            continue
        where = quoted(_below(store.url, folder))
        message = f"cannot open the run {where}: {problem}; rename its folder"
        failed(StoredNameError(message, url=store.url, key=folder))
    return found


def _problem(folder: str) -> str | None:
    return keys.problem_of_stored(folder) if folder else None


def _listed(
    store: Store,
    beginning: str,
    meant: Callable[[str], str | None] | None,
    met: Callable[[Store, str, Entry], None] | None,
    skipped: Callable[[NotataError], object],
    unfinished: dict[str, Entry],
) -> dict[str, Entry]:
    """Return the files of a store by key, in order. An outermost folder ``log_…`` with a metadata.json is a run."""
    entries = {}
    if name_of(store.url).startswith("log_"):
        met = None

    def leave(entry: Entry) -> None:
        unfinished[entry.key] = entry

    for entry in store.scan(beginning=beginning, skipped=skipped, unfinished=leave):
        entries[entry.key] = entry
        if met is not None and entry.key.endswith(f"/{keys.METADATA}"):
            parent, _, name = entry.key.removesuffix(f"/{keys.METADATA}").rpartition("/")
            outermost = name.startswith("log_") and not f"/{parent}".count("/log_")
            folder = keys.join(parent, name)
            if outermost and (meant is None or meant(entry.key)) and not _problem(folder):
                met(store, folder, entry)
    return dict(sorted(entries.items()))


def given(url: str | os.PathLike[str] | UPath | Store) -> str:
    """Return the name of a place for users, without a lookup and without credentials.

    >>> given("sftp://ada:secret@host/runs")
    'sftp://host/runs'
    """
    try:
        root, pattern = _parted(url)
        if isinstance(root, str) and "://" in root:  # the package of its storage need not be installed
            return _below(shown_url(root), pattern)
        return _below(_called(root, open_store(root or ".").url), pattern)
    except (NotataError, ValueError):
        return "that place"


def is_pattern(url: str | os.PathLike[str] | UPath | Store) -> bool:
    """Check whether a URL is a pattern.

    >>> is_pattern("s3://bucket/log_*/log.txt"), is_pattern("s3://bucket/log_a")
    (True, False)
    """
    return bool(_parted(url)[1])


def is_bucket(url: str | os.PathLike[str] | UPath | Store) -> bool:
    """Check whether a URL is a whole bucket or server.

    >>> is_bucket("s3://bucket"), is_bucket("s3://bucket/log_a"), is_bucket("memory://a")
    (True, False, False)
    >>> is_bucket("http://127.0.0.1:8000"), is_bucket("sftp://ada:secret@host"), is_bucket("zip://x::a.zip")
    (True, True, False)
    """
    return isinstance(url, str) and _BUCKET.fullmatch(url.rstrip("/")) is not None


def _called(given: str | os.PathLike[str] | UPath | Store, url: str) -> str:
    """Return the name of a place for users: a local path as it was given, else the URL without credentials."""
    if isinstance(given, str) and "://" not in given and "::" not in given:
        return given.rstrip("/") or given
    return url


def _below(name: str, key: str) -> str:
    if not name or not key:
        return name or key
    return f"{name}{key}" if name.endswith("://") else f"{name.rstrip('/')}/{key}"


def _parted(url: str | os.PathLike[str] | UPath | Store) -> tuple[str | os.PathLike[str] | UPath | Store, str]:
    """Split a URL before a pattern. URLs of web servers and chained URLs have none, and a bucket name is none."""
    if not isinstance(url, str) or "::" in url or url.startswith(("http://", "https://")):
        return url, ""
    scheme, sign, path = url.rpartition("://")
    magic = _MAGIC.search(path)
    if magic is None:
        return url, ""
    at = path.rfind("/", 0, magic.start())
    if sign and at < 0:
        return url, ""
    return scheme + sign + (path[: max(at, 0)] or "/" * (at == 0)), path[at + 1 :].rstrip("/")


def _meant(pattern: str) -> Callable[[str], str | None]:
    """Return a function that maps a key to the file or folder that matches the pattern; an exact name matches too."""
    parts = tuple(pattern.split("/"))
    folder = f"{pattern}/"
    matches = functools.cache(functools.partial(_matches, parts))

    def meant(key: str) -> str | None:
        if key == pattern or key.startswith(folder):
            return pattern
        names = tuple(key.split("/"))
        for count in range(1, len(names)):
            if matches(names[:count]):
                return "/".join(names[:count])
        return key if _matches(parts, names) else None

    return meant


def _matches(parts: tuple[str, ...], names: tuple[str, ...]) -> bool:
    taken = {0}  # numbers of leading names that the parts so far can match
    for part in parts:
        if part == "**":
            taken = set(range(min(taken), len(names) + 1))
        else:
            taken = {count + 1 for count in taken if count < len(names) and fnmatch.fnmatchcase(names[count], part)}
        if not taken:
            return False
    return len(names) in taken
