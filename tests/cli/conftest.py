"""One fleet of runs on a disk and the same bytes in buckets, made once per test worker and only read."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from notata.store import Blob, open_store
from notata.store.backends.memory import MemoryBackend
from tests.backends import Place
from tests.fleet import fill


@dataclass(frozen=True)
class Shelf:
    """The fleet at one place.

    Attributes:
        place: Its location.
        local: The same files on a disk, for `grep`, `ls` and `jq`.
    """

    place: Place
    local: Path

    @property
    def url(self) -> str:
        """The URL passed to the command."""
        return self.place.url

    @property
    def options(self) -> list[str]:
        """The storage options passed to the command."""
        return [f"--storage-option={name}={value}" for name, value in self.place.options.items()]


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("fleet")
    running = fill(folder)
    yield folder
    running.mark_complete()


@pytest.fixture(scope="session", params=["local", "s3", "gcs"])
def shelf(request: pytest.FixtureRequest, fleet: Path) -> Iterator[Shelf]:
    """The fleet on a disk, in S3 and in GCS."""
    if request.param == "local":
        yield Shelf(Place("local", str(fleet)), fleet)
        return
    server = request.getfixturevalue("moto_server" if request.param == "s3" else "gcs_server")
    place = Place(request.param, f"{server.url}/{uuid.uuid4().hex}", server.options)
    for path in sorted(fleet.rglob("*")):
        if path.is_file() and ".notata-" not in path.name:
            place.put(path.relative_to(fleet).as_posix(), path.read_bytes())
    yield Shelf(place, fleet)
    open_store(place.url, place.options).clear()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """Record each range read from a file in memory: key, start and length in bytes."""
    ranges: list[tuple[str, int, int]] = []
    whole = MemoryBackend.get

    def get(
        self: MemoryBackend, key: str, start: int, end: int | None, version: str | None = None, limit: int | None = None
    ) -> Blob:
        blob = whole(self, key, start, end, version, limit)
        ranges.append((key, start, len(blob.data)))
        return blob

    monkeypatch.setattr(MemoryBackend, "get", get)
    return ranges


@pytest.fixture
def failing_log_b(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make reads of ``log_b/log.txt`` in memory fail."""
    whole = MemoryBackend.get

    def get(
        self: MemoryBackend, key: str, start: int, end: int | None, version: str | None = None, limit: int | None = None
    ) -> Blob:
        if self._file(key).endswith("log_b/log.txt"):
            raise OSError("on purpose")
        return whole(self, key, start, end, version, limit)

    monkeypatch.setattr(MemoryBackend, "get", get)
