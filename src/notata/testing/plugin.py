"""The pytest plugin with the fixture ``memory_logbook``, a run in memory. It imports notata only when needed."""

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
    """Yield a new logbook in memory for one test; its files are removed afterwards."""
    from notata import Logbook
    from notata.store import open_store

    base = open_store(f"memory://notata-{uuid.uuid4().hex}")
    yield Logbook("test", base)
    base.clear()
