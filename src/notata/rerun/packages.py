"""Compare the packages of a run with those that an interpreter has, without running the interpreter."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Final

__all__ = ["differing", "installed"]

_INFO: Final = re.compile(r"(.+?)-([^-]+)\.(?:dist-info|egg-info)")
_FOLDERS: Final = 64


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
