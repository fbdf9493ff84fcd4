"""Write a report to a disk, a bucket or an open file; only an earlier report is replaced."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final, cast

from notata._base import keys
from notata.errors import ConfigurationError, ExistsError, FolderError, MissingError, StorageError
from notata.page.bundle import MARKER
from notata.run.state import read_state
from notata.search.target import URL, Target
from notata.store import Store

__all__ = ["OpenOutput", "Output", "StoredOutput", "bytes_of", "run_above"]

_UNITS: Final = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_DIGITS: Final = 30  # of a size
_FOLDERS: Final = 100  # above a report that are looked at
_SIZE: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.IGNORECASE)


def bytes_of(size: int | str) -> int:
    """Return a size in bytes, from a number or a text such as ``20 MB``.

    Raises:
        ConfigurationError: It is no size.

    >>> bytes_of("20 MB"), bytes_of("1.5kB"), bytes_of(3)
    (20000000, 1500, 3)
    """
    match = _SIZE.fullmatch(str(size)) if not isinstance(size, bool) else None
    if match is None or match[2].lower() not in _UNITS or len(match[1]) > _DIGITS:
        raise ConfigurationError(f"invalid size {str(size)[:50]!r}: write a number and B, kB, MB or GB, as in '20 MB'")
    return int(float(match[1]) * _UNITS[match[2].lower()])


class Output(ABC):
    """A place to which a report is written.

    Attributes:
        url: The URL, without credentials.
    """

    url: str

    def check(self) -> None:  # noqa: B027 - an open file needs no check
        """Check that the place can be written.

        Raises:
            ExistsError: It is a file that is not a report.
            ConfigurationError: It is in a run, or no file.
        """

    def check_runs(self, urls: Iterable[str]) -> None:  # noqa: B027
        """Check that the place is in none of the runs with these URLs. No request.

        Raises:
            ConfigurationError: It is in one of them.
        """

    @abstractmethod
    def write(self, parts: Iterable[bytes]) -> int:
        """Write a report; return its size in bytes."""


class OpenOutput(Output):
    """An open binary file, such as the standard output."""

    def __init__(self, file: IO[bytes]) -> None:
        self.url = "-"
        self._file = file

    def write(self, parts: Iterable[bytes]) -> int:
        size = 0
        for part in parts:
            self._file.write(part)
            size += len(part)
        self._file.flush()
        return size


class StoredOutput(Output):
    """A file on any storage. A reader sees the whole report or the one before.

    Args:
        place: The file.
        storage_options: Options for fsspec.
        force: Replace a file that is not a report, too.

    Raises:
        ConfigurationError: The place is no file, or of an unknown kind of storage.
    """

    def __init__(self, place: URL, storage_options: Mapping[str, Any] | None = None, *, force: bool = False) -> None:
        target = place if isinstance(place, Target) else Target(place, storage_options)
        self._target = target
        self._store, self._key = _parted(target)
        self._force = force
        self.url = f"{self._store.url.rstrip('/')}/{self._key}"

    def check(self) -> None:
        """Check that the place may be written. Two requests, and one for each folder above called ``log_…``.

        On a disk, links to folders are followed, and each folder above is looked at, whatever its name.
        """
        if folder := run_above(self._target, self._store):
            raise self._in_run(folder)
        try:
            beginning = self._store.fetch(self._key, 0, len(MARKER)).data
        except FolderError as error:
            raise self._folder() from error
        except MissingError:
            if self._store.has_folder(self._key):
                raise self._folder() from None
            return
        if beginning != MARKER and not self._force:
            raise ExistsError(
                f"cannot write a report to {self.url}: the file exists and is not a report of notata. Choose another "
                "name, or replace it with force=True (--force)",
                url=self._store.url,
                key=self._key,
            )

    def _folder(self) -> ConfigurationError:
        return ConfigurationError(f"cannot write a report to {self.url}: it is a folder; name a file")

    def check_runs(self, urls: Iterable[str]) -> None:
        """Check that the place is in none of the runs with these URLs. No request.

        Raises:
            ConfigurationError: It is in one of them.
        """
        for url in urls:
            if self.url.startswith(f"{url.rstrip('/')}/"):
                raise self._in_run(url)

    def _in_run(self, folder: str) -> ConfigurationError:
        return ConfigurationError(
            f"cannot write a report to {self.url}: it is in the run {folder}, whose files are its record. Choose a "
            "file outside any run"
        )

    def write(self, parts: Iterable[bytes]) -> int:
        size = 0
        with cast("IO[bytes]", self._store.serving_pages().open(self._key, "wb")) as file:
            for part in parts:
                file.write(part)
                size += len(part)
        return size


def _parted(target: Target) -> tuple[Store, str]:
    """Return the store of the folder of a file, and its name.

    Raises:
        ConfigurationError: The target is no file.
    """
    url = target.url
    if isinstance(url, Store) or target.is_bucket or (isinstance(url, str) and (url.endswith("/") or not url)):
        raise ConfigurationError(f"cannot write a report to {target.name}: name a file, as in report.html")
    store, key = target.beside()
    if not key:
        raise ConfigurationError(f"cannot write a report to {target.name}: name a file, as in report.html")
    return store, keys.check(key)


def run_above(target: Target, store: Store) -> str:
    """Return the folder of the run in which a file would be; empty if there is none.

    One request, and one for each folder above called ``log_…``. On a disk, links to folders are followed, and each
    folder above is looked at, whatever its name.

    Args:
        target: The file.
        store: The store of its folder.
    """
    if store.exists(keys.METADATA):
        return store.url
    above = (folder.folder for folder in _folders_above(target, store))
    return next((store.url for store in above if _has_run(store)), "")


def _has_run(store: Store) -> bool:
    """Check whether a folder is a run: by its name too, as many programs write a metadata.json."""
    if not store.exists(keys.METADATA):
        return False
    if store.url.rpartition("/")[2].startswith("log_"):
        return True
    try:
        return "run_id" in read_state(store)[0]
    except StorageError:
        return False


def _folders_above(target: Target, store: Store) -> Iterator[Target]:
    """Yield the folders above a file that may be runs: those called ``log_…``, and on a disk all, without links."""
    url = store.url + "/" if store.is_local else target.url
    if store.is_local and "://" not in store.url:
        real = Path(os.path.realpath(store.url))
        yield from (Target(str(folder)) for folder in islice((real, *real.parents), _FOLDERS))
    elif isinstance(url, str):
        ends = [match.end() for match in re.finditer(r"(?:^|/)log_[^/]+(?=/)", url)] if "::" not in url else []
        yield from (Target(url[:end], target.storage_options, target.timeout) for end in ends)
    elif isinstance(url, os.PathLike) or hasattr(url, "parents"):
        above = (path for path in getattr(url, "parents", ()) if path.name.startswith("log_"))
        yield from (Target(path, target.storage_options, target.timeout) for path in above)
