"""A run's manifest compared with its bytes, read by plain fsspec and hashed by hashlib."""

from __future__ import annotations

import json
from collections.abc import Collection
from hashlib import sha256
from typing import Any

from tests.backends import Place

UNLISTED = {"manifest.json", "metadata.json"}


def manifest(place: Place, folder: str = "log_run") -> dict[str, Any]:
    """Return the stored manifest.json."""
    found: dict[str, Any] = json.loads(place.bytes(f"{folder}/manifest.json"))
    return found


def check(place: Place, folder: str = "log_run", *, without: Collection[str] = ()) -> dict[str, Any]:
    """Assert that the manifest lists every file correctly, and return its records.

    Args:
        place: The place that contains the run.
        folder: The run's folder.
        without: Keys that may lack a digest.
    """
    told: dict[str, Any] = manifest(place, folder)["files"]
    names = {name.removeprefix(f"{folder}/") for name in place.names(logs=True) if name.startswith(f"{folder}/")}
    assert set(told) == {name for name in names if name.rpartition("/")[2] not in UNLISTED}
    for key, receipt in told.items():
        data = place.bytes(f"{folder}/{key}")
        if key.rpartition("/")[2] == "log.txt" and not key.startswith("artifacts/"):
            assert len(data) >= receipt["size"]
            data = data[: receipt["size"]]
        assert len(data) == receipt["size"], key
        if key not in without or "sha256" in receipt:
            assert receipt["sha256"] == sha256(data).hexdigest(), key
    return told
