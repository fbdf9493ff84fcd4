"""Gives git a minute: a run continues without its answer after some seconds, but tests expect it on a busy machine."""

from __future__ import annotations

from notata.provenance import git, patch, untracked

__all__ = ["wait_for_git"]


def wait_for_git() -> None:
    """Raise the time limits of git in this process."""
    git.SECONDS = patch.SECONDS = untracked.SECONDS = 60.0  # type: ignore[misc]
    patch.HASHING = untracked.HASHING = 60.0  # type: ignore[misc]
