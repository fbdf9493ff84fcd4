"""Storage that counts as remote, although it is in memory or on this disk."""

from __future__ import annotations

from notata.store import Backend, Store
from notata.testing import FaultyBackend

__all__ = ["FarBackend", "faults_in"]


class FarBackend(FaultyBackend):
    """A backend whose files count as remote, like those of a bucket. Its operations can be made to fail."""

    is_local = False


def faults_in(inner: Store | Backend, near: bool) -> FaultyBackend:
    """Return a backend that fails on demand: local if `near`, otherwise remote."""
    return FaultyBackend(inner) if near else FarBackend(inner)
