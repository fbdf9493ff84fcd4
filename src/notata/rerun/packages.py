"""Compare the packages of a run with those that an interpreter has, without running the interpreter."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import unquote, urlsplit

from notata.rerun.checkout import is_within

__all__ = ["differing", "editable_folders", "installed"]

_INFO: Final = re.compile(r"(.+?)-([^-]+)(?:-py[\d.]+)?\.(?:dist|egg)-info")
_FOLDERS: Final = 64
_ENTRIES: Final = 20_000  # of one folder
_TEXT: Final = 2**16  # characters of a file


def installed(python: str) -> dict[str, str]:
    """Return names and versions of the packages of an interpreter, from the names of its folders."""
    folders = [path for path in sys.path if path] if _is_same(python) else [*_site_packages(python)]
    found: dict[str, str] = {}
    for folder in folders[:_FOLDERS]:
        try:
            names = os.listdir(folder)
        except OSError:
            continue
        for name in names:
            if match := _INFO.fullmatch(name):
                found.setdefault(_normal(match[1]), match[2])
    return found


def differing(recorded: Mapping[str, str], python: str, *, complete: bool = True) -> list[tuple[str, str, str]]:
    """Return name, recorded and current version of each package that differs; the current one is empty if missing.

    Args:
        recorded: The packages of the run.
        python: The interpreter.
        complete: Whether the names are those of packages. Otherwise they are names of modules, and a package can have
            another name: those that are not found are left out.

    >>> differing({"numpy": installed(sys.executable)["numpy"], "moonlight": "2.0"}, sys.executable)
    [('moonlight', '2.0', '')]
    """
    now = installed(python)
    pairs = ((name, version, now.get(_normal(name), "")) for name, version in sorted(recorded.items()))
    return [one for one in pairs if one[1] != one[2] and (complete or one[2])]


def editable_folders(python: str, top: str) -> tuple[str, ...]:
    """Return the folders of a checkout from which an interpreter imports packages, as after ``pip install -e``.

    Such a package would be imported from the checkout, and not from a worktree. Files are only read.

    Args:
        python: The interpreter.
        top: The top of the checkout.
    """
    found: dict[str, None] = {}
    for folder in [path for path in sys.path if path] if _is_same(python) else _site_packages(python):
        with suppress(OSError):
            for name in sorted(os.listdir(folder))[:_ENTRIES]:
                for path in _sources(os.path.join(folder, name)):
                    if is_within(path, top):
                        found[path] = None
    return tuple(found)


def _sources(path: str) -> Iterator[str]:
    """Yield the folders that a ``.pth`` file, or the metadata of a package, names."""
    if path.endswith(".pth"):
        for line in _beginning(path).splitlines():
            if os.path.isabs(line) and not line.startswith("import"):
                yield os.path.normpath(line.strip())
    elif path.endswith(".dist-info"):
        try:
            facts = json.loads(_beginning(os.path.join(path, "direct_url.json")) or "{}")
            url = urlsplit(str(facts.get("url", "")))
            editable = facts.get("dir_info", {}).get("editable")
        except (ValueError, AttributeError, RecursionError):
            return
        if url.scheme == "file" and editable is True:
            project = os.path.normpath(unquote(url.path))
            source = os.path.join(project, "src")
            yield source if os.path.isdir(source) else project


def _beginning(path: str) -> str:
    """Return the beginning of a small text file; empty if there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_TEXT)
    except OSError:
        return ""


def _normal(name: str) -> str:
    """Return a name as packaging tools compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _is_same(python: str) -> bool:
    return os.path.abspath(python) == os.path.abspath(sys.executable)


def _site_packages(python: str) -> Iterator[str]:
    """Yield the folders of the packages of an interpreter in a virtual environment, or of the system."""
    prefix = os.path.dirname(os.path.dirname(os.path.abspath(python)))
    for library in ("lib", "Lib", "lib64"):
        folder = os.path.join(prefix, library)
        names = [""] if os.path.isdir(os.path.join(folder, "site-packages")) else _pythons(folder)
        for name in names:
            for packages in ("site-packages", "dist-packages"):
                yield os.path.join(folder, name, packages)


def _pythons(folder: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if name.startswith(("python3", "pypy3")))
    except OSError:
        return []
