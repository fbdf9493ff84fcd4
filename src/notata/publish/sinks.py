"""Write a crate as a zip file, or as a folder, on any storage. Nothing is visible before it is complete.

A zip file is streamed into one atomic write. A folder on a disk is written beside its name, and renamed at the end.
Other storages cannot rename a folder: there, the metadata file comes last, and without it the folder is no crate. What
was written is removed if the crate fails.
"""

from __future__ import annotations

import os
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import date
from typing import IO, Any, Final, cast

from notata._base import keys
from notata.errors import ConfigurationError, ExistsError, NotataError
from notata.page.output import run_above
from notata.publish.pack import Sink
from notata.search.target import URL, Target
from notata.store import Store
from notata.store.files import PART
from notata.store.in_flight import InFlight

__all__ = ["CrateOutput", "output_of"]

_ZIP: Final = ".zip"
_PACKABLE: Final = frozenset({
    ".cff", ".csv", ".html", ".json", ".jsonl", ".log", ".md", ".patch", ".py", ".svg", ".toml", ".txt", ".xml",
    ".yaml", ".yml",
})  # fmt: skip
"""Suffixes of files that a zip file compresses: text. Arrays gain little, and pictures nothing."""

_LEVEL: Final = 6
_MODE: Final = 0o100644 << 16  # a regular file that all may read
_UNIX: Final = 3
_FIRST_YEAR: Final = 1980  # of times in a zip file


def output_of(place: URL, options: Mapping[str, Any] | None, *, replace: bool) -> CrateOutput:
    """Return the output for a place: a zip file if its name ends with ``.zip``, else a folder.

    Raises:
        ConfigurationError: The place has no name, or its kind of storage is unknown.
    """
    target = place if isinstance(place, Target) else Target(place, options)
    if isinstance(target.url, Store):
        return FolderOutput(target, target.url, None, replace=replace)
    if target.is_bucket:
        raise ConfigurationError(f"cannot write a crate to {target.name}: name a file or folder, as in crate.zip")
    store, key = target.beside()
    if not key:
        return FolderOutput(target, target.folder, None, replace=replace)
    keys.check(key)
    if key.lower().endswith(_ZIP):
        return ZipOutput(target, store, key, replace=replace)
    return FolderOutput(target, target.folder, store if _is_disk(store) else None, replace=replace)


class CrateOutput(ABC):
    """A place to which a crate is written.

    Attributes:
        url: Its URL, without credentials.
    """

    url: str

    def __init__(self, target: Target, *, replace: bool) -> None:
        self._target = target
        self._replace = replace

    @abstractmethod
    def check(self) -> None:
        """Check that the place can be written.

        Raises:
            ExistsError: Something is there.
            ConfigurationError: It is in a run.
        """

    def check_runs(self, urls: Iterable[str]) -> None:
        """Check that the place is neither in a run with one of these URLs, nor a folder above it. No request.

        Raises:
            ConfigurationError: It is.
        """
        for url in urls:
            if f"{self.url}/".startswith(f"{url.rstrip('/')}/") or url.startswith(f"{self.url.rstrip('/')}/"):
                raise self._in_run(url)

    def _check_place(self, store: Store) -> None:
        if folder := run_above(self._target, store):
            raise self._in_run(folder)

    def _in_run(self, folder: str) -> ConfigurationError:
        return ConfigurationError(
            f"cannot write a crate to {self.url}: it is in or above the run {folder}, whose files are its record. "
            "Choose a place outside any run"
        )

    @abstractmethod
    def opened(self, day: date) -> Any:
        """Return a context manager that yields the `Sink`: a clean end publishes the crate.

        Args:
            day: The date of the files in a zip file.
        """


class ZipOutput(CrateOutput):
    """A crate as a zip file, in one atomic write."""

    def __init__(self, target: Target, store: Store, key: str, *, replace: bool) -> None:
        super().__init__(target, replace=replace)
        self._store, self._key = store, key
        self.url = f"{store.url.rstrip('/')}/{key}"

    def check(self) -> None:
        self._check_place(self._store)
        if not self._replace and self._store.exists(self._key):
            raise ExistsError(
                f"cannot write a crate to {self.url}: the file exists. Choose another name, or replace it with "
                "replace=True (--replace)",
                url=self._store.url,
                key=self._key,
            )

    @contextmanager
    def opened(self, day: date) -> Iterator[Sink]:
        mode = "wb" if self._replace else "xb"
        with (
            cast("IO[bytes]", self._store.open(self._key, mode)) as raw,
            zipfile.ZipFile(raw, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
        ):
            yield _ZipSink(archive, day)


class _ZipSink:
    """The files of a zip file. Equal files give equal bytes, with the same version of zlib."""

    def __init__(self, archive: zipfile.ZipFile, day: date) -> None:
        self._archive = archive
        self._time = (max(_FIRST_YEAR, day.year), day.month, day.day, 0, 0, 0)

    def add(self, name: str, size: int, pieces: Iterator[bytes]) -> None:
        info = zipfile.ZipInfo(name, self._time)
        info.create_system, info.external_attr = _UNIX, _MODE
        packs = os.path.splitext(name)[1].lower() in _PACKABLE
        info.compress_type = zipfile.ZIP_DEFLATED if packs else zipfile.ZIP_STORED
        info._compresslevel = _LEVEL  # type: ignore[attr-defined]
        info.file_size = max(0, size)
        with self._archive.open(info, "w", force_zip64=size < 0 or size >= zipfile.ZIP64_LIMIT // 2) as file:
            for piece in pieces:
                file.write(piece)


class FolderOutput(CrateOutput):
    """A crate as a folder.

    Args:
        target: The place.
        store: The store of the folder.
        above: The store of the folder above, on a disk; None elsewhere.
        replace: Not supported for a folder that has files.
    """

    def __init__(self, target: Target, store: Store, above: Store | None, *, replace: bool) -> None:
        super().__init__(target, replace=replace)
        self._store, self._above = store, above
        self.url = store.url

    def check(self) -> None:
        self._check_place(self._store)
        if self._store.occupied():
            raise ExistsError(
                f"cannot write a crate to {self.url}: the folder already contains files. Choose another name",
                url=self.url,
            )

    @contextmanager
    def opened(self, day: date) -> Iterator[Sink]:
        store = self._store if self._above is None else self._above.hidden_folder()
        sink = _FolderSink(store)
        try:
            yield sink
            sink.land()
            sink.flying.check()
            sink.end()
            if self._above is not None:
                with self._above.guard("write", None):
                    os.rename(store.url, self._store.url)
        except BaseException as error:
            sink.stop(waits=isinstance(error, Exception))
            with suppress(NotataError):
                store.delete(sink.names)
                store.remove_empty_folders()
            raise


class _FolderSink:
    """The files of a folder. The last one comes alone, after all others.

    Attributes:
        names: The files that were begun.
        flying: The writes of small files.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._last: tuple[Store, str, bytes] | None = None
        self.names: list[str] = []
        self.flying: InFlight[str, str] = InFlight()

    def add(self, name: str, size: int, pieces: Iterator[bytes]) -> None:
        self._write_last()
        self.flying.check()
        store = self._store.serving_pages() if name == "ro-crate-preview.html" else self._store
        self.names.append(keys.check(name))
        if 0 <= size <= PART:
            self._last = store, name, b"".join(pieces)
            return
        with cast("IO[bytes]", store.open(name, "wb")) as file:
            for piece in pieces:
                file.write(piece)

    def _write_last(self) -> None:
        if self._last is not None:
            store, name, data = self._last
            self._last = None
            self.flying.begin(name, len(data), store.start_write, name, data)

    def land(self) -> None:
        """Wait for all writes but the last one."""
        self.flying.land()

    def stop(self, *, waits: bool) -> None:
        """End all writes: a write that is only cancelled may still reach the storage after its file was deleted.

        Args:
            waits: Whether to wait for the writes, rather than to cancel them.
        """
        if waits:
            self.flying.land()
        self.flying.cancel()

    def end(self) -> None:
        """Write the last file."""
        if self._last is not None:
            store, name, data = self._last
            store.write(name, data)


def _is_disk(store: Store) -> bool:
    """Check whether the store is a folder on a disk of this machine, where a folder can be renamed."""
    return store.is_local and "://" not in store.url
