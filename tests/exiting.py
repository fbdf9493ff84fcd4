"""The calls that notata makes at interpreter exit, for tests that make them earlier."""

from __future__ import annotations

from collections.abc import Callable

from notata._base import exits

__all__ = ["calls_at_exit", "run_at_exit"]


def calls_at_exit(of: object) -> list[Callable[[], None]]:
    """Return the pending calls of an object, or of all objects of a class."""
    owners = ((call, getattr(call, "__self__", None)) for call in exits.pending())
    return [call for call, owner in owners if owner is of or (isinstance(of, type) and isinstance(owner, of))]


def run_at_exit(of: object) -> None:
    """Make the pending calls of an object, or of all objects of a class, as the interpreter does at exit."""
    for call in calls_at_exit(of):
        exits.forget(call)
        call()
