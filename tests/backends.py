"""An empty folder on each backend, and access to its bytes through plain fsspec instead of the code under test."""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import fsspec
from fsspec.core import strip_protocol

from notata import Logbook, Storage
from notata._base import times
from notata.store import Store, open_store


@dataclass(frozen=True)
class Place:
    """An empty folder on one backend, used by a single test.

    Attributes:
        name: ``memory``, ``local``, ``s3``, ``gcs``, ``seaweed`` or ``ceph``.
        url: URL of the folder.
        options: Storage options for fsspec.
    """

    name: str
    url: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def bucket(self) -> bool:
        """Return True for object storage: no real folders, access over a network."""
        return self.name not in ("memory", "local")

    @property
    def is_s3(self) -> bool:
        """Return True if the server speaks the S3 protocol, whatever product it is."""
        return self.url.startswith("s3://")

    def store(self, **options: Any) -> Store:
        return open_store(self.url, self.options, **options)

    def logbook(self, run_id: str | int | None = "run", **arguments: Any) -> Logbook:
        """Start a run here; `Storage` receives its own arguments."""
        reached = {name: arguments.pop(name) for name in ("timeout", "durable", "progress") if name in arguments}
        return Logbook(run_id, Storage(self.url, self.options, **reached), **arguments)

    def raw(self) -> Any:
        """Return the plain fsspec file system."""
        protocol = self.url.partition("://")[0] if "://" in self.url else "file"
        options = {name: value for name, value in self.options.items() if name != "engine"}
        return fsspec.filesystem(protocol, use_listings_cache=False, **options)

    def bytes(self, key: str) -> builtins.bytes:
        """Read a file with plain fsspec."""
        data: builtins.bytes = self.raw().cat_file(f"{self.url}/{key}")
        return data

    def put(self, key: str, data: builtins.bytes) -> None:
        """Write a file with plain fsspec."""
        fs = self.raw()
        if not self.bucket:
            fs.makedirs(f"{self.url}/{key}".rpartition("/")[0], exist_ok=True)
        fs.pipe_file(f"{self.url}/{key}", data)

    def names(self, *, logs: bool = False) -> list[str]:
        """List all files with plain fsspec, including hidden ones; ``log.txt`` only with `logs`."""
        fs = self.raw()
        start = len(strip_protocol(self.url)) + 1
        paths = None
        while paths is None:
            try:
                paths = fs.find(self.url)
            except RuntimeError as error:  # in memory: an open run wrote its log during the listing
                if "changed size during iteration" not in str(error):
                    raise
        found = sorted(path[start:] for path in paths if path[start:])
        return [name for name in found if logs or not name.endswith("/log.txt")]

    def files(self, *, logs: bool = True) -> dict[str, builtins.bytes]:
        """Read all files with plain fsspec, by key; ``log.txt`` only with `logs`."""
        return {key: self.bytes(key) for key in self.names(logs=logs)}

    def fill(self, files: Mapping[str, builtins.bytes]) -> None:
        """Write files with plain fsspec."""
        for key, data in files.items():
            self.put(key, data)

    def log(self, run_id: str = "run") -> list[str]:
        """Return the messages of a run's log with their levels, read with plain fsspec."""
        lines = self.bytes(f"log_{run_id}/log.txt").decode().split("\n")
        assert lines.pop() == ""
        return [line.partition("] ")[2] if line.startswith("[") else line for line in lines]


def next_moment() -> None:
    """Wait for the next millisecond: two runs of one id that start in the same one count as one run."""
    before = times.now()
    while times.now() == before:
        pass
