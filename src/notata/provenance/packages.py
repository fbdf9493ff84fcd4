"""List the installed packages of this interpreter by the names of their folders, which is fast."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import sys
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

from notata._base.secrets import redacted, shown_url
from notata._base.terminal import one_line

__all__ = ["installed_packages", "packages_facts"]

_INFO: Final = re.compile(r"(?P<name>[^-]+)(?:-(?P<version>[^-]+))?(?:-py[\d.]+)?\.(?:dist|egg)-info")
_MOST: Final = 10_000  # packages
_ORIGIN: Final = 2**16  # bytes of a direct_url.json that are read
_COMMIT: Final = re.compile(r"[0-9A-Za-z._/-]{1,200}")


def installed_packages() -> bytes:
    r"""Return the content of ``code/packages.txt``: a line ``name==version`` for each package, sorted.

    A package that was not installed from an index has its origin, as in the output of ``pip freeze``: ``name @ URL``,
    without credentials. The first call takes some milliseconds; later ones read only folders of `sys.path` that are new
    or have changed.

    >>> any(line.startswith(b"numpy==") for line in installed_packages().splitlines())
    True
    """
    return _listed(tuple((folder, _changed(folder)) for folder in dict.fromkeys(sys.path)))


def packages_facts(content: bytes) -> dict[str, Any]:
    """Return what metadata.json says about this content: the number of packages, and the digest."""
    return {"packages": content.count(b"\n"), "sha256": hashlib.sha256(content).hexdigest()}


def _changed(folder: str) -> int:
    """Return when a folder was last changed, as an installation does; 0 if it does not exist."""
    try:
        return os.stat(folder or ".").st_mtime_ns
    except (OSError, ValueError):
        return 0


@functools.lru_cache(2)
def _listed(path: tuple[tuple[str, int], ...]) -> bytes:
    found: dict[str, str] = {}
    for folder, changed in path:
        for name, line in _in_folder(folder or ".", changed):
            found.setdefault(name, line)
    lines = [line for _, line in sorted(found.items())[:_MOST]]
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")


@functools.lru_cache(100)
def _in_folder(folder: str, _changed: int) -> tuple[tuple[str, str], ...]:
    """Return name and line of each package in a folder."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.endswith((".dist-info", ".egg-info"))]
    except OSError:  # not there, or a zip file
        return ()
    return tuple(filter(None, (_described(folder, name) for name in sorted(names))))


def _described(folder: str, entry: str) -> tuple[str, str] | None:
    found = _INFO.fullmatch(entry)
    if found is None:
        return None
    name = re.sub(r"[-_.]+", "-", found["name"]).lower()
    version = found["version"] or _version_in(os.path.join(folder, entry, "PKG-INFO"))
    line = f"{name}=={version}" if version else name
    if entry.endswith(".dist-info"):
        line = _from_origin(os.path.join(folder, entry, "direct_url.json"), name, line)
    return name, one_line(line, 1000)


def _version_in(path: str) -> str:
    """Return the version in the metadata of a package whose folder does not name it."""
    with suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        for line in file.read(_ORIGIN).splitlines():
            if line.lower().startswith("version:"):
                return line.partition(":")[2].strip()
    return ""


def _from_origin(path: str, name: str, line: str) -> str:
    """Return the line of a package with its origin (PEP 610), if it does not come from an index."""
    try:
        with open(path, encoding="utf-8") as file:
            origin = json.loads(file.read(_ORIGIN))
        url = redacted(_without_query(shown_url(str(origin["url"]))))  # `google-auth==2` has the form of a secret
        vcs, folder = origin.get("vcs_info"), origin.get("dir_info")
        if isinstance(vcs, dict):
            commit = str(vcs.get("commit_id", ""))
            return f"{name} @ {vcs.get('vcs')}+{url}{'@' + commit if _COMMIT.fullmatch(commit) else ''}"
        editable = isinstance(folder, dict) and folder.get("editable") is True
        return f"{name} @ {url}{f'  # editable, {line}' if editable else ''}"
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return line


def _without_query(url: str) -> str:
    return urlsplit(url)._replace(query="", fragment="").geturl()
