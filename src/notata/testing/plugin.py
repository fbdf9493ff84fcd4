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
    """Yield a new `notata.Logbook` in memory for one test; its files are removed afterwards. No request.

    A test gets it as an argument::

        def test_summarise(memory_logbook):
            summarise([3.0, 8.5], memory_logbook)
            assert memory_logbook.reader.load_json("summary") == {"largest": 8.5}
    """
    from notata import Logbook
    from notata.store import open_store

    base = open_store(f"memory://notata-{uuid.uuid4().hex}")
    yield Logbook("test", base)
    base.clear()
