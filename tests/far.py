"""Storage that looks far away: it is in memory or on this disk, but counts as one that costs round trips."""

from __future__ import annotations

from notata.store import Backend, Store
from notata.testing import FaultyBackend

__all__ = ["FarBackend", "faults_in"]


class FarBackend(FaultyBackend):
    """A backend whose files are not local, as those of a bucket are not. Its operations can be made to fail."""

    is_local = False


def faults_in(inner: Store | Backend, near: bool) -> FaultyBackend:
    """Return a backend that fails on demand, `near` or as far as a bucket."""
    return FaultyBackend(inner) if near else FarBackend(inner)
