"""Count the system calls of the local store, and make them fail: a stand-in for the module `os` in its modules."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from notata.store.backends import local, local_folders, local_locks, local_reading, local_staged

__all__ = ["Watched", "watched_system"]


class Watched:
    """A module whose calls in this thread are counted and may be made to fail; other threads belong to other runs."""

    def __init__(self, module: ModuleType, calls: list[str]) -> None:
        self._module = module
        self._calls = calls
        self._thread = threading.get_ident()
        self.instead: dict[str, Callable[..., Any]] = {}

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name)
        if not callable(found) or isinstance(found, type) or threading.get_ident() != self._thread:
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            self._calls.append(name)
            return self.instead.get(name, found)(*arguments, **options)

        return call


def watched_system(calls: list[str], monkeypatch: pytest.MonkeyPatch) -> Watched:
    """Record the system calls of the local store in this thread. Return the object that it uses as `os`."""
    watched = Watched(os, calls)
    for module in (local, local_folders, local_locks, local_reading, local_staged):
        monkeypatch.setattr(module, "os", watched)
    if hasattr(local_locks, "fcntl"):
        monkeypatch.setattr(local_locks, "fcntl", Watched(local_locks.fcntl, calls))
    return watched
