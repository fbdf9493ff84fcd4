"""Sizes and times that decide where rows of an index are stored, and when its parts are merged."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SIZES", "Sizes"]


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of an index; tests use smaller ones.

    Attributes:
        csv_local: Rows of index.csv on a disk and in memory; later rows go to parts.
        csv_bucket: The same in a bucket, where each process rewrites the whole file twice a minute.
        large: Rows beyond which an index with parts is trusted.
        part: Bytes of a part to which rows are appended, and of pending rows that are written at once.
        merged: Bytes of a part that is merged from others.
        together: How many parts of a level are merged; fewer are left alone.
        sealed_after: Seconds without a change after which a part on a disk counts as finished.
        stale_after: Seconds after which the claim of a process that merges parts counts as left behind.
        look_every: A writer looks for parts to merge after so many parts of its own.
    """

    csv_local: int = 10_000
    csv_bucket: int = 1_000
    large: int = 10_000
    part: int = 2**20
    merged: int = 64 * 2**20
    together: int = 64
    sealed_after: float = 3600.0
    stale_after: float = 600.0
    look_every: int = 16


SIZES = Sizes()
"""The sizes of every index."""
