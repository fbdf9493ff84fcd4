"""Runs as a research object: an RO-Crate with metadata, a page, a citation, and each file with its digest."""

from __future__ import annotations

from notata.publish.publishing import Published, publish

__all__ = ["Published", "publish"]
