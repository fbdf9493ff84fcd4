"""List packages newer than `constraints.txt` in a report of pip: ``python -m tests.tools.newest REPORT``.

The report is what ``pip install --dry-run --report REPORT`` writes. The exit code is 1 if it has a newer package.
"""

from __future__ import annotations

import json
import sys
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


def differences(report: str) -> list[str]:
    """Return a line for each package that pip would install in another version than the constraints have."""
    packages = [found["metadata"] for found in json.loads(report)["install"]]
    versions = {canonicalize_name(package["name"]): package["version"] for package in packages}
    return [
        f"{name} {versions[name]} (constraints: {version})"
        for name, version in sorted(pinned().items())
        if versions.get(name, version) != version
    ]


if __name__ == "__main__":
    found = differences(Path(sys.argv[1]).read_text())
    print(*found, sep="\n", end="\n" if found else "")
    sys.exit(1 if found else 0)
