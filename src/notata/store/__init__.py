"""Storage backends: one `Store` for every kind of storage, and the only package that uses fsspec.

`open_store` chooses the backend of a URL: ``local``, ``memory``, ``s3``, ``gcs``, ``azure``, or ``generic`` for others.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from notata._base.display import indefinite
from notata._base.progress import bar
from notata.errors import ConfigurationError, StorageError
from notata.store.backend import ABSENT, Backend
from notata.store.entries import Blob, Entry
from notata.store.options import check as check_options
from notata.store.storage import TIMEOUT, Storage, check_seconds
from notata.store.store import Store

if TYPE_CHECKING:
    from upath import UPath

__all__ = [
    "ABSENT",
    "BASE_DIR",
    "TIMEOUT",
    "Backend",
    "Blob",
    "Entry",
    "Location",
    "Storage",
    "Store",
    "default_base",
    "open_around",
    "open_base",
    "open_beside",
    "open_store",
]

Location: TypeAlias = "str | os.PathLike[str] | UPath | Storage | Store | Backend"
"""Where runs or files are: any fsspec URL, a local path, a `upath.UPath`, a `Storage`, a store, or a backend."""

BASE_DIR: Final = "NOTATA_BASE_DIR"
"""Environment variable with the folder of runs for scripts that give none."""

_DEFAULT_BASE_DIR: Final = "outputs"

_EXTRAS: Final = {
    "abfs": "azure",
    "abfss": "azure",
    "az": "azure",
    "dav": "webdav",
    "hdfs": "tables",
    "sftp": "sftp",
    "smb": "smb",
    "ssh": "ssh",
    "webdav": "webdav",
}
"""The extra of notata that installs the client of a protocol."""

_CLIENTS: Final = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}

_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(://|::)")
_VARIABLE: Final = re.compile(r"\$(\w+|\{\w+\})")
_FLATTENED: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(?:[/\\](?![/\\])|$)")
"""A URL without one of its slashes; a single letter would be a drive on Windows."""


def open_store(
    base: Location,
    storage_options: Mapping[str, Any] | None = None,
    *,
    timeout: float = TIMEOUT,
) -> Store:
    """Return the store whose root is `base`. This makes no request and creates nothing.

    Args:
        base: Any fsspec URL, local path, `upath.UPath` (whose storage options are used), `Storage`, store or backend.
        storage_options: For fsspec. They override those of the UPath, and both override fsspec's configuration and the
            environment variables of the cloud. For S3 also ``{"engine": "obstore"}``: plain writes and reads use
            obstore.
        timeout: Seconds that one request may take, and 1 second more for each 50 kB that it sends. While the response
            keeps coming, it may take longer: the time starts again with each piece. A storage that has never responded
            gets at most 10 seconds.

    Raises:
        ConfigurationError: The protocol is unknown, its package is missing, or its URL cannot hold runs.
        StorageError: The interpreter is ending.

    >>> open_store("memory://runs").below("log_a")
    Store('memory://runs/log_a')
    """
    if isinstance(base, Store):
        return base
    if isinstance(base, Backend):
        return Store(base)
    if isinstance(base, Storage):
        return _open_storage(base, storage_options)
    if sys.is_finalizing():  # no backend can be imported any more
        raise StorageError("cannot open a storage: the interpreter is shutting down; open it earlier")
    check_seconds("timeout", timeout)
    if storage_options is not None and not isinstance(storage_options, Mapping):
        raise ConfigurationError(
            f"storage_options must be a dictionary of options for fsspec, not {type(storage_options).__name__}"
        )
    url, options = _location(base)
    options |= storage_options or {}
    match = _URL.match(url)
    scheme = match[1].lower() if match else "file"
    if "::" not in url:
        check_options(scheme, {name: value for name, value in options.items() if name != "engine"})
    if scheme in ("file", "local") and "::" not in url:
        from notata.store.backends.local import LocalBackend

        return Store(LocalBackend(_local_path(url), timeout))
    if scheme == "memory":
        from notata.store.backends.memory import MemoryBackend

        return Store(MemoryBackend(url.partition("://")[2], options))
    return _remote(scheme, url, options, timeout)


Store.reopen = staticmethod(open_store)


def open_base(
    base: Location | None,
    storage_options: Mapping[str, Any] | None = None,
    *,
    timeout: float = TIMEOUT,
) -> Store:
    """Return the store of `base`, as `open_store` does; without a base, that of `BASE_DIR` or else ``outputs``.

    >>> import os
    >>> os.path.basename(open_base(None).url)
    'outputs'
    """
    return open_store(default_base() if base is None else base, storage_options, timeout=timeout)


def _open_storage(storage: Storage, options: Mapping[str, Any] | None) -> Store:
    """Open a storage; `options` override its own."""
    options = {**(storage.options or {}), **(options or {})} or None
    if options and isinstance(storage.url, Store | Backend):
        raise ConfigurationError(
            f"storage options cannot change {storage.url.url}, which is already open; pass its URL"
        )
    store = open_base(storage.url, options, timeout=storage.timeout)
    if storage.durable:
        store = store.durably()
    return store.with_progress(bar) if storage.progress else store


def default_base() -> str:
    """Return the base folder for runs whose script gives none: the value of `BASE_DIR`, or else ``outputs``.

    Environment variables in that value, as in ``$SCRATCH/runs``, are expanded, since it need not be set by a shell.

    Raises:
        ConfigurationError: One of these variables is not set.
    """
    base = os.path.expandvars(os.environ.get(BASE_DIR) or _DEFAULT_BASE_DIR)
    if unset := _VARIABLE.search(base):
        raise ConfigurationError(
            f"{BASE_DIR} is {base!r}, but the environment variable {unset[0]} is not set; set it, or change {BASE_DIR}"
        )
    return base


def open_beside(
    path: str | os.PathLike[str] | UPath,
    storage_options: Mapping[str, Any] | None = None,
    *,
    timeout: float = TIMEOUT,
) -> tuple[Store, str]:
    """Return the store of a file's folder and the file's name. The query of a signed URL stays with the store.

    >>> open_beside("memory://runs/results/mesh.vtk")
    (Store('memory://runs/results'), 'mesh.vtk')
    """
    from upath import UPath

    url, options = _location(path)
    options |= storage_options or {}
    if isinstance(path, UPath) and not url.startswith(("http://", "https://")):
        return open_store(path.parent, storage_options, timeout=timeout), path.name
    if not _URL.match(url):
        folder, name = os.path.split(os.path.abspath(os.path.expanduser(url)))
        return open_store(folder, timeout=timeout), name
    links = url.split("::")  # zip://in/a.txt::file:///z.zip, simplecache::http://host/a.txt
    at = next((at for at, link in enumerate(links) if "://" in link), 0)
    scheme, _, whole = links[at].partition("://")
    whole, mark, query = whole.partition("?") if scheme in ("http", "https") else (whole, "", "")
    folder, slash, name = whole.rpartition("/")
    if not slash and scheme in ("http", "https"):  # only a server, maybe with user and password
        folder, name = whole, ""
    links[at] = f"{scheme}://{folder or slash}{mark}{query}"
    return open_store("::".join(links), options, timeout=timeout), name


def open_around(
    path: str | os.PathLike[str] | UPath,
    fits: Callable[[str], bool],
    storage_options: Mapping[str, Any] | None = None,
) -> list[tuple[Store, str]]:
    """Return the stores of the folders around a file, or of itself, whose names fit, and its key in each of them.

    No request. The innermost folder comes first. A chain of URLs and a web address have none.

    >>> open_around("memory://runs/log_a/data/t.npy", lambda name: name.startswith("log_"))
    [(Store('memory://runs/log_a'), 'data/t.npy')]
    """
    url, options = _location(path)
    options |= storage_options or {}
    match = _URL.match(url)
    if "::" in url or (match and match[1].lower() in ("http", "https")):
        return []
    start = match.end() if match else 0
    text = url[start:] if match else _absolute(url).replace(os.sep, "/")
    parts = text.rstrip("/").split("/")
    found = [number for number, name in enumerate(parts, 1) if fits(name)]
    return [
        (open_store(url[:start] + "/".join(parts[:number]), options or None), "/".join(parts[number:]))
        for number in reversed(found)
    ]


def _remote(scheme: str, url: str, options: dict[str, Any], timeout: float) -> Store:
    engine = options.pop("engine", None)
    if engine is not None and (scheme not in ("s3", "s3a") or engine not in ("s3fs", "obstore")):
        raise ConfigurationError(
            f"engine must be 's3fs' or 'obstore', and applies only to s3://; not {engine!r} for {scheme}://"
        )
    _check_client(scheme)
    if engine == "obstore":
        from notata.store.backends.s3_obstore import ObstoreS3Backend as Chosen
    elif scheme in ("s3", "s3a"):
        from notata.store.backends.s3 import S3Backend as Chosen  # type: ignore[assignment]
    elif scheme in ("gs", "gcs"):
        from notata.store.backends.gcs import GCSBackend as Chosen  # type: ignore[assignment]
    else:
        from fsspec import get_filesystem_class

        if scheme in ("abfs", "abfss", "az"):
            from notata.store.backends.azure import AzureBackend as Chosen  # type: ignore[assignment]
        else:
            from notata.store.backends.generic import GenericBackend as Chosen  # type: ignore[assignment]

        try:
            get_filesystem_class(scheme)
        except (ImportError, ValueError) as error:
            extra = f"; for example, run pip install 'notata[{_EXTRAS[scheme]}]'" if scheme in _EXTRAS else ""
            raise ConfigurationError(f"cannot open {scheme}:// storage: {error}{extra}", url=scheme) from error
    return Store(Chosen(url, options, timeout))


def _check_client(scheme: str) -> None:
    """Refuse a bucket whose client is not installed, as in an environment for disks only. Nothing is imported."""
    from importlib.util import find_spec

    client = _CLIENTS.get(scheme)
    if client is not None and find_spec(client) is None:
        raise ConfigurationError(
            f"cannot open {scheme}:// storage: the package {client} is not installed; run pip install {client}",
            url=scheme,
        )


def _location(base: str | os.PathLike[str] | UPath) -> tuple[str, dict[str, Any]]:
    """Return the URL and the storage options of a folder or file that a user passes in any form."""
    if not isinstance(base, str):
        from upath import UPath

        if isinstance(base, UPath) and base.protocol not in ("", "file", "local"):
            return str(base), dict(base.storage_options)
    text = _text(base)
    if not text:
        raise ConfigurationError("the path or URL is empty; pass '.' for the working folder")
    if scheme := _flattened(text):
        raise ConfigurationError(
            f"this path was a URL ({scheme}://) from which pathlib.Path or os.path removed a slash; pass the URL as a "
            "string or as a upath.UPath"
        )
    if _VARIABLE.match(text):
        raise ConfigurationError(
            f"{text!r} begins with an environment variable, which notata does not expand. Pass "
            f"os.path.expandvars({text!r}), or {'./' + text!r} for a folder of this name."
        )
    if isinstance(base, str):
        return text, {}
    # A path of a run in background mode waits for pending writes when its name or options are read.
    return _absolute(text), dict(getattr(base, "storage_options", None) or {})


def _text(base: object) -> str:
    text = os.fspath(base) if isinstance(base, str | os.PathLike) else None
    if not isinstance(text, str):
        raise ConfigurationError(f"expected a URL, a path or a UPath, not {indefinite(type(base).__name__)}")
    return text


def _flattened(text: str) -> str | None:
    """Return the protocol of a URL that has lost a slash, if fsspec knows that protocol.

    `os.path.abspath` prepends the working folder to it. If such a folder exists, the path is not taken for a URL.

    >>> _flattened("sftp:/host/runs"), _flattened("c:/runs"), _flattened("sftp://host/runs")
    ('sftp', None, None)
    """
    if ":" not in text:
        return None
    for link in text.split("::"):
        if (match := _FLATTENED.match(link)) and match[1].lower() in _protocols():
            return match[1]
    folder = ""
    for part in re.split(r"(?<=[/\\])", text if os.path.isabs(text) else ""):
        match = _FLATTENED.fullmatch(part)
        if match and match[1].lower() in _protocols() and not os.path.isdir(folder + part):
            return match[1]
        folder += part
    return None


def _protocols() -> frozenset[str]:
    from fsspec import available_protocols

    return frozenset(available_protocols())


def _absolute(path: str | os.PathLike[str]) -> str:
    """Return an absolute local path; ``~`` is the home folder, in a `pathlib.Path` as in a string."""
    return os.path.abspath(os.path.expanduser(path))


def _local_path(url: str) -> str:
    match = _URL.match(url)
    return os.path.expanduser(url[match.end() :] if match else url)
