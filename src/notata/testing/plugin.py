"""The pytest plugin: ``memory_logbook``, a run that needs no disk. pytest loads it; it imports notata when asked."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from notata import Logbook

__all__ = ["memory_logbook"]


@pytest.fixture
def memory_logbook() -> Iterator[Logbook]:
    """A logbook of its own in memory, for one test; what it stored is gone afterwards."""
    from notata import Logbook
    from notata.store import open_store

    base = open_store(f"memory://notata-{uuid.uuid4().hex}")
    yield Logbook("test", base)
    base.clear()
