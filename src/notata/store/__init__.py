"""Where bytes lie: one store for every storage, and the only room that touches fsspec.

`open_store` finds the backend of a URL: ``local``, ``memory``, ``s3``, ``gcs``, or ``generic`` for the rest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from notata.errors import ConfigurationError
from notata.store.base import ABSENT, Blob, Entry, Store

if TYPE_CHECKING:
    from upath import UPath

__all__ = [
    "ABSENT",
    "BASE_DIR",
    "TIMEOUT",
    "Blob",
    "Entry",
    "Store",
    "default_base",
    "open_base",
    "open_beside",
    "open_store",
]

BASE_DIR: Final = "NOTATA_BASE_DIR"
"""The environment variable that says where runs are kept whose script does not say."""

_DEFAULT_BASE_DIR: Final = "outputs"

TIMEOUT: Final = 30.0
"""Seconds that one request may take, besides the time its size needs."""

_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(://|::)")
_VARIABLE: Final = re.compile(r"\$(\w+|\{\w+\})")
_FLATTENED: Final = re.compile(r"(s3a?|gs|gcs|memory|abfss?|az|https?):/(?!/)")


def open_store(
    base: str | os.PathLike[str] | UPath | Store,
    storage_options: Mapping[str, Any] | None = None,
    *,
    timeout: float = TIMEOUT,
) -> Store:
    """The store whose root is `base`; nothing is requested or made yet.

    Args:
        base: Any fsspec URL, local path, `upath.UPath` (whose storage options are used), or a store.
        storage_options: For fsspec, over those of the UPath; fsspec's configuration and the clouds' environment
            variables lie below both. For S3 also ``{"engine": "obstore"}``: plain writes and reads go through obstore.
        timeout: Seconds that one request may take, besides the time its size needs (50 kB/s are expected). A storage
            that has never answered gets at most 10.

    Raises:
        ConfigurationError: No such protocol, its package is missing, or its URL cannot hold runs.

    >>> open_store("memory://runs").below("log_a")
    MemoryStore('memory://runs/log_a')
    """
    if isinstance(base, Store):
        return base
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
        raise ConfigurationError(f"timeout is a number of seconds, not {timeout!r}")
    if storage_options is not None and not isinstance(storage_options, Mapping):
        raise ConfigurationError(
            f"storage_options are names and values for fsspec, not {type(storage_options).__name__}"
        )
    url, options = _location(base)
    options |= storage_options or {}
    match = _URL.match(url)
    scheme = match[1].lower() if match else "file"
    if scheme in ("file", "local") and "::" not in url:
        from notata.store.local import LocalStore

        return LocalStore(_local_path(url))
    if scheme == "memory":
        from notata.store.memory import MemoryStore

        return MemoryStore(url.partition("://")[2], options)
    return _remote(scheme, url, options, timeout)


def open_base(
    base: str | os.PathLike[str] | UPath | Store | None,
    storage_options: Mapping[str, Any] | None = None,
    *,
    timeout: float = TIMEOUT,
) -> Store:
    """As `open_store`; without a base the one that `BASE_DIR` names, else ``outputs``.

    >>> import os
    >>> os.path.basename(open_base(None).url)
    'outputs'
    """
    return open_store(default_base() if base is None else base, storage_options, timeout=timeout)


def default_base() -> str:
    """Return the base folder of runs that name none: that of `BASE_DIR`, else ``outputs``.

    Other environment variables in it are replaced, as in ``$SCRATCH/runs``: what sets it may be no shell.

    Raises:
        ConfigurationError: One of them is not set.
    """
    base = os.path.expandvars(os.environ.get(BASE_DIR) or _DEFAULT_BASE_DIR)
    if unset := _VARIABLE.search(base):
        raise ConfigurationError(f"{BASE_DIR} is {base!r}, but the environment variable {unset[0]} is not set")
    return base


def open_beside(
    path: str | os.PathLike[str] | UPath,
    storage_options: Mapping[str, Any] | None = None,
    *,
    timeout: float = TIMEOUT,
) -> tuple[Store, str]:
    """The store of a file's folder, and the file's name there; the query of a signed URL stays with the store.

    >>> open_beside("memory://runs/results/mesh.vtk")
    (MemoryStore('memory://runs/results'), 'mesh.vtk')
    """
    from upath import UPath

    url, options = _location(path)
    options |= storage_options or {}
    if isinstance(path, UPath) and not url.startswith(("http://", "https://")):
        return open_store(path.parent, storage_options, timeout=timeout), path.name
    if not _URL.match(url):
        folder, name = os.path.split(os.path.abspath(os.path.expanduser(url)))
        return open_store(folder), name
    links = url.split("::")  # zip://in/a.txt::file:///z.zip, simplecache::http://host/a.txt
    at = next((at for at, link in enumerate(links) if "://" in link), 0)
    scheme, _, whole = links[at].partition("://")
    whole, mark, query = whole.partition("?") if scheme in ("http", "https") else (whole, "", "")
    folder, slash, name = whole.rpartition("/")
    if not slash and scheme in ("http", "https"):  # a server, which may have a user and a password before it
        folder, name = whole, ""
    links[at] = f"{scheme}://{folder or slash}{mark}{query}"
    return open_store("::".join(links), options, timeout=timeout), name


def _remote(scheme: str, url: str, options: dict[str, Any], timeout: float) -> Store:
    engine = options.pop("engine", None)
    if engine is not None and (scheme not in ("s3", "s3a") or engine not in ("s3fs", "obstore")):
        raise ConfigurationError(f"engine is 's3fs' or 'obstore', for s3:// only; not {engine!r} for {scheme}://")
    if engine == "obstore":
        from notata.store.s3_obstore import ObstoreS3Store as Chosen
    elif scheme in ("s3", "s3a"):
        from notata.store.s3 import S3Store as Chosen  # type: ignore[assignment]
    elif scheme in ("gs", "gcs"):
        from notata.store.gcs import GCSStore as Chosen  # type: ignore[assignment]
    else:
        from fsspec import get_filesystem_class

        from notata.store.generic import GenericStore as Chosen  # type: ignore[assignment]

        try:
            get_filesystem_class(scheme)
        except (ImportError, ValueError) as error:
            raise ConfigurationError(f"no storage for {scheme}:// here: {error}", url=scheme) from error
    return Chosen(url, options, timeout)


def _location(base: str | os.PathLike[str] | UPath) -> tuple[str, dict[str, Any]]:
    """URL and storage options of whatever a user calls a base folder."""
    if not isinstance(base, str):
        from upath import UPath

        if isinstance(base, UPath):
            local = base.protocol in ("", "file", "local")
            # To ask for its name, or its options, waits for what is on its way there.
            name = _absolute(cast("os.PathLike[str]", base)) if local else str(base)
            return name, dict(base.storage_options)
    text = os.fspath(base) if isinstance(base, str | os.PathLike) else None
    if not isinstance(text, str):
        raise ConfigurationError(f"a folder is named by a URL, a path or a UPath, not by {type(base).__name__}")
    if match := _FLATTENED.match(text):
        raise ConfigurationError(
            f"this was a URL ({match[1]}://) before pathlib.Path or os.path took one of its slashes; pass the URL as "
            "it was, or a UPath"
        )
    if _VARIABLE.match(text):
        raise ConfigurationError(
            f"{text!r} begins with an environment variable, which only a shell replaces. Pass "
            f"os.path.expandvars({text!r}), or {'./' + text!r} for a folder that is called so."
        )
    if not isinstance(base, str):
        return _absolute(text), {}
    if not text:
        raise ConfigurationError("a folder is named by an empty text; write '.' for the working folder")
    return text, {}


def _absolute(path: str | os.PathLike[str]) -> str:
    """A local path from the root; ``~`` is the home folder, in a `pathlib.Path` as in a string."""
    return os.path.abspath(os.path.expanduser(path))


def _local_path(url: str) -> str:
    match = _URL.match(url)
    return os.path.expanduser(url[match.end() :] if match else url)
