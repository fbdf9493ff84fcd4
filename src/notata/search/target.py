"""Targets: what a user names, a run, a folder of runs, a file or a pattern of those, parsed once from its URL."""

from __future__ import annotations

import fnmatch
import functools
import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from notata._base.secrets import shown_url
from notata.errors import NotataError
from notata.store import TIMEOUT, Backend, Location, Storage, Store, default_base, open_beside, open_store

if TYPE_CHECKING:
    from upath import UPath

__all__ = [
    "MAGIC",
    "URL",
    "Failed",
    "Target",
    "URLs",
    "below",
    "called",
    "matched_by",
    "matches",
    "raise_error",
    "targets",
]

MAGIC: Final = re.compile(r"[*?\[]")
_BUCKET: Final = re.compile(r"(?!memory:|file:|local:)[A-Za-z][A-Za-z0-9+.-]*://(?!.*::)[^/?]+")

URL: TypeAlias = "Location | Target"
"""A place: a run, an experiment, a folder of runs, a file, or a pattern of those."""

URLs: TypeAlias = "URL | Iterable[URL]"
"""One place or several: runs, experiments or folders of them. Names may be patterns with ``*``, ``?``, ``[…]`` and
``**``, which matches folders at any depth. A file or folder with exactly this name takes precedence."""

Failed: TypeAlias = "Callable[[NotataError], None]"
"""Called with errors that do not end a search."""


def raise_error(error: NotataError) -> None:
    """Raise an error that ends the whole search."""
    raise error


class Target:
    """A place that is parsed once, before anything is looked up there.

    Making a target makes no request. An invalid URL is reported by the function that uses the target.

    Args:
        url: A run, an experiment, a folder of runs, a file, or a pattern with ``*``, ``?``, ``[…]`` and ``**``.
        storage_options: Options for fsspec, on top of those of a `notata.Storage`. They appear in no message or repr.
        timeout: Seconds that one request may take; those of a `notata.Storage` take precedence.

    >>> Target("s3://bucket/outputs/log_*/log.txt").pattern
    'log_*/log.txt'
    >>> Target("sftp://ada:secret@host/runs").name
    'sftp://host/runs'
    """

    def __init__(
        self, url: Location, storage_options: Mapping[str, Any] | None = None, timeout: float = TIMEOUT
    ) -> None:
        if isinstance(url, Storage):
            storage_options = {**(url.options or {}), **(storage_options or {})} or None
            timeout = url.timeout
            url = default_base() if url.url is None else url.url
        self.url: str | os.PathLike[str] | UPath | Store = Store(url) if isinstance(url, Backend) else url
        self.storage_options = storage_options
        self.timeout = timeout

    def __repr__(self) -> str:
        return f"Target({self.name!r})"

    @cached_property
    def _parts(self) -> tuple[str | os.PathLike[str] | UPath | Store, str]:
        return _parted(self.url)

    @property
    def root(self) -> str | os.PathLike[str] | UPath | Store:
        """The URL before the pattern."""
        return self._parts[0]

    @property
    def pattern(self) -> str:
        """The part of the URL from the first folder or file name with a wildcard on; empty if there is none."""
        return self._parts[1]

    @cached_property
    def store(self) -> Store:
        """The store of the folder before the pattern. No request.

        Raises:
            ConfigurationError: The URL or an option is invalid, or the kind of storage is unknown.
        """
        return open_store(self.root or ".", self.storage_options, timeout=self.timeout)

    @property
    def folder(self) -> Store:
        """The store of the whole URL, without wildcards: for a place that may not exist yet. No request.

        Raises:
            ConfigurationError: The URL or an option is invalid, or the kind of storage is unknown.
        """
        return open_store(self.url, self.storage_options, timeout=self.timeout)

    def beside(self) -> tuple[Store, str]:
        """Return the store of the folder that contains the target, and the target's key in it. No request."""
        if isinstance(self.url, Store):
            return self.url, ""
        url = f"{self.url.rstrip('/')}/" if isinstance(self.url, str) and self.is_bucket else self.url
        return open_beside(url, self.storage_options, timeout=self.timeout)  # a bucket has no parent

    def above(self, levels: int) -> Store | None:
        """Return the store of a folder above the one before the pattern; None if it has no address. No request.

        Args:
            levels: 1 for its parent, 2 for the parent of that.

        >>> Target("memory://outputs/sweep/runs/log_a").above(2)
        Store('memory://outputs/sweep')
        """
        root = self.root
        if isinstance(root, Store) or (isinstance(root, str) and "::" in root):
            return None
        if isinstance(root, str) and "://" in root:
            scheme, _, path = root.rstrip("/").partition("://")
            names = path.split("/")
            above: Location = f"{scheme}://{'/'.join(names[:-levels])}"
            has_one = len(names) > levels
        else:
            folder = Path(os.path.abspath(root)) if isinstance(root, str) else root
            parents = getattr(folder, "parents", ())  # of a path or UPath
            has_one = len(parents) >= levels
            above = parents[levels - 1] if has_one else ""
        return open_store(above, self.storage_options, timeout=self.timeout) if has_one else None

    @property
    def is_bucket(self) -> bool:
        """True if the URL is a whole bucket or server.

        >>> Target("s3://bucket").is_bucket, Target("s3://bucket/log_a").is_bucket, Target("memory://a").is_bucket
        (True, False, False)
        >>> Target("http://127.0.0.1:8000").is_bucket, Target("zip://x::a.zip").is_bucket
        (True, False)
        """
        return isinstance(self.url, str) and _BUCKET.fullmatch(self.url.rstrip("/")) is not None

    @property
    def name(self) -> str:
        """The name for users, without a lookup and without credentials."""
        root, pattern = self._parts
        try:
            if isinstance(root, str) and "://" in root:  # the package of its storage need not be installed
                return below(shown_url(root), pattern)
            return below(called(root, self.store.url), pattern)
        except (NotataError, ValueError):
            return "that place"

    def of_id(self) -> Target | None:
        """Return the run whose id the URL ends with: ``outputs/log_a`` for ``outputs/a``; None if there can be none."""
        if not isinstance(self.url, str) or "::" in self.url or self.is_bucket or self.pattern:
            return None
        parent, slash, name = self.url.rstrip("/").rpartition("/")
        possible = name.strip(".") and not name.startswith("log_")
        return Target(f"{parent}{slash}log_{name}", self.storage_options, self.timeout) if possible else None


def targets(
    urls: URLs | None, storage_options: Mapping[str, Any] | None = None, timeout: float = TIMEOUT
) -> list[Target]:
    """Return the targets of an argument; by default the base folder of this machine.

    Args:
        urls: One place or several.
        storage_options: The options of places that are not targets already.
        timeout: The time limit of places that have none of their own.
    """
    if urls is None:
        urls = default_base()
    if isinstance(urls, str | bytes | os.PathLike | Storage | Store | Backend | Target) or not isinstance(
        urls, Iterable
    ):
        urls = [urls]  # a UPath of a bucket is none of these types; opening its store rejects invalid places
    return [url if isinstance(url, Target) else Target(url, storage_options, timeout) for url in urls]


def called(given: str | os.PathLike[str] | UPath | Store, url: str) -> str:
    """Return the name of a place for users: a local path as it was given, else its URL without credentials."""
    if isinstance(given, str) and "://" not in given and "::" not in given:
        return given.rstrip("/") or given
    return url


def below(name: str, key: str) -> str:
    """Return the name for users of a key in a folder."""
    if not name or not key:
        return name or key
    return f"{name}{key}" if name.endswith("://") else f"{name.rstrip('/')}/{key}"


def _parted(url: str | os.PathLike[str] | UPath | Store) -> tuple[str | os.PathLike[str] | UPath | Store, str]:
    """Split a URL before a pattern. URLs of web servers and chained URLs have none, and a bucket name is none."""
    if not isinstance(url, str) or "::" in url or url.startswith(("http://", "https://")):
        return url, ""
    scheme, sign, path = url.rpartition("://")
    magic = MAGIC.search(path)
    if magic is None:
        return url, ""
    at = path.rfind("/", 0, magic.start())
    if sign and at < 0:
        return url, ""
    return scheme + sign + (path[: max(at, 0)] or "/" * (at == 0)), path[at + 1 :].rstrip("/")


def matched_by(pattern: str) -> Callable[[str], str | None]:
    """Return a function that maps a key to the file or folder that matches the pattern; an exact name matches too."""
    parts = tuple(pattern.split("/"))
    folder = f"{pattern}/"
    matching = functools.cache(functools.partial(matches, parts))

    def matched(key: str) -> str | None:
        if key == pattern or key.startswith(folder):
            return pattern
        names = tuple(key.split("/"))
        for count in range(1, len(names)):
            if matching(names[:count]):
                return "/".join(names[:count])
        return key if matches(parts, names) else None

    return matched


def matches(parts: tuple[str, ...], names: tuple[str, ...]) -> bool:
    """Check whether the parts of a path match the parts of a pattern, one by one; ``**`` matches any number."""
    taken = {0}  # numbers of leading names that the parts so far can match
    for part in parts:
        if part == "**":
            taken = set(range(min(taken), len(names) + 1))
        else:
            taken = {count + 1 for count in taken if count < len(names) and fnmatch.fnmatchcase(names[count], part)}
        if not taken:
            return False
    return len(names) in taken
