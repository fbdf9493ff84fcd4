"""Places for the contestants: empty folders of a storage, at a distance. The servers start on first use."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from tests import servers
from tests.tools.benchmarks.proxy import Proxy, distant, proxied

QUICK, REAL, GCS, LOCAL, MEMORY = "rclone", "seaweedfs", "fake-gcs-server", "local", "memory"
BUCKET = "test-bucket"


@dataclass(frozen=True)
class Site:
    """A new folder.

    Attributes:
        url: The folder.
        options: Storage options for fsspec.
        scratch: A folder on the local disk for other files of a contestant.
    """

    url: str
    options: dict[str, Any] = field(default_factory=dict)
    scratch: str = ""

    @property
    def protocol(self) -> str:
        return self.url.partition("://")[0] if "://" in self.url else "file"


@contextlib.contextmanager
def serving(folder: Path, milliseconds: float) -> Iterator[tuple[Site, Proxy]]:
    """Serve the folder `BUCKET` below `folder` by a fast server of its own, at this distance; the proxy counts.

    The server caches listings, so all files are there before it starts.
    """
    with servers.rclone(folder) as server, proxied(_port_of(server), milliseconds) as proxy:
        endpoint = f"http://127.0.0.1:{proxy.port}"
        yield Site(server.url, server.options | {"endpoint_url": endpoint}, str(folder)), proxy


def _port_of(server: servers.Server) -> int:
    port = urlsplit(server.endpoint).port
    assert port
    return port


class Sites(contextlib.AbstractContextManager["Sites"]):
    """Servers by kind and proxies by distance; all stop at the end of the block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open = contextlib.ExitStack()
        self._servers: dict[str, servers.Server] = {}
        self._ports: dict[tuple[str, float], int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._open.close()

    def at(self, kind: str, milliseconds: float = 0) -> Site:
        """Return an empty folder on one kind of storage, with this round trip in milliseconds."""
        name = uuid.uuid4().hex
        scratch = self._made(f"scratch-{name}")
        if kind == LOCAL:
            return Site(str(self._made(f"local-{name}")), {}, str(scratch))
        if kind == MEMORY:
            return Site(f"memory://{name}", {}, str(scratch))
        server = self._server(kind)
        endpoint = f"http://127.0.0.1:{self._port(kind, server, milliseconds)}"
        return Site(f"{server.url}/{name}", server.options | {"endpoint_url": endpoint}, str(scratch))

    def folder(self) -> Path:
        """Return an empty folder on the local disk."""
        return self._made(f"folder-{uuid.uuid4().hex}")

    def clear(self) -> None:
        """Free disk space: delete what has been measured on the local disk and in the fast server's bucket."""
        bucket = self._folder / QUICK / BUCKET
        for folder in bucket.iterdir() if bucket.exists() else ():
            shutil.rmtree(folder)
        for pattern in ("scratch-*", "local-*", "folder-*"):
            for folder in self._folder.glob(pattern):
                shutil.rmtree(folder)

    @staticmethod
    def clear_folder(folder: Path) -> None:
        """Free the disk space of one folder."""
        shutil.rmtree(folder, ignore_errors=True)

    def _server(self, kind: str) -> servers.Server:
        if kind not in self._servers:
            start = {
                QUICK: lambda: servers.rclone(self._made(QUICK)),
                REAL: lambda: servers.seaweed(self._made(REAL)),
                GCS: servers.fake_gcs,
            }[kind]
            self._servers[kind] = self._open.enter_context(start())
        return self._servers[kind]

    def _port(self, kind: str, server: servers.Server, milliseconds: float) -> int:
        if (kind, milliseconds) not in self._ports:
            self._ports[kind, milliseconds] = self._open.enter_context(distant(_port_of(server), milliseconds))
        return self._ports[kind, milliseconds]

    def _made(self, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        return folder
