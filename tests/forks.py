"""Processes that begin at once: each is forked from a server that has imported what they need and connected to nothing.

There is one server for all tests of a process, and what the first of them asks for is what it imports: so all ask here.
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
    """The context whose processes are forked from that server."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context
