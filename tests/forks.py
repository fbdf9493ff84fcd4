"""Processes that start quickly: a server that has imported their modules, but has no connections, forks them.

There is one server per test process, and its first user decides what it imports. So all tests use this module.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import ForkServerContext
from typing import Final

from tests.nursery import NEEDED

__all__ = ["forkserver"]

_PRELOADED: Final = [
    *NEEDED,
    "tests.tools.sweep",
    "tests.contract.test_experiment",
    "tests.contract.test_races",
    "tests.contract.test_sync",
    "tests.contract.test_workers",
    "tests.frozen",
]


def forkserver() -> ForkServerContext:
    """Return the multiprocessing context of that server."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context
