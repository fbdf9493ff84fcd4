"""The environment of a storage on this machine: disk, sources of credentials, variables and versions.

No secret is shown: of credentials only their sources.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from notata._base.display import size
from notata.search.checks import Check
from notata.search.target import Target
from notata.store import BASE_DIR

__all__ = ["file_system", "kind_of", "space", "surroundings"]

_NETWORKED: Final = ("9p", "afs", "beegfs", "ceph", "cifs", "fuse.", "glusterfs", "gpfs", "lustre", "nfs", "smb")
_SHOWN: Final = ("NOTATA_LOG_LEVEL", "NOTATA_DISABLED")  # variables without secrets
_PACKAGES: Final = ("notata", "fsspec", "s3fs", "gcsfs", "universal_pathlib", "numpy", "obstore")
_LITTLE: Final = 10**9  # bytes
_VARIABLES: Final = {
    "s3": (
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ROLE_ARN",
        "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION", "AWS_REGION",
    ),
    "gs": ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "STORAGE_EMULATOR_HOST"),
}  # fmt: skip
_FILES: Final = {
    "s3": (("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"), ("AWS_CONFIG_FILE", "~/.aws/config")),
    "gs": (("GOOGLE_APPLICATION_CREDENTIALS", "~/.config/gcloud/application_default_credentials.json"),),
}


def space(folder: str) -> Check:
    """Check the free space of the disk."""
    free = shutil.disk_usage(folder).free
    if free < _LITTLE:
        return Check("space", "poor", f"{size(free)} are free", "Free some space, or choose another place.", free)
    return Check("space", "yes", f"{size(free)} are free", value=free)


def file_system(folder: str) -> Check:
    """Check the file system of a folder."""
    kind = kind_of(os.path.realpath(folder))
    if kind is None:
        return Check("file system", "skipped", "this system does not report it")
    if kind.startswith(_NETWORKED):
        message = f"{kind}, a network file system"
        advice = (
            "If several machines claim runs or append to files, this is only as safe as the file server; other "
            "machines may see files late."
        )
        return Check("file system", "poor", message, advice)
    return Check("file system", "yes", kind)


def kind_of(folder: str, table: str = "/proc/self/mounts") -> str | None:
    """Return the type of the file system of a folder, if the system has such a table."""
    try:
        with open(table, encoding="utf-8", errors="surrogateescape") as file:
            mounts = [line.split()[1:3] for line in file]
    except OSError:
        return None
    best, kind = "", None
    for raw, found in mounts:
        point = raw.replace("\\040", " ").rstrip("/")
        if (folder == point or folder.startswith(f"{point}/")) and len(point) >= len(best):
            best, kind = point, found
    return kind


def surroundings(url: str, options: Mapping[str, Any], redact: Callable[[str], str]) -> Iterator[Check]:
    """Yield the names of credentials for a URL and its options, and of variables and versions on this machine."""
    scheme = {"s3a": "s3", "gcs": "gs"}.get(url.partition("://")[0], url.partition("://")[0])
    if scheme in _VARIABLES:
        yield Check(
            "credentials",
            "info",
            "; ".join(_credentials(scheme, options)) or "none found in the places that notata checks",
        )
    yield Check("variables", "info", ", ".join(_variables()) or "no NOTATA_… or FSSPEC_… variable is set")
    yield Check("versions", "info", ", ".join(f"{name} {version}" for name, version in _versions()))


def _credentials(scheme: str, options: Mapping[str, Any]) -> Iterator[str]:
    """Yield the sources of credentials, never a credential itself."""
    if options:
        yield f"storage options: {', '.join(sorted(map(str, options)))}"
    if found := [name for name in _VARIABLES[scheme] if os.environ.get(name)]:
        yield f"environment: {', '.join(found)}"
    files = [os.path.expanduser(os.environ.get(name) or usual) for name, usual in _FILES[scheme]]
    if found := [path for path in files if os.path.isfile(path)]:
        yield f"files: {', '.join(found)}"
    folder = os.environ.get("FSSPEC_CONFIG_DIR") or os.path.expanduser("~/.config/fsspec")
    with suppress(OSError):
        if found := sorted(name for name in os.listdir(folder) if name.endswith((".json", ".ini", ".toml"))):
            yield f"configuration of fsspec: {', '.join(os.path.join(folder, name) for name in found)}"


def _variables() -> Iterator[str]:
    for name in sorted(os.environ):
        if name == BASE_DIR:
            yield f"{name}={Target(os.environ[name]).name}"
        elif name in _SHOWN:
            yield f"{name}={os.environ[name]}"
        elif name.startswith(("NOTATA_", "FSSPEC_")):
            yield name


def _versions() -> Iterator[tuple[str, str]]:
    yield "python", platform.python_version()
    for name in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            yield name, importlib.metadata.version(name)
