"""List installed packages newer than `constraints.txt`: ``python -m tests.tools.newest``; exit code 1 if any is."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

from packaging.markers import Marker
from packaging.utils import NormalizedName, canonicalize_name

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"


def pinned(file: Path = CONSTRAINTS) -> dict[NormalizedName, str]:
    """Return the versions that the constraints pin on this Python and system, by canonical package name."""
    versions = {}
    for line in file.read_text().splitlines():
        requirement, _, marker = line.partition(" ; ")
        name, exact, version = requirement.partition("==")
        if exact and (not marker or Marker(marker).evaluate()):
            versions[canonicalize_name(name)] = version
    return versions


def differences() -> list[str]:
    """Return a line for each installed package whose version differs from the constraints."""
    expected = pinned()
    installed = {canonicalize_name(found.name): found.version for found in metadata.distributions()}
    return [
        f"{name} {installed[name]} (constraints: {version})"
        for name, version in sorted(expected.items())
        if name in installed and installed[name] != version
    ]


if __name__ == "__main__":
    found = differences()
    print(*found, sep="\n", end="\n" if found else "")
    sys.exit(1 if found else 0)
