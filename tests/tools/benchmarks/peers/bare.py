"""The storage libraries alone, without runs, log lines or metadata, as the lower bound."""

from __future__ import annotations

import hashlib
import io
import json
import os
import uuid
from pathlib import Path
from typing import Any

from tests.tools.benchmarks.peers.base import Peer, dump, load, payload
from tests.tools.benchmarks.sites import Site


def encoded(number: int) -> bytes:
    """Return the encoded artifact with this number."""
    return json.dumps(payload(number)).encode()


class Bare(Peer):
    """s3fs or gcsfs as fsspec creates them: ``pipe_file``, ``pipe``, and ``open`` for large data."""

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self.fs = self._filesystem()
        self.folder = f"{site.url}/{uuid.uuid4().hex}"

    def _filesystem(self) -> Any:
        import fsspec

        return fsspec.filesystem(self.site.protocol, use_listings_cache=False, **self.site.options)

    def store(self, number: int) -> None:
        self.fs.pipe_file(f"{self.folder}/a{number}.json", encoded(number))

    def many(self, count: int, few: int) -> int:
        folder = f"{self.site.url}/{uuid.uuid4().hex}"
        self.fs.pipe({f"{folder}/a{number}.json": encoded(number) for number in range(count)})
        return count

    def up(self, form: str) -> str:
        path = f"{self.folder}/large.{form}"
        with self.fs.open(path, "wb") as file:
            dump(self.array, form, file)
        return path

    def down(self, form: str, where: str) -> None:
        with self.fs.open(where, "rb") as file:
            self.found = load(form, file)

    def table(self, where: str, few: int) -> int:
        paths = [path for path in self.fs.find(where) if path.endswith("/metadata.json")]
        return len([json.loads(data) for data in self.fs.cat(paths).values()])


class BareFiles(Bare):
    """The same with ``put_file`` and ``get_file``; writing the local file before the upload is not timed."""

    def hold(self, size: int) -> None:
        super().hold(size)
        with self._file().open("wb") as file:
            dump(self.array, "npy", file)

    def up(self, form: str) -> str:
        path = f"{self.folder}/large.{form}"
        self.fs.put_file(str(self._file()), path)
        return path

    def down(self, form: str, where: str) -> None:
        self.fs.get_file(where, str(self._file()))
        with self._file().open("rb") as file:
            self.found = load(form, file)

    def _file(self) -> Path:
        return Path(self.site.scratch, f"{type(self).__name__}.npy")


class Adapter(Bare):
    """obstore's fsspec adapter. Its ``open`` needs ranges, which the fast server does not always support."""

    def _filesystem(self) -> Any:
        from importlib import import_module

        options = self.site.options
        store: Any = import_module("obstore.fsspec")
        return store.FsspecStore(
            "s3",
            endpoint=options["endpoint_url"],
            access_key_id=options["key"],
            secret_access_key=options["secret"],
            region="us-east-1",
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )

    def down(self, form: str, where: str) -> None:
        self.found = load(form, io.BytesIO(self.fs.cat_file(where)))


class AdapterFiles(BareFiles, Adapter):
    """obstore's ``put_file`` and ``get_file``."""


class Renamed(Peer):
    """A local file, written under another name and renamed: the minimal cost of an atomic write."""

    def store(self, number: int) -> None:
        path = f"{self.site.url}/a{number}.json"
        with open(f"{path}.tmp", "xb") as file:
            file.write(encoded(number))
        os.replace(f"{path}.tmp", path)


class Synced(Renamed):
    """The same with fsync of the file and of its folder: the minimal cost of a write that survives a power cut."""

    def store(self, number: int) -> None:
        path = f"{self.site.url}/b{number}.json"
        with open(f"{path}.tmp", "xb") as file:
            file.write(encoded(number))
            file.flush()
            os.fsync(file.fileno())
        os.replace(f"{path}.tmp", path)
        folder = os.open(self.site.url, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


class Hash(Peer):
    """SHA-256 of a value in memory, without storing it."""

    def value(self) -> None:
        hashlib.sha256(self.data)
